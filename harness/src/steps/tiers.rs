//! Permits that stand before the servers' own policies (Tier 1), and the default action behind them.

use std::collections::BTreeSet;

use cucumber::gherkin;
use cucumber::{given, then, when};

use super::verdict::Rule;
use crate::judge::compensated::judge_denial_or_finding;
use crate::judge::default_action::judge_default_action_rule;
use crate::judge::server_name::judge_no_server_name;
use crate::judge::{Check, DenialClaim, PermitClaim, RuleExpectation, judge_permit};
use crate::lab::{self, Crafted, Probe, Question};
use crate::world::{Failure, Scene, Step, World};

/// Where a Pod finds the authority of its cluster's API server.
const CLUSTER_AUTHORITY: &str = "/var/run/secrets/kubernetes.io/serviceaccount/ca.crt";

/// Before the system runs this is part of its set-up; afterwards it takes effect at once.
#[given(expr = "Tier 1 of the firewall holds the permits {string}")]
#[when(expr = "Tier 1 of the firewall holds the permits {string} again")]
async fn tier_one_holds(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let data = scene
                .context
                .project
                .tier_one(&name)
                .map_err(lab::Error::from)?;
            if scene.runs() {
                scene.setup.tier_one.push(data.clone());
                Ok(scene.lab().await?.set_tier_one(&data).await?)
            } else {
                scene.set_up(|setup| setup.tier_one.push(data))
            }
        })
        .await
}

#[when(expr = "the permits {string} are taken off Tier 1 of the firewall")]
async fn tier_one_loses(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.setup.tier_one.retain(|data| data.name != name);
            Ok(scene.lab().await?.clear_tier_one(&name).await?)
        })
        .await
}

#[given("the API server lies beyond the gateway")]
async fn api_server_beyond(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.api_server_beyond = true)
        })
        .await
}

#[when(expr = "the pod of {string} calls the Kubernetes API through its ClusterIP")]
async fn pod_calls_api(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let service = scene.lab().await?.api_server_cluster_ip().await?;
            let probe = Probe {
                trust: Some(CLUSTER_AUTHORITY.to_owned()),
                ..scene.probe_to("tls", &service.ip().to_string(), service.port())
            };
            scene.probe_from(&pod, &server, &[probe]).await
        })
        .await
}

#[then(
    expr = "the API server answers, by the permits {string} of Tier 1 and without a server name"
)]
async fn api_server_answers(world: &mut World, permits: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let far_end = scene
                .lab()
                .await?
                .cluster()
                .api_server_far_end()
                .map(str::to_owned);
            let far_end = far_end.ok_or_else(|| {
                Failure::NotTestable(
                    "the API server of this cluster is not beyond the gateway".to_owned(),
                )
            })?;
            let label = scene.only_attempt()?;
            scene.await_outcome(&label).await?;
            let observations = scene.observe().await?;
            let attempt = scene.attempt(&observations, &label)?;
            let rule = scene.tier_one_rule(&permits)?;
            let check = Check::of(
                "no-server-name",
                format!("no server name: {label}"),
                &attempt,
                &observations,
            );
            let nameless = judge_no_server_name(&check, &attempt);
            let mut results = scene.judge_passed_by(attempt, &far_end, rule).await?;
            results.push(nameless);
            scene.settle(results)
        })
        .await
}

#[then("the default action is a rule of its own: it denies, it logs, and it is in no policy list")]
async fn default_action_stands_alone(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            if scene.lab().await?.cluster().vendor_api().is_none() {
                return Err(Failure::NotTestable(
                    "the firewall's controller cannot be asked for its policy".to_owned(),
                ));
            }
            let stated = scene.lab().await?.ask_platform(Question::default()).await;
            let check = Check::new("default-action-rule", "default action in POST_RULES");
            scene.settle(vec![judge_default_action_rule(&check, &stated)])
        })
        .await
}

#[when(expr = "the pod of {string} requests every domain of {string} over TLS")]
async fn pod_requests_all(
    world: &mut World,
    server: String,
    name: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let domains = scene.domains_of(&name)?;
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let probes: Vec<Probe> = domains
                .iter()
                .map(|domain| scene.probe_to("tls", domain, 443))
                .collect();
            scene.probe_from(&pod, &server, &probes).await
        })
        .await
}

#[when(expr = "the node requests every domain of {string} over TLS")]
async fn node_requests_all(world: &mut World, name: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let domains = scene.domains_of(&name)?;
            scene.attempts.clear();
            for domain in domains {
                scene.probes_sent += 1;
                let label = format!("node -> tls://{domain}:443 #{}", scene.probes_sent);
                let canary = fixtures::canary::generate();
                let lab = scene.lab().await?;
                if !lab.request_from_node(&domain, &canary, &label).await? {
                    return Err(Failure::NotTestable(
                        "this tier has no way to send from the node itself".to_owned(),
                    ));
                }
                scene.attempts.push(label);
            }
            Ok(())
        })
        .await
}

/// The node's own packets pass no capture point at a Pod: what is judged is the far end, the gateway's log and the
/// packets outside.
#[then(expr = "each request of the node passes by the permits {string} of Tier 1")]
async fn node_requests_pass(world: &mut World, permits: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let labels = scene.last_attempts()?;
            for label in &labels {
                scene.await_outcome(label).await?;
            }
            let observations = scene.observe().await?;
            let mut results = Vec::new();
            for label in labels {
                let attempt = scene.attempt(&observations, &label)?;
                let claim = PermitClaim {
                    check: Check::of(
                        "passed",
                        format!("passed: {label}"),
                        &attempt,
                        &observations,
                    ),
                    far_end: scene.far_end(&attempt),
                    attempt,
                    rule: scene.tier_one_rule(&permits)?,
                };
                results.push(judge_permit(&claim, &observations));
            }
            scene.settle(results)
        })
        .await
}

/// A packet that a Pod without CAP_NET_RAW can't send is put on its wire.
#[when(expr = "a packet of IP protocol {int} leaves the pod of {string} for {string}")]
async fn packet_of_protocol(
    world: &mut World,
    number: u8,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    let kind = format!("IP protocol {number}");
    crafted_packet(world, Crafted::Protocol(number), kind, server, host, step).await
}

#[when(
    regex = r#"^a (fragmented datagram|datagram with a source route|SYN with data) leaves the pod of "([^"]*)" for "([^"]*)"$"#
)]
async fn packet_with_hidden_parts(
    world: &mut World,
    kind: String,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    let crafted = match kind.as_str() {
        "fragmented datagram" => Crafted::Fragments,
        "datagram with a source route" => Crafted::SourceRoute,
        _ => Crafted::SynWithData,
    };
    crafted_packet(world, crafted, kind, server, host, step).await
}

async fn crafted_packet(
    world: &mut World,
    crafted: Crafted,
    kind: String,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let source = scene.pod_fact(&server).await?.address;
            let internet = &scene.context.internet;
            let destination = internet
                .host(&host)
                .and_then(|host| host.addresses.first().copied())
                .ok_or_else(|| {
                    Failure::Scenario(format!("scenarios/internet.yaml has no host {host:?}"))
                })?;
            scene.probes_sent += 1;
            let label = format!("{server} -> {kind} to {host} #{}", scene.probes_sent);
            let canary = fixtures::canary::generate();
            let lab = scene.lab().await?;
            if !lab.send_as_pod(source, destination, crafted, &canary, &label).await? {
                return Err(Failure::NotTestable(
                    "a Pod without CAP_NET_RAW sends TCP, UDP and ICMP echo alone, and this tier cannot put another \
                     packet on its wire"
                        .to_owned(),
                ));
            }
            scene.attempts = vec![label];
            scene.sender = Some(server);
            Ok(())
        })
        .await
}

/// An attack whose success is known to be possible in the published design.
#[then(
    expr = "it is blocked by the server's own policy, or a finding that {string} compensates for"
)]
async fn blocked_or_finding(
    world: &mut World,
    compensating_control: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let label = scene.only_attempt()?;
            scene.await_outcome(&label).await?;
            let observations = scene.observe_quiet(std::slice::from_ref(&label)).await?;
            let attempt = scene.attempt(&observations, &label)?;
            let claim = DenialClaim {
                check: Check::of(
                    "blocked-or-residual",
                    format!("blocked: {label}"),
                    &attempt,
                    &observations,
                ),
                far_end: attempt.target(),
                attempt,
                may_hold: BTreeSet::new(),
                rule: Rule::own_denial(scene.sender()?),
                control: scene.control.clone(),
                quiet_window: scene.context.deadlines.quiet_window,
            };
            let result = judge_denial_or_finding(&claim, &compensating_control, &observations);
            scene.settle(vec![result])
        })
        .await
}

impl Scene {
    /// The one rule that a file of Tier 1 permits by.
    pub(super) fn tier_one_rule(&self, name: &str) -> Result<RuleExpectation, Failure> {
        let data = self
            .context
            .project
            .tier_one(name)
            .map_err(lab::Error::from)?;
        let names: Vec<&str> = data
            .rules
            .iter()
            .filter_map(|rule| rule["name"].as_str())
            .collect();
        let &[rule] = names.as_slice() else {
            return Err(Failure::Scenario(format!(
                "scenarios/tier-one/{name}.yaml holds the rules {names:?}; the step is about one"
            )));
        };
        Ok(RuleExpectation::Named {
            rule: rule.to_owned(),
            of_server: None,
        })
    }

    /// The domains that a file of Tier 1 permits, each as a name that can be asked for: a label stands for a `*`.
    fn domains_of(&self, name: &str) -> Result<Vec<String>, Failure> {
        let data = self
            .context
            .project
            .tier_one(name)
            .map_err(lab::Error::from)?;
        let domains = data.domains();
        Ok(domains
            .iter()
            .map(|domain| domain.replace('*', "probe"))
            .collect())
    }
}
