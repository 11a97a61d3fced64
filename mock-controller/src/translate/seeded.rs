//! Seeded faults of policy: each changes what was compiled from the configuration, and leaves everything behind it as it
//! is. Must not know where objects and Pods come from.

use std::{cmp::Reverse, collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use uuid::Uuid;

use super::Translation;
use crate::{
    fault::{Fault, Faults},
    policy::{
        ANYWHERE, Action, AttachmentPoint, Cidr, FlowAppRequirement, Logging, Policy, PolicyList,
        PortRange, Protocol, Rule, Selector, Switches, WebGroup,
    },
};

/// Switches with the faults that are another position of one.
pub(crate) fn switches(switches: Switches, faults: &Faults) -> Switches {
    Switches {
        case_insensitive: switches.case_insensitive && !faults.has(Fault::CaseSensitiveNames),
        wildcard_matches_apex: switches.wildcard_matches_apex
            || faults.has(Fault::WildcardMatchesApex),
        ..switches
    }
}

/// Puts every active fault of policy into `translation`. `arrivals` numbers the policy objects by uid.
pub(super) fn distort(
    translation: &mut Translation,
    arrivals: &BTreeMap<String, u64>,
    faults: &Faults,
) {
    for fault in faults.iter() {
        let policy = &mut translation.policy;
        match fault {
            Fault::OnePolicyOnly => {
                newest_first(translation, arrivals);
                let lists = &mut translation.policy.lists;
                let newest = lists.iter().find(|list| is_mirror(list)).cloned();
                lists.retain(|list| !is_mirror(list) || Some(list) == newest.as_ref());
            }
            Fault::NewestPolicyFirst => newest_first(translation, arrivals),
            Fault::EmptyGroupMatchesAll => open_empty_groups(translation),
            Fault::DefaultActionPermit
            | Fault::DefaultActionUnlogged
            | Fault::DefaultActionFirst
            | Fault::DefaultActionInList => default_action(policy, fault),
            Fault::TierOrderWrong => policy.lists.sort_by_key(|list| !is_mirror(list)),
            Fault::CidrPermitIgnored | Fault::DomainPermitIgnored | Fault::PermitSourceIgnored => {
                administrators_permits(policy, fault);
            }
            Fault::LabelSelectorIgnored | Fault::NamespaceIgnored | Fault::AddressWidened => {
                selectors(policy, fault);
            }
            Fault::DomainSuffixMatch
            | Fault::DomainPrefixMatch
            | Fault::WildcardLiteral
            | Fault::BareStarIgnored => {
                for group in policy.web_groups.values_mut() {
                    Arc::make_mut(group).domains = domains(&group.domains, fault);
                }
            }
            Fault::AnyPortPasses => each_rule(policy, |rule| rule.ports.clear()),
            Fault::WatchEnforced => each_rule(policy, |rule| rule.watch = false),
            Fault::DenialsNotEnforced => {
                each_rule(policy, |rule| rule.watch |= rule.action == Action::Deny);
                policy.default_action.action = Action::Permit;
            }
            Fault::UdpPasses => let_pass(policy, Protocol::Udp, Vec::new(), Vec::new()),
            Fault::IcmpPasses => let_pass(policy, Protocol::Icmp, Vec::new(), Vec::new()),
            Fault::RegistryPasses => registries(policy),
            // Realised elsewhere.
            _ => {}
        }
    }
}

/// The list mirrors a policy object of a cluster.
fn is_mirror(list: &PolicyList) -> bool {
    list.object.is_some()
}

fn each_rule(policy: &mut Policy, change: impl FnMut(&mut Rule)) {
    policy
        .lists
        .iter_mut()
        .flat_map(|list| &mut list.rules)
        .for_each(change);
}

fn default_action(policy: &mut Policy, fault: Fault) {
    match fault {
        Fault::DefaultActionPermit => policy.default_action.action = Action::Permit,
        Fault::DefaultActionUnlogged => policy.default_action.logging = Logging::Off,
        Fault::DefaultActionFirst => policy.lists.clear(),
        _ => {
            let default = policy.default_action;
            let rule = Rule {
                action: default.action,
                logging: default.logging,
                ..rule("default action")
            };
            policy.add_list(list(
                "Default",
                AttachmentPoint::AfterKubernetes,
                vec![rule],
            ));
        }
    }
}

fn newest_first(translation: &mut Translation, arrivals: &BTreeMap<String, u64>) {
    let objects = &translation.objects;
    let arrival = |list: &PolicyList| {
        let object = objects.get(list.object.as_ref()?)?;
        arrivals.get(&object.uid).copied()
    };
    translation
        .policy
        .lists
        .sort_by_key(|list| (list.attachment_point, Reverse(arrival(list))));
}

fn open_empty_groups(translation: &mut Translation) {
    let groups = translation.policy.smart_groups.clone();
    let everything = Cidr::new(Ipv4Addr::UNSPECIFIED.into(), 0);
    for group in translation.policy.smart_groups.values_mut() {
        if group.resolve(&groups, &translation.inventory).is_empty() {
            Arc::make_mut(group).selectors = everything.map(Selector::Cidr).into_iter().collect();
        }
    }
}

fn administrators_permits(policy: &mut Policy, fault: Fault) {
    for list in policy.lists.iter_mut().filter(|list| !is_mirror(list)) {
        match fault {
            Fault::PermitSourceIgnored => {
                let permits = list
                    .rules
                    .iter_mut()
                    .filter(|rule| rule.action == Action::Permit);
                permits.for_each(|rule| rule.sources = vec![ANYWHERE]);
            }
            _ => {
                let by_domain = fault == Fault::DomainPermitIgnored;
                list.rules.retain(|rule| {
                    rule.action != Action::Permit || rule.web_groups.is_empty() == by_domain
                });
            }
        }
    }
}

fn selectors(policy: &mut Policy, fault: Fault) {
    let selectors = policy
        .smart_groups
        .values_mut()
        .flat_map(|group| &mut Arc::make_mut(group).selectors);
    for selector in selectors {
        match selector {
            Selector::Kubernetes(selector) if fault == Fault::NamespaceIgnored => {
                selector.namespace = None;
            }
            Selector::Kubernetes(selector) if fault == Fault::LabelSelectorIgnored => {
                selector.labels.clear();
            }
            Selector::Cidr(cidr) if fault == Fault::AddressWidened && cidr.is_single() => {
                *cidr = cidr.widened(8);
            }
            Selector::Kubernetes(_)
            | Selector::Cidr(_)
            | Selector::Group(_)
            | Selector::PublicInternet => {}
        }
    }
}

fn domains(listed: &[String], fault: Fault) -> Vec<String> {
    listed
        .iter()
        .filter_map(|domain| match fault {
            Fault::DomainSuffixMatch => Some(format!("*{}", domain.trim_start_matches("*."))),
            Fault::DomainPrefixMatch => Some(format!("{domain}*")),
            Fault::BareStarIgnored => (domain != "*").then(|| domain.clone()),
            _ => (!domain.contains('*')).then(|| domain.clone()),
        })
        .collect()
}

fn registries(policy: &mut Policy) {
    let group = WebGroup {
        uuid: Uuid::from_u128(0x0bad),
        name: "package registries".to_owned(),
        domains: ["*registry*", "*npm*", "*pypi*"].map(str::to_owned).into(),
        all_web: false,
    };
    let uuid = group.uuid;
    policy.add_web_group(group);
    let tls = PortRange {
        first: 443,
        last: 443,
    };
    let_pass(policy, Protocol::Tcp, vec![tls], vec![uuid]);
}

/// Permits before everything else, without a record.
fn let_pass(policy: &mut Policy, protocol: Protocol, ports: Vec<PortRange>, web_groups: Vec<Uuid>) {
    let rule = Rule {
        protocol: Some(protocol),
        ports,
        web_groups,
        ..rule("seeded fault")
    };
    let at = AttachmentPoint::BeforeUi;
    policy.lists.insert(0, list("seeded fault", at, vec![rule]));
}

fn list(name: &str, attachment_point: AttachmentPoint, rules: Vec<Rule>) -> PolicyList {
    PolicyList {
        uuid: Uuid::new_v5(&Uuid::NAMESPACE_OID, name.as_bytes()),
        name: name.to_owned(),
        attachment_point,
        object: None,
        rules,
    }
}

/// A permit from anywhere to anywhere, not logged.
fn rule(name: &str) -> Rule {
    Rule {
        uuid: Uuid::new_v5(&Uuid::NAMESPACE_URL, name.as_bytes()),
        name: name.to_owned(),
        sources: vec![ANYWHERE],
        destinations: vec![ANYWHERE],
        web_groups: Vec::new(),
        protocol: None,
        ports: Vec::new(),
        action: Action::Permit,
        logging: Logging::Off,
        watch: false,
        flow_app_requirement: FlowAppRequirement::default(),
    }
}
