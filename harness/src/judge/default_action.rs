//! Whether the firewall's default action is what the design says: a rule of its own behind all lists (POST_RULES), that
//! denies and logs, and not an entry of a policy list that an administrator could reorder or delete.
//!
//! Reads what the firewall's controller answers over the vendor's API (reference: aviatrix-controller-api.md sections 4.3
//! to 4.5).

use serde_json::Value;

use super::finding::{Finding, count};
use super::platform::{ANSWERS, Stated, listed, read};
use super::{Check, CheckResult};

/// The vendor's group of every address (reference: aviatrix-controller-api.md section 7).
const ANYWHERE: &str = "def000ad-0000-0000-0000-000000000000";

/// Judges the lists and the default action of a firewall as its controller states them.
#[must_use]
pub fn judge_default_action_rule(check: &Check, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    if let Some(default) = read(&stated.default_action, "the default action", &mut finding) {
        match default["action"].as_str() {
            Some("DENY") => finding.supports(ANSWERS, "the default action is DENY"),
            Some(other) => finding.contradicts(ANSWERS, format!("the default action is {other}")),
            None => finding.missing(ANSWERS, "the controller states no default action"),
        }
        match default["logging"].as_bool() {
            Some(true) => finding.supports(ANSWERS, "the default action logs"),
            Some(false) => finding.contradicts(ANSWERS, "the default action does not log"),
            None => finding.missing(ANSWERS, "the controller does not state whether it logs"),
        }
    }
    let groups = listed(&stated.groups, "app_domains", "the groups", &mut finding);
    let v1 = listed(
        &stated.policy_list,
        "policies",
        "the V1 policy list",
        &mut finding,
    );
    let lists = listed(
        &stated.rulesets,
        "dcf_policies",
        "the policy lists",
        &mut finding,
    );
    if let (Some(groups), Some(v1), Some(lists)) = (groups, v1, lists) {
        let of_lists = lists.iter().flat_map(|list| {
            let rules = list["policies"].as_array().into_iter().flatten();
            rules.map(move |rule| (&list["name"], rule))
        });
        let entries: Vec<(&Value, &Value)> = v1
            .iter()
            .map(|rule| (&Value::Null, rule))
            .chain(of_lists)
            .collect();
        for (list, rule) in &entries {
            if is_catch_all(rule, groups) {
                let name = list.as_str().unwrap_or("V1");
                let found = format!(
                    "the policy list {name} holds {}, which decides on every flow",
                    rule["name"]
                );
                finding.contradicts(ANSWERS, found);
            }
        }
        let number = count(entries.len(), "rule");
        finding.supports(
            ANSWERS,
            format!("looked at {number} in policy lists for one that decides on every flow"),
        );
    }
    finding.conclude(
        check,
        "the default action denies and logs, behind all policy lists and in none of them",
    )
}

/// Every source, every destination, every protocol, whatever the name: such a rule is a default action in disguise.
fn is_catch_all(rule: &Value, groups: &[Value]) -> bool {
    let everywhere = |side: &str| {
        let mut uuids = rule[side].as_array().into_iter().flatten();
        uuids.any(|uuid| is_everything(uuid, groups))
    };
    let none = |field: &str| rule[field].as_array().is_none_or(Vec::is_empty);
    let any_protocol = matches!(
        rule["protocol"].as_str(),
        None | Some("ANY" | "PROTOCOL_UNSPECIFIED")
    );
    any_protocol
        && none("web_filters")
        && none("port_ranges")
        && everywhere("src_ads")
        && everywhere("dst_ads")
}

fn is_everything(uuid: &Value, groups: &[Value]) -> bool {
    let mut named = groups.iter().filter(|group| group["uuid"] == *uuid);
    uuid == ANYWHERE
        || named.any(|group| {
            let blocks = group["selector"]["any"].as_array();
            let mut blocks = blocks.into_iter().flatten();
            blocks.any(|block| block["all"]["cidr"] == "0.0.0.0/0")
        })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Seen;
    use crate::outcome::Outcome;
    use rstest::rstest;
    use serde_json::json;

    fn stated(change: impl FnOnce(&mut Value)) -> Stated {
        let mut all = json!({
            "groups": {"app_domains": [
                {"uuid": "any", "selector": {"any": [{"all": {"cidr": "0.0.0.0/0"}}]}},
                {"uuid": "pods", "selector": {"any": [{"all": {"type": "k8s"}}]}},
            ]},
            "v1": {"policies": []},
            "lists": {"dcf_policies": [{"name": "l", "policies": [
                {"uuid": "1", "name": "deny-all-external", "src_ads": ["pods"], "dst_ads": ["any"],
                 "protocol": "PROTOCOL_UNSPECIFIED"},
            ]}]},
            "default": {"action": "DENY", "logging": true},
        });
        change(&mut all);
        let read = |part: &str| match &all[part] {
            Value::Null => Seen::Unreadable("no answer".to_owned()),
            answer => Seen::Read(answer.clone()),
        };
        Stated {
            groups: read("groups"),
            policy_list: read("v1"),
            rulesets: read("lists"),
            default_action: read("default"),
            ..Stated::default()
        }
    }

    #[rstest]
    #[case::as_designed("/nothing", json!(null), Outcome::Passed)]
    #[case::permit("/default/action", json!("PERMIT"), Outcome::Failed)]
    #[case::silent("/default/logging", json!(false), Outcome::Failed)]
    #[case::unstated("/default/action", json!(null), Outcome::Inconclusive)]
    #[case::default_unreadable("/default", json!(null), Outcome::Inconclusive)]
    #[case::lists_unreadable("/lists", json!(null), Outcome::Inconclusive)]
    #[case::in_a_list("/lists/dcf_policies/0/policies/0/src_ads", json!(["any"]), Outcome::Failed)]
    #[case::in_the_v1_list(
        "/v1/policies",
        json!([{"name": "all", "src_ads": [ANYWHERE], "dst_ads": [ANYWHERE], "protocol": "ANY"}]),
        Outcome::Failed
    )]
    fn one_difference_at_a_time(
        #[case] place: &str,
        #[case] value: Value,
        #[case] expected: Outcome,
    ) {
        let stated = stated(|all| {
            if let Some(found) = all.pointer_mut(place) {
                *found = value;
            }
        });
        let result = judge_default_action_rule(&Check::new("kind", "c"), &stated);
        assert_eq!(result.outcome, expected, "{result}");
    }
}
