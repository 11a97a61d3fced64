//! Lists of many names, and a FirewallPolicy that follows each update of one.

use std::collections::BTreeSet;

use cucumber::gherkin;
use cucumber::{given, then, when};
use serde_json::json;

use super::system::split;
use super::verdict::Rule;
use crate::judge::list::{ListClaim, judge_list};
use crate::judge::{Check, RuleExpectation};
use crate::lab::Probe;
use crate::scenario_data::ServerManifest;
use crate::world::{Failure, Scene, Step, World};

/// Image of a server whose list is generated: it does nothing by itself.
const IMAGE: &str = "containment.test/fetcher:1.0.0";
/// Every name below it resolves, in `scenarios/internet.yaml`.
const ZONE: &str = "generated-list.test";

/// The servers of a scenario whose lists are generated, and what they sent last.
#[derive(Debug, Default)]
pub struct Lists {
    servers: Vec<(String, usize)>,
    /// Labels of attempts, each with the server whose Pod made it.
    sent: Vec<(String, String)>,
}

#[given(
    expr = "the orchestrator runs the server {string}, whose list holds {int} generated name(s)"
)]
async fn generated_list(
    world: &mut World,
    server: String,
    names: usize,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let domains: Vec<String> = (1..=names).map(generated).collect();
            let manifest = ServerManifest::generated(&server, IMAGE, &domains, None);
            scene.lab().await?.run_server(&server, &manifest).await?;
            scene.lab().await?.await_enforced(&server).await?;
            scene.lists.servers.push((server, names));
            Ok(())
        })
        .await
}

#[when("each of these servers requests the first, the middle and the last name of its list")]
async fn requests_listed(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.each_requests(listed).await)
        .await
}

#[when("each of these servers requests names that only resemble those of its list")]
async fn requests_near_misses(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.each_requests(near_misses).await)
        .await
}

#[then("each of them is blocked by its own server's policy")]
async fn blocked_by_own(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let attempts: Vec<(String, RuleExpectation)> = scene
                .lists
                .sent
                .iter()
                .map(|(label, server)| (label.clone(), Rule::own_denial(server)))
                .collect();
            let results = scene.judge_blocked(&attempts, BTreeSet::new()).await?;
            scene.settle(results)
        })
        .await
}

#[then(
    expr = "the FirewallPolicy of {string} permits the names of its list, no name more and no name less"
)]
async fn policy_equals_list(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let list = scene
                .lab()
                .await?
                .server(&server)?
                .manifest
                .egress_domains
                .clone();
            let objects = scene
                .lab()
                .await?
                .policy_after_update(&server, &list)
                .await?;
            let claim = ListClaim {
                check: Check::new(
                    "policy-equals-list",
                    format!("policy equals list: {}", list.join(", ")),
                ),
                server,
                list,
                objects: objects.iter().map(|object| json!(object)).collect(),
            };
            scene.settle(vec![judge_list(&claim)])
        })
        .await
}

/// What the list holds is the control of what it does not hold.
#[then(expr = "of {string} the pod of {string} reaches those that its list holds, and no other")]
async fn reaches_its_list(
    world: &mut World,
    names: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let list = scene.lab().await?.server(&server)?.manifest.egress_domains.clone();
            let holds = |name: &String| list.iter().any(|entry| entry.eq_ignore_ascii_case(name));
            let (listed, others): (Vec<String>, Vec<String>) = split(&names).into_iter().partition(holds);
            if listed.is_empty() || others.is_empty() {
                return Err(Failure::Scenario(format!(
                    "of {names} at least one must be on the list {list:?}, as a control, and one not"
                )));
            }
            let listed = scene.request_each(&server, &listed).await?;
            let control = listed[0].clone();
            scene.attempts = listed;
            scene.all_pass(&RuleExpectation::Any).await?;
            scene.take_as_control(&control).await?;
            scene.attempts = scene.request_each(&server, &others).await?;
            scene.all_blocked(Rule::own_denial(&server)).await
        })
        .await
}

fn generated(number: usize) -> String {
    format!("host-{number:03}.{ZONE}")
}

fn listed(names: usize) -> Vec<String> {
    let numbers = BTreeSet::from([1, names.div_ceil(2), names]);
    numbers.into_iter().map(generated).collect()
}

/// The name after the last one of the list, a longer label, a name below, the name above, and a super-domain.
fn near_misses(names: usize) -> Vec<String> {
    let last = generated(names);
    vec![
        generated(names + 1),
        format!("x{last}"),
        format!("old.{last}"),
        ZONE.to_owned(),
        format!("{last}.attacker-zone.test"),
    ]
}

impl Scene {
    /// Sends requests out of the Pod of each server with a generated list; all of them become the attempts of the next
    /// step.
    async fn each_requests(&mut self, names: impl Fn(usize) -> Vec<String>) -> Step {
        let servers = self.lists.servers.clone();
        let mut sent = Vec::new();
        for (server, length) in servers {
            let labels = self.request_each(&server, &names(length)).await?;
            sent.extend(labels.into_iter().map(|label| (label, server.clone())));
        }
        self.attempts = sent.iter().map(|(label, _)| label.clone()).collect();
        self.lists.sent = sent;
        Ok(())
    }

    /// Sends one request over TLS to each name out of the Pod of a server; returns their labels.
    pub(super) async fn request_each(
        &mut self,
        server: &str,
        names: &[String],
    ) -> Result<Vec<String>, Failure> {
        let pod = self.lab().await?.server(server)?.pod.clone();
        let probes: Vec<Probe> = names
            .iter()
            .map(|name| self.probe_to("tls", name, 443))
            .collect();
        self.probe_from(&pod, server, &probes).await?;
        Ok(self.attempts.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_one_has_one_name_to_ask_for_and_its_near_misses_are_not_on_it() {
        assert_eq!(listed(1), ["host-001.generated-list.test"]);
        assert_eq!(listed(200).len(), 3);
        let list: Vec<String> = (1..=20).map(generated).collect();
        assert!(near_misses(20).iter().all(|name| !list.contains(name)));
    }
}
