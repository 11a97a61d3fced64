//! Node.js on this machine, of which the image of npx servers is made: the embedded tier brings no Node of its own.
//!
//! Programs are found as a shell finds them, in `PATH`; where they lead to decides what a container must see.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

/// Where Node is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeJs {
    /// Folders that hold `node` and `npx`, as `PATH` names them.
    folders: Vec<PathBuf>,
    /// The installations that these programs are part of.
    installations: Vec<PathBuf>,
}

/// What is missing, with the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "npx servers run on this machine's Node.js, and there is no program {program} in PATH; install Node.js 18 or newer with npm"
)]
pub struct Missing {
    program: &'static str,
}

/// Node in the `PATH` of this process.
///
/// # Errors
/// [`Missing`] when a program isn't there.
pub fn find() -> Result<NodeJs, Missing> {
    find_in(&std::env::var_os("PATH").unwrap_or_default())
}

fn find_in(path: &OsStr) -> Result<NodeJs, Missing> {
    let mut found = NodeJs {
        folders: Vec::new(),
        installations: Vec::new(),
    };
    for program in ["node", "npm", "npx"] {
        let folders = std::env::split_paths(path).filter(|folder| folder.is_absolute());
        let (folder, target) = folders
            .filter_map(|folder| {
                let target = folder.join(program).canonicalize().ok()?;
                target.is_file().then_some((folder, target))
            })
            .next()
            .ok_or(Missing { program })?;
        push(&mut found.folders, folder.clone());
        push(&mut found.installations, installation(&folder));
        if let Some(bin) = target.parent() {
            push(&mut found.installations, installation(bin));
        }
    }
    Ok(found)
}

impl NodeJs {
    /// `PATH` with Node in it, behind what is there already.
    pub fn path(&self, own: &str) -> String {
        let folders = self.folders.iter().map(|folder| folder.to_string_lossy());
        let more = folders.filter(|folder| !own.split(':').any(|known| known == folder));
        more.fold(own.to_owned(), |path, folder| format!("{path}:{folder}"))
    }

    /// Directories that a container must see.
    pub fn directories(&self) -> Vec<PathBuf> {
        self.installations.clone()
    }
}

/// Everything around a `bin` folder: libraries lie beside it. The root of the file system is no installation.
fn installation(folder: &Path) -> PathBuf {
    match folder.parent() {
        Some(parent) if folder.ends_with("bin") && parent.parent().is_some() => parent.to_owned(),
        _ => folder.to_owned(),
    }
}

fn push(list: &mut Vec<PathBuf>, path: PathBuf) {
    if !list.iter().any(|known| path.starts_with(known)) {
        list.push(path);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    /// An installation beside the system's own, with npm's programs as links into its library.
    fn installed(at: &Path) {
        let (bin, npm) = (at.join("bin"), at.join("lib/node_modules/npm/bin"));
        std::fs::create_dir_all(&bin).unwrap();
        std::fs::create_dir_all(&npm).unwrap();
        std::fs::write(bin.join("node"), "").unwrap();
        for program in ["npm", "npx"] {
            let script = npm.join(format!("{program}-cli.js"));
            std::fs::write(&script, "").unwrap();
            std::os::unix::fs::symlink(&script, bin.join(program)).unwrap();
        }
    }

    #[test]
    fn an_installation_is_seen_as_a_whole_and_comes_last_in_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let node = folder.path().canonicalize().unwrap().join("node/20");
        installed(&node);
        let path =
            std::env::join_paths([Path::new("relative"), Path::new("/none"), &node.join("bin")]);
        let found = find_in(&path.unwrap()).unwrap();
        assert_eq!(found.directories(), std::slice::from_ref(&node));
        let expected = format!("/app/bin:/bin:{}", node.join("bin").display());
        assert_eq!(found.path("/app/bin:/bin"), expected);
        assert_eq!(found.path(&expected), expected);
    }

    #[test]
    fn what_is_missing_is_named() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("node"), "").unwrap();
        let error = find_in(folder.path().as_os_str()).unwrap_err();
        assert_eq!(error, Missing { program: "npm" });
        assert!(
            find_in(OsStr::new(""))
                .unwrap_err()
                .to_string()
                .contains("no program node in PATH")
        );
    }
}
