//! TLS and log profiles (section 4.6).

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Call, Failure, done, ok, uuid};
use crate::store::Error;

pub(super) fn handle_tls(call: &Call<'_>, id: Option<&str>) -> Answer {
    let Some(id) = id else {
        return match *call.method {
            Method::GET => {
                let profiles: Vec<Value> = call.controller.read(|store| {
                    store
                        .tls_profiles()
                        .map(|profile| (**profile).clone())
                        .collect()
                });
                ok(&json!({"profiles": profiles}))
            }
            Method::POST => {
                let object = call.json()?;
                let uuid = call
                    .controller
                    .configure(|store| store.create_tls_profile(object))?;
                ok(&json!({"uuid": uuid}))
            }
            _ => Err(Failure::NotHere),
        };
    };
    let uuid = uuid(id, Error::TlsProfileNotFound)?;
    match *call.method {
        Method::GET => {
            let profile = call
                .controller
                .read(|store| store.tls_profile(uuid).cloned())?;
            ok(&*profile)
        }
        Method::PUT => {
            let object = call.json()?;
            call.controller
                .configure(|store| store.update_tls_profile(uuid, object))?;
            done()
        }
        Method::DELETE => {
            call.controller
                .configure(|store| store.delete_tls_profile(uuid))?;
            done()
        }
        _ => Err(Failure::NotHere),
    }
}

pub(super) fn handle_log(call: &Call<'_>) -> Answer {
    if *call.method != Method::GET {
        return Err(Failure::NotHere);
    }
    let name = call.parameter("profile_name")?;
    ok(&call.controller.read(|store| store.log_profile(&name))?)
}
