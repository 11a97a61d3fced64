//! The environment of a container: image, cluster, envFrom, env, in that order, later ones winning; and
//! the expansion of `$(NAME)` in values, commands and arguments.

use std::net::Ipv4Addr;

use k8s_openapi::api::core::v1::{Container, EnvVarSource, ObjectFieldSelector, Pod};
use kube::ResourceExt as _;

use super::source::{Error, Kind, Sources};
use crate::image::{self, Image};
use crate::network::NODE_ADDRESS;

/// The `kubernetes` Service.
const KUBERNETES: [(&str, &str); 4] = [
    ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ("KUBERNETES_SERVICE_PORT", "443"),
    ("KUBERNETES_SERVICE_PORT_HTTPS", "443"),
    ("KUBERNETES_PORT", "tcp://10.96.0.1:443"),
];

/// Names and values, each name once, in the order of first mention.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Environment(Vec<(String, String)>);

impl Environment {
    pub(super) async fn of(
        container: &Container,
        pod: &Pod,
        address: Ipv4Addr,
        hostname: &str,
        image: &Image,
        sources: &Sources<'_>,
    ) -> Result<Self, Error> {
        let mut environment = Self::default();
        environment.set("PATH", image::PATH);
        environment.set("HOSTNAME", hostname);
        environment.set("HOME", "/tmp");
        for (name, value) in &image.env {
            environment.set(name, value);
        }
        for (name, value) in KUBERNETES {
            environment.set(name, value);
        }
        for source in container.env_from.iter().flatten() {
            let prefix = source.prefix.as_deref().unwrap_or_default();
            let (kind, name, optional) = match (&source.secret_ref, &source.config_map_ref) {
                (Some(secret), _) => (Kind::Secret, &secret.name, secret.optional),
                (None, Some(map)) => (Kind::ConfigMap, &map.name, map.optional),
                (None, None) => continue,
            };
            for (key, value) in sources
                .data(kind, name, optional == Some(true))
                .await?
                .unwrap_or_default()
            {
                environment.set(&format!("{prefix}{key}"), &String::from_utf8_lossy(&value));
            }
        }
        for variable in container.env.iter().flatten() {
            let value = match (&variable.value, &variable.value_from) {
                (_, Some(source)) => resolve(source, pod, address, sources).await?,
                (Some(value), None) => Some(environment.expand(value)),
                (None, None) => Some(String::new()),
            };
            if let Some(value) = value {
                environment.set(&variable.name, &value);
            }
        }
        Ok(environment)
    }

    pub(super) fn into_inner(self) -> Vec<(String, String)> {
        self.0
    }

    /// Replaces `$(NAME)` by the value of a known name; `$$(NAME)` yields `$(NAME)`, and an unknown one stays.
    pub(super) fn expand(&self, text: &str) -> String {
        let mut expanded = String::with_capacity(text.len());
        let mut rest = text;
        while let Some(at) = rest.find('$') {
            expanded.push_str(&rest[..at]);
            rest = &rest[at + 1..];
            let reference = rest
                .strip_prefix('(')
                .and_then(|inner| inner.split_once(')'));
            if let Some(after) = rest.strip_prefix('$') {
                expanded.push('$');
                rest = after;
            } else if let Some((name, after)) = reference {
                match self.get(name) {
                    Some(value) => expanded.push_str(value),
                    None => expanded.extend(["$(", name, ")"]),
                }
                rest = after;
            } else {
                expanded.push('$');
            }
        }
        expanded.push_str(rest);
        expanded
    }

    #[cfg(test)]
    pub(super) fn with(name: &str, value: &str) -> Self {
        Self(vec![(name.to_owned(), value.to_owned())])
    }

    fn get(&self, name: &str) -> Option<&str> {
        self.0
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        match self.0.iter_mut().find(|(known, _)| known == name) {
            Some((_, known)) => value.clone_into(known),
            None => self.0.push((name.to_owned(), value.to_owned())),
        }
    }
}

async fn resolve(
    source: &EnvVarSource,
    pod: &Pod,
    address: Ipv4Addr,
    sources: &Sources<'_>,
) -> Result<Option<String>, Error> {
    let text =
        |value: Option<Vec<u8>>| value.map(|value| String::from_utf8_lossy(&value).into_owned());
    if let Some(key) = &source.secret_key_ref {
        return Ok(text(
            sources
                .value(
                    Kind::Secret,
                    &key.name,
                    &key.key,
                    key.optional == Some(true),
                )
                .await?,
        ));
    }
    if let Some(key) = &source.config_map_key_ref {
        return Ok(text(
            sources
                .value(
                    Kind::ConfigMap,
                    &key.name,
                    &key.key,
                    key.optional == Some(true),
                )
                .await?,
        ));
    }
    if let Some(reference) = &source.field_ref {
        return field(reference, pod, address).map(Some);
    }
    Err(Error::Invalid(
        "this node resolves secretKeyRef, configMapKeyRef and fieldRef only".into(),
    ))
}

/// The downward API (Kubernetes documentation, "Downward API", available fields).
pub(super) fn field(
    reference: &ObjectFieldSelector,
    pod: &Pod,
    address: Ipv4Addr,
) -> Result<String, Error> {
    let spec = pod.spec.as_ref();
    let keyed = |path: &str| {
        let (map, key) = path.strip_suffix("']")?.split_once("['")?;
        match map {
            "metadata.labels" => Some(pod.labels().get(key).cloned().unwrap_or_default()),
            "metadata.annotations" => Some(pod.annotations().get(key).cloned().unwrap_or_default()),
            _ => None,
        }
    };
    let listed = |map: &std::collections::BTreeMap<String, String>| {
        map.iter()
            .map(|(key, value)| format!("{key}={value:?}"))
            .collect::<Vec<_>>()
            .join("\n")
    };
    let unset = |value: Option<&String>| value.cloned().unwrap_or_default();
    Ok(match reference.field_path.as_str() {
        "metadata.name" => pod.name_any(),
        "metadata.namespace" => pod.namespace().unwrap_or_default(),
        "metadata.uid" => unset(pod.metadata.uid.as_ref()),
        "metadata.labels" => listed(pod.labels()),
        "metadata.annotations" => listed(pod.annotations()),
        "spec.nodeName" => unset(spec.and_then(|spec| spec.node_name.as_ref())),
        "spec.serviceAccountName" => {
            unset(spec.and_then(|spec| spec.service_account_name.as_ref()))
        }
        "status.podIP" | "status.podIPs" => address.to_string(),
        "status.hostIP" | "status.hostIPs" => NODE_ADDRESS.to_string(),
        path => {
            keyed(path).ok_or_else(|| Error::Invalid(format!("fieldRef {path} is not known")))?
        }
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("plain", "plain")]
    #[case("$(A)-$(B)", "1-2")]
    #[case("$(UNKNOWN)", "$(UNKNOWN)")]
    #[case("$$(A)", "$(A)")]
    #[case("$A $", "$A $")]
    #[case("$(A", "$(A")]
    #[case("$$$(A)", "$1")]
    #[case("", "")]
    fn expansion(#[case] text: &str, #[case] expected: &str) {
        let environment = Environment(vec![("A".into(), "1".into()), ("B".into(), "2".into())]);
        assert_eq!(environment.expand(text), expected);
    }

    #[rstest]
    #[case("metadata.name", Some("pod"))]
    #[case("metadata.labels['app']", Some("ehr-sync"))]
    #[case("metadata.labels['none']", Some(""))]
    #[case("status.podIP", Some("10.244.0.10"))]
    #[case("spec.containers", None)]
    fn fields(#[case] path: &str, #[case] expected: Option<&str>) {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "metadata": { "name": "pod", "labels": { "app": "ehr-sync" } },
        }))
        .unwrap();
        let reference = ObjectFieldSelector {
            field_path: path.into(),
            ..ObjectFieldSelector::default()
        };
        assert_eq!(
            field(&reference, &pod, Ipv4Addr::new(10, 244, 0, 10))
                .ok()
                .as_deref(),
            expected
        );
    }

    #[test]
    fn a_later_value_wins_and_keeps_its_place() {
        let mut environment = Environment::default();
        for (name, value) in [("A", "1"), ("B", "2"), ("A", "3")] {
            environment.set(name, value);
        }
        assert_eq!(
            environment.into_inner(),
            [("A".into(), "3".into()), ("B".into(), "2".into())]
        );
    }
}
