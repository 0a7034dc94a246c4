//! From polling to a websocket, with nothing lost, doubled or out of order.

use std::time::Duration;

use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::{Carrier, Client, Server};

fn probe(server: &Server, sid: &str) -> Client {
    let mut probe = server.websocket(&format!("&sid={sid}"));
    probe.send("2probe");
    assert_eq!(probe.text(), "3probe");
    probe
}

fn get(sid: &str) -> String {
    format!("EIO=4&transport=polling&sid={sid}")
}

#[test]
fn every_get_is_let_go_until_the_websocket_has_taken_over() {
    for carrier in [Carrier::Tcp, Carrier::Wrapped] {
        let server = Server::start_on(carrier, |_| ());
        let sid = server.poller();
        let waiting = server.begin("GET", &get(&sid), "", "");
        server.pause(30);
        let mut client = probe(&server, &sid);
        assert_eq!(waiting.finish().body, "6");
        assert_eq!(server.poll(&sid).body, "6");
        assert_eq!(server.poll(&sid).body, "6");
        client.send("5");
        client.is_alive();
        assert_eq!(server.poll(&sid).status, 400);
        assert_eq!(server.post(&sid, "42[\"echo\"]").status, 400);
        client.is_alive();
    }
}

#[test]
fn what_waits_for_a_poll_follows_on_the_websocket() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let mut client = probe(&server, &sid);
    server.post(&sid, "42[\"echo\",1]\x1e421[\"ack-binary\"]");
    client.send("5");
    client.send("42[\"echo\",2]");
    assert_eq!(client.text(), "42[\"echo\",1]");
    assert_eq!(client.text(), "461-1[{\"_placeholder\":true,\"num\":0}]");
    assert_eq!(client.binary(), [1, 2]);
    assert_eq!(client.text(), "42[\"echo\",2]");
}

#[test]
fn nothing_is_lost_doubled_or_reordered_while_another_sends() {
    let server = Server::start(|_| ());
    for _ in 0..10 {
        let sid = server.poller();
        let outlet = server.outlet();
        let sender = server.runtime.spawn(async move {
            for index in 0..200 {
                outlet.send_event("n", |out| out.extend_from_slice(index.to_string().as_bytes()));
                tokio::task::yield_now().await;
            }
        });
        let mut got = Vec::new();
        let mut client = probe(&server, &sid);
        loop {
            match server.poll(&sid).body.as_str() {
                "6" => break,
                body => got.extend(body.split('\x1e').map(str::to_owned)),
            }
        }
        client.send("5");
        while got.len() < 200 {
            got.push(client.text());
        }
        server.runtime.block_on(sender).unwrap();
        let wanted: Vec<_> = (0..200).map(|it| format!("42[\"n\",{it}]")).collect();
        assert_eq!(got, wanted);
        assert!(client.silent_for(20));
    }
}

#[test]
fn a_second_websocket_is_closed_and_the_first_goes_on() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let mut client = probe(&server, &sid);
    client.send("5");
    client.is_alive();
    server.websocket(&format!("&sid={sid}")).closed();
    client.is_alive();
    let mut direct = server.websocket("");
    let handshake = direct.text();
    let sid = handshake.split('"').nth(3).unwrap();
    server.websocket(&format!("&sid={sid}")).closed();
    assert_eq!(server.poll(sid).status, 400);
    direct.send("40");
    assert!(direct.text().starts_with("40"));
}

#[test]
fn one_kicked_during_the_upgrade_hears_of_it_on_the_websocket() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let mut client = probe(&server, &sid);
    assert_eq!(server.post(&sid, "42[\"echo\"]\x1e42[\"kick\"]").body, "ok");
    client.send("5");
    assert_eq!(client.text(), "42[\"echo\"]");
    assert_eq!(client.text(), "41");
    assert_eq!(client.closed(), Some(CloseCode::Normal));
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
    server.until(|| server.endpoint.connections() == 0);
}

#[test]
fn one_probe_at_a_time() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    let mut first = probe(&server, &sid);
    let mut second = server.websocket(&format!("&sid={sid}"));
    second.send("2probe");
    second.closed();
    first.send("5");
    first.is_alive();
}

/// What a probe may say wrongly; each closes the probe and not the session.
#[test]
fn a_failed_probe_leaves_the_session_polling() {
    let server = Server::start(|_| ());
    for says in [&["4hello"][..], &["5"], &["2"], &["2probe", "2probe"], &["2probe", "4"], &["x"]] {
        let sid = server.poller();
        let mut probe = server.websocket(&format!("&sid={sid}"));
        for text in says {
            probe.send(text);
        }
        probe.closed();
        assert_eq!(server.post(&sid, "42[\"echo\"]").status, 200, "{says:?}");
        server.until(|| server.poll(&sid).body == "42[\"echo\"]");
        // Another one may try.
        let mut next = server.websocket(&format!("&sid={sid}"));
        next.send("2probe");
        assert_eq!(next.text(), "3probe", "{says:?}");
        next.send("5");
        next.is_alive();
    }
}

#[test]
fn an_abandoned_probe_leaves_the_session_polling() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    drop(probe(&server, &sid));
    server.pause(30);
    server.post(&sid, "42[\"echo\"]");
    assert_eq!(server.poll(&sid).body, "42[\"echo\"]");
}

#[test]
fn a_probe_that_says_nothing_is_closed_in_time() {
    let server = Server::start(|options| options.upgrade_timeout = Duration::from_millis(400));
    let sid = server.poller();
    server.websocket(&format!("&sid={sid}")).closed();
    let mut half = probe(&server, &sid);
    half.closed();
    server.until(|| server.post(&sid, "42[\"echo\"]").status == 200);
    assert_eq!(server.poll(&sid).body, "42[\"echo\"]");
}

#[test]
fn the_version_must_be_the_sessions() {
    let server = Server::start(|_| ());
    let sid = server.session();
    let headers = "upgrade: websocket\r\n";
    let query = format!("EIO=3&transport=websocket&sid={sid}");
    let reply = server.http("GET", &query, headers, "");
    assert_eq!(reply.body, r#"{"code":5,"message":"Unsupported protocol version"}"#);
}

#[test]
fn a_websocket_offers_no_upgrade() {
    let server = Server::start(|_| ());
    assert!(server.websocket("").text().contains(r#""upgrades":[]"#));
}
