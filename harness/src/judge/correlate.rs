//! Ties observations to one attempt: by five-tuple where the pod's address is visible, by canary
//! and connection beyond the gateway, where every flow carries the gateway's address.

use std::net::SocketAddr;

use fixtures::receipt::{Receipt, ReceiptEvent};
use jiff::Timestamp;

use super::{Attempt, Exchange, Observations, Protocol, RuleExpectation, RuleRef, Sent};
use crate::evidence::capture::{Flow, same_end};
use crate::evidence::gateway_log::{Action, GatewayLog, GatewayRecord, Layer};
use crate::evidence::receipts::{self, Connection};

/// Connections at the attempt's destination that can be its own: opened since it was sent, and
/// not known to be another attempt's.
pub(super) fn connections<'a>(
    attempt: &Attempt,
    sent: &Sent,
    observations: &'a Observations,
) -> Vec<Connection<'a>> {
    let destination = observations.beyond_the_node(sent.destination);
    receipts::connections(&observations.receipts)
        .into_iter()
        .filter(|connection| {
            connection.protocol == sent.protocol
                && same_end(sent.protocol, connection.local, destination)
        })
        .filter_map(|mut connection| {
            if connection.protocol == Protocol::Udp {
                // Datagrams between the same ends are not one exchange; those before it are others'.
                connection.receipts.retain(|receipt| receipt.at >= sent.at);
            }
            let later = connection.opened_at.is_none_or(|at| at >= sent.at)
                || connection.protocol == Protocol::Udp;
            (later && !connection.receipts.is_empty()).then_some(connection)
        })
        .filter(|connection| !is_anothers(attempt, connection, observations))
        .collect()
}

/// Flows in a capture beyond the gateway that can be the attempt's own.
pub(super) fn outside_flows(
    attempt: &Attempt,
    sent: &Sent,
    observations: &Observations,
) -> Vec<Flow> {
    let Some(capture) = observations.outside.read() else {
        return Vec::new();
    };
    let destination = observations.beyond_the_node(sent.destination);
    let flows = capture.flows();
    let connections = receipts::connections(&observations.receipts);
    let others: Vec<&Connection<'_>> = connections
        .iter()
        .filter(|connection| is_anothers(attempt, connection, observations))
        .collect();
    let from_another_attempt = |flow: &Flow| {
        others
            .iter()
            .any(|connection| is_flow_of(connection, flow, &flows))
    };
    let turn = Turn::of(sent, observations);
    let from_another_pod = |flow: &Flow| {
        flow.source.ip() != sent.source.ip()
            && observations
                .pods
                .iter()
                .any(|pod| pod.address == flow.source.ip())
    };
    flows
        .iter()
        .filter(|flow| flow.protocol == sent.protocol)
        .filter(|flow| same_end(sent.protocol, flow.destination, destination))
        // A TCP flow that began before is another's; datagrams have no beginning.
        .filter(|flow| {
            let moment = if flow.protocol == Protocol::Tcp {
                flow.first_at
            } else {
                flow.last_at
            };
            moment >= sent.at
        })
        .filter(|flow| flow.protocol != Protocol::Tcp || turn.holds(flow.first_at))
        .filter(|flow| !from_another_attempt(flow))
        .filter(|flow| !from_another_pod(flow))
        .cloned()
        .collect()
}

/// Whether a flow beyond the gateway carries this connection. A port is used again: of the TCP flows between the same
/// ends it is the last one that had begun when the connection was accepted.
fn is_flow_of(connection: &Connection<'_>, flow: &Flow, flows: &[Flow]) -> bool {
    let same_ends = |flow: &Flow| {
        flow.protocol == connection.protocol
            && flow.source == connection.peer
            && flow.destination == connection.local
    };
    let (Protocol::Tcp, Some(opened_at)) = (flow.protocol, connection.opened_at) else {
        return same_ends(flow);
    };
    let begun = flows
        .iter()
        .filter(|flow| same_ends(flow) && flow.first_at <= opened_at);
    let latest = begun.max_by_key(|flow| flow.first_at);
    latest.is_some_and(|latest| latest == flow)
}

/// How long a five-tuple was one attempt's: a source port is used again, and the next announcement ends the turn of the
/// one before.
struct Turn {
    from: Timestamp,
    until: Option<Timestamp>,
    /// Another attempt used the same five-tuple.
    shared: bool,
}

impl Turn {
    fn of(sent: &Sent, observations: &Observations) -> Self {
        let others = observations.attempts.iter().filter_map(|other| {
            let other = other.sent.as_ref()?;
            let same_tuple = other.protocol == sent.protocol
                && other.source == sent.source
                && other.destination == sent.destination;
            (same_tuple && other != sent).then_some(other.at)
        });
        let others: Vec<Timestamp> = others.collect();
        Self {
            from: sent.at,
            until: others.iter().filter(|at| **at > sent.at).min().copied(),
            shared: !others.is_empty(),
        }
    }

    fn holds(&self, moment: Timestamp) -> bool {
        !self.shared || (moment >= self.from && self.until.is_none_or(|until| moment < until))
    }

    /// By the record's own time where that is exact, otherwise by when it came in.
    fn holds_record(&self, record: &GatewayRecord) -> bool {
        let moment = match record.seen_at {
            Some(seen_at) if !record.exact => seen_at,
            _ => record.at,
        };
        self.holds(moment)
    }
}

/// Whether a connection carries another attempt's canary and not this one's.
fn is_anothers(
    attempt: &Attempt,
    connection: &Connection<'_>,
    observations: &Observations,
) -> bool {
    !connection.carried(&attempt.canary)
        && connection.canaries().any(|found| {
            observations
                .attempts
                .iter()
                .any(|other| other.canary.eq_ignore_ascii_case(found))
        })
}

/// Receipts that hold the attempt's canary.
pub(super) fn with_canary<'a>(canary: &str, observations: &'a Observations) -> Vec<&'a Receipt> {
    observations
        .receipts
        .iter()
        .filter(|receipt| receipts::carries(receipt, canary))
        .collect()
}

/// Records of the log about the attempt's flow. Rules and logs use the pod's own address.
pub(super) fn records<'a>(sent: &Sent, observations: &'a Observations) -> Vec<&'a GatewayRecord> {
    let log = observations.log.read();
    log.map_or_else(Vec::new, |log| records_in(log, sent, observations))
}

/// [`records`] of a log that took another way.
pub(super) fn records_in<'a>(
    log: &'a GatewayLog,
    sent: &Sent,
    observations: &Observations,
) -> Vec<&'a GatewayRecord> {
    let has_ports = matches!(sent.protocol, Protocol::Tcp | Protocol::Udp);
    let same = |seen: SocketAddr, sent: SocketAddr| {
        seen.ip() == sent.ip() && (!has_ports || seen.port() == sent.port())
    };
    let destination = observations.beyond_the_node(sent.destination);
    let turn = Turn::of(sent, observations);
    log.records
        .iter()
        .filter(|record| record.protocol == sent.protocol)
        .filter(|record| same(record.source, sent.source))
        .filter(|record| same(record.destination, destination))
        .filter(|record| record.not_before(sent.at))
        .filter(|record| turn.holds_record(record))
        .collect()
}

/// A record of the flow that came in after the attempt was sent, and says that it happened before.
pub(super) fn misdated<'a>(
    sent: &Sent,
    action: Action,
    observations: &'a Observations,
) -> Option<&'a GatewayRecord> {
    observations.log.read()?.records.iter().find(|record| {
        record.protocol == sent.protocol
            && record.source == sent.source
            && record.destination == sent.destination
            && record.action == action
            && record.enforced
            && record.seen_at.is_some_and(|seen_at| seen_at >= sent.at)
            && !record.not_before(sent.at)
    })
}

/// Why the record's server name is not the one that was sent, if it is not.
///
/// A rule without domains decides on the first packet: then no ClientHello was ever sent, and a
/// record without a name is complete. Where the pod's packets are visible, they say which.
pub(super) fn wrong_name(
    sent: &Sent,
    record: &GatewayRecord,
    observations: &Observations,
) -> Option<String> {
    let said = record.sni.as_deref();
    let Some(wanted) = sent.sni.as_deref() else {
        // For plain HTTP the vendor logs the Host header in the same place.
        let host = sent
            .host
            .as_deref()
            .filter(|_| sent.exchange == Exchange::Http);
        return match said {
            Some(name) if !host.is_some_and(|host| host.eq_ignore_ascii_case(name)) => {
                Some(format!("it names the server {name}, and none was sent"))
            }
            _ => None,
        };
    };
    let hello_left = match observations.pod_side.read() {
        Some(capture) => capture
            .packets_between(sent.protocol, sent.source, sent.destination)
            .any(|packet| packet.payload > 0),
        None => record.layer == Layer::L7,
    };
    match said {
        Some(name) if name.eq_ignore_ascii_case(wanted) => None,
        Some(name) => Some(format!("it names the server {name}, and {wanted} was sent")),
        // A permit by addresses is decided and logged before there is a ClientHello.
        None if record.layer == Layer::L4 && record.action == Action::Permit => None,
        None if hello_left => Some(format!("it names no server, and {wanted} was sent")),
        None => None,
    }
}

/// The rule a record names, where it is known.
pub(super) fn rule<'a>(
    record: &GatewayRecord,
    observations: &'a Observations,
) -> Option<&'a RuleRef> {
    observations.rules.get(&record.decided_by?)
}

/// Why the record's rule is not the expected one, if it is not.
pub(super) fn wrong_rule(
    expected: &RuleExpectation,
    record: &GatewayRecord,
    observations: &Observations,
) -> Option<String> {
    let Some(uuid) = record.decided_by else {
        return Some("it names no rule".to_owned());
    };
    let found = rule(record, observations);
    let as_expected = match expected {
        RuleExpectation::Any => true,
        RuleExpectation::DefaultAction => found.is_some_and(|rule| rule.default_action),
        RuleExpectation::Named { rule, of_server } => found.is_some_and(|found| {
            !found.default_action
                && found.name == *rule
                && of_server
                    .as_ref()
                    .is_none_or(|server| found.server.as_ref() == Some(server))
        }),
    };
    if as_expected {
        return None;
    }
    let named = match found {
        Some(rule) => describe_rule(rule),
        None => format!("{uuid}, which no export of the controller knows"),
    };
    Some(format!(
        "it was decided by {named}, expected {}",
        describe_expectation(expected)
    ))
}

/// One record as a line for a reader.
pub(super) fn describe_record(record: &GatewayRecord, observations: &Observations) -> String {
    let action = match record.action {
        Action::Permit => "PERMIT",
        Action::Deny => "DENY",
    };
    let protocol = match record.protocol {
        Protocol::Tcp => String::new(),
        other => format!("{other} "),
    };
    let sni = record
        .sni
        .as_ref()
        .map(|name| format!(" sni={name}"))
        .unwrap_or_default();
    let rule = match (rule(record, observations), record.decided_by) {
        (Some(rule), _) => {
            let server = rule.server.as_ref().map(|name| format!(" (server {name})"));
            format!(" rule={}{}", rule.name, server.unwrap_or_default())
        }
        (None, Some(uuid)) => format!(" rule={uuid}"),
        (None, None) => String::new(),
    };
    let monitor = if record.enforced {
        ""
    } else {
        " (monitor only, not enforced)"
    };
    format!(
        "gateway log: {action} {protocol}{} -> {}{sni}{rule}{monitor}",
        record.source, record.destination
    )
}

/// What a receipt reports, for a reader.
pub(super) fn describe_receipt(receipt: &Receipt) -> String {
    match &receipt.event {
        ReceiptEvent::Connected => "a connection".to_owned(),
        ReceiptEvent::Bytes { received } => format!("{received} bytes"),
        ReceiptEvent::TlsEstablished { sni: Some(name) } => format!("a TLS session for {name}"),
        ReceiptEvent::TlsEstablished { sni: None } => "a TLS session without a name".to_owned(),
        ReceiptEvent::Request {
            method,
            path,
            body_bytes,
            ..
        } => {
            format!("the request {method} {path} with {body_bytes} bytes")
        }
        ReceiptEvent::Datagram { bytes } => format!("a datagram of {bytes} bytes"),
        ReceiptEvent::DnsQuery {
            name, record_type, ..
        } => {
            format!("the DNS query {name} {record_type}")
        }
        ReceiptEvent::Closed { received, .. } => format!("{received} bytes in all"),
    }
}

fn describe_rule(rule: &RuleRef) -> String {
    let server = rule
        .server
        .as_ref()
        .map(|name| format!(" of {name}"))
        .unwrap_or_default();
    if rule.default_action {
        "the default action".to_owned()
    } else {
        format!("the rule {}{server}", rule.name)
    }
}

/// The expected rule, for a reader.
pub(super) fn describe_expectation(expected: &RuleExpectation) -> String {
    match expected {
        RuleExpectation::Any => "any rule".to_owned(),
        RuleExpectation::DefaultAction => "the default action".to_owned(),
        RuleExpectation::Named {
            rule,
            of_server: Some(server),
        } => {
            format!("the rule {rule} of {server}")
        }
        RuleExpectation::Named {
            rule,
            of_server: None,
        } => format!("the rule {rule}"),
    }
}
