//! From a parsed command line to an exit code: privileges, logging, runtime, command.

use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode as ProcessCode;

use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command, Role, RunArgs, SelectionArgs};
use crate::outcome::ExitCode;
use crate::report::{self, foreign};
use crate::{bench, detection, doctor, fuzz, listing, run, serve_controller, up};

/// Runs a command. Must be called before the process has threads: without root it first makes a user namespace.
pub fn main(cli: Cli) -> ProcessCode {
    main_with(cli, own_binary())
}

/// [`main`], with another program for the containers than the running one.
pub fn main_with(cli: Cli, binary: PathBuf) -> ProcessCode {
    let command = cli.command.unwrap_or(Command::Run(cli.run));
    log(&command);
    // Two providers are compiled in by no feature of ours; the first one to be installed wins.
    let _ = rustls::crypto::ring::default_provider().install_default();
    if matches!(command, Command::Doctor) {
        return doctor::doctor().into();
    }
    if needs_namespaces(&command)
        && let Err(error) = cluster::netns::enter_user_namespace()
    {
        return fail(&error, ExitCode::Usage);
    }
    let runtime = match runtime(&command) {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error, ExitCode::HarnessFault),
    };
    let code = runtime.block_on(execute(command, binary));
    // Tasks that still run are probes and watches of systems that are gone.
    runtime.shutdown_background();
    code
}

/// Roles and probes live in small containers; the harness itself drives many clusters.
fn runtime(command: &Command) -> std::io::Result<tokio::runtime::Runtime> {
    let mut builder = match command {
        Command::Serve(_) | Command::Probe(_) => tokio::runtime::Builder::new_current_thread(),
        _ => tokio::runtime::Builder::new_multi_thread(),
    };
    builder.enable_all().build()
}

async fn execute(command: Command, binary: PathBuf) -> ProcessCode {
    match command {
        Command::Run(args) if args.list => list(&args.selection),
        Command::Run(args) => match run::run(&args, binary).await {
            Ok(code) => code.into(),
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Report(args) => {
            match report::rebuilt::report(&args.folder, args.output_dir.as_deref(), args.verbose) {
                Ok(code) => code.into(),
                Err(error) => fail(&error, error.exit_code()),
            }
        }
        Command::Verify(args) => {
            report::verify::command(&args.folder, args.digest.as_deref()).into()
        }
        Command::List(selection) => list(&selection),
        // Answered before there is a runtime.
        Command::Doctor => ProcessCode::SUCCESS,
        Command::Faults(args) => match detection::faults(&args, binary).await {
            Ok(code) => code.into(),
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Up(args) => match up::up(&args, binary).await {
            Ok(()) => ProcessCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Bench(args) => match bench::bench(&args, binary).await {
            Ok(()) => ProcessCode::SUCCESS,
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::FuzzPolicy(args) => match fuzz::fuzz_policy(&args, binary).await {
            Ok(code) => code.into(),
            Err(error) => fail(&error, error.exit_code()),
        },
        Command::Serve(role) => serve(*role).await,
        Command::Probe(args) => finish(fixtures::probe::run(args).await),
    }
}

/// Whether a selection by name, on top of the arguments' own, leaves anything to run.
pub fn selects_any(args: &RunArgs, name: Option<&str>) -> bool {
    let mut selection = args.selection.clone();
    selection.name = name.map(str::to_owned);
    !matches!(
        listing::catalog(&selection),
        Err(run::Error::Catalog(
            crate::catalog::Error::EmptySelection { .. }
        ))
    )
}

fn list(selection: &SelectionArgs) -> ProcessCode {
    match listing::list(selection) {
        Ok(()) => ProcessCode::SUCCESS,
        Err(error) => fail(&error, error.exit_code()),
    }
}

async fn serve(role: Role) -> ProcessCode {
    match role {
        Role::Obot(args) => finish(fixtures::obot::run(*args).await),
        Role::PolicyController(args) => finish(fixtures::policy_controller::run(args).await),
        Role::McpServer(args) => finish(fixtures::mcp_server::run(args).await),
        Role::StdioWrapper(args) => finish(fixtures::stdio_wrapper::run(args).await),
        Role::Internet(args) => finish(fixtures::internet::run(args).await),
        Role::Controller(args) => finish(serve_controller::run(args).await),
        Role::Idle => {
            fixtures::shutdown_signal().await;
            ProcessCode::SUCCESS
        }
    }
}

fn finish<E: std::error::Error>(result: Result<(), E>) -> ProcessCode {
    match result {
        Ok(()) => ProcessCode::SUCCESS,
        Err(error) => fail(&error, ExitCode::Usage),
    }
}

fn needs_namespaces(command: &Command) -> bool {
    match command {
        Command::Run(args) => !args.list,
        Command::Faults(_) | Command::Up(_) | Command::Bench(_) | Command::FuzzPolicy(_) => true,
        Command::Doctor
        | Command::List(_)
        | Command::Report(_)
        | Command::Verify(_)
        | Command::Serve(_)
        | Command::Probe(_) => false,
    }
}

/// The program that containers of an embedded cluster run: this one.
fn own_binary() -> PathBuf {
    std::env::current_exe().unwrap_or_else(|_| PathBuf::from("/proc/self/exe"))
}

fn log(command: &Command) {
    // A role's log is its Pod's output; the harness speaks through its report.
    let default = if matches!(command, Command::Serve(_)) {
        "info"
    } else {
        "warn"
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(default));
    let color = std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(color)
        .init();
}

/// Prints an error with its causes.
fn fail(error: &dyn std::error::Error, code: ExitCode) -> ProcessCode {
    let mut text = format!("error: {error}");
    let mut cause = error.source();
    while let Some(next) = cause {
        let words = next.to_string();
        if !text.contains(&words) {
            text.push_str(&format!("\n  because {words}"));
        }
        cause = next.source();
    }
    // A closed terminal changes nothing about the error.
    let _ = writeln!(std::io::stderr(), "{}", foreign::indented(&text));
    code.into()
}
