//! Why the store refuses.

use uuid::Uuid;

use super::fields::InvalidObject;
use crate::policy::AttachmentPoint;

/// Why the store refuses a call. Texts that `reference/aviatrix-controller-api.md` gives are the vendor's; clients and
/// the provider's tests look for them. The others are ours.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Invalid(#[from] InvalidObject),
    #[error("App domain not found")]
    AppDomainNotFound(String),
    #[error(
        "rule `{rule}`: App domain not found: there is no {kind} {group}; create it before a rule refers to it"
    )]
    UnknownGroup {
        rule: String,
        kind: &'static str,
        group: Uuid,
    },
    #[error("rule `{rule}`: TLS profile {profile} not found; create it before a rule refers to it")]
    UnknownTlsProfile { rule: String, profile: Uuid },
    #[error("rule `{rule}`: its uuid {uuid} belongs to another rule; leave it out for a new rule")]
    RuleUuidTaken { rule: String, uuid: Uuid },
    #[error(
        "[AVXERR-SMARTGROUP-0003] `{group}` cannot be deleted: present in one or more dfw policies: {rules}"
    )]
    GroupInUse { group: String, rules: String },
    #[error("{kind} `{name}` belongs to the system: it cannot be changed or deleted")]
    System { kind: &'static str, name: String },
    #[error("policy {0} does not exist")]
    PolicyNotFound(String),
    #[error("{kind} `{name}` is still used in policy groups: {groups}")]
    PolicyInUse {
        kind: &'static str,
        name: String,
        groups: String,
    },
    #[error("attachment point `{0}` does not exist")]
    PointNotFound(String),
    #[error("attach_to: attachment point {0} does not exist")]
    UnknownPoint(String),
    #[error(
        "attachment point {point} already has `{by}`: attach a policy group for several objects"
    )]
    PointTaken { point: String, by: String },
    #[error("nothing can be attached to {}; it belongs to the controller", .0.name())]
    NotAttachable(AttachmentPoint),
    #[error("TLS profile {0} not found")]
    TlsProfileNotFound(String),
    #[error("TLS profile `{profile}` is still used in dfw policies: {rules}")]
    TlsProfileInUse { profile: String, rules: String },
    #[error("log profile `{0}` not found; there are start, end and start/end")]
    LogProfileNotFound(String),
    #[error("cluster {0} not found")]
    ClusterNotFound(String),
    #[error("cluster `{0}` is already onboarded: give each cluster an id of its own")]
    AlreadyOnboarded(String),
    #[error("cluster is still used in smart groups: {0}")]
    ClusterInUse(String),
    #[error("remote syslog index {0} is already enabled; disable it first")]
    SyslogEnabled(u8),
    #[error("this controller holds at most {bound} {what}: delete some first")]
    Full { what: &'static str, bound: usize },
}

/// What kind of refusal it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// The object is wrong, whatever else there is.
    Invalid,
    NotFound,
    /// The object is right, and something else is in its way.
    Conflict,
}

impl Error {
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Invalid(_)
            | Self::UnknownGroup { .. }
            | Self::UnknownTlsProfile { .. }
            | Self::UnknownPoint(_)
            | Self::NotAttachable(_) => ErrorKind::Invalid,
            Self::AppDomainNotFound(_)
            | Self::PolicyNotFound(_)
            | Self::PointNotFound(_)
            | Self::TlsProfileNotFound(_)
            | Self::LogProfileNotFound(_)
            | Self::ClusterNotFound(_) => ErrorKind::NotFound,
            Self::RuleUuidTaken { .. }
            | Self::GroupInUse { .. }
            | Self::System { .. }
            | Self::PolicyInUse { .. }
            | Self::PointTaken { .. }
            | Self::TlsProfileInUse { .. }
            | Self::AlreadyOnboarded(_)
            | Self::ClusterInUse(_)
            | Self::SyslogEnabled(_)
            | Self::Full { .. } => ErrorKind::Conflict,
        }
    }
}
