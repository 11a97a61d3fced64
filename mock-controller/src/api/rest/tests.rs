#![allow(clippy::unwrap_used)]
//! Each endpoint, called as the reference's examples call it.

use std::sync::Arc;

use rstest::rstest;

use super::*;
use crate::{
    api::ApiConfig,
    controller::ControllerConfig,
    policy::{ANYWHERE, PUBLIC_INTERNET},
};

const ABSENT: &str = "ffffffff-ffff-ffff-ffff-ffffffffffff";

struct Client(Controller);

impl Client {
    fn new() -> Self {
        Self(Controller::new(ControllerConfig::default()))
    }

    /// A call with a valid session.
    fn call(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("/v2.5/api/{path}"))
            .body(Bytes::from(body.to_owned()))
            .unwrap();
        let path = request.uri().path().strip_prefix("/v2.5/api/").unwrap();
        let response = respond(&self.0, &request, path);
        assert_eq!(
            response.headers()[hyper::header::CONTENT_TYPE],
            "application/json"
        );
        let body = serde_json::from_slice(response.body()).unwrap();
        (response.status().as_u16(), body)
    }

    fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, "");
        assert_eq!(status, 200, "{body}");
        body
    }

    fn send(&self, method: &str, path: &str, body: &Value) -> Value {
        let (status, body) = self.call(method, path, &body.to_string());
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Creates an object and returns its path.
    fn create(&self, noun: &str, object: &Value) -> String {
        let created = self.send("POST", noun, object);
        let id = created.get("uuid").or(created.get("id")).unwrap();
        format!("{noun}/{}", id.as_str().unwrap())
    }

    fn refused(&self, method: &str, path: &str, body: &Value) -> (u16, String) {
        let (status, body) = self.call(method, path, &body.to_string());
        assert!(status >= 400, "{body}");
        (status, body["message"].as_str().unwrap().to_owned())
    }
}

fn rule() -> Value {
    json!({"name": "r", "action": "PERMIT", "priority": 1, "protocol": "TCP", "src_ads": [ANYWHERE],
        "dst_ads": [PUBLIC_INTERNET], "port_ranges": [{"lo": 443}]})
}

fn smart_group() -> Value {
    json!({"name": "sg1", "selector": {"any": [
        {"all": {"type": "vm", "account_name": "devops", "region": "us-west-2", "tags.env": "prod"}},
        {"all": {"cidr": "10.0.0.0/16"}},
        {"all": {"type": "k8s", "k8s_cluster_id": "arn:..", "k8s_namespace": "shop", "k8s_service": "web"}},
        {"all": {"type": "k8s", "namespacetags.team": "pay", "tags.app": "web"}},
        {"all": {"external": "geo", "country_iso_code": "FR"}}]}})
}

fn web_group() -> Value {
    json!({"name": "wg1", "selector": {"any": [{"all": {"snifilter": "*.example.com"}}]}})
}

fn tls_profile() -> Value {
    json!({"display_name": "p", "certificate_validation": "CERTIFICATE_VALIDATION_ENFORCE", "verify_sni": true,
        "CA_bundle_id": "0b5f4d9c-2d9e-4a1b-9f06-7c1f3b1f0001"})
}

fn cluster() -> Value {
    json!({"cluster_id": "arn:aws:eks:..", "credential": {"use_csp_credentials": true},
        "gateway_tunnel_enabled": true, "intra_cluster_inspection_enabled": true,
        "resource": {"name": "c", "vpc_id": "v", "region": "r", "account_id": "1", "account_name": "a", "project": "",
            "compartment": "", "public": true, "platform": "kops", "version": "1.30", "network_mode": "FLAT",
            "entra_id_authn": false, "tags": [{"key": "k", "value": "v"}]}})
}

/// Create, read, update, read, list, delete, read: the life of every object that has an id.
#[rstest]
#[case::smart_group(
    "app-domains",
    smart_group(),
    "/selector/any/1/all/cidr",
    "10.1.0.0/16",
    "/app_domains",
    "App domain not found"
)]
#[case::web_group("app-domains", json!({"name": "wg1", "selector": {"any": [{"all": {"snifilter": "*.example.com"}}]}}), "/selector/any/0/all/snifilter",
    "example.com", "/app_domains", "App domain not found")]
#[case::url_group("app-domains", json!({"name": "wg1", "selector": {"any": [{"all": {"urlfilter": "https://example.com/a/*"}}]}}),
    "/selector/any/0/all/urlfilter", "example.com/b", "/app_domains", "App domain not found")]
#[case::ruleset("microseg/policy-list3", json!({"name": "rs", "policies": [], "metadata": {"terraform": {"resource_type": "terraform-policy-list"}}}),
    "/name", "rs2", "/dcf_policies", "does not exist")]
#[case::tls_profile(
    "dcf/tls-profile",
    tls_profile(),
    "/display_name",
    "q",
    "/profiles",
    "not found"
)]
#[case::cluster(
    "k8s/clusters",
    cluster(),
    "/resource/version",
    "1.31",
    "",
    "not found"
)]
fn life_of_an_object(
    #[case] noun: &str,
    #[case] mut sent: Value,
    #[case] changed: &str,
    #[case] to: &str,
    #[case] listed: &str,
    #[case] missing: &str,
) {
    let client = Client::new();
    let path = client.create(noun, &sent);
    let id = path.rsplit('/').next().unwrap();
    let key = if noun == "k8s/clusters" { "id" } else { "uuid" };
    for _ in 0..2 {
        let mut read = client.get(&path);
        assert!(
            client
                .get(noun)
                .pointer(listed)
                .unwrap()
                .as_array()
                .unwrap()
                .contains(&read)
        );
        assert_eq!(
            read.as_object_mut().unwrap().shift_remove(key),
            Some(id.into())
        );
        assert_eq!(read, sent);
        *sent.pointer_mut(changed).unwrap() = to.into();
        client.send("PUT", &path, &sent);
    }
    client.send("DELETE", &path, &Value::Null);
    for gone in [
        path.as_str(),
        &format!("{noun}/{ABSENT}"),
        &format!("{noun}/"),
        &format!("{noun}/no-uuid"),
    ] {
        for method in ["GET", "PUT", "DELETE"] {
            let (status, message) = client.refused(method, gone, &sent);
            assert_eq!(status, 404, "{method} {gone}");
            assert!(message.contains(missing), "{method} {gone}: {message}");
        }
    }
}

#[test]
fn a_group_is_found_by_its_encoded_name() {
    let client = Client::new();
    let mut group = smart_group();
    group["name"] = "two words/é".into();
    let path = client.create("app-domains", &group);
    assert_eq!(
        client.get("app-domains/name/two%20words%2F%C3%A9"),
        client.get(&path)
    );
    assert_eq!(client.get("app-domains/name/All-Web")["name"], "All-Web");
    let (status, message) = client.refused("GET", "app-domains/name/two", &Value::Null);
    assert_eq!((status, message.as_str()), (404, "App domain not found"));
}

/// What the provider's data source needs.
#[test]
fn the_first_group_of_the_list_has_a_name_and_a_uuid() {
    let first = &Client::new().get("app-domains")["app_domains"][0];
    assert_eq!(first["uuid"], ANYWHERE.to_string());
    assert!(!first["name"].as_str().unwrap().is_empty());
}

#[test]
fn the_v1_list_is_replaced_as_a_whole_and_ends_empty() {
    let client = Client::new();
    let path = "microseg/policy-list";
    let empty = json!({"policies": []});
    assert_eq!(client.get(path), empty);
    client.send("PUT", path, &json!({"policies": [rule(), rule()]}));
    let read = client.get(path);
    assert_eq!(read["policies"].as_array().unwrap().len(), 2);
    client.send("PUT", path, &read);
    assert_eq!(client.get(path), read);
    client.send("DELETE", path, &Value::Null);
    assert_eq!(client.get(path), empty);
}

#[test]
fn the_provider_s_nested_groups() {
    let client = Client::new();
    let noun = "microseg/policy-list3";
    let id = |path: &str| path.rsplit('/').next().unwrap().to_owned();
    let list = client.create(
        noun,
        &json!({"name": "test-dcf-ruleset", "policies": [rule()]}),
    );
    let metadata = json!({"terraform": {"resource_type": "terraform-policy-block"}});
    let nested = json!({"name": "nested", "sub_policies": [{"list": id(&list), "name": "", "priority": 0}], "metadata": metadata});
    let nested_path = client.create(noun, &nested);
    let point = client.get("microseg/attachment-points?name=TERRAFORM_BEFORE_UI_MANAGED");
    let point = point[0]["attachment_point_id"].as_str().unwrap();
    let outer = json!({"name": "outer", "attach_to": point, "sub_policies": [
        {"list": id(&list), "name": "", "priority": 0}, {"block": id(&nested_path), "name": "", "priority": 1}]});
    let created = client.send("POST", noun, &outer);
    let mut expected = outer;
    expected["uuid"] = created["uuid"].clone();
    assert_eq!(created, expected);
    let (status, message) = client.refused("DELETE", &list, &Value::Null);
    assert_eq!(status, 409);
    assert!(
        message.contains("still used in policy groups: nested, outer"),
        "{message}"
    );
    client.send(
        "DELETE",
        &format!("{noun}/{}", created["uuid"].as_str().unwrap()),
        &Value::Null,
    );
    client.send("DELETE", &nested_path, &Value::Null);
    client.send("DELETE", &list, &Value::Null);
    // A smart group's uuid is no policy: the provider's destroy check asks exactly that.
    let (_, message) = client.refused("GET", &format!("{noun}/{ANYWHERE}"), &Value::Null);
    assert!(message.contains("does not exist"), "{message}");
}

#[rstest]
#[case("TERRAFORM_BEFORE_UI_MANAGED", "defa11a1-3000-4001-0000-000000000000")]
#[case("TERRAFORM_AFTER_UI_MANAGED", "defa11a1-3000-4002-0000-000000000000")]
#[case("TERRAFORM_AFTER_K8S_MANAGED", "defa11a1-3000-4003-0000-000000000000")]
#[case("K8S_POLICY_LIST", "defa11a1-3000-6000-5000-000000000000")]
fn attachment_points_of_the_controller(#[case] name: &str, #[case] uuid: &str) {
    let points = Client::new().get(&format!("microseg/attachment-points?name={name}"));
    assert_eq!(points, json!([{"attachment_point_id": uuid, "name": name}]));
}

#[test]
fn an_unknown_attachment_point_is_never_an_empty_array() {
    let client = Client::new();
    let path = "microseg/attachment-points?name=test-attachment-point";
    let (status, message) = client.refused("GET", path, &Value::Null);
    assert_eq!(status, 404);
    assert!(message.contains("test-attachment-point"), "{message}");
    client
        .0
        .configure(|store| store.add_attachment_point("test-attachment-point"))
        .unwrap();
    assert_eq!(client.get(path)[0]["name"], "test-attachment-point");
    assert_eq!(
        client
            .refused("GET", "microseg/attachment-points", &Value::Null)
            .0,
        400
    );
}

#[test]
fn the_default_action_comes_back_as_sent() {
    let client = Client::new();
    let path = "microseg/default-action-policy";
    let shipped = json!({"action": "PERMIT", "logging": false, "log_profile": ""});
    assert_eq!(client.get(path), shipped);
    let deny = json!({"action": "Deny", "logging": true, "log_profile": "def000ad-7000-0000-0000-000000000001"});
    for sent in [deny, shipped] {
        client.send("PUT", path, &sent);
        assert_eq!(client.get(path), sent);
    }
}

#[rstest]
#[case("start", 1, true, false)]
#[case("end", 2, false, true)]
#[case("start%2Fend", 3, true, true)]
fn log_profiles(#[case] name: &str, #[case] last: u8, #[case] start: bool, #[case] end: bool) {
    let profile = Client::new().get(&format!("dcf/log-profile?profile_name={name}"));
    let expected = json!({"profile_name": name.replace("%2F", "/"),
        "profile_id": format!("def000ad-7000-0000-0000-00000000000{last}"), "session_start": start, "session_end": end});
    assert_eq!(profile, expected);
}

/// What a rule refers to stays until the rule is gone.
#[rstest]
#[case::smart_group("app-domains", smart_group(), "src_ads", "[AVXERR-SMARTGROUP-0003]")]
#[case::web_group("app-domains", web_group(), "web_filters", "[AVXERR-SMARTGROUP-0003]")]
#[case::tls_profile(
    "dcf/tls-profile",
    tls_profile(),
    "tls_profile",
    "is still used in dfw policies"
)]
fn what_is_in_use_stays(
    #[case] noun: &str,
    #[case] object: Value,
    #[case] field: &str,
    #[case] text: &str,
) {
    let client = Client::new();
    let path = client.create(noun, &object);
    let uuid = path.rsplit('/').next().unwrap();
    let mut rule = rule();
    rule[field] = match field {
        "tls_profile" => json!(uuid),
        _ => json!([uuid]),
    };
    client.send("PUT", "microseg/policy-list", &json!({"policies": [rule]}));
    let (status, message) = client.refused("DELETE", &path, &Value::Null);
    assert_eq!(status, 409);
    assert!(
        message.contains(text) && message.contains("dfw policies"),
        "{message}"
    );
    client.send("DELETE", "microseg/policy-list", &Value::Null);
    client.send("DELETE", &path, &Value::Null);
}

#[test]
fn a_cluster_that_a_group_names_stays() {
    let client = Client::new();
    let path = client.create("k8s/clusters", &cluster());
    let mut group = smart_group();
    group["selector"]["any"][2]["all"]["k8s_cluster_id"] = "arn:aws:eks:..".into();
    let group = client.create("app-domains", &group);
    let (status, message) = client.refused("DELETE", &path, &Value::Null);
    assert_eq!(
        (status, message.as_str()),
        (409, "cluster is still used in smart groups: sg1")
    );
    client.send("DELETE", &group, &Value::Null);
    client.send("DELETE", &path, &Value::Null);
    assert_eq!(client.get("k8s/clusters"), json!([]));
}

#[rstest]
#[case::malformed("POST", "app-domains", "{\"name\":", "no JSON")]
#[case::empty("POST", "microseg/policy-list3", "", "no JSON")]
#[case::not_an_object("PUT", "microseg/policy-list", "[1]", "`policies` is missing")]
#[case::neither(
    "POST",
    "microseg/policy-list3",
    "{\"name\": \"x\"}",
    "neither policies nor sub_policies"
)]
#[case::wrong_type(
    "PUT",
    "microseg/policy-list",
    "{\"policies\": {}}",
    "`policies` is not a list"
)]
#[case::wrong_item(
    "PUT",
    "microseg/policy-list",
    "{\"policies\": [7]}",
    "expected a JSON object, not a number"
)]
#[case::null("POST", "dcf/tls-profile", "null", "expected a JSON object, not null")]
#[case::text(
    "POST",
    "k8s/clusters",
    "\"x\"",
    "expected a JSON object, not a string"
)]
#[case::kubeconfig(
    "POST",
    "k8s/clusters",
    "{\"cluster_id\": \"c\", \"credential\": {\"kube_config\": \"x\"}}",
    "invalid content"
)]
#[case::action(
    "PUT",
    "microseg/default-action-policy",
    "{\"action\": 1}",
    "`action` is not a string but a number"
)]
#[case::k8s(
    "POST",
    "app-domains",
    r#"{"name":"g","selector":{"any":[{"all":{"type":"k8s","zone":"z"}}]}}"#,
    "invalid selector combination for k8s resource type"
)]
fn bad_bodies(
    #[case] method: &str,
    #[case] path: &str,
    #[case] body: &str,
    #[case] expected: &str,
) {
    let (status, body) = Client::new().call(method, path, body);
    assert_eq!(status, 400, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains(expected), "{message}");
}

/// Deeper than the parser goes: refused, and the stack survives.
#[test]
fn deep_json_is_refused() {
    let body = "[".repeat(100_000);
    let (status, body) = Client::new().call("POST", "app-domains", &body);
    assert_eq!(status, 400, "{body}");
}

#[rstest]
#[case("GET", "microseg/intra-vpc")]
#[case("POST", "microseg/deploy-policy")]
#[case("GET", "mitm/ca")]
#[case("PATCH", "dcf/mitm-ca")]
#[case("GET", "dcf/trustbundle")]
#[case("GET", "dcf/ips-profiles")]
#[case("GET", "get-controller-metadata")]
#[case("PATCH", "app-domains")]
#[case("POST", "microseg/policy-list")]
#[case("POST", "app-domains/name/x")]
#[case("DELETE", "microseg/default-action-policy")]
#[case("GET", "app-domainsx")]
#[case("GET", "")]
fn what_is_not_here_says_so(#[case] method: &str, #[case] path: &str) {
    let (status, body) = Client::new().call(method, path, "{}");
    assert_eq!(status, 501, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(
        message.contains(&format!("{method} /v2.5/api/{path}")),
        "{message}"
    );
}

#[rstest]
#[case::none(None)]
#[case::unknown(Some("cid 0123"))]
#[case::no_scheme(Some("0123"))]
#[case::bearer(Some("Bearer {cid}"))]
#[case::valid(Some("cid {cid}"))]
fn sessions(#[case] header: Option<&str>) {
    let now = Instant::now();
    let api = Api::new(
        Arc::new(Controller::new(ControllerConfig::default())),
        ApiConfig::default(),
    );
    let token = api.sessions.api_token(now);
    let credentials = ApiConfig::default().credentials;
    let cid = api
        .sessions
        .login(
            &credentials.username,
            &credentials.password,
            Some(&token),
            now,
        )
        .unwrap();
    let mut request = Request::get("/v2.5/api/app-domains");
    if let Some(header) = header {
        request = request.header(AUTHORIZATION, header.replace("{cid}", &cid));
    }
    let request = request.body(Bytes::new()).unwrap();
    let valid = header == Some("cid {cid}");
    let response = api.handle(&request, now);
    assert_eq!(response.status(), if valid { 200 } else { 403 });
    assert_eq!(
        String::from_utf8_lossy(response.body()).contains("Invalid CID"),
        !valid
    );
    let later = now + ApiConfig::default().session_lifetime * 2;
    assert_eq!(api.handle(&request, later).status(), 403);
}
