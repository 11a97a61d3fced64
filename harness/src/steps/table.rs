//! The drawn truth table: many flows at once, compared with the model of the documented policy.

use cucumber::gherkin;
use cucumber::{then, when};

use crate::fuzz::table::Table;
use crate::world::{Failure, Step, World};

#[when(expr = "{int} flows under policies of {int} servers are drawn from seed {int} and sent")]
async fn drawn_flows(
    world: &mut World,
    flows: usize,
    servers: usize,
    seed: u64,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let table = Table::draw(seed, servers, flows, &scene.context.internet);
            scene.set_up(|setup| table.settings(setup))?;
            let (context, recorder) = (scene.context.clone(), scene.recorder.clone());
            let lab = scene.lab().await?;
            let results = table.check(&context, &recorder, lab).await?;
            scene.drawn = Some(results);
            Ok(())
        })
        .await
}

#[then("each of them comes to what the documents say")]
async fn as_documented(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let results = scene.drawn.take().ok_or_else(|| {
                Failure::Scenario("no step before this one draws flows".to_owned())
            })?;
            scene.judges_all_announced();
            scene.settle(results)
        })
        .await
}
