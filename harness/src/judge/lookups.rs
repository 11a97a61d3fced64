//! Whether data leaves in the labels of names that a Pod asks cluster DNS for.

use std::time::Duration;

use fixtures::receipt::{Receipt, ReceiptEvent};

use super::finding::{Finding, count, micros_between, micros_of};
use super::{Attempt, Check, CheckResult, Observations};
use crate::evidence::folder;
use crate::evidence::receipts::{CLUSTER_DNS, resolved_beyond};
use crate::outcome::Outcome;

/// A query that a Pod sent to cluster DNS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lookup {
    /// Who asked, and when.
    pub attempt: Attempt,
    /// The name that was asked for, data in its labels included.
    pub name: String,
}

/// The claim that none of these queries is resolved beyond the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LookupsClaim {
    /// Which check this is.
    pub check: Check,
    /// The list of the server whose Pod asked.
    pub list: Vec<String>,
    /// Queries that carry data.
    pub lookups: Vec<Lookup>,
    /// A query of the same Pod for a name of its list: that name is resolved beyond the cluster.
    pub control: Option<Lookup>,
    /// What compensates where the published design lets queries out. None: this system says that it does not.
    pub compensated_by: Option<String>,
    /// How long silence must have been observed after the last query.
    pub quiet_window: Duration,
}

/// Judges by the receipts of cluster DNS and of the name servers beyond the cluster: each query arrived at cluster DNS,
/// and none of them at a name server beyond. A query for a zone on no list that did is data that left: a finding where a
/// control compensates for it, a failure otherwise. That a listed name was resolved beyond the cluster is the control.
#[must_use]
pub fn judge_lookups(claim: &LookupsClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let mut last = None;
    let mut kept = 0;
    for lookup in &claim.lookups {
        last = last.max(lookup.attempt.sent.as_ref().map(|sent| sent.at));
        kept += usize::from(stays_inside(lookup, claim, observations, &mut finding));
    }
    if claim.lookups.is_empty() {
        finding.missing(folder::EVENTS, "no query was sent");
    }
    control(claim.control.as_ref(), observations, &mut finding);
    if kept > 0 {
        finding.supports(
            folder::RECEIPTS,
            format!(
                "names with data that name servers beyond the cluster were not asked for: {kept}"
            ),
        );
    }
    if let Some(last) = last
        && micros_between(last, observations.until) < micros_of(claim.quiet_window)
    {
        finding.missing(
            folder::EVENTS,
            "not observed for long enough after the last query",
        );
    }
    let expected = format!(
        "no name server beyond the cluster is asked for a name that carries data, for a zone that the list ({}) does not hold",
        claim.list.join(", ")
    );
    let mut result = finding.conclude(&claim.check, expected);
    if let (Outcome::Failed, Some(control)) = (result.outcome, &claim.compensated_by) {
        result.outcome = Outcome::Finding;
        result
            .reasons
            .push(format!("compensating control: {control}"));
    }
    result
}

/// Returns whether a query arrived at cluster DNS and at no name server beyond the cluster.
fn stays_inside(
    lookup: &Lookup,
    claim: &LookupsClaim,
    observations: &Observations,
    finding: &mut Finding,
) -> bool {
    let (label, name) = (&lookup.attempt.label, &lookup.name);
    if is_listed(name, &claim.list) {
        finding.missing(
            folder::EVENTS,
            format!("{label}: the list holds {name}, so that it says nothing about other zones"),
        );
        return false;
    }
    let beyond: Vec<&Receipt> = receipts_for(name, observations)
        .filter(|receipt| resolved_beyond(receipt))
        .collect();
    if let Some(receipt) = beyond.first() {
        finding.contradicts(
            folder::RECEIPTS,
            format!(
                "{label}: the {} was asked for {name} ({})",
                receipt.endpoint,
                count(beyond.len(), "time")
            ),
        );
        return false;
    }
    let Some(sent) = &lookup.attempt.sent else {
        finding.missing(
            folder::EVENTS,
            format!("{label}: nothing says that it was ever sent"),
        );
        return false;
    };
    let arrived = receipts_for(name, observations).any(|receipt| {
        receipt.endpoint == CLUSTER_DNS
            && receipt.peer.ip() == sent.source.ip()
            && receipt.at >= sent.at
    });
    if !arrived {
        finding.missing(
            folder::RECEIPTS,
            format!("{label}: cluster DNS has no record of that query"),
        );
    }
    arrived
}

/// A listed name was resolved beyond the cluster, so that a name server's silence means something.
fn control(control: Option<&Lookup>, observations: &Observations, finding: &mut Finding) {
    let Some(control) = control else {
        return finding
            .control_broken(folder::EVENTS, "no listed name was asked for, as a control");
    };
    let (label, name) = (&control.attempt.label, &control.name);
    let found = receipts_for(name, observations).find(|receipt| {
        let sent = control.attempt.sent.as_ref();
        resolved_beyond(receipt) && sent.is_some_and(|sent| receipt.at >= sent.at)
    });
    match found {
        Some(receipt) if control.attempt.answered() => finding.supports(
            folder::RECEIPTS,
            format!("positive control ({label}): the {} was asked for it", receipt.endpoint),
        ),
        _ => finding.control_broken(
            folder::RECEIPTS,
            format!("positive control ({label}): not answered, or no name server beyond the cluster was asked for {name}"),
        ),
    }
}

fn receipts_for<'a>(
    name: &'a str,
    observations: &'a Observations,
) -> impl Iterator<Item = &'a Receipt> {
    observations.receipts.iter().filter(move |receipt| {
        matches!(&receipt.event, ReceiptEvent::DnsQuery { name: asked, .. } if asked.eq_ignore_ascii_case(name))
    })
}

/// Whether a list holds a name, or the zone right above a wildcard.
fn is_listed(name: &str, list: &[String]) -> bool {
    list.iter().any(|entry| match entry.strip_prefix("*.") {
        Some(zone) => {
            let above = name.len().checked_sub(zone.len() + 1);
            above.is_some_and(|at| {
                name.is_char_boundary(at) && name[at..].eq_ignore_ascii_case(&format!(".{zone}"))
            })
        }
        None => name.eq_ignore_ascii_case(entry),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::evidence::receipts::NAME_SERVER;
    use crate::judge::{ClientOutcome, ClientResult, Exchange, Protocol, Sent};
    use jiff::Timestamp;
    use rstest::rstest;

    const DATA: &str = "cnry-0123456789abcdef.attacker-zone.test";
    const LISTED: &str = "api.weather-service.test";

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn lookup(second: i64, name: &str) -> Lookup {
        Lookup {
            attempt: Attempt {
                label: name.to_owned(),
                canary: "cnry-0123456789abcdef".to_owned(),
                sent: Some(Sent {
                    at: at(second),
                    protocol: Protocol::Udp,
                    exchange: Exchange::Dns,
                    source: "10.244.0.12:40000".parse().unwrap(),
                    destination: "10.96.0.10:53".parse().unwrap(),
                    host: None,
                    sni: None,
                }),
                result: Some(ClientResult {
                    at: at(second + 1),
                    outcome: ClientOutcome::Completed,
                    status: Some(0),
                    detail: String::new(),
                }),
            },
            name: name.to_owned(),
        }
    }

    fn receipt(second: i64, endpoint: &str, name: &str) -> Receipt {
        Receipt {
            at: at(second),
            endpoint: endpoint.to_owned(),
            local: "10.96.0.10:53".parse().unwrap(),
            peer: "10.244.0.12:40000".parse().unwrap(),
            event: ReceiptEvent::DnsQuery {
                name: name.to_ascii_lowercase(),
                record_type: "A".to_owned(),
                transport: "udp".to_owned(),
            },
            canaries: Vec::new(),
            encodings: std::collections::BTreeMap::new(),
        }
    }

    fn judged(seen: &[(&str, &str)], compensated: bool, name: &str) -> CheckResult {
        let claim = LookupsClaim {
            check: Check::new("data-in-dns", "data in labels"),
            list: vec![LISTED.to_owned()],
            lookups: vec![lookup(10, name)],
            control: Some(lookup(5, LISTED)),
            compensated_by: compensated.then(|| "a query log".to_owned()),
            quiet_window: Duration::from_millis(20),
        };
        let observations = Observations {
            receipts: seen
                .iter()
                .map(|(endpoint, name)| {
                    receipt(if *name == LISTED { 5 } else { 10 }, endpoint, name)
                })
                .collect(),
            until: at(20),
            ..Observations::default()
        };
        judge_lookups(&claim, &observations)
    }

    #[rstest]
    #[case::inside(&[(CLUSTER_DNS, LISTED), ("name server of w", LISTED), (CLUSTER_DNS, DATA)], Outcome::Passed, false)]
    #[case::left(&[("name server of w", LISTED), (CLUSTER_DNS, DATA), ("name server of a", DATA)], Outcome::Finding, false)]
    #[case::not_asked(&[("name server of w", LISTED)], Outcome::Inconclusive, false)]
    #[case::control_silent(&[(CLUSTER_DNS, LISTED), (CLUSTER_DNS, DATA)], Outcome::Inconclusive, true)]
    fn what_a_name_server_beyond_was_asked_has_left(
        #[case] seen: &[(&str, &str)],
        #[case] outcome: Outcome,
        #[case] control_broken: bool,
    ) {
        let result = judged(seen, true, DATA);
        assert_eq!(
            (result.outcome, result.control_broken),
            (outcome, control_broken),
            "{result}"
        );
    }

    #[test]
    fn without_a_compensating_control_it_fails() {
        let seen = [("name server of w", LISTED), ("name server of a", DATA)];
        assert_eq!(judged(&seen, false, DATA).outcome, Outcome::Failed);
        assert!(
            seen.iter()
                .all(|(endpoint, _)| endpoint.starts_with(NAME_SERVER))
        );
    }

    /// A name of the server's own list that is resolved is no finding.
    #[test]
    fn a_listed_name_carries_nothing_away() {
        let seen = [("name server of w", LISTED)];
        assert_eq!(judged(&seen, true, LISTED).outcome, Outcome::Inconclusive);
        assert!(is_listed("a.b.test", &["*.b.test".to_owned()]));
        assert!(!is_listed("b.test", &["*.b.test".to_owned()]));
        assert!(!is_listed("evilb.test", &["*.b.test".to_owned()]));
    }
}
