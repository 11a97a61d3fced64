//! A stream of connections out of one Pod while policies are replaced. The stream is counted in connections and the
//! replacements are awaited: how fast the machine is changes how long it takes, and not what is shown.

use std::net::{IpAddr, SocketAddr};

use fixtures::probe::Protocol;
use fixtures::probe::batch::Spec;
use kube::ResourceExt as _;
use serde_json::json;

use super::policies::is_enforced;
use super::{Error, Lab, RunningProbe};
use crate::evidence::Index;
use crate::judge::list::equals;

/// Connections of one batch, one listed and one unlisted in turn.
const BATCH: usize = 32;
/// Connections under way at the same time.
const AT_ONCE: u16 = 2;

/// What a stream reaches for: a name, and the address behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The name in the ClientHello.
    pub name: String,
    /// Where the connection goes.
    pub address: IpAddr,
}

/// One replacement of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replacement {
    /// Whose.
    pub server: String,
    /// The list from then on.
    pub list: Vec<String>,
}

/// Labels of the connections that a stream made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Streamed {
    /// Those to the listed name.
    pub listed: Vec<String>,
    /// Those to the unlisted one.
    pub unlisted: Vec<String>,
}

struct Stream<'a> {
    lab: &'a Lab,
    pod: &'a str,
    targets: [&'a Target; 2],
    sent: Streamed,
    /// The last batch is the one that is under way; the others are over.
    batches: Vec<RunningProbe>,
}

impl Lab {
    /// Replaces lists one after the other, while the Pod of `server` opens connection after connection to a listed and
    /// an unlisted name: before the first replacement, during each, and after the last.
    ///
    /// # Errors
    /// When the orchestrator refuses a list, or a batch does not start or end.
    pub async fn replace_under_load(
        &mut self,
        server: &str,
        replacements: &[Replacement],
        listed: &Target,
        unlisted: &Target,
    ) -> Result<Streamed, Error> {
        let pod = self.server(server)?.pod.clone();
        let mut sent = Streamed::default();
        for replacement in replacements {
            let policy = self
                .firewall_policy_of(&replacement.server)
                .await?
                .name_any();
            let mut stream = Stream::new(self, &pod, [listed, unlisted], sent);
            stream.start().await?;
            stream.under_way().await?;
            sent = stream.sent;
            let batches = stream.batches;
            self.set_domains(&replacement.server, &replacement.list)
                .await?;
            let mut stream = Stream::new(self, &pod, [listed, unlisted], sent);
            stream.batches = batches;
            stream.until_enforced(&policy, &replacement.list).await?;
            sent = stream.sent;
        }
        let mut stream = Stream::new(self, &pod, [listed, unlisted], sent);
        stream.start().await?;
        stream.over().await?;
        Ok(stream.sent)
    }
}

impl<'a> Stream<'a> {
    fn new(lab: &'a Lab, pod: &'a str, targets: [&'a Target; 2], sent: Streamed) -> Self {
        Self {
            lab,
            pod,
            targets,
            sent,
            batches: Vec::new(),
        }
    }

    /// Goes on until the gateway enforces `list`, then until the batch under way is over. In vain is no error: the judge
    /// says which replacement did not come.
    async fn until_enforced(&mut self, policy: &str, list: &[String]) -> Result<(), Error> {
        let lab = self.lab;
        let enforced = lab.await_policy(policy, |object| {
            is_enforced(object) && equals(&json!(object), list)
        });
        tokio::pin!(enforced);
        loop {
            tokio::select! {
                found = &mut enforced => {
                    found?;
                    break;
                }
                over = self.over() => over?,
            }
            self.start().await?;
        }
        self.over().await
    }

    async fn start(&mut self) -> Result<(), Error> {
        let batch: Vec<(String, Spec)> = (0..BATCH)
            .map(|index| {
                let target = self.targets[index % 2];
                let label = format!(
                    "{} #{}",
                    target.name,
                    self.sent.listed.len() + self.sent.unlisted.len() + index + 1
                );
                (label, spec(target))
            })
            .collect();
        for (index, (label, _)) in batch.iter().enumerate() {
            let own = if index % 2 == 0 {
                &mut self.sent.listed
            } else {
                &mut self.sent.unlisted
            };
            own.push(label.clone());
        }
        let running = self.lab.start_stream(self.pod, &batch, AT_ONCE).await?;
        self.batches.push(running);
        Ok(())
    }

    /// Waits until the first connection of each kind of the batch under way is announced.
    async fn under_way(&self) -> Result<(), Error> {
        let firsts = [&self.sent.listed, &self.sent.unlisted];
        let firsts = firsts.map(|labels| self.batch(labels).last().cloned().unwrap_or_default());
        let what = format!("the connections {firsts:?} to be announced");
        let announced = |index: &Index| {
            let mut all = firsts.iter();
            all.all(|first| index.attempt(first).is_some_and(|seen| seen.sent.is_some()))
                .then_some(())
        };
        let deadline = self.lab.context.deadlines.probe_result;
        self.lab.see_indexed(what, deadline, announced).await
    }

    /// Waits until every connection of the batch under way has ended for the client.
    async fn over(&self) -> Result<(), Error> {
        let labels: Vec<&String> = self
            .batch(&self.sent.listed)
            .chain(self.batch(&self.sent.unlisted))
            .collect();
        let ended = |index: &Index, label: &str| {
            index
                .attempt(label)
                .is_some_and(|seen| seen.result.is_some())
        };
        let all = |index: &Index| labels.iter().all(|label| ended(index, label)).then_some(());
        // Each connection ends by its own time limit at the latest.
        let limits = u32::try_from(BATCH / usize::from(AT_ONCE) + 2).unwrap_or(u32::MAX);
        let deadline = limits * self.lab.context.deadlines.probe_result;
        self.lab
            .see_indexed("the connections of a stream to end", deadline, all)
            .await
    }

    fn batch<'l>(&self, labels: &'l [String]) -> impl Iterator<Item = &'l String> {
        labels.iter().rev().take(BATCH / 2)
    }
}

fn spec(target: &Target) -> Spec {
    let destination = SocketAddr::new(target.address, 443);
    Spec {
        protocol: Protocol::Tls,
        address: destination.ip(),
        port: destination.port(),
        name: Some(target.name.clone()),
        canary: fixtures::canary::generate(),
    }
}
