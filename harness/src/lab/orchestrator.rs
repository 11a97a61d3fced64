//! Client of the orchestrator's HTTP API (Obot, `reference/obot.md` section 1).
//!
//! Speaks only the documented contract, so that the stand-in and a real Obot can take each other's place.
//! It knows nothing of clusters or policies: what a server may reach is in the manifest it sends.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde::Deserialize;
use serde_json::{Value, json};

/// Entries and multi-user servers of the built-in catalog.
const ENTRIES: &str = "/api/mcp-catalogs/default/entries";
const MULTI_USER: &str = "/api/mcp-catalogs/default/servers";

/// What went wrong between the harness and the orchestrator.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No HTTP answer at all.
    #[error("the orchestrator does not answer {call}: {source}")]
    Transport {
        /// Method and path of the call.
        call: String,
        /// What the HTTP client saw.
        source: reqwest::Error,
    },
    /// An answer other than 2xx. Obot's error bodies are plain text.
    #[error("the orchestrator answered {call} with {status}: {body}")]
    Refused {
        /// Method and path of the call.
        call: String,
        /// HTTP status.
        status: u16,
        /// The message in the body.
        body: String,
    },
}

/// A server as the orchestrator reports it; only the fields the harness reads.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Server {
    /// Obot's id, also the name of the Kubernetes objects (`ms1` and five characters).
    pub id: String,
    /// Where agents connect; absent for catalog servers.
    #[serde(rename = "connectURL")]
    pub connect_url: Option<String>,
}

/// A connection to one orchestrator.
#[derive(Debug, Clone)]
pub struct Orchestrator {
    http: reqwest::Client,
    base: String,
    /// The owner's bearer token; none while the orchestrator's authentication is off.
    token: Option<Token>,
}

/// A bearer token. Its text is not part of any message.
#[derive(Clone)]
pub struct Token(String);

impl Token {
    /// A token from its text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text, for the request that carries it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(a token)")
    }
}

impl Orchestrator {
    /// `base` is the URL before `/api`, for example `http://127.0.0.1:8080`. `token` logs the owner in.
    pub fn new(base: impl Into<String>, token: Option<Token>) -> Self {
        let base = base.into();
        Self {
            http: http_client(&base),
            base,
            token,
        }
    }

    /// The same with connections of its own: those to a Pod that is gone are of no use.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::new(self.base.clone(), self.token.clone())
    }

    /// The owner's bearer token; none while the orchestrator's authentication is off.
    pub fn token(&self) -> Option<&Token> {
        self.token.as_ref()
    }

    /// The URL before `/api`.
    pub fn base(&self) -> &str {
        &self.base
    }

    /// Creates a server from a free manifest.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 400 when validation rejects the manifest.
    pub async fn create(&self, manifest: &Value) -> Result<Server, Error> {
        self.call(
            reqwest::Method::POST,
            "/api/mcp-servers",
            Some(&json!({ "manifest": manifest })),
        )
        .await
    }

    /// Replaces the manifest of a server. The body is the bare manifest, not an envelope.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 400 when validation rejects the manifest.
    pub async fn update(&self, id: &str, manifest: &Value) -> Result<Server, Error> {
        self.call(
            reqwest::Method::PUT,
            &format!("/api/mcp-servers/{id}"),
            Some(manifest),
        )
        .await
    }

    /// Adds an entry to the catalog and returns its id.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 400 when validation rejects the manifest.
    pub async fn create_entry(&self, manifest: &Value) -> Result<String, Error> {
        let post = reqwest::Method::POST;
        let entry: Value = self.call(post, ENTRIES, Some(manifest)).await?;
        Ok(id_in(&entry))
    }

    /// Replaces the manifest of a catalog entry.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 400 when validation rejects the manifest.
    pub async fn update_entry(&self, id: &str, manifest: &Value) -> Result<(), Error> {
        let path = format!("{ENTRIES}/{id}");
        let sent = self.send(reqwest::Method::PUT, &path, Some(manifest));
        sent.await.map(drop)
    }

    /// Makes a single-user server from a catalog entry and returns its id.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such entry.
    pub async fn create_from(&self, entry: &str) -> Result<String, Error> {
        let body = json!({"catalogEntryID": entry});
        let post = reqwest::Method::POST;
        let server: Value = self.call(post, "/api/mcp-servers", Some(&body)).await?;
        Ok(id_in(&server))
    }

    /// Makes a multi-user server of the default catalog and returns its id.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 400 when validation rejects the manifest.
    pub async fn create_multi_user(&self, manifest: &Value) -> Result<String, Error> {
        let body = json!({"manifest": manifest});
        let post = reqwest::Method::POST;
        let server: Value = self.call(post, MULTI_USER, Some(&body)).await?;
        Ok(id_in(&server))
    }

    /// Pulls the manifest of a server's catalog entry into the server.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 400 for multi-user servers.
    pub async fn trigger_update(&self, id: &str) -> Result<(), Error> {
        let path = format!("/api/mcp-servers/{id}/trigger-update");
        let sent = self.send(reqwest::Method::POST, &path, None);
        sent.await.map(drop)
    }

    /// A server, as the orchestrator shows it.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such server.
    pub async fn server(&self, id: &str) -> Result<Value, Error> {
        let path = format!("/api/mcp-servers/{id}");
        self.call(reqwest::Method::GET, &path, None).await
    }

    /// A multi-user server, as the orchestrator shows it.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such server in the default catalog.
    pub async fn multi_user(&self, id: &str) -> Result<Value, Error> {
        let path = format!("{MULTI_USER}/{id}");
        self.call(reqwest::Method::GET, &path, None).await
    }

    /// The manifest of a server, as the orchestrator shows it.
    ///
    /// # Errors
    /// [`Error::Refused`] when there is no such server.
    pub async fn manifest(&self, id: &str) -> Result<Value, Error> {
        Ok(self.server(id).await?["manifest"].clone())
    }

    /// Gives a server the values of its variables. Obot takes them from here alone: a static `value` in the manifest of a
    /// server does not reach its Pod.
    ///
    /// # Errors
    /// [`Error::Refused`] when the orchestrator does not take them.
    pub async fn configure(
        &self,
        id: &str,
        values: &BTreeMap<String, String>,
    ) -> Result<(), Error> {
        self.send(
            reqwest::Method::POST,
            &format!("/api/mcp-servers/{id}/configure"),
            Some(&json!(values)),
        )
        .await
        .map(drop)
    }

    /// Creates the Kubernetes objects of a server and waits until the orchestrator calls it healthy.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 503 when the server does not become healthy.
    pub async fn launch(&self, id: &str) -> Result<(), Error> {
        self.send(
            reqwest::Method::POST,
            &format!("/api/mcp-servers/{id}/launch"),
            None,
        )
        .await
        .map(drop)
    }

    /// Deletes a server and what belongs to it.
    ///
    /// # Errors
    /// [`Error::Refused`] with status 404 when there is no such server.
    pub async fn delete(&self, id: &str) -> Result<(), Error> {
        self.send(
            reqwest::Method::DELETE,
            &format!("/api/mcp-servers/{id}"),
            None,
        )
        .await
        .map(drop)
    }

    /// Asks for a rolling restart of a server's Deployment; returns before it is done.
    ///
    /// # Errors
    /// [`Error::Refused`] when the orchestrator does not know the server.
    pub async fn restart(&self, id: &str) -> Result<(), Error> {
        self.send(
            reqwest::Method::POST,
            &format!("/api/mcp-servers/{id}/restart"),
            None,
        )
        .await
        .map(drop)
    }

    /// Ids of the servers that the orchestrator knows.
    ///
    /// # Errors
    /// When the orchestrator does not answer.
    pub async fn servers(&self) -> Result<Vec<String>, Error> {
        let list: Value = self
            .call(reqwest::Method::GET, "/api/mcp-servers", None)
            .await?;
        let ids = list["items"].as_array().into_iter().flatten();
        Ok(ids
            .filter_map(|server| server["id"].as_str().map(str::to_owned))
            .collect())
    }

    /// Makes an API key, with which an agent reaches servers and nothing else. `servers` limits it; empty: all of the
    /// user's. None while the orchestrator's authentication is off.
    ///
    /// # Errors
    /// [`Error::Refused`] when the orchestrator makes none.
    pub async fn api_key(&self, name: &str, servers: &[&str]) -> Result<Option<Token>, Error> {
        if self.token.is_none() {
            return Ok(None);
        }
        let wanted = json!({"name": name, "mcpServerIds": servers});
        let made: Value = self
            .call(reqwest::Method::POST, "/api/api-keys", Some(&wanted))
            .await?;
        Ok(made["key"].as_str().map(Token::new))
    }

    /// Where an agent reaches a server through the orchestrator.
    pub fn connect_url(&self, id: &str) -> String {
        format!("{}/mcp-connect/{id}", self.base)
    }

    async fn call<T: serde::de::DeserializeOwned>(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<T, Error> {
        let call = format!("{method} {path}");
        let response = self.send(method, path, body).await?;
        response
            .json()
            .await
            .map_err(|source| Error::Transport { call, source })
    }

    async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, Error> {
        let call = format!("{method} {path}");
        let mut request = self.http.request(method, format!("{}{path}", self.base));
        if let Some(token) = &self.token {
            request = request.bearer_auth(token.reveal());
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|source| Error::Transport {
            call: call.clone(),
            source,
        })?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let body = response.text().await.unwrap_or_default().trim().to_owned();
        Err(Error::Refused {
            call,
            status: status.as_u16(),
            body,
        })
    }
}

fn id_in(object: &Value) -> String {
    object["id"].as_str().unwrap_or_default().to_owned()
}

/// The MCPNetworkPolicies in the orchestrator's storage API (`reference/obot.md` section 3), whose certificate is
/// self-signed and not checked by anyone who reads it.
///
/// # Errors
/// When the storage does not answer or refuses the token.
pub async fn network_policies(storage: SocketAddr, token: &str) -> Result<Vec<Value>, Error> {
    let mut list = ask_storage(reqwest::Method::GET, storage, token, None).await?;
    Ok(list["items"]
        .as_array_mut()
        .map(std::mem::take)
        .unwrap_or_default())
}

/// Creates an MCPNetworkPolicy in the orchestrator's storage.
///
/// # Errors
/// When the storage does not answer or refuses the token or the policy.
pub async fn write_network_policy(
    storage: SocketAddr,
    token: &str,
    policy: &Value,
) -> Result<(), Error> {
    ask_storage(reqwest::Method::POST, storage, token, Some(policy))
        .await
        .map(drop)
}

/// A client for one base URL. Reading the machine's root certificates costs more than all the rest of a client, so that
/// one for plain HTTP does without them.
pub(super) fn http_client(base: &str) -> reqwest::Client {
    let client = reqwest::Client::builder();
    let client = if base.starts_with("https://") {
        client
    } else {
        client.tls_certs_only([])
    };
    client.build().unwrap_or_default()
}

async fn ask_storage(
    method: reqwest::Method,
    storage: SocketAddr,
    token: &str,
    body: Option<&Value>,
) -> Result<Value, Error> {
    const PATH: &str = "/apis/obot.obot.ai/v1/namespaces/default/mcpnetworkpolicys";
    let call = format!("{method} {PATH}");
    let failed = |source| Error::Transport {
        call: call.clone(),
        source,
    };
    let http = reqwest::Client::builder()
        .tls_danger_accept_invalid_certs(true)
        .build()
        .map_err(failed)?;
    let mut request = http
        .request(method, format!("https://{storage}{PATH}"))
        .bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.map_err(failed)?;
    let status = answer.status();
    if !status.is_success() {
        return Err(Error::Refused {
            call,
            status: status.as_u16(),
            body: answer.text().await.unwrap_or_default(),
        });
    }
    answer.json().await.map_err(failed)
}
