//! What a check can come to, and what a whole run's exit code says.
//!
//! Owns the vocabulary of results and the precedence of exit codes. Knows nothing about how a
//! check was made.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What one check came to. Only [`Outcome::Passed`] is a proof that the requirement holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Every clause of the expectation was observed.
    Passed,
    /// An open question was asked, and this is what the system answered. Never a failure.
    Answered,
    /// A residual risk of the design was shown, with the control that compensates for it. Neither
    /// a pass nor a failure: somebody has to know it and to decide.
    Finding,
    /// An observation contradicts the expectation.
    Failed,
    /// Nothing contradicts it, but some clause was not observed: nothing is proven.
    Inconclusive,
    /// This tier has no means to show it. Counts against completeness.
    NotTestable,
    /// The system under test does not claim the feature.
    NotApplicable,
    /// The harness or one of its stand-ins broke: says nothing about the system under test.
    HarnessError,
    /// Failed at first, passed on retry.
    Flaky,
}

impl Outcome {
    /// Every outcome, in the order in which summaries list them.
    pub const ALL: [Self; 9] = [
        Self::Passed,
        Self::Answered,
        Self::Finding,
        Self::Failed,
        Self::Inconclusive,
        Self::NotTestable,
        Self::NotApplicable,
        Self::HarnessError,
        Self::Flaky,
    ];

    /// The spelling in reports and on the terminal.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Passed => "passed",
            Self::Answered => "answered",
            Self::Finding => "finding",
            Self::Failed => "failed",
            Self::Inconclusive => "inconclusive",
            Self::NotTestable => "not-testable",
            Self::NotApplicable => "not-applicable",
            Self::HarnessError => "harness-error",
            Self::Flaky => "flaky",
        }
    }

    /// The outcome of a whole made of parts: the gravest part decides. No parts at all prove
    /// nothing.
    #[must_use]
    pub fn gravest(parts: impl IntoIterator<Item = Self>) -> Self {
        parts
            .into_iter()
            .max_by_key(|outcome| outcome.gravity())
            .unwrap_or(Self::Inconclusive)
    }

    /// Whether nothing is wrong and nothing is left to prove: the scenario goes on, and the run can
    /// be conformant.
    #[must_use]
    pub fn is_settled(self) -> bool {
        match self {
            Self::Passed | Self::Answered | Self::Finding | Self::NotApplicable => true,
            Self::Failed
            | Self::Inconclusive
            | Self::NotTestable
            | Self::HarnessError
            | Self::Flaky => false,
        }
    }

    /// A proven contradiction outranks a broken harness: the contradiction stays proven.
    fn gravity(self) -> u8 {
        match self {
            Self::NotApplicable => 0,
            Self::Passed => 1,
            Self::Answered => 2,
            Self::Finding => 3,
            Self::Flaky => 4,
            Self::NotTestable => 5,
            Self::Inconclusive => 6,
            Self::HarnessError => 7,
            Self::Failed => 8,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The exit code of a run. The numbers are part of the product's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(into = "u8")]
#[repr(u8)]
pub enum ExitCode {
    /// Every selected check passed, or was an answer, a finding, not applicable, or failed as listed.
    Conformant = 0,
    /// A check failed: the system under test contradicts a requirement.
    CheckFailed = 1,
    /// Wrong usage, a broken input file, an empty selection, or a machine that cannot run this.
    Usage = 2,
    /// Something was left unproven: inconclusive, not testable, or passed only on retry.
    Incomplete = 3,
    /// A positive control did not pass, so the denials beside it prove nothing.
    ControlBroken = 4,
    /// A check that is listed as an expected failure passed: the list is stale.
    StaleExpectedFailure = 5,
    /// The harness, a stand-in or a fixture broke.
    HarnessFault = 70,
    /// The user interrupted the run.
    Interrupted = 130,
}

impl From<ExitCode> for u8 {
    fn from(code: ExitCode) -> Self {
        code as Self
    }
}

impl From<ExitCode> for std::process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}

/// The facts about a run that its exit code depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// The user interrupted the run.
    pub interrupted: bool,
    /// The input or the machine did not allow a run.
    pub usage_error: bool,
    /// Scenarios that were selected and started, without those that are not applicable.
    pub scenarios: usize,
    /// Scenarios that failed and were not listed as expected failures.
    pub failed: usize,
    /// Scenarios with a failed check that is listed as an expected failure.
    #[serde(default)]
    pub expected_failures: usize,
    /// Scenarios in which the harness broke, and errors outside any scenario.
    pub harness_errors: usize,
    /// Inconclusive checks whose positive control was the broken part.
    pub controls_broken: usize,
    /// Checks listed as expected failures that passed.
    pub stale_expected_failures: usize,
    /// Scenarios that are inconclusive, not testable or flaky, or that never started.
    pub unproven: usize,
}

/// The exit code of a run; the first line that applies decides:
///
/// | order | code | when                                                                       |
/// |-------|------|----------------------------------------------------------------------------|
/// | 1     | 130  | interrupted: whatever was found is in the report, but the run is not whole |
/// | 2     | 2    | usage or environment: nothing could be judged                              |
/// | 3     | 1    | a check failed: proven, whatever else broke                                |
/// | 4     | 70   | harness fault: explains the ones below                                     |
/// | 5     | 4    | a positive control is broken: explains the inconclusive ones               |
/// | 6     | 5    | a stale expected failure                                                   |
/// | 7     | 3    | something is unproven                                                      |
/// | 8     | 2    | nothing ran at all: an empty selection is an error, not a pass             |
/// | 9     | 0    | conformant                                                                 |
#[must_use]
pub fn exit_code(tally: &Tally) -> ExitCode {
    if tally.interrupted {
        ExitCode::Interrupted
    } else if tally.usage_error {
        ExitCode::Usage
    } else if tally.failed > 0 {
        ExitCode::CheckFailed
    } else if tally.harness_errors > 0 {
        ExitCode::HarnessFault
    } else if tally.controls_broken > 0 {
        ExitCode::ControlBroken
    } else if tally.stale_expected_failures > 0 {
        ExitCode::StaleExpectedFailure
    } else if tally.unproven > 0 {
        ExitCode::Incomplete
    } else if tally.scenarios == 0 {
        ExitCode::Usage
    } else {
        ExitCode::Conformant
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    fn clean() -> Tally {
        Tally {
            scenarios: 3,
            ..Tally::default()
        }
    }

    #[rstest]
    #[case::clean(clean(), 0)]
    #[case::failed(Tally { failed: 1, ..clean() }, 1)]
    #[case::usage(Tally { usage_error: true, ..clean() }, 2)]
    #[case::empty_selection(Tally::default(), 2)]
    #[case::unproven(Tally { unproven: 1, ..clean() }, 3)]
    #[case::control(Tally { controls_broken: 1, unproven: 1, ..clean() }, 4)]
    #[case::stale(Tally { stale_expected_failures: 1, unproven: 1, ..clean() }, 5)]
    #[case::harness(Tally { harness_errors: 1, controls_broken: 1, unproven: 1, ..clean() }, 70)]
    #[case::failed_beside_a_crash(Tally { failed: 1, harness_errors: 1, ..clean() }, 1)]
    #[case::usage_before_failed(Tally { usage_error: true, failed: 1, ..clean() }, 2)]
    #[case::interrupted(Tally { interrupted: true, failed: 1, usage_error: true, ..clean() }, 130)]
    #[case::crash_before_any_scenario(Tally { harness_errors: 1, ..Tally::default() }, 70)]
    fn precedence(#[case] tally: Tally, #[case] expected: u8) {
        assert_eq!(u8::from(exit_code(&tally)), expected);
    }

    #[rstest]
    #[case(&[], Outcome::Inconclusive)]
    #[case(&[Outcome::Passed, Outcome::NotApplicable], Outcome::Passed)]
    #[case(&[Outcome::NotApplicable], Outcome::NotApplicable)]
    #[case(&[Outcome::Passed, Outcome::Finding, Outcome::Answered], Outcome::Finding)]
    #[case(&[Outcome::Finding, Outcome::Inconclusive], Outcome::Inconclusive)]
    #[case(&[Outcome::Passed, Outcome::Inconclusive], Outcome::Inconclusive)]
    #[case(&[Outcome::HarnessError, Outcome::Failed, Outcome::Passed], Outcome::Failed)]
    #[case(&[Outcome::NotTestable, Outcome::Flaky], Outcome::NotTestable)]
    fn the_gravest_part_decides(#[case] parts: &[Outcome], #[case] expected: Outcome) {
        assert_eq!(Outcome::gravest(parts.iter().copied()), expected);
    }
}
