//! Socket.IO: packets, namespaces, rooms.

use std::time::Duration;

use call_service::socketio::packet::Packet;

use crate::support::Server;

/// What is sent in the main namespace, and that it ends the connection as a parse error.
#[test]
fn what_is_not_a_packet_closes_the_connection() {
    let server = Server::start(|_| ());
    let deep = format!("42[\"echo\",{}{}]", "[".repeat(100_000 / 4), "]".repeat(100_000 / 4));
    let endless = format!("45{}-", "9".repeat(10_000));
    let table: &[&str] = &[
        "4",
        "4abc",
        "42",
        "42{}",
        "42abc[\"echo\"]",
        "42[",
        "42[]",
        "42[\"echo\"]x",
        "42[{\"toString\":\"foo\"}]",
        "42[null]",
        "42[[]]",
        "42[\"connect\"]",
        "42[\"connect_error\"]",
        "42[\"disconnect\"]",
        "42[\"disconnecting\",\"transport close\"]",
        "42[\"newListener\"]",
        "42[\"removeListener\"]",
        "42[\"\\u0063onnect\"]",
        "42[\"echo\",\"\u{7}\"]",
        "429999999999999999[\"echo\"]",
        "42/room,[\"echo\"]",
        "42/room",
        "40",
        "40/room,[]",
        "40/room,null",
        "40/room,{",
        "40/room,1{}",
        "41{\"a\":1}",
        "41/room,",
        "43[]",
        "43",
        "44{\"message\":\"x\"}",
        "45[\"echo\"]",
        "450-[\"echo\"]",
        "45-1-[\"echo\"]",
        "451[\"echo\"]",
        "4511-[\"echo\",{\"_placeholder\":true,\"num\":0}]",
        "451-[\"echo\",{\"_placeholder\":true,\"num\":7}]",
        "451-[\"echo\",{\"_placeholder\":true,\"num\":\"splice\"}]",
        "451-[\"echo\",{\"_placeholder\":true}]",
        "461-[{\"_placeholder\":true,\"num\":1}]",
        "47",
        "4\u{1F600}",
        &deep,
        &endless,
    ];
    for packet in table {
        let mut client = server.client();
        client.send(packet);
        client.closed();
        assert_eq!(server.disconnect(), "/ parse error", "{packet:.60}");
    }
}

/// What is sent right after the Engine.IO handshake, and closes the connection.
#[test]
fn the_first_packet_must_be_a_connect() {
    let server = Server::start(|_| ());
    for packet in ["42[\"echo\"]", "41", "431[]", "44{}", "4x", "x"] {
        let mut client = server.engine();
        client.send(packet);
        client.closed();
    }
    server.until(|| server.endpoint.connections() == 0);
    assert!(server.nobody_left());
}

#[test]
fn without_a_connect_in_time_the_connection_is_closed() {
    let server = Server::start(|options| options.connect_timeout = Duration::from_millis(60));
    server.engine().closed();
    let mut client = server.client();
    server.pause(100);
    client.is_alive();
}

/// What is sent, and what comes back.
type Row<'a> = (&'a str, Option<&'a str>);

/// The connection lives on.
#[test]
fn what_is_allowed() {
    let server = Server::start(|_| ());
    let long = format!("42[\"echo\",\"{}\"]", "ä".repeat(30_000));
    let table: &[Row<'_>] = &[
        ("42[\"echo\"]", Some("42[\"echo\"]")),
        ("42[\"echo\", 1.50 ,{\"a\" : [1]}]", Some("42[\"echo\",1.50,{\"a\" : [1]}]")),
        ("42[\"echo\",1,2,3,4,5,6,7,8,9]", Some("42[\"echo\",1,2,3,4,5,6,7,8,9]")),
        ("42[\"echo\",9007199254740993]", Some("42[\"echo\",9007199254740993]")),
        (
            "42[\"echo\",\"\u{1F600}\u{2028}\\ud800\"]",
            Some("42[\"echo\",\"\u{1F600}\u{2028}\\ud800\"]"),
        ),
        ("42/,[\"echo\"]", Some("42[\"echo\"]")),
        (&long, Some(&long)),
        ("420[\"ack\"]", Some("430[1,\"two\"]")),
        ("42123456789012345[\"ack\"]", Some("43123456789012345[1,\"two\"]")),
        ("42[7,1]", None),
        ("42[\"nobody-listens\"]", None),
        ("42[\"error\",\"x\"]", None),
        ("42[\"\"]", None),
        ("43999[]", None),
        ("3", None),
        ("6", None),
    ];
    let mut client = server.client();
    for (packet, answer) in table {
        client.send(packet);
        if let Some(answer) = answer {
            assert_eq!(client.text(), *answer, "{packet:.60}");
        }
        client.is_alive();
    }
}

#[test]
fn a_text_where_an_attachment_is_due_closes_the_connection() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("451-[\"echo\",{\"_placeholder\":true,\"num\":0}]");
    client.send("42[\"echo\"]");
    client.closed();
    assert_eq!(server.disconnect(), "/ parse error");
    let mut client = server.client();
    client.send_binary(&[1, 2, 3]);
    client.closed();
    assert_eq!(server.disconnect(), "/ parse error");
}

#[test]
fn attachments_stay_with_their_event() {
    let server = Server::start(|_| ());
    let [mut sender, mut receiver] = [server.client(), server.client()];
    let swapped =
        "[\"say\",{\"a\":{\"_placeholder\":true,\"num\":1}},{\"_placeholder\":true,\"num\":0}]";
    for index in 0..20_u8 {
        sender.send(&format!("452-{swapped}"));
        sender.send_binary(&[index]);
        sender.send_binary(&[]);
        sender.send(&format!("42[\"say\",{index}]"));
    }
    for index in 0..20_u8 {
        assert_eq!(receiver.text(), format!("452-{}", swapped.replace("say", "said")));
        assert_eq!(receiver.binary(), [index]);
        assert_eq!(receiver.binary(), [0_u8; 0]);
        assert_eq!(receiver.text(), format!("42[\"said\",{index}]"));
    }
}

#[test]
fn b64_asks_for_attachments_as_text() {
    let server = Server::start(|_| ());
    let mut receiver = server.websocket("&b64=1");
    receiver.text();
    receiver.send("40");
    receiver.text();
    let mut sender = server.client();
    sender.send("451-[\"say\",{\"_placeholder\":true,\"num\":0}]");
    sender.send_binary(&[1, 2, 3, 4]);
    assert_eq!(receiver.text(), "451-[\"said\",{\"_placeholder\":true,\"num\":0}]");
    assert_eq!(receiver.text(), "bAQIDBA==");
    receiver.send("451-[\"say\",{\"_placeholder\":true,\"num\":0}]");
    receiver.send("bAQI=");
    assert!(sender.text().starts_with("451-"));
    assert_eq!(sender.binary(), [1, 2]);
}

#[test]
fn namespaces_come_and_go_by_themselves() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    for _ in 0..3 {
        client.send("40/room,{\"token\":\"x\"}");
        assert!(client.text().starts_with("40/room,{\"sid\":\""));
        client.send("42/room,7[\"ack\"]");
        assert_eq!(client.text(), "43/room,7[1,\"two\"]");
        server.outlet().send(&Packet::event("hello", &["1"]));
        assert_eq!(client.text(), "42/room,[\"hello\",1]");
        client.send("41/room,");
        assert_eq!(server.disconnect(), "/room client namespace disconnect");
    }
    client.is_alive();
}

#[test]
fn refusals_say_why_and_leave_the_connection_open() {
    let server = Server::start(|options| options.namespaces_per_connection_max = 2);
    let mut client = server.client();
    let table = [
        ("40/nope,", "44/nope,{\"message\":\"Invalid namespace\"}"),
        ("40/nope", "44/nope,{\"message\":\"Invalid namespace\"}"),
        ("40/denied,{}", "44/denied,{\"message\":\"\\\"denied\\\"\",\"data\":{\"code\":7}}"),
    ];
    for (packet, answer) in table {
        client.send(packet);
        assert_eq!(client.text(), answer);
    }
    client.send("40/room1,");
    assert!(client.text().starts_with("40/room1,"));
    client.send("40/room2,");
    assert_eq!(client.text(), "44/room2,{\"message\":\"Too many namespaces\"}");
    client.is_alive();
    client.send(&format!("40/{},", "x".repeat(64)));
    client.closed();
}

#[test]
fn socket_ids_are_not_session_ids() {
    let server = Server::start(|_| ());
    let mut client = server.websocket("");
    let sid = client.text().split('"').nth(3).unwrap().to_owned();
    client.send("40");
    let connected = client.text();
    assert_eq!(connected.split('"').nth(3).unwrap().len(), 22);
    assert!(!connected.contains(&sid));
}

#[test]
fn a_room_reaches_both_transports() {
    let server = Server::start(|_| ());
    let [mut sender, mut receiver] = [server.client(), server.client()];
    let poller = server.poller();
    assert_eq!(server.service.hub.count("all"), 3);
    assert_eq!(server.service.hub.sockets(), 3);
    sender.send("42[\"say\",{\"x\":1}]");
    assert_eq!(receiver.text(), "42[\"said\",{\"x\":1}]");
    assert_eq!(server.poll(&poller).body, "42[\"said\",{\"x\":1}]");
    assert!(sender.silent_for(20));
    server.service.hub.send("all", &Packet::event("all", &[]));
    assert_eq!(sender.text(), "42[\"all\"]");
    assert_eq!(receiver.text(), "42[\"all\"]");
    assert_eq!(server.poll(&poller).body, "42[\"all\"]");
    drop(receiver);
    assert_eq!(server.disconnect(), "/ transport close");
    assert_eq!(server.service.hub.outlets("all").len(), 2);
    let mut rooms = Vec::new();
    server.service.hub.for_each_room(|room, count| rooms.push((room.to_owned(), count)));
    assert_eq!(rooms, [("all".to_owned(), 2)]);
}

#[test]
fn volatile_events_are_dropped_unless_they_can_leave_at_once() {
    let server = Server::start(|_| ());
    let poller = server.poller();
    let outlet = server.outlet();
    outlet.send_volatile(&Packet::event("lost", &[]));
    let get = server.begin("GET", &format!("EIO=4&transport=polling&sid={poller}"), "", "");
    server.pause(50);
    outlet.send_volatile(&Packet::event("seen", &[]));
    assert_eq!(get.finish().body, "42[\"seen\"]");
    let mut client = server.client();
    server.outlet().send_volatile(&Packet::event("seen", &[]));
    assert_eq!(client.text(), "42[\"seen\"]");
}

#[test]
fn a_burst_is_answered_in_order() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    for index in 0..500 {
        client.send(&format!("42[\"echo\",{index}]"));
        client.send(&format!("42{index}[\"ack\"]"));
    }
    for index in 0..500 {
        assert_eq!(client.text(), format!("42[\"echo\",{index}]"));
        assert_eq!(client.text(), format!("43{index}[1,\"two\"]"));
    }
}
