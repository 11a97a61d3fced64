//! The controller: the IO side of policy. Watches policy objects and pods of onboarded clusters from outside, compiles
//! every change, pushes snapshots to the gateway, and then says so in each object's status.
//!
//! Faithful: no pod in the cluster, status subresource and event `CreatePolicySuccess`, no-ops while a Kubernetes
//! feature is off. Not faithful, on purpose: status is written **after** the gateway enforces the policy (the vendor's
//! status proves reconciliation alone), and nothing lags. Must not know packets; what a policy means is
//! [`translate`](crate::translate)'s and [`policy`](crate::policy)'s.
//!
//! Which clusters those are, the store says: each that is registered there is watched, with the kubeconfig it was
//! registered with.
//!
//! A change is: watch event or [`Controller::configure`] -> translate -> push -> status. Changes that arrive while one
//! is under way are taken together. Before the first push a gateway has no policy; what it does then is its own affair
//! ([`Snapshot::deny_all`]).

mod cluster;
mod forgetful;
mod onboarding;
mod retry;
mod seeded;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures::future::BoxFuture;
use jiff::Timestamp;
use serde::{Serialize, Serializer};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use self::{forgetful::forget, onboarding::Onboarded};
use crate::{
    fault::{Fault, Faults},
    policy::{DEFAULT_ACTION, ObjectRef, Policy, Snapshot, Switches},
    store::{Store, features::RESET_BY_A_REBOOT, syslog::RemoteSyslogs},
    translate::{Mirrored, Outcome, Translation, seeded_switches, translate},
};

/// How many rules of the past [`Controller::describe_rule`] remembers.
const MAX_DESCRIBED: usize = 65_536;

/// A translation holds the store, which those who configure want too: as many times as it took, they have it before the
/// next. Changes are taken together then; of a policy of a few rules it is microseconds.
const TRANSLATIONS_APART: u32 = 4;

/// The way to a gateway.
pub trait GatewayLink: Send + Sync + 'static {
    /// Resolves when the gateway enforces `policy`.
    fn push(&self, policy: Arc<Snapshot>) -> BoxFuture<'static, ()>;
}

#[derive(Clone, Default)]
pub struct ControllerConfig {
    pub switches: Switches,
    pub faults: Faults,
    /// Where the cloud account's own credentials lead, by `cluster_id`: what a registration without a kubeconfig uses.
    /// The clients' rights are the controller's rights there.
    pub cloud_clients: BTreeMap<String, kube::Client>,
}

/// One push, observed when the gateway enforced it.
#[derive(Clone, Debug, Serialize)]
pub struct Push {
    pub generation: u64,
    /// When the gateway had acknowledged it.
    pub at: Timestamp,
    /// From the start of the compilation to the acknowledgement.
    #[serde(serialize_with = "microseconds", rename = "took_us")]
    pub took: Duration,
    /// The policy objects it contains, with their `metadata.generation`; rejected ones are not among them.
    #[serde(serialize_with = "pairs")]
    pub objects: BTreeMap<ObjectRef, i64>,
    /// The policy objects that failed closed, and why.
    #[serde(serialize_with = "pairs")]
    pub rejected: BTreeMap<ObjectRef, String>,
    /// The pod addresses it was resolved against, with the pod (`namespace/name`) that each belongs to.
    pub addresses: BTreeMap<IpAddr, String>,
    /// The rules in it.
    pub rules: BTreeSet<Uuid>,
}

/// What a uuid in a log record stands for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleDescription {
    pub rule: String,
    pub list: String,
    /// The policy object the rule was written in, if it was written in one.
    pub object: Option<ObjectRef>,
}

pub struct Controller {
    config: ControllerConfig,
    state: Mutex<State>,
    /// Counts changes; the loop that serves a gateway follows it.
    changes: watch::Sender<u64>,
    /// Counts how often gateways lost their policy.
    lost: AtomicU64,
    /// Counts how often the controller itself restarted.
    restarts: AtomicU64,
    pushes: watch::Sender<Option<Arc<Push>>>,
    syslog: watch::Sender<RemoteSyslogs>,
}

struct State {
    store: Store,
    generation: u64,
    described: BTreeMap<Uuid, RuleDescription>,
    enforced: Option<(u64, Arc<Translation>)>,
}

impl Controller {
    pub fn new(mut config: ControllerConfig) -> Self {
        config.switches = seeded_switches(config.switches, &config.faults);
        let state = State {
            store: Store::new(config.switches),
            generation: 0,
            described: BTreeMap::new(),
            enforced: None,
        };
        Self {
            config,
            state: Mutex::new(state),
            changes: watch::Sender::new(0),
            lost: AtomicU64::new(0),
            restarts: AtomicU64::new(0),
            pushes: watch::Sender::new(None),
            syslog: watch::Sender::default(),
        }
    }

    /// Reads the administrator's side of the policy.
    pub fn read<R>(&self, read: impl FnOnce(&Store) -> R) -> R {
        read(&self.state().store)
    }

    /// Changes the administrator's side of the policy, which is then compiled and pushed.
    pub fn configure<R>(&self, change: impl FnOnce(&mut Store) -> R) -> R {
        let result = {
            let mut state = self.state();
            let result = change(&mut state.store);
            if !self.config.faults.is_empty() {
                forget(&mut state.store, &self.config.faults);
            }
            let configured = state.store.remote_syslog();
            self.syslog.send_if_modified(|known| {
                let differs = known != configured;
                if differs {
                    known.clone_from(configured);
                }
                differs
            });
            result
        };
        self.notify();
        result
    }

    /// The remote syslog servers, now and after each change; for a gateway's
    /// [`Forwarder`](crate::syslog::Forwarder).
    pub fn remote_syslog(&self) -> watch::Receiver<RemoteSyslogs> {
        self.syslog.subscribe()
    }

    /// Serves one gateway until cancelled, with the policy of the store and of every cluster that is registered there.
    /// The gateway keeps the last policy it was given.
    pub async fn run(self: Arc<Self>, gateway: Arc<dyn GatewayLink>, cancel: CancellationToken) {
        cancel.run_until_cancelled(self.serve(&*gateway)).await;
    }

    /// Restarts the controller: configuration stays, clusters are watched anew, and the gateway keeps its policy until
    /// it is given one again. What a reboot of the vendor's resets besides, only a seeded fault resets here.
    pub fn restart(&self) {
        if self.config.faults.has(Fault::FlagsResetAtRestart) {
            let mut state = self.state();
            for flag in RESET_BY_A_REBOOT {
                state.store.set_feature(flag, false);
            }
        }
        self.restarts.fetch_add(1, Ordering::SeqCst);
        self.notify();
    }

    /// A gateway has restarted and asks for its policy: everything is pushed again, also where nothing has changed. The
    /// answer is the latest generation so far; wait for a later one with [`enforced`](Self::enforced).
    pub fn push_again(&self) -> u64 {
        self.lost.fetch_add(1, Ordering::SeqCst);
        let generation = self.state().generation;
        self.notify();
        generation
    }

    /// The latest push, and each one from now on. A slow reader sees the newest alone, which holds all objects.
    pub fn pushes(&self) -> watch::Receiver<Option<Arc<Push>>> {
        self.pushes.subscribe()
    }

    /// Waits for a push that satisfies `condition`; one that is enforced already counts. Bound it with a deadline.
    pub async fn enforced(&self, condition: impl Fn(&Push) -> bool) -> Arc<Push> {
        let mut pushes = self.pushes();
        loop {
            let newest = pushes.borrow_and_update().clone();
            if let Some(push) = newest.filter(|push| condition(push)) {
                return push;
            }
            pushes
                .changed()
                .await
                .expect("invariant: the controller that is borrowed here holds the sender");
        }
    }

    /// What the uuid in a log record stands for; rules that are gone by now are remembered.
    pub fn describe_rule(&self, uuid: Uuid) -> Option<RuleDescription> {
        if uuid == DEFAULT_ACTION {
            let (rule, list) = ("default action".to_owned(), "POST_RULES".to_owned());
            return Some(RuleDescription {
                rule,
                list,
                object: None,
            });
        }
        self.state().described.get(&uuid).cloned()
    }

    /// What mirrors the policy objects of clusters in the policy in force; nothing before the first push.
    pub fn mirrors(&self) -> Arc<Vec<Mirrored>> {
        if self.config.faults.has(Fault::MirrorsNotListed) {
            return Arc::default();
        }
        let state = self.state();
        let enforced = state.enforced.as_ref();
        enforced
            .map(|(_, translation)| Arc::clone(&translation.mirrors))
            .unwrap_or_default()
    }

    /// The policy in force, for evidence: groups with their members, lists in evaluation order, the default action.
    /// Null before the first push.
    pub fn export(&self) -> Value {
        let state = self.state();
        let Some((generation, translation)) = &state.enforced else {
            return Value::Null;
        };
        let Translation {
            policy, inventory, ..
        } = &**translation;
        let groups = policy.smart_groups.values().map(|group| {
            let members = group.resolve(&policy.smart_groups, inventory);
            json!({"uuid": group.uuid, "name": group.name, "selectors": group.selectors, "members": members})
        });
        json!({
            "generation": generation,
            "smart_groups": groups.collect::<Vec<_>>(),
            "web_groups": policy.web_groups.values().map(|group| &**group).collect::<Vec<_>>(),
            "lists": policy.lists,
            "default_action": {
                "uuid": DEFAULT_ACTION,
                "action": policy.default_action.action,
                "logging": policy.default_action.logging.is_on(),
            },
            "switches": self.config.switches,
            "faults": self.config.faults,
        })
    }

    async fn serve(self: &Arc<Self>, gateway: &dyn GatewayLink) {
        let mut changes = self.changes.subscribe();
        let silent = self.config.faults.has(Fault::StatusNeverWritten);
        let mut clusters = Onboarded::default();
        let mut restarts = 0;
        let mut pushed: Option<(u64, Arc<Translation>)> = None;
        let mut not_before = Instant::now();
        loop {
            tokio::time::sleep_until(not_before.into()).await;
            changes.mark_unchanged();
            let lost = self.lost.load(Ordering::SeqCst);
            if std::mem::replace(&mut restarts, self.restarts.load(Ordering::SeqCst)) != restarts {
                clusters.restart();
                pushed = None;
            }
            let registered = self.state().store.kubernetes_clusters().clone();
            clusters.follow(self, registered).await;
            let began = Instant::now();
            let translation = Arc::new(self.translate(&mut clusters));
            not_before = Instant::now() + began.elapsed() * TRANSLATIONS_APART;
            if !pushed.as_ref().is_some_and(|(seen, pushed)| {
                *seen == lost && pushed.enforces_the_same_as(&translation)
            }) {
                self.push(&translation, gateway).await;
                pushed = Some((lost, Arc::clone(&translation)));
            }
            if !silent {
                clusters.set_status(&translation);
            }
            changed(&mut changes).await;
        }
    }

    fn translate(&self, clusters: &mut Onboarded) -> Translation {
        let objects = clusters.objects();
        let ControllerConfig {
            switches, faults, ..
        } = &self.config;
        translate(&self.state().store, objects, switches, faults)
    }

    async fn push(&self, translation: &Arc<Translation>, gateway: &dyn GatewayLink) {
        let start = Instant::now();
        let generation = {
            let mut state = self.state();
            // Described before it is pushed: the first record may follow at once.
            state.describe(&translation.policy);
            state.store.set_mirrored(mirrored_groups(translation));
            state.generation += 1;
            state.generation
        };
        let Translation {
            policy,
            inventory,
            objects,
            ..
        } = &**translation;
        let snapshot = Snapshot::compile(generation, policy, inventory, &self.config.switches);
        gateway.push(Arc::new(snapshot)).await;
        self.state().enforced = Some((generation, Arc::clone(translation)));
        let (mut compiled, mut rejected) = (BTreeMap::new(), BTreeMap::new());
        for (object, translated) in objects {
            match &translated.outcome {
                Outcome::Rejected(reason) => {
                    drop(rejected.insert(object.clone(), reason.to_string()))
                }
                _ => drop(compiled.insert(object.clone(), translated.generation)),
            }
        }
        let pods = inventory
            .clusters
            .values()
            .flat_map(|cluster| &cluster.pods);
        let addresses = pods
            .flat_map(|pod| {
                let name = format!("{}/{}", pod.namespace, pod.name);
                let own = pod.addresses.iter();
                own.map(move |address| (*address, name.clone()))
            })
            .collect();
        let took = start.elapsed();
        tracing::debug!(
            generation,
            ?took,
            objects = compiled.len(),
            "gateway enforces the policy"
        );
        let push = Push {
            generation,
            at: Timestamp::now(),
            took,
            objects: compiled,
            rejected,
            addresses,
            rules: policy
                .lists
                .iter()
                .flat_map(|list| list.rules.iter().map(|rule| rule.uuid))
                .collect(),
        };
        self.pushes.send_replace(Some(Arc::new(push)));
    }

    fn notify(&self) {
        self.changes.send_modify(|count| *count += 1);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// Adds the rules of `policy` to what can be described. At the bound, rules that are no longer in it are dropped.
    fn describe(&mut self, policy: &Policy) {
        if self.described.len() >= MAX_DESCRIBED {
            self.described.clear();
        }
        for list in &policy.lists {
            for rule in &list.rules {
                let description = RuleDescription {
                    rule: rule.name.clone(),
                    list: list.name.clone(),
                    object: list.object.clone(),
                };
                self.described.insert(rule.uuid, description);
            }
        }
    }
}

impl Translation {
    /// Whether a gateway and the readers of [`Push`] would see any difference.
    fn enforces_the_same_as(&self, other: &Self) -> bool {
        let generations = |translation: &Self| {
            let objects = translation.objects.iter();
            objects
                .map(|(object, translated)| (object.clone(), translated.generation))
                .collect::<Vec<_>>()
        };
        self.policy == other.policy
            && self.inventory == other.inventory
            && generations(self) == generations(other)
    }
}

fn mirrored_groups(translation: &Translation) -> BTreeMap<Uuid, bool> {
    let mirrors = translation.mirrors.iter();
    let groups = mirrors.flat_map(|mirrored| {
        let smart = mirrored
            .smart_groups
            .iter()
            .map(|group| (group.uuid, false));
        smart.chain(mirrored.web_groups.iter().map(|group| (group.uuid, true)))
    });
    groups.collect()
}

async fn changed(changes: &mut watch::Receiver<u64>) {
    changes
        .changed()
        .await
        .expect("invariant: the controller that is borrowed here holds the sender");
}

/// JSON has no structured keys.
fn pairs<V: Serialize, S: Serializer>(
    map: &BTreeMap<ObjectRef, V>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map)
}

fn microseconds<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u128(duration.as_micros())
}
