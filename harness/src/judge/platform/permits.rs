//! Whether the Tier 1 policy list holds the design's permits in order, and the default action what the design says.

use std::collections::BTreeSet;

use serde_json::Value;

use super::groups::name_of;
use super::{ANSWERS, Stated, entries, list, listed, read, unexpected};
use crate::judge::finding::{Finding, count};
use crate::judge::{Check, CheckResult};
use crate::scenario_data::platform::Design;

/// Judges the V1 policy list: each permit is there once, as the design has it, and they come in the design's order.
/// Rules of others are told; one that denies in front of a permit takes from it what it is there for.
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
    let mut last: Option<usize> = None;
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
    others(design, rules, last, finding);
}

/// The rules that are none of the design's; `last` is the place of the last permit in the list.
fn others(design: &Design, rules: &[&Value], last: Option<usize>, finding: &mut Finding) {
    let is_designed = |rule: &Value| {
        let mut permits = design.permits.iter();
        permits.any(|permit| named(permit) == named(rule))
    };
    let mut harmless = Vec::new();
    for (place, rule) in rules.iter().enumerate() {
        if is_designed(rule) {
            continue;
        }
        let denies = upper(&rule["action"]) == "DENY" && is_enforced(rule);
        if !denies || last.is_none_or(|last| last < place) {
            harmless.push(named(rule));
            continue;
        }
        let behind = rules[place..].iter().find(|rule| is_designed(rule));
        let behind = behind.map_or_else(String::new, |permit| named(permit));
        finding.contradicts(
            ANSWERS,
            format!(
                "rule {}: {}, which is not the design's, denies in front of {behind}",
                place + 1,
                named(rule)
            ),
        );
    }
    if !harmless.is_empty() {
        finding.neutral(ANSWERS, format!("the list also holds {}", list(&harmless)));
    }
}

/// What differs from the design, in words. What either leaves out has the vendor's default (reference:
/// aviatrix-controller-api.md section 4.2). Groups whose names nobody told are not compared.
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
    compare(
        "priority",
        permit["priority"].to_string(),
        rule["priority"].to_string(),
    );
    compare("logging", flag(&permit["logging"]), flag(&rule["logging"]));
    compare("enforcement", enforcement(permit), enforcement(rule));
    compare("watch", watch(permit), watch(rule));
    let required = |rule: &Value| or_default(&rule["flow_app_requirement"], "APP_UNSPECIFIED");
    compare("flow_app_requirement", required(permit), required(rule));
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

fn or_default(value: &Value, default: &str) -> String {
    let word = upper(value);
    if word.is_empty() {
        default.to_owned()
    } else {
        word
    }
}

fn flag(value: &Value) -> String {
    (*value == true).to_string()
}

/// `ENFORCE`, `MONITOR` or `DISABLE`. Released clients say `watch` in the place of the second.
fn enforcement(rule: &Value) -> String {
    let default = if rule["watch"] == true {
        "MONITOR"
    } else {
        "ENFORCE"
    };
    or_default(&rule["enforcement"], default)
}

/// A newer controller may leave it out, because the enforcement says it.
fn watch(rule: &Value) -> String {
    if rule["watch"].is_null() {
        (enforcement(rule) == "MONITOR").to_string()
    } else {
        flag(&rule["watch"])
    }
}

/// Whether a rule decides on anything: one that is disabled does nothing, one that is monitored only reports.
#[must_use]
pub fn is_enforced(rule: &Value) -> bool {
    enforcement(rule) == "ENFORCE" && watch(rule) == "false"
}

fn named(rule: &Value) -> String {
    rule["name"].as_str().unwrap_or_default().to_owned()
}

/// Names of rules that should be in the policy list and are not, or decide on nothing there.
pub(super) fn lost(expected: &[String], stated: &Stated) -> Vec<String> {
    let answer = stated.policy_list.read();
    let Some(rules) = answer.and_then(|answer| entries(answer, "policies")) else {
        return Vec::new();
    };
    let lacking = expected.iter().filter_map(|name| {
        let mut own = rules.iter().filter(|rule| rule["name"] == **name);
        let Some(first) = own.next() else {
            return Some(name.clone());
        };
        let enforced = is_enforced(first) || own.any(is_enforced);
        let mode = || {
            format!(
                "{name} (enforcement {}, watch {})",
                enforcement(first),
                watch(first)
            )
        };
        (!enforced).then(mode)
    });
    lacking.collect()
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
