//! What the controller takes from Pods and Services.

use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt;

use crate::policy::{InventoryPod, InventoryService};

/// The pod as a group member: `None` while it has no address of its own, and from when it has given it back.
pub fn pod(pod: &Pod) -> Option<InventoryPod> {
    let spec = pod.spec.as_ref()?;
    let status = pod.status.as_ref()?;
    if spec.host_network.unwrap_or(false)
        || matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"))
    {
        return None;
    }
    let listed = status.pod_ips.iter().flatten().map(|address| &address.ip);
    let mut addresses: Vec<_> = listed
        .chain(&status.pod_ip)
        .filter_map(|address| address.parse().ok())
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    (!addresses.is_empty()).then(|| InventoryPod {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        labels: pod.labels().clone(),
        addresses,
    })
}

pub fn service(service: &Service) -> InventoryService {
    let spec = service.spec.as_ref();
    let ingress = service
        .status
        .iter()
        .filter_map(|status| status.load_balancer.as_ref()?.ingress.as_ref())
        .flatten();
    InventoryService {
        namespace: service.namespace().unwrap_or_default(),
        name: service.name_any(),
        selector: spec
            .and_then(|spec| spec.selector.clone())
            .unwrap_or_default(),
        external_addresses: ingress
            .filter_map(|point| point.ip.as_ref()?.parse().ok())
            .collect(),
    }
}
