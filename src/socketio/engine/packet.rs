//! The Engine.IO v4 codec: packets as text, and how they are framed for each transport.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tungstenite::protocol::frame::coding::{Data, OpCode};

use crate::socketio::engine::frame;

/// Between the packets of one polling payload.
pub const SEPARATOR: u8 = 0x1e;
/// Releases a waiting GET.
pub const NOOP: &str = "6";
/// Tells a poller that the session is over.
pub const CLOSE: &str = "1";

/// A packet that a client may send, as text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// The client goes.
    Close,
    /// A ping with its payload; valid only as the probe of an upgrade.
    Ping(&'a str),
    /// The answer to a ping, or to a probe.
    Pong,
    /// A text message.
    Message(&'a str),
    /// The probe is over, the websocket takes over.
    Upgrade,
    /// Nothing.
    Noop,
    /// A binary message in base64, as in a polling payload.
    Base64(&'a str),
}

/// Reads one packet. `None` is not a packet that a client may send.
pub fn parse(text: &str) -> Option<Packet<'_>> {
    let mut chars = text.chars();
    let kind = chars.next()?;
    let rest = chars.as_str();
    match kind {
        '1' if rest.is_empty() => Some(Packet::Close),
        '2' => Some(Packet::Ping(rest)),
        '3' => Some(Packet::Pong),
        '4' => Some(Packet::Message(rest)),
        '5' if rest.is_empty() => Some(Packet::Upgrade),
        '6' if rest.is_empty() => Some(Packet::Noop),
        'b' => Some(Packet::Base64(rest)),
        _ => None,
    }
}

/// The bytes of a base64 packet; `None` if it is not base64.
pub fn decode_base64(text: &str) -> Option<Vec<u8>> {
    STANDARD.decode(text).ok()
}

/// The packets of a polling payload.
pub fn split(payload: &str) -> impl Iterator<Item = &str> {
    payload.split(char::from(SEPARATOR))
}

/// How packets are laid out for the transport of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    /// Websocket frames; binary as binary frames.
    Frames,
    /// Websocket frames; binary as base64 text, for clients that asked for `b64=1`.
    Base64Frames,
    /// A polling payload: packets joined by [`SEPARATOR`], binary as base64.
    Payload,
}

/// Appends one text packet that `fill` writes, its type digit included.
pub fn text(out: &mut Vec<u8>, framing: Framing, fill: impl FnOnce(&mut Vec<u8>)) {
    match framing {
        Framing::Frames | Framing::Base64Frames => {
            frame::append(out, OpCode::Data(Data::Text), fill);
        }
        Framing::Payload => {
            if !out.is_empty() {
                out.push(SEPARATOR);
            }
            fill(out);
        }
    }
}

/// Appends one binary message.
pub fn binary(out: &mut Vec<u8>, framing: Framing, data: &[u8]) {
    match framing {
        Framing::Frames => {
            frame::append(out, OpCode::Data(Data::Binary), |out| out.extend_from_slice(data));
        }
        Framing::Base64Frames | Framing::Payload => text(out, framing, |out| {
            out.push(b'b');
            out.extend_from_slice(STANDARD.encode(data).as_bytes());
        }),
    }
}

/// Turns a polling payload into websocket frames: what waited for a GET when the websocket took
/// over. `payload` is one this module wrote.
pub fn payload_to_frames(payload: &[u8], framing: Framing) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + 16);
    let packets = payload.split(|it| *it == SEPARATOR).filter(|it| !it.is_empty());
    for packet in packets {
        let data = packet.strip_prefix(b"b").and_then(|it| STANDARD.decode(it).ok());
        match (framing, data) {
            (Framing::Frames, Some(data)) => binary(&mut out, framing, &data),
            _ => text(&mut out, framing, |out| out.extend_from_slice(packet)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_of_clients() {
        let table = [
            ("1", Some(Packet::Close)),
            ("2", Some(Packet::Ping(""))),
            ("2probe", Some(Packet::Ping("probe"))),
            ("3", Some(Packet::Pong)),
            ("4", Some(Packet::Message(""))),
            ("4hello", Some(Packet::Message("hello"))),
            ("5", Some(Packet::Upgrade)),
            ("6", Some(Packet::Noop)),
            ("bAQI=", Some(Packet::Base64("AQI="))),
            ("", None),
            ("0", None),
            ("0{}", None),
            ("7", None),
            ("abc", None),
            ("1x", None),
            ("5x", None),
            ("\u{1F600}", None),
        ];
        for (text, wanted) in table {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn a_payload_joins_its_packets() {
        let mut out = Vec::new();
        text(&mut out, Framing::Payload, |out| out.extend_from_slice(b"4a"));
        binary(&mut out, Framing::Payload, &[1, 2, 3, 4]);
        text(&mut out, Framing::Payload, |out| out.push(b'2'));
        assert_eq!(out, b"4a\x1ebAQIDBA==\x1e2");
        assert_eq!(split("4a\x1e2").collect::<Vec<_>>(), ["4a", "2"]);
    }

    #[test]
    fn what_waited_for_a_poll_becomes_frames() {
        let frames = payload_to_frames(b"4a\x1ebAQIDBA==\x1e2", Framing::Frames);
        assert_eq!(frames, b"\x81\x024a\x82\x04\x01\x02\x03\x04\x81\x012");
        let frames = payload_to_frames(b"4a\x1ebAQI=", Framing::Base64Frames);
        assert_eq!(frames, b"\x81\x024a\x81\x05bAQI=");
        assert_eq!(payload_to_frames(b"", Framing::Frames), b"");
    }
}
