//! The life of one Pod: bound, connected, initialized, running, stopped, deleted. One task per Pod.

use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures::future::join_all;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod, PodStatus};
use kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use kube::{Api, ResourceExt as _};
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use super::NodeAgent;
use super::container::{Container, Netns, Slot, Stop, grace, requested};
use super::status::PodState;
use super::volume::empty_dir;
use crate::network::{self, Attachment};

/// News about a Pod from the API.
pub(super) enum Update {
    Applied(Box<Pod>),
    Gone,
}

/// What the API wants of the Pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Desired {
    Run,
    /// Stop within this time, then delete the object.
    Delete(Duration),
    /// The object is gone: stop at once.
    Gone,
}

/// A Pod on this node.
pub(super) struct Entry {
    pub(super) uid: String,
    desired: watch::Sender<Desired>,
    /// Main containers first: the first one is the default of logs and exec.
    containers: Vec<Arc<Container>>,
    task: JoinHandle<()>,
}

/// The Pod's state, and the bell that has it reported.
pub(super) struct Shared {
    state: Mutex<PodState>,
    changed: Notify,
}

/// Why a Pod has no network yet.
#[derive(Debug, thiserror::Error)]
enum NoNetwork {
    #[error("every pod address of the node is taken")]
    Exhausted,
    #[error(transparent)]
    Network(#[from] network::Error),
    #[error("the node is shutting down")]
    ShuttingDown,
}

impl Entry {
    pub(super) fn start(agent: Arc<NodeAgent>, pod: Pod) -> Self {
        let shared = Arc::new(Shared {
            state: Mutex::new(PodState::new(&pod)),
            changed: Notify::new(),
        });
        let spec = pod.spec.clone().unwrap_or_default();
        let container = |slot, spec| Container::new(Arc::clone(&shared), slot, spec);
        let main: Vec<_> = spec
            .containers
            .into_iter()
            .enumerate()
            .map(|(index, spec)| container(Slot::Main(index), spec))
            .collect();
        let init: Vec<_> = spec
            .init_containers
            .into_iter()
            .flatten()
            .enumerate()
            .map(|(index, spec)| container(Slot::Init(index), spec))
            .collect();
        let desired = watch::Sender::new(Desired::of(&pod));
        let worker = Worker {
            agent,
            uid: pod.metadata.uid.clone().unwrap_or_default(),
            pod,
            shared,
            init: init.clone(),
            main: main.clone(),
            desired: desired.subscribe(),
            sent: tokio::sync::Mutex::new(None),
        };
        let uid = worker.uid.clone();
        Self {
            uid,
            desired,
            containers: main.into_iter().chain(init).collect(),
            task: tokio::spawn(worker.work()),
        }
    }

    pub(super) fn update(&self, update: Update) {
        let desired = match update {
            Update::Applied(pod) => Desired::of(&pod),
            Update::Gone => Desired::Gone,
        };
        self.desired.send_if_modified(|current| {
            let changed = *current != desired && *current != Desired::Gone;
            if changed {
                *current = desired;
            }
            changed
        });
    }

    pub(super) fn container(&self, name: Option<&str>) -> Option<Arc<Container>> {
        self.containers
            .iter()
            .find(|container| name.is_none_or(|name| container.name() == name))
            .cloned()
    }

    /// Resolves when nothing of the Pod is left.
    pub(super) async fn ended(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "a pod's task broke");
        }
    }
}

impl Desired {
    fn of(pod: &Pod) -> Self {
        match (
            &pod.metadata.deletion_timestamp,
            pod.metadata.deletion_grace_period_seconds,
        ) {
            (None, _) => Self::Run,
            (Some(_), Some(seconds)) => {
                Self::Delete(Duration::from_secs(u64::try_from(seconds).unwrap_or(0)))
            }
            (Some(_), None) => Self::Delete(grace(pod)),
        }
    }

    /// When everything must have ended.
    fn deadline(self, now: Instant) -> Option<Instant> {
        match self {
            Self::Run => None,
            Self::Delete(grace) => Some(now + grace),
            Self::Gone => Some(now),
        }
    }
}

impl Shared {
    pub(super) fn change(&self, change: impl FnOnce(&mut PodState)) {
        change(&mut self.lock());
        self.changed.notify_one();
    }

    fn lock(&self) -> MutexGuard<'_, PodState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Worker {
    agent: Arc<NodeAgent>,
    pod: Pod,
    uid: String,
    shared: Arc<Shared>,
    init: Vec<Arc<Container>>,
    main: Vec<Arc<Container>>,
    desired: watch::Receiver<Desired>,
    /// The status reported last; the lock keeps reports in order.
    sent: tokio::sync::Mutex<Option<PodStatus>>,
}

impl Worker {
    async fn work(self) {
        let (stop_sender, stop) = watch::channel(None);
        let mut desired = self.desired.clone();
        let mut wanted = *desired.borrow_and_update();
        {
            let life = self.live(stop);
            let reporting = self.keep_reporting();
            tokio::pin!(life, reporting);
            let mut over = false;
            loop {
                stop_sender.send_replace(wanted.deadline(Instant::now()));
                if over && wanted != Desired::Run {
                    break;
                }
                tokio::select! {
                    () = &mut life, if !over => over = true,
                    () = &mut reporting => {}
                    changed = desired.changed() => {
                        wanted = if changed.is_ok() { *desired.borrow_and_update() } else { Desired::Gone };
                    }
                }
            }
        }
        self.agent
            .spawner
            .remove_empty_dir(&empty_dir(&self.pod, ""));
        // Before the object goes: who waits for its end may count on the address being free.
        let address = self.shared.lock().address;
        if let Some(address) = address {
            self.agent.release(address);
        }
        if wanted != Desired::Gone {
            self.report().await;
            self.delete().await;
        }
    }

    /// From binding to the end of the last container.
    async fn live(&self, mut stop: Stop) {
        self.bind().await;
        let Some((address, attachment)) = self.connect(&mut stop).await else {
            return;
        };
        let netns = Netns {
            fd: attachment.netns(),
        };
        for container in &self.init {
            if !container
                .run(&self.agent, &self.pod, address, &netns, stop.clone())
                .await
            {
                return;
            }
        }
        join_all(
            self.main.iter().map(|container| {
                container.run(&self.agent, &self.pod, address, &netns, stop.clone())
            }),
        )
        .await;
    }

    /// With one node, scheduling is writing its name down.
    async fn bind(&self) {
        if self
            .pod
            .spec
            .as_ref()
            .is_some_and(|spec| spec.node_name.is_some())
        {
            return;
        }
        let binding = Binding {
            metadata: kube::api::ObjectMeta {
                name: Some(self.pod.name_any()),
                ..Default::default()
            },
            target: ObjectReference {
                kind: Some("Node".into()),
                name: Some(self.agent.config.node_name.clone()),
                ..ObjectReference::default()
            },
        };
        let bound: Result<serde_json::Value, _> = self
            .api()
            .create_subresource(
                "binding",
                &self.pod.name_any(),
                &PostParams::default(),
                &binding,
            )
            .await;
        if let Err(error) = bound {
            tracing::warn!(pod = self.pod.name_any(), %error, "binding failed");
        }
    }

    /// Gives the Pod its address and its namespace, and says so in its status before anything of it runs.
    /// None when the Pod is stopped before that.
    async fn connect(&self, stop: &mut Stop) -> Option<(Ipv4Addr, Attachment)> {
        let timings = &self.agent.config.timings;
        let mut pause = timings.source_poll;
        loop {
            match self.attach().await {
                Ok((address, attachment)) => {
                    self.shared.change(|pod| {
                        pod.address = Some(address);
                        pod.ipv6 = self.agent.network.pod_ipv6(address);
                        pod.started_at = Some(Timestamp::now());
                    });
                    self.report().await;
                    return Some((address, attachment));
                }
                Err(error) => {
                    tracing::error!(pod = self.pod.name_any(), %error, "the pod gets no network")
                }
            }
            tokio::select! {
                () = sleep(pause) => {}
                () = requested(stop) => return None,
            }
            pause = (pause * 2).min(timings.probe_poll_limit);
        }
    }

    async fn attach(&self) -> Result<(Ipv4Addr, Attachment), NoNetwork> {
        let app = self.pod.labels().get("app").cloned();
        let holder = app.unwrap_or_else(|| self.pod.name_any());
        let address = self.agent.addresses().take(&holder);
        let address = address.ok_or(NoNetwork::Exhausted)?;
        let network = self.agent.network.clone();
        let attached = tokio::task::spawn_blocking(move || network.attach(address)).await;
        match attached {
            Ok(Ok(attachment)) => Ok((address, attachment)),
            Ok(Err(error)) => {
                self.agent.release(address);
                Err(error.into())
            }
            Err(_) => Err(NoNetwork::ShuttingDown),
        }
    }

    async fn keep_reporting(&self) {
        loop {
            self.shared.changed.notified().await;
            self.report().await;
        }
    }

    /// Writes the present status, unless it is written already.
    async fn report(&self) {
        let mut sent = self.sent.lock().await;
        let mut status = self.shared.lock().status(Timestamp::now());
        self.agent.distort(&self.pod, &mut status);
        if sent.as_ref() == Some(&status) {
            return;
        }
        let patch = Patch::Merge(json!({ "status": status }));
        match self
            .api()
            .patch_status(&self.pod.name_any(), &PatchParams::default(), &patch)
            .await
        {
            Ok(_) => *sent = Some(status),
            Err(kube::Error::Api(error)) if error.code == 404 => {}
            Err(error) => tracing::warn!(pod = self.pod.name_any(), %error, "status not written"),
        }
    }

    /// The last act of a graceful deletion.
    async fn delete(&self) {
        let parameters = DeleteParams {
            grace_period_seconds: Some(0),
            preconditions: Some(Preconditions {
                uid: Some(self.uid.clone()),
                resource_version: None,
            }),
            ..DeleteParams::default()
        };
        match self.api().delete(&self.pod.name_any(), &parameters).await {
            Ok(_) => {}
            Err(kube::Error::Api(error)) if matches!(error.code, 404 | 409) => {}
            Err(error) => {
                tracing::warn!(pod = self.pod.name_any(), %error, "the pod was not deleted")
            }
        }
    }

    fn api(&self) -> Api<Pod> {
        Api::namespaced(
            self.agent.client.clone(),
            &self.pod.namespace().unwrap_or_default(),
        )
    }
}
