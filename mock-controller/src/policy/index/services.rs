//! From protocol and destination port to the rules that name them.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    intervals::{Column, Intervals},
    sets::{SetBuilder, SetId, Union},
};
use crate::policy::{
    flow::{FiveTuple, Protocol},
    rule::Rule,
};

/// A rule with ports matches TCP and UDP alone.
#[derive(Clone, Debug)]
pub(super) struct ServiceIndex {
    tcp: Intervals<u16>,
    udp: Intervals<u16>,
    /// Protocols without ports that a rule names.
    portless: BTreeMap<Protocol, SetId>,
    /// Every other protocol.
    other: SetId,
}

impl ServiceIndex {
    pub(super) fn new(rules: &[&Rule], sets: &mut SetBuilder) -> Self {
        let named: BTreeSet<Protocol> = rules.iter().filter_map(|rule| rule.protocol).collect();
        let portless = named
            .into_iter()
            .filter(|protocol| !matches!(protocol, Protocol::Tcp | Protocol::Udp))
            .map(|protocol| (protocol, sets.of(without_ports(rules, Some(protocol)))))
            .collect();
        Self {
            portless,
            other: sets.of(without_ports(rules, None)),
            tcp: with_ports(rules, Protocol::Tcp, sets),
            udp: with_ports(rules, Protocol::Udp, sets),
        }
    }

    pub(super) fn at(&self, flow: &FiveTuple) -> Union {
        match flow.protocol {
            Protocol::Tcp => self.tcp.at(flow.destination_port),
            Protocol::Udp => self.udp.at(flow.destination_port),
            portless => {
                let rules = self.portless.get(&portless).copied();
                Union::from_iter([rules.unwrap_or(self.other)])
            }
        }
    }
}

/// Rules without ports, for any protocol or for `protocol`.
fn without_ports(rules: &[&Rule], protocol: Option<Protocol>) -> impl Iterator<Item = u32> {
    let rules = (0u32..).zip(rules).filter(move |(_, rule)| {
        rule.ports.is_empty() && (rule.protocol.is_none() || rule.protocol == protocol)
    });
    rules.map(|(ordinal, _)| ordinal)
}

fn with_ports(rules: &[&Rule], protocol: Protocol, sets: &mut SetBuilder) -> Intervals<u16> {
    // Few lists of ports, many rules.
    let mut alike: BTreeMap<Vec<(u16, u16)>, Vec<u32>> = BTreeMap::new();
    for (ordinal, rule) in (0u32..).zip(rules) {
        if rule.protocol.is_none_or(|wanted| wanted == protocol) {
            alike.entry(ports(rule)).or_default().push(ordinal);
        }
    }
    let columns = alike.into_iter().map(|(ranges, rules)| Column {
        rules: sets.of(rules),
        ranges,
    });
    let columns = columns.collect();
    Intervals::new(columns, sets)
}

/// The rule's ports as ranges that do not overlap, in ascending order.
fn ports(rule: &Rule) -> Vec<(u16, u16)> {
    if rule.ports.is_empty() {
        return vec![(0, u16::MAX)];
    }
    let ranges = rule.ports.iter().map(|range| (range.first, range.last));
    // An inverted range holds no port.
    let mut sorted: Vec<_> = ranges.filter(|(first, last)| first <= last).collect();
    sorted.sort_unstable();
    let mut ranges: Vec<(u16, u16)> = Vec::with_capacity(sorted.len());
    for (first, last) in sorted {
        match ranges.last_mut() {
            Some(previous) if first <= previous.1 => previous.1 = previous.1.max(last),
            _ => ranges.push((first, last)),
        }
    }
    ranges
}
