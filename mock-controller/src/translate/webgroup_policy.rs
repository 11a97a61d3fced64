//! One WebgroupPolicy to its WebGroup, its target group and, unless switched off, a permit rule.

use super::{Compiled, Names, Outcome, PolicyObject, Rejection, source_group};
use crate::{
    crd::{WebgroupPolicySpec, WebgroupPolicyStatus},
    policy::{
        ANYWHERE, Action, FlowAppRequirement, Logging, PortRange, Protocol, Rule, Switches,
        WebGroup,
    },
};

pub(super) fn compile(
    names: &Names,
    object: &PolicyObject<WebgroupPolicySpec>,
    spec: &WebgroupPolicySpec,
    switches: &Switches,
) -> Result<Compiled, Rejection> {
    let target = source_group(names, spec.selector.as_ref())?;
    let (uuid, name) = names.web_group("allowed-domains");
    let domains = WebGroup::new(uuid, name, spec.allowed_domains.clone(), switches)?;
    let rule = Rule {
        uuid: names.rule("allowed-domains", 0),
        name: "allowed-domains".to_owned(),
        sources: vec![target.uuid],
        destinations: vec![ANYWHERE],
        web_groups: vec![domains.uuid],
        protocol: Some(Protocol::Tcp),
        ports: [80, 443]
            .map(|port| PortRange {
                first: port,
                last: port,
            })
            .into(),
        action: Action::Permit,
        logging: Logging::Start,
        watch: false,
        flow_app_requirement: FlowAppRequirement::default(),
    };
    let list = switches
        .webgroup_policy_enforces
        .then(|| names.list(vec![rule]));
    let status = WebgroupPolicyStatus {
        app_domain_uuid: Some(domains.uuid.to_string()),
        policy_uuid: list.as_ref().map(|list| list.uuid.to_string()),
        smart_group_uuid: Some(target.uuid.to_string()),
        last_reconciled_generation: Some(object.generation),
    };
    Ok(Compiled {
        object: names.object(),
        smart_groups: vec![target],
        web_groups: vec![domains],
        list,
        translated: object.translated(Outcome::WebgroupPolicy(status)),
    })
}
