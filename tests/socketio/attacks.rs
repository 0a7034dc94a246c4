//! Published attacks on Engine.IO, Socket.IO and websocket servers; each row names its number.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use socket2::SockRef;

use crate::support::Server;

const KEY: &str = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";

fn upgrade(extra: &str) -> String {
    format!("GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\n{KEY}{extra}\r\n")
}

/// The status of the answer to raw bytes, 0 if there is none.
fn status(stream: &mut TcpStream, bytes: &[u8]) -> u16 {
    // The server may refuse before all is written.
    drop(stream.write_all(bytes));
    let mut head = [0; 12];
    let read = stream.read(&mut head).unwrap_or(0);
    let text = String::from_utf8_lossy(&head[..read]).into_owned();
    text.get(9..).and_then(|it| it.parse().ok()).unwrap_or(0)
}

/// CVE-2020-36048: a POST body without bound.
#[test]
fn bodies_are_bounded() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    assert_eq!(server.post(&sid, &"4".repeat(65_537)).status, 413);
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nhost: x\r\n\
         transfer-encoding: chunked\r\n\r\n"
    );
    let chunk = format!("8000\r\n{}\r\n", "x".repeat(0x8000));
    let bytes = [head, chunk.repeat(4), "0\r\n\r\n".to_owned()].concat();
    assert_eq!(status(&mut server.stream(), bytes.as_bytes()), 413);
    // Bytes count and not characters.
    assert_eq!(server.post(&sid, &format!("4{}", "€".repeat(30_000))).status, 413);
    assert!(server.nobody_left());
    assert_eq!(server.post(&sid, "42[\"echo\"]").status, 200);
}

/// CVE-2020-36049: an endless attachment count or ack id; CVE-2026-33151: many attachments.
#[test]
fn numbers_in_packets_are_bounded() {
    let server = Server::start(|_| ());
    for packet in [
        format!("45{}-[\"a\"]", "1".repeat(60_000)),
        format!("42{}[\"a\"]", "1".repeat(60_000)),
        "4511-[\"a\"]".to_owned(),
        "45999999999-[\"a\"]".to_owned(),
        "450-[\"a\"]".to_owned(),
    ] {
        let mut client = server.client();
        client.send(&packet);
        client.closed();
        assert_eq!(server.disconnect(), "/ parse error");
    }
}

/// CVE-2022-2421 (placeholders), CVE-2023-32695 (event names), CVE-2024-38355 (`error`) are rows
/// in the tables of `namespaces.rs`; this is the last one's other half: the process goes on.
#[test]
fn an_event_named_error_is_an_event() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("42[\"error\",\"x\"]");
    client.is_alive();
}

/// CVE-2023-31125: names that JavaScript objects inherit.
#[test]
fn inherited_names_are_unknown() {
    let server = Server::start(|_| ());
    for name in ["__proto__", "constructor", "hasOwnProperty", "toString"] {
        assert_eq!(server.get(&format!("&sid={name}")).status, 400, "{name}");
        let query = format!("EIO=4&transport={name}");
        assert_eq!(server.http("GET", &query, KEY, "").status, 400, "{name}");
        let query = format!("EIO=4&transport=websocket&sid={name}");
        assert_eq!(server.http("GET", &query, KEY, "").status, 400, "{name}");
    }
}

/// CVE-2022-41940: a reset in the middle of an upgrade.
#[test]
fn resets_in_the_middle_of_an_upgrade_are_survived() {
    let server = Server::start(|_| ());
    for _ in 0..20 {
        let mut stream = server.stream();
        stream.write_all(upgrade("").as_bytes()).unwrap();
        SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
    }
    server.client().is_alive();
    server.until(|| server.endpoint.connections() <= 1);
}

/// CVE-2022-21676: a bad frame before the handshake is through.
#[test]
fn a_bad_frame_with_the_request_ends_that_connection_alone() {
    let server = Server::start(|_| ());
    for bad in [&[0x81, 0x01, b'2'][..], &[0xf1, 0x81, 0, 0, 0, 0, b'2'], &[0xff; 64]] {
        let mut stream = server.stream();
        let bytes = [upgrade("").as_bytes(), bad].concat();
        assert_eq!(status(&mut stream, &bytes), 101);
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        assert!(rest.ends_with(&[0x88, 0x02, 0x03, 0xea]), "closed with 1002");
    }
    server.client().is_alive();
}

/// CVE-2024-37890: more headers than fit; CVE-2021-32640 and GHSA-5v72-xg48-5rpm: hostile
/// protocol and extension headers; CVE-2023-43669: a header that never ends.
#[test]
fn hostile_headers_cost_nothing() {
    let server = Server::start(|_| ());
    let start = Instant::now();
    let many: Vec<_> = (0..2500).map(|it| format!("x{it}: 1\r\n")).collect();
    let hostile = [
        many.concat(),
        "sec-websocket-extensions: constructor\r\n".to_owned(),
        format!("sec-websocket-protocol: a{}b\r\n", " ".repeat(7000)),
        format!("sec-websocket-protocol: {}\r\n", ",".repeat(7000)),
        format!("x: {}\r\n", "y".repeat(2 << 20)),
    ];
    for headers in hostile {
        let status = status(&mut server.stream(), upgrade(&headers).as_bytes());
        assert!([0, 101, 431, 400].contains(&status), "{status} for {headers:.40}");
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    server.client().is_alive();
}

/// CVE-2016-10542 (no limit) and CVE-2026-48779 (many tiny fragments).
#[test]
fn fragments_are_bounded() {
    let server = Server::start(|_| ());
    let mut stream = server.stream();
    let mut bytes = upgrade("").into_bytes();
    bytes.extend([0x01, 0x81, 0, 0, 0, 0, b'4']);
    bytes.extend([0x00, 0x81, 0, 0, 0, 0, b'x'].repeat(200_000));
    let start = Instant::now();
    drop(stream.write_all(&bytes));
    let mut rest = Vec::new();
    drop(stream.read_to_end(&mut rest));
    assert!(start.elapsed() < Duration::from_secs(5));
    server.until(|| server.endpoint.connections() == 0);
    server.client().is_alive();
}

/// Handshakes that look like a websocket's and are none.
#[test]
fn odd_upgrades_are_refused() {
    let server = Server::start(|_| ());
    let whole = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let table = [
        ("POST", whole.to_owned()),
        ("GET", whole.replace("websocket\r\nsec", "h2c\r\nsec")),
        ("GET", whole.replace("13", "8")),
        ("GET", whole.replace("dGhlIHNhbXBsZSBub25jZQ==", "x")),
        ("GET", whole.replace("connection: Upgrade\r\n", "")),
        ("GET", "upgrade: websocket\r\n".to_owned()),
    ];
    for (method, headers) in table {
        let reply = server.http(method, "EIO=4&transport=websocket", &headers, "");
        assert_eq!(reply.status, 400, "{method} {headers}");
    }
    assert_eq!(server.endpoint.connections(), 0);
}

/// A session's secret does not work on another transport, or twice.
#[test]
fn a_websockets_secret_opens_no_poll() {
    let server = Server::start(|_| ());
    let mut client = server.websocket("");
    let sid = client.text().split('"').nth(3).unwrap().to_owned();
    client.send("40");
    client.text();
    assert_eq!(server.poll(&sid).body, r#"{"code":3,"message":"Bad request"}"#);
    assert_eq!(server.post(&sid, "41").status, 400);
    client.is_alive();
}
