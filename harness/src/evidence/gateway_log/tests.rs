#![allow(clippy::unwrap_used)]

use proptest::prelude::*;
use rstest::rstest;

use super::*;

/// The composed samples of the reference, section 4.3.
const L4: &str = "<158>Jun  2 10:15:04 GW-mcp-spoke-203.0.113.9-sink /usr/local/bin/avx-gw-state-sync 2026/06/02 10:15:04 AviatrixGwMicrosegPacket: POLICY=0f6a2c1e-1111-4222-8333-444455556666 SRC_MAC=02:00:5e:00:00:01 DST_MAC=02:00:5e:00:00:02 IP_SZ=60 SRC_IP=10.10.1.77 DST_IP=198.51.100.20 PROTO=UDP SRC_PORT=40112 DST_PORT=53 DATA=0x ACT=DENY ENFORCED=true SESSION_ID=1234567890123456789 SESSION_EVENT=0 SESSION_END_REASON=0 SESSION_PKT_CNT=0 SESSION_BYTE_CNT=0 SESSION_DUR=0";
const L7: &str = r#"<153>Jun  2 10:15:09 GW-mcp-spoke-203.0.113.9-sink traffic_server[811]: {"priority":"LOG_ALERT","action":"Deny","reason":"POLICY","src":"10.10.1.77","src_port":40500,"dest":"198.51.100.44","dest_port":443,"enforced":true,"ids":false,"stage":"SNI","sni_hostname":"exfil.example.org","decided_by":"0f6a2c1e-1111-4222-8333-444455556666","proto":"TCP","session_start":1780395309000000000,"session_stage":"start","session_id":"9b1d0c5a-7777-4888-9999-aaaabbbbcccc","timestamp":1780395309}"#;

fn rule() -> Option<Uuid> {
    Some("0f6a2c1e-1111-4222-8333-444455556666".parse().unwrap())
}

#[test]
fn reads_the_l4_sample() {
    let record = parse_line(7, L4).unwrap().unwrap();
    let expected = GatewayRecord {
        line: 7,
        seen_at: None,
        at: "2026-06-02T10:15:04Z".parse().unwrap(),
        exact: false,
        layer: Layer::L4,
        action: Action::Deny,
        enforced: true,
        protocol: Protocol::Udp,
        source: "10.10.1.77:40112".parse().unwrap(),
        destination: "198.51.100.20:53".parse().unwrap(),
        sni: None,
        decided_by: rule(),
        reason: None,
    };
    assert_eq!(record, expected);
}

#[test]
fn reads_the_l7_sample() {
    let record = parse_line(1, L7).unwrap().unwrap();
    let expected = GatewayRecord {
        line: 1,
        seen_at: None,
        at: "2026-06-02T10:15:09Z".parse().unwrap(),
        exact: true,
        layer: Layer::L7,
        action: Action::Deny,
        enforced: true,
        protocol: Protocol::Tcp,
        source: "10.10.1.77:40500".parse().unwrap(),
        destination: "198.51.100.44:443".parse().unwrap(),
        sni: Some("exfil.example.org".to_owned()),
        decided_by: rule(),
        reason: Some("POLICY".to_owned()),
    };
    assert_eq!(record, expected);
}

#[rstest]
#[case::l4_no_source(L4.replace("SRC_IP=10.10.1.77 ", ""), "without the field SRC_IP")]
#[case::l4_no_rule(L4.replace("POLICY=", "RULE="), "without the field POLICY")]
#[case::l4_action(L4.replace("ACT=DENY", "ACT=MAYBE"), "ACT is \"MAYBE\"")]
#[case::l4_port(L4.replace("DST_PORT=53", "DST_PORT=99999"), "DST_PORT is \"99999\"")]
#[case::l4_date(L4.replace("2026/06/02 10:15:04", "today now"), "is not YYYY/MM/DD")]
#[case::l4_old("x 2026/06/02 10:15:04 AviatrixGwMicrosegPacket: SPT=1 DPT=2 ACTION=DENY".to_owned(), "old form")]
#[case::l7_cut(L7[..L7.len() - 20].to_owned(), "L7 record: ")]
#[case::l7_no_source(L7.replace("\"src\"", "\"sauce\""), "without the field src")]
#[case::l7_type(L7.replace("40500", "\"x\""), "L7 record: ")]
#[case::l7_action(L7.replace("\"Deny\"", "\"Perhaps\""), "action is \"Perhaps\"")]
#[case::l7_no_enforced(L7.replace("\"enforced\":true,", ""), "without the field enforced")]
#[case::too_long(format!("{L4} X={}", "y".repeat(LINE_BOUND)), "longer than")]
fn names_what_is_wrong_with_a_line(#[case] line: String, #[case] message: &str) {
    let error = parse_line(42, &line).unwrap_err();
    assert_eq!(error.line, 42);
    assert!(error.message.contains(message), "{error}");
}

#[rstest]
#[case::fields_we_do_not_know(L4.replace(" ACT=", " NEW=1 flag ACT="))]
#[case::no_session(L4.split(" SESSION_ID").next().unwrap().to_owned())]
#[case::l7_unknown(L7.replace("\"ids\":false", "\"ids\":false,\"new\":{\"a\":[1]}"))]
#[case::l7_syn_only(L7.replace(",\"decided_by\":\"0f6a2c1e-1111-4222-8333-444455556666\"", "").replace("\"POLICY\"", "\"CONNECTION_SYN_ONLY_TIMEOUT\""))]
#[case::l7_drop(L7.replace("\"Deny\"", "\"DROP\""))]
fn tolerates(#[case] line: String) {
    assert_eq!(parse_line(1, &line).unwrap().unwrap().action, Action::Deny);
}

#[rstest]
#[case("")]
#[case("<30>Jun  2 10:15:04 host dhclient[1]: DHCPACK")]
#[case(r#"<13>x traffic_server[811]: {"event_type":"alert","alert":{"signature_id":1}}"#)]
#[case("<158>x AviatrixFQDNRule1[1]: SRC=10.0.0.1")]
fn passes_over_lines_of_others(#[case] line: &str) {
    assert_eq!(parse_line(1, line), Ok(None));
}

#[test]
fn a_record_in_whole_seconds_gets_the_benefit_of_its_second() {
    let l4 = parse_line(1, L4).unwrap().unwrap();
    assert!(l4.not_before("2026-06-02T10:15:04.9Z".parse().unwrap()));
    assert!(!l4.not_before("2026-06-02T10:15:05Z".parse().unwrap()));
    let l7 = parse_line(1, L7).unwrap().unwrap();
    assert!(!l7.not_before("2026-06-02T10:15:09.1Z".parse().unwrap()));
}

#[test]
fn a_log_keeps_count_of_everything() {
    let broken = L4.replace("ACT=DENY", "ACT=");
    let log = GatewayLog::parse(&format!("{L4}\nsomething else\n{broken}\n{L7}\n"));
    assert_eq!(
        log.records
            .iter()
            .map(|record| record.line)
            .collect::<Vec<_>>(),
        [1, 4]
    );
    assert_eq!(
        log.malformed
            .iter()
            .map(|error| error.line)
            .collect::<Vec<_>>(),
        [3]
    );
    assert_eq!(log.others, 1);
}

proptest! {
    #[test]
    fn never_panics(line in "\\PC{0,200}", cut in 0usize..600, insert in "\\PC{0,8}") {
        let _ = parse_line(1, &line);
        for sample in [L4, L7] {
            let cut = cut.min(sample.len());
            let _ = parse_line(1, &format!("{}{insert}{}", &sample[..cut], &sample[cut..]));
            let _ = parse_line(1, &format!("{}{insert}", &sample[..cut]));
        }
    }
}
