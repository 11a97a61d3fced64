//! The drawn truth table: many flows at once, compared with the model of the documented policy.

use cucumber::gherkin;
use cucumber::then;

use crate::fuzz::table::Table;
use crate::world::{Step, World};

#[then(
    expr = "{int} flows under policies of {int} servers drawn from seed {int} come to what the documents say"
)]
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
            scene.judges_all_announced();
            scene.settle(results)
        })
        .await
}
