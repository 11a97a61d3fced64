//! The embedded cluster end to end, on this machine's kernel: needs root, or a user that may create namespaces, and
//! /dev/net/tun; fails without.
//!
//! This program is its own helper and its own image, hence a `main` of its own: it becomes a pod's role, a child harness,
//! or the runner of the checks. `cargo test -p cluster --test embedded [name]` runs those whose name contains the word;
//! `-- bench` measures start times instead.

#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)]

#[path = "embedded/bench.rs"]
mod bench;
#[path = "embedded/harness.rs"]
mod harness;
#[path = "embedded/pods.rs"]
mod pods;
#[path = "embedded/role.rs"]
mod role;
#[path = "embedded/survival.rs"]
mod survival;
#[path = "embedded/workloads.rs"]
mod workloads;

use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt as _;
use futures::future::LocalBoxFuture;

type Check = (&'static str, fn() -> LocalBoxFuture<'static, ()>);

/// A check that takes longer hangs.
const LIMIT: Duration = Duration::from_secs(300);

const CHECKS: &[Check] = &[
    ("confinement", || pods::confinement().boxed_local()),
    ("files_and_environment", || {
        pods::files_and_environment().boxed_local()
    }),
    ("logs_and_exec", || pods::logs_and_exec().boxed_local()),
    ("shared_network_and_volume", || {
        pods::shared_network_and_volume().boxed_local()
    }),
    ("init_containers", || pods::init_containers().boxed_local()),
    ("unknown_image", || pods::unknown_image().boxed_local()),
    ("missing_secret_appears", || {
        pods::missing_secret_appears().boxed_local()
    }),
    ("crash_loop", || pods::crash_loop().boxed_local()),
    ("graceful_deletion", || {
        pods::graceful_deletion().boxed_local()
    }),
    ("service_and_names", || {
        workloads::service_and_names().boxed_local()
    }),
    ("deployment_scales_and_rolls", || {
        workloads::deployment_scales_and_rolls().boxed_local()
    }),
    ("probes", || workloads::probes().boxed_local()),
    ("nothing_is_left", || {
        survival::nothing_is_left().boxed_local()
    }),
    ("kill_leaves_nothing", || {
        survival::kill_leaves_nothing().boxed_local()
    }),
];

fn main() -> ExitCode {
    cluster::sandbox::dispatch();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    if words.first() == Some(&"role") {
        return role::run(&words[1..]);
    }
    cluster::netns::enter_user_namespace().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    match words.first() {
        Some(&"child-harness") => runtime.block_on(survival::child_harness(words[1])),
        Some(&"bench") => runtime.block_on(bench::run()),
        _ => return runtime.block_on(run(words.into_iter().find(|word| !word.starts_with('-')))),
    }
    ExitCode::SUCCESS
}

async fn run(filter: Option<&str>) -> ExitCode {
    let selected: Vec<_> = CHECKS
        .iter()
        .filter(|(name, _)| filter.is_none_or(|word| name.contains(word)))
        .collect();
    println!("running {} checks", selected.len());
    let (mut passed, mut failed) = (0, 0);
    for (name, check) in selected {
        let began = std::time::Instant::now();
        let guarded =
            std::panic::AssertUnwindSafe(tokio::time::timeout(LIMIT, check())).catch_unwind();
        let verdict = match guarded.await {
            Ok(Ok(())) => "ok",
            Ok(Err(_)) => "FAILED: it hangs",
            Err(_) => "FAILED",
        };
        if verdict == "ok" {
            passed += 1;
        } else {
            failed += 1;
        }
        println!("check {name} ... {verdict} ({:.0?})", began.elapsed());
    }
    println!("{passed} passed, {failed} failed");
    // A filter that selects nothing proves nothing; cargo's own for another test binary must not fail this one.
    if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
