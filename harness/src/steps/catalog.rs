//! Catalog entries, the servers that users make from them, and multi-user servers.

use cucumber::gherkin;
use cucumber::{then, when};
use serde_json::{Value, json};

use super::system::split;
use crate::judge::Check;
use crate::judge::authoring::{OutdatedClaim, judge_outdated};
use crate::world::{Failure, Scene, Step, World};

/// What the steps of this module hand to one another: ids of the orchestrator.
#[derive(Debug, Default)]
pub struct FromCatalog {
    entry: String,
    server: String,
    multi_user: String,
}

#[when(
    expr = "an administrator adds a catalog entry and a multi-user server that list {string}, and a user makes a server from the entry"
)]
async fn catalog_is_filled(world: &mut World, domains: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let domains = split(&domains);
            let manifest = manifest(&domains);
            let orchestrator = scene.lab().await?.orchestrator().clone();
            let entry = orchestrator.create_entry(&manifest).await.map_err(lab)?;
            let server = orchestrator.create_from(&entry).await.map_err(lab)?;
            let multi_user = orchestrator
                .create_multi_user(&manifest)
                .await
                .map_err(lab)?;
            scene
                .authoring
                .expect("the server of the entry", &server, &domains);
            scene
                .authoring
                .expect("the multi-user server", &multi_user, &domains);
            scene.catalog = FromCatalog {
                entry,
                server,
                multi_user,
            };
            Ok(())
        })
        .await
}

#[when(expr = "an administrator changes the list of the entry to {string}")]
async fn entry_changes(world: &mut World, domains: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let entry = scene.catalog.entry.clone();
            let changed = manifest(&split(&domains));
            let orchestrator = scene.lab().await?.orchestrator();
            let answer = orchestrator.update_entry(&entry, &changed).await;
            answer.map_err(lab)
        })
        .await
}

#[then("the server of the entry is reported to be outdated, and the multi-user server is not")]
async fn server_is_outdated(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.outdated(true).await)
        .await
}

#[when(expr = "the user updates the server from the entry, whose list is {string}")]
async fn update_is_triggered(world: &mut World, domains: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let server = scene.catalog.server.clone();
            let updated = scene
                .lab()
                .await?
                .orchestrator()
                .trigger_update(&server)
                .await;
            updated.map_err(lab)?;
            let words = "the server of the entry";
            scene.authoring.expect(words, &server, &split(&domains));
            Ok(())
        })
        .await
}

#[then("the server of the entry is up to date")]
async fn server_is_up_to_date(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.outdated(false).await)
        .await
}

impl Scene {
    async fn outdated(&mut self, expected: bool) -> Step {
        let (server, multi_user) = (self.catalog.server.clone(), self.catalog.multi_user.clone());
        let orchestrator = self.lab().await?.orchestrator().clone();
        let name = match expected {
            true => "outdated after the entry changed",
            false => "up to date after the update",
        };
        let claim = OutdatedClaim {
            check: Check::new("entry-update", name),
            expected,
            server: orchestrator.server(&server).await.map_err(lab)?,
            multi_user: orchestrator.multi_user(&multi_user).await.map_err(lab)?,
        };
        self.settle(vec![judge_outdated(&claim)])
    }
}

fn lab(error: crate::lab::orchestrator::Error) -> Failure {
    Failure::Lab(error.into())
}

/// A server that lists `domains` and is not launched.
fn manifest(domains: &[String]) -> Value {
    json!({
        "name": "catalog", "runtime": "containerized",
        "containerizedConfig": {
            "image": "containment.test/fetcher:1.0.0", "port": 8080, "path": "/mcp", "egressDomains": domains,
        },
    })
}
