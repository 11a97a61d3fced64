//! A server's list that changes while its Pod runs: the change is made through the orchestrator's API, and its effect is
//! looked for with fresh connections until it shows or the deadline passes.

use cucumber::gherkin;
use cucumber::{then, when};
use jiff::Timestamp;

use super::system::split;
use super::verdict::Rule;
use crate::evidence::{Event, Measurement};
use crate::judge::pods::judge_same_pod;
use crate::judge::{Check, CheckResult, PodFact, UpdateClaim, judge_update};
use crate::system::await_::{Look, look_until};
use crate::world::{Failure, Scene, Step, World};

/// A change whose effect is looked for.
#[derive(Debug, Clone)]
pub struct Change {
    words: String,
    /// When it was accepted, or when the part that carries it on was started again.
    pub(super) accepted: Timestamp,
    pod_before: PodFact,
}

#[when(expr = "the list of {string} becomes {string}")]
async fn list_becomes(
    world: &mut World,
    server: String,
    domains: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let pod_before = scene.pod_fact(&server).await?;
            let accepted = scene
                .lab()
                .await?
                .set_domains(&server, &split(&domains))
                .await?;
            scene.change = Some(Change {
                words: format!("the list of {server} became {domains}"),
                accepted,
                pod_before,
            });
            Ok(())
        })
        .await
}

#[then(expr = "{string} becomes reachable from {string} within the stated bound")]
async fn becomes_reachable(
    world: &mut World,
    url: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.look_for(&url, &server, true).await
        })
        .await
}

#[then(expr = "{string} stops being reachable from {string} within the stated bound")]
async fn stops_being_reachable(
    world: &mut World,
    url: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.look_for(&url, &server, false).await
        })
        .await
}

#[then(expr = "the pod of {string} was not restarted")]
async fn not_restarted(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let known = scene.lab().await?.server(&server)?.clone();
            let now = scene.lab().await?.pod_of(&known.id).await?;
            let restarts = scene.lab().await?.restarts(&now).await?;
            let check = Check::new("same-pod", "same Pod, no restart");
            let result = judge_same_pod(&check, &server, &known.pod, &now, restarts);
            scene.settle(vec![result])
        })
        .await
}

impl Scene {
    /// Sends request after request, each on a connection of its own, until one shows the new behaviour.
    async fn look_for(&mut self, url: &str, server: &str, reachable: bool) -> Step {
        let change = self
            .change
            .clone()
            .ok_or_else(|| Failure::Scenario("no step changed a list".to_owned()))?;
        let pod = self.lab().await?.server(server)?.pod.clone();
        let patience = self.context.deadlines.policy_enforced;
        let (label, completed) = look_until(patience, async || {
            let probe = self.probe_of_url(url)?;
            self.probe_from(&pod, server, &[probe]).await?;
            let label = self.only_attempt()?;
            let completed = self.await_outcome(&label).await?;
            // Each of them shows on which side of the change it was.
            let observations = self.observe().await?;
            self.attempt(&observations, &label)?;
            Ok::<_, Failure>(Look::when(completed == reachable, (label, completed)))
        })
        .await?;
        let (proof, effective_at) = self.prove(&label, server, reachable, completed).await?;
        let kind = if reachable {
            "becomes-reachable"
        } else {
            "stops-being-reachable"
        };
        let claim = UpdateClaim {
            check: Check::new(kind, format!("update enforced: {}", change.words)),
            change: change.words,
            changed_at: change.accepted,
            effective_at,
            proof: proof.clone(),
            bound: self.context.deadlines.policy_update_bound,
            pod_before: change.pod_before,
            pod_after: self.pod_fact(server).await?,
        };
        let result = judge_update(&claim);
        for measured in &result.measured {
            self.recorder
                .record(Event::Measured(Measurement::clone(measured)));
        }
        self.settle(vec![proof, result])
    }

    /// The result for the last attempt, and when it was sent if it shows the new behaviour.
    async fn prove(
        &mut self,
        label: &str,
        server: &str,
        reachable: bool,
        completed: bool,
    ) -> Result<(CheckResult, Option<Timestamp>), Failure> {
        let observations = self.observe().await?;
        let attempt = self.attempt(&observations, label)?;
        let sent_at = attempt.sent.as_ref().map(|sent| sent.at);
        let mut results = if reachable {
            let far_end = self.far_end(&attempt);
            self.judge_passed(attempt, &far_end).await?
        } else {
            self.judge_blocked(
                &[(label.to_owned(), Rule::own_denial(server))],
                Default::default(),
            )
            .await?
        };
        let proof = results.swap_remove(0);
        let effective_at = if completed == reachable {
            sent_at
        } else {
            None
        };
        Ok((proof, effective_at))
    }

    /// The fact about the Pod that a server runs in now.
    pub(super) async fn pod_fact(&mut self, server: &str) -> Result<PodFact, Failure> {
        let id = self.lab().await?.server(server)?.id.clone();
        let pod = self.lab().await?.pod_of(&id).await?;
        let events = self.recorder.events();
        let fact = events
            .iter()
            .rev()
            .find_map(|recorded| match &recorded.event {
                Event::PodStarted(fact) if fact.name == pod => Some(fact.clone()),
                _ => None,
            });
        fact.ok_or_else(|| {
            Failure::Scenario(format!(
                "nothing was recorded about the address of the Pod {pod}"
            ))
        })
    }
}
