//! A cluster with nothing of the system in it, for measurements.

use std::sync::Arc;

use cluster::EmbeddedCluster;
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{Api, PostParams};
use mock_controller::fault::Faults;
use mock_controller::gateway::{Config as GatewayConfig, Gateway};
use mock_controller::policy::Snapshot;
use serde_json::Value;

use super::{GATEWAY_ADDRESS, cluster_config};
use crate::evidence::Recorder;
use crate::lab::Setup;
use crate::run::RunContext;
use crate::tier::Error;
/// A cluster with nothing of the system in it, for measurements.
///
/// # Errors
/// When it does not start.
pub(crate) async fn bare(
    context: &RunContext,
    recorder: &Recorder,
) -> Result<EmbeddedCluster, Error> {
    let gateway = Gateway::new(
        GatewayConfig::new(GATEWAY_ADDRESS),
        Faults::default(),
        context.seed,
        Arc::new(Snapshot::deny_all()),
    );
    let setup = Setup::default();
    EmbeddedCluster::start(cluster_config(
        context,
        &setup,
        &context.internet.ipv4_only(),
        recorder,
        gateway,
    ))
    .await
    .map_err(|error| Error::Cluster(error.to_string()))
}

/// Creates a Pod and waits until it succeeded.
///
/// # Errors
/// When it can't be created or fails.
pub(crate) async fn run_to_end(cluster: &EmbeddedCluster, pod: Value) -> Result<(), Error> {
    let failed = |error: &dyn std::fmt::Display| {
        Error::Cluster(format!("the Pod could not be run: {error}"))
    };
    let pod: Pod = serde_json::from_value(pod).map_err(|error| failed(&error))?;
    let (namespace, name) = (pod.namespace().unwrap_or_default(), pod.name_any());
    let api = Api::<Pod>::namespaced(cluster.client(), &namespace);
    api.create(&PostParams::default(), &pod)
        .await
        .map_err(|error| failed(&error))?;
    let phase = |pod: Option<&Pod>| {
        pod.and_then(|pod| pod.status.as_ref())
            .and_then(|status| status.phase.clone())
    };
    let ended = |pod: Option<&Pod>| matches!(phase(pod).as_deref(), Some("Succeeded" | "Failed"));
    let pod = kube::runtime::wait::await_condition(api, &name, ended)
        .await
        .map_err(|error| failed(&error))?;
    match phase(pod.as_ref()).as_deref() {
        Some("Succeeded") => Ok(()),
        other => Err(failed(&format!("it ended as {other:?}"))),
    }
}
