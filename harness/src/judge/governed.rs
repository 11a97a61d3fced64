//! Whether a Pod was governed by its policy from its first packet on.

use jiff::Timestamp;

use super::finding::{Finding, in_words, micros_between};
use super::{Check, CheckResult, Observations, PodFact, Seen};
use crate::evidence::capture::Flow;
use crate::evidence::folder;
use crate::outcome::Outcome;

/// What compensates for a Pod whose first packets come before the firewall knows its address.
const DEFAULT_ACTION: &str = "the firewall's default action denies and logs what no policy permits; it must be DENY before the first workload";

/// The claim that a Pod's policy was in force before the Pod sent anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GovernedClaim {
    /// Which check this is.
    pub check: Check,
    /// The Pod.
    pub pod: PodFact,
    /// Before this the Pod's address was somebody else's or nobody's.
    pub not_before: Timestamp,
    /// When the gateway first enforced the policy of its server. `None`: it never did.
    pub policy_at: Option<Timestamp>,
    /// When the gateway first knew the Pod's address as one of the cluster's. `None`: it never did.
    pub address_at: Option<Timestamp>,
}

/// Judges three moments: the policy in force, the Pod's address known, the Pod's first packet. Packets before the policy
/// contradict. Packets after the policy and before the address is known are decided by the default action: a finding
/// with its figure, because nothing orders the two (`reference/obot.md` section 7.4).
#[must_use]
pub fn judge_governed(claim: &GovernedClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let expected = format!(
        "the policy of {} is in force before the Pod {} ({}) sends its first packet",
        claim.pod.server.as_deref().unwrap_or("its server"),
        claim.pod.name,
        claim.pod.address
    );
    let Some(first) = first_flow(claim, observations, &mut finding) else {
        return finding.conclude(&claim.check, expected);
    };
    let sent = format!("its first packet, to {}", first.destination);
    match claim.policy_at {
        None => finding.contradicts(
            folder::EVENTS,
            format!("the gateway enforced no policy of its server; {sent}, left without one"),
        ),
        Some(at) if at > first.first_at => finding.contradicts(
            folder::POD_SIDE,
            format!(
                "{sent}, left {} before the gateway enforced the policy",
                in_words(micros_between(first.first_at, at))
            ),
        ),
        Some(at) => {
            let micros = micros_between(at, first.first_at);
            finding.measured("policy-lead", expected.clone(), micros, None);
            finding.supports(
                folder::POD_SIDE,
                format!(
                    "{sent}, left {} after the gateway enforced the policy",
                    in_words(micros)
                ),
            );
        }
    }
    let gap = match claim.address_at {
        None => {
            finding.missing(
                folder::EVENTS,
                "no policy of the gateway was ever resolved against the Pod's address",
            );
            None
        }
        Some(at) if at > first.first_at => Some(micros_between(first.first_at, at)),
        Some(at) => {
            let micros = micros_between(at, first.first_at);
            finding.supports(
                folder::EVENTS,
                format!("the gateway knew its address {} before", in_words(micros)),
            );
            None
        }
    };
    if let Some(micros) = gap {
        finding.measured("ungoverned-window", expected.clone(), micros, None);
    }
    let mut result = finding.conclude(&claim.check, expected);
    if let (Outcome::Passed, Some(micros)) = (result.outcome, gap) {
        result.outcome = Outcome::Finding;
        result.reasons = vec![
            format!(
                "for {} from its first packet on the gateway did not know whose address it was, and the default action \
                 decided",
                in_words(micros)
            ),
            format!("compensating control: {DEFAULT_ACTION}"),
        ];
    }
    result
}

/// The first flow that the Pod began itself: what it answers to a probe of the node is no egress.
fn first_flow(
    claim: &GovernedClaim,
    observations: &Observations,
    finding: &mut Finding,
) -> Option<Flow> {
    let capture = match &observations.pod_side {
        Seen::Read(capture) => capture,
        Seen::Unreadable(why) => {
            finding.missing(
                folder::POD_SIDE,
                format!("the Pod's packets cannot be read: {why}"),
            );
            return None;
        }
        Seen::NotVisible => {
            finding.missing(folder::POD_SIDE, "this tier does not see the Pod's packets");
            return None;
        }
    };
    let own = capture
        .flows()
        .into_iter()
        .find(|flow| flow.source.ip() == claim.pod.address && flow.first_at >= claim.not_before);
    if own.is_none() {
        finding.missing(
            folder::POD_SIDE,
            format!("the Pod {} has sent nothing of its own", claim.pod.name),
        );
    }
    own
}
