//! ClusterIP Services: which endpoint a new flow to a virtual address goes to.
//!
//! Owns: the table and the choice. Faithful to kube-proxy: endpoints are chosen per flow, a port without
//! endpoints is rejected. Not faithful: choice is round robin from a seed, not random; no session
//! affinity, no traffic policies, no node ports.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddrV4};

use crate::fabric::packet::Protocol;

/// One port of a Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ServicePort {
    pub address: Ipv4Addr,
    pub protocol: Protocol,
    pub port: u16,
}

/// Every port of every Service with a ClusterIP, and its ready endpoints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServiceTable(pub BTreeMap<ServicePort, Vec<SocketAddrV4>>);

/// A [`ServiceTable`] and the place of each port's round robin.
#[derive(Debug, Default)]
pub struct Balancer {
    table: ServiceTable,
    turns: BTreeMap<ServicePort, u64>,
    seed: u64,
}

impl Balancer {
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            seed,
            ..Self::default()
        }
    }

    pub fn set(&mut self, table: ServiceTable) {
        self.turns.retain(|port, _| table.0.contains_key(port));
        self.table = table;
    }

    /// The endpoint for the next new flow; None when the port has no endpoint or there is no such port.
    pub fn choose(&mut self, port: ServicePort) -> Option<SocketAddrV4> {
        let endpoints = self.table.0.get(&port).filter(|list| !list.is_empty())?;
        let turn = self.turns.entry(port).or_insert(self.seed);
        let choice = endpoints[(*turn % endpoints.len() as u64) as usize];
        *turn = turn.wrapping_add(1);
        Some(choice)
    }

    #[must_use]
    pub fn serves(&self, port: &ServicePort, endpoint: &SocketAddrV4) -> bool {
        self.table
            .0
            .get(port)
            .is_some_and(|list| list.contains(endpoint))
    }
}
