//! Whether an attempt was blocked.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use super::correlate;
use super::finding::{Finding, count, in_words, micros_between, micros_of};
use super::{Attempt, Check, CheckResult, Control, Observations, RuleExpectation, Seen, Sent};
use crate::evidence::folder;
use crate::evidence::receipts::Connection;
use crate::evidence::{Action, GatewayLog, GatewayRecord};

/// The claim that an attempt was blocked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DenialClaim {
    /// Which check this is.
    pub check: Check,
    /// The attempt.
    pub attempt: Attempt,
    /// What to call the far end, as `attacker's collector collect.pkg-telemetry.test`.
    pub far_end: String,
    /// Names of far ends that may hold the same canary, because the same record goes there with
    /// permission.
    pub may_hold: BTreeSet<String>,
    /// Which rule is expected to decide.
    pub rule: RuleExpectation,
    /// The positive control. `None` makes the result inconclusive.
    pub control: Option<Control>,
    /// How long silence must have been observed after the gateway's decision and, where there is
    /// one, the client's result. A client that still waits for an answer need not be waited for.
    pub quiet_window: Duration,
}

/// Judges that an attempt was blocked: it was sent, nothing of it arrived, no packet of its flow
/// left the gateway (where the tier sees packets), the gateway's log holds the denial, and the
/// positive control passed.
#[must_use]
pub fn judge_denial(claim: &DenialClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    sent(claim, observations, &mut finding);
    let live = control(claim, observations, &mut finding);
    far_ends(claim, observations, &mut finding);
    outside(claim, observations, live, &mut finding);
    client(claim, observations, &mut finding);
    let decided_at = log(claim, observations, &mut finding);
    quiet(claim, observations, decided_at, &mut finding);
    let by = match &claim.rule {
        RuleExpectation::Any => String::new(),
        rule => format!(" by {}", correlate::describe_expectation(rule)),
    };
    let expected = format!(
        "{} to {} is blocked{by}",
        claim.attempt.label, claim.far_end
    );
    finding.conclude(&claim.check, expected)
}

/// Judges that an attempt of a pod that no policy selects falls to the default action: denied,
/// and logged as decided by it.
#[must_use]
pub fn judge_default_action(claim: &DenialClaim, observations: &Observations) -> CheckResult {
    let claim = DenialClaim {
        rule: RuleExpectation::DefaultAction,
        ..claim.clone()
    };
    judge_denial(&claim, observations)
}

/// Clause 1: the attempt was sent. The client says so, and the pod's packets show it.
pub(super) fn sent(claim: &DenialClaim, observations: &Observations, finding: &mut Finding) {
    let label = &claim.attempt.label;
    let Some(sent) = &claim.attempt.sent else {
        finding.missing(
            folder::EVENTS,
            format!("{label}: nothing says that it was ever sent"),
        );
        return;
    };
    let flow = format!("{} -> {}", sent.source, claim.attempt.target());
    match &observations.pod_side {
        Seen::Read(capture) => {
            let own = || capture.packets_between(sent.protocol, sent.source, sent.destination);
            let packets = own().count();
            if packets == 0 {
                finding.missing(
                    folder::POD_SIDE,
                    format!("{label}: announced, but no packet {flow} left the pod"),
                );
            } else {
                let packets = count(packets, "packet");
                let first = own().next().map(|packet| packet.number);
                finding.supports(
                    (folder::POD_SIDE, first),
                    format!("{label}: sent, {packets} {flow}"),
                );
            }
        }
        Seen::Unreadable(why) => {
            finding.missing(
                folder::POD_SIDE,
                format!("the pod's packets cannot be read: {why}"),
            );
        }
        Seen::NotVisible => finding.supports(
            (folder::EVENTS, observations.announced.get(label).copied()),
            format!("{label}: sent, {flow}"),
        ),
    }
}

/// Clause 2: nothing of it arrived at any far end.
pub(super) fn far_ends(claim: &DenialClaim, observations: &Observations, finding: &mut Finding) {
    let mut arrived = false;
    for receipt in correlate::with_canary(&claim.attempt.canary, observations) {
        if !claim.may_hold.contains(&receipt.endpoint) {
            arrived = true;
            finding.contradicts(
                (folder::RECEIPTS, observations.line_of(receipt)),
                format!(
                    "{} received the canary {}: {}",
                    receipt.endpoint,
                    claim.attempt.canary,
                    correlate::describe_receipt(receipt)
                ),
            );
        }
    }
    let Some(sent) = &claim.attempt.sent else {
        return;
    };
    let connections = correlate::connections(&claim.attempt, sent, observations);
    let bytes: u64 = connections.iter().map(Connection::received).sum();
    let connected = count(connections.len(), "connection");
    let first = connections.first().and_then(|one| one.receipts.first());
    let first = first.and_then(|receipt| observations.line_of(receipt));
    if connections.iter().any(Connection::carried_data) {
        finding.contradicts(
            (folder::RECEIPTS, first),
            format!("{}: {connected}, {bytes} bytes received", claim.far_end),
        );
    } else if !connections.is_empty() && observations.outside != Seen::NotVisible {
        finding.contradicts(
            (folder::RECEIPTS, first),
            format!("{}: {connected} reached it, without data", claim.far_end),
        );
    } else if !arrived {
        finding.supports(
            folder::RECEIPTS,
            format!("{}: {connected}, 0 bytes", claim.far_end),
        );
    }
}

/// Clause 3: no packet of the flow left the gateway. Silence counts only in a capture that saw
/// the positive control.
pub(super) fn outside(
    claim: &DenialClaim,
    observations: &Observations,
    live: bool,
    finding: &mut Finding,
) {
    let capture = match &observations.outside {
        Seen::Read(capture) => capture,
        Seen::Unreadable(why) => {
            finding.missing(
                folder::OUTSIDE,
                format!("the packets outside the gateway cannot be read: {why}"),
            );
            return;
        }
        Seen::NotVisible => {
            finding.neutral(
                folder::EVENTS,
                "packets outside the gateway: not visible on this tier",
            );
            return;
        }
    };
    let Some(sent) = &claim.attempt.sent else {
        return;
    };
    let flows = correlate::outside_flows(&claim.attempt, sent, observations);
    if let Some(first) = flows.first() {
        let packets: usize = flows.iter().map(|flow| flow.sent).sum();
        let bytes: usize = flows.iter().map(|flow| flow.sent_bytes).sum();
        finding.contradicts(
            (folder::OUTSIDE, first.numbers.first().copied()),
            format!(
                "packets of that flow outside the gateway: {packets} ({bytes} bytes), first {} -> {}",
                first.source, first.destination
            ),
        );
    } else if capture.undecodable > 0 {
        let packets = count(capture.undecodable, "packet");
        finding.missing(
            folder::OUTSIDE,
            format!("{packets} outside the gateway cannot be decoded and may be of that flow"),
        );
    } else if live {
        finding.supports(
            folder::OUTSIDE,
            "packets of that flow outside the gateway: 0",
        );
    }
}

/// The client's own result proves an arrival, and never a denial.
pub(super) fn client(claim: &DenialClaim, observations: &Observations, finding: &mut Finding) {
    let Some(result) = &claim.attempt.result else {
        return;
    };
    let status = result
        .status
        .map(|status| format!(", status {status}"))
        .unwrap_or_default();
    let said = format!("the client's own result: {}{status}", result.outcome);
    let reported = observations.reported.get(&claim.attempt.label).copied();
    if claim.attempt.answered() {
        finding.contradicts(
            (folder::EVENTS, reported),
            format!("{said}: somebody answered it"),
        );
    } else {
        finding.neutral((folder::EVENTS, reported), said);
    }
}

/// Clause 4: the gateway's log holds the denial. Returns when the denial was known.
fn log(
    claim: &DenialClaim,
    observations: &Observations,
    finding: &mut Finding,
) -> Option<Timestamp> {
    let log = match &observations.log {
        Seen::Read(log) => log,
        Seen::Unreadable(why) => {
            finding.missing(
                folder::GATEWAY_LOG,
                format!("the gateway's log cannot be read: {why}"),
            );
            return None;
        }
        Seen::NotVisible => {
            finding.missing(
                folder::GATEWAY_LOG,
                "this tier has no access to the gateway's log",
            );
            return None;
        }
    };
    let sent = claim.attempt.sent.as_ref()?;
    let records = correlate::records(sent, observations);
    let enforced = |action| {
        records
            .iter()
            .copied()
            .filter(move |record| record.action == action && record.enforced)
    };
    let Some(any_denial) = enforced(Action::Deny).next() else {
        if let Some(permit) = enforced(Action::Permit).next() {
            finding.contradicts(
                (folder::GATEWAY_LOG, permit.line),
                correlate::describe_record(permit, observations),
            );
            return None;
        }
        finding.missing(
            folder::GATEWAY_LOG,
            no_denial(sent, &records, log, observations),
        );
        return None;
    };
    let objection = |record| {
        correlate::wrong_name(sent, record, observations)
            .or_else(|| correlate::wrong_rule(&claim.rule, record, observations))
    };
    let Some(denial) = enforced(Action::Deny).find(|record| objection(record).is_none()) else {
        let described = correlate::describe_record(any_denial, observations);
        let objection = objection(any_denial).unwrap_or_default();
        finding.missing(
            (folder::GATEWAY_LOG, any_denial.line),
            format!("{described}: {objection}"),
        );
        return None;
    };
    finding.supports(
        (folder::GATEWAY_LOG, denial.line),
        correlate::describe_record(denial, observations),
    );
    if let Some(seen_at) = denial.seen_at {
        let micros = micros_between(sent.at, seen_at);
        finding.measured("denial-latency", claim.attempt.label.clone(), micros, None);
    }
    Some(denial.seen_at.unwrap_or(denial.at))
}

fn no_denial(
    sent: &Sent,
    records: &[&GatewayRecord],
    log: &GatewayLog,
    observations: &Observations,
) -> String {
    if let Some(record) = records.first() {
        return correlate::describe_record(record, observations);
    }
    let mut text = format!(
        "the gateway's log holds no record of {} -> {}",
        sent.source, sent.destination
    );
    if let Some(error) = log.malformed.first() {
        text += &format!(
            "; {} cannot be read, as {error}",
            count(log.malformed.len(), "line")
        );
    }
    text
}

/// Clause 5: the positive control passed. Returns whether it shows that the capture outside the
/// gateway was live.
pub(super) fn control(
    claim: &DenialClaim,
    observations: &Observations,
    finding: &mut Finding,
) -> bool {
    let Some(control) = &claim.control else {
        finding.control_broken(
            folder::EVENTS,
            "no positive control was made in this scenario",
        );
        return false;
    };
    let label = format!("positive control ({})", control.attempt.label);
    let Some(sent) = &control.attempt.sent else {
        finding.control_broken(
            folder::EVENTS,
            format!("{label}: nothing says that it was sent"),
        );
        return false;
    };
    if !control.attempt.answered() {
        let result = match &control.attempt.result {
            Some(result) => result.outcome.to_string(),
            None => "no result".to_owned(),
        };
        finding.control_broken(folder::EVENTS, format!("{label}: not answered ({result})"));
        return false;
    }
    let received = correlate::with_canary(&control.attempt.canary, observations)
        .into_iter()
        .find(|receipt| receipt.endpoint == control.far_end);
    let Some(received) = received else {
        finding.control_broken(
            folder::RECEIPTS,
            format!("{label}: {} has no receipt of it", control.far_end),
        );
        return false;
    };
    let live = match &observations.outside {
        Seen::Read(_) => !correlate::outside_flows(&control.attempt, sent, observations).is_empty(),
        Seen::Unreadable(_) | Seen::NotVisible => true,
    };
    if live {
        finding.supports(
            (folder::RECEIPTS, observations.line_of(received)),
            format!("{label}: reached {}", control.far_end),
        );
    } else {
        finding.control_broken(
            folder::OUTSIDE,
            format!("{label}: not in the capture, so that its silence says nothing"),
        );
    }
    live
}

/// Clause 6: silence was observed for long enough after the attempt was over: after the gateway
/// decided and, where it is known, after the client gave up.
pub(super) fn quiet(
    claim: &DenialClaim,
    observations: &Observations,
    decided_at: Option<Timestamp>,
    finding: &mut Finding,
) {
    let ended = claim.attempt.result.as_ref().map(|result| result.at);
    let sent_at = claim.attempt.sent.as_ref().map(|sent| sent.at);
    let Some(over) = ended.max(decided_at).max(sent_at) else {
        return;
    };
    let observed = micros_between(over, observations.until);
    if observed < micros_of(claim.quiet_window) {
        finding.missing(
            folder::EVENTS,
            format!(
                "observed for {} after the attempt was over, which is less than {}",
                in_words(observed),
                in_words(micros_of(claim.quiet_window))
            ),
        );
    }
}
