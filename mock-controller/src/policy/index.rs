//! The rules of a policy, indexed: a flow is looked up once per dimension (names, source, destination, service), and
//! the rules that all dimensions leave are walked in evaluation order, so that a flow's cost does not grow with the
//! rules that it has nothing to do with.
//!
//! Rules without WebGroups are numbered before those with: the two kinds share no word of a set, so that a walk for a
//! name skips the first, and one for a port that only names are read from skips the second, wherever they stand in the
//! policy. Each kind is walked in evaluation order, and the two walks are merged.
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
    sets::{Common, RuleSets, SetBuilder, SetId, Union},
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
    /// Where in the evaluation order each rule stands.
    ordinals: Vec<u32>,
    /// Rules without WebGroups.
    plain: SetId,
    /// Rules with WebGroups.
    web: SetId,
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
        let is_plain = |rule: &&Rule| rule.web_groups.is_empty();
        let in_order = || (0u32..).zip(rules.iter().copied());
        let plain = in_order().filter(|(_, rule)| is_plain(rule));
        let web = in_order().filter(|(_, rule)| !is_plain(rule));
        let (ordinals, rules): (Vec<u32>, Vec<&Rule>) = plain.chain(web).unzip();
        let numbered = || (0u32..).zip(rules.iter().copied());
        let of_kind = |plain| numbered().filter(move |(_, rule)| is_plain(rule) == plain);

        let mut sets = SetBuilder::new(rules.len());
        let mut groups = Groups::new(&policy.smart_groups, inventory);
        let sources = numbered().map(|(number, rule)| (number, &*rule.sources));
        let sources = AddressIndex::new(&mut groups, sources, &mut sets);
        let destinations = numbered().map(|(number, rule)| (number, &*rule.destinations));
        let destinations = AddressIndex::new(&mut groups, destinations, &mut sets);
        Self {
            services: ServiceIndex::new(&rules, &mut sets),
            names: NameIndex::new(&rules, &policy.web_groups, switches, &mut sets),
            plain: sets.of(of_kind(true).map(|(number, _)| number)),
            web: sets.of(of_kind(false).map(|(number, _)| number)),
            sources,
            destinations,
            sets: sets.finish(),
            ordinals,
        }
    }

    /// The ordinals of the rules that match the flow, in evaluation order. `application` is `None` for a first packet:
    /// then names are left out of the question where a later packet can show one.
    pub(super) fn matching(
        &self,
        flow: &FiveTuple,
        application: Option<&Application>,
    ) -> impl Iterator<Item = u32> {
        let web = match (flow.protocol, application) {
            (Protocol::Tcp, None) => Union::from_iter([self.web]),
            (Protocol::Tcp, Some(application)) => self.names.at(application, flow.destination_port),
            // Names are read from TCP alone: QUIC and the like show none to the gateway.
            _ => Union::default(),
        };
        let sources = self.sources.at(flow.source);
        let destinations = self.destinations.at(flow.destination);
        let services = self.services.at(flow);
        let plain = Union::from_iter([self.plain]);
        let plain = [
            plain,
            sources.clone(),
            destinations.clone(),
            services.clone(),
        ];
        let plain = self.sets.common(plain);
        let web = self.sets.common([web, sources, destinations, services]);
        Matching {
            plain: Walk::new(plain, &self.ordinals),
            web: Walk::new(web, &self.ordinals),
        }
    }
}

/// Two walks as one.
struct Matching<'a> {
    plain: Walk<'a>,
    web: Walk<'a>,
}

/// A walk, and the ordinal of the rule that it comes to next.
struct Walk<'a> {
    common: Common<'a>,
    ordinals: &'a [u32],
    next: Option<u32>,
}

impl<'a> Walk<'a> {
    fn new(common: Common<'a>, ordinals: &'a [u32]) -> Self {
        let mut walk = Self {
            common,
            ordinals,
            next: None,
        };
        walk.step();
        walk
    }

    fn step(&mut self) -> Option<u32> {
        let next = self.common.next();
        std::mem::replace(
            &mut self.next,
            next.map(|number| self.ordinals[number as usize]),
        )
    }
}

impl Iterator for Matching<'_> {
    type Item = u32;

    fn next(&mut self) -> Option<u32> {
        match (self.plain.next, self.web.next) {
            (Some(plain), Some(web)) if web < plain => self.web.step(),
            (None, _) => self.web.step(),
            (Some(_), _) => self.plain.step(),
        }
    }
}
