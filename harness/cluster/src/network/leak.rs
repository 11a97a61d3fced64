//! Seeded leaks of the network: packets that no gateway permitted, and answers that no far end gave. They show that a
//! verdict rests on every source of evidence: each leaves out one that would give it away.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::Duration;

use etherparse::{NetSlice, PacketBuilder, SlicedPacket, TransportSlice};
use mock_controller::policy::Action;
use mock_controller::record::LogRecord;

use crate::fault::{ClusterFault, ClusterFaults};

/// From the denial to the leak.
const DELAY: Duration = Duration::from_millis(400);
/// Another address of the gateway's network (RFC 5737), and a host of the attacker that no step names.
const FROM: ([u8; 4], u16) = ([203, 0, 113, 7], 4242);
const TO: ([u8; 4], u16) = ([192, 0, 2, 68], 123);
const TIME_TO_LIVE: u8 = 64;
/// Leaks that wait at the same time.
const MAX_DUE: usize = 64;

/// A packet to the internet.
pub(super) struct Leak {
    pub(super) packet: Vec<u8>,
    /// Whether the capture outside shows it.
    pub(super) captured: bool,
}

/// What is due, and when.
#[derive(Default)]
pub(super) struct Leaks {
    due: VecDeque<(Duration, Leak)>,
}

impl Leaks {
    /// A denial was logged: a leak follows where a fault says so.
    pub(super) fn logged(&mut self, faults: &ClusterFaults, now: Duration, record: &LogRecord) {
        let late = faults.contains(&ClusterFault::LateLeak);
        let unseen = faults.contains(&ClusterFault::LeakPastCapture);
        if !(late || unseen) || record.action() != Action::Deny || self.due.len() >= MAX_DUE {
            return;
        }
        let text = format!("denied {}", record.flow().destination);
        let packet = datagram(FROM, TO, text.as_bytes());
        let at = if late { now + DELAY } else { now };
        self.due.push_back((
            at,
            Leak {
                packet,
                captured: late,
            },
        ));
    }

    /// The next leak that is due.
    pub(super) fn poll(&mut self, now: Duration) -> Option<Leak> {
        let (at, _) = self.due.front()?;
        (*at <= now)
            .then(|| self.due.pop_front())
            .flatten()
            .map(|(_, leak)| leak)
    }

    /// When the next one is.
    pub(super) fn poll_timeout(&self) -> Option<Duration> {
        self.due.front().map(|(at, _)| *at)
    }
}

/// The answer that a seeded fault gives to a datagram in its destination's place.
pub(super) fn answer(faults: &ClusterFaults, packet: &[u8]) -> Option<Vec<u8>> {
    if !faults.contains(&ClusterFault::AnswersForFarEnds) {
        return None;
    }
    let sliced = SlicedPacket::from_ip(packet).ok()?;
    let (Some(NetSlice::Ipv4(ip)), Some(TransportSlice::Udp(udp))) =
        (&sliced.net, &sliced.transport)
    else {
        return None;
    };
    let header = ip.header();
    let from = (header.destination(), udp.destination_port());
    let to = (header.source(), udp.source_port());
    Some(datagram(from, to, b"ok\n"))
}

fn datagram(from: ([u8; 4], u16), to: ([u8; 4], u16), payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ipv4(from.0, to.0, TIME_TO_LIVE).udp(from.1, to.1);
    let mut packet = Vec::with_capacity(builder.size(payload.len()));
    match builder.write(&mut packet, payload) {
        Ok(()) => packet,
        Err(error) => {
            let to = IpAddr::from(to.0);
            tracing::warn!(%error, %to, "a seeded packet cannot be made");
            Vec::new()
        }
    }
}
