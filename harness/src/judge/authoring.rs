//! What the orchestrator accepts and generates, and what its policy provider makes of it: manifests, policies, firewall
//! policies and the provider's installation, compared with the documented contract.
//!
//! The shapes that are expected here are written down a second time on purpose: nothing is taken from what generates them.

use serde_json::{Value, json};

mod catalog;
mod release;

pub use catalog::{OutdatedClaim, judge_outdated};
pub use release::{ReleaseClaim, ReleaseRecord, judge_release};

use super::finding::{Finding, count};
use super::{Check, CheckResult};
use crate::evidence::folder;

/// What the orchestrator answered to a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The call, in words.
    pub call: String,
    /// HTTP status.
    pub status: u16,
    /// The body, as text.
    pub body: String,
}

impl Answer {
    /// Whether the call had its effect.
    #[must_use]
    pub fn accepted(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

/// The claim that manifests which break a rule are rejected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RejectionClaim {
    /// Which check this is.
    pub check: Check,
    /// The field that each message must name.
    pub field: String,
    /// The same kind of call with a list that breaks no rule.
    pub control: Option<Answer>,
    /// The calls.
    pub answers: Vec<Answer>,
    /// Policies in the orchestrator's storage that belong to no server that was accepted.
    pub leftovers: Vec<String>,
}

/// Judges that each call was rejected with 400 and a message that names the field, and that nothing came of it.
#[must_use]
pub fn judge_rejection(claim: &RejectionClaim) -> CheckResult {
    let mut finding = Finding::default();
    match &claim.control {
        Some(control) if control.accepted() => finding.supports(
            folder::EVENTS,
            format!("positive control ({}): {}", control.call, control.status),
        ),
        Some(control) => finding.control_broken(
            folder::EVENTS,
            format!(
                "the positive control ({}) was answered {}: {}",
                control.call, control.status, control.body
            ),
        ),
        None => finding.control_broken(folder::EVENTS, "no list was accepted before"),
    }
    for answer in &claim.answers {
        let text = format!("{}: {} {}", answer.call, answer.status, answer.body);
        if answer.status != 400 || !answer.body.contains(&claim.field) {
            finding.contradicts(folder::EVENTS, text);
        } else {
            finding.supports(folder::EVENTS, text);
        }
    }
    if claim.answers.is_empty() {
        finding.missing(folder::EVENTS, "nothing was sent");
    }
    for policy in &claim.leftovers {
        finding.contradicts(
            folder::POLICY,
            format!("the policy {policy} belongs to no server that was accepted"),
        );
    }
    let expected = format!(
        "{} rejected with 400 and a message that names {}",
        if claim.answers.len() == 1 {
            "the manifest is".to_owned()
        } else {
            format!("each of {} is", count(claim.answers.len(), "manifest"))
        },
        claim.field
    );
    finding.conclude(&claim.check, expected)
}

/// The claim that a server has exactly one policy that says what its manifest says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyClaim {
    /// Which check this is.
    pub check: Check,
    /// The server in words, with its runtime.
    pub server: String,
    /// Its id.
    pub id: String,
    /// The domains of its manifest, in any order.
    pub domains: Vec<String>,
    /// Whether it denies all egress.
    pub deny: bool,
    /// All policies in the orchestrator's storage.
    pub policies: Vec<Value>,
}

/// Judges that there is one policy for a server, and its fields.
#[must_use]
pub fn judge_policy(claim: &PolicyClaim) -> CheckResult {
    let mut finding = Finding::default();
    let own: Vec<&Value> = claim
        .policies
        .iter()
        .filter(|policy| {
            policy["spec"]["mcpServerName"] == *claim.id
                || policy["spec"]["podSelector"]["app"] == *claim.id
        })
        .collect();
    let [policy] = own.as_slice() else {
        finding.contradicts(
            folder::POLICY,
            format!("{} has {}", claim.server, policies(own.len())),
        );
        return finding.conclude(&claim.check, expected_policy(claim));
    };
    let spec = &policy["spec"];
    let mut domains: Vec<&str> = claim.domains.iter().map(String::as_str).collect();
    domains.sort_unstable();
    for (field, found, wanted) in [
        (
            "mcpServerName",
            spec["mcpServerName"].clone(),
            json!(claim.id),
        ),
        (
            "podSelector",
            spec["podSelector"].clone(),
            json!({"app": claim.id}),
        ),
        (
            "egressDomains",
            list_or_empty(&spec["egressDomains"]),
            json!(domains),
        ),
        (
            "denyAllEgress",
            json!(spec["denyAllEgress"].as_bool().unwrap_or(false)),
            json!(claim.deny),
        ),
    ] {
        clause(
            &mut finding,
            &format!("{}: {field}", claim.server),
            &found,
            &wanted,
        );
    }
    finding.conclude(&claim.check, expected_policy(claim))
}

fn expected_policy(claim: &PolicyClaim) -> String {
    format!(
        "{} has exactly one MCPNetworkPolicy, with its name, selector, domains and deny flag",
        claim.server
    )
}

/// The claim that a policy became the firewall policy that it calls for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FirewallClaim {
    /// The check of the shape.
    pub shape: Check,
    /// The check of place and marks.
    pub marks: Check,
    /// The server in words.
    pub server: String,
    /// The orchestrator's policy.
    pub policy: Value,
    /// Namespace of the servers.
    pub namespace: String,
    /// All FirewallPolicies of the cluster.
    pub objects: Vec<Value>,
}

/// Judges the shape of a generated FirewallPolicy, and that it leads back to its source.
#[must_use]
pub fn judge_firewall_policy(claim: &FirewallClaim) -> [CheckResult; 2] {
    let source = claim.policy["metadata"]["name"]
        .as_str()
        .unwrap_or_default();
    let name = format!("obot-{source}-fw");
    let (mut shape, mut marks) = (Finding::default(), Finding::default());
    let found = claim
        .objects
        .iter()
        .find(|object| object["metadata"]["name"] == *name);
    match found {
        Some(object) => {
            judge_shape(&mut shape, &claim.policy["spec"], &claim.namespace, object);
            judge_marks(&mut marks, claim, source, object);
        }
        None => {
            let text = format!("no FirewallPolicy {name} exists for {}", claim.server);
            shape.contradicts(folder::POLICY, text.clone());
            marks.contradicts(folder::POLICY, text);
        }
    }
    [
        shape.conclude(
            &claim.shape,
            format!(
                "the FirewallPolicy of {} selects its Pods, permits its domains on TCP 443 and denies the rest",
                claim.server
            ),
        ),
        marks.conclude(
            &claim.marks,
            format!(
                "the FirewallPolicy of {} lies in {} and leads back to {source}",
                claim.server, claim.namespace
            ),
        ),
    ]
}

/// `reference/obot.md` section 3, "FirewallPolicy produced".
fn judge_shape(finding: &mut Finding, policy: &Value, namespace: &str, object: &Value) {
    let spec = &object["spec"];
    let pods = json!([{"type": "k8s", "k8sNamespace": namespace, "tags": policy["podSelector"]}]);
    let anywhere = json!([{"cidr": "0.0.0.0/0"}]);
    let groups = items(&spec["smartGroups"]);
    let group = |selectors: &Value| {
        let found = groups.iter().find(|group| group["selectors"] == *selectors);
        found.and_then(|group| group["name"].as_str())
    };
    clause(finding, "smartGroups", &json!(groups.len()), &json!(2));
    clause(
        finding,
        "SmartGroup of the Pods",
        &json!(group(&pods).is_some()),
        &json!(true),
    );
    let any = group(&anywhere);
    clause(
        finding,
        "SmartGroup 0.0.0.0/0",
        &json!(any.is_some()),
        &json!(true),
    );

    let deny = policy["denyAllEgress"] == true;
    let mut domains: Vec<&str> = items(&policy["egressDomains"])
        .iter()
        .filter_map(Value::as_str)
        .collect();
    if domains.is_empty() && !deny {
        domains.push("*");
    }
    domains.sort_unstable();
    let web = items(&spec["webGroups"]);
    let wanted: Vec<Value> = if domains.is_empty() {
        Vec::new()
    } else {
        vec![json!(domains)]
    };
    let found: Vec<Value> = web.iter().map(|group| group["domains"].clone()).collect();
    clause(
        finding,
        "domains of the WebGroups",
        &json!(found),
        &json!(wanted),
    );

    let common = |name: &str, action: &str, protocol: &str| {
        json!({
            "name": name, "action": action, "protocol": protocol, "logging": true,
            "selector": {"matchLabels": policy["podSelector"]},
            "destinationSmartGroups": [{"name": any}],
        })
    };
    let mut rules = Vec::new();
    if !domains.is_empty() {
        let mut permit = common("allow-approved-egress", "permit", "tcp");
        permit["port"] = json!(443);
        permit["webGroups"] = json!([{"name": web.first().map(|group| &group["name"])}]);
        rules.push(permit);
    }
    rules.push(common("deny-all-external", "deny", "any"));
    let found = items(&spec["rules"]);
    let names =
        |rules: &[Value]| -> Vec<Value> { rules.iter().map(|rule| rule["name"].clone()).collect() };
    clause(
        finding,
        "rules in order",
        &json!(names(found)),
        &json!(names(&rules)),
    );
    for (rule, wanted) in found.iter().zip(&rules) {
        let what = format!("rule {}", wanted["name"].as_str().unwrap_or_default());
        clause(finding, &what, rule, wanted);
    }
}

fn judge_marks(finding: &mut Finding, claim: &FirewallClaim, source: &str, object: &Value) {
    let metadata = &object["metadata"];
    clause(
        finding,
        "namespace",
        &metadata["namespace"],
        &json!(claim.namespace),
    );
    for (label, wanted) in [
        (
            "obot.ai/managed-by",
            json!("aviatrix-network-policy-controller"),
        ),
        ("obot.ai/mcp-network-policy-name", json!(source)),
        (
            "obot.ai/mcp-server-name",
            claim.policy["spec"]["mcpServerName"].clone(),
        ),
    ] {
        clause(
            finding,
            &format!("label {label}"),
            &metadata["labels"][label],
            &wanted,
        );
    }
    const UID: &str = "obot.ai/mcp-network-policy-uid";
    clause(
        finding,
        &format!("annotation {UID}"),
        &metadata["annotations"][UID],
        &claim.policy["metadata"]["uid"],
    );
}

/// Everything that a rejected update must leave alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ServerState {
    /// The manifest as the orchestrator shows it.
    pub manifest: Value,
    /// Name, uid and spec of its policies.
    pub policies: Vec<Value>,
    /// Name, uid and spec of their FirewallPolicies.
    pub firewall: Vec<Value>,
    /// Name and uid of its Pod, and restarts of its containers.
    pub pod: Value,
}

impl ServerState {
    /// One clause for each part that has to be the same afterwards.
    pub(super) fn compare(&self, after: &Self, finding: &mut Finding) {
        if self.policies.is_empty() || self.firewall.is_empty() {
            finding.missing(folder::POLICY, "there was no policy before that could stay");
        }
        let parts = [
            ("manifest", self.manifest.clone(), after.manifest.clone()),
            (
                "MCPNetworkPolicy",
                json!(self.policies),
                json!(after.policies),
            ),
            (
                "FirewallPolicy",
                json!(self.firewall),
                json!(after.firewall),
            ),
            ("Pod", self.pod.clone(), after.pod.clone()),
        ];
        for (what, before, after) in parts {
            clause(finding, what, &after, &before);
        }
    }
}

/// The claim that a rejected update changed nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnchangedClaim {
    /// Which check this is.
    pub check: Check,
    /// What the orchestrator answered to the update.
    pub answer: Answer,
    /// The field that its message must name.
    pub field: String,
    /// Before the update.
    pub before: ServerState,
    /// After it.
    pub after: ServerState,
}

/// Judges that an update was rejected and left everything as it was.
#[must_use]
pub fn judge_unchanged(claim: &UnchangedClaim) -> CheckResult {
    let mut finding = Finding::default();
    let answer = &claim.answer;
    let text = format!("{}: {} {}", answer.call, answer.status, answer.body);
    if answer.status == 400 && answer.body.contains(&claim.field) {
        finding.supports(folder::EVENTS, text);
    } else {
        finding.contradicts(folder::EVENTS, text);
    }
    claim.before.compare(&claim.after, &mut finding);
    finding.conclude(
        &claim.check,
        "the update is rejected; manifest, policy, policy object and Pod stay as they were",
    )
}

/// The claim that a policy without a selector came to nothing, and that this was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmptySelectorClaim {
    /// Which check this is.
    pub check: Check,
    /// Name of the policy.
    pub policy: String,
    /// Name of a policy with a selector that was written after it.
    pub control: String,
    /// All FirewallPolicies.
    pub objects: Vec<Value>,
    /// Lines of the provider's log that name the policy.
    pub log: Vec<String>,
}

/// Judges that no FirewallPolicy came of a policy without a selector, and that the provider's log says so.
#[must_use]
pub fn judge_empty_selector(claim: &EmptySelectorClaim) -> CheckResult {
    let mut finding = Finding::default();
    let of = |source: &str| {
        let name = format!("obot-{source}-fw");
        claim.objects.iter().find(|object| {
            object["metadata"]["name"] == *name
                || object["metadata"]["labels"]["obot.ai/mcp-network-policy-name"] == *source
        })
    };
    if of(&claim.control).is_some() {
        let text = format!(
            "positive control: {}, written later, has its FirewallPolicy",
            claim.control
        );
        finding.supports(folder::POLICY, text);
    } else {
        let text = format!(
            "the positive control {} has no FirewallPolicy",
            claim.control
        );
        finding.control_broken(folder::POLICY, text);
    }
    if of(&claim.policy).is_some() {
        finding.contradicts(
            folder::POLICY,
            format!("{} has a FirewallPolicy", claim.policy),
        );
    } else {
        finding.supports(
            folder::POLICY,
            format!("{} has no FirewallPolicy", claim.policy),
        );
    }
    let said = claim
        .log
        .iter()
        .find(|line| line.contains("podSelector") && line.contains(&claim.policy));
    match said {
        Some(line) => finding.supports(folder::PODS, line.trim().to_owned()),
        None => finding.contradicts(
            folder::PODS,
            format!(
                "the provider's log says nothing of the selector of {}",
                claim.policy
            ),
        ),
    }
    finding.conclude(
        &claim.check,
        format!(
            "{} selects no Pod: it becomes no policy object, and the provider says so",
            claim.policy
        ),
    )
}

fn clause(finding: &mut Finding, what: &str, found: &Value, wanted: &Value) {
    if found == wanted {
        finding.supports(folder::POLICY, format!("{what}: {found}"));
    } else {
        finding.contradicts(
            folder::POLICY,
            format!("{what}: {found}, expected {wanted}"),
        );
    }
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map(Vec::as_slice).unwrap_or_default()
}

fn list_or_empty(list: &Value) -> Value {
    json!(items(list))
}

fn policies(number: usize) -> String {
    match number {
        1 => "1 policy".to_owned(),
        number => format!("{number} policies"),
    }
}

#[cfg(test)]
mod tests;
