//! SHA-256 digests: of a file, of a folder, and the manifests of a run in the format of `sha256sum`, so that anybody can
//! check a run without this tool.
//!
//! Two levels: each scenario's folder has a manifest of its files; the run's folder has one over everything else, which
//! also lists the scenarios' manifests. A digest detects a change only for a reader who has it from elsewhere: whoever
//! edits the evidence can recompute every manifest. That takes a signature, which digests are not.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock, PoisonError};

use sha2::{Digest as _, Sha256};

use super::folder::{MANIFEST, SCENARIOS};
use super::{Error, Folder};

/// Writes `SHA256SUMS` over every other file of the folder, in order of their names.
pub fn write_manifest(folder: &Folder) -> Result<(), Error> {
    write(folder, &manifest(folder)?)
}

/// Writes the manifests of a run: one in each scenario's folder, then one over everything else and over those.
pub fn seal(run: &Folder) -> Result<(), Error> {
    for name in scenario_folders(run)? {
        write_manifest(&Folder::new(run.path().join(SCENARIOS).join(name)))?;
    }
    write(run, &run_manifest(run)?)
}

fn write(folder: &Folder, text: &str) -> Result<(), Error> {
    let path = folder.file(MANIFEST);
    std::fs::write(&path, text).map_err(|source| Error::Io {
        action: "write",
        path,
        source,
    })
}

/// The manifest of a scenario's folder.
pub fn manifest(folder: &Folder) -> Result<String, Error> {
    let files = files(folder)?;
    sums(
        folder,
        files
            .iter()
            .filter(|file| file.as_path() != Path::new(MANIFEST)),
    )
}

/// The manifest of a run's folder. Of a scenario's folder it lists the manifest alone.
pub fn run_manifest(run: &Folder) -> Result<String, Error> {
    let files = files(run)?;
    sums(run, files.iter().filter(|file| in_run_manifest(file)))
}

/// Whether the run's manifest lists this file, by its path below the run's folder.
#[must_use]
pub fn in_run_manifest(file: &Path) -> bool {
    if file == Path::new(MANIFEST) {
        return false;
    }
    match file.strip_prefix(SCENARIOS) {
        Ok(below) => below.components().count() == 2 && below.ends_with(MANIFEST),
        Err(_) => true,
    }
}

fn sums<'a>(folder: &Folder, files: impl Iterator<Item = &'a PathBuf>) -> Result<String, Error> {
    let mut text = String::new();
    for file in files {
        let digest = file_digest(&folder.path().join(file))?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{digest}  {}", file.display());
    }
    Ok(text)
}

/// One digest for a whole folder: that of the text that [`manifest`] makes of it.
pub fn folder_digest(folder: &Folder) -> Result<String, Error> {
    Ok(text_digest(manifest(folder)?.as_bytes()))
}

/// Digests by file, from the text of a manifest at `path`.
pub fn parse_manifest(path: &Path, text: &str) -> Result<BTreeMap<PathBuf, String>, Error> {
    let mut digests = BTreeMap::new();
    for (index, line) in text.lines().enumerate() {
        let is_digest = |digest: &str| {
            digest.len() == 64 && digest.bytes().all(|byte| byte.is_ascii_hexdigit())
        };
        match line.split_once("  ") {
            Some((digest, file)) if is_digest(digest) => {
                digests.insert(PathBuf::from(file), digest.to_owned());
            }
            _ => {
                return Err(Error::Manifest {
                    path: path.to_owned(),
                    line: index + 1,
                });
            }
        }
    }
    Ok(digests)
}

/// Names of the scenarios' folders, in order. None: nothing was started.
pub fn scenario_folders(run: &Folder) -> Result<Vec<String>, Error> {
    let parent = run.file(SCENARIOS);
    let io = |source| Error::Io {
        action: "read",
        path: parent.clone(),
        source,
    };
    if !parent.exists() {
        return Ok(Vec::new());
    }
    let mut names = Vec::new();
    for entry in std::fs::read_dir(&parent).map_err(io)? {
        let entry = entry.map_err(io)?;
        if entry.file_type().map_err(io)?.is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Every file below a folder, relative to it, in order. A link, a pipe or a device is an error: reading one may never end.
pub fn files(folder: &Folder) -> Result<Vec<PathBuf>, Error> {
    let mut files = Vec::new();
    collect(folder.path(), Path::new(""), &mut files)?;
    files.sort();
    Ok(files)
}

fn collect(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> Result<(), Error> {
    let path = root.join(below);
    let io = |source| Error::Io {
        action: "read",
        path: path.clone(),
        source,
    };
    for entry in std::fs::read_dir(&path).map_err(io)? {
        let entry = entry.map_err(io)?;
        let name = below.join(entry.file_name());
        let kind = entry.file_type().map_err(io)?;
        if kind.is_dir() {
            collect(root, &name, files)?;
        } else if kind.is_file() {
            files.push(name);
        } else {
            return Err(Error::NotPlain {
                path: root.join(name),
            });
        }
    }
    Ok(())
}

/// The digest of a program, remembered within this process for as long as its inode, size and time of change stay.
pub fn program_digest(path: &Path) -> Result<String, Error> {
    type Identity = (u64, u64, u64, i64, i64);
    static KNOWN: OnceLock<Mutex<HashMap<Identity, String>>> = OnceLock::new();
    let metadata = std::fs::metadata(path).map_err(|source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let identity = (
        metadata.dev(),
        metadata.ino(),
        metadata.size(),
        metadata.mtime(),
        metadata.mtime_nsec(),
    );
    let mut known = KNOWN
        .get_or_init(Mutex::default)
        .lock()
        .unwrap_or_else(PoisonError::into_inner);
    if let Some(digest) = known.get(&identity) {
        return Ok(digest.clone());
    }
    let digest = file_digest(path)?;
    known.insert(identity, digest.clone());
    Ok(digest)
}

/// The digest of a file, in hex.
pub fn file_digest(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut hasher)).map_err(io)?;
    Ok(hex(&hasher.finalize()))
}

/// The digest of a text, in hex.
#[must_use]
pub fn text_digest(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

struct HashWriter<'a>(&'a mut Sha256);

impl std::io::Write for HashWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_manifest_covers_every_file_but_itself() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::new(scratch.path());
        std::fs::create_dir(folder.file("pods")).unwrap();
        std::fs::write(folder.file("pods/a.log"), "abc").unwrap();
        std::fs::write(folder.file("events.jsonl"), "").unwrap();
        write_manifest(&folder).unwrap();
        write_manifest(&folder).unwrap();
        let text = std::fs::read_to_string(folder.file(MANIFEST)).unwrap();
        // The digests of "" and "abc" as FIPS 180-4 gives them.
        insta::assert_snapshot!(text, @r"
        e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  events.jsonl
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad  pods/a.log
        ");
    }
}
