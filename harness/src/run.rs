//! One run: what it is given, how the runner is put together, and what it leaves.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cucumber::event::ScenarioFinished as Ended;
use cucumber::event::StepError;
use cucumber::gherkin::{Feature, Scenario};
use cucumber::{World as _, WriterExt as _, cli, parser};
use fixtures::internet::Internet;
use fixtures::tls::CertificateAuthority;
use futures::FutureExt as _;

use crate::catalog::{self, Catalog};
use crate::cli::RunArgs;
use crate::console::Console;
use crate::deadlines::Deadlines;
use crate::detection::{self, Score};
use crate::evidence::folder::{SCENARIOS, SUITE, scenario_name};
use crate::evidence::{
    self, Event, Folder, Recorder, RunFinished, RunStarted, ScenarioFinished, ScenarioStarted,
    Suite, digest,
};
use crate::expected_failure::{self, ExpectedFailure};
use crate::outcome::{ExitCode, Outcome};
use crate::project::{self, Project};
use crate::report;
use crate::requirement::{Level, Register};
use crate::world::{Verdicts, World, steps_of_scenario};

/// The system under test, as reports and lists of expected failures name it.
const SYSTEM: &str = "stand-ins";

/// Up to this many scenarios, the summary shows the proof of each without being asked.
const DETAILED_SCENARIOS: usize = 3;

/// Why a run could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Data of the project.
    #[error(transparent)]
    Project(#[from] project::Error),
    /// Features.
    #[error(transparent)]
    Catalog(#[from] catalog::Error),
    /// The machine can't run this tier.
    #[error(transparent)]
    Tier(#[from] crate::tier::Error),
    /// Evidence can't be written or read.
    #[error(transparent)]
    Evidence(#[from] evidence::Error),
    /// The system did not start.
    #[error(transparent)]
    Lab(#[from] crate::lab::Error),
    /// The report can't be made.
    #[error(transparent)]
    Report(#[from] report::Error),
    /// A requirement that can't be left unclaimed.
    #[error("--unclaimed {id}: {id} {objection}; expected one of {extended}")]
    Unclaimed {
        /// What was named.
        id: String,
        /// Why it can't be.
        objection: &'static str,
        /// Ids of the extended requirements.
        extended: String,
    },
    /// Something around the run.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// Bad input and an unfit machine are the user's to mend; the rest is ours.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Project(_) | Self::Catalog(_) | Self::Tier(_) | Self::Unclaimed { .. } => {
                ExitCode::Usage
            }
            Self::Evidence(_) | Self::Lab(_) | Self::Report(_) | Self::Setup(_) => {
                ExitCode::HarnessFault
            }
        }
    }
}

/// What every scenario of a run shares.
pub struct RunContext {
    /// The project's data.
    pub project: Project,
    /// The register of requirements: what a result means depends on their levels.
    pub requirements: Register,
    /// The simulated internet, parsed once.
    pub internet: Internet,
    /// The authority behind every certificate of the simulated internet.
    pub authority: CertificateAuthority,
    /// The multi-call binary that containers run.
    pub binary: PathBuf,
    /// Seed of every random choice.
    pub seed: u64,
    /// Seeded faults, by their names in `scenarios/faults.yaml`.
    pub faults: Vec<String>,
    /// Every duration.
    pub deadlines: Deadlines,
    /// The folder of this run.
    pub folder: PathBuf,
    /// What finished scenarios came to.
    pub verdicts: Verdicts,
}

impl RunContext {
    /// The context of a command that runs no scenarios; its folder is a fresh one among the temporary files.
    ///
    /// # Errors
    /// When the project is missing or broken, or the machine can't run a cluster.
    pub fn interactive(
        project_dir: Option<&Path>,
        binary: PathBuf,
        purpose: &str,
    ) -> Result<Self, Error> {
        let folder =
            std::env::temp_dir().join(format!("containment-{purpose}-{}", std::process::id()));
        Self::seeded(project_dir, binary, folder, 1, &[])
    }

    /// The context of a command that runs no scenarios and leaves evidence in `folder`, with seeded faults by their names.
    ///
    /// # Errors
    /// As there, and when nobody seeded such a fault.
    pub fn seeded(
        project_dir: Option<&Path>,
        binary: PathBuf,
        folder: PathBuf,
        seed: u64,
        faults: &[String],
    ) -> Result<Self, Error> {
        crate::tier::embedded::preflight()?;
        let project = Project::find(project_dir)?;
        let faults = project.faults(faults)?;
        Self::new(project, binary, seed, faults, folder)
    }

    pub(crate) fn new(
        project: Project,
        binary: PathBuf,
        seed: u64,
        faults: Vec<String>,
        folder: PathBuf,
    ) -> Result<Self, Error> {
        Ok(Self {
            requirements: project.requirements()?,
            internet: project.internet()?,
            authority: CertificateAuthority::new("containment simulated internet")
                .map_err(|error| Error::Setup(error.to_string()))?,
            binary,
            seed,
            faults,
            deadlines: Deadlines::embedded(),
            folder,
            verdicts: Verdicts::default(),
            project,
        })
    }

    /// The evidence folder of a scenario: named after its feature file, its line and its title.
    pub fn scenario_folder(&self, scenario: &ScenarioStarted) -> PathBuf {
        self.folder.join(SCENARIOS).join(scenario_name(scenario))
    }
}

/// Runs what `args` select and writes the reports.
///
/// # Errors
/// See [`Error`]; a check that does not pass is not an error but the returned exit code.
pub async fn run(args: &RunArgs, binary: PathBuf) -> Result<ExitCode, Error> {
    let (requirements, catalog) = crate::listing::catalog(&args.selection)?;
    catalog.check_steps(&World::collection())?;
    let project = Project::find(args.selection.project_dir.as_deref())?;
    let faults = project.faults(&args.faults)?;
    let expected_failures = match &args.expected_failures {
        Some(path) => expected_failure::load(path, &requirements).map_err(project::Error::from)?,
        None => Vec::new(),
    };
    check_unclaimed(&args.unclaimed, &requirements)?;
    crate::tier::embedded::preflight()?;

    let folder = run_folder(&args.output_dir, &format!("seed-{}", args.seed));
    project.check_servers()?;
    let (score, score_refused) =
        match detection::score::current(&args.output_dir, &project, &binary) {
            Ok(score) => (score, None),
            Err(refused) => (None, Some(refused.to_string())),
        };
    let mut context = RunContext::new(project, binary, args.seed, faults, folder.clone())?;
    context.deadlines.scenario = std::time::Duration::from_secs(args.timeout);
    let details = args.verbose || catalog.scenarios().count() <= DETAILED_SCENARIOS;
    let options = Options {
        concurrency: args.concurrency,
        fail_fast: args.fail_fast,
        quiet: args.quiet,
        command: command(args),
        score,
        score_refused,
        details,
        retries: args.retries,
        expected_failures,
        unclaimed: args.unclaimed.clone(),
    };
    record(&Arc::new(context), catalog, options).await?;
    Ok(report::publish(&folder)?)
}

/// Only an extended requirement can be left unclaimed: a conformant system passes all core ones.
fn check_unclaimed(ids: &[String], requirements: &Register) -> Result<(), Error> {
    for id in ids {
        let objection = match requirements.find(id).map(|requirement| requirement.level) {
            Some(Level::Extended) => continue,
            Some(_) => "is not extended",
            None => "is not registered",
        };
        let extended: Vec<&str> = requirements
            .iter()
            .filter(|requirement| requirement.level == Level::Extended)
            .map(|requirement| requirement.id.as_str())
            .collect();
        return Err(Error::Unclaimed {
            id: id.clone(),
            objection,
            extended: extended.join(", "),
        });
    }
    Ok(())
}

/// How scenarios are run and what is said about it.
#[derive(Default)]
pub(crate) struct Options {
    /// Scenarios side by side.
    pub concurrency: u16,
    /// Stop at the first that does not pass.
    pub fail_fast: bool,
    /// No progress on the terminal.
    pub quiet: bool,
    /// The command that repeats the run.
    pub command: String,
    /// What is known of how well these scenarios detect defects.
    pub score: Option<Score>,
    /// Why a stored score is not shown.
    pub score_refused: Option<String>,
    /// The terminal shows the proof of every scenario.
    pub details: bool,
    /// How often a scenario is tried again.
    pub retries: u8,
    /// Known failures.
    pub expected_failures: Vec<ExpectedFailure>,
    /// Extended requirements whose feature the system does not claim.
    pub unclaimed: Vec<String>,
}

/// Runs the scenarios of `catalog` and leaves their evidence in the context's folder; true when Ctrl-C cut the run.
///
/// # Errors
/// When the evidence can't be written.
pub(crate) async fn record(
    context: &Arc<RunContext>,
    catalog: Catalog,
    options: Options,
) -> Result<bool, Error> {
    let recorder = Recorder::create_run(&context.folder)?;
    let suite = keep_suite(context)?;
    recorder.record(Event::RunStarted(Box::new(RunStarted {
        tool: format!("containment {}", env!("CARGO_PKG_VERSION")),
        seed: context.seed,
        tier: "embedded".to_owned(),
        profile: catalog.profiles().join(","),
        faults: context.faults.clone(),
        command: options.command.clone(),
        detection: options.score.clone(),
        host: nix::unistd::gethostname()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default(),
        suite,
        details: options.details,
        detection_refused: options.score_refused.clone(),
        system: SYSTEM.to_owned(),
        expected_failures: options.expected_failures.clone(),
        unclaimed: options.unclaimed.clone(),
    })));
    let selected = catalog.scenarios().count();
    let catalog = without_unclaimed(context, catalog, &options.unclaimed)?;
    let interrupted = execute(&options, catalog, context).await;
    recorder.record(Event::RunFinished(RunFinished {
        interrupted,
        selected,
    }));
    recorder
        .health()
        .map_err(|error| Error::Setup(error.to_string()))?;
    Ok(interrupted)
}

/// Leaves out the scenarios of unclaimed requirements, and records each as not applicable.
fn without_unclaimed(
    context: &RunContext,
    catalog: Catalog,
    unclaimed: &[String],
) -> Result<Catalog, Error> {
    for (feature, scenario) in catalog.scenarios() {
        let (started, requirements) = describe(feature, scenario, 0);
        let Some(id) = requirements.iter().find(|id| unclaimed.contains(id)) else {
            continue;
        };
        let recorder = Recorder::create(context.scenario_folder(&started))?;
        recorder.record(Event::ScenarioStarted(started));
        for name in context.faults.iter().cloned() {
            recorder.record(Event::FaultActive { name });
        }
        recorder.record(Event::ScenarioFinished(ScenarioFinished {
            outcome: Some(Outcome::NotApplicable),
            reason: Some(format!("the system does not claim the feature of {id}")),
        }));
    }
    Ok(catalog.filtered(|tags, _| !tags.iter().any(|tag| unclaimed.contains(tag))))
}

/// Copies features and scenarios' data into the run's folder, so that the report can be rebuilt from it alone.
fn keep_suite(context: &RunContext) -> Result<Suite, Error> {
    let suite = context.folder.join(SUITE);
    let kept = |name: &str, from: &Path| -> Result<String, Error> {
        let to = suite.join(name);
        copy_folder(from, &to).map_err(|error| {
            Error::Setup(format!(
                "cannot copy {} to {}: {error}",
                from.display(),
                to.display()
            ))
        })?;
        Ok(digest::folder_digest(&Folder::new(to))?)
    };
    Ok(Suite {
        features: kept("features", &context.project.features())?,
        scenarios: kept("scenarios", &context.project.scenarios())?,
        program: digest::program_digest(&context.binary)?,
    })
}

/// Digests of what a run of this project with this program is made with.
pub(crate) fn suite_of(project: &Project, binary: &Path) -> Result<Suite, evidence::Error> {
    Ok(Suite {
        features: digest::folder_digest(&Folder::new(project.features()))?,
        scenarios: digest::folder_digest(&Folder::new(project.scenarios()))?,
        program: digest::program_digest(binary)?,
    })
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Runs the scenarios; true when Ctrl-C cut the run.
async fn execute(options: &Options, catalog: Catalog, context: &Arc<RunContext>) -> bool {
    let console = Console::new(options.quiet, context.verdicts.clone());
    let mut runner = cucumber::runner::Basic::default()
        .steps(World::collection())
        .max_concurrent_scenarios(usize::from(options.concurrency))
        .retries(usize::from(options.retries));
    if options.fail_fast {
        runner = runner.fail_fast();
    }
    let begin = Arc::clone(context);
    let tries: Mutex<BTreeMap<String, u32>> = Mutex::default();
    let runner = runner
        .before(move |feature, _, scenario, world: &mut World| {
            let context = Arc::clone(&begin);
            let retry = {
                let mut tries = tries.lock().unwrap_or_else(PoisonError::into_inner);
                let begun = tries
                    .entry(catalog::location(feature, scenario))
                    .or_default();
                *begun += 1;
                *begun - 1
            };
            let (started, requirements) = describe(feature, scenario, retry);
            let steps = steps_of_scenario(feature, scenario);
            async move {
                if let Err(error) = world.begin(context, started, requirements, steps) {
                    tracing::error!("{error}");
                }
            }
            .boxed_local()
        })
        .after(|_, _, _, ended, world: Option<&mut World>| {
            let panicked = match ended {
                Ended::StepFailed(_, _, StepError::Panic(info)) => Some(panic_words(info)),
                Ended::StepFailed(_, _, other) => Some(other.to_string()),
                _ => None,
            };
            async move {
                if let Some(world) = world {
                    world.end(panicked).await;
                }
            }
            .boxed_local()
        });
    let run = cucumber::Cucumber::<World, _, Catalog, _, _, cli::Empty>::custom(
        Parsed,
        runner,
        console.fail_on_skipped(),
    )
    .with_default_cli()
    .run(catalog);
    tokio::select! {
        _ = run => false,
        _ = tokio::signal::ctrl_c() => true,
    }
}

/// Hands features that are parsed already to the runner.
struct Parsed;

impl cucumber::Parser<Catalog> for Parsed {
    type Cli = cli::Empty;
    type Output = futures::stream::Iter<std::vec::IntoIter<parser::Result<Feature>>>;

    fn parse(self, catalog: Catalog, _: cli::Empty) -> Self::Output {
        futures::stream::iter(
            catalog
                .features()
                .iter()
                .cloned()
                .map(Ok)
                .collect::<Vec<_>>(),
        )
    }
}

fn describe(feature: &Feature, scenario: &Scenario, retry: u32) -> (ScenarioStarted, Vec<String>) {
    let tags: Vec<String> = feature.tags.iter().chain(&scenario.tags).cloned().collect();
    let requirements = catalog::requirement_tags(&tags);
    let started = ScenarioStarted {
        feature: feature.name.clone(),
        name: scenario.name.clone(),
        location: catalog::location(feature, scenario),
        tags,
        retry,
    };
    (started, requirements)
}

/// A fresh folder's name, sorted by time.
pub(crate) fn run_folder(output: &Path, purpose: &str) -> PathBuf {
    let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%S%3fZ");
    output.join(format!("{now}-{purpose}"))
}

/// The command that repeats this run.
fn command(args: &RunArgs) -> String {
    let mut command = "containment run".to_owned();
    if !args.selection.profiles.is_empty() {
        command.push_str(&format!(" --profile {}", args.selection.profiles.join(",")));
    }
    command.push_str(&format!(" --seed {}", args.seed));
    for fault in &args.faults {
        command.push_str(&format!(" --fault {fault}"));
    }
    for id in &args.unclaimed {
        command.push_str(&format!(" --unclaimed {id}"));
    }
    command
}

fn panic_words(info: &cucumber::event::Info) -> String {
    info.downcast_ref::<String>()
        .cloned()
        .or_else(|| info.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "a step panicked".to_owned())
}
