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
    label: String,
    hosts: BTreeMap<u32, String>,
    canaries: BTreeMap<u32, String>,
}

impl Reports {
    /// `label` names the process in words: attempts become `<label>` or `<label> #<n> (<phase>)`.
    pub(super) fn new(recorder: Recorder, label: impl Into<String>) -> Self {
        Self {
            recorder,
            label: label.into(),
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
        match report.phase {
            None => self.label.clone(),
            Some(phase) => format!(
                "{} #{} ({})",
                self.label,
                report.attempt,
                phase_words(phase)
            ),
        }
    }
}

fn phase_words(phase: Phase) -> &'static str {
    match phase {
        Phase::StartUp => "at start-up",
        Phase::Call => "during the call",
        Phase::Retry => "second try",
    }
}
