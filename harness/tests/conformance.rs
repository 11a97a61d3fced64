//! `cargo test --test conformance`: the scenarios of every profile on an embedded cluster.
//!
//! It is `containment run` under cargo's roof, and takes its options after `--`, for example
//! `cargo test --test conformance -- --tags @EGR-03`. A word without dashes is cargo's test filter and selects by
//! scenario name.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use containment::cli::{Cli, Command, RunArgs};
use containment::program;

#[derive(Parser)]
struct Args {
    #[command(flatten)]
    run: RunArgs,
    /// Cargo's test filter.
    #[arg(value_name = "NAME")]
    filter: Option<String>,
    /// Accepted for cargo's sake: output is never captured here.
    #[arg(long, alias = "show-output", hide = true)]
    nocapture: bool,
}

fn main() -> ExitCode {
    cluster::sandbox::dispatch();
    let mut args = Args::parse();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .map(Path::to_owned)
        .unwrap_or_default();
    args.run.selection.project_dir.get_or_insert(root);
    if args.run.output_dir == Path::new("containment-results") {
        args.run.output_dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("conformance");
    }
    if args.filter.is_some() {
        if !program::selects_any(&args.run, args.filter.as_deref()) {
            let _ = writeln!(
                std::io::stdout(),
                "conformance: no scenario's name contains {:?}",
                args.filter
            );
            return ExitCode::SUCCESS;
        }
        args.run.selection.name = args.filter;
    }
    program::main_with(
        Cli {
            command: Some(Command::Run(args.run.clone())),
            run: args.run,
        },
        env!("CARGO_BIN_EXE_containment").into(),
    )
}
