//! A policy evaluated as the documentation tells it: list by list, rule by rule, group by group, domain by domain.

use std::{collections::BTreeSet, net::IpAddr};

use mock_controller::policy::{
    Action, Application, ClusterInventory, DEFAULT_ACTION, Evaluation, FirstPacket, FiveTuple,
    FlowAppRequirement, KubernetesSelector, Logging, Protocol, Rule, Selector, Verdict,
};
use uuid::Uuid;

use crate::draw::World;

pub(crate) fn evaluate(
    world: &World,
    flow: &FiveTuple,
    application: Option<&Application>,
) -> Evaluation {
    let mut watched = Vec::new();
    for rule in world.policy.lists.iter().flat_map(|list| &list.rules) {
        if !matches_addresses(world, rule, flow) {
            continue;
        }
        let asks = !rule.web_groups.is_empty()
            || rule.flow_app_requirement == FlowAppRequirement::TlsRequired;
        if asks && flow.protocol == Protocol::Tcp && application.is_none() {
            return Evaluation {
                outcome: FirstPacket::Inspect,
                watched: Vec::new(),
            };
        }
        let application = match flow.protocol {
            Protocol::Tcp => application.unwrap_or(&Application::Other),
            _ => &Application::Other,
        };
        if !rule.web_groups.is_empty() && !matches_name(world, rule, flow, application) {
            continue;
        }
        let denied = rule.flow_app_requirement == FlowAppRequirement::TlsRequired
            && !matches!(application, Application::Tls { .. });
        let verdict = Verdict {
            action: if denied { Action::Deny } else { rule.action },
            decided_by: rule.uuid,
            rule: rule.name.clone(),
            logging: rule.logging,
            enforced: true,
        };
        if !rule.watch {
            return decided(verdict, watched);
        }
        watched.push(Verdict {
            logging: Logging::Start,
            enforced: false,
            ..verdict.clone()
        });
        if !world.switches.watch_continues {
            let passed = Verdict {
                action: Action::Permit,
                logging: Logging::Off,
                ..verdict
            };
            return decided(passed, watched);
        }
    }
    let default = world.policy.default_action;
    let verdict = Verdict {
        action: default.action,
        decided_by: DEFAULT_ACTION,
        rule: "default action".into(),
        logging: default.logging,
        enforced: true,
    };
    decided(verdict, watched)
}

fn decided(verdict: Verdict, watched: Vec<Verdict>) -> Evaluation {
    Evaluation {
        outcome: FirstPacket::Decided(verdict),
        watched,
    }
}

fn matches_addresses(world: &World, rule: &Rule, flow: &FiveTuple) -> bool {
    let protocol = rule.protocol.is_none() || rule.protocol == Some(flow.protocol);
    let port = rule.ports.is_empty()
        || matches!(flow.protocol, Protocol::Tcp | Protocol::Udp)
            && rule.ports.iter().any(|range| {
                range.first <= flow.destination_port && flow.destination_port <= range.last
            });
    let any = |groups: &[Uuid], address| {
        groups
            .iter()
            .any(|group| holds(world, *group, address, &mut BTreeSet::new()))
    };
    protocol && port && any(&rule.sources, flow.source) && any(&rule.destinations, flow.destination)
}

fn holds(world: &World, group: Uuid, address: IpAddr, asked: &mut BTreeSet<Uuid>) -> bool {
    let Some(group) = world.policy.smart_groups.get(&group) else {
        return false;
    };
    if !asked.insert(group.uuid) {
        return false;
    }
    group.selectors.iter().any(|selector| match selector {
        Selector::Cidr(block) => in_block(&block.to_string(), address),
        Selector::PublicInternet => match address {
            IpAddr::V4(address) => !address.is_private(),
            IpAddr::V6(_) => false,
        },
        Selector::Group(nested) => holds(world, *nested, address, asked),
        Selector::Kubernetes(selector) => {
            let clusters = world.inventory.clusters.iter();
            clusters
                .filter(|(id, _)| selector.cluster.as_ref().is_none_or(|wanted| wanted == *id))
                .any(|(_, cluster)| selects(selector, cluster, address))
        }
    })
}

fn in_block(block: &str, address: IpAddr) -> bool {
    let (first, prefix) = block.split_once('/').unwrap();
    let prefix: u32 = prefix.parse().unwrap();
    match (first.parse().unwrap(), address) {
        (IpAddr::V4(first), IpAddr::V4(address)) => {
            (first.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
        }
        (IpAddr::V6(first), IpAddr::V6(address)) => {
            (first.to_bits() ^ address.to_bits()).leading_zeros() >= prefix
        }
        _ => false,
    }
}

fn selects(selector: &KubernetesSelector, cluster: &ClusterInventory, address: IpAddr) -> bool {
    let namespace = |name: &String| {
        let labels = cluster.namespaces.get(name);
        selector
            .namespace
            .as_ref()
            .is_none_or(|wanted| wanted == name)
            && selector
                .namespace_labels
                .iter()
                .all(|(key, value)| labels.is_some_and(|labels| labels.get(key) == Some(value)))
    };
    let services: Vec<_> = cluster
        .services
        .iter()
        .filter(|service| {
            selector.service.as_ref() == Some(&service.name) && namespace(&service.namespace)
        })
        .collect();
    if services
        .iter()
        .any(|service| service.external_addresses.contains(&address))
    {
        return true;
    }
    cluster.pods.iter().any(|pod| {
        let labelled = |wanted: &mock_controller::policy::Labels| {
            wanted
                .iter()
                .all(|(key, value)| pod.labels.get(key) == Some(value))
        };
        let served = selector.service.is_none()
            || services.iter().any(|service| {
                !service.selector.is_empty()
                    && service.namespace == pod.namespace
                    && labelled(&service.selector)
            });
        served
            && pod.addresses.contains(&address)
            && namespace(&pod.namespace)
            && selector
                .pod
                .as_ref()
                .is_none_or(|wanted| *wanted == pod.name)
            && labelled(&selector.labels)
    })
}

fn matches_name(world: &World, rule: &Rule, flow: &FiveTuple, application: &Application) -> bool {
    let name = match application {
        Application::Other => return false,
        Application::Http { .. }
            if flow.destination_port == 443 && !world.switches.host_header_on_tls_port =>
        {
            return false;
        }
        Application::Http { host: Some(host) } => {
            let (name, port) = host.rsplit_once(':').unwrap_or((host, ""));
            let is_port = port.bytes().all(|byte| byte.is_ascii_digit());
            Some(if is_port { name } else { host })
        }
        Application::Http { host: None } => None,
        Application::Tls { sni } => sni.as_deref(),
    };
    let groups = rule
        .web_groups
        .iter()
        .filter_map(|group| world.policy.web_groups.get(group));
    if name.is_some_and(|name| !is_host_name(name)) {
        return false;
    }
    let name = name.map(|name| canonical(world, name));
    groups.into_iter().any(|group| {
        let listed = |name: &String| {
            let mut domains = group.domains.iter();
            domains.any(|domain| stands_for(world, domain, name))
        };
        group.all_web || name.as_ref().is_some_and(listed)
    })
}

/// RFC 1123 section 2.1 and RFC 1035 section 2.3.4, with the underscore of the vendor's alphabet.
fn is_host_name(name: &str) -> bool {
    let labels: Vec<&str> = name.strip_suffix('.').unwrap_or(name).split('.').collect();
    let total = labels.iter().map(|label| label.len() + 1).sum::<usize>() - 1;
    total <= 253
        && labels.iter().all(|label| {
            let letters: Vec<char> = label.chars().collect();
            let allowed =
                |letter: &char| letter.is_ascii_alphanumeric() || *letter == '-' || *letter == '_';
            !letters.is_empty()
                && letters.len() <= 63
                && letters.iter().all(allowed)
                && letters[0] != '-'
                && letters[letters.len() - 1] != '-'
        })
}

fn canonical(world: &World, name: &str) -> String {
    let name = name.strip_suffix('.').unwrap_or(name);
    if world.switches.case_insensitive {
        name.to_ascii_lowercase()
    } else {
        name.to_owned()
    }
}

fn stands_for(world: &World, domain: &str, name: &str) -> bool {
    let domain = canonical(world, domain);
    let apex = domain
        .strip_prefix("*.")
        .filter(|apex| world.switches.wildcard_matches_apex && !apex.contains('*'));
    let spans = world.switches.wildcard_spans_labels || domain == "*";
    apex == Some(name) || wildcard(domain.as_bytes(), name.as_bytes(), spans)
}

/// The definition of a wildcard, without any cleverness.
fn wildcard(pattern: &[u8], name: &[u8], spans: bool) -> bool {
    match pattern {
        [] => name.is_empty(),
        [b'*', rest @ ..] => (0..=name.len())
            .take_while(|taken| spans || !name[..*taken].contains(&b'.'))
            .any(|taken| wildcard(rest, &name[taken..], spans)),
        [byte, rest @ ..] => name.first() == Some(byte) && wildcard(rest, &name[1..], spans),
    }
}
