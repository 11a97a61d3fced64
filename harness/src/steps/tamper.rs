//! Policy objects that are written, edited and deleted by hand, past the orchestrator.

use cucumber::gherkin;
use cucumber::{then, when};
use kube::ResourceExt as _;
use kube::api::DynamicObject;
use serde_json::{Value, json};

use super::verdict::Rule;
use crate::judge::model::DENY_RULE;
use crate::judge::policy_object::{
    OrderTrial, PutBackClaim, answer_added_field, judge_put_back, judge_two_policies,
};
use crate::judge::{Check, CheckResult};
use crate::lab::policies::{is_enforced, state_of};
use crate::world::{Failure, Scene, Step, World};

/// Names for a second policy. The vendor's order between objects is unknown, and may follow the name.
const SECOND: [&str; 2] = ["a-second-policy", "z-second-policy"];

#[when(expr = "an administrator edits the policy of {string} so that it permits {string}")]
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

#[when(expr = "an administrator deletes the policy of {string}")]
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

/// A change that is put back for certain goes with the field: once it is, the controller has seen both.
#[when(expr = "an administrator adds the field {string} to the denying rule of {string}")]
async fn field_is_added(
    world: &mut World,
    field: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let before = scene.lab().await?.firewall_policy_of(&server).await?;
            let spec = with_field(&before.data["spec"], &field);
            let edited = scene.lab().await?.edit_by_hand(&before, &spec).await?;
            scene.life.edited.insert(server.clone(), edited);
            scene.life.policies.insert(server, before);
            Ok(())
        })
        .await
}

#[then(expr = "it is recorded whether the field {string} is taken away")]
async fn field_is_taken_away(world: &mut World, field: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let (server, edited) = scene.edited_policy()?;
            let before = scene.policy_before(&server)?;
            let undone = |now: &DynamicObject| {
                now.metadata.generation > edited.metadata.generation
                    && now.data["spec"]["webGroups"] == before.data["spec"]["webGroups"]
                    && is_enforced(now)
            };
            let lab = scene.lab().await?;
            let put_back = lab.await_policy(&before.name_any(), undone).await?;
            let put_back = put_back.as_ref().map(state_of);
            let check = Check::new("unknown-field", format!("hand-added {field}"));
            let put_back = put_back.as_ref();
            let answer = answer_added_field(&check, &server, DENY_RULE, &field, put_back);
            scene.settle(vec![answer])
        })
        .await
}

#[when(
    expr = "an administrator adds a second policy for the pods of {string} that permits {string}, once as the younger and once as the older of the two"
)]
async fn second_policy(
    world: &mut World,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let own = scene.lab().await?.firewall_policy_of(&server).await?;
            let spec = second(&own.data["spec"], &host);
            let mut trials = Trials {
                server,
                host,
                ..Trials::default()
            };
            for name in SECOND {
                scene.try_orders(name, &spec, &mut trials).await?;
            }
            scene.life.trials = Some(trials);
            Ok(())
        })
        .await
}

#[then(
    "the same policy decides in either order of creation, and the second permits nothing that the first denies"
)]
async fn order_decides_nothing(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let trials = scene.life.trials.take().ok_or_else(|| {
                Failure::Scenario("no step before this one adds a second policy".to_owned())
            })?;
            let check = Check::new("two-policies", "two policies for one Pod");
            let Trials {
                server,
                host,
                orders,
                mut results,
            } = trials;
            results.push(judge_two_policies(&check, &server, &host, &orders));
            scene.settle(results)
        })
        .await
}

/// What was tried with two policies for one Pod, and the results of each request.
#[derive(Debug, Default)]
pub struct Trials {
    server: String,
    host: String,
    orders: Vec<OrderTrial>,
    results: Vec<CheckResult>,
}

impl Scene {
    /// Waits until the policy of a server is again what it was when a step last looked, and the gateway enforces it.
    async fn restored(&mut self, server: &str) -> Result<CheckResult, Failure> {
        let before = state_of(&self.policy_before(server)?);
        let name = before.name.clone();
        let is_back = |now: &DynamicObject| state_of(now).puts_back(&before);
        let back = self.lab().await?.await_policy(&name, is_back).await?;
        let after_the_bound = self.lab().await?.policy_now(&name).await?;
        Ok(judge_put_back(&PutBackClaim {
            check: Check::new("policy-put-back", "policy put back"),
            server: server.to_owned(),
            back: back.as_ref().map(state_of),
            after_the_bound: after_the_bound.as_ref().map(state_of),
            before,
        }))
    }

    /// The one policy that the last step edited by hand, and its server.
    fn edited_policy(&self) -> Result<(String, DynamicObject), Failure> {
        let edited = self.life.edited.iter().next_back();
        let (server, object) = edited.ok_or_else(|| {
            Failure::Scenario("no step before this one edits a policy by hand".to_owned())
        })?;
        Ok((server.clone(), object.clone()))
    }

    /// Writes a second policy as the younger of the two and requests its host; then deletes the orchestrator's own, which
    /// is put back as the younger, and requests it again.
    async fn try_orders(&mut self, name: &str, spec: &Value, trials: &mut Trials) -> Step {
        let server = trials.server.clone();
        let by_hand = self.lab().await?.write_by_hand(name, spec).await?;
        let passes_as_younger = self.passes(trials).await?;
        let own = self.lab().await?.firewall_policy_of(&server).await?;
        self.lab().await?.delete_by_hand(&own).await?;
        self.life.policies.insert(server.clone(), own);
        trials.results.push(self.restored(&server).await?);
        let passes_as_older = self.passes(trials).await?;
        trials.orders.push(OrderTrial {
            second: name.to_owned(),
            passes_as_younger,
            passes_as_older,
        });
        Ok(self.lab().await?.delete_by_hand(&by_hand).await?)
    }

    /// Whether the host can be reached now, proven either way.
    async fn passes(&mut self, trials: &mut Trials) -> Result<bool, Failure> {
        let server = trials.server.clone();
        let pod = self.lab().await?.server(&server)?.pod.clone();
        let probe = self.probe_to("tls", &trials.host, 443);
        self.probe_from(&pod, &server, &[probe]).await?;
        let label = self.only_attempt()?;
        let completed = self.await_outcome(&label).await?;
        trials.results.extend(if completed {
            let observations = self.observe().await?;
            let attempt = self.attempt(&observations, &label)?;
            let far_end = self.far_end(&attempt);
            self.judge_passed(attempt, &far_end).await?
        } else {
            let own = (label, Rule::own_denial(&server));
            self.judge_blocked(&[own], Default::default()).await?
        });
        Ok(completed)
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

/// The spec with a field on its denying rules, and with a domain that no list holds.
fn with_field(spec: &Value, field: &str) -> Value {
    let mut spec = spec.clone();
    if let Some(domains) = spec["webGroups"][0]["domains"].as_array_mut() {
        domains.push(json!("seen-by-the-controller.test"));
    }
    for rule in spec["rules"].as_array_mut().into_iter().flatten() {
        if rule["name"] == DENY_RULE {
            rule[field] = json!(true);
        }
    }
    spec
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

    #[test]
    fn a_field_is_added_to_the_denying_rule_alone() {
        let edited = with_field(&spec(), "watch");
        assert_eq!(edited["rules"][0]["watch"], Value::Null);
        assert_eq!(edited["rules"][1]["watch"], true);
        assert_ne!(edited["webGroups"], spec()["webGroups"]);
    }
}
