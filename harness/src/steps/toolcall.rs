//! The flagship: an agent's tool call, the record in the EHR, and the compromised dependency beside it.

use std::collections::BTreeSet;
use std::sync::Arc;

use cucumber::gherkin;
use cucumber::{given, then, when};
use jiff::Timestamp;
use serde_json::json;

use super::verdict::Rule;
use crate::evidence::{Event, Recorded};
use crate::judge::attack::{Announced, SECOND_TRY, judge_attack, missing_phases};
use crate::judge::tool_call::{judge_call, judge_stored};
use crate::judge::{
    Attempt, Check, CheckResult, ClientOutcome, ClientResult, Control, Exchange, Observations,
    Protocol, RuleExpectation, Sent, SpreadClaim, judge_spread,
};
use crate::world::{Failure, Scene, Step, World};

/// The moments at which the compromised dependency of the fixture acts: without all of them the attack did not happen.
const PHASES: [&str; 3] = ["(at start-up)", "(during the call)", SECOND_TRY];

#[given(expr = "a dependency of {string} sends what it sees to {string}")]
async fn compromised_dependency(
    world: &mut World,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let deadline = scene.context.deadlines.tool_call;
            let lab = scene.lab().await?;
            let what = format!("the dependency of {server:?} to reach for {host} at start-up");
            lab.see(what, deadline, |events| {
                attempts_to(events, &host).next().map(drop)
            })
            .await?;
            Ok(())
        })
        .await
}

#[when(expr = "an agent calls the tool {string} of {string}")]
async fn agent_calls(
    world: &mut World,
    tool: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let canary = fixtures::canary::generate();
            let arguments = json!({"patient_id": "pat-0042", "canary": canary});
            let arguments = arguments.as_object().cloned().unwrap_or_default();
            scene.canary = Some(canary);
            scene.called_at = Some(Timestamp::now());
            scene.sender = Some(server.clone());
            scene
                .lab()
                .await?
                .call_tool(&server, &tool, arguments)
                .await?;
            Ok(())
        })
        .await
}

#[then("the tool call succeeds")]
async fn call_succeeds(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let events = scene.recorder.events();
            let call = events
                .iter()
                .rev()
                .find_map(|recorded| match &recorded.event {
                    Event::ToolCall(call) => Some(call.clone()),
                    _ => None,
                });
            let call = call.ok_or_else(|| Failure::Scenario("no step called a tool".to_owned()))?;
            let check = Check::new("tool-call", "tool call succeeds");
            scene.settle(vec![judge_call(&check, &call)])
        })
        .await
}

/// The server's own request to the EHR, which it makes in the course of the call and does not announce: its first
/// packet in the capture at the Pod stands for the announcement, the tool's answer for the client's result.
#[then(expr = "the EHR {string} holds the patient record")]
async fn ehr_holds_record(world: &mut World, host: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let canary = scene
                .canary
                .clone()
                .ok_or_else(|| Failure::Scenario("no step sent a record".to_owned()))?;
            let observations = scene.observe().await?;
            let address = scene
                .context
                .internet
                .host(&host)
                .and_then(|host| host.addresses.first().copied());
            let address = address.ok_or_else(|| {
                Failure::Scenario(format!("scenarios/internet.yaml has no host {host:?}"))
            })?;
            let succeeded = observations
                .receipts
                .iter()
                .any(|receipt| receipt.endpoint == host && receipt.canaries.contains(&canary));
            let attempt = Attempt {
                label: "the record".to_owned(),
                canary: canary.clone(),
                sent: first_packet(&observations, address, scene.called_at, &host),
                result: tool_result(scene.recorder.events().iter().map(AsRef::as_ref)),
            };
            let stored = scene.lab().await?.far_ends().records_holding(&canary);
            let check = Check::of(
                "record-stored",
                "EHR holds the record",
                &attempt,
                &observations,
            );
            let mut results = scene.judge_passed(attempt.clone(), &host).await?;
            // The call that the attack rides on is its control: same Pod, same moment, and it got through.
            if results.first().is_some_and(CheckResult::passed) {
                let far_end = host.clone();
                scene.control = Some(Control { attempt, far_end });
            }
            results.insert(0, judge_stored(&check, &host, stored, succeeded));
            scene.permit_log = results.pop();
            scene.settle(results)
        })
        .await
}

#[then("the gateway logged the permit of that request")]
async fn permit_logged(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let result = scene.permit_log.take().ok_or_else(|| {
                Failure::Scenario("no request was proven to pass before this step".to_owned())
            })?;
            scene.settle(vec![result])
        })
        .await
}

/// Before the call the gateway may not know the Pod's address yet: an attempt at start-up then falls to the default
/// action. It is blocked all the same, and the log says by what. From the call on it must be the server's own rule.
#[then(
    expr = "each attempt to reach {string} is blocked, from the call on by the server's own policy"
)]
async fn attempts_blocked(world: &mut World, host: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let called_at = scene
                .called_at
                .ok_or_else(|| Failure::Scenario("no step called a tool".to_owned()))?;
            let own = Rule::own_denial(scene.sender()?);
            let by = |sent_at| {
                if sent_at >= called_at {
                    own.clone()
                } else {
                    RuleExpectation::Any
                }
            };
            scene.dependency_blocked(&host, &PHASES, by).await
        })
        .await
}

#[then(expr = "the canary was seen nowhere but at {string}")]
async fn canary_nowhere_else(world: &mut World, host: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let canary = scene
                .canary
                .clone()
                .ok_or_else(|| Failure::Scenario("no step sent a record".to_owned()))?;
            let observations = scene.observe().await?;
            let claim = SpreadClaim {
                check: Check::new("spread", "canary stays where it may be"),
                canary,
                only_at: BTreeSet::from([host]),
                quiet_window: scene.context.deadlines.quiet_window,
            };
            let result = judge_spread(&claim, &observations);
            scene.settle(vec![result])
        })
        .await
}

impl Scene {
    /// Waits until a dependency has tried in each of `phases`, and judges that every attempt it made was blocked, by the
    /// rule that `by` expects of an attempt sent at that time.
    pub(super) async fn dependency_blocked(
        &mut self,
        host: &str,
        phases: &[&str],
        by: impl Fn(Timestamp) -> RuleExpectation,
    ) -> Step {
        let deadline = self.context.deadlines.tool_call;
        let what = format!("the dependency's attempts {phases:?} to reach {host}");
        // A timeout is not an error here: the judge says which phase is missing.
        let over = |events: &[Arc<Recorded>]| {
            let made = announced(events, host);
            missing_phases(phases, &made).is_empty().then_some(())
        };
        self.lab().await?.saw(what, deadline, over).await?;
        let events = self.recorder.events();
        let check = Check::new("attack", format!("attack on {host}"));
        let attack = judge_attack(&check, host, phases, &announced(&events, host));
        let expected: Vec<_> = attempts_to(&events, host)
            .map(|(label, sent_at)| (label.to_owned(), by(sent_at)))
            .collect();
        self.attempts = expected.iter().map(|(label, _)| label.clone()).collect();
        let legitimate: BTreeSet<String> = self
            .control
            .iter()
            .map(|control| control.far_end.clone())
            .collect();
        let mut results = self.judge_blocked(&expected, legitimate).await?;
        results.insert(0, attack);
        self.settle(results)
    }
}

/// Announced attempts to reach a host by name, in order: their labels, and when they were sent.
pub(super) fn attempts_to<'a>(
    events: &'a [Arc<Recorded>],
    host: &'a str,
) -> impl Iterator<Item = (&'a str, Timestamp)> {
    events
        .iter()
        .filter_map(move |recorded| match &recorded.event {
            Event::ProbeSent { attempt, sent, .. } if sent.host.as_deref() == Some(host) => {
                Some((attempt.as_str(), sent.at))
            }
            _ => None,
        })
}

/// The same, with whether the far end answered.
fn announced(events: &[Arc<Recorded>], host: &str) -> Vec<Announced> {
    let answered = |label: &str| {
        let is_answer = |event: &Event| {
            matches!(event, Event::ProbeResult { attempt, result, .. }
                if attempt == label && result.outcome == ClientOutcome::Completed)
        };
        events.iter().any(|recorded| is_answer(&recorded.event))
    };
    attempts_to(events, host)
        .map(|(label, _)| Announced {
            label: label.to_owned(),
            answered: answered(label),
        })
        .collect()
}

/// The first packet of a Pod to a far end since a moment: what stands for the announcement of a request that announces
/// nothing.
pub(super) fn first_packet(
    observations: &Observations,
    address: std::net::IpAddr,
    since: Option<Timestamp>,
    host: &str,
) -> Option<Sent> {
    let capture = observations.pod_side.read()?;
    let packet = capture.packets.iter().find(|packet| {
        packet.destination.ip() == address
            && packet.protocol == Protocol::Tcp
            && since.is_none_or(|since| packet.at >= since)
    })?;
    Some(Sent {
        at: packet.at,
        protocol: Protocol::Tcp,
        exchange: Exchange::Tls,
        source: packet.source,
        destination: packet.destination,
        host: Some(host.to_owned()),
        sni: Some(host.to_owned()),
    })
}

/// How the last tool call ended for the agent.
pub(super) fn tool_result<'a>(events: impl Iterator<Item = &'a Recorded>) -> Option<ClientResult> {
    events
        .filter_map(|recorded| match &recorded.event {
            Event::ToolCall(call) => Some(ClientResult {
                at: recorded.at,
                outcome: if call.succeeded {
                    ClientOutcome::Completed
                } else {
                    ClientOutcome::Closed
                },
                status: None,
                detail: call.detail.clone(),
            }),
            _ => None,
        })
        .last()
}
