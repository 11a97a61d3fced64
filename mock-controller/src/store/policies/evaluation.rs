//! The order of evaluation: what is attached, group in group, flattened to lists (`reference/aviatrix-dcf.md` section
//! 2.1).

use std::collections::{BTreeMap, BTreeSet};

use uuid::Uuid;

use super::{Content, Part, Points, Policies};
use crate::{
    policy::{AttachmentPoint, Policy, PolicyList},
    store::rule::StoredRule,
};

const V1_POLICY_LIST: Uuid = Uuid::from_u128(0xdefa_11a1_1000_0000_0000_0000_0000_0000);

impl Policies {
    /// Adds every list that is in force. Within a list and within a group the lower priority comes first.
    ///
    /// A ruleset that stands in several places is added at the first alone: behind it, none of its rules could match
    /// what came past it. That keeps the result as small as the store, however groups share their parts.
    pub(in crate::store) fn contribute(&self, policy: &mut Policy) {
        if !self.v1.rules.is_empty() {
            let at = AttachmentPoint::V1PolicyList;
            policy.add_list(list(V1_POLICY_LIST, "V1 Policy List", at, &self.v1.rules));
        }
        let attached = self.attached_objects();
        let mut seen = BTreeSet::new();
        for at in [
            AttachmentPoint::BeforeUi,
            AttachmentPoint::AfterUi,
            AttachmentPoint::AfterKubernetes,
        ] {
            let mut next: Vec<Uuid> = Points::built_in(at)
                .and_then(|point| attached.get(&point).copied())
                .into_iter()
                .collect();
            while let Some(uuid) = next.pop() {
                if !seen.insert(uuid) {
                    continue;
                }
                match self
                    .objects
                    .get(&uuid)
                    .map(|object| (object, &object.content))
                {
                    Some((object, Content::Ruleset(rules))) if !rules.is_empty() => {
                        policy.add_list(list(uuid, &object.name, at, rules));
                    }
                    Some((_, Content::Group(parts))) => next.extend(inner(parts, &attached).rev()),
                    _ => {}
                }
            }
        }
    }

    /// What is attached to each point.
    fn attached_objects(&self) -> BTreeMap<Uuid, Uuid> {
        let objects = self.objects.iter();
        objects
            .filter_map(|(uuid, object)| Some((object.attached_to?, *uuid)))
            .collect()
    }

    /// Whether an object is among what stands in it.
    pub(super) fn contains_itself(&self, uuid: Uuid) -> bool {
        let attached = self.attached_objects();
        let mut seen = BTreeSet::new();
        let mut next = vec![uuid];
        while let Some(object) = next.pop() {
            if let Some(Content::Group(parts)) =
                self.objects.get(&object).map(|object| &object.content)
            {
                for part in inner(parts, &attached) {
                    if part == uuid {
                        return true;
                    }
                    if seen.insert(part) {
                        next.push(part);
                    }
                }
            }
        }
        false
    }
}

/// The objects that stand in a group, in order.
fn inner<'a>(
    parts: &'a [Part],
    attached: &'a BTreeMap<Uuid, Uuid>,
) -> impl DoubleEndedIterator<Item = Uuid> + 'a {
    parts.iter().filter_map(|part| match part {
        Part::Ruleset(uuid) | Part::Group(uuid) => Some(*uuid),
        Part::Point(point) => attached.get(point).copied(),
    })
}

fn list(
    uuid: Uuid,
    name: &str,
    attachment_point: AttachmentPoint,
    rules: &[StoredRule],
) -> PolicyList {
    let mut rules: Vec<_> = rules.iter().filter(|rule| !rule.disabled).collect();
    rules.sort_by_key(|rule| rule.priority);
    PolicyList {
        uuid,
        name: name.to_owned(),
        attachment_point,
        object: None,
        rules: rules.into_iter().map(|rule| rule.rule.clone()).collect(),
    }
}
