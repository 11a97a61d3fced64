//! The rules of a policy, indexed: a flow is looked up once per dimension (names, source, destination, service), and
//! the rules that all dimensions leave are walked in evaluation order, so that a flow's cost does not grow with the
//! rules that it has nothing to do with.
//!
//! Decides nothing: what a rule that matches does is the snapshot's. Pure.

mod addresses;
mod intervals;
mod names;
mod services;
mod sets;

use self::{
    addresses::{AddressIndex, Groups},
    names::NameIndex,
    services::ServiceIndex,
    sets::{RuleSets, SetBuilder, SetId, Union},
};
use super::{
    flow::{Application, FiveTuple, Protocol},
    inventory::Inventory,
    rule::{Policy, Rule},
    switches::Switches,
};

#[derive(Clone, Debug)]
pub(super) struct RuleIndex {
    sets: RuleSets,
    all: SetId,
    sources: AddressIndex,
    destinations: AddressIndex,
    services: ServiceIndex,
    names: NameIndex,
}

impl RuleIndex {
    /// Indexes `rules`, which stand in evaluation order. References to groups that `policy` does not have hold nothing.
    pub(super) fn new(
        rules: &[&Rule],
        policy: &Policy,
        inventory: &Inventory,
        switches: &Switches,
    ) -> Self {
        let mut sets = SetBuilder::new(rules.len());
        let mut groups = Groups::new(&policy.smart_groups, inventory);
        let rules_in_order = || (0u32..).zip(rules);
        let sources = rules_in_order().map(|(ordinal, rule)| (ordinal, &*rule.sources));
        let sources = AddressIndex::new(&mut groups, sources, &mut sets);
        let destinations = rules_in_order().map(|(ordinal, rule)| (ordinal, &*rule.destinations));
        let destinations = AddressIndex::new(&mut groups, destinations, &mut sets);
        let services = ServiceIndex::new(rules, &mut sets);
        let names = NameIndex::new(rules, &policy.web_groups, switches, &mut sets);
        Self {
            all: sets.of(rules_in_order().map(|(ordinal, _)| ordinal)),
            sources,
            destinations,
            services,
            names,
            sets: sets.finish(),
        }
    }

    /// The ordinals of the rules that match the flow, in evaluation order. `application` is `None` for a first packet:
    /// then names are left out of the question where a later packet can show one.
    pub(super) fn matching(
        &self,
        flow: &FiveTuple,
        application: Option<&Application>,
    ) -> impl Iterator<Item = u32> {
        let names = match (flow.protocol, application) {
            (Protocol::Tcp, None) => Union::from_iter([self.all]),
            (Protocol::Tcp, Some(application)) => self.names.at(application, flow.destination_port),
            // Names are read from TCP alone: QUIC and the like show none to the gateway.
            _ => self.names.without_name(),
        };
        self.sets.common([
            names,
            self.sources.at(flow.source),
            self.destinations.at(flow.destination),
            self.services.at(flow),
        ])
    }
}
