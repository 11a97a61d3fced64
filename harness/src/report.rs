//! The report of a run: a pure function of what was recorded while it ran.
//!
//! Owns the report's model and its renderings. It reads nothing but the run's folder, which holds the suite that the run
//! was made with, so that anybody who holds the folder can make the same report again.
//!
//! | module       | owns                                                |
//! |--------------|-----------------------------------------------------|
//! | [`model`]    | `containment.report/v1`, every field documented     |
//! | [`mod@build`] | from events to the model; pure                      |
//! | [`terminal`] | the summary that a newcomer reads                   |
//! | [`foreign`]  | text of others, made safe for terminals and XML     |
//! | [`junit`]    | JUnit XML, failure and error kept apart             |
//! | [`rebuilt`]  | `containment report`: made again from the evidence  |
//! | [`verify`]   | `containment verify`: digests, order, consistency   |

pub mod build;
pub mod foreign;
pub mod junit;
pub mod model;
pub mod rebuilt;
pub mod terminal;
pub mod verify;

use std::io::Write as _;
use std::path::{Path, PathBuf};

pub(crate) use build::not_shown;
pub use build::{ScenarioEvidence, build};
pub use model::{Report, SCHEMA};

use crate::evidence::observe::read_events;
use crate::evidence::{self, Event, Folder, digest, folder};
use crate::outcome::ExitCode;
use crate::requirement::Register;
use crate::scenario_data;

impl Error {
    /// What is read is the user's to name; what can't be written is a fault of the machine.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Evidence(_) | Self::Suite(_) => ExitCode::Usage,
            Self::Differs { .. } => ExitCode::CheckFailed,
            Self::Write { .. } | Self::Junit(_) => ExitCode::HarnessFault,
        }
    }
}

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
    /// The register of requirements in the run's folder cannot be read.
    #[error(
        "{0}\n  expected: the folder of a run of this version, as `containment run` leaves it in its output folder"
    )]
    Suite(#[from] scenario_data::Error),
    /// A report that stands in the folder is not the one that the evidence makes.
    #[error(
        "{} is not what the evidence makes and is left as it is; `containment verify` shows the difference, --output-dir writes the rebuilt report elsewhere",
        path.display()
    )]
    Differs {
        /// The file.
        path: PathBuf,
    },
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

/// A report with its renderings.
#[derive(Debug)]
pub struct Rebuilt {
    /// The report.
    pub report: Report,
    /// `report.json`, byte for byte.
    pub json: String,
    /// `junit.xml`, byte for byte.
    pub junit: String,
    /// Whether the terminal shows the proof of every scenario.
    pub details: bool,
}

impl Rebuilt {
    /// The files below the run's folder that hold the report.
    fn files(&self) -> [(&'static str, &str); 2] {
        [(REPORT_JSON, &self.json), (JUNIT_XML, &self.junit)]
    }

    /// Prints the summary; `run_folder` is how the folder is named in it.
    pub fn print(&self, run_folder: &Path, details: bool) {
        let mut summary = terminal::render(&self.report, run_folder, details);
        if let Ok(digest) = digest::file_digest(&run_folder.join(folder::MANIFEST)) {
            summary.push_str(&format!(
                "Digest: sha256:{digest}; `containment verify` checks the folder against it\n"
            ));
        }
        // A closed terminal changes nothing about the run.
        let _ = anstream::stdout().write_all(summary.as_bytes());
    }
}

/// Makes the report of the run in `run_folder` from its evidence: writes `report.json` and `junit.xml` beside it, seals
/// the folder with manifests, and prints the summary.
pub fn publish(run_folder: &Path) -> Result<ExitCode, Error> {
    let rebuilt = write_and_seal(run_folder)?;
    rebuilt.print(run_folder, rebuilt.details);
    Ok(rebuilt.report.summary.exit_code())
}

/// [`publish`] without a word on the terminal.
pub fn write_files(run_folder: &Path) -> Result<Report, Error> {
    Ok(write_and_seal(run_folder)?.report)
}

fn write_and_seal(run_folder: &Path) -> Result<Rebuilt, Error> {
    let rebuilt = rebuild(run_folder)?;
    for (name, text) in rebuilt.files() {
        write(&run_folder.join(name), text.as_bytes())?;
    }
    digest::seal(&Folder::new(run_folder))?;
    Ok(rebuilt)
}

/// Makes the report of the run in `run_folder` again: a pure function of what the folder holds.
pub fn rebuild(run_folder: &Path) -> Result<Rebuilt, Error> {
    let folder = Folder::new(run_folder);
    let register = Register::load(&folder.file(folder::SUITE).join("scenarios"))?;
    let run = read_events(&folder.file(folder::RUN))?;
    let mut scenarios = Vec::new();
    for name in digest::scenario_folders(&folder)? {
        let below = Path::new(folder::SCENARIOS).join(&name);
        let scenario = Folder::new(run_folder.join(&below));
        scenarios.push(ScenarioEvidence {
            events: read_events(&scenario.file(folder::EVENTS))?,
            sha256: digest::folder_digest(&scenario)?,
            folder: below.display().to_string(),
        });
    }
    let report = build(&run, &scenarios, &register);
    let json = serde_json::to_string_pretty(&report).expect("invariant: a report is plain data");
    let details = run
        .iter()
        .any(|recorded| matches!(&recorded.event, Event::RunStarted(started) if started.details));
    Ok(Rebuilt {
        json: format!("{json}\n"),
        junit: junit::render(&report)?,
        report,
        details,
    })
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    std::fs::write(path, bytes).map_err(|source| Error::Write {
        path: path.to_owned(),
        source,
    })
}

#[cfg(test)]
mod tests;
