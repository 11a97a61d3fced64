//! The compiled policy: immutable, shared with gateways as `Arc<Snapshot>`, evaluated per flow.

use uuid::Uuid;

use super::{
    flow::{Action, Application, FirstPacket, FiveTuple, Protocol, Verdict},
    index::RuleIndex,
    inventory::Inventory,
    rule::{DefaultAction, FlowAppRequirement, Logging, Policy, Rule},
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
    index: RuleIndex,
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
            logging: Logging::Start,
        })
    }

    /// The policy of a gateway that fails open: permit all, unlogged. Only a seeded fault enforces it.
    pub(crate) fn permit_all() -> Self {
        Self::default_action_alone(DefaultAction {
            action: Action::Permit,
            logging: Logging::Off,
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
        let rules: Vec<&Rule> = policy.lists.iter().flat_map(|list| &list.rules).collect();
        Self {
            generation,
            index: RuleIndex::new(&rules, policy, inventory, switches),
            rules: rules.into_iter().map(CompiledRule::new).collect(),
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
        for ordinal in self.index.matching(flow, application) {
            let rule = &self.rules[ordinal as usize];
            let tls = match (flow.protocol, application) {
                (Protocol::Tcp, None) if rule.needs_application => {
                    return Evaluation {
                        outcome: FirstPacket::Inspect,
                        watched: Vec::new(),
                    };
                }
                (Protocol::Tcp, Some(Application::Tls { .. })) => true,
                _ => false,
            };
            let action = if rule.tls_required && !tls {
                Action::Deny
            } else {
                rule.action
            };
            if !rule.watch {
                return Evaluation {
                    outcome: FirstPacket::Decided(rule.verdict(action)),
                    watched,
                };
            }
            watched.push(Verdict {
                logging: Logging::Start,
                enforced: false,
                ..rule.verdict(action)
            });
            if !self.watch_continues {
                let passed = Verdict {
                    action: Action::Permit,
                    logging: Logging::Off,
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

/// What a rule does with a flow that it matches.
#[derive(Clone, Debug)]
struct CompiledRule {
    uuid: Uuid,
    name: String,
    action: Action,
    logging: Logging,
    watch: bool,
    tls_required: bool,
    /// What the rule does depends on what the flow speaks.
    needs_application: bool,
}

impl CompiledRule {
    fn new(rule: &Rule) -> Self {
        let tls_required = rule.flow_app_requirement == FlowAppRequirement::TlsRequired;
        Self {
            uuid: rule.uuid,
            name: rule.name.clone(),
            action: rule.action,
            logging: rule.logging,
            watch: rule.watch,
            tls_required,
            needs_application: tls_required || !rule.web_groups.is_empty(),
        }
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
