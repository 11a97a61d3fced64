//! Whether a FirewallPolicy permits exactly the names of a server's list.

use std::collections::BTreeSet;

use serde_json::Value;

use super::finding::{Finding, count};
use super::{Check, CheckResult};
use crate::evidence::folder;

/// The claim that the FirewallPolicy of a server equals its list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListClaim {
    /// Which check this is.
    pub check: Check,
    /// Name of the server.
    pub server: String,
    /// The list, as the orchestrator was given it.
    pub list: Vec<String>,
    /// The FirewallPolicies of the server.
    pub objects: Vec<Value>,
}

/// Judges that one FirewallPolicy permits the names of the list, no name more and no name less. Names are compared
/// without regard to case (RFC 4343): whether the provider writes them in lower case is another question (AUT-13).
#[must_use]
pub fn judge_list(claim: &ListClaim) -> CheckResult {
    let mut finding = Finding::default();
    let expected = format!(
        "the FirewallPolicy of {} permits {} of its list, no name more and no name less",
        claim.server,
        count(claim.list.len(), "name")
    );
    let [object] = claim.objects.as_slice() else {
        finding.contradicts(
            folder::POLICY,
            format!(
                "{} has {} FirewallPolicies, expected one",
                claim.server,
                claim.objects.len()
            ),
        );
        return finding.conclude(&claim.check, expected);
    };
    let place = object["metadata"]["name"].as_str().unwrap_or_default();
    let wanted: BTreeSet<String> = claim.list.iter().map(|name| plain(name)).collect();
    let mut found = BTreeSet::new();
    for rule in permits(object) {
        match domains(object, rule) {
            names if names.is_empty() => finding.contradicts(
                folder::POLICY,
                format!(
                    "{place}: the permit {} names no WebGroup with a domain: it permits every name",
                    rule["name"]
                ),
            ),
            names => found.extend(names),
        }
    }
    for name in found.difference(&wanted) {
        finding.contradicts(
            folder::POLICY,
            format!("{place} permits {name}, which the list does not hold"),
        );
    }
    for name in wanted.difference(&found) {
        finding.contradicts(
            folder::POLICY,
            format!("{place} does not permit {name}, which the list holds"),
        );
    }
    if found == wanted {
        finding.supports(
            folder::POLICY,
            format!("{place} permits {}", in_brief(&found)),
        );
    }
    finding.conclude(&claim.check, expected)
}

/// The names that the permits of a FirewallPolicy hold, in lower case.
#[must_use]
pub fn permitted_names(object: &Value) -> BTreeSet<String> {
    permits(object)
        .flat_map(|rule| domains(object, rule))
        .collect()
}

/// Whether a FirewallPolicy permits exactly these names: what a wait for an update looks for.
#[must_use]
pub fn equals(object: &Value, list: &[String]) -> bool {
    permitted_names(object) == list.iter().map(|name| plain(name)).collect()
}

fn permits(object: &Value) -> impl Iterator<Item = &Value> {
    let rules = object["spec"]["rules"].as_array().into_iter().flatten();
    rules.filter(|rule| rule["action"] == "permit")
}

fn domains(object: &Value, rule: &Value) -> Vec<String> {
    let used: Vec<&Value> = rule["webGroups"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|group| &group["name"])
        .collect();
    let groups = object["spec"]["webGroups"].as_array().into_iter().flatten();
    groups
        .filter(|group| used.contains(&&group["name"]))
        .flat_map(|group| group["domains"].as_array().into_iter().flatten())
        .filter_map(Value::as_str)
        .map(plain)
        .collect()
}

fn plain(name: &str) -> String {
    name.trim().to_ascii_lowercase()
}

fn in_brief(names: &BTreeSet<String>) -> String {
    const SHOWN: usize = 4;
    let mut shown: Vec<&str> = names.iter().take(SHOWN).map(String::as_str).collect();
    let more = format!("{} more", names.len().saturating_sub(SHOWN));
    if names.len() > SHOWN {
        shown.push(&more);
    }
    shown.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use rstest::rstest;
    use serde_json::json;

    fn policy(names: &[&str]) -> Value {
        json!({
            "metadata": {"name": "obot-p-fw"},
            "spec": {
                "webGroups": [{"name": "domains", "domains": names}, {"name": "unused", "domains": ["x.test"]}],
                "rules": [
                    {"name": "allow", "action": "permit", "webGroups": [{"name": "domains"}]},
                    {"name": "deny", "action": "deny"},
                ],
            },
        })
    }

    #[rstest]
    #[case::equal(vec![policy(&["a.test", "B.test"])], Outcome::Passed)]
    #[case::one_more(vec![policy(&["a.test", "b.test", "c.test"])], Outcome::Failed)]
    #[case::one_less(vec![policy(&["a.test"])], Outcome::Failed)]
    #[case::star(vec![policy(&["*"])], Outcome::Failed)]
    #[case::any(vec![policy(&[])], Outcome::Failed)]
    #[case::none(vec![], Outcome::Failed)]
    #[case::two(vec![policy(&["a.test", "b.test"]), policy(&["a.test"])], Outcome::Failed)]
    fn a_name_more_or_less_fails(#[case] objects: Vec<Value>, #[case] outcome: Outcome) {
        let claim = ListClaim {
            check: Check::new("policy-equals-list", "list"),
            server: "weather".to_owned(),
            list: vec!["b.test".to_owned(), "A.test".to_owned()],
            objects,
        };
        assert_eq!(judge_list(&claim).outcome, outcome);
    }
}
