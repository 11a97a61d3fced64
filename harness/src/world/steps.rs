//! Gherkin steps on record: when each began, how it ended, and which were never reached.

use cucumber::gherkin;

use super::{Failure, Scene, Step};
use crate::evidence::{Event, Recorder, StepFinished, StepOutcome, StepStarted};

/// The steps of one scenario, background first, and how far the scenario came.
#[derive(Debug, Default)]
pub(super) struct Steps {
    planned: Vec<StepStarted>,
    begun: usize,
    running: Option<StepStarted>,
}

impl Steps {
    pub(super) fn planned(planned: Vec<StepStarted>) -> Self {
        Self {
            planned,
            begun: 0,
            running: None,
        }
    }

    /// Feature line of the step that runs now.
    pub(super) fn line(&self) -> Option<u64> {
        self.running.as_ref().map(|step| step.line)
    }

    pub(super) fn begin(&mut self, step: &gherkin::Step, recorder: &Recorder) {
        let started = described(step);
        self.begun += 1;
        self.running = Some(started.clone());
        recorder.record(Event::StepStarted(started));
    }

    pub(super) fn finish(&mut self, result: &Step, recorder: &Recorder) {
        let (outcome, message) = match result {
            Ok(()) => (StepOutcome::Passed, None),
            Err(failure) => (StepOutcome::Failed, Some(in_brief(failure))),
        };
        self.close(outcome, message, recorder);
    }

    /// Records the end of a step that panicked, and every step after the last one that began as skipped.
    pub(super) fn finish_all(&mut self, panicked: Option<&str>, recorder: &Recorder) {
        let why = panicked.unwrap_or("the step did not return");
        self.close(StepOutcome::Failed, Some(why.to_owned()), recorder);
        for step in self.planned.iter().skip(self.begun) {
            let skipped = ended(step.clone(), StepOutcome::Skipped, None);
            recorder.record(Event::StepFinished(skipped));
        }
    }

    fn close(&mut self, outcome: StepOutcome, message: Option<String>, recorder: &Recorder) {
        if let Some(step) = self.running.take() {
            recorder.record(Event::StepFinished(ended(step, outcome, message)));
        }
    }
}

impl Scene {
    /// Feature line of the step that runs now; none outside of steps.
    pub fn step_line(&self) -> Option<u64> {
        self.steps.line()
    }
}

/// The steps of a scenario in the order in which they run: those of the background first.
pub(crate) fn of_scenario(
    feature: &gherkin::Feature,
    scenario: &gherkin::Scenario,
) -> Vec<StepStarted> {
    let background = feature.background.iter().flat_map(|part| &part.steps);
    background.chain(&scenario.steps).map(described).collect()
}

fn described(step: &gherkin::Step) -> StepStarted {
    StepStarted {
        keyword: step.keyword.trim().to_owned(),
        text: step.value.clone(),
        line: step.position.line as u64,
    }
}

fn ended(step: StepStarted, outcome: StepOutcome, message: Option<String>) -> StepFinished {
    StepFinished {
        keyword: step.keyword,
        text: step.text,
        line: step.line,
        outcome,
        message,
    }
}

/// A failed check is recorded whole in an event of its own; the step names it.
fn in_brief(failure: &Failure) -> String {
    match failure {
        Failure::Check(check) => format!("{} [{}]", check.check, check.outcome),
        other => other.to_string(),
    }
}
