//! JUnit XML. A failure is a check that failed; an error is something that proves nothing, be it a
//! broken harness or an inconclusive check; what cannot be shown here is skipped, with its reason.

use std::time::Duration;

use quick_junit::{NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestSuite};

use super::model::{Report, Scenario};
use crate::judge::CheckResult;
use crate::outcome::Outcome;

/// Renders a report: one suite per scenario, one case per check.
pub fn render(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let mut junit = Junit::new("containment");
    for scenario in &report.scenarios {
        let mut suite = TestSuite::new(format!("{}: {}", scenario.feature, scenario.name));
        suite.set_time(Duration::from_micros(scenario.elapsed_us));
        suite.add_property(("location", scenario.location.as_str()));
        suite.add_property(("evidence", scenario.evidence.as_str()));
        suite.add_property(("reproduce", scenario.reproduce.as_str()));
        suite.add_property(("seed", report.run.seed.to_string().as_str()));
        if let Some(reason) = &report.run.not_signable {
            suite.add_property(("not-signable", reason.as_str()));
        }
        for check in &scenario.checks {
            let mut case = TestCase::new(check.check.clone(), status(check));
            case.set_classname(scenario.name.clone());
            if let Some(requirements) = joined(&check.requirements) {
                case.add_property(("requirements", requirements.as_str()));
            }
            if matches!(check.outcome, Outcome::Answered | Outcome::Finding) {
                let said = check.reasons.join("; ");
                case.add_property((check.outcome.as_str(), said.as_str()));
            }
            case.set_system_out(evidence(check));
            suite.add_test_case(case);
        }
        if let Some(case) = around_the_checks(scenario) {
            suite.add_test_case(case);
        }
        junit.add_test_suite(suite);
    }
    junit.to_string()
}

fn status(check: &CheckResult) -> TestCaseStatus {
    let mut status = of_outcome(check.outcome);
    if !check.outcome.is_settled() {
        status.set_message(check.reasons.first().cloned().unwrap_or_default());
        status.set_description(format!(
            "expected: {}\n{}",
            check.expected,
            check
                .reasons
                .iter()
                .map(|reason| format!("found: {reason}\n"))
                .collect::<String>()
        ));
    }
    status
}

/// What went wrong outside any check must be a case too, or a reader of JUnit would see green.
fn around_the_checks(scenario: &Scenario) -> Option<TestCase> {
    let worst_check = Outcome::gravest(scenario.checks.iter().map(|check| check.outcome));
    let said_by_checks = !scenario.checks.is_empty() && worst_check == scenario.outcome;
    if said_by_checks && scenario.reason.is_none() {
        return None;
    }
    let outcome = if said_by_checks {
        Outcome::HarnessError
    } else {
        scenario.outcome
    };
    let mut status = of_outcome(outcome);
    let reason = scenario
        .reason
        .clone()
        .unwrap_or_else(|| "no check was made".to_owned());
    status.set_message(reason);
    let mut case = TestCase::new("scenario", status);
    case.set_classname(scenario.name.clone());
    Some(case)
}

fn of_outcome(outcome: Outcome) -> TestCaseStatus {
    let mut status = match outcome {
        Outcome::Passed | Outcome::Answered | Outcome::Finding | Outcome::Flaky => {
            TestCaseStatus::success()
        }
        Outcome::Failed => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Outcome::Inconclusive | Outcome::HarnessError => {
            TestCaseStatus::non_success(NonSuccessKind::Error)
        }
        Outcome::NotTestable | Outcome::NotApplicable => TestCaseStatus::skipped(),
    };
    status.set_type(outcome.as_str());
    status
}

fn evidence(check: &CheckResult) -> String {
    let lines = check.evidence.iter().map(|line| match &line.file {
        Some(file) => format!("{} [{file}]\n", line.found),
        None => format!("{}\n", line.found),
    });
    std::iter::once(format!("expected: {}\n", check.expected))
        .chain(lines)
        .collect()
}

fn joined(ids: &[String]) -> Option<String> {
    (!ids.is_empty()).then(|| ids.join(" "))
}
