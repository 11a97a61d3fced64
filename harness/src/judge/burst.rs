//! How long the Pods of servers that start together run before their policies are enforced, and what governs them until
//! then. An answer, never a verdict.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::finding::{Finding, count, in_words, micros_between};
use super::{Check, CheckResult, Observations, PodFact, correlate};
use crate::evidence::{Action, folder};
use crate::outcome::Outcome;

/// A Pod of the burst.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Started {
    /// The Pod, with the time from which it held its address.
    pub pod: PodFact,
    /// When the gateway first enforced its server's policy for its address. None: it never did.
    pub enforced_at: Option<Timestamp>,
}

/// The question about servers that start together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BurstQuestion {
    /// Which check this is.
    pub check: Check,
    /// The Pods.
    pub started: Vec<Started>,
}

/// Answers with figures: half, 95 of 100 and all Pods by nearest rank, and what the gateway's log says about their
/// connections before.
#[must_use]
pub fn answer_burst(question: &BurstQuestion, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let all = question.started.len();
    let mut spans: Vec<u64> = question
        .started
        .iter()
        .filter_map(|started| Some(micros_between(started.pod.since, started.enforced_at?)))
        .collect();
    spans.sort_unstable();
    let servers = count(all, "server");
    let mut said = Vec::new();
    for (name, rank) in [("p50", 50), ("p95", 95), ("max", 100)] {
        let Some(&micros) = nearest_rank(&spans, rank) else {
            continue;
        };
        finding.measured(
            "burst-before-policy",
            format!("{name} of {servers}, from the Pod's address to its enforced policy"),
            micros,
            None,
        );
        said.push(format!("{name} {}", in_words(micros)));
    }
    let never = all - spans.len();
    if never > 0 {
        said.push(format!(
            "never within the scenario: {}",
            count(never, "server")
        ));
    }
    let governed = before_policy(question, observations);
    let meanwhile = if governed.is_empty() {
        "the gateway logged no connection of theirs".to_owned()
    } else {
        let parts: Vec<String> = governed
            .iter()
            .map(|(what, number)| format!("{}: {number}", what))
            .collect();
        format!("their logged connections: {}", parts.join(", "))
    };
    let answer = format!(
        "{servers} ran without an enforced policy for {}; until then {meanwhile}",
        said.join(", ")
    );
    finding.supports(folder::EVENTS, format!("{servers} started together"));
    finding.supports(folder::GATEWAY_LOG, meanwhile);
    let asked = format!(
        "how long does each of {servers} that start together run before its policy is enforced, and what governs it meanwhile?"
    );
    let mut result = finding.conclude(&question.check, asked);
    result.outcome = if all == 0 {
        Outcome::Inconclusive
    } else {
        Outcome::Answered
    };
    result.reasons = vec![answer];
    result
}

/// Decisions about the Pods' connections before their policies were enforced, by what decided.
fn before_policy(question: &BurstQuestion, observations: &Observations) -> BTreeMap<String, usize> {
    let mut governed = BTreeMap::new();
    let records = observations.log.read().map(|log| log.records.iter());
    for record in records.into_iter().flatten() {
        let of = question.started.iter().find(|started| {
            let moment = record.seen_at.unwrap_or(record.at);
            started.pod.address == record.source.ip()
                && moment >= started.pod.since
                && started.enforced_at.is_none_or(|at| moment < at)
        });
        let Some(started) = of else { continue };
        let by = match correlate::rule(record, observations) {
            Some(rule) if rule.default_action => "the default action",
            Some(rule) if rule.server.is_some() && rule.server == started.pod.server => {
                "its own policy, before the gateway's acknowledgement was recorded"
            }
            Some(_) => "another rule",
            None => "an unknown rule",
        };
        let action = match record.action {
            Action::Permit => "permitted by",
            Action::Deny => "denied by",
        };
        *governed.entry(format!("{action} {by}")).or_default() += 1;
    }
    governed
}

/// The smallest value that so many of a hundred do not exceed.
fn nearest_rank(sorted: &[u64], of_hundred: usize) -> Option<&u64> {
    let rank = (sorted.len() * of_hundred).div_ceil(100);
    sorted.get(rank.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn figures_are_by_nearest_rank_and_a_policy_that_never_came_is_said() {
        let spans: Vec<u64> = (1..=20).collect();
        let figures = [50, 95, 100].map(|rank| nearest_rank(&spans, rank).copied());
        assert_eq!(figures, [Some(10), Some(19), Some(20)]);
        assert_eq!(nearest_rank(&[], 50), None);

        let started = |second: i64, enforced: Option<i64>| Started {
            pod: PodFact {
                namespace: "obot-mcp".to_owned(),
                name: format!("p{second}"),
                address: "10.244.0.9".parse().unwrap(),
                server: None,
                since: Timestamp::from_second(second).unwrap(),
                until: None,
            },
            enforced_at: enforced.map(|second| Timestamp::from_second(second).unwrap()),
        };
        let question = BurstQuestion {
            check: Check::new("burst", "burst"),
            started: vec![started(1, Some(2)), started(1, None)],
        };
        let result = answer_burst(&question, &Observations::default());
        assert_eq!(result.outcome, Outcome::Answered);
        assert!(
            result.reasons[0].contains("max 1.00 s, never within the scenario: 1 server"),
            "{result}"
        );
    }
}
