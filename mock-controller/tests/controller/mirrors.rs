//! What the vendor's API shows of policy objects: groups and a list each, which nobody can write and which go with the
//! object.

use std::{sync::Arc, time::Instant};

use hyper::{Request, body::Bytes, header::AUTHORIZATION};
use kube::api::DeleteParams;
use mock_controller::{
    api::{Api, ApiConfig},
    fault::Faults,
    policy::ANYWHERE,
};
use serde_json::{Value, json};

use super::setup::*;

/// The API with a session.
struct Client {
    api: Api,
    cid: String,
}

impl Client {
    fn log_in(world: &World) -> Self {
        let api = Api::new(Arc::clone(&world.controller), ApiConfig::default());
        let login = "action=login&username=admin&password=containment";
        let request = Request::post("/v1/api").body(Bytes::from(login)).unwrap();
        let answer = api.handle(&request, Instant::now());
        let answer: Value = serde_json::from_slice(answer.body()).unwrap();
        let cid = answer["CID"].as_str().unwrap().to_owned();
        Self { api, cid }
    }

    fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v2.5/api/{path}"))
            .header(AUTHORIZATION, format!("cid {}", self.cid))
            .body(Bytes::from(body.to_string()))
            .unwrap();
        let response = self.api.handle(&request, Instant::now());
        let body = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), body)
    }

    fn list(&self, path: &str, field: &str) -> Vec<Value> {
        let (status, mut body) = self.call("GET", path, &Value::Null);
        assert_eq!(status, 200, "{body}");
        serde_json::from_value(body[field].take()).unwrap()
    }

    fn groups(&self) -> Vec<Value> {
        self.list("app-domains", "app_domains")
    }

    /// The lists that a policy object became.
    fn mirrored_lists(&self) -> Vec<Value> {
        let lists = self.list("microseg/policy-list3", "dcf_policies");
        lists
            .into_iter()
            .filter(|list| list["metadata"]["k8s"].is_object())
            .collect()
    }
}

fn named<'a>(groups: &'a [Value], prefix: &str) -> Vec<&'a Value> {
    let named = groups.iter();
    named
        .filter(|group| group["name"].as_str().unwrap().starts_with(prefix))
        .collect()
}

#[tokio::test]
async fn a_policy_object_appears_read_only_and_goes_with_its_object() {
    let world = World::start(Faults::default()).await;
    let client = Client::log_in(&world);
    let before = client.groups();
    assert!(client.mirrored_lists().is_empty());
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test", "*.labs.test"]).await;

    let groups = client.groups();
    let [source] = named(&groups, &format!("firewallpolicysource-mcp--{POLICY}--"))[..] else {
        panic!("one source group: {groups:?}")
    };
    let expected = json!({"any": [{"all": {"type": "k8s", "k8s_cluster_id": CLUSTER, "k8s_namespace": "mcp", "tags.app": "ehr"}}]});
    assert_eq!(source["selector"], expected);
    let declared = named(&groups, &format!("firewallpolicy-mcp--{POLICY}--"));
    let selectors: Vec<_> = declared
        .iter()
        .map(|group| &group["selector"]["any"])
        .collect();
    assert!(
        selectors.contains(&&json!([{"all": {"cidr": "0.0.0.0/0"}}])),
        "{selectors:?}"
    );
    assert!(
        selectors.contains(&&json!([{"all": {"snifilter": "fhir.ehr.test"}}, {"all": {"snifilter": "*.labs.test"}}])),
        "{selectors:?}"
    );

    let lists = client.mirrored_lists();
    let [list] = &lists[..] else {
        panic!("one list: {lists:?}")
    };
    assert!(
        list["name"]
            .as_str()
            .unwrap()
            .starts_with("firewallpolicylist-")
    );
    let expected = json!({"cluster_id": CLUSTER, "kind": "FirewallPolicy", "namespace": "mcp", "name": POLICY});
    assert_eq!(list["metadata"]["k8s"], expected);
    let rules: Vec<_> = list["policies"]
        .as_array()
        .unwrap()
        .iter()
        .map(|rule| &rule["name"])
        .collect();
    assert_eq!(rules, ["allow-approved-egress", "deny-all-external"]);
    assert_eq!(list["policies"][0]["logging"], true);
    assert_eq!(list["policies"][0]["src_ads"], json!([source["uuid"]]));

    let list_path = format!("microseg/policy-list3/{}", list["uuid"].as_str().unwrap());
    let group_path = format!("app-domains/{}", source["uuid"].as_str().unwrap());
    for (path, object) in [(&list_path, list), (&group_path, source)] {
        assert_eq!(
            client.call("GET", path, &Value::Null),
            (200, object.clone())
        );
        for method in ["PUT", "DELETE"] {
            let (status, body) = client.call(method, path, object);
            assert_eq!(status, 409, "{body}");
            assert!(
                body["message"]
                    .as_str()
                    .unwrap()
                    .contains("mirrors an object"),
                "{body}"
            );
        }
    }
    let by_name = format!("app-domains/name/{}", source["name"].as_str().unwrap());
    assert_eq!(client.call("GET", &by_name, &Value::Null).1, *source);

    world
        .policies()
        .delete(POLICY, &DeleteParams::default())
        .await
        .unwrap();
    deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
    assert_eq!(client.groups(), before);
    assert!(client.mirrored_lists().is_empty());
    assert_eq!(client.call("GET", &list_path, &Value::Null).0, 404);
    assert_eq!(client.call("GET", &group_path, &Value::Null).0, 404);
}

/// What the API was told is what the gateway enforces.
#[tokio::test]
async fn rules_of_the_api_are_enforced_around_the_kubernetes_block() {
    let world = World::start(Faults::default()).await;
    let client = Client::log_in(&world);
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.apply(&["fhir.ehr.test"]).await;
    let create = |path: &str, object: Value| {
        let (status, body) = client.call("POST", path, &object);
        assert_eq!(status, 200, "{body}");
        body["uuid"].as_str().unwrap().to_owned()
    };
    let pods = create(
        "app-domains",
        json!({"name": "pods", "selector": {"any": [{"all": {"type": "k8s", "k8s_namespace": "mcp"}}]}}),
    );
    let names = create(
        "app-domains",
        json!({"name": "names", "selector": {"any": [{"all": {"snifilter": "charts.test"}}]}}),
    );
    let rule = |name: &str, action: &str, names: &[&str]| {
        json!({"name": name, "action": action, "priority": 1, "protocol": "TCP", "src_ads": [pods],
            "dst_ads": ["def000ad-0000-0000-0000-000000000000"], "web_filters": names})
    };
    let point = |name: &str| {
        let (_, points) = client.call(
            "GET",
            &format!("microseg/attachment-points?name={name}"),
            &Value::Null,
        );
        points[0]["attachment_point_id"].clone()
    };
    let ruleset = json!({"name": "infra", "policies": [rule("charts", "PERMIT", &[&names])]});
    let ruleset = create("microseg/policy-list3", ruleset);
    let before = json!({"name": "before", "attach_to": point("TERRAFORM_BEFORE_UI_MANAGED"),
        "sub_policies": [{"list": ruleset, "name": "", "priority": 1}]});
    create("microseg/policy-list3", before);
    let generation = world.controller.export()["generation"].as_u64().unwrap();
    let after = json!({"name": "after", "attach_to": point("TERRAFORM_AFTER_K8S_MANAGED"),
        "policies": [rule("rest", "PERMIT", &[])]});
    create("microseg/policy-list3", after);
    deadline(
        world
            .controller
            .enforced(|push| push.generation > generation),
    )
    .await;
    let everything = |world: &World| {
        let lists = world.controller.export()["lists"].as_array().unwrap().len();
        lists == 3
    };
    deadline(world.controller.enforced(|_| everything(&world))).await;
    assert_eq!(world.decide("10.244.0.10", "charts.test"), allow("charts"));
    assert_eq!(
        world.decide("10.244.0.10", "fhir.ehr.test"),
        allow("allow-approved-egress")
    );
    assert_eq!(
        world.decide("10.244.0.10", "evil.test"),
        deny("deny-all-external")
    );
    world.run_pod("crm-1", "crm", "10.244.0.11").await;
    assert_eq!(world.decide("10.244.0.11", "evil.test"), allow("rest"));
}

/// An administrator's rule may name what a policy object became; once that is gone it matches nothing through it.
#[tokio::test]
async fn a_rule_refers_to_the_groups_of_a_policy_object() {
    let world = World::start(Faults::default()).await;
    let client = Client::log_in(&world);
    world.run_pod("ehr-1", "ehr", "10.244.0.10").await;
    world.run_pod("other-1", "other", "10.244.0.11").await;
    world.apply(&["fhir.ehr.test"]).await;
    let groups = client.groups();
    let declared = named(&groups, &format!("firewallpolicy-mcp--{POLICY}--"));
    let names = declared
        .iter()
        .find(|group| group["selector"]["any"][0]["all"]["snifilter"] == "fhir.ehr.test");
    let list = json!({"policies": [{"name": "shared", "action": "PERMIT", "priority": 1, "protocol": "TCP",
        "src_ads": [ANYWHERE], "dst_ads": [ANYWHERE], "web_filters": [names.unwrap()["uuid"]],
        "port_ranges": [{"lo": 443}]}]});
    assert!(!world.permits("10.244.0.11", "fhir.ehr.test"));
    assert_eq!(client.call("PUT", "microseg/policy-list", &list).0, 200);
    deadline(
        world
            .controller
            .enforced(|_| world.permits("10.244.0.11", "fhir.ehr.test")),
    )
    .await;
    assert!(!world.permits("10.244.0.11", "evil.test"));

    world
        .policies()
        .delete(POLICY, &DeleteParams::default())
        .await
        .unwrap();
    deadline(world.controller.enforced(|push| push.objects.is_empty())).await;
    assert!(!world.permits("10.244.0.11", "fhir.ehr.test"));
    let (status, body) = client.call("PUT", "microseg/policy-list", &list);
    assert!(
        status == 400 && body["message"].as_str().unwrap().contains("no web group"),
        "{body}"
    );
}
