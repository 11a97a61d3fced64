//! Expected failures, retries, and what the system does not claim.

#![allow(clippy::unwrap_used)]

use super::*;

/// A run with a list of expected failures.
fn run_with(entries: Vec<ExpectedFailure>, unclaimed: &[&str], selected: usize) -> Vec<Recorded> {
    let mut run = run(&[], selected);
    if let Event::RunStarted(started) = &mut run[0].event {
        started.expected_failures = entries;
        started.unclaimed = unclaimed.iter().map(|&id| id.to_owned()).collect();
    }
    run
}

fn entry(requirement: Option<&str>, check: Option<&str>) -> ExpectedFailure {
    ExpectedFailure {
        requirement: requirement.map(str::to_owned),
        check: check.map(str::to_owned),
        system: "stand-ins".to_owned(),
        reason: "ticket 7".to_owned(),
        expires: jiff::civil::date(2026, 6, 2),
    }
}

fn only(check: CheckResult, tags: &[&str]) -> ScenarioEvidence {
    let events = vec![started("Scenario", tags), Event::Check(check), finished()];
    evidence("s", events)
}

#[rstest]
#[case::by_requirement(entry(Some("EGR-04"), None), not_logged(), ExpectationState::Failed, 0)]
#[case::by_check(
    entry(None, Some("denial-logged")),
    not_logged(),
    ExpectationState::Failed,
    0
)]
#[case::other_requirement(entry(Some("EGR-02"), None), not_logged(), ExpectationState::NotRun, 1)]
#[case::stale(entry(Some("EGR-02"), None), blocked(), ExpectationState::Stale, 5)]
#[case::unproven(entry(Some("EGR-02"), None), unproven(), ExpectationState::Unproven, 4)]
#[case::expired(ExpectedFailure { expires: jiff::civil::date(2026, 6, 1), ..entry(Some("EGR-04"), None) }, not_logged(), ExpectationState::Expired, 1)]
#[case::other_system(ExpectedFailure { system: "eks".to_owned(), ..entry(Some("EGR-04"), None) }, not_logged(), ExpectationState::OtherSystem, 1)]
fn a_listed_failure_comes_to(
    #[case] entry: ExpectedFailure,
    #[case] check: CheckResult,
    #[case] state: ExpectationState,
    #[case] code: u8,
) {
    let report = report_of(&run_with(vec![entry], &[], 1), &[only(check, &[])]);
    assert_eq!(report.expected_failures[0].state, state);
    assert_eq!(report.summary.exit_code, code, "{}", report.summary.verdict);
    let marked = report.scenarios[0].checks[0].expected_failure.is_some();
    assert_eq!(marked, state == ExpectationState::Failed);
    if marked {
        assert!(report.run.not_signable.is_some());
        let text = plain(&terminal::render(&report, Path::new("out"), false));
        assert!(text.contains("Not conformant, as expected"), "{text}");
        assert!(!text.contains("\nConformant"), "{text}");
        let junit = junit::render(&report).unwrap();
        assert!(
            junit.contains("expected failure: ticket 7") && !junit.contains("<failure"),
            "{junit}"
        );
    }
}

/// What failed beside it is not excused.
#[test]
fn a_listed_failure_excuses_nothing_else() {
    let mut other = not_logged();
    other.check = "other".to_owned();
    let mut events = only(not_logged(), &[]).events;
    events.insert(1, recorded(vec![Event::Check(other)]).remove(0));
    let scenario = ScenarioEvidence {
        events,
        ..only(not_logged(), &[])
    };
    let run = run_with(vec![entry(None, Some("denial-logged"))], &[], 1);
    assert_eq!(report_of(&run, &[scenario]).summary.exit_code, 1);

    let mut events = only(not_logged(), &[]).events;
    events.insert(1, recorded(vec![gateway_gone()]).remove(0));
    let scenario = ScenarioEvidence {
        events,
        ..only(not_logged(), &[])
    };
    assert_eq!(report_of(&run, &[scenario]).summary.exit_code, 70);
}

fn tried(retry: u32, check: CheckResult) -> ScenarioEvidence {
    let mut scenario = only(check, &["EGR-02"]);
    if let Event::ScenarioStarted(started) = &mut scenario.events[0].event {
        started.retry = retry;
    }
    scenario.folder = format!("scenarios/s-retry-{retry}");
    scenario
}

#[rstest]
#[case::passes(vec![unproven(), blocked()], Outcome::Flaky, 3)]
#[case::passes_late(vec![unproven(), not_logged(), blocked()], Outcome::Flaky, 3)]
#[case::never(vec![not_logged(), not_logged()], Outcome::Failed, 1)]
#[case::failed_once(vec![not_logged(), unproven()], Outcome::Failed, 1)]
fn retries_become_one_scenario(
    #[case] checks: Vec<CheckResult>,
    #[case] outcome: Outcome,
    #[case] code: u8,
) {
    let count = checks.len();
    let tries: Vec<ScenarioEvidence> = checks
        .into_iter()
        .enumerate()
        .map(|(retry, check)| tried(u32::try_from(retry).unwrap(), check))
        .collect();
    let report = report_of(&run(&[], 1), &tries);
    assert_eq!(report.scenarios.len(), 1);
    let scenario = &report.scenarios[0];
    // A failed try stays the gravest, unless a later one passed.
    assert_eq!(
        (scenario.outcome, report.summary.exit_code),
        (outcome, code)
    );
    assert_eq!(scenario.earlier.len(), count - 1);
    let text = plain(&terminal::render(&report, Path::new("out"), false));
    assert!(text.contains("before: "), "{text}");
    let junit = junit::render(&report).unwrap();
    assert_eq!(
        junit.contains("<flaky"),
        outcome == Outcome::Flaky,
        "{junit}"
    );
}

#[test]
fn what_the_system_does_not_claim_is_not_applicable() {
    let events = vec![
        started("IPv6", &["EGR-05"]),
        ended(
            Outcome::NotApplicable,
            "the system does not claim the feature of EGR-05",
        ),
    ];
    let unclaimed = evidence("a", events);
    let run = run_with(Vec::new(), &["EGR-05"], 2);
    let report = report_of(&run, &[unclaimed.clone(), only(blocked(), &["EGR-02"])]);
    assert_eq!(report.summary.exit_code, 0);
    assert_eq!(report.requirements[3].state, CoverageState::NotApplicable);
    let junit = junit::render(&report).unwrap();
    assert!(
        junit.contains("<skipped") && junit.contains("does not claim"),
        "{junit}"
    );

    // A run of nothing else proved nothing.
    let run = run_with(Vec::new(), &["EGR-05"], 1);
    assert_eq!(report_of(&run, &[unclaimed]).summary.exit_code, 2);
}
