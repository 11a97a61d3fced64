//! Flows that the policy permits on their first packet: translated both ways, their content never looked at.

use super::{
    DropReason, Side,
    core::Core,
    emit::{Emit, Kind},
    flow::{Head, Progress},
    packet::{Packet, Segment, Transport},
    rewrite::Rewrite,
};
use crate::time::Now;

/// Passes a packet from the client on.
pub(super) fn outward(
    core: &mut Core,
    now: Now,
    head: &mut Head,
    progress: &mut Progress,
    packet: &Packet<'_>,
) {
    let (Some(outside), Transport::Tcp(_) | Transport::Udp { .. } | Transport::EchoRequest { .. }) =
        (head.outside, packet.transport)
    else {
        core.counters.drop(DropReason::Untranslatable);
        return;
    };
    let translated = Rewrite::forward(packet).map(|mut rewrite| {
        rewrite.source(outside);
        rewrite.finish()
    });
    head.session.carried(packet);
    core.forward(Side::Outside, translated);
    observe(core, now, head, progress, Side::Inside, packet);
}

/// Passes an answer on.
pub(super) fn inward(
    core: &mut Core,
    now: Now,
    head: &mut Head,
    progress: &mut Progress,
    packet: &Packet<'_>,
) {
    if let Transport::Tcp(segment) = packet.transport
        && segment.syn
        && !segment.ack
    {
        core.counters.drop(DropReason::Unsolicited);
        return;
    }
    let translated = Rewrite::forward(packet).map(|mut rewrite| {
        rewrite.destination(head.client);
        rewrite.finish()
    });
    progress.answered = true;
    head.session.carried(packet);
    core.forward(Side::Inside, translated);
    observe(core, now, head, progress, Side::Outside, packet);
}

/// Resets both ends of a TCP flow that a newer policy denies, at the numbers that the packet at hand shows.
pub(super) fn reset_both(core: &mut Core, head: &Head, from: Side, segment: &Segment<'_>) {
    let Some(outside) = head.outside else { return };
    let (to_client, to_destination) = match from {
        Side::Inside => (segment.acknowledgment, segment.sequence),
        Side::Outside => (segment.sequence, segment.acknowledgment),
    };
    for (side, source, destination, sequence) in [
        (Side::Inside, head.destination, head.client, to_client),
        (Side::Outside, outside, head.destination, to_destination),
    ] {
        let emit = Emit {
            source,
            destination,
            sequence,
            acknowledgment: None,
            window: 0,
            kind: Kind::Rst,
            payload: &[],
        };
        core.transmit(side, emit.packet());
    }
}

fn observe(
    core: &mut Core,
    now: Now,
    head: &mut Head,
    progress: &mut Progress,
    side: Side,
    packet: &Packet<'_>,
) {
    if let Transport::Tcp(segment) = &packet.transport
        && let Some(reason) = progress.observe(side, segment)
    {
        head.session.end(core, now, reason);
    }
}
