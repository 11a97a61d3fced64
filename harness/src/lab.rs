//! The running system of one scenario, and what can be done with it.
//!
//! The lab acts and records; it never judges. Everything it does to the system goes through interfaces that a user of
//! the system has (the orchestrator's API, MCP, the Kubernetes API, exec in a Pod), so that it works the same on every
//! tier. What it sees goes to the evidence folder first; steps ask the folder, not the lab.

pub mod agent;
mod authoring;
mod batch;
pub mod blind;
mod crafted;
mod enforcement;
pub mod lifecycle;
pub mod orchestrator;
pub mod package;
mod platform;
pub mod policies;
mod probing;
pub mod replacement;
mod reports;
mod seeing;
mod servers;
mod stopped;
mod tier_one;
mod traces;
pub mod trespass;
mod watching;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams, PostParams};
use serde_json::json;
use tokio::sync::OnceCell;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::evidence::observe::Captures;
use crate::evidence::{Event, Index, Recorder};
use crate::judge::Observations;
use crate::judge::platform::cause::{Cause, Known, causes};
use crate::run::RunContext;
use crate::scenario_data::ServerManifest;
use crate::scenario_data::tier_one::TierOne;
use crate::tier::{self, Cluster, FarEnds};
use crate::waiting::{TimedOut, Waiting};
use orchestrator::{Orchestrator, Token};

pub use crafted::Crafted;
pub use platform::Question;
pub use probing::{Load, Probe, RunningProbe};

/// Namespace of the orchestrator and the policy controller.
pub const ORCHESTRATOR_NAMESPACE: &str = "obot-system";
/// Namespace of the MCP servers.
pub const RUNTIME_NAMESPACE: &str = "obot-mcp";

/// A fault of the harness, a stand-in or a fixture. Never a verdict.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The cluster or the machine.
    #[error(transparent)]
    Tier(#[from] tier::Error),
    /// Something did not come in time.
    #[error(transparent)]
    TimedOut(#[from] TimedOut),
    /// The orchestrator's API.
    #[error(transparent)]
    Orchestrator(#[from] orchestrator::Error),
    /// The Kubernetes API.
    #[error("the Kubernetes API refused to {action}: {source}")]
    Kubernetes {
        /// What was to be done.
        action: String,
        /// What the client saw.
        source: Box<kube::Error>,
    },
    /// The project's data.
    #[error(transparent)]
    Project(#[from] crate::project::Error),
    /// A scenario that contradicts its data.
    #[error("{0}")]
    Data(String),
    /// A process in the cluster that ended or said something unexpected.
    #[error("{0}")]
    Fixture(String),
    /// A part of the system that did not start, and the prerequisite of the platform that explains it.
    #[error("{source}; {}", cause.in_words())]
    Prerequisite {
        /// What is not met.
        cause: Box<Cause>,
        /// What did not start.
        source: Box<Self>,
    },
}

impl Error {
    fn kubernetes(action: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let action = action.into();
        move |source| Self::Kubernetes {
            action,
            source: Box::new(source),
        }
    }
}

/// What Given steps ask for before the system starts.
#[derive(Debug, Clone, Default)]
pub struct Setup {
    /// The firewall's default action is deny with logging. Otherwise the vendor's own default: permit, no log.
    pub default_action_denies: bool,
    /// The orchestrator's default-deny setting.
    pub default_deny_setting: bool,
    /// Permits of the firewall's Tier 1 that stand before anything starts.
    pub tier_one: Vec<TierOne>,
    /// A new Pod takes the lowest free address that was not its own server's, though maybe another's just now.
    pub reuse_addresses: bool,
    /// The API server lies beyond the gateway, as a managed one with a public endpoint does.
    pub api_server_beyond: bool,
    /// The node hides the Pods' addresses behind its own.
    pub masquerade: bool,
    /// The gateway decides live sessions anew after a change of policy: the vendor's behaviour is unknown.
    pub live_session_reeval: bool,
    /// Pods and the internet have IPv6 addresses beside the IPv4 ones.
    pub dual_stack: bool,
    /// The orchestrator's chart installs no NetworkPolicy, as the published AWS blueprint sets it.
    pub without_network_policy: bool,
    /// Zones outside the cluster that cluster DNS forwards. None: every zone, as an unchanged CoreDNS does.
    pub forwarded_zones: Option<Vec<String>>,
    /// The orchestrator asks for no login, as published: every request has the owner's rights.
    pub without_authentication: bool,
    /// Nothing runs but the platform: its namespaces are there, and no orchestrator.
    pub without_orchestrator: bool,
}

/// An MCP server that the lab created.
#[derive(Debug, Clone)]
pub struct Server {
    /// The orchestrator's id, which is also the Pods' `app` label.
    pub id: String,
    /// The manifest it was last given.
    pub manifest: ServerManifest,
    /// Name of its Pod.
    pub pod: String,
}

/// The running system.
pub struct Lab {
    context: Arc<RunContext>,
    recorder: Recorder,
    waiting: Waiting,
    cluster: Arc<dyn Cluster>,
    far_ends: FarEnds,
    orchestrator: Orchestrator,
    /// The API key of the agents, made when the first one calls.
    agent_key: OnceCell<Option<Token>>,
    /// The orchestrator is installed.
    orchestrated: bool,
    servers: BTreeMap<String, Server>,
    /// Servers that were created and not launched yet.
    created: BTreeMap<String, (String, ServerManifest)>,
    /// Ids of the servers that run elsewhere, by name.
    remote: BTreeMap<String, String>,
    /// How many Pods were replaced; keeps labels apart.
    replacements: u32,
    probes: Vec<RunningProbe>,
    /// Connections that are held open over several steps.
    sessions: Vec<RunningProbe>,
    /// Sessions of agents.
    agents: Vec<agent::Session>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Lab {
    /// Starts everything and waits until the orchestrator and the policy controller are ready.
    ///
    /// # Errors
    /// When a part does not start in time.
    pub async fn start(
        context: &Arc<RunContext>,
        setup: &Setup,
        recorder: &Recorder,
        waiting: &Waiting,
    ) -> Result<Self, Error> {
        let deadlines = &context.deadlines;
        let (cluster, far_ends) = waiting
            .until(
                "the cluster to start",
                deadlines.cluster_ready,
                tier::embedded::start(context, setup, recorder),
            )
            .await??;
        let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());
        watching::start(&cluster.client(), recorder, &cancel, &tasks);
        let mut lab = Self {
            context: Arc::clone(context),
            recorder: recorder.clone(),
            waiting: waiting.clone(),
            cluster,
            far_ends,
            orchestrator: Orchestrator::new(String::new(), None),
            agent_key: OnceCell::new(),
            orchestrated: true,
            servers: BTreeMap::new(),
            created: BTreeMap::new(),
            remote: BTreeMap::new(),
            replacements: 0,
            probes: Vec::new(),
            sessions: Vec::new(),
            agents: Vec::new(),
            cancel,
            tasks,
        };
        if setup.without_orchestrator {
            lab.orchestrated = false;
            return Ok(lab);
        }
        let started = tokio::select! {
            address = lab.await_stand_ins() => address,
            crash = lab.cluster.crashed() => Err(Error::Fixture(crash.to_string())),
        };
        match started {
            Ok(address) => {
                let token = lab.cluster.orchestrator_token();
                lab.orchestrator = Orchestrator::new(format!("http://{address}"), token);
                Ok(lab)
            }
            Err(error) => {
                let stated = lab.ask_platform(Question::default()).await;
                let seen = Observations::default();
                let cause = causes(&stated, &Known::default(), &seen).into_iter().next();
                lab.finish().await;
                Err(match cause {
                    Some(cause) => Error::Prerequisite {
                        cause: Box::new(cause),
                        source: Box::new(error),
                    },
                    None => error,
                })
            }
        }
    }

    /// Where the orchestrator answers, once it and the policy controller are ready.
    async fn await_stand_ins(&self) -> Result<SocketAddr, Error> {
        let client = self.cluster.client();
        self.waiting
            .until(
                "the orchestrator and the policy controller to be ready",
                self.context.deadlines.stand_ins_ready,
                watching::deployments_available(&client, ORCHESTRATOR_NAMESPACE),
            )
            .await??;
        let (cancel, tasks) = (&self.cancel, &self.tasks);
        watching::follow_all(
            &client,
            &self.recorder,
            ORCHESTRATOR_NAMESPACE,
            cancel,
            tasks,
        )
        .await?;
        Ok(self
            .cluster
            .forward(ORCHESTRATOR_NAMESPACE, "obot-obot", 80)
            .await?)
    }

    /// A server by its name.
    ///
    /// # Errors
    /// When no step created it.
    pub fn server(&self, name: &str) -> Result<&Server, Error> {
        self.servers
            .get(name)
            .ok_or_else(|| Error::Data(format!("no step runs a server {name:?}")))
    }

    /// Replaces a server's list of domains through the orchestrator; returns when the orchestrator accepted it.
    ///
    /// # Errors
    /// When the orchestrator refuses the update.
    pub async fn set_domains(
        &mut self,
        name: &str,
        domains: &[String],
    ) -> Result<Timestamp, Error> {
        let server = self.server(name)?;
        let edited = server.manifest.with_egress_domains(domains);
        self.orchestrator
            .update(&server.id, &edited.manifest)
            .await?;
        let accepted = Timestamp::now();
        self.record_list(name, &edited);
        if let Some(known) = self.servers.get_mut(name) {
            known.manifest = edited;
        }
        Ok(accepted)
    }

    /// Runs a Pod in the servers' namespace that belongs to no server.
    ///
    /// # Errors
    /// When it does not become ready.
    pub async fn run_stray_pod(&self, name: &str) -> Result<(), Error> {
        let manifest = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": name, "namespace": RUNTIME_NAMESPACE, "labels": {"stray": name}},
            "spec": {"containers": [{"name": "main", "image": tier::IDLE_IMAGE}]},
        });
        let pod: Pod =
            serde_json::from_value(manifest).map_err(|error| Error::Data(error.to_string()))?;
        let api = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE);
        api.create(&PostParams::default(), &pod)
            .await
            .map_err(Error::kubernetes(format!("create the Pod {name}")))?;
        self.waiting
            .until(
                format!("the Pod {name:?} to be ready"),
                self.context.deadlines.pod_ready,
                watching::pod_ready(&self.cluster.client(), RUNTIME_NAMESPACE, name),
            )
            .await?
    }

    /// Starts a probe in a Pod of the servers' namespace; returns as soon as its first packet is announced, or it
    /// ended without one.
    ///
    /// # Errors
    /// When it can't be started or announces nothing in time.
    pub async fn probe(&mut self, pod: &str, probe: &Probe, label: &str) -> Result<(), Error> {
        self.probe_in(RUNTIME_NAMESPACE, pod, probe, label).await
    }

    /// The same in a Pod of any namespace.
    ///
    /// # Errors
    /// As [`Lab::probe`].
    pub async fn probe_in(
        &mut self,
        namespace: &str,
        pod: &str,
        probe: &Probe,
        label: &str,
    ) -> Result<(), Error> {
        let running = RunningProbe::start(
            &self.cluster.client(),
            namespace,
            pod,
            probe,
            label,
            &self.recorder,
        )
        .await?;
        self.probes.push(running);
        let what = format!("the probe {label:?} to announce its first packet");
        let announced = |index: &Index| index.attempt(label).map(drop);
        self.see_indexed(what, self.context.deadlines.probe_result, announced)
            .await
    }

    /// Starts a probe that goes on over several steps; returns when the far end answered it for the first time.
    ///
    /// # Errors
    /// When it can't be started or nothing of it arrives in time.
    pub async fn hold(&mut self, pod: &str, probe: &Probe, label: &str) -> Result<(), Error> {
        let client = self.cluster.client();
        let recorder = &self.recorder;
        let running =
            RunningProbe::start(&client, RUNTIME_NAMESPACE, pod, probe, label, recorder).await?;
        self.sessions.push(running);
        let asked = |event: &Event| matches!(event, Event::Receipt(receipt) if receipt.canaries.contains(&probe.canary));
        self.see(
            format!("the first request of {label:?} to arrive"),
            self.context.deadlines.probe_result,
            |events| {
                let found = events.iter().any(|recorded| asked(&recorded.event));
                found.then_some(())
            },
        )
        .await
    }

    /// Puts a load on the gateway from a Pod and holds it to the end of the scenario; returns when it stands.
    ///
    /// # Errors
    /// When it can't be started or does not stand in time.
    pub async fn put_load(&mut self, pod: &str, probe: &Probe, label: &str) -> Result<(), Error> {
        let client = self.cluster.client();
        let recorder = &self.recorder;
        let running =
            RunningProbe::start(&client, RUNTIME_NAMESPACE, pod, probe, label, recorder).await?;
        self.sessions.push(running);
        let stands = |index: &Index| index.attempt(label)?.result.as_ref().map(drop);
        // The client gives up on connections by itself at that deadline; this wait outlasts it.
        let deadline = 3 * self.context.deadlines.probe_result;
        self.see_indexed(format!("{label} to stand"), deadline, stands)
            .await
    }

    /// The running cluster, for what only some tiers can do.
    pub fn cluster(&self) -> &Arc<dyn Cluster> {
        &self.cluster
    }

    /// The ClusterIP and port of the API server's Service.
    ///
    /// # Errors
    /// When the Service can't be read.
    pub async fn api_server_cluster_ip(&self) -> Result<SocketAddr, Error> {
        let service = Api::<Service>::namespaced(self.cluster.client(), "default")
            .get("kubernetes")
            .await
            .map_err(Error::kubernetes("read the Service kubernetes"))?;
        let address = service.spec.and_then(|spec| spec.cluster_ip);
        let address = address.and_then(|address| address.parse().ok());
        let address = address
            .ok_or_else(|| Error::Fixture("the Service kubernetes has no ClusterIP".to_owned()))?;
        Ok(SocketAddr::new(address, 443))
    }

    /// Ends every probe that still runs. What it sent is recorded.
    pub fn end_probes(&mut self) {
        self.probes.clear();
    }

    /// The name of the one Pod of a server.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub async fn pod_of(&self, id: &str) -> Result<String, Error> {
        let pods = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE)
            .list(&ListParams::default().labels(&format!("app={id}")))
            .await
            .map_err(Error::kubernetes("list the server's Pods"))?;
        let mut names = pods
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| pod.metadata.name);
        match (names.next(), names.next()) {
            (Some(name), None) => Ok(name),
            (None, _) => Err(Error::Fixture(format!("the server {id} has no Pod"))),
            (Some(first), Some(second)) => Err(Error::Fixture(format!(
                "the server {id} has several Pods: {first}, {second}, ..."
            ))),
        }
    }

    /// The name of the one Pod that the orchestrator itself runs in.
    ///
    /// # Errors
    /// When there is none or more than one.
    pub async fn orchestrator_pod(&self) -> Result<String, Error> {
        let pods = Api::<Pod>::namespaced(self.cluster.client(), ORCHESTRATOR_NAMESPACE)
            .list(&ListParams::default().labels("app.kubernetes.io/name=obot"))
            .await
            .map_err(Error::kubernetes("list the orchestrator's Pods"))?;
        let running: Vec<String> = pods
            .items
            .into_iter()
            .filter(|pod| pod.metadata.deletion_timestamp.is_none())
            .filter_map(|pod| pod.metadata.name)
            .collect();
        match running.as_slice() {
            [only] => Ok(only.clone()),
            other => Err(Error::Fixture(format!(
                "the orchestrator has {} Pods, expected one",
                other.len()
            ))),
        }
    }

    /// Restarts that the containers of a Pod have behind them.
    ///
    /// # Errors
    /// When the Pod can't be read.
    pub async fn restarts(&self, pod: &str) -> Result<i32, Error> {
        let pod = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE)
            .get(pod)
            .await
            .map_err(Error::kubernetes(format!("read the Pod {pod}")))?;
        let statuses = pod
            .status
            .and_then(|status| status.container_statuses)
            .unwrap_or_default();
        Ok(statuses.iter().map(|status| status.restart_count).sum())
    }

    /// The orchestrator's API, with the owner's login.
    pub fn orchestrator(&self) -> &Orchestrator {
        &self.orchestrator
    }

    /// A kubeconfig for people and their tools.
    pub fn kubeconfig(&self) -> String {
        self.cluster.kubeconfig()
    }

    /// The far ends of the simulated internet.
    pub fn far_ends(&self) -> &FarEnds {
        &self.far_ends
    }

    /// Brings the captures up to now.
    pub async fn flush_captures(&self) -> Captures {
        self.cluster.flush_captures().await
    }

    /// Lets one quiet window pass. A millisecond more: timers may fire early by one.
    pub async fn keep_quiet(&self) {
        tokio::time::sleep(self.context.deadlines.quiet_window + Duration::from_millis(1)).await;
    }

    /// Watches until `window` has passed since the last sign of an attempt: its announcement, its end, or a record of the
    /// gateway. What is seen meanwhile does not prolong it.
    pub async fn watch_until_quiet(&self, window: Duration) {
        let sign = |event: &Event| {
            matches!(
                event,
                Event::ProbeSent { .. }
                    | Event::ProbeResult { .. }
                    | Event::GatewayLog { .. }
                    | Event::ToolCall(_)
            )
        };
        let events = self.recorder.events();
        let last = events.iter().rev().find(|recorded| sign(&recorded.event));
        let Some(last) = last else { return };
        let over = Timestamp::now().duration_since(last.at);
        let over = Duration::try_from(over).unwrap_or_default();
        tokio::time::sleep(window.saturating_sub(over)).await;
    }

    /// Stores the orchestrator's own policies under `policy/`, as far as its storage can be asked.
    async fn record_orchestrator_policies(&self) {
        let Some(token) = self.cluster.storage_token().filter(|_| self.orchestrated) else {
            return;
        };
        let listed = async {
            let address = self
                .cluster
                .forward(ORCHESTRATOR_NAMESPACE, "obot-obot", 8443)
                .await?;
            Ok::<_, Error>(orchestrator::network_policies(address, token).await?)
        };
        match tokio::time::timeout(self.context.deadlines.teardown, listed).await {
            Ok(Ok(policies)) => {
                watching::record_objects(&self.recorder, "MCPNetworkPolicy", &policies)
            }
            Ok(Err(error)) => drop(self.recorder.record(Event::Note {
                text: format!("the orchestrator's policies could not be read: {error}"),
            })),
            Err(_) => drop(self.recorder.record(Event::Note {
                text: "the orchestrator's policies were not read in time".to_owned(),
            })),
        }
    }

    /// Records the final state, takes the system down and says what crashed in it.
    pub async fn finish(mut self) -> Vec<String> {
        self.end_probes();
        watching::record_policies(&self.cluster, &self.recorder).await;
        if let Captures::Incomplete(reason) = self.cluster.flush_captures().await {
            self.recorder.record(Event::Note { text: reason });
        }
        self.record_orchestrator_policies().await;
        let crashes = self.cluster.crashes();
        for crash in &crashes {
            let (component, message) = (crash.container.clone(), crash.reason.clone());
            self.recorder
                .record(Event::HarnessError { component, message });
        }
        self.cancel.cancel();
        self.tasks.close();
        let agents = std::mem::take(&mut self.agents);
        let teardown = async {
            futures::future::join_all(agents.into_iter().map(agent::Session::close)).await;
            self.tasks.wait().await;
            self.cluster.shutdown().await;
        };
        if tokio::time::timeout(self.context.deadlines.teardown, teardown)
            .await
            .is_err()
        {
            self.recorder.record(Event::Note {
                text: "the orderly teardown did not end in time; the rest was killed".to_owned(),
            });
        }
        crashes
            .into_iter()
            .map(|crash| format!("{}: {}", crash.container, crash.reason))
            .collect()
    }
}
