//! The program as a process, in a copy of the project's data that a test may break.

#![allow(clippy::unwrap_used, dead_code, unreachable_pub)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// A copy of the project's data that a test may break.
pub struct Project(pub tempfile::TempDir);

impl Project {
    pub fn new() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
        let copy = tempfile::tempdir().unwrap();
        for folder in ["features", "scenarios"] {
            copy_folder(&root.join(folder), &copy.path().join(folder));
        }
        Self(copy)
    }

    pub fn edit(&self, file: &str, from: &str, to: &str) {
        let path = self.0.path().join(file);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file} holds no {from:?}");
        std::fs::write(path, text.replacen(from, to, 1)).unwrap();
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_containment"));
        command
            .current_dir(self.0.path())
            .args(arguments)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, arguments: &[&str]) -> (Option<i32>, String) {
        finish(self.command(arguments))
    }

    /// The folder of the last run that was made.
    pub fn last_run(&self) -> PathBuf {
        let mut runs = entries(&self.0.path().join("containment-results"));
        runs.retain(|path| path.is_dir());
        runs.sort();
        runs.pop().unwrap()
    }

    /// Folders of the scenarios of that run.
    pub fn evidence(&self) -> Vec<PathBuf> {
        entries(&self.last_run().join("scenarios"))
    }
}

pub fn finish(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text)
}

pub fn entries(folder: &Path) -> Vec<PathBuf> {
    std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect()
}

pub fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for path in entries(from) {
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, target).unwrap();
        }
    }
}

/// A process below `ancestor` whose command line holds `words`.
pub fn descendant_running(ancestor: u32, words: &str) -> Option<u32> {
    let all = entries(Path::new("/proc"))
        .into_iter()
        .filter_map(|path| path.file_name()?.to_str()?.parse::<u32>().ok());
    all.filter(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(words)
    })
    .find(|&pid| {
        let parents = std::iter::successors(Some(pid), |&pid| parent_of(pid));
        parents.skip(1).take(64).any(|pid| pid == ancestor)
    })
}

fn parent_of(pid: u32) -> Option<u32> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let parent = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
    parent.trim().parse().ok()
}
