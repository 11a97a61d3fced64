//! The gateway restarted under load: the same destinations are tried before, while it has no policy, and after.

use cucumber::gherkin;
use cucumber::{then, when};
use jiff::Timestamp;

use crate::evidence::{Event, Measurement};
use crate::judge::{Attempt, Check, CheckResult, Control, RestartClaim, judge_fail_closed};
use crate::lab::Probe;
use crate::world::{Failure, Scene, Step, World};

/// How often each destination is tried while the gateway has no policy.
const ROUNDS: usize = 2;

/// A restart of the gateway and what was tried meanwhile.
#[derive(Debug, Clone)]
pub struct Outage {
    down: Timestamp,
    up: Timestamp,
    /// Labels of the attempts that the policy denies.
    denied: Vec<String>,
    /// The permitted request before it.
    before: Option<Control>,
}

#[when(expr = "the gateway restarts while the pod of {string} keeps trying each of")]
async fn gateway_restarts(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    let table = step.table.clone();
    world
        .act(step, async |scene| {
            if !scene.lab().await?.can_restart_gateway() {
                return Err(Failure::NotTestable(
                    "this tier can't restart the gateway".to_owned(),
                ));
            }
            let probes = scene.probes_of(table.as_ref())?;
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let before = scene.control.clone();
            let mut denied = scene.round(&pod, &server, &probes).await?;
            // One attempt of each kind is under way when the gateway goes down.
            denied.extend(scene.send_round(&pod, &server, &probes).await?);
            scene.lab().await?.restart_gateway().await;
            let down = Timestamp::now();
            for _ in 0..ROUNDS {
                denied.extend(scene.round(&pod, &server, &probes).await?);
            }
            // And one when its policy comes.
            denied.extend(scene.send_round(&pod, &server, &probes).await?);
            let up = Timestamp::now();
            scene.lab().await?.give_policy_again().await?;
            denied.extend(scene.round(&pod, &server, &probes).await?);
            scene.life.outage = Some(Outage {
                down,
                up,
                denied,
                before,
            });
            Ok(())
        })
        .await
}

#[then(
    expr = "nothing denied left the gateway at any instant, and {string} passes again from {string}"
)]
async fn stayed_closed(
    world: &mut World,
    url: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let outage = scene
                .life
                .outage
                .clone()
                .ok_or_else(|| Failure::Scenario("no step restarted the gateway".to_owned()))?;
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let probe = scene.probe_of_url(&url)?;
            scene.probe_from(&pod, &server, &[probe]).await?;
            let label = scene.only_attempt()?;
            scene.await_outcome(&label).await?;
            let observations = scene.observe().await?;
            let attempt = scene.attempt(&observations, &label)?;
            let far_end = scene.far_end(&attempt);
            let mut results = scene.judge_passed(attempt.clone(), &far_end).await?;
            let after = results.first().is_some_and(CheckResult::passed);
            let after = after.then_some(Control { attempt, far_end });
            let observations = scene.observe_quiet(&outage.denied).await?;
            scene.lab().await?.end_probes();
            let denied: Result<Vec<Attempt>, Failure> = outage
                .denied
                .iter()
                .map(|label| scene.attempt(&observations, label))
                .collect();
            let claim = RestartClaim {
                check: Check::new("closed-while-restarting", "closed while restarting"),
                down: outage.down,
                up: outage.up,
                denied: denied?,
                before: outage.before,
                after,
                quiet_window: scene.context.deadlines.quiet_window,
            };
            for attempt in &claim.denied {
                scene.judges(attempt, true);
            }
            results.push(judge_fail_closed(&claim, &observations));
            scene.recorder.record(Event::Measured(Measurement {
                name: "gateway-without-policy".to_owned(),
                of: format!("{} denied attempts around it", claim.denied.len()),
                micros: micros(claim.up.duration_since(claim.down)),
                bound_micros: None,
            }));
            scene.settle(results)
        })
        .await
}

fn micros(span: jiff::SignedDuration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or_default()
}

impl Scene {
    /// Sends one probe of each kind, each with a token of its own.
    async fn send_round(
        &mut self,
        pod: &str,
        who: &str,
        probes: &[Probe],
    ) -> Result<Vec<String>, Failure> {
        let fresh: Vec<Probe> = probes
            .iter()
            .map(|probe| Probe {
                canary: fixtures::canary::generate(),
                ..probe.clone()
            })
            .collect();
        self.probe_from(pod, who, &fresh).await?;
        Ok(self.attempts.clone())
    }

    /// Sends one of each kind and waits until the gateway has decided on them.
    async fn round(
        &mut self,
        pod: &str,
        who: &str,
        probes: &[Probe],
    ) -> Result<Vec<String>, Failure> {
        let labels = self.send_round(pod, who, probes).await?;
        self.await_decisions(&labels).await?;
        Ok(labels)
    }
}
