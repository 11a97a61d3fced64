//! What flows came to in fact, all at once, and whether that is what the model says.
//!
//! The rules of [`crate::judge`] hold: a denial is a conjunction, and silence counts only where noise would have been
//! heard. What differs is the bookkeeping. One flow among hundreds to the same far end cannot be told from the others
//! beyond the gateway unless its canary arrived, so every flow seen there must be accounted for: by a canary, or by an
//! attempt that is known to have passed. Where fewer are left over than attempts that could be them, nobody knows whose
//! they are, and every denial at that far end is unproven.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use jiff::Timestamp;

use super::{Decider, Expected, Verdict};
use crate::evidence::{Action, GatewayRecord, observe};
use crate::judge::{Attempt, ClientOutcome, Observations, Protocol, RuleRef, Seen, Sent};

/// What a flow came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Observed {
    /// It reached the far end, or left the gateway for it.
    Passed {
        /// What the log says decided; absent: no record.
        by: Option<Decider>,
    },
    /// It was sent, and nothing of it left the gateway.
    Blocked {
        /// What the log says decided; absent: no record.
        by: Option<Decider>,
    },
    /// The evidence does not say.
    Unproven(String),
}

/// Model and system, compared about one flow.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Agreement {
    /// They agree.
    Agrees,
    /// They do not, in words.
    Differs(String),
    /// There is nothing to compare, in words.
    Unproven(String),
}

/// Compares what ought to be with what was seen: the verdict, what decided, and whether there is a record.
#[must_use]
pub fn compare(expected: &Expected, observed: &Observed) -> Agreement {
    let (verdict, by) = match observed {
        Observed::Passed { by } => (Verdict::Permit, by),
        Observed::Blocked { by } => (Verdict::Deny, by),
        Observed::Unproven(why) => return Agreement::Unproven(why.clone()),
    };
    let as_logged = match by {
        Some(by) => format!("by {by}"),
        None => "without a record in the gateway's log".to_owned(),
    };
    if verdict != expected.verdict {
        let (wanted, decider) = (expected.verdict, &expected.by);
        return Agreement::Differs(format!(
            "expected {wanted} by {decider}, found {verdict} {as_logged}"
        ));
    }
    match (expected.logged, by) {
        (true, Some(by)) if *by == expected.by => Agreement::Agrees,
        (false, None) => Agreement::Agrees,
        (true, _) => Agreement::Differs(format!(
            "{verdict} as expected, but {as_logged} where {} was to decide and to be logged",
            expected.by
        )),
        (false, Some(_)) => Agreement::Differs(format!(
            "{verdict} as expected, but {as_logged} where nothing was to be logged"
        )),
    }
}

/// What each of these attempts came to. Every other attempt of the scenario is accounted for as well.
#[must_use]
pub fn observe_all(
    labels: &[String],
    observations: &Observations,
    quiet_window: Duration,
) -> BTreeMap<String, Observed> {
    let evidence = match Evidence::gather(observations, quiet_window) {
        Ok(evidence) => evidence,
        Err(why) => {
            let unproven = |label: &String| (label.clone(), Observed::Unproven(why.clone()));
            return labels.iter().map(unproven).collect();
        }
    };
    labels
        .iter()
        .map(|label| (label.clone(), evidence.observed(label)))
        .collect()
}

type Ends = (Protocol, SocketAddr, SocketAddr);

/// Evidence, looked up by attempt.
struct Evidence<'a> {
    observations: &'a Observations,
    quiet_window: Duration,
    attempts: BTreeMap<&'a str, &'a Attempt>,
    records: BTreeMap<&'a str, Vec<&'a GatewayRecord>>,
    /// Canaries that arrived anywhere.
    arrived: BTreeSet<&'a str>,
    /// Flows of which a packet left its Pod.
    left_pod: Option<BTreeSet<Ends>>,
    /// Flows beyond the gateway without a canary, by protocol and destination.
    strangers: BTreeMap<(Protocol, SocketAddr), usize>,
    /// Attempts that passed without their canary, by the same key.
    claims: BTreeMap<(Protocol, SocketAddr), usize>,
    /// Attempts of which nothing says that they passed, by the same key.
    suspects: BTreeMap<(Protocol, SocketAddr), usize>,
}

impl<'a> Evidence<'a> {
    fn gather(observations: &'a Observations, quiet_window: Duration) -> Result<Self, String> {
        let left_pod = match &observations.pod_side {
            Seen::Read(capture) => Some(
                capture
                    .packets
                    .iter()
                    .map(|packet| (packet.protocol, packet.source, packet.destination))
                    .collect(),
            ),
            Seen::Unreadable(why) => return Err(format!("the Pods' packets can't be read: {why}")),
            Seen::NotVisible => None,
        };
        let mut evidence = Self {
            observations,
            quiet_window,
            attempts: BTreeMap::new(),
            records: records_by_attempt(observations)?,
            arrived: BTreeSet::new(),
            left_pod,
            strangers: BTreeMap::new(),
            claims: BTreeMap::new(),
            suspects: BTreeMap::new(),
        };
        for attempt in &observations.attempts {
            evidence.attempts.insert(&attempt.label, attempt);
        }
        for receipt in &observations.receipts {
            let canaries = receipt.canaries.iter().map(String::as_str);
            evidence.arrived.extend(canaries);
        }
        evidence.count_strangers()?;
        for attempt in &observations.attempts {
            let Some(sent) = &attempt.sent else { continue };
            let key = (sent.protocol, sent.destination);
            if evidence.passed_unmarked(attempt) {
                *evidence.claims.entry(key).or_default() += 1;
            } else if !evidence.has_arrived(attempt) {
                *evidence.suspects.entry(key).or_default() += 1;
            }
        }
        Ok(evidence)
    }

    /// An echo has no connection: each packet beyond the gateway is one of somebody's.
    fn count_strangers(&mut self) -> Result<(), String> {
        let capture = match &self.observations.outside {
            Seen::Read(capture) => capture,
            Seen::Unreadable(why) => {
                return Err(format!(
                    "the packets outside the gateway can't be read: {why}"
                ));
            }
            Seen::NotVisible => return Ok(()),
        };
        let marked = self
            .observations
            .receipts
            .iter()
            .filter(|receipt| !receipt.canaries.is_empty());
        let marked: BTreeSet<_> = marked
            .map(|receipt| (receipt.peer, receipt.local))
            .collect();
        for flow in capture.flows() {
            if marked.contains(&(flow.source, flow.destination)) {
                continue;
            }
            let count = if flow.protocol == Protocol::Icmp {
                flow.sent
            } else {
                1
            };
            let key = (flow.protocol, flow.destination);
            *self.strangers.entry(key).or_default() += count;
        }
        Ok(())
    }

    fn has_arrived(&self, attempt: &Attempt) -> bool {
        self.arrived.contains(attempt.canary.as_str())
    }

    fn logged(&self, attempt: &Attempt, action: Action) -> Option<&'a GatewayRecord> {
        let records = self.records.get(attempt.label.as_str())?;
        let mut enforced = records
            .iter()
            .filter(|record| record.enforced && record.action == action);
        enforced.next().copied()
    }

    /// Whether something other than a canary says that this attempt left the gateway: the log, or an answer that only
    /// a far end gives.
    fn passed_unmarked(&self, attempt: &Attempt) -> bool {
        if self.has_arrived(attempt) || self.logged(attempt, Action::Deny).is_some() {
            return false;
        }
        let answer = attempt.result.as_ref().is_some_and(|result| {
            matches!(
                result.outcome,
                ClientOutcome::Refused | ClientOutcome::TlsError | ClientOutcome::ProtocolError
            )
        });
        answer || attempt.answered() || self.logged(attempt, Action::Permit).is_some()
    }

    fn observed(&self, label: &str) -> Observed {
        let Some(attempt) = self.attempts.get(label) else {
            return Observed::Unproven("nothing was reported about it".to_owned());
        };
        let Some(sent) = &attempt.sent else {
            let how = attempt.result.as_ref().map(|result| {
                let (outcome, detail) = (result.outcome, &result.detail);
                format!(": {outcome}, {detail}")
            });
            return Observed::Unproven(format!("it was never sent{}", how.unwrap_or_default()));
        };
        let own = (sent.protocol, sent.source, sent.destination);
        if self
            .left_pod
            .as_ref()
            .is_some_and(|left| !left.contains(&own))
        {
            return Observed::Unproven("announced, but no packet of it left the Pod".to_owned());
        }
        let permit = self.logged(attempt, Action::Permit);
        let denial = self.logged(attempt, Action::Deny);
        let by = |record: Option<&GatewayRecord>| record.map(|record| self.decider(record));
        let key = (sent.protocol, sent.destination);
        let count = |counts: &BTreeMap<_, usize>| counts.get(&key).copied().unwrap_or_default();
        let (strangers, claims) = (count(&self.strangers), count(&self.claims));
        if self.has_arrived(attempt) {
            return Observed::Passed {
                by: by(permit.or(denial)),
            };
        }
        if self.passed_unmarked(attempt) {
            let visible = !matches!(self.observations.outside, Seen::NotVisible);
            return if visible && strangers < claims {
                Observed::Unproven(
                    "its log record or its answer says that it passed, but too few packets left the gateway"
                        .to_owned(),
                )
            } else {
                Observed::Passed { by: by(permit) }
            };
        }
        if strangers > claims && strangers - claims >= count(&self.suspects) {
            // As many left as there are attempts left to be them.
            return Observed::Passed {
                by: by(permit.or(denial)),
            };
        }
        if strangers > claims {
            return Observed::Unproven(format!(
                "{} of {} flows without a canary left the gateway for {}, and nobody accounts for them",
                strangers - claims,
                strangers,
                sent.destination
            ));
        }
        if permit.is_some() {
            return Observed::Unproven("logged both as permitted and as denied".to_owned());
        }
        match self.restless(attempt, sent, denial) {
            Some(why) => Observed::Unproven(why),
            None => Observed::Blocked { by: by(denial) },
        }
    }

    /// Silence must have lasted a whole window after the last sign of life.
    fn restless(
        &self,
        attempt: &Attempt,
        sent: &Sent,
        denial: Option<&GatewayRecord>,
    ) -> Option<String> {
        let ended = attempt.result.as_ref().map(|result| result.at);
        let decided = denial.and_then(|record| record.seen_at);
        let over = [Some(sent.at), ended, decided].into_iter().flatten().max();
        let quiet = over.is_some_and(|over| {
            observe::has_passed(self.quiet_window, over, self.observations.until)
        });
        (!quiet).then(|| "it was not observed for a whole quiet window".to_owned())
    }

    fn decider(&self, record: &GatewayRecord) -> Decider {
        let rule = record
            .decided_by
            .and_then(|uuid| self.observations.rules.get(&uuid));
        match rule {
            Some(RuleRef {
                default_action: true,
                ..
            }) => Decider::DefaultAction,
            Some(rule) => Decider::Rule {
                rule: rule.name.clone(),
                server: rule.server.clone().unwrap_or_else(|| "nobody".to_owned()),
            },
            None => Decider::Rule {
                rule: "a rule that nobody names".to_owned(),
                server: "nobody".to_owned(),
            },
        }
    }
}

/// Records about each attempt. A port that was used twice belongs, at any time, to whoever announced it last.
fn records_by_attempt(
    observations: &Observations,
) -> Result<BTreeMap<&str, Vec<&GatewayRecord>>, String> {
    let log = match &observations.log {
        Seen::Read(log) => log,
        Seen::Unreadable(why) => return Err(format!("the gateway's log can't be read: {why}")),
        Seen::NotVisible => return Err("this tier has no access to the gateway's log".to_owned()),
    };
    let mut users: BTreeMap<Ends, Vec<(Timestamp, &str)>> = BTreeMap::new();
    for attempt in &observations.attempts {
        if let Some(sent) = &attempt.sent {
            let ends = (sent.protocol, sent.source, sent.destination);
            let user = (sent.at, attempt.label.as_str());
            users.entry(ends).or_default().push(user);
        }
    }
    let mut records: BTreeMap<&str, Vec<&GatewayRecord>> = BTreeMap::new();
    for record in &log.records {
        let ends = (record.protocol, record.source, record.destination);
        let seen_at = record.seen_at.unwrap_or(record.at);
        let user = users.get(&ends).and_then(|users| {
            let before = users.iter().filter(|(since, _)| *since <= seen_at);
            before.max()
        });
        if let Some((_, label)) = user {
            records.entry(label).or_default().push(record);
        }
    }
    Ok(records)
}

#[cfg(test)]
mod tests;
