//! The controllers of kube-controller-manager that workloads need: Deployments, ReplicaSets, endpoints of Services.
//!
//! Owns what these objects imply. It must not know nodes, processes or packets: it speaks to the API alone.
//!
//! Faithful: template hashes, revisions, rolling updates within maxSurge and maxUnavailable, Recreate,
//! progress deadlines, conditions and counts as `kubectl rollout status` reads them, EndpointSlices with
//! ready, serving and terminating, the older Endpoints beside them. Not faithful: no adoption of objects that merely
//! match a selector, no rollback command support beyond re-applying an old template, no topology hints; retries come after
//! a fixed short pause.
//!
//! One task does it all: events fill a cache and a queue of keys, and each round reconciles every key once.
//! Its own writes enter the cache at once, so a round never acts on a state older than its own doing.

mod cache;
mod deployment;
mod endpoints;
mod replica_set;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::time::Duration;

use futures::stream::{BoxStream, SelectAll};
use futures::{FutureExt as _, StreamExt as _};
use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::runtime::WatchStreamExt as _;
use kube::runtime::watcher::{self, watcher};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::de::DeserializeOwned;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use cache::{Cache, Key, key};

/// Pause before a failed reconciliation is tried again. Conflicts resolve with the next event, long before.
const RETRY: Duration = Duration::from_millis(100);

/// Follows the objects and acts on them until cancelled.
pub async fn run(client: Client, cancel: CancellationToken) {
    let mut events = SelectAll::new();
    events.push(watch::<Deployment>(&client, Change::Deployment));
    events.push(watch::<ReplicaSet>(&client, Change::ReplicaSet));
    events.push(watch::<Pod>(&client, Change::Pod));
    events.push(watch::<Service>(&client, Change::Service));
    let mut controllers = Controllers::new(client);
    loop {
        let due = controllers.later.values().min().copied();
        tokio::select! {
            () = cancel.cancelled() => return,
            event = events.next() => match event {
                Some(change) => controllers.observe(change),
                None => return,
            },
            () = async { sleep_until(due.unwrap_or_else(Instant::now)).await }, if due.is_some() => {}
        }
        // Whatever else has arrived joins this round.
        while let Some(Some(change)) = events.next().now_or_never() {
            controllers.observe(change);
        }
        controllers.round().await;
    }
}

/// Something to reconcile.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Task {
    Deployment(Key),
    ReplicaSet(Key),
    Service(Key),
}

enum Change {
    Deployment(watcher::Event<Deployment>),
    ReplicaSet(watcher::Event<ReplicaSet>),
    Pod(watcher::Event<Pod>),
    Service(watcher::Event<Service>),
}

/// What a reconciliation asks for next.
type Outcome = Result<Option<Duration>, kube::Error>;

struct Controllers {
    client: Client,
    deployments: Cache<Deployment>,
    replica_sets: Cache<ReplicaSet>,
    pods: Cache<Pod>,
    services: Cache<Service>,
    /// Endpoint objects written so far, so that only differences are written.
    written: BTreeMap<Key, endpoints::Written>,
    queue: BTreeSet<Task>,
    /// Deadlines, and failures to be tried again.
    later: BTreeMap<Task, Instant>,
}

impl Controllers {
    fn new(client: Client) -> Self {
        Self {
            client,
            deployments: Cache::default(),
            replica_sets: Cache::default(),
            pods: Cache::default(),
            services: Cache::default(),
            written: BTreeMap::new(),
            queue: BTreeSet::new(),
            later: BTreeMap::new(),
        }
    }

    fn observe(&mut self, change: Change) {
        match change {
            Change::Deployment(event) => {
                for deployment in self.deployments.update(event) {
                    self.queue.insert(Task::Deployment(key(&*deployment)));
                }
            }
            Change::ReplicaSet(event) => {
                for set in self.replica_sets.update(event) {
                    self.queue.insert(Task::ReplicaSet(key(&*set)));
                    self.queue
                        .extend(owner(&*set, "Deployment").map(Task::Deployment));
                }
            }
            Change::Pod(event) => {
                for pod in self.pods.update(event) {
                    self.touch_pod(&pod);
                }
            }
            Change::Service(event) => {
                for service in self.services.update(event) {
                    self.queue.insert(Task::Service(key(&*service)));
                }
            }
        }
    }

    fn touch_pod(&mut self, pod: &Pod) {
        if let Some(set) = owner(pod, "ReplicaSet") {
            let deployment = self
                .replica_sets
                .get(&set)
                .and_then(|set| owner(&**set, "Deployment"));
            self.queue.extend(deployment.map(Task::Deployment));
            self.queue.insert(Task::ReplicaSet(set));
        }
        let namespace = pod.namespace().unwrap_or_default();
        for service in self
            .services
            .iter()
            .filter(|service| service.namespace().as_deref() == Some(&namespace))
        {
            // A Pod that does not match may have matched before its labels changed.
            if endpoints::selects(service, pod)
                || self
                    .written
                    .get(&key(&**service))
                    .is_some_and(|written| written.has(pod))
            {
                self.queue.insert(Task::Service(key(&**service)));
            }
        }
    }

    async fn round(&mut self) {
        let now = Instant::now();
        let due: Vec<_> = self
            .later
            .iter()
            .filter(|(_, at)| **at <= now)
            .map(|(task, _)| task.clone())
            .collect();
        for task in due {
            self.later.remove(&task);
            self.queue.insert(task);
        }
        while let Some(task) = self.queue.pop_first() {
            let outcome = match &task {
                Task::Deployment(key) => self.reconcile_deployment(key).await,
                Task::ReplicaSet(key) => self.reconcile_replica_set(key).await,
                Task::Service(key) => self.reconcile_service(key).await,
            };
            let pause = match outcome {
                Ok(pause) => pause,
                // The object is gone, or newer than what we saw: its event is under way.
                Err(kube::Error::Api(status)) if status.code == 404 => None,
                Err(error) => {
                    tracing::debug!(?task, %error, "reconciliation failed, trying again");
                    Some(RETRY)
                }
            };
            match pause {
                Some(pause) => drop(self.later.insert(task, Instant::now() + pause)),
                None => drop(self.later.remove(&task)),
            }
        }
    }
}

fn watch<K>(client: &Client, change: fn(watcher::Event<K>) -> Change) -> BoxStream<'static, Change>
where
    K: Resource + Clone + DeserializeOwned + Debug + Send + Sync + 'static,
    K::DynamicType: Default,
{
    watcher(Api::<K>::all(client.clone()), watcher::Config::default())
        .default_backoff()
        .filter_map(move |event| async move {
            match event {
                Ok(event) => Some(change(event)),
                Err(error) => {
                    tracing::warn!(%error, kind = std::any::type_name::<K>(), "watch interrupted, trying again");
                    None
                }
            }
        })
        .boxed()
}

/// Key of the controlling owner, if it is of this kind.
fn owner<K: Resource>(object: &K, kind: &str) -> Option<Key> {
    let owner = controller(object).filter(|owner| owner.kind == kind)?;
    Some((
        object.meta().namespace.clone().unwrap_or_default(),
        owner.name.clone(),
    ))
}

fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object
        .meta()
        .owner_references
        .iter()
        .flatten()
        .find(|owner| owner.controller == Some(true))
}

fn is_controlled_by<K: Resource, O: Resource>(object: &K, owner: &O) -> bool {
    controller(object).is_some_and(|reference| Some(&reference.uid) == owner.meta().uid.as_ref())
}

/// Ready as the API counts it: the condition, and since when.
fn ready_since(pod: &Pod) -> Option<jiff::Timestamp> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let ready = conditions
        .iter()
        .find(|condition| condition.type_ == "Ready" && condition.status == "True")?;
    Some(
        ready
            .last_transition_time
            .as_ref()
            .map_or(jiff::Timestamp::UNIX_EPOCH, |time| time.0),
    )
}

fn is_finished(pod: &Pod) -> bool {
    pod.status
        .as_ref()
        .is_some_and(|status| matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")))
}

/// A short name for contents, in the alphabet that Kubernetes uses because it can't spell words
/// (k8s.io/apimachinery/pkg/util/rand, SafeEncodeString).
fn short_hash(value: &impl serde::Serialize, length: usize) -> String {
    const ALPHABET: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    // FNV-1a, as the ReplicaSet controller hashes templates too. A collision shows as a name conflict.
    let text = serde_json::to_vec(value).unwrap_or_default();
    let mut hash = text.iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, &byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    let letter = |hash: &mut u64| {
        let letter = ALPHABET[usize::try_from(*hash % ALPHABET.len() as u64).unwrap_or(0)];
        *hash /= ALPHABET.len() as u64;
        char::from(letter)
    };
    (0..length).map(|_| letter(&mut hash)).collect()
}
