#![allow(clippy::unwrap_used)]

use super::*;
use crate::fabric::packet::Tuple;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};

const fn v4(a: u8, b: u8, c: u8, d: u8) -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::new(a, b, c, d))
}

const OUTSIDE: IpAddr = v4(198, 51, 100, 10);
const OBOT: IpAddr = v4(10, 244, 0, 20);
const SERVER: IpAddr = v4(10, 244, 0, 21);
const OTHER: IpAddr = v4(10, 244, 0, 22);
const DNS: IpAddr = v4(10, 244, 0, 2);

fn of<T: serde::de::DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).unwrap()
}

fn pod(namespace: &str, labels: Value, address: IpAddr) -> Pod {
    of(json!({
        "metadata": {"name": format!("p-{address}"), "namespace": namespace, "labels": labels},
        "spec": {"containers": [{"name": "c", "ports": [
            {"name": "mcp", "containerPort": 8000 + u16::from(last_octet(address))}]}]},
        "status": {"podIP": address, "phase": "Running"}
    }))
}

fn last_octet(address: IpAddr) -> u8 {
    match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(address) => address.octets()[15],
    }
}

fn pods() -> Vec<Pod> {
    vec![
        pod("obot", json!({"app": "obot"}), OBOT),
        pod("mcp", json!({"app": "server"}), SERVER),
        pod("mcp", json!({"app": "other"}), OTHER),
        pod("kube-system", json!({"k8s-app": "kube-dns"}), DNS),
    ]
}

fn namespaces() -> Vec<Namespace> {
    ["obot", "mcp", "kube-system"]
        .map(|name| {
            of(json!({"metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}}}))
        })
        .into()
}

fn policy(spec: Value) -> NetworkPolicy {
    of(json!({"metadata": {"name": "p", "namespace": "mcp"}, "spec": spec}))
}

fn flow(source: IpAddr, destination: IpAddr, destination_port: u16) -> Tuple {
    Tuple {
        protocol: Protocol::Tcp,
        source,
        source_port: 40000,
        destination,
        destination_port,
    }
}

/// The policy that Obot's chart installs for servers (reference/obot.md section 5).
fn chart_policy() -> NetworkPolicy {
    policy(json!({
        "podSelector": {},
        "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "obot"}},
            "podSelector": {"matchLabels": {"app": "obot"}}}]}],
        "egress": [
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}}}],
             "ports": [{"protocol": "UDP", "port": 53}, {"protocol": "TCP", "port": 53}]},
            {"to": [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "obot"}},
                     "podSelector": {"matchLabels": {"app": "obot"}}}],
             "ports": [{"protocol": "TCP", "port": 8080}]},
            {"to": [{"ipBlock": {"cidr": "0.0.0.0/0",
                "except": ["10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16"]}}]}
        ]
    }))
}

#[rstest]
#[case::obot_calls_the_server(OBOT, SERVER, 8080, true)]
#[case::no_other_pod_does(OTHER, SERVER, 8080, false)]
#[case::dns(SERVER, DNS, 53, true)]
#[case::only_dns(SERVER, DNS, 54, false)]
#[case::callback_to_obot(SERVER, OBOT, 8080, true)]
#[case::other_port_of_obot(SERVER, OBOT, 8081, false)]
#[case::the_internet(SERVER, OUTSIDE, 443, true)]
#[case::the_vpc(SERVER, v4(10, 0, 0, 2), 53, false)]
#[case::metadata(SERVER, v4(169, 254, 169, 254), 80, false)]
#[case::unselected_pods_are_free(OBOT, OUTSIDE, 443, true)]
fn the_chart_policy_confines_servers(
    #[case] source: IpAddr,
    #[case] destination: IpAddr,
    #[case] port: u16,
    #[case] allowed: bool,
) {
    let table = compile(&[chart_policy()], &pods(), &namespaces());
    assert_eq!(
        table.judge(&flow(source, destination, port)).is_ok(),
        allowed
    );
}

#[rstest]
#[case::types_default_to_ingress(json!({"podSelector": {}}), SERVER, OUTSIDE, 443, true)]
#[case::ingress_is_isolated(json!({"podSelector": {}}), OBOT, SERVER, 80, false)]
#[case::egress_rules_imply_egress(json!({"podSelector": {}, "egress": [{}]}), SERVER, OUTSIDE, 443, true)]
#[case::an_empty_rule_allows_all(json!({"podSelector": {}, "ingress": [{}]}), OBOT, SERVER, 80, true)]
#[case::no_rule_allows_nothing(json!({"podSelector": {}, "policyTypes": ["Egress"]}), SERVER, OUTSIDE, 443, false)]
#[case::pod_selector_means_own_namespace(
    json!({"podSelector": {}, "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "obot"}}}]}]}),
    OBOT, SERVER, 80, false
)]
#[case::expressions(
    json!({"podSelector": {"matchExpressions": [{"key": "app", "operator": "NotIn", "values": ["server"]}]}}),
    OBOT, SERVER, 80, true
)]
#[case::port_range(
    json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 8010}]}]}),
    OBOT, SERVER, 8010, true
)]
#[case::beyond_the_range(
    json!({"podSelector": {}, "ingress": [{"ports": [{"port": 8000, "endPort": 8010}]}]}),
    OBOT, SERVER, 8011, false
)]
#[case::named_ingress_port(
    json!({"podSelector": {}, "ingress": [{"ports": [{"port": "mcp"}]}]}), OBOT, SERVER, 8021, true
)]
#[case::named_ingress_port_of_another(
    json!({"podSelector": {}, "ingress": [{"ports": [{"port": "mcp"}]}]}), OBOT, SERVER, 8022, false
)]
#[case::named_egress_port(
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "mcp"}]}]}),
    SERVER, OBOT, 8020, true
)]
#[case::named_egress_port_of_another(
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "mcp"}]}]}),
    SERVER, OBOT, 8021, false
)]
#[case::ipv6_block_is_not_everything(
    json!({"podSelector": {}, "policyTypes": ["Egress"], "egress": [{"to": [{"ipBlock": {"cidr": "::/0"}}]}]}),
    SERVER, OUTSIDE, 443, false
)]
fn a_policy_in_the_servers_namespace_means(
    #[case] spec: Value,
    #[case] source: IpAddr,
    #[case] destination: IpAddr,
    #[case] port: u16,
    #[case] allowed: bool,
) {
    let table = compile(&[policy(spec)], &pods(), &namespaces());
    assert_eq!(
        table.judge(&flow(source, destination, port)).is_ok(),
        allowed
    );
}

/// Of a dual-stack pod both addresses are isolated, and a peer is reached by both.
#[rstest]
#[case::ipv4_blocks_alone(json!([{"to": [{"ipBlock": {"cidr": "0.0.0.0/0"}}]}]), "2001:db8::1", false)]
#[case::ipv6_block(json!([{"to": [{"ipBlock": {"cidr": "::/0", "except": ["2001:db8:66::/48"]}}]}]), "2001:db8::1", true)]
#[case::ipv6_exception(json!([{"to": [{"ipBlock": {"cidr": "::/0", "except": ["2001:db8:66::/48"]}}]}]), "2001:db8:66::1", false)]
#[case::pods(json!([{"to": [{"podSelector": {}}]}]), "fd00:10:244::16", true)]
#[case::other_pods(json!([{"to": [{"podSelector": {"matchLabels": {"app": "server"}}}]}]), "fd00:10:244::16", false)]
#[case::anybody(json!([{}]), "2001:db8::1", true)]
fn a_policy_governs_the_second_address_too(
    #[case] egress: Value,
    #[case] destination: IpAddr,
    #[case] allowed: bool,
) {
    let pods = [("server", 0x15), ("other", 0x16)].map(|(app, last)| {
        let mut pod = pod("mcp", json!({"app": app}), v4(10, 244, 0, last));
        let listed =
            json!([{"ip": format!("10.244.0.{last}")}, {"ip": format!("fd00:10:244::{last:x}")}]);
        pod.status.as_mut().unwrap().pod_ips = of(listed);
        pod
    });
    let spec = json!({"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Egress"], "egress": egress});
    let table = compile(&[policy(spec)], &pods, &namespaces());
    let source = "fd00:10:244::15".parse().unwrap();
    assert_eq!(
        table.judge(&flow(source, destination, 443)).is_ok(),
        allowed
    );
}

#[test]
fn a_denial_names_the_policies_that_isolate() {
    let table = compile(&[chart_policy()], &pods(), &namespaces());
    let denial = table.judge(&flow(OTHER, SERVER, 80)).unwrap_err();
    assert_eq!(denial.policies, ["mcp/p"]);
}

#[test]
fn pods_that_are_over_or_on_the_host_network_have_no_policy() {
    let mut over = pod("mcp", json!({}), SERVER);
    over.status.as_mut().unwrap().phase = Some("Succeeded".into());
    let mut host = pod("mcp", json!({}), OTHER);
    host.spec.as_mut().unwrap().host_network = Some(true);
    let table = compile(
        &[policy(json!({"podSelector": {}}))],
        &[over, host],
        &namespaces(),
    );
    assert_eq!(table, PolicyTable::default());
}

/// A naive reading of the API's text, straight from the objects and per flow, without any compilation.
mod naive {
    use super::*;

    pub(super) fn allows(policies: &[NetworkPolicy], pods: &[Pod], flow: &Tuple) -> bool {
        direction(policies, pods, flow, "Egress") && direction(policies, pods, flow, "Ingress")
    }

    fn direction(policies: &[NetworkPolicy], pods: &[Pod], flow: &Tuple, direction: &str) -> bool {
        let (own, peer) = match direction {
            "Egress" => (flow.source, flow.destination),
            _ => (flow.destination, flow.source),
        };
        let Some(pod) = at(pods, own) else {
            return true;
        };
        let mut isolated = false;
        for policy in policies {
            let spec = policy.spec.as_ref().unwrap();
            let types = spec.policy_types.clone().unwrap();
            if policy.metadata.namespace != pod.metadata.namespace
                || !types.iter().any(|listed| listed == direction)
                || !selects(spec.pod_selector.as_ref(), pod)
            {
                continue;
            }
            isolated = true;
            let rules: Vec<_> = match direction {
                "Egress" => spec
                    .egress
                    .iter()
                    .flatten()
                    .map(|rule| (&rule.to, &rule.ports))
                    .collect(),
                _ => spec
                    .ingress
                    .iter()
                    .flatten()
                    .map(|rule| (&rule.from, &rule.ports))
                    .collect(),
            };
            for (peers, ports) in rules {
                let peer_matches = peers.as_deref().unwrap_or_default().is_empty()
                    || peers
                        .iter()
                        .flatten()
                        .any(|entry| is_peer(entry, policy, pods, peer));
                let port_matches = ports.as_deref().unwrap_or_default().is_empty()
                    || ports.iter().flatten().any(|port| is_port(port, pods, flow));
                if peer_matches && port_matches {
                    return true;
                }
            }
        }
        !isolated
    }

    fn at(pods: &[Pod], address: IpAddr) -> Option<&Pod> {
        pods.iter()
            .find(|pod| pod.status.as_ref().unwrap().pod_ip == Some(address.to_string()))
    }

    fn selects(selector: Option<&LabelSelector>, pod: &Pod) -> bool {
        let wanted = selector
            .and_then(|selector| selector.match_labels.clone())
            .unwrap_or_default();
        let labels = pod.metadata.labels.clone().unwrap_or_default();
        wanted
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }

    fn is_peer(
        peer: &NetworkPolicyPeer,
        policy: &NetworkPolicy,
        pods: &[Pod],
        address: IpAddr,
    ) -> bool {
        if let Some(block) = &peer.ip_block {
            let inside = |cidr: &String| cidr.parse::<Cidr>().unwrap().contains(address);
            return inside(&block.cidr) && !block.except.iter().flatten().any(inside);
        }
        let Some(pod) = at(pods, address) else {
            return false;
        };
        // Every namespace carries its name as its only label.
        let namespace = match &peer.namespace_selector {
            None => pod.metadata.namespace == policy.metadata.namespace,
            Some(selector) => selector
                .match_labels
                .iter()
                .flatten()
                .all(|(_, name)| Some(name) == pod.metadata.namespace.as_ref()),
        };
        namespace && selects(peer.pod_selector.as_ref(), pod)
    }

    fn is_port(port: &NetworkPolicyPort, pods: &[Pod], flow: &Tuple) -> bool {
        let asked = i32::from(flow.destination_port);
        protocol(port.protocol.as_deref()) == flow.protocol
            && match &port.port {
                None => true,
                Some(IntOrString::Int(first)) => {
                    (*first..=port.end_port.unwrap_or(*first)).contains(&asked)
                }
                // The only named port of every pod is a TCP port.
                Some(IntOrString::String(_)) => {
                    let number = 8000 + i32::from(last_octet(flow.destination));
                    at(pods, flow.destination).is_some()
                        && flow.protocol == Protocol::Tcp
                        && asked == number
                }
            }
    }
}

fn labels() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(json!({})),
        Just(json!({"app": "server"})),
        Just(json!({"app": "obot"})),
        Just(json!({"app": "server", "tier": "a"})),
    ]
}

fn port() -> impl Strategy<Value = Value> {
    let protocol = prop_oneof![Just("TCP"), Just("UDP")];
    let number = prop_oneof![
        Just(json!({})),
        Just(json!({"port": 8020})),
        Just(json!({"port": 8020, "endPort": 8022})),
        Just(json!({"port": "mcp"})),
    ];
    (protocol, number).prop_map(|(protocol, mut port)| {
        port["protocol"] = json!(protocol);
        port
    })
}

fn peer() -> impl Strategy<Value = Value> {
    let namespace = prop_oneof![
        Just(None),
        Just(Some(json!({}))),
        Just(Some(
            json!({"matchLabels": {"kubernetes.io/metadata.name": "obot"}})
        )),
    ];
    let block = prop_oneof![
        Just(json!({"cidr": "0.0.0.0/0", "except": ["10.0.0.0/8"]})),
        Just(json!({"cidr": "10.244.0.0/16"})),
        Just(json!({"cidr": "10.244.0.21/32"})),
    ];
    prop_oneof![
        1 => block.prop_map(|block| json!({"ipBlock": block})),
        2 => (namespace, labels()).prop_map(|(namespace, labels)| match namespace {
            None => json!({"podSelector": {"matchLabels": labels}}),
            Some(namespace) => json!({"namespaceSelector": namespace, "podSelector": {"matchLabels": labels}}),
        }),
    ]
}

fn rules(peers: &'static str) -> impl Strategy<Value = Value> {
    let rule = (
        prop::collection::vec(peer(), 0..3),
        prop::collection::vec(port(), 0..3),
    );
    prop::collection::vec(rule, 0..3).prop_map(move |rules| {
        let rules = rules
            .into_iter()
            .map(|(listed, ports)| json!({peers: listed, "ports": ports}));
        Value::Array(rules.collect())
    })
}

fn any_policy() -> impl Strategy<Value = NetworkPolicy> {
    let types = prop_oneof![
        Just(json!(["Ingress"])),
        Just(json!(["Egress"])),
        Just(json!(["Ingress", "Egress"])),
    ];
    let namespace = prop_oneof![Just("mcp"), Just("obot")];
    (labels(), types, rules("from"), rules("to"), namespace).prop_map(
        |(labels, types, ingress, egress, namespace)| {
            of(json!({
                "metadata": {"name": "p", "namespace": namespace},
                "spec": {"podSelector": {"matchLabels": labels}, "policyTypes": types,
                    "ingress": ingress, "egress": egress}
            }))
        },
    )
}

proptest! {
    #[test]
    fn compiled_policies_agree_with_a_naive_reading(
        policies in prop::collection::vec(any_policy(), 0..4),
        pod_labels in prop::collection::vec(labels(), 3),
    ) {
        let addresses = [OBOT, SERVER, OTHER];
        let pods: Vec<Pod> = ["obot", "mcp", "mcp"]
            .iter()
            .zip(pod_labels)
            .zip(addresses)
            .map(|((namespace, labels), address)| pod(namespace, labels, address))
            .collect();
        let table = compile(&policies, &pods, &namespaces());
        for source in [OBOT, SERVER, OTHER, OUTSIDE] {
            for destination in [OBOT, SERVER, OTHER, OUTSIDE] {
                for (protocol, port) in [(Protocol::Tcp, 8020), (Protocol::Tcp, 8021), (Protocol::Udp, 8022), (Protocol::Tcp, 443), (Protocol::Icmp, 0)] {
                    if source == destination {
                        continue;
                    }
                    let flow = Tuple { protocol, ..flow(source, destination, port) };
                    prop_assert_eq!(
                        table.judge(&flow).is_ok(),
                        naive::allows(&policies, &pods, &flow),
                        "{}", flow
                    );
                }
            }
        }
    }
}
