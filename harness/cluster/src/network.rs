//! The network of one embedded cluster: namespaces, devices, the fabric thread and its handles.
//!
//! Owns: assembly and teardown, and the typed commands to the thread. The thread (`driver`) is the only
//! place where devices meet the pure parts: `fabric`, `node_stage` and the gateway engine. Knows nothing of
//! the Kubernetes API (`sync` does) nor of processes.
//!
//! Every namespace has one TUN device `eth0`, whose other end the thread holds: pods, the node, and one
//! namespace with all addresses of the simulated internet. When the harness dies, the devices and
//! namespaces die with its descriptors.

mod captures;
mod driver;
mod leak;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use futures::FutureExt;
use futures::future::BoxFuture;
use mock_controller::controller::GatewayLink;
use mock_controller::gateway::{Counters, Gateway};
use mock_controller::policy::{FiveTuple, Snapshot};
use mock_controller::record::LogRecord;
use tokio::sync::{mpsc, oneshot};

use crate::capture;
use crate::fabric::impairment::Impairment;
use crate::fabric::{AddressInUse, Drops, PortId};
use crate::fault::ClusterFaults;
use crate::netns::{self, Families, NetNs};
use crate::node_stage::NodeConfig;
use crate::node_stage::policy::{Cidr, PolicyTable};
use crate::node_stage::service::ServiceTable;
use crate::tun::{self, Tun};
use driver::{Command, Commands, Driver};

/// The node's address, on which the API server listens.
pub const NODE_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 10);
/// The cluster DNS pod, which lives in the node's namespace.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 2);
/// The resolver of the surrounding VPC: never behind the gateway.
pub const VPC_RESOLVER_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 0, 0, 2);
pub const POD_CIDR: Cidr = Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 244, 0, 0)), 16);
/// The Pods' range of a dual-stack cluster (RFC 4193).
pub const POD_CIDR_IPV6: Cidr = Cidr::new(IpAddr::V6(pod_ipv6(Ipv4Addr::UNSPECIFIED)), 64);
pub const SERVICE_CIDR: Cidr = Cidr::new(IpAddr::V4(Ipv4Addr::new(10, 96, 0, 0)), 16);

/// The IPv6 address of the Pod with this IPv4 address, in a dual-stack cluster.
#[must_use]
pub const fn pod_ipv6(address: Ipv4Addr) -> Ipv6Addr {
    let [_, _, high, low] = address.octets();
    let host = u16::from_be_bytes([high, low]);
    Ipv6Addr::new(0xfd00, 0x10, 0x244, 0, 0, 0, 0, host)
}

pub struct NetworkConfig {
    pub gateway: Gateway,
    /// All addresses of the simulated internet. IPv6 ones need a dual-stack cluster.
    pub internet_addresses: Vec<IpAddr>,
    /// Pods and the internet have IPv6 beside IPv4. The node, its Services and cluster DNS stay IPv4 only.
    pub families: Families,
    /// Where the captures go; None captures nothing.
    pub capture_dir: Option<PathBuf>,
    /// Bytes per capture file, see [`capture::DEFAULT_LIMIT`].
    pub capture_limit: u64,
    /// Pods leave the cluster with the node's address.
    pub masquerade: bool,
    /// Decides which endpoint a Service starts with, and injected losses.
    pub seed: u64,
    pub faults: ClusterFaults,
}

impl NetworkConfig {
    #[must_use]
    pub fn new(gateway: Gateway) -> Self {
        Self {
            gateway,
            internet_addresses: Vec::new(),
            families: Families::Ipv4,
            capture_dir: None,
            capture_limit: capture::DEFAULT_LIMIT,
            masquerade: false,
            seed: 0,
            faults: ClusterFaults::new(),
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Namespace(#[from] netns::Error),
    #[error("internet address {0} is not IPv4, and the cluster is not dual-stack")]
    NotIpv4(IpAddr),
    #[error(transparent)]
    AddressInUse(#[from] AddressInUse),
    #[error(transparent)]
    Capture(#[from] capture::Error),
    #[error("cannot watch a device: {0}")]
    Poll(#[source] std::io::Error),
    #[error("the network is shut down")]
    ShutDown,
}

/// Completeness of the two captures.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct CaptureStatus {
    pub pod_side: capture::Status,
    pub outside: capture::Status,
}

/// A running network. Clones share it; it stops with [`Network::shutdown`] or with the last clone.
#[derive(Clone)]
pub struct Network {
    shared: Arc<Shared>,
}

struct Shared {
    families: Families,
    node: NetNs,
    internet: NetNs,
    commands: Commands,
    records: Mutex<Option<mpsc::UnboundedReceiver<LogRecord>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Network {
    pub fn start(config: NetworkConfig) -> Result<Self, Error> {
        let families = config.families;
        if families == Families::Ipv4
            && let Some(address) = config.internet_addresses.iter().find(|it| it.is_ipv6())
        {
            return Err(Error::NotIpv4(*address));
        }
        let node_addresses = [NODE_ADDRESS, DNS_ADDRESS, VPC_RESOLVER_ADDRESS].map(IpAddr::V4);
        let (node, node_tun) = namespace(Families::Ipv4, &node_addresses)?;
        let (internet, internet_tun) = namespace(families, &config.internet_addresses)?;
        let node_config = NodeConfig {
            addresses: vec![NODE_ADDRESS, VPC_RESOLVER_ADDRESS],
            pods: vec![POD_CIDR, POD_CIDR_IPV6],
            services: SERVICE_CIDR,
            masquerade: config.masquerade,
            seed: config.seed,
        };
        let (record_sender, records) = mpsc::unbounded_channel();
        let (commands, driver) = Driver::new(driver::Parts {
            node: node_config,
            node_tun,
            node_addresses: node_addresses.to_vec(),
            internet_tun,
            gateway: config.gateway,
            records: record_sender,
            capture_dir: config.capture_dir,
            capture_limit: config.capture_limit,
            faults: config.faults,
        })?;
        let thread = std::thread::Builder::new()
            .name("fabric".into())
            .spawn(move || driver.run())
            .map_err(netns::Error::Thread)?;
        Ok(Self {
            shared: Arc::new(Shared {
                families,
                node,
                internet,
                commands,
                records: Mutex::new(Some(records)),
                thread: Mutex::new(Some(thread)),
            }),
        })
    }

    /// The IPv6 address of the Pod with this IPv4 address; none unless the cluster is dual-stack.
    #[must_use]
    pub fn pod_ipv6(&self, address: Ipv4Addr) -> Option<Ipv6Addr> {
        (self.shared.families == Families::DualStack).then(|| pod_ipv6(address))
    }

    /// A new namespace for a pod, connected to the fabric. Takes a few milliseconds and blocks for them.
    pub fn attach(&self, address: Ipv4Addr) -> Result<Attachment, Error> {
        let ipv6 = self.pod_ipv6(address);
        let addresses: Vec<IpAddr> = [Some(address.into()), ipv6.map(IpAddr::V6)]
            .into_iter()
            .flatten()
            .collect();
        let (netns, tun) = namespace(self.shared.families, &addresses)?;
        let (reply, answer) = std::sync::mpsc::sync_channel(1);
        let commands = self.shared.commands.clone();
        commands.send(Command::Attach {
            addresses,
            tun,
            reply,
        });
        let port = answer.recv().map_err(|_| Error::ShutDown)??;
        Ok(Attachment {
            netns,
            address,
            port,
            commands,
        })
    }

    /// The node's namespace: API server, cluster DNS, VPC resolver.
    #[must_use]
    pub fn node(&self) -> &NetNs {
        &self.shared.node
    }

    /// The namespace that has all addresses of the simulated internet.
    #[must_use]
    pub fn internet(&self) -> &NetNs {
        &self.shared.internet
    }

    pub fn set_services(&self, table: ServiceTable) {
        self.shared.commands.send(Command::Services(table));
    }

    pub fn set_network_policies(&self, table: PolicyTable) {
        self.shared.commands.send(Command::Policies(table));
    }

    pub fn set_masquerade(&self, on: bool) {
        self.shared.commands.send(Command::Masquerade(on));
    }

    /// Puts a packet on a pod's wire as if the pod had sent it: for what a process without capabilities cannot send.
    /// Resolves to false when no pod has the address.
    pub async fn send_as(&self, address: Ipv4Addr, packet: Vec<u8>) -> bool {
        self.ask(|reply| Command::SendAs {
            address: address.into(),
            packet,
            reply,
        })
        .await
        .unwrap_or(false)
    }

    /// Injects loss, delay or partition; replaces the rules before.
    pub fn set_impairments(&self, rules: Vec<Impairment>) {
        self.shared.commands.send(Command::Impairments(rules));
    }

    /// Through which a controller pushes policy to this cluster's gateway.
    #[must_use]
    pub fn gateway_link(&self) -> Arc<dyn GatewayLink> {
        Arc::new(Link(self.shared.commands.clone()))
    }

    /// Restarts the gateway: its flows and its policy are gone when this resolves. Nothing passes until a controller
    /// pushes again.
    pub async fn restart_gateway(&self) {
        self.ask(Command::RestartGateway).await;
    }

    /// The gateway's log records as they occur. There is one receiver; later calls get None.
    #[must_use]
    pub fn records(&self) -> Option<mpsc::UnboundedReceiver<LogRecord>> {
        lock(&self.shared.records).take()
    }

    /// What the fabric dropped, and why, up to now.
    pub async fn drops(&self) -> Drops {
        self.ask(Command::Drops).await.unwrap_or_default()
    }

    /// The source address and port that a flow has beyond the gateway; None unless it was let through.
    pub async fn outside_source(&self, flow: FiveTuple) -> Option<SocketAddr> {
        self.ask(|reply| Command::OutsideSource { flow, reply })
            .await?
    }

    /// What the gateway did with packets that left no record.
    pub async fn gateway_counters(&self) -> Counters {
        self.ask(Command::Counters).await.unwrap_or_default()
    }

    /// Resolves once every earlier command has taken effect.
    pub async fn settled(&self) {
        self.ask(Command::Barrier).await;
    }

    /// Resolves once the captures on disk hold every packet that was sent before this call.
    pub async fn flush_captures(&self) -> CaptureStatus {
        self.ask(Command::Flush).await.unwrap_or_default()
    }

    /// Stops the fabric thread; captures are complete afterwards, devices are gone.
    pub async fn shutdown(&self) {
        self.shared.commands.send(Command::Stop);
        let thread = lock(&self.shared.thread).take();
        if let Some(thread) = thread {
            // A panic of the thread was printed by its hook; there is nothing left to stop.
            let _ = tokio::task::spawn_blocking(move || thread.join()).await;
        }
    }

    async fn ask<T>(&self, command: impl FnOnce(oneshot::Sender<T>) -> Command) -> Option<T> {
        let (sender, receiver) = oneshot::channel();
        self.shared.commands.send(command(sender));
        receiver.await.ok()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.commands.send(Command::Stop);
        if let Some(thread) = lock(&self.thread).take() {
            let _ = thread.join();
        }
    }
}

/// A pod's place in the network. Dropping it detaches the pod.
pub struct Attachment {
    netns: NetNs,
    address: Ipv4Addr,
    port: PortId,
    commands: Commands,
}

impl Attachment {
    /// For `setns` in the pod's first process.
    #[must_use]
    pub fn netns(&self) -> BorrowedFd<'_> {
        self.netns.as_fd()
    }

    /// For sockets of the harness inside the pod's namespace.
    #[must_use]
    pub fn namespace(&self) -> &NetNs {
        &self.netns
    }

    #[must_use]
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }
}

impl Drop for Attachment {
    fn drop(&mut self) {
        self.commands.send(Command::Detach(self.port));
    }
}

struct Link(Commands);

impl GatewayLink for Link {
    fn push(&self, policy: Arc<Snapshot>) -> BoxFuture<'static, ()> {
        let (done, enforced) = oneshot::channel();
        self.0.send(Command::Policy { policy, done });
        // A network that is gone enforces nothing any more: no reason to hold the controller up.
        enforced.map(drop).boxed()
    }
}

fn namespace(families: Families, addresses: &[IpAddr]) -> Result<(NetNs, Tun), netns::Error> {
    NetNs::create(|| {
        netns::container_sysctls(families)?;
        let tun = Tun::open(tun::DEVICE)?;
        tun::configure(addresses)?;
        Ok(tun)
    })
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
