//! The judge: compares what was expected with what was observed. Pure; no IO, no clock.
//!
//! It knows neither the policy engine nor the cluster. What is expected stands in the feature and
//! its data; what was observed comes from both ends of the wire, the captures and the gateway's
//! log. Two rules hold for every function here:
//!
//! - **A denial is a conjunction** of observations, never the absence of an answer. Evidence that
//!   data arrived makes a check fail whatever else was seen; anything that is missing makes it
//!   inconclusive, with the reason in words.
//! - **Silence counts only where noise would have been heard**: a capture that did not see the
//!   positive control says nothing about the flow it did not see.
//!
//! | module          | judges                                                               |
//! |-----------------|----------------------------------------------------------------------|
//! | `about`         | (what is known about the attempt of a check, for claims)              |
//! | [`observation`] | (what was observed, and what a tier cannot see)                      |
//! | [`denial`]      | that an attempt was blocked                                          |
//! | [`permit`]      | that a request passed                                                |
//! | [`closed_world`] | that nothing left unexplained                                   |
//! | [`logged`]      | that a decision is in the log, and leads to the server               |
//! | [`masquerade`]  | that Pods are hidden behind their node                               |
//! | [`platform`]    | prerequisites of the platform, and which one is not met              |
//! | [`default_action`] | that the default action is what the design says                   |
//! | [`level`]       | (what a result means for a requirement that is not core)             |
//! | [`list`]         | that a FirewallPolicy equals a server's list                         |
//! | [`load`]         | that what is refused of one server's load is recorded                |
//! | [`lookups`]      | that no data leaves in the labels of names                           |
//! | [`open_question`] | what the system's answer to an open question is                    |
//! | [`attack`]      | that the attack of a dependency happened                             |
//! | [`spread`]      | that a canary is where it may be, and nowhere else                   |
//! | [`blind`]       | that a policy controller that reports ready sees nothing             |
//! | [`authoring`]   | what the orchestrator accepts and generates                          |
//! | [`policy_object`] | what becomes of policy objects that are changed by hand              |
//! | [`update`]      | that a policy change took effect in time                             |
//! | [`model`]       | that flows come to what the documents say, hundreds at once          |
//! | [`governed`]    | that a Pod was under its policy from its first packet                |
//! | [`restart`]     | that a gateway that restarts under load stays closed                 |
//! | [`replacement`]  | that policies are replaced without a gap                             |
//! | [`burst`]        | (how long Pods that start together run before their policies)        |
//! | [`pods`]        | that a Pod was replaced, has another address, or one that another had |
//! | [`orchestrator`] | that the orchestrator has a policy in time and forgets nothing       |
//! | [`tool_call`]   | that the agent's call succeeded and its record is stored             |
//! | [`package`]     | that an npx server starts, or does not                               |
//! | [`server_name`] | that a ClientHello names no server                                   |
//! | [`compensated`] | that an attack was blocked, or is a finding                          |
//! | [`trace`]       | that nothing is left of what was removed                             |
//! | [`trespass`]    | that a server cannot use the orchestrator against its own list       |

mod about;
pub mod attack;
pub mod authoring;
pub mod blind;
pub mod burst;
pub mod closed_world;
pub mod compensated;
mod correlate;
pub mod default_action;
pub mod denial;
mod finding;
pub mod governed;
pub mod level;
pub mod list;
pub mod load;
pub mod logged;
pub mod lookups;
pub mod masquerade;
pub mod model;
pub mod node;
pub mod observation;
pub mod open_question;
pub mod orchestrator;
pub mod package;
pub mod permit;
pub mod platform;
pub mod pods;
pub mod policy_object;
pub mod replacement;
pub mod restart;
pub mod server_name;
pub mod spread;
pub mod tool_call;
pub mod trace;
pub mod trespass;
pub mod update;

use crate::outcome::Outcome;

pub use crate::facts::{
    Attempt, Bearing, Check, CheckResult, ClientOutcome, ClientResult, EvidenceLine, Exchange,
    Judged, ListFact, PodFact, Protocol, RuleRef, Sent, StoppedOnNode,
};
pub use closed_world::{ClosedWorldClaim, judge_closed_world};
pub use denial::{DenialClaim, judge_default_action, judge_denial};
pub use finding::in_words as duration_in_words;
pub use governed::{GovernedClaim, judge_governed};
pub use logged::{LogClaim, TraceClaim, judge_logged, judge_traceable};
pub use node::{NodeClaim, judge_stopped_on_node};
pub use observation::{Observations, Seen};
pub use permit::{PermitClaim, judge_permit};
pub use restart::{RestartClaim, judge_fail_closed};
pub use spread::{SpreadClaim, judge_spread};
pub use trace::{NoTraceClaim, Place, judge_no_trace};
pub use update::{UpdateClaim, judge_update};

impl Check {
    /// Its result where one fact decides.
    fn stated(
        &self,
        outcome: Outcome,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> CheckResult {
        CheckResult::stated(self.clone(), outcome, expected, found)
    }

    /// A residual risk that was shown.
    fn finding(
        &self,
        expected: impl Into<String>,
        found: impl Into<String>,
        compensating_control: &str,
    ) -> CheckResult {
        CheckResult::finding(self.clone(), expected, found, compensating_control)
    }
}

/// Which rule is expected to decide.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RuleExpectation {
    /// Whichever does.
    Any,
    /// A rule of this name.
    Named {
        /// Name of the rule.
        rule: String,
        /// The server whose policy the rule is part of; any when `None`.
        of_server: Option<String>,
    },
    /// The default action: no rule of any policy.
    DefaultAction,
}

/// A request that is known to pass, made in the same scenario: it proves that the path, the far
/// ends' receipts and the captures work, so that silence means something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Control {
    /// The request.
    pub attempt: Attempt,
    /// Name of the far end that must have received it.
    pub far_end: String,
}

#[cfg(test)]
mod tests;
