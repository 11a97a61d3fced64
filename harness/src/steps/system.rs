//! Given: the firewall, the far ends, the orchestrator and what runs on it.

use cucumber::given;

use crate::evidence::Event;
use crate::scenario_data::ServerManifest;
use crate::world::{Failure, Scene, Step, World};

#[given("the firewall denies and logs what no policy permits")]
async fn default_action_denies(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.default_action_denies = true)
        })
        .await
}

#[given("the orchestrator's default-deny setting is on")]
async fn default_deny_setting(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.default_deny_setting = true)
        })
        .await
}

/// A control of the far end itself: a collector that records nothing would make every denial look good.
#[given(expr = "the attacker's collector {string} is up and records what reaches it")]
async fn collector_is_up(world: &mut World, host: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let canary = fixtures::canary::generate();
            let lab = scene.lab().await?;
            lab.far_ends().visit(&host, &canary).await?;
            let (far_end, token) = (host.clone(), canary.clone());
            scene.recorder.record(Event::FarEndVisited { far_end, canary: token });
            let seen = |event: &Event| matches!(event, Event::Receipt(receipt) if receipt.endpoint == host && receipt.canaries.contains(&canary));
            let deadline = scene.context.deadlines.probe_result;
            let lab = scene.lab().await?;
            let what = format!("a receipt of {host} for a request from elsewhere on the internet");
            lab.see(what, deadline, |events| events.iter().any(|recorded| seen(&recorded.event)).then_some(())).await?;
            Ok(())
        })
        .await
}

#[given(expr = "the orchestrator runs the server {string}, whose list holds {string}")]
async fn server_with_list(
    world: &mut World,
    name: String,
    domains: String,
    step: &gherkin::Step,
) -> Step {
    let stated = Stated {
        domains: split(&domains),
        deny_all: None,
    };
    world
        .act(step, async |scene| run_server(scene, &name, stated).await)
        .await
}

#[given(expr = "the orchestrator runs the server {string}, which denies all egress")]
async fn server_that_denies_all(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    let stated = Stated {
        domains: Vec::new(),
        deny_all: Some(true),
    };
    world
        .act(step, async |scene| run_server(scene, &name, stated).await)
        .await
}

#[given(expr = "the orchestrator runs the server {string}, which says nothing about egress")]
async fn server_that_says_nothing(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    let stated = Stated {
        domains: Vec::new(),
        deny_all: None,
    };
    world
        .act(step, async |scene| run_server(scene, &name, stated).await)
        .await
}

#[given(
    expr = "the orchestrator runs the server {string}, which says that it does not deny all egress"
)]
async fn server_that_denies_nothing(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    let stated = Stated {
        domains: Vec::new(),
        deny_all: Some(false),
    };
    world
        .act(step, async |scene| run_server(scene, &name, stated).await)
        .await
}

#[given(expr = "a pod {string} runs in the servers' namespace without any policy")]
async fn stray_pod(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            lab.run_stray_pod(&name).await?;
            Ok(lab.await_known(&name).await?)
        })
        .await
}

/// What a scenario says about a server's manifest.
#[derive(Debug, PartialEq, Eq)]
struct Stated {
    domains: Vec<String>,
    deny_all: Option<bool>,
}

/// Creates and launches a server, after checking that its manifest says what the scenario says about it.
async fn run_server(scene: &mut Scene, name: &str, stated: Stated) -> Step {
    let manifest = manifest_of(scene, name, stated)?;
    let lab = scene.lab().await?;
    lab.run_server(name, &manifest).await?;
    Ok(lab.await_enforced(name).await?)
}

fn manifest_of(scene: &Scene, name: &str, stated: Stated) -> Result<ServerManifest, Failure> {
    let manifest = scene
        .context
        .project
        .server(name)
        .map_err(crate::lab::Error::from)?;
    let found = Stated {
        domains: manifest.egress_domains.clone(),
        deny_all: manifest.deny_all_egress,
    };
    if found != stated {
        let path = manifest.path.display();
        return Err(Failure::Scenario(format!(
            "{path}: it says {found:?}, but the scenario says {stated:?}; make them agree"
        )));
    }
    Ok(manifest)
}

impl Scene {
    /// The manifest of a server that the scenario states by its list alone.
    pub(super) fn manifest_with_list(
        &self,
        name: &str,
        domains: &str,
    ) -> Result<ServerManifest, Failure> {
        let stated = Stated {
            domains: split(domains),
            deny_all: None,
        };
        manifest_of(self, name, stated)
    }
}

/// A list in a sentence: items separated by commas.
pub(super) fn split(list: &str) -> Vec<String> {
    list.split(',')
        .map(|item| item.trim().to_owned())
        .filter(|item| !item.is_empty())
        .collect()
}
