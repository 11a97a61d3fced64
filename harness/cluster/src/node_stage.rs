//! What a Kubernetes node does to a packet between its pods and the rest: Services, NetworkPolicy,
//! masquerade.
//!
//! Pure: no clock, no IO. Order of work per packet, as kube-proxy with a policy agent behind it: known
//! flows are translated and pass; a new flow has its Service address replaced by an endpoint, then
//! NetworkPolicy judges it, then its source is replaced by the node's address where that is asked for.
//!
//! Faithful: replies of allowed flows pass; the node reaches its own pods whatever policies say; a Service
//! without endpoints answers "port unreachable"; a pod that reaches itself through a Service is
//! masqueraded, as kube-proxy does; ICMP errors are translated with the flow they belong to.
//! Not faithful: a policy that changes leaves flows that it allowed before alone (Kubernetes leaves this
//! open); fragments are followed only behind their first one, as no packet is ever reassembled. Services and masquerade
//! are IPv4 only, as in a dual-stack cluster whose Services are `SingleStack`; NetworkPolicy judges both families.

pub mod conntrack;
pub mod policy;
pub mod service;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use crate::fabric::packet::{self, Kind, Parsed, Protocol, Tuple};
use conntrack::{Conntrack, Direction};
use policy::{Cidr, PolicyDirection, PolicyTable};
use service::{Balancer, ServicePort, ServiceTable};

/// Ports from which a masqueraded flow gets one when its own is taken (as Linux's default range).
const MASQUERADE_PORTS: std::ops::RangeInclusive<u16> = 32768..=60999;
/// Fragmented packets that are followed at a time.
const FRAGMENTED: usize = 1024;
const FRAGMENT_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
pub struct NodeConfig {
    /// The node's own addresses; the first one is the source of masqueraded flows.
    pub addresses: Vec<Ipv4Addr>,
    /// The pods' ranges, one per family.
    pub pods: Vec<Cidr>,
    pub services: Cidr,
    pub masquerade: bool,
    pub seed: u64,
}

/// Why a packet went no further.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum DropReason {
    NetworkPolicy {
        direction: PolicyDirection,
        policies: Vec<String>,
    },
    /// A Service address or port without an endpoint.
    NoEndpoint,
    /// An address of the cluster that nobody has, or one that is never routed.
    NoRoute,
    /// The source is not the sender's own address.
    Spoofed,
    Malformed,
    NotIp,
    /// A fragment whose first one was not seen.
    Fragment,
    /// An ICMP error about a flow that does not exist.
    Unrelated,
    FlowTableFull,
    /// An injected loss.
    Impaired,
    /// The kernel refused the packet at the receiver's device.
    Device,
}

#[derive(Debug)]
pub enum Passage {
    /// The packet was rewritten in place and goes to its destination.
    Forward(Tuple),
    /// The sender gets this answer.
    Reject(Vec<u8>, DropReason),
    Drop(DropReason),
}

#[derive(Debug)]
pub struct NodeStage {
    config: NodeConfig,
    flows: Conntrack,
    balancer: Balancer,
    policies: PolicyTable,
    /// First fragments' tuples before and after translation, by addresses and identification.
    fragments: BTreeMap<(IpAddr, IpAddr, Protocol, u16), (Tuple, Duration)>,
}

impl NodeStage {
    #[must_use]
    pub fn new(config: NodeConfig) -> Self {
        Self {
            balancer: Balancer::new(config.seed),
            config,
            flows: Conntrack::default(),
            policies: PolicyTable::default(),
            fragments: BTreeMap::new(),
        }
    }

    #[must_use]
    pub fn config(&self) -> &NodeConfig {
        &self.config
    }

    /// Flows of datagrams whose endpoint is gone are forgotten, so that clients find the new one, as kube-proxy has it. A
    /// TCP connection stays translated while its endpoint has an address: its last segments must reach the client as
    /// those of the service.
    pub fn set_services(&mut self, table: ServiceTable) {
        self.balancer.set(table);
        let (balancer, services) = (&self.balancer, self.config.services);
        self.flows.forget(|flow| {
            flow.original.protocol != Protocol::Tcp
                && service_port(services, &flow.original).is_some_and(|port| {
                    endpoint(&flow.translated)
                        .is_none_or(|endpoint| !balancer.serves(&port, &endpoint))
                })
        });
    }

    pub fn set_policies(&mut self, table: PolicyTable) {
        self.policies = table;
    }

    pub fn set_masquerade(&mut self, on: bool) {
        self.config.masquerade = on;
    }

    /// Forgets the flows of an address that changes hands.
    pub fn forget(&mut self, address: IpAddr) {
        self.flows.forget(|flow| flow.involves(address));
    }

    /// Passes one packet, rewriting it in place. `parsed` describes `packet`.
    pub fn pass(&mut self, now: Duration, packet: &mut [u8], parsed: &Parsed) -> Passage {
        let translated = match parsed.kind {
            Kind::LaterFragment => return self.pass_fragment(now, packet, parsed),
            Kind::IcmpError { cause } => return self.pass_error(packet, parsed, &cause),
            Kind::Tcp(_) | Kind::Udp | Kind::Echo | Kind::Other => {
                match self.flows.follow(now, &parsed.tuple, &parsed.kind) {
                    Some(translated) => translated,
                    None => match self.admit(now, &parsed.tuple) {
                        Ok(translated) => translated,
                        Err(DropReason::NoEndpoint) => return reject(packet, parsed),
                        Err(reason) => return Passage::Drop(reason),
                    },
                }
            }
        };
        if parsed.fragment.is_some() {
            self.remember_fragment(now, parsed, translated);
        }
        packet::rewrite(packet, parsed, &translated);
        Passage::Forward(translated)
    }

    pub fn handle_timeout(&mut self, now: Duration) {
        if self.flows.next_sweep().is_some_and(|at| at <= now) {
            self.flows.sweep(now);
        }
    }

    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        self.flows.next_sweep()
    }

    /// Admits a new flow: translates it, asks NetworkPolicy, remembers it.
    fn admit(&mut self, now: Duration, original: &Tuple) -> Result<Tuple, DropReason> {
        let mut flow = *original;
        if let Some(port) = service_port(self.config.services, &flow) {
            let endpoint = self.balancer.choose(port).ok_or(DropReason::NoEndpoint)?;
            flow.destination = (*endpoint.ip()).into();
            flow.destination_port = endpoint.port();
        }
        let hairpin = flow.source == flow.destination;
        // A pod cannot be denied to itself, nor to its own node.
        if !hairpin && !self.is_node(flow.source) {
            self.policies
                .judge(&flow)
                .map_err(|denial| DropReason::NetworkPolicy {
                    direction: denial.direction,
                    policies: denial.policies,
                })?;
        }
        // The node has no IPv6 address to put in a pod's place.
        let leaves = self.config.masquerade
            && flow.source.is_ipv4()
            && self.is_pod(flow.source)
            && !self.is_local(flow.destination);
        if hairpin || leaves {
            flow = self.masqueraded(flow).ok_or(DropReason::FlowTableFull)?;
        }
        self.flows
            .insert(now, *original, flow)
            .map_err(|_| DropReason::FlowTableFull)?;
        Ok(flow)
    }

    /// Whether an address belongs to this cluster, used or not.
    #[must_use]
    pub fn is_local(&self, address: IpAddr) -> bool {
        self.is_pod(address) || self.config.services.contains(address) || self.is_node(address)
    }

    fn is_pod(&self, address: IpAddr) -> bool {
        self.config.pods.iter().any(|range| range.contains(address))
    }

    fn is_node(&self, address: IpAddr) -> bool {
        self.config
            .addresses
            .iter()
            .any(|own| IpAddr::V4(*own) == address)
    }

    fn masqueraded(&self, flow: Tuple) -> Option<Tuple> {
        let source = IpAddr::V4(*self.config.addresses.first()?);
        let with_port = |source_port| Tuple {
            source,
            source_port,
            ..flow
        };
        std::iter::once(flow.source_port)
            .chain(MASQUERADE_PORTS)
            .map(with_port)
            .find(|candidate| self.flows.is_free(candidate))
    }

    fn pass_error(&mut self, packet: &mut [u8], parsed: &Parsed, cause: &Tuple) -> Passage {
        // The error is about a packet that its sender received, so it travels with that packet's replies.
        let Some((flow, direction)) = self.flows.find(&cause.reversed()) else {
            return Passage::Drop(DropReason::Unrelated);
        };
        let (received, sent) = match direction {
            Direction::Reply => (flow.translated, flow.original),
            Direction::Original => (flow.original.reversed(), flow.translated.reversed()),
        };
        // An answer of the translated address itself must come from the address that was asked.
        let source = match parsed.tuple.source {
            address if address == received.destination => sent.destination,
            router => router,
        };
        packet::rewrite_error(packet, parsed, source, &sent);
        Passage::Forward(Tuple {
            source,
            destination: sent.source,
            ..parsed.tuple
        })
    }

    fn remember_fragment(&mut self, now: Duration, parsed: &Parsed, translated: Tuple) {
        if self.fragments.len() >= FRAGMENTED {
            self.fragments
                .retain(|_, (_, seen)| now.saturating_sub(*seen) < FRAGMENT_TIMEOUT);
        }
        if self.fragments.len() < FRAGMENTED
            && let Some(key) = fragment_key(parsed)
        {
            self.fragments.insert(key, (translated, now));
        }
    }

    fn pass_fragment(&mut self, now: Duration, packet: &mut [u8], parsed: &Parsed) -> Passage {
        let known = fragment_key(parsed)
            .and_then(|key| self.fragments.get(&key))
            .filter(|(_, seen)| now.saturating_sub(*seen) < FRAGMENT_TIMEOUT);
        let Some((translated, _)) = known.copied() else {
            return Passage::Drop(DropReason::Fragment);
        };
        packet::rewrite(packet, parsed, &translated);
        Passage::Forward(translated)
    }
}

fn reject(packet: &[u8], parsed: &Parsed) -> Passage {
    match packet::port_unreachable(packet, parsed) {
        Some(answer) => Passage::Reject(answer, DropReason::NoEndpoint),
        None => Passage::Drop(DropReason::NoEndpoint),
    }
}

fn fragment_key(parsed: &Parsed) -> Option<(IpAddr, IpAddr, Protocol, u16)> {
    let tuple = &parsed.tuple;
    Some((
        tuple.source,
        tuple.destination,
        tuple.protocol,
        parsed.fragment?,
    ))
}

/// The Service's port that a flow asks for; none when it goes elsewhere.
fn service_port(services: Cidr, flow: &Tuple) -> Option<ServicePort> {
    match flow.destination {
        IpAddr::V4(address) if services.contains(flow.destination) => Some(ServicePort {
            address,
            protocol: flow.protocol,
            port: flow.destination_port,
        }),
        _ => None,
    }
}

fn endpoint(flow: &Tuple) -> Option<SocketAddrV4> {
    match flow.destination {
        IpAddr::V4(address) => Some(SocketAddrV4::new(address, flow.destination_port)),
        IpAddr::V6(_) => None,
    }
}

#[cfg(test)]
mod tests;
