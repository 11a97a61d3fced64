//! The vendor's HTTP API (`reference/aviatrix-controller-api.md`): what Terraform, scripts and the vendor's own tools
//! call to configure a controller.
//!
//! | part | owns |
//! |---|---|
//! | [`Api`] | one request in, one response out: no sockets, `now` is an argument |
//! | `session` | api tokens, CIDs, their expiry |
//! | `legacy` | `/v1/api` and `/v2/api`: actions with parameters in four encodings |
//! | `rest` | `/v2.5/api/<path>`: objects as JSON |
//! | [`server`] | HTTPS, HTTP/1.1, bounds on what a client may send |
//! | [`tls`] | its certificate, made per server |
//!
//! What an object is and when it is refused is [`crate::store`]'s. An endpoint that is not here answers 501 with its
//! path, and the log says so: never an empty success.

mod legacy;
mod rest;
pub mod server;
mod session;
pub mod tls;

use std::{sync::Arc, time::Instant};

use hyper::{
    Request, Response, StatusCode,
    body::Bytes,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::Serialize;
use serde_json::json;

use crate::controller::Controller;

pub use session::{Credentials, LoginError};

/// What a controller says of itself, and whom it lets in.
#[derive(Clone, Debug)]
pub struct ApiConfig {
    /// `current_version` of `list_version_info`. The provider wants its own major and minor version (section 1.5).
    pub version: String,
    pub credentials: Credentials,
    /// How long a CID is good for.
    pub session_lifetime: std::time::Duration,
}

impl Default for ApiConfig {
    fn default() -> Self {
        Self {
            version: "8.2.0".to_owned(),
            credentials: Credentials::default(),
            session_lifetime: std::time::Duration::from_secs(3600),
        }
    }
}

/// The API of one controller.
pub struct Api {
    controller: Arc<Controller>,
    config: ApiConfig,
    sessions: session::Sessions,
}

impl Api {
    pub fn new(controller: Arc<Controller>, config: ApiConfig) -> Self {
        let sessions = session::Sessions::new(config.credentials.clone(), config.session_lifetime);
        Self {
            controller,
            config,
            sessions,
        }
    }

    /// Forgets every CID: each client has to log in again.
    pub fn expire_sessions(&self) {
        self.sessions.expire_all();
    }

    /// Restarts the controller: every session is gone with it.
    pub fn restart(&self) {
        self.sessions.expire_all();
        self.controller.restart();
    }

    /// Answers one request.
    pub fn handle(&self, request: &Request<Bytes>, now: Instant) -> Response<Bytes> {
        let path = request.uri().path();
        if let Some(rest) = path.strip_prefix("/v2.5/api/") {
            return rest::handle(self, request, rest, now);
        }
        match path.trim_end_matches('/') {
            "/v1/api" | "/v2/api" => legacy::handle(self, request, now),
            _ => not_implemented(request.method().as_str(), path),
        }
    }
}

/// What a call was, for the server's log. Rides on the response, because a status alone does not say.
#[derive(Clone, Debug, Default)]
struct Called {
    /// Empty where the path says it all.
    action: String,
    /// The reason of a refusal that has the status of a success.
    refused: Option<String>,
}

/// The answer to what this controller does not have.
fn not_implemented(method: &str, path: &str) -> Response<Bytes> {
    tracing::warn!(
        method,
        path,
        "an endpoint was called that this fake does not have"
    );
    let message = format!("this fake controller has no {method} {path}");
    failure(StatusCode::NOT_IMPLEMENTED, &message)
}

/// A refusal with the keys of both families.
fn failure(status: StatusCode, message: &str) -> Response<Bytes> {
    let body = json!({"return": false, "reason": message, "message": message});
    answer(status, &body)
}

/// A response with a JSON body. Clients look for session texts only where the content type says JSON (section 1.1).
fn answer<T: Serialize + ?Sized>(status: StatusCode, body: &T) -> Response<Bytes> {
    let body = serde_json::to_vec(body).expect("invariant: JSON values serialize");
    let mut response = Response::new(Bytes::from(body));
    *response.status_mut() = status;
    response
        .headers_mut()
        .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
