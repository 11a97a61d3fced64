//! kill -9 of the harness at random moments: no process, namespace, device, mount or stray file stays.
//!
//! Each round starts the real binary (`run` or `up`, by the seed), lets it come to a random moment and kills it
//! with SIGKILL. Every other moment follows the line by which the program says that everything runs; the rest are counted
//! from the start or from an earlier line, so that they fall into the set-up. Then the kernel is asked, through /proc:
//! this process is the subreaper of everything below it, so whatever outlives the harness becomes its descendant,
//! whoever started it and however often it forked.
//!
//! 10 rounds by default. `CONTAINMENT_CRASH_ROUNDS=50 cargo test --test crash` makes 50, `CONTAINMENT_CRASH_SEED` other
//! moments. The random delays are the input of this test: nothing is awaited by them.

#![allow(clippy::unwrap_used)]

#[path = "support/traces.rs"]
mod traces;

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use traces::Surroundings;

/// The kernel takes down namespaces in the background; on a loaded machine that may take its time.
const GONE: Duration = Duration::from_secs(60);
/// Until the program says its word; a loaded machine again.
const READY: Duration = Duration::from_secs(60);
/// Longest random delay from the start of the program.
const FROM_START: u64 = 1500;
/// Longest random delay after a word.
const FROM_WORD: u64 = 400;

#[test]
fn nothing_survives_a_kill_of_the_harness() {
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let rounds = number("CONTAINMENT_CRASH_ROUNDS", 10);
    let mut random = Random(number("CONTAINMENT_CRASH_SEED", 1));
    let mut families = Vec::new();
    for round in 0..rounds {
        let moment = Moment::draw(&mut random, round % 2 == 0);
        let hit = crash(&moment).unwrap_or_else(|left| {
            panic!(
                "round {round}, {moment:?}: left behind after {GONE:?}:\n{}",
                left.join("\n")
            )
        });
        // Kills that hit nothing but the harness itself would prove nothing.
        assert!(
            round % 2 == 1 || hit.processes > 0,
            "round {round}, {moment:?}: a running system has processes: {hit:?}"
        );
        families.push(hit);
    }
    let running = families.iter().filter(|hit| hit.processes > 0).count();
    let namespaces: usize = families.iter().map(|hit| hit.namespaces).sum();
    say(&format!(
        "{rounds} kills, {running} of them with processes in Pods: {} processes and {namespaces} namespaces, none left",
        families.iter().map(|hit| hit.processes).sum::<usize>(),
    ));
}

/// When to kill what.
#[derive(Debug)]
struct Moment {
    arguments: &'static [&'static str],
    /// The delay counts from the line that holds this.
    word: Option<&'static str>,
    delay: Duration,
}

impl Moment {
    fn draw(random: &mut Random, running: bool) -> Self {
        const READY: (&[&str], &str) = (&["up", "--server", "weather"], "ready after");
        const EARLY: [(&[&str], &str); 2] = [
            (&["run"], "RUN"),
            (&["up", "--server", "weather"], "starting a cluster"),
        ];
        let early = EARLY[random.below(2) as usize];
        let (arguments, word) = if running { READY } else { early };
        let from_start = !running && random.below(2) == 0;
        let longest = if from_start { FROM_START } else { FROM_WORD };
        Self {
            arguments,
            word: (!from_start).then_some(word),
            delay: Duration::from_micros(random.below(1000 * longest)),
        }
    }
}

/// What the kill took down.
#[derive(Debug)]
struct Hit {
    processes: usize,
    namespaces: usize,
}

/// One round. The error is what stayed.
fn crash(moment: &Moment) -> Result<Hit, Vec<String>> {
    let (project, temporary) = (project(), tempfile::tempdir().unwrap());
    let before = Surroundings::now();
    let mut child = Command::new(env!("CARGO_BIN_EXE_containment"))
        .args(moment.arguments)
        .current_dir(project.path())
        .env("TMPDIR", temporary.path())
        .env("CI", "true")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = lines(&mut child);
    if let Some(word) = moment.word {
        await_word(&lines, word);
    }
    std::thread::sleep(moment.delay);

    let family = traces::descendants(child.id());
    let pids = family.iter().map(|process| process.pid);
    let namespaces = traces::namespaces(pids.chain([child.id()]));
    let hit = Hit {
        processes: family.len(),
        namespaces: namespaces.len(),
    };
    let clock = traces::clock();
    child.kill().unwrap();
    child.wait().unwrap();

    let folder = format!("containment-up-{}", child.id());
    let left = || {
        reap();
        let mut left: Vec<String> = traces::descendants(std::process::id())
            .iter()
            .map(ToString::to_string)
            .collect();
        left.extend(traces::holders(&namespaces, clock));
        left.extend(before.added());
        left.extend(strays(temporary.path(), &[&folder]));
        let own = ["features", "scenarios", "containment-results"];
        left.extend(strays(project.path(), &own));
        left
    };
    let deadline = Instant::now() + GONE;
    loop {
        let left = left();
        if left.is_empty() {
            await_end(&lines, deadline);
            return Ok(hit);
        }
        if Instant::now() > deadline {
            return Err(left);
        }
        std::thread::yield_now();
    }
}

/// Both outputs of the program, line by line; ends when nobody can write to them any more.
fn lines(child: &mut Child) -> Receiver<String> {
    let (sender, lines) = channel();
    let outputs: [Box<dyn Read + Send>; 2] = [
        Box::new(child.stdout.take().unwrap()),
        Box::new(child.stderr.take().unwrap()),
    ];
    for output in outputs {
        let sender = sender.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
    }
    lines
}

fn await_word(lines: &Receiver<String>, word: &str) {
    let deadline = Instant::now() + READY;
    let mut heard = Vec::new();
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) if line.contains(word) => return,
            Ok(line) => heard.push(line),
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => {
                panic!("the program never said {word:?}:\n{}", heard.join("\n"))
            }
        }
    }
}

/// Nobody may hold the other end of the program's output any more.
fn await_end(lines: &Receiver<String>, deadline: Instant) {
    loop {
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(_) => {}
            Err(RecvTimeoutError::Disconnected) => return,
            Err(RecvTimeoutError::Timeout) => panic!("the output of a killed program must end"),
        }
    }
}

/// Orphans are this process's to bury.
fn reap() {
    while let Ok(status) = waitpid(Pid::from_raw(-1), Some(WaitPidFlag::WNOHANG)) {
        if status == WaitStatus::StillAlive {
            return;
        }
    }
}

/// Names in a folder that do not belong there.
fn strays(folder: &Path, own: &[&str]) -> Vec<String> {
    let own: BTreeSet<String> = own.iter().map(|&name| name.to_owned()).collect();
    let names = traces::names(folder);
    names
        .difference(&own)
        .map(|name| format!("the file {}", folder.join(name).display()))
        .collect()
}

/// A folder whose features and scenarios are the project's.
fn project() -> tempfile::TempDir {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for name in ["features", "scenarios"] {
        std::os::unix::fs::symlink(root.join(name), folder.path().join(name)).unwrap();
    }
    folder
}

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| {
        text.parse()
            .unwrap_or_else(|_| panic!("{variable} is no number: {text}"))
    })
}

#[expect(clippy::print_stderr, reason = "the figures are the test's finding")]
fn say(text: &str) {
    eprintln!("{text}");
}

/// SplitMix64: the moments of a seed stay the same on every machine.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (mixed ^ (mixed >> 31)) % bound
    }
}
