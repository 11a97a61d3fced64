//! CoPilot association (section 6.2). Nothing calls CoPilot here; the association is kept and read back.

use serde_json::Value;

use super::{Call, Refusal};
use crate::store::settings::CopilotAssociation;

pub(super) fn enable(call: &Call<'_>) -> Result<Value, Refusal> {
    let association = CopilotAssociation::new(
        call.required("copilot_ip")?,
        call.optional("public_ip"),
        call.optional("copilot_fqdn"),
    );
    let text = format!("CoPilot {} is associated", association.ip);
    call.api
        .controller
        .configure(|store| store.set_copilot_association(Some(association)));
    Ok(text.into())
}

pub(super) fn disable(call: &Call<'_>) -> Value {
    call.api
        .controller
        .configure(|store| store.set_copilot_association(None));
    "CoPilot is not associated".into()
}

pub(super) fn status(call: &Call<'_>) -> Value {
    call.api
        .controller
        .read(|store| CopilotAssociation::to_wire(store.copilot_association()))
}
