//! Prerequisites of the platform: that they hold, and that the suite names one that does not.

use std::sync::Arc;

use cucumber::gherkin;
use cucumber::{given, then};

use crate::evidence::{Event, Recorded, gateway_log};
use crate::judge::masquerade::{judge_masquerade_named, judge_own_addresses};
use crate::judge::{Attempt, Check, Observations};
use crate::world::{Failure, Scene, Step, World};

#[given("the cluster masquerades its pods")]
async fn cluster_masquerades(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.masquerade = true)
        })
        .await
}

#[then("the gateway sees the pods' own addresses")]
async fn own_addresses(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let observations = scene.observe().await?;
            let attempts = scene.last_attempts_in(&observations)?;
            let check = Check::new("pod-addresses", "Pod addresses reach the gateway");
            scene.settle(vec![judge_own_addresses(&check, &attempts, &observations)])
        })
        .await
}

#[then("masquerade is named, and no policy is blamed")]
async fn masquerade_named(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let deadline = scene.context.deadlines.denial_logged;
            // In vain is no error here: the judge says what was not seen.
            let what = "a record of the gateway that names a node";
            scene.lab().await?.saw(what, deadline, names_a_node).await?;
            let observations = scene.observe().await?;
            scene.lab().await?.end_probes();
            let attempts = scene.last_attempts_in(&observations)?;
            let check = Check::new("masquerade-named", "masquerade is named");
            scene.settle(vec![judge_masquerade_named(
                &check,
                &attempts,
                &observations,
            )])
        })
        .await
}

fn names_a_node(events: &[Arc<Recorded>]) -> Option<()> {
    let nodes: Vec<_> = events
        .iter()
        .filter_map(|recorded| match &recorded.event {
            Event::NodeKnown { address, .. } => Some(*address),
            _ => None,
        })
        .collect();
    let names = |text: &str| {
        let record = gateway_log::parse_line(0, text).ok().flatten();
        record.is_some_and(|record| nodes.contains(&record.source.ip()))
    };
    events
        .iter()
        .any(|recorded| matches!(&recorded.event, Event::GatewayLog { text, .. } if names(text)))
        .then_some(())
}

impl Scene {
    pub(super) fn last_attempts_in(
        &self,
        observations: &Observations,
    ) -> Result<Vec<Attempt>, Failure> {
        let labels = self.last_attempts()?;
        labels
            .iter()
            .map(|label| self.attempt(observations, label))
            .collect()
    }
}
