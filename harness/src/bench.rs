//! `containment bench`: figures of the embedded cluster, printed and never asserted.
//!
//! The machine that runs this is shared and noisy, so every figure is given as minimum, median and maximum over the
//! repetitions. Memory is the proportional set size of this process and all its descendants: a page that two processes
//! share counts half in each.

mod controller;
mod policy;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::cli::BenchArgs;
use crate::evidence::Recorder;
use crate::lab::{Lab, Setup};
use crate::run::{Error, RunContext};
use crate::waiting::Waiting;

/// Clusters side by side in the memory figure.
const SIDE_BY_SIDE: usize = 8;

/// Measures and prints.
///
/// # Errors
/// When the machine can't run a cluster or a part does not start.
pub async fn bench(args: &BenchArgs, binary: PathBuf) -> Result<(), Error> {
    if args.policy {
        return policy::policy(args.seed).await;
    }
    if args.controller > 0 {
        return controller::controller(args.controller).await;
    }
    let context = Arc::new(RunContext::interactive(
        args.project_dir.as_deref(),
        binary,
        "bench",
    )?);
    if args.count > 0 {
        small_systems(args, &context).await?;
    }
    if args.servers > 0 {
        servers::servers(&context, args.servers.into()).await?;
    }
    // Measurements leave no evidence worth keeping.
    let _ = std::fs::remove_dir_all(&context.folder);
    Ok(())
}

/// Start-up times, and the memory of systems side by side.
async fn small_systems(args: &BenchArgs, context: &Arc<RunContext>) -> Result<(), Error> {
    let mut cluster_ready = Vec::new();
    let mut system_ready = Vec::new();
    for round in 0..args.count {
        cluster_ready.push(bare_cluster(context, round).await?);
        let began = Instant::now();
        let lab = system(context, &format!("system-{round}")).await?;
        system_ready.push(began.elapsed());
        lab.finish().await;
    }
    say(&figure(
        "embedded cluster ready: API and DNS answer, one Pod runs",
        &mut cluster_ready,
    ))?;
    say(&figure(
        "whole system ready: with Obot, policy controller and firewall",
        &mut system_ready,
    ))?;

    let labs = futures::future::try_join_all((0..SIDE_BY_SIDE).map(|index| async move {
        let mut lab = system(context, &format!("memory-{index}")).await?;
        lab.run_server("weather", &context.project.server("weather")?)
            .await?;
        Ok::<_, Error>(lab)
    }))
    .await?;
    let (resident, proportional, processes) = memory();
    say(&format!(
        "memory, {SIDE_BY_SIDE} systems with a server each: {} MB proportional in {processes} processes ({} MB if shared pages count in each)",
        proportional / 1024,
        resident / 1024,
    ))?;
    for lab in labs {
        lab.finish().await;
    }
    Ok(())
}

/// A cluster without the system in it: until a Pod of the fixture binary runs and resolves a name through cluster DNS.
async fn bare_cluster(context: &Arc<RunContext>, round: u16) -> Result<Duration, Error> {
    let recorder = Recorder::create(context.folder.join(format!("cluster-{round}")))?;
    let began = Instant::now();
    let cluster = crate::tier::embedded::bare(context, &recorder).await?;
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "bench", "namespace": "default"},
        "spec": {"restartPolicy": "Never", "containers": [{
            "name": "main", "image": crate::tier::IDLE_IMAGE,
            "command": ["containment", "probe", "dns", "--host", "kubernetes.default.svc.cluster.local"],
        }]},
    });
    crate::tier::embedded::run_to_end(&cluster, pod).await?;
    let elapsed = began.elapsed();
    cluster.shutdown().await;
    Ok(elapsed)
}

async fn system(context: &Arc<RunContext>, folder: &str) -> Result<Lab, Error> {
    let recorder = Recorder::create(context.folder.join(folder))?;
    let setup = Setup {
        default_action_denies: true,
        ..Setup::default()
    };
    Ok(Lab::start(context, &setup, &recorder, &Waiting::default()).await?)
}

fn figure(what: &str, samples: &mut [Duration]) -> String {
    samples.sort_unstable();
    format!(
        "{what}: {:.0} ms median ({:.0} to {:.0}, {} times)",
        millis(samples, 50),
        millis(samples, 0),
        millis(samples, 100),
        samples.len()
    )
}

/// Nearest rank: the smallest of these sorted samples that `percent` of all do not exceed.
fn percentile<T: Copy + Default>(sorted: &[T], percent: usize) -> T {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

/// [`percentile`] of durations, in milliseconds.
fn millis(sorted: &[Duration], percent: usize) -> f64 {
    percentile(sorted, percent).as_secs_f64() * 1000.0
}

/// Resident and proportional set size in KiB of this process and its descendants, and how many they are.
fn memory() -> (u64, u64, usize) {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry
            .file_name()
            .to_str()
            .and_then(|name| name.parse().ok())
        else {
            continue;
        };
        let status = std::fs::read_to_string(entry.path().join("status")).unwrap_or_default();
        if let Some(parent) = field(&status, "PPid:") {
            children
                .entry(u32::try_from(parent).unwrap_or_default())
                .or_default()
                .push(pid);
        }
    }
    let mut family = BTreeSet::new();
    let mut next = vec![std::process::id()];
    while let Some(pid) = next.pop() {
        if family.insert(pid) {
            next.extend(children.get(&pid).into_iter().flatten());
        }
    }
    let sum = |name: &str| -> u64 {
        let of = |pid: &u32| {
            field(
                &std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default(),
                name,
            )
            .unwrap_or(0)
        };
        family.iter().map(of).sum()
    };
    (sum("Rss:"), sum("Pss:"), family.len())
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines()
        .find_map(|line| line.strip_prefix(name))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
}

fn say(text: &str) -> Result<(), Error> {
    writeln!(anstream::stdout(), "{text}")
        .map_err(|error| Error::Setup(format!("cannot write: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_by_nearest_rank() {
        let samples: Vec<u32> = (1..=200).collect();
        let at = [0, 50, 95, 99, 100].map(|percent| percentile(&samples, percent));
        assert_eq!(at, [1, 100, 190, 198, 200]);
        assert_eq!(
            [0, 50, 100].map(|percent| percentile(&[7], percent)),
            [7; 3]
        );
        assert_eq!(percentile::<u32>(&[], 50), 0);
    }
}
