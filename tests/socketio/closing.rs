//! How connections end, and what whom is told.

use std::time::{Duration, Instant};

use call_service::socketio::packet::Packet;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::support::Server;

#[test]
fn a_client_put_out_of_a_namespace_keeps_its_connection() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("40/room,");
    client.text();
    client.send("42[\"leave\"]");
    // What it sent before it heard of that is passed over.
    client.send("42[\"echo\",1]");
    client.send("431[]");
    assert_eq!(client.text(), "41");
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
    client.send("42/room,[\"echo\",2]");
    assert_eq!(client.text(), "42/room,[\"echo\",2]");
    client.send("40");
    assert!(client.text().starts_with("40{"));
    client.is_alive();
}

#[test]
fn a_kicked_client_leaves_everything() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("40/room,");
    client.text();
    client.send("421[\"ack\"]");
    client.send("42[\"kick\"]");
    client.send("42/room,[\"echo\"]");
    assert_eq!(client.text(), "431[1,\"two\"]");
    assert_eq!(client.text(), "41");
    assert_eq!(client.text(), "41/room,");
    assert_eq!(client.closed(), Some(CloseCode::Normal));
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
    assert_eq!(server.disconnect(), "/room forced server close");
    server.until(|| server.endpoint.connections() == 0);
}

#[test]
fn a_client_can_be_put_out_from_any_thread() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    let outlet = server.outlet();
    assert!(outlet.is_connected());
    std::thread::spawn(move || outlet.disconnect(true)).join().unwrap();
    assert_eq!(client.text(), "41");
    client.closed();
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
    assert!(!server.outlet().is_connected());
    server.outlet().send(&Packet::event("late", &[]));
    server.outlet().disconnect(true);
}

#[test]
fn a_kicked_poller_gets_the_rest_with_its_next_get() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    server.outlet().send(&Packet::event("last", &[]));
    server.outlet().disconnect(true);
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
    assert_eq!(server.poll(&sid).body, "42[\"last\"]\x1e41");
    assert_eq!(server.poll(&sid).body, "1");
    assert_eq!(server.poll(&sid).status, 400);
}

#[test]
fn a_poller_that_asks_to_be_kicked_is_answered_politely() {
    let server = Server::start(|_| ());
    let sid = server.poller();
    assert_eq!(server.post(&sid, "42[\"kick\"]").body, "ok");
    assert_eq!(server.poll(&sid).body, "41");
    assert_eq!(server.poll(&sid).body, "1");
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
}

#[test]
fn whoever_goes_is_missed() {
    let server = Server::start(|_| ());
    drop(server.client());
    assert_eq!(server.disconnect(), "/ transport close");
    let mut client = server.client();
    client.send("1");
    client.closed();
    assert_eq!(server.disconnect(), "/ transport close");
    server.until(|| server.endpoint.connections() == 0);
    assert_eq!(server.service.hub.sockets(), 0);
}

#[test]
fn a_panic_in_the_service_ends_that_client_alone() {
    let server = Server::start(|_| ());
    let mut witness = server.client();
    let mut client = server.client();
    client.send("42[\"panic\"]");
    client.closed();
    assert_eq!(server.disconnect(), "/ transport error");
    let mut client = server.client();
    client.send("40/panic,");
    client.closed();
    assert_eq!(server.disconnect(), "/ transport error");
    let sid = server.poller();
    assert_eq!(server.post(&sid, "42[\"panic\"]").status, 400);
    assert_eq!(server.disconnect(), "/ transport error");
    witness.is_alive();
}

#[test]
fn a_restart_tells_everyone_and_loses_nothing() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    let mut idle = server.engine();
    let poller = server.poller();
    let waiting = server.begin("GET", &format!("EIO=4&transport=polling&sid={poller}"), "", "");
    let late = server.poller();
    server.outlet().send(&Packet::event("last", &[]));
    server.pause(30);
    client.send("42[\"flood\",20,1000]");
    client.send("42[\"echo\",1]");
    assert!(client.text().starts_with("42[\"flood\",0,"));
    let endpoint = std::sync::Arc::clone(&server.endpoint);
    let drained = server.runtime.spawn(async move { endpoint.drain(Duration::ZERO).await });
    for index in 1..20 {
        assert!(client.text().starts_with(&format!("42[\"flood\",{index},")));
    }
    assert_eq!(client.text(), "42[\"echo\",1]");
    assert_eq!(client.closed(), Some(CloseCode::Away));
    assert_eq!(idle.closed(), Some(CloseCode::Away));
    assert_eq!(waiting.finish().body, "1");
    assert_eq!(server.poll(&late).body, "42[\"last\"]");
    assert_eq!(server.poll(&late).body, "1");
    for _ in 0..3 {
        assert_eq!(server.disconnect(), "/ server shutting down");
    }
    assert_eq!(server.get("").status, 503);
    server.runtime.block_on(drained).unwrap();
    assert_eq!(server.endpoint.connections(), 0);
}

#[test]
fn a_restart_spreads_the_clients_over_time() {
    let server = Server::start(|_| ());
    let mut clients: Vec<_> = (0..10).map(|_| server.client()).collect();
    let endpoint = std::sync::Arc::clone(&server.endpoint);
    let spread = Duration::from_millis(200);
    let start = Instant::now();
    server.runtime.spawn(async move { endpoint.drain(spread).await });
    let mut first = None;
    for client in &mut clients {
        assert_eq!(client.closed(), Some(CloseCode::Away));
        first.get_or_insert_with(|| start.elapsed());
    }
    assert!(start.elapsed() >= spread * 9 / 10, "all within {:?}", start.elapsed());
}
