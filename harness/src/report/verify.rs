//! `containment verify`: whether a run's folder is whole, agrees with itself, and makes the report that stands in it.
//!
//! What it shows: nothing was changed, added, removed or swapped since the manifests were written, events are in order
//! without gaps and within the time of the run, the suite is the one that the run names, what two files say twice they say
//! alike, no passed check is contradicted by its own lines, and the report is what the evidence makes. It does not judge
//! packets and receipts anew. What it can't show: who wrote the folder. Without a signature, or a digest of the run that was kept
//! elsewhere, an editor who changes the evidence consistently and recomputes every manifest and report is not detected.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use super::{foreign, rebuild};
use crate::evidence::folder::{self, Folder, MANIFEST, SCENARIOS, SUITE};
use crate::evidence::observe::read_events;
use crate::evidence::{Event, Recorded, RunStarted, digest};
use crate::facts::Bearing;
use crate::judge::CheckResult;
use crate::outcome::{ExitCode, Outcome};

/// A difference between what a run's folder holds and what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The file, relative to the run's folder.
    pub file: PathBuf,
    /// What is different, in words.
    pub what: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file.display(), self.what)
    }
}

/// What verification came to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Verified {
    /// Every difference. Empty: verified.
    pub differences: Vec<Difference>,
    /// Files whose digests were compared.
    pub files: usize,
    /// Scenarios whose events were compared with the files beside them.
    pub scenarios: usize,
    /// SHA-256 of the run's manifest: with it, kept elsewhere, the whole folder can be recognised.
    pub digest: String,
}

impl Verified {
    fn differs(&mut self, file: impl Into<PathBuf>, what: impl Into<String>) {
        self.differences.push(Difference {
            file: file.into(),
            what: what.into(),
        });
    }

    /// Takes a value, or notes why there is none.
    fn take<T>(&mut self, file: &Path, result: Result<T, impl fmt::Display>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.differs(file, error.to_string());
                None
            }
        }
    }
}

/// Verifies the run in `run_folder`. `expected` is the digest of its manifest, where the reader has it from elsewhere.
#[must_use]
pub fn verify(run_folder: &Path, expected: Option<&str>) -> Verified {
    let run = Folder::new(run_folder);
    let mut found = Verified::default();
    // Nothing is read in a folder that holds links, pipes or devices.
    let Some(present) = found.take(Path::new("."), digest::files(&run)) else {
        return found;
    };
    manifests(&run, &present, expected, &mut found);
    if let Some(events) = events(&run, Path::new(folder::RUN), &mut found) {
        let started = run_in_order(&events, &mut found);
        suite(&run, started.as_ref(), &mut found);
        let faults = started.map(|started| started.faults).unwrap_or_default();
        for name in digest::scenario_folders(&run).unwrap_or_default() {
            scenario(&run, &name, &events, &faults, &mut found);
            found.scenarios += 1;
        }
    }
    reports(&run, &mut found);
    found
}

/// [`verify`] for the terminal: every difference is a line. Exit code 0 verified, 1 different, 2 no folder of a run.
#[must_use]
pub fn command(run_folder: &Path, expected: Option<&str>) -> ExitCode {
    let has = |name: &str| run_folder.join(name).is_file();
    if !has(folder::RUN) && !has(MANIFEST) {
        let text = format!(
            "error: {} holds neither {} nor {MANIFEST}; name the folder of a run, as `containment run` leaves it in its output folder\n",
            run_folder.display(),
            folder::RUN
        );
        // A closed terminal changes nothing about the folder.
        let _ = anstream::stderr().write_all(text.as_bytes());
        return ExitCode::Usage;
    }
    let expected = expected.map(|digest| digest.strip_prefix("sha256:").unwrap_or(digest));
    let verified = verify(run_folder, expected);
    let mut text = String::new();
    for difference in &verified.differences {
        text.push_str(&format!("{}\n", foreign::one_line(&difference.to_string())));
    }
    let code = if verified.differences.is_empty() {
        text.push_str(&format!(
            "Verified: {} files, {} scenarios, the report is what the evidence makes. Not signed: this shows that the folder is whole and agrees with itself, not who made it.\nDigest: sha256:{}\n",
            verified.files, verified.scenarios, verified.digest
        ));
        ExitCode::Conformant
    } else {
        text.push_str(&format!(
            "Not verified: {} differences\n",
            verified.differences.len()
        ));
        ExitCode::CheckFailed
    };
    let _ = anstream::stdout().write_all(text.as_bytes());
    code
}

/// Exactly the files that the manifests list, each with its digest.
fn manifests(run: &Folder, present: &[PathBuf], expected: Option<&str>, found: &mut Verified) {
    let mut listed: BTreeMap<PathBuf, String> = BTreeMap::new();
    if let Some(text) = manifest(run, Path::new(""), found, &mut listed) {
        found.digest = digest::text_digest(text.as_bytes());
        if let Some(expected) = expected
            && expected != found.digest
        {
            let what = format!("expected the digest {expected}, found {}", found.digest);
            found.differs(MANIFEST, what);
        }
        for stray in listed.keys().filter(|file| !digest::in_run_manifest(file)) {
            found.differences.push(Difference {
                file: stray.clone(),
                what: format!("listed in {MANIFEST} of the run, expected in that of its scenario"),
            });
        }
    }
    for name in digest::scenario_folders(run).unwrap_or_default() {
        manifest(run, &Path::new(SCENARIOS).join(name), found, &mut listed);
    }
    let on_disk: BTreeSet<&PathBuf> = present.iter().collect();
    for (file, expected) in &listed {
        let path = run.path().join(file);
        if !on_disk.contains(file) {
            found.differs(file, "is listed in the manifest and is missing");
        } else if let Some(digest) = found.take(file, digest::file_digest(&path)) {
            found.files += 1;
            if digest != *expected {
                let what = format!("expected the digest {expected}, found {digest}");
                found.differs(file, what);
            }
        }
    }
    for file in present {
        if !listed.contains_key(file) && file.as_path() != Path::new(MANIFEST) {
            found.differs(file, "is in no manifest");
        }
    }
}

/// Adds what the manifest of a folder lists, by paths below the run's folder, and returns its text.
fn manifest(
    run: &Folder,
    below: &Path,
    found: &mut Verified,
    listed: &mut BTreeMap<PathBuf, String>,
) -> Option<String> {
    let file = below.join(MANIFEST);
    let path = run.path().join(&file);
    let text = std::fs::read_to_string(&path);
    let text = found.take(
        &file,
        text.map_err(|error| format!("cannot be read: {error}")),
    )?;
    let digests = found.take(&file, digest::parse_manifest(&path, &text))?;
    listed.extend(
        digests
            .into_iter()
            .map(|(name, digest)| (below.join(name), digest)),
    );
    Some(text)
}

/// The events of a file, whole lines only.
fn events(run: &Folder, file: &Path, found: &mut Verified) -> Option<Vec<Recorded>> {
    let path = run.path().join(file);
    let events = found.take(file, read_events(&path))?;
    // A reader of a killed run's events passes over a last line that was cut.
    if std::fs::read(&path).is_ok_and(|text| !text.is_empty() && !text.ends_with(b"\n")) {
        found.differs(file, "ends in the middle of a line");
    }
    Some(events)
}

fn run_in_order(events: &[Recorded], found: &mut Verified) -> Option<RunStarted> {
    let started = events.first().and_then(|first| match &first.event {
        Event::RunStarted(started) => Some(RunStarted::clone(started)),
        _ => None,
    });
    if started.is_none() {
        found.differs(folder::RUN, "expected run-started as the first event");
    }
    if !matches!(
        events.last().map(|last| &last.event),
        Some(Event::RunFinished(_))
    ) {
        found.differs(
            folder::RUN,
            "expected run-finished as the last event; the run was killed, or the file was cut",
        );
    }
    started
}

fn suite(run: &Folder, started: Option<&RunStarted>, found: &mut Verified) {
    let Some(started) = started else { return };
    for (name, expected) in [
        ("features", &started.suite.features),
        ("scenarios", &started.suite.scenarios),
    ] {
        let file = Path::new(SUITE).join(name);
        let digest = digest::folder_digest(&Folder::new(run.path().join(&file)));
        if let Some(digest) = found.take(&file, digest)
            && digest != *expected
        {
            let what =
                format!("expected the digest {expected} that run-started names, found {digest}");
            found.differs(file, what);
        }
    }
}

/// One scenario: its events in order, and the files beside them in agreement with them.
fn scenario(
    run: &Folder,
    name: &str,
    of_run: &[Recorded],
    faults: &[String],
    found: &mut Verified,
) {
    let below = Path::new(SCENARIOS).join(name);
    let file = below.join(folder::EVENTS);
    let Some(events) = events(run, &file, found) else {
        return;
    };
    match events.first().map(|first| &first.event) {
        Some(Event::ScenarioStarted(started)) => {
            let expected = folder::scenario_name(started);
            if expected != name {
                let what = format!("holds the scenario of the folder {expected}");
                found.differs(&file, what);
            }
        }
        _ => found.differs(&file, "expected scenario-started as the first event"),
    }
    if !matches!(
        events.last().map(|last| &last.event),
        Some(Event::ScenarioFinished(_))
    ) {
        found.differs(
            &file,
            "expected scenario-finished as the last event; the scenario was cut, or the file was",
        );
    }
    within(&file, of_run, &events, found);
    let active: Vec<&String> = events
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::FaultActive { name } => Some(name),
            _ => None,
        })
        .collect();
    if active != faults.iter().collect::<Vec<_>>() {
        let what = format!(
            "names the active faults {active:?}, and {} names {faults:?}",
            folder::RUN
        );
        found.differs(&file, what);
    }
    checks(run, &below, &events, found);
    copies(run, &below, &events, found);
    for recorded in &events {
        if let Event::PolicyApplied(object) = &recorded.event
            && !run.path().join(&below).join(&object.file).is_file()
        {
            let what = format!("event {} of {} names it", recorded.seq, folder::EVENTS);
            found.differs(below.join(&object.file), format!("is missing; {what}"));
        }
    }
}

/// A scenario's events lie between the first and the last event of its run: the folder is not that of another run.
fn within(file: &Path, of_run: &[Recorded], events: &[Recorded], found: &mut Verified) {
    let (Some(start), Some(end)) = (of_run.first(), of_run.last()) else {
        return;
    };
    if let Some(stray) = events
        .iter()
        .find(|recorded| recorded.at < start.at || recorded.at > end.at)
    {
        let what = format!(
            "event {} is of {}, expected a time of the run, {} to {}",
            stray.seq, stray.at, start.at, end.at
        );
        found.differs(file, what);
    }
}

/// A passed check rests on at least one line, and on none that contradicts it or is missing.
fn upheld(file: &Path, check: &CheckResult, found: &mut Verified) {
    if check.outcome != Outcome::Passed {
        return;
    }
    let against = check
        .evidence
        .iter()
        .find(|line| matches!(line.bearing, Bearing::Contradicts | Bearing::Missing));
    let what = match against {
        Some(line) => format!(
            "passed, and its own evidence says otherwise: {}",
            line.found
        ),
        None if check.evidence.is_empty() => "passed without evidence".to_owned(),
        None => return,
    };
    found.differs(file, format!("the check {:?} {what}", check.check));
}

/// `check.json` holds the checks of the events, and each agrees with its own evidence.
fn checks(run: &Folder, below: &Path, events: &[Recorded], found: &mut Verified) {
    let recorded: Vec<&CheckResult> = events
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::Check(check) => Some(check),
            _ => None,
        })
        .collect();
    for check in &recorded {
        upheld(&below.join(folder::EVENTS), check, found);
    }
    let file = below.join(folder::CHECK);
    let path = run.path().join(&file);
    if recorded.is_empty() && !path.exists() {
        return;
    }
    let text = std::fs::read(&path).map_err(|error| format!("cannot be read: {error}"));
    let Some(text) = found.take(&file, text) else {
        return;
    };
    let expected = serde_json::to_string_pretty(&recorded).unwrap_or_default();
    if let Some(what) = first_difference(&expected, &text) {
        found.differs(
            file,
            format!("is not what {} holds: {what}", folder::EVENTS),
        );
    }
}

/// `gateway.log` and `receipts.jsonl` hold what the events hold.
fn copies(run: &Folder, below: &Path, events: &[Recorded], found: &mut Verified) {
    let mut log = String::new();
    let mut receipts = String::new();
    for recorded in events {
        match &recorded.event {
            Event::GatewayLog { text, .. } => {
                log.push_str(text);
                log.push('\n');
            }
            Event::Receipt(receipt) => {
                let line = serde_json::to_string(receipt).unwrap_or_default();
                receipts.push_str(&line);
                receipts.push('\n');
            }
            _ => {}
        }
    }
    for (name, expected) in [(folder::GATEWAY_LOG, log), (folder::RECEIPTS, receipts)] {
        let file = below.join(name);
        let text = std::fs::read(run.path().join(&file));
        let text = text.map_err(|error| format!("cannot be read: {error}"));
        let Some(text) = found.take(&file, text) else {
            continue;
        };
        if let Some(what) = first_difference(&expected, &text) {
            found.differs(
                file,
                format!("is not what {} holds: {what}", folder::EVENTS),
            );
        }
    }
}

/// The report in the folder is the one that the evidence makes.
fn reports(run: &Folder, found: &mut Verified) {
    let rebuilt = match rebuild(run.path()) {
        Ok(rebuilt) => rebuilt,
        Err(error) => {
            // Unreadable evidence is named above, by its file.
            if found.differences.is_empty() {
                found.differs(super::REPORT_JSON, format!("cannot be rebuilt: {error}"));
            }
            return;
        }
    };
    for (name, expected) in rebuilt.files() {
        let text = std::fs::read(run.file(name));
        let text = text.map_err(|error| format!("cannot be read: {error}"));
        if let Some(text) = found.take(Path::new(name), text)
            && let Some(what) = first_difference(expected, &text)
        {
            found.differs(name, format!("is not what the evidence makes: {what}"));
        }
    }
}

/// The first line in which two texts differ.
fn first_difference(expected: &str, found: &[u8]) -> Option<String> {
    if expected.as_bytes() == found {
        return None;
    }
    let found = String::from_utf8_lossy(found);
    let mut lines = (expected.split('\n'), found.split('\n'));
    let mut number = 0;
    loop {
        number += 1;
        match (lines.0.next(), lines.1.next()) {
            (Some(expected), Some(found)) if expected == found => {}
            (None, None) => return Some("bytes that are no text".to_owned()),
            (expected, found) => {
                let shown = |line: Option<&str>| {
                    line.map_or_else(
                        || "the end".to_owned(),
                        |line| format!("{:?}", line.chars().take(200).collect::<String>()),
                    )
                };
                return Some(format!(
                    "line {number}: expected {}, found {}",
                    shown(expected),
                    shown(found)
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests;
