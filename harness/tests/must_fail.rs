//! Who tests the tests: seeded faults of every component must turn their scenarios red. The whole matrix is
//! `containment faults`, which CI runs; here is a quick part of it, and the proof that an uncaught fault is seen.

#![allow(clippy::unwrap_used)]

#[path = "support/project.rs"]
mod project;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use containment::fault::FaultRegister;
use containment::requirement::Register;
use project::copy_folder;
use serde_json::Value;

/// Faults per component that this test runs.
const PER_COMPONENT: usize = 2;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Runs the program in a project's folder.
fn containment(project: &Path, arguments: &[&str]) -> (Option<i32>, String) {
    let run = Command::new(env!("CARGO_BIN_EXE_containment"))
        .args(arguments)
        .arg("--project-dir")
        .arg(project)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let text =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    (run.status.code(), text)
}

/// A fresh folder for results.
fn output(name: &str) -> PathBuf {
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("must-fail")
        .join(name);
    let _ = std::fs::remove_dir_all(&folder);
    folder
}

#[test]
fn faults_of_every_component_are_caught() {
    let scenarios = root().join("scenarios");
    let register = FaultRegister::load(&scenarios, &Register::load(&scenarios).unwrap()).unwrap();
    let mut chosen: BTreeMap<_, Vec<&str>> = BTreeMap::new();
    for (name, fault) in register.iter() {
        let of_component = chosen.entry(fault.component).or_default();
        if of_component.len() < PER_COMPONENT {
            of_component.push(name);
        }
    }
    let names: Vec<&str> = chosen.into_values().flatten().collect();
    let folder = output("quick");
    let folder = folder.to_str().unwrap();
    let mut arguments = vec!["faults", "--breadth", "named", "--output-dir", folder];
    for name in &names {
        arguments.extend(["--fault", name]);
    }
    let (code, text) = containment(&root(), &arguments);
    assert_eq!(code, Some(0), "{text}");
    let score = format!("{0} of {0} seeded faults caught", names.len());
    assert!(text.contains(&score), "{text}");
}

/// A copy of the project in which a fault is said to be caught by a scenario that can't catch it.
#[test]
fn an_uncaught_fault_is_exit_1() {
    let project = tempfile::tempdir().unwrap();
    for folder in ["features", "scenarios"] {
        copy_folder(&root().join(folder), &project.path().join(folder));
    }
    let register = project.path().join("scenarios/faults.yaml");
    let entry = "no-denial-log: {component: gateway, broken: x, turns_red: [EGR-07], scenario: \"A leading wildcard matches its subdomains\"}\n";
    std::fs::write(register, entry).unwrap();
    let folder = output("uncaught");
    let arguments = ["faults", "--output-dir", folder.to_str().unwrap()];
    let (code, text) = containment(project.path(), &arguments);
    assert_eq!(code, Some(1), "{text}");
    let line = "UNCAUGHT its scenario is passed, and no check of EGR-07 failed";
    assert!(text.contains(line), "{text}");
    assert!(text.contains("0 of 1 seeded faults caught"), "{text}");
}

#[test]
fn a_run_with_a_fault_is_stamped() {
    let folder = output("stamped");
    let scenario = "Compromised dependency blocked while EHR egress passes";
    let arguments = [
        "run",
        "--quiet",
        "--fault",
        "no-denial-log",
        "--name",
        scenario,
        "--output-dir",
        folder.to_str().unwrap(),
    ];
    let (code, text) = containment(&root(), &arguments);
    assert_eq!(code, Some(1), "{text}");
    let run = std::fs::read_dir(&folder).unwrap().next().unwrap().unwrap();
    let report = std::fs::read(run.path().join("report.json")).unwrap();
    let report: Value = serde_json::from_slice(&report).unwrap();
    assert_eq!(
        report["run"]["faults"],
        serde_json::json!(["no-denial-log"])
    );
    assert!(
        report["run"]["not_signable"]
            .as_str()
            .unwrap()
            .contains("no-denial-log")
    );
}
