//! `/v2.5/api/<path>`: objects as JSON, `Authorization: cid <CID>` (`reference/aviatrix-controller-api.md` sections 1.2
//! to 1.4).
//!
//! | part | paths |
//! |---|---|
//! | `app_domains` | `app-domains` |
//! | `policies` | `microseg/policy-list`, `microseg/policy-list3`, `microseg/attachment-points`, `microseg/default-action-policy` |
//! | `profiles` | `dcf/tls-profile`, `dcf/log-profile` |
//! | `clusters` | `k8s/clusters` |
//! | `mirror` | what FirewallPolicy and WebgroupPolicy objects look like in the lists |
//! | `uri` | percent-encoding |
//!
//! What an object is and when it is refused is [`crate::store`]'s; here are paths, methods and statuses alone. The
//! reference's other paths of `/v2.5/api` (section 4.7) are not here and answer 501.

mod app_domains;
mod clusters;
mod mirror;
mod policies;
mod profiles;
#[cfg(test)]
mod tests;
mod uri;

use std::time::Instant;

use hyper::{Method, Request, Response, StatusCode, body::Bytes, header::AUTHORIZATION};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::{Api, answer, not_implemented};
use crate::{
    controller::Controller,
    store::{self, ErrorKind},
};

/// `path` is what follows `/v2.5/api/`, still percent-encoded.
pub(super) fn handle(
    api: &Api,
    request: &Request<Bytes>,
    path: &str,
    now: Instant,
) -> Response<Bytes> {
    if !cid(request).is_some_and(|cid| api.sessions.check(cid, now)) {
        // Clients log in again when they see this status with these two words.
        let message = "Invalid CID: the session has expired or never was; log in again";
        return answer(StatusCode::FORBIDDEN, &json!({"message": message}));
    }
    respond(&api.controller, request, path)
}

fn cid(request: &Request<Bytes>) -> Option<&str> {
    let header = request.headers().get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, cid) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("cid").then(|| cid.trim())
}

/// Answers a request whose session is valid.
fn respond(controller: &Controller, request: &Request<Bytes>, path: &str) -> Response<Bytes> {
    let call = Call {
        controller,
        method: request.method(),
        query: request.uri().query().unwrap_or_default(),
        body: request.body(),
    };
    match route(&call, path) {
        Ok(response) => response,
        Err(Failure::NotHere) => not_implemented(request.method().as_str(), request.uri().path()),
        Err(failure) => answer(failure.status(), &json!({"message": failure.to_string()})),
    }
}

/// One call.
struct Call<'a> {
    controller: &'a Controller,
    method: &'a Method,
    query: &'a str,
    body: &'a [u8],
}

type Answer = Result<Response<Bytes>, Failure>;

/// Why a call did not happen.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Refused(#[from] store::Error),
    #[error("the request body is no JSON: {0}")]
    Body(serde_json::Error),
    #[error("parameter `{0}` is missing; send it in the query")]
    Parameter(&'static str),
    #[error("{0} mirrors an object in a Kubernetes cluster: change it there")]
    Mirror(Uuid),
    /// This fake does not have it.
    #[error("not here")]
    NotHere,
}

impl Failure {
    /// The one place where statuses of failures are chosen. The vendor's are unknown (section 10, trap 3): clients look
    /// at the message, and whether the status is 2xx.
    fn status(&self) -> StatusCode {
        match self {
            Self::Refused(error) => match error.kind() {
                ErrorKind::Invalid => StatusCode::BAD_REQUEST,
                ErrorKind::NotFound => StatusCode::NOT_FOUND,
                ErrorKind::Conflict => StatusCode::CONFLICT,
            },
            Self::Body(_) | Self::Parameter(_) => StatusCode::BAD_REQUEST,
            Self::Mirror(_) => StatusCode::CONFLICT,
            Self::NotHere => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

fn route(call: &Call<'_>, path: &str) -> Answer {
    let under = |noun: &str| match path.strip_prefix(noun)? {
        "" => Some(None),
        rest => rest.strip_prefix('/').map(Some),
    };
    if let Some(id) = under("app-domains") {
        app_domains::handle(call, id)
    } else if let Some(id) = under("microseg/policy-list3") {
        policies::handle(call, id)
    } else if let Some(id) = under("dcf/tls-profile") {
        profiles::handle_tls(call, id)
    } else if let Some(id) = under("k8s/clusters") {
        clusters::handle(call, id)
    } else {
        match path {
            "microseg/policy-list" => policies::handle_v1(call),
            "microseg/attachment-points" => policies::handle_attachment_points(call),
            "microseg/default-action-policy" => policies::handle_default_action(call),
            "dcf/log-profile" => profiles::handle_log(call),
            _ => Err(Failure::NotHere),
        }
    }
}

impl Call<'_> {
    fn json(&self) -> Result<Value, Failure> {
        serde_json::from_slice(self.body).map_err(Failure::Body)
    }

    fn parameter(&self, name: &'static str) -> Result<String, Failure> {
        uri::parameter(self.query, name).ok_or(Failure::Parameter(name))
    }
}

/// The uuid in a path. What is none names nothing.
fn uuid(text: &str, missing: fn(String) -> store::Error) -> Result<Uuid, Failure> {
    Uuid::parse_str(text).map_err(|_| missing(text.to_owned()).into())
}

fn ok<T: Serialize + ?Sized>(body: &T) -> Answer {
    Ok(answer(StatusCode::OK, body))
}

/// The answer to what returns nothing. Clients read no body here.
fn done() -> Answer {
    ok(&json!({}))
}
