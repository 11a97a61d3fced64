//! What the controller knows of the clusters it watches: the facts that SmartGroups are resolved against.

use std::{collections::BTreeMap, net::IpAddr};

pub type Labels = BTreeMap<String, String>;

/// Clusters by their id.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub clusters: BTreeMap<String, ClusterInventory>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterInventory {
    /// Namespaces with their labels.
    pub namespaces: BTreeMap<String, Labels>,
    pub pods: Vec<InventoryPod>,
    pub services: Vec<InventoryService>,
}

/// A pod with an address of its own. Pods on the host network are no members of any group: their address is the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryPod {
    pub namespace: String,
    pub name: String,
    pub labels: Labels,
    pub addresses: Vec<IpAddr>,
}

/// A Service: its members are the pods its selector selects, and its load balancer's addresses. The ClusterIP is no
/// member: it is translated before a packet leaves the cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InventoryService {
    pub namespace: String,
    pub name: String,
    pub selector: Labels,
    pub external_addresses: Vec<IpAddr>,
}

/// Every wanted label is there, with its value. No wanted label selects all.
pub(super) fn selects(wanted: &Labels, labels: &Labels) -> bool {
    wanted
        .iter()
        .all(|(key, value)| labels.get(key) == Some(value))
}
