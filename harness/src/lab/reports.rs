//! Turns what clients inside pods print into events.
//!
//! Probes and MCP server fixtures write one JSON object a line ([`fixtures::probe::ProbeReport`]); anything else on
//! their output is left alone. The translation is one to one: this module adds a label and takes nothing away.

use std::collections::BTreeMap;

use fixtures::probe::{Phase, ProbeEvent, ProbeReport};
use jiff::Timestamp;

use crate::evidence::{Event, Recorder, observe};

/// Follows the reports of one process and records them under its label.
#[derive(Debug)]
pub(super) struct Reports {
    recorder: Recorder,
    labels: Labels,
    hosts: BTreeMap<u32, String>,
    canaries: BTreeMap<u32, String>,
}

/// What the attempts of one process are called.
#[derive(Debug)]
enum Labels {
    /// After the process; those of a dependency by number and phase.
    Process(String),
    /// Each by itself, in the order of their numbers.
    Each(Vec<String>),
}

impl Reports {
    /// `label` names the process in words: attempts become `<label>` or `<label> #<n> (<phase>)`.
    pub(super) fn new(recorder: Recorder, label: impl Into<String>) -> Self {
        Self::with(recorder, Labels::Process(label.into()))
    }

    /// `labels` name the attempts of a batch, the first one's first.
    pub(super) fn of_batch(recorder: Recorder, labels: Vec<String>) -> Self {
        Self::with(recorder, Labels::Each(labels))
    }

    fn with(recorder: Recorder, labels: Labels) -> Self {
        Self {
            recorder,
            labels,
            hosts: BTreeMap::new(),
            canaries: BTreeMap::new(),
        }
    }

    /// Takes one line of output. Lines that are no reports are ignored.
    pub(super) fn line(&mut self, line: &str) {
        if !line.starts_with('{') {
            return;
        }
        let Ok(report) = serde_json::from_str::<ProbeReport>(line) else {
            return;
        };
        let attempt = self.attempt(&report);
        if let ProbeEvent::Resolved { host, .. } = &report.event {
            self.hosts.insert(report.attempt, host.clone());
        }
        let host = self.hosts.get(&report.attempt).cloned();
        if let (ProbeEvent::Sent { canary, .. }, Some(sent)) =
            (&report.event, observe::sent(&report.event, host))
        {
            self.canaries.insert(report.attempt, canary.clone());
            self.recorder.record(Event::ProbeSent {
                attempt: attempt.clone(),
                canary: canary.clone(),
                sent,
            });
        }
        if let Some(result) = observe::result(&report.event, Timestamp::now()) {
            let canary = self
                .canaries
                .get(&report.attempt)
                .cloned()
                .unwrap_or_default();
            self.recorder.record(Event::ProbeResult {
                attempt,
                canary,
                result,
            });
        }
    }

    fn attempt(&self, report: &ProbeReport) -> String {
        match (&self.labels, report.phase) {
            (Labels::Process(label), None) => label.clone(),
            (Labels::Process(label), Some(phase)) => {
                format!("{label} #{} ({})", report.attempt, phase_words(phase))
            }
            (Labels::Each(labels), _) => {
                let index = usize::try_from(report.attempt).unwrap_or_default();
                let label = labels.get(index.wrapping_sub(1)).cloned();
                // A process that counts further than its list is a hostile one: what it says is kept under its number.
                label.unwrap_or_else(|| format!("attempt #{} of no list", report.attempt))
            }
        }
    }
}

fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::Install => "at installation",
        Phase::StartUp => "at start-up",
        Phase::Call => "during the call",
        Phase::Retry => "second try",
    }
}
