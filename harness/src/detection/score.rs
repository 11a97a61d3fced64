//! The score of the fault matrix: how many seeded faults the scenarios catch. It goes into every report of a run with the
//! same scenarios and the same program, and into no other.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use super::Row;
use crate::project::Project;
use crate::run::Error;

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
    /// When it was measured.
    pub at: Timestamp,
    /// SHA-256 over the features, the scenarios' data and the identity of the program.
    pub measured_with: String,
}

impl Score {
    pub(super) fn of(rows: &[Row], project: &Project, binary: &Path) -> Self {
        let uncaught: Vec<String> = rows
            .iter()
            .filter(|row| row.verdict.is_err())
            .map(|row| row.fault.clone())
            .collect();
        Self {
            seeded: rows.len(),
            caught: rows.len() - uncaught.len(),
            uncaught,
            at: Timestamp::now(),
            measured_with: fingerprint(project, binary),
        }
    }
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

/// The last score in an output folder, if it was measured with these scenarios and this program.
pub fn current(output: &Path, project: &Project, binary: &Path) -> Option<Score> {
    let text = std::fs::read(output.join(FILE)).ok()?;
    let score: Score = serde_json::from_slice(&text).ok()?;
    (score.measured_with == fingerprint(project, binary)).then_some(score)
}

pub(super) fn store(output: &Path, score: &Score) -> Result<(), Error> {
    let path = output.join(FILE);
    let json = serde_json::to_string_pretty(score).expect("invariant: a score is plain data");
    std::fs::create_dir_all(output)
        .and_then(|()| std::fs::write(&path, format!("{json}\n")))
        .map_err(|error| Error::Setup(format!("cannot write {}: {error}", path.display())))
}

/// Content of the data files; size and time of the program, whose content is too large to read for each run.
fn fingerprint(project: &Project, binary: &Path) -> String {
    let mut files = Vec::new();
    for folder in [project.features(), project.scenarios()] {
        collect(&folder, &mut files);
    }
    files.sort();
    let mut digest = Sha256::new();
    for file in files {
        digest.update(file.to_string_lossy().as_bytes());
        digest.update(std::fs::read(&file).unwrap_or_default());
    }
    if let Ok(program) = std::fs::metadata(binary) {
        let changed = program
            .modified()
            .ok()
            .and_then(|at| at.duration_since(UNIX_EPOCH).ok())
            .unwrap_or_default();
        digest.update(program.len().to_le_bytes());
        digest.update(changed.as_nanos().to_le_bytes());
    }
    digest
        .finalize()
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, files);
        } else {
            files.push(path);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_score_is_of_use_until_something_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        for name in ["features", "scenarios"] {
            std::fs::create_dir(path(name)).unwrap();
        }
        std::fs::write(path("features/a.feature"), "Feature: a").unwrap();
        std::fs::write(path("program"), "1").unwrap();
        let project = Project::find(Some(folder.path())).unwrap();
        let score = Score::of(&[], &project, &path("program"));
        let output = path("results");
        assert_eq!(current(&output, &project, &path("program")), None);
        store(&output, &score).unwrap();
        assert_eq!(
            current(&output, &project, &path("program")),
            Some(score.clone())
        );
        std::fs::write(path("features/a.feature"), "Feature: b").unwrap();
        assert_eq!(current(&output, &project, &path("program")), None);
        std::fs::write(path("features/a.feature"), "Feature: a").unwrap();
        assert_eq!(current(&output, &project, &path("program")), Some(score));
        std::fs::write(path("program"), "22").unwrap();
        assert_eq!(current(&output, &project, &path("program")), None);
    }
}
