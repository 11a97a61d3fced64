//! The writer of an evidence folder.
//!
//! Each event is one `write` of one line, straight to the file: what was recorded survives a
//! crash of the harness. Everything is bounded, because a hostile pod decides how much there is
//! to record; a full file is a harness error and not a silent cut.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use fixtures::receipt::Receipt;
use jiff::Timestamp;
use tokio::sync::watch;

use super::folder::{self, Folder};
use super::{Error, Event, Index, PolicyObject, Recorded};
use crate::judge::CheckResult;

/// Bound of one file. A scenario writes some tens of kilobytes; this much is an attack or a loop.
const FILE_BOUND: u64 = 64 * 1024 * 1024;
/// Bound of one pod's output.
const POD_LOG_BOUND: u64 = 4 * 1024 * 1024;

/// Writes one evidence folder. Clones write to the same folder, from any thread.
#[derive(Clone, Debug)]
pub struct Recorder {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    folder: Folder,
    state: Mutex<State>,
    recorded: watch::Sender<u64>,
}

#[derive(Debug)]
struct State {
    events: Appender,
    others: BTreeMap<String, Appender>,
    mirror: Vec<Arc<Recorded>>,
    index: Index,
    gateway_lines: u64,
    checks: Vec<CheckResult>,
    first_error: Option<Arc<Error>>,
}

impl Recorder {
    /// Creates the folder of a scenario, with an empty `events.jsonl`. A folder that has one
    /// already is refused: evidence is never overwritten.
    pub fn create(path: impl Into<PathBuf>) -> Result<Self, Error> {
        let recorder = Self::with_events(path.into(), folder::EVENTS)?;
        // An empty file says that there was nothing; a missing one would leave it open.
        for file in [folder::GATEWAY_LOG, folder::RECEIPTS] {
            appender(
                &mut recorder.lock().others,
                recorder.folder(),
                file,
                FILE_BOUND,
            )?;
        }
        Ok(recorder)
    }

    /// Creates the output folder of a run, with an empty `run.jsonl`.
    pub fn create_run(path: impl Into<PathBuf>) -> Result<Self, Error> {
        Self::with_events(path.into(), folder::RUN)
    }

    fn with_events(path: PathBuf, events: &str) -> Result<Self, Error> {
        std::fs::create_dir_all(&path).map_err(|source| Error::Io {
            action: "create",
            path: path.clone(),
            source,
        })?;
        let folder = Folder::new(path);
        let events = Appender::create(folder.file(events), FILE_BOUND)?;
        Ok(Self {
            inner: Arc::new(Inner {
                folder,
                state: Mutex::new(State {
                    events,
                    others: BTreeMap::new(),
                    mirror: Vec::new(),
                    index: Index::default(),
                    gateway_lines: 0,
                    checks: Vec::new(),
                    first_error: None,
                }),
                recorded: watch::Sender::new(0),
            }),
        })
    }

    /// The folder.
    #[must_use]
    pub fn folder(&self) -> &Folder {
        &self.inner.folder
    }

    /// Records an event. It never fails at the place where something happened; a folder that
    /// cannot be written shows in [`Recorder::health`].
    pub fn record(&self, event: Event) -> Arc<Recorded> {
        let mut state = self.lock();
        let recorded = state.append(event);
        drop(state);
        self.announce();
        recorded
    }

    /// Records a line of the gateway's log, to `gateway.log` and as an event.
    pub fn gateway_log(&self, text: &str) -> Arc<Recorded> {
        let text = text.trim_end_matches(['\r', '\n']);
        let mut state = self.lock();
        state.append_line(
            &self.inner.folder,
            folder::GATEWAY_LOG,
            text.as_bytes(),
            FILE_BOUND,
        );
        state.gateway_lines += 1;
        let line = state.gateway_lines;
        let recorded = state.append(Event::GatewayLog {
            line,
            text: text.to_owned(),
        });
        drop(state);
        self.announce();
        recorded
    }

    /// Records a far end's receipt, to `receipts.jsonl` and as an event.
    pub fn receipt(&self, receipt: Receipt) -> Arc<Recorded> {
        let line = serde_json::to_vec(&receipt).expect("invariant: receipts are plain data");
        let mut state = self.lock();
        state.append_line(&self.inner.folder, folder::RECEIPTS, &line, FILE_BOUND);
        let recorded = state.append(Event::Receipt(receipt));
        drop(state);
        self.announce();
        recorded
    }

    /// Stores a policy object under `policy/` and records that it was seen. A newer generation
    /// is added to the same file as a further YAML document.
    pub fn policy_object(
        &self,
        kind: &str,
        namespace: &str,
        name: &str,
        generation: i64,
        yaml: &str,
    ) -> Arc<Recorded> {
        let file = Folder::policy_name(kind, namespace, name);
        let document = format!("---\n{}", yaml.trim_start_matches("---\n").trim_end());
        let mut state = self.lock();
        state.append_line(&self.inner.folder, &file, document.as_bytes(), FILE_BOUND);
        let recorded = state.append(Event::PolicyApplied(PolicyObject {
            policy_kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            generation,
            file,
        }));
        drop(state);
        self.announce();
        recorded
    }

    /// Appends a pod's output to its file under `pods/`; past the bound the rest is cut, and the file says so.
    pub fn pod_output(&self, namespace: &str, pod: &str, container: &str, output: &[u8]) {
        let file = Folder::pod_log_name(namespace, pod, container);
        let mut state = self.lock();
        let State {
            others,
            first_error,
            ..
        } = &mut *state;
        match appender(others, &self.inner.folder, &file, POD_LOG_BOUND) {
            Ok(to) if to.full => {}
            Ok(to) => {
                let left = usize::try_from(to.bound - to.written).unwrap_or(usize::MAX);
                let kept = &output[..output.len().min(left)];
                keep_first(first_error, to.write(kept));
                if kept.len() < output.len() {
                    to.full = true;
                    let note =
                        format!("\n[output of {pod} past {POD_LOG_BOUND} bytes is not kept]\n");
                    keep_first(first_error, to.write(note.as_bytes()));
                }
            }
            Err(error) => keep_first(first_error, Err(error)),
        }
    }

    /// Records a result of the judge, as an event and in `check.json`.
    pub fn check(&self, result: CheckResult) -> Arc<Recorded> {
        let mut state = self.lock();
        state.checks.push(result.clone());
        let path = self.inner.folder.file(folder::CHECK);
        let json = serde_json::to_vec_pretty(&state.checks).expect("invariant: plain data");
        let written = std::fs::write(&path, json).map_err(|source| Error::Io {
            action: "write",
            path,
            source,
        });
        keep_first(&mut state.first_error, written);
        let recorded = state.append(Event::Check(result));
        drop(state);
        self.announce();
        recorded
    }

    /// Everything recorded so far.
    #[must_use]
    pub fn events(&self) -> Vec<Arc<Recorded>> {
        self.lock().mirror.clone()
    }

    /// Waits until `found` sees in the events what it looks for, or the deadline passes. It is
    /// asked again after every event, so nothing polls.
    pub async fn wait_for<T>(
        &self,
        deadline: Duration,
        mut found: impl FnMut(&[Arc<Recorded>]) -> Option<T>,
    ) -> Option<T> {
        let mut recorded = self.inner.recorded.subscribe();
        let wait = async {
            loop {
                recorded.mark_unchanged();
                let events = self.events();
                if let Some(value) = found(&events) {
                    return Some(value);
                }
                recorded.changed().await.ok()?;
            }
        };
        tokio::time::timeout(deadline, wait).await.ok().flatten()
    }

    /// [`Recorder::wait_for`] for what the index knows: its cost does not grow with what was recorded before. `found`
    /// looks while nothing can be recorded; it must not record anything itself.
    pub async fn wait_for_indexed<T>(
        &self,
        deadline: Duration,
        mut found: impl FnMut(&Index) -> Option<T>,
    ) -> Option<T> {
        let mut recorded = self.inner.recorded.subscribe();
        let wait = async {
            loop {
                recorded.mark_unchanged();
                let value = found(&self.lock().index);
                if value.is_some() {
                    return value;
                }
                recorded.changed().await.ok()?;
            }
        };
        tokio::time::timeout(deadline, wait).await.ok().flatten()
    }

    /// The first error of this folder. Evidence that could not be written makes the scenario a
    /// harness error.
    pub fn health(&self) -> Result<(), Arc<Error>> {
        match &self.lock().first_error {
            Some(error) => Err(Arc::clone(error)),
            None => Ok(()),
        }
    }

    fn announce(&self) {
        self.inner.recorded.send_modify(|count| *count += 1);
    }

    /// A panic elsewhere leaves at worst one line unwritten, so the state stays usable.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.inner
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn append(&mut self, event: Event) -> Arc<Recorded> {
        let recorded = Arc::new(Recorded {
            seq: self.mirror.len() as u64,
            at: Timestamp::now(),
            event,
        });
        let mut line = serde_json::to_vec(&*recorded).expect("invariant: events are plain data");
        line.push(b'\n');
        let written = self.events.append(&line);
        let full = matches!(written, Err(Error::Full { .. }));
        keep_first(&mut self.first_error, written);
        if !full {
            self.index.add(&recorded);
            self.mirror.push(Arc::clone(&recorded));
        }
        recorded
    }

    fn append_line(&mut self, folder: &Folder, file: &str, line: &[u8], bound: u64) {
        let line = [line, b"\n"].concat();
        let written =
            appender(&mut self.others, folder, file, bound).and_then(|to| to.append(&line));
        keep_first(&mut self.first_error, written);
    }
}

fn keep_first(first: &mut Option<Arc<Error>>, result: Result<(), Error>) {
    if let Err(error) = result
        && first.is_none()
    {
        tracing::error!(%error, "evidence is incomplete");
        *first = Some(Arc::new(error));
    }
}

fn appender<'a>(
    open: &'a mut BTreeMap<String, Appender>,
    folder: &Folder,
    file: &str,
    bound: u64,
) -> Result<&'a mut Appender, Error> {
    if !open.contains_key(file) {
        open.insert(file.to_owned(), Appender::create(folder.file(file), bound)?);
    }
    Ok(open.get_mut(file).expect("invariant: inserted above"))
}

/// A file that only grows, up to its bound.
#[derive(Debug)]
struct Appender {
    path: PathBuf,
    file: File,
    written: u64,
    bound: u64,
    full: bool,
}

impl Appender {
    fn create(path: PathBuf, bound: u64) -> Result<Self, Error> {
        let create = |path: &Path| {
            if let Some(parent) = path.parent() {
                std::fs::create_dir_all(parent)?;
            }
            OpenOptions::new().append(true).create_new(true).open(path)
        };
        match create(&path) {
            Ok(file) => Ok(Self {
                path,
                file,
                written: 0,
                bound,
                full: false,
            }),
            Err(source) => Err(Error::Io {
                action: "create",
                path,
                source,
            }),
        }
    }

    fn append(&mut self, bytes: &[u8]) -> Result<(), Error> {
        if self.full || self.written + bytes.len() as u64 > self.bound {
            self.full = true;
            return Err(Error::Full {
                path: self.path.clone(),
                bound: self.bound,
            });
        }
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.written += bytes.len() as u64;
        self.file.write_all(bytes).map_err(|source| Error::Io {
            action: "write",
            path: self.path.clone(),
            source,
        })
    }
}

#[cfg(test)]
mod tests;
