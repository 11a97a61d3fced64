//! Whether the firewall's controller works with the cluster: its types are installed, a canary of a policy object gets
//! its status, the controller lists what it made of it, and lists nothing of it once the object is gone.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ANSWERS, Stated, list, listed, read};
use crate::judge::finding::Finding;
use crate::judge::{Check, CheckResult};

/// The vendor's types (reference: aviatrix-dcf.md section 1).
pub const TYPES: [&str; 2] = [
    "firewallpolicies.networking.aviatrix.com",
    "webgrouppolicies.networking.aviatrix.com",
];

/// A canary, and what it was seen to be.
#[derive(Clone, Debug)]
pub struct CanaryClaim {
    /// Which check this is.
    pub check: Check,
    /// `namespace/name`.
    pub name: String,
    /// The object as it was last seen; none when it could not be written.
    pub object: Option<Value>,
}

/// Judges that the cluster has the firewall's types.
#[must_use]
pub fn judge_types(check: &Check, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    if let Some(types) = read(&stated.types, "the cluster's types", &mut finding) {
        for name in TYPES {
            if types.iter().any(|known| known == name) {
                finding.supports(ANSWERS, format!("{name} is established"));
            } else {
                finding.contradicts(ANSWERS, format!("{name} is not installed"));
            }
        }
    }
    finding.conclude(check, "the firewall's types are installed in the cluster")
}

/// Judges that the canary was reconciled as it is, and that the controller lists its ruleset, marked as of Kubernetes,
/// and its groups.
#[must_use]
pub fn judge_reconciled(claim: &CanaryClaim, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    let expected = format!(
        "{} is reconciled, and the controller lists its ruleset and its groups",
        claim.name
    );
    let Some(object) = &claim.object else {
        finding.contradicts(ANSWERS, format!("{} could not be written", claim.name));
        return finding.conclude(&claim.check, expected);
    };
    status(object, &mut finding);
    let (ruleset, groups) = mirrors(object);
    if let Some(lists) = rulesets(stated, &mut finding) {
        match lists.iter().find(|list| Some(&list["uuid"]) == ruleset) {
            Some(list) if list["metadata"]["k8s"].is_null() => finding.contradicts(
                ANSWERS,
                format!(
                    "the ruleset {} is not marked as of Kubernetes",
                    list["name"]
                ),
            ),
            Some(list) => {
                finding.supports(ANSWERS, format!("the controller lists {}", list["name"]));
            }
            None => finding.contradicts(ANSWERS, "the controller lists no ruleset of it"),
        }
    }
    if let Some(all) = listed(&stated.groups, "app_domains", "the groups", &mut finding) {
        let present: BTreeSet<&str> = all.iter().filter_map(|one| one["uuid"].as_str()).collect();
        let lacking: Vec<String> = groups
            .iter()
            .filter(|(_, uuid)| !present.contains(uuid))
            .map(|(name, _)| (*name).to_owned())
            .collect();
        if groups.is_empty() {
            finding.missing(ANSWERS, "its status names no group that could be listed");
        } else if lacking.is_empty() {
            finding.supports(ANSWERS, "the controller lists its groups");
        } else {
            finding.contradicts(
                ANSWERS,
                format!("the controller does not list {}", list(&lacking)),
            );
        }
    }
    finding.conclude(&claim.check, expected)
}

fn status(object: &Value, finding: &mut Finding) {
    let (generation, status) = (&object["metadata"]["generation"], &object["status"]);
    let reconciled = &status["lastReconciledGeneration"];
    if generation.is_i64() && reconciled == generation {
        finding.supports(
            ANSWERS,
            format!("status: generation {generation} reconciled"),
        );
    } else if reconciled.is_i64() {
        finding.contradicts(
            ANSWERS,
            format!("status: generation {reconciled} reconciled, expected {generation}"),
        );
    } else {
        finding.contradicts(
            ANSWERS,
            "its status is empty: the controller has not reconciled it",
        );
        return;
    }
    match status["ruleset"].as_str().filter(|uuid| !uuid.is_empty()) {
        Some(uuid) => finding.supports(ANSWERS, format!("status: ruleset {uuid}")),
        None => finding.contradicts(ANSWERS, "status: no ruleset"),
    }
    for kind in ["smartGroups", "webGroups"] {
        let wanted = object["spec"][kind].as_array().into_iter().flatten();
        for group in wanted {
            let mut told = status[kind].as_array().into_iter().flatten();
            let uuid = told
                .find(|one| one["name"] == group["name"])
                .and_then(|one| one["uuid"].as_str());
            match uuid.filter(|uuid| !uuid.is_empty()) {
                Some(uuid) => {
                    finding.supports(ANSWERS, format!("status: {} is {uuid}", group["name"]));
                }
                None => {
                    finding.contradicts(ANSWERS, format!("status: no uuid of {}", group["name"]));
                }
            }
        }
    }
}

/// Judges that nothing of a deleted canary is listed. `before` is what it was when it was reconciled.
#[must_use]
pub fn judge_gone(check: &Check, before: &Value, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    let (ruleset, groups) = mirrors(before);
    if ruleset.is_none() {
        finding.missing(ANSWERS, "the canary was never reconciled");
    }
    let mut mine: BTreeSet<&str> = groups.into_iter().map(|(_, uuid)| uuid).collect();
    mine.extend(ruleset.and_then(Value::as_str));
    let lists = rulesets(stated, &mut finding);
    let groups = listed(&stated.groups, "app_domains", "the groups", &mut finding);
    let both_read = lists.is_some() && groups.is_some();
    let all = [lists, groups].into_iter().flatten().flatten();
    let left: Vec<&Value> = all
        .filter(|one| one["uuid"].as_str().is_some_and(|uuid| mine.contains(uuid)))
        .collect();
    for one in &left {
        finding.contradicts(
            ANSWERS,
            format!("the controller still lists {}", one["name"]),
        );
    }
    if left.is_empty() && both_read {
        finding.supports(ANSWERS, "nothing of it is listed any more");
    }
    finding.conclude(
        check,
        "the controller lists nothing of a policy object that was deleted",
    )
}

/// The uuids that its status gives to what the controller made of it.
fn mirrors(object: &Value) -> (Option<&Value>, Vec<(&str, &str)>) {
    let status = &object["status"];
    let groups = ["smartGroups", "webGroups"]
        .into_iter()
        .flat_map(|kind| status[kind].as_array().into_iter().flatten())
        .filter_map(|group| Some((group["name"].as_str()?, group["uuid"].as_str()?)));
    let ruleset = Some(&status["ruleset"]).filter(|uuid| uuid.is_string());
    (ruleset, groups.collect())
}

/// Rulesets alone or nested in an envelope (reference: aviatrix-controller-api.md section 9).
fn rulesets<'a>(stated: &'a Stated, finding: &mut Finding) -> Option<&'a [Value]> {
    listed(&stated.rulesets, "dcf_policies", "the rulesets", finding)
}
