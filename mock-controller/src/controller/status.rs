//! Tells tenants what became of their objects: the status subresource, and an event.
//!
//! In a task of its own for each cluster: one that does not answer keeps nobody else's policy waiting.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use k8s_openapi::{NamespaceResourceScope, api::core::v1::ObjectReference};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::json;
use tokio::{
    sync::watch,
    task::JoinSet,
    time::{error::Elapsed, timeout},
};

use super::{cluster::ClusterWatch, retry::Retry};
use crate::{
    crd::{FirewallPolicy, GROUP, WebgroupPolicy},
    policy::ObjectRef,
    translate::{Outcome, Translated, Translation},
};

/// How long one request may take before it is tried again.
const PATIENCE: Duration = Duration::from_secs(10);

/// The statuses of one cluster's objects, kept at what the newest translation says for as long as this lives.
pub(super) struct Statuses {
    newest: watch::Sender<Option<Arc<Translation>>>,
    _task: JoinSet<()>,
}

impl Statuses {
    pub(super) fn keep(watch: Arc<ClusterWatch>) -> Self {
        let newest = watch::Sender::new(None);
        let mut task = JoinSet::new();
        task.spawn(StatusWriter::new(watch).follow(newest.subscribe()));
        Self {
            newest,
            _task: task,
        }
    }

    /// What is enforced from now on. Say it again when the cluster has changed: somebody may have written a status.
    pub(super) fn set(&self, translation: Arc<Translation>) {
        self.newest.send_replace(Some(translation));
    }
}

/// Writes statuses, and announces each generation of each object once.
struct StatusWriter {
    watch: Arc<ClusterWatch>,
    recorder: Recorder,
    /// Generations by uid.
    announced: BTreeMap<String, i64>,
}

impl StatusWriter {
    fn new(watch: Arc<ClusterWatch>) -> Self {
        let reporter = Reporter {
            controller: "avx-controller".to_owned(),
            instance: None,
        };
        let recorder = Recorder::new(watch.client.clone(), reporter);
        Self {
            watch,
            recorder,
            announced: BTreeMap::new(),
        }
    }

    async fn follow(mut self, mut newest: watch::Receiver<Option<Arc<Translation>>>) {
        while newest.changed().await.is_ok() {
            let mut retry = Retry::default();
            loop {
                let translation = newest.borrow_and_update().clone();
                let Some(translation) = translation else {
                    break;
                };
                if self.write(&translation).await {
                    break;
                }
                if let Some(delay) = retry.next() {
                    let _ = timeout(delay, newest.changed()).await;
                }
            }
        }
    }

    /// Writes each status that differs from what the object says. False if a write failed and must be tried again.
    async fn write(&mut self, translation: &Translation) -> bool {
        let own = |object: &ObjectRef| object.cluster == self.watch.cluster_id;
        let own: Vec<_> = translation
            .objects
            .iter()
            .filter(|(object, _)| own(object))
            .collect();
        let writes = own
            .iter()
            .map(|(object, translated)| self.write_one(object, translated));
        let written = join_all(writes).await;

        self.announced
            .retain(|uid, _| own.iter().any(|(_, translated)| translated.uid == *uid));
        for ((object, translated), written) in own.iter().zip(&written) {
            let announced = self.announced.get(&translated.uid) == Some(&translated.generation);
            if *written && !announced {
                self.announced
                    .insert(translated.uid.clone(), translated.generation);
                self.announce(object, translated).await;
            }
        }
        written.into_iter().all(|written| written)
    }

    async fn write_one(&self, object: &ObjectRef, translated: &Translated) -> bool {
        let uid = &translated.uid;
        let result = match &translated.outcome {
            Outcome::FirewallPolicy(status)
                if self.watch.firewall_policy_status(uid).as_ref() == Some(status) =>
            {
                Ok(Ok(()))
            }
            Outcome::FirewallPolicy(status) => self.patch::<FirewallPolicy>(object, status).await,
            Outcome::WebgroupPolicy(status)
                if self.watch.webgroup_policy_status(uid).as_ref() == Some(status) =>
            {
                Ok(Ok(()))
            }
            Outcome::WebgroupPolicy(status) => self.patch::<WebgroupPolicy>(object, status).await,
            // Its status stays at the last generation that could be translated.
            Outcome::Rejected(_) => Ok(Ok(())),
        };
        match result {
            Ok(Ok(())) => true,
            // Deleted in the meantime: the watch will say so.
            Ok(Err(kube::Error::Api(status))) if status.code == 404 => true,
            Ok(Err(error)) => {
                tracing::warn!(?object, %error, "status could not be written, trying again");
                false
            }
            Err(_) => {
                tracing::warn!(
                    ?object,
                    "no answer to a status in {PATIENCE:?}, trying again"
                );
                false
            }
        }
    }

    async fn patch<K>(
        &self,
        object: &ObjectRef,
        status: &impl Serialize,
    ) -> Result<Result<(), kube::Error>, Elapsed>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + DeserializeOwned,
    {
        let api = Api::<K>::namespaced(self.watch.client.clone(), &object.namespace);
        let patch = Patch::Merge(json!({"status": status}));
        let parameters = PatchParams::default();
        let answer = api.patch_status(&object.name, &parameters, &patch);
        let answer = timeout(PATIENCE, answer).await?;
        Ok(answer.map(drop))
    }

    /// An event is a courtesy: if it cannot be written, that is logged and nothing else.
    async fn announce(&self, object: &ObjectRef, translated: &Translated) {
        let (type_, reason, note) = match &translated.outcome {
            Outcome::Rejected(reason) => {
                tracing::warn!(?object, %reason, "policy object fails closed");
                (EventType::Warning, "CreatePolicyFailed", reason.to_string())
            }
            _ => (
                EventType::Normal,
                "CreatePolicySuccess",
                format!("generation {} is enforced", translated.generation),
            ),
        };
        // The API takes at most 1 kB.
        let note = note.chars().take(250).collect();
        let event = Event {
            type_,
            reason: reason.to_owned(),
            note: Some(note),
            action: "Reconcile".into(),
            secondary: None,
        };
        let regarding = ObjectReference {
            api_version: Some(format!("{GROUP}/v1alpha1")),
            kind: Some(object.kind.to_owned()),
            namespace: Some(object.namespace.clone()),
            name: Some(object.name.clone()),
            uid: Some(translated.uid.clone()),
            ..Default::default()
        };
        let published = self.recorder.publish(&event, &regarding);
        match timeout(PATIENCE, published).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::debug!(?object, %error, "event could not be written"),
            Err(_) => tracing::debug!(?object, "no answer to an event in {PATIENCE:?}"),
        }
    }
}
