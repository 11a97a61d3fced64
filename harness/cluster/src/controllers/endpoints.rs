//! Services: the Pods behind them, as EndpointSlices and as the older Endpoints.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1::{
    EndpointAddress, EndpointPort as OldPort, EndpointSubset, Endpoints, ObjectReference, Pod,
    Service, ServicePort,
};
use k8s_openapi::api::discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde::{Serialize, de::DeserializeOwned};

use super::cache::Key;
use super::{Controllers, Outcome, is_finished, ready_since, short_hash};

const MANAGER: &str = "endpointslice-controller.k8s.io";
const SERVICE_NAME: &str = "kubernetes.io/service-name";
const MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";

/// Name, protocol, number.
type Port = (Option<String>, String, i32);

/// What is in force for a Service.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Written {
    slices: BTreeMap<String, EndpointSlice>,
    endpoints: Option<Endpoints>,
}

impl Written {
    /// Whether the Pod is among the endpoints.
    pub(super) fn has(&self, pod: &Pod) -> bool {
        let is_pod = |endpoint: &Endpoint| {
            endpoint
                .target_ref
                .as_ref()
                .is_some_and(|target| target.uid == pod.metadata.uid)
        };
        self.slices
            .values()
            .any(|slice| slice.endpoints.iter().any(is_pod))
    }
}

/// Whether the Service's selector takes the Pod. A Service without selector has its endpoints from elsewhere.
pub(super) fn selects(service: &Service, pod: &Pod) -> bool {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
        .filter(|selector| !selector.is_empty());
    selector.is_some_and(|selector| {
        selector
            .iter()
            .all(|(name, value)| pod.labels().get(name) == Some(value))
    })
}

impl Controllers {
    pub(super) async fn reconcile_service(&mut self, at: &Key) -> Outcome {
        let service = self.services.get(at).cloned();
        let pods: Vec<_> = self.pods.within(&at.0).cloned().collect();
        let wanted = match &service {
            Some(service) => wanted(
                service,
                pods.iter()
                    .map(|pod| &**pod)
                    .filter(|pod| selects(service, pod)),
            ),
            None => Written::default(),
        };
        let present = self.written.get(at).cloned().unwrap_or_default();
        for (name, slice) in &wanted.slices {
            if present.slices.get(name) != Some(slice) {
                self.apply(&at.0, name, slice).await?;
            }
        }
        for name in present
            .slices
            .keys()
            .filter(|name| !wanted.slices.contains_key(*name))
        {
            self.remove::<EndpointSlice>(&at.0, name).await?;
        }
        match &wanted.endpoints {
            Some(endpoints) if present.endpoints.as_ref() != Some(endpoints) => {
                self.apply(&at.0, &at.1, endpoints).await?
            }
            None if present.endpoints.is_some() => self.remove::<Endpoints>(&at.0, &at.1).await?,
            _ => {}
        }
        // Only now: after a failure on the way, everything is written again.
        if wanted == Written::default() {
            self.written.remove(at);
        } else {
            self.written.insert(at.clone(), wanted);
        }
        Ok(None)
    }

    async fn apply<K>(&self, namespace: &str, name: &str, object: &K) -> Result<(), kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned
            + Serialize,
        K::DynamicType: Default,
    {
        let parameters = PatchParams::apply(MANAGER).force();
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        api.patch(name, &parameters, &Patch::Apply(object))
            .await
            .map(drop)
    }

    async fn remove<K>(&self, namespace: &str, name: &str) -> Result<(), kube::Error>
    where
        K: kube::Resource<Scope = k8s_openapi::NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + DeserializeOwned,
        K::DynamicType: Default,
    {
        let api = Api::<K>::namespaced(self.client.clone(), namespace);
        match api.delete(name, &DeleteParams::default()).await {
            Ok(_) => Ok(()),
            // The Service's own end took it along.
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
            Err(error) => Err(error),
        }
    }
}

/// Slices are grouped by the numbers that the Service's ports resolve to; nearly always there is one.
fn wanted<'a>(service: &Service, pods: impl Iterator<Item = &'a Pod>) -> Written {
    let has_selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref())
        .is_some_and(|selector| !selector.is_empty());
    if !has_selector {
        return Written::default();
    }
    let mut groups: BTreeMap<Vec<Port>, Vec<Endpoint>> = BTreeMap::new();
    for pod in pods.filter(|pod| !is_finished(pod)) {
        if let Some(endpoint) = endpoint(service, pod) {
            groups
                .entry(ports(service, pod))
                .or_default()
                .push(endpoint);
        }
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    let endpoints = Some(older(service, &groups));
    let slices = groups
        .into_iter()
        .map(|(ports, endpoints)| slice(service, &ports, endpoints));
    Written {
        slices: slices.map(|slice| (slice.name_any(), slice)).collect(),
        endpoints,
    }
}

fn ports(service: &Service, pod: &Pod) -> Vec<Port> {
    let ports = service
        .spec
        .as_ref()
        .and_then(|spec| spec.ports.as_deref())
        .unwrap_or_default();
    let resolve = |port: &ServicePort| {
        let number = match &port.target_port {
            None => port.port,
            Some(IntOrString::Int(number)) => *number,
            Some(IntOrString::String(name)) => named_port(pod, name)?,
        };
        Some((
            port.name.clone(),
            port.protocol.clone().unwrap_or_else(|| "TCP".into()),
            number,
        ))
    };
    ports.iter().filter_map(resolve).collect()
}

fn named_port(pod: &Pod, name: &str) -> Option<i32> {
    let containers = pod.spec.iter().flat_map(|spec| &spec.containers);
    let mut ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .find(|port| port.name.as_deref() == Some(name))
        .map(|port| port.container_port)
}

fn endpoint(service: &Service, pod: &Pod) -> Option<Endpoint> {
    let address = pod.status.as_ref()?.pod_ip.clone()?;
    let spec = service.spec.as_ref()?;
    let terminating = pod.metadata.deletion_timestamp.is_some();
    let serving = ready_since(pod).is_some() || spec.publish_not_ready_addresses == Some(true);
    let pod_spec = pod.spec.as_ref();
    let named =
        pod_spec.filter(|pod| pod.subdomain.as_deref() == Some(service.name_any().as_str()));
    Some(Endpoint {
        addresses: vec![address],
        conditions: Some(EndpointConditions {
            ready: Some(
                serving && (!terminating || spec.publish_not_ready_addresses == Some(true)),
            ),
            serving: Some(serving),
            terminating: Some(terminating),
        }),
        hostname: named.and_then(|pod| pod.hostname.clone()),
        node_name: pod_spec.and_then(|pod| pod.node_name.clone()),
        target_ref: Some(target(pod)),
        ..Endpoint::default()
    })
}

fn target(pod: &Pod) -> ObjectReference {
    ObjectReference {
        kind: Some("Pod".into()),
        name: Some(pod.name_any()),
        namespace: pod.namespace(),
        uid: pod.metadata.uid.clone(),
        ..ObjectReference::default()
    }
}

fn slice(service: &Service, ports: &[Port], mut endpoints: Vec<Endpoint>) -> EndpointSlice {
    endpoints.sort_by(|a, b| a.addresses.cmp(&b.addresses));
    let mut labels = service.labels().clone();
    labels.insert(SERVICE_NAME.into(), service.name_any());
    labels.insert(MANAGED_BY.into(), MANAGER.into());
    let ports = ports.iter().map(|(name, protocol, number)| EndpointPort {
        // An unnamed port has the empty name in a slice.
        name: Some(name.clone().unwrap_or_default()),
        protocol: Some(protocol.clone()),
        port: Some(*number),
        app_protocol: None,
    });
    let ports: Vec<_> = ports.collect();
    EndpointSlice {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", service.name_any(), short_hash(&ports, 5))),
            namespace: service.namespace(),
            labels: Some(labels),
            owner_references: service.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        address_type: "IPv4".into(),
        endpoints,
        ports: Some(ports),
    }
}

/// The same as one Endpoints object.
fn older(service: &Service, groups: &BTreeMap<Vec<Port>, Vec<Endpoint>>) -> Endpoints {
    let address = |endpoint: &Endpoint| EndpointAddress {
        ip: endpoint.addresses.first().cloned().unwrap_or_default(),
        hostname: endpoint.hostname.clone(),
        node_name: endpoint.node_name.clone(),
        target_ref: endpoint.target_ref.clone(),
    };
    let subset = |(ports, endpoints): (&Vec<Port>, &Vec<Endpoint>)| {
        let is_ready = |endpoint: &&Endpoint| {
            endpoint
                .conditions
                .as_ref()
                .and_then(|conditions| conditions.ready)
                == Some(true)
        };
        let ready: BTreeSet<_> = endpoints
            .iter()
            .filter(is_ready)
            .map(|endpoint| endpoint.addresses.clone())
            .collect();
        let (mut up, mut down) = (Vec::new(), Vec::new());
        for endpoint in endpoints {
            if ready.contains(&endpoint.addresses) {
                up.push(address(endpoint))
            } else {
                down.push(address(endpoint))
            }
        }
        for list in [&mut up, &mut down] {
            list.sort_by(|a, b| a.ip.cmp(&b.ip));
        }
        let port = |(name, protocol, number): &Port| OldPort {
            name: name.clone(),
            port: *number,
            protocol: Some(protocol.clone()),
            app_protocol: None,
        };
        EndpointSubset {
            addresses: Some(up).filter(|list| !list.is_empty()),
            not_ready_addresses: Some(down).filter(|list| !list.is_empty()),
            ports: Some(ports.iter().map(port).collect()),
        }
    };
    Endpoints {
        metadata: ObjectMeta {
            name: Some(service.name_any()),
            namespace: service.namespace(),
            labels: service.metadata.labels.clone(),
            ..ObjectMeta::default()
        },
        subsets: Some(
            groups
                .iter()
                .filter(|(_, endpoints)| !endpoints.is_empty())
                .map(subset)
                .collect(),
        ),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::json;

    fn service(extra: serde_json::Value) -> Service {
        let mut spec = json!({
            "selector": { "app": "x" },
            "ports": [{ "name": "http", "port": 80, "targetPort": "web" }, { "name": "raw", "port": 81, "targetPort": 8081 }],
        });
        spec.as_object_mut()
            .unwrap()
            .extend(extra.as_object().unwrap().clone());
        serde_json::from_value(
            json!({ "metadata": { "name": "s", "namespace": "n", "uid": "u" }, "spec": spec }),
        )
        .unwrap()
    }

    fn pod(address: &str, ready: bool, web: u16) -> Pod {
        serde_json::from_value(json!({
            "metadata": { "name": address, "namespace": "n", "uid": address, "labels": { "app": "x" } },
            "spec": { "containers": [{ "name": "c", "ports": [{ "name": "web", "containerPort": web }] }] },
            "status": {
                "podIP": address,
                "conditions": [{ "type": "Ready", "status": if ready { "True" } else { "False" } }],
            },
        }))
        .unwrap()
    }

    fn ready(written: &Written) -> Vec<(String, bool)> {
        let endpoints = written.slices.values().flat_map(|slice| &slice.endpoints);
        endpoints
            .map(|endpoint| {
                (
                    endpoint.addresses[0].clone(),
                    endpoint.conditions.as_ref().unwrap().ready.unwrap(),
                )
            })
            .collect()
    }

    #[test]
    fn unready_pods_are_listed_as_such() {
        let pods = [pod("10.0.0.2", false, 8080), pod("10.0.0.1", true, 8080)];
        let written = wanted(&service(json!({})), pods.iter());
        assert_eq!(
            ready(&written),
            [("10.0.0.1".into(), true), ("10.0.0.2".into(), false)]
        );
        let subset = written.endpoints.unwrap().subsets.unwrap().remove(0);
        assert_eq!(subset.addresses.unwrap()[0].ip, "10.0.0.1");
        assert_eq!(subset.not_ready_addresses.unwrap()[0].ip, "10.0.0.2");
        assert_eq!(
            subset
                .ports
                .unwrap()
                .iter()
                .map(|port| port.port)
                .collect::<Vec<_>>(),
            [8080, 8081]
        );

        let all = wanted(
            &service(json!({ "publishNotReadyAddresses": true })),
            pods.iter(),
        );
        assert!(ready(&all).iter().all(|(_, ready)| *ready));
    }

    #[test]
    fn pods_that_resolve_ports_differently_get_slices_of_their_own() {
        let pods = [pod("10.0.0.1", true, 8080), pod("10.0.0.2", true, 9090)];
        assert_eq!(wanted(&service(json!({})), pods.iter()).slices.len(), 2);
    }

    #[test]
    fn without_pods_there_is_an_empty_slice_and_without_selector_nothing() {
        let written = wanted(&service(json!({})), [].into_iter());
        assert_eq!(
            written
                .slices
                .values()
                .map(|slice| slice.endpoints.len())
                .collect::<Vec<_>>(),
            [0]
        );
        assert_eq!(
            wanted(&service(json!({ "selector": {} })), [].into_iter()),
            Written::default()
        );
        assert!(!selects(
            &service(json!({ "selector": {} })),
            &pod("10.0.0.1", true, 1)
        ));
    }
}
