//! Who tests the tests: one seeded fault after the other, against the scenarios that must catch it.
//!
//! A fault counts as caught when the scenario that `scenarios/faults.yaml` names turned red by a requirement it names,
//! and none of those requirements still passes there. A scenario that merely became inconclusive, or a harness that
//! broke, caught nothing. Owns the runs and their judgement; the printed matrix is [`matrix`]'s, the score that goes into
//! reports [`score`]'s.

pub mod matrix;
pub mod score;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures::{StreamExt as _, TryStreamExt as _};

pub use score::Score;

use crate::catalog::{Catalog, Selection};
use crate::cli::{Breadth, FaultsArgs};
use crate::fault::{Component, FaultRegister, SeededFault};
use crate::outcome::{ExitCode, Outcome};
use crate::project::Project;
use crate::report::{self, Report};
use crate::requirement::{Level, Register};
use crate::run::{self, Error, RunContext};

/// A requirement that more scenarios than this speak for is shown nearly everywhere; a fault that it catches is not run
/// against all of them.
const COMMON: usize = 4;

/// What one scenario made of one fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    /// What it came to.
    pub outcome: Outcome,
    /// Requirements that a check of it failed, or made a finding of.
    pub failed: BTreeSet<String>,
    /// Requirements that every check about them still passed.
    pub passed: BTreeSet<String>,
}

/// One fault, and what the scenarios made of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    /// Its name.
    pub fault: String,
    /// The stand-in it is in.
    pub component: Component,
    /// Cells by the scenarios' titles.
    pub cells: BTreeMap<String, Cell>,
    /// The requirements that caught it, or why it is not caught.
    pub verdict: Result<Vec<String>, String>,
}

/// Runs the matrix, prints it, and leaves the score beside the reports.
///
/// # Errors
/// When the project is broken or a run can't be made.
pub async fn faults(args: &FaultsArgs, binary: PathBuf) -> Result<ExitCode, Error> {
    let project = Project::find(args.project_dir.as_deref())?;
    let requirements = project.requirements()?;
    let register = project.fault_register()?;
    let wanted = project.faults(&args.faults)?;
    let catalog = Catalog::load(&project.features(), &Selection::default())?;
    catalog.check_requirements(&requirements)?;
    catalog.check_claims(&requirements, &register)?;
    crate::tier::embedded::preflight()?;

    let folder = run::run_folder(&args.output_dir, "faults");
    let chosen: Vec<_> = register
        .iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|own| own == name))
        .collect();
    // A failed step panics, and the runner silences the hook while it runs; runs side by side would put the loud one back
    // in the middle of each other.
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| {}));
    let rows: Result<Vec<Row>, Error> = futures::stream::iter(chosen)
        .map(|(name, fault)| {
            let unit = Unit {
                project: &project,
                binary: &binary,
                catalog: &catalog,
                folder: &folder,
                seed: args.seed,
                breadth: args.breadth,
            };
            async move { unit.row(name, fault, args.quiet).await }
        })
        .buffered(usize::from(args.jobs))
        .try_collect()
        .await;
    std::panic::set_hook(hook);
    let rows = rows?;
    let without = core_without_a_fault(&requirements, &catalog, &register);
    let text = matrix::render(&rows, &catalog, &without);
    // A closed terminal changes nothing about the matrix.
    let _ = anstream::stdout().write_all(text.as_bytes());
    if wanted.is_empty() {
        let score = score::of_matrix(&folder, &register, run::suite_of(&project, &binary)?)
            .map_err(|refused| Error::Setup(refused.to_string()))?;
        score::store(&args.output_dir, &score)?;
    }
    Ok(if rows.iter().any(|row| row.verdict.is_err()) {
        ExitCode::CheckFailed
    } else if without.is_empty() || !wanted.is_empty() {
        ExitCode::Conformant
    } else {
        ExitCode::Incomplete
    })
}

/// Core requirements that a scenario shows and no fault is there for.
fn core_without_a_fault(
    requirements: &Register,
    catalog: &Catalog,
    register: &FaultRegister,
) -> Vec<String> {
    let shown: BTreeSet<String> = catalog
        .scenarios()
        .flat_map(|(feature, scenario)| {
            crate::catalog::requirement_tags(feature.tags.iter().chain(&scenario.tags))
        })
        .collect();
    let has_fault = |id: &str| {
        register
            .iter()
            .any(|(_, fault)| fault.turns_red.iter().any(|own| own.0 == id))
    };
    requirements
        .iter()
        .filter(|requirement| requirement.level == Level::Core)
        .map(|requirement| requirement.id.clone())
        .filter(|id| shown.contains(id) && !has_fault(id))
        .collect()
}

/// What it takes to run one fault.
struct Unit<'a> {
    project: &'a Project,
    binary: &'a Path,
    catalog: &'a Catalog,
    folder: &'a Path,
    seed: u64,
    breadth: Breadth,
}

impl Unit<'_> {
    async fn row(&self, name: &str, fault: &SeededFault, quiet: bool) -> Result<Row, Error> {
        let folder = self.folder.join(name);
        let context = RunContext::new(
            self.project.clone(),
            self.binary.to_owned(),
            self.seed,
            vec![name.to_owned()],
            folder.clone(),
        )?;
        let options = run::Options {
            concurrency: 1,
            fail_fast: false,
            quiet: true,
            command: format!("containment run --seed {} --fault {name}", self.seed),
            ..run::Options::default()
        };
        let began = std::time::Instant::now();
        if run::record(&Arc::new(context), self.scenarios(fault), options).await? {
            return Err(Error::Setup("interrupted".to_owned()));
        }
        let report = report::write_files(&folder)?;
        let cells = cells(&report);
        let wanted: Vec<&str> = fault.turns_red.iter().map(|id| id.0.as_str()).collect();
        let verdict = judge(cells.get(&fault.scenario), &wanted);
        if !quiet {
            let word = match &verdict {
                Ok(ids) => format!("CAUGHT    {name} by {}", ids.join(" ")),
                Err(why) => format!("UNCAUGHT  {name}: {why}"),
            };
            // Progress; a closed terminal does not matter.
            let _ = writeln!(
                anstream::stderr(),
                "{word} ({:.1} s)",
                began.elapsed().as_secs_f64()
            );
        }
        Ok(Row {
            fault: name.to_owned(),
            component: fault.component,
            cells,
            verdict,
        })
    }

    fn scenarios(&self, fault: &SeededFault) -> Catalog {
        let mut speaking: BTreeMap<String, usize> = BTreeMap::new();
        for (feature, scenario) in self.catalog.scenarios() {
            for id in crate::catalog::requirement_tags(feature.tags.iter().chain(&scenario.tags)) {
                *speaking.entry(id).or_default() += 1;
            }
        }
        self.catalog.filtered(|tags, scenario| {
            let named = scenario.name == fault.scenario;
            let tagged = || {
                let rare = |id: &String| speaking.get(id).is_some_and(|&count| count <= COMMON);
                let turned = |id: &str| fault.turns_red.iter().any(|own| own.0 == id);
                tags.iter().any(|tag| turned(tag) && rare(tag))
                    && !tags.iter().any(|tag| tag == "npx")
            };
            match self.breadth {
                Breadth::Named => named,
                Breadth::Tagged => named || tagged(),
                Breadth::All => true,
            }
        })
    }
}

/// What each scenario of a run came to. Rows of an outline share a title; the gravest one speaks for all.
fn cells(report: &Report) -> BTreeMap<String, Cell> {
    let mut cells: BTreeMap<String, Cell> = BTreeMap::new();
    for scenario in &report.scenarios {
        let mut failed = BTreeSet::new();
        let mut passed: BTreeSet<String> = BTreeSet::new();
        let mut unproven: BTreeSet<&String> = BTreeSet::new();
        for check in &scenario.checks {
            match check.outcome {
                // An attack that succeeds is a finding: its scenario has none where nothing is broken.
                Outcome::Failed | Outcome::Finding => {
                    failed.extend(check.requirements.iter().cloned());
                }
                Outcome::Passed => passed.extend(check.requirements.iter().cloned()),
                _ => unproven.extend(&check.requirements),
            }
        }
        passed.retain(|id| !failed.contains(id) && !unproven.contains(id));
        let cell = Cell {
            outcome: scenario.outcome,
            failed,
            passed,
        };
        cells
            .entry(scenario.name.clone())
            .and_modify(|known| {
                known.outcome = Outcome::gravest([known.outcome, cell.outcome]);
                known.failed.extend(cell.failed.iter().cloned());
                known.passed.extend(cell.passed.iter().cloned());
                known.passed.retain(|id| !known.failed.contains(id));
            })
            .or_insert(cell);
    }
    cells
}

/// The requirements that caught a fault in the scenario that must turn red, or why none did.
fn judge(cell: Option<&Cell>, wanted: &[&str]) -> Result<Vec<String>, String> {
    let cell = cell.ok_or("its scenario did not run")?;
    let caught: Vec<String> = wanted
        .iter()
        .filter(|&&id| cell.failed.contains(id))
        .map(|&id| id.to_owned())
        .collect();
    if caught.is_empty() {
        let failed: Vec<&str> = cell.failed.iter().map(String::as_str).collect();
        let instead = if failed.is_empty() {
            String::new()
        } else {
            format!(", although {} failed", failed.join(" "))
        };
        return Err(format!(
            "its scenario {}, and no check of {} failed{instead}",
            match cell.outcome {
                Outcome::HarnessError => "broke the harness".to_owned(),
                outcome => format!("is {outcome}"),
            },
            wanted.join(" ")
        ));
    }
    match wanted.iter().find(|&&id| cell.passed.contains(id)) {
        Some(id) => Err(format!("{id} still passes")),
        None => Ok(caught),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rstest::rstest;

    fn cell(outcome: Outcome, failed: &[&str], passed: &[&str]) -> Cell {
        let set = |ids: &[&str]| ids.iter().map(|&id| id.to_owned()).collect();
        Cell {
            outcome,
            failed: set(failed),
            passed: set(passed),
        }
    }

    #[rstest]
    #[case::caught(Some(cell(Outcome::Failed, &["EGR-02"], &["EGR-01"])), Ok(vec!["EGR-02".to_owned()]))]
    #[case::never_ran(None, Err("did not run"))]
    #[case::green(Some(cell(Outcome::Passed, &[], &["EGR-02"])), Err("is passed, and no check of EGR-02 EGR-04 failed"))]
    #[case::other(Some(cell(Outcome::Failed, &["EGR-09"], &[])), Err("although EGR-09 failed"))]
    #[case::half(Some(cell(Outcome::Failed, &["EGR-02"], &["EGR-04"])), Err("EGR-04 still passes"))]
    #[case::broken(Some(cell(Outcome::HarnessError, &[], &[])), Err("broke the harness"))]
    #[case::unproven(Some(cell(Outcome::Inconclusive, &[], &[])), Err("is inconclusive"))]
    fn only_a_failed_requirement_catches(
        #[case] cell: Option<Cell>,
        #[case] expected: Result<Vec<String>, &str>,
    ) {
        match (judge(cell.as_ref(), &["EGR-02", "EGR-04"]), expected) {
            (Ok(ids), Ok(wanted)) => assert_eq!(ids, wanted),
            (Err(why), Err(part)) => assert!(why.contains(part), "{why}"),
            (found, wanted) => panic!("{found:?} instead of {wanted:?}"),
        }
    }
}
