//! The report of a run: a pure function of what was recorded while it ran.
//!
//! Owns the report's model and its renderings. It reads nothing but evidence folders and the
//! register of requirements, so that anybody who holds them can make the same report again.
//!
//! | module       | owns                                                |
//! |--------------|-----------------------------------------------------|
//! | [`model`]    | `containment.report/v1`, every field documented     |
//! | [`mod@build`] | from events to the model; pure                      |
//! | [`terminal`] | the summary that a newcomer reads                   |
//! | [`junit`]    | JUnit XML, failure and error kept apart             |

pub mod build;
pub mod junit;
pub mod model;
pub mod terminal;

use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(crate) use build::not_shown;
pub use build::{ScenarioEvidence, build};
pub use model::{Report, SCHEMA};

use crate::evidence::observe::read_events;
use crate::evidence::{self, Folder, Recorded, digest, folder};
use crate::outcome::ExitCode;
use crate::requirement::Register;

/// The folder below a run's folder that holds one evidence folder per scenario.
pub const SCENARIOS: &str = "scenarios";
/// The report as JSON.
pub const REPORT_JSON: &str = "report.json";
/// The report as JUnit XML.
pub const JUNIT_XML: &str = "junit.xml";

/// A report that cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The evidence cannot be read.
    #[error(transparent)]
    Evidence(#[from] evidence::Error),
    /// The report cannot be written.
    #[error("cannot write {}: {source}; check space and permissions of the output folder", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The JUnit report cannot be rendered.
    #[error("cannot render {JUNIT_XML}: {0}")]
    Junit(#[from] quick_junit::SerializeError),
}

/// Makes the report of the run in `run_folder` from its evidence: writes `report.json` and
/// `junit.xml` beside it, seals every scenario's folder with a manifest, and prints the summary,
/// with the proof of what passed or without.
pub fn publish(run_folder: &Path, register: &Register, details: bool) -> Result<ExitCode, Error> {
    let report = write_files(run_folder, register)?;
    let summary = terminal::render(&report, run_folder, details);
    // A closed terminal changes nothing about the run.
    let _ = anstream::stdout().write_all(summary.as_bytes());
    Ok(report.summary.exit_code())
}

/// [`publish`] without a word on the terminal.
pub fn write_files(run_folder: &Path, register: &Register) -> Result<Report, Error> {
    let (run, scenarios) = load(run_folder)?;
    for scenario in &scenarios {
        digest::write_manifest(&Folder::new(run_folder.join(&scenario.folder)))?;
    }
    let report = build(&run, &scenarios, register);
    let json = serde_json::to_string_pretty(&report).expect("invariant: a report is plain data");
    write(
        &run_folder.join(REPORT_JSON),
        format!("{json}\n").as_bytes(),
    )?;
    write(
        &run_folder.join(JUNIT_XML),
        junit::render(&report)?.as_bytes(),
    )?;
    Ok(report)
}

/// Reads a run's events, and those of its scenarios in the order of their folders' names.
pub fn load(run_folder: &Path) -> Result<(Vec<Recorded>, Vec<ScenarioEvidence>), Error> {
    let run = read_events(&run_folder.join(folder::RUN))?;
    let parent = run_folder.join(SCENARIOS);
    let mut scenarios = Vec::new();
    for name in folders_in(&parent)? {
        let below = Path::new(SCENARIOS).join(&name);
        let events = read_events(&run_folder.join(&below).join(folder::EVENTS))?;
        scenarios.push(ScenarioEvidence {
            folder: below.display().to_string(),
            events,
        });
    }
    Ok((run, scenarios))
}

fn folders_in(parent: &Path) -> Result<Vec<String>, Error> {
    let io = |source| evidence::Error::Io {
        action: "read",
        path: parent.to_owned(),
        source,
    };
    if !parent.exists() {
        // Nothing was started.
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(parent).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().map_err(io)?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
