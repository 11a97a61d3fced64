//! Whether the attack of a compromised dependency happened: without it, nothing that was blocked says anything.

use super::{Check, CheckResult};
use crate::outcome::Outcome;

/// An attempt that a dependency announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Announced {
    /// Its label, which ends with the phase.
    pub label: String,
    /// Whether the far end answered it.
    pub answered: bool,
}

/// The phase in which a dependency repeats an attempt that failed.
pub const SECOND_TRY: &str = "(second try)";

/// The phases in which the dependency has to act and did not. After an answer it repeats nothing.
#[must_use]
pub fn missing_phases<'a>(phases: &[&'a str], made: &[Announced]) -> Vec<&'a str> {
    let answered = made.iter().any(|attempt| attempt.answered);
    let due = phases
        .iter()
        .filter(|&&phase| !(answered && phase == SECOND_TRY));
    due.filter(|&&phase| !made.iter().any(|attempt| attempt.label.ends_with(phase)))
        .copied()
        .collect()
}

/// Judges that the dependency tried to reach the attacker in each phase.
#[must_use]
pub fn judge_attack(check: &Check, host: &str, phases: &[&str], made: &[Announced]) -> CheckResult {
    let expected = format!(
        "the compromised dependency tries to reach {host} {}",
        phases.join(", ")
    );
    let missing = missing_phases(phases, made);
    if missing.is_empty() && !made.is_empty() {
        let labels: Vec<&str> = made.iter().map(|attempt| &*attempt.label).collect();
        check.stated(Outcome::Passed, expected, labels.join(", "))
    } else {
        let found = format!("no attempt was announced {}", missing.join(", "));
        check.stated(Outcome::Inconclusive, expected, found)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const PHASES: [&str; 3] = ["(at start-up)", "(during the call)", SECOND_TRY];

    #[rstest]
    #[case::all(&[("d #1 (at start-up)", false), ("d #2 (during the call)", false), ("d #3 (second try)", false)], true)]
    #[case::answered_at_once(&[("d #1 (at start-up)", true), ("d #2 (during the call)", true)], true)]
    #[case::no_second_try(&[("d #1 (at start-up)", false), ("d #2 (during the call)", false)], false)]
    #[case::no_call(&[("d #1 (at start-up)", true)], false)]
    #[case::nothing(&[], false)]
    fn every_phase_counts(#[case] made: &[(&str, bool)], #[case] happened: bool) {
        let made: Vec<Announced> = made
            .iter()
            .map(|&(label, answered)| Announced {
                label: label.to_owned(),
                answered,
            })
            .collect();
        let result = judge_attack(&Check::new("kind", "attack"), "a.test", &PHASES, &made);
        let expected = if happened {
            Outcome::Passed
        } else {
            Outcome::Inconclusive
        };
        assert_eq!(result.outcome, expected, "{result}");
    }
}
