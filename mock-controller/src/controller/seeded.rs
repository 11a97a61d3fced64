//! Seeded faults of what the controller sees of a cluster: what it should have forgotten, and what it should have
//! noticed. Each changes the view that everything else is made from. Pure but for its memory.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    sync::{Mutex, PoisonError},
};

use crate::{
    crd::{FirewallPolicySpec, WebgroupPolicySpec},
    fault::{Fault, Faults},
    policy::{ClusterInventory, InventoryPod, Labels},
    translate::{ClusterObjects, PolicyObject},
};

/// The label that tells the generations of a Deployment's Pods apart.
const TEMPLATE_HASH: &str = "pod-template-hash";

/// Remembers what the faults need of the past of one cluster.
pub(super) struct Seeded {
    faults: Faults,
    memory: Mutex<Memory>,
}

#[derive(Default)]
struct Memory {
    /// Policy objects by uid: as first seen, as last seen, and in which order they came.
    first: BTreeMap<String, PolicyObject<FirewallPolicySpec>>,
    last: BTreeMap<String, PolicyObject<FirewallPolicySpec>>,
    arrivals: BTreeMap<String, u64>,
    first_webgroup_policies: BTreeMap<String, Result<WebgroupPolicySpec, String>>,
    /// Every domain that a WebGroup of an object has had.
    domains: BTreeMap<(String, String), Vec<String>>,
    /// Pods by namespace and name, with all addresses they ever had.
    pods: BTreeMap<(String, String), InventoryPod>,
    /// The labels of the first Pod with an address.
    labels: BTreeMap<IpAddr, Labels>,
    /// The first Pod with the same labels in a namespace.
    holders: BTreeMap<(String, Labels), String>,
}

impl Seeded {
    pub(super) fn new(faults: Faults) -> Self {
        Self {
            faults,
            memory: Mutex::default(),
        }
    }

    /// What the controller takes for the cluster's state.
    pub(super) fn distort(&self, objects: &mut ClusterObjects) {
        let mut memory = self.memory.lock().unwrap_or_else(PoisonError::into_inner);
        memory.note(&objects.firewall_policies);
        objects.arrivals.clone_from(&memory.arrivals);
        for fault in self.faults.iter() {
            match fault {
                Fault::IgnoreUpdates => memory.ignore_updates(objects),
                Fault::AdditionsIgnored => memory.ignore_additions(objects),
                Fault::RemovalsIgnored => memory.ignore_removals(objects),
                Fault::DeletedPolicyEnforced => memory.ignore_deletions(objects),
                Fault::StaleAddressesKept => memory.keep_pods(&mut objects.inventory),
                Fault::AddressReuseInherits => memory.inherit_labels(&mut objects.inventory),
                Fault::ReplacedPodUnseen => memory.overlook_successors(&mut objects.inventory),
                // Realised elsewhere.
                _ => {}
            }
        }
    }
}

impl Memory {
    fn note(&mut self, policies: &[PolicyObject<FirewallPolicySpec>]) {
        for policy in policies {
            let uid = &policy.uid;
            let arrival = self.arrivals.len() as u64;
            self.arrivals.entry(uid.clone()).or_insert(arrival);
            self.first
                .entry(uid.clone())
                .or_insert_with(|| policy.clone());
            self.last.insert(uid.clone(), policy.clone());
        }
    }

    fn ignore_updates(&mut self, objects: &mut ClusterObjects) {
        for policy in &mut objects.firewall_policies {
            policy.spec.clone_from(&self.first[&policy.uid].spec);
        }
        for policy in &mut objects.webgroup_policies {
            let seen = self.first_webgroup_policies.entry(policy.uid.clone());
            policy.spec = seen.or_insert_with(|| policy.spec.clone()).clone();
        }
    }

    fn ignore_additions(&self, objects: &mut ClusterObjects) {
        for policy in &mut objects.firewall_policies {
            let (Ok(spec), Ok(first)) = (&mut policy.spec, &self.first[&policy.uid].spec) else {
                continue;
            };
            for group in &mut spec.web_groups {
                if let Some(first) = first.web_groups.iter().find(|own| own.name == group.name) {
                    group
                        .domains
                        .retain(|domain| first.domains.contains(domain));
                }
            }
        }
    }

    fn ignore_removals(&mut self, objects: &mut ClusterObjects) {
        for policy in &mut objects.firewall_policies {
            let Ok(spec) = &mut policy.spec else { continue };
            for group in &mut spec.web_groups {
                let seen = self
                    .domains
                    .entry((policy.uid.clone(), group.name.clone()))
                    .or_default();
                for domain in &group.domains {
                    if !seen.contains(domain) {
                        seen.push(domain.clone());
                    }
                }
                group.domains.clone_from(seen);
            }
        }
    }

    fn ignore_deletions(&self, objects: &mut ClusterObjects) {
        let present: Vec<_> = objects
            .firewall_policies
            .iter()
            .map(|own| own.uid.clone())
            .collect();
        let gone = self.last.values().filter(|own| !present.contains(&own.uid));
        objects.firewall_policies.extend(gone.cloned());
    }

    fn keep_pods(&mut self, inventory: &mut ClusterInventory) {
        for pod in &inventory.pods {
            let kept = self
                .pods
                .entry((pod.namespace.clone(), pod.name.clone()))
                .or_insert_with(|| pod.clone());
            kept.labels.clone_from(&pod.labels);
            kept.addresses.extend(&pod.addresses);
            kept.addresses.sort_unstable();
            kept.addresses.dedup();
        }
        inventory.pods = self.pods.values().cloned().collect();
    }

    fn inherit_labels(&mut self, inventory: &mut ClusterInventory) {
        for pod in &mut inventory.pods {
            let Some(address) = pod.addresses.first() else {
                continue;
            };
            let first = self.labels.entry(*address);
            pod.labels = first.or_insert_with(|| pod.labels.clone()).clone();
        }
    }

    /// A successor keeps its address and loses its labels: it is a member of nothing that names one.
    fn overlook_successors(&mut self, inventory: &mut ClusterInventory) {
        for pod in &mut inventory.pods {
            let mut labels = pod.labels.clone();
            labels.remove(TEMPLATE_HASH);
            let holder = self
                .holders
                .entry((pod.namespace.clone(), labels))
                .or_insert_with(|| pod.name.clone());
            if *holder != pod.name {
                pod.labels.clear();
            }
        }
    }
}
