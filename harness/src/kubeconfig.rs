//! Where `containment up` puts its kubeconfig, which holds a cluster administrator's token.
//!
//! Without `--kubeconfig` it is a file of mode 0600 in a folder of mode 0700, removed at the end. With it, cluster, user
//! and context `containment` are merged into the file and taken out again at the end, as kind does; while they are in it
//! the file has mode 0600. The file is locked as client-go locks it (`<file>.lock`), and replaced in one step. YAML
//! comments do not survive, as with kubectl.

use std::fs::Permissions;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use serde_yaml::{Mapping, Value};

/// Name of the cluster, the user and the context in a merged file.
const NAME: &str = "containment";
/// Lists of a kubeconfig, with the field that holds an entry's content.
const LISTS: [(&str, &str); 3] = [
    ("clusters", "cluster"),
    ("users", "user"),
    ("contexts", "context"),
];
const CURRENT: &str = "current-context";

/// Why no kubeconfig was written.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file system.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was to be done.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Another program writes the file.
    #[error(
        "{} is locked: kubectl or another program writes it, or was killed while it did; remove {} if none runs",
        path.display(), lock.display()
    )]
    Locked {
        /// The file.
        path: PathBuf,
        /// Its lock.
        lock: PathBuf,
    },
    /// The file that is there is no kubeconfig.
    #[error("{}: {reason}; expected a kubeconfig. Nothing was changed", path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it, with line and column where the parser knows them.
        reason: String,
    },
}

/// A kubeconfig on disk. Dropping it takes it back as [`Kubeconfig::remove`] does, without a word about failures.
#[derive(Debug)]
pub struct Kubeconfig(Option<Place>);

#[derive(Debug)]
enum Place {
    /// A folder of ours.
    Own(tempfile::TempDir),
    /// A file of the user's.
    Merged(Merged),
}

#[derive(Debug)]
struct Merged {
    path: PathBuf,
    /// Mode of the file before; none when there was no file.
    mode: Option<Permissions>,
    /// The user's current context before.
    current: Option<Value>,
    /// What was merged.
    own: Value,
}

impl Kubeconfig {
    /// Whether `path` can be merged into, before anything starts.
    ///
    /// # Errors
    /// [`Error::Invalid`] when it is no kubeconfig, [`Error::Io`] when it can't be read.
    pub fn check(path: Option<&Path>) -> Result<(), Error> {
        path.map_or(Ok(()), |path| read(path).map(drop))
    }

    /// Writes a kubeconfig with one cluster, one user and one context: into `path`, or into a folder in `home` that only
    /// this user can read.
    ///
    /// # Errors
    /// When the place can't be written, or `path` holds something else than a kubeconfig.
    pub fn write(path: Option<&Path>, home: &Path, text: &str) -> Result<Self, Error> {
        match path {
            Some(path) => Merged::write(path, text).map(|merged| Self(Some(Place::Merged(merged)))),
            None => own(home, text).map(|folder| Self(Some(Place::Own(folder)))),
        }
    }

    /// Where it is.
    pub fn path(&self) -> PathBuf {
        match &self.0 {
            Some(Place::Own(folder)) => folder.path().join("kubeconfig"),
            Some(Place::Merged(merged)) => merged.path.clone(),
            None => PathBuf::new(),
        }
    }

    /// Removes it, or takes it out of the user's file. What the user changed in the meantime stays.
    ///
    /// # Errors
    /// When the place can't be written.
    pub fn remove(mut self) -> Result<(), Error> {
        self.take_back()
    }

    fn take_back(&mut self) -> Result<(), Error> {
        match self.0.take() {
            Some(Place::Own(folder)) => {
                let path = folder.path().to_owned();
                folder.close().map_err(io("remove", &path))
            }
            Some(Place::Merged(merged)) => merged.take_out(),
            None => Ok(()),
        }
    }
}

impl Drop for Kubeconfig {
    fn drop(&mut self) {
        drop(self.take_back());
    }
}

fn own(home: &Path, text: &str) -> Result<tempfile::TempDir, Error> {
    let folder = tempfile::Builder::new()
        .prefix("containment-kubeconfig-")
        .permissions(Permissions::from_mode(0o700))
        .tempdir_in(home)
        .map_err(io("make a folder in", home))?;
    replace(&folder.path().join("kubeconfig"), text)?;
    Ok(folder)
}

impl Merged {
    fn write(path: &Path, text: &str) -> Result<Self, Error> {
        let own = named(&parse(path, text)?);
        let path = followed(path);
        let _lock = Lock::take(&path)?;
        let before = read(&path)?;
        let mode = std::fs::metadata(&path).ok().map(|file| file.permissions());
        let current = before.get(CURRENT).cloned();
        replace(&path, &print(&merged(before, &own)))?;
        Ok(Self {
            path,
            mode,
            current,
            own,
        })
    }

    fn take_out(self) -> Result<(), Error> {
        let _lock = Lock::take(&self.path)?;
        let left = without(read(&self.path)?, &self.own, self.current.as_ref());
        match self.mode {
            None if is_empty(&left) => {
                std::fs::remove_file(&self.path).map_err(io("remove", &self.path))
            }
            mode => {
                replace(&self.path, &print(&left))?;
                let mode = mode.unwrap_or_else(|| Permissions::from_mode(0o600));
                std::fs::set_permissions(&self.path, mode).map_err(io("restore", &self.path))
            }
        }
    }
}

/// `<file>.lock`, made exclusively; gone when dropped.
struct Lock(PathBuf);

impl Lock {
    fn take(path: &Path) -> Result<Self, Error> {
        let mut lock = path.as_os_str().to_owned();
        lock.push(".lock");
        let lock = PathBuf::from(lock);
        match std::fs::File::create_new(&lock) {
            Ok(_) => Ok(Self(lock)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => Err(Error::Locked {
                path: path.to_owned(),
                lock,
            }),
            Err(error) => Err(io("lock", path)(error)),
        }
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        drop(std::fs::remove_file(&self.0));
    }
}

fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error {
    let path = path.to_owned();
    move |source| Error::Io {
        action,
        path,
        source,
    }
}

/// Where a symbolic link leads: the link stays one.
fn followed(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Writes with mode 0600, in one step.
fn replace(path: &Path, text: &str) -> Result<(), Error> {
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let mut file = tempfile::NamedTempFile::new_in(folder).map_err(io("write in", folder))?;
    file.write_all(text.as_bytes()).map_err(io("write", path))?;
    file.persist(path)
        .map(drop)
        .map_err(|error| io("write", path)(error.error))
}

/// The file as it is; an empty kubeconfig when there is none.
fn read(path: &Path) -> Result<Mapping, Error> {
    match std::fs::read_to_string(path) {
        Ok(text) => parse(path, &text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Mapping::new()),
        Err(error) => Err(io("read", path)(error)),
    }
}

fn parse(path: &Path, text: &str) -> Result<Mapping, Error> {
    let invalid = |reason: String| Error::Invalid {
        path: path.to_owned(),
        reason,
    };
    let config = match serde_yaml::from_str(text) {
        Ok(Value::Null) => Mapping::new(),
        Ok(Value::Mapping(config)) => config,
        Ok(_) => return Err(invalid("it is no mapping".to_owned())),
        Err(error) => return Err(invalid(error.to_string())),
    };
    for (list, _) in LISTS {
        match config.get(list) {
            None | Some(Value::Null | Value::Sequence(_)) => {}
            Some(_) => return Err(invalid(format!("{list} is no list"))),
        }
    }
    Ok(config)
}

fn print(config: &Mapping) -> String {
    serde_yaml::to_string(config).unwrap_or_default()
}

/// The first entry of each list under our name.
fn named(config: &Mapping) -> Value {
    let mut own = Mapping::new();
    for (list, field) in LISTS {
        let mut content = config[list][0][field].clone();
        for reference in ["cluster", "user"] {
            if list == "contexts" {
                content[reference] = NAME.into();
            }
        }
        let entry = Mapping::from_iter([("name".into(), NAME.into()), (field.into(), content)]);
        own.insert(list.into(), entry.into());
    }
    own.into()
}

fn entries(config: &mut Mapping, list: &str) -> Vec<Value> {
    match config.remove(list) {
        Some(Value::Sequence(entries)) => entries,
        _ => Vec::new(),
    }
}

/// `before` with our entries in the place of any of the same name, and our context the current one.
fn merged(mut before: Mapping, own: &Value) -> Mapping {
    for (field, value) in [("apiVersion", "v1"), ("kind", "Config")] {
        before.entry(field.into()).or_insert(value.into());
    }
    for (list, _) in LISTS {
        let mut entries = entries(&mut before, list);
        entries.retain(|entry| entry["name"] != NAME);
        entries.push(own[list].clone());
        before.insert(list.into(), entries.into());
    }
    before.insert(CURRENT.into(), NAME.into());
    before
}

/// The file without our entries. Entries that another `up` put in their place stay, and so does a current context that
/// the user chose since.
fn without(mut now: Mapping, own: &Value, current: Option<&Value>) -> Mapping {
    let mut left = 0;
    for (list, _) in LISTS {
        let mut entries = entries(&mut now, list);
        entries.retain(|entry| *entry != own[list]);
        left += usize::from(entries.iter().any(|entry| entry["name"] == NAME));
        now.insert(list.into(), entries.into());
    }
    if left == 0 && now.get(CURRENT) == Some(&NAME.into()) {
        match current.filter(|current| **current != NAME) {
            Some(current) => now.insert(CURRENT.into(), current.clone()),
            None => now.insert(CURRENT.into(), "".into()),
        };
    }
    now
}

fn is_empty(config: &Mapping) -> bool {
    LISTS.iter().all(|(list, _)| {
        let entries = config.get(list).and_then(Value::as_sequence);
        entries.is_none_or(Vec::is_empty)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use rstest::rstest;

    use super::*;

    const OURS: &str = "{apiVersion: v1, kind: Config, current-context: c, \
        clusters: [{name: c, cluster: {server: 'https://127.0.0.1:1'}}], users: [{name: admin, user: {token: t}}], \
        contexts: [{name: c, context: {cluster: c, user: admin}}]}";
    const THEIRS: &str = "{apiVersion: v1, kind: Config, current-context: prod, extensions: [{name: e}], \
        clusters: [{name: prod, cluster: {server: 'https://prod.test'}}], users: [{name: admin, user: {token: p}}], \
        contexts: [{name: prod, context: {cluster: prod, user: admin}}]}";

    fn value(path: &Path) -> Value {
        serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_place_of_ours_is_private_and_gone_afterwards() {
        let written = Kubeconfig::write(None, &std::env::temp_dir(), OURS).unwrap();
        let path = written.path();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), OURS);
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        written.remove().unwrap();
        assert!(!path.parent().unwrap().exists());
    }

    #[test]
    fn a_file_of_the_user_keeps_what_is_in_it() {
        let folder = tempfile::tempdir().unwrap();
        let (path, link) = (folder.path().join("config"), folder.path().join("link"));
        std::fs::write(&path, THEIRS).unwrap();
        std::fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink(&path, &link).unwrap();
        let before = value(&path);
        let written = Kubeconfig::write(Some(&link), &std::env::temp_dir(), OURS).unwrap();
        let now = value(&path);
        assert_eq!(mode(&path), 0o600);
        assert_eq!(now["current-context"], NAME);
        assert_eq!(now["extensions"], before["extensions"]);
        for (list, field) in LISTS {
            assert_eq!(now[list][0], before[list][0], "{list}");
            assert_eq!(now[list][1]["name"], NAME, "{list}");
            assert!(now[list][1][field].is_mapping(), "{list}");
        }
        assert_eq!(now["contexts"][1]["context"]["user"], NAME);
        written.remove().unwrap();
        assert_eq!((value(&path), mode(&path)), (before, 0o640));
        assert!(link.is_symlink());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn a_file_that_was_not_there_is_gone_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        drop(Kubeconfig::write(Some(&path), &std::env::temp_dir(), OURS).unwrap());
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn what_the_user_changed_meanwhile_stays() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, THEIRS).unwrap();
        let first = Kubeconfig::write(Some(&path), &std::env::temp_dir(), OURS).unwrap();
        let second = Kubeconfig::write(
            Some(&path),
            &std::env::temp_dir(),
            &OURS.replace("127.0.0.1:1", "127.0.0.1:2"),
        );
        let second = second.unwrap();
        first.remove().unwrap();
        assert_eq!(value(&path)["current-context"], NAME);
        assert_eq!(
            value(&path)["clusters"][1]["cluster"]["server"],
            "https://127.0.0.1:2"
        );
        let mut chosen = value(&path);
        chosen["current-context"] = "prod".into();
        std::fs::write(&path, serde_yaml::to_string(&chosen).unwrap()).unwrap();
        second.remove().unwrap();
        assert_eq!(value(&path)["current-context"], "prod");
        assert_eq!(value(&path)["clusters"].as_sequence().unwrap().len(), 1);
    }

    #[rstest]
    #[case::no_yaml("{clusters: [", "at line 2")]
    #[case::no_mapping("- a", "it is no mapping")]
    #[case::no_list("{clusters: {a: b}}", "clusters is no list")]
    fn what_is_no_kubeconfig_is_left_alone(#[case] text: &str, #[case] reason: &str) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(&path, text).unwrap();
        assert!(Kubeconfig::check(Some(&path)).is_err());
        let error = Kubeconfig::write(Some(&path), &std::env::temp_dir(), OURS)
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(reason) && error.contains("config:"),
            "{error}"
        );
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }

    #[test]
    fn a_locked_file_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("config");
        std::fs::write(folder.path().join("config.lock"), "").unwrap();
        let error = Kubeconfig::write(Some(&path), &std::env::temp_dir(), OURS)
            .unwrap_err()
            .to_string();
        assert!(error.contains("config.lock"), "{error}");
        assert!(!path.exists());
    }
}
