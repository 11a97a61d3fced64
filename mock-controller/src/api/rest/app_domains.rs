//! SmartGroups and WebGroups (sections 2 and 3).

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Call, Failure, done, mirror, ok, uri, uuid};
use crate::store::Error;

pub(super) fn handle(call: &Call<'_>, id: Option<&str>) -> Answer {
    let Some(id) = id else {
        return match *call.method {
            Method::GET => list(call),
            Method::POST => {
                let object = call.json()?;
                let uuid = call
                    .controller
                    .configure(|store| store.create_app_domain(object))?;
                ok(&json!({"uuid": uuid}))
            }
            _ => Err(Failure::NotHere),
        };
    };
    if let Some(name) = id.strip_prefix("name/") {
        return match *call.method {
            Method::GET => by_name(call, &uri::segment(name)),
            _ => Err(Failure::NotHere),
        };
    }
    let uuid = uuid(id, Error::AppDomainNotFound)?;
    let mirrors = mirror::app_domains(&call.controller.mirrors());
    let mirrored = mirrors.get(&uuid);
    match *call.method {
        Method::GET if mirrored.is_some() => ok(&mirrored),
        Method::GET => {
            let group = call
                .controller
                .read(|store| store.app_domain(uuid).cloned())?;
            ok(&*group)
        }
        Method::PUT | Method::DELETE if mirrored.is_some() => Err(Failure::Mirror(uuid)),
        Method::PUT => {
            let object = call.json()?;
            call.controller
                .configure(|store| store.update_app_domain(uuid, object))?;
            done()
        }
        Method::DELETE => {
            call.controller
                .configure(|store| store.delete_app_domain(uuid))?;
            done()
        }
        _ => Err(Failure::NotHere),
    }
}

fn list(call: &Call<'_>) -> Answer {
    #[derive(serde::Serialize)]
    struct List<'a> {
        app_domains: Vec<&'a Value>,
    }
    let own: Vec<_> = call
        .controller
        .read(|store| store.app_domains().cloned().collect());
    let mirrors = mirror::app_domains(&call.controller.mirrors());
    let app_domains = own.iter().map(|group| &**group).chain(mirrors.values());
    ok(&List {
        app_domains: app_domains.collect(),
    })
}

fn by_name(call: &Call<'_>, name: &str) -> Answer {
    let own = call
        .controller
        .read(|store| store.app_domain_named(name).cloned());
    let missing = match own {
        Ok(group) => return ok(&*group),
        Err(missing) => missing,
    };
    let mirrors = mirror::app_domains(&call.controller.mirrors());
    match mirrors.values().find(|group| group["name"] == name) {
        Some(group) => ok(group),
        None => Err(missing.into()),
    }
}
