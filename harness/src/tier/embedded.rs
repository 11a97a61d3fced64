//! The embedded tier: the whole system in Linux namespaces of this process, nothing to install.
//!
//! What stands in for what: the cluster is [`cluster::EmbeddedCluster`]; the firewall is the fake of `mock-controller`,
//! its engine inline in the fabric and its controller a client of the cluster's API over TLS, as the vendor's is; the
//! orchestrator and the policy controller are Deployments whose images are roles of this binary; the internet is
//! served in a namespace of its own behind the gateway.

mod bare;
mod installation;
mod parts;
mod relay;
mod witness;

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, SocketAddrV4};
use std::str::FromStr as _;
use std::sync::Arc;
use std::time::Duration;

use cluster::network::Network;
use cluster::node_stage::DropReason;
use cluster::{ApiServerBeyond, ClusterConfig, EmbeddedCluster};
use fixtures::internet::{Internet, InternetHandle, Sockets};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::api::{Api, ListParams};
use mock_controller::fault::{Fault, Faults};
use mock_controller::gateway::{Config as GatewayConfig, Gateway};
use mock_controller::policy::Snapshot;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub(crate) use bare::{bare, run_to_end};
use installation::Firewall;
use parts::{create_all, images, installed, outside_client};
use relay::relay;
use witness::{api_server_receipts, dns_receipts, name_servers, record_api_server, record_nodes};

use super::firewall;
use super::vendor_api::VendorApi;
use super::{Capabilities, Cluster, Crash, Error, FarEnds};
use crate::evidence::Recorder;
use crate::evidence::observe::Captures;
use crate::judge::{Protocol, StoppedOnNode};
use crate::lab::orchestrator::Token;
use crate::lab::{ORCHESTRATOR_NAMESPACE, Setup};
use crate::run::RunContext;
use crate::scenario_data::tier_one::{Places, TierOne};

/// The gateway's address on the internet (RFC 5737).
const GATEWAY_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// The API server's public endpoint, where it lies beyond the gateway (RFC 5737), and its name in receipts.
const API_SERVER_ADDRESS: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(198, 51, 100, 250), 443);
const API_SERVER: &str = "kubernetes API server";
/// The cluster as SmartGroups name it.
const CLUSTER_ID: &str = "embedded";
/// Images of the stand-ins.
const OBOT_IMAGE: &str = "containment.test/obot:0.25.1";
const POLICY_CONTROLLER_IMAGE: &str = "containment.test/policy-controller:0.0.1";

/// Admin token of the orchestrator's storage, with which the harness reads its policies. Reachable in this cluster only.
const STORAGE_TOKEN: &str = "containment-storage-admin";

/// Whether Pods of this machine can have IPv6.
///
/// # Errors
/// [`Error::Environment`] with the remedy.
pub fn ipv6_preflight() -> Result<(), Error> {
    cluster::netns::ipv6_preflight().map_err(|error| Error::Environment(error.to_string()))
}

/// Whether this machine can run the tier.
///
/// # Errors
/// [`Error::Environment`] with the remedy.
pub fn preflight() -> Result<(), Error> {
    cluster::netns::preflight().map_err(|error| Error::Environment(error.to_string()))
}

/// Makes the namespace in which an account without rights may make networks. Must be called before the process has
/// threads; does nothing as root.
///
/// # Errors
/// [`Error::Environment`] with what the kernel refused.
pub fn enter_user_namespace() -> Result<(), Error> {
    cluster::netns::enter_user_namespace().map_err(|error| Error::Environment(error.to_string()))
}

struct Embedded {
    cluster: EmbeddedCluster,
    client: kube::Client,
    firewall: Firewall,
    api_server_beyond: bool,
    /// The owner's login to the orchestrator; none while its authentication is off.
    orchestrator_token: Option<Token>,
    trust: rustls::ClientConfig,
    cancel: CancellationToken,
    tasks: TaskTracker,
    internet: InternetHandle,
    log_complete: Duration,
    recorder: Recorder,
}

/// Starts a cluster with the firewall, the internet and the objects of the orchestrator's installation in it. Nothing
/// of the orchestrator is awaited here.
///
/// # Errors
/// When a part does not start.
pub async fn start(
    context: &Arc<RunContext>,
    setup: &Setup,
    recorder: &Recorder,
) -> Result<(Arc<dyn Cluster>, FarEnds), Error> {
    let failed = |error: &dyn std::error::Error| Error::Cluster(error.to_string());
    let faults: Faults = context
        .faults
        .iter()
        .filter_map(|name| Fault::from_str(name).ok())
        .collect();
    let gateway = Gateway::new(
        GatewayConfig {
            live_session_reeval: setup.live_session_reeval,
            ..GatewayConfig::new(GATEWAY_ADDRESS)
        },
        faults.clone(),
        context.seed,
        Arc::new(Snapshot::deny_all()),
    );
    let world = if setup.dual_stack {
        context.internet.clone()
    } else {
        context.internet.ipv4_only()
    };
    let world = world.with_faults(fixtures::internet::fault::Faults::parse(
        &context.faults.join(","),
    ));
    let config = cluster_config(context, setup, &world, recorder, gateway);
    let cluster = EmbeddedCluster::start(config)
        .await
        .map_err(|error| failed(&error))?;
    let network = cluster.network().clone();
    let (cancel, tasks) = (CancellationToken::new(), TaskTracker::new());

    let receipts = recorder.clone();
    let sink = Arc::new(move |receipt| drop(receipts.receipt(receipt)));
    let internet = world
        .serve(
            &Beyond(&network),
            &context.authority,
            sink,
            cancel.child_token(),
        )
        .await
        .map_err(|error| failed(&error))?;

    let client = outside_client(&cluster).await?;
    let firewall = installation::install(
        (context, setup),
        &faults,
        recorder,
        (&cluster, &client),
        &cancel,
        &tasks,
    )
    .await?;
    if setup.api_server_beyond {
        // Whoever starts now needs the API server, and the way to it is the gateway's to open.
        drop(firewall.fake.controller.enforced(|_| true).await);
        record_api_server(&client, recorder).await?;
    }
    record_nodes(&client, recorder).await?;
    let token = (!setup.without_authentication).then(fixtures::obot::ids::secret);
    let installed = installed(context, setup, token.as_deref());
    create_all(&client, &installed).await?;
    let far_ends = FarEnds::new(network, internet.clone(), world, &context.authority)?;
    Ok((
        Arc::new(Embedded {
            cluster,
            client,
            firewall,
            api_server_beyond: setup.api_server_beyond,
            orchestrator_token: token.map(Token::new),
            trust: context
                .authority
                .client_config()
                .map_err(|error| failed(&error))?,
            cancel,
            tasks,
            internet,
            log_complete: context.deadlines.log_complete,
            recorder: recorder.clone(),
        }),
        far_ends,
    ))
}

fn cluster_config(
    context: &RunContext,
    setup: &Setup,
    world: &Internet,
    recorder: &Recorder,
    gateway: Gateway,
) -> ClusterConfig {
    let api_server_beyond = setup.api_server_beyond.then(|| ApiServerBeyond {
        address: API_SERVER_ADDRESS,
        access_log: Some(api_server_receipts(recorder)),
    });
    ClusterConfig {
        dns_log: Some(dns_receipts(recorder)),
        forwarded_zones: setup.forwarded_zones.clone(),
        images: images(context),
        trusted_roots_pem: context.authority.pem().to_owned(),
        ipv6: setup.dual_stack,
        internet_addresses: world.addresses(),
        capture_dir: Some(recorder.folder().path().to_owned()),
        seed: context.seed,
        reuse_addresses: setup.reuse_addresses,
        masquerade: setup.masquerade,
        api_server_beyond,
        faults: context
            .faults
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect(),
        ..ClusterConfig::new(
            context.binary.clone(),
            gateway,
            name_servers(world, recorder),
        )
    }
}

/// Sockets in the namespace beyond the gateway.
struct Beyond<'a>(&'a Network);

impl Sockets for Beyond<'_> {
    fn tcp(&self, address: SocketAddr) -> io::Result<std::net::TcpListener> {
        self.0.internet().tcp_listener(address)
    }

    fn udp(&self, address: SocketAddr) -> io::Result<std::net::UdpSocket> {
        self.0.internet().udp_socket(address)
    }
}

impl Cluster for Embedded {
    fn capabilities(&self) -> Capabilities {
        Capabilities {
            packet_capture: true,
            copilot_log: true,
            seeded_faults: true,
            gateway_restart: true,
        }
    }

    fn client(&self) -> kube::Client {
        self.client.clone()
    }

    fn kubeconfig(&self) -> String {
        self.cluster.kubeconfig()
    }

    /// A relay from a loopback port to the Service's ClusterIP, by way of the node.
    fn forward<'a>(
        &'a self,
        namespace: &'a str,
        service: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<SocketAddr, Error>> {
        let failed = move |reason: String| Error::Forward {
            service: format!("{namespace}/{service}"),
            reason,
        };
        async move {
            let api = Api::<Service>::namespaced(self.client.clone(), namespace);
            let service = api
                .get(service)
                .await
                .map_err(|error| failed(error.to_string()))?;
            let address = service
                .spec
                .and_then(|spec| spec.cluster_ip)
                .and_then(|address| address.parse().ok());
            let address = address.ok_or_else(|| failed("it has no ClusterIP".to_owned()))?;
            let target = SocketAddr::new(address, port);
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
                .await
                .map_err(|error| failed(error.to_string()))?;
            let local = listener
                .local_addr()
                .map_err(|error| failed(error.to_string()))?;
            self.tasks.spawn(relay(
                listener,
                self.cluster.network().clone(),
                target,
                self.cancel.clone(),
                self.tasks.clone(),
            ));
            Ok(local)
        }
        .boxed()
    }

    fn flush_captures(&self) -> BoxFuture<'_, Captures> {
        async {
            let status = self.cluster.network().flush_captures().await;
            for (side, capture) in [("pod side", &status.pod_side), ("outside", &status.outside)] {
                if capture.skipped > 0 || capture.error.is_some() {
                    let why = capture
                        .error
                        .clone()
                        .unwrap_or_else(|| "it reached its bound".to_owned());
                    return Captures::Incomplete(format!(
                        "the capture at the {side} lacks {} packets: {why}",
                        capture.skipped
                    ));
                }
            }
            Captures::InFolder
        }
        .boxed()
    }

    fn stopped_on_nodes(&self) -> BoxFuture<'_, Option<Vec<StoppedOnNode>>> {
        async {
            let drops = self.cluster.network().drops().await;
            let stopped = drops.recent.iter().filter_map(|packet| {
                let flow = packet.flow?;
                let DropReason::NetworkPolicy { policies, .. } = &packet.reason else {
                    return None;
                };
                Some(StoppedOnNode {
                    protocol: protocol(flow.protocol),
                    source: SocketAddr::new(flow.source, flow.source_port),
                    destination: SocketAddr::new(flow.destination, flow.destination_port),
                    policies: policies.clone(),
                })
            });
            Some(stopped.collect())
        }
        .boxed()
    }

    fn orchestrator_token(&self) -> Option<Token> {
        self.orchestrator_token.clone()
    }

    fn storage_token(&self) -> Option<&str> {
        Some(STORAGE_TOKEN)
    }

    fn gateway_addresses(&self) -> BTreeSet<IpAddr> {
        BTreeSet::from([GATEWAY_ADDRESS.into()])
    }

    fn places(&self) -> Places {
        self.firewall.places.clone()
    }

    fn set_tier_one<'a>(&'a self, data: &'a TierOne) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let mut places = self.firewall.places.clone();
            let pods = orchestrator_addresses(&self.client).await?;
            places.insert("orchestrator pods".to_owned(), pods);
            let rules = self
                .firewall
                .tier_one
                .install(&self.firewall.api, data, &places)
                .await?;
            let controller = &self.firewall.fake.controller;
            controller
                .enforced(|push| rules.iter().all(|rule| push.rules.contains(rule)))
                .await;
            Ok(())
        }
        .boxed()
    }

    fn clear_tier_one<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>> {
        async move {
            let rules = self
                .firewall
                .tier_one
                .remove(&self.firewall.api, name)
                .await?;
            let controller = &self.firewall.fake.controller;
            controller
                .enforced(|push| !rules.iter().any(|rule| push.rules.contains(rule)))
                .await;
            Ok(())
        }
        .boxed()
    }

    fn restart_gateway(&self) -> BoxFuture<'_, ()> {
        self.cluster.network().restart_gateway().boxed()
    }

    fn give_policy_again(&self) -> BoxFuture<'_, ()> {
        async {
            let controller = &self.firewall.fake.controller;
            let before = controller.push_again();
            controller.enforced(|push| push.generation > before).await;
        }
        .boxed()
    }

    fn vendor_api(&self) -> Option<&VendorApi> {
        Some(&self.firewall.api)
    }

    fn restart_controller(&self) -> BoxFuture<'_, bool> {
        async {
            let controller = &self.firewall.fake.controller;
            let before = controller
                .pushes()
                .borrow()
                .as_ref()
                .map(|push| push.generation);
            self.firewall.fake.restart();
            controller
                .enforced(|push| Some(push.generation) > before)
                .await;
            true
        }
        .boxed()
    }

    fn api_server_far_end(&self) -> Option<&str> {
        self.api_server_beyond.then_some(API_SERVER)
    }

    fn send_as_pod(&self, packet: Vec<u8>) -> BoxFuture<'_, bool> {
        async move {
            let source = packet.get(12..16).and_then(|bytes| {
                let octets: [u8; 4] = bytes.try_into().ok()?;
                Some(Ipv4Addr::from(octets))
            });
            match source {
                Some(source) => self.cluster.network().send_as(source, packet).await,
                None => false,
            }
        }
        .boxed()
    }

    fn probe_from_node(
        &self,
        probe: fixtures::probe::Command,
        reports: fixtures::probe::Reporter,
    ) -> BoxFuture<'_, Result<bool, Error>> {
        let (network, trust) = (self.cluster.network().clone(), self.trust.clone());
        async move {
            // A thread of its own: sockets belong to the namespace of the thread that makes them.
            let probed = tokio::task::spawn_blocking(move || {
                network.node().run(|| {
                    let runtime = tokio::runtime::Builder::new_current_thread()
                        .enable_all()
                        .build()?;
                    runtime
                        .block_on(fixtures::probe::run_with(probe, || Ok(trust), reports))
                        .map_err(io::Error::other)
                })
            });
            let failed = |error: String| Error::Cluster(format!("no probe from its node: {error}"));
            probed
                .await
                .map_err(|error| failed(error.to_string()))?
                .map_err(|error| failed(error.to_string()))?
                .map_err(|error| failed(error.to_string()))?;
            Ok(true)
        }
        .boxed()
    }

    fn crashes(&self) -> Vec<Crash> {
        self.cluster.crashes().iter().map(crash).collect()
    }

    fn crashed(&self) -> BoxFuture<'_, Crash> {
        let mut crashes = self.cluster.watch_crashes();
        async move {
            let first = crashes.wait_for(|crashes| !crashes.is_empty()).await.ok();
            match first.and_then(|crashes| crashes.first().map(crash)) {
                Some(crash) => crash,
                // The cluster is gone, and with it whatever could crash.
                None => std::future::pending().await,
            }
        }
        .boxed()
    }

    fn shutdown(self: Arc<Self>) -> BoxFuture<'static, ()> {
        async move {
            self.cancel.cancel();
            self.internet.stopped().await;
            // The log's sender ends with the fabric, and its receiver with the sender, so that no record is lost.
            self.cluster.shutdown().await;
            self.tasks.close();
            self.tasks.wait().await;
            firewall::finish_log(&self.firewall.log, self.log_complete, &self.recorder).await;
        }
        .boxed()
    }
}

fn protocol(protocol: cluster::fabric::packet::Protocol) -> Protocol {
    use cluster::fabric::packet::Protocol as Seen;
    match protocol {
        Seen::Tcp => Protocol::Tcp,
        Seen::Udp => Protocol::Udp,
        Seen::Icmp => Protocol::Icmp,
        Seen::Other(_) => Protocol::Other,
    }
}

fn crash(crash: &cluster::Crash) -> Crash {
    Crash {
        container: crash.container(),
        reason: crash.to_string(),
    }
}

/// The addresses that the orchestrator's Pods have now.
async fn orchestrator_addresses(client: &kube::Client) -> Result<Vec<String>, Error> {
    let pods = Api::<Pod>::namespaced(client.clone(), ORCHESTRATOR_NAMESPACE)
        .list(&ListParams::default())
        .await
        .map_err(|error| Error::Cluster(format!("its Pods could not be listed: {error}")))?;
    let addresses = pods.into_iter().filter_map(|pod| pod.status?.pod_ip);
    Ok(addresses.map(|address| format!("{address}/32")).collect())
}
