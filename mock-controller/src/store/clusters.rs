//! Kubernetes clusters that the controller watches (`reference/aviatrix-controller-api.md` section 5).
//!
//! Faithful: objects come back as sent, a kubeconfig byte for byte; what is no kubeconfig, or has a user that would run
//! a program (`exec`, `auth-provider`), is refused as `invalid content`. Ours: two clusters cannot have one `cluster_id`,
//! and a kubeconfig that names files is refused too: they would be files of this machine, sent wherever it says.

use std::collections::BTreeMap;

use kube::config::Kubeconfig;
use serde_json::Value;
use uuid::Uuid;

use super::{
    Error, Store,
    fields::{Fields, InvalidObject},
    room,
};

const MAX_CLUSTERS: usize = 1_000;

/// Larger than any real kubeconfig, whose parts are certificates and tokens.
const MAX_KUBE_CONFIG: usize = 256 * 1024;

/// How the controller gets into a cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// The cloud account's own right; which client that is, the controller's configuration says.
    Cloud,
    /// A kubeconfig, byte for byte as it was sent.
    KubeConfig(String),
    /// None was given: the cluster is registered and cannot be watched.
    Missing,
}

/// A cluster that somebody registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KubernetesCluster {
    /// As SmartGroups name it: an ARN or the like. The controller's own id is the key it is kept under.
    pub cluster_id: String,
    pub credential: Credential,
    /// As sent, without the id.
    pub object: Value,
}

/// The registered ones, by the controller's own id.
pub type KubernetesClusters = BTreeMap<String, KubernetesCluster>;

impl KubernetesCluster {
    pub(super) fn parse(object: Value) -> Result<Self, InvalidObject> {
        let read = |object: &Value| {
            let fields = Fields::of(object)?;
            let cluster_id = fields.required("cluster_id")?.to_owned();
            let credential = fields.object("credential")?;
            fields.flag("gateway_tunnel_enabled")?;
            fields.flag("intra_cluster_inspection_enabled")?;
            if fields.has("resource") {
                resource(fields.object("resource")?)
                    .map_err(|error| format!("`resource`: {error}"))?;
            }
            let cloud = credential.flag("use_csp_credentials")?;
            let credential = match credential.text("kube_config")? {
                Some(text) if !text.is_empty() => {
                    check(text)
                        .map_err(|problem| format!("`kube_config`: invalid content: {problem}"))?;
                    Credential::KubeConfig(text.to_owned())
                }
                _ if cloud => Credential::Cloud,
                _ => Credential::Missing,
            };
            Ok((cluster_id, credential))
        };
        let (cluster_id, credential) = read(&object)
            .map_err(|problem: String| InvalidObject::new("cluster", &object, problem))?;
        Ok(Self {
            cluster_id,
            credential,
            object,
        })
    }
}

/// What a custom cluster says of itself. Only types are checked: nothing here acts on it.
fn resource(fields: Fields<'_>) -> Result<(), String> {
    for key in [
        "name",
        "vpc_id",
        "region",
        "account_id",
        "account_name",
        "project",
        "compartment",
        "platform",
        "version",
    ] {
        fields.text(key)?;
    }
    fields.flag("public")?;
    fields.flag("entra_id_authn")?;
    fields.one_of("network_mode", &["FLAT", "OVERLAY"])?;
    for tag in fields.list("tags")? {
        let tag = Fields::of(tag).map_err(|error| format!("`tags`: {error}"))?;
        tag.text("key")?;
        tag.text("value")?;
    }
    Ok(())
}

/// Whether a text is a kubeconfig with which a client can be made, and no program run.
fn check(text: &str) -> Result<(), String> {
    if text.len() > MAX_KUBE_CONFIG {
        return Err(format!("it is longer than {MAX_KUBE_CONFIG} bytes"));
    }
    let config = Kubeconfig::from_yaml(text).map_err(|error| error.to_string())?;
    let current = config
        .current_context
        .as_deref()
        .filter(|name| !name.is_empty())
        .ok_or("it has no current-context")?;
    let context = config
        .contexts
        .iter()
        .find(|named| named.name == current)
        .and_then(|named| named.context.as_ref())
        .ok_or_else(|| format!("it has no context `{current}`"))?;
    let server = config
        .clusters
        .iter()
        .find(|named| named.name == context.cluster)
        .and_then(|named| named.cluster.as_ref())
        .ok_or_else(|| format!("it has no cluster `{}`", context.cluster))?
        .server
        .as_deref();
    if server.is_none_or(str::is_empty) {
        return Err(format!("cluster `{}` has no server", context.cluster));
    }
    let user = context.user.as_deref().unwrap_or_default();
    if !config.auth_infos.iter().any(|named| named.name == user) {
        return Err(format!("it has no user `{user}`"));
    }
    // Any user, not only the current one: the file would be handed on as it is.
    for named in &config.auth_infos {
        let Some(info) = &named.auth_info else {
            continue;
        };
        if info.exec.is_some() || info.auth_provider.is_some() {
            return Err(format!(
                "user `{}` runs a program (exec or auth-provider): use a token or a client certificate",
                named.name
            ));
        }
        let paths = [&info.token_file, &info.client_certificate, &info.client_key];
        if paths.iter().any(|path| path.is_some()) {
            return Err(format!(
                "user `{}` names a file (tokenFile, client-certificate or client-key): put the data itself there",
                named.name
            ));
        }
    }
    for named in &config.clusters {
        let cluster = named.cluster.as_ref();
        if cluster.is_some_and(|cluster| cluster.certificate_authority.is_some()) {
            return Err(format!(
                "cluster `{}` names a file (certificate-authority): put the data itself there",
                named.name
            ));
        }
    }
    Ok(())
}

/// The id of a cluster that is there is a uuid as text.
fn own_uuid(id: &str) -> Uuid {
    Uuid::parse_str(id).unwrap_or_default()
}

/// Kubernetes clusters.
impl Store {
    /// The clusters to watch.
    pub fn kubernetes_clusters(&self) -> &KubernetesClusters {
        &self.clusters
    }

    /// Registers a cluster from its wire form; the answer is the controller's own id for it.
    ///
    /// # Errors
    /// When a field has the wrong type, the kubeconfig is none, or the cluster is registered already.
    pub fn create_kubernetes_cluster(&mut self, object: Value) -> Result<String, Error> {
        room("clusters", self.clusters.len(), 1, MAX_CLUSTERS)?;
        let cluster = KubernetesCluster::parse(object)?;
        self.not_onboarded_as_another(&cluster, None)?;
        let weight = self.weights.fits(self.next_uuid(), &cluster.object)?;
        let uuid = self.fresh_uuid();
        self.weights.set(uuid, weight);
        let id = uuid.to_string();
        self.clusters.insert(id.clone(), cluster);
        Ok(id)
    }

    /// Replaces a cluster's registration.
    ///
    /// # Errors
    /// As [`create_kubernetes_cluster`](Self::create_kubernetes_cluster), when there is none, and when smart groups name
    /// it by the id that it would lose.
    pub fn update_kubernetes_cluster(&mut self, id: &str, object: Value) -> Result<(), Error> {
        let before = self.clusters.get(id);
        let before = before.ok_or_else(|| Error::ClusterNotFound(id.to_owned()))?;
        let cluster = KubernetesCluster::parse(object)?;
        self.not_onboarded_as_another(&cluster, Some(id))?;
        if before.cluster_id != cluster.cluster_id {
            self.not_in_use(&before.cluster_id)?;
        }
        let uuid = own_uuid(id);
        let weight = self.weights.fits(uuid, &cluster.object)?;
        self.weights.set(uuid, weight);
        self.clusters.insert(id.to_owned(), cluster);
        Ok(())
    }

    /// Takes a cluster off that no smart group names.
    ///
    /// # Errors
    /// When there is none, or a smart group names it.
    pub fn delete_kubernetes_cluster(&mut self, id: &str) -> Result<(), Error> {
        let cluster = self.clusters.get(id);
        let cluster = cluster.ok_or_else(|| Error::ClusterNotFound(id.to_owned()))?;
        self.not_in_use(&cluster.cluster_id)?;
        self.clusters.remove(id);
        self.weights.remove(own_uuid(id));
        Ok(())
    }

    fn not_in_use(&self, cluster_id: &str) -> Result<(), Error> {
        match self.app_domains.of_cluster(cluster_id).as_slice() {
            [] => Ok(()),
            groups => Err(Error::ClusterInUse(groups.join(", "))),
        }
    }

    fn not_onboarded_as_another(
        &self,
        cluster: &KubernetesCluster,
        id: Option<&str>,
    ) -> Result<(), Error> {
        let mut others = self.clusters.iter();
        if others.any(|(other, known)| {
            Some(other.as_str()) != id && known.cluster_id == cluster.cluster_id
        }) {
            return Err(Error::AlreadyOnboarded(cluster.cluster_id.clone()));
        }
        Ok(())
    }
}
