//! Many servers with distinct lists in one cluster (EGR-44): how long until all run, how long until each is enforced, and
//! whether each is held to its own list.
//!
//! Every server may reach a name of its own. Enforced means that the firewall's controller has pushed the server's
//! policy object to the gateway; the time counts from the moment at which the server is asked for. Then each server is
//! put to the test: its own name must answer, its neighbour's must not, and what the far ends received says whether
//! the denial is one.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixtures::probe::{Outcome, ProbeEvent, ProbeReport};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt;
use kube::api::{Api, AttachParams, ListParams};
use tokio::io::AsyncReadExt as _;

use super::{memory, millis, say};
use crate::evidence::{Event, Recorder};
use crate::lab::orchestrator::Orchestrator;
use crate::lab::{self, Lab, RUNTIME_NAMESPACE, Setup};
use crate::run::{Error, RunContext};
use crate::scenario_data::ServerManifest;
use crate::waiting::Waiting;

/// Requests to the orchestrator, or probes, at one time.
const AT_ONCE: usize = 16;
/// Longest report of a probe that is read.
const REPORT_LIMIT: u64 = 64 * 1024;

/// A server on its way.
struct Asked {
    id: String,
    index: usize,
    at: Timestamp,
    ready_after: Duration,
}

/// Measures `count` servers and prints.
///
/// # Errors
/// When the system or a server does not start, or a policy is not enforced in time.
pub(super) async fn servers(context: &Arc<RunContext>, count: usize) -> Result<(), Error> {
    let recorder = Recorder::create(context.folder.join(format!("servers-{count}")))?;
    let setup = Setup {
        default_action_denies: true,
        ..Setup::default()
    };
    let began = Instant::now();
    let lab = Lab::start(context, &setup, &recorder, &Waiting::default()).await?;
    let system = began.elapsed();
    let manifest = context.project.server("weather")?;

    let began = Instant::now();
    let orchestrator = lab.orchestrator();
    let asked: Vec<Asked> = stream::iter(0..count)
        .map(|index| ask(orchestrator, &manifest, index))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let running = began.elapsed();
    await_enforced(&recorder, &asked, context.deadlines.policy_enforced).await?;
    let all_enforced = began.elapsed();
    let mut enforced: Vec<Duration> = times_to_enforce(&recorder, &asked).into_values().collect();
    let mut ready: Vec<Duration> = asked.iter().map(|server| server.ready_after).collect();
    let (resident, proportional, processes) = memory();

    let client = client(&lab).await?;
    let began = Instant::now();
    let verdicts: Vec<(bool, bool)> = stream::iter(&asked)
        .map(|server| put_to_the_test(&client, &recorder, server, count))
        .buffer_unordered(AT_ONCE)
        .try_collect()
        .await?;
    let probed = began.elapsed();
    let own = verdicts.iter().filter(|(own, _)| *own).count();
    let others = verdicts.iter().filter(|(_, denied)| *denied).count();

    say(&format!(
        "{count} servers with distinct lists in one cluster ({:.2} s for the system without them)",
        system.as_secs_f64()
    ))?;
    say(&format!(
        "  set-up: all run after {:.2} s, all enforced after {:.2} s",
        running.as_secs_f64(),
        all_enforced.as_secs_f64()
    ))?;
    say(&format!(
        "  time to enforce: {}",
        percentiles(&mut enforced)
    ))?;
    say(&format!(
        "  time to a ready server: {}",
        percentiles(&mut ready)
    ))?;
    say(&format!(
        "  memory: {} MB proportional in {processes} processes ({} MB if shared pages count in each)",
        proportional / 1024,
        resident / 1024
    ))?;
    say(&format!(
        "  held to its own list: own name answers {own} of {count}, a neighbour's name receives nothing {others} of {count} ({:.2} s)",
        probed.as_secs_f64()
    ))?;
    lab.finish().await;
    Ok(())
}

/// The one name that a server may reach: in object storage anybody may own a name.
fn name_of(index: usize) -> String {
    format!("bench-{index}.s3.amazonaws.com")
}

/// Creates and launches one server; returns when the orchestrator calls it healthy.
async fn ask(
    orchestrator: &Orchestrator,
    manifest: &ServerManifest,
    index: usize,
) -> Result<Asked, Error> {
    let (at, began) = (Timestamp::now(), Instant::now());
    let mut manifest = manifest.with_egress_domains(&[name_of(index)]).manifest;
    manifest["name"] = format!("bench-{index}").into();
    let call = async {
        let server = orchestrator.create(&manifest).await?;
        orchestrator.launch(&server.id).await?;
        Ok(server.id)
    };
    let id = call
        .await
        .map_err(|error| Error::Lab(lab::Error::Orchestrator(error)))?;
    Ok(Asked {
        id,
        index,
        at,
        ready_after: began.elapsed(),
    })
}

async fn await_enforced(
    recorder: &Recorder,
    asked: &[Asked],
    deadline: Duration,
) -> Result<(), Error> {
    let all: BTreeSet<&str> = asked.iter().map(|server| server.id.as_str()).collect();
    let mut left = all.clone();
    let mut read = 0;
    let seen = recorder.wait_for(deadline, |events| {
        for recorded in &events[read..] {
            if let Event::RulesKnown { rules } = &recorded.event {
                let servers = rules.values().filter_map(|rule| rule.server.as_deref());
                for server in servers {
                    left.remove(server);
                }
            }
        }
        read = events.len();
        left.is_empty().then_some(())
    });
    if seen.await.is_some() {
        return Ok(());
    }
    let first = left.first().copied().unwrap_or_default();
    Err(Error::Setup(format!(
        "{} of {} servers are not enforced after {deadline:?}, {first} among them",
        left.len(),
        all.len()
    )))
}

/// From asking for a server to the push that names its policy, by id.
fn times_to_enforce(recorder: &Recorder, asked: &[Asked]) -> BTreeMap<String, Duration> {
    let at: BTreeMap<&str, Timestamp> = asked
        .iter()
        .map(|server| (server.id.as_str(), server.at))
        .collect();
    let mut found = BTreeMap::new();
    for recorded in recorder.events() {
        let Event::RulesKnown { rules } = &recorded.event else {
            continue;
        };
        for server in rules.values().filter_map(|rule| rule.server.as_deref()) {
            let Some(asked) = at.get(server) else {
                continue;
            };
            found.entry(server.to_owned()).or_insert_with(|| {
                Duration::try_from(recorded.at.duration_since(*asked)).unwrap_or_default()
            });
        }
    }
    found
}

/// Whether the server's own name answers it, and whether its neighbour's receives nothing from it.
async fn put_to_the_test(
    client: &kube::Client,
    recorder: &Recorder,
    server: &Asked,
    count: usize,
) -> Result<(bool, bool), Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), RUNTIME_NAMESPACE);
    let failed = |error: &dyn std::fmt::Display| {
        Error::Setup(format!("the server {} can't be probed: {error}", server.id))
    };
    let labels = ListParams::default().labels(&format!("app={}", server.id));
    let listed = pods.list(&labels).await.map_err(|error| failed(&error))?;
    let pod = listed
        .items
        .first()
        .map(ResourceExt::name_any)
        .ok_or_else(|| failed(&"it has no Pod"))?;
    let (own, stranger) = (
        name_of(server.index),
        name_of((server.index + 1) % count.max(2)),
    );
    let own = probe(&pods, &pod, &own)
        .await
        .map_err(|error| failed(&error))?;
    let stranger = probe(&pods, &pod, &stranger)
        .await
        .map_err(|error| failed(&error))?;
    let received = |canary: &str| {
        recorder.events().iter().any(|recorded| {
            matches!(&recorded.event, Event::Receipt(receipt) if receipt.canaries.iter().any(|own| own == canary))
        })
    };
    let passes = own.outcome == Some(Outcome::Completed) && received(&own.canary);
    let denied = stranger.sent
        && stranger.outcome != Some(Outcome::Completed)
        && !received(&stranger.canary);
    Ok((passes, denied))
}

#[derive(Default)]
struct Attempt {
    canary: String,
    sent: bool,
    outcome: Option<Outcome>,
}

async fn probe(pods: &Api<Pod>, pod: &str, host: &str) -> Result<Attempt, String> {
    let command = [
        "containment",
        "probe",
        "tls",
        "--host",
        host,
        "--port",
        "443",
    ];
    let parameters = AttachParams::default().stdin(false).stderr(false);
    let mut process = pods
        .exec(pod, command, &parameters)
        .await
        .map_err(|error| error.to_string())?;
    let mut text = String::new();
    if let Some(stdout) = process.stdout() {
        let mut stdout = stdout.take(REPORT_LIMIT);
        stdout
            .read_to_string(&mut text)
            .await
            .map_err(|error| error.to_string())?;
    }
    let mut attempt = Attempt::default();
    let reports = text
        .lines()
        .filter_map(|line| serde_json::from_str::<ProbeReport>(line).ok());
    for report in reports {
        match report.event {
            ProbeEvent::Sent { canary, .. } => {
                attempt.canary = canary;
                attempt.sent = true;
            }
            ProbeEvent::Result { outcome, .. } => attempt.outcome = Some(outcome),
            ProbeEvent::Resolved { .. } => {}
        }
    }
    Ok(attempt)
}

async fn client(lab: &Lab) -> Result<kube::Client, Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Setup(format!("the cluster's kubeconfig is of no use: {error}"))
    };
    let kubeconfig =
        kube::config::Kubeconfig::from_yaml(&lab.kubeconfig()).map_err(|error| failed(&error))?;
    let options = kube::config::KubeConfigOptions::default();
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &options)
        .await
        .map_err(|error| failed(&error))?;
    kube::Client::try_from(config).map_err(|error| failed(&error))
}

fn percentiles(samples: &mut [Duration]) -> String {
    samples.sort_unstable();
    let [median, p95, p99, worst] = [50, 95, 99, 100].map(|percent| millis(samples, percent));
    format!(
        "p50 {median:.0} ms, p95 {p95:.0} ms, p99 {p99:.0} ms, worst {worst:.0} ms ({} servers)",
        samples.len()
    )
}
