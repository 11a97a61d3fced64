//! Servers that npx fetches from a package registry when their Pod starts.

use cucumber::gherkin;
use cucumber::{given, then, when};
use fixtures::receipt::ReceiptEvent;

use super::system::split;
use super::verdict::Rule;
use crate::evidence::Action;
use crate::judge::attack::SECOND_TRY;
use crate::judge::package::{StartSeen, judge_does_not_start, judge_starts};
use crate::judge::{Attempt, Check, Exchange, Observations, Protocol, Sent};
use crate::lab::package::Beginning;
use crate::tier::node_js;
use crate::world::{Failure, Scene, Step, World};

/// The moments at which the compromised package acts: without all of them the attack did not happen.
const PHASES: [&str; 4] = [
    "(at installation)",
    "(at start-up)",
    "(during the call)",
    SECOND_TRY,
];
/// How npm begins each line about what went wrong.
const NPM_ERROR: &str = "npm error";

#[given("npx servers can run here")]
async fn npx_can_run(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |_| {
            node_js::find()
                .map(drop)
                .map_err(|missing| Failure::NotTestable(missing.to_string()))
        })
        .await
}

#[when(expr = "the orchestrator launches the server {string} with the list {string}")]
async fn launched_with_list(
    world: &mut World,
    name: String,
    domains: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let manifest = scene
                .context
                .project
                .server(&name)
                .map_err(crate::lab::Error::from)?
                .with_egress_domains(&split(&domains));
            scene.lab().await?.launch_server(&name, &manifest).await?;
            Ok(())
        })
        .await
}

#[when(expr = "the orchestrator restarts the server {string}")]
async fn restarted(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            Ok(scene.lab().await?.restart_server(&name).await?)
        })
        .await
}

/// Whoever could fetch a package got past the gateway by the server's own rules: from then on they decide on everything.
#[then(
    expr = "each attempt to reach {string}, from the install script's on, is blocked by the server's own policy"
)]
async fn attempts_blocked(world: &mut World, host: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let own = Rule::own_denial(scene.sender()?);
            scene
                .dependency_blocked(&host, &PHASES, |_| own.clone())
                .await
        })
        .await
}

/// npm's own words and a Pod that is not ready. Whether it was the firewall that stopped npm is the next step's to say.
#[then(expr = "the server {string} does not start, as npm gets no package")]
async fn does_not_start(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let began = scene.lab().await?.beginning(&name, NPM_ERROR).await?;
            let ready = scene.lab().await?.is_ready(&name).await?;
            let said = match &began {
                Some(Beginning::Said(line)) => Some(line.as_str()),
                Some(Beginning::Ready) | None => None,
            };
            let check = Check::new("does-not-start", "does not start");
            scene.settle(vec![judge_does_not_start(&check, &name, ready, said)])
        })
        .await
}

#[then(
    expr = "each request of npm to {string} is blocked by the server's own policy and traces to the server {string}"
)]
async fn npm_blocked(
    world: &mut World,
    registry: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let observations = scene.observe().await?;
            let attempts = scene.flows_of_npm(&observations, &registry, &server);
            let results = scene
                .judge_unannounced(attempts, Rule::own_denial(&server), &server)
                .await?;
            scene.settle(results)
        })
        .await
}

#[then(expr = "the server {string} starts from packages of {string}")]
async fn starts(world: &mut World, name: String, registry: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let ready = scene.lab().await?.is_ready(&name).await?;
            let observations = scene.observe().await?;
            let packages: Vec<String> = observations
                .receipts
                .iter()
                .filter(|receipt| receipt.endpoint == registry)
                .filter_map(|receipt| match &receipt.event {
                    ReceiptEvent::Request {
                        path, status: 200, ..
                    } => path.rsplit('/').next(),
                    _ => None,
                })
                .filter(|file| file.ends_with(".tgz"))
                .map(str::to_owned)
                .collect();
            let logged = observations.log.read().is_some_and(|log| {
                log.records.iter().any(|record| {
                    record.action == Action::Permit && record.sni.as_deref() == Some(&registry)
                })
            });
            let seen = StartSeen {
                ready,
                packages,
                logged,
            };
            let check = Check::new("starts", "starts");
            scene.settle(vec![judge_starts(&check, &name, &registry, &seen)])
        })
        .await
}

impl Scene {
    /// Every connection that a server's Pod opened to the registry. npm announces none: the packets at the Pod stand
    /// for the announcement.
    fn flows_of_npm(
        &self,
        observations: &Observations,
        registry: &str,
        server: &str,
    ) -> Vec<Attempt> {
        let host = self.context.internet.host(registry);
        let address = host.and_then(|host| host.addresses.first().copied());
        let pods: Vec<_> = observations
            .pods
            .iter()
            .filter(|pod| pod.server.as_deref() == Some(server))
            .map(|pod| pod.address)
            .collect();
        let flows = observations.pod_side.read().map(|capture| capture.flows());
        let mut sent: Vec<Option<Sent>> = flows
            .into_iter()
            .flatten()
            .filter(|flow| flow.protocol == Protocol::Tcp)
            .filter(|flow| {
                Some(flow.destination.ip()) == address && pods.contains(&flow.source.ip())
            })
            .map(|flow| {
                Some(Sent {
                    at: flow.first_at,
                    protocol: Protocol::Tcp,
                    exchange: Exchange::Tls,
                    source: flow.source,
                    destination: flow.destination,
                    host: Some(registry.to_owned()),
                    sni: Some(registry.to_owned()),
                })
            })
            .collect();
        if sent.is_empty() {
            // The judge says what is missing.
            sent.push(None);
        }
        let attempt = |(index, sent)| Attempt {
            label: format!("npm's request #{}", index + 1),
            // Nothing marks what npm sends: only its connection can tell.
            canary: fixtures::canary::generate(),
            sent,
            result: None,
        };
        sent.into_iter().enumerate().map(attempt).collect()
    }
}
