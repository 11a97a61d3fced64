//! One run: what it is given, how the runner is put together, and what it leaves.

use std::path::{Path, PathBuf};
use std::sync::Arc;

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
use crate::evidence::folder::slug;
use crate::evidence::{self, Event, Recorder, RunFinished, RunStarted, ScenarioStarted};
use crate::outcome::ExitCode;
use crate::project::{self, Project};
use crate::report;
use crate::requirement::Register;
use crate::world::{Verdicts, World, steps_of_scenario};

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
    /// Something around the run.
    #[error("{0}")]
    Setup(String),
}

impl Error {
    /// Bad input and an unfit machine are the user's to mend; the rest is ours.
    pub fn exit_code(&self) -> ExitCode {
        match self {
            Self::Project(_) | Self::Catalog(_) | Self::Tier(_) => ExitCode::Usage,
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
        let location = Path::new(&scenario.location);
        let stem = location
            .file_stem()
            .map(|stem| stem.to_string_lossy().into_owned())
            .unwrap_or_default();
        let line = scenario.location.rsplit(':').next().unwrap_or_default();
        self.folder
            .join("scenarios")
            .join(slug(&[&stem, line, &scenario.name]))
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
    crate::tier::embedded::preflight()?;

    let folder = run_folder(&args.output_dir, &format!("seed-{}", args.seed));
    project.check_servers()?;
    let score = detection::score::current(&args.output_dir, &project, &binary);
    let mut context = RunContext::new(project, binary, args.seed, faults, folder.clone())?;
    context.deadlines.scenario = std::time::Duration::from_secs(args.timeout);
    let details = args.verbose || catalog.scenarios().count() <= DETAILED_SCENARIOS;
    let options = Options {
        concurrency: args.concurrency,
        fail_fast: args.fail_fast,
        quiet: args.quiet,
        command: command(args),
        score,
    };
    record(&Arc::new(context), catalog, options).await?;
    Ok(report::publish(&folder, &requirements, details)?)
}

/// How scenarios are run and what is said about it.
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
    recorder.record(Event::RunStarted(RunStarted {
        tool: format!("containment {}", env!("CARGO_PKG_VERSION")),
        seed: context.seed,
        tier: "embedded".to_owned(),
        profile: catalog.profiles().join(","),
        faults: context.faults.clone(),
        command: options.command.clone(),
        detection: options.score.clone(),
    }));
    let selected = catalog.scenarios().count();
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

/// Runs the scenarios; true when Ctrl-C cut the run.
async fn execute(options: &Options, catalog: Catalog, context: &Arc<RunContext>) -> bool {
    let console = Console::new(options.quiet, context.verdicts.clone());
    let mut runner = cucumber::runner::Basic::default()
        .steps(World::collection())
        .max_concurrent_scenarios(usize::from(options.concurrency))
        .retries(None);
    if options.fail_fast {
        runner = runner.fail_fast();
    }
    let begin = Arc::clone(context);
    let runner = runner
        .before(move |feature, _, scenario, world: &mut World| {
            let context = Arc::clone(&begin);
            let (started, requirements) = describe(feature, scenario);
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

fn describe(feature: &Feature, scenario: &Scenario) -> (ScenarioStarted, Vec<String>) {
    let tags: Vec<String> = feature.tags.iter().chain(&scenario.tags).cloned().collect();
    let requirements = catalog::requirement_tags(&tags);
    let started = ScenarioStarted {
        feature: feature.name.clone(),
        name: scenario.name.clone(),
        location: catalog::location(feature, scenario),
        tags,
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
    command
}

fn panic_words(info: &cucumber::event::Info) -> String {
    info.downcast_ref::<String>()
        .cloned()
        .or_else(|| info.downcast_ref::<&str>().map(|&text| text.to_owned()))
        .unwrap_or_else(|| "a step panicked".to_owned())
}
