//! The objects that a cluster has before anyone creates one.

use std::net::SocketAddrV4;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Endpoints, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::Error;
use crate::network::{DNS_ADDRESS, NODE_ADDRESS};
use crate::node_agent::MIRROR_ANNOTATION;

const NODE: &str = "node";
const SYSTEM: &str = "kube-system";
/// Address of the kube-dns Service, as kubeadm assigns it.
pub(super) const DNS_SERVICE: std::net::Ipv4Addr = std::net::Ipv4Addr::new(10, 96, 0, 10);

pub(super) async fn create(client: &Client, api_server_at: SocketAddrV4) -> Result<(), Error> {
    api_server(client, api_server_at).await?;
    cluster_dns(client).await
}

/// The API server is no Pod, so the `kubernetes` Service has no selector and its endpoints are written by hand.
async fn api_server(client: &Client, endpoint: SocketAddrV4) -> Result<(), Error> {
    let (address, port) = (endpoint.ip().to_string(), endpoint.port());
    let slice = json!({
        "metadata": { "name": "kubernetes", "labels": { "kubernetes.io/service-name": "kubernetes" } },
        "addressType": "IPv4",
        "endpoints": [{ "addresses": [address], "conditions": { "ready": true } }],
        "ports": [{ "name": "https", "port": port, "protocol": "TCP" }],
    });
    put::<EndpointSlice>(client, "default", slice).await?;
    let endpoints = json!({
        "metadata": { "name": "kubernetes", "labels": { "endpointslice.kubernetes.io/skip-mirror": "true" } },
        "subsets": [{ "addresses": [{ "ip": address }], "ports": [{ "name": "https", "port": port, "protocol": "TCP" }] }],
    });
    put::<Endpoints>(client, "default", endpoints).await
}

/// Cluster DNS runs in the harness, on a socket in the node's namespace. Selectors must find it all the same, so it has
/// a Pod object, marked as a static Pod is.
async fn cluster_dns(client: &Client) -> Result<(), Error> {
    let address = DNS_ADDRESS.to_string();
    let pod = json!({
        "metadata": {
            "name": "coredns",
            "labels": { "k8s-app": "kube-dns" },
            "annotations": { MIRROR_ANNOTATION: "embedded" },
        },
        "spec": {
            "nodeName": NODE,
            "containers": [{
                "name": "coredns", "image": "coredns",
                "ports": [
                    { "name": "dns", "containerPort": 53, "protocol": "UDP" },
                    { "name": "dns-tcp", "containerPort": 53, "protocol": "TCP" },
                ],
            }],
        },
    });
    put::<Pod>(client, SYSTEM, pod).await?;
    let now = jiff::Timestamp::now().to_string();
    let condition =
        |name: &str| json!({ "type": name, "status": "True", "lastTransitionTime": now });
    let conditions = ["PodScheduled", "Initialized", "ContainersReady", "Ready"].map(condition);
    let status = json!({ "status": {
        "phase": "Running", "podIP": address, "podIPs": [{ "ip": address }], "hostIP": NODE_ADDRESS.to_string(),
        "startTime": now,
        "conditions": conditions,
        "containerStatuses": [{
            "name": "coredns", "image": "coredns", "imageID": "", "ready": true, "started": true, "restartCount": 0,
            "state": { "running": { "startedAt": now } },
        }],
    }});
    let pods = Api::<Pod>::namespaced(client.clone(), SYSTEM);
    let patched = pods
        .patch_status("coredns", &PatchParams::default(), &Patch::Merge(&status))
        .await;
    patched.map_err(|error| failed("status of Pod coredns", error))?;
    let service = json!({
        "metadata": { "name": "kube-dns", "labels": { "k8s-app": "kube-dns", "kubernetes.io/name": "CoreDNS" } },
        "spec": {
            "clusterIP": DNS_SERVICE.to_string(),
            "selector": { "k8s-app": "kube-dns" },
            "ports": [
                { "name": "dns", "port": 53, "protocol": "UDP", "targetPort": 53 },
                { "name": "dns-tcp", "port": 53, "protocol": "TCP", "targetPort": 53 },
            ],
        },
    });
    put::<Service>(client, SYSTEM, service).await
}

async fn put<K>(client: &Client, namespace: &str, object: Value) -> Result<(), Error>
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + std::fmt::Debug
        + DeserializeOwned
        + Serialize,
{
    let what = format!(
        "{} {}",
        K::kind(&()),
        object["metadata"]["name"].as_str().unwrap_or_default()
    );
    let create = async {
        let object = serde_json::from_value(object).map_err(kube::Error::SerdeError)?;
        Api::<K>::namespaced(client.clone(), namespace)
            .create(&PostParams::default(), &object)
            .await
    };
    create.await.map(drop).map_err(|error| failed(&what, error))
}

fn failed(what: &str, error: kube::Error) -> Error {
    Error::Object {
        what: what.to_owned(),
        source: Box::new(error),
    }
}
