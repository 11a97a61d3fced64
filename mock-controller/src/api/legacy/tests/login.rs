//! Login in both styles, expiry, version, asynchronous requests.

use std::time::Duration;

use super::*;

impl Client {
    fn post(&self, path: &str, token: Option<&str>, form: &str) -> Answer {
        let mut request =
            Request::post(path).header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        if let Some(token) = token {
            request = request.header("X-Access-Key", token);
        }
        let form = Bytes::copy_from_slice(form.as_bytes());
        self.send(request.body(form).unwrap())
    }

    /// A GET whose parameters are in its body.
    fn api_token(&self) -> String {
        let form = Bytes::from_static(b"action=get_api_token&log_enable=true");
        let request = Request::get("/v2/api");
        let request = request.header(CONTENT_TYPE, "application/x-www-form-urlencoded");
        let token = results(self.send(request.body(form).unwrap()));
        token["api_token"].as_str().unwrap().to_owned()
    }
}

const LOGIN: &str = "action=login&username=admin&password=containment";

#[test]
fn the_provider_logs_in_with_a_token() {
    let mut client = Client::new();
    let token = client.api_token();
    let (status, body) = client.post("/v2/api", Some(&token), LOGIN);
    assert_eq!((status, &body["return"]), (StatusCode::OK, &json!(true)));
    assert!(body["results"].is_string(), "{body}");
    client.cid = body["CID"].as_str().unwrap().to_owned();
    let version = results(client.get("action=list_version_info"));
    assert_eq!(version["current_version"], "8.2.0");
}

#[rstest]
#[case::script("/v1/api")]
#[case::without_the_header("/v2/api")]
#[case::trailing_slash("/v1/api/")]
fn scripts_log_in_without_one(#[case] path: &str) {
    let mut client = Client::new();
    let (_, body) = client.post(path, None, LOGIN);
    client.cid = body["CID"].as_str().unwrap().to_owned();
    let uri = format!("/v1/api?action=list_accounts&CID={}", client.cid);
    let accounts = client.send(Request::get(uri).body(Bytes::new()).unwrap());
    assert_eq!(results(accounts), json!({"account_list": []}));
}

#[test]
fn a_login_in_the_query_is_one_too() {
    let request = Request::get(format!("/v1/api?{LOGIN}"));
    let (_, body) = Client::new().send(request.body(Bytes::new()).unwrap());
    assert!(body["CID"].is_string(), "{body}");
}

#[rstest]
#[case::password(
    "action=login&username=admin&password=wrong",
    "User name/password does not match"
)]
#[case::username(
    "action=login&username=root&password=containment",
    "User name/password does not match"
)]
#[case::no_password("action=login&username=admin", "`password` is missing")]
#[case::no_username("action=login&password=containment", "`username` is missing")]
fn who_may_not_is_told(#[case] form: &str, #[case] expected: &str) {
    let client = Client::new();
    let token = client.api_token();
    let (status, body) = client.post("/v2/api", Some(&token), form);
    assert_eq!((status, &body["return"]), (StatusCode::OK, &json!(false)));
    assert!(
        body["reason"].as_str().unwrap().contains(expected),
        "{body}"
    );
    assert!(body.get("CID").is_none());
    assert!(!body.to_string().contains("containment"), "{body}");
}

#[test]
fn a_token_of_somebody_else_is_refused() {
    let refused = reason(Client::new().post("/v2/api", Some("somebody-else's"), LOGIN));
    assert!(refused.contains("X-Access-Key"), "{refused}");
}

#[test]
fn an_expired_session_reads_the_same_in_every_encoding() {
    let mut client = Client::new();
    client.now += Duration::from_secs(3600);
    let expected = format!("CID is invalid; Session {} expired", client.cid);
    for answer in [
        client.get("action=list_version_info"),
        client.form("action=list_version_info"),
        client.json(json!({"action": "get_all_controller_features"})),
        client.multipart(&[("action", "enable_remote_syslog_logging")]),
        client.get("action=make_coffee"),
    ] {
        assert_eq!(reason(answer), expected);
    }
    let (_, body) = client.post("/v2/api", None, LOGIN);
    client.cid = body["CID"].as_str().unwrap().to_owned();
    results(client.get("action=list_version_info"));
}

#[test]
fn no_session_is_an_expired_one() {
    let mut client = Client::new();
    client.cid.clear();
    let refused = reason(client.get("action=list_accounts"));
    assert!(refused.contains("CID is invalid"), "{refused}");
}

#[test]
fn all_sessions_can_be_made_to_expire() {
    let client = Client::new();
    results(client.get("action=list_accounts"));
    client.api.expire_sessions();
    assert!(reason(client.get("action=list_accounts")).contains("expired"));
}

#[test]
fn an_asynchronous_request_is_done_when_it_is_taken() {
    let client = Client::new();
    let create =
        "action=setup_account_profile&account_name=a&cloud_type=1&aws_account_number=1&async=true";
    let id = results(client.form(create));
    let poll = |id: &str| client.form(&format!("action=check_task_status&request_id={id}"));
    results(poll(id.as_str().unwrap()));
    assert!(reason(poll("another")).contains("unknown request_id another"));
    assert!(reason(client.form("action=check_task_status")).contains("`request_id` is missing"));
}
