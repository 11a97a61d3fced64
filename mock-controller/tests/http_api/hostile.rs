//! Clients that are slow, too large, or make no sense. Each is bounded, told why, and leaves the state as it was.

use rstest::rstest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

/// Short enough to wait for. A test shortens the one limit that it is about: everything else may take as long as a loaded
/// machine needs.
const SHORT: Duration = Duration::from_millis(300);

/// Bodies of a megabyte, four of them at a time.
fn small_bodies() -> Limits {
    Limits {
        body: 1 << 20,
        bodies: 4 << 20,
        ..Limits::default()
    }
}

/// A configured controller behind a server with these limits, which did not hold while it was configured.
async fn limited(limits: Limits) -> World {
    let world = World::start().await;
    configured(&world).await;
    world.restarted_with(limits).await
}

async fn world_of_small_bodies() -> World {
    World::start_with(small_bodies(), Duration::from_secs(3600)).await
}

/// Everything the server says until it closes.
async fn rest(mut stream: impl AsyncReadExt + Unpin) -> String {
    let mut said = Vec::new();
    // A close without TLS's own goodbye is a close, too.
    let _ = deadline(stream.read_to_end(&mut said)).await;
    String::from_utf8_lossy(&said).into_owned()
}

#[tokio::test]
async fn a_handshake_that_never_comes_is_cut() {
    let world = limited(Limits {
        handshake: SHORT,
        ..Limits::default()
    })
    .await;
    let stream = tokio::net::TcpStream::connect(world.address()).await;
    assert_eq!(rest(stream.unwrap()).await, "");
    still_right(&world).await;
}

#[rstest]
#[case::nothing("")]
#[case::half_a_line("POST /v2/a")]
#[case::no_end("POST /v2/api HTTP/1.1\r\nHost: a\r\nX-Long: ")]
#[tokio::test]
async fn a_head_that_never_ends_is_cut(#[case] sent: &str) {
    let world = limited(Limits {
        head: SHORT,
        ..Limits::default()
    })
    .await;
    let mut stream = world.stream().await;
    stream.write_all(sent.as_bytes()).await.unwrap();
    let said = rest(stream).await;
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 408"),
        "{said}"
    );
    still_right(&world).await;
}

#[tokio::test]
async fn a_body_that_never_ends_is_told() {
    let world = limited(Limits {
        body_time: SHORT,
        ..Limits::default()
    })
    .await;
    let mut stream = world.stream().await;
    let head = "POST /v2/api HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\naction=";
    stream.write_all(head.as_bytes()).await.unwrap();
    let said = rest(stream).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(said.contains("did not arrive within"), "{said}");
    still_right(&world).await;
}

/// Slow, but within the limits: one byte at a time.
#[tokio::test]
async fn a_request_byte_by_byte_is_answered() {
    let world = World::start().await;
    let cid = configured(&world).await.cid;
    let body = format!("action=list_accounts&CID={cid}");
    let request = format!(
        "POST /v2/api HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\n\
         Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = world.stream().await;
    for byte in request.as_bytes() {
        stream.write_all(&[*byte]).await.unwrap();
        stream.flush().await.unwrap();
    }
    let said = rest(stream).await;
    assert!(
        said.starts_with("HTTP/1.1 200") && said.contains("kept"),
        "{said}"
    );
}

/// Slow clients take places, but not everybody's: when their time is over, who waits is served.
#[tokio::test]
async fn who_waits_behind_slow_clients_is_served() {
    let world = limited(Limits {
        connections: 20,
        handshake: SHORT,
        ..Limits::default()
    })
    .await;
    let slow = join_all((0..20).map(|_| tokio::net::TcpStream::connect(world.address()))).await;
    deadline(still_right(&world)).await;
    drop(slow);
}

#[tokio::test]
async fn a_body_over_its_bound_is_413_however_it_is_announced() {
    let world = world_of_small_bodies().await;
    let mut client = configured(&world).await;
    // Somewhat too large, and read to its end so that the answer arrives.
    let large = "x".repeat((1 << 20) + 1);
    let (status, body) = client.raw_json("/v2/api", large).await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE);
    assert!(
        body["reason"]
            .as_str()
            .unwrap()
            .contains("larger than 1048576")
    );

    // Far too large by its announcement: not one byte is awaited.
    let mut stream = world.stream().await;
    let head = "PUT /v2.5/api/microseg/policy-list HTTP/1.1\r\nHost: a\r\nContent-Length: 99999999999\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    assert!(rest(stream).await.starts_with("HTTP/1.1 413"));

    // Without an announcement, by its chunks.
    let mut stream = world.stream().await;
    let head = "POST /v2/api HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    for _ in 0..40 {
        if stream.write_all(chunk.as_bytes()).await.is_err() {
            break;
        }
    }
    let said = rest(stream).await;
    assert!(
        said.is_empty() || said.starts_with("HTTP/1.1 413"),
        "{said}"
    );
    still_right(&world).await;
}

/// Bodies that are fine one by one, but too much together.
#[tokio::test]
async fn too_many_large_bodies_at_a_time_are_told_to_try_again() {
    let limits = Limits {
        bodies: 1 << 20,
        body_time: Duration::from_secs(3600),
        ..small_bodies()
    };
    let world = World::start_with(limits, Duration::from_secs(3600)).await;
    configured(&world).await;
    // Half a megabyte arrives and stays open: it counts twice, for the room that it may take while it grows.
    let mut first = world.stream().await;
    let head = "POST /v2/api HTTP/1.1\r\nHost: a\r\nContent-Length: 500001\r\n\r\n";
    first.write_all(head.as_bytes()).await.unwrap();
    first.write_all(&[b'x'; 500_000]).await.unwrap();
    first.flush().await.unwrap();
    let refused = async {
        loop {
            let mut second = world.client().await;
            let (status, body) = second.raw_json("/v2/api", "x".repeat(500_000)).await;
            if status == StatusCode::SERVICE_UNAVAILABLE {
                return body;
            }
            // The first one's bytes are still under way.
            assert_eq!(status, StatusCode::BAD_REQUEST);
        }
    };
    let body = deadline(refused).await;
    assert!(
        body["reason"].as_str().unwrap().contains("try again"),
        "{body}"
    );
    drop(first);
    still_right(&world).await;
}

#[tokio::test]
async fn heads_over_their_bounds_are_refused() {
    let world = world_of_small_bodies().await;
    configured(&world).await;
    let many = "X-A: b\r\n".repeat(200);
    let long = format!("X-A: {}\r\n", "b".repeat(1_000_000));
    for headers in [many, long] {
        let mut stream = world.stream().await;
        let head = format!("GET /v2/api HTTP/1.1\r\nHost: a\r\n{headers}\r\n");
        let _ = stream.write_all(head.as_bytes()).await;
        let said = rest(stream).await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 431"),
            "{said}"
        );
    }
    still_right(&world).await;
}

#[tokio::test]
async fn what_is_no_http_is_refused() {
    let world = world_of_small_bodies().await;
    configured(&world).await;
    for sent in [
        "\0\0\0\0\r\n\r\n",
        "GET\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /v2/api HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
        "GET /v2/api HTTP/1.1\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    ] {
        let mut stream = world.stream().await;
        stream.write_all(sent.as_bytes()).await.unwrap();
        let said = rest(stream).await;
        assert!(
            said.is_empty() || said.starts_with("HTTP/1.1 4"),
            "{sent:?}: {said}"
        );
    }
    // Plain HTTP on the TLS port.
    let mut stream = tokio::net::TcpStream::connect(world.address())
        .await
        .unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
    assert!(!rest(stream).await.contains("200"));
    still_right(&world).await;
}

#[rstest]
#[case::cut("{\"action\":", StatusCode::BAD_REQUEST)]
#[case::list("[]", StatusCode::BAD_REQUEST)]
#[case::deep(&"[".repeat(100_000), StatusCode::BAD_REQUEST)]
#[case::null("null", StatusCode::BAD_REQUEST)]
#[case::wrong_type("{\"action\":{\"a\":1},\"CID\":[]}", StatusCode::OK)]
#[case::not_utf8("{\"action\":\"\\ud800\"}", StatusCode::BAD_REQUEST)]
#[tokio::test]
async fn json_that_makes_no_sense_is_refused_and_the_connection_goes_on(
    #[case] body: &str,
    #[case] expected: StatusCode,
) {
    let world = World::start().await;
    let mut client = configured(&world).await;
    let (status, answer) = client.raw_json("/v2/api", body.to_owned()).await;
    assert_eq!(status, expected, "{answer}");
    assert_eq!(answer["return"], false);
    assert!(!answer["reason"].as_str().unwrap().is_empty());
    client.action("action=list_accounts").await.unwrap();
    still_right(&world).await;
}

/// A client that goes away in the middle of a request changes nothing.
#[tokio::test]
async fn half_a_request_changes_nothing() {
    let world = World::start().await;
    let cid = configured(&world).await.cid;
    for _ in 0..50 {
        let mut stream = world.stream().await;
        let form = format!("CID={cid}&action=delete_account_profile&account_name=kept");
        let head = format!(
            "POST /v2/api HTTP/1.1\r\nHost: a\r\nContent-Type: application/x-www-form-urlencoded\r\n\
             Content-Length: {}\r\n\r\n{form}",
            form.len() + 1
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        drop(stream);
    }
    still_right(&world).await;
}

/// A text of two bytes per value is many times as much once it is read: that is what is counted.
#[tokio::test]
async fn json_of_many_values_is_413_before_it_is_read() {
    let world = world_of_small_bodies().await;
    let mut client = configured(&world).await;
    let profile = |values: usize| {
        let body = json!({"display_name": "p", "certificate_validation": "CERTIFICATE_VALIDATION_NONE",
            "verify_sni": true, "extra": vec![0; values]});
        body.to_string()
    };
    let (status, body) = client
        .raw_json("/v2.5/api/dcf/tls-profile", profile(100_000))
        .await;
    assert_eq!(status, StatusCode::PAYLOAD_TOO_LARGE, "{body}");
    let message = body["message"].as_str().unwrap();
    assert!(message.contains("bytes of memory"), "{message}");
    // A refused body ends its connection.
    let mut client = world.client().await;
    let (status, body) = client
        .raw_json("/v2.5/api/dcf/tls-profile", profile(10_000))
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    still_right(&world).await;
}

/// A client that asks for much and takes nothing of it loses its place.
#[tokio::test]
async fn a_client_that_takes_nothing_of_its_response_is_cut() {
    // More than any socket's buffer.
    const LARGE: usize = 12 << 20;
    let world = World::start().await;
    let mut client = configured(&world).await;
    let profile = json!({"display_name": "p".repeat(LARGE), "certificate_validation": "CERTIFICATE_VALIDATION_NONE",
        "verify_sni": true});
    let (status, body) = client
        .raw_json("/v2.5/api/dcf/tls-profile", profile.to_string())
        .await;
    assert_eq!(status, StatusCode::OK, "{body}");
    let cid = client.cid.clone();
    drop(client);
    let limits = Limits {
        connections: 4,
        stall: SHORT,
        ..Limits::default()
    };
    let world = world.restarted_with(limits).await;
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut stream = deadline(world.stream()).await;
        let request = format!(
            "GET /v2.5/api/dcf/tls-profile HTTP/1.1\r\nHost: a\r\nConnection: close\r\nAuthorization: cid {cid}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        stalled.push(stream);
    }
    // All places are taken until one of them is cut; which one is first depends on the machine.
    still_right(&world).await;
    let mut cut = 0;
    for stream in stalled {
        cut += usize::from(rest(stream).await.len() < LARGE);
    }
    assert!(
        cut > 0,
        "a place was free, but every response arrived whole"
    );
}
