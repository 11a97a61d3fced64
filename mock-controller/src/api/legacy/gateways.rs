//! The minimal spoke gateway (section 6.4): what Terraform needs to make one, see it unchanged, and delete it.
//!
//! Keys of a creation that have no place in what is listed are not kept.

use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::{Call, Refusal, accounts::aws_only};
use crate::store::spoke_gateways::SpokeGateway;

/// The size of a gateway whose form has none: one encoder of the provider drops it.
const DEFAULT_SIZE: &str = "t3.medium";

pub(super) fn create(call: &Call<'_>) -> Result<Value, Refusal> {
    aws_only(call, "cloud_type")?;
    let or = |name, default: &str| call.optional(name).unwrap_or(default).to_owned();
    let name = call.required("gw_name")?;
    let gateway = SpokeGateway {
        name: name.to_owned(),
        account: call.required("account_name")?.to_owned(),
        size: or("gw_size", DEFAULT_SIZE),
        vpc_id: call.required("vpc_id")?.to_owned(),
        vpc_region: call.required("vpc_region")?.to_owned(),
        subnet: call.required("gw_subnet")?.to_owned(),
        nat: is_set(call, "enable_nat"),
        single_az_ha: is_set(call, "single_az_ha"),
        insane_mode: is_set(call, "insane_mode"),
        ph2_encryption_policy: or("ph2_encryption_policy", "default"),
        ph2_pfs_policy: or("ph2_pfs_policy", "disable"),
        public_ip: Ipv4Addr::UNSPECIFIED,
    };
    call.api
        .controller
        .configure(|store| store.create_spoke_gateway(gateway))
        .map_err(Refusal::because)?;
    Ok(format!("Gateway {name} is created").into())
}

pub(super) fn delete(call: &Call<'_>) -> Result<Value, Refusal> {
    let name = call.required("gw_name")?;
    call.api
        .controller
        .configure(|store| store.delete_spoke_gateway(name))
        .map_err(Refusal::because)?;
    Ok(format!("Gateway {name} is deleted").into())
}

/// No match is an empty list: that is how clients learn that a gateway is gone.
pub(super) fn summary(call: &Call<'_>) -> Value {
    let wanted = call.optional("gateway_name");
    let version = &call.api.config.version;
    call.api.controller.read(|store| {
        let gateways = store
            .spoke_gateways()
            .filter(|gateway| wanted.is_none_or(|wanted| wanted == gateway.name));
        gateways.map(|gateway| gateway.to_wire(version)).collect()
    })
}

pub(super) fn single_az_ha(call: &Call<'_>, enabled: bool) -> Result<Value, Refusal> {
    let name = gateway_name(call)?;
    call.api
        .controller
        .configure(|store| store.edit_spoke_gateway(name, |gateway| gateway.single_az_ha = enabled))
        .map_err(Refusal::because)?;
    let state = if enabled { "enabled" } else { "disabled" };
    Ok(format!("single AZ HA of gateway {name} is {state}").into())
}

pub(super) fn gro_gso(call: &Call<'_>) -> Result<Value, Refusal> {
    existing(call)?;
    Ok("GRO/GSO is enabled".into())
}

pub(super) fn bgp_communities(call: &Call<'_>) -> Result<Value, Refusal> {
    existing(call)?;
    Ok(json!({"accept_communities": "False", "send_communities": "False"}))
}

pub(super) fn bgp_med(call: &Call<'_>) -> Result<Value, Refusal> {
    existing(call)?;
    Ok(json!({"set_bgp_med_to_sdn_metric": "False"}))
}

fn existing(call: &Call<'_>) -> Result<(), Refusal> {
    let name = gateway_name(call)?;
    call.api
        .controller
        .read(|store| store.spoke_gateway(name).map(drop))
        .map_err(Refusal::because)
}

/// Some actions call it one way, some the other.
fn gateway_name<'a>(call: &Call<'a>) -> Result<&'a str, Refusal> {
    call.optional("gateway_name")
        .or(call.optional("gw_name"))
        .ok_or(Refusal::Missing("gateway_name"))
}

/// Flags come in three spellings.
fn is_set(call: &Call<'_>, name: &str) -> bool {
    matches!(
        call.optional(name),
        Some("yes" | "on" | "enabled" | "true" | "1")
    )
}
