//! What the published blueprints set on the firewall's controller before any workload runs, over the vendor's API
//! (reference: aviatrix-dcf.md section 3, aviatrix-controller-api.md sections 4.1, 4.5, 5 and 6).

use serde_json::json;

use super::vendor_api::{Error, VendorApi};

/// Switched on before anything else: the firewall itself, and the flags without which policy objects in clusters are
/// ignored.
const FEATURES: [&str; 6] = [
    "microseg",
    "k8s",
    "k8s_dcf_policies",
    "dcf_multi_policies",
    "k8s_discovery",
    "log_enrichment",
];
/// The built-in log profile `start`.
const LOG_PROFILE_START: &str = "def000ad-7000-0000-0000-000000000001";

/// The parts that differ from one cluster to the next.
#[derive(Clone, Debug)]
pub(super) struct Blueprint {
    /// As SmartGroups name it.
    pub(super) cluster_id: &'static str,
    /// With the rights that the controller has in the cluster.
    pub(super) kubeconfig: String,
    /// Deny and log what no policy permits. Otherwise the vendor's own default stays: permit, no log.
    pub(super) default_action_denies: bool,
}

impl Blueprint {
    /// Sets it all.
    ///
    /// # Errors
    /// When the controller refuses a part.
    pub(super) async fn apply(&self, api: &VendorApi) -> Result<(), Error> {
        for feature in FEATURES {
            api.set_feature(feature, true).await?;
        }
        if self.default_action_denies {
            let deny = json!({"action": "DENY", "logging": true, "log_profile": LOG_PROFILE_START});
            api.put("microseg/default-action-policy", &deny).await?;
        }
        let cluster = json!({
            "cluster_id": self.cluster_id,
            "credential": {"use_csp_credentials": false, "kube_config": self.kubeconfig},
        });
        api.post("k8s/clusters", &cluster).await?;
        Ok(())
    }
}
