//! SmartGroups and WebGroups, one collection that the vendor calls "app domains"
//! (`reference/aviatrix-controller-api.md` sections 2 and 3).
//!
//! Faithful: the system's groups are listed and stay as they are. Ours, where nothing is documented: names need not be
//! unique (a search by name finds the oldest), a group stays of its kind, the selectors that system groups show.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Error, Store,
    fields::{InvalidObject, set_uuid},
    names_of, room, same_uuid,
    selector::AppDomain,
};
use crate::policy::{ANYWHERE, Policy, SmartGroup, WebGroup};

const MAX_APP_DOMAINS: usize = 20_000;

/// Groups by uuid, each as it is read back and as the policy model has it.
#[derive(Clone, Debug)]
pub(super) struct AppDomains {
    groups: BTreeMap<Uuid, Group>,
    created: u64,
}

#[derive(Clone, Debug)]
struct Group {
    object: Arc<Value>,
    parsed: AppDomain,
    /// Ids of Kubernetes clusters that its selectors name.
    clusters: BTreeSet<String>,
    system: bool,
    /// Rises from group to group.
    created: u64,
}

impl Default for AppDomains {
    fn default() -> Self {
        let mut groups = Self {
            groups: BTreeMap::new(),
            created: 0,
        };
        for group in SmartGroup::system() {
            let selector = match group.uuid {
                ANYWHERE => json!({"any": [{"all": {"cidr": "0.0.0.0/0"}}]}),
                // No expression of the wire says it.
                _ => json!({"any": []}),
            };
            groups.add_system(
                group.uuid,
                group.name.clone(),
                selector,
                AppDomain::Smart(Arc::new(group)),
            );
        }
        let group = WebGroup::system();
        let selector = json!({"any": [{"all": {"snifilter": "*"}}]});
        groups.add_system(
            group.uuid,
            group.name.clone(),
            selector,
            AppDomain::Web(Arc::new(group)),
        );
        groups
    }
}

impl AppDomains {
    fn add_system(&mut self, uuid: Uuid, name: String, selector: Value, parsed: AppDomain) {
        let object = json!({"name": name, "selector": selector, "uuid": uuid});
        self.insert(uuid, object, (parsed, BTreeSet::new()));
        if let Some(group) = self.groups.get_mut(&uuid) {
            group.system = true;
        }
    }

    /// Adds a group or replaces it.
    pub(super) fn insert(
        &mut self,
        uuid: Uuid,
        mut object: Value,
        (parsed, clusters): (AppDomain, BTreeSet<String>),
    ) {
        set_uuid(&mut object, uuid);
        let created = self.groups.get(&uuid).map(|group| group.created);
        let created = created.unwrap_or_else(|| {
            self.created += 1;
            self.created
        });
        let group = Group {
            object: Arc::new(object),
            parsed,
            clusters,
            system: false,
            created,
        };
        self.groups.insert(uuid, group);
    }

    pub(super) fn remove(&mut self, uuid: Uuid) {
        self.groups.remove(&uuid);
    }

    pub(super) fn get(&self, uuid: Uuid) -> Option<&Arc<Value>> {
        self.groups.get(&uuid).map(|group| &group.object)
    }

    pub(super) fn by_name(&self, name: &str) -> Option<&Arc<Value>> {
        let named = self.groups.values().filter(|group| group.name() == name);
        named
            .min_by_key(|group| group.created)
            .map(|group| &group.object)
    }

    /// All groups; the system's come first.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Value>> {
        let part = |system| {
            self.groups
                .values()
                .filter(move |group| group.system == system)
        };
        part(true).chain(part(false)).map(|group| &group.object)
    }

    pub(super) fn len(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn name(&self, uuid: Uuid) -> &str {
        self.groups.get(&uuid).map_or("", Group::name)
    }

    pub(super) fn is_system(&self, uuid: Uuid) -> bool {
        self.groups.get(&uuid).is_some_and(|group| group.system)
    }

    /// Whether it is a web group; `None` if there is none of this uuid.
    pub(super) fn is_web(&self, uuid: Uuid) -> Option<bool> {
        let group = self.groups.get(&uuid)?;
        Some(matches!(group.parsed, AppDomain::Web(_)))
    }

    /// Names of the groups whose selectors name the cluster.
    pub(super) fn of_cluster(&self, cluster_id: &str) -> Vec<&str> {
        self.groups
            .values()
            .filter(|group| group.clusters.contains(cluster_id))
            .map(Group::name)
            .collect()
    }

    /// Adds all but the system's groups, which a policy has from the start.
    pub(super) fn contribute(&self, policy: &mut Policy) {
        for group in self.groups.values().filter(|group| !group.system) {
            match &group.parsed {
                AppDomain::Smart(group) => policy.add_smart_group(Arc::clone(group)),
                AppDomain::Web(group) => policy.add_web_group(Arc::clone(group)),
            }
        }
    }
}

impl Group {
    fn name(&self) -> &str {
        match &self.parsed {
            AppDomain::Smart(group) => &group.name,
            AppDomain::Web(group) => &group.name,
        }
    }
}

/// SmartGroups and WebGroups.
impl Store {
    /// Creates a group of either kind from its wire form, `{"name": .., "selector": {"any": [{"all": {..}}]}}`.
    ///
    /// # Errors
    /// When its selectors are not what the vendor's controller takes.
    pub fn create_app_domain(&mut self, object: Value) -> Result<Uuid, Error> {
        room("groups", self.app_domains.len(), 1, MAX_APP_DOMAINS)?;
        let parsed = AppDomain::parse(self.next_uuid(), &object, &self.switches)?;
        let weight = self.weights.fits(self.next_uuid(), &object)?;
        let uuid = self.fresh_uuid();
        self.weights.set(uuid, weight);
        self.app_domains.insert(uuid, object, parsed);
        Ok(uuid)
    }

    /// Replaces a group's definition.
    ///
    /// # Errors
    /// When there is no such group, it is the system's, or the definition is refused.
    pub fn update_app_domain(&mut self, uuid: Uuid, object: Value) -> Result<(), Error> {
        let web = self.app_domains.is_web(uuid);
        let web = web.ok_or_else(|| Error::AppDomainNotFound(uuid.to_string()))?;
        self.not_of_the_system(uuid)?;
        same_uuid("group", &object, uuid)?;
        let parsed = AppDomain::parse(uuid, &object, &self.switches)?;
        if web != matches!(parsed.0, AppDomain::Web(_)) {
            let problem = "a smart group stays a smart group, a web group a web group";
            return Err(InvalidObject::new("group", &object, problem).into());
        }
        let weight = self.weights.fits(uuid, &object)?;
        self.weights.set(uuid, weight);
        self.app_domains.insert(uuid, object, parsed);
        Ok(())
    }

    /// Deletes a group that no rule refers to.
    ///
    /// # Errors
    /// When there is no such group, it is the system's, or a rule refers to it.
    pub fn delete_app_domain(&mut self, uuid: Uuid) -> Result<(), Error> {
        self.app_domain(uuid)?;
        self.not_of_the_system(uuid)?;
        let rules = names_of(
            self.policies
                .rules()
                .map(|(_, rule)| rule)
                .filter(|rule| rule.references().any(|(group, _)| group == uuid)),
        );
        if let Some(rules) = rules {
            let group = self.app_domains.name(uuid).to_owned();
            return Err(Error::GroupInUse { group, rules });
        }
        self.app_domains.remove(uuid);
        self.weights.remove(uuid);
        Ok(())
    }

    pub fn app_domain(&self, uuid: Uuid) -> Result<&Arc<Value>, Error> {
        let group = self.app_domains.get(uuid);
        group.ok_or_else(|| Error::AppDomainNotFound(uuid.to_string()))
    }

    /// The oldest group of this name.
    pub fn app_domain_named(&self, name: &str) -> Result<&Arc<Value>, Error> {
        let group = self.app_domains.by_name(name);
        group.ok_or_else(|| Error::AppDomainNotFound(name.to_owned()))
    }

    /// All groups, with the system's in front.
    pub fn app_domains(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.app_domains.iter()
    }

    fn not_of_the_system(&self, uuid: Uuid) -> Result<(), Error> {
        if self.app_domains.is_system(uuid) {
            let name = self.app_domains.name(uuid).to_owned();
            return Err(Error::System {
                kind: "group",
                name,
            });
        }
        Ok(())
    }
}
