//! The vendor's HTTP API on a real socket: logins, sessions, many clients at a time, and clients that misbehave.
//! What each action answers is tested without sockets, beside its code.
#![allow(clippy::unwrap_used)]

mod client;
mod hostile;

use std::time::Duration;

use futures::future::join_all;
use http_body_util::Full;
use hyper::{Request, StatusCode, body::Bytes, header};
use mock_controller::api::server::Limits;
use serde_json::json;

use client::*;

#[tokio::test]
async fn the_provider_logs_in_with_a_token() {
    let world = World::start().await;
    let mut connection = world.connect().await;
    let form = "application/x-www-form-urlencoded";
    // A GET with its parameters in the body, on the wire.
    let request = Request::get("/v2/api")
        .header(header::HOST, "127.0.0.1")
        .header(header::CONTENT_TYPE, form)
        .body(Full::from("action=get_api_token&log_enable=true"));
    let (_, body) = connection.send(request.unwrap()).await.unwrap();
    let token = body["results"]["api_token"].as_str().unwrap();
    let request = Request::post("/v2/api")
        .header(header::HOST, "127.0.0.1")
        .header(header::CONTENT_TYPE, form)
        .header("X-Access-Key", token)
        .body(Full::from(
            "action=login&username=admin&password=containment",
        ));
    let (status, body) = connection.send(request.unwrap()).await.unwrap();
    assert_eq!((status, &body["return"]), (StatusCode::OK, &json!(true)));
    connection.cid = body["CID"].as_str().unwrap().to_owned();
    let version = connection.action("action=list_version_info").await.unwrap();
    assert_eq!(version["current_version"], "8.2.0");
}

#[tokio::test]
async fn scripts_log_in_without_one_and_a_wrong_password_is_told() {
    let world = World::start().await;
    let mut connection = world.client().await;
    let accounts = connection.action("action=list_accounts").await.unwrap();
    assert_eq!(accounts, json!({"account_list": []}));
    let wrong = "action=login&username=admin&password=wrong".to_owned();
    let (_, body) = connection.form("/v1/api", wrong).await;
    assert_eq!(body["return"], false);
    let reason = body["reason"].as_str().unwrap();
    assert!(reason.contains("does not match"), "{reason}");
}

#[tokio::test]
async fn an_expired_session_is_told_and_another_login_goes_on() {
    let world = World::start().await;
    let mut connection = world.client().await;
    world.api.expire_sessions();
    let refused = connection.action("action=list_accounts").await.unwrap_err();
    let expected = format!("CID is invalid; Session {} expired", connection.cid);
    assert_eq!(refused["reason"], expected);
    connection.log_in().await;
    connection.action("action=list_accounts").await.unwrap();
}

#[tokio::test]
async fn a_session_lasts_as_long_as_configured() {
    let world = World::start_with(Limits::default(), Duration::ZERO).await;
    let mut connection = world.client().await;
    let refused = connection.action("action=list_accounts").await.unwrap_err();
    assert!(refused["reason"].as_str().unwrap().contains("expired"));
}

#[tokio::test]
async fn tls_1_2_is_enough_and_other_authorities_are_not() {
    let world = World::start().await;
    let old = connector(world.server.ca_pem(), &[&rustls::version::TLS12]);
    let stream = handshake(&old, world.address()).await.unwrap();
    Connection::over(stream).await.log_in().await;

    let other = World::start().await;
    let stranger = connector(other.server.ca_pem(), &[&rustls::version::TLS13]);
    assert!(handshake(&stranger, world.address()).await.is_err());
}

/// Each connection of a session creates accounts of its own; all of them are there afterwards.
#[tokio::test]
async fn parallel_calls_lose_nothing() {
    let world = World::start().await;
    let cid = world.client().await.cid;
    let calls = (0..10).map(|connection| {
        let (world, cid) = (&world, cid.clone());
        async move {
            let mut client = world.connect().await;
            client.cid = cid;
            for call in 0..20 {
                let form = format!(
                    "action=setup_account_profile&account_name=a{connection}-{call}&cloud_type=1&aws_account_number=1"
                );
                client.action(&form).await.unwrap();
            }
        }
    });
    deadline(join_all(calls)).await;
    assert_eq!(world.controller.read(|store| store.accounts().count()), 200);
}

/// As many connections at once, each with a login of its own; more than the server takes at a time wait.
#[tokio::test]
async fn a_thousand_clients_at_a_time_are_all_answered() {
    let limits = Limits {
        connections: 600,
        handshake: Duration::from_secs(60),
        ..Limits::default()
    };
    let world = World::start_with(limits, Duration::from_secs(3600)).await;
    let clients = (0..1000).map(|number| {
        let world = &world;
        async move {
            let mut client = world.client().await;
            let form = format!(
                "action=setup_account_profile&account_name=a{number}&cloud_type=1&aws_account_number=1"
            );
            client.action(&form).await.unwrap();
        }
    });
    deadline(join_all(clients)).await;
    assert_eq!(
        world.controller.read(|store| store.accounts().count()),
        1000
    );
}

#[tokio::test]
async fn a_server_that_stops_answers_what_is_under_way_and_takes_nothing_new() {
    let world = World::start().await;
    let mut idle = world.client().await;
    let address = world.address();
    let World { server, .. } = world;
    deadline(server.stop()).await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
    let request = Request::get("/v1/api").body(Full::<Bytes>::default());
    assert!(idle.send(request.unwrap()).await.is_err());
}

#[tokio::test]
async fn unknown_paths_and_actions_answer_501() {
    let world = World::start().await;
    let mut client = world.client().await;
    for path in ["/", "/v3/api", "/v2.5/api/microseg/nonsense"] {
        let (status, body) = client.raw_json(path, "{}".to_owned()).await;
        assert_eq!(status, StatusCode::NOT_IMPLEMENTED, "{path}");
        let message = body["message"].as_str().unwrap();
        assert!(message.contains(path), "{message}");
    }
    let (status, body) = client.json_action(json!({"action": "make_coffee"})).await;
    assert_eq!(status, StatusCode::NOT_IMPLEMENTED);
    assert!(body["reason"].as_str().unwrap().contains("make_coffee"));
}

/// What may be on a controller before somebody misbehaves, and must be there afterwards.
async fn configured(world: &World) -> Connection {
    let mut client = world.client().await;
    let account =
        "action=setup_account_profile&account_name=kept&cloud_type=1&aws_account_number=1";
    client.action(account).await.unwrap();
    client
}

/// The state is as [`configured`] left it, and a fresh client is served. One that a short limit of the server cuts tries
/// again: on a loaded machine a handshake may take longer than any limit of these tests.
async fn still_right(world: &World) {
    let names = async {
        loop {
            if let Some(names) = world.account_names().await {
                return names;
            }
        }
    };
    assert_eq!(deadline(names).await, ["kept"]);
}
