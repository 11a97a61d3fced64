//! Several Pods: Deployments, Services, names, probes.

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{Pod, Service};
use kube::ResourceExt as _;
use kube::api::{Api, ListParams, Patch, PatchParams};
use serde_json::{Value, json};

use super::harness::{self, IMAGE, address, create, exec, is_ready, pod, until};

fn deployment(replicas: u32, role: &[&str]) -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{
                    "name": "main", "image": IMAGE, "args": role,
                    "ports": [{ "name": "http", "containerPort": 8080 }],
                    "readinessProbe": { "httpGet": { "port": "http", "path": "/healthz" } },
                }] },
            },
        },
    })
}

/// What `kubectl rollout status` waits for.
fn is_rolled_out(deployment: &Deployment) -> bool {
    let (wanted, status) = (
        deployment.spec.as_ref().unwrap().replicas,
        deployment.status.clone().unwrap_or_default(),
    );
    status.observed_generation == deployment.metadata.generation
        && status.updated_replicas == wanted
        && status.replicas == wanted
        && status.available_replicas == wanted
}

async fn pods(client: &kube::Client) -> Vec<Pod> {
    let pods = Api::<Pod>::default_namespaced(client.clone())
        .list(&ListParams::default().labels("app=web"))
        .await
        .unwrap();
    pods.items
        .into_iter()
        .filter(|pod| pod.metadata.deletion_timestamp.is_none())
        .collect()
}

pub(crate) async fn service_and_names() {
    let cluster = harness::start().await;
    let client = cluster.client();
    create::<Deployment>(&client, deployment(2, &["http", "8080"])).await;
    let ports = json!([{ "name": "http", "port": 80, "targetPort": "http" }]);
    let service = json!({ "metadata": { "name": "web" }, "spec": { "selector": { "app": "web" }, "ports": ports } });
    let service: Service = create(&client, service).await;
    let asking = harness::run(&client, "asking", &["idle"]).await;
    until::<Deployment>(&client, "web", "rolled out", is_rolled_out).await;
    let cluster_ip = service.spec.unwrap().cluster_ip.unwrap();

    let (_, found) = exec(&cluster, &asking, &["self", "role", "resolve", "web"]).await;
    assert_eq!(
        found.trim(),
        cluster_ip,
        "by its short name, through the search list"
    );
    let (_, found) = exec(
        &cluster,
        &asking,
        &[
            "self",
            "role",
            "resolve",
            "kubernetes.default.svc.cluster.local",
        ],
    )
    .await;
    assert_eq!(found.trim(), "10.96.0.1");
    let (_, found) = exec(
        &cluster,
        &asking,
        &["self", "role", "resolve", "nobody.invalid"],
    )
    .await;
    assert!(found.starts_with("error"), "{found}");

    let mut names: Vec<_> = pods(&client)
        .await
        .iter()
        .map(|pod| pod.name_any())
        .collect();
    let mut answered = std::collections::BTreeSet::new();
    let (code, by_name) = exec(&cluster, &asking, &["self", "role", "get", "web:80"]).await;
    assert_eq!(code, 0);
    answered.insert(by_name.trim().to_owned());
    // Each connection goes to some ready Pod; both are reached before long.
    for _ in 0..100 {
        let (_, name) = exec(
            &cluster,
            &asking,
            &["self", "role", "get", &format!("{cluster_ip}:80")],
        )
        .await;
        answered.insert(name.trim().to_owned());
        if answered.len() == 2 {
            break;
        }
    }
    names.sort();
    assert_eq!(answered.into_iter().collect::<Vec<_>>(), names);
    let direct = format!("{}:8080", address(&pods(&client).await[0]));
    assert_eq!(
        exec(&cluster, &asking, &["self", "role", "get", &direct])
            .await
            .0,
        0
    );
    cluster.shutdown().await;
}

pub(crate) async fn deployment_scales_and_rolls() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let api = Api::<Deployment>::default_namespaced(client.clone());
    create::<Deployment>(&client, deployment(3, &["http", "8080"])).await;
    until::<Deployment>(&client, "web", "three", is_rolled_out).await;
    assert_eq!(pods(&client).await.len(), 3);

    let scale = json!({ "spec": { "replicas": 1 } });
    api.patch_scale("web", &PatchParams::default(), &Patch::Merge(&scale))
        .await
        .unwrap();
    until::<Deployment>(&client, "web", "one", is_rolled_out).await;
    let before = pods(&client).await;
    assert_eq!(before.len(), 1);

    let template =
        json!({ "spec": { "template": { "metadata": { "annotations": { "round": "2" } } } } });
    api.patch("web", &PatchParams::default(), &Patch::Merge(&template))
        .await
        .unwrap();
    let rolled = until::<Deployment>(&client, "web", "rolled", is_rolled_out).await;
    assert_eq!(
        rolled
            .annotations()
            .get("deployment.kubernetes.io/revision")
            .map(String::as_str),
        Some("2")
    );
    let conditions = rolled.status.unwrap().conditions.unwrap();
    for (kind, reason) in [
        ("Available", "MinimumReplicasAvailable"),
        ("Progressing", "NewReplicaSetAvailable"),
    ] {
        let condition = conditions
            .iter()
            .find(|condition| condition.type_ == kind)
            .unwrap();
        assert_eq!(
            (condition.status.as_str(), condition.reason.as_deref()),
            ("True", Some(reason))
        );
    }
    let after = pods(&client).await;
    assert_eq!(after.len(), 1);
    assert_ne!(after[0].uid(), before[0].uid());

    // A Pod that disappears comes back; with its Deployment, everything goes.
    let uid = after[0].uid().unwrap();
    Api::<Pod>::default_namespaced(client.clone())
        .delete(&after[0].name_any(), &Default::default())
        .await
        .unwrap();
    harness::gone(&client, &after[0].name_any(), &uid).await;
    until::<Deployment>(&client, "web", "healed", is_rolled_out).await;
    let last = pods(&client).await.remove(0);
    assert_ne!(last.uid().unwrap(), uid);
    api.delete("web", &Default::default()).await.unwrap();
    harness::gone(&client, &last.name_any(), &last.uid().unwrap()).await;
    cluster.shutdown().await;
}

pub(crate) async fn probes() {
    let cluster = harness::start().await;
    let client = cluster.client();
    let main = json!({
        "name": "main", "image": IMAGE, "args": ["http", "8080"],
        "startupProbe": { "tcpSocket": { "port": 8080 } },
        "readinessProbe": { "httpGet": { "port": 8080 }, "periodSeconds": 1, "failureThreshold": 1 },
        "livenessProbe": { "exec": { "command": ["self", "role", "exists", "/etc/hosts"] }, "periodSeconds": 1 },
    });
    create::<Pod>(&client, pod("probed", &[main], json!({}))).await;
    let ready: Pod = until(&client, "probed", "ready", is_ready).await;
    assert_eq!(
        exec(
            &cluster,
            &ready,
            &["self", "role", "write", "/tmp/sick", ""]
        )
        .await
        .0,
        0
    );
    let sick: Pod = until(&client, "probed", "not ready", |pod| !is_ready(pod)).await;
    assert_eq!(sick.status.unwrap().phase.as_deref(), Some("Running"));

    let doomed = json!({
        "name": "main", "image": IMAGE, "args": ["idle"],
        "livenessProbe": { "exec": { "command": ["self", "role", "exists", "/none"] }, "periodSeconds": 1, "failureThreshold": 1 },
    });
    create::<Pod>(&client, pod("doomed", &[doomed], json!({}))).await;
    let restarted = |pod: &Pod| {
        let statuses = pod
            .status
            .iter()
            .flat_map(|status| status.container_statuses.iter().flatten());
        statuses.map(|status| status.restart_count).max() >= Some(1)
    };
    until::<Pod>(&client, "doomed", "restarted", restarted).await;
    let mut crashes = cluster.watch_crashes();
    let crash = crashes
        .wait_for(|crashes| !crashes.is_empty())
        .await
        .unwrap()[0]
        .clone();
    assert_eq!(
        crash.message.as_deref(),
        Some("liveness probe failed: exit code 1")
    );
    cluster.shutdown().await;
}
