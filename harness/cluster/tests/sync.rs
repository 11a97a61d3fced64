//! API objects reach the packet path: Services, NetworkPolicies and names, as they are created and deleted.
//! Needs root or user namespaces, and /dev/net/tun; fails without.
#![allow(clippy::unwrap_used)]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use api_server::ApiServer;
use cluster::dns::DnsServer;
use cluster::network::{Network, NetworkConfig};
use cluster::node_stage::DropReason;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use k8s_openapi::api::networking::v1::NetworkPolicy;
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client, Resource};
use mock_controller::fault::Faults;
use mock_controller::gateway::{Config, Gateway};
use mock_controller::policy::Snapshot;
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

const ALICE: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 10);
const BOB: Ipv4Addr = Ipv4Addr::new(10, 244, 0, 11);
const SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 20);
/// Longer than anything here takes on a busy machine; only a failure waits for it.
const DEADLINE: Duration = Duration::from_secs(60);
/// One attempt to connect: a dropped SYN is tried again with a new connection, not by the kernel.
const ATTEMPT: Duration = Duration::from_secs(1);

async fn create<K>(client: &Client, value: Value)
where
    K: Resource<DynamicType = ()>
        + Clone
        + serde::Serialize
        + serde::de::DeserializeOwned
        + std::fmt::Debug,
    K: Resource<Scope = k8s_openapi::NamespaceResourceScope>,
{
    let object: K = serde_json::from_value(value).unwrap();
    let api = Api::<K>::namespaced(client.clone(), "team");
    api.create(&PostParams::default(), &object).await.unwrap();
}

async fn pod(client: &Client, name: &str, address: Ipv4Addr) {
    let spec = json!({"containers": [{"name": "c", "image": "i"}]});
    let value = json!({"metadata": {"name": name, "labels": {"app": name}}, "spec": spec});
    create::<Pod>(client, value).await;
    let api = Api::<Pod>::namespaced(client.clone(), "team");
    let mut pod = api.get_status(name).await.unwrap();
    let status = json!({"podIP": address, "podIPs": [{"ip": address}], "phase": "Running"});
    pod.status = serde_json::from_value(status).unwrap();
    api.replace_status(name, &PostParams::default(), &pod)
        .await
        .unwrap();
}

/// Connects anew until the outcome is the wanted one, within the deadline.
async fn eventually(network: &cluster::netns::NetNs, wanted: fn(&Attempt) -> bool) {
    let attempts = async {
        loop {
            let connect = network.connect((SERVICE, 80).into());
            let attempt = tokio::time::timeout(ATTEMPT, connect).await;
            if wanted(&attempt) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, attempts)
        .await
        .expect("the wanted outcome within the deadline");
}

type Attempt = Result<std::io::Result<TcpStream>, tokio::time::error::Elapsed>;

#[tokio::test]
async fn objects_take_effect_as_they_come_and_go() {
    let gateway = Gateway::new(
        Config::new(Ipv4Addr::new(203, 0, 113, 9)),
        Faults::default(),
        1,
        Arc::new(Snapshot::deny_all()),
    );
    let network = Network::start(NetworkConfig::new(gateway)).unwrap();
    let client = ApiServer::kubernetes(api_server::Config::default()).client("team");
    let dns = DnsServer::new(Arc::new(|_| Vec::new()), |_| {});
    let cancel = CancellationToken::new();
    let agent = tokio::spawn(cluster::sync::run(
        client.clone(),
        network.clone(),
        dns,
        cancel.clone(),
    ));

    let namespace = serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    let namespaces = Api::<Namespace>::all(client.clone());
    namespaces
        .create(&PostParams::default(), &namespace)
        .await
        .unwrap();
    let (alice, bob) = (network.attach(ALICE).unwrap(), network.attach(BOB).unwrap());
    let listener =
        TcpListener::from_std(bob.namespace().tcp_listener((BOB, 8080).into()).unwrap()).unwrap();
    tokio::spawn(async move { while listener.accept().await.is_ok() {} });
    pod(&client, "alice", ALICE).await;
    pod(&client, "bob", BOB).await;

    // A Service without endpoints refuses; with one it leads there.
    let ports = json!([{"name": "http", "port": 80, "targetPort": 8080}]);
    let service =
        json!({"metadata": {"name": "web"}, "spec": {"clusterIP": SERVICE, "ports": ports}});
    create::<Service>(&client, service).await;
    eventually(alice.namespace(), |attempt| matches!(attempt, Ok(Err(_)))).await;
    let slice = json!({
        "metadata": {"name": "web-1", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4", "ports": [{"name": "http", "port": 8080}], "endpoints": [{"addresses": [BOB]}]
    });
    create::<EndpointSlice>(&client, slice).await;
    eventually(alice.namespace(), |attempt| matches!(attempt, Ok(Ok(_)))).await;

    // A policy that selects bob isolates it, until it is gone again.
    let selector = json!({"matchLabels": {"app": "bob"}});
    create::<NetworkPolicy>(
        &client,
        json!({"metadata": {"name": "deny"}, "spec": {"podSelector": selector}}),
    )
    .await;
    eventually(alice.namespace(), Result::is_err).await;
    let counts = network.drops().await.counts;
    let by_policy = |reason: &DropReason| matches!(reason, DropReason::NetworkPolicy { policies, .. } if policies == &["team/deny"]);
    assert!(counts.keys().any(by_policy), "{counts:?}");
    let policies = Api::<NetworkPolicy>::namespaced(client.clone(), "team");
    policies
        .delete("deny", &DeleteParams::default())
        .await
        .unwrap();
    eventually(alice.namespace(), |attempt| matches!(attempt, Ok(Ok(_)))).await;

    cancel.cancel();
    agent.await.unwrap();
    network.shutdown().await;
}
