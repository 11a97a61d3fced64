//! Policy objects that somebody writes, edits and deletes by hand, past the orchestrator.

use cucumber::gherkin;
use cucumber::{then, when};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::verdict::Rule;
use crate::judge::{Check, CheckResult};
use crate::lab::policies::is_enforced;
use crate::outcome::Outcome;
use crate::world::{Failure, Scene, Step, World};

/// Names for a second policy. The vendor's order between objects is unknown, and may follow the name.
const SECOND: [&str; 2] = ["a-second-policy", "z-second-policy"];
/// What compensates for a second policy that widens the first.
const WHO_MAY_WRITE: &str =
    "RBAC: nobody but the policy controller may write FirewallPolicies in the servers' namespace";

#[when(expr = "somebody edits the policy of {string} so that it permits {string}")]
async fn edited_to_permit(
    world: &mut World,
    server: String,
    domain: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let before = scene.lab().await?.firewall_policy_of(&server).await?;
            let spec = widened(&before.data["spec"], &domain);
            scene.lab().await?.edit_by_hand(&before, &spec).await?;
            scene.life.policies.insert(server, before);
            Ok(())
        })
        .await
}

#[when(expr = "somebody deletes the policy of {string}")]
async fn deleted(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let before = scene.lab().await?.firewall_policy_of(&server).await?;
            scene.lab().await?.delete_by_hand(&before).await?;
            scene.life.policies.insert(server, before);
            Ok(())
        })
        .await
}

#[then(expr = "the policy of {string} is put back as it was, and enforced")]
async fn restored(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let result = scene.restored(&server).await?;
            scene.settle(vec![result])
        })
        .await
}

/// The open question: the policy controller reads objects into a type that lacks the field, so that it may not see it.
#[then(
    expr = "a field {string} that is added to the rule {string} of {string} by hand is taken away or not"
)]
async fn unknown_field(
    world: &mut World,
    field: String,
    rule: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let before = scene.lab().await?.firewall_policy_of(&server).await?;
            // A change that is put back for certain goes with it: once it is, the controller has seen both.
            let mut spec = before.data["spec"].clone();
            add_to_approved(&mut spec, "seen-by-the-controller.test");
            let rules = spec["rules"].as_array_mut().into_iter().flatten();
            let mut set = 0;
            for one in rules.filter(|one| one["name"] == *rule) {
                one[&field] = json!(true);
                set += 1;
            }
            if set == 0 {
                return Err(Failure::Scenario(format!(
                    "the policy of {server} has no rule {rule:?}"
                )));
            }
            let edited = scene.lab().await?.edit_by_hand(&before, &spec).await?;
            let edit = edited.metadata.generation;
            let groups = before.data["spec"]["webGroups"].clone();
            let put_back = scene
                .lab()
                .await?
                .await_policy(&before.name_any(), |object| {
                    object.metadata.generation > edit
                        && object.data["spec"]["webGroups"] == groups
                        && is_enforced(object)
                })
                .await?;
            let answer = match &put_back {
                None => "nothing of the edit is undone within the stated bound".to_owned(),
                Some(now) if has_field(now, &rule, &field) => {
                    format!("no: the edit beside it was undone, and {field}: true stays on {rule}")
                }
                Some(_) => format!("yes: {field} is gone from {rule}"),
            };
            let question = format!(
                "is {field}: true on the rule {rule} of {server}, set by hand, taken away?"
            );
            scene.settle(vec![CheckResult::answered(
                Check::new("unknown-field", format!("hand-added {field}")),
                question,
                answer,
            )])
        })
        .await
}

#[then(
    expr = "a second policy for the pods of {string} that permits {string} has the same effect in either order of creation"
)]
async fn two_policies(
    world: &mut World,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let own = scene.lab().await?.firewall_policy_of(&server).await?;
            let spec = second(&own.data["spec"], &host);
            let mut outcomes = Vec::new();
            for name in SECOND {
                let by_hand = scene.lab().await?.write_by_hand(name, &spec).await?;
                let younger = scene.passes(&server, &host).await?;
                // Deleted and put back, the orchestrator's own policy is the younger of the two.
                let own = scene.lab().await?.firewall_policy_of(&server).await?;
                scene.lab().await?.delete_by_hand(&own).await?;
                scene.life.policies.insert(server.clone(), own);
                let put_back = scene.restored(&server).await?;
                if !put_back.passed() {
                    return scene.settle(vec![put_back]);
                }
                let older = scene.passes(&server, &host).await?;
                outcomes.push((name, younger, older));
                scene.lab().await?.delete_by_hand(&by_hand).await?;
            }
            let result = scene.two_policies(&server, &host, &outcomes);
            scene.settle(vec![result])
        })
        .await
}

impl Scene {
    /// Waits until the policy of a server is again what it was when a step last looked, and the gateway enforces it.
    async fn restored(&mut self, server: &str) -> Result<CheckResult, Failure> {
        let before = self.policy_before(server)?;
        let name = before.name_any();
        let is_back = |now: &DynamicObject| {
            let changed =
                now.uid() != before.uid() || now.metadata.generation > before.metadata.generation;
            changed && now.data["spec"] == before.data["spec"] && is_enforced(now)
        };
        let back = self.lab().await?.await_policy(&name, is_back).await?;
        let (outcome, found) = match back {
            Some(now) => (
                Outcome::Passed,
                format!(
                    "generation {} (uid {}) is as generation {} (uid {}) was",
                    now.metadata.generation.unwrap_or_default(),
                    now.uid().unwrap_or_default(),
                    before.metadata.generation.unwrap_or_default(),
                    before.uid().unwrap_or_default()
                ),
            ),
            None => (
                Outcome::Failed,
                match self.lab().await?.policy_now(&name).await? {
                    None => "within the stated bound it did not come back".to_owned(),
                    Some(now) if now.data["spec"] == before.data["spec"] => {
                        "it came back, and the firewall did not take it within the stated bound"
                            .to_owned()
                    }
                    Some(now) => format!("after the stated bound its spec is {}", now.data["spec"]),
                },
            ),
        };
        Ok(self.stated(
            "policy-put-back",
            "policy put back",
            outcome,
            format!("the FirewallPolicy {name} of {server} is put back and enforced"),
            found,
        ))
    }

    /// Whether a host can be reached now, proven either way.
    async fn passes(&mut self, server: &str, host: &str) -> Result<bool, Failure> {
        let pod = self.lab().await?.server(server)?.pod.clone();
        let probe = self.probe_to("tls", host, 443);
        self.probe_from(&pod, server, &[probe]).await?;
        let label = self.only_attempt()?;
        let completed = self.await_outcome(&label).await?;
        let results = if completed {
            let observations = self.observe().await?;
            let attempt = self.attempt(&observations, &label)?;
            let far_end = self.far_end(&attempt);
            let control = self.control.clone();
            let results = self.judge_passed(attempt, &far_end).await?;
            self.control = control;
            results
        } else {
            let rule = Rule::of_server("deny-all-external", server);
            self.judge_blocked(&[(label, rule)], Default::default())
                .await?
        };
        self.settle(results)?;
        Ok(completed)
    }

    /// Stable is a pass as long as nothing is wider than the orchestrator's own policy; wider is a finding.
    fn two_policies(
        &self,
        server: &str,
        host: &str,
        outcomes: &[(&str, bool, bool)],
    ) -> CheckResult {
        let words = |passes: bool| if passes { "passes" } else { "is blocked" };
        let found: Vec<String> = outcomes
            .iter()
            .map(|(name, younger, older)| {
                format!(
                    "{host} {} with {name} as the younger of the two, and {} with it as the older",
                    words(*younger),
                    words(*older)
                )
            })
            .collect();
        let found = found.join("; ");
        let expected = format!(
            "which of two policies for the Pods of {server} decides does not depend on which was created first, and \
             the second permits nothing that the first denies"
        );
        let check = Check::new("two-policies", "two policies for one Pod");
        if outcomes.iter().any(|(_, younger, older)| younger != older) {
            CheckResult::stated(check, Outcome::Failed, expected, found)
        } else if outcomes.iter().any(|(_, younger, _)| *younger) {
            let found = format!("a second policy can widen the first: {found}");
            CheckResult::finding(check, expected, found, WHO_MAY_WRITE)
        } else {
            CheckResult::stated(check, Outcome::Passed, expected, found)
        }
    }
}

/// The spec with a rule in front that permits a domain, and the group it needs.
fn widened(spec: &Value, domain: &str) -> Value {
    let mut spec = spec.clone();
    let mut rule = spec["rules"][0].clone();
    rule["name"] = json!("added-by-hand");
    rule["webGroups"] = json!([{"name": "added-by-hand"}]);
    let group = json!({"name": "added-by-hand", "domains": [domain]});
    if let Some(rules) = spec["rules"].as_array_mut() {
        rules.insert(0, rule);
    }
    if let Some(groups) = spec["webGroups"].as_array_mut() {
        groups.push(group);
    }
    spec
}

/// A policy for the same Pods that permits a domain and nothing else.
fn second(spec: &Value, domain: &str) -> Value {
    let mut spec = widened(spec, domain);
    if let Some(rules) = spec["rules"].as_array_mut() {
        rules.truncate(1);
    }
    spec
}

fn add_to_approved(spec: &mut Value, domain: &str) {
    if let Some(domains) = spec["webGroups"][0]["domains"].as_array_mut() {
        domains.push(json!(domain));
    }
}

fn has_field(object: &DynamicObject, rule: &str, field: &str) -> bool {
    let rules = object.data["spec"]["rules"]
        .as_array()
        .into_iter()
        .flatten();
    rules
        .filter(|one| one["name"] == *rule)
        .any(|one| one[field] == json!(true))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec() -> Value {
        json!({
            "webGroups": [{"name": "approved", "domains": ["a.test"]}],
            "rules": [
                {"name": "allow-approved-egress", "action": "permit", "webGroups": [{"name": "approved"}]},
                {"name": "deny-all-external", "action": "deny"},
            ],
        })
    }

    #[test]
    fn an_edit_by_hand_comes_first_and_a_second_policy_holds_nothing_else() {
        let names = |spec: &Value| -> Vec<String> {
            let rules = spec["rules"].as_array().into_iter().flatten();
            rules.map(|rule| rule["name"].to_string()).collect()
        };
        let edited = widened(&spec(), "evil.test");
        assert_eq!(names(&edited).len(), 3);
        assert_eq!(names(&edited)[0], "\"added-by-hand\"");
        assert_eq!(edited["webGroups"][1]["domains"], json!(["evil.test"]));
        assert_eq!(names(&second(&spec(), "evil.test")), ["\"added-by-hand\""]);
    }
}
