//! What happened to packets that leave no record.

use std::collections::BTreeMap;

use serde::Serialize;

/// Why a packet went no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DropReason {
    /// Headers that lie about lengths, wrong checksums, unknown IP versions.
    Malformed,
    /// Fragments hide ports and names; the gateway does not put them together.
    Fragment,
    /// IPv4 options or IPv6 extension headers: source routes hide the real destination (RFC 7126).
    HeaderOptions,
    /// The TTL ran out at the gateway.
    Expired,
    /// The policy denies the flow.
    Denied,
    /// A TCP segment of no known flow, or one that its flow can't accept now.
    OutOfState,
    /// From outside, and no flow asked for it.
    Unsolicited,
    /// Permitted by policy, but of a kind that can't be translated: other protocols, ICMP other than echo.
    Untranslatable,
    /// The source has no share of the flow table left.
    FlowLimit,
    /// The same of unfinished inspections.
    InspectionLimit,
    /// The same of buffered bytes.
    BufferLimit,
    /// The same of outside ports.
    PortLimit,
    TransmitLimit,
    RecordLimit,
}

/// Totals since the gateway started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counters {
    /// Packets from inside that were passed on.
    pub outbound: u64,
    /// Packets from outside that were passed on.
    pub inbound: u64,
    /// Flows in the table now.
    pub flows: u64,
    /// Flows denied, by either engine.
    pub denials: u64,
    /// Denials past the bound on records of one source.
    pub unlogged_denials: u64,
    /// Records that a seeded fault swallowed.
    pub suppressed_records: u64,
    /// Packets that went no further.
    pub drops: BTreeMap<DropReason, u64>,
}

impl Counters {
    /// How many packets went no further for this reason.
    pub fn dropped(&self, reason: DropReason) -> u64 {
        self.drops.get(&reason).copied().unwrap_or_default()
    }

    pub(super) fn drop(&mut self, reason: DropReason) {
        *self.drops.entry(reason).or_default() += 1;
    }
}
