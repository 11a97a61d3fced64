//! The router between pods, the node and the gateway.
//!
//! Pure: no clock, no IO; a driver reads and writes devices and does what [`Forward`] says. Owns: which
//! address is behind which port, where a packet goes after the node stage, and the account of what went
//! nowhere. Knows neither the gateway's policy nor namespaces.
//!
//! Not faithful: no ARP, no neighbour discovery, no link layer, no TTL decrement.

pub mod impairment;
pub mod packet;

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::Duration;

use crate::node_stage::{DropReason, NodeConfig, NodeStage, Passage};
use impairment::{Effect, Impairments};
use packet::{Malformed, Parsed, Tuple};

/// Dropped packets that are kept in detail; the counts go on.
pub const DROPS_KEPT: usize = 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct PortId(pub u32);

/// What is behind a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Port {
    Pod,
    /// The node's own namespace, with the pods that run in it.
    Node,
    /// Everything beyond the gateway.
    Internet,
}

/// Where a packet comes from: a port, or the gateway's inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    Port(PortId),
    Gateway,
}

/// What the driver has to do with the packet, which was rewritten in place.
#[derive(Debug, PartialEq, Eq)]
pub enum Forward {
    Deliver(PortId),
    /// Leaves the cluster: to the gateway's inside.
    Leave,
    /// Comes from the internet: to the gateway's outside.
    Enter,
    /// The sender gets this packet instead.
    Answer(Vec<u8>),
    /// Later: hand the packet in again through [`Fabric::poll_delayed`].
    Held,
    Dropped,
}

/// A packet that went nowhere.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DroppedPacket {
    /// Monotonic time of the driver.
    #[serde(skip)]
    pub at: Duration,
    /// As its sender sent it; None when it could not be parsed.
    pub flow: Option<Tuple>,
    #[serde(flatten)]
    pub reason: DropReason,
}

#[derive(Clone, Debug, Default)]
pub struct Drops {
    pub counts: BTreeMap<DropReason, u64>,
    pub recent: VecDeque<DroppedPacket>,
}

#[derive(Debug)]
pub struct Fabric {
    node: NodeStage,
    ports: BTreeMap<PortId, Port>,
    routes: BTreeMap<IpAddr, PortId>,
    impairments: Impairments,
    drops: Drops,
    next: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("address {0} is attached already")]
pub struct AddressInUse(pub IpAddr);

impl Fabric {
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        Self {
            impairments: Impairments::new(config.seed),
            node: NodeStage::new(config),
            ports: BTreeMap::new(),
            routes: BTreeMap::new(),
            drops: Drops::default(),
            next: 0,
        }
    }

    pub fn node_mut(&mut self) -> &mut NodeStage {
        &mut self.node
    }

    pub fn impairments_mut(&mut self) -> &mut Impairments {
        &mut self.impairments
    }

    #[must_use]
    pub fn drops(&self) -> &Drops {
        &self.drops
    }

    /// Adds a port that these addresses are behind.
    pub fn attach(&mut self, port: Port, addresses: &[IpAddr]) -> Result<PortId, AddressInUse> {
        if let Some(used) = addresses
            .iter()
            .find(|address| self.routes.contains_key(address))
        {
            return Err(AddressInUse(*used));
        }
        let id = PortId(self.next);
        self.next += 1;
        for address in addresses {
            self.node.forget(*address);
            self.routes.insert(*address, id);
        }
        self.ports.insert(id, port);
        Ok(id)
    }

    /// The port that an address is behind.
    #[must_use]
    pub fn port_behind(&self, address: IpAddr) -> Option<PortId> {
        self.routes.get(&address).copied()
    }

    pub fn detach(&mut self, id: PortId) {
        self.ports.remove(&id);
        let node = &mut self.node;
        self.routes.retain(|address, port| {
            let keep = *port != id;
            if !keep {
                node.forget(*address);
            }
            keep
        });
    }

    /// Routes one packet, rewriting it in place.
    pub fn handle(&mut self, now: Duration, from: Origin, packet: &mut [u8]) -> Forward {
        match self.port_of(from) {
            Some(Port::Internet) => Forward::Enter,
            sender => match self.route(now, from, sender, packet) {
                Ok(forward) => forward,
                Err((flow, reason)) => {
                    self.note(now, flow, reason);
                    Forward::Dropped
                }
            },
        }
    }

    /// A delayed packet whose time has come, with the place it came from.
    pub fn poll_delayed(&mut self, now: Duration) -> Option<(Origin, Vec<u8>)> {
        self.impairments.poll(now)
    }

    /// Continues with a packet from [`Self::poll_delayed`]: no rule impairs it a second time.
    pub fn handle_delayed(&mut self, now: Duration, from: Origin, packet: &mut [u8]) -> Forward {
        let result = Parsed::new(packet)
            .map_err(|error| (None, error.into()))
            .and_then(|parsed| self.pass(now, from, packet, &parsed));
        result.unwrap_or_else(|(flow, reason)| {
            self.note(now, flow, reason);
            Forward::Dropped
        })
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        self.node.handle_timeout(now);
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        [self.node.poll_timeout(), self.impairments.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// Counts a packet that was dropped, also on behalf of the driver.
    pub fn note(&mut self, at: Duration, flow: Option<Tuple>, reason: DropReason) {
        *self.drops.counts.entry(reason.clone()).or_default() += 1;
        if self.drops.recent.len() == DROPS_KEPT {
            self.drops.recent.pop_front();
        }
        self.drops
            .recent
            .push_back(DroppedPacket { at, flow, reason });
    }

    fn port_of(&self, from: Origin) -> Option<Port> {
        match from {
            Origin::Port(id) => self.ports.get(&id).copied(),
            Origin::Gateway => None,
        }
    }

    fn route(
        &mut self,
        now: Duration,
        from: Origin,
        sender: Option<Port>,
        packet: &mut [u8],
    ) -> Result<Forward, (Option<Tuple>, DropReason)> {
        let parsed = Parsed::new(packet).map_err(|error| (None, error.into()))?;
        let source = parsed.tuple.source;
        let genuine = match sender {
            // Every address of the sender's namespace is routed to it.
            Some(Port::Pod | Port::Node) => {
                self.routes.get(&source).map(|id| Origin::Port(*id)) == Some(from)
            }
            // Nobody outside can speak for an address inside.
            Some(Port::Internet) | None => !self.node.is_local(source),
        };
        if !genuine {
            return Err((Some(parsed.tuple), DropReason::Spoofed));
        }
        match self.impairments.effect(&parsed.tuple) {
            Some(Effect::Drop { .. }) => return Err((Some(parsed.tuple), DropReason::Impaired)),
            Some(Effect::Delay(delay)) if self.impairments.hold(now + delay, from, packet) => {
                return Ok(Forward::Held);
            }
            Some(Effect::Delay(_)) => return Err((Some(parsed.tuple), DropReason::Impaired)),
            None => {}
        }
        self.pass(now, from, packet, &parsed)
    }

    fn pass(
        &mut self,
        now: Duration,
        from: Origin,
        packet: &mut [u8],
        parsed: &Parsed,
    ) -> Result<Forward, (Option<Tuple>, DropReason)> {
        let failed = |reason| (Some(parsed.tuple), reason);
        if !is_routed(parsed.tuple.destination) {
            return Err(failed(DropReason::NoRoute));
        }
        let translated = match self.node.pass(now, packet, parsed) {
            Passage::Forward(translated) => translated,
            Passage::Drop(reason) => return Err(failed(reason)),
            Passage::Reject(answer, reason) => {
                self.note(now, Some(parsed.tuple), reason);
                return Ok(Forward::Answer(answer));
            }
        };
        match self.routes.get(&translated.destination) {
            Some(port) => Ok(Forward::Deliver(*port)),
            // What the gateway sends inside never goes back to it.
            None if from == Origin::Gateway || self.node.is_local(translated.destination) => {
                Err(failed(DropReason::NoRoute))
            }
            None => Ok(Forward::Leave),
        }
    }
}

/// Link-local (instance metadata too), multicast and the like stay on the pod's link, where nobody is.
fn is_routed(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => {
            !(address.is_link_local()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_broadcast()
                || address.octets()[0] == 0)
        }
        // An IPv4 address in IPv6 notation is for sockets, never for the wire (RFC 4291 section 2.5.5.2).
        IpAddr::V6(address) => {
            !(address.is_unicast_link_local()
                || address.is_loopback()
                || address.is_multicast()
                || address.is_unspecified()
                || address.to_ipv4_mapped().is_some())
        }
    }
}

impl From<Malformed> for DropReason {
    fn from(malformed: Malformed) -> Self {
        match malformed {
            Malformed::NotIp => Self::NotIp,
            Malformed::Header => Self::Malformed,
        }
    }
}

#[cfg(test)]
mod tests;
