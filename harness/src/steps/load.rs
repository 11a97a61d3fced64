//! One server's load, and what it leaves of the others' egress and of the log.

use cucumber::gherkin;
use cucumber::{then, when};

use crate::evidence::{Event, gateway_log};
use crate::judge::load::{LoadClaim, judge_load_recorded};
use crate::judge::{Check, Protocol};
use crate::lab::{Load, Probe};
use crate::world::{Failure, Step, World};

#[when(
    expr = "the pod of {string} holds {int} connections to {string} that never finish a ClientHello, and sends {int} datagrams"
)]
async fn holds_load(
    world: &mut World,
    server: String,
    connections: u32,
    host: String,
    datagrams: u16,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let probe = Probe {
                load: Some(Load {
                    connections,
                    datagrams,
                }),
                ..scene.probe_to("flood", &host, 443)
            };
            let label = format!("load of {server}");
            scene.lab().await?.put_load(&pod, &probe, &label).await?;
            scene.loads.push((server, label));
            Ok(())
        })
        .await
}

#[then(expr = "what is refused of the load of {string} is recorded")]
async fn load_is_recorded(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let own = scene.loads.iter().find(|(of, _)| *of == server).cloned();
            let (_, label) = own.ok_or_else(|| {
                Failure::Scenario(format!("no step put a load on the Pod of {server:?}"))
            })?;
            let address = scene.pod_fact(&server).await?.address;
            let deadline = scene.context.deadlines.denial_logged;
            let of = |event: &Event, protocol| match event {
                Event::GatewayLog { text, .. } => matches!(gateway_log::parse_line(0, text),
                    Ok(Some(record)) if record.source.ip() == address && record.protocol == protocol),
                _ => false,
            };
            // In vain is no error here: the judge says what is missing.
            let lab = scene.lab().await?;
            lab.saw("records of the load's refusal", deadline, |events| {
                let has = |protocol| events.iter().any(|recorded| of(&recorded.event, protocol));
                (has(Protocol::Tcp) && has(Protocol::Udp)).then_some(())
            })
            .await?;
            let observations = scene.observe().await?;
            let claim = LoadClaim {
                check: Check::new("load-recorded", format!("load of {server} recorded")),
                address,
                load: scene.attempt(&observations, &label)?,
                server,
            };
            scene.settle(vec![judge_load_recorded(&claim, &observations)])
        })
        .await
}
