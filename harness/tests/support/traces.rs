//! What a process family holds of the kernel, read from /proc: processes, namespaces, devices, mounts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::Path;

/// Kinds of namespaces that a cluster makes.
const KINDS: [&str; 6] = ["net", "mnt", "pid", "ipc", "uts", "user"];

/// What a kernel object that somebody may hold is called: `net:[4026531840]`.
type Namespace = String;

/// Everything that must look the same afterwards.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Surroundings {
    /// Devices of this process's own network namespace.
    devices: BTreeSet<String>,
    /// Lines of this process's own mount table.
    mounts: BTreeSet<String>,
}

impl Surroundings {
    pub(crate) fn now() -> Self {
        let devices = read("/proc/self/net/dev");
        let devices = devices.lines().filter_map(|line| line.split_once(':'));
        Self {
            devices: devices.map(|(name, _)| name.trim().to_owned()).collect(),
            mounts: read("/proc/self/mountinfo")
                .lines()
                .map(str::to_owned)
                .collect(),
        }
    }

    /// What is here now and was not before.
    pub(crate) fn added(&self) -> Vec<String> {
        let now = Self::now();
        let devices = now.devices.difference(&self.devices);
        let mounts = now.mounts.difference(&self.mounts);
        devices
            .map(|name| format!("the device {name}"))
            .chain(mounts.map(|line| format!("the mount {line}")))
            .collect()
    }
}

/// A process, told from a later one with the same number by its start.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Process {
    pub(crate) pid: u32,
    start: u64,
    command: String,
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({})", self.pid, self.command)
    }
}

/// Every process below `ancestor`, zombies included, without itself.
pub(crate) fn descendants(ancestor: u32) -> BTreeSet<Process> {
    let mut children: BTreeMap<u32, Vec<Process>> = BTreeMap::new();
    for (parent, process) in all() {
        children.entry(parent).or_default().push(process);
    }
    let mut found = BTreeSet::new();
    let mut next = vec![ancestor];
    while let Some(pid) = next.pop() {
        for child in children.remove(&pid).unwrap_or_default() {
            next.push(child.pid);
            found.insert(child);
        }
    }
    found
}

/// Namespaces that these processes live in or keep alive by a descriptor, other than this process's own.
pub(crate) fn namespaces(of: impl IntoIterator<Item = u32>) -> BTreeSet<Namespace> {
    let own = held_by(std::process::id());
    of.into_iter()
        .flat_map(held_by)
        .filter(|namespace| !own.contains(namespace))
        .collect()
}

/// Who of those that were there already at `moment` (as [`clock`] gives it) holds one of `namespaces`. Whoever came
/// later may have been given the same number anew.
pub(crate) fn holders(namespaces: &BTreeSet<Namespace>, moment: u64) -> Vec<String> {
    let mut found = Vec::new();
    for (_, process) in all() {
        if process.start > moment {
            continue;
        }
        let held = held_by(process.pid);
        let still = held.intersection(namespaces);
        found.extend(still.map(|namespace| format!("{namespace}, held by {process}")));
    }
    let mounts = read("/proc/self/mountinfo");
    let bound = namespaces.iter().filter(|name| mounts.contains(*name));
    found.extend(bound.map(|name| format!("{name}, held by a mount")));
    found
}

/// Now, in the unit of process start times: clock ticks since boot.
pub(crate) fn clock() -> u64 {
    all()
        .into_iter()
        .map(|(_, process)| process.start)
        .max()
        .unwrap_or(0)
}

fn held_by(pid: u32) -> BTreeSet<Namespace> {
    let root = format!("/proc/{pid}");
    let mut found = BTreeSet::new();
    // A thread may be in another namespace than its process.
    for task in entries(&format!("{root}/task")) {
        for kind in KINDS {
            found.extend(link(&format!("{root}/task/{task}/ns/{kind}")));
        }
    }
    for descriptor in entries(&format!("{root}/fd")) {
        let target = link(&format!("{root}/fd/{descriptor}"));
        found.extend(target.filter(|target| is_namespace(target)));
    }
    found
}

fn is_namespace(target: &str) -> bool {
    KINDS
        .iter()
        .any(|kind| target.starts_with(&format!("{kind}:[")))
}

fn all() -> Vec<(u32, Process)> {
    let pids = entries("/proc").into_iter();
    pids.filter_map(|name| stat(name.parse().ok()?)).collect()
}

/// Parent and identity of a process, by proc(5): the name in parentheses may hold anything.
fn stat(pid: u32) -> Option<(u32, Process)> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = text.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let (state, parent, start) = (fields.first()?, fields.get(1)?, fields.get(19)?);
    let arguments = read(&format!("/proc/{pid}/cmdline")).replace('\0', " ");
    let name = name.split_once('(').map_or("", |(_, name)| name);
    let process = Process {
        pid,
        start: start.parse().ok()?,
        command: format!("{name}, {state}, {arguments:?}"),
    };
    Some((parent.parse().ok()?, process))
}

/// Names in a folder.
pub(crate) fn names(folder: &Path) -> BTreeSet<String> {
    entries(&folder.to_string_lossy()).into_iter().collect()
}

fn entries(folder: &str) -> Vec<String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

fn link(path: &str) -> Option<String> {
    Some(
        std::fs::read_link(path)
            .ok()?
            .to_string_lossy()
            .into_owned(),
    )
}

fn read(path: &str) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
