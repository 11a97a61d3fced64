//! What travels between the node agent and the helper: plain data, JSON plus raw file contents.

use std::io::Write as _;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// One process to run, in a sandbox of its own (pod-init) or in an existing one (pod-exec).
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Launch {
    /// Arguments; the first is looked up in `PATH` of `env` unless it contains a slash.
    pub argv: Vec<String>,
    /// The whole environment of the process.
    pub env: Vec<(String, String)>,
    /// Working directory inside the root; `/` when none.
    pub working_dir: Option<PathBuf>,
    pub hostname: String,
    pub user: u32,
    pub group: u32,
    pub supplementary_groups: Vec<u32>,
    /// Standard input, output and error are one terminal.
    pub terminal: bool,
    /// The root to build; pod-exec finds it built.
    pub root: RootSpec,
}

/// Everything that the read-only root consists of.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct RootSpec {
    /// Host files and directories, visible read-only.
    pub binds: Vec<Bind>,
    /// Symbolic links: path and target.
    pub links: Vec<(PathBuf, PathBuf)>,
    pub files: Vec<FileSpec>,
    /// emptyDir volumes: name of the volume (unique on the node) and where it is mounted.
    pub empty_dirs: Vec<(String, PathBuf)>,
}

/// A host path shown at a path of the root.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Bind {
    pub source: PathBuf,
    pub target: PathBuf,
}

/// A file with contents given by the node agent: /etc, Secrets, ConfigMaps, tokens.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct FileSpec {
    pub path: PathBuf,
    pub mode: u32,
    /// Group that owns the file (`fsGroup`); 0 when none.
    pub group: u32,
    #[serde(skip)]
    pub contents: Vec<u8>,
    /// Length of the contents, which follow the JSON in the order of `RootSpec::files`.
    length: usize,
}

impl FileSpec {
    pub fn new(path: impl Into<PathBuf>, mode: u32, contents: impl Into<Vec<u8>>) -> Self {
        let contents = contents.into();
        Self {
            path: path.into(),
            mode,
            group: 0,
            length: contents.len(),
            contents,
        }
    }
}

/// The first message to the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Envelope {
    /// Process id of the harness: a helper with another parent has lost the race against its death.
    pub(super) harness: u32,
    /// Directory that holds the roots' mount point and the emptyDir volumes, in the node's mount namespace.
    pub(super) scratch: PathBuf,
    pub(super) launch: Launch,
}

impl Envelope {
    /// Length of the JSON (8 bytes, little endian), JSON, file contents.
    pub(super) fn write(&self, to: &mut impl std::io::Write) -> std::io::Result<()> {
        let json = serde_json::to_vec(self).map_err(std::io::Error::other)?;
        let mut to = std::io::BufWriter::new(to);
        to.write_all(&(json.len() as u64).to_le_bytes())?;
        to.write_all(&json)?;
        for file in &self.launch.root.files {
            to.write_all(&file.contents)?;
        }
        to.flush()
    }

    pub(super) fn read(bytes: &[u8]) -> std::io::Result<Self> {
        let short = || std::io::Error::from(std::io::ErrorKind::UnexpectedEof);
        let (length, rest) = bytes.split_first_chunk::<8>().ok_or_else(short)?;
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(std::io::Error::other)?;
        let (json, mut rest) = rest.split_at_checked(length).ok_or_else(short)?;
        let mut envelope: Self = serde_json::from_slice(json)?;
        for file in &mut envelope.launch.root.files {
            let (contents, after) = rest.split_at_checked(file.length).ok_or_else(short)?;
            file.contents = contents.to_vec();
            rest = after;
        }
        Ok(envelope)
    }
}

/// What the helper reports, one JSON object a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(super) enum Status {
    /// The image runs. `pid` is the host's number for it; its pidfd comes along.
    Started { pid: i32 },
    /// The image never ran.
    Failed { step: String, message: String },
    /// It ended: exactly one of the two is set.
    Exited {
        code: Option<i32>,
        signal: Option<i32>,
    },
}

/// A failed step inside the helper.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) step: String,
    pub(super) source: std::io::Error,
}

/// Names the step that an error interrupts.
pub(super) trait Step<T> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T, Failure>;
}

impl<T, E: Into<std::io::Error>> Step<T> for Result<T, E> {
    fn step(self, name: impl FnOnce() -> String) -> Result<T, Failure> {
        self.map_err(|source| Failure {
            step: name(),
            source: source.into(),
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn contents_survive_the_journey() {
        let files = vec![
            FileSpec::new("/a", 0o644, "first"),
            FileSpec::new("/empty", 0o644, ""),
            FileSpec::new("/b", 0o400, vec![0, 159, 146, 150]),
        ];
        let launch = Launch {
            root: RootSpec {
                files,
                ..RootSpec::default()
            },
            ..Launch::default()
        };
        let envelope = Envelope {
            harness: 7,
            scratch: "/scratch".into(),
            launch,
        };
        let mut bytes = Vec::new();
        envelope.write(&mut bytes).unwrap();

        let read = Envelope::read(&bytes).unwrap();
        let contents: Vec<_> = read
            .launch
            .root
            .files
            .iter()
            .map(|file| file.contents.clone())
            .collect();
        assert_eq!(
            contents,
            [b"first".to_vec(), Vec::new(), vec![0, 159, 146, 150]]
        );
        assert!(
            Envelope::read(&bytes[..bytes.len() - 1]).is_err(),
            "a cut specification is refused"
        );
    }
}
