//! Policy objects as an administrator handles them: read, edited, deleted and written by hand, and awaited until the
//! gateway enforces them.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{
    Api, ApiResource, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams,
};
use kube::runtime::wait::await_condition;
use serde_json::{Value, json};

use super::lifecycle::{SERVER_LABEL, unwatched};
use super::{Error, Lab, RUNTIME_NAMESPACE};
use crate::evidence::Event;
use crate::judge::list::equals;
use crate::judge::policy_object::PolicyState;
use crate::system::await_::{Look, poll_until};

impl Lab {
    /// FirewallPolicies that belong to a server.
    ///
    /// # Errors
    /// When they can't be listed.
    pub async fn firewall_policies_of(&self, name: &str) -> Result<Vec<DynamicObject>, Error> {
        let id = self.id_of(name)?;
        let selector = ListParams::default().labels(&format!("{SERVER_LABEL}={id}"));
        let list = self.firewall_policies().list(&selector).await;
        let list = list.map_err(Error::kubernetes("list FirewallPolicies"))?;
        Ok(list.items)
    }

    /// The one FirewallPolicy of a server, once the gateway enforces it.
    ///
    /// # Errors
    /// When there is none, or more than one.
    pub async fn firewall_policy_of(&self, name: &str) -> Result<DynamicObject, Error> {
        let deadline = self.context.deadlines.policy_enforced;
        let one = poll_until(Duration::MAX, async || {
            let found = self.firewall_policies_of(name).await?;
            let enforced = matches!(found.as_slice(), [one] if is_enforced(one));
            Ok::<_, Error>(Look::when(enforced, found))
        });
        let what = format!("the FirewallPolicy of {name:?} to be enforced");
        let found = self.waiting.until(what, deadline, one).await??;
        let missing = || Error::Fixture(format!("the server {name:?} has no FirewallPolicy"));
        found.into_iter().next().ok_or_else(missing)
    }

    /// The FirewallPolicies of a server, once the one that it has permits exactly `list` and is enforced. In vain is no
    /// error: the judge says what differs.
    ///
    /// # Errors
    /// When the server has no enforced FirewallPolicy, or it can't be watched.
    pub async fn policy_after_update(
        &self,
        name: &str,
        list: &[String],
    ) -> Result<Vec<DynamicObject>, Error> {
        let policy = self.firewall_policy_of(name).await?.name_any();
        let wanted = |object: &DynamicObject| is_enforced(object) && equals(&json!(object), list);
        self.await_policy(&policy, wanted).await?;
        self.firewall_policies_of(name).await
    }

    /// Replaces the spec of a FirewallPolicy by hand; the answer is the object as the API server took it.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn edit_by_hand(
        &self,
        object: &DynamicObject,
        spec: &Value,
    ) -> Result<DynamicObject, Error> {
        let name = object.name_any();
        let patch = Patch::Merge(json!({"spec": spec}));
        self.firewall_policies()
            .patch(&name, &PatchParams::default(), &patch)
            .await
            .map_err(Error::kubernetes(format!("edit the FirewallPolicy {name}")))
    }

    /// Deletes a FirewallPolicy by hand.
    ///
    /// # Errors
    /// When the API server refuses.
    pub async fn delete_by_hand(&self, object: &DynamicObject) -> Result<(), Error> {
        let name = object.name_any();
        self.firewall_policies()
            .delete(&name, &DeleteParams::default())
            .await
            .map(drop)
            .map_err(Error::kubernetes(format!(
                "delete the FirewallPolicy {name}"
            )))
    }

    /// Writes a FirewallPolicy by hand and waits until the gateway enforces it.
    ///
    /// # Errors
    /// When the API server refuses it, or the firewall does not take it in time.
    pub async fn write_by_hand(&self, name: &str, spec: &Value) -> Result<DynamicObject, Error> {
        let object = DynamicObject::new(name, &firewall_policy_kind())
            .within(RUNTIME_NAMESPACE)
            .data(json!({ "spec": spec }));
        self.firewall_policies()
            .create(&PostParams::default(), &object)
            .await
            .map_err(Error::kubernetes(format!(
                "create the FirewallPolicy {name}"
            )))?;
        let enforced = self.await_policy(name, is_enforced).await?;
        let enforced = enforced.ok_or_else(|| {
            Error::Fixture(format!(
                "the firewall did not take the FirewallPolicy {name} in time"
            ))
        })?;
        // Before the object can be gone again: records about its rules must be readable.
        let object = format!("{RUNTIME_NAMESPACE}/{name}");
        let known = |event: &Event| {
            matches!(event, Event::RulesKnown { rules }
                if rules.values().any(|rule| rule.part_of.as_ref() == Some(&object)))
        };
        let what = format!("the names of the rules of {name}");
        let deadline = self.context.deadlines.policy_enforced;
        self.see(what, deadline, |events| {
            let found = events.iter().any(|recorded| known(&recorded.event));
            found.then_some(())
        })
        .await?;
        Ok(enforced)
    }

    /// Waits until a FirewallPolicy is as `wanted` says; none when that does not come within the stated bound.
    ///
    /// # Errors
    /// When it can't be watched.
    pub async fn await_policy(
        &self,
        name: &str,
        wanted: impl Fn(&DynamicObject) -> bool,
    ) -> Result<Option<DynamicObject>, Error> {
        let bound = self.context.deadlines.policy_update_bound;
        let condition = |object: Option<&DynamicObject>| object.is_some_and(&wanted);
        let awaited = self
            .waiting
            .until(
                format!("the FirewallPolicy {name} to be as it should"),
                bound,
                await_condition(self.firewall_policies(), name, condition),
            )
            .await;
        match awaited {
            Err(_) => Ok(None),
            Ok(found) => found.map_err(|error| unwatched("FirewallPolicy", name, &error)),
        }
    }

    /// A FirewallPolicy as it is now.
    ///
    /// # Errors
    /// When it can't be read.
    pub async fn policy_now(&self, name: &str) -> Result<Option<DynamicObject>, Error> {
        self.firewall_policies()
            .get_opt(name)
            .await
            .map_err(Error::kubernetes(format!("read the FirewallPolicy {name}")))
    }

    pub(super) fn firewall_policies(&self) -> Api<DynamicObject> {
        Api::namespaced_with(
            self.cluster.client(),
            RUNTIME_NAMESPACE,
            &firewall_policy_kind(),
        )
    }
}

/// Whether the gateway enforces an object as it is: the firewall says so in its status after the push.
pub fn is_enforced(object: &DynamicObject) -> bool {
    object.metadata.generation.is_some()
        && object.data["status"]["lastReconciledGeneration"].as_i64() == object.metadata.generation
}

/// The facts of an object that the judge looks at.
pub fn state_of(object: &DynamicObject) -> PolicyState {
    PolicyState {
        name: object.name_any(),
        uid: object.uid().unwrap_or_default(),
        generation: object.metadata.generation.unwrap_or_default(),
        spec: object.data["spec"].clone(),
        enforced: is_enforced(object),
    }
}

pub(super) fn firewall_policy_kind() -> ApiResource {
    ApiResource {
        group: "networking.aviatrix.com".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "networking.aviatrix.com/v1alpha1".to_owned(),
        kind: "FirewallPolicy".to_owned(),
        plural: "firewallpolicies".to_owned(),
    }
}
