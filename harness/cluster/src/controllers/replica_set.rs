//! ReplicaSets: as many Pods of a template as asked for.

use std::cmp::Reverse;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::cache::{Key, key};
use super::{Controllers, Outcome, is_controlled_by, is_finished, ready_since};

/// Pods created or deleted in one step; the next event brings the rest. Keeps one huge set from starving the others.
const BURST: usize = 100;

impl Controllers {
    pub(super) async fn reconcile_replica_set(&mut self, at: &Key) -> Outcome {
        let Some(set) = self.replica_sets.get(at).cloned() else {
            return Ok(None);
        };
        if set.metadata.deletion_timestamp.is_none() {
            self.scale(&set).await?;
        }
        let (status, again) = self.replica_set_status(&set, Timestamp::now());
        if set.status.as_ref() != Some(&status) {
            let patch = Patch::Merge(json!({ "status": status }));
            let api = Api::<ReplicaSet>::namespaced(self.client.clone(), &at.0);
            let updated = api
                .patch_status(&at.1, &PatchParams::default(), &patch)
                .await?;
            self.observe_own_set(updated);
        }
        Ok(again)
    }

    async fn scale(&mut self, set: &ReplicaSet) -> Result<(), kube::Error> {
        let namespace = set.namespace().unwrap_or_default();
        let api = Api::<Pod>::namespaced(self.client.clone(), &namespace);
        let wanted = replicas(set);
        let mut active = self.active_pods(set);
        let missing = wanted.saturating_sub(active.len()).min(BURST);
        for _ in 0..missing {
            let pod = api.create(&PostParams::default(), &pod_of(set)).await?;
            self.touch_pod(&pod);
            self.pods.insert(pod);
        }
        let surplus = active.len().saturating_sub(wanted).min(BURST);
        active.sort_by_key(|pod| expendability(pod));
        for pod in active.iter().take(surplus) {
            if let Some(pod) = api
                .delete(&pod.name_any(), &DeleteParams::default())
                .await?
                .left()
            {
                self.touch_pod(&pod);
                self.pods.insert(pod);
            }
        }
        Ok(())
    }

    fn active_pods(&self, set: &ReplicaSet) -> Vec<Arc<Pod>> {
        let namespace = set.namespace().unwrap_or_default();
        let ours = self
            .pods
            .within(&namespace)
            .filter(|pod| is_controlled_by(&***pod, set));
        ours.filter(|pod| pod.metadata.deletion_timestamp.is_none() && !is_finished(pod))
            .cloned()
            .collect()
    }

    /// The status, and when a ready Pod becomes available.
    fn replica_set_status(
        &self,
        set: &ReplicaSet,
        now: Timestamp,
    ) -> (ReplicaSetStatus, Option<Duration>) {
        let active = self.active_pods(set);
        let needed = set
            .spec
            .as_ref()
            .and_then(|spec| spec.min_ready_seconds)
            .unwrap_or(0);
        let needed = Duration::from_secs(u64::try_from(needed).unwrap_or(0));
        let (mut ready, mut available, mut again) = (0, 0, None::<Duration>);
        for since in active.iter().filter_map(|pod| ready_since(pod)) {
            ready += 1;
            let age = Duration::try_from(now.duration_since(since)).unwrap_or_default();
            match needed.checked_sub(age) {
                Some(left) if !left.is_zero() => {
                    again = Some(again.map_or(left, |again| again.min(left)))
                }
                _ => available += 1,
            }
        }
        let count = count(active.len());
        let status = ReplicaSetStatus {
            replicas: count,
            // Zeros are written out: a merge patch leaves what it does not mention.
            fully_labeled_replicas: Some(count),
            ready_replicas: Some(ready),
            available_replicas: Some(available),
            observed_generation: set.metadata.generation,
            ..ReplicaSetStatus::default()
        };
        (status, again)
    }

    pub(super) fn observe_own_set(&mut self, set: ReplicaSet) {
        self.queue
            .extend(super::owner(&set, "Deployment").map(super::Task::Deployment));
        self.queue.insert(super::Task::ReplicaSet(key(&set)));
        self.replica_sets.insert(set);
    }
}

pub(super) fn replicas(set: &ReplicaSet) -> usize {
    let replicas = set
        .spec
        .as_ref()
        .and_then(|spec| spec.replicas)
        .unwrap_or(1);
    usize::try_from(replicas).unwrap_or(0)
}

pub(super) fn count(count: usize) -> i32 {
    i32::try_from(count).unwrap_or(i32::MAX)
}

/// Pods that go first when there are too many: without address, not ready, youngest.
fn expendability(pod: &Pod) -> (bool, bool, Reverse<Option<Timestamp>>, String) {
    let has_address = pod
        .status
        .as_ref()
        .is_some_and(|status| status.pod_ip.is_some());
    let created = pod.metadata.creation_timestamp.as_ref().map(|time| time.0);
    (
        has_address,
        ready_since(pod).is_some(),
        Reverse(created),
        pod.name_any(),
    )
}

fn pod_of(set: &ReplicaSet) -> Pod {
    let template = set
        .spec
        .as_ref()
        .and_then(|spec| spec.template.clone())
        .unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{}-", set.name_any())),
            namespace: set.namespace(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            owner_references: set.controller_owner_ref(&()).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}
