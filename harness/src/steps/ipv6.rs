//! The other address family: a dual-stack cluster, attempts over IPv6, and the layer that stops them.

use cucumber::gherkin;
use cucumber::{given, then, when};

use crate::evidence::Event;
use crate::judge::{Check, CheckResult, NodeClaim, Observations, judge_stopped_on_node};
use crate::lab::Probe;
use crate::system::await_::{Look, look_until};
use crate::tier;
use crate::world::{Failure, Scene, Step, World};

#[given("the cluster is dual-stack")]
async fn dual_stack(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            tier::embedded::ipv6_preflight()
                .map_err(|error| Failure::NotTestable(error.to_string()))?;
            scene.set_up(|setup| setup.dual_stack = true)
        })
        .await
}

#[given("the orchestrator's chart installs no NetworkPolicy")]
async fn without_network_policy(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.without_network_policy = true)
        })
        .await
}

/// A control of the far end and of the path to it: what records nothing over IPv6 would make every denial look good.
#[given(expr = "the attacker's collector {string} is up over IPv6 and records what reaches it")]
async fn collector_is_up(world: &mut World, host: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let canary = fixtures::canary::generate();
            let deadline = scene.context.deadlines.probe_result;
            let lab = scene.lab().await?;
            lab.far_ends().visit_over_ipv6(&host, &canary).await?;
            let (far_end, token) = (host.clone(), canary.clone());
            scene.recorder.record(Event::FarEndVisited { far_end, canary: token });
            let lab = scene.lab().await?;
            let seen = |event: &Event| {
                matches!(event, Event::Receipt(receipt)
                    if receipt.endpoint == host && receipt.local.is_ipv6() && receipt.canaries.contains(&canary))
            };
            let what = format!("a receipt of {host} for a request over IPv6 from elsewhere");
            lab.see(what, deadline, |events| {
                events
                    .iter()
                    .any(|recorded| seen(&recorded.event))
                    .then_some(())
            })
            .await?;
            Ok(())
        })
        .await
}

#[when(expr = "the pod of {string} tries over IPv6 each of")]
async fn tries_each_over_ipv6(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    let table = step.table.clone();
    world
        .act(step, async |scene| {
            let probes: Vec<Probe> = scene
                .probes_of(table.as_ref())?
                .into_iter()
                .map(|probe| Probe {
                    ipv6: true,
                    ..probe
                })
                .collect();
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            scene.probe_from(&pod, &server, &probes).await
        })
        .await
}

#[then(
    expr = "each of them is stopped on the node by the NetworkPolicy {string}, before the firewall sees it"
)]
async fn stopped_on_node(world: &mut World, policy: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let labels = scene.last_attempts()?;
            let results = scene.judge_stopped_on_node(&labels, &policy).await?;
            scene.settle(results)
        })
        .await
}

impl Scene {
    async fn judge_stopped_on_node(
        &mut self,
        labels: &[String],
        policy: &str,
    ) -> Result<Vec<CheckResult>, Failure> {
        let observations = self.observe_stopped(labels).await?;
        self.lab().await?.end_probes();
        labels
            .iter()
            .map(|label| {
                let attempt = self.attempt(&observations, label)?;
                self.judges(&attempt, true);
                let name = format!("stopped on the node: {label}");
                let claim = NodeClaim {
                    check: Check::of("stopped-on-node", name, &attempt, &observations),
                    attempt,
                    policy: policy.to_owned(),
                    control: self.control.clone(),
                    quiet_window: self.context.deadlines.quiet_window,
                };
                Ok(judge_stopped_on_node(&claim, &observations))
            })
            .collect()
    }

    /// Observes until the nodes said of each attempt that they stopped it, and a quiet window after. In vain is also an
    /// answer, which the judge gives.
    async fn observe_stopped(&mut self, labels: &[String]) -> Result<Observations, Failure> {
        look_until(self.context.deadlines.denial_logged, async || {
            let visible = self.lab().await?.record_stopped_on_nodes().await;
            if !visible {
                let reason = "this tier does not show what NetworkPolicies stop on the nodes";
                return Err(Failure::NotTestable(reason.to_owned()));
            }
            let observations = self.observe_quiet(labels).await?;
            let stopped = all_stopped(&observations, labels);
            Ok(Look::when(stopped, observations))
        })
        .await
    }
}

fn all_stopped(observations: &Observations, labels: &[String]) -> bool {
    labels.iter().all(|label| {
        let mut attempts = observations.attempts.iter();
        let own = attempts.find(|attempt| attempt.label == *label);
        own.and_then(|attempt| attempt.sent.as_ref())
            .is_some_and(|sent| {
                observations
                    .stopped_on_nodes
                    .iter()
                    .any(|flow| flow.is_of(sent))
            })
    })
}
