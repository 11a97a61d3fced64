//! Whether the SmartGroups and WebGroups of the design exist, with their scope and exactly their domains.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{ANSWERS, Stated, list, listed};
use crate::judge::finding::{Finding, count};
use crate::judge::{Check, CheckResult};
use crate::scenario_data::platform::Design;

/// The vendor's own groups (reference: aviatrix-controller-api.md section 7).
const SYSTEM: [(&str, &str); 3] = [
    ("def000ad-0000-0000-0000-000000000000", "Anywhere"),
    ("def000ad-0000-0000-0000-000000000001", "Public Internet"),
    ("def000ad-0000-0000-0000-000000000002", "All-Web"),
];

/// Judges the controller's groups against the design's: each exists once, and its selector holds the same entries, in
/// whatever order.
#[must_use]
pub fn judge_groups(check: &Check, design: &Design, stated: &Stated) -> CheckResult {
    let mut finding = Finding::default();
    if let Some(groups) = listed(&stated.groups, "app_domains", "the groups", &mut finding) {
        for group in &design.groups {
            compare(group, groups, &mut finding);
        }
    }
    let expected = format!(
        "the {} of the design for {} exist with their scope and exactly their domains",
        count(design.groups.len(), "group"),
        design.cloud
    );
    finding.conclude(check, expected)
}

fn compare(group: &Value, groups: &[Value], finding: &mut Finding) {
    let name = group["name"].as_str().unwrap_or_default();
    let found: Vec<&Value> = groups.iter().filter(|one| one["name"] == name).collect();
    let [found] = found.as_slice() else {
        let number = match found.len() {
            0 => "no group".to_owned(),
            more => count(more, "group"),
        };
        return finding.contradicts(ANSWERS, format!("the controller has {number} named {name}"));
    };
    let (wanted, has) = (scope(group), scope(found));
    let difference = |from: &BTreeSet<String>, to: &BTreeSet<String>| -> Vec<String> {
        from.difference(to).cloned().collect()
    };
    let (lacks, more) = (difference(&wanted, &has), difference(&has, &wanted));
    if lacks.is_empty() && more.is_empty() {
        let entries: Vec<String> = has.into_iter().collect();
        finding.supports(ANSWERS, format!("{name} holds {}", list(&entries)));
    }
    if !lacks.is_empty() {
        finding.contradicts(ANSWERS, format!("{name} lacks {}", list(&lacks)));
    }
    if !more.is_empty() {
        finding.contradicts(
            ANSWERS,
            format!("{name} holds {} beyond the design", list(&more)),
        );
    }
}

/// The entries of a selector, one text each.
fn scope(group: &Value) -> BTreeSet<String> {
    let any = group["selector"]["any"].as_array().into_iter().flatten();
    any.map(|block| {
        let all = block["all"].as_object().into_iter().flatten();
        let mut parts: Vec<String> = all
            .map(|(key, value)| {
                let value = value
                    .as_str()
                    .map_or_else(|| value.to_string(), str::to_owned);
                if key == "snifilter" {
                    value
                } else {
                    format!("{key} {value}")
                }
            })
            .collect();
        parts.sort();
        parts.join(", ")
    })
    .collect()
}

/// The name that a uuid stands for.
pub(super) fn name_of(uuid: &Value, groups: &[Value]) -> String {
    let system = SYSTEM.iter().find(|(known, _)| uuid == known);
    if let Some((_, name)) = system {
        return (*name).to_owned();
    }
    let own = groups.iter().find(|group| group["uuid"] == *uuid);
    let own = own.and_then(|group| group["name"].as_str());
    own.or(uuid.as_str()).unwrap_or_default().to_owned()
}
