//! Policies replaced under load: connections that span every replacement.

use cucumber::gherkin;
use cucumber::{then, when};
use jiff::Timestamp;

use crate::evidence::Event;
use crate::judge::replacement::{ReplacementClaim, judge_replacement};
use crate::judge::{Attempt, Check};
use crate::lab::replacement::{Replacement, Streamed, Target};
use crate::world::{Failure, Scene, Step, World};

/// Joins a list and leaves it again: neither the listed nor the unlisted name of a scenario.
const COMES_AND_GOES: &str = "api.anthropic.com";

/// What was sent while policies were replaced.
#[derive(Debug, Default)]
pub struct Replaced {
    began: Option<Timestamp>,
    updates: usize,
    streamed: Streamed,
}

#[when(
    expr = "the lists of {string} and {string} are replaced {int} times, while the pod of the first goes on requesting {string} and {string}"
)]
async fn replaced_under_load(
    world: &mut World,
    first: String,
    second: String,
    times: usize,
    listed: String,
    unlisted: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.lab().await?.await_enforced(&first).await?;
            scene.lab().await?.await_enforced(&second).await?;
            let (listed, unlisted) = (scene.target(&listed)?, scene.target(&unlisted)?);
            let mut replacements = Vec::new();
            for number in 0..times {
                let server = if number % 2 == 0 { &first } else { &second };
                let mut list = scene
                    .lab()
                    .await?
                    .server(server)?
                    .manifest
                    .egress_domains
                    .clone();
                if number / 2 % 2 == 0 {
                    list.push(COMES_AND_GOES.to_owned());
                }
                let server = server.clone();
                replacements.push(Replacement { server, list });
            }
            let began = Timestamp::now();
            let lab = scene.lab().await?;
            let streamed = lab
                .replace_under_load(&first, &replacements, &listed, &unlisted)
                .await?;
            scene.replaced = Replaced {
                began: Some(began),
                updates: times,
                streamed,
            };
            Ok(())
        })
        .await
}

#[then("each request for the listed name passed and none for the unlisted one did, at any instant")]
async fn no_gap(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let began = scene.replaced.began.ok_or_else(|| {
                Failure::Scenario("no step replaced a list under load".to_owned())
            })?;
            let Streamed { listed, unlisted } = scene.replaced.streamed.clone();
            let labels = [listed.clone(), unlisted.clone()].concat();
            scene.await_decisions(&labels).await?;
            let observations = scene.observe_quiet(&labels).await?;
            scene.lab().await?.end_probes();
            let attempts = |labels: &[String]| -> Result<Vec<Attempt>, Failure> {
                labels
                    .iter()
                    .map(|label| scene.attempt(&observations, label))
                    .collect()
            };
            let claim = ReplacementClaim {
                check: Check::new("replaced-without-a-gap", "policies replaced without a gap"),
                pushes: scene.pushes_since(began),
                updates: scene.replaced.updates,
                listed: attempts(&listed)?,
                unlisted: attempts(&unlisted)?,
                quiet_window: scene.context.deadlines.quiet_window,
            };
            scene.settle(vec![judge_replacement(&claim, &observations)])
        })
        .await
}

impl Scene {
    /// When the gateway acknowledged each policy since then.
    fn pushes_since(&self, began: Timestamp) -> Vec<Timestamp> {
        let events = self.recorder.events();
        events
            .iter()
            .filter_map(|recorded| match &recorded.event {
                Event::PolicyPushed { at, .. } if *at >= began => Some(*at),
                _ => None,
            })
            .collect()
    }

    fn target(&self, name: &str) -> Result<Target, Failure> {
        let host = self.context.internet.host(name);
        let address =
            host.and_then(|host| host.addresses.iter().copied().find(|one| one.is_ipv4()));
        let address = address.ok_or_else(|| {
            Failure::Scenario(format!("scenarios/internet.yaml has no host {name:?}"))
        })?;
        Ok(Target {
            name: name.to_owned(),
            address,
        })
    }
}
