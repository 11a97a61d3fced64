//! Pods that are replaced, servers that are deleted or run elsewhere, parts of the system that stop and start.

use std::collections::{BTreeMap, BTreeSet};

use cucumber::gherkin;
use cucumber::{given, then, when};
use jiff::Timestamp;
use kube::ResourceExt as _;
use kube::api::DynamicObject;

use super::restart::Outage;
use super::tamper::Trials;
use crate::evidence::{Event, Measurement};
use crate::judge::orchestrator::{judge_policy_before_launch, judge_policy_kept, judge_remembered};
use crate::judge::pods::{judge_address_reused, judge_other_address};
use crate::judge::{
    Check, GovernedClaim, NoTraceClaim, RuleExpectation, judge_governed, judge_no_trace,
};
use crate::lab::lifecycle::{Part, Replaced};
use crate::lab::policies::state_of;
use crate::world::{Failure, Scene, Step, World};

/// What happened to parts of the system in one scenario.
#[derive(Debug, Default)]
pub struct Life {
    /// The Pods that were replaced, by server; the last one counts.
    replaced: BTreeMap<String, Replaced>,
    /// FirewallPolicies of servers as they were, by server.
    pub(super) policies: BTreeMap<String, DynamicObject>,
    /// FirewallPolicies of servers as they were edited by hand, by server.
    pub(super) edited: BTreeMap<String, DynamicObject>,
    /// What was tried with two policies for one Pod.
    pub(super) trials: Option<Trials>,
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
            let check = Check::new("policy-before-launch", "policy before launch");
            scene.settle(vec![judge_policy_before_launch(&check, &name, &found)])
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
                address_at: scene.first_push(
                    |_, addresses| addresses.contains_key(&pod.address),
                    not_before,
                ),
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
            let check = Check::new("new-address", "new Pod, new address");
            let (before, after) = (&replaced.before, &replaced.after);
            scene.settle(vec![judge_other_address(&check, &server, before, after)])
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
            let deadline = scene.context.deadlines.tool_call;
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
            let check = Check::new("server-remembered", "server remembered");
            scene.settle(vec![judge_remembered(&check, &server, &id, &known)])
        })
        .await
}

#[then(expr = "the policy of {string} is still the one that was enforced before")]
async fn same_policy(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let before = scene.policy_before(&server)?;
            let now = scene.lab().await?.policy_now(&before.name_any()).await?;
            let check = Check::new("policy-kept", "policy object kept");
            let now = now.as_ref().map(state_of);
            let result = judge_policy_kept(&check, &state_of(&before), now.as_ref());
            scene.settle(vec![result])
        })
        .await
}

impl Scene {
    /// Judges that the Pod of `who` has the address that the replaced Pod of `former` had.
    async fn judge_reuse(&mut self, pod: &str, who: &str, former: &str) -> Step {
        let before = self.replaced(former)?.before.clone();
        let pod = self.lab().await?.pod_fact(pod).await?;
        let check = Check::new("address-reused", "address reused");
        let result = judge_address_reused(&check, who, former, &pod, &before);
        self.settle(vec![result])
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
        wanted: impl Fn(&BTreeSet<String>, &BTreeMap<std::net::IpAddr, String>) -> bool,
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
