//! The `containment` binary: one program for every role.

use std::process::ExitCode;

use clap::Parser as _;
use containment::cli::Cli;
use containment::program;

/// JSON in and out is most of what this program does beside the kernel's part, and that is allocations.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Containers start here too; this returns unless the process is to become one.
    cluster::sandbox::dispatch();
    program::main(Cli::parse())
}
