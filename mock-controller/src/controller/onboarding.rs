//! The clusters that are watched at the moment: follows what the store says is registered.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{Controller, cluster::ClusterWatch, status::StatusWriter};
use crate::{
    fault::Fault,
    store::clusters::{Credential, KubernetesCluster, KubernetesClusters},
    translate::{ClusterObjects, Translation},
};

/// How long a push waits for the first lists of a cluster. One that answers later is taken in with its next change.
const FIRST_LISTS: Duration = Duration::from_secs(5);

/// By the controller's own id.
#[derive(Default)]
pub(super) struct Onboarded(BTreeMap<String, Entry>);

struct Entry {
    registered: KubernetesCluster,
    /// Absent: no client could be made.
    watched: Option<(Arc<ClusterWatch>, StatusWriter)>,
}

impl Onboarded {
    /// Watches what is registered and nothing else. One that is registered anew is watched anew.
    pub(super) async fn follow(
        &mut self,
        controller: &Arc<Controller>,
        registered: KubernetesClusters,
    ) {
        self.0
            .retain(|id, entry| registered.get(id) == Some(&entry.registered));
        let mut settled = Vec::new();
        for (id, cluster) in registered {
            if self.0.contains_key(&id) || controller.config.faults.has(Fault::ClusterNotOnboarded)
            {
                continue;
            }
            let watched = match client(controller, &cluster).await {
                Ok(client) => {
                    let notify = Arc::clone(controller);
                    let watch = Arc::new(ClusterWatch::start(
                        cluster.cluster_id.clone(),
                        client,
                        &controller.config.faults,
                        move || notify.notify(),
                    ));
                    settled.push(Arc::clone(&watch));
                    Some((Arc::clone(&watch), StatusWriter::new(watch)))
                }
                Err(reason) => {
                    tracing::warn!(cluster = cluster.cluster_id, reason, "not onboarded");
                    None
                }
            };
            let entry = Entry {
                registered: cluster,
                watched,
            };
            self.0.insert(id, entry);
        }
        let settled = join_all(settled.iter().map(|watch| watch.settled()));
        let _ = tokio::time::timeout(FIRST_LISTS, settled).await;
    }

    /// What the clusters show, by the name that SmartGroups have for each.
    pub(super) fn objects(&self) -> BTreeMap<String, ClusterObjects> {
        let watched = self.0.values().filter_map(|entry| entry.watched.as_ref());
        watched
            .map(|(watch, _)| (watch.cluster_id.clone(), watch.objects()))
            .collect()
    }

    /// False if a write failed and must be tried again.
    pub(super) async fn write_status(&mut self, translation: &Translation) -> bool {
        let writers = self
            .0
            .values_mut()
            .filter_map(|entry| entry.watched.as_mut());
        let written = join_all(writers.map(|(_, status)| status.write(translation))).await;
        written.into_iter().all(|written| written)
    }
}

async fn client(controller: &Controller, cluster: &KubernetesCluster) -> Result<Client, String> {
    let text = match &cluster.credential {
        Credential::KubeConfig(text) => text,
        Credential::Missing => {
            return Err("it was registered without credentials".to_owned());
        }
        Credential::Cloud => {
            let known = controller.config.cloud_clients.get(&cluster.cluster_id);
            return known.cloned().ok_or_else(|| {
                "the cloud account's credentials lead to no cluster of this id".to_owned()
            });
        }
    };
    let kubeconfig = Kubeconfig::from_yaml(text).map_err(|error| error.to_string())?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
        .await
        .map_err(|error| error.to_string())?;
    Client::try_from(config).map_err(|error| error.to_string())
}
