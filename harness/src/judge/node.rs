//! Whether an attempt ended on its node, at a NetworkPolicy of the cluster, before the firewall saw it.
//!
//! Which layer stopped an attempt is part of the truth about it: what a NetworkPolicy stops says nothing about the
//! firewall's policy, for or against.

use std::time::Duration;

use super::correlate;
use super::denial::{self, DenialClaim};
use super::finding::Finding;
use super::{Attempt, Check, CheckResult, Control, Observations, RuleExpectation, Sent};
use crate::evidence::folder;

/// The claim that a NetworkPolicy stopped an attempt on its node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeClaim {
    /// Which check this is.
    pub check: Check,
    /// The attempt.
    pub attempt: Attempt,
    /// The policy, as `namespace/name`.
    pub policy: String,
    /// The positive control. `None` makes the result inconclusive.
    pub control: Option<Control>,
    /// How long silence must have been observed.
    pub quiet_window: Duration,
}

/// Judges that an attempt was sent, that nothing of it arrived or left the gateway, that the node stopped it by the named
/// NetworkPolicy, that the gateway decided nothing about it, and that the positive control passed.
#[must_use]
pub fn judge_stopped_on_node(claim: &NodeClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let denial = DenialClaim {
        check: claim.check.clone(),
        far_end: claim.attempt.target(),
        attempt: claim.attempt.clone(),
        may_hold: Default::default(),
        rule: RuleExpectation::Any,
        control: claim.control.clone(),
        quiet_window: claim.quiet_window,
    };
    denial::sent(&denial, observations, &mut finding);
    let live = denial::control(&denial, observations, &mut finding);
    denial::far_ends(&denial, observations, &mut finding);
    denial::outside(&denial, observations, live, &mut finding);
    denial::client(&denial, observations, &mut finding);
    if let Some(sent) = &claim.attempt.sent {
        stopped(claim, sent, observations, &mut finding);
        undecided(sent, observations, &mut finding);
    }
    denial::quiet(&denial, observations, None, &mut finding);
    let expected = format!(
        "{} to {} is stopped on the node by the NetworkPolicy {}, and the firewall is neither credited nor blamed",
        claim.attempt.label, denial.far_end, claim.policy
    );
    finding.conclude(&claim.check, expected)
}

fn stopped(claim: &NodeClaim, sent: &Sent, observations: &Observations, finding: &mut Finding) {
    let own = observations
        .stopped_on_nodes
        .iter()
        .find(|flow| flow.is_of(sent));
    match own {
        None => finding.missing(
            folder::EVENTS,
            format!(
                "no NetworkPolicy stopped {} -> {} on its node",
                sent.source, sent.destination
            ),
        ),
        Some(flow) if !flow.policies.contains(&claim.policy) => finding.contradicts(
            folder::EVENTS,
            format!("stopped on the node by {}", flow.policies.join(", ")),
        ),
        Some(flow) => finding.supports(
            folder::EVENTS,
            format!(
                "stopped on the node: {} -> {} by the NetworkPolicy {}",
                flow.source,
                flow.destination,
                flow.policies.join(", ")
            ),
        ),
    }
}

/// A record would mean that the flow reached the gateway after all.
fn undecided(sent: &Sent, observations: &Observations, finding: &mut Finding) {
    if observations.log.read().is_none() {
        finding.missing(folder::GATEWAY_LOG, "the gateway's log cannot be read");
        return;
    }
    let records = correlate::records(sent, observations);
    match records.first() {
        Some(record) => finding.contradicts(
            folder::GATEWAY_LOG,
            format!(
                "it reached the gateway: {}",
                correlate::describe_record(record, observations)
            ),
        ),
        None => finding.supports(
            folder::GATEWAY_LOG,
            "the gateway decided nothing about it: it never got there",
        ),
    }
}
