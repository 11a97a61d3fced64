//! The policy model: what a firewall administrator configures, and the immutable [`Snapshot`] a gateway enforces.
//!
//! Owns evaluation order and match semantics as `reference/aviatrix-dcf.md` sections 2 and 7 give them: ordered lists,
//! first match wins, a WebGroup rule whose name does not match is skipped and evaluation goes on across lists, one
//! default action at the end. Pure: values in, verdict out. It must not know packets, sockets, clocks or Kubernetes.

mod address;
mod domain;
mod flow;
mod group;
mod host_name;
mod index;
mod inventory;
mod pattern;
mod rule;
mod snapshot;
mod switches;

pub use address::{AddressSet, Cidr, InvalidCidr};
pub use domain::{ALL_WEB, InvalidDomain, WebGroup};
pub use flow::{Action, Application, FirstPacket, FiveTuple, Protocol, Verdict};
pub use group::{ANYWHERE, KubernetesSelector, PUBLIC_INTERNET, Selector, SmartGroup};
pub use inventory::{ClusterInventory, Inventory, InventoryPod, InventoryService, Labels};
pub use rule::{
    AttachmentPoint, DefaultAction, FlowAppRequirement, K8S_ATTACHMENT_POINT, Logging, ObjectRef,
    Policy, PolicyList, PortRange, Rule,
};
pub use snapshot::{DEFAULT_ACTION, Evaluation, Snapshot};
pub use switches::{BareStar, Switches};
