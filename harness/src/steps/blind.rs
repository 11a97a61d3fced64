//! A policy controller that reports ready and sees nothing.

use cucumber::gherkin;
use cucumber::{then, when};

use crate::judge::Check;
use crate::judge::blind::{BlindClaim, judge_blind_but_ready};
use crate::lab::blind::Blindness;
use crate::world::{Failure, Step, World};

#[when(
    regex = r"^the policy controller starts again while (the orchestrator's storage is out of reach|its key is refused|the API server is out of reach)$"
)]
async fn starts_blind(world: &mut World, why: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let blindness = match why.as_str() {
                "the orchestrator's storage is out of reach" => Blindness::Storage,
                "its key is refused" => Blindness::Key,
                "the API server is out of reach" => Blindness::ApiServer,
                other => return Err(Failure::Scenario(format!("{other:?} blinds nothing"))),
            };
            Ok(scene
                .lab()
                .await?
                .blind_policy_controller(blindness)
                .await?)
        })
        .await
}

#[then(
    expr = "the policy controller reports ready, and has made nothing of the policy of {string}"
)]
async fn reports_ready(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            let policies = lab.firewall_policies_of(&server).await?;
            let names = policies
                .iter()
                .filter_map(|policy| policy.metadata.name.clone());
            let claim = BlindClaim {
                check: Check::new("blind-but-ready", "ready, and blind"),
                pods: lab.provider_pods().await?,
                policies: names.collect(),
                server,
            };
            scene.settle(vec![judge_blind_but_ready(&claim)])
        })
        .await
}
