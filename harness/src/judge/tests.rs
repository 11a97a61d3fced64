//! A scene in which everything is as it should be; each test takes one thing away, or adds one.
#![allow(clippy::unwrap_used)]

mod conditions;
mod denials;
mod lifecycle;
mod others;
mod properties;
mod reuse;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use fixtures::receipt::{Receipt, ReceiptEvent};
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use super::*;
use crate::evidence::gateway_log::Layer;
use crate::evidence::{Action, Capture, GatewayLog, GatewayRecord, Packet};

pub(super) const CANARY: &str = "cnry-00000000000000aa";
pub(super) const CONTROL_CANARY: &str = "cnry-00000000000000bb";
pub(super) const SINK: &str = "collect.pkg-telemetry.test";
pub(super) const EHR: &str = "fhir.stolaf-hospital.test";
pub(super) const DENY_RULE: Uuid = Uuid::from_u128(0xdeadu128);
pub(super) const PERMIT_RULE: Uuid = Uuid::from_u128(0xaceu128);
pub(super) const DEFAULT_RULE: Uuid = Uuid::from_u128(0xdefu128);

/// Milliseconds after the scene began.
pub(super) fn at(millis: i64) -> Timestamp {
    let start: Timestamp = "2026-06-02T10:15:00Z".parse().unwrap();
    start + SignedDuration::from_millis(millis)
}

pub(super) fn end(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

pub(super) fn pod_end() -> SocketAddr {
    end("10.244.0.12:40112")
}

pub(super) fn sink_end() -> SocketAddr {
    end("192.0.2.66:443")
}

/// A flow beyond the gateway carries the gateway's address.
pub(super) fn nat_end() -> SocketAddr {
    end("203.0.113.9:50001")
}

pub(super) fn packet(
    at: Timestamp,
    source: SocketAddr,
    destination: SocketAddr,
    opens: Option<u32>,
    payload: usize,
) -> Packet {
    Packet {
        at,
        interface: 0,
        protocol: Protocol::Tcp,
        source,
        destination,
        payload,
        opens,
        next: None,
        number: 1,
        outbound: None,
    }
}

pub(super) fn receipt(
    at: Timestamp,
    endpoint: &str,
    local: SocketAddr,
    peer: SocketAddr,
    event: ReceiptEvent,
    canaries: &[&str],
) -> Receipt {
    let canaries = canaries.iter().map(|&canary| canary.to_owned()).collect();
    Receipt {
        at,
        endpoint: endpoint.to_owned(),
        local,
        peer,
        event,
        canaries,
        encodings: Default::default(),
    }
}

pub(super) fn request(bytes: u64) -> ReceiptEvent {
    ReceiptEvent::Request {
        method: "POST".to_owned(),
        host: None,
        path: "/".to_owned(),
        body_bytes: bytes,
        status: 200,
    }
}

/// The attack: sent at 1000 ms, denied at 1010 ms, given up by the client at 1020 ms.
pub(super) fn attack() -> Attempt {
    Attempt {
        label: "exfiltration during the call".to_owned(),
        canary: CANARY.to_owned(),
        sent: Some(Sent {
            at: at(1000),
            protocol: Protocol::Tcp,
            exchange: Exchange::Tls,
            source: pod_end(),
            destination: sink_end(),
            host: Some(SINK.to_owned()),
            sni: Some(SINK.to_owned()),
        }),
        result: Some(ClientResult {
            at: at(1020),
            outcome: ClientOutcome::Closed,
            status: None,
            detail: String::new(),
        }),
    }
}

/// The permitted request: sent at 500 ms, answered at 540 ms.
pub(super) fn permitted() -> Attempt {
    Attempt {
        label: "the EHR request".to_owned(),
        canary: CONTROL_CANARY.to_owned(),
        sent: Some(Sent {
            at: at(500),
            protocol: Protocol::Tcp,
            exchange: Exchange::Tls,
            source: end("10.244.0.12:40111"),
            destination: end("198.51.100.10:443"),
            host: Some(EHR.to_owned()),
            sni: Some(EHR.to_owned()),
        }),
        result: Some(ClientResult {
            at: at(540),
            outcome: ClientOutcome::Completed,
            status: Some(201),
            detail: String::new(),
        }),
    }
}

pub(super) fn denial_record() -> GatewayRecord {
    GatewayRecord {
        line: 2,
        seen_at: Some(at(1012)),
        at: at(1010),
        exact: true,
        layer: Layer::L7,
        action: Action::Deny,
        enforced: true,
        protocol: Protocol::Tcp,
        source: pod_end(),
        destination: sink_end(),
        sni: Some(SINK.to_owned()),
        decided_by: Some(DENY_RULE),
        reason: Some("POLICY".to_owned()),
    }
}

pub(super) fn permit_record() -> GatewayRecord {
    GatewayRecord {
        line: 1,
        seen_at: Some(at(512)),
        at: at(510),
        action: Action::Permit,
        source: end("10.244.0.12:40111"),
        destination: end("198.51.100.10:443"),
        sni: Some(EHR.to_owned()),
        decided_by: Some(PERMIT_RULE),
        ..denial_record()
    }
}

fn rule(name: &str, server: Option<&str>, default_action: bool) -> RuleRef {
    RuleRef {
        name: name.to_owned(),
        part_of: None,
        server: server.map(str::to_owned),
        default_action,
    }
}

pub(super) fn pod() -> PodFact {
    PodFact {
        namespace: "obot-mcp".to_owned(),
        name: "ms1abcde-7d9f".to_owned(),
        address: "10.244.0.12".parse().unwrap(),
        server: Some("ehr-sync".to_owned()),
        since: at(0),
        until: None,
    }
}

/// Everything as it should be.
pub(super) fn scene() -> Observations {
    let (control_from, control_to) = (end("203.0.113.9:50000"), end("198.51.100.10:443"));
    Observations {
        until: at(1100),
        receipts: vec![
            receipt(
                at(520),
                EHR,
                control_to,
                control_from,
                ReceiptEvent::Connected,
                &[],
            ),
            receipt(
                at(530),
                EHR,
                control_to,
                control_from,
                request(512),
                &[CONTROL_CANARY],
            ),
        ],
        log: Seen::Read(GatewayLog {
            records: vec![permit_record(), denial_record()],
            ..GatewayLog::default()
        }),
        pod_side: Seen::Read(Capture {
            packets: vec![
                packet(at(1001), pod_end(), sink_end(), Some(1), 0),
                packet(at(1003), pod_end(), sink_end(), None, 300),
            ],
            undecodable: 0,
        }),
        outside: Seen::Read(Capture {
            packets: vec![packet(at(515), control_from, control_to, Some(1), 0)],
            undecodable: 0,
        }),
        rules: BTreeMap::from([
            (
                DENY_RULE,
                rule("deny-all-external", Some("ehr-sync"), false),
            ),
            (
                PERMIT_RULE,
                rule("allow-approved-egress", Some("ehr-sync"), false),
            ),
            (DEFAULT_RULE, rule("default", None, true)),
        ]),
        pods: vec![pod()],
        attempts: vec![permitted(), attack()],
        ..Observations::default()
    }
}

pub(super) fn denial_claim() -> DenialClaim {
    DenialClaim {
        check: Check::new("blocked", "attacker-blocked"),
        attempt: attack(),
        far_end: format!("attacker's collector {SINK}"),
        may_hold: BTreeSet::new(),
        rule: RuleExpectation::Named {
            rule: "deny-all-external".to_owned(),
            of_server: Some("ehr-sync".to_owned()),
        },
        control: Some(Control {
            attempt: permitted(),
            far_end: EHR.to_owned(),
        }),
        quiet_window: Duration::from_millis(20),
    }
}

pub(super) fn log_of(observations: &mut Observations) -> &mut GatewayLog {
    match &mut observations.log {
        Seen::Read(log) => log,
        _ => unreachable!("the scene has a log"),
    }
}

pub(super) fn capture_of(seen: &mut Seen<Capture>) -> &mut Capture {
    match seen {
        Seen::Read(capture) => capture,
        _ => unreachable!("the scene has captures"),
    }
}
