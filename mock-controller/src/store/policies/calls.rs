//! What an administrator may do with rules: the calls of sections 4.2 to 4.5, each whole or not at all.

use std::{collections::BTreeSet, sync::Arc};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    super::{
        Error, InvalidObject, Store,
        fields::{Fields, set_uuid},
        room,
        rule::{self, StoredRule},
        same_uuid,
    },
    Content, Ruleset,
};
use crate::policy::{DEFAULT_ACTION, DefaultAction};

/// Over all lists.
const MAX_RULES: usize = 50_000;
/// Under which the V1 policy list is weighed; nothing else has it.
const V1_LIST: Uuid = Uuid::nil();
const MAX_POLICIES: usize = 10_000;
const MAX_POINTS: usize = 10_000;

/// The V1 policy list, rulesets, policy groups, the default action.
impl Store {
    /// Replaces the V1 policy list. Rules are evaluated by priority, lower numbers first.
    ///
    /// # Errors
    /// When a rule is refused; then the list stays as it was.
    pub fn set_policy_list(&mut self, rules: Vec<Value>) -> Result<(), Error> {
        self.put_policy_list(json!({"policies": rules}))
    }

    /// The same, from the body of the vendor's call: `{"policies": [..]}`.
    ///
    /// # Errors
    /// As [`set_policy_list`](Self::set_policy_list).
    pub fn put_policy_list(&mut self, mut object: Value) -> Result<(), Error> {
        if object.get("policies").is_none() {
            let problem = "`policies` is missing";
            return Err(InvalidObject::new("policy list", &object, problem).into());
        }
        let rules = self.accept("policy list", &mut object, None)?;
        if object["policies"].is_null() {
            object["policies"] = json!([]);
        }
        let weight = self.weights.fits(V1_LIST, &object)?;
        self.weights.set(V1_LIST, weight);
        let object = Arc::new(object);
        self.policies.v1 = Ruleset { object, rules };
        Ok(())
    }

    /// Forgets the V1 policy list.
    pub fn delete_policy_list(&mut self) {
        self.weights.remove(V1_LIST);
        self.policies.v1 = Ruleset::empty();
    }

    /// The V1 policy list, `{"policies": [..]}`.
    pub fn policy_list(&self) -> &Arc<Value> {
        &self.policies.v1.object
    }

    /// Creates a ruleset (`policies`) or a policy group (`sub_policies`).
    ///
    /// # Errors
    /// When a rule or a part is refused, or its attachment point has something attached already.
    pub fn create_policy(&mut self, object: Value) -> Result<Uuid, Error> {
        room("policies", self.policies.len(), 1, MAX_POLICIES)?;
        let uuid = self.fresh_uuid();
        self.put_policy(uuid, object)?;
        Ok(uuid)
    }

    /// Replaces a ruleset or a policy group as a whole.
    ///
    /// # Errors
    /// As [`create_policy`](Self::create_policy), and when there is none; then everything stays as it was.
    pub fn update_policy(&mut self, uuid: Uuid, object: Value) -> Result<(), Error> {
        self.policy(uuid)?;
        same_uuid("policy", &object, uuid)?;
        self.put_policy(uuid, object)
    }

    fn put_policy(&mut self, uuid: Uuid, mut object: Value) -> Result<(), Error> {
        let invalid =
            |object: &Value, problem: String| InvalidObject::new("policy", object, problem);
        let fields = Fields::of(&object).map_err(|problem| invalid(&object, problem))?;
        // A group is told by its parts; a ruleset may send `null` for no rules.
        if fields.has("sub_policies") {
            if fields.has("policies") {
                let problem = "it has both policies and sub_policies: keep one".to_owned();
                return Err(invalid(&object, problem).into());
            }
            let (parts, points) = self.policies.parts(&object)?;
            room(
                "attachment points",
                self.policies.points().len(),
                points.len(),
                MAX_POINTS,
            )?;
            let weight = self.weights.fits(uuid, &object)?;
            self.policies.insert(uuid, object, Content::Group(parts))?;
            self.weights.set(uuid, weight);
            for name in points {
                self.policies.points_mut().add(&name);
            }
            Ok(())
        } else if object.get("policies").is_some() {
            let rules = self.accept("policy list", &mut object, Some(uuid))?;
            let weight = self.weights.fits(uuid, &object)?;
            self.policies
                .insert(uuid, object, Content::Ruleset(rules))?;
            self.weights.set(uuid, weight);
            Ok(())
        } else {
            let problem = "it has neither policies nor sub_policies".to_owned();
            Err(invalid(&object, problem).into())
        }
    }

    /// Deletes a ruleset or a policy group that no group refers to.
    ///
    /// # Errors
    /// When there is none, or a group refers to it.
    pub fn delete_policy(&mut self, uuid: Uuid) -> Result<(), Error> {
        self.policies.remove(uuid)?;
        self.weights.remove(uuid);
        Ok(())
    }

    pub fn policy(&self, uuid: Uuid) -> Result<&Arc<Value>, Error> {
        self.policies.get(uuid)
    }

    /// All rulesets and policy groups.
    pub fn policies(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.policies.iter()
    }

    /// The uuid of an attachment point.
    pub fn attachment_point(&self, name: &str) -> Result<Uuid, Error> {
        let point = self.policies.points().by_name(name);
        point.ok_or_else(|| Error::PointNotFound(name.to_owned()))
    }

    /// Makes an attachment point, where there is none of this name. It is evaluated where a policy group names it.
    ///
    /// # Errors
    /// When there are too many.
    pub fn add_attachment_point(&mut self, name: &str) -> Result<(), Error> {
        room(
            "attachment points",
            self.policies.points().len(),
            1,
            MAX_POINTS,
        )?;
        self.policies.points_mut().add(name);
        Ok(())
    }

    pub fn set_default_action(&mut self, default_action: DefaultAction) {
        self.policies.set_default_action(default_action);
    }

    pub fn default_action(&self) -> DefaultAction {
        self.policies.default_action()
    }

    /// From the body of the vendor's call, `{"action": .., "logging": .., "log_profile": ..}`.
    ///
    /// # Errors
    /// When the action is neither PERMIT nor DENY, or the log profile is none of the built-in ones.
    pub fn set_default_action_rule(&mut self, object: Value) -> Result<(), Error> {
        Ok(self.policies.set_default_action_rule(object)?)
    }

    /// As it was sent.
    pub fn default_action_rule(&self) -> &Arc<Value> {
        self.policies.default_action_rule()
    }

    /// Checks the rules of `object.policies`, gives a uuid to each that has none, and adds what the drift rules want.
    /// `replaced` is the uuid of the ruleset whose rules these replace, none for the V1 list.
    fn accept(
        &mut self,
        kind: &'static str,
        object: &mut Value,
        replaced: Option<Uuid>,
    ) -> Result<Vec<StoredRule>, Error> {
        let list = Fields::of(object).and_then(|fields| fields.list("policies"));
        let count = list
            .map_err(|problem| InvalidObject::new(kind, object, problem))?
            .len();
        let others = self.policies.rules();
        let others = others.filter(|(ruleset, _)| *ruleset != replaced).count();
        room("rules", others, count, MAX_RULES)?;
        let rules = object.get_mut("policies").and_then(Value::as_array_mut);
        let mut accepted = Vec::with_capacity(count);
        for object in rules.into_iter().flatten() {
            if object
                .get("uuid")
                .is_none_or(|uuid| uuid.is_null() || uuid == "")
            {
                set_uuid(object, self.fresh_uuid());
            }
            let rule = StoredRule::parse(object)?;
            if rule.rule.uuid == DEFAULT_ACTION {
                return Err(Error::RuleUuidTaken {
                    rule: rule.rule.name,
                    uuid: rule.rule.uuid,
                });
            }
            self.check_references(&rule)?;
            if let Value::Object(object) = object {
                rule::echo(object);
            }
            accepted.push(rule);
        }
        let mut uuids = BTreeSet::new();
        let mut taken = accepted.iter().find(|rule| !uuids.insert(rule.rule.uuid));
        if taken.is_none() {
            let rules = self.policies.rules();
            let others = rules.filter(|(ruleset, _)| *ruleset != replaced);
            let others: Vec<_> = others
                .map(|(_, rule)| rule)
                .filter(|rule| uuids.contains(&rule.rule.uuid))
                .map(|rule| rule.rule.uuid)
                .collect();
            taken = accepted
                .iter()
                .find(|rule| others.contains(&rule.rule.uuid));
        }
        if let Some(rule) = taken {
            return Err(Error::RuleUuidTaken {
                rule: rule.rule.name.clone(),
                uuid: rule.rule.uuid,
            });
        }
        Ok(accepted)
    }

    fn check_references(&self, rule: &StoredRule) -> Result<(), Error> {
        let name = || rule.rule.name.clone();
        for (group, web) in rule.references() {
            let mirrored = || self.mirrored.get(&group).copied();
            if self.app_domains.is_web(group).or_else(mirrored) != Some(web) {
                return Err(Error::UnknownGroup {
                    rule: name(),
                    kind: if web { "web group" } else { "smart group" },
                    group,
                });
            }
        }
        match rule.tls_profile {
            Some(profile) if self.tls_profiles.get(profile).is_none() => {
                Err(Error::UnknownTlsProfile {
                    rule: name(),
                    profile,
                })
            }
            _ => Ok(()),
        }
    }
}
