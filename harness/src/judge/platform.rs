//! Prerequisites of the platform: what the firewall's controller and the cluster's API server state about themselves,
//! against the design; and, where one is not met, which.
//!
//! | module        | judges                                                                    |
//! |---------------|---------------------------------------------------------------------------|
//! | [`groups`]    | that SmartGroups and WebGroups have their scope and their domains          |
//! | [`permits`]   | that the Tier 1 policy list holds the permits in order; the default action |
//! | [`settings`]  | switches, remote syslog, CoPilot, the cluster's registration               |
//! | [`canary`]    | that a policy object is reconciled, mirrored and taken away again          |
//! | [`path`]      | that far ends see the gateway                                              |
//! | [`cause`]     | which prerequisite is not met, so that no policy is blamed                 |
//!
//! Reads the answers of the vendor's API as they came (reference: aviatrix-controller-api.md).

pub mod canary;
pub mod cause;
pub mod groups;
pub mod path;
pub mod permits;
pub mod settings;

use std::collections::BTreeMap;

use serde_json::Value;

use super::Seen;
use super::finding::Finding;

pub use canary::{CanaryClaim, judge_gone, judge_reconciled, judge_types};
pub use groups::judge_groups;
pub use path::judge_in_path;
pub use permits::{judge_default_action, judge_permits};
pub use settings::{
    judge_cluster, judge_copilot, judge_features, judge_reaches_copilot, judge_syslog,
};

/// Where the answers lie in the evidence folder.
pub(super) const ANSWERS: &str = "policy/";

/// What was answered, each part as it came. A part that nobody asked for is not visible.
#[derive(Clone, Debug, Default)]
pub struct Stated {
    /// `GET app-domains`.
    pub groups: Seen<Value>,
    /// `GET microseg/policy-list`.
    pub policy_list: Seen<Value>,
    /// `GET microseg/policy-list3`.
    pub rulesets: Seen<Value>,
    /// `GET microseg/default-action-policy`.
    pub default_action: Seen<Value>,
    /// `get_controller_feature`, by name.
    pub features: Seen<BTreeMap<String, bool>>,
    /// `get_remote_syslog_logging_status` of the index that the design names.
    pub syslog: Seen<Value>,
    /// `get_copilot_association_status`.
    pub copilot: Seen<Value>,
    /// `GET k8s/clusters`.
    pub clusters: Seen<Value>,
    /// Names of the CustomResourceDefinitions in the cluster whose `Established` condition is true.
    pub types: Seen<Vec<String>>,
    /// FirewallPolicies in the cluster, as its API server has them.
    pub policies: Seen<Vec<Value>>,
}

impl Stated {
    /// Nothing of it could be read, for one reason.
    #[must_use]
    pub fn unreadable(why: &str) -> Self {
        fn seen<T>(why: &str) -> Seen<T> {
            Seen::Unreadable(why.to_owned())
        }
        Self {
            groups: seen(why),
            policy_list: seen(why),
            rulesets: seen(why),
            default_action: seen(why),
            features: seen(why),
            syslog: seen(why),
            copilot: seen(why),
            clusters: seen(why),
            types: seen(why),
            policies: seen(why),
        }
    }
}

/// What was read; else a line that says why there is nothing to compare.
pub(super) fn read<'a, T>(seen: &'a Seen<T>, what: &str, finding: &mut Finding) -> Option<&'a T> {
    match seen {
        Seen::Read(value) => return Some(value),
        Seen::Unreadable(why) => finding.missing(ANSWERS, format!("{what}: {why}")),
        Seen::NotVisible => {
            finding.missing(ANSWERS, format!("{what}: this tier cannot ask for it"));
        }
    }
    None
}

/// The entries of a collection, in its envelope or bare: what the vendor answers differs by endpoint. None for an answer
/// that is no collection, which is not the same as an empty one.
fn entries<'a>(answer: &'a Value, envelope: &str) -> Option<&'a [Value]> {
    match answer.get(envelope).unwrap_or(answer) {
        Value::Array(list) => Some(list),
        // The vendor's own client takes that for an empty list.
        Value::Null if !answer.is_null() => Some(&[]),
        _ => None,
    }
}

/// The entries of a collection that was read; else a line that says why there is nothing to compare.
pub(super) fn listed<'a>(
    seen: &'a Seen<Value>,
    envelope: &str,
    what: &str,
    finding: &mut Finding,
) -> Option<&'a [Value]> {
    let answer = read(seen, what, finding)?;
    let entries = entries(answer, envelope);
    if entries.is_none() {
        unexpected(answer, what, finding);
    }
    entries
}

/// An answer that says nothing of what was asked.
fn unexpected(answer: &Value, what: &str, finding: &mut Finding) {
    let excerpt: String = answer.to_string().chars().take(200).collect();
    finding.missing(ANSWERS, format!("{what}: unexpected answer {excerpt}"));
}

/// Words in a sentence: `a, b and c`.
pub(super) fn list(words: &[String]) -> String {
    match words {
        [] => "nothing".to_owned(),
        [only] => only.clone(),
        [all @ .., last] => format!("{} and {last}", all.join(", ")),
    }
}

#[cfg(test)]
mod tests;
