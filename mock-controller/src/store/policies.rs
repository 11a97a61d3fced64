//! Where rules stand: the V1 policy list, rulesets and policy groups, the points at which they are attached, the default
//! action (`reference/aviatrix-controller-api.md` sections 4.2 to 4.5).
//!
//! Faithful: rulesets and policy groups share one collection and come back as sent; one object per attachment point;
//! groups nest by priority; what is attached nowhere enforces nothing. A ruleset may stand in several groups, as the
//! provider's tests have it. Ours, where nothing is documented: a group that would contain itself is refused, what a
//! group refers to stays, an update replaces the whole object, and a point that a group names for the first time is made.

mod calls;
mod evaluation;
mod points;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde_json::{Value, json};
use uuid::Uuid;

use super::{
    Error,
    fields::{Fields, InvalidObject, set_uuid},
    profiles,
    rule::StoredRule,
};
use crate::policy::{Action, AttachmentPoint, DefaultAction, K8S_ATTACHMENT_POINT};
pub(super) use points::Points;

/// How many sub-policies a policy group may have.
const MAX_SUB_POLICIES: usize = 10_000;

/// All rules and their places.
#[derive(Clone, Debug)]
pub(super) struct Policies {
    pub(super) v1: Ruleset,
    objects: BTreeMap<Uuid, PolicyObject>,
    points: Points,
    default_action: (Arc<Value>, DefaultAction),
}

/// Rules, with the object that they were sent in.
#[derive(Clone, Debug)]
pub(super) struct Ruleset {
    pub(super) object: Arc<Value>,
    pub(super) rules: Vec<StoredRule>,
}

/// A ruleset or a policy group.
#[derive(Clone, Debug)]
pub(super) struct PolicyObject {
    object: Arc<Value>,
    name: String,
    attached_to: Option<Uuid>,
    content: Content,
}

#[derive(Clone, Debug)]
pub(super) enum Content {
    Ruleset(Vec<StoredRule>),
    /// In evaluation order.
    Group(Vec<Part>),
}

/// What stands in a policy group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    Ruleset(Uuid),
    Group(Uuid),
    /// Whatever is attached to this point.
    Point(Uuid),
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            v1: Ruleset::empty(),
            objects: BTreeMap::new(),
            points: Points::default(),
            default_action: default_action(&DefaultAction::default()),
        }
    }
}

impl Ruleset {
    pub(super) fn empty() -> Self {
        Self {
            object: Arc::new(json!({"policies": []})),
            rules: Vec::new(),
        }
    }
}

impl Policies {
    pub(super) fn points(&self) -> &Points {
        &self.points
    }

    pub(super) fn points_mut(&mut self) -> &mut Points {
        &mut self.points
    }

    pub(super) fn get(&self, uuid: Uuid) -> Result<&Arc<Value>, Error> {
        let object = self.objects.get(&uuid);
        object
            .map(|object| &object.object)
            .ok_or_else(|| Error::PolicyNotFound(uuid.to_string()))
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Arc<Value>> {
        self.objects.values().map(|object| &object.object)
    }

    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// All rules, each with the ruleset in which it stands; none for the V1 list.
    pub(super) fn rules(&self) -> impl Iterator<Item = (Option<Uuid>, &StoredRule)> {
        let v1 = self.v1.rules.iter().map(|rule| (None, rule));
        let rulesets = self.objects.iter().flat_map(|(uuid, object)| {
            let rules = match &object.content {
                Content::Ruleset(rules) => rules.as_slice(),
                Content::Group(_) => &[],
            };
            rules.iter().map(|rule| (Some(*uuid), rule))
        });
        v1.chain(rulesets)
    }

    /// Adds an object or replaces one of the same kind. `content` was read from it.
    pub(super) fn insert(
        &mut self,
        uuid: Uuid,
        mut object: Value,
        content: Content,
    ) -> Result<(), Error> {
        let kind = content.kind();
        let invalid = |object: &Value, problem: String| InvalidObject::new(kind, object, problem);
        let read = |object: &Value| {
            let fields = Fields::of(object)?;
            Ok((
                fields.required("name")?.to_owned(),
                fields.uuid("attach_to")?,
            ))
        };
        let (name, attached_to) =
            read(&object).map_err(|problem: String| invalid(&object, problem))?;
        if let Some(point) = attached_to {
            let point_name = self.points.attachable(point)?;
            let taken = self
                .objects
                .iter()
                .find(|(other, object)| **other != uuid && object.attached_to == Some(point));
            if let Some((_, other)) = taken {
                return Err(Error::PointTaken {
                    point: point_name.to_owned(),
                    by: other.name.clone(),
                });
            }
        }
        if let Some(old) = self.objects.get(&uuid)
            && old.content.kind() != kind
        {
            let problem = format!("{uuid} is a {} and stays one", old.content.kind());
            return Err(invalid(&object, problem).into());
        }
        set_uuid(&mut object, uuid);
        let new = PolicyObject {
            object: Arc::new(object),
            name,
            attached_to,
            content,
        };
        let old = self.objects.insert(uuid, new);
        if self.contains_itself(uuid) {
            let new = match old {
                Some(old) => self.objects.insert(uuid, old),
                None => self.objects.remove(&uuid),
            };
            let new = new.expect("invariant: it was inserted above");
            return Err(invalid(&new.object, "it would contain itself".to_owned()).into());
        }
        Ok(())
    }

    /// Deletes an object that no group refers to.
    pub(super) fn remove(&mut self, uuid: Uuid) -> Result<(), Error> {
        let object = self
            .objects
            .get(&uuid)
            .ok_or_else(|| Error::PolicyNotFound(uuid.to_string()))?;
        let used: BTreeSet<_> = self
            .objects
            .values()
            .filter(|group| match &group.content {
                Content::Ruleset(_) => false,
                Content::Group(parts) => {
                    parts.contains(&Part::Ruleset(uuid)) || parts.contains(&Part::Group(uuid))
                }
            })
            .map(|group| group.name.as_str())
            .collect();
        if !used.is_empty() {
            return Err(Error::PolicyInUse {
                kind: object.content.kind(),
                name: object.name.clone(),
                groups: used.into_iter().collect::<Vec<_>>().join(", "),
            });
        }
        self.objects.remove(&uuid);
        Ok(())
    }

    /// Reads the parts of a policy group. The second are names of points that it makes.
    pub(super) fn parts(&self, object: &Value) -> Result<(Vec<Part>, Vec<String>), InvalidObject> {
        self.read_parts(object)
            .map_err(|problem| InvalidObject::new(GROUP, object, problem))
    }

    fn read_parts(&self, object: &Value) -> Result<(Vec<Part>, Vec<String>), String> {
        let sent = Fields::of(object)?.list("sub_policies")?;
        if sent.is_empty() {
            return Err("creation of an empty policy group is not allowed".to_owned());
        }
        if sent.len() > MAX_SUB_POLICIES {
            return Err(format!("more than {MAX_SUB_POLICIES} sub-policies"));
        }
        let mut parts = Vec::with_capacity(sent.len());
        let mut new_points = Vec::new();
        for part in sent {
            let fields = Fields::of(part).map_err(|error| format!("`sub_policies`: {error}"))?;
            let (list, block) = (fields.uuid("list")?, fields.uuid("block")?);
            let part = match (list, block, fields.has("attachment_point")) {
                (Some(list), None, false) => {
                    self.exists(list, RULESET)?;
                    Part::Ruleset(list)
                }
                (None, Some(block), false) => {
                    self.exists(block, GROUP)?;
                    Part::Group(block)
                }
                (None, None, true) => {
                    let point = fields.object("attachment_point")?;
                    let (uuid, name) = (point.uuid("uuid")?, point.text("name")?);
                    let part = match (uuid, name) {
                        (Some(uuid), _) if self.points.name(uuid).is_some() => Part::Point(uuid),
                        (Some(uuid), _) => {
                            return Err(format!("attachment point {uuid} does not exist"));
                        }
                        (None, Some(name)) if !name.trim().is_empty() => {
                            let uuid = self.points.by_name(name).unwrap_or_else(|| {
                                new_points.push(name.to_owned());
                                Points::uuid_of(name)
                            });
                            Part::Point(uuid)
                        }
                        (None, _) => {
                            return Err("an attachment point has a name or a uuid".to_owned());
                        }
                    };
                    if part == Part::Point(K8S_ATTACHMENT_POINT) {
                        let name = AttachmentPoint::Kubernetes.name();
                        return Err(format!("{name} stands where it is: no group can hold it"));
                    }
                    part
                }
                _ => {
                    return Err(
                        "each sub-policy is one of list, block, attachment_point".to_owned()
                    );
                }
            };
            let priority = fields.integer("priority")?.unwrap_or_default();
            parts.push((priority, part));
        }
        // Parts of one priority stay in the order in which they were sent.
        parts.sort_by_key(|(priority, _)| *priority);
        Ok((
            parts.into_iter().map(|(_, part)| part).collect(),
            new_points,
        ))
    }

    fn exists(&self, uuid: Uuid, kind: &'static str) -> Result<(), String> {
        match self.objects.get(&uuid) {
            Some(object) if object.content.kind() == kind => Ok(()),
            _ => Err(format!("{kind} {uuid} does not exist")),
        }
    }

    pub(super) fn default_action(&self) -> DefaultAction {
        self.default_action.1
    }

    pub(super) fn default_action_rule(&self) -> &Arc<Value> {
        &self.default_action.0
    }

    pub(super) fn set_default_action(&mut self, action: DefaultAction) {
        self.default_action = default_action(&action);
    }

    /// `action` comes back in the case in which it was sent.
    pub(super) fn set_default_action_rule(&mut self, object: Value) -> Result<(), InvalidObject> {
        let read = || {
            let fields = Fields::of(&object)?;
            let action = match fields.one_of("action", &["PERMIT", "DENY"])? {
                Some("DENY") => Action::Deny,
                Some(_) => Action::Permit,
                None => return Err("`action` is missing".to_owned()),
            };
            let logging = profiles::logging(fields)?;
            // All three are there when it is read back, whatever was sent.
            let stored = json!({
                "action": fields.text("action")?,
                "logging": fields.flag("logging")?,
                "log_profile": fields.text("log_profile")?.unwrap_or_default(),
            });
            Ok((Arc::new(stored), DefaultAction { action, logging }))
        };
        self.default_action =
            read().map_err(|problem| InvalidObject::new("default action", &object, problem))?;
        Ok(())
    }
}

pub(super) const RULESET: &str = "policy list";
pub(super) const GROUP: &str = "policy group";

impl Content {
    fn kind(&self) -> &'static str {
        match self {
            Self::Ruleset(_) => RULESET,
            Self::Group(_) => GROUP,
        }
    }
}

fn default_action(action: &DefaultAction) -> (Arc<Value>, DefaultAction) {
    let object = json!({"action": action.action.name(), "logging": action.logging.is_on(), "log_profile": ""});
    (Arc::new(object), *action)
}
