//! Rules, the lists they stand in, and the whole policy as it was configured.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{
    domain::WebGroup,
    flow::{Action, Protocol},
    group::SmartGroup,
};

/// One rule: the first that matches a flow decides it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Rule {
    pub uuid: Uuid,
    pub name: String,
    /// SmartGroups, any of which must hold the source. None matches nothing.
    pub sources: Vec<Uuid>,
    /// SmartGroups, any of which must hold the destination. None matches nothing.
    pub destinations: Vec<Uuid>,
    /// WebGroups, any of which must hold the name. None leaves the application out of the question.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub web_groups: Vec<Uuid>,
    /// `None` matches every protocol.
    pub protocol: Option<Protocol>,
    /// Destination ports. None matches every flow; some match TCP and UDP alone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ports: Vec<PortRange>,
    pub action: Action,
    pub logging: Logging,
    /// Report what the rule would have done, and do nothing.
    pub watch: bool,
    pub flow_app_requirement: FlowAppRequirement,
}

/// Of which moments of a session a rule leaves records (`reference/aviatrix-controller-api.md` section 4.6). A denied flow
/// has one moment alone: it leaves its record with any of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Logging {
    #[default]
    Off,
    /// What a rule that logs and names no profile does (`reference/aviatrix-dcf.md` section 2.3).
    Start,
    End,
    StartAndEnd,
}

impl Logging {
    /// A rule's switch, and the profile that it names, if it does.
    pub fn of(switch: bool, profile: Option<Self>) -> Self {
        match switch {
            true => profile.unwrap_or(Self::Start),
            false => Self::Off,
        }
    }

    /// A built-in profile by its name: `start`, `end`, `start/end`.
    pub fn of_profile(name: &str) -> Option<Self> {
        match name {
            "start" => Some(Self::Start),
            "end" => Some(Self::End),
            "start/end" => Some(Self::StartAndEnd),
            _ => None,
        }
    }

    pub fn is_on(self) -> bool {
        self != Self::Off
    }

    pub fn at_start(self) -> bool {
        matches!(self, Self::Start | Self::StartAndEnd)
    }

    pub fn at_end(self) -> bool {
        matches!(self, Self::End | Self::StartAndEnd)
    }
}

/// Destination ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct PortRange {
    pub first: u16,
    pub last: u16,
}

/// What a rule demands of the application, apart from its name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum FlowAppRequirement {
    /// Nothing. The vendor's third value, "TLS not required", means the same here: nothing documents a difference.
    #[default]
    AppUnspecified,
    /// A flow that matches the rule and is not TLS is denied, also if its name is in the WebGroup.
    TlsRequired,
}

/// Where in the evaluation order a list stands; the order of the variants is the order of evaluation. Behind all of
/// them stands the default action (POST_RULES).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AttachmentPoint {
    #[serde(rename = "TERRAFORM_BEFORE_UI_MANAGED")]
    BeforeUi,
    /// The V1 policy list and rulesets made in the UI.
    #[serde(rename = "V1_POLICY_LIST")]
    V1PolicyList,
    /// That it stands before the Kubernetes block is inferred.
    #[serde(rename = "TERRAFORM_AFTER_UI_MANAGED")]
    AfterUi,
    /// One list per policy object.
    #[serde(rename = "K8S_POLICY_LIST")]
    Kubernetes,
    #[serde(rename = "TERRAFORM_AFTER_K8S_MANAGED")]
    AfterKubernetes,
}

/// The uuid of [`AttachmentPoint::Kubernetes`], reported in each FirewallPolicy's status.
pub const K8S_ATTACHMENT_POINT: Uuid = Uuid::from_u128(0xdefa_11a1_3000_6000_5000_0000_0000_0000);

impl AttachmentPoint {
    /// The vendor's name.
    pub fn name(self) -> &'static str {
        match self {
            Self::BeforeUi => "TERRAFORM_BEFORE_UI_MANAGED",
            Self::V1PolicyList => "V1_POLICY_LIST",
            Self::AfterUi => "TERRAFORM_AFTER_UI_MANAGED",
            Self::Kubernetes => "K8S_POLICY_LIST",
            Self::AfterKubernetes => "TERRAFORM_AFTER_K8S_MANAGED",
        }
    }
}

/// The Kubernetes object that a list was made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
pub struct ObjectRef {
    pub cluster: String,
    pub kind: &'static str,
    pub namespace: String,
    pub name: String,
}

/// Rules in order, at a place in the evaluation order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyList {
    pub uuid: Uuid,
    pub name: String,
    pub attachment_point: AttachmentPoint,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub object: Option<ObjectRef>,
    pub rules: Vec<Rule>,
}

/// What happens to a flow that no rule decided. As the vendor ships it: PERMIT, not logged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct DefaultAction {
    pub action: Action,
    pub logging: Logging,
}

impl Default for DefaultAction {
    fn default() -> Self {
        Self {
            action: Action::Permit,
            logging: Logging::Off,
        }
    }
}

/// The whole policy as configured. Groups are shared, so that a copy of a policy costs no copy of its domains.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Policy {
    #[serde(serialize_with = "values")]
    pub smart_groups: BTreeMap<Uuid, Arc<SmartGroup>>,
    #[serde(serialize_with = "values")]
    pub web_groups: BTreeMap<Uuid, Arc<WebGroup>>,
    /// In evaluation order: sorted by attachment point, and within one as the controller ordered them.
    pub lists: Vec<PolicyList>,
    pub default_action: DefaultAction,
}

impl Policy {
    /// A policy with the system's groups and nothing else.
    pub fn new(default_action: DefaultAction) -> Self {
        let mut policy = Self {
            smart_groups: BTreeMap::new(),
            web_groups: BTreeMap::new(),
            lists: Vec::new(),
            default_action,
        };
        SmartGroup::system()
            .into_iter()
            .for_each(|group| policy.add_smart_group(group));
        policy.add_web_group(WebGroup::system());
        policy
    }

    pub fn add_smart_group(&mut self, group: impl Into<Arc<SmartGroup>>) {
        let group = group.into();
        self.smart_groups.insert(group.uuid, group);
    }

    pub fn add_web_group(&mut self, group: impl Into<Arc<WebGroup>>) {
        let group = group.into();
        self.web_groups.insert(group.uuid, group);
    }

    /// Adds a list behind those that stand at the same attachment point.
    pub fn add_list(&mut self, list: PolicyList) {
        let index = self
            .lists
            .partition_point(|other| other.attachment_point <= list.attachment_point);
        self.lists.insert(index, list);
    }
}

fn values<T: Serialize, S: serde::Serializer>(
    map: &BTreeMap<Uuid, Arc<T>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(map.values().map(|value| &**value))
}
