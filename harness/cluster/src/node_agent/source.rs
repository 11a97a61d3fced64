//! Looks up the Secrets and ConfigMaps that a Pod refers to.

use std::collections::BTreeMap;
use std::sync::Mutex;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::{Api, Client};

/// Why a container's configuration can't be put together; the text ends up in its status.
#[derive(Debug, thiserror::Error)]
pub(super) enum Error {
    /// May come into being: worth another look.
    #[error("{0}")]
    Missing(String),
    /// Will never work.
    #[error("{0}")]
    Invalid(String),
    #[error("can't read {what}: {source}")]
    Api {
        what: String,
        source: Box<kube::Error>,
    },
}

/// Keys and values of one Secret or ConfigMap.
pub(super) type Data = BTreeMap<String, Vec<u8>>;

/// A consistent view for the start of one container: each object is read once.
pub(super) struct Sources<'a> {
    client: &'a Client,
    namespace: &'a str,
    seen: Mutex<BTreeMap<(Kind, String), Option<Data>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Secret,
    ConfigMap,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Secret => "secret",
            Self::ConfigMap => "configmap",
        }
    }
}

impl<'a> Sources<'a> {
    pub(super) fn new(client: &'a Client, namespace: &'a str) -> Self {
        Self {
            client,
            namespace,
            seen: Mutex::default(),
        }
    }

    /// The object's data; none when it is missing and optional.
    pub(super) async fn data(
        &self,
        kind: Kind,
        name: &str,
        optional: bool,
    ) -> Result<Option<Data>, Error> {
        let key = (kind, name.to_owned());
        let seen = self
            .seen
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
            .get(&key)
            .cloned();
        let data = match seen {
            Some(data) => data,
            None => {
                let what = || format!("{} \"{name}\"", kind.name());
                let data = self.fetch(kind, name).await.map_err(|error| Error::Api {
                    what: what(),
                    source: Box::new(error),
                })?;
                self.seen
                    .lock()
                    .unwrap_or_else(std::sync::PoisonError::into_inner)
                    .insert(key, data.clone());
                data
            }
        };
        if data.is_none() && !optional {
            return Err(Error::Missing(format!(
                "{} \"{name}\" not found",
                kind.name()
            )));
        }
        Ok(data)
    }

    /// One value of an object; none when object or key is missing and optional.
    pub(super) async fn value(
        &self,
        kind: Kind,
        name: &str,
        key: &str,
        optional: bool,
    ) -> Result<Option<Vec<u8>>, Error> {
        let value = self
            .data(kind, name, optional)
            .await?
            .and_then(|mut data| data.remove(key));
        if value.is_none() && !optional {
            let message = format!(
                "couldn't find key {key} in {} {}/{name}",
                kind.name(),
                self.namespace
            );
            return Err(Error::Missing(message));
        }
        Ok(value)
    }

    async fn fetch(&self, kind: Kind, name: &str) -> Result<Option<Data>, kube::Error> {
        Ok(match kind {
            Kind::Secret => {
                let secret = Api::<Secret>::namespaced(self.client.clone(), self.namespace)
                    .get_opt(name)
                    .await?;
                secret.map(|secret| {
                    secret
                        .data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(key, value)| (key, value.0))
                        .collect()
                })
            }
            Kind::ConfigMap => {
                let map = Api::<ConfigMap>::namespaced(self.client.clone(), self.namespace)
                    .get_opt(name)
                    .await?;
                map.map(|map| {
                    let text = map
                        .data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(key, value)| (key, value.into_bytes()));
                    let binary = map
                        .binary_data
                        .unwrap_or_default()
                        .into_iter()
                        .map(|(key, value)| (key, value.0));
                    text.chain(binary).collect()
                })
            }
        })
    }
}
