//! Rules of this repository, as tests: what the crate documentation calls an invariant is checked here.

#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(sources(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
    found
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap()
        .to_owned()
}

/// Lines of code, comments left out, that hold one of `words`.
fn offenders(files: &[PathBuf], words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for path in files {
        for (index, line) in std::fs::read_to_string(path).unwrap().lines().enumerate() {
            let code = line.split("//").next().unwrap_or_default();
            if words.iter().any(|word| code.contains(word)) {
                found.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    found
}

fn module(name: &str) -> Vec<PathBuf> {
    let src = root().join("harness/src");
    let mut files = vec![src.join(format!("{name}.rs"))];
    if src.join(name).is_dir() {
        files.extend(sources(&src.join(name)));
    }
    files
}

/// Which requirement a check shows is data: `scenarios/claims.yaml`.
#[test]
fn no_requirement_is_named_in_the_code() {
    let is_id = |word: &str| {
        let bytes = word.as_bytes();
        matches!(bytes, [a, b, c, b'-', x, y]
            if [a, b, c].iter().all(|letter| letter.is_ascii_uppercase())
                && [x, y].iter().all(|digit| digit.is_ascii_digit()))
    };
    let src = root().join("harness/src");
    let is_test = |path: &Path| {
        let below = path.strip_prefix(&src).unwrap();
        below
            .iter()
            .any(|part| part == "tests" || part == "tests.rs")
    };
    let mut found = Vec::new();
    for path in sources(&src).into_iter().filter(|path| !is_test(path)) {
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap_or_default();
        for (index, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            if line.split('"').any(is_id) {
                found.push(format!("{}:{}: {line}", path.display(), index + 1));
            }
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_oracle_is_never_the_engine() {
    for name in [
        "facts",
        "claims",
        "judge",
        "evidence",
        "report",
        "requirement",
    ] {
        let found = offenders(
            &module(name),
            &["mock_controller", "cluster::", "crate::tier", "crate::lab"],
        );
        assert!(
            found.is_empty(),
            "{name} knows what it judges:\n{}",
            found.join("\n")
        );
    }
}

/// Everything stands on facts, so that facts stand on nothing above them.
#[test]
fn facts_import_nothing_from_above() {
    let found: Vec<String> = offenders(&module("facts"), &["crate::"])
        .into_iter()
        .filter(|line| !line.contains("crate::facts"))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn the_judge_does_no_io_and_has_no_clock() {
    let files: Vec<PathBuf> = module("judge")
        .into_iter()
        .filter(|path| !path.ends_with("tests.rs"))
        .collect();
    let found = offenders(
        &files,
        &[
            "std::fs",
            "std::net::Tcp",
            "tokio::",
            "Timestamp::now",
            "Instant::now",
            "SystemTime",
        ],
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn engines_do_no_io_and_have_no_clock() {
    let engine = root().join("mock-controller/src");
    let mut files = vec![
        engine.join("gateway.rs"),
        engine.join("policy.rs"),
        engine.join("translate.rs"),
    ];
    for folder in ["gateway", "policy", "translate"] {
        files.extend(sources(&engine.join(folder)));
    }
    for name in ["fabric", "node_stage"] {
        let folder = root().join("harness/cluster/src");
        files.push(folder.join(format!("{name}.rs")));
        files.extend(sources(&folder.join(name)));
    }
    let found = offenders(
        &files,
        &[
            "std::fs",
            "tokio::",
            "TcpStream",
            "UdpSocket",
            "Timestamp::now",
            "Instant::now",
            "SystemTime::now",
        ],
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn only_the_tiers_know_the_embedded_cluster() {
    let src = root().join("harness/src");
    let files: Vec<PathBuf> = sources(&src)
        .into_iter()
        .filter(|path| !path.starts_with(src.join("tier")))
        .collect();
    // Roles that run a stand-in by itself, and benches that measure one.
    let allowed = ["main.rs", "program.rs", "bench.rs", "serve_controller.rs"];
    let files: Vec<PathBuf> = files
        .into_iter()
        .filter(|path| !allowed.iter().any(|name| path.ends_with(name)))
        .filter(|path| !path.starts_with(src.join("bench")))
        .collect();
    let found = offenders(
        &files,
        &[
            "cluster::Embedded",
            "cluster::network",
            "cluster::netns",
            "mock_controller::",
        ],
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// Steps parse, call and return: outcomes come from functions of the judge, waits from `system::await_`.
#[test]
fn steps_do_not_judge_and_do_not_wait() {
    let found = offenders(
        &module("steps"),
        &[
            " Outcome::",
            "(Outcome::",
            "outcome::Outcome",
            "CheckResult::stated(",
            "CheckResult::finding(",
            "CheckResult::answered(",
            "loop {",
            "sleep(",
        ],
    );
    // Words in sentences of features.
    let found: Vec<String> = found
        .into_iter()
        .filter(|line| !line.contains("expr =") && !line.contains("regex ="))
        .collect();
    assert!(found.is_empty(), "{}", found.join("\n"));
}

/// What a stand-in knows of itself is not what a system says: everything that is read of the firewall goes over the
/// interfaces that the real product has.
#[test]
fn no_private_output_of_a_stand_in_is_read() {
    let files = sources(&root().join("harness/src"));
    let found = offenders(&files, &[".export()", ".describe_rule(", ".mirrors()"]);
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn nothing_shells_out_to_network_tools() {
    let mut files = Vec::new();
    for folder in [
        "harness/src",
        "harness/cluster/src",
        "mock-controller/src",
        "fixtures/src",
        "fixtures/api-server/src",
    ] {
        files.extend(sources(&root().join(folder)));
    }
    let found = offenders(
        &files,
        &[
            "Command::new(\"ip\")",
            "Command::new(\"nft\")",
            "Command::new(\"iptables\")",
            "Command::new(\"docker\")",
        ],
    );
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[test]
fn files_stay_readable() {
    let mut files = Vec::new();
    for folder in ["harness", "mock-controller", "fixtures"] {
        files.extend(sources(&root().join(folder)));
    }
    let long = files.iter().filter_map(|path| {
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text.lines().count();
        (lines > 600 && !text.contains("//! Longer than 600 lines because"))
            .then(|| format!("{}: {lines} lines", path.display()))
    });
    let long: Vec<String> = long.collect();
    assert!(
        long.is_empty(),
        "longer than 600 lines: split by noun, or give the reason in the header\n{}",
        long.join("\n")
    );
}
