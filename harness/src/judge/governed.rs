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

/// Judges three moments: the policy in force, the Pod's address known, the Pod's first packet. Without any policy it
/// fails. Packets that come before the gateway has both are decided by the default action: a finding with its figure,
/// because nothing makes a Pod wait for the firewall (`reference/obot.md` section 7.4). That none of them leaves is for
/// the judge of each attempt.
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
    if claim.policy_at.is_none() {
        finding.contradicts(
            folder::EVENTS,
            "the gateway never enforced a policy of its server",
        );
    }
    if claim.address_at.is_none() {
        finding.missing(
            folder::EVENTS,
            "no policy of the gateway was ever resolved against the Pod's address",
        );
    }
    let Some(governed_at) = claim.policy_at.max(claim.address_at) else {
        return finding.conclude(&claim.check, expected);
    };
    let sent = format!("its first packet, to {},", first.destination);
    if governed_at <= first.first_at {
        let micros = micros_between(governed_at, first.first_at);
        finding.measured("policy-lead", expected.clone(), micros, None);
        let after = in_words(micros);
        finding.supports(
            folder::POD_SIDE,
            format!("{sent} left {after} after the gateway enforced the policy for its address"),
        );
        return finding.conclude(&claim.check, expected);
    }
    let micros = micros_between(first.first_at, governed_at);
    finding.measured("ungoverned-window", expected.clone(), micros, None);
    let before = in_words(micros);
    finding.supports(
        folder::POD_SIDE,
        format!("{sent} left {before} before the gateway enforced the policy for its address"),
    );
    let mut result = finding.conclude(&claim.check, expected);
    if result.passed() {
        result.outcome = Outcome::Finding;
        result.reasons = vec![
            format!(
                "for {before} from its first packet on the default action decided, and not the server's policy"
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
