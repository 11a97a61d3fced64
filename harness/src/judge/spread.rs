//! Where a canary was seen.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fixtures::receipt::ReceiptEvent;

use super::correlate;
use super::finding::{Finding, count, micros_between, micros_of};
use super::{Check, CheckResult, Observations};
use crate::evidence::folder;

/// The claim that a canary reached the far ends it may reach, and no other, by no way: not in a
/// body, not in a path, not in a DNS label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpreadClaim {
    /// Which check this is.
    pub check: Check,
    /// The canary.
    pub canary: String,
    /// Names of the far ends that may hold it. At least one must, or nothing shows that it could
    /// have been seen at all.
    pub only_at: BTreeSet<String>,
    /// How long silence must have been observed after the last sign of the canary.
    pub quiet_window: Duration,
}

/// Judges where a canary was seen.
#[must_use]
pub fn judge_spread(claim: &SpreadClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let mut permitted: BTreeMap<&str, (usize, u64, Option<u64>)> = BTreeMap::new();
    let mut last = None;
    for receipt in correlate::with_canary(&claim.canary, observations) {
        last = last.max(Some(receipt.at));
        if claim.only_at.contains(&receipt.endpoint) {
            let line = observations.line_of(receipt);
            let (receipts, bytes, _) = permitted.entry(&receipt.endpoint).or_insert((0, 0, line));
            if let ReceiptEvent::Request { body_bytes, .. } = receipt.event {
                *receipts += 1;
                *bytes += body_bytes;
            }
        } else {
            let what = correlate::describe_receipt(receipt);
            finding.contradicts(
                (folder::RECEIPTS, observations.line_of(receipt)),
                format!("{} received {what}", receipt.endpoint),
            );
        }
    }
    for (endpoint, (requests, bytes, line)) in &permitted {
        let requests = count(*requests, "request");
        finding.supports(
            (folder::RECEIPTS, *line),
            format!("{endpoint} holds the record ({requests}, {bytes} bytes)"),
        );
    }
    if permitted.is_empty() {
        let only_at: Vec<&str> = claim.only_at.iter().map(String::as_str).collect();
        let text = format!(
            "{} has no receipt with the canary {}",
            only_at.join(", "),
            claim.canary
        );
        finding.missing(folder::RECEIPTS, text);
    }
    if let Some(last) = last
        && micros_between(last, observations.until) < micros_of(claim.quiet_window)
    {
        finding.missing(
            folder::EVENTS,
            "not observed for long enough after its last sign",
        );
    }
    let only_at: Vec<&str> = claim.only_at.iter().map(String::as_str).collect();
    let expected = format!(
        "the record is seen at {} and nowhere else",
        only_at.join(", ")
    );
    finding.conclude(&claim.check, expected)
}
