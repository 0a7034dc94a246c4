//! Acks in both directions.

use call_service::socketio::packet::Packet;

use crate::support::{PATIENCE, Server};

#[test]
fn an_ack_may_come_late_and_from_another_thread() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("4212[\"hold\"]");
    client.is_alive();
    let ack = server.service.held.lock().take().unwrap();
    std::thread::spawn(move || ack.send(r#"{"success":true}"#)).join().unwrap();
    assert_eq!(client.text(), "4312[{\"success\":true}]");
}

#[test]
fn an_ack_for_one_who_left_goes_nowhere() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("4212[\"hold\"]");
    client.is_alive();
    drop(client);
    assert_eq!(server.disconnect(), "/ transport close");
    let ack = server.service.held.lock().take().unwrap();
    ack.send("1");
    server.client().is_alive();
}

#[test]
fn an_ack_may_carry_attachments() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("425[\"ack-binary\"]");
    assert_eq!(client.text(), "461-5[{\"_placeholder\":true,\"num\":0}]");
    assert_eq!(client.binary(), [1, 2]);
}

#[test]
fn the_client_is_asked_and_answers_once() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    for id in 0..3 {
        client.send("42[\"ask-patiently\"]");
        assert_eq!(client.text(), format!("42{id}[\"question\"]"));
        client.send(&format!("43{id}[\"a\",{{\"b\":1}}]"));
        client.send(&format!("43{id}[\"again\"]"));
        assert_eq!(server.reply(), "\"a\",{\"b\":1}");
    }
    client.is_alive();
}

#[test]
fn a_client_that_does_not_answer_is_not_waited_for() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("42[\"ask\"]");
    assert_eq!(server.reply(), "no ack in time");
    client.text();
    client.send("430[1]");
    client.is_alive();
}

#[test]
fn a_client_that_leaves_will_not_answer() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("42[\"ask-patiently\"]");
    client.text();
    client.send("41");
    assert_eq!(server.reply(), "disconnected before the ack");
    assert_eq!(server.disconnect(), "/ client namespace disconnect");
    client.send("40");
    client.text();
    client.send("42[\"ask-patiently\"]");
    client.text();
    drop(client);
    assert_eq!(server.reply(), "disconnected before the ack");
}

#[test]
fn awaited_acks_are_bounded() {
    let server = Server::start(|options| options.pending_acks_max = 2);
    let mut client = server.client();
    for _ in 0..3 {
        client.send("42[\"ask-patiently\"]");
    }
    assert_eq!(server.reply(), "too many acks awaited");
    client.text();
    client.send("430[]");
    assert_eq!(server.reply(), "");
    client.send("42[\"ask-patiently\"]");
    assert_eq!(client.text(), "421[\"question\"]");
    assert_eq!(client.text(), "422[\"question\"]");
}

#[test]
fn nobody_is_asked_who_has_gone() {
    let server = Server::start(|_| ());
    drop(server.client());
    server.disconnect();
    let (said, replies) = std::sync::mpsc::channel();
    server.outlet().emit_with_ack(&Packet::event("question", &[]), PATIENCE, move |reply| {
        said.send(reply.map(|_| ()).unwrap_err().to_string()).unwrap();
    });
    assert_eq!(replies.recv_timeout(PATIENCE).unwrap(), "disconnected before the ack");
}
