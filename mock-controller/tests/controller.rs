//! The controller against an API server: objects and pods come and go, and what the gateway was given follows.
#![allow(clippy::unwrap_used)]

use std::{
    future::Future,
    sync::{Arc, Mutex},
    time::Duration,
};

use api_server::ApiServer;
use futures::future::BoxFuture;
use k8s_openapi::{
    api::{
        core::v1::{Namespace, Pod},
        events::v1::Event,
    },
    apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition,
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use mock_controller::{
    controller::{ClusterRegistration, Controller, ControllerConfig, GatewayLink, Push},
    crd::{FirewallPolicy, WebgroupPolicy, crds},
    fault::{Fault, Faults},
    policy::{
        Action, Application, DefaultAction, FirstPacket, FiveTuple, ObjectRef, Protocol, Snapshot,
    },
    store::FEATURE_K8S_DCF_POLICIES,
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

const CLUSTER: &str = "cluster-1";
const POLICY: &str = "obot-ehr-fw";
const UNBOUNDED: usize = Semaphore::MAX_PERMITS;

async fn deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(10), future)
        .await
        .expect("nothing happened within 10 s")
}

/// A gateway that enforces whatever it is given, once it may.
#[derive(Clone)]
struct RecordingGateway {
    enforced: Arc<Mutex<Arc<Snapshot>>>,
    asked: Arc<Semaphore>,
    may_enforce: Arc<Semaphore>,
}

impl GatewayLink for RecordingGateway {
    fn push(&self, policy: Arc<Snapshot>) -> BoxFuture<'static, ()> {
        let gateway = self.clone();
        Box::pin(async move {
            gateway.asked.add_permits(1);
            gateway.may_enforce.acquire().await.unwrap().forget();
            *gateway.enforced.lock().unwrap() = policy;
        })
    }
}

struct World {
    client: Client,
    controller: Arc<Controller>,
    gateway: RecordingGateway,
    _stop: DropGuard,
}

impl World {
    /// A cluster with the CRDs and a namespace `mcp`, onboarded; the default action is DENY.
    async fn start(faults: impl Into<Faults>) -> Self {
        let client = ApiServer::kubernetes(api_server::Config::default()).client("default");
        install_crds(&client).await;
        Self::onboard(client, faults, UNBOUNDED).await
    }

    async fn onboard(client: Client, faults: impl Into<Faults>, pushes: usize) -> Self {
        let namespaces = Api::<Namespace>::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": "mcp"}})).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        let config = ControllerConfig {
            faults: faults.into(),
            ..ControllerConfig::default()
        };
        let controller = Arc::new(Controller::new(config));
        controller.configure(|store| {
            store.set_default_action(DefaultAction {
                action: Action::Deny,
                logging: true,
            })
        });
        let gateway = RecordingGateway {
            enforced: Arc::new(Mutex::new(Arc::new(Snapshot::deny_all()))),
            asked: Arc::new(Semaphore::new(0)),
            may_enforce: Arc::new(Semaphore::new(pushes)),
        };
        let cancel = CancellationToken::new();
        let registration = ClusterRegistration {
            id: CLUSTER.into(),
            client: client.clone(),
        };
        let link = Arc::new(gateway.clone());
        tokio::spawn(Arc::clone(&controller).run(registration, link, cancel.clone()));
        Self {
            client,
            controller,
            gateway,
            _stop: cancel.drop_guard(),
        }
    }

    fn policies(&self) -> Api<FirewallPolicy> {
        Api::namespaced(self.client.clone(), "mcp")
    }

    fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "mcp")
    }

    /// Applies the FirewallPolicy of a server with these domains, and waits until its generation is enforced.
    async fn apply(&self, domains: &[&str]) -> Arc<Push> {
        let generation = self.apply_unawaited(POLICY, server_spec(domains)).await;
        deadline(
            self.controller
                .enforced(|push| push.objects.get(&object(POLICY)) == Some(&generation)),
        )
        .await
    }

    async fn apply_unawaited(&self, name: &str, spec: Value) -> i64 {
        let object = json!({"apiVersion": "networking.aviatrix.com/v1alpha1", "kind": "FirewallPolicy",
            "metadata": {"name": name}, "spec": spec});
        let applied = self
            .policies()
            .patch(
                name,
                &PatchParams::apply("test").force(),
                &Patch::Apply(object),
            )
            .await;
        applied.unwrap().metadata.generation.unwrap()
    }

    /// Creates a pod, gives it the address, and waits until the gateway knows it.
    async fn run_pod(&self, name: &str, app: &str, address: &str) {
        let pod = json!({"metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [{"name": "main", "image": "fixture"}]}});
        self.pods()
            .create(
                &PostParams::default(),
                &serde_json::from_value(pod).unwrap(),
            )
            .await
            .unwrap();
        self.readdress(name, address).await;
    }

    async fn readdress(&self, name: &str, address: &str) {
        let status =
            json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        self.pods()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
        let address = address.parse().unwrap();
        deadline(
            self.controller
                .enforced(|push| push.addresses.contains(&address)),
        )
        .await;
    }

    /// Which rule of the enforced policy decides a TLS flow to the internet, and how.
    fn decide(&self, source: &str, sni: &str) -> (Action, String) {
        let snapshot = self.gateway.enforced.lock().unwrap().clone();
        let flow = FiveTuple {
            protocol: Protocol::Tcp,
            source: source.parse().unwrap(),
            source_port: 40000,
            destination: "198.51.100.7".parse().unwrap(),
            destination_port: 443,
        };
        let verdict = match snapshot.first_packet(&flow) {
            FirstPacket::Decided(verdict) => verdict,
            FirstPacket::Inspect => snapshot.decide(
                &flow,
                &Application::Tls {
                    sni: Some(sni.into()),
                },
            ),
        };
        (verdict.action, verdict.rule)
    }

    fn permits(&self, source: &str, sni: &str) -> bool {
        self.decide(source, sni).0 == Action::Permit
    }

    async fn event(&self, name: &str, reason: &str) -> Event {
        let events = Api::<Event>::namespaced(self.client.clone(), "mcp");
        deadline(async {
            loop {
                let list = events.list(&ListParams::default()).await.unwrap();
                let found = list.items.into_iter().find(|event| {
                    let regarding = event
                        .regarding
                        .as_ref()
                        .and_then(|regarding| regarding.name.as_deref());
                    event.reason.as_deref() == Some(reason) && regarding == Some(name)
                });
                match found {
                    Some(event) => return event,
                    None => tokio::task::yield_now().await,
                }
            }
        })
        .await
    }
}

async fn install_crds(client: &Client) {
    let api = Api::<CustomResourceDefinition>::all(client.clone());
    for crd in crds() {
        api.create(&PostParams::default(), &crd).await.unwrap();
        deadline(await_condition(
            api.clone(),
            &crd.name_any(),
            conditions::is_crd_established(),
        ))
        .await
        .unwrap();
    }
}

fn object(name: &str) -> ObjectRef {
    ObjectRef {
        cluster: CLUSTER.into(),
        kind: "FirewallPolicy",
        namespace: "mcp".into(),
        name: name.into(),
    }
}

fn server_spec(domains: &[&str]) -> Value {
    json!({
        "smartGroups": [{"name": "any-destination", "selectors": [{"cidr": "0.0.0.0/0"}]}],
        "webGroups": [{"name": "approved", "domains": domains}],
        "rules": [
            {"name": "allow-approved-egress", "action": "permit", "protocol": "tcp", "port": 443, "logging": true,
             "selector": {"matchLabels": {"app": "ehr"}}, "destinationSmartGroups": [{"name": "any-destination"}],
             "webGroups": [{"name": "approved"}]},
            {"name": "deny-all-external", "action": "deny", "protocol": "any", "logging": true,
             "selector": {"matchLabels": {"app": "ehr"}}, "destinationSmartGroups": [{"name": "any-destination"}]},
        ],
    })
}

fn allow(rule: &str) -> (Action, String) {
    (Action::Permit, rule.to_owned())
}

fn deny(rule: &str) -> (Action, String) {
    (Action::Deny, rule.to_owned())
}

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
    let world = World::onboard(client, Faults::default(), 1).await;
    let before = deadline(world.controller.enforced(|_| true)).await;
    deadline(world.gateway.asked.acquire())
        .await
        .unwrap()
        .forget();

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

#[tokio::test]
async fn one_id_is_one_cluster() {
    let world = World::start(Faults::default()).await;
    deadline(world.controller.enforced(|_| true)).await;
    let registration = ClusterRegistration {
        id: CLUSTER.into(),
        client: world.client.clone(),
    };
    let link = Arc::new(world.gateway.clone());
    let again = Arc::clone(&world.controller).run(registration, link, CancellationToken::new());
    assert!(
        deadline(again)
            .await
            .unwrap_err()
            .to_string()
            .contains(CLUSTER)
    );
}

#[tokio::test]
async fn fault_ignore_updates_keeps_the_first_version_and_still_reports_success() {
    for (faults, follows) in [
        (Faults::default(), true),
        (Faults::from(Fault::IgnoreUpdates), false),
    ] {
        let world = World::start(faults).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        world.apply(&["labs.test"]).await;
        assert_eq!(world.permits("10.244.0.10", "labs.test"), follows);
        assert_eq!(world.permits("10.244.0.10", "fhir.ehr.test"), !follows);
    }
}

#[tokio::test]
async fn fault_default_action_permit_lets_unselected_pods_out() {
    for (faults, permits) in [
        (Faults::default(), false),
        (Faults::from(Fault::DefaultActionPermit), true),
    ] {
        let world = World::start(faults).await;
        world.run_pod("stray-1", "stray", "10.244.0.10").await;
        assert_eq!(world.permits("10.244.0.10", "evil.test"), permits);
    }
}

#[tokio::test]
async fn faults_of_live_changes() {
    for (fault, added, removed) in [
        (None, true, false),
        (Some(Fault::AdditionsIgnored), false, false),
        (Some(Fault::RemovalsIgnored), true, true),
    ] {
        let world = World::start(Faults::from_iter(fault)).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        world.apply(&["fhir.ehr.test", "labs.test"]).await;
        assert_eq!(
            world.permits("10.244.0.10", "labs.test"),
            added,
            "{fault:?}"
        );
        world.apply(&["labs.test"]).await;
        assert_eq!(
            world.permits("10.244.0.10", "fhir.ehr.test"),
            removed,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn fault_deleted_policy_enforced_outlives_its_object() {
    for (fault, permits) in [(None, false), (Some(Fault::DeletedPolicyEnforced), true)] {
        let world = World::start(Faults::from_iter(fault)).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        let policies = world.policies();
        policies
            .delete(POLICY, &DeleteParams::default())
            .await
            .unwrap();
        // The Pod comes after the deletion: when its address is known, the deletion is.
        world.run_pod("ehr-2", "ehr", "10.244.0.11").await;
        if fault.is_none() {
            deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
        }
        assert_eq!(world.permits("10.244.0.11", "fhir.ehr.test"), permits);
    }
}

#[tokio::test]
async fn faults_of_membership() {
    // A Pod of `ehr` goes, a Pod of `crm` gets its address, and a second Pod of `ehr` comes.
    for (fault, reused, successor) in [
        (None, false, true),
        (Some(Fault::StaleAddressesKept), true, true),
        (Some(Fault::AddressReuseInherits), true, true),
        (Some(Fault::ReplacedPodUnseen), false, false),
    ] {
        let world = World::start(Faults::from_iter(fault)).await;
        world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
        world.apply(&["fhir.ehr.test"]).await;
        assert!(world.permits("10.244.0.10", "fhir.ehr.test"), "{fault:?}");
        world
            .pods()
            .delete("ehr-1", &DeleteParams::default())
            .await
            .unwrap();
        world.run_pod("crm-1", "crm", "10.244.0.20").await;
        world.readdress("crm-1", "10.244.0.10").await;
        world.run_pod("ehr-2", "ehr", "10.244.0.30").await;
        assert_eq!(
            world.permits("10.244.0.10", "fhir.ehr.test"),
            reused,
            "{fault:?}"
        );
        assert_eq!(
            world.permits("10.244.0.30", "fhir.ehr.test"),
            successor,
            "{fault:?}"
        );
    }
}

#[tokio::test]
async fn fault_status_never_written_enforces_in_silence() {
    let world = World::start(Fault::StatusNeverWritten).await;
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    let push = world.apply(&["fhir.ehr.test"]).await;
    assert!(world.permits("10.244.0.10", "fhir.ehr.test"));
    // Another push means that the turn in which the status was due is over.
    world.run_pod("ehr-2", "ehr", "10.244.0.11").await;
    let later = deadline(
        world
            .controller
            .enforced(|later| later.generation > push.generation),
    )
    .await;
    assert!(later.objects.contains_key(&object(POLICY)));
    assert!(world.policies().get(POLICY).await.unwrap().status.is_none());
}
