//! Whether something that was removed has left traces.

use super::finding::{Finding, count};
use super::{Check, CheckResult};
use crate::evidence::folder;

/// One place that was searched: what was found there of the thing that is to be gone, and how much else there is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What is kept there, as `FirewallPolicies`.
    pub what: String,
    /// Names of what belongs to the thing that is to be gone.
    pub found: Vec<String>,
    /// How many others are there. None at all: the place may be one where nothing is ever seen.
    pub others: usize,
}

/// The claim that nothing of a thing is left, or was ever there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NoTraceClaim {
    /// Which check this is.
    pub check: Check,
    /// The thing, as `the deleted server weather`.
    pub of: String,
    /// Where it was looked for.
    pub places: Vec<Place>,
}

/// Judges that nothing is left in any place. A place in which nothing else is seen either proves nothing: the control
/// of an absence is the presence of others.
#[must_use]
pub fn judge_no_trace(claim: &NoTraceClaim) -> CheckResult {
    let mut finding = Finding::default();
    for place in &claim.places {
        let Place {
            what,
            found,
            others,
        } = place;
        if !found.is_empty() {
            finding.contradicts(
                folder::EVENTS,
                format!("{what}: {} ({} of others)", found.join(", "), others),
            );
        } else if *others == 0 {
            finding.missing(
                folder::EVENTS,
                format!("{what}: none at all, so that its absence says nothing"),
            );
        } else {
            let others = count(*others, "object");
            finding.supports(folder::EVENTS, format!("{what}: none ({others} of others)"));
        }
    }
    let expected = format!("there is nothing of {}", claim.of);
    finding.conclude(&claim.check, expected)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::outcome::Outcome;

    fn place(found: &[&str], others: usize) -> Place {
        Place {
            what: "FirewallPolicies".to_owned(),
            found: found.iter().map(|&name| name.to_owned()).collect(),
            others,
        }
    }

    #[rstest]
    #[case::gone(vec![place(&[], 1), place(&[], 3)], Outcome::Passed)]
    #[case::left(vec![place(&[], 1), place(&["obot-mnp1abcde-fw"], 3)], Outcome::Failed)]
    #[case::blind(vec![place(&[], 1), place(&[], 0)], Outcome::Inconclusive)]
    #[case::left_in_a_blind_one(vec![place(&["x"], 0)], Outcome::Failed)]
    #[case::nowhere(vec![], Outcome::Inconclusive)]
    fn absence_needs_others(#[case] places: Vec<Place>, #[case] expected: Outcome) {
        let claim = NoTraceClaim {
            check: Check::new("blocked", "gone"),
            of: "the deleted server weather".to_owned(),
            places,
        };
        assert_eq!(judge_no_trace(&claim).outcome, expected);
    }
}
