//! The report as data, `containment.report/v1`.
//!
//! Within a version fields are only ever added; a reader ignores what it does not know. Every
//! field says what its absence means.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::ops::Deref;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::detection::Score;
use crate::evidence::{StepOutcome, StepStarted, Suite};
use crate::expected_failure::ExpectedFailure;
use crate::judge::CheckResult;
use crate::outcome::{ExitCode, Outcome, Tally, exit_code};
use crate::requirement::Level;

/// Name and version of this schema.
pub const SCHEMA: &str = "containment.report/v1";

/// The report of one run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Always [`SCHEMA`].
    pub schema: String,
    /// How the run was made.
    pub run: Run,
    /// Counts, and the exit code that follows from them.
    pub summary: Summary,
    /// One entry per scenario that was started, in the order of their folders. A selected
    /// scenario without an entry never started and counts as unproven.
    pub scenarios: Vec<Scenario>,
    /// One entry per requirement of the selected profile, and per requirement of another profile
    /// that a scenario names. A requirement without an entry was not looked at.
    pub requirements: Vec<Coverage>,
    /// What was measured. Empty: nothing was.
    pub figures: Vec<Figure>,
    /// What became of each listed failure. Empty: none was listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_failures: Vec<Expectation>,
}

/// A listed failure, and what the run says about it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Expectation {
    /// The entry, as it stands in the list.
    pub entry: ExpectedFailure,
    /// What became of it.
    pub state: ExpectationState,
    /// The checks that it is about. Empty: none was made.
    pub checks: Vec<CheckRef>,
}

/// What became of a listed failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ExpectationState {
    /// A check that it is about failed, as listed.
    Failed,
    /// Every check that it is about passed: the entry is to be removed.
    Stale,
    /// A check that it is about neither failed nor passed.
    Unproven,
    /// No check that it is about was made.
    NotRun,
    /// The run started after its last day: it counts as not listed.
    Expired,
    /// It is about another system.
    OtherSystem,
}

/// How a run was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Run {
    /// Name and version of the tool.
    pub tool: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// Where the cluster came from: `embedded`, `kind` or `existing`.
    pub tier: String,
    /// The profiles that were selected, separated by commas.
    pub profile: String,
    /// The command that repeats the run.
    pub command: String,
    /// Name of the machine that ran it.
    pub host: String,
    /// Name of the system under test.
    pub system: String,
    /// Extended requirements whose feature the system does not claim. Empty: it claims every feature.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclaimed: Vec<String>,
    /// Digests of what it was made with: features, scenarios' data, program.
    pub suite: Suite,
    /// When it started.
    pub started_at: Timestamp,
    /// When it ended. Absent: it was killed, and what it left is all there is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Timestamp>,
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// Seeded faults that were active. Empty: the stand-ins worked as designed.
    pub faults: Vec<String>,
    /// How many seeded faults these scenarios catch. Absent: it was not measured with these scenarios and this program
    /// (`containment faults` does).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Score>,
    /// Why a stored score is not shown. Absent: there is none, or it is about other scenarios or another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_refused: Option<String>,
    /// Why this report must not be signed. Absent: nothing in it forbids a signature.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_signable: Option<String>,
}

/// Counts of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// The exit code of the run.
    pub exit_code: u8,
    /// The run in one sentence.
    pub verdict: String,
    /// Scenarios that were selected. Absent: the run was killed before it could say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub selected: Option<usize>,
    /// Scenarios by outcome. A missing outcome: none.
    pub scenarios: BTreeMap<Outcome, usize>,
    /// Checks by outcome. A missing outcome: none.
    pub checks: BTreeMap<Outcome, usize>,
    /// What the exit code follows from.
    pub tally: Tally,
}

impl Summary {
    /// The exit code, from what it follows from.
    #[must_use]
    pub fn exit_code(&self) -> ExitCode {
        exit_code(&self.tally)
    }
}

/// One scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scenario {
    /// Title of its feature.
    pub feature: String,
    /// Its title.
    pub name: String,
    /// `path:line`.
    pub location: String,
    /// Requirements that its tags name.
    pub requirements: Vec<String>,
    /// What it came to: the gravest of its checks and of what went wrong around them.
    pub outcome: Outcome,
    /// Why, when no check says so: what broke, what was waited for. Absent: the checks say it all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// When it started.
    pub started_at: Timestamp,
    /// Microseconds from its first event to its last.
    pub elapsed_us: u64,
    /// Its steps, in order. A step that was never reached may be missing.
    pub steps: Vec<Step>,
    /// Results of the judge, in order. Empty: nothing was judged, and nothing is proven.
    pub checks: Vec<Check>,
    /// Earlier tries in this run, in order, none of them settled. Empty: it was tried once.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub earlier: Vec<Try>,
    /// Things worth telling. Empty: none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Its evidence folder, relative to the report.
    pub evidence: String,
    /// SHA-256 of the manifest of that folder: it binds every file there to this report.
    pub evidence_sha256: String,
    /// The command that repeats it alone.
    pub reproduce: String,
}

/// A result of the judge, with its place in the evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Check {
    /// The result.
    #[serde(flatten)]
    pub result: CheckResult,
    /// Position of its event in `events.jsonl`.
    pub seq: u64,
    /// Microseconds from the scenario's start to this result.
    pub at_us: u64,
    /// Why its failure is expected. Absent: it did not fail, or is not listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected_failure: Option<String>,
}

impl Deref for Check {
    type Target = CheckResult;

    fn deref(&self) -> &CheckResult {
        &self.result
    }
}

impl Borrow<CheckResult> for Check {
    fn borrow(&self) -> &CheckResult {
        &self.result
    }
}

/// A try of a scenario that a later one replaced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Try {
    /// What it came to.
    pub outcome: Outcome,
    /// Why, in one sentence.
    pub reason: String,
    /// Its evidence folder, relative to the report.
    pub evidence: String,
    /// SHA-256 of the manifest of that folder.
    pub evidence_sha256: String,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Keyword, sentence and line.
    #[serde(flatten)]
    pub step: StepStarted,
    /// How it ended. Absent: it never ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<StepOutcome>,
    /// Why it did not pass. Absent: it passed, or says nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Microseconds from its start to its end. Absent: it never ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elapsed_us: Option<u64>,
}

/// What a run says about one requirement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Coverage {
    /// Its id.
    pub id: String,
    /// How much it weighs. Absent: the register does not know the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Its sentence. Absent: the register does not know the id.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub must: Option<String>,
    /// What the run says.
    pub state: CoverageState,
    /// The checks that speak for it. Empty: no check does.
    pub checks: Vec<CheckRef>,
}

/// What a run says about a requirement.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum CoverageState {
    /// Every check that speaks for it passed, and there is one.
    Shown,
    /// It is an open question, and the system answered it.
    Answered,
    /// A residual risk was shown, with its compensating control.
    Finding,
    /// A check that speaks for it failed.
    Failed,
    /// This tier or machine has no means to show it.
    NotTestable,
    /// The system does not claim the feature.
    NotApplicable,
    /// Neither: not looked at, or not proven.
    Open,
}

/// A check, by its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckRef {
    /// Title of the scenario.
    pub scenario: String,
    /// Name of the check.
    pub check: String,
    /// What it came to.
    pub outcome: Outcome,
}

/// What was measured under one name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Figure {
    /// `time-to-enforce`, `denial-latency`, ...
    pub name: String,
    /// How many values there are.
    pub count: usize,
    /// The value that half of them do not exceed, in microseconds.
    pub p50_us: u64,
    /// The value that 95 of 100 do not exceed, in microseconds.
    pub p95_us: u64,
    /// The largest, in microseconds.
    pub max_us: u64,
    /// The stated bound. Absent: no requirement states one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bound_us: Option<u64>,
}
