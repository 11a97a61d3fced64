//! The packet filter's record: `AviatrixGwMicrosegPacket` with its fixed key order.

use std::{fmt::Write, time::Duration};

use jiff::Timestamp;
use uuid::Uuid;

use super::{GatewayIdentity, syslog_date};
use crate::{
    policy::{Action, FiveTuple, Verdict},
    time::Now,
};

/// A decision on addresses and ports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Record {
    pub at: Timestamp,
    pub policy: Uuid,
    /// Total length of the IP packet that led to the record.
    pub ip_size: u16,
    pub flow: FiveTuple,
    pub action: Action,
    pub enforced: bool,
    pub session: Option<L4Session>,
}

/// The optional session keys. The vendor's start and end records of one flow carry different ids: correlate on the
/// five-tuple.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct L4Session {
    pub id: u64,
    pub event: SessionEvent,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SessionEvent {
    Start,
    End {
        reason: SessionEnd,
        packets: u64,
        bytes: u64,
        duration: Duration,
    },
}

/// Why a session ended; the discriminant is the vendor's `SESSION_END_REASON`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEnd {
    TcpFin = 1,
    TcpReset = 2,
    Timeout = 3,
    ResetFromClient = 4,
    ResetFromServer = 5,
}

impl L4Record {
    /// The record of a flow's first packet: the start of its session.
    pub fn start(
        now: Now,
        flow: FiveTuple,
        verdict: &Verdict,
        ip_size: u16,
        session_id: u64,
    ) -> Self {
        Self::new(
            now,
            flow,
            verdict,
            ip_size,
            L4Session {
                id: session_id,
                event: SessionEvent::Start,
            },
        )
    }

    /// A record of `verdict` on `flow`.
    pub fn new(
        now: Now,
        flow: FiveTuple,
        verdict: &Verdict,
        ip_size: u16,
        session: L4Session,
    ) -> Self {
        Self {
            at: now.wall,
            policy: verdict.decided_by,
            ip_size,
            flow,
            action: verdict.action,
            enforced: verdict.enforced,
            session: Some(session),
        }
    }

    pub(super) fn to_syslog_line(&self, gateway: &GatewayIdentity) -> String {
        let action = self.action.name();
        let mut line = format!(
            "<158>{header} GW-{name}-{ip}-sink /usr/local/bin/avx-gw-state-sync {date} AviatrixGwMicrosegPacket: \
             POLICY={policy} SRC_MAC=02:00:5e:00:00:01 DST_MAC=02:00:5e:00:00:02 IP_SZ={size} SRC_IP={source} \
             DST_IP={destination} PROTO={protocol} SRC_PORT={source_port} DST_PORT={destination_port} DATA=0x \
             ACT={action} ENFORCED={enforced}",
            header = syslog_date(self.at),
            name = gateway.name,
            ip = gateway.public_ip,
            date = self.at.strftime("%Y/%m/%d %H:%M:%S"),
            policy = self.policy,
            size = self.ip_size,
            source = self.flow.source,
            destination = self.flow.destination,
            protocol = self.flow.protocol,
            source_port = self.flow.source_port,
            destination_port = self.flow.destination_port,
            enforced = self.enforced,
        );
        if let Some(session) = &self.session {
            let (event, reason, packets, bytes, duration) = match session.event {
                SessionEvent::Start => (0, 0, 0, 0, Duration::ZERO),
                SessionEvent::End {
                    reason,
                    packets,
                    bytes,
                    duration,
                } => (1, reason as u8, packets, bytes, duration),
            };
            write!(
                line,
                " SESSION_ID={id} SESSION_EVENT={event} SESSION_END_REASON={reason} SESSION_PKT_CNT={packets} \
                 SESSION_BYTE_CNT={bytes} SESSION_DUR={nanos}",
                id = session.id,
                nanos = duration.as_nanos(),
            )
            .expect("invariant: writing to a String cannot fail");
        }
        line
    }
}
