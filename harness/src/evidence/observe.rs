//! Reads an evidence folder back: its events, and all of it as [`Observations`].

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use fixtures::probe::{ProbeEvent, ProbeReport};
use jiff::{SignedDuration, Timestamp};

use super::folder::{self, Folder};
use super::{Capture, Error, Event, GatewayLog, Recorded};
use crate::judge::{
    Attempt, ClientOutcome, ClientResult, Exchange, Observations, Protocol, Seen, Sent,
};

/// Longest event line that is read.
const LINE_BOUND: usize = 16 * 1024 * 1024;

/// Reads an event file. A last line without its end is a crash in the middle of a write and is
/// left out; anything else that is not an event is an error.
pub fn read_events(path: &Path) -> Result<Vec<Recorded>, Error> {
    let text = std::fs::read_to_string(path).map_err(|source| Error::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })?;
    let mut events = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        let line_number = index + 1;
        let Some(line) = line.strip_suffix('\n') else {
            break;
        };
        let fail = |message| Error::Event {
            path: path.to_owned(),
            line: line_number,
            message,
        };
        if line.len() > LINE_BOUND {
            return Err(fail(format!("longer than {LINE_BOUND} bytes")));
        }
        let recorded: Recorded =
            serde_json::from_str(line).map_err(|error| fail(error.to_string()))?;
        let expected = events.len() as u64;
        if recorded.seq != expected {
            let (path, found) = (path.to_owned(), recorded.seq);
            return Err(Error::Gap {
                path,
                line: line_number,
                expected,
                found,
            });
        }
        events.push(recorded);
    }
    Ok(events)
}

/// Which capture points a tier has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Captures {
    /// Both files are in the folder, flushed, and hold every packet.
    InFolder,
    /// Packets are missing from the files, for this reason: their silence proves nothing.
    Incomplete(String),
    /// The tier cannot see packets.
    NotVisible,
}

/// Everything that was observed up to `until`, out of the events and the captures of a folder.
#[must_use]
pub fn observe(
    folder: &Folder,
    events: &[Arc<Recorded>],
    captures: Captures,
    until: Timestamp,
) -> Observations {
    let mut observations = from_events(events.iter().map(AsRef::as_ref), until);
    let read = |name| match &captures {
        Captures::NotVisible => Seen::NotVisible,
        Captures::Incomplete(why) => Seen::Unreadable(why.clone()),
        Captures::InFolder => match Capture::read(&folder.file(name)) {
            Ok(capture) => Seen::Read(capture),
            Err(error) => Seen::Unreadable(error.to_string()),
        },
    };
    observations.pod_side = read(folder::POD_SIDE);
    observations.outside = read(folder::OUTSIDE);
    observations
}

/// Everything that events alone say. The packets stay [`Seen::NotVisible`].
pub fn from_events<'a>(
    events: impl IntoIterator<Item = &'a Recorded>,
    until: Timestamp,
) -> Observations {
    let mut observations = Observations {
        until,
        ..Observations::default()
    };
    let mut log = GatewayLog::default();
    let mut copilot: Option<(u64, GatewayLog)> = None;
    let mut names = BTreeMap::new();
    for recorded in events {
        match &recorded.event {
            Event::ServerCreated { id, name } => {
                names.insert(id.clone(), name.clone());
            }
            Event::ListAccepted(list) => observations.lists.push(list.clone()),
            Event::Receipt(receipt) => observations.receipts.push(receipt.clone()),
            Event::StoppedOnNode(flow) => observations.stopped_on_nodes.push(flow.clone()),
            Event::GatewayLog { line, text } => log.push(*line, Some(recorded.at), text),
            Event::CopilotListens { .. } => {
                copilot.get_or_insert_default();
            }
            Event::CopilotLog { text } => {
                let (lines, log) = copilot.get_or_insert_default();
                *lines += 1;
                log.push(*lines, Some(recorded.at), text);
            }
            Event::RulesKnown { rules } => {
                observations
                    .rules
                    .extend(rules.iter().map(|(uuid, rule)| (*uuid, rule.clone())));
            }
            Event::NodeKnown { address, .. } => observations.nodes.push(*address),
            Event::EndpointBeyond { service, endpoint } => {
                observations.endpoints.insert(*service, *endpoint);
            }
            Event::PodStarted(pod) => observations.pods.push(pod.clone()),
            Event::PodGone { namespace, name } => {
                for pod in &mut observations.pods {
                    if pod.namespace == *namespace && pod.name == *name && pod.until.is_none() {
                        pod.until = Some(recorded.at);
                    }
                }
            }
            Event::ProbeSent {
                attempt,
                canary,
                sent,
            } => {
                let label = announce(&mut observations.attempts, attempt, canary, sent);
                observations.announced.insert(label, recorded.seq);
            }
            Event::ProbeResult {
                attempt,
                canary,
                result,
            } => {
                attempt_of(&mut observations.attempts, attempt, canary).result =
                    Some(result.clone());
                observations.reported.insert(attempt.clone(), recorded.seq);
            }
            _ => {}
        }
    }
    // Policy objects carry the orchestrator's id of a server; a reader knows it by its name.
    for server in observations
        .rules
        .values_mut()
        .filter_map(|rule| rule.server.as_mut())
    {
        if let Some(name) = names.get(server) {
            server.clone_from(name);
        }
    }
    observations.log = Seen::Read(log);
    observations.copilot = copilot.map_or(Seen::NotVisible, |(_, log)| Seen::Read(log));
    observations
}

/// An announcement is kept as it came first: a second one under the same label is another attempt, which no step knows.
fn announce(attempts: &mut Vec<Attempt>, label: &str, canary: &str, sent: &Sent) -> String {
    let announced = |label: &str| {
        let mut known = attempts.iter();
        known.any(|attempt| attempt.label == label && attempt.sent.is_some())
    };
    let again = (2..).map(|number| format!("{label} (announcement {number})"));
    let label = std::iter::once(label.to_owned())
        .chain(again)
        .find(|label| !announced(label))
        .expect("invariant: there are more numbers than announcements");
    attempt_of(attempts, &label, canary).sent = Some(sent.clone());
    label
}

fn attempt_of<'a>(attempts: &'a mut Vec<Attempt>, label: &str, canary: &str) -> &'a mut Attempt {
    let index = attempts
        .iter()
        .position(|attempt| attempt.label == label)
        .unwrap_or_else(|| {
            attempts.push(Attempt {
                label: label.to_owned(),
                canary: canary.to_owned(),
                sent: None,
                result: None,
            });
            attempts.len() - 1
        });
    &mut attempts[index]
}

/// Turns what one attempt of a client reported into the facts that the judge compares. Each
/// report comes with the time at which the harness received it.
///
/// `canary` stands in where the client never got to announce one, as when a name did not resolve.
#[must_use]
pub fn attempt<'a>(
    label: &str,
    canary: &str,
    reports: impl IntoIterator<Item = (Timestamp, &'a ProbeReport)>,
) -> Attempt {
    let mut attempt = Attempt {
        label: label.to_owned(),
        canary: canary.to_owned(),
        sent: None,
        result: None,
    };
    let mut asked_for = None;
    for (received_at, report) in reports {
        match &report.event {
            ProbeEvent::Resolved { host, .. } => asked_for = Some(host.clone()),
            ProbeEvent::Sent { canary, .. } => {
                attempt.canary.clone_from(canary);
                attempt.sent = sent(&report.event, asked_for.clone());
            }
            ProbeEvent::Result { .. } => attempt.result = result(&report.event, received_at),
        }
    }
    attempt
}

/// The facts of an announcement; `None` for any other report.
#[must_use]
pub fn sent(event: &ProbeEvent, host: Option<String>) -> Option<Sent> {
    use fixtures::probe::Protocol as Probe;
    let ProbeEvent::Sent {
        local,
        remote,
        protocol,
        sni,
        at,
        ..
    } = event
    else {
        return None;
    };
    let (protocol, exchange) = match protocol {
        Probe::Tls => (Protocol::Tcp, Exchange::Tls),
        Probe::Http => (Protocol::Tcp, Exchange::Http),
        Probe::Tcp => (Protocol::Tcp, Exchange::Raw),
        Probe::Udp => (Protocol::Udp, Exchange::Raw),
        Probe::Icmp => (Protocol::Icmp, Exchange::Raw),
        Probe::Dns => (Protocol::Udp, Exchange::Dns),
        Probe::DnsTcp => (Protocol::Tcp, Exchange::Dns),
    };
    let (mut source, mut destination) = (*local, *remote);
    if protocol == Protocol::Icmp {
        source.set_port(0);
        destination.set_port(0);
    }
    Some(Sent {
        at: *at,
        protocol,
        exchange,
        source,
        destination,
        host,
        sni: sni.clone(),
    })
}

/// The facts of a result; `None` for any other report.
#[must_use]
pub fn result(event: &ProbeEvent, received_at: Timestamp) -> Option<ClientResult> {
    use fixtures::probe::Outcome as Probe;
    let ProbeEvent::Result {
        outcome,
        status,
        detail,
        ..
    } = event
    else {
        return None;
    };
    let outcome = match outcome {
        Probe::Completed => ClientOutcome::Completed,
        Probe::Refused => ClientOutcome::Refused,
        Probe::Reset => ClientOutcome::Reset,
        Probe::Closed => ClientOutcome::Closed,
        Probe::TlsError => ClientOutcome::TlsError,
        Probe::DnsError => ClientOutcome::DnsError,
        Probe::TimedOut => ClientOutcome::TimedOut,
        Probe::Unreachable => ClientOutcome::Unreachable,
        Probe::ProtocolError => ClientOutcome::ProtocolError,
        Probe::NotTestable => ClientOutcome::NotTestable,
    };
    Some(ClientResult {
        at: received_at,
        outcome,
        status: *status,
        detail: detail.clone().unwrap_or_default(),
    })
}

/// Whether `window` has passed since `moment` at `now`.
#[must_use]
pub fn has_passed(window: std::time::Duration, moment: Timestamp, now: Timestamp) -> bool {
    SignedDuration::try_from(window).is_ok_and(|window| now.duration_since(moment) >= window)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::judge::Protocol;

    #[test]
    fn a_second_announcement_does_not_take_the_place_of_the_first() {
        let sent = |port| Sent {
            at: Timestamp::UNIX_EPOCH,
            protocol: Protocol::Tcp,
            exchange: Exchange::Raw,
            source: ([10, 244, 0, 12], port).into(),
            destination: ([192, 0, 2, 66], 443).into(),
            host: None,
            sni: None,
        };
        let mut attempts = Vec::new();
        for port in [1, 2, 3] {
            announce(&mut attempts, "a", "cnry-0123456789abcdef", &sent(port));
        }
        let found: Vec<_> = attempts
            .iter()
            .map(|one| {
                (
                    one.label.as_str(),
                    one.sent.as_ref().map(|sent| sent.source.port()),
                )
            })
            .collect();
        assert_eq!(
            found,
            [
                ("a", Some(1)),
                ("a (announcement 2)", Some(2)),
                ("a (announcement 3)", Some(3))
            ]
        );
    }

    /// Silence at CoPilot says something only where somebody listened.
    #[test]
    fn nothing_came_to_copilot_only_where_something_listens_in_its_place() {
        let recorded = |event| Recorded {
            seq: 0,
            at: Timestamp::UNIX_EPOCH,
            event,
        };
        let seen = |events: &[Recorded]| from_events(events, Timestamp::UNIX_EPOCH).copilot;
        assert_eq!(seen(&[]), Seen::NotVisible);
        let address = ([127, 0, 0, 1], 5000).into();
        let listens = recorded(Event::CopilotListens { address });
        assert_eq!(seen(&[listens]), Seen::Read(GatewayLog::default()));
    }
}
