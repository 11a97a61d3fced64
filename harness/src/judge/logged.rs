//! Whether a decision is in the gateway's log, and whether it leads back to the server.

use std::time::Duration;

use super::correlate;
use super::finding::{Finding, count, in_words, micros_between, micros_of};
use super::{Attempt, Check, CheckResult, Observations, RuleExpectation, Seen, Sent};
use crate::evidence::folder;
use crate::evidence::receipts::Connection;
use crate::evidence::{Action, GatewayRecord};

/// The claim that a decision is in the gateway's log, with everything a reader needs: time,
/// source, destination, server name where there was one, and the rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogClaim {
    /// Which check this is.
    pub check: Check,
    /// The attempt that was decided on.
    pub attempt: Attempt,
    /// What was decided.
    pub action: Action,
    /// Which rule is expected to have decided.
    pub rule: RuleExpectation,
    /// How soon after the attempt was sent the record must be there.
    pub within: Duration,
}

/// The claim that a denial in the log leads to the server: source address, pod, server name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TraceClaim {
    /// Which check this is.
    pub check: Check,
    /// The attempt that was denied.
    pub attempt: Attempt,
    /// Display name of the server that made it.
    pub server: String,
}

/// Judges that a decision is in the log. Unlike [`super::judge_denial`], which finds a denial
/// unproven without its record, this fails when the deadline passed and the record is not there,
/// or says less than it must.
#[must_use]
pub fn judge_logged(claim: &LogClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    record(claim, observations, &mut finding);
    let what = match claim.action {
        Action::Permit => "permit",
        Action::Deny => "denial",
    };
    let by = match &claim.rule {
        RuleExpectation::Any => String::new(),
        rule => format!(", decided by {}", correlate::describe_expectation(rule)),
    };
    let expected = format!(
        "the {what} of {} is logged with time, source, destination and server name{by}",
        claim.attempt.label
    );
    finding.conclude(&claim.check, expected)
}

fn record(claim: &LogClaim, observations: &Observations, finding: &mut Finding) {
    let Some(sent) = &claim.attempt.sent else {
        finding.missing(
            folder::EVENTS,
            format!(
                "{}: nothing says that it was ever sent",
                claim.attempt.label
            ),
        );
        return;
    };
    if !left_the_pod(sent, observations) {
        finding.missing(
            folder::POD_SIDE,
            format!(
                "{}: announced, but no packet of it left the pod",
                claim.attempt.label
            ),
        );
        return;
    }
    if !decided_so(claim, sent, observations, finding) {
        return;
    }
    match &observations.log {
        Seen::Read(_) => {}
        Seen::Unreadable(why) => {
            finding.missing(
                folder::GATEWAY_LOG,
                format!("the gateway's log cannot be read: {why}"),
            );
            return;
        }
        Seen::NotVisible => {
            finding.missing(
                folder::GATEWAY_LOG,
                "this tier has no access to the gateway's log",
            );
            return;
        }
    }
    let records: Vec<_> = correlate::records(sent, observations)
        .into_iter()
        .filter(|record| record.action == claim.action && record.enforced)
        .collect();
    let objection = |record: &GatewayRecord| {
        correlate::wrong_name(sent, record, observations)
            .or_else(|| correlate::wrong_rule(&claim.rule, record, observations))
    };
    match (
        records.iter().find(|record| objection(record).is_none()),
        records.first(),
    ) {
        (Some(record), _) => on_time(claim, sent, record, observations, finding),
        (None, Some(record)) => finding.contradicts(
            (folder::GATEWAY_LOG, record.line),
            format!(
                "{}: {}",
                correlate::describe_record(record, observations),
                objection(record).unwrap_or_default()
            ),
        ),
        (None, None) => absent(claim, sent, observations, finding),
    }
}

fn on_time(
    claim: &LogClaim,
    sent: &Sent,
    record: &GatewayRecord,
    observations: &Observations,
    finding: &mut Finding,
) {
    let described = correlate::describe_record(record, observations);
    let late = record
        .seen_at
        .map(|seen_at| micros_between(sent.at, seen_at));
    match late.filter(|&micros| micros > micros_of(claim.within)) {
        Some(micros) => finding.contradicts(
            (folder::GATEWAY_LOG, record.line),
            format!(
                "{described}: logged after {}, past the deadline",
                in_words(micros)
            ),
        ),
        None => finding.supports((folder::GATEWAY_LOG, record.line), described),
    }
}

/// No record: a failure once the deadline has passed, and an open question before.
fn absent(claim: &LogClaim, sent: &Sent, observations: &Observations, finding: &mut Finding) {
    if let Some(record) = correlate::misdated(sent, claim.action, observations) {
        let described = correlate::describe_record(record, observations);
        let early = in_words(micros_between(record.at, sent.at));
        let text = format!("{described}: its time is {early} before the attempt was sent");
        return finding.contradicts((folder::GATEWAY_LOG, record.line), text);
    }
    let waited = micros_between(sent.at, observations.until);
    let mut text = format!(
        "the gateway's log holds no record of {} -> {} after {}",
        sent.source,
        sent.destination,
        in_words(waited)
    );
    if let Some(log) = observations.log.read()
        && let Some(error) = log.malformed.first()
    {
        text += &format!(
            "; {} cannot be read, as {error}",
            count(log.malformed.len(), "line")
        );
    }
    if waited >= micros_of(claim.within) {
        finding.contradicts(folder::GATEWAY_LOG, text);
    } else {
        finding.missing(
            folder::GATEWAY_LOG,
            format!("{text}; the deadline has not passed"),
        );
    }
}

/// A decision that was not taken need not be logged: a denial of data that arrived, or a permit
/// of a request that nobody answered, leaves this check open and is another check's failure.
fn decided_so(
    claim: &LogClaim,
    sent: &Sent,
    observations: &Observations,
    finding: &mut Finding,
) -> bool {
    let passed = claim.attempt.answered()
        || !correlate::outside_flows(&claim.attempt, sent, observations).is_empty()
        || correlate::connections(&claim.attempt, sent, observations)
            .iter()
            .any(Connection::carried_data);
    match (claim.action, passed) {
        (Action::Deny, true) => {
            finding.missing(
                folder::RECEIPTS,
                format!(
                    "{} was not denied, so there is no denial to log",
                    claim.attempt.label
                ),
            );
            false
        }
        (Action::Permit, false) => {
            finding.missing(
                folder::RECEIPTS,
                format!(
                    "{} did not pass, so there is no permit to log",
                    claim.attempt.label
                ),
            );
            false
        }
        _ => true,
    }
}

fn left_the_pod(sent: &Sent, observations: &Observations) -> bool {
    observations.pod_side.read().is_none_or(|capture| {
        capture
            .packets_between(sent.protocol, sent.source, sent.destination)
            .next()
            .is_some()
    })
}

/// Judges that the denial of an attempt leads to the server: the address in the record belonged,
/// at that time, to exactly one pod, which runs that server.
#[must_use]
pub fn judge_traceable(claim: &TraceClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    trace(claim, observations, &mut finding);
    let expected = format!(
        "the denial of {} traces to the server {}",
        claim.attempt.label, claim.server
    );
    finding.conclude(&claim.check, expected)
}

fn trace(claim: &TraceClaim, observations: &Observations, finding: &mut Finding) {
    let denial = claim.attempt.sent.as_ref().and_then(|sent| {
        correlate::records(sent, observations)
            .into_iter()
            .find(|record| record.action == Action::Deny)
    });
    let Some(denial) = denial else {
        finding.missing(
            folder::GATEWAY_LOG,
            format!(
                "the gateway's log holds no denial of {} to trace",
                claim.attempt.label
            ),
        );
        return;
    };
    let address = denial.source.ip();
    let holders: Vec<_> = observations
        .pods
        .iter()
        .filter(|pod| pod.address == address)
        .filter(|pod| {
            denial.not_before(pod.since) && pod.until.is_none_or(|until| denial.at <= until)
        })
        .collect();
    match holders.as_slice() {
        [] => finding.contradicts(
            (folder::GATEWAY_LOG, denial.line),
            format!("{address} in the log was no pod's address at that time"),
        ),
        [pod] => {
            let server = pod.server.as_deref().unwrap_or("no server");
            let chain = format!(
                "{address} -> pod {}/{} -> {server}",
                pod.namespace, pod.name
            );
            if pod.server.as_ref() == Some(&claim.server) {
                finding.supports((folder::GATEWAY_LOG, denial.line), chain);
            } else {
                finding.contradicts((folder::GATEWAY_LOG, denial.line), chain);
            }
        }
        several => finding.contradicts(
            (folder::GATEWAY_LOG, denial.line),
            format!(
                "{address} in the log leads to {} pods at that time",
                several.len()
            ),
        ),
    }
}
