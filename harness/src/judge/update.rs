//! Whether a policy change took effect in time.

use std::time::Duration;

use jiff::Timestamp;

use super::finding::{Finding, in_words, micros_between, micros_of};
use super::{Check, CheckResult, PodFact};
use crate::evidence::folder;

/// The claim that a policy change took effect on a running pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpdateClaim {
    /// Which check this is.
    pub check: Check,
    /// What was changed, as `api.example.test was added to the list of weather`.
    pub change: String,
    /// When the orchestrator accepted the change.
    pub changed_at: Timestamp,
    /// When the first attempt that shows the new behaviour was sent. `None`: none did.
    pub effective_at: Option<Timestamp>,
    /// The result for that attempt, or for the last one when none showed the new behaviour.
    pub proof: CheckResult,
    /// The stated bound.
    pub bound: Duration,
    /// The pod before the change.
    pub pod_before: PodFact,
    /// The pod when the new behaviour was seen.
    pub pod_after: PodFact,
}

/// Judges that a change took effect: the result for the new behaviour passed, within the bound,
/// and on the same pod. The time it took is measured whatever the outcome.
#[must_use]
pub fn judge_update(claim: &UpdateClaim) -> CheckResult {
    let mut finding = Finding::default();
    finding.absorb(&claim.proof);
    if claim.pod_before.name != claim.pod_after.name
        || claim.pod_before.address != claim.pod_after.address
        || claim.pod_before.since != claim.pod_after.since
    {
        finding.contradicts(
            folder::EVENTS,
            format!(
                "the pod {} ({}) became {} ({}): it was restarted",
                claim.pod_before.name,
                claim.pod_before.address,
                claim.pod_after.name,
                claim.pod_after.address
            ),
        );
    }
    match claim.effective_at {
        Some(effective_at) => {
            let micros = micros_between(claim.changed_at, effective_at);
            finding.measured(
                "time-to-enforce",
                claim.change.clone(),
                micros,
                Some(claim.bound),
            );
            let text = format!(
                "took effect after {} (bound {})",
                in_words(micros),
                in_words(micros_of(claim.bound))
            );
            if micros > micros_of(claim.bound) {
                finding.contradicts(folder::EVENTS, text);
            } else {
                finding.supports(folder::EVENTS, text);
            }
        }
        None => {
            let text = format!(
                "no attempt showed it (bound {})",
                in_words(micros_of(claim.bound))
            );
            // Without a working control even the last attempt says nothing.
            if claim.proof.control_broken {
                finding.missing(folder::EVENTS, text);
            } else {
                finding.contradicts(folder::EVENTS, text);
            }
        }
    }
    let expected = format!(
        "{} takes effect on the running pod {} within {}",
        claim.change,
        claim.pod_before.name,
        in_words(micros_of(claim.bound))
    );
    finding.conclude(&claim.check, expected)
}
