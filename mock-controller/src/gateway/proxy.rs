//! The proxy: a TCP flow whose fate depends on what the client says first.
//!
//! The gateway answers the client's SYN itself, takes its bytes until the application shows, and asks the policy. Only a
//! permit opens the flow to the destination, with the client's own initial sequence number, so that from then on just
//! the destination's sequence numbers need translation:
//!
//! ```text
//! Inspecting --permit--> Opening --SYN-ACK--> Replaying --all acknowledged--> Spliced
//!      \--deny--> Refusing                                      any of them --reset--> Closed
//! ```
//!
//! Neither side is offered window scaling, SACK or timestamps (RFC 9293 section 3.2 has the maximum segment size only),
//! so nothing in a segment but those numbers differs between the two sides. What the gateway sends itself it repeats
//! until it is acknowledged, except its SYN-ACK: a client that missed it repeats its SYN.

mod closing;
mod inspecting;
mod opening;
mod splice;

use std::{net::IpAddr, time::Duration};

use super::{
    Config, DropReason, Side,
    config::Timeouts,
    core::Core,
    emit::{Emit, Kind},
    flow::{Head, Progress},
    packet::{Packet, Segment},
    reassembly::Reassembly,
    shares::Resource,
};
use crate::{fault::Fault, policy::Application, record::SessionEnd, time::Now};

/// The largest segment on links of 1500 bytes, by family (RFC 6691).
const MAXIMUM_SEGMENT_SIZE: u16 = 1460;
const MAXIMUM_SEGMENT_SIZE_IPV6: u16 = 1440;

/// The state machine of one proxied flow.
pub(super) struct Proxy {
    /// Whose share the buffer is of.
    source: IpAddr,
    client: Client,
    input: Reassembly,
    /// Known once the policy was asked.
    application: Option<Application>,
    phase: Phase,
}

/// The client's side of the connection.
struct Client {
    /// The gateway's own initial sequence number towards the client.
    gateway_isn: u32,
    maximum_segment_size: u16,
    window: u16,
    /// Highest acknowledgment it sent, in the gateway's numbers.
    acknowledged: u32,
    /// Sequence number after its latest segment.
    sequence: u32,
}

/// The destination's side of the connection.
#[derive(Clone, Copy)]
struct Server {
    /// What to add to its sequence numbers for the client.
    shift: u32,
    maximum_segment_size: u16,
    window: u16,
    /// First byte it has not acknowledged, and first byte not yet replayed to it.
    acknowledged: u32,
    sent: u32,
}

enum Phase {
    Inspecting {
        until: Duration,
        /// The client has completed the handshake.
        connected: bool,
    },
    Opening {
        retry: Retry,
    },
    Replaying {
        server: Server,
        retry: Retry,
        progress: Progress,
    },
    Spliced {
        server: Server,
        progress: Progress,
    },
    Refusing {
        retry: Retry,
        fin_acknowledged: bool,
    },
    /// Whoever still sends learns with a reset that there is no connection.
    Closed,
}

/// When to send the same thing again.
#[derive(Clone, Copy)]
struct Retry {
    at: Duration,
    attempt: u32,
}

/// What the table has to do after the proxy took a packet or a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Next {
    Stay,
    /// The policy permits the flow: give it an outside port, then call [`Proxy::open`].
    Open,
    Remove,
}

impl Retry {
    fn first(now: Now, timeouts: &Timeouts) -> Self {
        Self {
            at: now.monotonic + timeouts.retransmission,
            attempt: 0,
        }
    }

    /// The next attempt, with the wait doubled; `None` after the last one.
    fn next(self, now: Now, timeouts: &Timeouts) -> Option<Self> {
        let attempt = self.attempt + 1;
        let wait = timeouts.retransmission.saturating_mul(1 << attempt.min(16));
        (attempt <= timeouts.retries).then(|| Self {
            at: now.monotonic + wait,
            attempt,
        })
    }
}

impl Proxy {
    /// Takes a client's SYN and answers it.
    pub(super) fn accept(core: &mut Core, now: Now, head: &Head, segment: &Segment<'_>) -> Self {
        let gateway_isn = core.random_u32();
        let first = segment.sequence.wrapping_add(1);
        let proxy = Self {
            source: head.client.ip(),
            client: Client {
                gateway_isn,
                maximum_segment_size: segment.maximum_segment_size().min(largest_segment(head)),
                window: segment.window,
                acknowledged: gateway_isn.wrapping_add(1),
                sequence: first,
            },
            input: Reassembly::new(first, core.config.limits.buffered_per_flow),
            application: None,
            phase: Phase::Inspecting {
                until: now.monotonic + core.config.timeouts.inspection,
                connected: false,
            },
        };
        proxy.answer_syn(core, head);
        proxy
    }

    pub(super) fn is_inspecting(&self) -> bool {
        matches!(self.phase, Phase::Inspecting { .. })
    }

    /// The client's address.
    pub(super) fn source(&self) -> IpAddr {
        self.source
    }

    /// Whether nothing passes any more.
    pub(super) fn is_over(&self) -> bool {
        match &self.phase {
            Phase::Refusing { .. } | Phase::Closed => true,
            Phase::Replaying { progress, .. } | Phase::Spliced { progress, .. } => {
                progress.is_over()
            }
            Phase::Inspecting { .. } | Phase::Opening { .. } => false,
        }
    }

    /// What the policy was asked about, if the flow was permitted and still lives.
    pub(super) fn permitted(&self) -> Option<&Application> {
        match self.phase {
            Phase::Opening { .. } | Phase::Replaying { .. } | Phase::Spliced { .. } => {
                self.application.as_ref()
            }
            Phase::Inspecting { .. } | Phase::Refusing { .. } | Phase::Closed => None,
        }
    }

    pub(super) fn deadline(&self, last_seen: Duration, config: &Config) -> Duration {
        match &self.phase {
            Phase::Inspecting { until, .. } => *until,
            Phase::Opening { retry } | Phase::Replaying { retry, .. } => retry.at,
            Phase::Spliced { progress, .. } => {
                last_seen + progress.idle_timeout(crate::policy::Protocol::Tcp, config)
            }
            Phase::Refusing {
                retry,
                fin_acknowledged: false,
                ..
            } => retry.at,
            Phase::Refusing { .. } | Phase::Closed => last_seen + config.timeouts.linger,
        }
    }

    /// A segment from the client.
    pub(super) fn handle_client(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
    ) -> Next {
        // Except where it only passes through, the gateway is the receiver, and has to do what receivers do.
        if !matches!(self.phase, Phase::Spliced { .. }) && !packet.transport_checksum_is_right() {
            core.counters.drop(DropReason::Malformed);
            return Next::Stay;
        }
        match self.phase {
            Phase::Inspecting { .. } => return self.inspect(core, now, head, segment),
            Phase::Opening { .. } => self.client_while_opening(core, now, head, segment),
            Phase::Replaying { .. } => {
                self.client_while_replaying(core, now, head, packet, segment)
            }
            Phase::Spliced { .. } => self.splice_outward(core, now, head, packet, segment),
            Phase::Refusing { .. } => self.client_while_refusing(core, head, segment),
            Phase::Closed => self.refuse_stray(core, head, Side::Inside, segment),
        }
        Next::Stay
    }

    /// A segment from the destination.
    pub(super) fn handle_server(
        &mut self,
        core: &mut Core,
        now: Now,
        head: &mut Head,
        packet: &Packet<'_>,
        segment: &Segment<'_>,
    ) {
        match self.phase {
            Phase::Opening { .. } if packet.transport_checksum_is_right() => {
                self.server_while_opening(core, now, head, segment);
            }
            Phase::Replaying { .. } if packet.transport_checksum_is_right() => {
                self.server_while_replaying(core, now, head, packet, segment);
            }
            Phase::Opening { .. } | Phase::Replaying { .. } => {
                core.counters.drop(DropReason::Malformed)
            }
            Phase::Spliced { .. } => self.splice_inward(core, now, head, packet, segment),
            Phase::Closed => self.refuse_stray(core, head, Side::Outside, segment),
            Phase::Inspecting { .. } | Phase::Refusing { .. } => {
                core.counters.drop(DropReason::Unsolicited)
            }
        }
    }

    pub(super) fn handle_timeout(&mut self, core: &mut Core, now: Now, head: &mut Head) -> Next {
        match self.phase {
            Phase::Inspecting {
                connected: true, ..
            } if core.has(Fault::StallOpens) => Next::Open,
            Phase::Inspecting { connected, .. } => {
                head.session.showed_no_name(core, now);
                if !connected {
                    return Next::Remove;
                }
                self.refuse(core, now, head);
                Next::Stay
            }
            Phase::Opening { retry } => self.retry_open(core, now, head, retry),
            Phase::Replaying { server, retry, .. } => {
                self.retry_replay(core, now, head, server, retry)
            }
            Phase::Refusing {
                retry,
                fin_acknowledged: false,
                ..
            } => self.retry_refusal(core, now, head, retry),
            Phase::Spliced { .. } => {
                head.session.end(core, now, SessionEnd::Timeout);
                Next::Remove
            }
            Phase::Refusing { .. } | Phase::Closed => Next::Remove,
        }
    }

    /// Gives the memory of its buffer back.
    pub(super) fn release(&mut self, core: &mut Core) {
        core.shares
            .give_back(self.source, Resource::Buffer, self.input.buffered());
        self.input = Reassembly::new(self.input.next(), 0);
    }

    /// The sequence number that the client expects from the gateway, while nothing was passed on to it.
    fn own_sequence(&self) -> u32 {
        self.client.gateway_isn.wrapping_add(1)
    }

    /// How much more the client may send while the gateway buffers.
    fn window(&self) -> u16 {
        u16::try_from(self.input.window()).unwrap_or(u16::MAX)
    }

    fn answer_syn(&self, core: &mut Core, head: &Head) {
        let syn = Kind::Syn {
            maximum_segment_size: largest_segment(head),
        };
        self.to_client(core, head, self.client.gateway_isn, syn, self.window());
    }

    fn acknowledge(&self, core: &mut Core, head: &Head) {
        self.to_client(core, head, self.own_sequence(), Kind::Data, self.window());
    }

    fn to_client(&self, core: &mut Core, head: &Head, sequence: u32, kind: Kind, window: u16) {
        let emit = Emit {
            source: head.destination,
            destination: head.client,
            sequence,
            acknowledgment: Some(self.input.next()),
            window,
            kind,
            payload: &[],
        };
        core.transmit(Side::Inside, emit.packet());
    }

    fn reset_client(&self, core: &mut Core, head: &Head) {
        self.to_client(core, head, self.client.acknowledged, Kind::Rst, 0);
    }

    /// Resets the destination's side. A reset counts only at the exact number that its receiver expects (RFC 5961
    /// section 3.2), which is what it acknowledged last.
    fn reset_server(core: &mut Core, head: &Head, sequence: u32) {
        let Some(outside) = head.outside else { return };
        let emit = Emit {
            source: outside,
            destination: head.destination,
            sequence,
            acknowledgment: None,
            window: 0,
            kind: Kind::Rst,
            payload: &[],
        };
        core.transmit(Side::Outside, emit.packet());
    }
}

/// The largest segment that either end of this flow may be sent.
fn largest_segment(head: &Head) -> u16 {
    if head.destination.is_ipv4() {
        MAXIMUM_SEGMENT_SIZE
    } else {
        MAXIMUM_SEGMENT_SIZE_IPV6
    }
}

/// Whether `a` comes before `b` (RFC 9293 section 3.4).
fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

fn min_seq(a: u32, b: u32) -> u32 {
    if before(a, b) { a } else { b }
}
