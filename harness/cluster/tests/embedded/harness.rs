//! What the checks share: a cluster, and ways to put things into it and wait for what happens.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use api_server::{ExecOptions, ExecOutput, PodRef};
use cluster::{ClusterConfig, EmbeddedCluster, Image, RootFs};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, PostParams};
use kube::runtime::wait::{Condition, await_condition};
use kube::{Client, Resource, ResourceExt as _};
use mock_controller::fault::Faults;
use mock_controller::gateway::{Config, Gateway};
use mock_controller::policy::Snapshot;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(crate) const IMAGE: &str = "test.example/self";
/// What the stand-in for the VPC's resolver answers to everything: NXDOMAIN.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn config() -> ClusterConfig {
    let gateway = Config::new(Ipv4Addr::new(203, 0, 113, 9));
    let gateway = Gateway::new(
        gateway,
        Faults::default(),
        1,
        Arc::new(Snapshot::deny_all()),
    );
    let exe = std::env::current_exe().unwrap();
    let nowhere = Arc::new(|query: &[u8]| {
        let mut answer = query.to_vec();
        // Response, name error (RFC 1035 section 4.1.1).
        if let [_, _, first, second, ..] = answer.as_mut_slice() {
            *first |= 0x80;
            *second = 0x83;
        }
        answer
    });
    let image = Image {
        exe: exe.clone(),
        entrypoint: vec!["self".into(), "role".into()],
        env: vec![("FROM_IMAGE".into(), "1".into())],
        root: RootFs::Minimal,
    };
    ClusterConfig {
        images: BTreeMap::from([(IMAGE.to_owned(), image)]),
        trusted_roots_pem: "the roots\n".into(),
        ..ClusterConfig::new(exe, gateway, nowhere)
    }
}

pub(crate) async fn start() -> EmbeddedCluster {
    EmbeddedCluster::start(config()).await.unwrap()
}

pub(crate) async fn create<K>(client: &Client, object: Value) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Serialize,
{
    let object: K = serde_json::from_value(object).unwrap();
    Api::<K>::default_namespaced(client.clone())
        .create(&PostParams::default(), &object)
        .await
        .unwrap()
}

/// A container of this program, in a role.
pub(crate) fn container(name: &str, role: &[&str]) -> Value {
    json!({ "name": name, "image": IMAGE, "args": role })
}

pub(crate) fn pod(name: &str, containers: &[Value], extra: Value) -> Value {
    let mut spec = json!({ "containers": containers });
    spec.as_object_mut()
        .unwrap()
        .extend(extra.as_object().unwrap().clone());
    json!({ "metadata": { "name": name, "labels": { "app": name } }, "spec": spec })
}

/// Creates a Pod with one container and returns it once it is ready.
pub(crate) async fn run(client: &Client, name: &str, role: &[&str]) -> Pod {
    create::<Pod>(client, pod(name, &[container("main", role)], json!({}))).await;
    until(client, name, "the pod is ready", is_ready).await
}

/// Waits for a state of an object, event by event.
pub(crate) async fn until<K>(client: &Client, name: &str, what: &str, reached: fn(&K) -> bool) -> K
where
    K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
        + Clone
        + Debug
        + DeserializeOwned
        + Send
        + Sync
        + 'static,
{
    let api = Api::<K>::default_namespaced(client.clone());
    let condition = Reached(reached);
    match tokio::time::timeout(PATIENCE, await_condition(api.clone(), name, condition)).await {
        Ok(object) => object.unwrap().unwrap(),
        Err(_) => panic!(
            "{name}: {what} within {PATIENCE:?}; it is {:#?}",
            api.get_opt(name).await
        ),
    }
}

pub(crate) async fn gone(client: &Client, name: &str, uid: &str) {
    let api = Api::<Pod>::default_namespaced(client.clone());
    let deleted = kube::runtime::conditions::is_deleted(uid);
    tokio::time::timeout(PATIENCE, await_condition(api, name, deleted))
        .await
        .expect("the pod is gone")
        .unwrap();
}

struct Reached<K>(fn(&K) -> bool);

impl<K> Condition<K> for Reached<K> {
    fn matches_object(&self, object: Option<&K>) -> bool {
        object.is_some_and(self.0)
    }
}

pub(crate) fn is_ready(pod: &Pod) -> bool {
    let conditions = pod
        .status
        .iter()
        .flat_map(|status| status.conditions.iter().flatten());
    conditions
        .into_iter()
        .any(|condition| condition.type_ == "Ready" && condition.status == "True")
}

pub(crate) fn waits_with(pod: &Pod, reason: &str) -> bool {
    let statuses = pod
        .status
        .iter()
        .flat_map(|status| status.container_statuses.iter().flatten());
    let mut waiting = statuses.filter_map(|status| status.state.as_ref()?.waiting.as_ref());
    waiting.any(|waiting| waiting.reason.as_deref() == Some(reason))
}

pub(crate) fn address(pod: &Pod) -> String {
    pod.status.as_ref().unwrap().pod_ip.clone().unwrap()
}

pub(crate) fn reference(pod: &Pod) -> PodRef {
    PodRef {
        namespace: pod.namespace().unwrap(),
        name: pod.name_any(),
        container: None,
    }
}

/// Runs a command in a pod: exit code and standard output.
pub(crate) async fn exec(cluster: &EmbeddedCluster, pod: &Pod, command: &[&str]) -> (i32, String) {
    let options = ExecOptions {
        command: command.iter().map(|&word| word.to_owned()).collect(),
        stdout: true,
        stderr: true,
        ..ExecOptions::default()
    };
    let mut session = cluster.exec(&reference(pod), options).await.unwrap();
    let mut text = Vec::new();
    while let Some(output) = session.output.recv().await {
        match output {
            ExecOutput::Stdout(bytes) => text.extend_from_slice(&bytes),
            ExecOutput::Stderr(bytes) => eprintln!("{}", String::from_utf8_lossy(&bytes)),
            ExecOutput::Exit(code) => return (code, String::from_utf8(text).unwrap()),
        }
    }
    panic!("the session ended without an exit code");
}
