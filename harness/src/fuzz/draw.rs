//! Draws policies and flows from a seed. The same seed draws the same case, on every machine and in every release that
//! has the same simulated internet.
//!
//! It aims: most names are made to match somebody's list or to miss it narrowly, because uniformly random ones would
//! all be denied for the same reason.

use std::net::IpAddr;

use fixtures::internet::{Host, Internet};
use rand_chacha::ChaCha12Rng;
use rand_chacha::rand_core::{Rng as _, SeedableRng as _};

use super::case::{Case, Row};
use crate::judge::model::{DefaultAction, Egress, Flow, Policy, Source, Speech};

/// Names of the servers.
const SERVERS: [&str; MAX_SERVERS] = ["ash", "birch", "cedar", "elm", "fir", "oak"];
/// As many columns as still fit beside a flow in words.
pub(super) const MAX_SERVERS: usize = 6;
/// Labels that stand in for a wildcard.
const LABELS: [&str; 4] = ["a", "data", "x9", "eu-west"];
/// Ports at which nobody need listen.
const ODD_PORTS: [u16; 6] = [22, 80, 444, 4430, 8080, 8443];

/// Draws a case of up to six servers with `cells` cells.
pub(super) fn draw(seed: u64, servers: usize, cells: usize, internet: &Internet) -> Case {
    let mut dice = Dice(ChaCha12Rng::seed_from_u64(seed));
    let hosts: Vec<&Host> = internet
        .hosts()
        .iter()
        .filter(|host| host.addresses.iter().any(IpAddr::is_ipv4))
        .collect();
    let pool = names(&hosts);
    let policy = draw_policy(&mut dice, servers, &pool);
    let mut sources: Vec<Source> = policy.servers.keys().cloned().map(Source::Server).collect();
    sources.push(Source::Stray);
    let wanted = cells.div_ceil(sources.len());
    let mut rows: Vec<Row> = Vec::new();
    // Few distinct flows are left once a case is large; then rows may come twice, except echoes, which have no port to
    // tell them apart.
    for tries in 0.. {
        if rows.len() == wanted {
            break;
        }
        let row = draw_row(&mut dice, tries, &hosts, &pool, &policy);
        let again = rows.contains(&row);
        if !again || (tries > 20 * wanted && row.flow.speech != Speech::Icmp) {
            rows.push(row);
        }
    }
    Case {
        policy,
        sources,
        rows,
        cells,
    }
}

/// Names that exist; one label stands in for a wildcard.
fn names(hosts: &[&Host]) -> Vec<String> {
    let all = hosts.iter().flat_map(|host| &host.names);
    all.map(|name| name.replace('*', LABELS[0])).collect()
}

fn draw_policy(dice: &mut Dice, servers: usize, pool: &[String]) -> Policy {
    Policy {
        default_action: if dice.once_in(4) {
            DefaultAction::Permit
        } else {
            DefaultAction::DenyAndLog
        },
        default_deny: dice.once_in(4),
        servers: SERVERS
            .iter()
            .take(servers)
            .map(|&name| (name.to_owned(), draw_egress(dice, pool)))
            .collect(),
    }
}

fn draw_egress(dice: &mut Dice, pool: &[String]) -> Egress {
    let (length, deny_all) = match dice.below(10) {
        0 => (0, None),
        1 => (0, Some(false)),
        2 => (0, Some(true)),
        3 => (1 + dice.below(4), Some(false)),
        _ => (1 + dice.below(4), None),
    };
    Egress {
        domains: (0..length).map(|_| draw_domain(dice, pool)).collect(),
        deny_all,
    }
}

/// A name as it is, a wildcard above it, or either with some capitals: what the orchestrator accepts.
fn draw_domain(dice: &mut Dice, pool: &[String]) -> String {
    let name = dice.pick(pool).clone();
    let parent = name
        .split_once('.')
        .map(|(_, parent)| parent)
        .filter(|parent| parent.contains('.'));
    let domain = match parent {
        Some(parent) if dice.once_in(2) => format!("*.{parent}"),
        // The apex of a name of two labels is the name.
        None if dice.once_in(3) => format!("*.{name}"),
        _ => name,
    };
    if dice.once_in(6) {
        capitals(&domain)
    } else {
        domain
    }
}

fn draw_row(
    dice: &mut Dice,
    number: usize,
    hosts: &[&Host],
    pool: &[String],
    policy: &Policy,
) -> Row {
    let host = *dice.pick(hosts);
    let own = host.name().replace('*', LABELS[0]);
    let address = host
        .addresses
        .iter()
        .copied()
        .find(IpAddr::is_ipv4)
        .expect("invariant: hosts without one were left out");
    // Kinds take turns, so that a small case has some of each.
    let (port, speech) = match (7 * number) % 20 {
        0 => (443, Speech::Tls(None)),
        1..=10 => (
            443,
            Speech::Tls(Some(draw_name_of(dice, host, pool, policy))),
        ),
        11 => (
            draw_port(dice, &host.listen.https),
            Speech::Tls(draw_name(dice, host, pool, policy)),
        ),
        12 => (443, Speech::Http(draw_name_of(dice, host, pool, policy))),
        13 | 14 => (
            draw_port(dice, &host.listen.http),
            Speech::Http(draw_name_of(dice, host, pool, policy)),
        ),
        15 => (443, Speech::Tcp),
        16 => (draw_port(dice, &host.listen.tcp), Speech::Tcp),
        17 => (443, Speech::Udp),
        18 => (draw_port(dice, &host.listen.udp), Speech::Udp),
        _ => (0, Speech::Icmp),
    };
    Row {
        host: own,
        flow: Flow {
            address,
            port,
            speech,
        },
    }
}

/// A port at which the host listens, mostly.
fn draw_port(dice: &mut Dice, listening: &[u16]) -> u16 {
    if listening.is_empty() || dice.once_in(4) {
        *dice.pick(&ODD_PORTS)
    } else {
        *dice.pick(listening)
    }
}

/// A server name for a ClientHello, or none.
fn draw_name(dice: &mut Dice, host: &Host, pool: &[String], policy: &Policy) -> Option<String> {
    (!dice.once_in(9)).then(|| draw_name_of(dice, host, pool, policy))
}

/// One of the host's own names, a name that somebody lists (or just misses), or any name of the internet.
fn draw_name_of(dice: &mut Dice, host: &Host, pool: &[String], policy: &Policy) -> String {
    let name = match dice.below(5) {
        0 | 1 => {
            let name = dice.pick(&host.names).clone();
            {
                let label = *dice.pick(&LABELS);
                name.replace('*', label)
            }
        }
        2 | 3 => {
            let listed: Vec<&String> = policy
                .servers
                .values()
                .flat_map(|egress| &egress.domains)
                .collect();
            match listed.as_slice() {
                [] => dice.pick(pool).clone(),
                listed => {
                    let domain = dice.pick(listed).to_lowercase();
                    near(dice, &domain)
                }
            }
        }
        _ => dice.pick(pool).clone(),
    };
    if dice.once_in(6) {
        capitals(&name)
    } else {
        name
    }
}

/// A name that a listed domain covers, or one beside it: the apex, a deeper label, a look-alike.
fn near(dice: &mut Dice, domain: &str) -> String {
    let label = *dice.pick(&LABELS);
    let Some(apex) = domain.strip_prefix("*.") else {
        return match dice.below(6) {
            0 => format!("{label}.{domain}"),
            1 => format!("evil-{domain}"),
            2 => format!("{domain}.attacker-zone.test"),
            _ => domain.to_owned(),
        };
    };
    match dice.below(6) {
        0 | 5 => apex.to_owned(),
        1 => format!("{label}.deep.{apex}"),
        2 => format!("evil-{apex}"),
        _ => format!("{label}.{apex}"),
    }
}

/// Every other letter as a capital: `fHiR.hOsPiTaL.TeSt`.
fn capitals(name: &str) -> String {
    let flipped = name.char_indices().map(|(index, letter)| {
        if index % 2 == 1 {
            letter.to_ascii_uppercase()
        } else {
            letter
        }
    });
    flipped.collect()
}

/// A generator whose stream is stable over releases.
#[derive(Clone)]
struct Dice(ChaCha12Rng);

impl Dice {
    /// A number below `bound`. The bias of a remainder does not matter for choices among a few.
    fn below(&mut self, bound: usize) -> usize {
        let bound = u64::try_from(bound.max(1)).unwrap_or(u64::MAX);
        usize::try_from(self.0.next_u64() % bound).unwrap_or_default()
    }

    fn once_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;
    use crate::judge::model::{Decider, Switches, Verdict, expect};

    fn internet() -> Internet {
        Internet::load(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../scenarios/internet.yaml"))
            .unwrap()
    }

    #[test]
    fn a_seed_draws_the_same_case_each_time_and_others_draw_others() {
        let internet = internet();
        assert_eq!(draw(7, 6, 100, &internet), draw(7, 6, 100, &internet));
        assert_ne!(draw(7, 6, 100, &internet), draw(8, 6, 100, &internet));
    }

    #[test]
    fn as_many_cells_as_asked_for() {
        let internet = internet();
        for cells in [1, 6, 7, 8, 50, 501, 3000] {
            assert_eq!(draw(1, 6, cells, &internet).cells().count(), cells);
        }
    }

    /// A table of denials alone would hardly test anything.
    #[test]
    fn a_case_holds_every_kind_of_cell() {
        let internet = internet();
        let mut kinds = BTreeSet::new();
        let mut permitted = 0;
        for seed in 0..10 {
            let case = draw(seed, 6, 500, &internet);
            for cell in case.cells() {
                let (source, row) = (&case.sources[cell.column], &case.rows[cell.row]);
                let expected = expect(&case.policy, &Switches::default(), source, &row.flow);
                let by_default = expected.by == Decider::DefaultAction;
                permitted += usize::from(expected.verdict == Verdict::Permit);
                kinds.insert((
                    expected.verdict,
                    by_default,
                    std::mem::discriminant(&row.flow.speech)
                        == std::mem::discriminant(&Speech::Tls(None)),
                ));
            }
        }
        assert_eq!(kinds.len(), 8, "{kinds:?}");
        assert!((500..4000).contains(&permitted), "{permitted} of 5000");
    }
}
