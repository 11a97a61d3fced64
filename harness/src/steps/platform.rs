//! The platform under the servers: set up as its design has it, asked about itself, and tried with a canary.

use std::collections::BTreeSet;

use cucumber::gherkin;
use cucumber::{given, then, when};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::evidence::{Event, observe};
use crate::judge::platform::cause::judge_named;
use crate::judge::platform::{
    CanaryClaim, Stated, judge_cluster, judge_copilot, judge_default_action, judge_features,
    judge_gone, judge_groups, judge_in_path, judge_permits, judge_reaches_copilot,
    judge_reconciled, judge_syslog, judge_types,
};
use crate::judge::{Check, Observations, RuleExpectation};
use crate::lab::{self, Question, RUNTIME_NAMESPACE};
use crate::scenario_data::platform::Design;
use crate::world::{Failure, Scene, Step, World};

/// Rules of a canary's policy.
const PERMIT: &str = "canary-permit";
const DENY: &str = "canary-deny";

/// The platform's design, and canaries on it.
#[derive(Debug, Default)]
pub struct Setting {
    design: Option<Design>,
    /// The canary as it was when it was last reconciled.
    canary: Option<Value>,
}

#[given(expr = "the platform is set up as its design has it on {string}")]
async fn set_up(world: &mut World, cloud: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let platform = scene
                .context
                .project
                .platform(&cloud)
                .map_err(lab::Error::from)?;
            scene.set_up(|setup| {
                setup.without_orchestrator = true;
                setup.default_action_denies = true;
                setup.tier_one.extend(platform.permits.iter().cloned());
            })?;
            let design = scene.lab().await?.design(&platform)?;
            if !scene.lab().await?.set_up_platform(&design).await? {
                return Err(no_api());
            }
            scene.platform.design = Some(design);
            Ok(())
        })
        .await
}

#[then("the controller has the groups, the permits and the default action of the design")]
async fn groups_and_permits(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let stated = scene.ask().await?;
            let design = scene.design()?;
            let results = vec![
                judge_groups(&Check::new("groups", "groups"), design, &stated),
                judge_permits(
                    &Check::new("tier-one-permits", "Tier 1 permits"),
                    design,
                    &stated,
                ),
                judge_default_action(
                    &Check::new("default-action-set", "default action"),
                    design,
                    &stated,
                ),
            ];
            scene.settle(results)
        })
        .await
}

#[then("the controller forwards its log to CoPilot, and knows both addresses of CoPilot")]
async fn log_and_copilot(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let stated = scene.ask().await?;
            let design = scene.design()?;
            let results = vec![
                judge_syslog(
                    &Check::new("remote-syslog", "remote syslog"),
                    design,
                    &stated,
                ),
                judge_copilot(&Check::new("copilot-known", "CoPilot"), design, &stated),
            ];
            scene.settle(results)
        })
        .await
}

#[then("the record of that reaches CoPilot")]
async fn record_reaches_copilot(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            if !scene.lab().await?.cluster().capabilities().copilot_log {
                return Err(Failure::NotTestable(
                    "this tier does not see what comes to CoPilot".to_owned(),
                ));
            }
            let check = Check::new("copilot-record", "log at CoPilot");
            let labels = scene.last_attempts()?;
            let arrived = |observations: &Observations| {
                let attempts = observations.attempts.iter();
                let attempts: Vec<_> = attempts
                    .filter(|attempt| labels.contains(&attempt.label))
                    .cloned()
                    .collect();
                judge_reaches_copilot(&check, &attempts, observations)
            };
            let deadline = scene.context.deadlines.denial_logged;
            // In vain is an answer, too.
            scene
                .lab()
                .await?
                .saw("the record at CoPilot", deadline, |events| {
                    let seen = events.iter().map(AsRef::as_ref);
                    let seen = observe::from_events(seen, Timestamp::now());
                    arrived(&seen).passed().then_some(())
                })
                .await?;
            let observations = scene.observe().await?;
            let _judged = scene.last_attempts_in(&observations)?;
            let result = arrived(&observations);
            scene.settle(vec![result])
        })
        .await
}

#[then("the features that Kubernetes policies need are on")]
async fn features_are_on(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let stated = scene.ask().await?;
            let check = Check::new("features-on", "features");
            let result = judge_features(&check, scene.design()?, &stated);
            scene.settle(vec![result])
        })
        .await
}

#[then("the cluster is registered, and has the types of the firewall")]
async fn types_are_there(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let stated = scene.ask().await?;
            let results = vec![
                judge_types(
                    &Check::new("types-installed", "types of the firewall"),
                    &stated,
                ),
                judge_cluster(
                    &Check::new("cluster-registered", "cluster registered"),
                    scene.design()?,
                    &stated,
                ),
            ];
            scene.settle(results)
        })
        .await
}

#[given(expr = "a canary policy lets the pod {string} reach {string} alone")]
async fn canary_for_a_pod(
    world: &mut World,
    pod: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.lab().await?.run_stray_pod(&pod).await?;
            scene.canary(&pod, &host).await
        })
        .await
}

#[then(
    expr = "a canary policy {string} is reconciled, and the controller lists what it made of it"
)]
async fn canary_is_reconciled(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.canary(&name, "canary.containment.test").await
        })
        .await
}

#[then(expr = "nothing of the canary policy {string} is listed once it is deleted")]
async fn canary_is_gone(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let check = Check::new("canary-gone", "canary gone");
            let before = scene.platform.canary.take();
            let before = before.ok_or_else(|| {
                Failure::Scenario("no step before this one has a canary".to_owned())
            })?;
            let result = scene
                .lab()
                .await?
                .delete_canary(&name, |stated| judge_gone(&check, &before, stated))
                .await?;
            scene.settle(vec![result])
        })
        .await
}

#[when("the firewall's controller restarts")]
async fn controller_restarts(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            if !scene.lab().await?.restart_controller().await? {
                return Err(Failure::NotTestable(
                    "this tier can't restart the firewall's controller".to_owned(),
                ));
            }
            Ok(())
        })
        .await
}

#[when(expr = "an administrator switches the feature {string} off")]
async fn feature_goes_off(world: &mut World, feature: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            if !scene.lab().await?.set_feature(&feature, false).await? {
                return Err(no_api());
            }
            // In vain is an answer, too: then the gateway goes on enforcing what it should not.
            let deadline = scene.context.deadlines.denial_logged;
            let lifted = |event: &Event| matches!(event, Event::PolicyLifted { namespace, .. } if namespace == RUNTIME_NAMESPACE);
            let what = "the gateway to forget the policies of the cluster";
            scene
                .lab()
                .await?
                .saw(what, deadline, |events| {
                    let found = events.iter().any(|recorded| lifted(&recorded.event));
                    found.then_some(())
                })
                .await?;
            Ok(())
        })
        .await
}

#[then(expr = "the feature {string} is named as off, and no policy is blamed")]
async fn feature_is_named(world: &mut World, feature: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let label = scene.only_attempt()?;
            let completed = scene.await_outcome(&label).await?;
            scene.lab().await?.end_probes();
            let observations = scene.observe().await?;
            let _judged = scene.last_attempts_in(&observations)?;
            let causes = scene.causes().await;
            let passed = completed.then_some(label.as_str());
            let check = Check::new("feature-named", "feature named");
            scene.settle(vec![judge_named(&check, &feature, &causes, passed)])
        })
        .await
}

#[then("the far end saw the gateway's address")]
async fn far_end_saw_the_gateway(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let gateway: BTreeSet<_> = scene.lab().await?.cluster().gateway_addresses();
            if gateway.is_empty() {
                return Err(Failure::NotTestable(
                    "this tier does not know the gateway's public address".to_owned(),
                ));
            }
            let observations = scene.observe().await?;
            let attempts = scene.last_attempts_in(&observations)?;
            let check = Check::new("gateway-in-path", "gateway in the path");
            let result = judge_in_path(&check, &attempts, &gateway, &observations);
            scene.settle(vec![result])
        })
        .await
}

#[then("the request is blocked by the canary's own rule")]
async fn blocked_by_canary(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.all_blocked(by(DENY)).await)
        .await
}

#[then("the request passes by the canary's own rule")]
async fn passes_by_canary(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.all_pass(&by(PERMIT)).await)
        .await
}

fn by(rule: &str) -> RuleExpectation {
    RuleExpectation::Named {
        rule: rule.to_owned(),
        of_server: None,
    }
}

fn no_api() -> Failure {
    Failure::NotTestable("this tier's firewall has no API that could be called".to_owned())
}

impl Scene {
    /// Everything that the controller and the API server state now.
    async fn ask(&mut self) -> Result<Stated, Failure> {
        let design = self.design()?;
        let (features, index) = (design.features.clone(), design.syslog.index);
        let question = Question {
            features: &features,
            syslog_index: Some(index),
        };
        Ok(self.lab().await?.ask_platform(question).await)
    }

    fn design(&self) -> Result<&Design, Failure> {
        self.platform.design.as_ref().ok_or_else(|| {
            Failure::Scenario("no step before this one sets up the platform".to_owned())
        })
    }

    /// Writes a policy for the Pods of a name, and judges what becomes of it.
    async fn canary(&mut self, name: &str, host: &str) -> Step {
        let spec = canary_spec(name, host);
        let object = self.lab().await?.write_canary(name, &spec).await?;
        self.platform.canary.clone_from(&object);
        let claim = CanaryClaim {
            check: Check::new("canary-reconciled", "canary reconciled"),
            name: format!("{RUNTIME_NAMESPACE}/{name}"),
            object,
        };
        let lab = self.lab().await?;
        let stated = lab.ask_platform(Question::default()).await;
        self.settle(vec![judge_reconciled(&claim, &stated)])
    }
}

/// One name on TCP 443, and nothing else: the shape that the policy controller writes (reference: aviatrix-dcf.md
/// section 1.6).
fn canary_spec(pods: &str, host: &str) -> Value {
    let selector = json!({"matchLabels": {"stray": pods}});
    json!({
        "smartGroups": [{"name": "anywhere", "selectors": [{"cidr": "0.0.0.0/0"}]}],
        "webGroups": [{"name": "listed", "domains": [host]}],
        "rules": [
            {"name": PERMIT, "action": "permit", "protocol": "tcp", "port": 443, "logging": true,
             "selector": selector, "destinationSmartGroups": [{"name": "anywhere"}], "webGroups": [{"name": "listed"}]},
            {"name": DENY, "action": "deny", "protocol": "any", "logging": true,
             "selector": selector, "destinationSmartGroups": [{"name": "anywhere"}]},
        ],
    })
}
