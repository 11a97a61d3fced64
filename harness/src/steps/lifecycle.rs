//! Pods that are replaced, servers that are deleted or run elsewhere, parts of the system that stop and start.

use std::collections::{BTreeMap, BTreeSet};

use cucumber::gherkin;
use cucumber::{given, then, when};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::restart::Outage;
use crate::evidence::{Event, Measurement};
use crate::judge::{
    Check, CheckResult, GovernedClaim, NoTraceClaim, RuleExpectation, judge_governed,
    judge_no_trace,
};
use crate::lab::lifecycle::{Part, Replaced};
use crate::outcome::Outcome;
use crate::world::{Failure, Scene, Step, World};

/// What happened to parts of the system in one scenario.
#[derive(Debug, Default)]
pub struct Life {
    /// The Pods that were replaced, by server; the last one counts.
    replaced: BTreeMap<String, Replaced>,
    /// FirewallPolicies of servers as they were, by server.
    pub(super) policies: BTreeMap<String, DynamicObject>,
    /// The gateway's restart.
    pub(super) outage: Option<Outage>,
}

#[given("a new pod takes the lowest free address that was not its own server's")]
async fn reuse_addresses(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.reuse_addresses = true)
        })
        .await
}

#[given(expr = "the orchestrator is given the server {string}, whose list holds {string}")]
async fn server_is_created(
    world: &mut World,
    name: String,
    domains: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let manifest = scene.manifest_with_list(&name, &domains)?;
            scene.lab().await?.create_server(&name, &manifest).await?;
            Ok(())
        })
        .await
}

/// What the orchestrator orders, and the network does not.
#[then(expr = "the orchestrator has a policy for {string} before anything of it runs")]
async fn policy_comes_first(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let found = scene.lab().await?.policies_before_launch(&name).await?;
            let Some(found) = found else {
                return Err(Failure::NotTestable(
                    "this tier's orchestrator can't be asked for its policies".to_owned(),
                ));
            };
            let (outcome, found) = match found.as_slice() {
                [] => (
                    Outcome::Failed,
                    "within the stated bound there is none".to_owned(),
                ),
                names => (Outcome::Passed, names.join(", ")),
            };
            scene.settle(vec![scene.stated(
                "policy-before-launch",
                "policy before launch",
                outcome,
                format!("an MCPNetworkPolicy of {name} exists before it is launched"),
                found,
            )])
        })
        .await
}

#[when(expr = "the server {string} is launched")]
async fn server_is_launched(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            Ok(scene.lab().await?.launch_created(&name).await?)
        })
        .await
}

#[given(expr = "the orchestrator knows the remote server {string}")]
async fn remote_server(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let manifest = scene
                .context
                .project
                .server(&name)
                .map_err(crate::lab::Error::from)?;
            scene
                .lab()
                .await?
                .run_remote_server(&name, &manifest)
                .await?;
            Ok(())
        })
        .await
}

#[when(expr = "the pod of {string} is deleted, and its Deployment starts another")]
async fn pod_is_replaced(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let replaced = scene.lab().await?.replace_pod(&server).await?;
            scene.life.replaced.insert(server, replaced);
            Ok(())
        })
        .await
}

#[then(expr = "the policy of {string} was in force before its pod sent its first packet")]
async fn governed_from_the_first_packet(
    world: &mut World,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let pod = scene.lab().await?.pod_fact(&pod).await?;
            let policy = scene.lab().await?.firewall_policy_of(&server).await?;
            let own = |replaced: &&Replaced| replaced.after.name == pod.name;
            let replaced = scene.life.replaced.get(&server).filter(own);
            let not_before = replaced.map_or(Timestamp::MIN, |replaced| replaced.asked_at);
            let observations = scene.observe().await?;
            let object = format!(
                "{}/{}",
                policy.namespace().unwrap_or_default(),
                policy.name_any()
            );
            let claim = GovernedClaim {
                check: Check::new(
                    "governed",
                    format!("governed from the first packet: {}", pod.name),
                ),
                policy_at: scene.first_push(|objects, _| objects.contains(&object), Timestamp::MIN),
                address_at: scene
                    .first_push(|_, addresses| addresses.contains(&pod.address), not_before),
                pod,
                not_before,
            };
            let result = judge_governed(&claim, &observations);
            for measured in &result.measured {
                scene
                    .recorder
                    .record(Event::Measured(Measurement::clone(measured)));
            }
            scene.settle(vec![result])
        })
        .await
}

#[then(expr = "the new pod of {string} has another address")]
async fn new_pod_has_another_address(
    world: &mut World,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let replaced = scene.replaced(&server)?;
            let (before, after) = (&replaced.before, &replaced.after);
            let found = format!(
                "{} ({}) took the place of {} ({})",
                after.name, after.address, before.name, before.address
            );
            let differs = before.address != after.address;
            scene.settle(vec![scene.stated(
                "new-address",
                "new Pod, new address",
                if differs {
                    Outcome::Passed
                } else {
                    Outcome::Inconclusive
                },
                format!("the new Pod of {server} has an address of its own"),
                found,
            )])
        })
        .await
}

/// What the compromised dependency does before the server is even ready.
#[then(expr = "each attempt of the pod of {string} to reach {string} at start-up is blocked")]
async fn attempts_at_start_up_blocked(
    world: &mut World,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let replaced = scene.life.replaced.get(&server);
            let label = replaced.map_or(&server, |replaced| &replaced.label).clone();
            let first = format!("{label} #1 (at start-up)");
            let deadline = scene.context.deadlines.probe_result;
            let what = format!("the dependency of the new Pod of {server:?} to reach for {host}");
            scene
                .lab()
                .await?
                .see(what, deadline, |events| {
                    let own = |event: &Event| {
                        matches!(event, Event::ProbeSent { attempt, .. } if *attempt == first)
                    };
                    events
                        .iter()
                        .any(|recorded| own(&recorded.event))
                        .then_some(())
                })
                .await?;
            // Whichever rule decides: what counts at this moment is that nothing leaves.
            let labels = scene.labels_of(&label, &host);
            scene.attempts.clone_from(&labels);
            let attempts: Vec<_> = labels
                .into_iter()
                .map(|label| (label, RuleExpectation::Any))
                .collect();
            let results = scene.judge_blocked(&attempts, BTreeSet::new()).await?;
            scene.settle(results)
        })
        .await
}

#[then(expr = "the pod of {string} holds an address that a pod of {string} held")]
async fn holds_an_address_of(
    world: &mut World,
    server: String,
    former: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            scene.judge_reuse(&pod, &server, &former).await
        })
        .await
}

#[then(expr = "the pod {string} holds an address that a pod of {string} held")]
async fn pod_holds_an_address_of(
    world: &mut World,
    pod: String,
    former: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.judge_reuse(&pod, &pod, &former).await
        })
        .await
}

/// Which of two overlapping memberships shows in traffic depends on the order of the policies; this does not.
#[then(expr = "the firewall takes the pod of {string} for one of {string} and not of {string}")]
async fn member_of_its_own(
    world: &mut World,
    server: String,
    own: String,
    other: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let pod = scene.lab().await?.pod_fact(&pod).await?;
            let lab = scene.lab().await?;
            let own_groups = lab.groups_of(&own, pod.address).await?;
            let others = lab.groups_of(&other, pod.address).await?;
            let (Some(own_groups), Some(others)) = (own_groups, others) else {
                return Err(Failure::NotTestable(
                    "this tier's firewall can't be asked for its groups".to_owned(),
                ));
            };
            let outcome = match (own_groups.is_empty(), others.is_empty()) {
                (_, false) => Outcome::Failed,
                (true, true) => Outcome::Inconclusive,
                (false, true) => Outcome::Passed,
            };
            let listed = |groups: &[String]| match groups {
                [] => "in none".to_owned(),
                groups => format!("in {}", groups.join(", ")),
            };
            scene.settle(vec![scene.stated(
                "membership",
                "membership",
                outcome,
                format!(
                    "{} is in groups of {own} and in none of {other}",
                    pod.address
                ),
                format!(
                    "of {own}: {}; of {other}: {}",
                    listed(&own_groups),
                    listed(&others)
                ),
            )])
        })
        .await
}

#[when(expr = "the orchestrator deletes the server {string}")]
async fn server_is_deleted(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let policy = scene.lab().await?.firewall_policy_of(&server).await?;
            scene.life.policies.insert(server.clone(), policy);
            scene.lab().await?.delete_server(&server).await?;
            Ok(())
        })
        .await
}

#[then(expr = "nothing of {string} is left in the orchestrator, the cluster or the firewall")]
async fn nothing_is_left(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let of = format!("the deleted server {server}");
            scene.judge_traces_of(&server, of, "nothing-left").await
        })
        .await
}

#[then(expr = "there is no policy and no pod of the remote server {string}")]
async fn nothing_of_a_remote_server(
    world: &mut World,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let of = format!("the remote server {server}");
            scene
                .judge_traces_of(&server, of, "nothing-of-remote")
                .await
        })
        .await
}

#[when(regex = r"^the (orchestrator|policy controller) stops$")]
async fn part_stops(world: &mut World, part: String, step: &gherkin::Step) -> Step {
    stop(world, &part, step).await
}

#[when(regex = r"^the (orchestrator|policy controller) starts again$")]
async fn part_starts(world: &mut World, part: String, step: &gherkin::Step) -> Step {
    start(world, &part, step).await
}

async fn stop(world: &mut World, part: &str, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            Ok(scene.lab().await?.stop(part_of(part)?).await?)
        })
        .await
}

async fn start(world: &mut World, part: &str, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let started = scene.lab().await?.start_again(part_of(part)?).await?;
            // What changed while a part was down can take effect from its start on.
            if let Some(change) = scene.change.as_mut() {
                change.accepted = started;
            }
            Ok(())
        })
        .await
}

fn part_of(words: &str) -> Result<Part, Failure> {
    match words {
        "orchestrator" => Ok(Part::Orchestrator),
        "policy controller" => Ok(Part::PolicyController),
        _ => Err(Failure::Scenario(format!(
            "the {words:?} is no part that can stop; expected orchestrator or policy controller"
        ))),
    }
}

#[given(expr = "the policy of {string} is enforced")]
async fn policy_is_enforced(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let policy = scene.lab().await?.firewall_policy_of(&server).await?;
            scene.life.policies.insert(server, policy);
            Ok(())
        })
        .await
}

#[then(expr = "the orchestrator still knows the server {string}")]
async fn still_knows(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let id = scene.lab().await?.id_of(&server)?;
            let known = scene.lab().await?.known_servers().await?;
            let outcome = if known.contains(&id) {
                Outcome::Passed
            } else {
                Outcome::Failed
            };
            scene.settle(vec![scene.stated(
                "server-remembered",
                "server remembered",
                outcome,
                format!("the orchestrator knows {server} ({id}) after its restart"),
                format!("it lists {}", known.join(", ")),
            )])
        })
        .await
}

#[then(expr = "the policy of {string} is still the one that was enforced before")]
async fn same_policy(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let before = scene.policy_before(&server)?;
            let now = scene.lab().await?.policy_now(&before.name_any()).await?;
            let same = now.as_ref().and_then(DynamicObject::uid) == before.uid();
            let found = match now {
                Some(now) => format!("{} (uid {})", now.name_any(), now.uid().unwrap_or_default()),
                None => "it is gone".to_owned(),
            };
            let outcome = if same {
                Outcome::Passed
            } else {
                Outcome::Failed
            };
            scene.settle(vec![scene.stated(
                "policy-kept",
                "policy object kept",
                outcome,
                format!(
                    "the FirewallPolicy {} with uid {} was never deleted",
                    before.name_any(),
                    before.uid().unwrap_or_default()
                ),
                found,
            )])
        })
        .await
}

impl Scene {
    /// Judges that the Pod of `who` has the address that the replaced Pod of `former` had.
    async fn judge_reuse(&mut self, pod: &str, who: &str, former: &str) -> Step {
        let before = self.replaced(former)?.before.clone();
        let pod = self.lab().await?.pod_fact(pod).await?;
        let outcome = if pod.address == before.address {
            Outcome::Passed
        } else {
            Outcome::Inconclusive
        };
        let found = format!(
            "{} ({}), where {} had {}",
            pod.name, pod.address, before.name, before.address
        );
        let expected = format!("the Pod of {who} has an address that a Pod of {former} had before");
        let result = self.stated("address-reused", "address reused", outcome, expected, found);
        self.settle(vec![result])
    }

    /// A result about facts that the lab looked up.
    pub(super) fn stated(
        &self,
        kind: &str,
        name: &str,
        outcome: Outcome,
        expected: String,
        found: String,
    ) -> CheckResult {
        CheckResult::stated(Check::new(kind, name), outcome, expected, found)
    }

    /// The FirewallPolicy of a server as an earlier step saw it.
    pub(super) fn policy_before(&self, server: &str) -> Result<DynamicObject, Failure> {
        self.life.policies.get(server).cloned().ok_or_else(|| {
            Failure::Scenario(format!("no step looked at the policy of {server:?} before"))
        })
    }

    fn replaced(&self, server: &str) -> Result<&Replaced, Failure> {
        self.life
            .replaced
            .get(server)
            .ok_or_else(|| Failure::Scenario(format!("no step replaced the Pod of {server:?}")))
    }

    /// Labels of the attempts that one process made so far to reach a host.
    fn labels_of(&self, label: &str, host: &str) -> Vec<String> {
        let own = format!("{label} #");
        let events = self.recorder.events();
        let labels = events.iter().filter_map(|recorded| match &recorded.event {
            Event::ProbeSent { attempt, sent, .. }
                if attempt.starts_with(&own) && sent.host.as_deref() == Some(host) =>
            {
                Some(attempt.clone())
            }
            _ => None,
        });
        labels.collect()
    }

    /// When the gateway first took a policy that `wanted` says, not before `from`.
    pub(super) fn first_push(
        &self,
        wanted: impl Fn(&BTreeSet<String>, &BTreeSet<std::net::IpAddr>) -> bool,
        from: Timestamp,
    ) -> Option<Timestamp> {
        self.recorder
            .events()
            .iter()
            .find_map(|recorded| match &recorded.event {
                Event::PolicyPushed {
                    at,
                    objects,
                    addresses,
                    ..
                } if *at >= from && wanted(objects, addresses) => Some(*at),
                _ => None,
            })
    }

    /// Judges that nothing of a server is anywhere, after what is on its way has gone.
    async fn judge_traces_of(&mut self, server: &str, of: String, kind: &str) -> Step {
        let known = self.life.policies.get(server);
        let policies: Vec<String> = known.iter().map(|policy| policy.name_any()).collect();
        let places = self.lab().await?.await_no_traces(server, &policies).await?;
        let claim = NoTraceClaim {
            check: Check::new(kind, format!("no trace of {server}")),
            of,
            places,
        };
        self.settle(vec![judge_no_trace(&claim)])
    }
}
