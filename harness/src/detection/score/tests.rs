#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::PathBuf;

use rstest::rstest;

use super::*;
use crate::evidence::{
    Event, Recorder, RunFinished, RunStarted, ScenarioFinished, ScenarioStarted,
};
use crate::judge::{Check, CheckResult};
use crate::outcome::Outcome;
use crate::report::write_files;

const REQUIREMENTS: &str = "egress:\n  EGR-02: {level: core, env: lkc, source: A, must: x}\n";
const CLAIMS: &str = "kinds: {blocked: A denial.}\nclaims:\n  EGR-02: {check: blocked}\n";
const FAULTS: &str = "a:\n  {component: gateway, broken: x, turns_red: [EGR-02], scenario: Blocked}\nb:\n  {component: gateway, broken: x, turns_red: [EGR-02], scenario: Blocked}\n";

/// A project of two faults, a program, and a matrix in which the first fault is caught and the second is not.
struct Measured {
    root: tempfile::TempDir,
    project: Project,
}

impl Measured {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = root.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("features/a.feature", "Feature: a");
        write("scenarios/requirements.yaml", REQUIREMENTS);
        write("scenarios/claims.yaml", CLAIMS);
        write("scenarios/faults.yaml", FAULTS);
        write("program", "1");
        let project = Project::find(Some(root.path())).unwrap();
        let measured = Self { root, project };
        for (fault, outcome) in [("a", Outcome::Failed), ("b", Outcome::Passed)] {
            measured.play(fault, outcome);
        }
        let register = measured.project.fault_register().unwrap();
        let score = of_matrix(&measured.matrix(), &register, measured.suite()).unwrap();
        store(&measured.output(), &score).unwrap();
        measured
    }

    fn suite(&self) -> Suite {
        suite_of(&self.project, &self.path("program")).unwrap()
    }

    fn path(&self, name: &str) -> PathBuf {
        self.root.path().join(name)
    }

    fn output(&self) -> PathBuf {
        self.path("results")
    }

    fn matrix(&self) -> PathBuf {
        self.output().join("1-faults")
    }

    /// One run of the matrix.
    fn play(&self, fault: &str, outcome: Outcome) {
        let folder = self.matrix().join(fault);
        let scenarios = folder.join("suite/scenarios");
        fs::create_dir_all(&scenarios).unwrap();
        fs::write(scenarios.join("requirements.yaml"), REQUIREMENTS).unwrap();
        fs::write(scenarios.join("claims.yaml"), CLAIMS).unwrap();
        let run = Recorder::create_run(&folder).unwrap();
        run.record(Event::RunStarted(Box::new(RunStarted {
            profile: "egress".to_owned(),
            faults: vec![fault.to_owned()],
            suite: self.suite(),
            ..RunStarted::default()
        })));
        let scenario = Recorder::create(folder.join("scenarios/a")).unwrap();
        scenario.record(Event::ScenarioStarted(ScenarioStarted {
            name: "Blocked".to_owned(),
            tags: vec!["EGR-02".to_owned()],
            ..ScenarioStarted::default()
        }));
        scenario.check(
            CheckResult::stated(
                Check::new("blocked", "blocked"),
                outcome,
                "it is blocked",
                "seen",
            )
            .showing(&["EGR-02"]),
        );
        scenario.record(Event::ScenarioFinished(ScenarioFinished::default()));
        run.record(Event::RunFinished(RunFinished {
            interrupted: false,
            selected: 1,
        }));
        write_files(&folder).unwrap();
    }

    fn current(&self) -> Result<Option<Score>, Refused> {
        current(&self.output(), &self.project, &self.path("program"))
    }

    fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.path(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} holds no {from:?}:\n{text}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
}

#[test]
fn a_score_is_of_use_until_something_changes() {
    let measured = Measured::new();
    let score = measured.current().unwrap().unwrap();
    assert_eq!((score.seeded, score.caught), (2, 1));
    assert_eq!(score.uncaught, ["b"]);
    // The program counts by its content: the same size, and another byte.
    fs::write(measured.path("program"), "2").unwrap();
    assert_eq!(measured.current().unwrap(), None);
    fs::write(measured.path("program"), "1").unwrap();
    assert_eq!(measured.current().unwrap(), Some(score));
    measured.edit("features/a.feature", "a", "b");
    assert_eq!(measured.current().unwrap(), None);
    fs::remove_file(measured.output().join(FILE)).unwrap();
    assert_eq!(measured.current().unwrap(), None);
}

#[rstest]
#[case::counts(|m: &Measured| { m.edit("results/detection.json", "\"seeded\": 2", "\"seeded\": 996"); m.edit("results/detection.json", "\"caught\": 1", "\"caught\": 996"); m.edit("results/detection.json", "\"b\"", ""); }, "says 996 of 996 seeded faults caught")]
#[case::report(|m: &Measured| m.edit("results/1-faults/b/report.json", "passed", "failed"), "b: report.json is not the one that SHA256SUMS lists")]
#[case::other_run(|m: &Measured| { fs::remove_dir_all(m.matrix().join("b")).unwrap(); m.copy("a", "b"); }, "b: its run was made with the faults [\"a\"]")]
#[case::removed_run(|m: &Measured| fs::remove_dir_all(m.matrix().join("b")).unwrap(), "b: SHA256SUMS cannot be read")]
#[case::replayed_run(|m: &Measured| { fs::remove_dir_all(m.matrix().join("b")).unwrap(); m.play("b", Outcome::Failed); }, "says 1 of 2 seeded faults caught")]
#[case::removed_matrix(|m: &Measured| fs::remove_dir_all(m.matrix()).unwrap(), "does not bear it out")]
#[case::no_score(|m: &Measured| fs::write(m.path("results/detection.json"), "{}").unwrap(), "is no score of this version")]
#[case::outside(|m: &Measured| m.edit("results/detection.json", "1-faults", "../1-faults"), "expected the name of a folder")]
fn a_score_that_its_matrix_does_not_bear_out_is_refused(
    #[case] tamper: impl Fn(&Measured),
    #[case] why: &str,
) {
    let measured = Measured::new();
    tamper(&measured);
    let refused = measured.current().unwrap_err().to_string();
    assert!(refused.contains(why), "{refused}");
}

impl Measured {
    fn copy(&self, from: &str, to: &str) {
        let (from, to) = (self.matrix().join(from), self.matrix().join(to));
        fs::create_dir_all(&to).unwrap();
        for name in [MANIFEST, REPORT_JSON] {
            fs::copy(from.join(name), to.join(name)).unwrap();
        }
    }
}
