//! The score of the fault matrix: how many seeded faults the scenarios catch. It goes into every report of a run with the
//! same scenarios and the same program, and into no other.
//!
//! A stored score is never believed: its numbers are counted again from the reports of its matrix, whose folders it names
//! by digest. One that says anything else is refused, in words.

use std::fmt;
use std::path::Path;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{cells, judge};
use crate::evidence::folder::MANIFEST;
use crate::evidence::{self, Folder, Suite, digest};
use crate::fault::{FaultRegister, SeededFault};
use crate::project::Project;
use crate::report::{REPORT_JSON, Report};
use crate::run::{Error, suite_of};

/// File of the last whole matrix, in the output folder.
const FILE: &str = "detection.json";

/// What a whole fault matrix came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Score {
    /// Faults that were seeded.
    pub seeded: usize,
    /// Faults that the scenario which must catch them caught.
    pub caught: usize,
    /// Names of the others.
    pub uncaught: Vec<String>,
    /// When the first run of the matrix started.
    pub at: Timestamp,
    /// Digests of features, scenarios' data and program.
    pub measured_with: Suite,
    /// Name of the matrix' folder, in the output folder.
    pub matrix: String,
    /// SHA-256 over the digests of the manifests of the matrix' runs, one run per fault.
    pub matrix_sha256: String,
}

impl fmt::Display for Score {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} of {} seeded faults caught, measured {}",
            self.caught,
            self.seeded,
            self.at.strftime("%Y-%m-%d %H:%M UTC")
        )?;
        if !self.uncaught.is_empty() {
            write!(f, "; uncaught: {}", self.uncaught.join(" "))?;
        }
        Ok(())
    }
}

/// Why a score is not shown.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// The file of the score.
    #[error("{FILE} is no score of this version: {0}; `containment faults` measures it again")]
    Unreadable(String),
    /// What a run is made with.
    #[error(transparent)]
    Suite(#[from] crate::project::Error),
    /// Evidence of the matrix.
    #[error("{matrix} does not bear it out: {message}; `containment faults` measures it again")]
    Matrix {
        /// Name of the matrix' folder.
        matrix: String,
        /// What is missing or different.
        message: String,
    },
    /// Numbers that the matrix does not give.
    #[error(
        "{FILE} says {stated}, and the evidence of its matrix {matrix} says {counted}; `containment faults` measures it again"
    )]
    Edited {
        /// What the file says.
        stated: String,
        /// What the matrix' reports come to.
        counted: String,
        /// Name of the matrix' folder.
        matrix: String,
    },
}

/// The last score in an output folder; none when there is none, or it was measured with other scenarios or another program.
///
/// # Errors
/// [`Refused`] when the file is broken or its matrix does not bear it out.
pub fn current(output: &Path, project: &Project, binary: &Path) -> Result<Option<Score>, Refused> {
    let Ok(text) = std::fs::read(output.join(FILE)) else {
        return Ok(None);
    };
    let score: Score =
        serde_json::from_slice(&text).map_err(|error| Refused::Unreadable(error.to_string()))?;
    let suite = suite_of(project, binary).map_err(|error| Refused::Matrix {
        matrix: score.matrix.clone(),
        message: error.to_string(),
    })?;
    if score.measured_with != suite {
        return Ok(None);
    }
    if Path::new(&score.matrix).components().count() != 1 {
        return Err(Refused::Unreadable(format!(
            "matrix is {:?}, expected the name of a folder",
            score.matrix
        )));
    }
    let register = project.fault_register()?;
    let counted = of_matrix(&output.join(&score.matrix), &register, suite)?;
    if counted != score {
        return Err(Refused::Edited {
            stated: in_words(&score),
            counted: in_words(&counted),
            matrix: score.matrix,
        });
    }
    Ok(Some(score))
}

fn in_words(score: &Score) -> String {
    format!("{score}, evidence sha256:{:.12}", score.matrix_sha256)
}

pub(super) fn store(output: &Path, score: &Score) -> Result<(), Error> {
    let path = output.join(FILE);
    let json = serde_json::to_string_pretty(score).expect("invariant: a score is plain data");
    std::fs::create_dir_all(output)
        .and_then(|()| std::fs::write(&path, format!("{json}\n")))
        .map_err(|error| Error::Setup(format!("cannot write {}: {error}", path.display())))
}

/// Counts the score of the matrix in `folder` from its runs: one per registered fault, each with the suite that is named.
///
/// # Errors
/// [`Refused::Matrix`] when a run is missing, is about something else, or its report is not the one that its manifest lists.
pub(super) fn of_matrix(
    folder: &Path,
    register: &FaultRegister,
    suite: Suite,
) -> Result<Score, Refused> {
    let matrix = folder
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let refuse = |message: String| Refused::Matrix {
        matrix: matrix.clone(),
        message,
    };
    let mut digests = String::new();
    let mut uncaught = Vec::new();
    let mut at: Option<Timestamp> = None;
    for (name, fault) in register.iter() {
        let run = Folder::new(folder.join(name));
        let row = row(&run, name, fault, &suite).map_err(|why| refuse(format!("{name}: {why}")))?;
        digests.push_str(&format!("{}  {name}/{MANIFEST}\n", row.manifest));
        at = Some(at.map_or(row.started_at, |at| at.min(row.started_at)));
        if !row.caught {
            uncaught.push(name.to_owned());
        }
    }
    let seeded = register.iter().count();
    Ok(Score {
        seeded,
        caught: seeded - uncaught.len(),
        uncaught,
        at: at.ok_or_else(|| refuse("no fault is registered".to_owned()))?,
        measured_with: suite,
        matrix_sha256: digest::text_digest(digests.as_bytes()),
        matrix,
    })
}

struct Row {
    manifest: String,
    started_at: Timestamp,
    caught: bool,
}

fn row(run: &Folder, name: &str, fault: &SeededFault, suite: &Suite) -> Result<Row, String> {
    let words = |error: evidence::Error| error.to_string();
    let manifest = run.file(MANIFEST);
    let text = std::fs::read_to_string(&manifest)
        .map_err(|error| format!("{MANIFEST} cannot be read: {error}"))?;
    let listed = digest::parse_manifest(&manifest, &text).map_err(words)?;
    let json = std::fs::read(run.file(REPORT_JSON))
        .map_err(|error| format!("{REPORT_JSON} cannot be read: {error}"))?;
    let found = digest::text_digest(&json);
    let expected = listed.get(Path::new(REPORT_JSON));
    if expected != Some(&found) {
        return Err(format!(
            "{REPORT_JSON} is not the one that {MANIFEST} lists"
        ));
    }
    let report: Report =
        serde_json::from_slice(&json).map_err(|error| format!("{REPORT_JSON}: {error}"))?;
    if report.run.faults != [name] {
        return Err(format!(
            "its run was made with the faults {:?}",
            report.run.faults
        ));
    }
    if report.run.suite != *suite {
        return Err("its run was made with another suite or program".to_owned());
    }
    let wanted: Vec<&str> = fault.turns_red.iter().map(|id| id.0.as_str()).collect();
    Ok(Row {
        manifest: digest::text_digest(text.as_bytes()),
        started_at: report.run.started_at,
        caught: judge(cells(&report).get(&fault.scenario), &wanted).is_ok(),
    })
}

#[cfg(test)]
mod tests;
