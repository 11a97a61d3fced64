//! Each seeded fault of policy, by a flow that shows the difference.

use super::*;
use crate::fault::Fault;

/// One flow: where from, where to, what it speaks.
#[derive(Clone, Debug)]
struct Probe {
    protocol: Protocol,
    source: u8,
    destination: [u8; 4],
    port: u16,
    application: Application,
}

/// TLS with this name, from 10.244.0.`source`.
fn sni(source: u8, name: &str) -> Probe {
    Probe {
        protocol: Protocol::Tcp,
        source,
        destination: [198, 51, 100, 7],
        port: 443,
        application: tls(name),
    }
}

fn on_port(port: u16, probe: Probe) -> Probe {
    Probe { port, ..probe }
}

fn over(protocol: Protocol, probe: Probe) -> Probe {
    Probe { protocol, ..probe }
}

/// To the API server of the cluster, which shows no name.
fn to_api_server(source: u8) -> Probe {
    Probe {
        destination: [10, 0, 0, 10],
        application: Application::Other,
        ..sni(source, "")
    }
}

fn spec_of(app: &str, domains: Value) -> Value {
    let labels = json!({"matchLabels": {"app": app}});
    let spec = with(server_spec(), "/webGroups/0/domains", domains);
    let spec = with(spec, "/rules/0/selector", labels.clone());
    with(spec, "/rules/1/selector", labels)
}

/// Three servers, one of them without Pods, and an administrator's list: the API server for all Pods, and a domain for
/// the orchestrator, 10.244.0.50. The default action denies, logged.
fn site() -> Setup {
    let watch = json!({"name": "watch", "action": "deny", "watch": true, "selector": {"matchLabels": {"app": "crm"}},
        "destinationSmartGroups": [{"name": "any-destination"}], "webGroups": [{"name": "watched"}]});
    let mut crm = spec_of("crm", json!(["*"]));
    crm["webGroups"]
        .as_array_mut()
        .unwrap()
        .push(json!({"name": "watched", "domains": ["quiet.test"]}));
    crm["rules"].as_array_mut().unwrap().insert(0, watch);
    let mut setup = Setup::firewall([
        (
            "ehr",
            spec_of("ehr", json!(["fhir.ehr.test", "*.lab.test"])),
        ),
        ("crm", crm),
        ("gone", spec_of("gone", json!(["gone.test"]))),
    ]);
    let mut group = |selector: Value| {
        let group = json!({"name": "g", "selector": {"any": [{"all": selector}]}});
        setup.store.create_app_domain(group).unwrap()
    };
    let pods = group(json!({"cidr": "10.244.0.0/16"}));
    let orchestrator = group(json!({"cidr": "10.244.0.50/32"}));
    let api_server = group(json!({"cidr": "10.0.0.10/32"}));
    let chart = group(json!({"snifilter": "charts.test"}));
    let permit = |name: &str, priority: u32, from: Uuid, to: Uuid, web: Option<Uuid>| {
        json!({"name": name, "action": "PERMIT", "priority": priority, "protocol": "tcp", "src_ads": [from],
            "dst_ads": [to], "web_filters": web.iter().collect::<Vec<_>>(), "port_ranges": [{"lo": 443}]})
    };
    let rules = vec![
        permit("api-server", 1, pods, api_server, None),
        permit("charts", 2, orchestrator, ANYWHERE, Some(chart)),
    ];
    setup.store.set_policy_list(rules).unwrap();
    setup.store.set_default_action(DefaultAction {
        action: Action::Deny,
        logging: Logging::Start,
    });
    setup
}

impl Setup {
    fn verdict(&self, probe: &Probe) -> crate::policy::Evaluation {
        let cluster = ClusterObjects {
            firewall_policies: self.firewall_policies.clone(),
            inventory: inventory(),
            arrivals: [("uid-ehr", 0), ("uid-crm", 1), ("uid-gone", 2)]
                .map(|(uid, arrival)| (uid.to_owned(), arrival))
                .into(),
            ..ClusterObjects::default()
        };
        let clusters = BTreeMap::from([(CLUSTER.to_owned(), cluster)]);
        let Translation {
            policy, inventory, ..
        } = translate(&self.store, &clusters, &self.switches, &self.faults);
        let switches = seeded_switches(self.switches, &self.faults);
        let snapshot = Snapshot::compile(1, &policy, &inventory, &switches);
        let flow = FiveTuple {
            protocol: probe.protocol,
            source: [10, 244, 0, probe.source].into(),
            source_port: 40000,
            destination: probe.destination.into(),
            destination_port: probe.port,
        };
        snapshot.evaluate(&flow, Some(&probe.application))
    }

    fn decided(&self, probe: &Probe) -> Verdict {
        let FirstPacket::Decided(verdict) = self.verdict(probe).outcome else {
            panic!("with an application everything is decided");
        };
        verdict
    }
}

const EHR: u8 = 10;
const CRM: u8 = 11;
/// Has the labels of `ehr`, in another namespace.
const NAMESAKE: u8 = 12;
const ORCHESTRATOR: u8 = 50;
/// Nobody knows it.
const STRANGER: u8 = 99;

#[rstest]
#[case(Fault::DefaultActionPermit, sni(STRANGER, "evil.test"), ["deny default action", "permit default action"])]
#[case(Fault::DefaultActionFirst, sni(EHR, "fhir.ehr.test"), ["permit allow-approved-egress", "deny default action"])]
#[case(Fault::TierOrderWrong, to_api_server(EHR), ["permit api-server", "deny deny-all-external"])]
#[case(Fault::CidrPermitIgnored, to_api_server(STRANGER), ["permit api-server", "deny default action"])]
#[case(Fault::DomainPermitIgnored, sni(ORCHESTRATOR, "charts.test"), ["permit charts", "deny default action"])]
#[case(Fault::PermitSourceIgnored, sni(EHR, "charts.test"), ["deny deny-all-external", "permit charts"])]
#[case(Fault::AddressWidened, sni(STRANGER, "charts.test"), ["deny default action", "permit charts"])]
#[case(Fault::OnePolicyOnly, sni(EHR, "fhir.ehr.test"), ["permit allow-approved-egress", "deny default action"])]
#[case(Fault::NamespaceIgnored, sni(NAMESAKE, "fhir.ehr.test"), ["deny default action", "permit allow-approved-egress"])]
#[case(Fault::EmptyGroupMatchesAll, sni(STRANGER, "gone.test"), ["deny default action", "permit allow-approved-egress"])]
#[case(Fault::DomainSuffixMatch, sni(EHR, "evil-lab.test"), ["deny deny-all-external", "permit allow-approved-egress"])]
#[case(Fault::DomainSuffixMatch, sni(EHR, "not-fhir.ehr.test"), ["deny deny-all-external", "permit allow-approved-egress"])]
#[case(Fault::DomainPrefixMatch, sni(EHR, "a.lab.test.evil.test"), ["deny deny-all-external", "permit allow-approved-egress"])]
#[case(Fault::DomainPrefixMatch, sni(EHR, "fhir.ehr.test.evil.test"), ["deny deny-all-external", "permit allow-approved-egress"])]
#[case(Fault::WildcardMatchesApex, sni(EHR, "lab.test"), ["deny deny-all-external", "permit allow-approved-egress"])]
#[case(Fault::WildcardLiteral, sni(EHR, "a.lab.test"), ["permit allow-approved-egress", "deny deny-all-external"])]
#[case(Fault::BareStarIgnored, sni(CRM, "any.test"), ["permit allow-approved-egress", "deny deny-all-external"])]
#[case(Fault::CaseSensitiveNames, sni(EHR, "FHIR.ehr.test"), ["permit allow-approved-egress", "deny deny-all-external"])]
#[case(Fault::AnyPortPasses, on_port(8443, sni(EHR, "fhir.ehr.test")), ["deny deny-all-external", "permit allow-approved-egress"])]
#[case(Fault::UdpPasses, over(Protocol::Udp, sni(EHR, "")), ["deny deny-all-external", "permit seeded fault"])]
#[case(Fault::IcmpPasses, over(Protocol::Icmp, sni(EHR, "")), ["deny deny-all-external", "permit seeded fault"])]
#[case(Fault::RegistryPasses, sni(EHR, "registry.npmjs.org"), ["deny deny-all-external", "permit seeded fault"])]
#[case(Fault::WatchEnforced, sni(CRM, "quiet.test"), ["permit allow-approved-egress", "deny watch"])]
#[case(Fault::DenialsNotEnforced, sni(EHR, "evil.test"), ["deny deny-all-external", "permit default action"])]
fn a_fault_decides_otherwise(
    #[case] fault: Fault,
    #[case] probe: Probe,
    #[case] expected: [&str; 2],
) {
    let mut setup = site();
    let said = |setup: &Setup| {
        let verdict = setup.decided(&probe);
        let action = match verdict.action {
            Action::Permit => "permit",
            Action::Deny => "deny",
        };
        format!("{action} {}", verdict.rule)
    };
    let right = said(&setup);
    setup.faults = fault.into();
    assert_eq!([right.as_str(), said(&setup).as_str()], expected);
}

#[test]
fn label_selector_ignored_makes_members_of_the_whole_namespace() {
    let mut setup = site();
    let members = |setup: &Setup| {
        let Translation {
            policy, inventory, ..
        } = setup.translate();
        let is_ehr = |list: &&PolicyList| {
            list.object
                .as_ref()
                .is_some_and(|object| object.name == "ehr")
        };
        let source = policy.lists.iter().find(is_ehr).unwrap().rules[0].sources[0];
        let group = policy.smart_groups[&source].resolve(&policy.smart_groups, &inventory);
        [EHR, CRM, NAMESAKE].map(|last| group.contains([10, 244, 0, last].into()))
    };
    assert_eq!(members(&setup).iter().filter(|member| **member).count(), 1);
    setup.faults = Fault::LabelSelectorIgnored.into();
    assert_eq!(members(&setup), [true, true, false]);
}

#[test]
fn default_action_unlogged_denies_in_silence() {
    let mut setup = site();
    assert!(setup.decided(&sni(STRANGER, "evil.test")).logging.is_on());
    setup.faults = Fault::DefaultActionUnlogged.into();
    let verdict = setup.decided(&sni(STRANGER, "evil.test"));
    assert_eq!(
        (verdict.action, verdict.logging),
        (Action::Deny, Logging::Off)
    );
}

#[test]
fn default_action_in_list_decides_under_another_name() {
    let mut setup = site();
    setup.faults = Fault::DefaultActionInList.into();
    let verdict = setup.decided(&sni(STRANGER, "evil.test"));
    assert_eq!(
        (verdict.action, verdict.logging),
        (Action::Deny, Logging::Start)
    );
    assert_ne!(verdict.decided_by, crate::policy::DEFAULT_ACTION);
}

#[test]
fn denials_not_enforced_are_logged_all_the_same() {
    let mut setup = site();
    setup.faults = Fault::DenialsNotEnforced.into();
    let watched = setup.verdict(&sni(EHR, "evil.test")).watched;
    assert_eq!(watched.len(), 1);
    assert!(
        watched[0].action == Action::Deny && watched[0].logging.is_on() && !watched[0].enforced
    );
}

#[test]
fn newest_policy_first_orders_by_arrival() {
    let mut setup = site();
    // Both select the Pod of `ehr`.
    setup.firewall_policies[1] = object("crm", spec_of("ehr", json!(["other.test"])));
    setup.faults = Fault::NewestPolicyFirst.into();
    let newest = |setup: &Setup| setup.decided(&sni(EHR, "other.test")).action;
    for seed in 0..8 {
        setup.switches.object_order_seed = seed;
        assert_eq!(newest(&setup), Action::Permit);
    }
    setup.faults = Faults::default();
    let seen: std::collections::BTreeSet<_> = (0..8)
        .map(|seed| {
            setup.switches.object_order_seed = seed;
            newest(&setup) == Action::Permit
        })
        .collect();
    assert_eq!(seen.len(), 2, "without it the order is drawn");
}
