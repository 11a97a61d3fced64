//! NetworkPolicies as addresses and ports. Pure: objects in, [`PolicyTable`] out.
//!
//! Source: Kubernetes API reference, networking.k8s.io/v1 NetworkPolicy. Left to implementations there, and
//! chosen here: an `ipBlock` also matches addresses of pods; a named port that no pod has matches nothing.
//! Pods on the host network are neither selected nor peers: their address is the node's.

use std::borrow::Borrow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Namespace, Pod};
use k8s_openapi::api::networking::v1::{
    IPBlock, NetworkPolicy, NetworkPolicyPeer, NetworkPolicyPort, NetworkPolicySpec,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use kube::core::{Selector, SelectorExt};

use super::services::protocol;
use crate::fabric::packet::Protocol;
use crate::node_stage::policy::{
    Cidr, Isolation, Peer, Peers, PodPolicy, PolicyTable, Ports, Rule,
};

pub fn compile(
    policies: &[impl Borrow<NetworkPolicy>],
    pods: &[impl Borrow<Pod>],
    namespaces: &[impl Borrow<Namespace>],
) -> PolicyTable {
    let cluster = View::new(pods, namespaces);
    let mut policies: Vec<&NetworkPolicy> = policies.iter().map(Borrow::borrow).collect();
    policies.sort_by_key(|policy| (&policy.metadata.namespace, &policy.metadata.name));
    let mut table = PolicyTable::default();
    for policy in policies {
        let (Some(spec), Some(namespace)) = (&policy.spec, &policy.metadata.namespace) else {
            continue;
        };
        let name = format!(
            "{namespace}/{}",
            policy.metadata.name.as_deref().unwrap_or_default()
        );
        let selected = cluster.pods_in(namespace, spec.pod_selector.as_ref());
        for pod in selected {
            for address in &pod.addresses {
                let entry = table.0.entry(*address).or_default();
                isolate(entry, spec, &name, namespace, pod, &cluster);
            }
        }
    }
    table
}

fn isolate(
    entry: &mut PodPolicy,
    spec: &NetworkPolicySpec,
    name: &str,
    namespace: &str,
    pod: &PodView<'_>,
    cluster: &View<'_>,
) {
    if covers(spec, "Ingress") {
        let isolation = entry.ingress.get_or_insert_default();
        isolation.policies.push(name.to_owned());
        for rule in spec.ingress.iter().flatten() {
            // A named port is one of the pod that receives, which is this one.
            isolation.rules.push(Rule {
                peers: cluster.peers(namespace, rule.from.as_deref()),
                ports: ports(rule.ports.as_deref(), Some(pod)),
            });
        }
    }
    if covers(spec, "Egress") {
        let isolation = entry.egress.get_or_insert_default();
        isolation.policies.push(name.to_owned());
        for rule in spec.egress.iter().flatten() {
            let (to, listed) = (rule.to.as_deref(), rule.ports.as_deref());
            let peers = cluster.peers(namespace, to);
            add_named_egress(isolation, &peers, listed, cluster);
            isolation.rules.push(Rule {
                peers,
                ports: ports(listed, None),
            });
        }
    }
}

/// "If policyTypes is not specified, it will default based on the existence of ingress or egress rules":
/// Ingress always, Egress only with egress rules.
fn covers(spec: &NetworkPolicySpec, direction: &str) -> bool {
    match spec.policy_types.as_deref() {
        None | Some([]) => {
            direction == "Ingress" || spec.egress.as_ref().is_some_and(|rules| !rules.is_empty())
        }
        Some(types) => types.iter().any(|listed| listed == direction),
    }
}

/// A named port of an egress rule is another number for every peer: one rule per peer that has it.
fn add_named_egress(
    isolation: &mut Isolation,
    peers: &Peers,
    listed: Option<&[NetworkPolicyPort]>,
    cluster: &View<'_>,
) {
    let named: Vec<NetworkPolicyPort> = listed
        .into_iter()
        .flatten()
        .filter(|port| matches!(port.port, Some(IntOrString::String(_))))
        .cloned()
        .collect();
    if named.is_empty() {
        return;
    }
    for pod in &cluster.pods {
        let listed: BTreeSet<IpAddr> = pod
            .addresses
            .iter()
            .copied()
            .filter(|address| peers.contains(*address))
            .collect();
        if !listed.is_empty()
            && let Ports::Listed(ports) = ports(Some(&named), Some(pod))
            && !ports.is_empty()
        {
            isolation.rules.push(Rule {
                peers: Peers::Listed(vec![Peer::Pods(listed)]),
                ports: Ports::Listed(ports),
            });
        }
    }
}

/// Ports of a rule; named ones as `receiver` has them, without a receiver they are left out.
fn ports(listed: Option<&[NetworkPolicyPort]>, receiver: Option<&PodView<'_>>) -> Ports {
    let Some(listed) = listed.filter(|ports| !ports.is_empty()) else {
        return Ports::Any;
    };
    let ranges = listed.iter().flat_map(|port| {
        let protocol = protocol(port.protocol.as_deref());
        let last = |first| {
            port.end_port
                .and_then(|port| u16::try_from(port).ok())
                .unwrap_or(first)
        };
        let numbers: Vec<_> = match &port.port {
            None => vec![0..=u16::MAX],
            Some(IntOrString::Int(number)) => {
                let number = u16::try_from(*number).ok();
                number
                    .map(|first| first..=last(first))
                    .into_iter()
                    .collect()
            }
            Some(IntOrString::String(name)) => {
                let numbers = receiver
                    .map(|pod| pod.ports_named(name, protocol))
                    .unwrap_or_default();
                numbers.into_iter().map(|number| number..=number).collect()
            }
        };
        numbers.into_iter().map(move |range| (protocol, range))
    });
    Ports::Listed(ranges.collect())
}

/// The pods that policies can see, with what selectors ask about.
struct View<'a> {
    pods: Vec<PodView<'a>>,
    namespaces: BTreeMap<&'a str, &'a Namespace>,
}

struct PodView<'a> {
    /// Of both families, where the cluster is dual-stack.
    addresses: Vec<IpAddr>,
    namespace: &'a str,
    pod: &'a Pod,
}

impl<'a> View<'a> {
    fn new(pods: &'a [impl Borrow<Pod>], namespaces: &'a [impl Borrow<Namespace>]) -> Self {
        let namespaces = namespaces.iter().map(Borrow::borrow);
        Self {
            pods: pods
                .iter()
                .map(Borrow::borrow)
                .filter_map(PodView::new)
                .collect(),
            namespaces: namespaces
                .filter_map(|namespace| Some((namespace.metadata.name.as_deref()?, namespace)))
                .collect(),
        }
    }

    fn pods_in(
        &self,
        namespace: &str,
        selector: Option<&LabelSelector>,
    ) -> impl Iterator<Item = &PodView<'a>> {
        let selector = Matcher::new(selector);
        self.pods.iter().filter(move |pod| {
            pod.namespace == namespace && selector.matches(pod.pod.metadata.labels.as_ref())
        })
    }

    fn peers(&self, namespace: &str, listed: Option<&[NetworkPolicyPeer]>) -> Peers {
        match listed.filter(|peers| !peers.is_empty()) {
            None => Peers::Any,
            Some(listed) => Peers::Listed(
                listed
                    .iter()
                    .filter_map(|peer| self.peer(namespace, peer))
                    .collect(),
            ),
        }
    }

    fn peer(&self, namespace: &str, peer: &NetworkPolicyPeer) -> Option<Peer> {
        if let Some(block) = &peer.ip_block {
            return block_of(block);
        }
        let (in_namespace, selector) = (
            peer.namespace_selector
                .as_ref()
                .map(|selector| Matcher::new(Some(selector))),
            Matcher::new(peer.pod_selector.as_ref()),
        );
        let addresses = self.pods.iter().filter(|pod| {
            let namespace_matches = match &in_namespace {
                None => pod.namespace == namespace,
                Some(matcher) => matcher.matches(self.labels_of_namespace(pod.namespace)),
            };
            namespace_matches && selector.matches(pod.pod.metadata.labels.as_ref())
        });
        Some(Peer::Pods(
            addresses
                .flat_map(|pod| pod.addresses.iter().copied())
                .collect(),
        ))
    }

    fn labels_of_namespace(&self, name: &str) -> Option<&BTreeMap<String, String>> {
        self.namespaces.get(name)?.metadata.labels.as_ref()
    }
}

impl<'a> PodView<'a> {
    fn new(pod: &'a Pod) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let over = matches!(status.phase.as_deref(), Some("Succeeded" | "Failed"));
        let host_network = pod.spec.as_ref().and_then(|spec| spec.host_network) == Some(true);
        if over || host_network {
            return None;
        }
        let listed = status.pod_ips.iter().flatten().map(|listed| &listed.ip);
        let mut addresses: Vec<IpAddr> = listed
            .chain(&status.pod_ip)
            .filter_map(|address| address.parse().ok())
            .collect();
        addresses.sort_unstable();
        addresses.dedup();
        if addresses.is_empty() {
            return None;
        }
        Some(Self {
            addresses,
            namespace: pod.metadata.namespace.as_deref()?,
            pod,
        })
    }

    fn ports_named(&self, name: &str, wanted: Protocol) -> Vec<u16> {
        let containers = self.pod.spec.iter().flat_map(|spec| &spec.containers);
        containers
            .flat_map(|container| container.ports.iter().flatten())
            .filter(|port| {
                port.name.as_deref() == Some(name) && protocol(port.protocol.as_deref()) == wanted
            })
            .filter_map(|port| u16::try_from(port.container_port).ok())
            .collect()
    }
}

/// A label selector. An absent one selects everything; one that cannot be read selects nothing.
struct Matcher(Option<Selector>);

impl Matcher {
    fn new(selector: Option<&LabelSelector>) -> Self {
        let parsed = Selector::try_from(selector.cloned().unwrap_or_default());
        Self(
            parsed
                .inspect_err(
                    |error| tracing::warn!(%error, "a NetworkPolicy's selector is invalid"),
                )
                .ok(),
        )
    }

    fn matches(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        let none = BTreeMap::new();
        self.0
            .as_ref()
            .is_some_and(|selector| selector.matches(labels.unwrap_or(&none)))
    }
}

/// None for what is no CIDR: it allows nothing.
fn block_of(block: &IPBlock) -> Option<Peer> {
    Some(Peer::Block {
        cidr: block.cidr.parse().ok()?,
        except: block
            .except
            .iter()
            .flatten()
            .filter_map(|hole| hole.parse::<Cidr>().ok())
            .collect(),
    })
}

#[cfg(test)]
mod tests;
