//! Whether the Tier 1 policy list holds the design's permits in order, and the default action what the design says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::groups::name_of;
use super::{ANSWERS, Stated, entries, list, listed, read, unexpected};
use crate::judge::finding::{Finding, count};
use crate::judge::{Check, CheckResult};
use crate::scenario_data::platform::Design;

/// Judges the V1 policy list: each permit is there once, as the design has it, and they come in the design's order.
/// Rules of others are told and decide nothing.
#[must_use]
pub fn judge_permits(check: &Check, design: &Design, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    let rules = listed(
        &stated.policy_list,
        "policies",
        "the policy list",
        &mut finding,
    );
    if let Some(rules) = rules {
        let mut rules: Vec<&Value> = rules.iter().collect();
        // A rule without a priority has the lowest number, as the vendor's client sends it.
        rules.sort_by_key(|rule| rule["priority"].as_i64().unwrap_or_default());
        let groups = listed(&stated.groups, "app_domains", "the groups", &mut finding);
        compare(design, &rules, groups, &mut finding);
    }
    let names: Vec<String> = design.permits.iter().map(named).collect();
    finding.conclude(
        check,
        format!(
            "the Tier 1 policy list holds {}, in that order",
            list(&names)
        ),
    )
}

fn compare(design: &Design, rules: &[&Value], groups: Option<&[Value]>, finding: &mut Finding) {
    let mut last = None;
    for permit in &design.permits {
        let name = named(permit);
        let places: Vec<usize> = (0..rules.len())
            .filter(|&index| named(rules[index]) == name)
            .collect();
        let [place] = places.as_slice() else {
            finding.contradicts(
                ANSWERS,
                match places.len() {
                    0 => format!("the list of {} lacks {name}", count(rules.len(), "rule")),
                    more => format!("the list holds {name} {more} times"),
                },
            );
            continue;
        };
        if last.is_some_and(|last| last > *place) {
            finding.contradicts(ANSWERS, format!("{name} comes too early"));
        }
        last = last.max(Some(*place));
        let differences = differences(permit, rules[*place], groups);
        if differences.is_empty() {
            finding.supports(
                ANSWERS,
                format!(
                    "rule {}: {name}, priority {}",
                    place + 1,
                    rules[*place]["priority"]
                ),
            );
        }
        for difference in differences {
            finding.contradicts(ANSWERS, format!("{name}: {difference}"));
        }
    }
    let others: Vec<String> = rules
        .iter()
        .map(|rule| named(rule))
        .filter(|name| design.permits.iter().all(|permit| named(permit) != *name))
        .collect();
    if !others.is_empty() {
        finding.neutral(ANSWERS, format!("the list also holds {}", list(&others)));
    }
}

/// What differs from the design, in words. What the design does not say is not compared, nor are groups whose names
/// nobody told.
fn differences(permit: &Value, rule: &Value, groups: Option<&[Value]>) -> Vec<String> {
    let mut found = Vec::new();
    let mut compare = |what: &str, wanted: String, has: String| {
        if wanted != has {
            found.push(format!("{what} is {has}, expected {wanted}"));
        }
    };
    for key in ["action", "protocol"] {
        compare(key, upper(&permit[key]), upper(&rule[key]));
    }
    for key in ["priority", "logging"] {
        compare(key, permit[key].to_string(), rule[key].to_string());
    }
    compare(
        "port_ranges",
        ports(&permit["port_ranges"]),
        ports(&rule["port_ranges"]),
    );
    let Some(groups) = groups else { return found };
    for key in ["src_ads", "dst_ads", "web_filters"] {
        let wanted = permit[key].as_array().into_iter().flatten();
        let wanted: BTreeSet<String> = wanted
            .filter_map(|name| name.as_str().map(str::to_owned))
            .collect();
        let has = rule[key].as_array().into_iter().flatten();
        let has: BTreeSet<String> = has.map(|uuid| name_of(uuid, groups)).collect();
        let in_words = |names: BTreeSet<String>| list(&names.into_iter().collect::<Vec<_>>());
        compare(key, in_words(wanted), in_words(has));
    }
    found
}

/// Each range as `lo-hi`; the real controller fills in `hi` where it was left out.
fn ports(ranges: &Value) -> String {
    let ranges = ranges.as_array().into_iter().flatten();
    let words: Vec<String> = ranges
        .map(|range| {
            let hi = range["hi"].as_i64().filter(|&hi| hi != 0);
            match hi.filter(|&hi| Some(hi) != range["lo"].as_i64()) {
                Some(hi) => format!("{}-{hi}", range["lo"]),
                None => range["lo"].to_string(),
            }
        })
        .collect();
    list(&words)
}

fn upper(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_uppercase()
}

fn named(rule: &Value) -> String {
    rule["name"].as_str().unwrap_or_default().to_owned()
}

/// Names of rules that should be in the policy list and are not.
pub(super) fn lost(expected: &[String], stated: &Stated) -> Vec<String> {
    let answer = stated.policy_list.read();
    let Some(rules) = answer.and_then(|answer| entries(answer, "policies")) else {
        return Vec::new();
    };
    let present: BTreeSet<&str> = rules
        .iter()
        .filter_map(|rule| rule["name"].as_str())
        .collect();
    let lacking = expected
        .iter()
        .filter(|name| !present.contains(name.as_str()));
    lacking.cloned().collect()
}

/// Judges what the controller states as its default action.
#[must_use]
pub fn judge_default_action(check: &Check, design: &Design, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    let wanted = &design.default_action;
    let what = "the default action";
    let answer = read(&stated.default_action, what, &mut finding);
    if let Some(answer) = answer.filter(|answer| !answer["action"].is_string()) {
        unexpected(answer, what, &mut finding);
    } else if let Some(answer) = answer {
        let action = upper(&answer["action"]);
        let said = format!("the default action is {action}");
        if action == wanted.action {
            finding.supports(ANSWERS, said);
        } else {
            finding.contradicts(ANSWERS, said);
        }
        let logs = answer["logging"] == wanted.logging;
        let said = format!("its logging is {}", answer["logging"]);
        if logs {
            finding.supports(ANSWERS, said);
        } else {
            finding.contradicts(ANSWERS, said);
        }
    }
    let expected = format!(
        "the default action is {}, with logging {}",
        wanted.action, wanted.logging
    );
    finding.conclude(check, expected)
}
