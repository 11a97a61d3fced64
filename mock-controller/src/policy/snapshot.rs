//! The compiled policy: immutable, shared with gateways as `Arc<Snapshot>`, evaluated per flow.

use std::{collections::BTreeMap, sync::Arc};

use uuid::Uuid;

use super::{
    address::AddressSet,
    domain::DomainSet,
    flow::{Action, Application, FirstPacket, FiveTuple, Protocol, Verdict},
    inventory::Inventory,
    rule::{DefaultAction, FlowAppRequirement, Policy, Rule},
    switches::Switches,
};

/// The uuid of the default action rule, the only rule that cannot be deleted.
pub const DEFAULT_ACTION: Uuid = Uuid::from_u128(0xdefa_11a1_2000_0000_0000_0000_0000_0000);

/// The policy in force, compiled. Each push of the controller is one snapshot with a generation of its own.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Rises by one with each push; 0 is the policy of a gateway that has heard from no controller yet.
    pub generation: u64,
    /// All lists, one behind the other: between lists the evaluation just goes on.
    rules: Vec<CompiledRule>,
    default_action: DefaultAction,
    watch_continues: bool,
}

/// The outcome of an evaluation, with the watch rules that matched before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    pub outcome: FirstPacket,
    /// Watch rules that matched on the way to a decision: to be logged, never to be enforced. Empty while the outcome
    /// is [`FirstPacket::Inspect`], so that each is reported once.
    pub watched: Vec<Verdict>,
}

impl Snapshot {
    /// The policy of a gateway that has no policy: deny all, logged.
    pub fn deny_all() -> Self {
        Self::default_action_alone(DefaultAction {
            action: Action::Deny,
            logging: true,
        })
    }

    /// The policy of a gateway that fails open: permit all, unlogged. Only a seeded fault enforces it.
    pub(crate) fn permit_all() -> Self {
        Self::default_action_alone(DefaultAction {
            action: Action::Permit,
            logging: false,
        })
    }

    fn default_action_alone(default_action: DefaultAction) -> Self {
        Self::compile(
            0,
            &Policy::new(default_action),
            &Inventory::default(),
            &Switches::default(),
        )
    }

    /// Resolves every group of `policy` against `inventory`. A rule that refers to a group that does not exist does
    /// not match through that reference; whoever builds a policy refuses such rules before.
    pub fn compile(
        generation: u64,
        policy: &Policy,
        inventory: &Inventory,
        switches: &Switches,
    ) -> Self {
        let groups: BTreeMap<Uuid, Arc<AddressSet>> = policy
            .smart_groups
            .values()
            .map(|group| {
                (
                    group.uuid,
                    Arc::new(group.resolve(&policy.smart_groups, inventory)),
                )
            })
            .collect();
        let rules = policy.lists.iter().flat_map(|list| &list.rules);
        Self {
            generation,
            rules: rules
                .map(|rule| CompiledRule::new(rule, policy, &groups, switches))
                .collect(),
            default_action: policy.default_action,
            watch_continues: switches.watch_continues,
        }
    }

    /// Evaluates a flow's first packet.
    pub fn first_packet(&self, flow: &FiveTuple) -> FirstPacket {
        self.evaluate(flow, None).outcome
    }

    /// Decides a flow whose application is known.
    pub fn decide(&self, flow: &FiveTuple, application: &Application) -> Verdict {
        match self.evaluate(flow, Some(application)).outcome {
            FirstPacket::Decided(verdict) => verdict,
            FirstPacket::Inspect => {
                unreachable!("invariant: with an application every rule decides or is skipped")
            }
        }
    }

    /// Evaluates a flow and reports the watch rules that matched as well. `application` is `None` for a first packet;
    /// with an application the outcome is always decided.
    pub fn evaluate(&self, flow: &FiveTuple, application: Option<&Application>) -> Evaluation {
        let mut watched = Vec::new();
        for rule in &self.rules {
            let action = match rule.matches(flow, application) {
                Match::No => continue,
                Match::NeedsApplication => {
                    return Evaluation {
                        outcome: FirstPacket::Inspect,
                        watched: Vec::new(),
                    };
                }
                Match::Yes(action) => action,
            };
            if !rule.watch {
                return Evaluation {
                    outcome: FirstPacket::Decided(rule.verdict(action)),
                    watched,
                };
            }
            watched.push(Verdict {
                logging: true,
                enforced: false,
                ..rule.verdict(action)
            });
            if !self.watch_continues {
                let passed = Verdict {
                    action: Action::Permit,
                    logging: false,
                    ..rule.verdict(action)
                };
                return Evaluation {
                    outcome: FirstPacket::Decided(passed),
                    watched,
                };
            }
        }
        Evaluation {
            outcome: FirstPacket::Decided(self.default_verdict()),
            watched,
        }
    }

    fn default_verdict(&self) -> Verdict {
        Verdict {
            action: self.default_action.action,
            decided_by: DEFAULT_ACTION,
            rule: "default action".to_owned(),
            logging: self.default_action.logging,
            enforced: true,
        }
    }
}

#[derive(Clone, Debug)]
struct CompiledRule {
    uuid: Uuid,
    name: String,
    sources: Vec<Arc<AddressSet>>,
    destinations: Vec<Arc<AddressSet>>,
    names: Option<DomainSet>,
    protocol: Option<Protocol>,
    ports: Vec<(u16, u16)>,
    action: Action,
    logging: bool,
    watch: bool,
    tls_required: bool,
}

enum Match {
    No,
    /// Addresses and ports match; the rest depends on what the flow speaks.
    NeedsApplication,
    Yes(Action),
}

impl CompiledRule {
    fn new(
        rule: &Rule,
        policy: &Policy,
        groups: &BTreeMap<Uuid, Arc<AddressSet>>,
        switches: &Switches,
    ) -> Self {
        let resolve = |uuids: &[Uuid]| {
            uuids
                .iter()
                .filter_map(|uuid| groups.get(uuid).cloned())
                .collect()
        };
        let web_groups = rule
            .web_groups
            .iter()
            .filter_map(|uuid| policy.web_groups.get(uuid));
        Self {
            uuid: rule.uuid,
            name: rule.name.clone(),
            sources: resolve(&rule.sources),
            destinations: resolve(&rule.destinations),
            names: (!rule.web_groups.is_empty()).then(|| DomainSet::new(web_groups, switches)),
            protocol: rule.protocol,
            ports: rule
                .ports
                .iter()
                .map(|range| (range.first, range.last))
                .collect(),
            action: rule.action,
            logging: rule.logging,
            watch: rule.watch,
            tls_required: rule.flow_app_requirement == FlowAppRequirement::TlsRequired,
        }
    }

    fn matches(&self, flow: &FiveTuple, application: Option<&Application>) -> Match {
        if !self.matches_addresses(flow) {
            return Match::No;
        }
        if self.names.is_none() && !self.tls_required {
            return Match::Yes(self.action);
        }
        // Names are read from TCP alone: QUIC and the like show none to the gateway.
        let application = match (flow.protocol, application) {
            (Protocol::Tcp, None) => return Match::NeedsApplication,
            (Protocol::Tcp, Some(application)) => application,
            _ => &Application::Other,
        };
        if self
            .names
            .as_ref()
            .is_some_and(|names| !names.matches(application, flow.destination_port))
        {
            return Match::No;
        }
        let tls = matches!(application, Application::Tls { .. });
        Match::Yes(if self.tls_required && !tls {
            Action::Deny
        } else {
            self.action
        })
    }

    fn matches_addresses(&self, flow: &FiveTuple) -> bool {
        let ported = matches!(flow.protocol, Protocol::Tcp | Protocol::Udp);
        let port = flow.destination_port;
        self.protocol
            .is_none_or(|protocol| protocol == flow.protocol)
            && (self.ports.is_empty()
                || ported
                    && self
                        .ports
                        .iter()
                        .any(|(first, last)| (first..=last).contains(&&port)))
            && self.sources.iter().any(|group| group.contains(flow.source))
            && self
                .destinations
                .iter()
                .any(|group| group.contains(flow.destination))
    }

    fn verdict(&self, action: Action) -> Verdict {
        Verdict {
            action,
            decided_by: self.uuid,
            rule: self.name.clone(),
            logging: self.logging,
            enforced: true,
        }
    }
}
