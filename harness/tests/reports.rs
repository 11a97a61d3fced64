//! What a run leaves and what its exit code says, with the program as its users run it.
//!
//! Exit codes 2, 70 and 130 have their tests in `cli.rs`.

#![allow(clippy::unwrap_used)]

#[path = "support/project.rs"]
mod project;

use std::fs;
use std::io::Read as _;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use project::{Project, descendant_running};

/// One scenario: a server that denies all egress, with another server as its control.
const DENY_ALL: &[&str] = &["run", "--tags", "@EGR-13"];

fn run(project: &Project, more: &[&str]) -> (Option<i32>, String) {
    project.run(&[DENY_ALL, more].concat())
}

fn write(project: &Project, file: &str, text: &str) {
    fs::write(project.0.path().join(file), text).unwrap();
}

/// 0, and what the run left: rebuilt byte for byte, verified, and refused once it is edited.
#[test]
fn a_conformant_run_is_exit_0_and_can_be_rebuilt_and_verified() {
    let project = Project::new();
    let output = project.command(DENY_ALL).output().unwrap();
    let printed = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0), "{printed}");
    let folder = project.last_run();
    let named = folder
        .strip_prefix(project.0.path())
        .unwrap()
        .to_str()
        .unwrap()
        .to_owned();
    let reports = ["report.json", "junit.xml"];
    let written = reports.map(|name| fs::read(folder.join(name)).unwrap());

    // The project's own data may be gone by then.
    fs::remove_dir_all(project.0.path().join("scenarios")).unwrap();
    let output = project
        .command(&["report", &named, "-o", "rebuilt"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), printed);
    assert_eq!(output.status.code(), Some(0));
    for (name, bytes) in reports.iter().zip(&written) {
        let rebuilt = fs::read(project.0.path().join("rebuilt").join(name)).unwrap();
        assert_eq!(&rebuilt, bytes, "{name}");
    }

    let digest = printed
        .split("sha256:")
        .nth(1)
        .unwrap()
        .split(';')
        .next()
        .unwrap();
    let (code, text) = project.run(&["verify", &named, "--digest", digest]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("Verified: ") && text.contains("Not signed"),
        "{text}"
    );

    let capture = project.evidence()[0].join("outside.pcapng");
    let mut bytes = fs::read(&capture).unwrap();
    let last = bytes.len() - 1;
    bytes[last] ^= 1;
    fs::write(&capture, bytes).unwrap();
    let (code, text) = project.run(&["verify", &named]);
    assert_eq!(code, Some(1), "{text}");
    assert!(
        text.contains("outside.pcapng: expected the digest "),
        "{text}"
    );
    let (code, text) = project.run(&["verify", "features"]);
    assert_eq!(code, Some(2), "{text}");
}

/// 1 without a list, 0 with one that names what fails, and 5 once it fails no longer.
#[test]
fn a_failed_check_is_exit_1_a_listed_one_0_and_a_stale_entry_5() {
    let project = Project::new();
    let entry = |id: &str| {
        format!(
            "- {{requirement: {id}, system: stand-ins, reason: ticket 7, expires: 2099-12-31}}\n"
        )
    };
    let run = |more: &[&str]| {
        let scenario = ["run", "--name", "What is no domain is rejected"];
        project.run(&[&scenario, more].concat())
    };
    let fault = ["--fault", "bare-star-accepted"];
    let (code, text) = run(&fault);
    assert_eq!(code, Some(1), "{text}");

    write(&project, "known.yaml", &entry("AUT-05"));
    let list = ["--expected-failures", "known.yaml"];
    let (code, text) = run(&[list, fault].concat());
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("listed as an expected failure: ticket 7"),
        "{text}"
    );
    assert!(text.contains("Not conformant, as expected"), "{text}");

    let (code, text) = run(&list);
    assert_eq!(code, Some(5), "{text}");
    assert!(
        text.contains("Expected failure AUT-05 of stand-ins: passed: take it off the list"),
        "{text}"
    );

    write(
        &project,
        "known.yaml",
        &(entry("AUT-05") + &entry("EGR-77")),
    );
    let (code, text) = run(&list);
    assert_eq!(code, Some(2), "{text}");
    assert!(
        text.contains("known.yaml:2:1: entry 2: requirement: EGR-77"),
        "{text}"
    );
}

#[test]
fn a_denial_without_its_control_is_exit_4() {
    let project = Project::new();
    // The control of the first scenario, and nothing else.
    project.edit(
        "features/egress/default-deny.feature",
        "    When as a control, the pod of \"weather\" requests \"https://api.weather-service.test/\"\n    Then the control passes\n",
        "",
    );
    let (code, text) = run(&project, &[]);
    assert_eq!(code, Some(4), "{text}");
    assert!(text.contains("no positive control was made"), "{text}");
}

/// The orchestrator of the first try is killed from outside; the second try is left alone.
#[test]
fn a_scenario_that_passes_on_retry_is_flaky_and_exit_3() {
    let project = Project::new();
    let mut child = project
        .command(&[DENY_ALL, &["--retries", "1"]].concat())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    // A hang guard, not a bound of the run.
    let deadline = Instant::now() + Duration::from_secs(120);
    let orchestrator = loop {
        if let Some(pid) = descendant_running(child.id(), "serve\0obot") {
            break pid;
        }
        assert!(Instant::now() < deadline, "no orchestrator was started");
        std::thread::yield_now();
    };
    kill(
        Pid::from_raw(orchestrator.try_into().unwrap()),
        Signal::SIGKILL,
    )
    .unwrap();
    let mut text = String::new();
    child
        .stdout
        .take()
        .unwrap()
        .read_to_string(&mut text)
        .unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{text}");
    assert!(
        text.contains("FLAKY") && text.contains("before: harness-error"),
        "{text}"
    );
    let mut tries = project.evidence();
    tries.sort();
    assert_eq!(tries.len(), 2, "{tries:?}");
    assert!(
        tries[1].ends_with(Path::new(&format!(
            "{}-retry-1",
            tries[0].file_name().unwrap().display()
        ))),
        "{tries:?}"
    );
    let folder = project.last_run();
    let (code, text) = project.run(&["verify", folder.to_str().unwrap()]);
    assert_eq!(code, Some(0), "{text}");
}

#[test]
fn what_the_system_does_not_claim_is_not_applicable() {
    let project = Project::new();
    let (code, text) = project.run(&[
        "run",
        "--tags",
        "@EGR-13 or @EGR-42",
        "--unclaimed",
        "EGR-42",
    ]);
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("NOT-APPLICABLE"), "{text}");
    assert!(
        text.contains("not applicable, the system does not claim the feature: EGR-42"),
        "{text}"
    );

    let (code, text) = run(&project, &["--unclaimed", "EGR-13"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("EGR-13 is not extended"), "{text}");
}

/// A number of faults that nothing measured never stands in a report as a score.
#[test]
fn an_edited_detection_score_is_refused_in_words() {
    let project = Project::new();
    let digest = "0".repeat(64);
    let suite = |program: &str, features: &str, scenarios: &str| {
        format!(
            "{{\"features\": \"{features}\", \"scenarios\": \"{scenarios}\", \"program\": \"{program}\"}}"
        )
    };
    let score = |suite: &str| {
        format!(
            "{{\"seeded\": 996, \"caught\": 996, \"uncaught\": [], \"at\": \"2026-01-01T00:00:00Z\", \"measured_with\": {suite}, \"matrix\": \"1-faults\", \"matrix_sha256\": \"{digest}\"}}"
        )
    };
    let (code, text) = run(&project, &[]);
    assert_eq!(code, Some(0), "{text}");
    let report = fs::read(project.last_run().join("report.json")).unwrap();
    let report: serde_json::Value = serde_json::from_slice(&report).unwrap();
    let of = |name: &str| report["run"]["suite"][name].as_str().unwrap().to_owned();
    let current = suite(&of("program"), &of("features"), &of("scenarios"));
    write(
        &project,
        "containment-results/detection.json",
        &score(&current),
    );
    let (code, text) = run(&project, &[]);
    assert_eq!(code, Some(0), "{text}");
    assert!(
        text.contains("Detection: the stored score is refused: 1-faults does not bear it out"),
        "{text}"
    );
    assert!(!text.contains("996 of 996"), "{text}");
}
