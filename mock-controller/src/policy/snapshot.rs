//! The compiled policy: immutable, shared with gateways as `Arc<Snapshot>`, evaluated per flow.

use uuid::Uuid;

use super::flow::{Action, Application, FirstPacket, FiveTuple, Verdict};

/// The uuid of the default action rule, the only rule that cannot be deleted.
pub const DEFAULT_ACTION_UUID: Uuid = Uuid::from_u128(0xdefa_11a1_2000_0000_0000_0000_0000_0000);

/// The policy in force, compiled. Each push of the controller is one snapshot with a generation of its own.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Rises by one with each push; 0 is the policy of a gateway that has heard from no controller yet.
    pub generation: u64,
}

/// The outcome of an evaluation, with the watch rules that matched before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    pub outcome: FirstPacket,
    /// Watch rules that matched on the way to a decision: to be logged, never to be enforced. Empty while the outcome
    /// is [`FirstPacket::Inspect`], so that each is reported once.
    pub watched: Vec<Verdict>,
}

impl Snapshot {
    /// The policy of a gateway that has no policy: deny all, logged.
    pub fn deny_all() -> Self {
        Self { generation: 0 }
    }

    /// Evaluates a flow's first packet.
    pub fn first_packet(&self, flow: &FiveTuple) -> FirstPacket {
        self.evaluate(flow, None).outcome
    }

    /// Decides a flow whose application is known.
    pub fn decide(&self, flow: &FiveTuple, application: &Application) -> Verdict {
        match self.evaluate(flow, Some(application)).outcome {
            FirstPacket::Decided(verdict) => verdict,
            FirstPacket::Inspect => self.default_verdict(),
        }
    }

    /// Evaluates a flow and reports the watch rules that matched as well. `application` is `None` for a first packet;
    /// with an application the outcome is always decided.
    pub fn evaluate(&self, _flow: &FiveTuple, _application: Option<&Application>) -> Evaluation {
        Evaluation {
            outcome: FirstPacket::Decided(self.default_verdict()),
            watched: Vec::new(),
        }
    }

    fn default_verdict(&self) -> Verdict {
        Verdict {
            action: Action::Deny,
            decided_by: DEFAULT_ACTION_UUID,
            rule: "default action".to_owned(),
            logging: true,
            enforced: true,
        }
    }
}
