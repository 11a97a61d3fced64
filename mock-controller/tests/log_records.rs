//! Log records, byte for byte: the first of each format equals the composed sample of `reference/aviatrix-dcf.md`
//! section 4.3.
#![allow(clippy::unwrap_used)]

use std::time::Duration;

use jiff::Timestamp;
use mock_controller::{
    policy::{Action, Application, FiveTuple, Logging, Protocol, Verdict},
    record::{
        GatewayIdentity, L4Record, L4Session, L7Record, LogRecord, SessionEnd, SessionEnding,
        SessionEvent,
    },
    time::Now,
};
use uuid::Uuid;

fn gateway() -> GatewayIdentity {
    GatewayIdentity {
        name: "mcp-spoke".into(),
        public_ip: [203, 0, 113, 9].into(),
    }
}

fn at(text: &str) -> Now {
    Now {
        monotonic: Duration::ZERO,
        wall: text.parse().unwrap(),
    }
}

fn flow(
    protocol: Protocol,
    source_port: u16,
    destination: &str,
    destination_port: u16,
) -> FiveTuple {
    let source = [10, 10, 1, 77].into();
    FiveTuple {
        protocol,
        source,
        source_port,
        destination: destination.parse().unwrap(),
        destination_port,
    }
}

fn verdict(action: Action) -> Verdict {
    let decided_by = Uuid::parse_str("0f6a2c1e-1111-4222-8333-444455556666").unwrap();
    Verdict {
        action,
        decided_by,
        rule: "deny-all-external".into(),
        logging: Logging::Start,
        enforced: true,
    }
}

fn session_id() -> Uuid {
    Uuid::parse_str("9b1d0c5a-7777-4888-9999-aaaabbbbcccc").unwrap()
}

fn tls(name: &str) -> Application {
    Application::Tls {
        sni: Some(name.into()),
    }
}

fn line(record: impl Into<LogRecord>) -> String {
    record.into().to_syslog_line(&gateway())
}

#[test]
fn l4_denial() {
    let flow = flow(Protocol::Udp, 40112, "198.51.100.20", 53);
    let record = L4Record::start(
        at("2026-06-02T10:15:04Z"),
        flow,
        &verdict(Action::Deny),
        60,
        1234567890123456789,
    );
    insta::assert_snapshot!(line(record), @"<158>Jun  2 10:15:04 GW-mcp-spoke-203.0.113.9-sink /usr/local/bin/avx-gw-state-sync 2026/06/02 10:15:04 AviatrixGwMicrosegPacket: POLICY=0f6a2c1e-1111-4222-8333-444455556666 SRC_MAC=02:00:5e:00:00:01 DST_MAC=02:00:5e:00:00:02 IP_SZ=60 SRC_IP=10.10.1.77 DST_IP=198.51.100.20 PROTO=UDP SRC_PORT=40112 DST_PORT=53 DATA=0x ACT=DENY ENFORCED=true SESSION_ID=1234567890123456789 SESSION_EVENT=0 SESSION_END_REASON=0 SESSION_PKT_CNT=0 SESSION_BYTE_CNT=0 SESSION_DUR=0");
}

#[test]
fn l4_end_of_a_watched_session() {
    let end = SessionEvent::End {
        reason: SessionEnd::TcpFin,
        packets: 12,
        bytes: 3400,
        duration: Duration::from_micros(1500),
    };
    let watched = Verdict {
        enforced: false,
        ..verdict(Action::Permit)
    };
    let flow = flow(Protocol::Tcp, 40112, "198.51.100.20", 443);
    let record = L4Record::new(
        at("2026-12-24T23:59:59Z"),
        flow,
        &watched,
        52,
        L4Session { id: 7, event: end },
    );
    insta::assert_snapshot!(line(record), @"<158>Dec 24 23:59:59 GW-mcp-spoke-203.0.113.9-sink /usr/local/bin/avx-gw-state-sync 2026/12/24 23:59:59 AviatrixGwMicrosegPacket: POLICY=0f6a2c1e-1111-4222-8333-444455556666 SRC_MAC=02:00:5e:00:00:01 DST_MAC=02:00:5e:00:00:02 IP_SZ=52 SRC_IP=10.10.1.77 DST_IP=198.51.100.20 PROTO=TCP SRC_PORT=40112 DST_PORT=443 DATA=0x ACT=PERMIT ENFORCED=false SESSION_ID=7 SESSION_EVENT=1 SESSION_END_REASON=1 SESSION_PKT_CNT=12 SESSION_BYTE_CNT=3400 SESSION_DUR=1500000");
}

#[test]
fn l7_denial() {
    let now = at("2026-06-02T10:15:09Z");
    let flow = flow(Protocol::Tcp, 40500, "198.51.100.44", 443);
    let name = tls("exfil.example.org");
    let record = L7Record::decision(
        now,
        flow,
        &name,
        &verdict(Action::Deny),
        session_id(),
        now.wall,
    );
    insta::assert_snapshot!(line(record), @r#"<153>Jun  2 10:15:09 GW-mcp-spoke-203.0.113.9-sink traffic_server[811]: {"priority":"LOG_ALERT","action":"Deny","reason":"POLICY","src":"10.10.1.77","src_port":40500,"dest":"198.51.100.44","dest_port":443,"enforced":true,"ids":false,"stage":"SNI","sni_hostname":"exfil.example.org","decided_by":"0f6a2c1e-1111-4222-8333-444455556666","proto":"TCP","session_start":1780395309000000000,"session_stage":"start","session_id":"9b1d0c5a-7777-4888-9999-aaaabbbbcccc","timestamp":1780395309}"#);
}

#[test]
fn l7_permit_and_its_end() {
    let now = at("2026-06-02T10:15:09Z");
    let flow = flow(Protocol::Tcp, 40501, "198.51.100.45", 443);
    let start = L7Record::decision(
        now,
        flow,
        &tls("fhir.ehr.example"),
        &verdict(Action::Permit),
        session_id(),
        now.wall,
    );
    let ending = SessionEnding {
        duration: Duration::from_millis(12),
        request_bytes: 900,
        response_bytes: 4100,
    };
    let end = start.end(at("2026-06-02T10:15:10Z"), ending);
    insta::assert_snapshot!(format!("{}\n{}", line(start), line(end)), @r#"
    <156>Jun  2 10:15:09 GW-mcp-spoke-203.0.113.9-sink traffic_server[811]: {"priority":"LOG_WARNING","action":"Permit","reason":"POLICY","src":"10.10.1.77","src_port":40501,"dest":"198.51.100.45","dest_port":443,"enforced":true,"ids":false,"stage":"SNI","sni_hostname":"fhir.ehr.example","decided_by":"0f6a2c1e-1111-4222-8333-444455556666","proto":"TCP","session_start":1780395309000000000,"session_stage":"start","session_id":"9b1d0c5a-7777-4888-9999-aaaabbbbcccc","timestamp":1780395309}
    <156>Jun  2 10:15:10 GW-mcp-spoke-203.0.113.9-sink traffic_server[811]: {"priority":"LOG_WARNING","action":"Permit","reason":"POLICY","src":"10.10.1.77","src_port":40501,"dest":"198.51.100.45","dest_port":443,"enforced":true,"ids":false,"stage":"SNI","sni_hostname":"fhir.ehr.example","decided_by":"0f6a2c1e-1111-4222-8333-444455556666","proto":"TCP","session_start":1780395309000000000,"session_time":12000000,"request_bytes":900,"response_bytes":4100,"session_stage":"end","session_id":"9b1d0c5a-7777-4888-9999-aaaabbbbcccc","timestamp":1780395310}
    "#);
}

#[test]
fn l7_silence_after_the_handshake_names_no_host_and_no_rule() {
    let start: Timestamp = "2026-06-02T10:15:00Z".parse().unwrap();
    let flow = flow(Protocol::Tcp, 40502, "198.51.100.46", 22);
    let record = L7Record::syn_only_timeout(at("2026-06-02T10:15:30Z"), flow, session_id(), start);
    insta::assert_snapshot!(line(record), @r#"<153>Jun  2 10:15:30 GW-mcp-spoke-203.0.113.9-sink traffic_server[811]: {"priority":"LOG_ALERT","action":"Deny","reason":"CONNECTION_SYN_ONLY_TIMEOUT","src":"10.10.1.77","src_port":40502,"dest":"198.51.100.46","dest_port":22,"enforced":true,"ids":false,"stage":"txn","proto":"TCP","session_start":1780395300000000000,"session_stage":"end","session_id":"9b1d0c5a-7777-4888-9999-aaaabbbbcccc","timestamp":1780395330}"#);
}

#[test]
fn a_hostile_name_stays_inside_its_json_string() {
    let now = at("2026-06-02T10:15:09Z");
    let flow = flow(Protocol::Tcp, 40500, "198.51.100.44", 443);
    let hostile = tls("x\",\"action\":\"Permit\n<153>");
    let text = line(L7Record::decision(
        now,
        flow,
        &hostile,
        &verdict(Action::Deny),
        session_id(),
        now.wall,
    ));
    assert_eq!(text.lines().count(), 1);
    let (_, json) = text.split_once("]: ").unwrap();
    let value: serde_json::Value = serde_json::from_str(json).unwrap();
    assert_eq!(
        (&value["action"], &value["sni_hostname"]),
        (&"Deny".into(), &"x\",\"action\":\"Permit\n<153>".into())
    );
}
