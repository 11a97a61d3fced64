//! Waits until the firewall enforces what a Given step set up.
//!
//! A Pod that is ready says nothing about the firewall: it may not know the Pod's address or the server's policy yet.
//! Scenarios about the first packet (EGR-29, EGR-33) launch their server without this wait.

use std::sync::Arc;

use super::{Error, Lab, RUNTIME_NAMESPACE};
use crate::evidence::{Event, Recorded};
use crate::judge::PodFact;

impl Lab {
    /// Waits until the gateway enforces a policy of a server, resolved against the address of the server's Pod.
    ///
    /// A timeout is not an error here: what the firewall does instead is for the checks to find. It is noted.
    ///
    /// # Errors
    /// When no step runs the server, or its Pod has no address.
    pub async fn await_enforced(&self, name: &str) -> Result<(), Error> {
        let server = self.server(name)?;
        let pod = self.pod_fact(&server.pod).await?;
        let what = format!("the firewall to enforce the policy of {name:?} for its Pod");
        self.await_push(what, &pod, Some(&server.id)).await
    }

    /// Waits until the gateway's policy is resolved against the address of a Pod that has no policy of its own.
    ///
    /// A timeout is not an error, as in [`Lab::await_enforced`].
    ///
    /// # Errors
    /// When the Pod has no address.
    pub async fn await_known(&self, pod: &str) -> Result<(), Error> {
        let pod = self.pod_fact(pod).await?;
        let what = format!("the firewall to know the Pod {:?}", pod.name);
        self.await_push(what, &pod, None).await
    }

    async fn await_push(
        &self,
        what: String,
        pod: &PodFact,
        server: Option<&str>,
    ) -> Result<(), Error> {
        let deadline = self.context.deadlines.policy_enforced;
        let enforced = |events: &[Arc<Recorded>]| in_force(events, pod, server).then_some(());
        if !self.saw(what.clone(), deadline, enforced).await? {
            let text = format!("waited {} s for {what}, in vain", deadline.as_secs_f64());
            self.recorder.record(Event::Note { text });
        }
        Ok(())
    }
}

/// Whether the policy that the gateway acknowledged last holds the Pod's address as this Pod's, and a policy object of
/// the server with this id.
fn in_force(events: &[Arc<Recorded>], pod: &PodFact, server: Option<&str>) -> bool {
    let newest = events
        .iter()
        .rev()
        .find_map(|recorded| match &recorded.event {
            Event::PolicyPushed {
                objects, addresses, ..
            } => Some((objects, addresses)),
            _ => None,
        });
    let Some((objects, addresses)) = newest else {
        return false;
    };
    let holder = format!("{RUNTIME_NAMESPACE}/{}", pod.name);
    if addresses.get(&pod.address) != Some(&holder) {
        return false;
    }
    let Some(server) = server else { return true };
    let rules = events
        .iter()
        .rev()
        .find_map(|recorded| match &recorded.event {
            Event::RulesKnown { rules } => Some(rules),
            _ => None,
        });
    rules.is_some_and(|rules| {
        let mut own = rules
            .values()
            .filter(|rule| rule.server.as_deref() == Some(server))
            .filter_map(|rule| rule.part_of.as_ref());
        own.any(|object| objects.contains(object))
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::collections::{BTreeMap, BTreeSet};
    use std::net::IpAddr;

    use jiff::Timestamp;
    use rstest::rstest;
    use uuid::Uuid;

    use super::*;
    use crate::judge::RuleRef;

    const OBJECT: &str = "obot-mcp/ms1abcde";

    fn pushed(objects: &[&str], holder: &str) -> Event {
        Event::PolicyPushed {
            generation: 1,
            at: Timestamp::UNIX_EPOCH,
            objects: objects
                .iter()
                .map(|&name| name.to_owned())
                .collect::<BTreeSet<_>>(),
            addresses: BTreeMap::from([(IpAddr::from([10, 244, 0, 7]), holder.to_owned())]),
        }
    }

    fn known(server: &str) -> Event {
        let rule = RuleRef {
            name: "deny-all-external".to_owned(),
            part_of: Some(OBJECT.to_owned()),
            server: Some(server.to_owned()),
            default_action: false,
        };
        Event::RulesKnown {
            rules: BTreeMap::from([(Uuid::nil(), rule)]),
        }
    }

    #[rstest]
    #[case::in_force(vec![pushed(&[OBJECT], "obot-mcp/pod-2"), known("ms1abcde")], true)]
    #[case::no_push(vec![known("ms1abcde")], false)]
    #[case::rules_not_known(vec![pushed(&[OBJECT], "obot-mcp/pod-2")], false)]
    #[case::rules_of_another_server(vec![pushed(&[OBJECT], "obot-mcp/pod-2"), known("ms1fghij")], false)]
    #[case::policy_not_in_the_push(vec![pushed(&[], "obot-mcp/pod-2"), known("ms1abcde")], false)]
    #[case::address_of_the_former_pod(vec![pushed(&[OBJECT], "obot-mcp/pod-1"), known("ms1abcde")], false)]
    #[case::lifted_again(
        vec![pushed(&[OBJECT], "obot-mcp/pod-2"), known("ms1abcde"), pushed(&[], "obot-mcp/pod-2")],
        false
    )]
    fn only_the_newest_push_counts(#[case] events: Vec<Event>, #[case] expected: bool) {
        let events: Vec<Arc<Recorded>> = events
            .into_iter()
            .enumerate()
            .map(|(seq, event)| {
                Arc::new(Recorded {
                    seq: seq as u64,
                    at: Timestamp::UNIX_EPOCH,
                    event,
                })
            })
            .collect();
        let pod = PodFact {
            namespace: RUNTIME_NAMESPACE.to_owned(),
            name: "pod-2".to_owned(),
            address: [10, 244, 0, 7].into(),
            server: None,
            since: Timestamp::UNIX_EPOCH,
            until: None,
        };
        assert_eq!(in_force(&events, &pod, Some("ms1abcde")), expected);
    }
}
