//! The embedded cluster: one Linux node whose network, pods and API live and die with the harness.
//!
//! | module | owns |
//! |---|---|
//! | [`embedded`] | the assembly: everything below, started and stopped together |
//! | [`node_agent`] | scheduler and kubelet: Pods to processes, status, probes, logs, exec |
//! | [`controllers`] | Deployments, ReplicaSets, endpoints of Services |
//! | [`sandbox`] | one container as a confined process; the `pod-init` and `pod-exec` entry points |
//! | [`image`] | image references to programs |
//! | [`network`] | assembly of the network; the fabric thread and its handles |
//! | [`fabric`] | pure router between pods, node and gateway |
//! | [`node_stage`] | pure: Services, NetworkPolicy, masquerade |
//! | [`netns`], [`tun`] | namespaces, devices and sockets inside them |
//! | [`capture`] | pcapng evidence |
//! | [`dns`] | cluster DNS and the VPC's resolver |
//! | [`fault`] | seeded faults of the cluster |
//! | [`sync`] | kube-proxy and NetworkPolicy agent: API objects to tables |

pub mod capture;
pub mod controllers;
pub mod dns;
pub mod embedded;
pub mod fabric;
pub mod fault;
pub mod image;
pub mod netns;
pub mod network;
pub mod node_agent;
pub mod node_stage;
pub mod sandbox;
pub mod sync;
pub mod tun;

pub use embedded::{ApiServerBeyond, ClusterConfig, EmbeddedCluster};
pub use image::{Image, RootFs};
pub use node_agent::Crash;
