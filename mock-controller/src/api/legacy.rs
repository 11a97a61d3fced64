//! `/v1/api` and `/v2/api`: actions, with parameters in a query, a form, JSON or multipart
//! (`reference/aviatrix-controller-api.md` sections 1, 4.1, 6).
//!
//! | part | owns |
//! |---|---|
//! | [`parameters`], [`multipart`] | one parameter map from four encodings |
//! | this file | login, session expiry, which action is which, the two shapes of an answer |
//! | [`features`], [`syslog`], [`copilot`], [`accounts`], [`gateways`] | the actions |
//!
//! Choices where the reference is silent. Both paths answer every action, and both logins work on both: with the token
//! of `get_api_token` in `X-Access-Key`, or with no such header; a header with an unknown token is refused. A refusal
//! has HTTP status 200, as clients ignore it here; a request that cannot be read has 400, and an action that this fake
//! does not have, among them those of section 9, has 501 and a line in the log.

mod accounts;
mod copilot;
mod features;
mod gateways;
mod multipart;
mod parameters;
mod syslog;

use std::time::Instant;

use hyper::{Request, Response, StatusCode, body::Bytes};
use serde_json::{Value, json};

use self::parameters::Parameters;
use super::{Api, Called, answer, failure};

/// Characters of an action's name that are repeated in logs and answers.
const MAX_ACTION: usize = 64;

/// Why an action did not happen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Refusal {
    /// The vendor's way to say no.
    #[error("{0}")]
    Reason(String),
    #[error("parameter `{0}` is missing or empty; send it as text")]
    Missing(&'static str),
    #[error("parameter `{name}` is `{value}`; it must be {expected}")]
    Unfit {
        name: &'static str,
        value: String,
        expected: &'static str,
    },
    /// The text that makes clients log in again.
    #[error("CID is invalid; Session {0} expired")]
    Expired(String),
    #[error(transparent)]
    Malformed(#[from] parameters::Malformed),
    #[error("this fake controller has no action {action} of {path}")]
    UnknownAction { action: String, path: String },
}

impl Refusal {
    /// A reason in somebody else's words.
    fn because(error: impl std::fmt::Display) -> Self {
        Self::Reason(error.to_string())
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::Reason(_) | Self::Missing(_) | Self::Unfit { .. } | Self::Expired(_) => {
                StatusCode::OK
            }
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::UnknownAction { .. } => StatusCode::NOT_IMPLEMENTED,
        }
    }
}

/// One action under way.
struct Call<'a> {
    api: &'a Api,
    /// `/v1/api` or `/v2/api`.
    path: &'a str,
    parameters: &'a Parameters,
}

impl<'a> Call<'a> {
    /// A parameter that may be absent; empty counts as absent.
    fn optional(&self, name: &str) -> Option<&'a str> {
        self.parameters.text(name)
    }

    fn required(&self, name: &'static str) -> Result<&'a str, Refusal> {
        self.optional(name).ok_or(Refusal::Missing(name))
    }

    /// `results` of an action that is done: the id of the request if it was asked for asynchronously.
    fn done(&self, action: &str, results: Value) -> Value {
        let reads = ["get_", "list_", "show_", "check_"];
        let writes = !reads.iter().any(|prefix| action.starts_with(prefix));
        if writes && self.optional("async") == Some("true") {
            return self
                .api
                .controller
                .configure(|store| store.finish_task())
                .into();
        }
        results
    }
}

pub(super) fn handle(api: &Api, request: &Request<Bytes>, now: Instant) -> Response<Bytes> {
    let mut action = String::new();
    let result = Parameters::read(request)
        .map_err(Refusal::from)
        .and_then(|parameters| {
            let given = parameters.text("action").unwrap_or_default();
            action = given.chars().take(MAX_ACTION).collect();
            perform(api, request, &parameters, given, now)
        });
    if let Err(Refusal::UnknownAction { action, path }) = &result {
        tracing::warn!(
            ?action,
            path,
            "an action was called that this fake does not have"
        );
    }
    let mut called = Called {
        action,
        refused: None,
    };
    let mut response = match result {
        Ok(body) => answer(StatusCode::OK, &body),
        Err(refusal) => {
            let reason = refusal.to_string();
            let response = failure(refusal.status(), &reason);
            called.refused = Some(reason);
            response
        }
    };
    response.extensions_mut().insert(called);
    response
}

/// The whole answer of an action that succeeded.
fn perform(
    api: &Api,
    request: &Request<Bytes>,
    parameters: &Parameters,
    action: &str,
    now: Instant,
) -> Result<Value, Refusal> {
    let call = Call {
        api,
        path: request.uri().path(),
        parameters,
    };
    match action {
        "" => Err(Refusal::Missing("action")),
        "get_api_token" => Ok(success(json!({"api_token": api.sessions.api_token(now)}))),
        "login" => {
            let token = request.headers().get("x-access-key");
            let token = token.map(|token| String::from_utf8_lossy(token.as_bytes()));
            let username = call.required("username")?;
            let password = call.required("password")?;
            let cid = api
                .sessions
                .login(username, password, token.as_deref(), now)
                .map_err(Refusal::because)?;
            let mut body = success(format!("User {username} has been logged in").into());
            body["CID"] = cid.into();
            Ok(body)
        }
        _ => {
            let cid = call.optional("CID").unwrap_or_default();
            if !api.sessions.check(cid, now) {
                return Err(Refusal::Expired(cid.chars().take(MAX_ACTION).collect()));
            }
            let results = results(&call, action)?;
            Ok(success(call.done(action, results)))
        }
    }
}

/// The `results` of an action that needs a session.
fn results(call: &Call<'_>, action: &str) -> Result<Value, Refusal> {
    match action {
        "list_version_info" => {
            let version = &call.api.config.version;
            Ok(
                json!({"current_version": version, "latest_version": version, "previous_version": ""}),
            )
        }
        "check_task_status" => check_task_status(call),
        "enable_controller_feature" => features::switch(call, true),
        "disable_controller_feature" => features::switch(call, false),
        "get_controller_feature" => features::get(call),
        "get_all_controller_features" => Ok(features::all(call)),
        "enable_remote_syslog_logging" => syslog::enable(call),
        "disable_remote_syslog_logging" => syslog::disable(call),
        "get_remote_syslog_logging_status" => syslog::status(call),
        "enable_copilot_association" => copilot::enable(call),
        "disable_copilot_association" => Ok(copilot::disable(call)),
        "get_copilot_association_status" => Ok(copilot::status(call)),
        "setup_account_profile" => accounts::setup(call),
        "edit_account_profile" => accounts::edit(call),
        "delete_account_profile" => accounts::delete(call),
        "list_accounts" => Ok(accounts::list(call)),
        "get_account_audit_records" => Ok(accounts::audit(call)),
        "create_multicloud_primary_gateway" => gateways::create(call),
        "delete_container" => gateways::delete(call),
        "list_vpcs_summary" => Ok(gateways::summary(call)),
        "enable_single_az_ha" => gateways::single_az_ha(call, true),
        "disable_single_az_ha" => gateways::single_az_ha(call, false),
        "get_gro_gso_status" => gateways::gro_gso(call),
        "show_bgp_communities_gateway_overrides" => gateways::bgp_communities(call),
        "show_bgp_med_to_sdn_metric_gateway_override" => gateways::bgp_med(call),
        // Clients go on without it, and a made-up success would claim that it is off.
        "get_private_mode_info" => Err(Refusal::Reason(
            "private mode is not available on this fake controller".to_owned(),
        )),
        other => Err(Refusal::UnknownAction {
            action: other.chars().take(MAX_ACTION).collect(),
            path: call.path.to_owned(),
        }),
    }
}

/// Every request that was taken is done; others were never asked for.
fn check_task_status(call: &Call<'_>) -> Result<Value, Refusal> {
    let id = call.required("request_id")?;
    if call.api.controller.read(|store| store.task_is_done(id)) {
        Ok("done".into())
    } else {
        Err(Refusal::Reason(format!(
            "unknown request_id {id}; start the request again"
        )))
    }
}

fn success(results: Value) -> Value {
    json!({"return": true, "results": results})
}

#[cfg(test)]
mod tests;
