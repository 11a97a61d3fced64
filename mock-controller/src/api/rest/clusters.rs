//! Kubernetes clusters (section 5).

use hyper::Method;
use serde_json::{Value, json};

use super::{Answer, Call, Failure, done, ok, uri};
use crate::store::{Error, clusters::KubernetesCluster};

pub(super) fn handle(call: &Call<'_>, id: Option<&str>) -> Answer {
    let Some(id) = id else {
        return match *call.method {
            Method::GET => {
                let clusters: Vec<_> = call.controller.read(|store| {
                    let clusters = store.kubernetes_clusters().iter();
                    clusters.map(|(id, cluster)| with_id(id, cluster)).collect()
                });
                ok(&clusters)
            }
            Method::POST => {
                let object = call.json()?;
                let id = call
                    .controller
                    .configure(|store| store.create_kubernetes_cluster(object))?;
                ok(&json!({"id": id}))
            }
            _ => Err(Failure::NotHere),
        };
    };
    let id = uri::segment(id);
    match *call.method {
        Method::GET => {
            let cluster = call.controller.read(|store| {
                let cluster = store.kubernetes_clusters().get(&id);
                cluster.map(|cluster| with_id(&id, cluster))
            });
            ok(&cluster.ok_or(Error::ClusterNotFound(id))?)
        }
        Method::PUT => {
            let object = call.json()?;
            call.controller
                .configure(|store| store.update_kubernetes_cluster(&id, object))?;
            done()
        }
        Method::DELETE => {
            call.controller
                .configure(|store| store.delete_kubernetes_cluster(&id))?;
            done()
        }
        _ => Err(Failure::NotHere),
    }
}

/// The object as sent, plus the controller's own id: tests compare all of it.
fn with_id(id: &str, cluster: &KubernetesCluster) -> Value {
    let mut object = cluster.object.clone();
    if let Value::Object(object) = &mut object {
        object.insert("id".to_owned(), id.into());
    }
    object
}
