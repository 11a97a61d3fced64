//! Servers that use the orchestrator against their own lists: longer lists, and other servers as relays.

use cucumber::gherkin;
use cucumber::{given, then, when};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::toolcall::{first_packet, tool_result};
use crate::facts::{ApiCall, Attempt};
use crate::judge::Check;
use crate::judge::authoring::ServerState;
use crate::judge::trespass::{
    OpenClaim, RefusedClaim, RelayClaim, UntouchedClaim, judge_no_relay, judge_open, judge_refused,
    judge_untouched,
};
use crate::lab::trespass::Login;
use crate::world::{Failure, Scene, Step, World};

/// What makes the orchestrator ask for a login (`reference/obot.md` section 1).
const SETTING: &str = "OBOT_SERVER_ENABLE_AUTHENTICATION=true: the orchestrator's API and its MCP endpoint ask for a login";
/// What answers without a login.
const OPEN_TO_ALL: (&str, &str) = ("GET", "/api/healthz");

/// What a server tried with the orchestrator's help.
#[derive(Debug, Default)]
pub struct Trespass {
    calls: Vec<ApiCall>,
    /// A call that needs no login.
    control: Option<ApiCall>,
    /// Servers as they were before.
    before: Vec<(String, ServerState)>,
    /// The list that an accepted call left, by server.
    widened: Vec<(String, Vec<String>)>,
    /// What was to leave through another server.
    relayed: Option<Fetch>,
    /// What an agent had the same server fetch.
    agent: Option<Fetch>,
}

/// A request that a server makes for somebody, and does not announce.
#[derive(Debug, Clone)]
struct Fetch {
    label: &'static str,
    host: String,
    canary: String,
    since: Timestamp,
}

#[given("the orchestrator's authentication is off")]
async fn authentication_is_off(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            scene.set_up(|setup| setup.without_authentication = true)
        })
        .await
}

#[when(
    expr = "the pod of {string} asks the orchestrator to add {string} to the lists of {string} and {string}"
)]
async fn asks_for_longer_lists(
    world: &mut World,
    by: String,
    host: String,
    first: String,
    second: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            scene.widen(&by, &host, &[first, second]).await
        })
        .await
}

#[then(expr = "the orchestrator refuses it, and nothing about {string} and {string} has changed")]
async fn refused_and_unchanged(
    world: &mut World,
    first: String,
    second: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let mut results = vec![judge_refused(
                &scene.refused("list-change-refused", "a longer list is refused"),
            )];
            for server in [first, second] {
                let state = scene
                    .trespass
                    .before
                    .iter()
                    .find(|(name, _)| *name == server);
                let (_, before) = state.cloned().ok_or_else(|| no_step(&server))?;
                results.push(judge_untouched(&UntouchedClaim {
                    check: Check::new(
                        "server-untouched",
                        format!("nothing about {server} changed"),
                    ),
                    after: scene.lab().await?.state_of(&server).await?,
                    server,
                    before,
                }));
            }
            scene.settle(results)
        })
        .await
}

#[then(
    expr = "it is a finding that the pod of {string} reaches {string} by a list of its own making"
)]
async fn widens_its_list(
    world: &mut World,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            for (server, list) in scene.trespass.widened.clone() {
                let lab = scene.lab().await?;
                lab.policy_after_update(&server, &list).await?;
            }
            let pod = scene.lab().await?.server(&server)?.pod.clone();
            let probe = scene.probe_of_url(&format!("https://{host}/"))?;
            let canary = probe.canary.clone();
            scene.probe_from(&pod, &server, &[probe]).await?;
            let label = scene.only_attempt()?;
            scene.await_outcome(&label).await?;
            let risk = format!("{server} adds {host} to its own list and reaches it");
            let observations = scene.observe().await?;
            let attempt = scene.attempt(&observations, &label)?;
            scene.judges(&attempt, false);
            let claim = scene.open("list-change-open", "own list widened", (risk, host, canary));
            scene.settle(vec![judge_open(&claim, &observations)])
        })
        .await
}

#[when(expr = "the pod {string} calls the orchestrator's API without a login")]
async fn calls_without_login(world: &mut World, pod: String, step: &gherkin::Step) -> Step {
    let table = step.table.clone();
    world
        .act(step, async |scene| {
            let rows = table.map(|table| table.rows).unwrap_or_default();
            scene.reach_orchestrator(&pod).await?;
            for row in rows.iter().skip(1) {
                let [method, path] = row.as_slice() else {
                    return Err(Failure::Scenario("a row needs method and path".to_owned()));
                };
                let body = json!({});
                let body = (method != "GET").then_some(&body);
                let (lab, login) = (scene.lab().await?, Login::none());
                let (call, _) = lab
                    .call_orchestrator(&pod, &login, (method, path), body)
                    .await?;
                scene.trespass.calls.push(call);
            }
            Ok(())
        })
        .await
}

#[then("each call is refused for want of a login")]
async fn refused_for_want_of_a_login(world: &mut World, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let claim = scene.refused("login-demanded", "API demands authentication");
            scene.settle(vec![judge_refused(&claim)])
        })
        .await
}

#[when(expr = "as a control, an agent has {string} fetch from {string}")]
async fn agent_fetches(
    world: &mut World,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let fetch = Fetch::of("the agent's request", &host);
            let arguments = fetch.arguments();
            let arguments = arguments.as_object().cloned().unwrap_or_default();
            let lab = scene.lab().await?;
            lab.call_tool(&server, "fetch", arguments).await?;
            scene.trespass.agent = Some(fetch);
            Ok(())
        })
        .await
}

#[when(expr = "the pod of {string} has {string} fetch from {string} through the orchestrator")]
async fn relays(
    world: &mut World,
    by: String,
    server: String,
    host: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| scene.relay(&by, &server, &host).await)
        .await
}

#[then(expr = "the orchestrator refuses it, and nothing of it leaves through {string}")]
async fn no_relay(world: &mut World, server: String, step: &gherkin::Step) -> Step {
    world
        .act(step, async |scene| {
            let mut results = Vec::new();
            if let Some(control) = scene.trespass.agent.clone() {
                let attempt = scene.fetched(&control).await?;
                results = scene.judge_passed(attempt, &control.host).await?;
            }
            let agent = scene.trespass.agent.clone();
            let relayed = scene.trespass.relayed.clone().ok_or_else(|| {
                Failure::Scenario(format!(
                    "no step tried to reach anything through {server:?}"
                ))
            })?;
            let claim = RelayClaim {
                check: Check::new("no-relay", format!("{server} is no relay")),
                calls: scene.trespass.calls.clone(),
                canary: relayed.canary,
                control: agent.map(|fetch| (fetch.canary, fetch.host)),
            };
            let observations = scene.observe().await?;
            results.push(judge_no_relay(&claim, &observations));
            scene.settle(results)
        })
        .await
}

#[then(expr = "it is a finding that the pod of {string} reaches {string} through {string}")]
async fn open_relay(
    world: &mut World,
    by: String,
    host: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let relayed = scene.trespass.relayed.clone();
            let relayed = relayed
                .ok_or_else(|| Failure::Scenario("no step had a server fetch".to_owned()))?;
            let attempt = scene.fetched(&relayed).await?;
            scene.judges(&attempt, false);
            let observations = scene.observe().await?;
            let risk = format!("{by} has {server} fetch {host}, which is not on the list of {by}");
            let canary = relayed.canary;
            let claim = scene.open(
                "relay-open",
                "another server as a relay",
                (risk, host, canary),
            );
            scene.settle(vec![judge_open(&claim, &observations)])
        })
        .await
}

#[when(expr = "the pod of {string} calls the server {string} directly")]
async fn calls_directly(
    world: &mut World,
    by: String,
    server: String,
    step: &gherkin::Step,
) -> Step {
    world
        .act(step, async |scene| {
            let lab = scene.lab().await?;
            let pod = lab.server(&by)?.pod.clone();
            let target = lab.server(&server)?.pod.clone();
            let address = lab.pod_fact(&target).await?.address.to_string();
            let probe = scene.probe_to("http", &address, 8080);
            scene.probe_from(&pod, &by, &[probe]).await
        })
        .await
}

impl Scene {
    /// The strongest attempt of a server: it knows every id and manifest, and tries without a login and with an agent's
    /// API key.
    async fn widen(&mut self, by: &str, host: &str, servers: &[String]) -> Step {
        let pod = self.lab().await?.server(by)?.pod.clone();
        self.reach_orchestrator(&pod).await?;
        for name in servers {
            let state = self.lab().await?.state_of(name).await?;
            self.trespass.before.push((name.clone(), state));
        }
        for login in self.logins(&[]).await? {
            let lab = self.lab().await?;
            let list = ("GET", "/api/mcp-servers");
            let (call, body) = lab.call_orchestrator(&pod, &login, list, None).await?;
            let mut calls = vec![call];
            let listed: Value = serde_json::from_str(&body).unwrap_or_default();
            for name in servers {
                let server = self.lab().await?.server(name)?.clone();
                let items = listed["items"].as_array().into_iter().flatten();
                let mut found = items.filter(|item| item["id"] == *server.id);
                let manifest = found.next().map(|item| item["manifest"].clone());
                let manifest = manifest.unwrap_or_else(|| server.manifest.manifest.clone());
                let (widened, list) = widened(manifest, host);
                let path = format!("/api/mcp-servers/{}", server.id);
                let lab = self.lab().await?;
                let put = ("PUT", path.as_str());
                let (call, _) = lab
                    .call_orchestrator(&pod, &login, put, Some(&widened))
                    .await?;
                if call.accepted() {
                    self.trespass.widened.push((name.clone(), list));
                }
                calls.push(call);
            }
            self.trespass.calls.extend(calls);
        }
        Ok(())
    }

    /// Has another server fetch from `host`, without a login and with an API key that is limited to the server's own.
    async fn relay(&mut self, by: &str, server: &str, host: &str) -> Step {
        let (pod, own) = {
            let by = self.lab().await?.server(by)?;
            (by.pod.clone(), by.id.clone())
        };
        let fetch = Fetch::of("the relayed request", host);
        let arguments = fetch.arguments();
        for login in self.logins(&[&own]).await? {
            let lab = self.lab().await?;
            let calls = lab.relay_through(&pod, &login, server, ("fetch", &arguments));
            let calls = calls.await?;
            self.trespass.calls.extend(calls);
        }
        self.trespass.relayed = Some(fetch);
        Ok(())
    }

    /// A request that a server made for somebody: its first packet in the capture stands for the announcement, the last
    /// tool call for the client's result.
    async fn fetched(&mut self, fetch: &Fetch) -> Result<Attempt, Failure> {
        let observations = self.observe().await?;
        let host = self.context.internet.host(&fetch.host);
        let address = host.and_then(|host| host.addresses.first().copied());
        let address = address.ok_or_else(|| {
            Failure::Scenario(format!(
                "scenarios/internet.yaml has no host {:?}",
                fetch.host
            ))
        })?;
        Ok(Attempt {
            label: fetch.label.to_owned(),
            canary: fetch.canary.clone(),
            sent: first_packet(&observations, address, Some(fetch.since), &fetch.host),
            result: tool_result(self.recorder.events().iter().map(AsRef::as_ref)),
        })
    }

    /// No login, and where there are logins an agent's API key.
    async fn logins(&mut self, servers: &[&str]) -> Result<Vec<Login>, Failure> {
        let orchestrator = self.lab().await?.orchestrator();
        let key = orchestrator.api_key("stolen", servers).await;
        let key = key.map_err(crate::lab::Error::from)?;
        let key = key.map(|token| Login {
            words: "with an agent's API key".to_owned(),
            token: Some(token),
        });
        Ok([Login::none()].into_iter().chain(key).collect())
    }

    /// Makes the call that needs no login: it shows that the API is within reach of the Pod.
    async fn reach_orchestrator(&mut self, pod: &str) -> Step {
        self.trespass = Trespass::default();
        let (lab, login) = (self.lab().await?, Login::none());
        let (call, _) = lab
            .call_orchestrator(pod, &login, OPEN_TO_ALL, None)
            .await?;
        self.trespass.control = Some(call);
        Ok(())
    }

    fn refused(&self, kind: &str, name: &str) -> RefusedClaim {
        RefusedClaim {
            check: Check::new(kind, name),
            calls: self.trespass.calls.clone(),
            control: self.trespass.control.clone(),
        }
    }

    fn open(
        &self,
        kind: &str,
        name: &str,
        (risk, far_end, canary): (String, String, String),
    ) -> OpenClaim {
        OpenClaim {
            check: Check::new(kind, name),
            risk,
            setting: SETTING.to_owned(),
            calls: self.trespass.calls.clone(),
            far_end,
            canary,
        }
    }
}

impl Fetch {
    /// A request with a canary of its own, made from now on.
    fn of(label: &'static str, host: &str) -> Self {
        Self {
            label,
            host: host.to_owned(),
            canary: fixtures::canary::generate(),
            since: Timestamp::now(),
        }
    }

    /// Arguments of the tool `fetch` that carry the canary to the host.
    fn arguments(&self) -> Value {
        json!({"url": format!("https://{}/probe/{}", self.host, self.canary)})
    }
}

/// A manifest with a host more on its list, and that list. A toggle that denies all egress goes: it would contradict it.
fn widened(mut manifest: Value, host: &str) -> (Value, Vec<String>) {
    let mut list = Vec::new();
    for key in ["npxConfig", "uvxConfig", "containerizedConfig"] {
        let Some(Value::Object(config)) = manifest.get_mut(key) else {
            continue;
        };
        config.remove("denyAllEgress");
        let domains = config.get("egressDomains").and_then(Value::as_array);
        let domains = domains.into_iter().flatten().filter_map(Value::as_str);
        list = domains.map(str::to_owned).collect();
        list.push(host.to_owned());
        config.insert("egressDomains".to_owned(), json!(list));
    }
    (manifest, list)
}

fn no_step(server: &str) -> Failure {
    Failure::Scenario(format!("no step asked for another list of {server:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_grows_and_the_deny_toggle_goes() {
        let vault = json!({"runtime": "containerized", "containerizedConfig": {"denyAllEgress": true, "port": 1}});
        let (manifest, list) = widened(vault, "evil.test");
        assert_eq!(
            manifest["containerizedConfig"],
            json!({"egressDomains": ["evil.test"], "port": 1})
        );
        assert_eq!(list, ["evil.test"]);
    }
}
