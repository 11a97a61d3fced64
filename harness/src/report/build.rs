//! From recorded events to the report. Pure: the same events make the same report.

mod expected;
mod retries;

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::model::{
    Check, CheckRef, Coverage, CoverageState, Expectation, ExpectationState, Figure, Report, Run,
    SCHEMA, Scenario, Step, Summary,
};
use crate::evidence::{
    Event, Measurement, Recorded, RunFinished, RunStarted, ScenarioFinished, ScenarioStarted,
    StepFinished, StepOutcome,
};
use crate::expected_failure::ExpectedFailure;
use crate::facts::CheckResult;
use crate::outcome::{ExitCode, Outcome, Tally, exit_code};
use crate::requirement::{Register, is_id};

/// What one scenario left.
#[derive(Clone, Debug)]
pub struct ScenarioEvidence {
    /// Its folder, relative to the report.
    pub folder: String,
    /// SHA-256 of the folder's manifest.
    pub sha256: String,
    /// Its events, in order.
    pub events: Vec<Recorded>,
}

/// Makes the report.
#[must_use]
pub fn build(run: &[Recorded], scenarios: &[ScenarioEvidence], register: &Register) -> Report {
    let finished = run.iter().rev().find_map(|recorded| match &recorded.event {
        Event::RunFinished(finished) => Some((recorded.at, finished)),
        _ => None,
    });
    let mut run_part = describe_run(run, finished);
    let command = run_part.command.clone();
    let built: Vec<retries::Built> = scenarios
        .iter()
        .map(|evidence| scenario(evidence, run_part.interrupted, &command, register))
        .collect();
    let faults: BTreeSet<String> = scenarios
        .iter()
        .flat_map(|evidence| &evidence.events)
        .filter_map(|recorded| match &recorded.event {
            Event::FaultActive { name } => Some(name.clone()),
            _ => None,
        })
        .chain(run_part.faults.iter().cloned())
        .collect();
    run_part.faults = faults.into_iter().collect();
    let built = retries::merge(built);
    let measurements: Vec<&Measurement> = built.iter().flat_map(|(_, figures)| figures).collect();
    let figures = figures(&measurements);
    let mut scenarios: Vec<Scenario> = built.into_iter().map(|(scenario, _)| scenario).collect();
    let expected_failures = expected::mark(&run_part, &listed(run), &mut scenarios);
    let summary = summary(
        &run_part,
        finished.map(|(_, finished)| finished.selected),
        run,
        &scenarios,
        &expected_failures,
    );
    run_part.not_signable = not_signable(&run_part, &summary);
    Report {
        schema: SCHEMA.to_owned(),
        requirements: coverage(register, &run_part, &scenarios),
        expected_failures,
        run: run_part,
        summary,
        scenarios,
        figures,
    }
}

fn listed(run: &[Recorded]) -> Vec<ExpectedFailure> {
    run.iter()
        .find_map(|recorded| match &recorded.event {
            Event::RunStarted(started) => Some(started.expected_failures.clone()),
            _ => None,
        })
        .unwrap_or_default()
}

fn describe_run(run: &[Recorded], finished: Option<(Timestamp, &RunFinished)>) -> Run {
    let started = run.iter().find_map(|recorded| match &recorded.event {
        Event::RunStarted(started) => Some((recorded.at, RunStarted::clone(started))),
        _ => None,
    });
    let (started_at, started) = started.unwrap_or_else(|| {
        // A run that was killed before it could describe itself still has a report.
        let unknown = RunStarted {
            tool: "unknown".to_owned(),
            tier: "unknown".to_owned(),
            profile: "unknown".to_owned(),
            command: "containment run".to_owned(),
            ..RunStarted::default()
        };
        (
            run.first().map_or(Timestamp::UNIX_EPOCH, |first| first.at),
            unknown,
        )
    });
    Run {
        tool: started.tool,
        seed: started.seed,
        tier: started.tier,
        profile: started.profile,
        command: started.command,
        host: started.host,
        system: started.system,
        unclaimed: started.unclaimed,
        suite: started.suite,
        started_at,
        finished_at: finished.map(|(at, _)| at),
        interrupted: finished.is_some_and(|(_, finished)| finished.interrupted),
        faults: started.faults,
        detection: started.detection,
        detection_refused: started.detection_refused,
        not_signable: None,
    }
}

fn not_signable(run: &Run, summary: &Summary) -> Option<String> {
    if !run.faults.is_empty() {
        Some(format!(
            "seeded faults were active: {}",
            run.faults.join(", ")
        ))
    } else if run.finished_at.is_none() {
        Some("the run did not end in order".to_owned())
    } else if summary.exit_code() != ExitCode::Conformant {
        Some("the run is not conformant".to_owned())
    } else if summary.tally.expected_failures > 0 {
        Some("checks failed, as listed".to_owned())
    } else {
        None
    }
}

/// One try of a scenario, what was measured in it, and which retry it is.
fn scenario(
    evidence: &ScenarioEvidence,
    interrupted: bool,
    command: &str,
    register: &Register,
) -> retries::Built {
    let mut started = None;
    let mut finished = None;
    let mut steps: Vec<Step> = Vec::new();
    let mut begun: Vec<Timestamp> = Vec::new();
    let mut checks: Vec<Check> = Vec::new();
    let first = evidence
        .events
        .first()
        .map_or(Timestamp::UNIX_EPOCH, |first| first.at);
    let mut notes = Vec::new();
    let mut broken = Vec::new();
    let mut measured = Vec::new();
    for recorded in &evidence.events {
        match &recorded.event {
            Event::ScenarioStarted(event) => started = Some(event.clone()),
            Event::ScenarioFinished(event) => finished = Some(event.clone()),
            Event::StepStarted(step) => {
                steps.push(Step {
                    step: step.clone(),
                    outcome: None,
                    message: None,
                    elapsed_us: None,
                });
                begun.push(recorded.at);
            }
            Event::StepFinished(end) => end_step(&mut steps, &begun, end, recorded.at),
            Event::Check(check) => {
                measured.extend(check.measured.iter().cloned());
                checks.push(Check {
                    result: check.clone(),
                    seq: recorded.seq,
                    at_us: micros(first, recorded.at),
                    expected_failure: None,
                });
            }
            Event::Measured(measurement) => measured.push(measurement.clone()),
            Event::Note { text } => notes.push(text.clone()),
            Event::HarnessError { component, message } => {
                broken.push(format!("{component}: {message}"));
            }
            Event::PodCrashed {
                namespace,
                name,
                detail,
            } => {
                notes.push(format!("pod {namespace}/{name} ended: {detail}"));
            }
            _ => {}
        }
    }
    let (mut outcome, mut reason) =
        verdict(finished.as_ref(), &steps, &checks, &broken, interrupted);
    let started = started.unwrap_or_else(|| ScenarioStarted {
        feature: "unknown".to_owned(),
        name: evidence.folder.clone(),
        location: "unknown".to_owned(),
        ..ScenarioStarted::default()
    });
    let retry = started.retry;
    let requirements: Vec<String> = started
        .tags
        .iter()
        .filter(|tag| is_id(tag))
        .cloned()
        .collect();
    if outcome.is_settled()
        && outcome != Outcome::NotApplicable
        && let Some(unshown) = not_shown(&requirements, &checks, register)
    {
        outcome = Outcome::HarnessError;
        reason = Some(unshown);
    }
    let last = evidence.events.last().map_or(first, |last| last.at);
    let scenario = Scenario {
        reproduce: reproduce(command, &started.name),
        requirements,
        feature: started.feature,
        name: started.name,
        location: started.location,
        outcome,
        reason,
        started_at: first,
        elapsed_us: micros(first, last),
        steps,
        checks,
        earlier: Vec::new(),
        notes,
        evidence: evidence.folder.clone(),
        evidence_sha256: evidence.sha256.clone(),
    };
    (scenario, measured, retry)
}

fn end_step(steps: &mut Vec<Step>, begun: &[Timestamp], end: &StepFinished, at: Timestamp) {
    let open = steps.iter().rposition(|step| {
        step.outcome.is_none() && step.step.line == end.line && step.step.text == end.text
    });
    let index = open.unwrap_or_else(|| {
        // A step that was skipped never began.
        steps.push(Step {
            step: crate::evidence::StepStarted {
                keyword: end.keyword.clone(),
                text: end.text.clone(),
                line: end.line,
            },
            outcome: None,
            message: None,
            elapsed_us: None,
        });
        steps.len() - 1
    });
    let step = &mut steps[index];
    step.outcome = Some(end.outcome);
    step.message.clone_from(&end.message);
    step.elapsed_us = begun.get(index).map(|&from| micros(from, at));
}

/// What a scenario came to, and why when no check says it.
fn verdict(
    finished: Option<&ScenarioFinished>,
    steps: &[Step],
    checks: &[Check],
    broken: &[String],
    interrupted: bool,
) -> (Outcome, Option<String>) {
    let of_checks = checks.iter().map(|check| check.outcome);
    let stated = finished.and_then(|finished| finished.outcome);
    let with = |outcome| Outcome::gravest(of_checks.clone().chain([outcome]));
    let unfinished_step = || {
        steps
            .iter()
            .rev()
            .find(|step| step.outcome.is_none())
            .map(|step| format!(" in the step {:?}", step.step.text))
            .unwrap_or_default()
    };
    if let Some(first) = broken.first() {
        return (with(Outcome::HarnessError), Some(first.clone()));
    }
    if let Some(outcome) = stated {
        let reason = finished.and_then(|finished| finished.reason.clone());
        return (with(outcome), reason);
    }
    if finished.is_none() {
        let (outcome, word) = if interrupted {
            (Outcome::Inconclusive, "interrupted")
        } else {
            (Outcome::HarnessError, "cut")
        };
        return (
            with(outcome),
            Some(format!("the scenario was {word}{}", unfinished_step())),
        );
    }
    let failed = steps
        .iter()
        .find(|step| step.outcome == Some(StepOutcome::Failed));
    let explained = checks
        .iter()
        .any(|check| !check.outcome.is_settled() && check.outcome != Outcome::Flaky);
    if let Some(step) = failed
        && !explained
    {
        // A step that fails without a check to say why is the harness's own fault.
        let message = step
            .message
            .clone()
            .unwrap_or_else(|| "no reason given".to_owned());
        return (
            with(Outcome::HarnessError),
            Some(format!("{}: {message}", step.step.text)),
        );
    }
    // What every scenario ends with says nothing about its own sentences.
    if checks
        .iter()
        .all(|check| check.kind == crate::judge::closed_world::KIND)
    {
        return (
            Outcome::gravest(of_checks.chain([Outcome::Inconclusive])),
            Some("no check was made".to_owned()),
        );
    }
    (Outcome::gravest(of_checks), None)
}

/// A settled scenario that is tagged with a requirement and does not show it is an error of the suite.
pub(crate) fn not_shown<C: Borrow<CheckResult>>(
    requirements: &[String],
    checks: &[C],
    register: &Register,
) -> Option<String> {
    let lacking: Vec<String> = requirements
        .iter()
        .filter_map(|id| {
            let missing = missing(id, checks, register);
            let missing = missing.join("; ");
            (!missing.is_empty()).then(|| format!("{id} (missing: {missing})"))
        })
        .collect();
    (!lacking.is_empty()).then(|| {
        format!(
            "the scenario is tagged with requirements that its checks do not show: {}; add the check, take off the tag, \
             or correct scenarios/claims.yaml",
            lacking.join(", ")
        )
    })
}

/// What a scenario's checks lack to show a requirement; empty when they show it.
fn missing<C: Borrow<CheckResult>>(id: &str, checks: &[C], register: &Register) -> Vec<String> {
    let proofs: Vec<_> = checks
        .iter()
        .map(<C as Borrow<CheckResult>>::borrow)
        .filter(|check| check.requirements.iter().any(|own| own == id))
        .filter(|check| {
            matches!(
                check.outcome,
                Outcome::Passed | Outcome::Answered | Outcome::Finding
            )
        })
        .map(|check| (check.kind.as_str(), &check.about))
        .collect();
    register.claims().missing(id, &proofs)
}

fn reproduce(command: &str, name: &str) -> String {
    let quoted = name.replace('\\', "\\\\").replace('"', "\\\"");
    format!("{command} --name \"{quoted}\"")
}

fn summary(
    run: &Run,
    selected: Option<usize>,
    events: &[Recorded],
    scenarios: &[Scenario],
    expected: &[Expectation],
) -> Summary {
    let mut by_scenario = BTreeMap::new();
    let mut by_check = BTreeMap::new();
    let mut tally = Tally {
        interrupted: run.interrupted,
        scenarios: scenarios
            .iter()
            .filter(|scenario| scenario.outcome != Outcome::NotApplicable)
            .count(),
        unproven: selected.unwrap_or(0).saturating_sub(scenarios.len()),
        stale_expected_failures: expected
            .iter()
            .filter(|expectation| expectation.state == ExpectationState::Stale)
            .count(),
        ..Tally::default()
    };
    if run.finished_at.is_none() {
        tally.harness_errors += 1;
    }
    tally.harness_errors += events
        .iter()
        .filter(|recorded| matches!(recorded.event, Event::HarnessError { .. }))
        .count();
    for scenario in scenarios {
        *by_scenario.entry(scenario.outcome).or_insert(0) += 1;
        for check in &scenario.checks {
            *by_check.entry(check.outcome).or_insert(0) += 1;
            tally.controls_broken += usize::from(check.control_broken);
        }
        let expected = scenario
            .checks
            .iter()
            .any(|check| check.expected_failure.is_some());
        tally.expected_failures += usize::from(expected);
        match expected::counted(scenario) {
            Outcome::Passed | Outcome::Answered | Outcome::Finding | Outcome::NotApplicable => {}
            Outcome::Failed => tally.failed += 1,
            Outcome::HarnessError => tally.harness_errors += 1,
            Outcome::Inconclusive | Outcome::NotTestable | Outcome::Flaky => tally.unproven += 1,
        }
    }
    let code = exit_code(&tally);
    Summary {
        exit_code: code.into(),
        verdict: in_one_sentence(code, &tally).to_owned(),
        selected,
        scenarios: by_scenario,
        checks: by_check,
        tally,
    }
}

fn in_one_sentence(code: ExitCode, tally: &Tally) -> &'static str {
    match code {
        ExitCode::Conformant if tally.expected_failures > 0 => {
            "not conformant, as expected: every failed check is on the list of expected failures"
        }
        ExitCode::Conformant => "conformant: every selected check passed",
        ExitCode::CheckFailed => "not conformant: a check failed",
        ExitCode::Usage if tally.scenarios == 0 => "nothing ran",
        ExitCode::Usage => "the run could not be made",
        ExitCode::Incomplete => "incomplete: not everything was proven",
        ExitCode::ControlBroken => {
            "inconclusive: a positive control is broken, so silence proves nothing"
        }
        ExitCode::StaleExpectedFailure => "an expected failure passed: take it off the list",
        ExitCode::HarnessFault => "no verdict: the harness or a stand-in broke",
        ExitCode::Interrupted => "interrupted: the run is not whole",
    }
}

fn coverage(register: &Register, run: &Run, scenarios: &[Scenario]) -> Vec<Coverage> {
    let mut shown: BTreeSet<&str> = BTreeSet::new();
    let mut checks: BTreeMap<String, Vec<CheckRef>> = register
        .iter()
        .filter(|requirement| run.profile.split(',').any(|own| own == requirement.profile))
        .map(|requirement| (requirement.id.clone(), Vec::new()))
        .collect();
    for scenario in scenarios {
        for id in &scenario.requirements {
            checks.entry(id.clone()).or_default();
            // A scenario that did not settle shows nothing.
            if scenario.outcome.is_settled() && missing(id, &scenario.checks, register).is_empty() {
                shown.insert(id);
            }
        }
        for check in &scenario.checks {
            for id in &check.requirements {
                checks.entry(id.clone()).or_default().push(CheckRef {
                    scenario: scenario.name.clone(),
                    check: check.check.clone(),
                    outcome: check.outcome,
                });
            }
        }
    }
    checks
        .into_iter()
        .map(|(id, checks)| {
            let requirement = register.find(&id);
            Coverage {
                level: requirement.map(|requirement| requirement.level),
                must: requirement.map(|requirement| requirement.must.clone()),
                state: if checks.is_empty() && run.unclaimed.contains(&id) {
                    CoverageState::NotApplicable
                } else {
                    coverage_state(&checks, shown.contains(id.as_str()))
                },
                id,
                checks,
            }
        })
        .collect()
}

fn coverage_state(checks: &[CheckRef], shown: bool) -> CoverageState {
    let gravest = Outcome::gravest(checks.iter().map(|check| check.outcome));
    if gravest.is_settled() && !shown {
        return CoverageState::Open;
    }
    match gravest {
        Outcome::Failed => CoverageState::Failed,
        Outcome::Passed => CoverageState::Shown,
        Outcome::Answered => CoverageState::Answered,
        Outcome::Finding => CoverageState::Finding,
        Outcome::NotTestable => CoverageState::NotTestable,
        Outcome::Inconclusive | Outcome::NotApplicable | Outcome::HarnessError | Outcome::Flaky => {
            CoverageState::Open
        }
    }
}

fn figures(measurements: &[&Measurement]) -> Vec<Figure> {
    let mut by_name: BTreeMap<&str, Vec<&Measurement>> = BTreeMap::new();
    for measurement in measurements {
        by_name
            .entry(&measurement.name)
            .or_default()
            .push(measurement);
    }
    by_name
        .into_iter()
        .map(|(name, values)| {
            let mut micros: Vec<u64> = values.iter().map(|value| value.micros).collect();
            micros.sort_unstable();
            Figure {
                name: name.to_owned(),
                count: micros.len(),
                p50_us: percentile(&micros, 50),
                p95_us: percentile(&micros, 95),
                max_us: percentile(&micros, 100),
                bound_us: values.iter().filter_map(|value| value.bound_micros).min(),
            }
        })
        .collect()
}

/// Nearest rank: the smallest value that `percent` of all do not exceed.
fn percentile(sorted: &[u64], percent: usize) -> u64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(0)
}

fn micros(from: Timestamp, to: Timestamp) -> u64 {
    u64::try_from(to.as_microsecond() - from.as_microsecond()).unwrap_or(0)
}
