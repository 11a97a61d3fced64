//! What a list of expected failures makes of a run.

use jiff::tz::TimeZone;

use crate::expected_failure::ExpectedFailure;
use crate::outcome::Outcome;
use crate::report::model::{Check, CheckRef, Expectation, ExpectationState, Run, Scenario};

/// Marks every failed check that an entry in force lists, and says what became of each entry.
pub(super) fn mark(
    run: &Run,
    entries: &[ExpectedFailure],
    scenarios: &mut [Scenario],
) -> Vec<Expectation> {
    let today = run.started_at.to_zoned(TimeZone::UTC).date();
    entries
        .iter()
        .map(|entry| {
            let void = if entry.system != run.system {
                Some(ExpectationState::OtherSystem)
            } else if entry.expires < today {
                Some(ExpectationState::Expired)
            } else {
                None
            };
            let mut checks = Vec::new();
            let mut outcomes = Vec::new();
            for scenario in &mut *scenarios {
                let flaky = scenario.outcome == Outcome::Flaky;
                for check in scenario
                    .checks
                    .iter_mut()
                    .filter(|check| lists(entry, check))
                {
                    if void.is_none() && check.outcome == Outcome::Failed {
                        check.expected_failure = Some(entry.reason.clone());
                    }
                    outcomes.push(if flaky { Outcome::Flaky } else { check.outcome });
                    checks.push(CheckRef {
                        scenario: scenario.name.clone(),
                        check: check.check.clone(),
                        outcome: check.outcome,
                    });
                }
            }
            Expectation {
                entry: entry.clone(),
                state: void.unwrap_or_else(|| state(&outcomes)),
                checks,
            }
        })
        .collect()
}

fn lists(entry: &ExpectedFailure, check: &Check) -> bool {
    let by_requirement = |id: &String| check.requirements.contains(id);
    entry.requirement.as_ref().is_some_and(by_requirement)
        || entry.check.as_ref() == Some(&check.check)
}

fn state(outcomes: &[Outcome]) -> ExpectationState {
    if outcomes.is_empty() {
        ExpectationState::NotRun
    } else if outcomes.contains(&Outcome::Failed) {
        ExpectationState::Failed
    } else if outcomes.iter().all(|outcome| outcome.is_settled()) {
        ExpectationState::Stale
    } else {
        ExpectationState::Unproven
    }
}

/// The outcome that a scenario counts with: without its expected failures. What went wrong outside any check counts.
pub(super) fn counted(scenario: &Scenario) -> Outcome {
    let expected = |check: &Check| check.expected_failure.is_some();
    if scenario.outcome != Outcome::Failed || !scenario.checks.iter().any(expected) {
        return scenario.outcome;
    }
    if scenario.reason.is_some() {
        return Outcome::HarnessError;
    }
    let others = scenario.checks.iter().filter(|check| !expected(check));
    Outcome::gravest(
        others
            .map(|check| check.outcome)
            .chain([Outcome::NotApplicable]),
    )
}
