//! The SHA-256 manifest of an evidence folder, in the format of `sha256sum`, so that anybody can
//! check a folder without this tool.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::folder::MANIFEST;
use super::{Error, Folder};

/// Writes `SHA256SUMS` over every other file of the folder, in order of their names.
pub fn write_manifest(folder: &Folder) -> Result<(), Error> {
    let path = folder.file(MANIFEST);
    std::fs::write(&path, manifest(folder)?).map_err(|source| Error::Io {
        action: "write",
        path,
        source,
    })
}

/// The manifest's text.
pub fn manifest(folder: &Folder) -> Result<String, Error> {
    let mut files = Vec::new();
    collect(folder.path(), Path::new(""), &mut files)?;
    files.sort();
    let mut text = String::new();
    for file in files
        .iter()
        .filter(|file| file.as_path() != Path::new(MANIFEST))
    {
        let path = folder.path().join(file);
        let digest = file_digest(&path)?;
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{digest}  {}", file.display());
    }
    Ok(text)
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
        if entry.file_type().map_err(io)?.is_dir() {
            collect(root, &name, files)?;
        } else {
            files.push(name);
        }
    }
    Ok(())
}

fn file_digest(path: &Path) -> Result<String, Error> {
    let io = |source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut hasher = Sha256::new();
    std::io::copy(&mut file, &mut HashWriter(&mut hasher)).map_err(io)?;
    let mut text = String::with_capacity(64);
    for byte in hasher.finalize() {
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text)
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
