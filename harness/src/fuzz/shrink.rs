//! The smallest case that still differs: fewer servers, shorter lists, a plainer policy, a plainer flow.
//!
//! Greedy, in rounds: of the smaller neighbours of a case, the first one that still differs is the next case, until none
//! does. Every neighbour is played in a cluster of its own, so what is left stands by itself. This module knows how to
//! make a case smaller and asks its caller what still differs.

use super::case::{Case, Row};
use crate::judge::model::{DefaultAction, Policy, Source, Speech};

/// Cases that are played at the same time.
const SIDE_BY_SIDE: usize = 4;
/// Cases that are played in all. A case of six servers with four domains each needs fewer.
const MAX_PLAYED: usize = 60;

/// A shrunk case.
pub(super) struct Shrunk<T> {
    pub(super) case: Case,
    /// What the caller said about it.
    pub(super) found: T,
    /// How many cases were played.
    pub(super) played: usize,
    /// The bound was reached before no smaller case was left.
    pub(super) cut: bool,
}

/// Shrinks `case` of one cell, for which `play` gives `Some` as long as it still differs. `None`: it does not differ
/// even unchanged, when played by itself.
///
/// # Errors
/// The first of `play`.
pub(super) async fn shrink<T, E>(
    case: Case,
    play: impl AsyncFn(&Case, usize) -> Result<Option<T>, E>,
) -> Result<Option<Shrunk<T>>, E> {
    let mut played = 1;
    let Some(found) = play(&case, 0).await? else {
        return Ok(None);
    };
    let (mut case, mut found) = (case, found);
    loop {
        let smaller = neighbours(&case);
        let mut next = None;
        for some in smaller.chunks(SIDE_BY_SIDE) {
            if played >= MAX_PLAYED {
                let cut = true;
                return Ok(Some(Shrunk {
                    case,
                    found,
                    played,
                    cut,
                }));
            }
            let plays = some
                .iter()
                .zip(played..)
                .map(|(case, number)| play(case, number));
            let results = futures::future::join_all(plays).await;
            played += some.len();
            for (case, result) in some.iter().zip(results) {
                if let (Some(found), None) = (result?, &next) {
                    next = Some((case.clone(), found));
                }
            }
            if next.is_some() {
                break;
            }
        }
        match next {
            Some((smaller, again)) => (case, found) = (smaller, again),
            None => {
                let cut = false;
                return Ok(Some(Shrunk {
                    case,
                    found,
                    played,
                    cut,
                }));
            }
        }
    }
}

/// Cases with one thing less, the boldest first. Each is smaller by a measure that can't grow, so shrinking ends.
fn neighbours(case: &Case) -> Vec<Case> {
    let mut all = Vec::new();
    let Some((source, row)) = case.sources.first().zip(case.rows.first()) else {
        return all;
    };
    let mut with_policy = |policy: Policy| {
        if policy != case.policy {
            all.push(Case {
                policy,
                ..case.clone()
            });
        }
    };
    for policy in without_servers(&case.policy, source) {
        with_policy(policy);
    }
    for policy in shorter_lists(&case.policy) {
        with_policy(policy);
    }
    with_policy(Policy {
        default_deny: false,
        ..case.policy.clone()
    });
    with_policy(Policy {
        default_action: DefaultAction::DenyAndLog,
        ..case.policy.clone()
    });
    for policy in plainer_lists(&case.policy) {
        with_policy(policy);
    }
    for row in plainer_rows(row) {
        all.push(Case {
            rows: vec![row],
            ..case.clone()
        });
    }
    all
}

/// Only the sender's own policy; then all but one of the others.
fn without_servers(policy: &Policy, source: &Source) -> Vec<Policy> {
    let is_own = |name: &String| matches!(source, Source::Server(own) if own == name);
    let keep = |wanted: &dyn Fn(&String) -> bool| {
        let mut policy = policy.clone();
        policy.servers.retain(|name, _| wanted(name));
        policy
    };
    let others = policy.servers.keys().filter(|name| !is_own(name));
    let mut all = vec![keep(&is_own)];
    all.extend(others.map(|left_out| keep(&|name| name != left_out)));
    all
}

/// Each list halved, then with one domain less; and what else a manifest says left out.
fn shorter_lists(policy: &Policy) -> Vec<Policy> {
    let mut all = Vec::new();
    for (name, egress) in &policy.servers {
        let mut with = |domains: Vec<String>| {
            let mut policy = policy.clone();
            if let Some(own) = policy.servers.get_mut(name) {
                own.domains = domains;
            }
            all.push(policy);
        };
        let domains = &egress.domains;
        if domains.len() > 2 {
            let (front, back) = domains.split_at(domains.len() / 2);
            with(front.to_vec());
            with(back.to_vec());
        }
        // A list that is emptied is another policy, not a smaller one.
        if domains.len() > 1 {
            for left_out in 0..domains.len() {
                let mut fewer = domains.clone();
                fewer.remove(left_out);
                with(fewer);
            }
        }
        if egress.deny_all == Some(false) {
            let mut policy = policy.clone();
            if let Some(own) = policy.servers.get_mut(name) {
                own.deny_all = None;
            }
            all.push(policy);
        }
    }
    all
}

/// Domains without capitals.
fn plainer_lists(policy: &Policy) -> Vec<Policy> {
    let mut plain = policy.clone();
    for egress in plain.servers.values_mut() {
        for domain in &mut egress.domains {
            domain.make_ascii_lowercase();
        }
    }
    vec![plain]
}

/// A name without capitals, with a label less, the far end's own, or none: in this order, each smaller than the one before.
fn plainer_rows(row: &Row) -> Vec<Row> {
    let (name, rebuild): (&str, fn(String) -> Speech) = match &row.flow.speech {
        Speech::Tls(Some(name)) => (name, |name| Speech::Tls(Some(name))),
        Speech::Http(name) => (name, Speech::Http),
        Speech::Tls(None) | Speech::Tcp | Speech::Udp | Speech::Icmp => return Vec::new(),
    };
    let mut names = vec![row.host.clone(), name.to_ascii_lowercase()];
    if let Some((_, shorter)) = name.split_once('.')
        && shorter.contains('.')
    {
        names.push(shorter.to_owned());
    }
    let with = |name: String| {
        let mut row = row.clone();
        row.flow.speech = rebuild(name);
        row
    };
    let rows = names.into_iter().map(with);
    rows.filter(|smaller| measure(smaller) < measure(row))
        .collect()
}

/// How much there is to read about a row.
fn measure(row: &Row) -> (bool, usize, usize) {
    match &row.flow.speech {
        Speech::Tls(Some(name)) | Speech::Http(name) => {
            let capitals = name.bytes().filter(u8::is_ascii_uppercase).count();
            (*name != row.host, capitals, name.split('.').count())
        }
        Speech::Tls(None) | Speech::Tcp | Speech::Udp | Speech::Icmp => (false, 0, 0),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::BTreeMap;

    use super::*;
    use crate::judge::model::{Egress, Flow, Switches, covers};

    fn case() -> Case {
        let egress = |domains: &[&str]| Egress {
            domains: domains.iter().map(|&domain| domain.to_owned()).collect(),
            deny_all: Some(false),
        };
        Case {
            policy: Policy {
                default_action: DefaultAction::Permit,
                default_deny: true,
                servers: BTreeMap::from([
                    ("ash".to_owned(), egress(&["a.test", "b.test"])),
                    (
                        "elm".to_owned(),
                        egress(&["c.test", "*.DeeP.test", "d.test", "e.test", "f.test"]),
                    ),
                    ("oak".to_owned(), egress(&[])),
                ]),
            },
            sources: vec![Source::Server("elm".to_owned())],
            rows: vec![Row {
                host: "far.test".to_owned(),
                flow: Flow {
                    address: "192.0.2.1".parse().unwrap(),
                    port: 443,
                    speech: Speech::Tls(Some("X.Y.deep.test".to_owned())),
                },
            }],
            cells: 1,
        }
    }

    /// A defect that needs one domain of the sender, and a name that it covers.
    fn still(case: &Case) -> bool {
        let Speech::Tls(Some(name)) = &case.rows[0].flow.speech else {
            return false;
        };
        let listed = case.policy.servers.get("elm");
        let listed = listed.into_iter().flat_map(|egress| &egress.domains);
        listed
            .filter(|domain| domain.starts_with('*'))
            .any(|domain| covers(domain, name, &Switches::default()))
    }

    #[tokio::test]
    async fn what_a_defect_does_not_need_goes() {
        let play = async |case: &Case, _| Ok::<_, ()>(still(case).then_some(()));
        let shrunk = shrink(case(), play).await.unwrap().unwrap();
        assert!(!shrunk.cut);
        let policy = &shrunk.case.policy;
        assert_eq!(policy.servers.keys().collect::<Vec<_>>(), ["elm"]);
        assert_eq!(policy.servers["elm"].domains, ["*.deep.test"]);
        assert_eq!(policy.servers["elm"].deny_all, None);
        assert_eq!(policy.default_action, DefaultAction::DenyAndLog);
        assert!(!policy.default_deny);
        let speech = &shrunk.case.rows[0].flow.speech;
        assert_eq!(*speech, Speech::Tls(Some("y.deep.test".to_owned())));
    }

    #[tokio::test]
    async fn what_everything_is_needed_for_stays() {
        let play = async |own: &Case, _| Ok::<_, ()>((*own == case()).then_some(()));
        let shrunk = shrink(case(), play).await.unwrap().unwrap();
        assert_eq!(shrunk.case, case());
    }

    #[tokio::test]
    async fn what_does_not_differ_by_itself_is_not_shrunk() {
        let play = async |_: &Case, _| Ok::<_, ()>(None::<()>);
        assert!(shrink(case(), play).await.unwrap().is_none());
    }

    #[tokio::test]
    async fn it_ends_even_when_everything_differs() {
        let play = async |_: &Case, _| Ok::<_, ()>(Some(()));
        let shrunk = shrink(case(), play).await.unwrap().unwrap();
        assert!(neighbours(&shrunk.case).is_empty(), "{:?}", shrunk.case);
        assert!(shrunk.played <= MAX_PLAYED + SIDE_BY_SIDE);
    }
}
