//! An AI agent as far as the network can tell: an MCP client over streamable HTTP.
//!
//! It goes through the orchestrator's connect URL, as agents do, and uses the official SDK, so that what it
//! sends is what a real agent sends: initialize, tools/list, tools/call.

use rmcp::ServiceExt;
use rmcp::model::CallToolRequestParams;
use rmcp::service::{RoleClient, RunningService};
use rmcp::transport::StreamableHttpClientTransport;
use rmcp::transport::streamable_http_client::StreamableHttpClientTransportConfig;
use serde_json::{Map, Value};

use super::Lab;
use super::orchestrator::{Token, http_client};
use crate::evidence::{Event, ToolCall};

/// What went wrong between the agent and the server.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The MCP handshake did not complete.
    #[error("the agent could not initialize an MCP session at {url}: {reason}")]
    Initialize {
        /// The connect URL.
        url: String,
        /// What the SDK reported.
        reason: String,
    },
    /// A request of an initialized session failed.
    #[error("the agent's {request} failed: {reason}")]
    Request {
        /// The MCP method.
        request: &'static str,
        /// What the SDK reported.
        reason: String,
    },
    /// The server does not offer the tool.
    #[error("the server offers no tool {wanted:?}; it offers {offered:?}")]
    NoSuchTool {
        /// The tool's name.
        wanted: String,
        /// What tools/list returned.
        offered: Vec<String>,
    },
}

/// What a tool call returned.
#[derive(Debug, Clone)]
pub struct ToolAnswer {
    /// True when the server marked the result as an error.
    pub is_error: bool,
    /// The result's text blocks, joined by newlines.
    pub text: String,
}

/// One session of an agent: initialized, open until [`Session::close`].
///
/// It outlives the call, as that of a real agent does. A server behind the stdio wrapper has a process per session: what
/// the process still does in the background after the answer ends with the session.
#[derive(Debug)]
pub struct Session(RunningService<RoleClient, ()>);

impl Session {
    /// Connects and initializes. `key` logs the agent in.
    ///
    /// # Errors
    /// [`Error::Initialize`].
    pub async fn open(url: &str, key: Option<&Token>) -> Result<Self, Error> {
        let mut config = StreamableHttpClientTransportConfig::with_uri(url);
        if let Some(key) = key {
            config = config.auth_header(key.reveal());
        }
        let transport = StreamableHttpClientTransport::with_client(http_client(url), config);
        let session = ().serve(transport).await;
        session.map(Self).map_err(|error| Error::Initialize {
            url: url.to_owned(),
            reason: error.to_string(),
        })
    }

    /// tools/list, then tools/call of `tool`.
    ///
    /// # Errors
    /// Any failure of the protocol; a tool's own failure is a value ([`ToolAnswer::is_error`]).
    pub async fn call_tool(
        &self,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<ToolAnswer, Error> {
        let failed = |request: &'static str| {
            move |error: rmcp::ServiceError| Error::Request {
                request,
                reason: error.to_string(),
            }
        };
        let listed = self.0.list_all_tools().await;
        let listed = listed.map_err(failed("tools/list"))?;
        let offered: Vec<String> = listed
            .into_iter()
            .map(|tool| tool.name.into_owned())
            .collect();
        if !offered.iter().any(|name| name == tool) {
            return Err(Error::NoSuchTool {
                wanted: tool.to_owned(),
                offered,
            });
        }
        let request = CallToolRequestParams::new(tool.to_owned()).with_arguments(arguments);
        let result = self.0.call_tool(request).await;
        let result = result.map_err(failed("tools/call"))?;
        let text = result
            .content
            .iter()
            .filter_map(|block| block.as_text().map(|text| text.text.clone()))
            .collect::<Vec<_>>();
        Ok(ToolAnswer {
            is_error: result.is_error.unwrap_or(false),
            text: text.join("\n"),
        })
    }

    /// Ends the session. A server that no longer answers has ended it by itself.
    pub async fn close(self) {
        drop(self.0.cancel().await);
    }
}

impl Lab {
    /// An agent calls a tool through the orchestrator; its session stays open until the scenario ends. A failure of the
    /// call is recorded, not returned.
    ///
    /// # Errors
    /// When the call outlives its deadline, or the orchestrator makes no API key for the agent.
    pub async fn call_tool(
        &mut self,
        name: &str,
        tool: &str,
        arguments: Map<String, Value>,
    ) -> Result<ToolCall, super::Error> {
        let url = self.orchestrator.connect_url(&self.server(name)?.id);
        let made = self.orchestrator.api_key("agent", &[]);
        let key = self.agent_key.get_or_try_init(|| made).await?.as_ref();
        let began = std::time::Instant::now();
        let called = async {
            let session = Session::open(&url, key).await?;
            let answer = session.call_tool(tool, arguments).await;
            Ok::<_, Error>((session, answer))
        };
        let what = format!("the answer to {tool:?}");
        let deadline = self.context.deadlines.tool_call;
        let answer = self.waiting.until(what, deadline, called).await?;
        let answer = answer.and_then(|(session, answer)| {
            self.agents.push(session);
            answer
        });
        let (succeeded, detail) = match answer {
            Ok(answer) => (!answer.is_error, answer.text),
            Err(error) => (false, error.to_string()),
        };
        let call = ToolCall {
            server: name.to_owned(),
            tool: tool.to_owned(),
            succeeded,
            detail: detail.chars().take(500).collect(),
            elapsed_us: began.elapsed().as_micros().try_into().unwrap_or(u64::MAX),
        };
        self.recorder.record(Event::ToolCall(call.clone()));
        Ok(call)
    }
}
