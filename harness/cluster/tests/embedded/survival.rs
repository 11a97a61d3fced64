//! Nothing outlives the harness.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use k8s_openapi::api::core::v1::Pod;
use serde_json::json;

use super::harness::{self, IMAGE, create, is_ready, pod, until};

/// Processes whose environment holds the marker, zombies included as processes that are still there.
fn processes_with(marker: &str) -> BTreeSet<i32> {
    let entries = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment
            .windows(marker.len())
            .any(|window| window == marker.as_bytes())
    })
    .collect()
}

fn children_of(parent: u32) -> BTreeSet<i32> {
    let tasks = std::fs::read_dir(format!("/proc/{parent}/task"))
        .unwrap()
        .filter_map(Result::ok);
    tasks
        .flat_map(|task| {
            let children =
                std::fs::read_to_string(task.path().join("children")).unwrap_or_default();
            children
                .split_whitespace()
                .filter_map(|pid| pid.parse().ok())
                .collect::<Vec<i32>>()
        })
        .collect()
}

fn namespaces() -> usize {
    let descriptors = std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(Result::ok);
    let targets = descriptors.filter_map(|entry| std::fs::read_link(entry.path()).ok());
    targets
        .filter(|target| {
            target.to_string_lossy().starts_with("net:") || target.ends_with("net/tun")
        })
        .count()
}

async fn marked_pod(client: &kube::Client, marker: &str) {
    let main = json!({ "name": "main", "image": IMAGE, "args": ["stubborn"], "env": [{ "name": "MARKER", "value": marker }] });
    create::<Pod>(client, pod("marked", &[main], json!({}))).await;
    until::<Pod>(client, "marked", "ready", is_ready).await;
}

pub(crate) async fn nothing_is_left() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    let (before, descriptors) = (children_of(std::process::id()), namespaces());
    let marker = format!("left-{}", std::process::id());
    let cluster = harness::start().await;
    marked_pod(&cluster.client(), &marker).await;
    assert!(
        !processes_with(&marker).is_empty(),
        "the search finds what is there"
    );
    assert!(namespaces() > descriptors);
    cluster.shutdown().await;
    drop(cluster);
    assert_eq!(processes_with(&marker), BTreeSet::new());
    assert_eq!(children_of(std::process::id()), before);
    assert_eq!(
        std::fs::read_to_string("/proc/self/mountinfo").unwrap(),
        mounts
    );
    assert_eq!(namespaces(), descriptors);
}

/// Starts a cluster, says so, and waits to be killed.
pub(crate) async fn child_harness(marker: &str) {
    let cluster = harness::start().await;
    marked_pod(&cluster.client(), marker).await;
    println!("ready");
    std::future::pending::<()>().await;
}

pub(crate) async fn kill_leaves_nothing() {
    let marker = format!("killed-{}", std::process::id());
    let program = std::env::current_exe().unwrap();
    let mut harness = Command::new(program)
        .args(["child-harness", &marker])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(harness.stdout.take().unwrap()).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "ready");
    let helpers = children_of(harness.id());
    assert!(
        !helpers.is_empty() && !processes_with(&marker).is_empty(),
        "the search finds what is there"
    );
    harness.kill().unwrap();
    harness.wait().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut left = processes_with(&marker);
        left.extend(helpers.iter().filter(|pid| is_alive(**pid)));
        if left.is_empty() {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "processes {left:?} outlived their harness"
        );
        tokio::task::yield_now().await;
    }
}

/// A zombie that nobody reaps is dead.
fn is_alive(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ")
        .is_some_and(|(_, rest)| !rest.starts_with('Z'))
}
