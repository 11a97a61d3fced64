//! What waits ask for, kept up to date as events come in: attempts by label, the gateway's decisions by flow, rules
//! that nobody named yet.
//!
//! A wait that scanned the events anew after each of them would be quadratic in what a hostile Pod can make happen.
//! Nothing here is evidence: the judge reads the events themselves.

use std::collections::{BTreeSet, HashMap};
use std::net::SocketAddr;

use jiff::Timestamp;
use uuid::Uuid;

use super::{Action, Event, Recorded, gateway_log};
use crate::judge::{ClientOutcome, ClientResult, Sent};

/// The index of one evidence folder.
#[derive(Debug, Default)]
pub struct Index {
    attempts: HashMap<String, Progress>,
    decisions: HashMap<(SocketAddr, SocketAddr), Vec<Logged>>,
    /// What the gateway sees in the place of a Service whose endpoint lies beyond it.
    endpoints: HashMap<SocketAddr, SocketAddr>,
    known: BTreeSet<Uuid>,
    unnamed: BTreeSet<Uuid>,
}

/// How far an attempt has come.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// Its announcement.
    pub sent: Option<Sent>,
    /// The client's own result.
    pub result: Option<ClientResult>,
}

/// A record of the gateway's log about a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Logged {
    /// When the harness received it.
    pub at: Timestamp,
    /// What was done.
    pub action: Action,
    /// The rule that decided.
    pub decided_by: Option<Uuid>,
}

/// How an attempt was decided, as far as a wait needs to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// The gateway logged a denial.
    Denied,
    /// The client got its answer.
    Answered,
}

impl Index {
    /// How far an attempt has come; nothing before its first report.
    #[must_use]
    pub fn attempt(&self, label: &str) -> Option<&Progress> {
        self.attempts.get(label)
    }

    /// Records about an attempt's flow since it was sent. Ports come back, so those from before are about another one.
    pub fn logged<'a>(&'a self, sent: &'a Sent) -> impl Iterator<Item = &'a Logged> {
        let destination = self.endpoints.get(&sent.destination);
        let destination = *destination.unwrap_or(&sent.destination);
        let about = self.decisions.get(&(sent.source, destination));
        about
            .into_iter()
            .flatten()
            .filter(|logged| logged.at >= sent.at)
    }

    /// How an attempt was decided, if it was.
    #[must_use]
    pub fn decision(&self, label: &str) -> Option<Decision> {
        let progress = self.attempts.get(label)?;
        let completed = |result: &ClientResult| result.outcome == ClientOutcome::Completed;
        if progress.result.as_ref().is_some_and(completed) {
            return Some(Decision::Answered);
        }
        let sent = progress.sent.as_ref()?;
        self.logged(sent)
            .any(|logged| logged.action == Action::Deny)
            .then_some(Decision::Denied)
    }

    /// Whether the firewall named every rule that its log mentions.
    #[must_use]
    pub fn all_rules_known(&self) -> bool {
        self.unnamed.is_empty()
    }

    pub(super) fn add(&mut self, recorded: &Recorded) {
        match &recorded.event {
            Event::ProbeSent { attempt, sent, .. } => {
                self.attempts.entry(attempt.clone()).or_default().sent = Some(sent.clone());
            }
            Event::ProbeResult {
                attempt, result, ..
            } => {
                self.attempts.entry(attempt.clone()).or_default().result = Some(result.clone());
            }
            Event::GatewayLog { text, .. } => self.add_line(recorded.at, text),
            Event::EndpointBeyond { service, endpoint } => {
                self.endpoints.insert(*service, *endpoint);
            }
            Event::RulesKnown { rules } => {
                self.known.extend(rules.keys().copied());
                self.unnamed.retain(|uuid| !rules.contains_key(uuid));
            }
            _ => {}
        }
    }

    fn add_line(&mut self, at: Timestamp, text: &str) {
        // A line that cannot be read is the judge's to report.
        let Ok(Some(record)) = gateway_log::parse_line(0, text) else {
            return;
        };
        // The nil UUID stands for no rule (RFC 9562 section 5.9): the gateway refused by itself.
        if let Some(uuid) = record.decided_by
            && !uuid.is_nil()
            && !self.known.contains(&uuid)
        {
            self.unnamed.insert(uuid);
        }
        self.decisions
            .entry((record.source, record.destination))
            .or_default()
            .push(Logged {
                at,
                action: record.action,
                decided_by: record.decided_by,
            });
    }
}
