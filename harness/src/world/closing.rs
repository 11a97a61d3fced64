//! The end of a scenario: a last look at everything, and whether all that left is explained.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError};

use jiff::Timestamp;

use super::Scene;
use crate::evidence::{Event, Recorded, observe};
use crate::judge::closed_world;
use crate::judge::{Attempt, Check, ClosedWorldClaim, Judged, Observations, judge_closed_world};
use crate::lab;
use crate::project;

impl Scene {
    /// Notes that a step judges an attempt: it explains what is seen of it, unless it is judged to be blocked.
    pub fn judges(&self, attempt: &Attempt, blocked: bool) {
        let mut judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
        match judged
            .iter_mut()
            .find(|known| known.attempt.label == attempt.label)
        {
            Some(known) if known.attempt.sent.is_some() || attempt.sent.is_none() => {
                known.blocked = blocked;
            }
            Some(known) => {
                *known = Judged {
                    attempt: attempt.clone(),
                    blocked,
                };
            }
            None => judged.push(Judged {
                attempt: attempt.clone(),
                blocked,
            }),
        }
    }

    /// Notes that a step looks at an attempt in order to judge it. What a judge said of it before stays.
    pub fn looks_at(&self, attempt: &Attempt) {
        let is_known = {
            let judged = self.judged.lock().unwrap_or_else(PoisonError::into_inner);
            let mut labels = judged.iter().map(|one| &one.attempt.label);
            labels.any(|label| *label == attempt.label)
        };
        if !is_known {
            self.judges(attempt, false);
        }
    }

    /// Notes that a step judges every attempt that was announced so far, as a whole.
    pub fn judges_all_announced(&self) {
        let events = self.recorder.events();
        let seen = observe::from_events(events.iter().map(AsRef::as_ref), Timestamp::now());
        for attempt in &seen.attempts {
            self.looks_at(attempt);
        }
    }

    /// Watches for one closing window and judges that everything that left is explained. A scenario that was cut has
    /// judged only a part of its attempts: what it announced until then explains itself.
    pub(super) async fn close(&mut self, cut: bool) {
        if self.lab.is_none() {
            return;
        }
        let result = self.closing_result(cut).await;
        let result = result.map_err(|error| error.to_string());
        let claimed = result.and_then(|result| {
            let claimed = self.claimed(vec![result]);
            claimed.map_err(|unknown| unknown.to_string())
        });
        match claimed {
            Ok(results) => drop(self.record(results)),
            Err(message) => drop(self.recorder.record(Event::HarnessError {
                component: "closing of the scenario".to_owned(),
                message,
            })),
        }
    }

    async fn closing_result(&mut self, cut: bool) -> Result<crate::judge::CheckResult, lab::Error> {
        let window = self.context.deadlines.closing_window;
        let recorder = self.recorder.clone();
        let Some(lab) = &mut self.lab else {
            return Err(lab::Error::Fixture("the system does not run".to_owned()));
        };
        lab.end_probes();
        lab.watch_until_quiet(window).await;
        let gateway = lab.cluster().gateway_addresses();
        let mut mark = None;
        if let Some(gateway) = gateway.into_iter().find(|address| address.is_ipv4()) {
            let (source, destination) = lab.far_ends().mark_capture(gateway).await?;
            recorder.record(Event::CaptureMarked {
                source,
                destination,
            });
            mark = Some((source, destination));
        }
        let captures = lab.flush_captures().await;
        let mut judged = std::mem::take(
            self.judged
                .get_mut()
                .unwrap_or_else(PoisonError::into_inner),
        );
        let far_ends = lab.far_ends().names();
        let mut far_ends: std::collections::BTreeMap<_, _> = far_ends
            .map(|(address, name)| (address, name.to_owned()))
            .collect();
        let api_server = lab.cluster().api_server_far_end().map(str::to_owned);
        let observations = observe::observe(
            recorder.folder(),
            &recorder.events(),
            captures,
            Timestamp::now(),
        );
        if let Some(name) = api_server {
            let endpoints = observations.endpoints.values();
            far_ends.extend(endpoints.map(|endpoint| (endpoint.ip(), name.clone())));
        }
        refresh(&mut judged, &observations);
        if cut {
            judge_the_rest(&mut judged, &observations);
        }
        recorder.record(Event::AttemptsJudged {
            attempts: judged.clone(),
        });
        let claim = ClosedWorldClaim {
            check: Check::new(closed_world::KIND, "nothing left unexplained"),
            judged,
            background: self.context.project.background().map_err(project_error)?,
            far_ends,
            visits: visits(&recorder.events()),
            mark: mark.filter(|_| observations.outside.read().is_some()),
        };
        Ok(judge_closed_world(&claim, &observations))
    }
}

fn project_error(error: project::Error) -> lab::Error {
    lab::Error::Project(error)
}

/// A step may have judged an attempt before its client announced or ended it.
fn refresh(judged: &mut [Judged], observations: &Observations) {
    for one in judged {
        let found = observations
            .attempts
            .iter()
            .find(|attempt| attempt.label == one.attempt.label);
        if let Some(found) = found {
            one.attempt.clone_from(found);
        }
    }
}

/// Adds the attempts that no step came to.
fn judge_the_rest(judged: &mut Vec<Judged>, observations: &Observations) {
    for attempt in &observations.attempts {
        if !judged.iter().any(|one| one.attempt.label == attempt.label) {
            judged.push(Judged {
                attempt: attempt.clone(),
                blocked: false,
            });
        }
    }
}

fn visits(events: &[Arc<Recorded>]) -> BTreeSet<String> {
    let canaries = events.iter().filter_map(|recorded| match &recorded.event {
        Event::FarEndVisited { canary, .. } => Some(canary.clone()),
        _ => None,
    });
    canaries.collect()
}
