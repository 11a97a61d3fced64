//! Open questions: what the system does where nothing says what it must. The answer is recorded with its evidence, and
//! never fails a run.

use std::collections::BTreeSet;
use std::sync::Arc;

use cucumber::gherkin;
use cucumber::{given, then, when};

use crate::evidence::{Event, Recorded};
use crate::judge::open_question::{answer_whether_it_passes, answer_whether_it_was_cut};
use crate::judge::{Check, DenialClaim, PermitClaim, RuleExpectation, judge_denial, judge_permit};
use crate::lab::Probe;
use crate::world::{Failure, Scene, Step, World};

/// Label of the one connection that a scenario holds open.
const HELD: &str = "the open connection";

#[then(expr = "it is recorded of each whether it passes: {string}")]
async fn recorded_whether_it_passes(
    world: &mut World,
    question: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.record_answers(&question, "asked").await
        })
        .await
}

/// A question that no requirement asks.
#[then(expr = "it is noted of each whether it passes: {string}")]
async fn noted_whether_it_passes(
    world: &mut World,
    question: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.record_answers(&question, "noted").await
        })
        .await
}

#[given("the gateway decides live sessions anew after a change of policy")]
async fn live_session_reeval(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.live_session_reeval = true)
        })
        .await
}

#[when(expr = "the pod of {string} keeps a connection to {string} open and goes on asking")]
async fn keeps_open(world: &mut World, server: String, host: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let for_ms = scene.context.deadlines.scenario.as_millis();
            let for_ms = u64::try_from(for_ms).unwrap_or(u64::MAX);
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let probe = Probe {
                for_ms: Some(for_ms),
                timeout_ms: for_ms,
                ..scene.probe_to("session", &host, 443)
            };
            Ok(scene.lab().await?.hold(&pod, &probe, HELD).await?)
        })
        .await
}

#[then("it is recorded whether the open connection was cut, and how soon")]
async fn recorded_whether_cut(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let denied = scene.only_attempt()?;
            let watch = scene.context.deadlines.live_session;
            let ended = |events: &[Arc<Recorded>]| {
                let is_end = |event: &Event| matches!(event, Event::ProbeResult { attempt, .. } if attempt == HELD);
                events.iter().any(|recorded| is_end(&recorded.event)).then_some(())
            };
            // In vain is an answer too: it stayed open for that long.
            scene.lab().await?.saw("the end of the open connection", watch, ended).await?;
            let observations = scene.observe().await?;
            let session = scene.attempt(&observations, HELD)?;
            let denied = scene.attempt(&observations, &denied)?;
            let denied_at = denied.sent.map(|sent| sent.at).ok_or_else(|| {
                Failure::Scenario("no step saw a new connection denied".to_owned())
            })?;
            let name = "open connection after its domain was removed";
            let check = Check::of("live-session", name, &session, &observations);
            scene.settle(vec![answer_whether_it_was_cut(&check, &session, denied_at, &observations)])
        })
        .await
}

impl Scene {
    /// Records of each of the last attempts whether it passed, by the evidence of both ends.
    async fn record_answers(&mut self, question: &str, kind: &str) -> Step {
        let labels = self.last_attempts()?;
        for label in &labels {
            // A client that nobody answers is waited for by its record.
            self.await_outcome(label).await?;
        }
        let observations = self.observe_quiet(&labels).await?;
        self.lab().await?.end_probes();
        let mut results = Vec::new();
        for label in labels {
            let attempt = self.attempt(&observations, &label)?;
            let check = Check::of(kind, format!("asked: {label}"), &attempt, &observations);
            let permit = PermitClaim {
                check: Check::new("passed", "passes"),
                far_end: self.far_end(&attempt),
                attempt: attempt.clone(),
                rule: RuleExpectation::Any,
            };
            let denial = DenialClaim {
                check: Check::new("blocked", "blocked"),
                far_end: attempt.target(),
                attempt,
                may_hold: BTreeSet::new(),
                rule: RuleExpectation::Any,
                control: self.control.clone(),
                quiet_window: self.context.deadlines.quiet_window,
            };

            results.push(answer_whether_it_passes(
                &check,
                &format!("{question} ({label})"),
                &judge_permit(&permit, &observations),
                &judge_denial(&denial, &observations),
            ));
        }
        self.settle(results)
    }
}
