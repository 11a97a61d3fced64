//! The embedded cluster as a whole: network, API server, cluster DNS, node agent and controllers, started and stopped
//! together.
//!
//! Owns the assembly and the objects that every cluster has from the start (the Node, cluster DNS, the
//! endpoints of the API server). It must not know scenarios, firewalls' policies or what runs in Pods.

mod objects;
mod readiness;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;

use api_server::{AccessLog, ApiServer, ExecOptions, ExecSession, KubeletError, PodRef};
use mock_controller::gateway::Gateway;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::dns::{DnsQuery, DnsServer, Upstream};
use crate::fault::{ClusterFault, ClusterFaults};
use crate::image::Image;
use crate::netns::Families;
use crate::network::{self, NODE_ADDRESS, Network, NetworkConfig};
use crate::node_agent::{self, Crash, NodeAgent, NodeAgentConfig, Timings};
use crate::{controllers, sync};

/// The API server's port on the node.
const API_PORT: u16 = 6443;

/// Called for each query that a resolver of the cluster answers.
pub type DnsLog = Arc<dyn Fn(DnsQuery) + Send + Sync>;

/// What a cluster is made of. [`ClusterConfig::new`] fills in what is rarely changed.
pub struct ClusterConfig {
    /// The binary that answers `pod-init` and `pod-exec`: one whose main calls [`crate::sandbox::dispatch`].
    pub helper: PathBuf,
    pub images: BTreeMap<String, Image>,
    /// Authorities that Pods trust, as /etc/ssl/certs/ca-certificates.crt.
    pub trusted_roots_pem: String,
    /// Where container logs go as they come; none keeps them in memory only.
    pub log_dir: Option<PathBuf>,
    pub gateway: Gateway,
    /// Answers queries for names outside the cluster: the resolver of the surrounding VPC.
    pub zone: Upstream,
    pub dns_log: Option<DnsLog>,
    /// Zones outside the cluster that cluster DNS forwards; none: every zone.
    pub forwarded_zones: Option<Vec<String>>,
    /// Pods and the internet have IPv6 beside IPv4; needs a kernel with IPv6 ([`crate::netns::ipv6_preflight`]).
    pub ipv6: bool,
    /// All addresses of the simulated internet; IPv6 ones only with `ipv6`.
    pub internet_addresses: Vec<IpAddr>,
    /// Where packet captures go; none captures nothing.
    pub capture_dir: Option<PathBuf>,
    /// Bytes per capture file.
    pub capture_limit: u64,
    /// Pods leave the cluster with the node's address instead of their own.
    pub masquerade: bool,
    /// The API server lies beyond the gateway, as a managed one with a public endpoint does. None: it is on the node.
    pub api_server_beyond: Option<ApiServerBeyond>,
    pub seed: u64,
    /// Whether the API server enforces RBAC for service accounts.
    pub rbac: bool,
    /// A new Pod takes the lowest free address that was not its own application's, instead of the next one.
    pub reuse_addresses: bool,
    /// Deliberate defects. Empty in every run that may be believed.
    pub faults: ClusterFaults,
    pub timings: Timings,
}

/// Where the endpoint of the `kubernetes` Service is when it is not on the node.
#[derive(Clone)]
pub struct ApiServerBeyond {
    /// An address of the simulated internet that nobody else has.
    pub address: SocketAddrV4,
    /// What the endpoint sees; none reports nothing.
    pub access_log: Option<AccessLog>,
}

impl ClusterConfig {
    pub fn new(helper: PathBuf, gateway: Gateway, zone: Upstream) -> Self {
        Self {
            helper,
            images: BTreeMap::new(),
            trusted_roots_pem: String::new(),
            log_dir: None,
            gateway,
            zone,
            dns_log: None,
            forwarded_zones: None,
            ipv6: false,
            internet_addresses: Vec::new(),
            capture_dir: None,
            capture_limit: crate::capture::DEFAULT_LIMIT,
            masquerade: false,
            api_server_beyond: None,
            seed: 0,
            rbac: api_server::Config::default().rbac,
            reuse_addresses: false,
            faults: ClusterFaults::new(),
            timings: Timings::default(),
        }
    }
}

/// Why a cluster did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the cluster's network did not start: {0}")]
    Network(#[from] network::Error),
    #[error("the API server can't listen on {address}: {source}")]
    Listen {
        address: SocketAddr,
        source: std::io::Error,
    },
    #[error("cluster DNS can't listen in the node's namespace: {0}")]
    Dns(#[source] std::io::Error),
    #[error("the node agent did not start: {0}")]
    NodeAgent(#[from] node_agent::Error),
    #[error("the cluster's own {what} could not be created: {source}")]
    Object {
        what: String,
        source: Box<kube::Error>,
    },
    #[error("the cluster is not ready: {0}")]
    NotReady(String),
    #[error("a thread that starts the cluster broke; its panic was printed")]
    Broken,
}

/// A running cluster. End it with [`EmbeddedCluster::shutdown`]; merely dropped, it ends in the background.
pub struct EmbeddedCluster {
    api: ApiServer,
    client: kube::Client,
    network: Network,
    agent: Arc<NodeAgent>,
    url: String,
    crashes: watch::Receiver<Vec<Crash>>,
    /// Stops the Pods; everything else goes on until they are gone.
    pods: CancellationToken,
    services: CancellationToken,
    pod_tasks: TaskTracker,
    service_tasks: TaskTracker,
    _cancel_on_drop: [DropGuard; 2],
}

impl EmbeddedCluster {
    /// Starts a cluster. When this returns, the API answers, cluster DNS answers by its Service's address, and
    /// the node takes Pods.
    pub async fn start(config: ClusterConfig) -> Result<Self, Error> {
        let mut internet_addresses = config.internet_addresses;
        let beyond = config.api_server_beyond;
        internet_addresses.extend(
            beyond
                .iter()
                .map(|beyond| IpAddr::from(*beyond.address.ip())),
        );
        let network_config = NetworkConfig {
            internet_addresses,
            families: if config.ipv6 {
                Families::DualStack
            } else {
                Families::Ipv4
            },
            capture_dir: config.capture_dir,
            capture_limit: config.capture_limit,
            masquerade: config.masquerade || config.faults.contains(&ClusterFault::MasqueradeOn),
            seed: config.seed,
            faults: config.faults.clone(),
            ..NetworkConfig::new(config.gateway)
        };
        let network = tokio::task::spawn_blocking(move || Network::start(network_config));
        let api_config = api_server::Config {
            rbac: config.rbac,
            ..api_server::Config::default()
        };
        let api = tokio::task::spawn_blocking(move || ApiServer::kubernetes(api_config));
        let (network, api) = (
            network.await.map_err(|_| Error::Broken)??,
            api.await.map_err(|_| Error::Broken)?,
        );

        let (pods, services) = (CancellationToken::new(), CancellationToken::new());
        let (pod_tasks, service_tasks) = (TaskTracker::new(), TaskTracker::new());
        let guards = [pods.clone().drop_guard(), services.clone().drop_guard()];

        let inside = SocketAddr::from((NODE_ADDRESS, API_PORT));
        let listener = network
            .node()
            .tcp_listener(inside)
            .and_then(TcpListener::from_std);
        serve(&api, inside, listener, None, &service_tasks, &services)?;
        if let Some(beyond) = &beyond {
            let address = beyond.address.into();
            let listener = network
                .internet()
                .tcp_listener(address)
                .and_then(TcpListener::from_std);
            let log = beyond.access_log.clone();
            serve(&api, address, listener, log, &service_tasks, &services)?;
        }
        let outside = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let listener = TcpListener::bind(outside).await;
        let port = listener
            .as_ref()
            .ok()
            .and_then(|listener| listener.local_addr().ok())
            .map_or(0, |address| address.port());
        serve(&api, outside, listener, None, &service_tasks, &services)?;

        let dns_log = config.dns_log;
        let every_zone = config.faults.contains(&ClusterFault::ResolverForwardsAll);
        let forwarded = config.forwarded_zones.filter(|_| !every_zone);
        let dns = DnsServer::forwarding(forwarded, config.zone, move |query| {
            if let Some(log) = &dns_log {
                log(query);
            }
        });
        dns.start(network.node(), &services).map_err(Error::Dns)?;

        let agent_config = NodeAgentConfig {
            images: config.images,
            trusted_roots_pem: config.trusted_roots_pem,
            log_dir: config.log_dir,
            reuse_addresses: config.reuse_addresses,
            timings: config.timings,
            faults: config.faults,
            ..NodeAgentConfig::new(config.helper)
        };
        let agent = NodeAgent::start(agent_config, api.clone(), network.clone()).await?;
        api.set_kubelet(agent.kubelet());
        let client = api.client("default");
        let endpoint = beyond.map_or(SocketAddrV4::new(NODE_ADDRESS, API_PORT), |beyond| {
            beyond.address
        });
        objects::create(&client, endpoint).await?;

        service_tasks.spawn(sync::run(
            client.clone(),
            network.clone(),
            dns,
            services.clone(),
        ));
        service_tasks.spawn(controllers::run(client.clone(), services.clone()));
        pod_tasks.spawn(Arc::clone(&agent).run(pods.clone()));
        readiness::cluster_dns(network.clone()).await?;
        let crashes = agent.crashes();
        let url = format!("https://127.0.0.1:{port}");
        Ok(Self {
            api,
            client,
            network,
            agent,
            url,
            crashes,
            pods,
            services,
            pod_tasks,
            service_tasks,
            _cancel_on_drop: guards,
        })
    }

    /// A client in memory with full rights.
    pub fn client(&self) -> kube::Client {
        self.client.clone()
    }

    pub fn api_server(&self) -> &ApiServer {
        &self.api
    }

    pub fn network(&self) -> &Network {
        &self.network
    }

    /// A kubeconfig for this machine's kubectl: administrator, over TLS on a loopback port.
    pub fn kubeconfig(&self) -> String {
        self.api.kubeconfig(&self.url)
    }

    /// Runs a command in a container, without a detour over the API.
    pub async fn exec(
        &self,
        pod: &PodRef,
        options: ExecOptions,
    ) -> Result<ExecSession, KubeletError> {
        self.agent.exec(pod, options).await
    }

    /// Containers that ended by themselves although they should have run on, oldest first.
    pub fn crashes(&self) -> Vec<Crash> {
        self.crashes.borrow().clone()
    }

    /// The same list, to be woken at the next crash.
    pub fn watch_crashes(&self) -> watch::Receiver<Vec<Crash>> {
        self.crashes.clone()
    }

    /// Takes everything down: processes first, then servers, then the network. Returns when no process, namespace,
    /// mount or device of the cluster is left. Repeating it is harmless.
    pub async fn shutdown(&self) {
        self.pods.cancel();
        self.pod_tasks.close();
        self.pod_tasks.wait().await;
        self.agent.shutdown().await;
        self.services.cancel();
        self.service_tasks.close();
        self.service_tasks.wait().await;
        self.network.shutdown().await;
    }
}

fn serve(
    api: &ApiServer,
    address: SocketAddr,
    listener: std::io::Result<TcpListener>,
    log: Option<AccessLog>,
    tasks: &TaskTracker,
    cancel: &CancellationToken,
) -> Result<(), Error> {
    let listener = listener.map_err(|source| Error::Listen { address, source })?;
    let (api, cancel) = (api.clone(), cancel.clone());
    tasks.spawn(async move {
        let served = match log {
            Some(log) => api.serve_logged(listener, cancel, log).await,
            None => api.serve(listener, cancel).await,
        };
        if let Err(error) = served {
            tracing::error!(%error, %address, "the API server stopped");
        }
    });
    Ok(())
}
