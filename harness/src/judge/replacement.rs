//! Whether policies are replaced without a gap: a stream of connections that spans every replacement.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::finding::{Finding, count, micros_between, micros_of};
use super::{Attempt, Check, CheckResult, Observations, Protocol, Seen, Sent};
use crate::evidence::{Action, folder};

/// Named contradictions before the rest is only counted.
const NAMED: usize = 5;

/// The claim that no replacement of a policy lets a denied flow pass or denies a permitted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReplacementClaim {
    /// Which check this is.
    pub check: Check,
    /// When the gateway acknowledged each policy that it was given meanwhile.
    pub pushes: Vec<Timestamp>,
    /// How many replacements were asked for.
    pub updates: usize,
    /// Requests to a name that the list holds all the time.
    pub listed: Vec<Attempt>,
    /// Requests to a name that it never holds, at an address where nothing else goes.
    pub unlisted: Vec<Attempt>,
    /// How long silence must have been observed after the last attempt.
    pub quiet_window: Duration,
}

/// Judges by receipts, packets and the gateway's log: each listed request arrived and none was denied; of no unlisted one
/// a packet was seen beyond the gateway, and each is denied in the log. Both kinds were sent before and after each push.
#[must_use]
pub fn judge_replacement(claim: &ReplacementClaim, observations: &Observations) -> CheckResult {
    let mut finding = Finding::default();
    let decisions = Decisions::of(observations);
    overlap(claim, &mut finding);
    listed(claim, observations, &decisions, &mut finding);
    unlisted(claim, observations, &decisions, &mut finding);
    beyond(claim, observations, &mut finding);
    let sent = claim.listed.iter().chain(&claim.unlisted);
    let last = sent
        .filter_map(|attempt| attempt.sent.as_ref())
        .map(|sent| sent.at)
        .max();
    if let Some(last) = last
        && micros_between(last, observations.until) < micros_of(claim.quiet_window)
    {
        finding.missing(
            folder::EVENTS,
            "not observed for long enough after the last attempt",
        );
    }
    let expected = format!(
        "while policies are replaced {}, each listed request passes and no unlisted one does",
        count(claim.updates, "time")
    );
    finding.conclude(&claim.check, expected)
}

/// What the gateway's log says, by flow.
struct Decisions {
    logged: HashMap<(SocketAddr, SocketAddr), Vec<(Action, Timestamp)>>,
}

impl Decisions {
    fn of(observations: &Observations) -> Self {
        let mut logged: HashMap<_, Vec<_>> = HashMap::new();
        let records = observations.log.read().map(|log| log.records.iter());
        for record in records.into_iter().flatten() {
            let moment = record.seen_at.unwrap_or(record.at);
            logged
                .entry((record.source, record.destination))
                .or_default()
                .push((record.action, moment));
        }
        Self { logged }
    }

    fn has(&self, sent: &Sent, action: Action) -> bool {
        let about = self.logged.get(&(sent.source, sent.destination));
        about.is_some_and(|all| {
            all.iter()
                .any(|(logged, at)| *logged == action && *at >= sent.at)
        })
    }
}

/// The stream spans as many pushes as there were updates: requests of both kinds were sent before and after each. How many pushes met a
/// request under way depends on the machine's speed, and is told.
fn overlap(claim: &ReplacementClaim, finding: &mut Finding) {
    let times = |attempts: &[Attempt]| -> BTreeSet<Timestamp> {
        attempts
            .iter()
            .filter_map(|attempt| attempt.sent.as_ref())
            .map(|sent| sent.at)
            .collect()
    };
    let (listed, unlisted) = (times(&claim.listed), times(&claim.unlisted));
    let spans = |times: &BTreeSet<Timestamp>, push: Timestamp| {
        times.first().is_some_and(|first| *first < push)
            && times.last().is_some_and(|last| *last > push)
    };
    let spanned = claim
        .pushes
        .iter()
        .filter(|push| spans(&listed, **push) && spans(&unlisted, **push))
        .count();
    let text = format!(
        "{} and {} over {} of the gateway's policy",
        count(listed.len(), "listed request"),
        count(unlisted.len(), "unlisted request"),
        count(spanned, "replacement"),
    );
    if claim.updates > 0 && spanned >= claim.updates {
        finding.supports(folder::EVENTS, text);
    } else {
        finding.missing(
            folder::EVENTS,
            format!(
                "{text}; expected at least {}, each between two requests of both kinds",
                claim.updates
            ),
        );
    }
    let under_way = |push: &&Timestamp| {
        claim.listed.iter().chain(&claim.unlisted).any(|attempt| {
            let sent = attempt.sent.as_ref().is_some_and(|sent| sent.at <= **push);
            let open = attempt
                .result
                .as_ref()
                .is_none_or(|result| result.at >= **push);
            sent && open
        })
    };
    let met = claim.pushes.iter().filter(under_way).count();
    finding.neutral(
        folder::EVENTS,
        format!("{met} of the replacements came while a request was under way"),
    );
}

fn listed(
    claim: &ReplacementClaim,
    observations: &Observations,
    decisions: &Decisions,
    finding: &mut Finding,
) {
    let received: BTreeSet<&str> = observations
        .receipts
        .iter()
        .flat_map(|receipt| receipt.canaries.iter().map(String::as_str))
        .collect();
    let mut broken = Vec::new();
    for attempt in &claim.listed {
        let Some(sent) = &attempt.sent else {
            finding.missing(
                folder::EVENTS,
                format!("{}: nothing says that it was ever sent", attempt.label),
            );
            continue;
        };
        if decisions.has(sent, Action::Deny) {
            broken.push(format!("{}: denied at {}", attempt.label, sent.at));
        } else if !attempt.answered() || !received.contains(attempt.canary.as_str()) {
            broken.push(format!(
                "{}: sent at {}, and not answered by the far end",
                attempt.label, sent.at
            ));
        }
    }
    let all = count(claim.listed.len(), "listed request");
    if broken.is_empty() && !claim.listed.is_empty() {
        finding.supports(
            folder::RECEIPTS,
            format!("{all}: each was received and answered"),
        );
    }
    name(broken, folder::RECEIPTS, &all, finding);
}

fn unlisted(
    claim: &ReplacementClaim,
    observations: &Observations,
    decisions: &Decisions,
    finding: &mut Finding,
) {
    let own: BTreeSet<&str> = claim
        .unlisted
        .iter()
        .map(|attempt| attempt.canary.as_str())
        .collect();
    let mut broken: Vec<String> = observations
        .receipts
        .iter()
        .filter(|receipt| {
            receipt
                .canaries
                .iter()
                .any(|found| own.contains(found.as_str()))
        })
        .map(|receipt| {
            format!(
                "{} received the payload of an unlisted request at {}",
                receipt.endpoint, receipt.at
            )
        })
        .collect();
    let mut unlogged = 0;
    for attempt in &claim.unlisted {
        let Some(sent) = &attempt.sent else {
            finding.missing(
                folder::EVENTS,
                format!("{}: nothing says that it was ever sent", attempt.label),
            );
            continue;
        };
        if attempt.answered() {
            broken.push(format!("{}: answered", attempt.label));
        }
        if decisions.has(sent, Action::Permit) {
            broken.push(format!("{}: the gateway permitted it", attempt.label));
        } else if !decisions.has(sent, Action::Deny) {
            unlogged += 1;
        }
    }
    let all = count(claim.unlisted.len(), "unlisted request");
    if unlogged > 0 {
        finding.missing(
            folder::GATEWAY_LOG,
            format!("{all}: no denial of {unlogged} is in the gateway's log"),
        );
    } else if broken.is_empty() && !claim.unlisted.is_empty() {
        finding.supports(
            folder::GATEWAY_LOG,
            format!("{all}: each is denied in the gateway's log"),
        );
    }
    name(broken, folder::RECEIPTS, &all, finding);
}

/// Packets beyond the gateway: none for the address that unlisted requests go to, some for the listed one.
fn beyond(claim: &ReplacementClaim, observations: &Observations, finding: &mut Finding) {
    let capture = match &observations.outside {
        Seen::Read(capture) if capture.undecodable == 0 => capture,
        Seen::Read(capture) => {
            let packets = count(capture.undecodable, "packet");
            return finding.missing(
                folder::OUTSIDE,
                format!(
                    "{packets} outside the gateway cannot be decoded and may be of a denied flow"
                ),
            );
        }
        Seen::Unreadable(why) => {
            return finding.missing(
                folder::OUTSIDE,
                format!("the packets outside the gateway cannot be read: {why}"),
            );
        }
        Seen::NotVisible => {
            return finding.missing(
                folder::OUTSIDE,
                "packets outside the gateway are not visible here, and a gap is too short for anything else",
            );
        }
    };
    let towards = |attempts: &[Attempt]| {
        let sent: Vec<&Sent> = attempts
            .iter()
            .filter_map(|attempt| attempt.sent.as_ref())
            .collect();
        let destinations: BTreeSet<SocketAddr> = sent
            .iter()
            .map(|sent| observations.beyond_the_node(sent.destination))
            .collect();
        let since = sent.iter().map(|sent| sent.at).min();
        capture
            .packets
            .iter()
            .filter(|packet| {
                packet.protocol == Protocol::Tcp && destinations.contains(&packet.destination)
            })
            .filter(|packet| since.is_some_and(|since| packet.at >= since))
            .count()
    };
    let (permitted, denied) = (towards(&claim.listed), towards(&claim.unlisted));
    if permitted == 0 {
        finding.control_broken(
            folder::OUTSIDE,
            "the capture saw no packet of a listed request",
        );
    }
    let text = format!("packets of unlisted requests outside the gateway: {denied}");
    if denied == 0 {
        finding.supports(folder::OUTSIDE, text);
    } else {
        finding.contradicts(folder::OUTSIDE, text);
    }
}

fn name(broken: Vec<String>, file: &str, of: &str, finding: &mut Finding) {
    let more = broken.len().saturating_sub(NAMED);
    for one in broken.into_iter().take(NAMED) {
        finding.contradicts(file, one);
    }
    if more > 0 {
        finding.contradicts(file, format!("and {more} more of {of}"));
    }
}
