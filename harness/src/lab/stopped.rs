//! Flows that end on a node, at a NetworkPolicy, and never reach the firewall.

use super::Lab;
use crate::evidence::Event;

impl Lab {
    /// Records what NetworkPolicies stopped since the last call; false where this tier can't see that.
    pub async fn record_stopped_on_nodes(&self) -> bool {
        let Some(stopped) = self.cluster.stopped_on_nodes().await else {
            return false;
        };
        let events = self.recorder.events();
        let known = |flow: &_| {
            events
                .iter()
                .any(|recorded| matches!(&recorded.event, Event::StoppedOnNode(own) if own == flow))
        };
        let mut new: Vec<_> = stopped.into_iter().filter(|flow| !known(flow)).collect();
        new.dedup();
        for flow in new {
            self.recorder.record(Event::StoppedOnNode(flow));
        }
        true
    }
}
