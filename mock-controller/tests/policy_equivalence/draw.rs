//! Random policies and flows, from so few addresses, ports and labels that rules overlap and flows meet them.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use mock_controller::policy::{
    ANYWHERE, Action, Application, AttachmentPoint, Cidr, ClusterInventory, DefaultAction,
    FiveTuple, FlowAppRequirement, Inventory, InventoryPod, InventoryService, KubernetesSelector,
    Labels, Logging, PUBLIC_INTERNET, Policy, PolicyList, PortRange, Protocol, Rule, Selector,
    SmartGroup, Switches, WebGroup,
};
use proptest::prelude::*;
use uuid::Uuid;

#[derive(Debug)]
pub(crate) struct World {
    pub policy: Policy,
    pub inventory: Inventory,
    pub switches: Switches,
}

/// Groups of each kind. One more than there are is referred to, and holds nothing.
const GROUPS: u128 = 7;

pub(crate) fn world() -> impl Strategy<Value = World> {
    let selectors = prop::collection::vec(selector(), 0..4);
    let smart_groups = prop::collection::vec(selectors, GROUPS as usize);
    let domains = (
        prop::collection::vec(domain(), 0..5),
        prop::bool::weighted(0.1),
    );
    let web_groups = prop::collection::vec(domains, GROUPS as usize);
    let rules = prop::collection::vec(rule(), 0..14);
    // Rules that match nothing push the others over the words of a set.
    let padding = prop_oneof![4 => Just(0usize), 1 => 1..40usize];
    (
        smart_groups,
        web_groups,
        rules,
        padding,
        (action(), logging()),
        inventory(),
        switches(),
    )
        .prop_map(
            |(smart, web, rules, padding, default, inventory, switches)| {
                let mut policy = Policy::new(DefaultAction {
                    action: default.0,
                    logging: default.1,
                });
                for (selectors, number) in smart.into_iter().zip(1u128..) {
                    policy.add_smart_group(SmartGroup {
                        uuid: Uuid::from_u128(number),
                        name: format!("group-{number}"),
                        selectors,
                    });
                }
                for ((domains, all_web), number) in web.into_iter().zip(1u128..) {
                    policy.add_web_group(WebGroup {
                        uuid: Uuid::from_u128(number),
                        name: format!("names-{number}"),
                        domains,
                        all_web,
                    });
                }
                let half = rules.len() / 2;
                let mut lists = [Vec::new(), Vec::new()];
                for (index, mut rule) in rules.into_iter().enumerate() {
                    let list = &mut lists[usize::from(index >= half)];
                    let idle = Rule {
                        sources: Vec::new(),
                        ..rule.clone()
                    };
                    list.extend(std::iter::repeat_n(idle, padding));
                    rule.uuid = Uuid::from_u128(0x1000 + index as u128);
                    rule.name = format!("rule-{index}");
                    list.push(rule);
                }
                let points = [AttachmentPoint::AfterUi, AttachmentPoint::BeforeUi];
                for (rules, attachment_point) in lists.into_iter().zip(points) {
                    policy.add_list(PolicyList {
                        uuid: Uuid::nil(),
                        name: attachment_point.name().into(),
                        attachment_point,
                        object: None,
                        rules,
                    });
                }
                World {
                    policy,
                    inventory,
                    switches,
                }
            },
        )
}

fn switches() -> impl Strategy<Value = Switches> {
    any::<[bool; 5]>().prop_map(|[spans, apex, case, host, watch]| Switches {
        wildcard_spans_labels: spans,
        wildcard_matches_apex: apex,
        case_insensitive: case,
        host_header_on_tls_port: host,
        watch_continues: watch,
        ..Switches::default()
    })
}

fn action() -> impl Strategy<Value = Action> {
    prop::sample::select(vec![Action::Permit, Action::Deny])
}

fn group() -> impl Strategy<Value = Uuid> {
    prop_oneof![
        6 => (1..=GROUPS + 1).prop_map(Uuid::from_u128),
        1 => Just(ANYWHERE),
        1 => Just(PUBLIC_INTERNET),
    ]
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        6 => (0u8..12).prop_map(|last| Ipv4Addr::new(10, 0, 0, last).into()),
        1 => (254u8..=255).prop_map(|last| Ipv4Addr::new(255, 255, 255, last).into()),
        1 => (0u8..2).prop_map(|last| Ipv4Addr::new(192, 0, 2, last).into()),
        3 => (0u16..6).prop_map(|last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last).into()),
        1 => Just(Ipv6Addr::from_bits(u128::MAX).into()),
    ]
}

fn selector() -> impl Strategy<Value = Selector> {
    let prefix = prop_oneof![4 => 0u8..=5, 1 => Just(128)];
    let block = (address(), prefix).prop_map(|(address, host_bits)| {
        let bits: u8 = if address.is_ipv4() { 32 } else { 128 };
        Selector::Cidr(Cidr::new(address, bits.saturating_sub(host_bits)).unwrap())
    });
    prop_oneof![
        5 => block,
        2 => group().prop_map(Selector::Group),
        2 => kubernetes().prop_map(Selector::Kubernetes),
        1 => Just(Selector::PublicInternet),
    ]
}

fn one_of(texts: &'static [&'static str]) -> impl Strategy<Value = Option<String>> {
    prop::option::of(prop::sample::select(texts).prop_map(str::to_owned))
}

fn labels() -> impl Strategy<Value = Labels> {
    one_of(&["x", "y"]).prop_map(|value| {
        value
            .map(|value| ("app".into(), value))
            .into_iter()
            .collect()
    })
}

fn kubernetes() -> impl Strategy<Value = KubernetesSelector> {
    let parts = (
        one_of(&["c", "d"]),
        one_of(&["m", "n"]),
        labels(),
        one_of(&["s", "t"]),
        one_of(&["p", "q"]),
        labels(),
    );
    parts.prop_map(
        |(cluster, namespace, namespace_labels, service, pod, labels)| KubernetesSelector {
            cluster,
            namespace,
            namespace_labels,
            service,
            pod,
            labels,
        },
    )
}

fn inventory() -> impl Strategy<Value = Inventory> {
    let name = |names: &'static [&'static str]| prop::sample::select(names).prop_map(str::to_owned);
    let addresses = || prop::collection::vec(address(), 0..3);
    let pod = (name(&["m", "n"]), name(&["p", "q"]), labels(), addresses());
    let pod = pod.prop_map(|(namespace, name, labels, addresses)| InventoryPod {
        namespace,
        name,
        labels,
        addresses,
    });
    let service = (name(&["m", "n"]), name(&["s", "t"]), labels(), addresses());
    let service = service.prop_map(|(namespace, name, selector, external)| InventoryService {
        namespace,
        name,
        selector,
        external_addresses: external,
    });
    let namespaces = (labels(), labels());
    let cluster = (
        prop::collection::vec(pod, 0..4),
        prop::collection::vec(service, 0..3),
        namespaces,
    );
    let cluster = cluster.prop_map(|(pods, services, (m, n))| ClusterInventory {
        namespaces: [("m".to_owned(), m), ("n".to_owned(), n)].into(),
        pods,
        services,
    });
    let clusters = prop::collection::btree_map(name(&["c", "d"]), cluster, 0..3);
    clusters.prop_map(|clusters| Inventory { clusters })
}

/// Wildcards in every position, labels that are empty, endings with a dot.
fn domain() -> impl Strategy<Value = String> {
    prop_oneof![
        2 => r"(\*\.)?([abA]\.){0,2}[ab]\.?",
        2 => r"(\*?[abA.]){0,4}\*?[ab.]?\*?",
        1 => Just("*".to_owned()),
        1 => r"\*?[ab]?\*?\.[ab]?\*?[ab]\.[ab]\*?",
    ]
}

fn name() -> impl Strategy<Value = Option<String>> {
    let name = prop_oneof![
        4 => r"([abB]\.){0,3}[ab]\.?",
        2 => "[ab.]{0,6}",
        1 => "[ab\u{e9}.]{0,4}",
    ];
    prop::option::weighted(0.95, name)
}

pub(crate) fn application() -> impl Strategy<Value = Application> {
    let host = (name(), prop::sample::select(vec!["", ":443", ":", ":x"]));
    let host = host.prop_map(|(name, port)| name.map(|name| name + port));
    prop_oneof![
        4 => name().prop_map(|sni| Application::Tls { sni }),
        2 => host.prop_map(|host| Application::Http { host }),
        1 => Just(Application::Other),
    ]
}

fn port() -> impl Strategy<Value = u16> {
    prop::sample::select(vec![0, 53, 80, 442, 443, 444, u16::MAX])
}

fn protocol() -> impl Strategy<Value = Protocol> {
    prop_oneof![
        6 => Just(Protocol::Tcp),
        2 => Just(Protocol::Udp),
        1 => Just(Protocol::Icmp),
        1 => Just(Protocol::Other(132)),
        1 => Just(Protocol::Other(47)),
    ]
}

pub(crate) fn flow() -> impl Strategy<Value = FiveTuple> {
    (protocol(), address(), address(), port()).prop_map(
        |(protocol, source, destination, destination_port)| FiveTuple {
            protocol,
            source,
            source_port: 40_000,
            destination,
            destination_port,
        },
    )
}

fn rule() -> impl Strategy<Value = Rule> {
    let range = (port(), port()).prop_map(|(first, last)| PortRange { first, last });
    let web_groups = (1..=GROUPS + 1).prop_map(Uuid::from_u128);
    let web_groups = prop_oneof![prop::collection::vec(web_groups, 1..4), Just(Vec::new()),];
    let ports = prop_oneof![prop::collection::vec(range, 1..3), Just(Vec::new())];
    (
        prop::collection::vec(group(), 0..4),
        prop::collection::vec(group(), 0..4),
        web_groups,
        prop_oneof![Just(None), protocol().prop_map(Some)],
        ports,
        (action(), logging()),
        prop::bool::weighted(0.2),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(sources, destinations, web_groups, protocol, ports, outcome, watch, tls)| Rule {
                uuid: Uuid::nil(),
                name: "idle".into(),
                sources,
                destinations,
                web_groups,
                protocol,
                ports,
                action: outcome.0,
                logging: outcome.1,
                watch,
                flow_app_requirement: if tls {
                    FlowAppRequirement::TlsRequired
                } else {
                    FlowAppRequirement::AppUnspecified
                },
            },
        )
}

fn logging() -> impl Strategy<Value = Logging> {
    prop::sample::select(vec![
        Logging::Off,
        Logging::Start,
        Logging::End,
        Logging::StartAndEnd,
    ])
}
