//! The boundary to clusters: one trait, three tenants.
//!
//! A scenario asks for what every Kubernetes cluster has (an API client, a way in to a Service) and for what only
//! some tiers can give (packets at the gateway). What a tier can't give it says in [`Capabilities`]; a scenario that
//! needs it is `not-testable`, never skipped. Today's tenant is [`embedded`]; kind and existing clusters come as
//! further implementors, and nothing outside this module may know which one it talks to.

mod blueprint;
pub mod embedded;
mod far_ends;
mod firewall;
pub mod node_js;
pub mod syslog_receiver;
mod tier_one;
mod vendor;
pub mod vendor_api;

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures::future::BoxFuture;

pub use far_ends::FarEnds;

use crate::evidence::observe::Captures;
use crate::judge::StoppedOnNode;
use crate::lab::orchestrator::Token;
use crate::scenario_data::tier_one::{Places, TierOne};
use vendor_api::VendorApi;

/// Image of a Pod that does nothing but let probes be run in it.
pub const IDLE_IMAGE: &str = "containment.test/idle:1.0.0";

/// What went wrong in a cluster.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The machine or the account can't run this tier. The text names the remedy.
    #[error("{0}")]
    Environment(String),
    /// The cluster did not start or broke.
    #[error("the cluster failed: {0}")]
    Cluster(String),
    /// The firewall's controller.
    #[error(transparent)]
    Firewall(#[from] vendor_api::Error),
    /// No way in to a Service.
    #[error("cannot reach the Service {service}: {reason}")]
    Forward {
        /// Namespace and name.
        service: String,
        /// What happened.
        reason: String,
    },
}

/// What a tier can show.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Capabilities {
    /// Packets on both sides of the gateway are recorded.
    pub packet_capture: bool,
    /// Seeded faults can be switched on, because the stand-ins are ours.
    pub seeded_faults: bool,
    /// What remote syslog brings to CoPilot is seen.
    pub copilot_log: bool,
    /// The gateway can be restarted, and held without a policy for as long as a scenario looks.
    pub gateway_restart: bool,
}

/// A container that ended although nothing asked it to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Crash {
    /// Namespace, Pod and container.
    pub container: String,
    /// Exit code or signal, in words.
    pub reason: String,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} crashed: {}", self.container, self.reason)
    }
}

/// One cluster with the system under test in it.
pub trait Cluster: Send + Sync {
    /// What this tier can show.
    fn capabilities(&self) -> Capabilities;

    /// A client with the rights of a cluster administrator.
    fn client(&self) -> kube::Client;

    /// A kubeconfig with those rights, for people and their tools.
    fn kubeconfig(&self) -> String;

    /// A loopback address that reaches `port` of a Service, as `kubectl port-forward` would give.
    fn forward<'a>(
        &'a self,
        namespace: &'a str,
        service: &'a str,
        port: u16,
    ) -> BoxFuture<'a, Result<SocketAddr, Error>>;

    /// Brings the captures at both sides of the gateway up to now; they lie in the evidence folder.
    fn flush_captures(&self) -> BoxFuture<'_, Captures>;

    /// Flows that NetworkPolicies stopped on the nodes so far; none where the tier can't see that.
    fn stopped_on_nodes(&self) -> BoxFuture<'_, Option<Vec<StoppedOnNode>>>;

    /// The owner's login to the orchestrator's API; none while its authentication is off.
    fn orchestrator_token(&self) -> Option<Token>;

    /// The admin token of the orchestrator's storage API, where the harness knows it.
    fn storage_token(&self) -> Option<&str>;

    /// A session with the firewall's controller, where this tier has one.
    fn vendor_api(&self) -> Option<&VendorApi>;

    /// Restarts the firewall's controller, where the tier can; resolves when it has given the gateway a policy again.
    fn restart_controller(&self) -> BoxFuture<'_, bool>;

    /// The gateway's addresses towards the internet; none where the tier does not know them.
    fn gateway_addresses(&self) -> BTreeSet<IpAddr> {
        BTreeSet::new()
    }

    /// Addresses and other places of this cluster by the names that data has for them.
    fn places(&self) -> Places {
        Places::new()
    }

    /// Sets the permits of a file on the firewall's Tier 1, in place of what the same file set before; resolves when
    /// the gateway enforces them.
    fn set_tier_one<'a>(&'a self, data: &'a TierOne) -> BoxFuture<'a, Result<(), Error>>;

    /// Takes back what a file set on Tier 1. New flows are decided without it once the gateway was told.
    fn clear_tier_one<'a>(&'a self, name: &'a str) -> BoxFuture<'a, Result<(), Error>>;

    /// Restarts the gateway: what it knew of flows and policy is gone, and nobody gives it a policy before
    /// [`Cluster::give_policy_again`].
    fn restart_gateway(&self) -> BoxFuture<'_, ()>;

    /// The restarted gateway asks the firewall's controller for its policy; resolves when it enforces it.
    fn give_policy_again(&self) -> BoxFuture<'_, ()>;

    /// The simulated internet's name for the API server's endpoint, where that lies beyond the gateway.
    fn api_server_far_end(&self) -> Option<&str>;

    /// Puts a packet on a Pod's wire as if the Pod had sent it; false where the tier can't, or no Pod has its source.
    fn send_as_pod(&self, packet: Vec<u8>) -> BoxFuture<'_, bool>;

    /// Runs a probe on the node itself, outside of any Pod; false where the tier can't.
    fn probe_from_node(
        &self,
        probe: fixtures::probe::Command,
        reports: fixtures::probe::Reporter,
    ) -> BoxFuture<'_, Result<bool, Error>>;

    /// Containers that crashed so far.
    fn crashes(&self) -> Vec<Crash>;

    /// Resolves with the first crash, when there is one.
    fn crashed(&self) -> BoxFuture<'_, Crash>;

    /// Takes the cluster down and leaves nothing behind.
    fn shutdown(self: Arc<Self>) -> BoxFuture<'static, ()>;
}
