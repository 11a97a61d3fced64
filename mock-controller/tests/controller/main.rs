//! The controller against an API server: objects and pods come and go, and what the gateway was given follows.
#![allow(clippy::unwrap_used)]

mod faults;
mod mirrors;
mod setup;

use std::sync::Arc;

use api_server::ApiServer;
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams},
    runtime::wait::await_condition,
};
use mock_controller::{
    controller::ControllerConfig,
    crd::{FirewallPolicy, WebgroupPolicy},
    fault::Faults,
    policy::{Snapshot, Switches},
    store::FEATURE_K8S_DCF_POLICIES,
};
use serde_json::json;

use setup::*;

#[tokio::test]
async fn a_policy_is_enforced_for_the_pods_it_selects_and_its_status_says_so() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    assert_eq!(
        world.decide("10.244.0.10", "fhir.ehr.test"),
        deny("default action")
    );

    world.apply(&["fhir.ehr.test"]).await;
    assert_eq!(
        world.decide("10.244.0.10", "fhir.ehr.test"),
        allow("allow-approved-egress")
    );
    assert_eq!(
        world.decide("10.244.0.10", "evil.test"),
        deny("deny-all-external")
    );
    assert_eq!(
        world.decide("10.244.0.11", "fhir.ehr.test"),
        deny("default action")
    );

    let reconciled = |object: Option<&FirewallPolicy>| {
        object.is_some_and(|object| {
            let status = object.status.as_ref();
            status.is_some_and(|status| {
                status.last_reconciled_generation == object.metadata.generation
            })
        })
    };
    let object = deadline(await_condition(world.policies(), POLICY, reconciled))
        .await
        .unwrap()
        .unwrap();
    let status = object.status.unwrap();
    assert!(status.ruleset.is_some() && status.attachment_point.is_some());
    assert!(status.web_groups[0].uuid.is_some() && status.smart_groups[0].uuid.is_some());
    world.event(POLICY, "CreatePolicySuccess").await;
}

#[tokio::test]
async fn a_gateway_that_lost_its_policy_is_given_it_again() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test"]).await;
    *world.gateway.enforced.lock().unwrap() = Arc::new(Snapshot::deny_all());
    assert!(!world.permits("10.244.0.10", "fhir.ehr.test"));

    let before = world.controller.push_again();
    deadline(
        world
            .controller
            .enforced(|push| push.generation > before && !push.objects.is_empty()),
    )
    .await;
    assert!(world.permits("10.244.0.10", "fhir.ehr.test"));
}

#[tokio::test]
async fn every_change_is_followed() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    let first = world.apply(&["fhir.ehr.test"]).await;

    let second = world.apply(&["fhir.ehr.test", "labs.test"]).await;
    assert!(second.generation > first.generation);
    assert!(world.permits("10.244.0.10", "labs.test"));
    world.apply(&["fhir.ehr.test"]).await;
    assert!(!world.permits("10.244.0.10", "labs.test"));

    world.readdress("ehr-1", "10.244.0.20").await;
    assert!(world.permits("10.244.0.20", "fhir.ehr.test"));
    assert_eq!(
        world.decide("10.244.0.10", "fhir.ehr.test"),
        deny("default action"),
        "the old address is forgotten"
    );

    world
        .pods()
        .delete("ehr-1", &DeleteParams::default().grace_period(0))
        .await
        .unwrap();
    deadline(world.controller.enforced(|push| push.addresses.is_empty())).await;
    assert_eq!(
        world.decide("10.244.0.20", "fhir.ehr.test"),
        deny("default action")
    );

    world.run_pod("ehr-2", "ehr", "10.244.0.30").await;
    assert!(world.permits("10.244.0.30", "fhir.ehr.test"));
    world
        .policies()
        .delete(POLICY, &DeleteParams::default())
        .await
        .unwrap();
    deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
    assert_eq!(
        world.decide("10.244.0.30", "fhir.ehr.test"),
        deny("default action")
    );
}

#[tokio::test]
async fn the_status_waits_for_the_gateway() {
    let client = ApiServer::kubernetes(api_server::Config::default()).client("default");
    install_crds(&client).await;
    let world = World::onboard(client, Faults::default(), UNBOUNDED).await;
    // All of the cluster is known; from here on the gateway takes nothing more.
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    let before = deadline(world.controller.enforced(|_| true)).await;
    world.gateway.may_enforce.forget_permits(UNBOUNDED);
    world.gateway.asked.forget_permits(UNBOUNDED);

    let generation = world
        .apply_unawaited(POLICY, server_spec(&["fhir.ehr.test"]))
        .await;
    deadline(world.gateway.asked.acquire())
        .await
        .unwrap()
        .forget();
    let object = world.policies().get(POLICY).await.unwrap();
    assert!(object.status.is_none(), "not enforced, so not reported");
    assert_eq!(
        deadline(world.controller.enforced(|_| true))
            .await
            .generation,
        before.generation
    );

    world.gateway.may_enforce.add_permits(1);
    let reconciled = |object: Option<&FirewallPolicy>| {
        let status = object.and_then(|object| object.status.as_ref());
        status.is_some_and(|status| status.last_reconciled_generation == Some(generation))
    };
    deadline(await_condition(world.policies(), POLICY, reconciled))
        .await
        .unwrap();
    assert_eq!(
        deadline(world.controller.enforced(|_| true))
            .await
            .generation,
        before.generation + 1
    );
}

#[tokio::test]
async fn a_broken_object_is_announced_and_its_neighbours_live_on() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.run_pod("crm-1", "crm", "10.244.0.11").await;
    // The schema lets it pass: an action is not required.
    let broken = json!({"rules": [{"name": "r", "selector": {"matchLabels": {"app": "crm"}},
        "destinationSmartGroups": [{"name": "Public Internet"}]}]});
    world.apply_unawaited("broken", broken).await;
    let push = deadline(
        world
            .controller
            .enforced(|push| push.rejected.contains_key(&object("broken"))),
    )
    .await;
    assert!(push.rejected[&object("broken")].contains("action is missing"));
    let event = world.event("broken", "CreatePolicyFailed").await;
    assert_eq!(event.type_.as_deref(), Some("Warning"));
    world.apply(&["fhir.ehr.test"]).await;
    assert!(world.permits("10.244.0.10", "fhir.ehr.test"));
    assert_eq!(
        world.decide("10.244.0.11", "fhir.ehr.test"),
        deny("rejected-object")
    );
    assert!(
        world
            .policies()
            .get("broken")
            .await
            .unwrap()
            .status
            .is_none()
    );
}

#[tokio::test]
async fn webgroup_policies_get_their_status_too() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    let api = Api::<WebgroupPolicy>::namespaced(world.client.clone(), "mcp");
    let policy = json!({"apiVersion": "networking.aviatrix.com/v1alpha1", "kind": "WebgroupPolicy",
        "metadata": {"name": "packages"}, "spec": {"allowedDomains": ["packages.test"]}});
    api.create(
        &PostParams::default(),
        &serde_json::from_value(policy).unwrap(),
    )
    .await
    .unwrap();
    let filled = |object: Option<&WebgroupPolicy>| {
        let status = object.and_then(|object| object.status.as_ref());
        status.is_some_and(|status| {
            status.smart_group_uuid.is_some() && status.app_domain_uuid.is_some()
        })
    };
    deadline(await_condition(api, "packages", filled))
        .await
        .unwrap();
    assert_eq!(
        world.decide("10.244.0.10", "packages.test"),
        allow("allowed-domains")
    );
}

#[tokio::test]
async fn while_the_feature_is_off_objects_are_no_ops() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test"]).await;
    world
        .controller
        .configure(|store| store.set_feature(FEATURE_K8S_DCF_POLICIES, false));
    deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
    assert_eq!(
        world.decide("10.244.0.10", "fhir.ehr.test"),
        deny("default action")
    );
    world
        .controller
        .configure(|store| store.set_feature(FEATURE_K8S_DCF_POLICIES, true));
    deadline(world.controller.enforced(|push| !push.objects.is_empty())).await;
    assert!(world.permits("10.244.0.10", "fhir.ehr.test"));
}

#[tokio::test]
async fn definitions_may_come_after_the_controller() {
    let client = ApiServer::kubernetes(api_server::Config::default()).client("default");
    let world = World::onboard(client.clone(), Faults::default(), UNBOUNDED).await;
    deadline(world.controller.enforced(|_| true)).await;
    install_crds(&client).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test"]).await;
    assert!(world.permits("10.244.0.10", "fhir.ehr.test"));
}

#[tokio::test]
async fn a_uuid_leads_back_to_its_object_even_after_the_object_is_gone() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test"]).await;
    let export = world.controller.export();
    assert_eq!(export["lists"][0]["rules"][1]["name"], "deny-all-external");
    assert_eq!(export["default_action"]["action"], "DENY");
    let groups = export["smart_groups"].as_array().unwrap();
    let source = &export["lists"][0]["rules"][1]["sources"][0];
    let source = groups
        .iter()
        .find(|group| group["uuid"] == *source)
        .unwrap();
    assert_eq!(source["members"], json!(["10.244.0.10"]));

    let uuid = serde_json::from_value(export["lists"][0]["rules"][1]["uuid"].clone()).unwrap();
    world
        .policies()
        .delete(POLICY, &DeleteParams::default())
        .await
        .unwrap();
    deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
    let description = world.controller.describe_rule(uuid).unwrap();
    assert_eq!(
        (description.rule.as_str(), description.object),
        ("deny-all-external", Some(object(POLICY)))
    );
}

/// What a cluster showed last stays enforced when it is taken off, and is compared again when it comes back; or it goes,
/// as the switch says.
#[rstest::rstest]
#[case::orphans_stay(true)]
#[case::orphans_go(false)]
#[tokio::test]
async fn a_cluster_is_taken_off_and_comes_back(#[case] orphans_stay: bool) {
    let client = ApiServer::kubernetes(api_server::Config::default()).client("default");
    install_crds(&client).await;
    let config = ControllerConfig {
        switches: Switches {
            orphans_stay,
            ..Switches::default()
        },
        cloud_clients: [(CLUSTER.to_owned(), client.clone())].into(),
        ..ControllerConfig::default()
    };
    let world = World::configured(client, config, UNBOUNDED).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    let before = world.apply(&["fhir.ehr.test"]).await;
    world
        .controller
        .configure(|store| store.delete_kubernetes_cluster(&world.id))
        .unwrap();
    // Some change of which the push is seen, whether orphans stay or go.
    world.permit_subnet("10.9.0.0/16");
    let off = deadline(world.controller.enforced(|push| {
        push.generation > before.generation && world.permits("10.9.0.1", "any.test")
    }))
    .await;
    assert_eq!(off.objects.is_empty(), !orphans_stay);
    assert_eq!(world.permits("10.244.0.10", "fhir.ehr.test"), orphans_stay);

    // Nobody watches any more.
    world
        .policies()
        .delete(POLICY, &DeleteParams::default())
        .await
        .unwrap();
    world
        .controller
        .configure(|store| store.create_kubernetes_cluster(registration()))
        .unwrap();
    if orphans_stay {
        deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
        assert!(!world.permits("10.244.0.10", "fhir.ehr.test"));
    }
    world.apply(&["labs.test"]).await;
    assert!(world.permits("10.244.0.10", "labs.test"));
}

/// A cluster that lists its objects and takes no answer keeps nothing from being enforced, its own objects among it.
#[tokio::test]
async fn a_cluster_that_never_takes_a_status_stops_nobody() {
    let client = ApiServer::kubernetes(api_server::Config::default()).client("default");
    install_crds(&client).await;
    let config = ControllerConfig {
        cloud_clients: [(CLUSTER.to_owned(), mute_to_writes(client.clone()))].into(),
        ..ControllerConfig::default()
    };
    let world = World::configured(client, config, UNBOUNDED).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test"]).await;
    world.apply(&["labs.test"]).await;
    assert!(world.permits("10.244.0.10", "labs.test"));
    world.permit_subnet("10.9.0.0/16");
    deadline(
        world
            .controller
            .enforced(|_| world.permits("10.9.0.1", "any.test")),
    )
    .await;
    assert!(world.policies().get(POLICY).await.unwrap().status.is_none());
}

/// Answers reads, and nothing else ever.
fn mute_to_writes(client: Client) -> Client {
    let service = tower::service_fn(move |request: hyper::Request<kube::client::Body>| {
        let client = client.clone();
        async move {
            if request.method() != hyper::Method::GET {
                std::future::pending::<()>().await;
            }
            client.send(request).await
        }
    });
    Client::new(service, "default")
}

#[tokio::test]
async fn a_restart_gives_the_same_policy_again_in_one_push() {
    let world = World::start(Faults::default()).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    let before = world.apply(&["fhir.ehr.test"]).await;
    world.controller.restart();
    let after = deadline(
        world
            .controller
            .enforced(|push| push.generation > before.generation),
    )
    .await;
    assert_eq!(
        (&after.objects, &after.addresses),
        (&before.objects, &before.addresses)
    );
    world.apply(&["fhir.ehr.test", "labs.test"]).await;
    assert!(world.permits("10.244.0.10", "labs.test"));
}

/// What needs no cluster is enforced, whatever becomes of the clusters.
#[rstest::rstest]
#[case::no_client(json!({"cluster_id": "nobody-knows", "credential": {"use_csp_credentials": true}}))]
#[case::nobody_answers(json!({"cluster_id": "gone", "credential": {"use_csp_credentials": false, "kube_config": NOBODY}}))]
#[tokio::test]
async fn a_cluster_that_cannot_be_reached_stops_nobody_else(
    #[case] unreachable: serde_json::Value,
) {
    let world = World::start(Faults::default()).await;
    world
        .controller
        .configure(|store| store.create_kubernetes_cluster(unreachable))
        .unwrap();
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test"]).await;
    assert!(world.permits("10.244.0.10", "fhir.ehr.test"));
}

/// Nothing listens on port 1.
const NOBODY: &str = "apiVersion: v1
kind: Config
preferences: {}
clusters: [{name: c, cluster: {server: 'http://127.0.0.1:1'}}]
users: [{name: u, user: {token: t}}]
contexts: [{name: x, context: {cluster: c, user: u}}]
current-context: x
";
