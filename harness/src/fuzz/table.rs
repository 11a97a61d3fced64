//! A drawn case as a scenario has it: played in the scenario's own system, and told requirement by requirement.

use std::collections::BTreeMap;
use std::time::Instant;

use fixtures::internet::Internet;

use super::case::Case;
use super::field::{self, CellResult};
use super::{draw, matrix};
use crate::evidence::{Event, Measurement, Recorder};
use crate::judge::CheckResult;
use crate::judge::model::observed::Agreement;
use crate::judge::model::{Egress, Source, Speech, Switches, Verdict, covers};
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

    /// Runs the servers, sends every flow, and compares: a result for each requirement that some flow is about.
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
        let mut about: BTreeMap<&str, Vec<&CellResult>> = BTreeMap::new();
        for result in &played.results {
            for id in self.requirements(result) {
                about.entry(id).or_default().push(result);
            }
        }
        let broken = played.control_broken.as_deref();
        Ok(about
            .into_iter()
            .map(|(id, results)| self.told(id, &results, broken))
            .collect())
    }

    fn told(&self, id: &str, results: &[&CellResult], control_broken: Option<&str>) -> CheckResult {
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
        CheckResult::stated(
            format!("drawn flows about {id}"),
            &[id],
            outcome,
            format!(
                "flows drawn from seed {} come to what the documents say",
                self.seed
            ),
            found,
        )
    }

    /// Which requirements a cell is about.
    fn requirements(&self, result: &CellResult) -> Vec<&'static str> {
        let source = &self.case.sources[result.cell.column];
        let flow = &self.case.rows[result.cell.row].flow;
        let denied = result.expected.verdict == Verdict::Deny;
        let Source::Server(server) = source else {
            return if denied {
                vec!["EGR-04", "EGR-17"]
            } else {
                Vec::new()
            };
        };
        let listed = |egress: &Egress, name: &str| {
            let own = &egress.domains;
            own.iter()
                .any(|domain| covers(domain, name, &Switches::default()))
        };
        let named = match &flow.speech {
            Speech::Tls(Some(name)) | Speech::Http(name) => Some(name.as_str()),
            Speech::Tls(None) | Speech::Tcp | Speech::Udp | Speech::Icmp => None,
        };
        let is_listed = named
            .zip(self.case.policy.servers.get(server))
            .is_some_and(|(name, egress)| listed(egress, name));
        let mut about = vec![if denied { "EGR-04" } else { "EGR-06" }];
        about.extend(match (&flow.speech, flow.port, denied) {
            (Speech::Tls(Some(_)), 443, false) => Some("EGR-01"),
            (Speech::Tls(Some(_)), 443, true) => Some("EGR-02"),
            (Speech::Tls(None), 443, true) => Some("EGR-20"),
            (Speech::Tls(_) | Speech::Http(_), port, true) if port != 443 && is_listed => {
                Some("EGR-10")
            }
            (Speech::Udp, _, _) => Some("EGR-11"),
            (Speech::Icmp, _, _) => Some("EGR-12"),
            _ => None,
        });
        about
    }
}
