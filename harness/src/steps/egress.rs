//! Requests out of a Pod, and what becomes of them.

use std::collections::BTreeSet;

use cucumber::gherkin;
use cucumber::{then, when};

use super::verdict::Rule;
use crate::judge::{Attempt, RuleExpectation};
use crate::lab::{ORCHESTRATOR_NAMESPACE, Probe, RUNTIME_NAMESPACE};
use crate::world::{Failure, Scene, Step, World};

#[when(regex = r#"^(?:as a control, )?the pod of "([^"]*)" requests "([^"]*)"$"#)]
async fn server_requests(
    world: &mut World,
    server: String,
    url: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let probe = scene.probe_of_url(&url)?;
            scene.probe_from(&pod, &server, &[probe]).await
        })
        .await
}

#[when(regex = r#"^(?:as a control, )?the pod "([^"]*)" requests "([^"]*)"$"#)]
async fn pod_requests(world: &mut World, pod: String, url: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let probe = scene.probe_of_url(&url)?;
            scene.probe_from(&pod, &pod, &[probe]).await
        })
        .await
}

#[when(expr = "the pod of {string} opens TLS to {string} without a server name")]
async fn server_opens_nameless_tls(
    world: &mut World,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let probe = Probe {
                server_name: false,
                ..scene.probe_to("tls", &host, 443)
            };
            scene.probe_from(&pod, &server, &[probe]).await
        })
        .await
}

#[when(expr = "the pod {string} tries each of")]
async fn pod_tries_each(world: &mut World, pod: String, step: &gherkin::Step) -> Step {
    let table = step.table.clone();
    world
        .act(step, async |scene| {
            let probes = scene.probes_of(table.as_ref())?;
            scene.probe_from(&pod, &pod, &probes).await
        })
        .await
}

#[when("the orchestrator's pod tries each of")]
async fn orchestrator_tries_each(world: &mut World, step: &gherkin::Step) -> Step {
    let table = step.table.clone();
    world
        .act(step, async |scene| {
            let probes = scene.probes_of(table.as_ref())?;
            let pod = scene.lab().await?.orchestrator_pod().await?;
            scene
                .probe_from_namespace(ORCHESTRATOR_NAMESPACE, &pod, "orchestrator", &probes)
                .await
        })
        .await
}

#[when(expr = "the pod of {string} tries each of")]
async fn server_tries_each(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    let table = step.table.clone();
    world
        .act(step, async |scene| {
            let probes = scene.probes_of(table.as_ref())?;
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            scene.probe_from(&pod, &server, &probes).await
        })
        .await
}

#[then(regex = r"^(?:the request|each of them) completes and the gateway logged the permit$")]
async fn requests_complete(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.all_pass(&RuleExpectation::Any).await
        })
        .await
}

#[then(expr = "the control passes")]
async fn control_passes(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| scene.control_passes().await)
        .await
}

#[then(regex = r#"^(?:the request|each of them) passes by the permits "([^"]*)" of Tier 1$"#)]
async fn requests_pass_by_tier_one(
    world: &mut World,
    permits: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.all_pass(&scene.tier_one_rule(&permits)?).await
        })
        .await
}

#[then(regex = "^(?:the request|each of them) passes by the server's own policy$")]
async fn requests_pass_by_own_policy(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.all_pass(&Rule::own_permit(scene.sender()?)).await
        })
        .await
}

#[then(regex = "^(?:the request|each of them) is blocked by the server's own policy$")]
async fn blocked_by_own_policy(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let rule = Rule::own_denial(scene.sender()?);
            scene.all_blocked(rule).await
        })
        .await
}

#[then(regex = "^(?:the request|each of them) is blocked by the default action$")]
async fn blocked_by_default(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.all_blocked(RuleExpectation::DefaultAction).await
        })
        .await
}

#[then(expr = "each denial is logged and traces to the server {string}")]
async fn denials_trace(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let labels = scene.last_attempts()?;
            let results = scene.judge_traces(&labels, &server).await?;
            scene.settle(results)
        })
        .await
}

impl Scene {
    /// A probe as an `https://` or `http://` URL says.
    pub(super) fn probe_of_url(&self, url: &str) -> Result<Probe, Failure> {
        let bad = || {
            Failure::Scenario(format!(
                "{url:?} is no URL of the form https://host[:port]/"
            ))
        };
        let (scheme, rest) = url.split_once("://").ok_or_else(bad)?;
        let (protocol, default_port) = match scheme {
            "https" => ("tls", 443),
            "http" => ("http", 80),
            _ => return Err(bad()),
        };
        let authority = rest.split('/').next().unwrap_or_default();
        match authority.split_once(':') {
            Some((host, port)) => {
                Ok(self.probe_to(protocol, host, port.parse().map_err(|_| bad())?))
            }
            None => Ok(self.probe_to(protocol, authority, default_port)),
        }
    }

    pub(super) fn probe_to(&self, protocol: &str, host: &str, port: u16) -> Probe {
        Probe {
            protocol: protocol.to_owned(),
            host: host.to_owned(),
            port,
            server_name: true,
            sni: None,
            trust: None,
            for_ms: None,
            load: None,
            ipv6: false,
            canary: fixtures::canary::generate(),
            timeout_ms: self
                .context
                .deadlines
                .probe_result
                .as_millis()
                .try_into()
                .unwrap_or(u64::MAX),
        }
    }

    /// Probes as a table says: protocol, destination, port. `192.0.2.1 as api.example.test` names another server in the
    /// ClientHello than the one it goes to; `tls without a name` names none. For what has no ports the last cell is empty or a dash.
    pub(super) fn probes_of(&self, table: Option<&gherkin::Table>) -> Result<Vec<Probe>, Failure> {
        let table = table.ok_or_else(|| {
            Failure::Scenario("the step needs a table: protocol, destination, port".to_owned())
        })?;
        let rows = table.rows.iter().skip(1);
        rows.map(|row| {
            let [protocol, host, port] = row.as_slice() else {
                return Err(Failure::Scenario(format!(
                    "a row has {} cells; expected protocol, destination, port",
                    row.len()
                )));
            };
            let port = match port.as_str() {
                "" | "-" => 0,
                port => port
                    .parse()
                    .map_err(|_| Failure::Scenario(format!("{port:?} is no port")))?,
            };
            let (host, name) = match host.split_once(" as ") {
                Some((host, name)) => (host, Some(name.to_owned())),
                None => (host.as_str(), None),
            };
            let (protocol, server_name) = match protocol.as_str() {
                "tls without a name" => ("tls", false),
                other => (other, true),
            };
            Ok(Probe {
                sni: name,
                server_name,
                ..self.probe_to(protocol, host, port)
            })
        })
        .collect()
    }

    /// Sends probes out of a Pod; they become the attempts that the next Then steps are about.
    pub(super) async fn probe_from(&mut self, pod: &str, who: &str, probes: &[Probe]) -> Step {
        self.probe_from_namespace(RUNTIME_NAMESPACE, pod, who, probes)
            .await
    }

    /// The same out of a Pod of any namespace.
    pub(super) async fn probe_from_namespace(
        &mut self,
        namespace: &str,
        pod: &str,
        who: &str,
        probes: &[Probe],
    ) -> Step {
        self.attempts.clear();
        self.sender = Some(who.to_owned());
        for probe in probes {
            self.probes_sent += 1;
            let label = format!("{who} -> {} #{}", probe.describe(), self.probes_sent);
            self.lab()
                .await?
                .probe_in(namespace, pod, probe, &label)
                .await?;
            self.attempts.push(label);
        }
        Ok(())
    }

    pub(super) fn only_attempt(&self) -> Result<String, Failure> {
        match self.attempts.as_slice() {
            [label] => Ok(label.clone()),
            other => Err(Failure::Scenario(format!(
                "the step is about one request, but {} were sent",
                other.len()
            ))),
        }
    }

    /// The server, or the Pod without one, whose attempts the next Then steps are about.
    pub(super) fn sender(&self) -> Result<&str, Failure> {
        let sender = self.sender.as_deref();
        sender.ok_or_else(|| {
            Failure::Scenario(
                "the step speaks of a server's policy, but no server sent anything".to_owned(),
            )
        })
    }

    /// The attempts of the last When step. None at all would make every sentence about them true.
    pub(super) fn last_attempts(&self) -> Result<Vec<String>, Failure> {
        if self.attempts.is_empty() {
            return Err(Failure::Scenario(
                "the step speaks of attempts, but none was made".to_owned(),
            ));
        }
        Ok(self.attempts.clone())
    }

    /// The name under which the far end of an attempt writes its receipts: the first of its names.
    pub(super) fn far_end(&self, attempt: &Attempt) -> String {
        let Some(sent) = &attempt.sent else {
            return String::new();
        };
        let internet = &self.context.internet;
        let address = sent.destination.ip();
        let host = match sent.host.as_deref() {
            Some(asked) => internet.host(asked),
            None => internet
                .hosts()
                .iter()
                .find(|host| host.addresses.contains(&address)),
        };
        let asked = sent.host.clone();
        host.map_or_else(
            || asked.unwrap_or_else(|| address.to_string()),
            |host| host.name().to_owned(),
        )
    }

    pub(super) async fn all_pass(&mut self, rule: &RuleExpectation) -> Step {
        let labels = self.last_attempts()?;
        for label in &labels {
            self.await_outcome(label).await?;
        }
        let results = self.judge_all_passed(&labels, rule).await?;
        self.settle(results)
    }

    pub(super) async fn all_blocked(&mut self, rule: RuleExpectation) -> Step {
        let labels = self.last_attempts()?;
        let attempts: Vec<_> = labels
            .into_iter()
            .map(|label| (label, rule.clone()))
            .collect();
        let results = self.judge_blocked(&attempts, BTreeSet::new()).await?;
        self.settle(results)
    }
}
