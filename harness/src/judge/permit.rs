//! Whether a request passed.

use fixtures::receipt::ReceiptEvent;

use super::correlate;
use super::finding::{Finding, count};
use super::{Attempt, Check, CheckResult, Observations, RuleExpectation, Seen, Sent};
use crate::evidence::{Action, folder};

/// The claim that a request passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PermitClaim {
    /// Which check this is.
    pub check: Check,
    /// The request.
    pub attempt: Attempt,
    /// Name of the far end that must have received it.
    pub far_end: String,
    /// Which rule is expected to permit it.
    pub rule: RuleExpectation,
}

/// Judges that a request passed: the client got its answer, the far end's receipt holds the
/// canary, the flow was seen outside the gateway (where the tier sees packets), and the log holds
/// the permit.
#[must_use]
pub fn judge_permit(claim: &PermitClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    match &claim.attempt.sent {
        Some(sent) => {
            let left = outside(claim, sent, observations, &mut finding);
            far_end(claim, sent, observations, &mut finding);
            log(claim, sent, observations, &mut finding);
            answered(claim, left, observations, &mut finding);
        }
        None => finding.missing(
            folder::EVENTS,
            format!(
                "{}: nothing says that it was ever sent",
                claim.attempt.label
            ),
        ),
    }
    let expected = format!("{} to {} passes", claim.attempt.label, claim.far_end);
    finding.conclude(&claim.check, expected)
}

/// A request without an answer that the gateway let out is the far end's fault or the path's; one
/// that never left the gateway was not permitted. Without packets, a missing answer says nothing.
fn answered(
    claim: &PermitClaim,
    left: Option<bool>,
    observations: &Observations,
    finding: &mut Finding,
) {
    let said = match &claim.attempt.result {
        Some(result) => match result.status {
            Some(status) => format!("{}, status {status}", result.outcome),
            None => result.outcome.to_string(),
        },
        None => {
            finding.missing(
                folder::EVENTS,
                format!("{}: no result yet", claim.attempt.label),
            );
            return;
        }
    };
    let text = format!("{}: {said}", claim.attempt.label);
    let place = (
        folder::EVENTS,
        observations.reported.get(&claim.attempt.label).copied(),
    );
    if claim.attempt.answered() {
        finding.supports(place, text);
    } else if left == Some(false) {
        finding.contradicts(place, format!("{text}, and nothing of it left the gateway"));
    } else {
        finding.missing(place, format!("{text}; no answer proves nothing by itself"));
    }
}

fn far_end(claim: &PermitClaim, sent: &Sent, observations: &Observations, finding: &mut Finding) {
    let receipts: Vec<_> = correlate::with_canary(&claim.attempt.canary, observations)
        .into_iter()
        .filter(|receipt| receipt.endpoint == claim.far_end && receipt.at >= sent.at)
        .collect();
    let requests = receipts.iter().filter_map(|receipt| match &receipt.event {
        ReceiptEvent::Request { body_bytes, .. } => Some(*body_bytes),
        _ => None,
    });
    let first = receipts.first();
    let first = first.and_then(|receipt| observations.line_of(receipt));
    let (requests, bytes) = requests.fold((0, 0), |(n, sum), bytes| (n + 1, sum + bytes));
    if receipts.is_empty() {
        finding.missing(
            folder::RECEIPTS,
            format!(
                "{} has no receipt with the canary {}",
                claim.far_end, claim.attempt.canary
            ),
        );
    } else if requests > 0 {
        finding.supports(
            (folder::RECEIPTS, first),
            format!(
                "{} received it ({}, {bytes} bytes)",
                claim.far_end,
                count(requests, "request")
            ),
        );
    } else {
        finding.supports(
            (folder::RECEIPTS, first),
            format!(
                "{} received it ({})",
                claim.far_end,
                count(receipts.len(), "receipt")
            ),
        );
    }
}

/// Returns whether packets of the flow left the gateway, where that can be seen.
fn outside(
    claim: &PermitClaim,
    sent: &Sent,
    observations: &Observations,
    finding: &mut Finding,
) -> Option<bool> {
    match &observations.outside {
        Seen::Read(_) => {
            let flows = correlate::outside_flows(&claim.attempt, sent, observations);
            let packets: usize = flows.iter().map(|flow| flow.sent + flow.returned).sum();
            let text = format!("packets of that flow outside the gateway: {packets}");
            if let Some(first) = flows.first() {
                finding.supports((folder::OUTSIDE, first.numbers.first().copied()), text);
            } else {
                finding.missing(folder::OUTSIDE, text);
            }
            Some(packets > 0)
        }
        Seen::Unreadable(why) => {
            finding.missing(
                folder::OUTSIDE,
                format!("the packets outside the gateway cannot be read: {why}"),
            );
            None
        }
        Seen::NotVisible => {
            finding.neutral(
                folder::EVENTS,
                "packets outside the gateway: not visible on this tier",
            );
            None
        }
    }
}

fn log(claim: &PermitClaim, sent: &Sent, observations: &Observations, finding: &mut Finding) {
    let records = correlate::records(sent, observations);
    let enforced = |action| {
        records
            .iter()
            .copied()
            .filter(move |record| record.action == action && record.enforced)
    };
    let objection = |record| {
        correlate::wrong_name(sent, record, observations)
            .or_else(|| correlate::wrong_rule(&claim.rule, record, observations))
    };
    let permit = enforced(Action::Permit).find(|record| objection(record).is_none());
    let denial = enforced(Action::Deny).next();
    let other = enforced(Action::Permit).next();
    match (denial, permit, other) {
        (Some(denial), _, _) => finding.contradicts(
            (folder::GATEWAY_LOG, denial.line),
            correlate::describe_record(denial, observations),
        ),
        (None, Some(permit), _) => finding.supports(
            (folder::GATEWAY_LOG, permit.line),
            correlate::describe_record(permit, observations),
        ),
        (None, None, Some(other)) => finding.missing(
            (folder::GATEWAY_LOG, other.line),
            format!(
                "{}: {}",
                correlate::describe_record(other, observations),
                objection(other).unwrap_or_default()
            ),
        ),
        (None, None, None) => finding.missing(
            folder::GATEWAY_LOG,
            match &observations.log {
                Seen::Read(_) => format!(
                    "the gateway's log holds no permit of {} -> {}",
                    sent.source, sent.destination
                ),
                Seen::Unreadable(why) => format!("the gateway's log cannot be read: {why}"),
                Seen::NotVisible => "this tier has no access to the gateway's log".to_owned(),
            },
        ),
    }
}
