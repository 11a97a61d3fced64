//! Attachment points: places in the evaluation order to which one ruleset or policy group each can be attached.

use std::collections::BTreeMap;

use uuid::Uuid;

use super::super::Error;
use crate::policy::{AttachmentPoint, K8S_ATTACHMENT_POINT};

/// The controller's own points. The uuids of the first two are public; that of the third is not, and continues the row.
const BUILT_IN: [(AttachmentPoint, Uuid); 4] = [
    (
        AttachmentPoint::BeforeUi,
        Uuid::from_u128(0xdefa_11a1_3000_4001_0000_0000_0000_0000),
    ),
    (
        AttachmentPoint::AfterUi,
        Uuid::from_u128(0xdefa_11a1_3000_4002_0000_0000_0000_0000),
    ),
    (
        AttachmentPoint::AfterKubernetes,
        Uuid::from_u128(0xdefa_11a1_3000_4003_0000_0000_0000_0000),
    ),
    (AttachmentPoint::Kubernetes, K8S_ATTACHMENT_POINT),
];
const NAMESPACE: Uuid = Uuid::from_u128(0x6f2b_7c9e_5d41_4c0b_9a77_1f0e_54c3_0003);

/// All points, by uuid.
#[derive(Clone, Debug)]
pub(in crate::store) struct Points {
    names: BTreeMap<Uuid, String>,
    by_name: BTreeMap<String, Uuid>,
}

impl Default for Points {
    fn default() -> Self {
        let mut points = Self {
            names: BTreeMap::new(),
            by_name: BTreeMap::new(),
        };
        for (point, uuid) in BUILT_IN {
            points.insert(uuid, point.name());
        }
        points
    }
}

impl Points {
    /// The uuid of a point that the controller has of its own; the V1 policy list is no such point.
    pub(super) fn built_in(point: AttachmentPoint) -> Option<Uuid> {
        let found = BUILT_IN.iter().find(|(built_in, _)| *built_in == point)?;
        Some(found.1)
    }

    /// The uuid that a point of this name is made with.
    pub(super) fn uuid_of(name: &str) -> Uuid {
        Uuid::new_v5(&NAMESPACE, name.as_bytes())
    }

    /// Makes a point unless there is one of this name.
    pub(in crate::store) fn add(&mut self, name: &str) {
        if !self.by_name.contains_key(name) {
            self.insert(Self::uuid_of(name), name);
        }
    }

    fn insert(&mut self, uuid: Uuid, name: &str) {
        self.names.insert(uuid, name.to_owned());
        self.by_name.insert(name.to_owned(), uuid);
    }

    pub(in crate::store) fn by_name(&self, name: &str) -> Option<Uuid> {
        self.by_name.get(name).copied()
    }

    pub(super) fn name(&self, uuid: Uuid) -> Option<&str> {
        self.names.get(&uuid).map(String::as_str)
    }

    pub(in crate::store) fn len(&self) -> usize {
        self.names.len()
    }

    /// The name of a point that an administrator may attach something to.
    pub(super) fn attachable(&self, uuid: Uuid) -> Result<&str, Error> {
        if uuid == K8S_ATTACHMENT_POINT {
            return Err(Error::NotAttachable(AttachmentPoint::Kubernetes));
        }
        self.name(uuid)
            .ok_or_else(|| Error::UnknownPoint(uuid.to_string()))
    }
}
