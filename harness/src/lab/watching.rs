//! Watches of the cluster that go into the evidence: Pods and their addresses, output of servers, policy objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use futures::{AsyncBufReadExt as _, StreamExt as _, TryStreamExt as _};
use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod};
use kube::ResourceExt as _;
use kube::api::{Api, ApiResource, DynamicObject, ListParams, LogParams};
use kube::runtime::wait::{Condition, await_condition, conditions};
use kube::runtime::watcher::{self, Event as Change, watcher};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Error;
use super::reports::Reports;
use crate::evidence::{Event, Recorder};
use crate::judge::PodFact;
use crate::tier::Cluster;

/// Annotation in which Obot keeps a server's display name (`reference/obot.md` section 5).
const SERVER_NAME: &str = "mcp-server-display-name";

/// Records which Pod holds which address, as it changes, until cancelled.
pub(super) fn start(
    client: &kube::Client,
    recorder: &Recorder,
    cancel: &CancellationToken,
    tasks: &TaskTracker,
) {
    // The orchestrator's Pods too: whose address a record names must be known of every Pod that sends.
    let api = Api::<Pod>::all(client.clone());
    let recorder = recorder.clone();
    let watch = async move {
        let mut known = BTreeSet::new();
        let mut changes = watcher(api, watcher::Config::default()).boxed();
        while let Some(change) = changes.next().await {
            match change {
                Ok(Change::Apply(pod) | Change::InitApply(pod)) => {
                    started(&recorder, &mut known, &pod)
                }
                Ok(Change::Delete(pod)) => {
                    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
                    recorder.record(Event::PodGone { namespace, name });
                }
                Ok(Change::Init | Change::InitDone) => {}
                Err(error) => {
                    recorder.record(Event::Note {
                        text: format!("the watch of Pods was interrupted: {error}"),
                    });
                }
            }
        }
    };
    let cancel = cancel.clone();
    tasks.spawn(async move { cancel.run_until_cancelled(watch).await });
}

fn started(recorder: &Recorder, known: &mut BTreeSet<(String, String)>, pod: &Pod) {
    let address = pod
        .status
        .as_ref()
        .and_then(|status| status.pod_ip.as_deref());
    let Some(address) = address.and_then(|address| address.parse().ok()) else {
        return;
    };
    if !known.insert((pod.uid().unwrap_or_default(), format!("{address}"))) {
        return;
    }
    recorder.record(Event::PodStarted(PodFact {
        namespace: pod.namespace().unwrap_or_default(),
        name: pod.name_any(),
        address,
        server: pod.annotations().get(SERVER_NAME).cloned(),
        since: Timestamp::now(),
        until: None,
    }));
}

/// Resolves when every Deployment of a namespace is available.
pub(super) async fn deployments_available(
    client: &kube::Client,
    namespace: &str,
) -> Result<(), Error> {
    let api = Api::<Deployment>::namespaced(client.clone(), namespace);
    let all = api
        .list(&ListParams::default())
        .await
        .map_err(Error::kubernetes("list Deployments"))?;
    for deployment in all {
        let name = deployment.name_any();
        await_condition(api.clone(), &name, conditions::is_deployment_completed())
            .await
            .map_err(|error| {
                Error::Fixture(format!(
                    "the Deployment {namespace}/{name} could not be watched: {error}"
                ))
            })?;
    }
    Ok(())
}

/// Resolves when a Pod is ready.
pub(super) async fn pod_ready(
    client: &kube::Client,
    namespace: &str,
    name: &str,
) -> Result<(), Error> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    await_condition(api, name, is_ready())
        .await
        .map(drop)
        .map_err(|error| {
            Error::Fixture(format!(
                "the Pod {namespace}/{name} could not be watched: {error}"
            ))
        })
}

pub(super) fn is_ready() -> impl Condition<Pod> {
    |pod: Option<&Pod>| {
        let conditions = pod
            .and_then(|pod| pod.status.as_ref())
            .and_then(|status| status.conditions.as_ref());
        conditions.is_some_and(|all| {
            all.iter()
                .any(|one| one.type_ == "Ready" && one.status == "True")
        })
    }
}

/// Follows the output of every Pod of a namespace that is there now.
pub(super) async fn follow_all(
    client: &kube::Client,
    recorder: &Recorder,
    namespace: &str,
    cancel: &CancellationToken,
    tasks: &TaskTracker,
) -> Result<(), Error> {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let pods = api
        .list(&ListParams::default())
        .await
        .map_err(Error::kubernetes("list Pods"))?;
    for pod in pods {
        let name = pod.name_any();
        follow_output(client, recorder, (namespace, &name), &name, cancel, tasks);
    }
    Ok(())
}

/// Follows a Pod's output: kept as it is under `pods/`, and its reports become events under `label`.
pub(super) fn follow_output(
    client: &kube::Client,
    recorder: &Recorder,
    (namespace, pod): (&str, &str),
    label: &str,
    cancel: &CancellationToken,
    tasks: &TaskTracker,
) {
    let api = Api::<Pod>::namespaced(client.clone(), namespace);
    let (recorder, namespace, pod) = (recorder.clone(), namespace.to_owned(), pod.to_owned());
    let mut reports = Reports::new(recorder.clone(), label);
    let follow = async move {
        let parameters = LogParams {
            follow: true,
            ..LogParams::default()
        };
        let failed = |error: &dyn std::error::Error| Event::HarnessError {
            component: format!("{namespace}/{pod}"),
            message: format!("its output can't be read: {error}"),
        };
        // Asked earlier, the API server would refuse: a container that waits to start has no output.
        if let Err(error) = await_condition(api.clone(), &pod, has_started).await {
            recorder.record(failed(&error));
            return;
        }
        let stream = match api.log_stream(&pod, &parameters).await {
            Ok(stream) => stream,
            Err(error) => {
                recorder.record(failed(&error));
                return;
            }
        };
        let mut lines = stream.lines();
        while let Ok(Some(line)) = lines.try_next().await {
            recorder.pod_output(&namespace, &pod, "", format!("{line}\n").as_bytes());
            reports.line(&line);
        }
    };
    let cancel = cancel.clone();
    tasks.spawn(async move { cancel.run_until_cancelled(follow).await });
}

/// Whether every container of a Pod runs or has run.
fn has_started(pod: Option<&Pod>) -> bool {
    every_container(pod, |container| {
        let state = container.state.as_ref();
        state.is_some_and(|state| state.running.is_some() || state.terminated.is_some())
            || container.restart_count > 0
    })
}

/// Whether a Pod reports its containers, and this holds for each.
pub(super) fn every_container(pod: Option<&Pod>, holds: impl Fn(&ContainerStatus) -> bool) -> bool {
    let statuses = pod
        .and_then(|pod| pod.status.as_ref())
        .and_then(|status| status.container_statuses.as_ref());
    statuses.is_some_and(|all| all.iter().all(holds))
}

/// Stores the policy objects in force, and what the firewall made of them, under `policy/`.
pub(super) async fn record_policies(cluster: &Arc<dyn Cluster>, recorder: &Recorder) {
    if let Some(api) = cluster.vendor_api() {
        let parts = [
            ("app-domains", "app-domains"),
            ("policy-list", "microseg/policy-list"),
            ("policy-list3", "microseg/policy-list3"),
            ("default-action-policy", "microseg/default-action-policy"),
        ];
        for (name, path) in parts {
            match api.get(path).await {
                Ok(answer) => {
                    let yaml = serde_yaml::to_string(&answer);
                    let yaml = yaml.unwrap_or_else(|error| format!("# {error}\n"));
                    recorder.policy_object("controller", "", name, 0, &yaml);
                }
                Err(error) => drop(recorder.record(Event::Note {
                    text: format!("{path} of the firewall's controller could not be read: {error}"),
                })),
            }
        }
    }
    let kind = |kind: &str, plural: &str| ApiResource {
        group: "networking.aviatrix.com".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "networking.aviatrix.com/v1alpha1".to_owned(),
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    for resource in [
        kind("FirewallPolicy", "firewallpolicies"),
        kind("WebgroupPolicy", "webgrouppolicies"),
    ] {
        let api = Api::<DynamicObject>::all_with(cluster.client(), &resource);
        let Ok(objects) = api.list(&ListParams::default()).await else {
            recorder.record(Event::Note {
                text: format!("objects of kind {} could not be listed", resource.kind),
            });
            continue;
        };
        let objects: Vec<Value> = objects
            .iter()
            .filter_map(|object| serde_json::to_value(object).ok())
            .collect();
        record_objects(recorder, &resource.kind, &objects);
    }
}

/// Stores objects of a kind under `policy/`.
pub(super) fn record_objects(recorder: &Recorder, kind: &str, objects: &[Value]) {
    for object in objects {
        let metadata = &object["metadata"];
        let text = |field: &str| metadata[field].as_str().unwrap_or_default();
        let yaml = serde_yaml::to_string(object).unwrap_or_else(|error| format!("# {error}\n"));
        recorder.policy_object(
            kind,
            text("namespace"),
            text("name"),
            metadata["generation"].as_i64().unwrap_or_default(),
            &yaml,
        );
    }
}
