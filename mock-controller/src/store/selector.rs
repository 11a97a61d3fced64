//! Reads groups from the vendor's JSON for the policy model (`reference/aviatrix-controller-api.md` sections 2, 3, 7).
//!
//! Faithful: which selectors the provider's documentation allows together, the two refusals that its tests match, the
//! characters of domains, domains or URLs in a group but not both. Ours, where nothing is documented: the wording of the
//! other refusals; keys that no page names are refused. A selector of something that this fake has no inventory of
//! (clouds, sites, external feeds, names, nodes) is accepted and **selects nothing**; so does a URL group, because
//! nothing is decrypted. No key is documented for a group within a group, so there is none.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::Value;
use uuid::Uuid;

use super::fields::{Fields, InvalidObject};
use crate::policy::{KubernetesSelector, Selector, SmartGroup, Switches, WebGroup};

/// How many match expressions a group may have: the vendor's limit of enforced blocks.
const MAX_EXPRESSIONS: usize = 10_000;

/// Keys that select resources of a cloud.
const CLOUD: [&str; 6] = [
    "res_id",
    "account_id",
    "account_name",
    "name",
    "region",
    "zone",
];
const KUBERNETES: [&str; 4] = ["k8s_cluster_id", "k8s_namespace", "k8s_service", "k8s_pod"];
/// Keys that stand alone in their expression.
const ALONE: [&str; 4] = ["cidr", "fqdn", "site", "s2c"];

/// A group of either kind, shared with the policies that are made of it: both live in one collection, and their selectors tell them apart.
#[derive(Clone, Debug)]
pub(super) enum AppDomain {
    Smart(Arc<SmartGroup>),
    Web(Arc<WebGroup>),
}

impl AppDomain {
    /// Also the clusters that its selectors name.
    pub(super) fn parse(
        uuid: Uuid,
        object: &Value,
        switches: &Switches,
    ) -> Result<(Self, BTreeSet<String>), InvalidObject> {
        Self::read(uuid, object, switches)
            .map_err(|problem| InvalidObject::new("group", object, problem))
    }

    fn read(
        uuid: Uuid,
        object: &Value,
        switches: &Switches,
    ) -> Result<(Self, BTreeSet<String>), String> {
        let fields = Fields::of(object)?;
        let name = fields.required("name")?.to_owned();
        let any = fields.object("selector")?.list("any")?;
        if any.is_empty() {
            return Err("`selector.any` is empty: a group needs a match expression".to_owned());
        }
        if any.len() > MAX_EXPRESSIONS {
            return Err(format!(
                "{} match expressions; at most {MAX_EXPRESSIONS} are allowed, make two groups of it",
                any.len()
            ));
        }
        let blocks = any
            .iter()
            .map(|block| Fields::of(block)?.object("all"))
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| format!("`selector.any`: {error}"))?;
        if blocks
            .iter()
            .any(|all| all.has("snifilter") || all.has("urlfilter"))
        {
            let domains = domains(&blocks, switches)?;
            let group = WebGroup::new(uuid, name, domains, switches);
            let group = group.map_err(|error| error.to_string())?;
            unmodelled(&group.name, blocks.len() - group.domains.len());
            return Ok((Self::Web(Arc::new(group)), BTreeSet::new()));
        }
        let mut clusters = BTreeSet::new();
        let mut selectors = Vec::with_capacity(blocks.len());
        for all in blocks {
            selectors.extend(selector(all)?);
            clusters.extend(all.text("k8s_cluster_id")?.map(str::to_owned));
        }
        unmodelled(&name, any.len() - selectors.len());
        let group = SmartGroup {
            uuid,
            name,
            selectors,
        };
        Ok((Self::Smart(Arc::new(group)), clusters))
    }
}

/// Whoever reads a rule with such a group would think that it does something.
fn unmodelled(group: &str, expressions: usize) {
    if expressions > 0 {
        tracing::warn!(
            group,
            expressions,
            "match expressions of a kind that this fake has no inventory of: kept, and they match nothing"
        );
    }
}

/// The domains of a web group; none if it has URLs.
fn domains(blocks: &[Fields<'_>], switches: &Switches) -> Result<Vec<String>, String> {
    let mut domains = Vec::with_capacity(blocks.len());
    for all in blocks {
        let (domain, url) = (all.text("snifilter")?, all.text("urlfilter")?);
        match (domain, url, all.entries().count()) {
            (Some(domain), None, 1) => domains.push(domain.to_owned()),
            (None, Some(url), 1) if !url.trim().is_empty() => {}
            (None, Some(_), 1) => return Err("`urlfilter` is empty".to_owned()),
            _ => {
                return Err(
                    "each match expression of a web group is one snifilter or one urlfilter"
                        .to_owned(),
                );
            }
        }
    }
    if domains.is_empty() || domains.len() == blocks.len() || switches.mixed_web_groups {
        Ok(domains)
    } else {
        Err("a web group holds domains or URLs, not both: make two groups of it".to_owned())
    }
}

/// `None` for what nothing in this fake can be a member of.
fn selector(all: Fields<'_>) -> Result<Option<Selector>, String> {
    let mut keys = Vec::new();
    for (key, value) in all.entries() {
        if !value.is_string() {
            return Err(format!("`{key}` of a selector is not a string"));
        }
        keys.push(key);
    }
    if keys.is_empty() {
        return Err("a match expression without keys selects nothing".to_owned());
    }
    if all.has("external") {
        // Every other key is an argument of the feed, whatever it is called.
        return Ok(None);
    }
    if let Some(alone) = ALONE.iter().find(|key| all.has(key)) {
        if keys.len() > 1 {
            return Err(format!(
                "`{alone}` cannot be used with other filters in one match expression"
            ));
        }
        return match *alone {
            "cidr" => all
                .required("cidr")?
                .parse()
                .map(|block| Some(Selector::Cidr(block)))
                .map_err(|error| format!("{error}")),
            _ => all.required(alone).map(|_| None),
        };
    }
    match all.required("type").map_err(|_| {
        format!(
            "`type` is required beside `{}`",
            keys.first().copied().unwrap_or_default()
        )
    })? {
        "k8s" => kubernetes(all, &keys).map(|selector| Some(Selector::Kubernetes(selector))),
        "k8s_node" => {
            let known = |key: &str| key == "type" || key == "k8s_cluster_id" || of_cloud(key);
            known_keys("k8s_node", &keys, known)
        }
        // A free string on the wire: vm, vpc, subnet, serverless and whatever comes next.
        kind => known_keys(kind, &keys, |key| key == "type" || of_cloud(key)),
    }
}

fn of_cloud(key: &str) -> bool {
    CLOUD.contains(&key) || key.starts_with("tags.")
}

fn known_keys(
    kind: &str,
    keys: &[&str],
    known: impl Fn(&str) -> bool,
) -> Result<Option<Selector>, String> {
    let unknown: Vec<_> = keys.iter().filter(|key| !known(key)).collect();
    if unknown.is_empty() {
        return Ok(None);
    }
    // As Python prints a list: the provider's tests compare it.
    let unknown: Vec<_> = unknown.iter().map(|key| format!("'{key}'")).collect();
    Err(format!(
        "invalid selector keys for {kind} resource type. invalid keys [{}]",
        unknown.join(", ")
    ))
}

fn kubernetes(all: Fields<'_>, keys: &[&str]) -> Result<KubernetesSelector, String> {
    let refused = |why: &str| {
        Err(format!(
            "invalid selector combination for k8s resource type: {why}"
        ))
    };
    let mut selector = KubernetesSelector {
        cluster: all.text("k8s_cluster_id")?.map(str::to_owned),
        namespace: all.text("k8s_namespace")?.map(str::to_owned),
        service: all.text("k8s_service")?.map(str::to_owned),
        pod: all.text("k8s_pod")?.map(str::to_owned),
        ..KubernetesSelector::default()
    };
    for key in keys {
        let value = all.text(key)?.unwrap_or_default().to_owned();
        match key.split_once('.') {
            Some(("tags", label)) => drop(selector.labels.insert(label.to_owned(), value)),
            Some(("namespacetags", label)) => {
                drop(selector.namespace_labels.insert(label.to_owned(), value));
            }
            _ if *key == "type" || KUBERNETES.contains(key) => {}
            _ => return refused(&format!("`{key}` does not select pods")),
        }
    }
    let named = selector.service.is_some() || selector.pod.is_some();
    if selector.service.is_some() && selector.pod.is_some() {
        return refused("`k8s_service` and `k8s_pod` exclude each other");
    }
    if selector.pod.is_some() && (selector.cluster.is_none() || selector.namespace.is_none()) {
        return refused("`k8s_pod` needs `k8s_cluster_id` and `k8s_namespace`");
    }
    if named && !selector.namespace_labels.is_empty() {
        return refused("`namespacetags` cannot be used with `k8s_service` or `k8s_pod`");
    }
    Ok(selector)
}
