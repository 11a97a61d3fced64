//! The command line. It teaches: `--help` of every command says what it does, what it needs and what it leaves.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use cucumber::gherkin::tagexpr::TagOperation;

const AFTER_HELP: &str = "\
Exit codes:
  0 conformant   1 a check failed   2 usage or environment   3 incomplete or inconclusive
  4 positive control broken   5 a stale expected failure   70 harness fault   130 interrupted

Examples:
  containment                                   run every profile on an embedded cluster
  containment run --tags @EGR-03                run the flagship attack only
  containment run --fault no-denial-log         see the suite catch a defect
  containment faults                            see it catch every seeded defect
  containment up                                leave a cluster running for kubectl";

/// Proves or refutes: a compromised MCP server in Kubernetes cannot carry data out.
///
/// Without a command it runs every profile on an embedded cluster: real processes in Linux namespaces, a fake
/// Aviatrix gateway inline, a simulated internet. The attack really happens; the verdict is judged from evidence at both
/// ends of the wire.
#[derive(Debug, Parser)]
#[command(name = "containment", version, after_help = AFTER_HELP, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// What to do; `run` when absent.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// Options of `run`, when no command is named.
    #[command(flatten)]
    pub run: RunArgs,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and write a verdict with its evidence.
    Run(RunArgs),
    /// Rebuild the report of a run from its folder: report.json, junit.xml and the summary, byte for byte. Exit code of the
    /// run; 1 when the folder holds another report than its evidence makes.
    Report(ReportArgs),
    /// Check the folder of a run: every digest, every event in order, files that agree, and the report that the evidence
    /// makes. Exit code 1 names each file that differs.
    #[command(after_help = VERIFY_HELP)]
    Verify(VerifyArgs),
    /// List scenarios and the requirements they show, per profile what is open, without running anything.
    List(SelectionArgs),
    /// Seed one defect after the other and show which scenario catches it: who tests the tests. Uncaught is exit code 1.
    Faults(FaultsArgs),
    /// Say what this machine can run, with a remedy for each gap. Exit code 2 when it can't run the embedded tier.
    Doctor,
    /// Start an embedded cluster with the whole system in it and leave it running for kubectl, until Ctrl-C.
    Up(UpArgs),
    /// Measure the embedded cluster: start-up, a proven denial, memory. Prints figures, asserts nothing.
    Bench(BenchArgs),
    /// Draw policies and flows from a seed, send hundreds of probes through one cluster, and compare each with a model
    /// of the documented policy.
    #[command(after_help = FUZZ_HELP)]
    FuzzPolicy(FuzzArgs),
    /// Run one role of the system in the foreground, configured by the environment variables its --help lists.
    #[command(subcommand)]
    Serve(Box<Role>),
    /// Send one probe and report every step of it as a JSON line. Used inside pods; works anywhere.
    Probe(fixtures::probe::Args),
}

/// Roles that one binary can play inside or around a cluster.
#[derive(Debug, Subcommand)]
pub enum Role {
    /// Obot stand-in: HTTP API, storage API, Kubernetes objects per server.
    Obot(Box<fixtures::obot::Args>),
    /// Policy controller stand-in: MCPNetworkPolicy in, FirewallPolicy out.
    PolicyController(fixtures::policy_controller::Args),
    /// MCP server with an optional hostile dependency.
    McpServer(fixtures::mcp_server::Args),
    /// Wrapper of npx servers: MCP over HTTP outside, a process on standard input and output inside.
    StdioWrapper(fixtures::stdio_wrapper::Args),
    /// Simulated internet on addresses of this machine: EHR, APIs, sinks, DNS.
    Internet(fixtures::internet::Args),
    /// Fake Aviatrix controller with the vendor's HTTP API, alone: try Terraform or scripts against it.
    #[command(after_help = crate::serve_controller::AFTER_HELP)]
    Controller(crate::serve_controller::Args),
    /// Do nothing until stopped, as a Pod that probes are run in.
    Idle,
}

/// Where the cluster comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tier {
    /// Linux namespaces in this process tree; nothing to install.
    Embedded,
}

/// Which scenarios, from where.
#[derive(Debug, Clone, Args)]
pub struct SelectionArgs {
    /// Profiles to take, folders below features/ (repeatable, or separated by commas). Default: all of them.
    #[arg(long = "profile", value_name = "PROFILE", value_delimiter = ',')]
    pub profiles: Vec<String>,
    /// Tag expression, for example "@EGR-03" or "@egress and not @slow".
    #[arg(long, short = 't', value_name = "EXPRESSION")]
    pub tags: Option<TagOperation>,
    /// Run only scenarios whose name contains TEXT.
    #[arg(long, short = 'n', value_name = "TEXT")]
    pub name: Option<String>,
    /// The project's folder: holds features/ and scenarios/. Default: this folder or the nearest one above it.
    #[arg(long, value_name = "DIR", env = "CONTAINMENT_PROJECT_DIR")]
    pub project_dir: Option<PathBuf>,
}

/// Options of `run`.
#[derive(Debug, Clone, Args)]
pub struct RunArgs {
    #[command(flatten)]
    pub selection: SelectionArgs,
    /// Tier to run on.
    #[arg(long, value_enum, default_value_t = Tier::Embedded)]
    pub tier: Tier,
    /// List the selected scenarios and stop.
    #[arg(long)]
    pub list: bool,
    /// Where evidence and reports go; a folder per run is made in it.
    #[arg(
        long,
        short = 'o',
        value_name = "DIR",
        default_value = "containment-results"
    )]
    pub output_dir: PathBuf,
    /// Stop at the first scenario that does not pass.
    #[arg(long)]
    pub fail_fast: bool,
    /// Switch on a seeded fault of scenarios/faults.yaml (repeatable). The run is stamped and can't be signed.
    #[arg(long = "fault", value_name = "ID")]
    pub faults: Vec<String>,
    /// Seed of every random choice; a run is repeatable by its seed.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Scenarios side by side, each in a cluster of its own.
    #[arg(long, value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub concurrency: u16,
    /// Cut a scenario after this many seconds and say what it waited for.
    #[arg(long, value_name = "SECONDS", default_value_t = 240, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub timeout: u64,
    /// Try a scenario again, up to N times, when a step of it did not pass. One that passes on retry is flaky: exit code 3.
    /// The evidence of every try is kept.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=10))]
    pub retries: u8,
    /// Known failures: a YAML list of {requirement or check, system, reason, expires: YYYY-MM-DD}. A listed failure does not
    /// fail the run; a listed one that passes does: exit code 5. After its last day an entry counts as not listed.
    #[arg(long, value_name = "FILE")]
    pub expected_failures: Option<PathBuf>,
    /// An extended requirement whose feature the system does not claim (repeatable): its scenarios are not-applicable and
    /// are not run.
    #[arg(long = "unclaimed", value_name = "ID")]
    pub unclaimed: Vec<String>,
    /// Keep quiet on the terminal until the summary.
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// Show the proof of every scenario in the summary, not only of those that need attention.
    #[arg(long, short = 'v')]
    pub verbose: bool,
}

/// Options of `report`.
#[derive(Debug, Clone, Args)]
pub struct ReportArgs {
    /// The folder of a run.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// Where report.json and junit.xml go. Default: the folder of the run, where a different report is never overwritten.
    #[arg(long, short = 'o', value_name = "DIR")]
    pub output_dir: Option<PathBuf>,
    /// Show the proof of every scenario, also when the run did not.
    #[arg(long, short = 'v')]
    pub verbose: bool,
}

/// Options of `verify`.
#[derive(Debug, Clone, Args)]
pub struct VerifyArgs {
    /// The folder of a run.
    #[arg(value_name = "FOLDER")]
    pub folder: PathBuf,
    /// SHA-256 of the run's SHA256SUMS, as the run printed it: recognises the very folder.
    #[arg(long, value_name = "SHA256")]
    pub digest: Option<String>,
}

const VERIFY_HELP: &str = "\
What it shows:
  Nothing was changed, added, removed or swapped since the run wrote its manifests; events are in order without gaps; the
  suite is the one that the run names; the report is what the evidence makes.

What it does not show:
  Who made the folder. Its digests are not signed: an editor who changes the evidence consistently and recomputes every
  manifest and report is detected only by --digest, with a digest that was kept elsewhere.

Exit codes:
  0 verified   1 something differs, by file   2 no folder of a run";

/// Options of `faults`.
#[derive(Debug, Clone, Args)]
pub struct FaultsArgs {
    /// Faults to seed, by their names in scenarios/faults.yaml (repeatable). Default: all of them.
    #[arg(long = "fault", value_name = "ID")]
    pub faults: Vec<String>,
    /// Which scenarios each fault is run against.
    #[arg(long, value_enum, default_value_t = Breadth::Tagged)]
    pub breadth: Breadth,
    /// Faults side by side, each in clusters of its own.
    #[arg(long, short = 'j', value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub jobs: u16,
    /// Seed of every random choice.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Where evidence and the score go; a folder per matrix is made in it.
    #[arg(
        long,
        short = 'o',
        value_name = "DIR",
        default_value = "containment-results"
    )]
    pub output_dir: PathBuf,
    /// Keep quiet on the terminal until the matrix.
    #[arg(long, short = 'q')]
    pub quiet: bool,
    /// The project's folder: holds features/ and scenarios/. Default: this folder or the nearest one above it.
    #[arg(long, value_name = "DIR", env = "CONTAINMENT_PROJECT_DIR")]
    pub project_dir: Option<PathBuf>,
}

/// Which scenarios a seeded fault is run against.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Breadth {
    /// The one that faults.yaml says must turn red.
    Named,
    /// That one, and those that alone or almost alone speak for a requirement which the fault must turn red.
    Tagged,
    /// Every scenario.
    All,
}

/// Options of `up`.
#[derive(Debug, Clone, Args)]
pub struct UpArgs {
    /// The project's folder: holds scenarios/. Default: this folder or the nearest one above it.
    #[arg(long, value_name = "DIR", env = "CONTAINMENT_PROJECT_DIR")]
    pub project_dir: Option<PathBuf>,
    /// The kubeconfig to merge cluster, user and context `containment` into until Ctrl-C. Default: a file of its own that
    /// only this user can read, removed at Ctrl-C.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Server manifests to create and launch, by their names in scenarios/servers/.
    #[arg(long = "server", value_name = "NAME")]
    pub servers: Vec<String>,
}

/// Options of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// How often each measurement of start-up is repeated; 0 leaves start-up and memory out.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub count: u16,
    /// Servers with distinct lists in one cluster: set-up time, time to enforce, and whether each is held to its list.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=1000))]
    pub servers: u16,
    /// Seconds of 500 calls each to the fake controller's HTTP API on one thread, and nothing else: what a call takes.
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u16).range(0..=600))]
    pub controller: u16,
    /// A policy of 5,000 rules and 2,000 groups of 100 domains, and nothing else: time until enforced, cost of a new flow.
    #[arg(long)]
    pub policy: bool,
    /// Draws the flows of --policy.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// The project's folder: holds features/ and scenarios/. Default: this folder or the nearest one above it.
    #[arg(long, value_name = "DIR", env = "CONTAINMENT_PROJECT_DIR")]
    pub project_dir: Option<PathBuf>,
}

/// Options of `fuzz-policy`.
#[derive(Debug, Clone, Args)]
pub struct FuzzArgs {
    /// Draws the policies and the flows; the same seed draws the same ones.
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Cells of the table: probes that are sent and compared.
    #[arg(long, value_name = "N", default_value_t = 500, value_parser = clap::value_parser!(u16).range(1..=5000))]
    pub count: u16,
    /// Where the table and its evidence go; a folder per run is made in it.
    #[arg(
        long,
        short = 'o',
        value_name = "DIR",
        default_value = "containment-results"
    )]
    pub output_dir: PathBuf,
    /// Switch on a seeded fault of scenarios/faults.yaml (repeatable), to see it found and shrunk.
    #[arg(long = "fault", value_name = "ID")]
    pub faults: Vec<String>,
    /// The project's folder: holds scenarios/. Default: this folder or the nearest one above it.
    #[arg(long, value_name = "DIR", env = "CONTAINMENT_PROJECT_DIR")]
    pub project_dir: Option<PathBuf>,
}

const FUZZ_HELP: &str = "\
What it does:
  Six servers get lists, deny-all or nothing, as the seed says, and are created through the orchestrator's API in one
  embedded cluster; a seventh Pod belongs to no server. Each of them sends each drawn flow: TLS with listed names,
  look-alikes, capitals, another host's name or none; plain HTTP, raw TCP, UDP, echo; on port 443 and on others. What
  arrived at the far ends, what left the gateway and what its log says is compared, cell by cell, with a model written
  from the vendors' documents alone. The first cell that differs is shrunk to a minimal policy and flow, each smaller
  one played again in a cluster of its own.

Exit codes:
  0 every cell as documented   1 a cell differs   2 usage or environment   3 a cell is unproven
  4 positive control broken   70 harness fault

Examples:
  containment fuzz-policy                                       500 cells of seed 1
  containment fuzz-policy --seed 42 --count 2000                more of another
  containment fuzz-policy --seed 1 --fault permit-missing-sni   see a defect found and shrunk";
