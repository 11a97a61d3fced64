//! Runs one case: one cluster, its servers through the orchestrator's API, every cell's probe, one quiet window for all.
//!
//! It knows how to set up and to wait; what a cell came to is [`observed`]'s to say.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fixtures::probe::Protocol;
use fixtures::probe::batch::Spec;
use jiff::Timestamp;

use super::case::{Case, Cell, Row};
use crate::evidence::observe::{self, Captures};
use crate::evidence::{Action, Event, Index, Recorded, Recorder};
use crate::judge::model::observed::{self, Agreement, Observed};
use crate::judge::model::{
    Decider, DefaultAction, Egress, Expected, Flow, Policy, Source, Speech, Switches, expect,
};
use crate::judge::{Observations, Sent};
use crate::lab::{self, Lab, RunningProbe, Setup};
use crate::run::{Error, RunContext};
use crate::scenario_data::ServerManifest;
use crate::waiting::Waiting;

/// Image of every server: it does nothing by itself.
const IMAGE: &str = "containment.test/fetcher:1.0.0";
/// The server whose request must pass in every case, beside the case's own.
const CONTROL: &str = "control";
/// What it may reach, and does.
const CONTROL_HOST: &str = "api.weather-service.test";
const STRAY_POD: &str = "stray";
/// The longest wait for a policy to reach the gateway before the flows start all the same: a policy that never does is
/// what the comparison is to show.
const SETTLING: Duration = Duration::from_secs(2);
/// How long nothing at all may happen before the flows that are still open count as over: a silent drop without a record.
/// Longer than a repeated SYN takes, so that it is no pause between two packets.
const STANDSTILL: Duration = Duration::from_millis(2500);
/// Between two looks at a policy that is not enforced yet.
const SETTLING_ROUND: Duration = Duration::from_millis(100);

/// What a case came to.
pub(super) struct Played {
    pub(super) results: Vec<CellResult>,
    /// `None`: the positive control passed. Otherwise why not.
    pub(super) control_broken: Option<String>,
    pub(super) set_up: Duration,
    /// From the first exec to the last result.
    pub(super) probing: Duration,
    /// Crashes of stand-ins and evidence that could not be written.
    pub(super) broken: Vec<String>,
    pub(super) folder: PathBuf,
}

/// What a cell came to.
#[derive(Clone, Debug)]
pub(super) struct CellResult {
    pub(super) cell: Cell,
    pub(super) expected: Expected,
    pub(super) observed: Observed,
    pub(super) agreement: Agreement,
}

impl CellResult {
    pub(super) fn differs(&self) -> bool {
        matches!(self.agreement, Agreement::Differs(_))
    }

    /// Whether two cells differ from the documents in the same way, whatever their names.
    pub(super) fn differs_like(&self, other: &Self) -> bool {
        let way = |result: &Self| match &result.observed {
            Observed::Passed { by } => (true, by.is_some()),
            Observed::Blocked { by } => (false, by.is_some()),
            Observed::Unproven(_) => (false, false),
        };
        self.differs()
            && other.differs()
            && self.expected.verdict == other.expected.verdict
            && way(self) == way(other)
    }
}

/// Plays a case in a cluster of its own; its evidence goes to a folder named `name`.
///
/// # Errors
/// When the system can't be started or reached. What the system does with the flows is never an error.
pub(super) async fn play(
    context: &Arc<RunContext>,
    case: &Case,
    name: &str,
) -> Result<Played, Error> {
    let began = Instant::now();
    let recorder = Recorder::create(context.folder.join(name))?;
    for fault in &context.faults {
        let name = fault.clone();
        recorder.record(Event::FaultActive { name });
    }
    let mut setup = Setup::default();
    settings(case, &mut setup);
    let mut lab = Lab::start(context, &setup, &recorder, &Waiting::default()).await?;
    let played = play_in(context, case, &recorder, &mut lab, began).await;
    let mut broken = lab.finish().await;
    broken.extend(recorder.health().err().map(|error| error.to_string()));
    Ok(Played { broken, ..played? })
}

/// What a case needs of the system before it starts.
pub(super) fn settings(case: &Case, setup: &mut Setup) {
    setup.default_action_denies = case.policy.default_action == DefaultAction::DenyAndLog;
    setup.default_deny_setting = case.policy.default_deny;
}

/// Plays a case in a system that runs already, with its settings and without servers.
///
/// # Errors
/// When the system can't be reached.
pub(super) async fn play_in(
    context: &RunContext,
    case: &Case,
    recorder: &Recorder,
    lab: &mut Lab,
    began: Instant,
) -> Result<Played, lab::Error> {
    let mut field = Field {
        context,
        case,
        recorder: recorder.clone(),
        lab,
        running: Vec::new(),
    };
    field.play(began).await
}

struct Field<'a> {
    context: &'a RunContext,
    case: &'a Case,
    recorder: Recorder,
    lab: &'a mut Lab,
    running: Vec<RunningProbe>,
}

impl Field<'_> {
    async fn play(&mut self, began: Instant) -> Result<Played, lab::Error> {
        self.set_up().await?;
        let set_up = began.elapsed();
        let began = Instant::now();
        let cells: Vec<Cell> = self.case.cells().collect();
        let labels: Vec<String> = cells.iter().map(|cell| self.label(*cell)).collect();
        self.send(&cells, &labels).await?;
        self.await_decisions(&labels).await?;
        self.lab.keep_quiet().await;
        let observations = self.observe().await?;
        let mut asked = labels.clone();
        asked.push(CONTROL.to_owned());
        let window = self.context.deadlines.quiet_window;
        let seen = observed::observe_all(&asked, &observations, window);
        let results = cells
            .iter()
            .zip(&labels)
            .map(|(cell, label)| self.result(*cell, seen[label].clone()))
            .collect();
        Ok(Played {
            results,
            control_broken: control_broken(&seen[CONTROL]),
            set_up,
            probing: began.elapsed(),
            broken: Vec::new(),
            folder: self.recorder.folder().path().to_owned(),
        })
    }

    fn result(&self, cell: Cell, observed: Observed) -> CellResult {
        let (source, row) = (&self.case.sources[cell.column], &self.case.rows[cell.row]);
        let expected = expect(&self.case.policy, &Switches::default(), source, &row.flow);
        CellResult {
            cell,
            agreement: observed::compare(&expected, &observed),
            expected,
            observed,
        }
    }

    fn label(&self, cell: Cell) -> String {
        let (source, row) = (&self.case.sources[cell.column], &self.case.rows[cell.row]);
        format!("{source} row {}: {row}", cell.row + 1)
    }

    async fn set_up(&mut self) -> Result<(), lab::Error> {
        let control = Egress {
            domains: vec![CONTROL_HOST.to_owned()],
            deny_all: None,
        };
        let own = self.case.policy.servers.iter();
        let servers: Vec<(String, ServerManifest)> = own
            .chain([(&CONTROL.to_owned(), &control)])
            .map(|(name, egress)| (name.clone(), manifest(name, egress)))
            .collect();
        self.lab.run_servers(&servers).await?;
        if self.case.sources.contains(&Source::Stray) {
            self.lab.run_stray_pod(STRAY_POD).await?;
        }
        self.settle(servers.into_iter().map(|(name, _)| name).collect())
            .await
    }

    /// Waits until the gateway decides by each server's own rules. A datagram shows it: a server's last rule denies it.
    async fn settle(&mut self, mut unsettled: Vec<String>) -> Result<(), lab::Error> {
        let deadline = Instant::now() + SETTLING;
        for round in 1.. {
            let mut running = Vec::new();
            for server in &unsettled {
                let pod = self.lab.server(server)?.pod.clone();
                let spec = self.spec(&settling_row(self.context)?);
                let probe = (settling_label(server, round), spec);
                running.push(self.lab.start_batch(&pod, &[probe]).await?);
            }
            let told = |index: &Index| {
                let logged = |label: String| {
                    let sent = index.attempt(&label)?.sent.as_ref()?;
                    index.logged(sent).next()
                };
                let mut all = unsettled.iter();
                all.all(|server| logged(settling_label(server, round)).is_some())
                    .then_some(())
            };
            let wait = if round == 1 { SETTLING } else { SETTLING_ROUND };
            let _ = self.recorder.wait_for_indexed(wait / 2, told).await;
            let observations = self.seen_so_far();
            unsettled.retain(|server| !decided_by_own(&observations, server, round));
            if unsettled.is_empty() || Instant::now() >= deadline {
                break;
            }
            let known = self.recorder.events().len();
            let news = |events: &[Arc<Recorded>]| {
                let mut new = events.iter().skip(known);
                new.any(|recorded| matches!(recorded.event, Event::RulesKnown { .. }))
                    .then_some(())
            };
            let _ = self.recorder.wait_for(SETTLING_ROUND, news).await;
        }
        if !unsettled.is_empty() {
            let text = format!(
                "after {} s the gateway does not yet decide by the rules of {}",
                SETTLING.as_secs(),
                unsettled.join(", ")
            );
            self.recorder.record(Event::Note { text });
        }
        Ok(())
    }

    /// One exec per Pod, all at once.
    async fn send(&mut self, cells: &[Cell], labels: &[String]) -> Result<(), lab::Error> {
        let mut batches: BTreeMap<String, Vec<(String, Spec)>> = BTreeMap::new();
        for (cell, label) in cells.iter().zip(labels) {
            let pod = match &self.case.sources[cell.column] {
                Source::Server(name) => self.lab.server(name)?.pod.clone(),
                Source::Stray => STRAY_POD.to_owned(),
            };
            let spec = self.spec(&self.case.rows[cell.row]);
            batches.entry(pod).or_default().push((label.clone(), spec));
        }
        let control = (CONTROL.to_owned(), self.spec(&control_row(self.context)?));
        let pod = self.lab.server(CONTROL)?.pod.clone();
        batches.entry(pod).or_default().push(control);
        let lab = &*self.lab;
        let started = batches
            .iter()
            .map(|(pod, batch)| async move { lab.start_batch(pod, batch).await });
        self.running = futures::future::try_join_all(started).await?;
        Ok(())
    }

    fn spec(&self, row: &Row) -> Spec {
        let (protocol, name) = match &row.flow.speech {
            Speech::Tls(name) => (Protocol::Tls, name.clone()),
            Speech::Http(host) => (Protocol::Http, Some(host.clone())),
            Speech::Tcp => (Protocol::Tcp, None),
            Speech::Udp => (Protocol::Udp, None),
            Speech::Icmp => (Protocol::Icmp, None),
        };
        Spec {
            protocol,
            address: row.flow.address,
            port: row.flow.port,
            name,
            canary: fixtures::canary::generate(),
        }
    }

    /// Waits until every attempt is over: denied in the log, or ended for the client. In vain is an answer too, which
    /// the comparison gives.
    async fn await_decisions(&self, labels: &[String]) -> Result<(), lab::Error> {
        let mut open: Vec<&str> = labels.iter().map(String::as_str).collect();
        open.push(CONTROL);
        let over = |index: &Index, label: &str| {
            let Some(progress) = index.attempt(label) else {
                return false;
            };
            let denied = |sent: &Sent| {
                index
                    .logged(sent)
                    .any(|logged| logged.action == Action::Deny)
            };
            progress.result.is_some() || progress.sent.as_ref().is_some_and(denied)
        };
        // From the back, so that each attempt is asked about until it is over, and not after every event.
        let mut all = |index: &Index| {
            while open.last().is_some_and(|label| over(index, label)) {
                open.pop();
            }
            open.is_empty().then_some(())
        };
        let deadline = Instant::now()
            + self.context.deadlines.probe_result
            + self.context.deadlines.denial_logged;
        while self
            .recorder
            .wait_for_indexed(STANDSTILL, &mut all)
            .await
            .is_none()
        {
            let last = self.recorder.events().last().map(|recorded| recorded.at);
            let still = last.is_none_or(|at| observe::has_passed(STANDSTILL, at, Timestamp::now()));
            if still || Instant::now() >= deadline {
                break;
            }
        }
        let named = |index: &Index| index.all_rules_known().then_some(());
        let deadline = self.context.deadlines.denial_logged;
        let _ = self.recorder.wait_for_indexed(deadline, named).await;
        Ok(())
    }

    fn seen_so_far(&self) -> Observations {
        let events = self.recorder.events();
        observe::from_events(events.iter().map(AsRef::as_ref), Timestamp::now())
    }

    async fn observe(&self) -> Result<Observations, lab::Error> {
        let captures: Captures = self.lab.flush_captures().await;
        Ok(observe::observe(
            self.recorder.folder(),
            &self.recorder.events(),
            captures,
            Timestamp::now(),
        ))
    }
}

fn control_broken(observed: &Observed) -> Option<String> {
    match observed {
        Observed::Passed { by: Some(by) } if *by == own_permit() => None,
        other => Some(format!("{other:?}")),
    }
}

fn own_permit() -> Decider {
    let policy = Policy {
        servers: BTreeMap::from([(
            CONTROL.to_owned(),
            Egress {
                domains: vec![CONTROL_HOST.to_owned()],
                deny_all: None,
            },
        )]),
        ..Policy::default()
    };
    let flow = Flow {
        address: std::net::Ipv4Addr::UNSPECIFIED.into(),
        port: 443,
        speech: Speech::Tls(Some(CONTROL_HOST.to_owned())),
    };
    let source = Source::Server(CONTROL.to_owned());
    expect(&policy, &Switches::default(), &source, &flow).by
}

fn control_row(context: &RunContext) -> Result<Row, lab::Error> {
    row_to(context, 443, Speech::Tls(Some(CONTROL_HOST.to_owned())))
}

fn settling_row(context: &RunContext) -> Result<Row, lab::Error> {
    row_to(context, 9, Speech::Udp)
}

fn row_to(context: &RunContext, port: u16, speech: Speech) -> Result<Row, lab::Error> {
    let host = context.internet.host(CONTROL_HOST);
    let address = host.and_then(|host| host.addresses.iter().copied().find(|one| one.is_ipv4()));
    let address = address.ok_or_else(|| {
        lab::Error::Data(format!(
            "scenarios/internet.yaml: no host {CONTROL_HOST} with an IPv4 address; it is the positive control"
        ))
    })?;
    Ok(Row {
        host: CONTROL_HOST.to_owned(),
        flow: Flow {
            address,
            port,
            speech,
        },
    })
}

fn settling_label(server: &str, round: u32) -> String {
    format!("{server} settling #{round}")
}

fn decided_by_own(observations: &Observations, server: &str, round: u32) -> bool {
    let label = settling_label(server, round);
    let seen = observed::observe_all(std::slice::from_ref(&label), observations, Duration::ZERO);
    let Some(Observed::Passed { by } | Observed::Blocked { by }) = seen.get(&label) else {
        return false;
    };
    matches!(by, Some(Decider::Rule { server: own, .. }) if own == server)
}

/// The manifest that a user would write.
fn manifest(name: &str, egress: &Egress) -> ServerManifest {
    ServerManifest::generated(name, IMAGE, &egress.domains, egress.deny_all)
}
