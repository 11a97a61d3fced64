//! Kubernetes clusters that the controller watches (`reference/aviatrix-controller-api.md` section 5).

use std::collections::BTreeMap;

use serde_json::Value;

/// How the controller gets into a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The cloud account's own right; which client that is, the controller's configuration says.
    Cloud,
    /// A kubeconfig, byte for byte as it was sent.
    KubeConfig(String),
}

/// A cluster that somebody registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesCluster {
    /// As SmartGroups name it: an ARN or the like. The controller's own id is the key it is kept under.
    pub cluster_id: String,
    pub credential: Credential,
    /// As sent.
    pub object: Value,
}

/// The registered ones, by the controller's own id.
pub type KubernetesClusters = BTreeMap<String, KubernetesCluster>;
