//! The websocket below: frames, fragments, close codes.

use std::io::{Read, Write};
use std::time::Duration;

use tungstenite::Message;
use tungstenite::protocol::frame::Frame;
use tungstenite::protocol::frame::coding::{CloseCode, Data, OpCode};

use crate::support::{Carrier, Server};

/// A masked frame with a mask of zeros.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let length = u8::try_from(payload.len()).ok().filter(|it| *it < 126).expect("a short payload");
    [&[first, 0x80 | length, 0, 0, 0, 0], payload].concat()
}

/// A title, bytes, and a code.
type Row<'a> = (&'a str, &'a [u8], CloseCode);

/// Bytes that break the rules of RFC 6455, and the code the server closes with.
#[test]
fn broken_frames_are_answered_with_a_code() {
    let server = Server::start(|options| options.max_payload = 1000);
    let fragments = [frame(0x01, b"4"), frame(0x00, b"x").repeat(64)].concat();
    let large = [&[0x81, 0xfe, 0x03, 0xe9, 0, 0, 0, 0][..], &[b'x'; 1001]].concat();
    let in_parts = [frame(0x01, &[b'4'; 100]), frame(0x00, &[b'x'; 100]).repeat(10)].concat();
    let table: &[Row<'_>] = &[
        ("unmasked", &[0x81, 0x01, b'3'], CloseCode::Protocol),
        ("a reserved bit", &frame(0xc1, b"3"), CloseCode::Protocol),
        ("a reserved opcode", &frame(0x83, b""), CloseCode::Protocol),
        ("a reserved control opcode", &frame(0x8f, b""), CloseCode::Protocol),
        ("a fragmented ping", &frame(0x09, b""), CloseCode::Protocol),
        ("a long ping", &[0x89, 0xfe, 0, 126, 0, 0, 0, 0], CloseCode::Protocol),
        ("a continuation of nothing", &frame(0x80, b"x"), CloseCode::Protocol),
        (
            "text amid fragments",
            &[frame(0x01, b"4"), frame(0x81, b"3")].concat(),
            CloseCode::Protocol,
        ),
        ("not UTF-8", &frame(0x81, &[0xc3, 0x28]), CloseCode::Invalid),
        ("too large", &large, CloseCode::Size),
        (
            "too large by its header alone",
            &[0x81, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
            CloseCode::Size,
        ),
        ("too large in parts", &in_parts, CloseCode::Size),
        ("too many parts", &fragments, CloseCode::Policy),
    ];
    for (title, bytes, code) in table {
        let mut client = server.client();
        client.send_raw(bytes);
        assert_eq!(client.closed(), Some(*code), "{title}");
        assert_eq!(server.disconnect(), "/ transport error", "{title}");
    }
}

#[test]
fn a_message_of_exactly_the_limit_passes() {
    let server = Server::start(|options| options.max_payload = 1000);
    let mut client = server.client();
    let event = format!("42[\"echo\",\"{}\"]", "x".repeat(1000 - 13));
    assert_eq!(event.len(), 1000);
    client.send(&event);
    assert_eq!(client.text(), event);
}

#[test]
fn fragments_make_one_message_even_around_a_ping() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send_raw(&frame(0x01, b"42[\"ec"));
    client.send_raw(&frame(0x89, b"hello"));
    client.send_raw(&frame(0x00, "ho\",\"\u{1F600}".as_bytes().split_at(7).0));
    assert!(matches!(client.0.read(), Ok(Message::Pong(data)) if data.as_ref() == b"hello"));
    client.send_raw(&frame(0x80, &["ho\",\"\u{1F600}".as_bytes().split_at(7).1, b"\"]"].concat()));
    assert_eq!(client.text(), "42[\"echo\",\"\u{1F600}\"]");
}

/// However the network cuts the stream, the events are the same.
#[test]
fn frames_may_arrive_in_any_pieces() {
    let server = Server::start(|_| ());
    let mut bytes = Vec::new();
    let texts: Vec<_> = [0, 100, 200, 70_000 / 2]
        .map(|length| format!("42[\"echo\",\"{}\"]", "y".repeat(length)))
        .into_iter()
        .collect();
    for text in &texts {
        let mut frame = Frame::message(text.clone(), OpCode::Data(Data::Text), true);
        frame.header_mut().mask = Some([1, 2, 3, 4]);
        frame.format(&mut bytes).unwrap();
    }
    for piece in [1, 2, 5, 7, 131, 1000, 1 << 20] {
        let mut client = server.client();
        // Byte by byte for the beginning alone: the long one would take its time.
        let (slow, fast) = bytes.split_at(400);
        for bytes in slow.chunks(piece) {
            client.send_raw(bytes);
        }
        for bytes in fast.chunks(piece.max(1000)) {
            client.send_raw(bytes);
        }
        for text in &texts {
            assert_eq!(client.text(), *text, "pieces of {piece}");
        }
    }
}

#[test]
fn frames_may_come_with_the_request() {
    let server = Server::start(|_| ());
    let mut stream = server.stream();
    let head = "GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nhost: x\r\nconnection: Upgrade\r\n\
                upgrade: websocket\r\nsec-websocket-version: 13\r\n\
                sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    let bytes = [head.as_bytes(), &frame(0x81, b"40"), &frame(0x81, b"42[\"echo\",1]")].concat();
    stream.write_all(&bytes).unwrap();
    let mut got = Vec::new();
    let mut buffer = [0; 1024];
    while !got.ends_with(b"\x81\x0c42[\"echo\",1]") {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "closed after {:?}", String::from_utf8_lossy(&got));
        got.extend_from_slice(&buffer[..read]);
    }
}

#[test]
fn a_close_is_answered() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.0.close(None).unwrap();
    assert_eq!(client.closed(), Some(CloseCode::Normal));
    assert_eq!(server.disconnect(), "/ transport close");
}

#[test]
fn pings_keep_a_websocket_and_silence_ends_it() {
    let server = Server::start(|options| {
        options.ping_interval = Duration::from_millis(50);
        options.ping_timeout = Duration::from_secs(1);
    });
    let mut client = server.client();
    for _ in 0..4 {
        assert!(matches!(client.0.read(), Ok(Message::Text(text)) if text.as_str() == "2"));
        client.send("3");
    }
    assert!(server.nobody_left());
    client.closed();
    assert_eq!(server.disconnect(), "/ ping timeout");
}

#[test]
fn a_client_must_not_ping() {
    let server = Server::start(|_| ());
    let mut client = server.client();
    client.send("2");
    client.closed();
    assert_eq!(server.disconnect(), "/ transport error");
}

#[test]
fn no_extension_is_agreed_on() {
    let server = Server::start(|_| ());
    let headers = "connection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
                   sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
                   sec-websocket-extensions: permessage-deflate\r\n";
    let query = "EIO=4&transport=websocket";
    let pending = server.begin("GET", query, headers, "");
    let mut stream = pending.0;
    let mut buffer = [0; 1024];
    let read = stream.read(&mut buffer).unwrap();
    let head = String::from_utf8_lossy(&buffer[..read]).to_lowercase();
    assert!(head.starts_with("http/1.1 101") && !head.contains("extensions"), "{head}");
    assert!(head.contains("sec-websocket-accept: s3pplmbitxaq9kygzzhzrbk+xoo="), "{head}");
}

#[test]
fn a_stream_that_is_not_tcp_does_the_same() {
    let server = Server::start_on(Carrier::Wrapped, |_| ());
    let mut client = server.client();
    for index in 0..200 {
        client.send(&format!("42[\"echo\",{index}]"));
    }
    for index in 0..200 {
        assert_eq!(client.text(), format!("42[\"echo\",{index}]"));
    }
    client.send("42[\"flood\",20,5000]");
    for index in 0..20 {
        assert!(client.text().starts_with(&format!("42[\"flood\",{index},")));
    }
    client.send("42[\"kick\"]");
    assert_eq!(client.text(), "41");
    assert_eq!(client.closed(), Some(CloseCode::Normal));
    assert_eq!(server.disconnect(), "/ server namespace disconnect");
}
