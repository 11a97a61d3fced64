//! `containment fuzz-policy`: agrees with a sound system, and finds and shrinks a seeded fault.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;

/// Runs the command; its exit code and what it printed.
fn fuzz(name: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let output = PathBuf::from(env!("CARGO_TARGET_TMPDIR"))
        .join("fuzz-policy")
        .join(name);
    let _ = std::fs::remove_dir_all(&output);
    let run = Command::new(env!("CARGO_BIN_EXE_containment"))
        .arg("fuzz-policy")
        .args(arguments)
        .arg("--project-dir")
        .arg(root)
        .arg("--output-dir")
        .arg(output)
        .env("NO_COLOR", "1")
        .output()
        .unwrap();
    let printed =
        String::from_utf8_lossy(&run.stdout).into_owned() + &String::from_utf8_lossy(&run.stderr);
    (run.status.code(), printed)
}

#[test]
fn a_sound_system_agrees_in_every_cell() {
    let (code, printed) = fuzz("sound", &["--seed", "2", "--count", "140"]);
    assert_eq!(code, Some(0), "{printed}");
    assert!(
        printed.contains("140 agree, 0 differ, 0 unproven"),
        "{printed}"
    );
    assert!(!printed.contains('\u{1b}'), "colours: {printed}");
}

#[test]
fn a_seeded_fault_is_found_and_shrunk_to_what_it_needs() {
    let arguments = [
        "--seed",
        "3",
        "--count",
        "42",
        "--fault",
        "permit-missing-sni",
    ];
    let (code, printed) = fuzz("fault", &arguments);
    assert_eq!(code, Some(1), "{printed}");
    let (_, smallest) = printed
        .split_once("The smallest case that still differs")
        .unwrap_or_else(|| panic!("nothing was shrunk: {printed}"));
    // One server, its shortest policy, and the one flow.
    assert!(smallest.contains("\n  ash  no list\n"), "{printed}");
    assert!(smallest.contains(":443 no sni  X\n"), "{printed}");
    assert!(
        printed.contains("seeded faults were active: permit-missing-sni"),
        "{printed}"
    );
}

#[test]
fn wrong_usage_is_told_apart() {
    let (code, printed) = fuzz("usage", &["--fault", "no-such-fault"]);
    assert_eq!(code, Some(2), "{printed}");
    assert!(
        printed.contains("no seeded fault \"no-such-fault\""),
        "{printed}"
    );
}
