//! Whether a gateway that restarts under load stays closed.

use jiff::Timestamp;

use super::finding::{Finding, count, in_words, micros_between, micros_of};
use super::{Attempt, Check, CheckResult, Control, Observations, Seen, correlate};
use crate::evidence::capture::Packet;
use crate::evidence::receipts::Connection;
use crate::evidence::{Action, folder};

/// The claim that nothing denied passed at any instant of a restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RestartClaim {
    /// Which check this is.
    pub check: Check,
    /// When the gateway lost its policy.
    pub down: Timestamp,
    /// When it enforced its policy again.
    pub up: Timestamp,
    /// Attempts that the policy denies, made before, during and after.
    pub denied: Vec<Attempt>,
    /// A permitted request that passed before.
    pub before: Option<Control>,
    /// A permitted request that passed after.
    pub after: Option<Control>,
    /// How long silence must have been observed after the last attempt.
    pub quiet_window: std::time::Duration,
}

/// Judges by the packets at both sides: the Pods sent packets of denied flows before, during and after the gap, none of
/// them was seen beyond the gateway, nothing arrived, and permitted requests passed before and after. Unlike
/// [`super::judge_denial`] it asks for no record of each denial: a gateway without a policy may have no rule to name.
#[must_use]
pub fn judge_fail_closed(claim: &RestartClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    load(claim, observations, &mut finding);
    let live = [("before", &claim.before), ("after", &claim.after)]
        .map(|(when, control)| passed(when, control.as_ref(), observations, &mut finding))
        .iter()
        .all(|live| *live);
    let mut silent = 0;
    for attempt in &claim.denied {
        silent += usize::from(closed(attempt, observations, &mut finding));
    }
    if silent == claim.denied.len() && silent > 0 {
        let of = count(silent, "denied attempt");
        finding.supports(
            folder::RECEIPTS,
            format!("far ends received nothing of {of}"),
        );
        beyond(live, &of, observations, &mut finding);
    }
    by_default_action(claim, observations, &mut finding);
    let last = claim
        .denied
        .iter()
        .filter_map(|attempt| attempt.sent.as_ref());
    let last = last.map(|sent| sent.at).max().max(Some(claim.up));
    if let Some(last) = last
        && micros_between(last, observations.until) < micros_of(claim.quiet_window)
    {
        finding.missing(
            folder::EVENTS,
            "not observed for long enough after the last attempt",
        );
    }
    let expected = format!(
        "nothing that the policy denies leaves the gateway at any instant of its restart ({} without a policy)",
        in_words(micros_between(claim.down, claim.up))
    );
    finding.conclude(&claim.check, expected)
}

/// The restart happened under load: packets of denied flows left the Pods in each of the three phases.
fn load(claim: &RestartClaim, observations: &Observations, finding: &mut Finding) {
    let capture = match &observations.pod_side {
        Seen::Read(capture) => capture,
        Seen::Unreadable(why) => {
            return finding.missing(
                folder::POD_SIDE,
                format!("the Pods' packets cannot be read: {why}"),
            );
        }
        Seen::NotVisible => {
            return finding.missing(
                folder::POD_SIDE,
                "this tier does not see the Pods' packets, so that nobody knows what met the restart",
            );
        }
    };
    let packets: Vec<&Packet> = claim
        .denied
        .iter()
        .filter_map(|attempt| attempt.sent.as_ref())
        .flat_map(|sent| {
            capture
                .packets_between(sent.protocol, sent.source, sent.destination)
                .filter(|packet| packet.at >= sent.at)
        })
        .collect();
    let phases = [
        ("before it", Timestamp::MIN, claim.down),
        ("while the gateway had no policy", claim.down, claim.up),
        ("after it", claim.up, Timestamp::MAX),
    ];
    for (when, from, to) in phases {
        let number = packets
            .iter()
            .filter(|packet| (from..to).contains(&packet.at))
            .count();
        let text = format!(
            "{} of denied flows left the Pods {when}",
            count(number, "packet")
        );
        if number > 0 {
            finding.supports(folder::POD_SIDE, text);
        } else {
            finding.missing(folder::POD_SIDE, text);
        }
    }
}

/// Returns whether nothing of an attempt was seen anywhere beyond the gateway.
fn closed(attempt: &Attempt, observations: &Observations, finding: &mut Finding) -> bool {
    let Some(sent) = &attempt.sent else {
        finding.missing(
            folder::EVENTS,
            format!("{}: nothing says that it was ever sent", attempt.label),
        );
        return false;
    };
    let mut silent = true;
    for receipt in correlate::with_canary(&attempt.canary, observations) {
        silent = false;
        finding.contradicts(
            folder::RECEIPTS,
            format!(
                "{}: {} received {}",
                attempt.label,
                receipt.endpoint,
                correlate::describe_receipt(receipt)
            ),
        );
    }
    let connections = correlate::connections(attempt, sent, observations);
    if !connections.is_empty() {
        silent = false;
        let bytes: u64 = connections.iter().map(Connection::received).sum();
        let connections = count(connections.len(), "connection");
        finding.contradicts(
            folder::RECEIPTS,
            format!(
                "{}: {connections} reached {}, {bytes} bytes",
                attempt.label,
                attempt.target()
            ),
        );
    }
    for flow in correlate::outside_flows(attempt, sent, observations) {
        silent = false;
        finding.contradicts(
            folder::OUTSIDE,
            format!(
                "{}: {} outside the gateway, {} -> {}, the first at {}",
                attempt.label,
                count(flow.sent, "packet"),
                flow.source,
                flow.destination,
                flow.first_at
            ),
        );
    }
    if attempt.answered() {
        silent = false;
        finding.contradicts(
            folder::EVENTS,
            format!("{}: somebody answered it", attempt.label),
        );
    }
    silent
}

/// Silence beyond the gateway counts only in a capture that saw both controls.
fn beyond(live: bool, of: &str, observations: &Observations, finding: &mut Finding) {
    match &observations.outside {
        Seen::Read(capture) if capture.undecodable > 0 => {
            let packets = count(capture.undecodable, "packet");
            finding.missing(
                folder::OUTSIDE,
                format!("{packets} outside the gateway cannot be decoded and may be of a denied flow"),
            );
        }
        Seen::Read(_) if live => {
            finding.supports(folder::OUTSIDE, format!("packets of {of} outside the gateway: 0"));
        }
        Seen::Read(_) => {}
        Seen::Unreadable(why) => finding.missing(
            folder::OUTSIDE,
            format!("the packets outside the gateway cannot be read: {why}"),
        ),
        Seen::NotVisible => finding.missing(
            folder::OUTSIDE,
            "this tier does not see packets outside the gateway, and an instant is too short for anything else",
        ),
    }
}

/// A permitted request passed, and the capture beyond the gateway saw it.
fn passed(
    when: &str,
    control: Option<&Control>,
    observations: &Observations,
    finding: &mut Finding,
) -> bool {
    let label = format!("positive control {when} the restart");
    let seen = control.is_some_and(|control| {
        let Some(sent) = &control.attempt.sent else {
            return false;
        };
        let received = correlate::with_canary(&control.attempt.canary, observations)
            .into_iter()
            .any(|receipt| receipt.endpoint == control.far_end);
        let visible = match &observations.outside {
            Seen::Read(_) => {
                !correlate::outside_flows(&control.attempt, sent, observations).is_empty()
            }
            Seen::Unreadable(_) | Seen::NotVisible => true,
        };
        control.attempt.answered() && received && visible
    });
    if seen {
        finding.supports(folder::RECEIPTS, format!("{label}: passed"));
    } else {
        finding.control_broken(
            folder::RECEIPTS,
            format!("{label}: not answered, not received or not in the capture"),
        );
    }
    seen
}

/// That the gateway was without its policy shows in the log, where it logs at all: the default action decided.
fn by_default_action(claim: &RestartClaim, observations: &Observations, finding: &mut Finding) {
    let denied = claim
        .denied
        .iter()
        .filter_map(|attempt| attempt.sent.as_ref());
    let number = denied
        .flat_map(|sent| correlate::records(sent, observations))
        .filter(|record| record.action == Action::Deny)
        .filter(|record| {
            correlate::rule(record, observations).is_some_and(|rule| rule.default_action)
        })
        .count();
    finding.neutral(
        folder::GATEWAY_LOG,
        format!(
            "{} of the restarted gateway by its default action",
            count(number, "denial")
        ),
    );
}
