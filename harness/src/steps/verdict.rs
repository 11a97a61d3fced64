//! Shared by the Then steps: waits for what can be waited for, watches the quiet window, asks the judge.

use std::collections::BTreeSet;
use std::time::Duration;

use jiff::Timestamp;

use crate::evidence::{Action, Decision, Event, Index, Measurement, observe};
use crate::judge::model::{DENY_RULE, PERMIT_RULE};
use crate::judge::{
    Attempt, Check, CheckResult, Control, DenialClaim, LogClaim, Observations, PermitClaim,
    RuleExpectation, TraceClaim, judge_denial, judge_logged, judge_permit, judge_traceable,
};
use crate::lab;
use crate::system::await_::{Look, look_until};
use crate::world::{Failure, Scene, Step};

/// The rules that must decide, by the words that features have for them.
pub(super) struct Rule;

impl Rule {
    /// The rule by which a server's own policy permits what its list holds (reference: obot.md 4).
    pub(super) fn own_permit(server: &str) -> RuleExpectation {
        Self::of_server(PERMIT_RULE, server)
    }

    /// The rule by which a server's own policy denies everything else.
    pub(super) fn own_denial(server: &str) -> RuleExpectation {
        Self::of_server(DENY_RULE, server)
    }

    fn of_server(rule: &str, server: &str) -> RuleExpectation {
        RuleExpectation::Named {
            rule: rule.to_owned(),
            of_server: Some(server.to_owned()),
        }
    }
}

impl Scene {
    /// Everything observed up to now. Captures are brought up to date first.
    ///
    /// # Errors
    /// When the system can't be reached.
    pub(super) async fn observe(&mut self) -> Result<Observations, lab::Error> {
        let deadline = self.context.deadlines.denial_logged;
        // In vain is no error here: the judge says which rule nobody knows.
        self.lab()
            .await?
            .saw_indexed(
                "the names of the rules in the gateway's log",
                deadline,
                |index| index.all_rules_known().then_some(()),
            )
            .await?;
        let captures = self.lab().await?.flush_captures().await;
        Ok(observe::observe(
            self.recorder.folder(),
            &self.recorder.events(),
            captures,
            Timestamp::now(),
        ))
    }

    /// Everything observed up to the end of a quiet window after these attempts' last sign of life. An attempt has at
    /// most a few such signs, so this ends.
    pub(super) async fn observe_quiet(
        &mut self,
        labels: &[String],
    ) -> Result<Observations, lab::Error> {
        let window = self.context.deadlines.quiet_window;
        look_until(Duration::MAX, async || {
            self.lab().await?.keep_quiet().await;
            let observations = self.observe().await?;
            let quiet = is_quiet(&observations, labels, window);
            Ok(Look::when(quiet, observations))
        })
        .await
    }

    /// An attempt by its label.
    ///
    /// # Errors
    /// When nothing was recorded under that label.
    pub(super) fn attempt(
        &self,
        observations: &Observations,
        label: &str,
    ) -> Result<Attempt, Failure> {
        let found = observations
            .attempts
            .iter()
            .find(|attempt| attempt.label == label)
            .cloned();
        if let Some(attempt) = &found {
            self.looks_at(attempt);
        }
        found.ok_or_else(|| {
            Failure::Scenario(format!("nothing was recorded about the attempt {label:?}"))
        })
    }

    /// Judges that attempts were blocked, each by the rule beside its label, and that each denial is logged.
    ///
    /// # Errors
    /// When the system can't be reached. A check that does not pass is a value.
    pub(super) async fn judge_blocked(
        &mut self,
        attempts: &[(String, RuleExpectation)],
        may_hold: BTreeSet<String>,
    ) -> Result<Vec<CheckResult>, Failure> {
        let labels: Vec<String> = attempts.iter().map(|(label, _)| label.clone()).collect();
        self.await_decisions(&labels).await?;
        let observations = self.observe_quiet(&labels).await?;
        self.lab().await?.end_probes();
        let mut results = Vec::new();
        for (label, rule) in attempts {
            let attempt = self.attempt(&observations, label)?;
            results.push(self.judge_denied(&attempt, rule, may_hold.clone(), &observations));
            // Several attempts at once would measure the sending of the others.
            if attempts.len() == 1 {
                self.record_proof_time(&attempt);
            }
            results.push(self.judge_log(attempt, Action::Deny, rule.clone(), &observations));
        }
        Ok(results)
    }

    /// Judges that connections that nobody announced were blocked, that each denial is logged, and that it leads to a
    /// server. All of them are over.
    ///
    /// # Errors
    /// When the system can't be reached. A check that does not pass is a value.
    pub(super) async fn judge_unannounced(
        &mut self,
        attempts: Vec<Attempt>,
        rule: RuleExpectation,
        server: &str,
    ) -> Result<Vec<CheckResult>, Failure> {
        let deadline = self.context.deadlines.denial_logged;
        let logged = |index: &Index| {
            let mut sent = attempts.iter().filter_map(|attempt| attempt.sent.as_ref());
            sent.all(|sent| {
                index
                    .logged(sent)
                    .any(|logged| logged.action == Action::Deny)
            })
            .then_some(())
        };
        // In vain is no error here: the judge says what is missing.
        self.lab()
            .await?
            .saw_indexed("the gateway's records of denials", deadline, logged)
            .await?;
        let observations = self.observe_quiet(&[]).await?;
        let mut results = Vec::new();
        for attempt in attempts {
            results.push(self.judge_denied(&attempt, &rule, BTreeSet::new(), &observations));
            results.push(self.judge_log(
                attempt.clone(),
                Action::Deny,
                rule.clone(),
                &observations,
            ));
            results.push(self.judge_trace(attempt, server, &observations));
        }
        Ok(results)
    }

    fn judge_denied(
        &self,
        attempt: &Attempt,
        rule: &RuleExpectation,
        may_hold: BTreeSet<String>,
        observations: &Observations,
    ) -> CheckResult {
        self.judges(attempt, true);
        let claim = DenialClaim {
            check: Check::of(
                "blocked",
                format!("blocked: {}", attempt.label),
                attempt,
                observations,
            )
            .by(rule),
            far_end: attempt.target(),
            attempt: attempt.clone(),
            may_hold,
            rule: rule.clone(),
            control: self.control.clone(),
            quiet_window: self.context.deadlines.quiet_window,
        };
        judge_denial(&claim, observations)
    }

    fn judge_trace(
        &self,
        attempt: Attempt,
        server: &str,
        observations: &Observations,
    ) -> CheckResult {
        let claim = TraceClaim {
            check: Check::of(
                "traceable",
                format!("traceable: {}", attempt.label),
                &attempt,
                observations,
            ),
            attempt,
            server: server.to_owned(),
        };
        judge_traceable(&claim, observations)
    }

    /// Judges that the last request passed and is logged, and takes it as the control of the denials after it.
    ///
    /// # Errors
    /// When it did not pass, or the system can't be reached.
    pub(super) async fn control_passes(&mut self) -> Step {
        let label = self.only_attempt()?;
        self.await_outcome(&label).await?;
        let observations = self.observe().await?;
        let attempt = self.attempt(&observations, &label)?;
        let far_end = self.far_end(&attempt);
        let mut results = self.judge_passed(attempt.clone(), &far_end).await?;
        for result in &mut results {
            result.check = format!("control {}", result.check);
        }
        self.settle(results)?;
        self.control = Some(Control { attempt, far_end });
        Ok(())
    }

    /// Takes an attempt that was proven to pass as the control of the denials after it.
    ///
    /// # Errors
    /// When the system can't be reached, or nothing was recorded under that label.
    pub(super) async fn take_as_control(&mut self, label: &str) -> Step {
        let observations = self.observe().await?;
        let attempt = self.attempt(&observations, label)?;
        let far_end = self.far_end(&attempt);
        self.control = Some(Control { attempt, far_end });
        Ok(())
    }

    /// Judges that a request passed, and that the permit is logged.
    ///
    /// # Errors
    /// When the system can't be reached.
    pub(super) async fn judge_passed(
        &mut self,
        attempt: Attempt,
        far_end: &str,
    ) -> Result<Vec<CheckResult>, Failure> {
        self.judge_passed_by(attempt, far_end, RuleExpectation::Any)
            .await
    }

    /// The same, where a certain rule must have let it pass.
    ///
    /// # Errors
    /// When the system can't be reached.
    pub(super) async fn judge_passed_by(
        &mut self,
        attempt: Attempt,
        far_end: &str,
        rule: RuleExpectation,
    ) -> Result<Vec<CheckResult>, Failure> {
        self.judges(&attempt, false);
        let deadline = self.context.deadlines.denial_logged;
        let logged = |index: &Index| {
            let sent = attempt.sent.as_ref()?;
            let mut about = index.logged(sent);
            about
                .any(|logged| logged.action == Action::Permit)
                .then_some(())
        };
        // In vain is no error here: the judge says what is missing.
        self.lab()
            .await?
            .saw_indexed("the gateway's record of a permit", deadline, logged)
            .await?;
        let observations = self.observe().await?;
        let claim = PermitClaim {
            check: Check::of(
                "passed",
                format!("passed: {}", attempt.label),
                &attempt,
                &observations,
            )
            .by(&rule),
            attempt: attempt.clone(),
            far_end: far_end.to_owned(),
            rule: rule.clone(),
        };
        let permit = judge_permit(&claim, &observations);
        let logged = self.judge_log(attempt, Action::Permit, rule, &observations);
        Ok(vec![permit, logged])
    }

    /// Judges several requests at once, each as [`Scene::judge_passed_by`] does.
    ///
    /// # Errors
    /// When the system can't be reached.
    pub(super) async fn judge_all_passed(
        &mut self,
        labels: &[String],
        rule: &RuleExpectation,
    ) -> Result<Vec<CheckResult>, Failure> {
        let deadline = self.context.deadlines.denial_logged;
        let known = self.observe().await?;
        let attempts: Vec<Attempt> = labels
            .iter()
            .map(|label| self.attempt(&known, label))
            .collect::<Result<_, _>>()?;
        let logged = |index: &Index| {
            let mut answered = attempts.iter().filter(|attempt| attempt.answered());
            answered
                .all(|attempt| {
                    let sent = attempt.sent.as_ref();
                    sent.is_some_and(|sent| {
                        let mut about = index.logged(sent);
                        about.any(|logged| logged.action == Action::Permit)
                    })
                })
                .then_some(())
        };
        // In vain is no error here: the judge says what is missing.
        let what = "the gateway's records of permits";
        self.lab()
            .await?
            .saw_indexed(what, deadline, logged)
            .await?;
        let observations = self.observe().await?;
        let mut results = Vec::new();
        for attempt in attempts {
            let far_end = self.far_end(&attempt);
            let claim = PermitClaim {
                check: Check::of(
                    "passed",
                    format!("passed: {}", attempt.label),
                    &attempt,
                    &observations,
                )
                .by(rule),
                attempt: attempt.clone(),
                far_end,
                rule: rule.clone(),
            };
            results.push(judge_permit(&claim, &observations));
            results.push(self.judge_log(attempt, Action::Permit, rule.clone(), &observations));
        }
        Ok(results)
    }

    /// Judges that the denials of these attempts lead to a server.
    ///
    /// # Errors
    /// When the system can't be reached.
    pub(super) async fn judge_traces(
        &mut self,
        labels: &[String],
        server: &str,
    ) -> Result<Vec<CheckResult>, Failure> {
        let observations = self.observe().await?;
        labels
            .iter()
            .map(|label| {
                let attempt = self.attempt(&observations, label)?;
                Ok(self.judge_trace(attempt, server, &observations))
            })
            .collect()
    }

    /// How long it took from the first packet to the proof, quiet window included.
    fn record_proof_time(&self, attempt: &Attempt) {
        let Some(sent) = &attempt.sent else { return };
        let elapsed = Timestamp::now().duration_since(sent.at).as_micros();
        let of = format!(
            "from the first packet of {:?} to the judge's result",
            attempt.label
        );
        let micros = u64::try_from(elapsed).unwrap_or_default();
        self.recorder.record(Event::Measured(Measurement {
            name: "denial-proof".to_owned(),
            of,
            micros,
            bound_micros: None,
        }));
    }

    fn judge_log(
        &self,
        attempt: Attempt,
        action: Action,
        rule: RuleExpectation,
        observations: &Observations,
    ) -> CheckResult {
        let kind = match action {
            Action::Deny => "denial-logged",
            _ => "permit-logged",
        };
        let name = format!("logged: {}", attempt.label);
        let check = Check::of(kind, name, &attempt, observations).by(&rule);
        judge_logged(
            &LogClaim {
                check,
                attempt,
                action,
                rule,
                within: self.context.deadlines.denial_logged,
            },
            observations,
        )
    }

    /// Waits for what an attempt comes to: true when the client got its answer, false when it failed or the gateway
    /// logged a denial.
    ///
    /// # Errors
    /// When neither comes in time.
    pub(super) async fn await_outcome(&mut self, label: &str) -> Result<bool, Failure> {
        // The client gives up by itself at that deadline; this wait outlasts it, so that giving up is what is seen.
        let deadline = 2 * self.context.deadlines.probe_result;
        let what = format!("the outcome of {label:?}");
        let found = |index: &Index| match index.decision(label) {
            Some(Decision::Answered) => Some(true),
            Some(Decision::Denied) => Some(false),
            None => index.attempt(label)?.result.as_ref().map(|_| false),
        };
        Ok(self.lab().await?.see_indexed(what, deadline, found).await?)
    }

    /// Waits until each attempt is decided: the gateway's log holds a denial of it, or the client got through. In vain
    /// is also an answer, which the judge gives.
    pub(super) async fn await_decisions(&mut self, labels: &[String]) -> Result<(), Failure> {
        let deadline = self.context.deadlines.denial_logged;
        let what = format!("the gateway's records about {}", labels.join(", "));
        let all = |index: &Index| {
            labels
                .iter()
                .all(|label| index.decision(label).is_some())
                .then_some(())
        };
        self.lab().await?.saw_indexed(what, deadline, all).await?;
        Ok(())
    }
}

/// Whether a whole quiet window passed since the attempts' last sign of life.
fn is_quiet(observations: &Observations, labels: &[String], window: Duration) -> bool {
    let own = observations
        .attempts
        .iter()
        .filter(|attempt| labels.contains(&attempt.label));
    let records = observations
        .log
        .read()
        .map(|log| log.records.as_slice())
        .unwrap_or_default();
    own.filter_map(|attempt| {
        let sent = attempt.sent.as_ref()?;
        let decided = records.iter().filter(|record| {
            record.source == sent.source
                && record.destination == observations.beyond_the_node(sent.destination)
        });
        decided
            .filter_map(|record| record.seen_at)
            .chain(attempt.result.as_ref().map(|result| result.at))
            .chain([sent.at])
            .max()
    })
    .all(|last| observe::has_passed(window, last, observations.until))
}
