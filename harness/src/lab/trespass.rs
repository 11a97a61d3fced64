//! Calls that code in a server's Pod makes to HTTP APIs inside the cluster: the orchestrator's, and other servers'.

use fixtures::probe::api::Answer;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{Api, AttachParams};
use serde_json::{Value, json};
use tokio::io::AsyncReadExt as _;

use super::orchestrator::Token;
use super::{Error, Lab, RUNTIME_NAMESPACE};
use crate::evidence::Event;
use crate::facts::ApiCall;

/// The orchestrator's API, as Pods of the cluster reach it (`reference/obot.md` section 5).
const API: &str = "http://obot-obot.obot-system.svc.cluster.local";
/// Longest answer of the process in the Pod that is read.
const ANSWER_LIMIT: u64 = 1 << 20;
/// How much of a body is recorded.
const DETAIL: usize = 200;

/// A login that a call carries, and how evidence names it.
#[derive(Debug, Clone)]
pub struct Login {
    /// In words.
    pub words: String,
    /// The bearer token; none: no login.
    pub token: Option<Token>,
}

impl Login {
    /// No login at all.
    pub fn none() -> Self {
        Self {
            words: "without a login".to_owned(),
            token: None,
        }
    }
}

impl Lab {
    /// Makes a call to the orchestrator's API from a Pod of the servers' namespace.
    ///
    /// # Errors
    /// When no process can be run in the Pod, or it says what is no answer.
    pub async fn call_orchestrator(
        &self,
        pod: &str,
        login: &Login,
        (method, path): (&str, &str),
        body: Option<&Value>,
    ) -> Result<(ApiCall, String), Error> {
        let (call, answer) = self
            .call_from(pod, login, (method, path), None, body)
            .await?;
        Ok((call, answer.body))
    }

    /// Calls a tool of a server through the orchestrator from a Pod of the servers' namespace, as an MCP client would:
    /// initialize, initialized, tools/call. A refused step does not keep the client from the next one.
    ///
    /// # Errors
    /// As [`Lab::call_orchestrator`].
    pub async fn relay_through(
        &self,
        pod: &str,
        login: &Login,
        server: &str,
        (tool, arguments): (&str, &Value),
    ) -> Result<Vec<ApiCall>, Error> {
        let path = format!("/mcp-connect/{}", self.server(server)?.id);
        let client = json!({"name": "implant", "version": "1"});
        let hello =
            json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
        let messages = [
            json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": hello}),
            json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
            json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": tool, "arguments": arguments}}),
        ];
        let (mut calls, mut session) = (Vec::new(), None);
        for message in messages {
            let request = ("POST", path.as_str());
            let opened = session.as_deref();
            let (call, answer) = self
                .call_from(pod, login, request, opened, Some(&message))
                .await?;
            session = session.or(answer.session);
            calls.push(call);
        }
        Ok(calls)
    }

    async fn call_from(
        &self,
        pod: &str,
        login: &Login,
        (method, path): (&str, &str),
        session: Option<&str>,
        body: Option<&Value>,
    ) -> Result<(ApiCall, Answer), Error> {
        let timeout = self.context.deadlines.tool_call.as_millis().to_string();
        let url = format!("{API}{path}");
        let words = [
            "containment",
            "probe",
            "api",
            "--method",
            method,
            "--url",
            &url,
        ];
        let mut command: Vec<String> = words.map(str::to_owned).to_vec();
        command.extend(["--timeout-ms".to_owned(), timeout]);
        let token = login.token.as_ref().map(|token| token.reveal().to_owned());
        let options = [
            ("--token", token),
            ("--session", session.map(str::to_owned)),
            ("--body", body.map(Value::to_string)),
        ];
        for (option, value) in options {
            if let Some(value) = value {
                command.extend([option.to_owned(), value]);
            }
        }
        let what = format!("the answer to {method} {path} from the Pod {pod}");
        // The process has a bound of its own; this one is for an exec that hangs.
        let deadline = 2 * self.context.deadlines.tool_call;
        let said = self
            .waiting
            .until(what, deadline, self.run_in(pod, command))
            .await??;
        let answer: Answer = serde_json::from_str(&said).map_err(|error| {
            Error::Fixture(format!(
                "the call from {pod} came to {said:?}, which is no answer: {error}"
            ))
        })?;
        let call = ApiCall {
            pod: pod.to_owned(),
            login: login.words.clone(),
            method: method.to_owned(),
            target: url.trim_start_matches("http://").to_owned(),
            status: answer.status,
            detail: answer.body.chars().take(DETAIL).collect(),
        };
        self.recorder.record(Event::ApiCall(call.clone()));
        Ok((call, answer))
    }

    /// Runs a process in a Pod of the servers' namespace to its end; returns its standard output.
    async fn run_in(&self, pod: &str, command: Vec<String>) -> Result<String, Error> {
        let parameters = AttachParams::default()
            .stdin(false)
            .stdout(true)
            .stderr(true);
        let mut process = Api::<Pod>::namespaced(self.cluster.client(), RUNTIME_NAMESPACE)
            .exec(pod, command, &parameters)
            .await
            .map_err(Error::kubernetes(format!(
                "run a call in {RUNTIME_NAMESPACE}/{pod}"
            )))?;
        let (stdout, stderr) = (process.stdout(), process.stderr());
        let (mut said, mut complained) = (String::new(), String::new());
        let output = async {
            if let Some(stdout) = stdout {
                drop(stdout.take(ANSWER_LIMIT).read_to_string(&mut said).await);
            }
        };
        let errors = async {
            if let Some(stderr) = stderr {
                drop(
                    stderr
                        .take(ANSWER_LIMIT)
                        .read_to_string(&mut complained)
                        .await,
                );
            }
        };
        tokio::join!(output, errors);
        if said.trim().is_empty() {
            return Err(Error::Fixture(format!(
                "the call from {pod} said nothing: {complained}"
            )));
        }
        Ok(said)
    }
}
