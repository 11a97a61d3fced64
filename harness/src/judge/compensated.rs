//! Attacks whose success the published design allows: what is not blocked is a finding, with what compensates for it.

use super::{CheckResult, DenialClaim, Observations, judge_denial};
use crate::outcome::Outcome;

/// [`judge_denial`], where data that got through is a finding. Evidence that is missing stays inconclusive.
#[must_use]
pub fn judge_denial_or_finding(
    claim: &DenialClaim,
    compensating_control: &str,
    observations: &Observations,
) -> CheckResult {
    let mut result = judge_denial(claim, observations);
    if result.outcome == Outcome::Failed {
        result.outcome = Outcome::Finding;
        let compensation = format!("compensating control: {compensating_control}");
        result.reasons.push(compensation);
    }
    result
}
