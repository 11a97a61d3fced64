//! What can happen in a run, as typed events. The report is a function of these alone, so a fact
//! that is not an event cannot reach it.
//!
//! Adding a variant or an optional field is compatible; renaming one needs a new report schema.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use fixtures::receipt::Receipt;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::detection::Score;
use crate::expected_failure::ExpectedFailure;
use crate::facts::{
    ApiCall, CheckResult, ClientResult, Judged, ListFact, Measurement, Outcome, PodFact, RuleRef,
    Sent, StoppedOnNode,
};

/// One line of `events.jsonl`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Recorded {
    /// Position in its file, from 0, without gaps: a missing number is a lost event.
    pub seq: u64,
    /// When it was recorded, RFC 3339 with nanoseconds.
    #[serde(with = "nanoseconds")]
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "kind", content = "payload", rename_all = "kebab-case")]
pub enum Event {
    /// First event of `run.jsonl`.
    RunStarted(Box<RunStarted>),
    /// Last event of `run.jsonl`; its absence means that the run was killed.
    RunFinished(RunFinished),
    /// First event of a scenario's folder.
    ScenarioStarted(ScenarioStarted),
    /// Last event of a scenario's folder; its absence means that the scenario was cut.
    ScenarioFinished(ScenarioFinished),
    /// A Gherkin step begins.
    StepStarted(StepStarted),
    /// A Gherkin step ended.
    StepFinished(StepFinished),
    /// A seeded fault is active: nothing in this folder can be signed.
    FaultActive {
        /// Its name in `scenarios/faults.yaml`.
        name: String,
    },
    /// A server was created through the orchestrator's API.
    ServerCreated {
        /// The orchestrator's id, which is also the pod's `app` label.
        id: String,
        /// The name in its manifest.
        name: String,
    },
    /// The orchestrator accepted a server's list.
    ListAccepted(ListFact),
    /// A pod holds an address from now on.
    PodStarted(PodFact),
    /// A pod holds its address no longer.
    PodGone {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A pod's process ended when it should not have.
    PodCrashed {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// Exit status, signal or reason, in words.
        detail: String,
    },
    /// A policy object was seen in the cluster or in the orchestrator's storage.
    PolicyApplied(PolicyObject),
    /// The gateway enforces a policy object in the given generation.
    PolicyEnforced {
        /// Its kind.
        policy_kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
        /// The generation that is enforced.
        generation: i64,
    },
    /// The gateway enforces a policy object no longer.
    PolicyLifted {
        /// Its kind.
        policy_kind: String,
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// The gateway took a policy: the whole of what it enforces from now on.
    PolicyPushed {
        /// Number of the push.
        generation: u64,
        /// When the gateway had acknowledged it.
        at: Timestamp,
        /// The policy objects in it, as `namespace/name`.
        objects: BTreeSet<String>,
        /// The Pod addresses it was resolved against, with the Pod (`namespace/name`) that each belongs to.
        addresses: BTreeMap<IpAddr, String>,
    },
    /// Names of the rules that uuids in the gateway's log stand for, as the controller exports
    /// them. Later events add to earlier ones: a rule that is gone may still be in the log.
    RulesKnown {
        /// By the uuid that `decided_by` and `POLICY` carry.
        rules: BTreeMap<Uuid, RuleRef>,
    },
    /// A node of the cluster holds this address.
    NodeKnown {
        /// Its name.
        name: String,
        /// Its address.
        address: IpAddr,
    },
    /// The endpoint of a Service lies beyond the gateway: the node puts its address in the place of the ClusterIP
    /// before the gateway sees the packet.
    EndpointBeyond {
        /// The ClusterIP and port that Pods ask for.
        service: SocketAddr,
        /// The address and port that the gateway sees.
        endpoint: SocketAddr,
    },
    /// An agent called a tool over MCP.
    ToolCall(ToolCall),
    /// Code in a Pod called an HTTP API inside the cluster.
    ApiCall(ApiCall),
    /// A client announced that its first packet leaves now.
    ProbeSent {
        /// Which attempt this is, in words; unique within the scenario.
        attempt: String,
        /// The token in its payload.
        canary: String,
        /// What was sent, from where, to where.
        sent: Sent,
    },
    /// A client reported how its attempt ended.
    ProbeResult {
        /// The attempt, as in [`Event::ProbeSent`].
        attempt: String,
        /// The token in its payload.
        canary: String,
        /// How it ended for the client.
        result: ClientResult,
    },
    /// Attempts that steps of the scenario judged: what they may explain is judged at the end.
    AttemptsJudged {
        /// In the order in which they were judged first.
        attempts: Vec<Judged>,
    },
    /// The harness made a request to a far end from beyond the gateway.
    FarEndVisited {
        /// Name of the far end.
        far_end: String,
        /// The token in the request.
        canary: String,
    },
    /// The harness sent a datagram from beyond to the gateway, after everything else: a capture that lacks it had stopped.
    CaptureMarked {
        /// Where it came from.
        source: SocketAddr,
        /// The gateway's address and port.
        destination: SocketAddr,
    },
    /// A far end reported what it saw.
    Receipt(Receipt),
    /// A NetworkPolicy stopped a flow on its node.
    StoppedOnNode(StoppedOnNode),
    /// The gateway wrote a line to its log.
    GatewayLog {
        /// Line number in `gateway.log`, from 1.
        line: u64,
        /// The line as it came.
        text: String,
    },
    /// Something listens in CoPilot's place: what it does not get has not come.
    CopilotListens {
        /// Where.
        address: SocketAddr,
    },
    /// What listens in CoPilot's place got a record of the gateway.
    CopilotLog {
        /// The line as it came.
        text: String,
    },
    /// A figure was measured.
    Measured(Measurement),
    /// The judge gave a result.
    Check(CheckResult),
    /// Something worth telling a reader.
    Note {
        /// In words.
        text: String,
    },
    /// The harness, a stand-in or a fixture broke.
    HarnessError {
        /// What broke.
        component: String,
        /// How.
        message: String,
    },
}

/// How a run was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunStarted {
    /// Name and version of the tool.
    pub tool: String,
    /// Seed of every random choice.
    pub seed: u64,
    /// `embedded`, `kind` or `existing`.
    pub tier: String,
    /// The profiles that were selected, separated by commas.
    pub profile: String,
    /// Seeded faults that are active, by name. Not empty means: not signable.
    pub faults: Vec<String>,
    /// The command that repeats this run.
    pub command: String,
    /// How well the scenarios detect seeded faults, where that was measured with the same scenarios and program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection: Option<Score>,
    /// Name of the machine that ran it.
    #[serde(default)]
    pub host: String,
    /// Digests of what it was made with.
    #[serde(default)]
    pub suite: Suite,
    /// The terminal shows the proof of every scenario, not only of those that did not pass.
    #[serde(default)]
    pub details: bool,
    /// Why a stored score of the fault matrix is not shown. Absent: there is none, or it was measured with other scenarios
    /// or another program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detection_refused: Option<String>,
    /// Name of the system under test.
    #[serde(default)]
    pub system: String,
    /// Failures that are listed as expected, as the list stood when the run began.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub expected_failures: Vec<ExpectedFailure>,
    /// Extended requirements whose feature the system does not claim.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclaimed: Vec<String>,
}

/// SHA-256 digests of what a run was made with.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Suite {
    /// The features: digest of the manifest of `suite/features`.
    pub features: String,
    /// The data that features name: digest of the manifest of `suite/scenarios`.
    pub scenarios: String,
    /// The program that ran it and that its containers run.
    pub program: String,
}

/// How a run ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunFinished {
    /// The user interrupted it.
    pub interrupted: bool,
    /// Scenarios that were selected; more than there are folders means that some never started.
    pub selected: usize,
}

/// Which scenario a folder belongs to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioStarted {
    /// Title of the feature.
    pub feature: String,
    /// Title of the scenario.
    pub name: String,
    /// `path:line` of the scenario.
    pub location: String,
    /// Tags of scenario and feature, without `@`.
    pub tags: Vec<String>,
    /// How often it was tried before in this run.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub retry: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

/// How a scenario ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScenarioFinished {
    /// Set when the scenario ended for a reason that is not a check: a broken stand-in
    /// (harness-error), a deadline, a tier that cannot show it (not-testable). Its checks count
    /// all the same.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<Outcome>,
    /// Why, in words; for a deadline what was waited for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A step begins.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepStarted {
    /// `Given`, `When`, `Then`, `And`, `But`.
    pub keyword: String,
    /// The sentence.
    pub text: String,
    /// Its line in the feature file.
    pub line: u64,
}

/// A step ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepFinished {
    /// `Given`, `When`, `Then`, `And`, `But`.
    pub keyword: String,
    /// The sentence.
    pub text: String,
    /// Its line in the feature file.
    pub line: u64,
    /// How it ended.
    pub outcome: StepOutcome,
    /// Why, when it did not pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StepOutcome {
    /// It did what it says.
    Passed,
    /// It did not.
    Failed,
    /// It was not reached, or no step definition matches it.
    Skipped,
}

/// A policy object, as stored under `policy/`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PolicyObject {
    /// `FirewallPolicy`, `MCPNetworkPolicy`, ...
    pub policy_kind: String,
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// `metadata.generation`, 0 when the object has none.
    pub generation: i64,
    /// Its file in the folder.
    pub file: String,
}

/// A tool call over MCP.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// Name of the server.
    pub server: String,
    /// Name of the tool.
    pub tool: String,
    /// Whether the call returned a result that is not an error.
    pub succeeded: bool,
    /// The result or the error, shortened.
    pub detail: String,
    /// Microseconds from request to response.
    pub elapsed_us: u64,
}

/// RFC 3339 with nine digits, so that lines align and sort as text.
mod nanoseconds {
    use jiff::Timestamp;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&format_args!("{at:.9}"))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        Timestamp::deserialize(from)
    }
}
