//! JUnit XML. A failure is a check that failed; an error is something that proves nothing, be it a
//! broken harness or an inconclusive check; what cannot be shown here is skipped, with its reason.
//!
//! Class and name of a case are unique in the file, because readers (GitLab among them) keep one case of each. A suite has
//! `timestamp` and `hostname`, a case has `time`: the schema of Ant and Surefire. Every text went through [`foreign`], so
//! no character is left that XML 1.0 forbids.

use std::collections::BTreeMap;
use std::time::Duration;

use quick_junit::{
    NonSuccessKind, Report as Junit, TestCase, TestCaseStatus, TestRerun, TestSuite,
};

use super::foreign;
use super::model::{Check, Report, Scenario};
use crate::outcome::Outcome;

/// Renders a report: one suite per scenario, one case per check.
pub fn render(report: &Report) -> Result<String, quick_junit::SerializeError> {
    let report = &foreign::shown(report);
    let mut junit = Junit::new("containment");
    let mut names = Names::default();
    for scenario in &report.scenarios {
        let mut suite = TestSuite::new(format!("{}: {}", scenario.feature, scenario.name));
        suite.set_time(Duration::from_micros(scenario.elapsed_us));
        let extra = &mut suite.extra;
        let timestamp = format!("{:.6}", scenario.started_at);
        extra.insert("timestamp".into(), timestamp.into());
        extra.insert("hostname".into(), report.run.host.as_str().into());
        suite.add_property(("location", scenario.location.as_str()));
        suite.add_property(("evidence", scenario.evidence.as_str()));
        suite.add_property(("reproduce", scenario.reproduce.as_str()));
        suite.add_property(("seed", report.run.seed.to_string().as_str()));
        if let Some(reason) = &report.run.not_signable {
            suite.add_property(("not-signable", reason.as_str()));
        }
        let class = class_name(scenario);
        let mut before = 0;
        for check in &scenario.checks {
            let mut case = TestCase::new(names.unique(&class, &check.check), status(check));
            case.set_classname(class.as_str());
            case.set_time(Duration::from_micros(check.at_us.saturating_sub(before)));
            before = check.at_us;
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
        if let Some(status) = around_the_checks(scenario) {
            let mut case = TestCase::new(names.unique(&class, "scenario"), status);
            case.set_classname(class.as_str());
            case.set_time(Duration::from_micros(
                scenario.elapsed_us.saturating_sub(before),
            ));
            suite.add_test_case(case);
        }
        junit.add_test_suite(suite);
    }
    junit.to_string()
}

/// Rows of an outline share the scenario's title, so its file and line are part of the class.
fn class_name(scenario: &Scenario) -> String {
    let file = scenario.location.rsplit('/').next().unwrap_or_default();
    format!("{} ({file})", scenario.name)
}

/// Names of cases that were given, with how often.
#[derive(Default)]
struct Names(BTreeMap<(String, String), usize>);

impl Names {
    fn unique(&mut self, class: &str, name: &str) -> String {
        let mut candidate = name.to_owned();
        loop {
            let given = self
                .0
                .entry((class.to_owned(), candidate.clone()))
                .or_default();
            *given += 1;
            if *given == 1 {
                return candidate;
            }
            candidate = format!("{name} #{given}");
        }
    }
}

fn status(check: &Check) -> TestCaseStatus {
    if let Some(reason) = &check.expected_failure {
        let mut status = TestCaseStatus::skipped();
        status.set_type("expected-failure");
        status.set_message(format!("expected failure: {reason}"));
        return status;
    }
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
fn around_the_checks(scenario: &Scenario) -> Option<TestCaseStatus> {
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
    if outcome == Outcome::Flaky {
        // Surefire's form: a case that passed, with the tries that did not.
        for earlier in &scenario.earlier {
            let mut rerun = TestRerun::new(if earlier.outcome == Outcome::Failed {
                NonSuccessKind::Failure
            } else {
                NonSuccessKind::Error
            });
            rerun.set_type(earlier.outcome.as_str());
            rerun.set_message(earlier.reason.as_str());
            status.add_rerun(rerun);
        }
    } else {
        status.set_message(reason);
    }
    Some(status)
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

fn evidence(check: &Check) -> String {
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
