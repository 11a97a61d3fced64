//! Remote syslog (section 6.1).
//!
//! Choices: records travel in TLS if `protocol` is `TLS`, or `TCP` with certificates; `UDP` with certificates is
//! refused. Disabling an index that has no server succeeds.

use serde_json::Value;

use super::{Call, Refusal};
use crate::store::syslog::{COPILOT_INDEX, RemoteSyslog, Transport};
use crate::syslog::check_certificates;

pub(super) fn enable(call: &Call<'_>) -> Result<Value, Refusal> {
    let index = index(call)?;
    let port = call.required("port")?;
    let port = match port.parse() {
        Ok(port) if port > 0 => port,
        _ => return Err(unfit("port", port, "a port from 1 to 65535")),
    };
    let pem = |name| call.optional(name).map(str::to_owned);
    let (ca, public, private) = (
        pem("ca_certificate"),
        pem("public_certificate"),
        pem("private_key"),
    );
    if public.is_some() != private.is_some() || (public.is_some() && ca.is_none()) {
        return Err(Refusal::Reason(
            "give no certificates, ca_certificate alone, or ca_certificate, public_certificate and private_key".to_owned(),
        ));
    }
    let protocol = call.required("protocol")?;
    let transport = match (protocol, &ca) {
        ("UDP", None) => Transport::Udp,
        ("TCP", None) => Transport::Tcp,
        ("TCP", Some(_)) | ("TLS", _) => Transport::Tls,
        ("UDP", Some(_)) => {
            return Err(unfit(
                "protocol",
                protocol,
                "TCP where certificates are given",
            ));
        }
        _ => return Err(unfit("protocol", protocol, "UDP, TCP or TLS")),
    };
    let excluded = call.optional("exclude_gateway_list").unwrap_or_default();
    let server = RemoteSyslog {
        index,
        name: call.optional("name").unwrap_or_default().to_owned(),
        server: call.required("server")?.to_owned(),
        port,
        protocol: protocol.to_owned(),
        transport,
        template: call.optional("template").unwrap_or_default().to_owned(),
        excluded_gateways: excluded
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        ca_certificate: ca,
        public_certificate: public,
        private_key: private,
    };
    check_certificates(&server)
        .map_err(|error| Refusal::Reason(format!("remote syslog index {index}: {error}")))?;
    if !server.template.is_empty() {
        tracing::warn!(
            index,
            "the template is kept and not rendered: records have the default format"
        );
    }
    call.api.controller.configure(|store| {
        store
            .enable_remote_syslog(server)
            .map_err(Refusal::because)?;
        Ok(format!("remote syslog index {index} is enabled").into())
    })
}

pub(super) fn disable(call: &Call<'_>) -> Result<Value, Refusal> {
    let index = index(call)?;
    call.api
        .controller
        .configure(|store| store.disable_remote_syslog(index));
    Ok(format!("remote syslog index {index} is disabled").into())
}

pub(super) fn status(call: &Call<'_>) -> Result<Value, Refusal> {
    let index = index(call)?;
    Ok(call.api.controller.read(|store| {
        let server = store.remote_syslog().get(&index);
        server.map_or_else(RemoteSyslog::disabled, RemoteSyslog::to_wire)
    }))
}

fn index(call: &Call<'_>) -> Result<u8, Refusal> {
    let index = call.required("index")?;
    match index.parse() {
        Ok(index) if index <= COPILOT_INDEX => Ok(index),
        _ => Err(unfit("index", index, "a number from 0 to 9")),
    }
}

fn unfit(name: &'static str, value: &str, expected: &'static str) -> Refusal {
    Refusal::Unfit {
        name,
        value: value.chars().take(64).collect(),
        expected,
    }
}
