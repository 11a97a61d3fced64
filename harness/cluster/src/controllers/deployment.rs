//! Deployments: one ReplicaSet per template, and the way from the old ones to the new one.

mod rollout;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{
    Deployment, DeploymentCondition, DeploymentSpec, DeploymentStatus, ReplicaSet, ReplicaSetSpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Resource as _, ResourceExt as _};
use serde_json::json;

use super::cache::Key;
use super::replica_set::{count, replicas};
use super::{Controllers, Outcome, is_controlled_by, short_hash};
use rollout::{Bounds, Scale};

const HASH_LABEL: &str = "pod-template-hash";
const REVISION: &str = "deployment.kubernetes.io/revision";

impl Controllers {
    pub(super) async fn reconcile_deployment(&mut self, at: &Key) -> Outcome {
        let Some(deployment) = self.deployments.get(at).cloned() else {
            return Ok(None);
        };
        let Some(spec) = deployment
            .spec
            .as_ref()
            .filter(|_| deployment.metadata.deletion_timestamp.is_none())
        else {
            return Ok(None);
        };
        let hash = short_hash(&spec.template, 10);
        if spec.paused != Some(true) {
            self.roll_out(&deployment, spec, &hash).await?;
        }
        let sets = self.sets_of(&deployment);
        let (status, again) = status(&deployment, spec, &hash, &sets, Timestamp::now());
        if deployment.status.as_ref() != Some(&status) {
            let patch = Patch::Merge(json!({ "status": status }));
            let api = Api::<Deployment>::namespaced(self.client.clone(), &at.0);
            let updated = api
                .patch_status(&at.1, &PatchParams::default(), &patch)
                .await?;
            self.deployments.insert(updated);
        }
        Ok(again)
    }

    async fn roll_out(
        &mut self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
        hash: &str,
    ) -> Result<(), kube::Error> {
        let sets = self.sets_of(deployment);
        let latest = sets.iter().map(|set| revision(&**set)).max().unwrap_or(0);
        let (new, old): (Vec<_>, Vec<_>) = sets.into_iter().partition(|set| is_for(set, hash));
        let Some(new) = new.into_iter().next() else {
            let set = replica_set(deployment, spec, hash, latest + 1);
            let api = self.sets(deployment);
            let set = api.create(&PostParams::default(), &set).await?;
            self.observe_own_set(set);
            return self.set_revision(deployment, latest + 1).await;
        };
        if revision(&*new) < latest {
            // An old template is back: it counts as the newest again.
            let patch =
                json!({ "metadata": { "annotations": { REVISION: (latest + 1).to_string() } } });
            self.patch_set(deployment, &new.name_any(), patch).await?;
            self.set_revision(deployment, latest + 1).await?;
        }
        let desired = spec
            .replicas
            .and_then(|replicas| usize::try_from(replicas).ok())
            .unwrap_or(1);
        let scales: Vec<_> = old.iter().map(scale).collect();
        let recreate = spec
            .strategy
            .as_ref()
            .is_some_and(|strategy| strategy.type_.as_deref() == Some("Recreate"));
        let target = if recreate {
            rollout::recreate(
                desired,
                scale(&new),
                &scales,
                old.iter().any(|set| self.has_pods(set)),
            )
        } else {
            rollout::rolling(
                desired,
                Bounds::of(spec.strategy.as_ref(), desired),
                scale(&new),
                &scales,
            )
        };
        for (set, wanted) in std::iter::once(&new)
            .chain(&old)
            .zip(std::iter::once(target.new).chain(target.old))
        {
            if replicas(set) != wanted {
                self.patch_set(
                    deployment,
                    &set.name_any(),
                    json!({ "spec": { "replicas": wanted } }),
                )
                .await?;
            }
        }
        self.clean_up(deployment, spec, old).await
    }

    /// Old ReplicaSets are kept for rollbacks, but not without end.
    async fn clean_up(
        &self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
        mut old: Vec<Arc<ReplicaSet>>,
    ) -> Result<(), kube::Error> {
        let limit = spec
            .revision_history_limit
            .and_then(|limit| usize::try_from(limit).ok())
            .unwrap_or(10);
        old.retain(|set| {
            replicas(set) == 0 && !self.has_pods(set) && set.metadata.deletion_timestamp.is_none()
        });
        old.sort_by_key(|set| revision(&**set));
        for set in old.iter().take(old.len().saturating_sub(limit)) {
            self.sets(deployment)
                .delete(&set.name_any(), &DeleteParams::default())
                .await?;
        }
        Ok(())
    }

    async fn set_revision(
        &mut self,
        deployment: &Deployment,
        revision: u64,
    ) -> Result<(), kube::Error> {
        let patch = Patch::Merge(
            json!({ "metadata": { "annotations": { REVISION: revision.to_string() } } }),
        );
        let api = Api::<Deployment>::namespaced(
            self.client.clone(),
            &deployment.namespace().unwrap_or_default(),
        );
        let updated = api
            .patch(&deployment.name_any(), &PatchParams::default(), &patch)
            .await?;
        self.deployments.insert(updated);
        Ok(())
    }

    async fn patch_set(
        &mut self,
        deployment: &Deployment,
        name: &str,
        patch: serde_json::Value,
    ) -> Result<(), kube::Error> {
        let updated = self
            .sets(deployment)
            .patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await?;
        self.observe_own_set(updated);
        Ok(())
    }

    fn sets(&self, deployment: &Deployment) -> Api<ReplicaSet> {
        Api::namespaced(
            self.client.clone(),
            &deployment.namespace().unwrap_or_default(),
        )
    }

    fn sets_of(&self, deployment: &Deployment) -> Vec<Arc<ReplicaSet>> {
        let namespace = deployment.namespace().unwrap_or_default();
        self.replica_sets
            .within(&namespace)
            .filter(|set| is_controlled_by(&***set, deployment))
            .cloned()
            .collect()
    }

    /// Whether any Pod of the set is left, in whatever state.
    fn has_pods(&self, set: &ReplicaSet) -> bool {
        let namespace = set.namespace().unwrap_or_default();
        self.pods
            .within(&namespace)
            .any(|pod| is_controlled_by(&**pod, set))
    }
}

fn revision<K: kube::Resource>(object: &K) -> u64 {
    let annotations = object.meta().annotations.as_ref();
    annotations
        .and_then(|annotations| annotations.get(REVISION)?.parse().ok())
        .unwrap_or(0)
}

fn is_for(set: &ReplicaSet, hash: &str) -> bool {
    set.labels()
        .get(HASH_LABEL)
        .is_some_and(|label| label == hash)
}

fn scale(set: &Arc<ReplicaSet>) -> Scale {
    let available = set
        .status
        .as_ref()
        .and_then(|status| status.available_replicas)
        .unwrap_or(0);
    Scale {
        wanted: replicas(set),
        available: usize::try_from(available).unwrap_or(0),
    }
}

fn replica_set(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    revision: u64,
) -> ReplicaSet {
    let label = |labels: &mut Option<BTreeMap<String, String>>| {
        labels
            .get_or_insert_default()
            .insert(HASH_LABEL.to_owned(), hash.to_owned());
    };
    let mut template = spec.template.clone();
    label(&mut template.metadata.get_or_insert_default().labels);
    let mut selector = spec.selector.clone();
    label(&mut selector.match_labels);
    let mut annotations = deployment.annotations().clone();
    annotations.remove("kubectl.kubernetes.io/last-applied-configuration");
    annotations.insert(REVISION.to_owned(), revision.to_string());
    ReplicaSet {
        metadata: ObjectMeta {
            name: Some(format!("{}-{hash}", deployment.name_any())),
            namespace: deployment.namespace(),
            labels: template
                .metadata
                .as_ref()
                .and_then(|meta| meta.labels.clone()),
            annotations: Some(annotations),
            owner_references: deployment
                .controller_owner_ref(&())
                .map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(ReplicaSetSpec {
            // The next step scales it up, as far as the strategy allows.
            replicas: Some(0),
            min_ready_seconds: spec.min_ready_seconds,
            selector,
            template: Some(template),
        }),
        status: None,
    }
}

/// The status, and when the progress deadline is due.
fn status(
    deployment: &Deployment,
    spec: &DeploymentSpec,
    hash: &str,
    sets: &[Arc<ReplicaSet>],
    now: Timestamp,
) -> (DeploymentStatus, Option<Duration>) {
    let sum = |of: fn(&ReplicaSet) -> i32| sets.iter().map(|set| of(set)).sum::<i32>();
    let desired = spec.replicas.unwrap_or(1);
    let total = sum(|set| set.status.as_ref().map_or(0, |status| status.replicas));
    let ready = sum(|set| {
        set.status
            .as_ref()
            .and_then(|status| status.ready_replicas)
            .unwrap_or(0)
    });
    let available = sum(|set| {
        set.status
            .as_ref()
            .and_then(|status| status.available_replicas)
            .unwrap_or(0)
    });
    let new = sets.iter().find(|set| is_for(set, hash));
    let updated = new
        .and_then(|set| set.status.as_ref())
        .map_or(0, |status| status.replicas);

    let old = deployment.status.clone().unwrap_or_default();
    let complete = updated == desired && total == desired && available >= desired;
    let floor = Bounds::of(
        spec.strategy.as_ref(),
        usize::try_from(desired).unwrap_or(0),
    )
    .unavailable;
    let enough = available >= desired - count(floor);
    let moved = old.updated_replicas != Some(updated)
        || old.available_replicas != Some(available)
        || old.observed_generation != deployment.metadata.generation;
    let mut conditions = Conditions {
        old: old.conditions.unwrap_or_default(),
        now,
    };
    let availability = if enough {
        conditions.next(
            "Available",
            true,
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
            false,
        )
    } else {
        let message = "Deployment does not have minimum availability.";
        conditions.next(
            "Available",
            false,
            "MinimumReplicasUnavailable",
            message,
            false,
        )
    };
    let (progress, again) = conditions.progress(
        deployment,
        spec,
        new.map(|set| set.name_any()),
        complete,
        moved,
    );
    // Zeros are written out: a merge patch leaves what it does not mention.
    let status = DeploymentStatus {
        observed_generation: deployment.metadata.generation,
        replicas: Some(total),
        updated_replicas: Some(updated),
        ready_replicas: Some(ready),
        available_replicas: Some(available),
        unavailable_replicas: Some((desired.max(total) - available).max(0)),
        conditions: Some(vec![availability, progress]),
        ..DeploymentStatus::default()
    };
    (status, again)
}

/// Builds conditions that keep their times as long as nothing changes.
struct Conditions {
    old: Vec<DeploymentCondition>,
    now: Timestamp,
}

impl Conditions {
    fn next(
        &mut self,
        kind: &str,
        value: bool,
        reason: &str,
        message: &str,
        touch: bool,
    ) -> DeploymentCondition {
        let value = if value { "True" } else { "False" };
        let old = self.old.iter().find(|condition| condition.type_ == kind);
        let same = old.filter(|old| old.status == value);
        let untouched = same.filter(|old| old.reason.as_deref() == Some(reason) && !touch);
        let now = || Some(Time(self.now));
        DeploymentCondition {
            type_: kind.to_owned(),
            status: value.to_owned(),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            last_transition_time: same.map_or_else(now, |old| old.last_transition_time.clone()),
            last_update_time: untouched.map_or_else(now, |old| old.last_update_time.clone()),
        }
    }

    /// Progress is any movement; without it, the deadline runs.
    fn progress(
        &mut self,
        deployment: &Deployment,
        spec: &DeploymentSpec,
        set: Option<String>,
        complete: bool,
        moved: bool,
    ) -> (DeploymentCondition, Option<Duration>) {
        let subject = set.map_or_else(
            || format!("Deployment \"{}\"", deployment.name_any()),
            |set| format!("ReplicaSet \"{set}\""),
        );
        if complete {
            let message = format!("{subject} has successfully progressed.");
            return (
                self.next(
                    "Progressing",
                    true,
                    "NewReplicaSetAvailable",
                    &message,
                    false,
                ),
                None,
            );
        }
        let deadline = Duration::from_secs(
            spec.progress_deadline_seconds
                .and_then(|seconds| u64::try_from(seconds).ok())
                .unwrap_or(600),
        );
        let old = self
            .old
            .iter()
            .find(|condition| condition.type_ == "Progressing");
        let since =
            old.filter(|old| !moved && old.reason.as_deref() != Some("NewReplicaSetAvailable"));
        let since = since
            .and_then(|old| old.last_update_time.as_ref())
            .map_or(self.now, |time| time.0);
        let idle = Duration::try_from(self.now.duration_since(since)).unwrap_or_default();
        let expired = old
            .is_some_and(|old| old.reason.as_deref() == Some("ProgressDeadlineExceeded"))
            && !moved;
        match deadline.checked_sub(idle) {
            Some(left) if !left.is_zero() && !expired => {
                let message = format!("{subject} is progressing.");
                (
                    self.next("Progressing", true, "ReplicaSetUpdated", &message, moved),
                    Some(left),
                )
            }
            _ => {
                let message = format!("{subject} has timed out progressing.");
                (
                    self.next(
                        "Progressing",
                        false,
                        "ProgressDeadlineExceeded",
                        &message,
                        false,
                    ),
                    None,
                )
            }
        }
    }
}
