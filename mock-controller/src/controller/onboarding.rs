//! The clusters that are watched at the moment: follows what the store says is registered, and remembers what each
//! showed last.
//!
//! Faithful (`reference/aviatrix-dcf.md` section 1.3): what a policy object became goes when its deletion is seen on a
//! cluster that can be reached, and stays otherwise, also over a restart of the controller.

use std::{collections::BTreeMap, sync::Arc};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::{Controller, cluster::ClusterWatch, status::Statuses};
use crate::{
    fault::Fault,
    store::clusters::{Credential, KubernetesCluster, KubernetesClusters},
    translate::{ClusterObjects, Translation},
};

#[derive(Default)]
pub(super) struct Onboarded {
    /// By the controller's own id.
    entries: BTreeMap<String, Entry>,
    /// What the clusters showed last, by the name that SmartGroups have for each.
    shown: BTreeMap<String, ClusterObjects>,
}

struct Entry {
    registered: KubernetesCluster,
    /// Absent: no client could be made.
    watched: Option<(Arc<ClusterWatch>, Statuses)>,
}

impl Onboarded {
    /// Watches what is registered and nothing else. One that is registered anew is watched anew.
    pub(super) async fn follow(
        &mut self,
        controller: &Arc<Controller>,
        registered: KubernetesClusters,
    ) {
        self.entries
            .retain(|id, entry| registered.get(id) == Some(&entry.registered));
        self.shown.retain(|name, shown| {
            let mut names = registered.values().map(|cluster| &cluster.cluster_id);
            let orphaned = !names.any(|known| known == name);
            !orphaned || (controller.config.switches.orphans_stay && shown.has_policies())
        });
        for (id, cluster) in registered {
            if self.entries.contains_key(&id)
                || controller.config.faults.has(Fault::ClusterNotOnboarded)
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
                    Some((Arc::clone(&watch), Statuses::keep(watch)))
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
            self.entries.insert(id, entry);
        }
    }

    /// Watches everything anew; what was shown before counts until it is shown again.
    pub(super) fn restart(&mut self) {
        self.entries.clear();
    }

    /// What the clusters show, by the name that SmartGroups have for each.
    pub(super) fn objects(&mut self) -> &BTreeMap<String, ClusterObjects> {
        for (watch, _) in self
            .entries
            .values()
            .filter_map(|entry| entry.watched.as_ref())
        {
            if watch.is_settled() {
                self.shown.insert(watch.cluster_id.clone(), watch.objects());
            }
        }
        &self.shown
    }

    /// Has the statuses of each cluster's objects say what is enforced.
    pub(super) fn set_status(&self, translation: &Arc<Translation>) {
        for (_, statuses) in self
            .entries
            .values()
            .filter_map(|entry| entry.watched.as_ref())
        {
            statuses.set(Arc::clone(translation));
        }
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
