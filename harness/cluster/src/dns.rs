//! Cluster DNS, and the resolver of the surrounding VPC that it forwards to.
//!
//! Owns: the records of Services and headless endpoints, the answer to a query (pure), and the loops over
//! sockets (`server`). Knows nothing of the API: `sync` compiles the zone. External names are answered by
//! a function that the caller gives, the VPC's resolver; cluster DNS asks it in process, where CoreDNS
//! would send a datagram that never crosses the gateway either.
//!
//! Faithful to the Kubernetes DNS specification 1.1.0 (dns/docs/specification.md) and to CoreDNS as kubeadm
//! configures it: A of ClusterIP and headless Services, A of named endpoints, SRV of named ports, NXDOMAIN
//! with SOA so that search lists go on, empty NOERROR for names that have no record of the type asked.
//! Not faithful: no PTR, no `pod.cluster.local`, no ExternalName, no caching, no AXFR.

mod server;

use std::collections::{BTreeMap, BTreeSet};
use std::net::Ipv4Addr;

use hickory_proto::op::{Edns, Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

pub use server::{DnsQuery, DnsServer, Resolver, Transport, Upstream};

const DOMAIN: &str = "cluster.local.";
/// As kubeadm's Corefile.
const TTL: u32 = 30;
/// What we accept over UDP and announce, the value of DNS flag day 2020.
const UDP_PAYLOAD: u16 = 1232;

/// All names below `cluster.local`, in lower case with a trailing dot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Zone {
    names: BTreeMap<String, Entry>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entry {
    pub addresses: BTreeSet<Ipv4Addr>,
    /// Port and target of SRV records.
    pub services: BTreeSet<(u16, String)>,
}

/// What to do with a query.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Reply(Vec<u8>),
    /// Not a name of the cluster.
    Forward,
    /// Not even a query.
    Ignore,
}

impl Zone {
    /// The entry of `name`, relative to the cluster's domain; made if missing, with every name above it.
    pub fn entry(&mut self, name: &str) -> &mut Entry {
        let name = format!("{}.{DOMAIN}", name.to_ascii_lowercase());
        let mut above = name.as_str();
        while let Some((_, parent)) = above.split_once('.').filter(|_| above != DOMAIN) {
            self.names.entry(parent.to_owned()).or_default();
            above = parent;
        }
        self.names.entry(name).or_default()
    }

    /// Answers one query. Any bytes are a valid argument.
    #[must_use]
    pub fn answer(&self, query: &[u8]) -> Answer {
        let message = match parse(query) {
            Ok(message) => message,
            Err(answer) => return answer,
        };
        let Some(question) = message.queries.first() else {
            return reply(&error(&message, ResponseCode::FormErr));
        };
        if !is_in_cluster(question.name()) {
            return Answer::Forward;
        }
        if question.query_class() != DNSClass::IN {
            return reply(&error(&message, ResponseCode::Refused));
        }
        reply(&self.resolve(&message, question))
    }

    fn resolve(&self, message: &Message, question: &Query) -> Message {
        let mut response = response(message);
        response.metadata.authoritative = true;
        let name = question.name();
        let Some(entry) = self.names.get(&canonical(name)) else {
            response.metadata.response_code = ResponseCode::NXDomain;
            response.authorities.extend(authority());
            return response;
        };
        let record = |data| Record::from_rdata(name.clone(), TTL, data);
        match question.query_type() {
            RecordType::A => {
                let addresses = entry
                    .addresses
                    .iter()
                    .map(|address| record(RData::A(A(*address))));
                response.answers.extend(addresses);
            }
            RecordType::SRV => {
                let services = entry.services.iter().filter_map(|(port, target)| {
                    let target = Name::from_ascii(target).ok()?;
                    Some(record(RData::SRV(SRV::new(0, 100, *port, target))))
                });
                response.answers.extend(services);
            }
            RecordType::SOA if canonical(name) == DOMAIN => response.answers.extend(authority()),
            _ => {}
        }
        if response.answers.is_empty() {
            response.authorities.extend(authority());
        }
        response
    }
}

/// The question's name and type, for a log.
#[must_use]
pub fn question(query: &[u8]) -> Option<(String, String)> {
    let message = parse(query).ok()?;
    let question = message.queries.first()?;
    let name = question.name().to_ascii();
    Some((
        name.trim_end_matches('.').to_owned(),
        question.query_type().to_string(),
    ))
}

/// Cuts a response that the asker cannot take over UDP, so that it asks again over TCP.
#[must_use]
pub fn fit_datagram(query: &[u8], response: Vec<u8>) -> Vec<u8> {
    let limit = parse(query).map_or(512, |message| message.max_payload());
    if response.len() <= usize::from(limit) {
        return response;
    }
    let cut = Message::from_vec(&response).map(|message| message.truncate().to_vec());
    match cut {
        Ok(Ok(cut)) => cut,
        _ => server_failure(query).unwrap_or_default(),
    }
}

/// The answer to a query for a zone that is not forwarded: what CoreDNS says where no server block of its Corefile is
/// for the zone.
#[must_use]
pub fn refused(query: &[u8]) -> Option<Vec<u8>> {
    let message = parse(query).ok()?;
    error(&message, ResponseCode::Refused).to_vec().ok()
}

/// Whether `name` is one of `zones` or below one of them.
fn is_in(name: &str, zones: &[String]) -> bool {
    let name = name.trim_end_matches('.').to_ascii_lowercase();
    zones.iter().any(|zone| {
        let above = name.strip_suffix(&zone.to_ascii_lowercase());
        above.is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
    })
}

/// The answer when there is none.
#[must_use]
pub fn server_failure(query: &[u8]) -> Option<Vec<u8>> {
    let message = parse(query).ok()?;
    error(&message, ResponseCode::ServFail).to_vec().ok()
}

fn parse(query: &[u8]) -> Result<Message, Answer> {
    let Ok(message) = Message::from_vec(query) else {
        // RFC 1035 section 4.1.1: a format error echoes the id, which comes first; QR tells queries.
        return Err(match query {
            [high, low, flags, ..] if query.len() >= 12 && flags & 0x80 == 0 => {
                let id = u16::from_be_bytes([*high, *low]);
                reply(&Message::error_msg(
                    id,
                    OpCode::Query,
                    ResponseCode::FormErr,
                ))
            }
            _ => Answer::Ignore,
        });
    };
    if message.metadata.message_type != MessageType::Query {
        return Err(Answer::Ignore);
    }
    if message.metadata.op_code != OpCode::Query {
        return Err(reply(&error(&message, ResponseCode::NotImp)));
    }
    if message.queries.len() != 1 {
        return Err(reply(&error(&message, ResponseCode::FormErr)));
    }
    Ok(message)
}

fn response(query: &Message) -> Message {
    let mut response = Message::response(query.metadata.id, query.metadata.op_code);
    response.metadata.recursion_desired = query.metadata.recursion_desired;
    response.metadata.recursion_available = true;
    response.queries.clone_from(&query.queries);
    if query.edns.is_some() {
        let mut edns = Edns::new();
        edns.set_max_payload(UDP_PAYLOAD);
        response.edns = Some(edns);
    }
    response
}

fn error(query: &Message, code: ResponseCode) -> Message {
    let mut response = response(query);
    response.metadata.response_code = code;
    response
}

fn reply(message: &Message) -> Answer {
    message.to_vec().map_or(Answer::Ignore, Answer::Reply)
}

fn authority() -> Option<Record> {
    let name = |text: &str| Name::from_ascii(text).ok();
    let soa = SOA::new(
        name("ns.dns.cluster.local.")?,
        name("hostmaster.cluster.local.")?,
        1,
        7200,
        1800,
        86400,
        TTL,
    );
    Some(Record::from_rdata(name(DOMAIN)?, TTL, RData::SOA(soa)))
}

fn is_in_cluster(name: &Name) -> bool {
    let name = canonical(name);
    name == DOMAIN || name.ends_with(&format!(".{DOMAIN}"))
}

fn canonical(name: &Name) -> String {
    let mut text = name.to_ascii().to_ascii_lowercase();
    if !text.ends_with('.') {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests;
