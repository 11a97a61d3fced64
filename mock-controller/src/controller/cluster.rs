//! The watches on one cluster, and what they show at the moment.

use std::{collections::BTreeMap, fmt::Debug, pin::pin, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::{
    Api, Client, Resource, ResourceExt,
    core::DeserializeGuard,
    runtime::{
        WatchStreamExt, reflector,
        reflector::Store,
        watcher::{self, Event, watcher},
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::watch, task::JoinSet};

use super::{retry::Retry, seeded::Seeded};
use crate::{
    crd::{FirewallPolicy, FirewallPolicyStatus, WebgroupPolicy, WebgroupPolicyStatus},
    fault::Faults,
    policy::ClusterInventory,
    translate::{ClusterObjects, PolicyObject, pod, service},
};

/// An object that does not parse is kept as an error: it must not blind the watch for all others.
type Guarded<K> = DeserializeGuard<K>;

/// Watches one cluster for as long as it lives.
pub(super) struct ClusterWatch {
    /// As SmartGroups name it.
    pub(super) cluster_id: String,
    pub(super) client: Client,
    firewall_policies: Store<Guarded<FirewallPolicy>>,
    webgroup_policies: Store<Guarded<WebgroupPolicy>>,
    pods: Store<Pod>,
    services: Store<Service>,
    namespaces: Store<Namespace>,
    /// Absent while no fault is active.
    seeded: Option<Seeded>,
    /// Kinds whose first list is not in yet.
    pending: watch::Receiver<usize>,
    _tasks: JoinSet<()>,
}

impl ClusterWatch {
    /// Starts the watches; `changed` is called whenever they show something new.
    pub(super) fn start(
        cluster_id: String,
        client: Client,
        faults: &Faults,
        changed: impl Fn() + Send + Sync + 'static,
    ) -> Self {
        let mut starter = Starter {
            client: client.clone(),
            cluster: cluster_id.clone(),
            changed: Arc::new(changed),
            pending: watch::Sender::new(0),
            tasks: JoinSet::new(),
        };
        Self {
            cluster_id,
            client,
            firewall_policies: starter.watch(),
            webgroup_policies: starter.watch(),
            pods: starter.watch(),
            services: starter.watch(),
            namespaces: starter.watch(),
            seeded: (!faults.is_empty()).then(|| Seeded::new(faults.clone())),
            pending: starter.pending.subscribe(),
            _tasks: starter.tasks,
        }
    }

    /// Whether every kind has been listed once, or is not served.
    pub(super) fn is_settled(&self) -> bool {
        *self.pending.borrow() == 0
    }

    pub(super) fn objects(&self) -> ClusterObjects {
        let firewall_policies = self.firewall_policies.state();
        let webgroup_policies = self.webgroup_policies.state();
        let mut objects = ClusterObjects {
            firewall_policies: firewall_policies
                .iter()
                .map(|object| policy_object(object, |o| &o.spec))
                .collect(),
            webgroup_policies: webgroup_policies
                .iter()
                .map(|object| policy_object(object, |o| &o.spec))
                .collect(),
            inventory: self.inventory(),
            arrivals: BTreeMap::new(),
        };
        if let Some(seeded) = &self.seeded {
            seeded.distort(&mut objects);
        }
        objects
    }

    pub(super) fn firewall_policy_status(&self, uid: &str) -> Option<FirewallPolicyStatus> {
        let object = self
            .firewall_policies
            .find(|object| object.meta().uid.as_deref() == Some(uid))?;
        object.0.as_ref().ok()?.status.clone()
    }

    pub(super) fn webgroup_policy_status(&self, uid: &str) -> Option<WebgroupPolicyStatus> {
        let object = self
            .webgroup_policies
            .find(|object| object.meta().uid.as_deref() == Some(uid))?;
        object.0.as_ref().ok()?.status.clone()
    }

    /// In an order of its own, so that equal inventories compare equal.
    fn inventory(&self) -> ClusterInventory {
        let mut pods: Vec<_> = self
            .pods
            .state()
            .iter()
            .filter_map(|object| pod(object))
            .collect();
        pods.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let mut services: Vec<_> = self
            .services
            .state()
            .iter()
            .map(|object| service(object))
            .collect();
        services.sort_by(|a, b| (&a.namespace, &a.name).cmp(&(&b.namespace, &b.name)));
        let namespaces = self.namespaces.state();
        let namespaces = namespaces
            .iter()
            .map(|object| (object.name_any(), object.labels().clone()))
            .collect();
        ClusterInventory {
            namespaces,
            pods,
            services,
        }
    }
}

fn policy_object<K, S>(object: &Guarded<K>, spec: impl Fn(&K) -> &S) -> PolicyObject<S>
where
    K: Resource<DynamicType = ()>,
    S: Clone,
{
    let meta = object.meta();
    PolicyObject {
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        generation: meta.generation.unwrap_or_default(),
        spec: object
            .0
            .as_ref()
            .map(|object| spec(object).clone())
            .map_err(|invalid| invalid.error.clone()),
    }
}

struct Starter {
    client: Client,
    cluster: String,
    changed: Arc<dyn Fn() + Send + Sync>,
    pending: watch::Sender<usize>,
    tasks: JoinSet<()>,
}

impl Starter {
    fn watch<K>(&mut self) -> Store<K>
    where
        K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    {
        let (reader, writer) = reflector::store();
        let api = Api::<K>::all(self.client.clone());
        let stream = reflector(
            writer,
            watcher(api, watcher::Config::default()).backoff(Retry::default()),
        );
        let (cluster, changed, pending) = (
            self.cluster.clone(),
            Arc::clone(&self.changed),
            self.pending.clone(),
        );
        pending.send_modify(|pending| *pending += 1);
        self.tasks.spawn(async move {
            let mut stream = pin!(stream);
            let mut settled = false;
            let mut warned = false;
            while let Some(event) = stream.next().await {
                let shown = match event {
                    Ok(Event::Init | Event::InitApply(_)) => continue,
                    Ok(_) => true,
                    Err(error) => {
                        if !std::mem::replace(&mut warned, true) {
                            tracing::warn!(cluster, kind = %K::kind(&()), %error, "watch failed, trying again");
                        }
                        is_absent(&error)
                    }
                };
                if shown && !std::mem::replace(&mut settled, true) {
                    pending.send_modify(|pending| *pending -= 1);
                }
                if shown {
                    changed();
                }
            }
        });
        reader
    }
}

/// The cluster does not serve the kind: its CRDs are not installed (yet).
fn is_absent(error: &watcher::Error) -> bool {
    matches!(error, watcher::Error::InitialListFailed(kube::Error::Api(status)) if status.code == 404)
}
