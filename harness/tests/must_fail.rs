//! Who tests the tests: every seeded fault of `scenarios/faults.yaml` must turn its scenario red.
//!
//! Each fault runs the real binary over the scenario that is to catch it, and the report is read back: the run must be
//! stamped with the fault, the scenario must not pass, one of the requirements it names must have failed, and none of
//! them may still be shown.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

use containment::fault::FaultRegister;
use containment::requirement::Register;
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

#[test]
fn every_seeded_fault_is_caught() {
    let scenarios = root().join("scenarios");
    let register = FaultRegister::load(&scenarios, &Register::load(&scenarios).unwrap()).unwrap();
    let uncaught: Vec<String> = register
        .iter()
        .filter_map(|(name, fault)| {
            let wanted: Vec<&str> = fault.turns_red.iter().map(|id| id.0.as_str()).collect();
            caught(name, &fault.scenario, &wanted)
                .err()
                .map(|why| format!("{name}: {why}"))
        })
        .collect();
    assert!(
        uncaught.is_empty(),
        "uncaught faults:\n{}",
        uncaught.join("\n")
    );
}

/// Runs one scenario with one fault; says why it did not count as caught.
fn caught(fault: &str, scenario: &str, wanted: &[&str]) -> Result<(), String> {
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("must-fail")
        .join(fault);
    let _ = std::fs::remove_dir_all(&output);
    let run = Command::new(env!("CARGO_BIN_EXE_containment"))
        .args(["run", "--quiet", "--fault", fault, "--name", scenario])
        .arg("--project-dir")
        .arg(root())
        .arg("--output-dir")
        .arg(&output)
        .output()
        .unwrap();
    let terminal =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    if run.status.code() != Some(1) {
        return Err(format!(
            "exit code {:?}, expected 1 (a check failed)\n{terminal}",
            run.status.code()
        ));
    }
    let report = report_in(&output);
    let stamped = report["run"]["faults"]
        .as_array()
        .is_some_and(|faults| faults.iter().any(|own| own == fault));
    if !stamped {
        return Err("the report is not stamped with the fault".to_owned());
    }
    let checks: Vec<&Value> = report["scenarios"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|one| one["checks"].as_array().unwrap())
        .collect();
    let outcomes = |id: &str| -> Vec<&str> {
        let about = checks.iter().filter(|check| {
            check["requirements"]
                .as_array()
                .unwrap()
                .iter()
                .any(|own| own == id)
        });
        about
            .map(|check| check["outcome"].as_str().unwrap())
            .collect()
    };
    if !wanted.iter().any(|id| outcomes(id).contains(&"failed")) {
        let all: Vec<_> = wanted
            .iter()
            .map(|id| format!("{id}: {:?}", outcomes(id)))
            .collect();
        return Err(format!(
            "no check of {wanted:?} failed: {}\n{terminal}",
            all.join(", ")
        ));
    }
    let shown = |id: &str| {
        !outcomes(id).is_empty() && outcomes(id).iter().all(|outcome| *outcome == "passed")
    };
    match wanted.iter().find(|id| shown(id)) {
        Some(id) => Err(format!("{id} still passes\n{terminal}")),
        None => Ok(()),
    }
}

fn report_in(output: &Path) -> Value {
    let run = std::fs::read_dir(output)
        .unwrap()
        .next()
        .unwrap()
        .unwrap()
        .path();
    serde_json::from_slice(&std::fs::read(run.join("report.json")).unwrap()).unwrap()
}
