//! Permits that stand before the servers' own policies (Tier 1) and the default action behind them.

use cucumber::{given, when};

use crate::lab;
use crate::world::{Step, World};

/// Before the system runs this is part of its set-up; afterwards it takes effect at once.
#[given(expr = "Tier 1 of the firewall holds the permits {string}")]
#[when(expr = "Tier 1 of the firewall holds the permits {string} again")]
async fn tier_one_holds(world: &mut World, name: String) -> Step {
    world
        .act(async |scene| {
            let data = scene
                .context
                .project
                .tier_one(&name)
                .map_err(lab::Error::from)?;
            if scene.runs() {
                Ok(scene.lab().await?.set_tier_one(&data).await?)
            } else {
                scene.set_up(|setup| setup.tier_one.push(data))
            }
        })
        .await
}

#[when(expr = "the permits {string} are taken off Tier 1 of the firewall")]
async fn tier_one_loses(world: &mut World, name: String) -> Step {
    world
        .act(async |scene| Ok(scene.lab().await?.clear_tier_one(&name).await?))
        .await
}
