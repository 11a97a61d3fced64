//! The embedded cluster: one Linux node whose network, pods and API live and die with the harness.
//!
//! | module | owns |
//! |---|---|
//! | [`sandbox`] | one container as a confined process; the `pod-init` and `pod-exec` entry points |
//! | [`image`] | image references to programs |
//! | [`network`] | assembly of the network; the fabric thread and its handles |
//! | [`fabric`] | pure router between pods, node and gateway |
//! | [`node_stage`] | pure: Services, NetworkPolicy, masquerade |
//! | [`netns`], [`tun`] | namespaces, devices and sockets inside them |
//! | [`capture`] | pcapng evidence |

pub mod image;
pub mod sandbox;
pub mod capture;
pub mod fabric;
pub mod netns;
pub mod network;
pub mod node_stage;
pub mod tun;
