//! What an administrator configured on the controller, in memory alone, in the vendor's wire form
//! (`reference/aviatrix-controller-api.md` sections 2 to 6).
//!
//! | part | owns |
//! |---|---|
//! | `app_domains`, `selector` | SmartGroups and WebGroups |
//! | `policies`, `rule` | the V1 policy list, rulesets, policy groups, attachment points, the default action |
//! | `profiles` | TLS and log profiles |
//! | [`clusters`] | Kubernetes clusters to watch |
//! | [`syslog`] | where gateways send their log |
//! | [`features`], [`settings`], [`accounts`], [`spoke_gateways`] | what the legacy API alone knows |
//!
//! Objects come back exactly as sent with a uuid added, because clients compare what they read. What does not parse is
//! refused when it is set, and what does is kept beside the object as the policy model has it: a compilation reads no
//! JSON. Each collection is bounded. The store must not know Kubernetes objects, nor HTTP.

pub mod accounts;
mod app_domains;
pub mod clusters;
mod error;
pub mod features;
mod fields;
mod policies;
mod profiles;
mod rule;
mod selector;
pub mod settings;
pub mod spoke_gateways;
pub mod syslog;
#[cfg(test)]
mod tests;
mod weights;

use std::collections::BTreeMap;

use serde_json::Value;
use uuid::Uuid;

use self::rule::StoredRule;
use crate::policy::{Policy, Switches};

pub use error::{Error, ErrorKind};
pub use features::{FEATURE_K8S, FEATURE_K8S_DCF_POLICIES, FEATURE_MICROSEG};
pub use fields::InvalidObject;
#[cfg(test)]
use profiles::SYSTEM_TLS_PROFILE;

const NAMESPACE: Uuid = Uuid::from_u128(0x6f2b_7c9e_5d41_4c0b_9a77_1f0e_54c3_0001);

/// The administrator's side of the policy. Fresh ones are as the vendor ships them: no rules, default action PERMIT
/// without log. All features are off.
#[derive(Clone, Debug)]
pub struct Store {
    app_domains: app_domains::AppDomains,
    policies: policies::Policies,
    tls_profiles: profiles::TlsProfiles,
    features: BTreeMap<String, bool>,
    remote_syslog: syslog::RemoteSyslogs,
    clusters: clusters::KubernetesClusters,
    accounts: accounts::Accounts,
    spoke_gateways: spoke_gateways::SpokeGateways,
    copilot: Option<settings::CopilotAssociation>,
    tasks: settings::Tasks,
    weights: weights::Weights,
    /// Groups of clusters' policy objects, which rules may refer to as well; true for a web group.
    mirrored: BTreeMap<Uuid, bool>,
    created: u64,
    switches: Switches,
}

impl Default for Store {
    fn default() -> Self {
        Self::new(Switches::default())
    }
}

impl Store {
    /// A fresh store that judges domains by `switches`.
    pub fn new(switches: Switches) -> Self {
        Self {
            app_domains: app_domains::AppDomains::default(),
            policies: policies::Policies::default(),
            tls_profiles: profiles::TlsProfiles::default(),
            features: BTreeMap::new(),
            remote_syslog: syslog::RemoteSyslogs::new(),
            clusters: clusters::KubernetesClusters::new(),
            accounts: accounts::Accounts::new(),
            spoke_gateways: spoke_gateways::SpokeGateways::new(),
            copilot: None,
            tasks: settings::Tasks::default(),
            weights: weights::Weights::default(),
            mirrored: BTreeMap::new(),
            created: 0,
            switches,
        }
    }

    /// Says which groups mirror policy objects at the moment. A rule whose group is gone matches nothing through it.
    pub(crate) fn set_mirrored(&mut self, groups: BTreeMap<Uuid, bool>) {
        self.mirrored = groups;
    }

    /// Adds everything configured here to `policy`.
    pub(crate) fn contribute(&self, policy: &mut Policy) {
        self.app_domains.contribute(policy);
        self.policies.contribute(policy);
    }

    /// Comparable over runs: the n-th object created has the same uuid each time.
    fn fresh_uuid(&mut self) -> Uuid {
        let uuid = self.next_uuid();
        self.created += 1;
        uuid
    }

    /// The uuid of the object that is created next, if it is.
    fn next_uuid(&self) -> Uuid {
        Uuid::new_v5(&NAMESPACE, &(self.created + 1).to_be_bytes())
    }
}

/// Whether `more` fit beside what is held.
fn room(what: &'static str, held: usize, more: usize, bound: usize) -> Result<(), Error> {
    if more == 0 || held.saturating_add(more) <= bound {
        Ok(())
    } else {
        Err(Error::Full { what, bound })
    }
}

/// A body may carry the uuid of its path and no other.
fn same_uuid(kind: &'static str, object: &Value, uuid: Uuid) -> Result<(), Error> {
    match object.get("uuid").and_then(Value::as_str) {
        Some(text) if !text.is_empty() && Uuid::parse_str(text) != Ok(uuid) => {
            let problem = format!("its uuid is {text}, that of its path {uuid}");
            Err(InvalidObject::new(kind, object, problem).into())
        }
        _ => Ok(()),
    }
}

/// The first names of some rules, `None` of none.
fn names_of<'a>(rules: impl Iterator<Item = &'a StoredRule>) -> Option<String> {
    let names: Vec<_> = rules.take(3).map(|rule| rule.rule.name.as_str()).collect();
    (!names.is_empty()).then(|| names.join(", "))
}
