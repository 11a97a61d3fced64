//! The node agent: what scheduler and kubelet are to a real node. Turns Pods bound to the node into
//! sandboxed processes, keeps their status, and answers `logs` and `exec`.
//!
//! Owns the life of Pods. It must not know what Deployments or Services are (`controllers`), how packets
//! travel (`network`) or how a process is confined (`sandbox`).
//!
//! Faithful: phases, conditions, container states and reasons, restart policies with back-off, init containers,
//! probes, graceful deletion, volumes of Secrets, ConfigMaps, projected sources, downward API and emptyDir, the
//! environment from all its sources. Not faithful: one node, so scheduling is binding at once; no resource
//! limits or eviction; back-off and readiness polling are faster ([`Timings`]); volumes do not follow later
//! changes of their Secret or ConfigMap; no lifecycle hooks, sidecar init containers or service links; Pods that carry the
//! mirror annotation of a static Pod are left alone.

mod address;
mod container;
mod environment;
mod launch;
mod log;
mod pod;
mod probe;
mod session;
mod source;
mod status;
mod volume;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use api_server::{ApiServer, ExecOptions, ExecSession, Kubelet, KubeletError, LogOptions, PodRef};
use bytes::Bytes;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::core::v1::{Node, Pod, PodStatus};
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::fault::{ClusterFault, ClusterFaults};
use crate::image::{Image, Images};
use crate::network::{NODE_ADDRESS, Network};
use crate::sandbox::{self, Spawner};
use address::Addresses;
use pod::{Entry, Update};

/// The annotation by which a kubelet marks the API's copy of a static Pod.
pub const MIRROR_ANNOTATION: &str = "kubernetes.io/config.mirror";
/// Crashes kept for the report; later ones are counted only by the Pods' restart counts.
const CRASH_LIMIT: usize = 256;

/// Every duration of the node agent.
#[derive(Clone, Debug)]
pub struct Timings {
    /// Pause before the second restart of a container; the first is immediate. A kubelet starts at 10 s.
    pub restart_backoff: Duration,
    /// The pause doubles up to this. A kubelet goes up to 300 s.
    pub restart_backoff_limit: Duration,
    /// A container that ran this long starts over with its back-off.
    pub restart_backoff_reset: Duration,
    /// First pause between readiness or startup probes until one succeeds; a kubelet waits a whole period,
    /// which would be most of the time a scenario takes.
    pub probe_poll: Duration,
    /// That pause grows by half each time, up to this or the probe's period.
    pub probe_poll_limit: Duration,
    /// First pause before a missing Secret, ConfigMap or key is looked up again. It doubles up to the limit of `probe_poll`.
    pub source_poll: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            restart_backoff: Duration::from_millis(200),
            restart_backoff_limit: Duration::from_secs(10),
            restart_backoff_reset: Duration::from_secs(60),
            probe_poll: Duration::from_millis(5),
            probe_poll_limit: Duration::from_millis(250),
            source_poll: Duration::from_millis(20),
        }
    }
}

/// What a node agent needs to know beforehand.
#[derive(Clone, Debug)]
pub struct NodeAgentConfig {
    pub node_name: String,
    /// The binary that answers `pod-init` and `pod-exec`.
    pub helper: PathBuf,
    pub images: BTreeMap<String, Image>,
    /// Becomes /etc/ssl/certs/ca-certificates.crt in every container.
    pub trusted_roots_pem: String,
    /// Container logs are appended here as they come, one file per container.
    pub log_dir: Option<PathBuf>,
    /// The first Pod's address; later Pods get the following ones.
    pub first_address: Ipv4Addr,
    /// A new Pod takes the lowest free address that no Pod of its own application (label `app`) held last, so that one
    /// just released comes back at once, to another. Off: addresses come back only after all others were used.
    pub reuse_addresses: bool,
    pub cluster_dns: Ipv4Addr,
    pub cluster_domain: String,
    pub timings: Timings,
    pub faults: ClusterFaults,
}

impl NodeAgentConfig {
    /// The usual addresses, no images, no logs on disk.
    pub fn new(helper: PathBuf) -> Self {
        Self {
            node_name: "node".into(),
            helper,
            images: BTreeMap::new(),
            trusted_roots_pem: String::new(),
            log_dir: None,
            first_address: Ipv4Addr::new(10, 244, 0, 10),
            reuse_addresses: false,
            cluster_dns: Ipv4Addr::new(10, 96, 0, 10),
            cluster_domain: "cluster.local".into(),
            timings: Timings::default(),
            faults: ClusterFaults::new(),
        }
    }
}

/// Why the node agent can't run.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Sandbox(#[from] sandbox::Error),
    #[error("can't create the log directory {}: {source}", path.display())]
    LogDirectory {
        path: PathBuf,
        source: std::io::Error,
    },
    #[error("can't register the node: {0}")]
    Register(#[source] Box<kube::Error>),
}

/// A container that ended although nobody asked it to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Crash {
    pub at: jiff::Timestamp,
    pub namespace: String,
    pub pod: String,
    pub container: String,
    /// Exit code, or 128 plus the signal.
    pub exit_code: i32,
    pub restart_count: i32,
    /// Why it could not start, or which probe had it killed.
    pub message: Option<String>,
    /// The last lines it printed.
    pub output: Vec<String>,
}

impl Crash {
    /// Namespace, Pod and container in one word.
    pub fn container(&self) -> String {
        format!("{}/{}/{}", self.namespace, self.pod, self.container)
    }
}

/// How it ended and what it said last.
impl std::fmt::Display for Crash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "exit code {}", self.exit_code)?;
        if let Some(message) = &self.message {
            write!(f, ": {message}")?;
        }
        match self.output.last() {
            Some(line) => write!(f, "; its last output was: {line}"),
            None => f.write_str("; it printed nothing"),
        }
    }
}

/// The agent of the one node. It runs with [`NodeAgent::run`].
pub struct NodeAgent {
    config: NodeAgentConfig,
    api: ApiServer,
    client: Client,
    network: Network,
    spawner: Spawner,
    images: Images,
    addresses: Mutex<Addresses>,
    /// First address per `app` label, for the fault that shows it for ever.
    first_addresses: Mutex<BTreeMap<String, String>>,
    /// Pods by namespace and name.
    pods: Mutex<BTreeMap<(String, String), Entry>>,
    crashes: watch::Sender<Vec<Crash>>,
}

impl NodeAgent {
    /// Prepares the node and registers its Node object.
    pub async fn start(
        config: NodeAgentConfig,
        api: ApiServer,
        network: Network,
    ) -> Result<Arc<Self>, Error> {
        if let Some(path) = &config.log_dir {
            std::fs::create_dir_all(path).map_err(|source| Error::LogDirectory {
                path: path.clone(),
                source,
            })?;
        }
        let spawner = Spawner::start(config.helper.clone())?;
        let client = api.client("default");
        register(&client, &config.node_name)
            .await
            .map_err(|error| Error::Register(Box::new(error)))?;
        Ok(Arc::new(Self {
            images: Images::new(config.images.clone()),
            addresses: Mutex::new(Addresses::new(config.first_address, config.reuse_addresses)),
            first_addresses: Mutex::default(),
            pods: Mutex::default(),
            crashes: watch::Sender::new(Vec::new()),
            config,
            api,
            client,
            network,
            spawner,
        }))
    }

    /// Follows the Pods until cancelled, then kills them all and waits for their end.
    pub async fn run(self: Arc<Self>, cancel: CancellationToken) {
        let mut events = watcher(
            Api::<Pod>::all(self.client.clone()),
            watcher::Config::default(),
        )
        .boxed();
        loop {
            let event = tokio::select! {
                () = cancel.cancelled() => break,
                event = events.next() => event,
            };
            match event {
                Some(Ok(watcher::Event::Apply(pod) | watcher::Event::InitApply(pod))) => {
                    self.observe(pod)
                }
                Some(Ok(watcher::Event::Delete(pod))) => self.forget(&pod),
                Some(Ok(watcher::Event::Init | watcher::Event::InitDone)) => {}
                Some(Err(error)) => tracing::warn!(%error, "watch of pods interrupted"),
                None => break,
            }
        }
        self.stop_all().await;
    }

    /// Containers that ended by themselves although they should have run on, oldest first. The receiver also wakes its
    /// holder at the next one.
    pub fn crashes(&self) -> watch::Receiver<Vec<Crash>> {
        self.crashes.subscribe()
    }

    /// Ends the spawner. Call it after [`NodeAgent::run`] has returned.
    pub async fn shutdown(&self) {
        self.spawner.shutdown().await;
    }

    /// The agent as the API server's kubelet. It does not keep the agent alive, which holds the API server itself.
    pub fn kubelet(self: &Arc<Self>) -> Arc<dyn Kubelet> {
        Arc::new(Handle(Arc::downgrade(self)))
    }

    /// Runs a command in a container.
    pub async fn exec(
        &self,
        pod: &PodRef,
        options: ExecOptions,
    ) -> Result<ExecSession, KubeletError> {
        let container = self.container(pod)?;
        session::start(&self.spawner, &container, options).await
    }

    fn observe(self: &Arc<Self>, pod: Pod) {
        let ours = pod.spec.as_ref().is_some_and(|spec| {
            spec.node_name
                .as_deref()
                .is_none_or(|name| name == self.config.node_name)
        });
        if !ours || pod.annotations().contains_key(MIRROR_ANNOTATION) {
            return;
        }
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        let mut pods = self.pods();
        match pods.get(&key) {
            Some(entry) if Some(&entry.uid) == pod.metadata.uid.as_ref() => {
                entry.update(Update::Applied(Box::new(pod)))
            }
            other => {
                if let Some(replaced) = other {
                    replaced.update(Update::Gone);
                }
                pods.insert(key, Entry::start(Arc::clone(self), pod));
            }
        }
    }

    fn forget(&self, pod: &Pod) {
        let key = (pod.namespace().unwrap_or_default(), pod.name_any());
        let mut pods = self.pods();
        if pods
            .get(&key)
            .is_some_and(|entry| Some(&entry.uid) == pod.metadata.uid.as_ref())
            && let Some(entry) = pods.remove(&key)
        {
            entry.update(Update::Gone);
        }
    }

    async fn stop_all(&self) {
        let entries = std::mem::take(&mut *self.pods());
        for entry in entries.values() {
            entry.update(Update::Gone);
        }
        for (_, entry) in entries {
            entry.ended().await;
        }
    }

    fn crashed(&self, crash: Crash) {
        self.crashes.send_modify(|crashes| {
            if crashes.len() < CRASH_LIMIT {
                crashes.push(crash);
            }
        });
    }

    fn addresses(&self) -> MutexGuard<'_, Addresses> {
        self.addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn release(&self, address: Ipv4Addr) {
        self.addresses().release(address);
    }

    /// Makes a status as wrong as the active faults want it.
    fn distort(&self, pod: &Pod, status: &mut PodStatus) {
        let keeps = ClusterFault::ReplacedPodKeepsAddress;
        let (Some(app), Some(own)) = (pod.labels().get("app"), &mut status.pod_ip) else {
            return;
        };
        if !self.config.faults.contains(&keeps) {
            return;
        }
        let mut known = self
            .first_addresses
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let first = known.entry(app.clone()).or_insert_with(|| own.clone());
        own.clone_from(first);
        for ip in status.pod_ips.iter_mut().flatten() {
            ip.ip.clone_from(first);
        }
    }

    fn pods(&self) -> MutexGuard<'_, BTreeMap<(String, String), Entry>> {
        self.pods.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The container that a log or exec request means.
    fn container(&self, pod: &PodRef) -> Result<Arc<container::Container>, KubeletError> {
        let pods = self.pods();
        let entry = pods.get(&(pod.namespace.clone(), pod.name.clone()));
        let entry = entry.ok_or_else(|| {
            KubeletError::NotFound(format!("pod \"{}\" is not on this node", pod.name))
        })?;
        entry.container(pod.container.as_deref()).ok_or_else(|| {
            let name = pod.container.as_deref().unwrap_or("(first)");
            KubeletError::BadRequest(format!(
                "container {name} is not valid for pod {}",
                pod.name
            ))
        })
    }
}

struct Handle(Weak<NodeAgent>);

impl Handle {
    fn agent(&self) -> Result<Arc<NodeAgent>, KubeletError> {
        self.0
            .upgrade()
            .ok_or_else(|| KubeletError::Internal("the node is gone".into()))
    }
}

impl Kubelet for Handle {
    fn logs(
        &self,
        pod: PodRef,
        options: LogOptions,
    ) -> BoxFuture<'_, Result<BoxStream<'static, Bytes>, KubeletError>> {
        async move { Ok(self.agent()?.container(&pod)?.logs(&pod, options)?.boxed()) }.boxed()
    }

    fn exec(
        &self,
        pod: PodRef,
        options: ExecOptions,
    ) -> BoxFuture<'_, Result<ExecSession, KubeletError>> {
        async move { self.agent()?.exec(&pod, options).await }.boxed()
    }
}

async fn register(client: &Client, name: &str) -> Result<(), kube::Error> {
    let nodes = Api::<Node>::all(client.clone());
    let now = jiff::Timestamp::now().to_string();
    let node: Node = serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": { "kubernetes.io/hostname": name, "kubernetes.io/os": "linux" },
        },
        "spec": { "podCIDR": "10.244.0.0/16", "podCIDRs": ["10.244.0.0/16"] },
    }))
    .map_err(kube::Error::SerdeError)?;
    match nodes.create(&PostParams::default(), &node).await {
        Ok(_) => {}
        Err(kube::Error::Api(status)) if status.code == 409 => {}
        Err(error) => return Err(error),
    }
    let status = json!({ "status": {
        "addresses": [
            { "type": "InternalIP", "address": NODE_ADDRESS.to_string() },
            { "type": "Hostname", "address": name },
        ],
        "capacity": { "cpu": "2", "memory": "4Gi", "pods": "250" },
        "allocatable": { "cpu": "2", "memory": "4Gi", "pods": "250" },
        "conditions": [{
            "type": "Ready", "status": "True", "reason": "KubeletReady", "message": "the node agent runs",
            "lastHeartbeatTime": now, "lastTransitionTime": now,
        }],
        "nodeInfo": {
            "architecture": std::env::consts::ARCH, "operatingSystem": "linux", "kubeletVersion": "v1.34.0",
            "kubeProxyVersion": "", "containerRuntimeVersion": concat!("embedded://", env!("CARGO_PKG_VERSION")),
            "bootID": "", "machineID": "", "systemUUID": "", "osImage": "embedded node", "kernelVersion": kernel(),
        },
    }});
    nodes
        .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
        .await
        .map(drop)
}

fn kernel() -> String {
    nix::sys::utsname::uname()
        .map(|name| name.release().to_string_lossy().into_owned())
        .unwrap_or_default()
}
