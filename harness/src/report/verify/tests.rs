#![allow(clippy::unwrap_used)]

use std::fs;

use fixtures::receipt::Receipt;
use rstest::rstest;

use super::*;
use crate::evidence::{Recorder, RunFinished, ScenarioFinished, ScenarioStarted, Suite};
use crate::judge::Check;
use crate::outcome::Outcome;
use crate::report::{JUNIT_XML, REPORT_JSON, write_files};

const REQUIREMENTS: &str = "egress:\n  EGR-02: {level: core, env: lkc, source: A, must: An unlisted domain is not reachable.}\n";
const CLAIMS: &str = "kinds: {blocked: A denial.}\nclaims:\n  EGR-02: {check: blocked}\n";
const FIRST: &str = "scenarios/blocked-3-attacker-blocked";
const SECOND: &str = "scenarios/blocked-9-other-attacker-blocked";

/// A run of two scenarios, as `containment run` leaves it.
fn sealed() -> tempfile::TempDir {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    for (file, text) in [
        (
            "suite/features/egress/blocked.feature",
            "Feature: blocked\n",
        ),
        ("suite/scenarios/requirements.yaml", REQUIREMENTS),
        ("suite/scenarios/claims.yaml", CLAIMS),
    ] {
        fs::create_dir_all(folder.join(file).parent().unwrap()).unwrap();
        fs::write(folder.join(file), text).unwrap();
    }
    let digest = |name: &str| digest::folder_digest(&Folder::new(folder.join(name))).unwrap();
    let run = Recorder::create_run(folder).unwrap();
    run.record(Event::RunStarted(Box::new(RunStarted {
        tool: "containment 0.1.0".to_owned(),
        tier: "embedded".to_owned(),
        profile: "egress".to_owned(),
        command: "containment run".to_owned(),
        faults: vec!["no-denial-log".to_owned()],
        suite: Suite {
            features: digest("suite/features"),
            scenarios: digest("suite/scenarios"),
            program: "0".repeat(64),
        },
        ..RunStarted::default()
    })));
    for (line, name) in [(3, "Attacker blocked"), (9, "Other attacker blocked")] {
        let started = ScenarioStarted {
            feature: "blocked".to_owned(),
            name: name.to_owned(),
            location: format!("features/egress/blocked.feature:{line}"),
            tags: vec!["EGR-02".to_owned()],
            retry: 0,
        };
        let path = folder.join(SCENARIOS).join(folder::scenario_name(&started));
        let scenario = Recorder::create(path).unwrap();
        scenario.record(Event::ScenarioStarted(started));
        scenario.record(Event::FaultActive {
            name: "no-denial-log".to_owned(),
        });
        scenario.gateway_log("DENY 10.244.0.12:40112");
        scenario.receipt(receipt());
        scenario.policy_object("FirewallPolicy", "obot-mcp", "p", 1, "kind: FirewallPolicy");
        fs::write(scenario.folder().file(folder::OUTSIDE), [7; 256]).unwrap();
        let found = "packets of that flow outside the gateway: 0";
        scenario.check(
            CheckResult::stated(
                Check::new("blocked", "blocked"),
                Outcome::Passed,
                "it is blocked",
                found,
            )
            .showing(&["EGR-02"]),
        );
        scenario.record(Event::ScenarioFinished(ScenarioFinished::default()));
    }
    run.record(Event::RunFinished(RunFinished {
        interrupted: false,
        selected: 2,
    }));
    write_files(folder).unwrap();
    scratch
}

fn receipt() -> Receipt {
    Receipt {
        at: "2026-06-02T10:15:09.5Z".parse().unwrap(),
        endpoint: "collect.test".to_owned(),
        local: "192.0.2.66:443".parse().unwrap(),
        peer: "203.0.113.9:50001".parse().unwrap(),
        event: fixtures::receipt::ReceiptEvent::TlsEstablished { sni: None },
        canaries: Vec::new(),
        encodings: Default::default(),
    }
}

fn edit(folder: &Path, file: &str, from: &str, to: &str) {
    let path = folder.join(file);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{file} holds no {from:?}:\n{text}");
    fs::write(path, text.replacen(from, to, 1)).unwrap();
}

fn drop_line(folder: &Path, file: &str, holding: &str) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    let line = text.lines().find(|line| line.contains(holding)).unwrap();
    fs::write(
        folder.join(file),
        text.replacen(&format!("{line}\n"), "", 1),
    )
    .unwrap();
}

fn supports_to(folder: &Path, file: &str, bearing: &str) {
    let text = fs::read_to_string(folder.join(file)).unwrap();
    let edited = text.replace("\"supports\"", &format!("\"{bearing}\""));
    assert_ne!(text, edited, "{file}");
    fs::write(folder.join(file), edited).unwrap();
}

/// Recomputes every manifest, as an editor who knows the format would.
fn reseal(folder: &Path) {
    digest::seal(&Folder::new(folder)).unwrap();
}

fn first(file: &str) -> String {
    format!("{FIRST}/{file}")
}

#[test]
fn an_untouched_run_is_verified() {
    let run = sealed();
    let verified = verify(run.path(), None);
    assert_eq!(verified.differences, []);
    // Both suites, run.jsonl, both reports, and per scenario a manifest and six files.
    assert_eq!((verified.files, verified.scenarios), (20, 2));
    assert_eq!(verify(run.path(), Some(&verified.digest)).differences, []);
    assert_eq!(command(run.path(), None), ExitCode::Conformant);
    assert_eq!(command(&run.path().join("suite"), None), ExitCode::Usage);
}

#[rstest]
#[case::edited_event(|run: &Path| edit(run, &first("events.jsonl"), "gateway: 0", "gateway: 9"), &first("events.jsonl"), "expected the digest")]
#[case::removed_event(|run: &Path| { drop_line(run, &first("events.jsonl"), "gateway-log"); reseal(run); }, &first("events.jsonl"), "was due")]
#[case::removed_scenario(|run: &Path| fs::remove_dir_all(run.join(FIRST)).unwrap(), &first("SHA256SUMS"), "is missing")]
#[case::removed_scenario_resealed(|run: &Path| { fs::remove_dir_all(run.join(FIRST)).unwrap(); reseal(run); }, REPORT_JSON, "is not what the evidence makes")]
#[case::added_scenario(|run: &Path| { fs::create_dir(run.join("scenarios/z")).unwrap(); fs::copy(run.join(first("events.jsonl")), run.join("scenarios/z/events.jsonl")).unwrap(); }, "scenarios/z/events.jsonl", "is in no manifest")]
#[case::truncated_capture(|run: &Path| fs::write(run.join(first("outside.pcapng")), [7; 9]).unwrap(), &first("outside.pcapng"), "expected the digest")]
#[case::swapped_scenarios(swap, &first("events.jsonl"), "holds the scenario of the folder blocked-9-other-attacker-blocked")]
#[case::edited_report(|run: &Path| { edit(run, REPORT_JSON, "no-denial-log", "none"); reseal(run); }, REPORT_JSON, "is not what the evidence makes: line")]
#[case::edited_junit(|run: &Path| { edit(run, JUNIT_XML, "Attacker blocked", "Attacker stopped"); reseal(run); }, JUNIT_XML, "is not what the evidence makes: line")]
#[case::edited_capture_resealed(|run: &Path| { fs::write(run.join(first("outside.pcapng")), [8; 256]).unwrap(); reseal(run); }, REPORT_JSON, "evidence_sha256")]
#[case::faults_emptied(|run: &Path| { edit(run, "run.jsonl", "[\"no-denial-log\"]", "[]"); reseal(run); }, &first("events.jsonl"), "names the active faults")]
#[case::edited_policy(|run: &Path| edit(run, &first("policy/firewallpolicy-obot-mcp-p.yaml"), "FirewallPolicy", "Nothing"), &first("policy/firewallpolicy-obot-mcp-p.yaml"), "expected the digest")]
#[case::removed_policy(|run: &Path| { fs::remove_file(run.join(first("policy/firewallpolicy-obot-mcp-p.yaml"))).unwrap(); reseal(run); }, &first("policy/firewallpolicy-obot-mcp-p.yaml"), "event 4 of events.jsonl names it")]
#[case::edited_checks(|run: &Path| { edit(run, &first("check.json"), "passed", "failed"); reseal(run); }, &first("check.json"), "is not what events.jsonl holds: line 8")]
#[case::edited_log(|run: &Path| { edit(run, &first("gateway.log"), "DENY", "PERMIT"); reseal(run); }, &first("gateway.log"), "line 1: expected \"DENY 10.244.0.12:40112\", found \"PERMIT")]
#[case::emptied_receipts(|run: &Path| { fs::write(run.join(first("receipts.jsonl")), "").unwrap(); reseal(run); }, &first("receipts.jsonl"), "line 1")]
#[case::edited_feature(|run: &Path| { edit(run, "suite/features/egress/blocked.feature", "blocked", "open"); reseal(run); }, "suite/features", "that run-started names")]
#[case::edited_requirements(|run: &Path| { edit(run, "suite/scenarios/requirements.yaml", "core", "extended"); reseal(run); }, "suite/scenarios", "that run-started names")]
#[case::verdict_against_its_evidence(|run: &Path| { for file in ["events.jsonl", "check.json"] { supports_to(run, &first(file), "contradicts"); } reseal(run); }, &first("events.jsonl"), "passed, and its own evidence says otherwise: packets of that flow outside the gateway: 0")]
#[case::verdict_without_evidence(|run: &Path| { for file in ["events.jsonl", "check.json"] { supports_to(run, &first(file), "missing"); } reseal(run); }, &first("events.jsonl"), "passed, and its own evidence says otherwise")]
#[case::scenario_of_another_run(|run: &Path| { let other = sealed(); fs::remove_dir_all(run.join(FIRST)).unwrap(); fs::rename(other.path().join(FIRST), run.join(FIRST)).unwrap(); reseal(run); }, &first("events.jsonl"), "expected a time of the run")]
#[case::cut_scenario(|run: &Path| { drop_line(run, &first("events.jsonl"), "scenario-finished"); reseal(run); }, &first("events.jsonl"), "expected scenario-finished")]
#[case::cut_run(|run: &Path| { drop_line(run, "run.jsonl", "run-finished"); reseal(run); }, "run.jsonl", "expected run-finished")]
#[case::cut_line(|run: &Path| { let path = run.join(first("events.jsonl")); let text = fs::read(&path).unwrap(); fs::write(&path, &text[..text.len() - 1]).unwrap(); reseal(run); }, &first("events.jsonl"), "ends in the middle of a line")]
#[case::edited_manifest(|run: &Path| edit(run, "SHA256SUMS", "run.jsonl", "ran.jsonl"), "ran.jsonl", "is missing")]
#[case::broken_manifest(|run: &Path| fs::write(run.join("SHA256SUMS"), "run.jsonl\n").unwrap(), "SHA256SUMS", "expected a SHA-256 digest")]
#[case::removed_manifest(|run: &Path| fs::remove_file(run.join(first("SHA256SUMS"))).unwrap(), &first("SHA256SUMS"), "cannot be read")]
#[case::link(|run: &Path| { let path = run.join(first("gateway.log")); fs::rename(&path, run.join("../moved.log")).unwrap(); std::os::unix::fs::symlink("/dev/zero", path).unwrap(); }, ".", "gateway.log: expected a plain file")]
fn tampering_is_refused(#[case] tamper: impl Fn(&Path), #[case] file: &str, #[case] what: &str) {
    let scratch = tempfile::tempdir().unwrap();
    let run = scratch.path().join("run");
    fs::rename(sealed().keep(), &run).unwrap();
    tamper(&run);
    let verified = verify(&run, None);
    assert!(
        verified
            .differences
            .iter()
            .any(|one| one.file == Path::new(file) && one.what.contains(what)),
        "{:#?}",
        verified.differences
    );
    assert_eq!(command(&run, None), ExitCode::CheckFailed);
}

fn swap(run: &Path) {
    fs::rename(run.join(FIRST), run.join("kept")).unwrap();
    fs::rename(run.join(SECOND), run.join(FIRST)).unwrap();
    fs::rename(run.join("kept"), run.join(SECOND)).unwrap();
    reseal(run);
}

/// The limit of digests without a signature: a consistent edit with everything recomputed is found by a digest alone that
/// was kept elsewhere.
#[test]
fn only_a_kept_digest_detects_a_consistent_edit() {
    let run = sealed();
    let kept = verify(run.path(), None).digest;
    fs::write(run.path().join(first("outside.pcapng")), [8; 256]).unwrap();
    write_files(run.path()).unwrap();
    assert_eq!(verify(run.path(), None).differences, []);
    let refused = verify(run.path(), Some(&kept));
    assert_eq!(refused.differences.len(), 1);
    assert_eq!(refused.differences[0].file, Path::new("SHA256SUMS"));
}

/// A report is rebuilt byte for byte, and one that differs is never overwritten.
#[test]
fn a_report_is_rebuilt() {
    use crate::report::rebuilt::report;
    let run = sealed();
    let files =
        [REPORT_JSON, JUNIT_XML].map(|name| (name, fs::read(run.path().join(name)).unwrap()));
    let elsewhere = tempfile::tempdir().unwrap();
    report(run.path(), Some(elsewhere.path()), false).unwrap();
    for (name, text) in &files {
        fs::remove_file(run.path().join(name)).unwrap();
        assert_eq!(fs::read(elsewhere.path().join(name)).unwrap(), *text);
    }
    report(run.path(), None, false).unwrap();
    assert_eq!(verify(run.path(), None).differences, []);

    edit(run.path(), REPORT_JSON, "no-denial-log", "none");
    let error = report(run.path(), None, false).unwrap_err();
    assert_eq!(error.exit_code(), ExitCode::CheckFailed);
    assert!(
        error
            .to_string()
            .contains("report.json is not what the evidence makes"),
        "{error}"
    );
}
