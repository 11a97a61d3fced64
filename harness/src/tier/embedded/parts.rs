//! What is installed in an embedded cluster: images, and the objects of the orchestrator's installation.

use std::collections::BTreeMap;

use cluster::fault::ClusterFault;
use cluster::{EmbeddedCluster, Image, RootFs};
use fixtures::obot::config::DEFAULT_BASE_IMAGE;
use fixtures::obot::install::{self, InstallConfig};
use kube::api::{Api, DynamicObject, PostParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::{OBOT_IMAGE, POLICY_CONTROLLER_IMAGE, STORAGE_TOKEN};
use crate::lab::Setup;
use crate::run::RunContext;
use crate::tier::{Error, IDLE_IMAGE, node_js};

/// Image names of the scenarios' manifests, and the role of this binary that each stands for.
pub(super) fn images(context: &RunContext) -> BTreeMap<String, Image> {
    let image = |words: &[&str]| Image {
        exe: context.binary.clone(),
        entrypoint: ["containment", "serve"]
            .iter()
            .chain(words)
            .map(|&word| word.to_owned())
            .collect(),
        env: Vec::new(),
        root: RootFs::Minimal,
    };
    // Without Node there is no such image, and who needs one asks for it first ([`node_js::find`]).
    let wrapper = node_js::find().ok().map(|node| {
        let image = Image {
            env: vec![("PATH".to_owned(), node.path(cluster::image::PATH))],
            root: RootFs::HostWith(node.directories()),
            ..image(&["stdio-wrapper"])
        };
        (DEFAULT_BASE_IMAGE.to_owned(), image)
    });
    let mut images = BTreeMap::from([
        (OBOT_IMAGE.to_owned(), image(&["obot"])),
        (
            POLICY_CONTROLLER_IMAGE.to_owned(),
            image(&["policy-controller"]),
        ),
        (
            "containment.test/ehr-sync:1.0.0".to_owned(),
            image(&[
                "mcp-server",
                "--dependency",
                "compromised",
                "--whisper",
                whisper(context),
            ]),
        ),
        (
            "containment.test/fetcher:1.0.0".to_owned(),
            image(&["mcp-server", "--dependency", "clean"]),
        ),
        (IDLE_IMAGE.to_owned(), image(&["idle"])),
    ]);
    images.extend(wrapper);
    images
}

/// How the hostile dependency takes a record out beside its request: a seeded fault of it is named like its value.
fn whisper(context: &RunContext) -> &'static str {
    let known = ["dns-hex", "canary-split"];
    let active = known
        .into_iter()
        .find(|name| context.faults.iter().any(|fault| fault == name));
    active.unwrap_or("silent")
}

/// Whether a run has one of the cluster's seeded faults.
pub(super) fn has_fault(context: &RunContext, fault: ClusterFault) -> bool {
    context.faults.iter().any(|name| name == fault.name())
}

/// The objects of the orchestrator's installation, or its namespaces alone. `token` logs the owner in; without one the
/// orchestrator's authentication is off.
pub(super) fn installed(context: &RunContext, setup: &Setup, token: Option<&str>) -> Vec<Value> {
    let mut config = installation(context, setup);
    config.bootstrap_token = token.map(str::to_owned);
    let mut objects = install::manifests(&config);
    if setup.without_orchestrator {
        objects.retain(|object| object["kind"] == "Namespace");
    }
    objects
}

fn installation(context: &RunContext, setup: &Setup) -> InstallConfig {
    let mut config = InstallConfig::new(OBOT_IMAGE, POLICY_CONTROLLER_IMAGE);
    config.storage_token = Some(STORAGE_TOKEN.to_owned());
    let missing = fixtures::obot::Faults::parse(&context.faults.join(","))
        .has(fixtures::obot::Fault::NetworkPolicyMissing);
    config.network_policy = !setup.without_network_policy && !missing;
    if setup.default_deny_setting {
        config.obot_env.push((
            "OBOT_SERVER_MCPDEFAULT_DENY_ALL_EGRESS".to_owned(),
            "true".to_owned(),
        ));
    }
    if !context.faults.is_empty() {
        let fault = ("CONTAINMENT_FAULT".to_owned(), context.faults.join(","));
        config.obot_env.push(fault.clone());
        config.provider_env.push(fault);
    }
    config
}

/// A client that comes from outside the cluster, over TLS, as the vendor's controller and every user does.
pub(super) async fn outside_client(cluster: &EmbeddedCluster) -> Result<kube::Client, Error> {
    let failed = |error: String| Error::Cluster(format!("its kubeconfig is of no use: {error}"));
    let kubeconfig =
        Kubeconfig::from_yaml(&cluster.kubeconfig()).map_err(|error| failed(error.to_string()))?;
    let config = kube::Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| failed(error.to_string()))?;
    kube::Client::try_from(config).map_err(|error| failed(error.to_string()))
}

/// Creates objects of any kind, one after the other.
pub(super) async fn create_all(client: &kube::Client, objects: &[Value]) -> Result<(), Error> {
    for object in objects {
        let object: DynamicObject = serde_json::from_value(object.clone())
            .map_err(|error| Error::Cluster(error.to_string()))?;
        let name = object.metadata.name.clone().unwrap_or_default();
        let types = object.types.clone().unwrap_or_default();
        let refused = |error: &dyn std::fmt::Display| {
            Error::Cluster(format!(
                "{} {name} could not be created: {error}",
                types.kind
            ))
        };
        let gvk =
            kube::core::GroupVersionKind::try_from(&types).map_err(|error| refused(&error))?;
        let resource = kube::api::ApiResource::from_gvk(&gvk);
        let api: Api<DynamicObject> = match &object.metadata.namespace {
            Some(namespace) => Api::namespaced_with(client.clone(), namespace, &resource),
            None => Api::all_with(client.clone(), &resource),
        };
        api.create(&PostParams::default(), &object)
            .await
            .map_err(|error| refused(&error))?;
    }
    Ok(())
}
