//! Names and uuids of what the controller makes from a policy object.

use uuid::Uuid;

use crate::policy::{KubernetesSelector, ObjectRef};

const NAMESPACE: Uuid = Uuid::from_u128(0x6f2b_7c9e_5d41_4c0b_9a77_1f0e_54c3_0002);

/// Derives everything from one object's cluster, kind, namespace and name.
#[derive(Clone, Debug)]
pub struct Names {
    object: ObjectRef,
    base: Uuid,
}

impl Names {
    pub fn new(cluster: &str, kind: &'static str, namespace: &str, name: &str) -> Self {
        let object = ObjectRef {
            cluster: cluster.to_owned(),
            kind,
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let base = Uuid::new_v5(&NAMESPACE, identity(&object).as_bytes());
        Self { object, base }
    }

    pub(super) fn object(&self) -> ObjectRef {
        self.object.clone()
    }

    pub(super) fn uuid(&self, part: &str) -> Uuid {
        Uuid::new_v5(&self.base, part.as_bytes())
    }

    pub(super) fn ruleset(&self) -> (Uuid, String) {
        let prefix = match self.object.kind {
            "FirewallPolicy" => "firewallpolicylist",
            _ => "webgrouppolicylist",
        };
        self.mirror(prefix, "ruleset")
    }

    /// Rules of one name are told apart by their occurrence: uniqueness is only described.
    pub(super) fn rule(&self, name: &str, occurrence: usize) -> Uuid {
        self.uuid(&format!("rule/{occurrence}/{name}"))
    }

    pub(super) fn source(&self, selector: &KubernetesSelector) -> (Uuid, String) {
        let prefix = match self.object.kind {
            "FirewallPolicy" => "firewallpolicysource",
            _ => "webgrouppolicy-target",
        };
        let selector =
            serde_json::to_string(selector).expect("invariant: a selector of strings serializes");
        self.mirror(prefix, &format!("source/{selector}"))
    }

    pub(super) fn smart_group(&self, name: &str) -> (Uuid, String) {
        self.mirror("firewallpolicy", &format!("smart-group/{name}"))
    }

    pub(super) fn web_group(&self, name: &str) -> (Uuid, String) {
        let prefix = match self.object.kind {
            "FirewallPolicy" => "firewallpolicy",
            _ => "webgrouppolicy",
        };
        self.mirror(prefix, &format!("web-group/{name}"))
    }

    /// `<prefix>-<ns>--<cr>--<hash>`; which hash the vendor takes is unknown.
    fn mirror(&self, prefix: &str, part: &str) -> (Uuid, String) {
        let uuid = self.uuid(part);
        let ObjectRef {
            namespace, name, ..
        } = &self.object;
        let hash = &uuid.simple().to_string()[..8];
        (uuid, format!("{prefix}-{namespace}--{name}--{hash}"))
    }
}

/// A key that puts objects in an order drawn from `seed`.
pub(super) fn order(seed: u64, object: &ObjectRef) -> Uuid {
    Uuid::new_v5(
        &NAMESPACE,
        format!("{seed}/{}", identity(object)).as_bytes(),
    )
}

/// Unambiguous: none of the parts but the cluster id can contain a slash, and that comes last.
fn identity(object: &ObjectRef) -> String {
    let ObjectRef {
        cluster,
        kind,
        namespace,
        name,
    } = object;
    format!("{kind}/{namespace}/{name}/{cluster}")
}
