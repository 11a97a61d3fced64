//! What one scenario has in its hands: its evidence folder, what its Given steps asked for, and the running system.
//!
//! Steps go through [`World::act`], which bounds every step by the scenario's deadline, names what a cut step waited
//! for, and sorts failures: a check that did not pass is a verdict about the system; anything else is a fault of the
//! harness or of a stand-in and must never look like a verdict.

mod causes;
mod closing;
mod steps;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use cucumber::gherkin;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::claims::UnknownKind;
use crate::evidence::{Event, Recorder, ScenarioFinished, ScenarioStarted, StepStarted};
use crate::judge::{CheckResult, Control, Judged};
use crate::lab::{self, Lab, Setup};
use crate::outcome::Outcome;
use crate::report::not_shown;
use crate::run::RunContext;
use crate::steps::authoring::Authoring;
use crate::steps::catalog::FromCatalog;
use crate::steps::dns::Lookups;
use crate::steps::lifecycle::Life;
use crate::steps::lists::Lists;
use crate::steps::platform::Setting;
use crate::steps::replacement::Replaced;
use crate::steps::trespass::Trespass;
use crate::steps::update::Change;
use crate::waiting::Waiting;

use steps::Steps;
pub(crate) use steps::of_scenario as steps_of_scenario;

/// Why a step did not pass.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The judge compared and did not find what was expected. The result is already recorded.
    #[error("{0}")]
    Check(Box<CheckResult>),
    /// The harness, a stand-in or a fixture broke, or something did not come in time.
    #[error("{0}")]
    Lab(#[from] lab::Error),
    /// The scenario's deadline passed.
    #[error("cut at the scenario's deadline of {seconds} s; it waited for {waited_for}")]
    Deadline {
        /// The deadline.
        seconds: u64,
        /// What the step waited for.
        waited_for: String,
    },
    /// The scenario contradicts its data or itself.
    #[error("{0}")]
    Scenario(String),
    /// This tier or this machine has no means to show it: what is missing, in words.
    #[error("not testable here: {0}")]
    NotTestable(String),
}

impl From<crate::tier::Error> for Failure {
    fn from(error: crate::tier::Error) -> Self {
        Self::Lab(error.into())
    }
}

impl Failure {
    /// What it makes of a scenario by itself. A check speaks for itself.
    fn outcome(&self) -> Option<Outcome> {
        match self {
            Self::Check(_) => None,
            Self::NotTestable(_) => Some(Outcome::NotTestable),
            Self::Lab(_) | Self::Deadline { .. } | Self::Scenario(_) => Some(Outcome::HarnessError),
        }
    }
}

/// What a step returns.
pub type Step = Result<(), Failure>;

/// The state of one scenario, as the runner sees it.
#[derive(Default, cucumber::World)]
#[world(init = Self::default)]
pub struct World {
    scene: Option<Scene>,
}

impl fmt::Debug for World {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("World")
            .field(
                "scenario",
                &self.scene.as_ref().map(|scene| &scene.location),
            )
            .finish()
    }
}

/// A scenario that is being run.
pub struct Scene {
    /// The run it belongs to.
    pub context: Arc<RunContext>,
    /// Its evidence.
    pub recorder: Recorder,
    /// Ids of the requirements its tags name: what its checks may speak for.
    pub requirements: Vec<String>,
    /// What the Given steps asked for before the system was started.
    pub setup: Setup,
    /// Labels of the attempts that the last When step made.
    pub attempts: Vec<String>,
    /// The server, or the Pod without one, that made them.
    pub sender: Option<String>,
    /// The last request that a step called a control and that was proven to pass: the control of the denials after it.
    pub control: Option<Control>,
    /// How many probes were sent; keeps labels apart.
    pub probes_sent: u32,
    /// The token in the record that an agent's call moves.
    pub canary: Option<String>,
    /// When the agent called.
    pub called_at: Option<Timestamp>,
    /// The result about the log of the permit that a step proved, for the step that speaks of it.
    pub permit_log: Option<CheckResult>,
    /// The last change of a list.
    pub change: Option<Change>,
    /// What the steps about manifests and policies hand to one another.
    pub authoring: Authoring,
    /// Results about flows that were drawn from a seed, for the step that speaks of them.
    pub drawn: Option<Vec<CheckResult>>,
    /// What happened to parts of the system.
    pub life: Life,
    /// Queries to cluster DNS.
    pub lookups: Lookups,
    /// What was sent while policies were replaced.
    pub replaced: Replaced,
    /// Servers whose Pods hold a load, and its label.
    pub loads: Vec<(String, String)>,
    /// Names of servers that were launched together.
    pub burst: Vec<String>,
    /// Servers whose lists are generated.
    pub lists: Lists,
    /// The platform's design, and canaries on it.
    pub platform: Setting,
    /// Ids of what was made with the catalog.
    pub catalog: FromCatalog,
    /// What a server tried with the orchestrator's help.
    pub trespass: Trespass,
    /// Results of the step that runs now that leave something wrong or unproven.
    unsettled: Mutex<Vec<CheckResult>>,
    /// Attempts that steps judged.
    judged: Mutex<Vec<Judged>>,
    lab: Option<Lab>,
    steps: Steps,
    waiting: Waiting,
    location: String,
    deadline: Instant,
    ended: Option<(Outcome, String)>,
}

impl Scene {
    /// The running system; the first call starts it as [`Scene::setup`] says.
    ///
    /// # Errors
    /// When a part of it does not start.
    pub async fn lab(&mut self) -> Result<&mut Lab, lab::Error> {
        if self.lab.is_none() {
            self.lab =
                Some(Lab::start(&self.context, &self.setup, &self.recorder, &self.waiting).await?);
        }
        Ok(self.lab.as_mut().expect("invariant: set above"))
    }

    /// Whether the system was started.
    pub fn runs(&self) -> bool {
        self.lab.is_some()
    }

    /// Changes the set-up.
    ///
    /// # Errors
    /// [`Failure::Scenario`] when the system runs already.
    pub fn set_up(&mut self, change: impl FnOnce(&mut Setup)) -> Step {
        if self.lab.is_some() {
            return Err(Failure::Scenario(
                "a setting of the system comes after a step that started it".to_owned(),
            ));
        }
        change(&mut self.setup);
        Ok(())
    }

    /// Records results; where something is wrong or unproven the end of the step does, once it knows why. The first that
    /// is so becomes the step's failure.
    ///
    /// # Errors
    /// [`Failure::Check`] unless every outcome [is settled](crate::outcome::Outcome::is_settled);
    /// [`Failure::Scenario`] for a check of a kind that `scenarios/claims.yaml` does not know.
    pub fn settle(&self, results: Vec<CheckResult>) -> Step {
        let results = self
            .claimed(results)
            .map_err(|unknown| Failure::Scenario(unknown.to_string()))?;
        if results.iter().all(|result| result.outcome.is_settled()) {
            self.record(results);
            return Ok(());
        }
        let first = self.first_unsettled(&results);
        self.unsettled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend(results);
        first.map_or(Ok(()), |result| Err(Failure::Check(Box::new(result))))
    }

    /// The results, each with the requirements that it speaks for.
    fn claimed(&self, mut results: Vec<CheckResult>) -> Result<Vec<CheckResult>, UnknownKind> {
        let claims = self.context.requirements.claims();
        for result in &mut results {
            result.requirements =
                claims.spoken_for(&result.kind, &result.about, &self.requirements)?;
        }
        Ok(results)
    }
}

impl World {
    /// Gives a fresh world its scenario.
    ///
    /// # Errors
    /// When the evidence folder can't be made.
    pub fn begin(
        &mut self,
        context: Arc<RunContext>,
        started: ScenarioStarted,
        requirements: Vec<String>,
        steps: Vec<StepStarted>,
    ) -> Result<(), crate::evidence::Error> {
        let location = started.location.clone();
        let recorder = Recorder::create(context.scenario_folder(&started))?;
        recorder.record(Event::ScenarioStarted(started));
        for fault in &context.faults {
            recorder.record(Event::FaultActive {
                name: fault.clone(),
            });
        }
        let deadline = Instant::now() + context.deadlines.scenario;
        self.scene = Some(Scene {
            context,
            recorder,
            requirements,
            setup: Setup::default(),
            attempts: Vec::new(),
            sender: None,
            control: None,
            probes_sent: 0,
            canary: None,
            called_at: None,
            permit_log: None,
            change: None,
            authoring: Authoring::default(),
            drawn: None,
            life: Life::default(),
            lookups: Lookups::default(),
            replaced: Replaced::default(),
            loads: Vec::new(),
            burst: Vec::new(),
            lists: Lists::default(),
            platform: Setting::default(),
            catalog: FromCatalog::default(),
            trespass: Trespass::default(),
            unsettled: Mutex::default(),
            judged: Mutex::default(),
            lab: None,
            steps: Steps::planned(steps),
            waiting: Waiting::default(),
            location,
            deadline,
            ended: None,
        });
        Ok(())
    }

    /// Runs what a step does, bounded by the scenario's deadline, and records its start and its end.
    ///
    /// # Errors
    /// What `action` returns, or [`Failure::Deadline`].
    pub async fn act(
        &mut self,
        step: &gherkin::Step,
        action: impl AsyncFnOnce(&mut Scene) -> Step,
    ) -> Step {
        let Some(scene) = self.scene.as_mut() else {
            return Err(Failure::Scenario("the scenario was never begun".to_owned()));
        };
        scene.steps.begin(step, &scene.recorder);
        let (deadline, waiting) = (scene.deadline, scene.waiting.clone());
        let result = match tokio::time::timeout_at(deadline, action(scene)).await {
            Ok(result) => result,
            Err(_) => Err(Failure::Deadline {
                seconds: scene.context.deadlines.scenario.as_secs(),
                waited_for: waiting
                    .current()
                    .unwrap_or_else(|| "a step that named nothing".to_owned()),
            }),
        };
        let result = scene.with_causes(result).await;
        scene.steps.finish(&result, &scene.recorder);
        if let Err(failure) = &result
            && let Some(outcome) = failure.outcome()
        {
            scene.ended = Some((outcome, failure.to_string()));
        }
        result
    }

    /// Captures the state, takes the system down and writes the last event. `panicked` is what a step died of when
    /// it did not return.
    pub async fn end(&mut self, panicked: Option<String>) {
        let Some(mut scene) = self.scene.take() else {
            return;
        };
        let Scene {
            steps, recorder, ..
        } = &mut scene;
        steps.finish_all(panicked.as_deref(), recorder);
        scene
            .close(panicked.is_some() || scene.ended.is_some())
            .await;
        if let Some(lab) = scene.lab.take() {
            let crashes = lab.finish().await;
            if scene.ended.is_none() && !crashes.is_empty() {
                scene.ended = Some((
                    Outcome::HarnessError,
                    format!("a stand-in or fixture crashed: {}", crashes.join("; ")),
                ));
            }
        }
        if let Err(error) = scene.recorder.health() {
            scene.ended = Some((Outcome::HarnessError, error.to_string()));
        }
        if let (None, Some(message)) = (&scene.ended, panicked) {
            let by_check =
                scene.recorder.events().iter().any(
                    |recorded| matches!(&recorded.event, Event::Check(check) if !check.outcome.is_settled()),
                );
            if !by_check {
                scene.ended = Some((Outcome::HarnessError, message));
            }
        }
        let finished =
            scene
                .ended
                .take()
                .map_or_else(ScenarioFinished::default, |(outcome, reason)| {
                    ScenarioFinished {
                        outcome: Some(outcome),
                        reason: Some(reason),
                    }
                });
        scene
            .context
            .verdicts
            .set(&scene.location, scene.verdict(&finished));
        scene.recorder.record(Event::ScenarioFinished(finished));
    }
}

impl Scene {
    /// What the scenario came to, as the report will say.
    fn verdict(&self, finished: &ScenarioFinished) -> Outcome {
        let events = self.recorder.events();
        let checks: Vec<CheckResult> = events
            .iter()
            .filter_map(|recorded| match &recorded.event {
                Event::Check(check) => Some(check.clone()),
                _ => None,
            })
            .collect();
        let outcomes = checks.iter().map(|check| check.outcome);
        let outcome = Outcome::gravest(outcomes.chain(finished.outcome));
        let shows_its_tags =
            || not_shown(&self.requirements, &checks, &self.context.requirements).is_none();
        if outcome.is_settled() && outcome != Outcome::NotApplicable && !shows_its_tags() {
            return Outcome::HarnessError;
        }
        outcome
    }
}

/// What finished scenarios came to, by location. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Verdicts(Arc<Mutex<BTreeMap<String, Outcome>>>);

impl Verdicts {
    /// What a scenario came to; none while it runs.
    pub fn of(&self, location: &str) -> Option<Outcome> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .get(location)
            .copied()
    }

    fn set(&self, location: &str, outcome: Outcome) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(location.to_owned(), outcome);
    }
}
