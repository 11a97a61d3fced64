//! An API server, a gateway that records what it is given, and what the tests ask of both.

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
    api::{ListParams, Patch, PatchParams, PostParams},
    runtime::{conditions, wait::await_condition},
};
use mock_controller::{
    controller::{Controller, ControllerConfig, GatewayLink, Push},
    crd::{FirewallPolicy, crds},
    fault::Faults,
    policy::{
        ANYWHERE, Action, Application, DefaultAction, FirstPacket, FiveTuple, Logging, ObjectRef,
        Protocol, Snapshot,
    },
};
use serde_json::{Value, json};
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

pub(crate) const CLUSTER: &str = "cluster-1";
pub(crate) const POLICY: &str = "obot-ehr-fw";
pub(crate) const UNBOUNDED: usize = Semaphore::MAX_PERMITS;

pub(crate) async fn deadline<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(60), future)
        .await
        .expect("nothing happened within 10 s")
}

/// A gateway that enforces whatever it is given, once it may.
#[derive(Clone)]
pub(crate) struct RecordingGateway {
    pub enforced: Arc<Mutex<Arc<Snapshot>>>,
    pub asked: Arc<Semaphore>,
    pub may_enforce: Arc<Semaphore>,
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

pub(crate) struct World {
    /// The controller's own id of the cluster.
    pub id: String,
    pub client: Client,
    pub controller: Arc<Controller>,
    pub gateway: RecordingGateway,
    pub _stop: DropGuard,
}

impl World {
    /// A cluster with the CRDs and a namespace `mcp`, onboarded; the default action is DENY.
    pub(crate) async fn start(faults: impl Into<Faults>) -> Self {
        let client = ApiServer::kubernetes(api_server::Config::default()).client("default");
        install_crds(&client).await;
        Self::onboard(client, faults, UNBOUNDED).await
    }

    pub(crate) async fn onboard(client: Client, faults: impl Into<Faults>, pushes: usize) -> Self {
        let config = ControllerConfig {
            faults: faults.into(),
            cloud_clients: [(CLUSTER.to_owned(), client.clone())].into(),
            ..ControllerConfig::default()
        };
        Self::configured(client, config, pushes).await
    }

    /// `client` is the tests' own way to the cluster.
    pub(crate) async fn configured(
        client: Client,
        config: ControllerConfig,
        pushes: usize,
    ) -> Self {
        let namespaces = Api::<Namespace>::all(client.clone());
        let namespace = serde_json::from_value(json!({"metadata": {"name": "mcp"}})).unwrap();
        namespaces
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
        let controller = Arc::new(Controller::new(config));
        controller.configure(|store| {
            store.enable_firewall();
            store.set_default_action(DefaultAction {
                action: Action::Deny,
                logging: Logging::Start,
            })
        });
        let id = controller
            .configure(|store| store.create_kubernetes_cluster(registration()))
            .unwrap();
        let gateway = RecordingGateway {
            enforced: Arc::new(Mutex::new(Arc::new(Snapshot::deny_all()))),
            asked: Arc::new(Semaphore::new(0)),
            may_enforce: Arc::new(Semaphore::new(pushes)),
        };
        let cancel = CancellationToken::new();
        let link = Arc::new(gateway.clone());
        tokio::spawn(Arc::clone(&controller).run(link, cancel.clone()));
        Self {
            id,
            client,
            controller,
            gateway,
            _stop: cancel.drop_guard(),
        }
    }

    pub(crate) fn policies(&self) -> Api<FirewallPolicy> {
        Api::namespaced(self.client.clone(), "mcp")
    }

    pub(crate) fn pods(&self) -> Api<Pod> {
        Api::namespaced(self.client.clone(), "mcp")
    }

    /// Applies the FirewallPolicy of a server with these domains, and waits until its generation is enforced.
    pub(crate) async fn apply(&self, domains: &[&str]) -> Arc<Push> {
        let generation = self.apply_unawaited(POLICY, server_spec(domains)).await;
        deadline(
            self.controller
                .enforced(|push| push.objects.get(&object(POLICY)) == Some(&generation)),
        )
        .await
    }

    pub(crate) async fn apply_unawaited(&self, name: &str, spec: Value) -> i64 {
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
    pub(crate) async fn run_pod(&self, name: &str, app: &str, address: &str) {
        self.create_pod(name, app).await;
        self.readdress(name, address).await;
    }

    pub(crate) async fn run_pod_unawaited(&self, name: &str, app: &str, address: &str) {
        self.create_pod(name, app).await;
        self.set_address(name, address).await;
    }

    async fn create_pod(&self, name: &str, app: &str) {
        let pod = json!({"metadata": {"name": name, "labels": {"app": app}},
            "spec": {"containers": [{"name": "main", "image": "fixture"}]}});
        self.pods()
            .create(
                &PostParams::default(),
                &serde_json::from_value(pod).unwrap(),
            )
            .await
            .unwrap();
    }

    async fn set_address(&self, name: &str, address: &str) {
        let status =
            json!({"status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}});
        self.pods()
            .patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await
            .unwrap();
    }

    pub(crate) async fn readdress(&self, name: &str, address: &str) {
        self.set_address(name, address).await;
        let address = address.parse().unwrap();
        deadline(
            self.controller
                .enforced(|push| push.addresses.contains_key(&address)),
        )
        .await;
    }

    /// Which rule of the enforced policy decides a TLS flow to the internet, and how.
    pub(crate) fn decide(&self, source: &str, sni: &str) -> (Action, String) {
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

    /// A rule of the administrator's own, before those of any cluster.
    pub(crate) fn permit_subnet(&self, subnet: &str) {
        self.controller.configure(|store| {
            let group = json!({"name": subnet, "selector": {"any": [{"all": {"cidr": subnet}}]}});
            let group = store.create_app_domain(group).unwrap();
            let rule = json!({"name": subnet, "action": "PERMIT", "priority": 1, "protocol": "ANY",
                "src_ads": [group], "dst_ads": [ANYWHERE], "logging": true});
            store.set_policy_list(vec![rule]).unwrap();
        });
    }

    pub(crate) fn permits(&self, source: &str, sni: &str) -> bool {
        self.decide(source, sni).0 == Action::Permit
    }

    pub(crate) async fn event(&self, name: &str, reason: &str) -> Event {
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

/// A cluster that the cloud account's credentials lead to.
pub(crate) fn registration() -> Value {
    json!({"cluster_id": CLUSTER, "credential": {"use_csp_credentials": true}})
}

pub(crate) async fn install_crds(client: &Client) {
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

pub(crate) fn object(name: &str) -> ObjectRef {
    ObjectRef {
        cluster: CLUSTER.into(),
        kind: "FirewallPolicy",
        namespace: "mcp".into(),
        name: name.into(),
    }
}

pub(crate) fn server_spec(domains: &[&str]) -> Value {
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

pub(crate) fn allow(rule: &str) -> (Action, String) {
    (Action::Permit, rule.to_owned())
}

pub(crate) fn deny(rule: &str) -> (Action, String) {
    (Action::Deny, rule.to_owned())
}
