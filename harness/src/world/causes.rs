//! What went wrong because a prerequisite of the platform is not met is named as that.
//!
//! Runs after a step that left something wrong or unproven, and never otherwise: asking costs calls to the firewall's
//! controller and to the API server.

use std::sync::PoisonError;

use jiff::Timestamp;

use super::{Failure, Scene, Step};
use crate::evidence::observe;
use crate::judge::platform::Stated;
use crate::judge::platform::cause::{Cause, Known, NEEDED, causes, named};
use crate::judge::platform::permits::is_enforced;
use crate::judge::{CheckResult, level};
use crate::lab::{self, Question};

impl Scene {
    /// What a step came to, with the results that it left unsettled recorded: each names the prerequisite that is not
    /// met, where there is one. A part of the system that did not come in time is a verdict, too, where a prerequisite
    /// explains it.
    pub(super) async fn with_causes(&mut self, result: Step) -> Step {
        let unsettled = self.unsettled.get_mut();
        let unsettled = std::mem::take(unsettled.unwrap_or_else(PoisonError::into_inner));
        if !unsettled.is_empty() {
            let causes = self.causes().await;
            let first = match self.claimed(named(&causes, unsettled)) {
                Ok(results) => self.record(results),
                Err(unknown) => return Err(Failure::Scenario(unknown.to_string())),
            };
            return match (result, first) {
                (Ok(()) | Err(Failure::Check(_)), Some(first)) => {
                    Err(Failure::Check(Box::new(first)))
                }
                (result, _) => result,
            };
        }
        let causes = match &result {
            Err(Failure::Lab(lab::Error::Prerequisite { cause, .. })) => vec![(**cause).clone()],
            Err(Failure::Lab(_) | Failure::Deadline { .. }) => self.causes().await,
            _ => Vec::new(),
        };
        let Err(failure) = result else { return result };
        let results = causes.iter().map(|cause| {
            let mut result = cause.result();
            result.reasons.push(failure.to_string());
            result
        });
        let results = match self.claimed(results.collect()) {
            Ok(results) => results,
            Err(unknown) => return Err(Failure::Scenario(unknown.to_string())),
        };
        match self.record(results) {
            Some(first) => Err(Failure::Check(Box::new(first))),
            None => Err(failure),
        }
    }

    /// The prerequisites that are not met now; none where nothing runs that could be asked.
    pub async fn causes(&mut self) -> Vec<Cause> {
        let stated = self.platform_for_diagnosis().await;
        let events = self.recorder.events();
        let seen = observe::from_events(events.iter().map(AsRef::as_ref), Timestamp::now());
        causes(&stated, &self.known(), &seen)
    }

    async fn platform_for_diagnosis(&self) -> Stated {
        let features = NEEDED.map(str::to_owned);
        let question = Question {
            features: &features,
            ..Question::default()
        };
        match &self.lab {
            Some(lab) => lab.ask_platform(question).await,
            None => Stated::default(),
        }
    }

    fn known(&self) -> Known {
        let rules = self.setup.tier_one.iter().flat_map(|file| &file.rules);
        let names = rules
            .filter(|rule| is_enforced(rule))
            .filter_map(|rule| rule["name"].as_str().map(str::to_owned));
        let cluster = self.lab.as_ref().and_then(|lab| {
            let places = lab.cluster().places();
            places.get("cluster id")?.first().cloned()
        });
        Known {
            cluster,
            gateway: self
                .lab
                .as_ref()
                .map(|lab| lab.cluster().gateway_addresses())
                .unwrap_or_default(),
            permits: names.collect(),
            default_denies: self.setup.default_action_denies,
        }
    }

    /// Records results, each as the levels of its requirements make it; the first that leaves something wrong or
    /// unproven.
    pub(super) fn record(&self, results: Vec<CheckResult>) -> Option<CheckResult> {
        let first = self.first_unsettled(&results);
        for mut result in self.levelled(results) {
            result.step = self.step_line();
            self.recorder.check(result);
        }
        first
    }

    /// The first that leaves something wrong or unproven, by the levels of its requirements.
    pub(super) fn first_unsettled(&self, results: &[CheckResult]) -> Option<CheckResult> {
        let mut levelled = self.levelled(results.to_vec());
        levelled.find(|result| !result.outcome.is_settled())
    }

    fn levelled(&self, results: Vec<CheckResult>) -> impl Iterator<Item = CheckResult> {
        let level_of = |id: &str| self.context.requirements.find(id).map(|found| found.level);
        results
            .into_iter()
            .flat_map(move |result| level::by_level(result, level_of))
    }
}
