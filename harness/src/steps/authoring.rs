//! What the orchestrator accepts from users, and what it and its policy provider generate.

use std::collections::BTreeSet;

use cucumber::gherkin;
use cucumber::{given, then, when};
use serde_json::{Value, json};

use super::system::split;
use crate::facts::Aspect;
use crate::judge::authoring::{
    Answer, EmptySelectorClaim, FirewallClaim, PolicyClaim, RejectionClaim, ReleaseClaim,
    ServerState, UnchangedClaim, judge_empty_selector, judge_firewall_policy, judge_policy,
    judge_rejection, judge_release, judge_unchanged,
};
use crate::judge::{Check, open_question};
use crate::lab::{ORCHESTRATOR_NAMESPACE, RUNTIME_NAMESPACE};
use crate::system::await_::{Look, look_until};
use crate::world::{Failure, Scene, Step, World};

/// Runtimes whose servers have a Pod of their own.
const RUNTIMES: [&str; 3] = ["npx", "uvx", "containerized"];
/// The provider's release (`reference/obot.md` section 4).
const RELEASE: &str = "obot-network-policy-provider";
const DEFAULT_DENY: &str = "OBOT_SERVER_MCPDEFAULT_DENY_ALL_EGRESS";
/// Policies that a scenario writes into the storage by hand.
const WITHOUT_SELECTOR: &str = "mnp1-selects-nothing";
const WITH_SELECTOR: &str = "mnp1-selects-one";

/// What the steps of this module hand to one another.
#[derive(Debug, Default)]
pub struct Authoring {
    /// Servers that were created and not launched.
    created: Vec<CreatedServer>,
    /// The call that was accepted last.
    control: Option<Answer>,
    /// A good domain, first in every list that breaks a rule.
    good: String,
    /// The update that was asked for, and the state before it.
    update: Option<(Answer, ServerState)>,
    /// Domains as they were written.
    written: Vec<String>,
    /// Whether a request passed before a setting changed.
    passed_before: Option<bool>,
}

impl Authoring {
    /// A server that steps of another module made or changed; what was known of it before is forgotten.
    pub(super) fn expect(&mut self, words: &str, id: &str, domains: &[String]) {
        self.created.retain(|server| server.id != id);
        self.created.push(CreatedServer {
            words: format!("{words} that lists {}", json!(domains)),
            id: id.to_owned(),
            domains: domains.to_vec(),
            deny: false,
        });
    }
}

#[derive(Debug)]
struct CreatedServer {
    words: String,
    id: String,
    domains: Vec<String>,
    deny: bool,
}

#[given(expr = "a user creates servers that list {string}, of every runtime")]
async fn control_is_accepted(world: &mut World, domains: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let domains = split(&domains);
            scene.authoring.good = domains.first().cloned().unwrap_or_default();
            for runtime in RUNTIMES {
                scene.create(runtime, &domains, None).await?;
            }
            Ok(())
        })
        .await
}

#[when("a user creates servers")]
async fn user_creates(world: &mut World, step: &gherkin::Step) -> Step {
    let rows = rows(step, ["runtime", "domains", "denyAllEgress"]);
    world
        .act(step, async |scene| {
            for row in rows? {
                let deny = match row[2].as_str() {
                    "true" => Some(true),
                    "false" => Some(false),
                    _ => None,
                };
                scene.create(&row[0], &split(&row[1]), deny).await?;
            }
            Ok(())
        })
        .await
}

#[then("each of them has exactly one policy, with its name, selector, domains and deny flag")]
async fn each_has_one_policy(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let policies = scene.lab().await?.network_policies().await?;
            let servers = scene.created()?;
            let results = servers
                .iter()
                .map(|server| {
                    judge_policy(&PolicyClaim {
                        check: Check::new("server-policy", format!("policy of {}", server.words)),
                        server: server.words.clone(),
                        id: server.id.clone(),
                        domains: server.domains.clone(),
                        deny: server.deny,
                        policies: policies.clone(),
                    })
                })
                .collect();
            scene.settle(results)
        })
        .await
}

#[then("each policy became the firewall policy that it calls for, in the servers' namespace")]
async fn each_became_a_firewall_policy(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            let policies = lab.network_policies().await?;
            let names: Vec<&str> = policies
                .iter()
                .filter_map(|policy| policy["metadata"]["name"].as_str())
                .collect();
            lab.await_firewall_policies(&names).await?;
            let objects = lab.written_policies().await?;
            let mut results = Vec::new();
            for server in scene.created()? {
                let policy = policies
                    .iter()
                    .find(|policy| policy["spec"]["mcpServerName"] == *server.id);
                results.extend(judge_firewall_policy(&FirewallClaim {
                    shape: Check::new("policy-shape", format!("shape: {}", server.words)),
                    marks: Check::new("policy-source", format!("source: {}", server.words)),
                    server: server.words.clone(),
                    policy: policy.cloned().unwrap_or_default(),
                    namespace: RUNTIME_NAMESPACE.to_owned(),
                    objects: objects.clone(),
                }));
            }
            scene.settle(results)
        })
        .await
}

#[then(
    regex = r"^a server that lists one of these is rejected: (a URL|an address|a reserved name|a bare wildcard|a malformed name)$"
)]
async fn each_is_rejected(world: &mut World, breach: String, step: &gherkin::Step) -> Step {
    let rows = rows(step, ["domain", "what it is"]);
    world
        .act(step, async |scene| {
            let mut answers = Vec::new();
            for row in rows? {
                for runtime in RUNTIMES {
                    let list = [scene.authoring.good.clone(), row[0].clone()];
                    let what = format!(
                        "a server of runtime {runtime} that lists {} ({})",
                        row[0], row[1]
                    );
                    answers.push(scene.try_create(runtime, &what, &list, None).await?);
                }
            }
            scene
                .judge_rejected(&breach, "egressDomains[1]", answers)
                .await
        })
        .await
}

#[then("a server that denies all egress and lists domains is rejected")]
async fn contradiction_is_rejected(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let mut answers = Vec::new();
            for runtime in RUNTIMES {
                let list = [scene.authoring.good.clone()];
                let what = format!(
                    "a server of runtime {runtime} that denies all egress and lists {}",
                    list[0]
                );
                answers.push(scene.try_create(runtime, &what, &list, Some(true)).await?);
            }
            scene
                .judge_rejected("a contradiction", "denyAllEgress", answers)
                .await
        })
        .await
}

#[when(expr = "a user asks for the list {string} of {string}")]
async fn user_asks_for_list(
    world: &mut World,
    domains: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            let before = lab.state_of(&server).await?;
            let answer = lab.try_set_domains(&server, &split(&domains)).await?;
            scene.authoring.update = Some((answer, before));
            Ok(())
        })
        .await
}

#[then(expr = "the update is rejected for {string}, and nothing about {string} has changed")]
async fn nothing_has_changed(
    world: &mut World,
    field: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let update = scene.authoring.update.take();
            let (answer, before) = update
                .ok_or_else(|| Failure::Scenario("no step asked for an update".to_owned()))?;
            let after = scene.lab().await?.state_of(&server).await?;
            let claim = UnchangedClaim {
                check: Check::new("update-rejected", format!("a rejected update of {server}")),
                answer,
                field,
                before,
                after,
            };
            scene.settle(vec![judge_unchanged(&claim)])
        })
        .await
}

#[then("the policy provider is an installed release, and its pod is ready")]
async fn provider_is_installed(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            let records = lab.releases(RELEASE).await?;
            let pods = lab.provider_pods().await?;
            let claim = ReleaseClaim {
                check: Check::new("provider-release", "the provider's release"),
                release: RELEASE.to_owned(),
                namespace: ORCHESTRATOR_NAMESPACE.to_owned(),
                records,
                pods,
            };
            scene.settle(vec![judge_release(&claim)])
        })
        .await
}

#[when(
    "a policy without a selector is written into the orchestrator's storage, and then one with a selector"
)]
async fn policy_without_selector(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            let spec = json!({"mcpServerName": "ms1nobody", "egressDomains": ["api.weather-service.test"]});
            lab.write_network_policy(WITHOUT_SELECTOR, spec.clone()).await?;
            let mut selecting = spec;
            selecting["podSelector"] = json!({"app": "ms1nobody"});
            Ok(lab.write_network_policy(WITH_SELECTOR, selecting).await?)
        })
        .await
}

#[then("only the second becomes a firewall policy, and the provider says why the first does not")]
async fn only_the_second(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            lab.await_firewall_policies(&[WITH_SELECTOR]).await?;
            let log = lab.provider_says(WITHOUT_SELECTOR).await?;
            let objects = lab.written_policies().await?;
            let claim = EmptySelectorClaim {
                check: Check::new("empty-selector", "a policy without a selector"),
                policy: WITHOUT_SELECTOR.to_owned(),
                control: WITH_SELECTOR.to_owned(),
                objects,
                log,
            };
            scene.settle(vec![judge_empty_selector(&claim)])
        })
        .await
}

/// Domains are JSON strings here, so that spaces at their ends survive the table.
#[given(expr = "the orchestrator runs the server {string} with a list that is written as")]
async fn list_is_written_as(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    let rows = rows(step, ["written", "how"]);
    world
        .act(step, async |scene| {
            let mut written = Vec::new();
            for row in rows? {
                let domain: String = serde_json::from_str(&row[0]).map_err(|error| {
                    Failure::Scenario(format!("{} is no JSON string: {error}", row[0]))
                })?;
                written.push(domain);
            }
            let manifest = scene
                .context
                .project
                .server(&server)
                .map_err(crate::lab::Error::from)?
                .with_egress_domains(&written);
            let lab = scene.lab().await?;
            let pod = lab.run_server(&server, &manifest).await?.pod;
            // A firewall may refuse a name with blanks and never enforce the policy: then nothing comes to wait for.
            if written.iter().any(|domain| domain.trim() != domain) {
                lab.await_known(&pod).await?;
            } else {
                lab.await_enforced(&server).await?;
            }
            scene.authoring.written = written;
            Ok(())
        })
        .await
}

#[then(
    expr = "it is recorded how the policy of {string} writes them, and which of them the gateway matches"
)]
async fn normalisation_is_recorded(
    world: &mut World,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let id = scene.lab().await?.server(&server)?.id.clone();
            let policies = scene.lab().await?.network_policies().await?;
            let policy = policies.iter().find(|policy| policy["spec"]["mcpServerName"] == *id);
            let found = policy.map(|policy| policy["spec"]["egressDomains"].clone()).unwrap_or_default();
            let mut lines = vec![format!(
                "written {}, in the policy {found}",
                json!(scene.authoring.written)
            )];
            let distinct: BTreeSet<String> = scene.authoring.written.iter().cloned().collect();
            for domain in distinct {
                let plain = domain.trim().to_ascii_lowercase();
                let passed = scene.request_passes(&server, &format!("https://{plain}/")).await?;
                let verb = if passed { "matches" } else { "does not match" };
                lines.push(format!("the entry {domain:?} {verb} {plain}"));
            }
            let question = "whether domains are normalised before they reach the policy object, and whether un-normalised ones match on the gateway";
            scene.answer("normalisation", format!("normalisation of the list of {server}"), question, &lines.join("; "))
        })
        .await
}

#[when(
    expr = "the orchestrator restarts with its default-deny setting on, while {string} runs and requests {string}"
)]
async fn setting_flips(
    world: &mut World,
    server: String,
    url: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.authoring.passed_before = Some(scene.request_passes(&server, &url).await?);
            let lab = scene.lab().await?;
            Ok(lab.restart_orchestrator_with(DEFAULT_DENY, "true").await?)
        })
        .await
}

#[then(
    expr = "it is recorded what became of the policy of {string}, and of its requests to {string}"
)]
async fn flip_is_recorded(
    world: &mut World,
    server: String,
    url: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let id = scene.lab().await?.server(&server)?.id.clone();
            let policies = scene.lab().await?.network_policies().await?;
            let policy = policies.iter().find(|policy| policy["spec"]["mcpServerName"] == *id);
            let denies = policy.is_some_and(|policy| policy["spec"]["denyAllEgress"] == true);
            let before = scene.authoring.passed_before;
            // Where the policy changed, its enforcement is waited for; a single request would be a race.
            let bound = scene.context.deadlines.policy_update_bound;
            let passes = look_until(bound, async || {
                let passes = scene.request_passes(&server, &url).await?;
                Ok::<_, Failure>(Look::when(passes != denies, passes))
            })
            .await?;
            let words = |passed: bool| if passed { "passed" } else { "was blocked" };
            let answer = format!(
                "the policy of a server that existed before {}; a request of its running pod {} before and {} after",
                match (policy, denies) {
                    (None, _) => "is gone",
                    (_, true) => "now denies all egress",
                    (_, false) => "stays as it was",
                },
                before.map_or("was not tried", words),
                words(passes),
            );
            let question = "whether flipping the default-deny setting changes servers that already exist";
            scene.answer("setting-flipped", "flipped default-deny setting", question, &answer)
        })
        .await
}

impl Scene {
    fn answer(&self, kind: &str, name: impl Into<String>, question: &str, answer: &str) -> Step {
        let check = Check::new(kind, name);
        self.settle(vec![open_question::answer(&check, question, answer)])
    }

    fn created(&self) -> Result<&[CreatedServer], Failure> {
        match self.authoring.created.as_slice() {
            [] => Err(Failure::Scenario("no step created a server".to_owned())),
            servers => Ok(servers),
        }
    }

    /// Creates a server that must be accepted.
    async fn create(&mut self, runtime: &str, domains: &[String], deny: Option<bool>) -> Step {
        let mut words = format!("the {runtime} server that lists {}", json!(domains));
        if let Some(deny) = deny {
            words += &format!(" with denyAllEgress {deny}");
        }
        let manifest = manifest(runtime, domains, deny);
        let (answer, created) = self.lab().await?.try_create(&words, &manifest).await?;
        let server = created.ok_or_else(|| {
            Failure::Scenario(format!(
                "{words} was answered {}: {}",
                answer.status, answer.body
            ))
        })?;
        self.authoring.control = Some(answer);
        self.authoring.created.push(CreatedServer {
            words,
            id: server.id,
            domains: domains.to_vec(),
            deny: deny.unwrap_or(false),
        });
        Ok(())
    }

    /// Asks for a server that should be rejected.
    async fn try_create(
        &mut self,
        runtime: &str,
        what: &str,
        domains: &[String],
        deny: Option<bool>,
    ) -> Result<Answer, Failure> {
        let manifest = manifest(runtime, domains, deny);
        Ok(self.lab().await?.try_create(what, &manifest).await?.0)
    }

    async fn judge_rejected(&mut self, breach: &str, field: &str, answers: Vec<Answer>) -> Step {
        let known: BTreeSet<String> = self
            .created()?
            .iter()
            .map(|server| server.id.clone())
            .collect();
        let policies = self.lab().await?.network_policies().await?;
        let server = |policy: &Value| policy["spec"]["mcpServerName"].as_str().map(str::to_owned);
        let leftovers = policies
            .iter()
            .filter(|policy| server(policy).is_none_or(|server| !known.contains(&server)))
            .map(|policy| {
                policy["metadata"]["name"]
                    .as_str()
                    .unwrap_or_default()
                    .to_owned()
            })
            .collect();
        let claim = RejectionClaim {
            check: Check::new("rejected", format!("rejected: {breach}"))
                .with(Aspect::Breach, breach),
            field: field.to_owned(),
            control: self.authoring.control.clone(),
            answers,
            leftovers,
        };
        self.settle(vec![judge_rejection(&claim)])
    }

    /// Sends one request out of a server's Pod and says whether it was answered.
    async fn request_passes(&mut self, server: &str, url: &str) -> Result<bool, Failure> {
        let pod = self.lab().await?.server(server)?.pod.clone();
        let probe = self.probe_of_url(url)?;
        self.probe_from(&pod, server, &[probe]).await?;
        let label = self.only_attempt()?;
        let completed = self.await_outcome(&label).await?;
        // The answer is what the step judges.
        let observations = self.observe().await?;
        self.attempt(&observations, &label)?;
        Ok(completed)
    }
}

/// A server manifest in Obot's own shape; none of these is ever launched.
fn manifest(runtime: &str, domains: &[String], deny: Option<bool>) -> Value {
    let mut config = match runtime {
        "containerized" => {
            json!({"image": "containment.test/fetcher:1.0.0", "port": 8080, "path": "/mcp"})
        }
        _ => json!({"package": "@stolaf/notes"}),
    };
    config["egressDomains"] = json!(domains);
    if let Some(deny) = deny {
        config["denyAllEgress"] = json!(deny);
    }
    let mut manifest =
        json!({"name": format!("a server of runtime {runtime}"), "runtime": runtime});
    manifest[format!("{runtime}Config")] = config;
    manifest
}

/// The cells of a step's table below its heading.
fn rows<const N: usize>(
    step: &gherkin::Step,
    heading: [&str; N],
) -> Result<Vec<[String; N]>, Failure> {
    let wrong = || {
        Failure::Scenario(format!(
            "the step needs a table with the columns {heading:?}"
        ))
    };
    let table = step.table.as_ref().ok_or_else(wrong)?;
    let mut rows = table.rows.iter();
    if rows.next().is_none_or(|found| *found != heading) {
        return Err(wrong());
    }
    let rows: Vec<[String; N]> = rows
        .map(|row| row.clone().try_into().map_err(|_| wrong()))
        .collect::<Result<_, _>>()?;
    if rows.is_empty() {
        return Err(wrong());
    }
    Ok(rows)
}
