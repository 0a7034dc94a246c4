//! Receivers that do not read: bounded, in order, and never at the cost of others.

use std::time::{Duration, Instant};

use call_service::socketio::packet::Packet;

use crate::support::{Carrier, Client, Server};

/// Bytes of an event; the kernel's buffers take some hundreds of these.
const EVENT_BYTES: usize = 16 * 1024;

fn send(server: &Server, count: usize) {
    let outlet = server.outlet();
    let filler = format!("\"{}\"", "z".repeat(EVENT_BYTES));
    for index in 0..count {
        outlet.send(&Packet::event("n", &[&index.to_string(), &filler]));
    }
}

fn read(client: &mut Client, count: usize) {
    for index in 0..count {
        let text = client.text();
        assert!(text.starts_with(&format!("42[\"n\",{index},")), "{text:.30} for {index}");
        assert_eq!(text.len(), EVENT_BYTES + 11 + index.to_string().len());
    }
}

#[test]
fn a_backlog_is_delivered_in_order_and_whole() {
    for carrier in [Carrier::Tcp, Carrier::Wrapped] {
        let server = Server::start_on(carrier, |options| options.queue_bytes_max = 64 << 20);
        let mut client = server.client();
        // Far more than two sockets' buffers hold.
        send(&server, 1500);
        assert!(!server.service.hub.outlets("all").is_empty());
        client.send("421[\"ack\"]");
        read(&mut client, 1500);
        assert_eq!(client.text(), "431[1,\"two\"]");
        // The drainer has gone: the next write is direct again.
        client.is_alive();
        assert!(server.nobody_left());
    }
}

#[test]
fn many_senders_to_one_receiver_keep_each_their_order() {
    let server = Server::start(|options| options.queue_bytes_max = 64 << 20);
    let mut client = server.client();
    let filler = "f".repeat(2000);
    let senders: Vec<_> = (0..4)
        .map(|sender| {
            let (outlet, filler) = (server.outlet(), filler.clone());
            std::thread::spawn(move || {
                for index in 0..1000 {
                    let args =
                        [&*format!("{sender}"), &*format!("{index}"), &*format!("\"{filler}\"")];
                    outlet.send(&Packet::event("n", &args));
                }
            })
        })
        .collect();
    let mut next = [0; 4];
    for _ in 0..4000 {
        let text = client.text();
        let mut parts = text.split(',');
        let sender: usize = parts.nth(1).unwrap().parse().unwrap();
        let index: usize = parts.next().unwrap().parse().unwrap();
        assert_eq!(index, next[sender], "sender {sender}");
        next[sender] += 1;
    }
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn one_that_does_not_read_is_disconnected_and_others_do_not_notice() {
    for carrier in [Carrier::Tcp, Carrier::Wrapped] {
        let server = Server::start_on(carrier, |options| options.queue_bytes_max = 64 << 10);
        let mut witness = server.client();
        let mut slow = server.client();
        slow.send("42[\"echo\"]");
        slow.text();
        let start = Instant::now();
        send(&server, 2000);
        assert_eq!(server.disconnect(), "/ slow consumer");
        assert!(start.elapsed() < Duration::from_secs(5));
        witness.is_alive();
        server.until(|| server.endpoint.connections() == 1);
        slow.closed();
    }
}

#[test]
fn one_whose_socket_takes_nothing_for_long_is_disconnected() {
    for carrier in [Carrier::Tcp, Carrier::Wrapped] {
        let server = Server::start_on(carrier, |options| {
            options.queue_bytes_max = 64 << 20;
            options.write_timeout = Duration::from_millis(200);
        });
        let mut slow = server.client();
        send(&server, 1500);
        assert_eq!(server.disconnect(), "/ slow consumer");
        slow.closed();
    }
}

#[test]
fn a_poller_that_does_not_poll_is_disconnected() {
    let server = Server::start(|options| options.queue_bytes_max = 64 << 10);
    let sid = server.poller();
    send(&server, 10);
    assert_eq!(server.disconnect(), "/ slow consumer");
    assert_eq!(server.poll(&sid).status, 400);
}

#[test]
fn one_that_asks_for_more_than_it_reads_is_disconnected() {
    let server = Server::start(|options| options.queue_bytes_max = 64 << 10);
    let mut witness = server.client();
    let mut greedy = server.client();
    greedy.send("42[\"flood\",2000,16000]");
    assert_eq!(server.disconnect(), "/ slow consumer");
    greedy.closed();
    witness.is_alive();
}

#[test]
fn a_kicked_client_gets_its_backlog_first() {
    let server = Server::start(|options| options.queue_bytes_max = 64 << 20);
    let mut client = server.client();
    send(&server, 800);
    server.outlet().disconnect(true);
    read(&mut client, 800);
    assert_eq!(client.text(), "41");
    client.closed();
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
}
