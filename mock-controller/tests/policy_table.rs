//! Rules x flows: what the policy model answers, row by row, and against an evaluator too simple to be wrong.
#![allow(clippy::unwrap_used)]

use mock_controller::policy::{
    ANYWHERE, Action, Application, AttachmentPoint, DEFAULT_ACTION, DefaultAction, FirstPacket,
    FiveTuple, FlowAppRequirement, Inventory, Logging, Policy, PolicyList, PortRange, Protocol,
    Rule, Selector, SmartGroup, Snapshot, Switches, WebGroup,
};
use proptest::prelude::*;
use rstest::rstest;
use uuid::Uuid;

const PODS: Uuid = Uuid::from_u128(0x10);
const NAMES: Uuid = Uuid::from_u128(0x20);
const DENY_LOGGED: DefaultAction = DefaultAction {
    action: Action::Deny,
    logging: Logging::Start,
};

fn rule(id: u128, action: Action, change: impl FnOnce(&mut Rule)) -> Rule {
    let mut rule = Rule {
        uuid: Uuid::from_u128(id),
        name: format!("rule-{id}"),
        sources: vec![PODS],
        destinations: vec![ANYWHERE],
        web_groups: Vec::new(),
        protocol: None,
        ports: Vec::new(),
        action,
        logging: Logging::Start,
        watch: false,
        flow_app_requirement: FlowAppRequirement::default(),
    };
    change(&mut rule);
    rule
}

fn web(rule: &mut Rule) {
    rule.protocol = Some(Protocol::Tcp);
    rule.ports = vec![PortRange {
        first: 443,
        last: 443,
    }];
    rule.web_groups = vec![NAMES];
}

fn policy(lists: Vec<(AttachmentPoint, Vec<Rule>)>) -> Policy {
    let mut policy = Policy::new(DENY_LOGGED);
    let pods = Selector::Cidr("10.244.0.0/24".parse().unwrap());
    policy.add_smart_group(SmartGroup {
        uuid: PODS,
        name: "pods".into(),
        selectors: vec![pods],
    });
    let domains = vec!["fhir.ehr.example".to_owned(), "*.cdn.example".to_owned()];
    policy.add_web_group(
        WebGroup::new(NAMES, "names".into(), domains, &Switches::default()).unwrap(),
    );
    for (index, (attachment_point, rules)) in lists.into_iter().enumerate() {
        let uuid = Uuid::from_u128(0x1000 + index as u128);
        policy.add_list(PolicyList {
            uuid,
            name: format!("list-{index}"),
            attachment_point,
            object: None,
            rules,
        });
    }
    policy
}

fn compile(policy: &Policy, switches: &Switches) -> Snapshot {
    Snapshot::compile(1, policy, &Inventory::default(), switches)
}

/// The two rules that the policy controller writes per server.
fn server_policy() -> Snapshot {
    let rules = vec![rule(1, Action::Permit, web), rule(2, Action::Deny, |_| {})];
    compile(
        &policy(vec![(AttachmentPoint::Kubernetes, rules)]),
        &Switches::default(),
    )
}

fn flow(protocol: Protocol, source: &str, destination_port: u16) -> FiveTuple {
    let (source_port, destination_port) = match protocol {
        Protocol::Tcp | Protocol::Udp => (40000, destination_port),
        _ => (0, 0),
    };
    FiveTuple {
        protocol,
        source: source.parse().unwrap(),
        source_port,
        destination: "198.51.100.7".parse().unwrap(),
        destination_port,
    }
}

fn tls(name: &str) -> Application {
    Application::Tls {
        sni: Some(name.to_owned()),
    }
}

#[rstest]
#[case::web_rule_waits(Protocol::Tcp, 443, None)]
#[case::other_port(Protocol::Tcp, 80, Some(2))]
#[case::quic(Protocol::Udp, 443, Some(2))]
#[case::direct_dns(Protocol::Udp, 53, Some(2))]
#[case::icmp(Protocol::Icmp, 0, Some(2))]
#[case::sctp(Protocol::Other(132), 0, Some(2))]
fn first_packets(#[case] protocol: Protocol, #[case] port: u16, #[case] denied_by: Option<u128>) {
    match server_policy().first_packet(&flow(protocol, "10.244.0.10", port)) {
        FirstPacket::Inspect => assert_eq!(denied_by, None),
        FirstPacket::Decided(verdict) => {
            assert_eq!(verdict.action, Action::Deny);
            assert_eq!(Some(verdict.decided_by.as_u128()), denied_by);
        }
    }
}

#[rstest]
#[case::listed(tls("fhir.ehr.example"), Action::Permit, 1)]
#[case::wildcard(tls("a.b.cdn.example"), Action::Permit, 1)]
#[case::unlisted_name_is_skipped_to_the_deny(tls("collect.evil.example"), Action::Deny, 2)]
#[case::look_alike(tls("fhir.ehr.example.evil.example"), Action::Deny, 2)]
#[case::no_sni(Application::Tls { sni: None }, Action::Deny, 2)]
#[case::http_with_listed_host(Application::Http { host: Some("fhir.ehr.example".into()) }, Action::Permit, 1)]
#[case::ssh(Application::Other, Action::Deny, 2)]
fn applications(
    #[case] application: Application,
    #[case] action: Action,
    #[case] decided_by: u128,
) {
    let verdict = server_policy().decide(&flow(Protocol::Tcp, "10.244.0.10", 443), &application);
    assert_eq!(
        (verdict.action, verdict.decided_by.as_u128()),
        (action, decided_by)
    );
    assert!(verdict.enforced && verdict.logging.is_on());
}

#[test]
fn a_source_in_no_group_meets_the_default_action() {
    let FirstPacket::Decided(verdict) =
        server_policy().first_packet(&flow(Protocol::Tcp, "10.244.1.10", 443))
    else {
        panic!("no web rule selects the pod");
    };
    assert_eq!(
        (verdict.action, verdict.decided_by),
        (Action::Deny, DEFAULT_ACTION)
    );
}

#[test]
fn a_gateway_without_policy_denies_and_logs() {
    let flow = flow(Protocol::Tcp, "10.244.0.10", 443);
    let FirstPacket::Decided(verdict) = Snapshot::deny_all().first_packet(&flow) else {
        panic!("nothing to inspect")
    };
    assert_eq!(
        (verdict.action, verdict.logging),
        (Action::Deny, Logging::Start)
    );
}

#[test]
fn lists_are_evaluated_by_attachment_point_and_not_by_time_of_arrival() {
    use AttachmentPoint::{AfterKubernetes, AfterUi, BeforeUi, Kubernetes, V1PolicyList};
    let arrival = [
        Kubernetes,
        AfterKubernetes,
        BeforeUi,
        AfterUi,
        V1PolicyList,
        BeforeUi,
    ];
    let mut lists: Vec<_> = (1..)
        .zip(arrival)
        .map(|(id, at)| (at, vec![rule(id, Action::Permit, |_| {})]))
        .collect();
    let mut order = Vec::new();
    let flow = flow(Protocol::Tcp, "10.244.0.10", 443);
    loop {
        let verdict = compile(&policy(lists.clone()), &Switches::default())
            .decide(&flow, &Application::Other);
        if verdict.decided_by == DEFAULT_ACTION {
            break;
        }
        order.push(verdict.decided_by.as_u128());
        lists.retain(|(_, rules)| rules[0].uuid != verdict.decided_by);
    }
    assert_eq!(order, [3, 6, 5, 4, 1, 2]);
}

#[test]
fn a_web_permit_ahead_of_the_kubernetes_block_does_not_hide_its_permits() {
    let infra = vec![rule(9, Action::Permit, |rule| {
        web(rule);
        rule.web_groups = vec![Uuid::from_u128(0x21)];
    })];
    let rules = vec![rule(1, Action::Permit, web), rule(2, Action::Deny, |_| {})];
    let mut policy = policy(vec![
        (AttachmentPoint::V1PolicyList, infra),
        (AttachmentPoint::Kubernetes, rules),
    ]);
    let domains = vec!["*.s3.amazonaws.example".to_owned()];
    policy.add_web_group(
        WebGroup::new(
            Uuid::from_u128(0x21),
            "infra".into(),
            domains,
            &Switches::default(),
        )
        .unwrap(),
    );
    let snapshot = compile(&policy, &Switches::default());
    let decided = |name| {
        snapshot
            .decide(&flow(Protocol::Tcp, "10.244.0.10", 443), &tls(name))
            .decided_by
            .as_u128()
    };
    assert_eq!(decided("bucket.s3.amazonaws.example"), 9);
    assert_eq!(decided("fhir.ehr.example"), 1);
    assert_eq!(decided("collect.evil.example"), 2);
}

#[rstest]
#[case::tls(tls("fhir.ehr.example"), Action::Permit, 1)]
#[case::http_is_denied_though_its_host_is_listed(
    Application::Http { host: Some("fhir.ehr.example".into()) }, Action::Deny, 1
)]
#[case::skipped_where_the_name_does_not_match(Application::Http { host: Some("x.test".into()) }, Action::Permit, 2)]
fn tls_required(
    #[case] application: Application,
    #[case] action: Action,
    #[case] decided_by: u128,
) {
    let strict = rule(1, Action::Permit, |rule| {
        web(rule);
        rule.flow_app_requirement = FlowAppRequirement::TlsRequired;
    });
    let rules = vec![strict, rule(2, Action::Permit, |_| {})];
    let snapshot = compile(
        &policy(vec![(AttachmentPoint::Kubernetes, rules)]),
        &Switches::default(),
    );
    let verdict = snapshot.decide(&flow(Protocol::Tcp, "10.244.0.10", 443), &application);
    assert_eq!(
        (verdict.action, verdict.decided_by.as_u128()),
        (action, decided_by)
    );
}

#[test]
fn a_watch_rule_reports_and_does_not_decide() {
    let watch = rule(1, Action::Deny, |rule| rule.watch = true);
    let policy = policy(vec![(
        AttachmentPoint::Kubernetes,
        vec![watch, rule(2, Action::Permit, |_| {})],
    )]);
    let flow = flow(Protocol::Udp, "10.244.0.10", 53);

    let evaluation = compile(&policy, &Switches::default()).evaluate(&flow, None);
    let FirstPacket::Decided(verdict) = evaluation.outcome else {
        panic!("nothing to inspect")
    };
    assert_eq!(
        (
            verdict.action,
            verdict.decided_by.as_u128(),
            verdict.enforced
        ),
        (Action::Permit, 2, true)
    );
    let [watched] = &evaluation.watched[..] else {
        panic!("{evaluation:?}", evaluation = evaluation.watched)
    };
    assert_eq!(
        (
            watched.action,
            watched.decided_by.as_u128(),
            watched.enforced
        ),
        (Action::Deny, 1, false)
    );

    let stops = Switches {
        watch_continues: false,
        ..Switches::default()
    };
    let evaluation = compile(&policy, &stops).evaluate(&flow, None);
    let FirstPacket::Decided(verdict) = evaluation.outcome else {
        panic!("nothing to inspect")
    };
    assert_eq!(
        (
            verdict.action,
            verdict.decided_by.as_u128(),
            verdict.logging
        ),
        (Action::Permit, 1, Logging::Off)
    );
    assert_eq!(evaluation.watched.len(), 1);
}

/// A flow against rules, read off the documentation line by line. Groups are single addresses here, names are exact.
mod naive {
    use super::*;

    #[derive(Clone, Debug)]
    pub(super) struct SmallRule {
        pub source: u8,
        pub port: Option<u16>,
        pub tcp_only: bool,
        pub name: Option<&'static str>,
        pub permit: bool,
        pub watch: bool,
    }

    pub(super) fn decide(
        rules: &[SmallRule],
        flow: &FiveTuple,
        application: Option<&Application>,
    ) -> String {
        for (index, rule) in rules.iter().enumerate() {
            let source_matches = flow.source.to_string() == format!("10.244.0.{}", rule.source);
            let port_matches = rule.port.is_none_or(|port| port == flow.destination_port);
            if !source_matches || !port_matches || rule.tcp_only && flow.protocol != Protocol::Tcp {
                continue;
            }
            if let Some(name) = rule.name {
                match application {
                    _ if flow.protocol != Protocol::Tcp => continue,
                    None => return "inspect".into(),
                    Some(Application::Tls { sni: Some(sni) }) if sni == name => {}
                    Some(Application::Http { host: Some(host) }) if host == name => {}
                    Some(_) => continue,
                }
            }
            if !rule.watch {
                return format!("{} by {index}", if rule.permit { "permit" } else { "deny" });
            }
        }
        "default".into()
    }
}

fn small_rule() -> impl Strategy<Value = naive::SmallRule> {
    let name = prop::option::of(prop::sample::select(vec!["a.test", "b.test"]));
    let port = prop::option::of(prop::sample::select(vec![53u16, 443]));
    (
        1u8..3,
        port,
        any::<bool>(),
        name,
        any::<bool>(),
        prop::bool::weighted(0.2),
    )
        .prop_map(
            |(source, port, tcp_only, name, permit, watch)| naive::SmallRule {
                source,
                port,
                tcp_only,
                name,
                permit,
                watch,
            },
        )
}

fn any_application() -> impl Strategy<Value = Option<Application>> {
    let name = prop::option::of(prop::sample::select(vec![
        "a.test".to_owned(),
        "b.test".into(),
        "c.test".into(),
    ]));
    prop::option::of(prop_oneof![
        name.clone().prop_map(|sni| Application::Tls { sni }),
        name.prop_map(|host| Application::Http { host }),
        Just(Application::Other),
    ])
}

proptest! {
    #[test]
    fn evaluation_agrees_with_the_naive_reference(
        rules in prop::collection::vec(small_rule(), 0..7),
        source in 1u8..4, port in prop::sample::select(vec![53u16, 80, 443]),
        tcp in prop::bool::weighted(0.7), application in any_application(),
    ) {
        let mut policy = Policy::new(DENY_LOGGED);
        let mut compiled = Vec::new();
        for (index, small) in rules.iter().enumerate() {
            let uuid = Uuid::from_u128(0x100 + index as u128);
            let address = Selector::Cidr(format!("10.244.0.{}", small.source).parse().unwrap());
            policy.add_smart_group(SmartGroup { uuid, name: index.to_string(), selectors: vec![address] });
            if let Some(name) = small.name {
                let group = WebGroup::new(uuid, name.into(), vec![name.into()], &Switches::default()).unwrap();
                policy.add_web_group(group);
            }
            compiled.push(rule(index as u128, if small.permit { Action::Permit } else { Action::Deny }, |rule| {
                rule.sources = vec![uuid];
                rule.web_groups = small.name.map(|_| uuid).into_iter().collect();
                rule.ports = small.port.map(|port| PortRange { first: port, last: port }).into_iter().collect();
                rule.protocol = small.tcp_only.then_some(Protocol::Tcp);
                rule.watch = small.watch;
            }));
        }
        policy.add_list(PolicyList {
            uuid: Uuid::nil(), name: "list".into(), attachment_point: AttachmentPoint::Kubernetes, object: None,
            rules: compiled,
        });
        let protocol = if tcp { Protocol::Tcp } else { Protocol::Udp };
        let flow = flow(protocol, &format!("10.244.0.{source}"), port);
        let actual = match compile(&policy, &Switches::default()).evaluate(&flow, application.as_ref()).outcome {
            FirstPacket::Inspect => "inspect".to_owned(),
            FirstPacket::Decided(verdict) if verdict.decided_by == DEFAULT_ACTION => "default".to_owned(),
            FirstPacket::Decided(verdict) => {
                let action = if verdict.action == Action::Permit { "permit" } else { "deny" };
                format!("{action} by {}", verdict.decided_by.as_u128())
            }
        };
        prop_assert_eq!(actual, naive::decide(&rules, &flow, application.as_ref()));
    }
}
