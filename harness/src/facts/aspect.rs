//! Aspects of an attempt: the conditions that claims can set (`scenarios/claims.yaml`).

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

/// What is known about the attempt that a check is about. A missing aspect is unknown and meets no condition.
pub type About = BTreeMap<Aspect, String>;

/// One aspect of an attempt or of what else a check is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Aspect {
    /// Address family of the destination.
    Family,
    /// Transport protocol.
    Protocol,
    /// Destination port, in decimal.
    Port,
    /// What the client speaks on top of the transport.
    Exchange,
    /// Whether the ClientHello names a server.
    ServerName,
    /// How the requested name relates to the list of the server that requests it.
    Name,
    /// What the sending server's list says, in kind.
    List,
    /// Who sends: a server's Pod, another Pod, a node.
    Source,
    /// Namespace of the Pod that sends.
    Namespace,
    /// Whether a Pod of another server held the sender's address before.
    Address,
    /// The rule that is expected to decide.
    Rule,
    /// The prerequisite that is not met.
    Prerequisite,
    /// What is wrong with a list that must be rejected.
    Breach,
}

impl Aspect {
    /// The values that a condition can name. `None`: any text.
    #[must_use]
    pub fn values(self) -> Option<&'static [&'static str]> {
        match self {
            Self::Family => Some(&["ipv4", "ipv6"]),
            Self::Protocol => Some(&["tcp", "udp", "icmp", "other"]),
            Self::Exchange => Some(&["tls", "http", "dns", "raw"]),
            Self::ServerName => Some(&["present", "absent"]),
            Self::Name => Some(&Name::ALL),
            Self::List => Some(&["domains", "empty", "deny-all", "allow"]),
            Self::Source => Some(&["server", "pod", "node"]),
            Self::Address => Some(&["own", "reused"]),
            Self::Port | Self::Namespace | Self::Rule | Self::Prerequisite | Self::Breach => None,
        }
    }
}

impl fmt::Display for Aspect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.serialize(f)
    }
}

/// How a requested name relates to a list of domains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Name {
    /// Listed in full.
    Listed,
    /// Below a listed wildcard.
    Subdomain,
    /// `example.com` where `*.example.com` is listed.
    Apex,
    /// `evil-example.com` where `*.example.com` is listed.
    LookAlike,
    /// `example.com.attacker.test` where `*.example.com` is listed.
    SuperDomain,
    /// On the list of another server, and not on the own one.
    ListedElsewhere,
    /// On no list.
    Unlisted,
    /// An address was requested, without a name.
    None,
}

impl Name {
    /// The spellings, in the order of the variants.
    pub const ALL: [&'static str; 8] = [
        "listed",
        "subdomain",
        "apex",
        "look-alike",
        "super-domain",
        "listed-elsewhere",
        "unlisted",
        "none",
    ];

    /// The spelling in data and evidence.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        Self::ALL[self as usize]
    }

    /// How `name` relates to `own`, the list of the server that requests it, and to the lists of `others`. Names are
    /// compared without regard to case.
    #[must_use]
    pub fn relation<'a>(
        name: Option<&str>,
        own: &[String],
        others: impl IntoIterator<Item = &'a String>,
    ) -> Self {
        let Some(name) = name.map(str::to_ascii_lowercase) else {
            return Self::None;
        };
        let own: Vec<String> = own
            .iter()
            .map(|entry| entry.trim().to_ascii_lowercase())
            .collect();
        let apexes: Vec<&str> = own
            .iter()
            .filter_map(|entry| entry.strip_prefix("*."))
            .collect();
        let below = |apex: &str| {
            name.strip_suffix(apex)
                .is_some_and(|front| front.ends_with('.'))
        };
        let any = |test: &dyn Fn(&str) -> bool| apexes.iter().any(|apex| test(apex));
        if own.contains(&name) {
            Self::Listed
        } else if any(&below) {
            Self::Subdomain
        } else if apexes.contains(&name.as_str()) {
            Self::Apex
        } else if any(&|apex| format!(".{name}").contains(&format!(".{apex}."))) {
            Self::SuperDomain
        } else if any(&|apex| name.ends_with(apex)) {
            Self::LookAlike
        } else if others.into_iter().any(|entry| {
            let entry = entry.trim().to_ascii_lowercase();
            entry == name || entry.strip_prefix("*.").is_some_and(below)
        }) {
            Self::ListedElsewhere
        } else {
            Self::Unlisted
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("api.weather.test", "listed")]
    #[case("API.Weather.test", "listed")]
    #[case("www.stolaf.test", "subdomain")]
    #[case("eu.api.stolaf.test", "subdomain")]
    #[case("stolaf.test", "apex")]
    #[case("evil-stolaf.test", "look-alike")]
    #[case("evilstolaf.test", "look-alike")]
    #[case("fhir.stolaf.test.attacker.test", "super-domain")]
    #[case("stolaf.test.attacker.test", "super-domain")]
    #[case("fhir.other.test", "listed-elsewhere")]
    #[case("x.wild.test", "listed-elsewhere")]
    #[case("old.api.weather.test", "unlisted")]
    #[case("collect.test", "unlisted")]
    fn names_relate_to_lists(#[case] name: &str, #[case] expected: &str) {
        let own = ["*.stolaf.test", "api.weather.test"].map(str::to_owned);
        let others = ["fhir.other.test", "*.wild.test"].map(str::to_owned);
        assert_eq!(Name::relation(Some(name), &own, &others).as_str(), expected);
        assert_eq!(Name::relation(None, &own, &others).as_str(), "none");
    }
}
