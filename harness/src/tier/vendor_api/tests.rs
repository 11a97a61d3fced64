//! What the client makes of answers that the reference does not have.

#![allow(clippy::unwrap_used)]

use fixtures::tls::CertificateAuthority;
use rstest::rstest;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use super::*;

const TOKEN: (u16, &str) = (200, r#"{"return": true, "results": {"api_token": "t"}}"#);
const LOGIN: (u16, &str) = (200, r#"{"return": true, "CID": "c"}"#);
const PAGE: &str = "<html>Bad gateway</html>";

/// A session with a server that gives these answers, one a connection, whatever it is asked.
async fn login(answers: Vec<(u16, &'static str)>) -> Result<VendorApi, Error> {
    serve(answers).await.0
}

/// The session, and what the server is asked, in small letters.
async fn serve(
    answers: Vec<(u16, &'static str)>,
) -> (Result<VendorApi, Error>, UnboundedReceiver<String>) {
    let (asked, requests) = unbounded_channel();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let account = Account {
        base: format!("http://{}", listener.local_addr().unwrap()),
        username: "user".to_owned(),
        password: "password".to_owned(),
    };
    tokio::spawn(async move {
        for (status, body) in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = asked.send(read_request(&mut stream).await);
            let length = body.len();
            let answer = format!(
                "HTTP/1.1 {status} x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
            );
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    let authority = CertificateAuthority::new("test").unwrap();
    let api = VendorApi::login(account, authority.client_config().unwrap()).await;
    (api, requests)
}

async fn read_request(stream: &mut TcpStream) -> String {
    let mut request = Vec::new();
    loop {
        stream.read_buf(&mut request).await.unwrap();
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let Some((head, body)) = text.split_once("\r\n\r\n") else {
            continue;
        };
        let length = head
            .lines()
            .find_map(|line| line.strip_prefix("content-length: "))
            .map_or(0, |length| length.parse().unwrap());
        if body.len() >= length {
            return text;
        }
    }
}

fn told<T>(answer: Result<T, Error>) -> String {
    answer.err().map_or_else(String::new, |e| e.to_string())
}

#[rstest]
#[case::empty(200, "", "")]
#[case::json(200, "[]", "")]
#[case::page(200, PAGE, "answered GET k8s/clusters without JSON")]
#[case::refused(400, r#"{"message": "no"}"#, "refused GET k8s/clusters: HTTP 400: no")]
#[case::refused_by_a_page(502, PAGE, "refused GET k8s/clusters: HTTP 502: <html>")]
#[tokio::test]
async fn only_an_empty_answer_says_nothing(
    #[case] status: u16,
    #[case] body: &'static str,
    #[case] says: &str,
) {
    let api = login(vec![TOKEN, LOGIN, (status, body)]).await.unwrap();
    let told = told(api.get("k8s/clusters").await);
    assert_eq!(told.is_empty(), says.is_empty(), "{told}");
    assert!(told.contains(says), "{told}");
}

#[rstest]
#[case::no_token(vec![(200, r#"{"return": true, "results": {}}"#), LOGIN], "answered get_api_token without api_token")]
#[case::no_session(vec![TOKEN, (200, r#"{"return": true}"#)], "answered login without CID")]
#[case::page(vec![(200, PAGE)], "answered get_api_token without JSON")]
#[tokio::test]
async fn a_login_that_lacks_something_says_what(
    #[case] answers: Vec<(u16, &'static str)>,
    #[case] says: &str,
) {
    let told = told(login(answers).await);
    assert!(told.contains(says), "{told}");
}

/// As the reference has it; a form would not carry the certificates that this action may have.
#[tokio::test]
async fn remote_syslog_is_enabled_by_a_multipart_post() {
    let (api, mut requests) = serve(vec![TOKEN, LOGIN, TOKEN]).await;
    let syslog = RemoteSyslog {
        index: 9,
        name: "CoPilot",
        server: "10.0.0.9",
        port: "5000",
        protocol: "UDP",
    };
    api.unwrap().enable_remote_syslog(&syslog).await.unwrap();
    let (_, _) = (requests.recv().await, requests.recv().await);
    let request = requests.recv().await.unwrap();
    assert!(request.starts_with("post /v2/api "), "{request}");
    assert!(
        request.contains("content-type: multipart/form-data"),
        "{request}"
    );
    for part in [
        ["action", "enable_remote_syslog_logging"],
        ["cid", "c"],
        ["index", "9"],
        ["name", "copilot"],
        ["server", "10.0.0.9"],
        ["port", "5000"],
        ["protocol", "udp"],
        ["template", ""],
        ["exclude_gateway_list", ""],
    ] {
        let part = format!("name=\"{}\"\r\n\r\n{}\r\n", part[0], part[1]);
        assert!(request.contains(&part), "{part} is not in {request}");
    }
}
