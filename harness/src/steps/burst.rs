//! Servers that are created and launched together.

use cucumber::gherkin;
use cucumber::{then, when};
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::system::split;
use crate::judge::Check;
use crate::judge::burst::{BurstQuestion, Started, answer_burst};
use crate::lab::RUNTIME_NAMESPACE;
use crate::scenario_data::ServerManifest;
use crate::world::{Failure, Scene, Step, World};

/// Image of a server whose dependency acts as soon as its Pod starts.
const IMAGE: &str = "containment.test/ehr-sync:1.0.0";

#[when(expr = "{int} servers whose lists hold {string} are created and launched together")]
async fn launched_together(
    world: &mut World,
    number: usize,
    list: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let domains = split(&list);
            let servers: Vec<(String, ServerManifest)> = (1..=number)
                .map(|number| format!("burst-{number:02}"))
                .map(|name| {
                    let manifest = ServerManifest::generated(&name, IMAGE, &domains, None);
                    (name, manifest)
                })
                .collect();
            scene.lab().await?.run_servers(&servers).await?;
            scene.burst = servers.into_iter().map(|(name, _)| name).collect();
            Ok(())
        })
        .await
}

#[then(
    "it is recorded how long each ran before its policy was enforced, and what governed it meanwhile"
)]
async fn recorded_how_long(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let servers = scene.burst.clone();
            if servers.is_empty() {
                return Err(Failure::Scenario(
                    "no step launched servers together".to_owned(),
                ));
            }
            let mut started = Vec::new();
            for server in &servers {
                started.push(scene.started(server).await?);
            }
            let observations = scene.observe().await?;
            let question = BurstQuestion {
                check: Check::new("burst", "servers that start together"),
                started,
            };
            scene.settle(vec![answer_burst(&question, &observations)])
        })
        .await
}

impl Scene {
    /// Since when the Pod of a server holds its address, and since when the gateway enforces its policy for it.
    async fn started(&mut self, server: &str) -> Result<Started, Failure> {
        let lab = self.lab().await?;
        let pod = lab.pod_fact(&lab.server(server)?.pod).await?;
        let policy = lab.firewall_policy_of(server).await?.name_any();
        // In vain is no error here: a policy that never came is an answer.
        lab.await_enforced(server).await?;
        let object = format!("{RUNTIME_NAMESPACE}/{policy}");
        let enforced_at = self.first_push(
            |objects, addresses| objects.contains(&object) && addresses.contains_key(&pod.address),
            Timestamp::MIN,
        );
        Ok(Started { pod, enforced_at })
    }
}
