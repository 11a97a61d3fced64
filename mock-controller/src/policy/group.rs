//! SmartGroups: sets of addresses, by block, by Kubernetes identity, or by reference to other groups.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use serde::Serialize;
use uuid::Uuid;

use super::{
    address::{AddressSet, Cidr},
    inventory::{ClusterInventory, Inventory, Labels, selects},
};

/// The system group Anywhere, 0.0.0.0/0.
pub const ANYWHERE: Uuid = Uuid::from_u128(0xdef0_00ad_0000_0000_0000_0000_0000_0000);
/// The system group Public Internet: every IPv4 address outside RFC 1918.
pub const PUBLIC_INTERNET: Uuid = Uuid::from_u128(0xdef0_00ad_0000_0000_0000_0000_0000_0001);

/// A named set of addresses: the union of its selectors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SmartGroup {
    pub uuid: Uuid,
    pub name: String,
    pub selectors: Vec<Selector>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Selector {
    Cidr(Cidr),
    Kubernetes(KubernetesSelector),
    /// The members of another group.
    Group(Uuid),
    /// Every IPv4 address outside RFC 1918; only the system group uses it.
    PublicInternet,
}

/// Pods by identity. All given parts must hold; none given selects every pod of every cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct KubernetesSelector {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub namespace_labels: Labels,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod: Option<String>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: Labels,
}

impl SmartGroup {
    /// The groups every controller has.
    pub fn system() -> [Self; 2] {
        let everything =
            Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 0).expect("invariant: 0 is a prefix length");
        [
            Self {
                uuid: ANYWHERE,
                name: "Anywhere (0.0.0.0/0)".into(),
                selectors: vec![Selector::Cidr(everything)],
            },
            Self {
                uuid: PUBLIC_INTERNET,
                name: "Public Internet".into(),
                selectors: vec![Selector::PublicInternet],
            },
        ]
    }

    /// The group's members now. A reference to a group that is not in `groups`, or to one that is being resolved
    /// already, adds nothing.
    pub fn resolve(&self, groups: &BTreeMap<Uuid, Arc<Self>>, inventory: &Inventory) -> AddressSet {
        let mut ranges = Vec::new();
        let mut seen = BTreeSet::new();
        let mut pending = vec![self];
        while let Some(group) = pending.pop() {
            if seen.insert(group.uuid) {
                ranges.extend(group.own_ranges(inventory));
                let nested = group
                    .selectors
                    .iter()
                    .filter_map(|selector| match selector {
                        Selector::Group(uuid) => groups.get(uuid),
                        _ => None,
                    });
                pending.extend(nested.map(|group| &**group));
            }
        }
        AddressSet::from_ranges(ranges)
    }

    /// What the group's own selectors select now, the groups that it nests left out.
    pub(super) fn own_ranges(&self, inventory: &Inventory) -> Vec<(IpAddr, IpAddr)> {
        let mut ranges = Vec::with_capacity(self.selectors.len());
        for selector in &self.selectors {
            match selector {
                Selector::Cidr(block) => ranges.push(block.range()),
                Selector::PublicInternet => ranges.extend(public_internet()),
                Selector::Kubernetes(selector) => {
                    let addresses = selector.addresses(inventory);
                    ranges.extend(addresses.map(|address| (address, address)));
                }
                Selector::Group(_) => {}
            }
        }
        ranges
    }
}

impl KubernetesSelector {
    fn addresses<'a>(&'a self, inventory: &'a Inventory) -> impl Iterator<Item = IpAddr> + 'a {
        inventory
            .clusters
            .iter()
            .filter(|(id, _)| self.cluster.as_ref().is_none_or(|wanted| wanted == *id))
            .flat_map(|(_, cluster)| match &self.service {
                Some(service) => self.service_addresses(service, cluster),
                None => self.pod_addresses(&Labels::new(), None, cluster),
            })
    }

    fn service_addresses(&self, name: &str, cluster: &ClusterInventory) -> Vec<IpAddr> {
        let services = cluster.services.iter().filter(|service| {
            service.name == name && self.in_namespace(&service.namespace, cluster)
        });
        let mut addresses = Vec::new();
        for service in services {
            addresses.extend(&service.external_addresses);
            // A Service without a selector has endpoints that somebody else maintains.
            if !service.selector.is_empty() {
                addresses.extend(self.pod_addresses(
                    &service.selector,
                    Some(&service.namespace),
                    cluster,
                ));
            }
        }
        addresses
    }

    fn pod_addresses(
        &self,
        also: &Labels,
        namespace: Option<&str>,
        cluster: &ClusterInventory,
    ) -> Vec<IpAddr> {
        cluster
            .pods
            .iter()
            .filter(|pod| namespace.is_none_or(|namespace| namespace == pod.namespace))
            .filter(|pod| self.in_namespace(&pod.namespace, cluster))
            .filter(|pod| self.pod.as_ref().is_none_or(|wanted| *wanted == pod.name))
            .filter(|pod| selects(&self.labels, &pod.labels) && selects(also, &pod.labels))
            .flat_map(|pod| pod.addresses.iter().copied())
            .collect()
    }

    fn in_namespace(&self, namespace: &str, cluster: &ClusterInventory) -> bool {
        let none = Labels::new();
        self.namespace
            .as_ref()
            .is_none_or(|wanted| wanted == namespace)
            && selects(
                &self.namespace_labels,
                cluster.namespaces.get(namespace).unwrap_or(&none),
            )
    }
}

/// What RFC 1918 leaves of IPv4.
fn public_internet() -> impl Iterator<Item = (IpAddr, IpAddr)> {
    [
        ([0, 0, 0, 0], [9, 255, 255, 255]),
        ([11, 0, 0, 0], [172, 15, 255, 255]),
        ([172, 32, 0, 0], [192, 167, 255, 255]),
        ([192, 169, 0, 0], [255, 255, 255, 255]),
    ]
    .into_iter()
    .map(|(first, last)| (first.into(), last.into()))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use rstest::rstest;

    use super::{
        super::inventory::{InventoryPod, InventoryService},
        *,
    };

    fn labels(pairs: &[(&str, &str)]) -> Labels {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    }

    fn pod(namespace: &str, name: &str, pairs: &[(&str, &str)], address: &str) -> InventoryPod {
        InventoryPod {
            namespace: namespace.into(),
            name: name.into(),
            labels: labels(pairs),
            addresses: vec![address.parse().unwrap()],
        }
    }

    fn inventory() -> Inventory {
        let cluster = ClusterInventory {
            namespaces: BTreeMap::from([
                ("mcp".into(), labels(&[("team", "care")])),
                ("dev".into(), Labels::new()),
            ]),
            pods: vec![
                pod("mcp", "ehr-1", &[("app", "ehr"), ("v", "1")], "10.244.0.10"),
                pod("mcp", "crm-1", &[("app", "crm")], "10.244.0.11"),
                pod("dev", "ehr-1", &[("app", "ehr")], "10.244.0.12"),
            ],
            services: vec![InventoryService {
                namespace: "mcp".into(),
                name: "ehr".into(),
                selector: labels(&[("app", "ehr")]),
                external_addresses: vec!["198.51.100.9".parse().unwrap()],
            }],
        };
        Inventory {
            clusters: BTreeMap::from([("c1".into(), cluster)]),
        }
    }

    fn select(change: impl FnOnce(&mut KubernetesSelector)) -> KubernetesSelector {
        let mut selector = KubernetesSelector::default();
        change(&mut selector);
        selector
    }

    #[rstest]
    #[case::everything(select(|_| ()), &[10, 11, 12])]
    #[case::other_cluster(select(|s| s.cluster = Some("c2".into())), &[])]
    #[case::namespace(select(|s| s.namespace = Some("mcp".into())), &[10, 11])]
    #[case::labels(select(|s| s.labels = labels(&[("app", "ehr")])), &[10, 12])]
    #[case::all_labels(select(|s| s.labels = labels(&[("app", "ehr"), ("v", "1")])), &[10])]
    #[case::label_value(select(|s| s.labels = labels(&[("v", "2")])), &[])]
    #[case::namespace_labels(select(|s| s.namespace_labels = labels(&[("team", "care")])), &[10, 11])]
    #[case::pod_name(select(|s| s.pod = Some("ehr-1".into())), &[10, 12])]
    fn kubernetes_selectors(#[case] selector: KubernetesSelector, #[case] expected: &[u8]) {
        let group = SmartGroup {
            uuid: Uuid::nil(),
            name: "g".into(),
            selectors: vec![Selector::Kubernetes(selector)],
        };
        let members = group.resolve(&BTreeMap::new(), &inventory());
        for last in 10..=12u8 {
            assert_eq!(
                members.contains([10, 244, 0, last].into()),
                expected.contains(&last),
                "10.244.0.{last}"
            );
        }
    }

    #[test]
    fn a_service_is_its_pods_in_its_namespace_and_its_load_balancer() {
        let selector = select(|s| s.service = Some("ehr".into()));
        let addresses: Vec<_> = selector
            .addresses(&inventory())
            .map(|a| a.to_string())
            .collect();
        assert_eq!(addresses, ["198.51.100.9", "10.244.0.10"]);
    }

    #[test]
    fn groups_nest_and_a_cycle_ends() {
        let (a, b) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let block = |text: &str| Selector::Cidr(text.parse().unwrap());
        let groups = BTreeMap::from([
            (
                a,
                Arc::new(SmartGroup {
                    uuid: a,
                    name: "a".into(),
                    selectors: vec![block("10.0.0.0/8"), Selector::Group(b)],
                }),
            ),
            (
                b,
                Arc::new(SmartGroup {
                    uuid: b,
                    name: "b".into(),
                    selectors: vec![block("192.0.2.0/24"), Selector::Group(a)],
                }),
            ),
        ]);
        let members = groups[&a].resolve(&groups, &Inventory::default());
        assert_eq!(members, groups[&b].resolve(&groups, &Inventory::default()));
        assert!(members.contains([10, 1, 1, 1].into()) && members.contains([192, 0, 2, 1].into()));
    }

    #[rstest]
    #[case("10.0.0.1", false)]
    #[case("172.16.0.1", false)]
    #[case("172.31.255.255", false)]
    #[case("172.32.0.0", true)]
    #[case("192.168.1.1", false)]
    #[case("192.0.2.1", true)]
    #[case("8.8.8.8", true)]
    fn public_internet_leaves_out_private_ranges(#[case] address: IpAddr, #[case] expected: bool) {
        let [anywhere, public] = SmartGroup::system();
        assert_eq!(
            public
                .resolve(&BTreeMap::new(), &Inventory::default())
                .contains(address),
            expected
        );
        assert!(
            anywhere
                .resolve(&BTreeMap::new(), &Inventory::default())
                .contains(address)
        );
    }
}
