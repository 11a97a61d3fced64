//! Every action as the reference's examples call it, through [`Api::handle`].
#![allow(clippy::unwrap_used)]

mod login;
mod resources;

use std::sync::Arc;

use hyper::header::CONTENT_TYPE;
use rstest::rstest;

use super::*;
use crate::{
    api::ApiConfig,
    controller::{Controller, ControllerConfig},
};

/// One controller and one session with it.
struct Client {
    api: Api,
    now: Instant,
    cid: String,
}

/// Status and body of an answer.
type Answer = (StatusCode, Value);

impl Client {
    fn new() -> Self {
        Self::of_version("8.2.0")
    }

    fn of_version(version: &str) -> Self {
        let controller = Arc::new(Controller::new(ControllerConfig::default()));
        let config = ApiConfig {
            version: version.to_owned(),
            ..ApiConfig::default()
        };
        let api = Api::new(controller, config);
        let now = Instant::now();
        let cid = api.sessions.login("admin", "containment", None, now);
        Self {
            api,
            now,
            cid: cid.unwrap(),
        }
    }

    fn send(&self, request: Request<Bytes>) -> Answer {
        let response = self.api.handle(&request, self.now);
        assert_eq!(response.headers()[CONTENT_TYPE], "application/json");
        let body = serde_json::from_slice(response.body()).unwrap();
        (response.status(), body)
    }

    /// GET with a query.
    fn get(&self, query: &str) -> Answer {
        let uri = format!("/v2/api?CID={}&{query}", self.cid);
        self.send(Request::get(uri).body(Bytes::new()).unwrap())
    }

    /// POST with a form.
    fn form(&self, form: &str) -> Answer {
        let request = Request::post("/v2/api");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let body = format!("CID={}&{form}", self.cid);
        self.send(request.body(Bytes::from(body)).unwrap())
    }

    /// POST with a JSON object.
    fn json(&self, mut body: Value) -> Answer {
        body["CID"] = self.cid.clone().into();
        let request = Request::post("/v2/api").header(CONTENT_TYPE, "application/json");
        self.send(request.body(Bytes::from(body.to_string())).unwrap())
    }

    /// POST with multipart/form-data.
    fn multipart(&self, fields: &[(&str, &str)]) -> Answer {
        let mut body = String::new();
        for (name, value) in [("CID", self.cid.as_str())].iter().chain(fields) {
            body.push_str(&format!(
                "--b\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
            ));
        }
        body.push_str("--b--\r\n");
        let request = Request::post("/v2/api");
        let request = request.header(CONTENT_TYPE, "multipart/form-data; boundary=b");
        self.send(request.body(Bytes::from(body)).unwrap())
    }
}

/// `results` of a success.
fn results((status, mut body): Answer) -> Value {
    assert_eq!(
        (status, &body["return"]),
        (StatusCode::OK, &json!(true)),
        "{body}"
    );
    body["results"].take()
}

/// `reason` of a refusal in the vendor's way.
fn reason((status, body): Answer) -> String {
    assert_eq!(
        (status, &body["return"]),
        (StatusCode::OK, &json!(false)),
        "{body}"
    );
    body["reason"].as_str().unwrap().to_owned()
}

#[rstest]
#[case::snat("edit_gw_customized_snat_config")]
#[case::gateway_info("get_gateway_info")]
#[case::attach("attach_spoke_to_transit_gw")]
#[case::detach("detach_spoke_from_transit_gw")]
#[case::other("make_coffee")]
fn what_it_does_not_have_it_says_loudly(#[case] action: &str) {
    let client = Client::new();
    for (status, body) in [
        client.get(&format!("action={action}")),
        client.form(&format!("action={action}")),
        client.json(json!({"action": action})),
    ] {
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
        assert_eq!(body["return"], false);
        assert_eq!(
            body["reason"],
            format!("this fake controller has no action {action} of /v2/api")
        );
    }
}

#[rstest]
#[case::no_json("application/json", "{", "no JSON object")]
#[case::list("application/json", "[1]", "no JSON object")]
#[case::multipart("multipart/form-data; boundary=x", "--y--", "nowhere in the body")]
#[case::kind("text/xml", "<a/>", "content type `text/xml`")]
fn what_cannot_be_read_is_400(#[case] content_type: &str, #[case] body: &str, #[case] text: &str) {
    let request = Request::post("/v2/api").header(CONTENT_TYPE, content_type);
    let body = Bytes::copy_from_slice(body.as_bytes());
    let (status, body) = Client::new().send(request.body(body).unwrap());
    assert_eq!(
        (status, &body["return"]),
        (StatusCode::BAD_REQUEST, &json!(false))
    );
    assert!(body["reason"].as_str().unwrap().contains(text), "{body}");
}

#[test]
fn an_action_must_be_named() {
    let client = Client::new();
    assert!(reason(client.get("")).contains("`action` is missing"));
    assert!(reason(client.json(json!({"action": ["login"]}))).contains("`action` is missing"));
}

#[test]
fn long_names_are_not_repeated_in_full() {
    let (_, body) = Client::new().get(&format!("action={}", "a".repeat(5000)));
    assert!(body["reason"].as_str().unwrap().len() < 200);
}

/// Whatever is written can be asked for asynchronously; what is read is read.
#[test]
fn every_write_may_be_asynchronous() {
    let client = Client::new();
    let id =
        results(client.form("action=enable_copilot_association&copilot_ip=10.0.0.4&async=true"));
    let done = results(client.form(&format!(
        "action=check_task_status&request_id={}",
        id.as_str().unwrap()
    )));
    assert_eq!(done, "done");
    let status = results(client.get("action=get_copilot_association_status&async=true"));
    assert_eq!(status["ip"], "10.0.0.4");
}

#[test]
fn features_are_switched_and_read() {
    let client = Client::new();
    let get = |feature: &str| {
        let body = json!({"action": "get_controller_feature", "feature": feature});
        results(client.json(body))
    };
    assert_eq!(
        get("microseg"),
        json!({"feature": "microseg", "enabled": false})
    );
    results(client.json(json!({"action": "enable_controller_feature", "feature": "microseg"})));
    assert_eq!(
        get("microseg"),
        json!({"feature": "microseg", "enabled": true})
    );
    let all = results(client.json(json!({"action": "get_all_controller_features"})));
    assert_eq!(all[0], json!({"feature": "microseg", "enabled": true}));
    assert_eq!(all.as_array().unwrap().len(), 13);
    results(client.json(json!({"action": "disable_controller_feature", "feature": "microseg"})));
    assert_eq!(get("microseg")["enabled"], false);
    assert_eq!(get("never_heard_of")["enabled"], false);
}

#[rstest]
#[case("enable_controller_feature")]
#[case("disable_controller_feature")]
fn an_unknown_feature_is_not_switched(#[case] action: &str) {
    let client = Client::new();
    let refused = reason(client.json(json!({"action": action, "feature": "never_heard_of"})));
    assert!(
        refused.contains("unknown feature `never_heard_of`"),
        "{refused}"
    );
    let refused = reason(client.json(json!({"action": action})));
    assert!(refused.contains("`feature` is missing"), "{refused}");
}

#[test]
fn each_version_has_its_features() {
    let features = |version: &str| {
        let client = Client::of_version(version);
        let all = results(client.json(json!({"action": "get_all_controller_features"})));
        all.as_array().unwrap().len()
    };
    assert_eq!(
        ["8.2.0", "8.2.20", "9.0.10", "99.0.0"].map(features),
        [13, 14, 15, 19]
    );
}
