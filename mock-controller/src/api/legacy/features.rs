//! Feature switches (section 4.1).

use serde_json::{Value, json};

use super::{Call, Refusal};
use crate::store::features::listed;

pub(super) fn switch(call: &Call<'_>, enabled: bool) -> Result<Value, Refusal> {
    let name = call.required("feature")?;
    let version = &call.api.config.version;
    let switched = call
        .api
        .controller
        .configure(|store| store.switch_feature(version, name, enabled));
    switched.map_err(|unknown| {
        tracing::warn!(feature = ?name, version, "a feature was switched that this controller does not have");
        Refusal::because(unknown)
    })?;
    let state = if enabled { "enabled" } else { "disabled" };
    Ok(format!("feature {name} is {state}").into())
}

pub(super) fn get(call: &Call<'_>) -> Result<Value, Refusal> {
    let name = call.required("feature")?;
    let enabled = call.api.controller.read(|store| store.feature(name));
    Ok(json!({"feature": name, "enabled": enabled}))
}

pub(super) fn all(call: &Call<'_>) -> Value {
    call.api.controller.read(|store| {
        let states = listed(&call.api.config.version)
            .into_iter()
            .map(|name| json!({"feature": name, "enabled": store.feature(name)}));
        states.collect()
    })
}
