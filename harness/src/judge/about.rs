//! What is known about the attempt of a check, out of what was observed: the conditions that claims set.

use jiff::Timestamp;

use super::{Attempt, Check, Exchange, Observations, Protocol, RuleExpectation, Sent};
use crate::facts::{About, Aspect, ListFact, Name, PodFact};

impl Check {
    /// A check about an attempt, with what was observed of who sent it.
    #[must_use]
    pub fn of(
        kind: &str,
        name: impl Into<String>,
        attempt: &Attempt,
        observations: &Observations,
    ) -> Self {
        Self {
            attempt: Some(attempt.label.clone()),
            about: attempt
                .sent
                .as_ref()
                .map(|sent| about(sent, observations))
                .unwrap_or_default(),
            ..Self::new(kind, name)
        }
    }

    /// The same check, where a certain rule is expected to decide.
    #[must_use]
    pub fn by(self, rule: &RuleExpectation) -> Self {
        match rule {
            RuleExpectation::Any => self,
            RuleExpectation::DefaultAction => self.with(Aspect::Rule, "default-action"),
            RuleExpectation::Named {
                of_server: Some(_), ..
            } => self.with(Aspect::Rule, "own-policy"),
            RuleExpectation::Named {
                rule,
                of_server: None,
            } => self.with(Aspect::Rule, rule),
        }
    }

    /// The same check with one more aspect of what it is about.
    #[must_use]
    pub fn with(mut self, aspect: Aspect, value: &str) -> Self {
        self.about.insert(aspect, value.to_owned());
        self
    }
}

fn about(sent: &Sent, observations: &Observations) -> About {
    let mut about = About::new();
    let mut know = |aspect, value: &str| drop(about.insert(aspect, value.to_owned()));
    let family = if sent.destination.is_ipv6() {
        "ipv6"
    } else {
        "ipv4"
    };
    know(Aspect::Family, family);
    know(
        Aspect::Protocol,
        match sent.protocol {
            Protocol::Tcp => "tcp",
            Protocol::Udp => "udp",
            Protocol::Icmp => "icmp",
            Protocol::Other => "other",
        },
    );
    know(
        Aspect::Exchange,
        match sent.exchange {
            Exchange::Tls => "tls",
            Exchange::Http => "http",
            Exchange::Dns => "dns",
            Exchange::Raw => "raw",
        },
    );
    if matches!(sent.protocol, Protocol::Tcp | Protocol::Udp) {
        know(Aspect::Port, &sent.destination.port().to_string());
    }
    if sent.exchange == Exchange::Tls {
        let name = sent.sni.as_ref().map_or("absent", |_| "present");
        know(Aspect::ServerName, name);
    }
    let pod = holder(sent, observations);
    let server = pod.and_then(|pod| pod.server.as_deref());
    let own = server.and_then(|server| list_of(server, sent.at, observations));
    let others = observations
        .lists
        .iter()
        .filter(|list| Some(list.server.as_str()) != server)
        .flat_map(|list| &list.domains);
    let requested = sent.sni.as_deref().or(sent.host.as_deref());
    // A host that is written as an address is no name.
    let requested = requested.filter(|name| name.parse::<std::net::IpAddr>().is_err());
    let domains = own.map_or(&[][..], |list| &list.domains);
    know(
        Aspect::Name,
        Name::relation(requested, domains, others).as_str(),
    );
    if let Some(list) = own {
        know(Aspect::List, in_kind(list));
    }
    if let Some(pod) = pod {
        know(
            Aspect::Source,
            if server.is_some() { "server" } else { "pod" },
        );
        know(Aspect::Namespace, &pod.namespace);
        let reused = observations.pods.iter().any(|other| {
            other.address == pod.address && other.since < pod.since && other.server != pod.server
        });
        know(Aspect::Address, if reused { "reused" } else { "own" });
    } else if observations.nodes.contains(&sent.source.ip()) {
        know(Aspect::Source, "node");
    }
    about
}

/// The Pod that held the source address when the attempt was sent. A Pod's first packets can precede the report of its
/// address: before any report the first holder counts.
fn holder<'a>(sent: &Sent, observations: &'a Observations) -> Option<&'a PodFact> {
    let holders = || {
        let pods = observations.pods.iter();
        pods.filter(|pod| pod.address == sent.source.ip())
    };
    let before = holders().filter(|pod| pod.since <= sent.at);
    before
        .max_by_key(|pod| pod.since)
        .or_else(|| holders().min_by_key(|pod| pod.since))
}

fn list_of<'a>(
    server: &str,
    at: Timestamp,
    observations: &'a Observations,
) -> Option<&'a ListFact> {
    let lists = || {
        observations
            .lists
            .iter()
            .filter(|list| list.server == server)
    };
    let before = lists().filter(|list| list.at <= at);
    before.max_by_key(|list| list.at).or_else(|| lists().next())
}

fn in_kind(list: &ListFact) -> &'static str {
    match (list.deny_all, list.domains.is_empty()) {
        (Some(true), _) => "deny-all",
        (_, false) => "domains",
        (Some(false), true) => "allow",
        (None, true) => "empty",
    }
}
