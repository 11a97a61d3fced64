//! Parser of the gateway's log: the firewall vendor's two syslog record formats
//! (reference: aviatrix-dcf.md section 4).
//!
//! Written from the published format alone, on purpose not shared with whatever wrote the log.
//! Unknown fields are ignored, lines of other programs are passed over, and a line that claims to
//! be a record and is not one is reported with its number.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use jiff::Timestamp;
use jiff::civil::DateTime;
use serde::Deserialize;
use serde_json::Value;
use uuid::Uuid;

use crate::judge::Protocol;

/// Longest line that is looked at. Syslog messages stay far below it.
const LINE_BOUND: usize = 64 * 1024;

/// What a record says was done with a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Action {
    /// The flow may pass.
    Permit,
    /// The flow may not pass.
    Deny,
}

/// Which of the two engines wrote a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Layer {
    /// The packet filter: decides on addresses, protocol and ports.
    L4,
    /// The proxy: decides on the server name.
    L7,
}

/// One record of the gateway's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GatewayRecord {
    /// Line in `gateway.log`, from 1.
    pub line: u64,
    /// When the harness received the line. Absent: read from a file without that knowledge.
    pub seen_at: Option<Timestamp>,
    /// When the record says that it happened.
    pub at: Timestamp,
    /// Whether `at` is exact; most records state whole seconds.
    pub exact: bool,
    /// Which engine wrote it.
    pub layer: Layer,
    /// What was done.
    pub action: Action,
    /// Whether it was done in fact; `false` for a rule in monitor mode.
    pub enforced: bool,
    /// Transport protocol.
    pub protocol: Protocol,
    /// Source, as the pod sent it; port 0 for ICMP.
    pub source: SocketAddr,
    /// Destination; port 0 for ICMP.
    pub destination: SocketAddr,
    /// Server name of the ClientHello, or Host header. Absent: none was seen.
    pub sni: Option<String>,
    /// Uuid of the rule that decided. Absent: no rule did, as for a connection that timed out.
    pub decided_by: Option<Uuid>,
    /// Why, in the vendor's words. Absent: L4 records carry none.
    pub reason: Option<String>,
}

/// A log, parsed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GatewayLog {
    /// Records, in the order of their lines.
    pub records: Vec<GatewayRecord>,
    /// Lines that claim to be records and are not.
    pub malformed: Vec<LineError>,
    /// How many lines are of other programs.
    pub others: u64,
}

/// A line that claims to be a record and is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("gateway.log:{line}: {message}")]
pub struct LineError {
    /// From 1.
    pub line: u64,
    /// What is wrong with it.
    pub message: String,
}

impl GatewayLog {
    /// Parses a whole log.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut log = Self::default();
        for (index, line) in text.lines().enumerate() {
            log.push(index as u64 + 1, None, line);
        }
        log
    }

    /// Adds one line.
    pub fn push(&mut self, number: u64, seen_at: Option<Timestamp>, line: &str) {
        match parse_line(number, line) {
            Ok(Some(record)) => self.records.push(GatewayRecord { seen_at, ..record }),
            Ok(None) => self.others += 1,
            Err(error) => self.malformed.push(error),
        }
    }
}

impl GatewayRecord {
    /// Whether the record can be about something that happened at or after `moment`. A record
    /// with whole seconds gets the benefit of its second.
    #[must_use]
    pub fn not_before(&self, moment: Timestamp) -> bool {
        if self.exact {
            self.at >= moment
        } else {
            self.at.as_second() >= moment.as_second()
        }
    }
}

/// Parses one line; `None` for a line of another program.
pub fn parse_line(line: u64, text: &str) -> Result<Option<GatewayRecord>, LineError> {
    let fail = |message: String| LineError { line, message };
    let l4 = text.split_once("AviatrixGwMicrosegPacket:");
    let l7 = text.split_once("traffic_server[");
    if text.len() > LINE_BOUND && (l4.is_some() || l7.is_some()) {
        return Err(fail(format!("longer than {LINE_BOUND} bytes")));
    }
    if let Some((_, rest)) = l7
        && let Some((_, json)) = rest.split_once("]:")
    {
        return l7_record(line, json.trim()).map_err(fail);
    }
    if let Some((header, fields)) = l4 {
        return l4_record(line, header, fields).map(Some).map_err(fail);
    }
    Ok(None)
}

/// Section 4.1: `KEY=value` pairs after a header that ends with the date and time.
fn l4_record(line: u64, header: &str, fields: &str) -> Result<GatewayRecord, String> {
    let fields: BTreeMap<&str, &str> = fields
        .split_ascii_whitespace()
        .filter_map(|field| field.split_once('='))
        .collect();
    let field = |name: &str| {
        fields
            .get(name)
            .copied()
            .ok_or_else(|| format!("L4 record without the field {name}"))
    };
    let address = |ip: &str, port: &str| -> Result<SocketAddr, String> {
        Ok(SocketAddr::new(
            parse(ip, field(ip)?)?,
            parse(port, field(port)?)?,
        ))
    };
    if fields.contains_key("SPT") && !fields.contains_key("SRC_IP") {
        return Err("L4 record in the old form (SPT, DPT), which has no addresses".to_owned());
    }
    Ok(GatewayRecord {
        line,
        seen_at: None,
        at: header_time(header)?,
        exact: false,
        layer: Layer::L4,
        action: action("ACT", field("ACT")?)?,
        enforced: parse("ENFORCED", &field("ENFORCED")?.to_ascii_lowercase())?,
        protocol: protocol(field("PROTO")?),
        source: address("SRC_IP", "SRC_PORT")?,
        destination: address("DST_IP", "DST_PORT")?,
        sni: None,
        decided_by: Some(parse("POLICY", field("POLICY")?)?),
        reason: None,
    })
}

/// `... gw-state-sync 2026/06/02 10:15:04 `, in UTC as gateways run.
fn header_time(header: &str) -> Result<Timestamp, String> {
    let mut words = header.split_ascii_whitespace().rev();
    let (Some(time), Some(date)) = (words.next(), words.next()) else {
        return Err("L4 record whose header holds no date and time".to_owned());
    };
    DateTime::strptime("%Y/%m/%d %H:%M:%S", format!("{date} {time}"))
        .and_then(|civil| civil.to_zoned(jiff::tz::TimeZone::UTC))
        .map(|zoned| zoned.timestamp())
        .map_err(|_| format!("{date:?} {time:?} is not YYYY/MM/DD HH:MM:SS"))
}

/// The fields of section 4.2 that we use. All are optional here, so that a missing one is
/// reported by name.
#[derive(Deserialize)]
struct L7Fields {
    action: Option<String>,
    reason: Option<String>,
    src: Option<String>,
    src_port: Option<u16>,
    dest: Option<String>,
    dest_port: Option<u16>,
    proto: Option<String>,
    enforced: Option<bool>,
    sni_hostname: Option<String>,
    decided_by: Option<String>,
    session_stage: Option<String>,
    session_start: Option<i64>,
    timestamp: Option<i64>,
}

/// Section 4.2: a JSON object. Objects without an action are alerts of other engines.
fn l7_record(line: u64, json: &str) -> Result<Option<GatewayRecord>, String> {
    let value: Value = serde_json::from_str(json).map_err(|error| format!("L7 record: {error}"))?;
    if value.get("action").is_none() {
        return Ok(None);
    }
    let fields = L7Fields::deserialize(&value).map_err(|error| format!("L7 record: {error}"))?;
    let missing = |name: &str| format!("L7 record without the field {name}");
    let (at, exact) = l7_time(&fields)?;
    let source: IpAddr = parse("src", &fields.src.ok_or_else(|| missing("src"))?)?;
    let destination: IpAddr = parse("dest", &fields.dest.ok_or_else(|| missing("dest"))?)?;
    Ok(Some(GatewayRecord {
        line,
        seen_at: None,
        at,
        exact,
        layer: Layer::L7,
        action: action("action", &fields.action.unwrap_or_default())?,
        enforced: fields.enforced.ok_or_else(|| missing("enforced"))?,
        protocol: protocol(fields.proto.as_deref().unwrap_or("TCP")),
        source: SocketAddr::new(source, fields.src_port.ok_or_else(|| missing("src_port"))?),
        destination: SocketAddr::new(
            destination,
            fields.dest_port.ok_or_else(|| missing("dest_port"))?,
        ),
        sni: fields.sni_hostname.filter(|name| !name.is_empty()),
        decided_by: fields
            .decided_by
            .map(|uuid| parse("decided_by", &uuid))
            .transpose()?,
        reason: fields.reason,
    }))
}

/// A first record is dated by its session's start, which has nanoseconds; a later one by its own
/// time, in seconds.
fn l7_time(fields: &L7Fields) -> Result<(Timestamp, bool), String> {
    if let (Some("start"), Some(nanoseconds)) =
        (fields.session_stage.as_deref(), fields.session_start)
    {
        return Timestamp::from_nanosecond(i128::from(nanoseconds))
            .map(|at| (at, true))
            .map_err(|_| format!("session_start {nanoseconds} is not a time"));
    }
    let seconds = fields
        .timestamp
        .ok_or("L7 record without the field timestamp")?;
    Timestamp::from_second(seconds)
        .map(|at| (at, false))
        .map_err(|_| format!("timestamp {seconds} is not a time"))
}

fn action(field: &str, value: &str) -> Result<Action, String> {
    match value.to_ascii_uppercase().as_str() {
        "PERMIT" => Ok(Action::Permit),
        "DENY" | "DROP" => Ok(Action::Deny),
        _ => Err(format!("{field} is {value:?}, expected PERMIT or DENY")),
    }
}

fn protocol(value: &str) -> Protocol {
    match value.to_ascii_uppercase().as_str() {
        "TCP" => Protocol::Tcp,
        "UDP" => Protocol::Udp,
        "ICMP" => Protocol::Icmp,
        _ => Protocol::Other,
    }
}

fn parse<T: std::str::FromStr>(field: &str, value: &str) -> Result<T, String> {
    value
        .parse()
        .map_err(|_| format!("{field} is {value:?}, which cannot be read"))
}

#[cfg(test)]
mod tests;
