//! From an address to the rules whose groups hold it, on one side of a flow.
//!
//! A group that others nest is not copied into them: the rules of the outer group are handed down to it instead, so
//! that 2,000 groups nested in each other cost what their own selectors cost.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::Arc,
};

use uuid::Uuid;

use super::{
    intervals::{Column, Intervals},
    sets::{SetBuilder, SetId, Union},
};
use crate::policy::{
    address::AddressSet,
    group::{Selector, SmartGroup},
    inventory::Inventory,
};

type Ranges = Vec<(IpAddr, IpAddr)>;

/// All SmartGroups, with what their own selectors select now, read once for both sides of a flow.
pub(super) struct Groups<'a> {
    groups: Vec<&'a SmartGroup>,
    index: HashMap<Uuid, usize>,
    /// For each group, those that it nests; empty if no group nests another.
    nested: Vec<Vec<usize>>,
    own: Vec<Option<Ranges>>,
    inventory: &'a Inventory,
}

impl<'a> Groups<'a> {
    pub(super) fn new(
        groups: &'a BTreeMap<Uuid, Arc<SmartGroup>>,
        inventory: &'a Inventory,
    ) -> Self {
        let index: HashMap<Uuid, usize> = groups.keys().copied().zip(0..).collect();
        let nested = |group: &SmartGroup| -> Vec<usize> {
            let selectors = group.selectors.iter();
            selectors
                .filter_map(|selector| match selector {
                    Selector::Group(uuid) => index.get(uuid).copied(),
                    _ => None,
                })
                .collect()
        };
        let groups: Vec<&SmartGroup> = groups.values().map(|group| &**group).collect();
        let mut nested: Vec<_> = groups.iter().map(|group| nested(group)).collect();
        if nested.iter().all(Vec::is_empty) {
            nested.clear();
        }
        Self {
            own: vec![None; groups.len()],
            groups,
            index,
            nested,
            inventory,
        }
    }

    /// For each group, the rules that `referring` gives it, or that a group around it has.
    fn rules(
        &self,
        referring: impl Iterator<Item = (u32, &'a [Uuid])>,
        sets: &mut SetBuilder,
    ) -> Vec<SetId> {
        let mut direct: Vec<Vec<u32>> = vec![Vec::new(); self.groups.len()];
        for (rule, references) in referring {
            for group in references.iter().filter_map(|uuid| self.index.get(uuid)) {
                direct[*group].push(rule);
            }
        }
        let mut rules: Vec<SetId> = direct.into_iter().map(|rules| sets.of(rules)).collect();
        if self.nested.is_empty() {
            return rules;
        }
        let mut around: Vec<Vec<usize>> = vec![Vec::new(); self.groups.len()];
        for (outer, nested) in self.nested.iter().enumerate() {
            nested.iter().for_each(|inner| around[*inner].push(outer));
        }
        let order = self.outer_first();
        // One round is enough unless groups nest in a circle.
        let mut settled = false;
        while !settled {
            settled = true;
            for group in &order {
                let around = around[*group].iter().map(|outer| rules[*outer]);
                let all: Vec<SetId> = around.chain([rules[*group]]).collect();
                let all = sets.union(&all);
                settled &= all == rules[*group];
                rules[*group] = all;
            }
        }
        rules
    }

    /// The groups in an order in which each stands behind those that nest it, circles aside.
    fn outer_first(&self) -> Vec<usize> {
        let mut order = Vec::with_capacity(self.groups.len());
        let mut seen = vec![false; self.groups.len()];
        for start in 0..self.groups.len() {
            if std::mem::replace(&mut seen[start], true) {
                continue;
            }
            // Nesting can be deep: the path is kept here and not on the stack.
            let mut path = vec![(start, self.nested[start].iter())];
            while let Some((group, rest)) = path.last_mut() {
                match rest.next() {
                    Some(inner) if std::mem::replace(&mut seen[*inner], true) => {}
                    Some(inner) => path.push((*inner, self.nested[*inner].iter())),
                    None => {
                        order.push(*group);
                        path.pop();
                    }
                }
            }
        }
        order.reverse();
        order
    }

    fn own(&mut self, group: usize) -> &Ranges {
        let inventory = self.inventory;
        let definition = self.groups[group];
        self.own[group].get_or_insert_with(|| definition.own_ranges(inventory))
    }
}

/// One side of a flow.
#[derive(Clone, Debug)]
pub(super) struct AddressIndex {
    v4: Intervals<u32>,
    v6: Intervals<u128>,
}

impl AddressIndex {
    /// `referring` gives each rule with the groups of this side.
    pub(super) fn new<'a>(
        groups: &mut Groups<'a>,
        referring: impl Iterator<Item = (u32, &'a [Uuid])>,
        sets: &mut SetBuilder,
    ) -> Self {
        // Groups with the same rules are one for a flow.
        let mut alike: BTreeMap<SetId, Ranges> = BTreeMap::new();
        for (group, rules) in groups.rules(referring, sets).into_iter().enumerate() {
            if rules != SetId::EMPTY {
                alike.entry(rules).or_default().extend(groups.own(group));
            }
        }
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for (rules, ranges) in alike {
            let mut column_v4 = Vec::new();
            let mut column_v6 = Vec::new();
            for range in AddressSet::from_ranges(ranges).ranges() {
                match range {
                    (IpAddr::V4(first), IpAddr::V4(last)) => {
                        column_v4.push((first.to_bits(), last.to_bits()));
                    }
                    (IpAddr::V6(first), IpAddr::V6(last)) => {
                        column_v6.push((first.to_bits(), last.to_bits()));
                    }
                    _ => unreachable!("invariant: both ends of a range are of one family"),
                }
            }
            v4.push(Column {
                rules,
                ranges: column_v4,
            });
            v6.push(Column {
                rules,
                ranges: column_v6,
            });
        }
        Self {
            v4: Intervals::new(v4, sets),
            v6: Intervals::new(v6, sets),
        }
    }

    pub(super) fn at(&self, address: IpAddr) -> Union {
        match address {
            IpAddr::V4(address) => self.v4.at(address.to_bits()),
            IpAddr::V6(address) => self.v6.at(address.to_bits()),
        }
    }
}
