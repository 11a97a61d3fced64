//! Whether the firewall's default action is what the design says: a rule of its own behind all lists (POST_RULES), that
//! denies and logs, and not an entry of a policy list that somebody could reorder or delete.
//!
//! Reads what the firewall's controller states about itself, in its own vocabulary.

use serde_json::Value;

use super::finding::Finding;
use super::{Check, CheckResult};

/// Where the firewall's statement lies in the evidence folder.
const STATED: &str = "policy/";

/// Judges the state of a firewall as its controller exports it.
#[must_use]
pub fn judge_default_action_rule(check: &Check, policy: &Value) -> CheckResult {
    let mut finding = Finding::default();
    let default = &policy["default_action"];
    match default["action"].as_str() {
        Some("DENY") => finding.supports(STATED, "the default action is DENY"),
        Some(other) => finding.contradicts(STATED, format!("the default action is {other}")),
        None => finding.missing(STATED, "the firewall states no default action"),
    }
    match default["logging"].as_bool() {
        Some(true) => finding.supports(STATED, "the default action logs"),
        Some(false) => finding.contradicts(STATED, "the default action does not log"),
        None => finding.missing(STATED, "the firewall does not state whether it logs"),
    }
    let lists = policy["lists"].as_array().into_iter().flatten();
    let entries = lists.flat_map(|list| {
        let rules = list["rules"].as_array().into_iter().flatten();
        rules.map(move |rule| (list, rule))
    });
    let mut seen = 0;
    for (list, rule) in entries {
        seen += 1;
        if is_catch_all(rule, policy) || rule["uuid"] == default["uuid"] {
            finding.contradicts(
                STATED,
                format!(
                    "the policy list {} holds {}, which decides on every flow",
                    list["name"], rule["name"]
                ),
            );
        }
    }
    finding.supports(
        STATED,
        format!("none of the {seen} rules in policy lists decides on every flow"),
    );
    finding.conclude(
        check,
        "the default action denies and logs, behind all policy lists and in none of them",
    )
}

/// Every source, every destination, every protocol, whatever the name: such a rule is a default action in disguise.
fn is_catch_all(rule: &Value, policy: &Value) -> bool {
    let everywhere = |side: &str| {
        let mut groups = rule[side].as_array().into_iter().flatten();
        groups.any(|group| is_everything(group, policy))
    };
    let no_names = rule["web_groups"].as_array().is_none_or(Vec::is_empty);
    let no_ports = rule["ports"].as_array().is_none_or(Vec::is_empty);
    rule["protocol"].is_null()
        && no_names
        && no_ports
        && everywhere("sources")
        && everywhere("destinations")
}

fn is_everything(group: &Value, policy: &Value) -> bool {
    let groups = policy["smart_groups"].as_array().into_iter().flatten();
    let mut named = groups.filter(|known| known["uuid"] == *group);
    named.any(|known| known["selectors"].to_string().contains("0.0.0.0/0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Outcome;
    use rstest::rstest;
    use serde_json::json;

    fn policy() -> Value {
        json!({
            "smart_groups": [{"uuid": "any", "selectors": [{"cidr": "0.0.0.0/0"}]}, {"uuid": "pods", "selectors": []}],
            "lists": [{"name": "l", "rules": [
                {"uuid": "1", "name": "deny-all-external", "sources": ["pods"], "destinations": ["any"], "protocol": null},
            ]}],
            "default_action": {"uuid": "d", "action": "DENY", "logging": true},
        })
    }

    #[rstest]
    #[case::as_designed("/nothing", json!(null), Outcome::Passed)]
    #[case::permit("/default_action/action", json!("PERMIT"), Outcome::Failed)]
    #[case::silent("/default_action/logging", json!(false), Outcome::Failed)]
    #[case::unstated("/default_action", json!(null), Outcome::Inconclusive)]
    #[case::in_a_list("/lists/0/rules/0/sources", json!(["any"]), Outcome::Failed)]
    fn one_difference_at_a_time(
        #[case] place: &str,
        #[case] value: Value,
        #[case] expected: Outcome,
    ) {
        let mut policy = policy();
        if let Some(found) = policy.pointer_mut(place) {
            *found = value;
        }
        let result = judge_default_action_rule(&Check::new("blocked", "c"), &policy);
        assert_eq!(result.outcome, expected, "{result}");
    }
}
