//! The documented policy as a small executable model: what a flow *ought* to come to.
//!
//! Written from the vendors' documents alone (`reference/aviatrix-dcf.md` sections 2.1 to 2.3, and the translation of
//! `reference/obot.md` sections 1 and 3), so that it can contradict an engine that was written from them too. It must
//! not know the policy engine, the policy controller or the cluster; what it shares with them is the documents. Where
//! these say "unknown", there is a [`Switches`] field with the documented default.
//!
//! | module       | owns                                                              |
//! |--------------|-------------------------------------------------------------------|
//! | (here)       | policies, flows, and the expected verdict                         |
//! | [`observed`] | what a flow came to in fact, out of the evidence                  |

pub mod observed;

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;

/// The rule that permits what a list names (`reference/obot.md` section 3).
pub const PERMIT_RULE: &str = "allow-approved-egress";
/// The rule that denies everything else.
pub const DENY_RULE: &str = "deny-all-external";
/// The one port on which a list permits anything.
const LISTED_PORT: u16 = 443;

/// Everything that decides about flows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The last rule of all.
    pub default_action: DefaultAction,
    /// The orchestrator's default-deny setting.
    pub default_deny: bool,
    /// What each server's manifest says.
    pub servers: BTreeMap<String, Egress>,
}

/// What the firewall does with flows that no rule decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DefaultAction {
    /// Deny, with a record: what the published blueprints set.
    #[default]
    DenyAndLog,
    /// Permit without a record: the vendor's own default.
    Permit,
}

/// The egress fields of a server's manifest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Egress {
    /// `egressDomains`.
    pub domains: Vec<String>,
    /// `denyAllEgress`; `None` when the manifest says nothing.
    pub deny_all: Option<bool>,
}

/// Who sends.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// The Pod of a server, by the server's name.
    Server(String),
    /// A Pod that belongs to no server.
    Stray,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Server(name) => name,
            Self::Stray => "stray",
        })
    }
}

/// What is sent: one flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// Where to.
    pub address: IpAddr,
    /// Port; 0 for ICMP.
    pub port: u16,
    /// Over what, and what it says first.
    pub speech: Speech,
}

/// What a flow says first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Speech {
    /// A ClientHello with this server name, or with none.
    Tls(Option<String>),
    /// An HTTP request over TCP with this Host header.
    Http(String),
    /// Bytes over TCP that are neither.
    Tcp,
    /// A datagram.
    Udp,
    /// An echo request.
    Icmp,
}

/// What a flow ought to come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Whether it passes.
    pub verdict: Verdict,
    /// What decides.
    pub by: Decider,
    /// Whether the decision leaves a record.
    pub logged: bool,
}

/// Whether a flow passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It passes.
    Permit,
    /// It does not.
    Deny,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Permit => "permit",
            Self::Deny => "deny",
        })
    }
}

/// What decided about a flow.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Decider {
    /// A rule of the policy of a server.
    Rule {
        /// Name of the rule.
        rule: String,
        /// Name of the server.
        server: String,
    },
    /// The default action.
    DefaultAction,
}

impl fmt::Display for Decider {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rule { rule, server } => write!(f, "{rule} of {server}"),
            Self::DefaultAction => f.write_str("the default action"),
        }
    }
}

/// What the documents leave open (`reference/aviatrix-dcf.md` sections 2.3 and 7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Switches {
    /// `*.example.com` covers `a.b.example.com`. Default yes: plain glob.
    pub wildcard_spans_labels: bool,
    /// `*.example.com` covers `example.com`. Default no: vendor groups list both.
    pub wildcard_matches_apex: bool,
    /// Case plays no part. Default yes.
    pub case_insensitive: bool,
    /// What a bare `*` is, which the policy controller writes for a server without a list. Default: a glob, which
    /// every name matches and a missing one does not.
    pub bare_star: BareStar,
    /// A Host header counts on port 443 too. Default yes: no document restricts it to other ports.
    pub host_header_on_tls_port: bool,
}

/// What a bare `*` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BareStar {
    /// A glob like any other.
    Glob,
    /// All web traffic, nameless TLS too.
    AllWeb,
    /// Not accepted: the whole object is not enforced.
    Rejected,
}

impl Default for Switches {
    fn default() -> Self {
        Self {
            wildcard_spans_labels: true,
            wildcard_matches_apex: false,
            case_insensitive: true,
            bare_star: BareStar::Glob,
            host_header_on_tls_port: true,
        }
    }
}

/// What `flow` from `source` ought to come to under `policy`.
#[must_use]
pub fn expect(policy: &Policy, switches: &Switches, source: &Source, flow: &Flow) -> Expected {
    let by_rule = match source {
        Source::Stray => None,
        Source::Server(server) => {
            let egress = policy.servers.get(server);
            egress.and_then(|egress| by_rules(server, &listed(policy, egress), switches, flow))
        }
    };
    by_rule.unwrap_or(match policy.default_action {
        DefaultAction::DenyAndLog => Expected {
            verdict: Verdict::Deny,
            by: Decider::DefaultAction,
            logged: true,
        },
        DefaultAction::Permit => Expected {
            verdict: Verdict::Permit,
            by: Decider::DefaultAction,
            logged: false,
        },
    })
}

/// The domains that a server's permit names; none: there is no permit.
///
/// An explicit `denyAllEgress` counts; without one the platform's setting does, for a server without a list. A server
/// that denies nothing and lists nothing gets a bare star.
fn listed(policy: &Policy, egress: &Egress) -> Vec<String> {
    let empty = egress.domains.is_empty();
    let denies = egress.deny_all.unwrap_or(policy.default_deny && empty);
    if empty && !denies {
        vec!["*".to_owned()]
    } else {
        egress.domains.clone()
    }
}

/// The first rule of a server's policy object that matches. Both rules are about `0.0.0.0/0`: IPv6 is nobody's.
fn by_rules(server: &str, listed: &[String], switches: &Switches, flow: &Flow) -> Option<Expected> {
    let rejected = switches.bare_star == BareStar::Rejected && listed.iter().any(|own| own == "*");
    if flow.address.is_ipv6() || rejected {
        return None;
    }
    let (verdict, rule) = if is_listed(listed, switches, flow) {
        (Verdict::Permit, PERMIT_RULE)
    } else {
        (Verdict::Deny, DENY_RULE)
    };
    let (rule, server) = (rule.to_owned(), server.to_owned());
    Some(Expected {
        verdict,
        by: Decider::Rule { rule, server },
        logged: true,
    })
}

/// Whether the permit matches: TCP, port 443, and a name that is listed.
fn is_listed(listed: &[String], switches: &Switches, flow: &Flow) -> bool {
    if flow.port != LISTED_PORT {
        return false;
    }
    let name = match &flow.speech {
        Speech::Tls(Some(name)) => name,
        Speech::Tls(None) => {
            let all_web = switches.bare_star == BareStar::AllWeb;
            return all_web && listed.iter().any(|own| own == "*");
        }
        Speech::Http(host) if switches.host_header_on_tls_port => host,
        Speech::Http(_) | Speech::Tcp | Speech::Udp | Speech::Icmp => return false,
    };
    listed.iter().any(|own| covers(own, name, switches))
}

/// Whether a listed domain covers a name. One trailing dot of the name is not part of it.
#[must_use]
pub fn covers(domain: &str, name: &str, switches: &Switches) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fold = |text: &str| {
        if switches.case_insensitive {
            text.to_ascii_lowercase()
        } else {
            text.to_owned()
        }
    };
    let (domain, name) = (fold(domain), fold(name));
    let apex = switches.wildcard_matches_apex && domain.strip_prefix("*.") == Some(name.as_str());
    apex || glob(
        domain.as_bytes(),
        name.as_bytes(),
        switches.wildcard_spans_labels,
    )
}

/// `*` stands for any bytes; only for bytes of one label when it does not span labels.
fn glob(pattern: &[u8], text: &[u8], spans: bool) -> bool {
    // Which prefixes of the text the pattern's prefix matches; a set, so that no pattern takes long.
    let mut reached = vec![false; text.len() + 1];
    reached[0] = true;
    for &wanted in pattern {
        let before = std::mem::replace(&mut reached, vec![false; text.len() + 1]);
        for (end, matched) in before.iter().enumerate() {
            if wanted != b'*' {
                if *matched && text.get(end) == Some(&wanted) {
                    reached[end + 1] = true;
                }
                continue;
            }
            let grown = end > 0 && reached[end - 1] && (spans || text[end - 1] != b'.');
            reached[end] = *matched || grown;
        }
    }
    reached[text.len()]
}

#[cfg(test)]
mod tests;
