//! Data in the labels of names: what a Pod asks cluster DNS for, and what of it is resolved beyond the cluster.

use std::fmt::Write as _;

use cucumber::gherkin;
use cucumber::{given, then, when};

use super::system::split;
use crate::judge::lookups::{Lookup, LookupsClaim, judge_lookups};
use crate::judge::{Attempt, Check};
use crate::lab::Probe;
use crate::world::{Failure, Scene, Step, World};

/// Port of a resolver.
const DNS_PORT: u16 = 53;

/// What a Pod asked cluster DNS for.
#[derive(Debug, Default)]
pub struct Lookups {
    server: String,
    /// Labels of queries that carry data, each with the name that it asks for.
    data: Vec<(String, String)>,
    /// A query for a listed name.
    control: Option<(String, String)>,
}

#[given(expr = "cluster DNS forwards queries for {string} alone")]
async fn forwards_alone(world: &mut World, zones: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.forwarded_zones = Some(split(&zones)))
        })
        .await
}

#[when(expr = "as a control, the pod of {string} asks cluster DNS for {string}")]
async fn asks_for_listed(
    world: &mut World,
    server: String,
    name: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let probe = scene.probe_to("dns", &name, DNS_PORT);
            let label = scene.ask_cluster_dns(&server, &probe).await?;
            scene.lookups.control = Some((label, name));
            Ok(())
        })
        .await
}

/// Columns: how the token is written, over which transport, and over how many queries it is spread.
#[when(expr = "the pod of {string} asks cluster DNS for names below {string} that carry a record")]
async fn asks_for_data(
    world: &mut World,
    server: String,
    zone: String,
    step: &gherkin::Step,
) -> Step {
    let table = step.table.clone();
    world
        .act(step, async |scene| {
            for (encoding, transport, queries) in rows(table.as_ref())? {
                let protocol = if transport == "tcp" { "dns-tcp" } else { "dns" };
                let canary = fixtures::canary::generate();
                for name in carriers(&encoding, &canary, queries, &zone)? {
                    let probe = Probe {
                        canary: canary.clone(),
                        ..scene.probe_to(protocol, &name, DNS_PORT)
                    };
                    let label = scene.ask_cluster_dns(&server, &probe).await?;
                    scene.lookups.data.push((label, name));
                }
            }
            scene.lookups.server = server;
            Ok(())
        })
        .await
}

#[then(
    expr = "nothing of it is resolved beyond the cluster, or it is a finding that {string} compensates for"
)]
async fn stays_or_is_found(world: &mut World, control: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.judge_data_in_labels(Some(control)).await
        })
        .await
}

#[then("nothing of it is resolved beyond the cluster")]
async fn stays_inside(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.judge_data_in_labels(None).await)
        .await
}

impl Scene {
    /// Sends one query out of the Pod of a server to its own resolver, and waits for the client's result.
    async fn ask_cluster_dns(&mut self, server: &str, probe: &Probe) -> Result<String, Failure> {
        let pod = self.lab().await?.server(server)?.pod.clone();
        self.probe_from(&pod, server, std::slice::from_ref(probe))
            .await?;
        let label = self.only_attempt()?;
        self.await_outcome(&label).await?;
        Ok(label)
    }

    async fn judge_data_in_labels(&mut self, compensated_by: Option<String>) -> Step {
        let server = self.lookups.server.clone();
        let list = self
            .lab()
            .await?
            .server(&server)?
            .manifest
            .egress_domains
            .clone();
        let data = self.lookups.data.clone();
        let control = self.lookups.control.clone();
        let labels: Vec<String> = data.iter().map(|(label, _)| label.clone()).collect();
        let observations = self.observe_quiet(&labels).await?;
        let lookup = |(label, name): (String, String)| {
            let attempt: Attempt = self.attempt(&observations, &label)?;
            Ok::<_, Failure>(Lookup { attempt, name })
        };
        let claim = LookupsClaim {
            check: Check::new("data-in-dns", format!("data in DNS labels: {server}")),
            list,
            lookups: data.into_iter().map(lookup).collect::<Result<_, _>>()?,
            control: control.map(lookup).transpose()?,
            compensated_by,
            quiet_window: self.context.deadlines.quiet_window,
        };
        let result = judge_lookups(&claim, &observations);
        self.settle(vec![result])
    }
}

fn rows(table: Option<&gherkin::Table>) -> Result<Vec<(String, String, usize)>, Failure> {
    let bad = |row: &[String]| {
        Failure::Scenario(format!(
            "{row:?}: expected encoding (plain, hex), transport (udp, tcp), queries (1 or more)"
        ))
    };
    let table = table.ok_or_else(|| bad(&[]))?;
    let rows = table.rows.iter().skip(1);
    rows.map(|row| match row.as_slice() {
        [encoding, transport, queries] if transport == "udp" || transport == "tcp" => {
            let queries = queries.parse().map_err(|_| bad(row))?;
            Ok((encoding.clone(), transport.clone(), queries))
        }
        other => Err(bad(other)),
    })
    .collect()
}

/// Names below `zone` whose labels carry a token: the whole of it, or a piece each.
fn carriers(
    encoding: &str,
    token: &str,
    queries: usize,
    zone: &str,
) -> Result<Vec<String>, Failure> {
    let data = match encoding {
        "plain" => token.to_owned(),
        "hex" => token.bytes().fold(String::new(), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        }),
        other => {
            return Err(Failure::Scenario(format!(
                "{other:?} is no encoding; expected plain or hex"
            )));
        }
    };
    let size = data.len().div_ceil(queries.max(1));
    let pieces = data.as_bytes().chunks(size).zip(1..);
    Ok(pieces
        .map(|(piece, number)| {
            let piece = String::from_utf8_lossy(piece);
            // A piece may begin or end with a hyphen, which is no label of a host name: a letter stands at both ends.
            match queries {
                1 => format!("{piece}.{zone}"),
                _ => format!("q{number}-{piece}x.{zone}"),
            }
        })
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use rstest::rstest;

    const TOKEN: &str = "cnry-0123456789abcdef";

    #[rstest]
    #[case::plain("plain", 1, &["cnry-0123456789abcdef.z.test"])]
    #[case::hex("hex", 1, &["636e72792d30313233343536373839616263646566.z.test"])]
    #[case::split("plain", 3, &["q1-cnry-01x.z.test", "q2-2345678x.z.test", "q3-9abcdefx.z.test"])]
    fn the_whole_token_is_in_the_labels(
        #[case] encoding: &str,
        #[case] queries: usize,
        #[case] names: &[&str],
    ) {
        assert_eq!(carriers(encoding, TOKEN, queries, "z.test").unwrap(), names);
    }
}
