//! A drawn case as a scenario has it: played in the scenario's own system, and told kind by kind of flow.

use std::collections::BTreeMap;
use std::time::Instant;

use fixtures::internet::Internet;

use super::case::Case;
use super::field::{self, CellResult};
use super::{draw, matrix};
use crate::evidence::{Event, Measurement, Recorder};
use crate::facts::{About, Aspect, Name};
use crate::judge::model::observed::Agreement;
use crate::judge::model::{Source, Speech, Verdict};
use crate::judge::{Check, CheckResult};
use crate::lab::{self, Lab, Setup};
use crate::outcome::Outcome;
use crate::run::RunContext;

/// A drawn truth table.
pub struct Table {
    case: Case,
    seed: u64,
}

impl Table {
    /// Policies of some servers, and flows that each of them and a Pod without a policy sends.
    #[must_use]
    pub fn draw(seed: u64, servers: usize, cells: usize, internet: &Internet) -> Self {
        Self {
            case: draw::draw(seed, servers.clamp(1, draw::MAX_SERVERS), cells, internet),
            seed,
        }
    }

    /// What it needs of the system before it starts.
    pub fn settings(&self, setup: &mut Setup) {
        field::settings(&self.case, setup);
    }

    /// Runs the servers, sends every flow, and compares: a result for each kind of flow.
    ///
    /// # Errors
    /// When the system can't be reached.
    pub async fn check(
        &self,
        context: &RunContext,
        recorder: &Recorder,
        lab: &mut Lab,
    ) -> Result<Vec<CheckResult>, lab::Error> {
        let played = field::play_in(context, &self.case, recorder, lab, Instant::now()).await?;
        let text = matrix::render(&self.case, &played.results);
        recorder.record(Event::Note {
            text: anstream::adapter::strip_str(&text).to_string(),
        });
        recorder.record(Event::Measured(Measurement {
            name: "truth-table".to_owned(),
            of: format!("{} flows sent and judged", played.results.len()),
            micros: played.probing.as_micros().try_into().unwrap_or(u64::MAX),
            bound_micros: None,
        }));
        let mut by_kind: BTreeMap<(&str, About), Vec<&CellResult>> = BTreeMap::new();
        for result in &played.results {
            by_kind.entry(self.kind(result)).or_default().push(result);
        }
        let broken = played.control_broken.as_deref();
        Ok(by_kind
            .into_iter()
            .map(|((kind, about), results)| self.told(kind, about, &results, broken))
            .collect())
    }

    fn told(
        &self,
        kind: &str,
        about: About,
        results: &[&CellResult],
        control_broken: Option<&str>,
    ) -> CheckResult {
        let difference = results.iter().find_map(|result| match &result.agreement {
            Agreement::Differs(why) => Some((result, why)),
            _ => None,
        });
        let unproven = results.iter().find_map(|result| match &result.agreement {
            Agreement::Unproven(why) => Some((result, why)),
            _ => None,
        });
        let place = |result: &CellResult| {
            let source = &self.case.sources[result.cell.column];
            format!("{source}, {}", self.case.rows[result.cell.row])
        };
        let (outcome, found) = match (difference, unproven, control_broken) {
            (Some((result, why)), _, _) => (Outcome::Failed, format!("{}: {why}", place(result))),
            (None, _, Some(why)) => (
                Outcome::Inconclusive,
                format!("the positive control did not pass: {why}"),
            ),
            (None, Some((result, why)), None) => {
                (Outcome::Inconclusive, format!("{}: {why}", place(result)))
            }
            (None, None, None) => (
                Outcome::Passed,
                format!("{} flows, each as documented", results.len()),
            ),
        };
        let words: Vec<String> = about
            .iter()
            .map(|(aspect, value)| format!("{aspect} {value}"))
            .collect();
        let check = Check {
            about,
            ..Check::new(kind, format!("{kind}: {}", words.join(", ")))
        };
        CheckResult::stated(
            check,
            outcome,
            format!(
                "flows drawn from seed {} come to what the documents say",
                self.seed
            ),
            found,
        )
    }

    /// The kind of check that a flow is, and what it is about.
    fn kind(&self, result: &CellResult) -> (&'static str, About) {
        let source = &self.case.sources[result.cell.column];
        let flow = &self.case.rows[result.cell.row].flow;
        let denied = result.expected.verdict == Verdict::Deny;
        let mut about = About::new();
        let mut know = |aspect, value: &str| drop(about.insert(aspect, value.to_owned()));
        let (protocol, exchange) = match &flow.speech {
            Speech::Tls(_) => ("tcp", "tls"),
            Speech::Http(_) => ("tcp", "http"),
            Speech::Tcp => ("tcp", "raw"),
            Speech::Udp => ("udp", "raw"),
            Speech::Icmp => ("icmp", "raw"),
        };
        know(Aspect::Protocol, protocol);
        know(Aspect::Exchange, exchange);
        if protocol != "icmp" {
            know(Aspect::Port, &flow.port.to_string());
        }
        let name = match &flow.speech {
            Speech::Tls(Some(name)) | Speech::Http(name) => Some(name.as_str()),
            Speech::Tls(None) | Speech::Tcp | Speech::Udp | Speech::Icmp => None,
        };
        if let Speech::Tls(name) = &flow.speech {
            let present = name.as_ref().map_or("absent", |_| "present");
            know(Aspect::ServerName, present);
        }
        match source {
            Source::Server(server) => {
                know(Aspect::Source, "server");
                let own = self.case.policy.servers.get(server);
                let own = own.map_or(&[][..], |egress| &egress.domains);
                let lists = self.case.policy.servers.iter();
                let others = lists
                    .filter(|(other, _)| *other != server)
                    .flat_map(|(_, egress)| &egress.domains);
                know(Aspect::Name, Name::relation(name, own, others).as_str());
            }
            _ => {
                know(Aspect::Source, "pod");
                if denied {
                    know(Aspect::Rule, "default-action");
                }
            }
        }
        let kind = if denied {
            "drawn-denial"
        } else {
            "drawn-permit"
        };
        (kind, about)
    }
}
