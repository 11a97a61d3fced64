#![allow(clippy::unwrap_used)]

mod hostile;
mod listed_and_retried;

use std::path::Path;

use jiff::{SignedDuration, Timestamp};
use rstest::rstest;

use super::model::{CoverageState, ExpectationState};
use super::*;
use crate::evidence::{
    Event, Measurement, Recorded, RunFinished, RunStarted, ScenarioFinished, ScenarioStarted,
    StepFinished, StepOutcome, StepStarted,
};
use crate::expected_failure::ExpectedFailure;
use crate::judge::{Bearing, Check, CheckResult, EvidenceLine};
use crate::outcome::Outcome;

fn register() -> Register {
    let text = "egress:
  EGR-01: {level: core, env: lkc, source: A, must: A listed domain is reachable.}
  EGR-02: {level: core, env: lkc, source: A, must: An unlisted domain is not reachable.}
  EGR-04: {level: core, env: lkc, source: A, must: Every denial is logged.}
  EGR-05: {level: core, env: lkc, source: A, must: A denial can be traced.}
runtime:
  RUN-01: {level: core, env: lkc, source: C, must: One Deployment per server.}
";
    let claims = "kinds: {blocked: A denial.}
claims:
  EGR-01: {check: blocked}
  EGR-02: {check: blocked}
  EGR-04: {check: blocked}
  EGR-05: {check: blocked}
";
    Register::parse(Path::new("requirements.yaml"), text)
        .unwrap()
        .with_claims(Path::new("claims.yaml"), claims)
        .unwrap()
}

/// Events with constant times, one per 10 ms.
fn recorded(events: Vec<Event>) -> Vec<Recorded> {
    let start: Timestamp = "2026-06-02T10:15:00Z".parse().unwrap();
    events
        .into_iter()
        .enumerate()
        .map(|(index, event)| Recorded {
            seq: index as u64,
            at: start + SignedDuration::from_millis(10 * i64::try_from(index).unwrap()),
            event,
        })
        .collect()
}

fn run(faults: &[&str], selected: usize) -> Vec<Recorded> {
    recorded(vec![
        Event::RunStarted(Box::new(RunStarted {
            tool: "containment 0.1.0".to_owned(),
            seed: 1,
            tier: "embedded".to_owned(),
            profile: "egress".to_owned(),
            faults: faults.iter().map(|&fault| fault.to_owned()).collect(),
            command: "containment run --seed 1".to_owned(),
            host: "worker-7".to_owned(),
            system: "stand-ins".to_owned(),
            ..RunStarted::default()
        })),
        Event::RunFinished(RunFinished {
            interrupted: false,
            selected,
        }),
    ])
}

fn started(name: &str, tags: &[&str]) -> Event {
    Event::ScenarioStarted(ScenarioStarted {
        feature: "A compromised dependency cannot carry patient records out".to_owned(),
        name: name.to_owned(),
        location: "features/egress/compromised-dependency.feature:12".to_owned(),
        tags: tags.iter().map(|&tag| tag.to_owned()).collect(),
        retry: 0,
    })
}

fn step(text: &str, outcome: StepOutcome, message: Option<&str>) -> [Event; 2] {
    let (keyword, text) = ("Then".to_owned(), text.to_owned());
    [
        Event::StepStarted(StepStarted {
            keyword: keyword.clone(),
            text: text.clone(),
            line: 20,
        }),
        Event::StepFinished(StepFinished {
            keyword,
            text,
            line: 20,
            outcome,
            message: message.map(str::to_owned),
        }),
    ]
}

fn finished() -> Event {
    Event::ScenarioFinished(ScenarioFinished::default())
}

fn line(bearing: Bearing, file: &str, found: &str) -> EvidenceLine {
    EvidenceLine {
        found: found.to_owned(),
        file: Some(file.to_owned()),
        position: None,
        bearing,
    }
}

fn blocked() -> CheckResult {
    CheckResult {
        evidence: vec![
            line(
                Bearing::Supports,
                "receipts.jsonl",
                "attacker's collector collect.pkg-telemetry.test: 0 connections, 0 bytes",
            ),
            line(
                Bearing::Supports,
                "outside.pcapng",
                "packets of that flow outside the gateway: 0",
            ),
            line(
                Bearing::Neutral,
                "events.jsonl",
                "the client's own result: connection closed without an answer",
            ),
            line(
                Bearing::Supports,
                "gateway.log",
                "gateway log: DENY 10.244.0.12:40112 -> 192.0.2.66:443 sni=collect.pkg-telemetry.test rule=deny-all-external (server ehr-sync)",
            ),
        ],
        measured: vec![Measurement {
            name: "denial-latency".to_owned(),
            of: "exfiltration".to_owned(),
            micros: 12_000,
            bound_micros: None,
        }],
        ..CheckResult::stated(Check::new("blocked", "attacker-blocked"),
            Outcome::Passed,
            "exfiltration to the attacker's collector is blocked by the rule deny-all-external of ehr-sync",
            "",
        ).showing(&["EGR-02"])
    }
}

fn not_logged() -> CheckResult {
    let found =
        "the gateway's log holds no record of 10.244.0.12:40112 -> 192.0.2.66:443 after 5.00 s";
    CheckResult {
        evidence: vec![line(Bearing::Contradicts, "gateway.log", found)],
        ..CheckResult::stated(
            Check::new("blocked", "denial-logged"),
            Outcome::Failed,
            "the denial of exfiltration is logged",
            found,
        )
        .showing(&["EGR-04"])
    }
}

fn unproven() -> CheckResult {
    let found = "positive control (the EHR request): not answered (timed out)";
    CheckResult {
        control_broken: true,
        evidence: vec![line(Bearing::Missing, "events.jsonl", found)],
        ..CheckResult::stated(
            Check::new("blocked", "blocked"),
            Outcome::Inconclusive,
            "it is blocked",
            found,
        )
        .showing(&["EGR-02"])
    }
}

fn evidence(folder: &str, events: Vec<Event>) -> ScenarioEvidence {
    ScenarioEvidence {
        folder: format!("scenarios/{folder}"),
        sha256: format!("digest of {folder}"),
        events: recorded(events),
    }
}

fn passing() -> ScenarioEvidence {
    let mut events = vec![started("Attacker blocked", &["egress", "EGR-02"])];
    events.extend(step("the attempt is blocked", StepOutcome::Passed, None));
    events.extend([Event::Check(blocked()), finished()]);
    evidence("a", events)
}

fn failing() -> ScenarioEvidence {
    let mut events = vec![
        started("Denials \"logged\"", &["EGR-04"]),
        Event::Check(not_logged()),
    ];
    events.extend(step(
        "the denial is logged",
        StepOutcome::Failed,
        Some("see above"),
    ));
    events.extend([Event::Check(unproven()), finished()]);
    evidence("b", events)
}

fn broken() -> ScenarioEvidence {
    let error = Event::HarnessError {
        component: "policy controller".to_owned(),
        message: "ended with exit code 101".to_owned(),
    };
    evidence(
        "c",
        vec![started("Stand-in crashes", &["EGR-01"]), error, finished()],
    )
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_conformant_run_for_a_newcomer() {
    let report = build(&run(&[], 1), &[passing()], &register());
    insta::assert_snapshot!(plain(&terminal::render(&report, Path::new("out"), true)));
}

#[test]
fn a_failed_run_for_a_newcomer() {
    let report = build(
        &run(&["no-denial-log"], 4),
        &[passing(), failing(), broken()],
        &register(),
    );
    insta::assert_snapshot!(plain(&terminal::render(&report, Path::new("out"), true)));
}

/// Two attempts, each with its own proof; the second check of the first attempt adds nothing.
#[test]
fn proof_is_shown_whole_and_once() {
    let mut again = blocked();
    again.evidence[3].found = "gateway log: DENY of the second attempt".to_owned();
    let logged = CheckResult {
        evidence: vec![blocked().evidence[3].clone()],
        ..CheckResult::stated(
            Check::new("blocked", "logged"),
            Outcome::Passed,
            "the denial is logged",
            "",
        )
    };
    let mut scenario = passing();
    let checks = [logged, again].map(Event::Check);
    scenario.events.splice(4..4, recorded(checks.to_vec()));
    let report = build(&run(&[], 1), &[scenario], &register());
    let text = plain(&terminal::render(&report, Path::new("out"), true));
    let times = |found: &str| text.matches(found).count();
    assert_eq!(
        times("packets of that flow outside the gateway: 0"),
        2,
        "{text}"
    );
    assert_eq!(times("DENY 10.244.0.12:40112"), 1, "{text}");
    assert!(text.contains("the denial is logged\n"), "{text}");
}

#[test]
fn colours_can_be_taken_out_and_are_there() {
    let report = build(&run(&[], 1), &[passing()], &register());
    let text = terminal::render(&report, Path::new("out"), true);
    assert!(text.contains('\u{1b}') && !plain(&text).contains('\u{1b}'));
}

#[test]
fn the_report_as_json() {
    let report = build(&run(&[], 1), &[passing()], &register());
    insta::assert_json_snapshot!(report);
    let json = serde_json::to_string(&report).unwrap();
    assert_eq!(serde_json::from_str::<Report>(&json).unwrap(), report);
}

#[test]
fn the_report_as_junit() {
    let report = build(
        &run(&["no-denial-log"], 4),
        &[passing(), failing(), broken()],
        &register(),
    );
    insta::assert_snapshot!(junit::render(&report).unwrap());
}

#[test]
fn coverage_says_shown_failed_or_open() {
    let report = build(&run(&[], 2), &[passing(), failing()], &register());
    let states: Vec<_> = report
        .requirements
        .iter()
        .map(|coverage| (coverage.id.as_str(), coverage.state))
        .collect();
    // EGR-02 passed once and was inconclusive once; EGR-01 and EGR-05 have no check.
    let expected = [
        ("EGR-01", CoverageState::Open),
        ("EGR-02", CoverageState::Open),
        ("EGR-04", CoverageState::Failed),
        ("EGR-05", CoverageState::Open),
    ];
    assert_eq!(states, expected);
    let report = build(&run(&[], 1), &[passing()], &register());
    assert_eq!(report.requirements[1].state, CoverageState::Shown);
}

fn ended(outcome: Outcome, reason: &str) -> Event {
    let (outcome, reason) = (Some(outcome), Some(reason.to_owned()));
    Event::ScenarioFinished(ScenarioFinished { outcome, reason })
}

fn gateway_gone() -> Event {
    Event::HarnessError {
        component: "gateway".to_owned(),
        message: "gone".to_owned(),
    }
}

fn failed_step() -> Vec<Event> {
    step("it works", StepOutcome::Failed, Some("refused")).to_vec()
}

#[rstest]
#[case::passed(vec![Event::Check(blocked()), finished()], Outcome::Passed, None, 0)]
#[case::failed(vec![Event::Check(not_logged()), finished()], Outcome::Failed, None, 1)]
#[case::control_broken(vec![Event::Check(unproven()), finished()], Outcome::Inconclusive, None, 4)]
#[case::no_check(vec![finished()], Outcome::Inconclusive, Some("no check was made"), 3)]
#[case::never_ended(vec![Event::Check(blocked())], Outcome::HarnessError, Some("the scenario was cut"), 70)]
#[case::broken(vec![Event::Check(blocked()), gateway_gone(), finished()], Outcome::HarnessError, Some("gateway: gone"), 70)]
#[case::broken_and_failed(vec![Event::Check(not_logged()), gateway_gone(), finished()], Outcome::Failed, Some("gateway: gone"), 1)]
#[case::deadline(vec![ended(Outcome::HarnessError, "waited for a pod")], Outcome::HarnessError, Some("waited for a pod"), 70)]
#[case::not_testable(vec![ended(Outcome::NotTestable, "no packets here")], Outcome::NotTestable, Some("no packets here"), 3)]
#[case::step_failed([failed_step(), vec![finished()]].concat(), Outcome::HarnessError, Some("it works: refused"), 70)]
#[case::step_failed_after_a_pass([vec![Event::Check(blocked())], failed_step(), vec![finished()]].concat(), Outcome::HarnessError, Some("it works: refused"), 70)]
#[case::step_failed_for_its_check([vec![Event::Check(not_logged())], failed_step(), vec![finished()]].concat(), Outcome::Failed, None, 1)]
fn a_scenario_comes_to(
    #[case] events: Vec<Event>,
    #[case] outcome: Outcome,
    #[case] reason: Option<&str>,
    #[case] code: u8,
) {
    let events = [vec![started("Scenario", &[])], events].concat();
    let report = build(&run(&[], 1), &[evidence("s", events)], &register());
    let scenario = &report.scenarios[0];
    assert_eq!(
        (scenario.outcome, scenario.reason.as_deref()),
        (outcome, reason)
    );
    assert_eq!(report.summary.exit_code, code);
}

#[test]
fn a_requirement_in_a_tag_needs_a_check() {
    let events = vec![
        started("Scenario", &["EGR-02", "EGR-05"]),
        Event::Check(blocked()),
        finished(),
    ];
    let report = build(&run(&[], 1), &[evidence("s", events)], &register());
    assert_eq!(report.scenarios[0].outcome, Outcome::HarnessError);
    let reason = report.scenarios[0].reason.clone().unwrap();
    assert!(
        reason.contains("EGR-05 (missing: a check \"blocked\")"),
        "{reason}"
    );
    assert_eq!(report.summary.exit_code, 70);
}

/// What passed before a scenario broke off proves nothing.
#[rstest]
#[case::settled(Vec::new(), CoverageState::Shown)]
#[case::inconclusive(vec![Event::Check(about_nothing(Outcome::Inconclusive))], CoverageState::Open)]
#[case::failed(vec![Event::Check(about_nothing(Outcome::Failed))], CoverageState::Open)]
#[case::broken(vec![gateway_gone()], CoverageState::Open)]
fn a_scenario_that_is_not_settled_shows_nothing(
    #[case] more: Vec<Event>,
    #[case] expected: CoverageState,
) {
    let head = vec![started("Scenario", &["EGR-02"]), Event::Check(blocked())];
    let events = [head, more, vec![finished()]].concat();
    let report = build(&run(&[], 1), &[evidence("s", events)], &register());
    assert_eq!(report.requirements[1].id, "EGR-02");
    assert_eq!(report.requirements[1].state, expected);
}

/// A check that no claim takes speaks for nothing, whatever the tags are.
#[test]
fn a_control_does_not_show_a_denial() {
    let mut control = blocked();
    control.kind = "passed".to_owned();
    let events = vec![
        started("Scenario", &["EGR-02"]),
        Event::Check(control),
        finished(),
    ];
    let report = build(&run(&[], 1), &[evidence("s", events)], &register());
    assert_eq!(report.requirements[1].state, CoverageState::Open);
    assert_eq!(report.scenarios[0].outcome, Outcome::HarnessError);
}

fn about_nothing(outcome: Outcome) -> CheckResult {
    CheckResult::stated(Check::new("blocked", "another"), outcome, "x", "y")
}

#[test]
fn a_run_that_is_not_whole_says_so() {
    let mut killed = run(&[], 1);
    killed.pop();
    let report = build(&killed, &[passing()], &register());
    assert_eq!(report.summary.exit_code, 70);
    assert_eq!(
        report.run.not_signable.as_deref(),
        Some("the run did not end in order")
    );

    let report = build(&run(&[], 2), &[passing()], &register());
    assert_eq!(report.summary.exit_code, 3);
    let report = build(&run(&[], 0), &[], &register());
    assert_eq!(report.summary.exit_code, 2);
    let report = build(&[], &[], &register());
    assert_eq!(report.summary.exit_code, 70);
}

/// A passing run with a seeded fault proves that the suite is blind, and is never signable.
#[test]
fn an_active_fault_stamps_the_run() {
    let report = build(&run(&["no-denial-log"], 1), &[passing()], &register());
    let stamp = report.run.not_signable.unwrap();
    assert_eq!(stamp, "seeded faults were active: no-denial-log");
    let mut stamped_by_its_scenario = passing();
    let fault = Event::FaultActive {
        name: "ignore-updates".to_owned(),
    };
    stamped_by_its_scenario.events.extend(recorded(vec![fault]));
    let report = build(&run(&[], 1), &[stamped_by_its_scenario], &register());
    assert_eq!(report.run.faults, ["ignore-updates"]);
    assert!(report.run.not_signable.is_some());
}

fn report_of(run: &[Recorded], scenarios: &[ScenarioEvidence]) -> Report {
    build(run, scenarios, &register())
}
