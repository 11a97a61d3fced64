//! Rules and their places (sections 4.3 to 4.5, 9).

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Call, Failure, done, mirror, ok, uuid};
use crate::store::Error;

/// Rulesets and policy groups: `microseg/policy-list3`.
pub(super) fn handle(call: &Call<'_>, id: Option<&str>) -> Answer {
    let Some(id) = id else {
        return match *call.method {
            Method::GET => list(call),
            Method::POST => {
                let object = call.json()?;
                let created = call.controller.configure(|store| {
                    let uuid = store.create_policy(object)?;
                    store.policy(uuid).cloned()
                })?;
                ok(&*created)
            }
            _ => Err(Failure::NotHere),
        };
    };
    let uuid = uuid(id, Error::PolicyNotFound)?;
    let mirrors = mirror::policies(&call.controller.mirrors());
    let mirrored = mirrors.iter().find(|list| list["uuid"] == uuid.to_string());
    match *call.method {
        Method::GET if mirrored.is_some() => ok(&mirrored),
        Method::GET => {
            let policy = call.controller.read(|store| store.policy(uuid).cloned())?;
            ok(&*policy)
        }
        Method::PUT | Method::DELETE if mirrored.is_some() => Err(Failure::Mirror(uuid)),
        Method::PUT => {
            let object = call.json()?;
            let updated = call.controller.configure(|store| {
                store.update_policy(uuid, object)?;
                store.policy(uuid).cloned()
            })?;
            ok(&*updated)
        }
        Method::DELETE => {
            call.controller
                .configure(|store| store.delete_policy(uuid))?;
            done()
        }
        _ => Err(Failure::NotHere),
    }
}

fn list(call: &Call<'_>) -> Answer {
    #[derive(serde::Serialize)]
    struct List<'a> {
        dcf_policies: Vec<&'a Value>,
    }
    let own: Vec<_> = call
        .controller
        .read(|store| store.policies().cloned().collect());
    let mirrors = mirror::policies(&call.controller.mirrors());
    ok(&List {
        dcf_policies: own.iter().map(|own| &**own).chain(&mirrors).collect(),
    })
}

/// The V1 policy list, which is replaced as a whole.
pub(super) fn handle_v1(call: &Call<'_>) -> Answer {
    match *call.method {
        Method::GET => ok(&*call.controller.read(|store| store.policy_list().clone())),
        Method::PUT => {
            let object = call.json()?;
            call.controller
                .configure(|store| store.put_policy_list(object))?;
            done()
        }
        Method::DELETE => {
            call.controller
                .configure(crate::store::Store::delete_policy_list);
            done()
        }
        _ => Err(Failure::NotHere),
    }
}

/// Never an empty array: every version of the provider crashes on one (section 4.4).
pub(super) fn handle_attachment_points(call: &Call<'_>) -> Answer {
    if *call.method != Method::GET {
        return Err(Failure::NotHere);
    }
    let name = call.parameter("name")?;
    let point = call
        .controller
        .read(|store| store.attachment_point(&name))?;
    ok(&json!([{"attachment_point_id": point, "name": name}]))
}

pub(super) fn handle_default_action(call: &Call<'_>) -> Answer {
    match *call.method {
        Method::GET => {
            let rule = call
                .controller
                .read(|store| store.default_action_rule().clone());
            ok(&*rule)
        }
        Method::PUT => {
            let object = call.json()?;
            call.controller
                .configure(|store| store.set_default_action_rule(object))?;
            done()
        }
        _ => Err(Failure::NotHere),
    }
}
