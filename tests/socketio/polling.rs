//! Engine.IO over long polling.

use std::io::Write;
use std::time::{Duration, Instant};

use call_service::socketio::engine::options::{CorsOrigins, Options};
use serde_json::Value;

use crate::support::Server;

fn quick(options: &mut Options) {
    options.ping_interval = Duration::from_millis(100);
    options.ping_timeout = Duration::from_millis(400);
}

#[test]
fn a_handshake_has_exactly_five_keys() {
    let server = Server::start(|_| ());
    let reply = server.get("");
    assert_eq!(reply.status, 200);
    let handshake: Value = serde_json::from_str(reply.body.strip_prefix('0').unwrap()).unwrap();
    let keys: Vec<_> = handshake.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["maxPayload", "pingInterval", "pingTimeout", "sid", "upgrades"]);
    assert_eq!(handshake["upgrades"], serde_json::json!(["websocket"]));
    assert_eq!(handshake["pingInterval"], 25_000);
    assert_eq!(handshake["pingTimeout"], 20_000);
    assert_eq!(handshake["maxPayload"], 65_536);
    assert_eq!(handshake["sid"].as_str().unwrap().len(), 22);
}

/// Method and query of requests that are refused, with status and body.
#[test]
fn refusals_speak_the_protocols_own_words() {
    let server = Server::start(|_| ());
    let unknown_transport = (400, r#"{"code":0,"message":"Transport unknown"}"#);
    let unknown_session = (400, r#"{"code":1,"message":"Session ID unknown"}"#);
    let bad_method = (400, r#"{"code":2,"message":"Bad handshake method"}"#);
    let bad_request = (400, r#"{"code":3,"message":"Bad request"}"#);
    let version = (400, r#"{"code":5,"message":"Unsupported protocol version"}"#);
    let table = [
        ("GET", "EIO=4", unknown_transport),
        ("GET", "EIO=4&transport=abc", unknown_transport),
        ("GET", "EIO=4&transport=__proto__", unknown_transport),
        ("GET", "EIO=4&transport=webtransport", unknown_transport),
        ("GET", "EIO=4&transport=polling&sid=nope", unknown_session),
        ("GET", "EIO=4&transport=polling&sid=", unknown_session),
        ("GET", "EIO=4&transport=polling&sid=constructor", unknown_session),
        ("POST", "EIO=4&transport=polling", bad_method),
        ("PUT", "EIO=4&transport=polling", bad_method),
        ("GET", "EIO=4&transport=websocket", bad_request),
        ("GET", "EIO=4&transport=websocket&sid=nope", unknown_session),
        ("GET", "EIO=3&transport=polling", version),
        ("GET", "transport=polling", version),
        ("GET", "EIO=4.0&transport=polling", version),
    ];
    for (method, query, (status, body)) in table {
        let reply = server.http(method, query, "", "");
        assert_eq!((reply.status, reply.body.as_str()), (status, body), "{method} {query}");
        assert_eq!(reply.header("content-type"), Some("application/json"));
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn a_query_is_bounded() {
    let server = Server::start(|_| ());
    assert_eq!(server.get(&format!("&token={}", "x".repeat(8000))).status, 200);
    assert_eq!(server.get(&format!("&token={}", "x".repeat(8200))).status, 400);
}

#[test]
fn a_session_is_read_by_get_and_written_by_post_alone() {
    let server = Server::start(|_| ());
    let sid = server.session();
    let query = format!("EIO=4&transport=polling&sid={sid}");
    assert_eq!(server.http("PUT", &query, "", "40").status, 400);
    assert_eq!(server.http("DELETE", &query, "", "").status, 400);
    assert_eq!(server.post(&sid, "40").status, 200);
}

#[test]
fn the_first_ping_comes_after_the_interval() {
    let server = Server::start(quick);
    let start = Instant::now();
    let sid = server.session();
    assert_eq!(server.poll(&sid).body, "2");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[test]
fn a_poller_that_answers_pings_stays() {
    let server = Server::start(|options| options.ping_interval = Duration::from_millis(50));
    let sid = server.poller();
    for _ in 0..4 {
        assert_eq!(server.poll(&sid).body, "2");
        assert_eq!(server.post(&sid, "3").body, "ok");
    }
    assert!(server.nobody_left());
}

#[test]
fn a_poller_that_does_not_is_gone_even_while_no_get_waits() {
    let server = Server::start(quick);
    let sid = server.poller();
    server.pause(501);
    assert_eq!(server.poll(&sid).status, 400);
    assert_eq!(server.disconnect(), "/ ping timeout");
}

#[test]
fn a_waiting_get_is_told_of_the_ping_timeout() {
    let server = Server::start(quick);
    let sid = server.poller();
    assert_eq!(server.poll(&sid).body, "2");
    assert_eq!(server.poll(&sid).body, "1");
    assert_eq!(server.poll(&sid).status, 400);
}

#[test]
fn all_that_waits_comes_in_one_answer() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let events = [r#"42["echo",1]"#, r#"42["echo",2]"#, r#"421["ack-binary"]"#].join("\x1e");
    assert_eq!(server.post(&sid, &events).body, "ok");
    let wanted =
        [r#"42["echo",1]"#, r#"42["echo",2]"#, r#"461-1[{"_placeholder":true,"num":0}]"#, "bAQI="];
    assert_eq!(server.poll(&sid).body, wanted.join("\x1e"));
}

#[test]
fn binary_comes_as_base64() {
    let server = Server::start(|_| ());
    let [sid, other] = [server.poller(), server.poller()];
    let event = "451-[\"say\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==";
    assert_eq!(server.post(&sid, event).body, "ok");
    let wanted = "451-[\"said\",{\"_placeholder\":true,\"num\":0}]\x1ebAQIDBA==";
    assert_eq!(server.poll(&other).body, wanted);
}

#[test]
fn two_gets_end_the_session() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let first = server.begin("GET", &format!("EIO=4&transport=polling&sid={sid}"), "", "");
    server.pause(50);
    assert_eq!(server.poll(&sid).status, 400);
    let first = first.finish();
    assert_eq!((first.status, first.body.as_str()), (200, "1"));
    assert_eq!(server.poll(&sid).status, 400);
    assert_eq!(server.disconnect(), "/ transport error");
}

#[test]
fn a_get_taken_back_ends_the_session() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let get = server.begin("GET", &format!("EIO=4&transport=polling&sid={sid}"), "", "");
    server.pause(50);
    get.cancel();
    assert_eq!(server.disconnect(), "/ transport close");
    assert_eq!(server.poll(&sid).status, 400);
}

#[test]
fn two_posts_end_the_session() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n4"
    );
    let mut half = server.stream();
    half.write_all(head.as_bytes()).unwrap();
    server.pause(50);
    assert_eq!(server.post(&sid, "42[\"echo\"]").status, 400);
    assert_eq!(server.disconnect(), "/ transport error");
    assert_eq!(server.poll(&sid).status, 400);
}

#[test]
fn a_body_that_does_not_come_is_not_waited_for() {
    let server = Server::start(|options| options.body_timeout = Duration::from_millis(50));
    let sid = server.poller();
    let head = format!(
        "POST /socket.io/?EIO=4&transport=polling&sid={sid} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 10\r\n\r\n4"
    );
    let mut half = server.stream();
    half.write_all(head.as_bytes()).unwrap();
    assert_eq!(crate::support::Pending(half).finish().status, 408);
}

#[test]
fn a_close_packet_lets_the_waiting_get_go() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let get = server.begin("GET", &format!("EIO=4&transport=polling&sid={sid}"), "", "");
    server.pause(50);
    assert_eq!(server.post(&sid, "1").body, "ok");
    assert_eq!(get.finish().body, "6");
    assert_eq!(server.poll(&sid).status, 400);
    assert_eq!(server.disconnect(), "/ transport close");
}

/// POST bodies that end the session, with the reason the service hears.
#[test]
fn what_is_not_a_packet_ends_the_session() {
    let server = Server::start(|_| ());
    let many = vec!["3"; 65].join("\x1e");
    let table = [
        ("abc", "parse error"),
        ("", "parse error"),
        ("0{}", "parse error"),
        ("b!", "parse error"),
        ("bAQI=", "parse error"),
        ("2", "transport error"),
        ("42[\"echo\"]\x1e", "parse error"),
        ("4", "parse error"),
        (many.as_str(), "parse error"),
    ];
    for (body, reason) in table {
        let sid = server.poller();
        assert_eq!(server.post(&sid, body).status, 400, "{body}");
        assert_eq!(server.disconnect(), format!("/ {reason}"), "{body}");
        assert_eq!(server.poll(&sid).status, 400, "{body}");
    }
}

#[test]
fn as_many_packets_as_allowed_pass() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    assert_eq!(server.post(&sid, &vec!["42[\"echo\"]"; 64].join("\x1e")).status, 200);
    assert_eq!(server.poll(&sid).body, vec!["42[\"echo\"]"; 64].join("\x1e"));
}

#[test]
fn binary_bodies_of_version_3_are_refused() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let query = format!("EIO=4&transport=polling&sid={sid}");
    let headers = "content-type: application/octet-stream\r\n";
    assert_eq!(server.http("POST", &query, headers, "40").status, 400);
}

#[test]
fn a_session_that_connects_to_nothing_is_closed() {
    let server = Server::start(|options| options.connect_timeout = Duration::from_millis(50));
    let sid = server.session();
    assert_eq!(server.poll(&sid).body, "1");
    let connected = server.poller();
    server.pause(100);
    assert_eq!(server.post(&connected, "42[\"echo\"]").status, 200);
}

#[test]
fn a_refused_client_must_still_connect_in_time() {
    let server = Server::start(|options| options.connect_timeout = Duration::from_millis(100));
    let sid = server.session();
    assert_eq!(server.post(&sid, "40/denied,").body, "ok");
    assert!(server.poll(&sid).body.starts_with("44/denied,"));
    assert_eq!(server.poll(&sid).body, "1");
}

#[test]
fn sessions_are_bounded() {
    let server = Server::start(|options| options.sessions_max = 2);
    let first = server.poller();
    server.session();
    let reply = server.get("");
    assert_eq!((reply.status, reply.header("retry-after")), (503, Some("2")));
    assert_eq!(server.post(&first, "1").status, 200);
    server.until(|| server.get("").status == 200);
}

#[test]
fn payloads_are_text_and_not_cached() {
    let server = Server::start(|_| ());
    let reply = server.get("");
    assert_eq!(reply.header("content-type"), Some("text/plain; charset=utf-8"));
    assert_eq!(reply.header("cache-control"), Some("no-store"));
}

// === CORS ===

/// No header unless configured (CVE-2020-28481).
#[test]
fn other_pages_are_kept_out_by_default() {
    let server = Server::start(|_| ());
    let table = [
        ("", 200),
        ("origin: http://calls.test\r\n", 200),
        ("origin: http://evil.test\r\n", 403),
        ("origin: null\r\n", 403),
    ];
    for (headers, status) in table {
        let reply = server.http("GET", "EIO=4&transport=polling", headers, "");
        assert_eq!(reply.status, status, "{headers}");
        assert_eq!(reply.header("access-control-allow-origin"), None);
    }
}

#[test]
fn listed_pages_are_let_in() {
    let list = CorsOrigins::List(vec!["https://app.test".to_owned()]);
    let server = Server::start(|options| options.cors_origins = list);
    let from = |origin: &str| format!("origin: {origin}\r\n");
    let reply = server.http("GET", "EIO=4&transport=polling", &from("https://app.test"), "");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("access-control-allow-origin"), Some("https://app.test"));
    assert_eq!(reply.header("vary"), Some("origin"));
    let reply = server.http("GET", "EIO=4&transport=polling", &from("https://evil.test"), "");
    assert_eq!(reply.status, 403);
    assert_eq!(reply.body, r#"{"code":4,"message":"Forbidden"}"#);
    assert_eq!(reply.header("access-control-allow-origin"), None);
}

#[test]
fn a_preflight_is_answered() {
    let server = Server::start(|options| options.cors_origins = CorsOrigins::Any);
    let headers = "origin: http://a.test\r\naccess-control-request-method: POST\r\n\
                   access-control-request-headers: content-type\r\n";
    let reply = server.http("OPTIONS", "EIO=4&transport=polling", headers, "");
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"));
    assert_eq!(reply.header("access-control-allow-methods"), Some("get, post"));
    assert_eq!(reply.header("access-control-allow-headers"), Some("content-type"));
    let reply = server.http("GET", "EIO=4&transport=polling&sid=nope", headers, "");
    assert_eq!(reply.header("access-control-allow-origin"), Some("*"), "on errors as well");
}
