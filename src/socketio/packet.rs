//! The Socket.IO v5 codec: packet headers in, events out, encoded once for all who get them.

use std::io::Write as _;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;

use crate::socketio::engine::packet::{self as engine, Framing};

/// The namespace that needs no name on the wire.
pub const MAIN_NAMESPACE: &str = "/";

/// Digits of an ack id or an attachment count: as many as JavaScript's numbers hold exactly.
/// Longer ones cost time to read and mean nothing (CVE-2020-36049).
const DIGITS_MAX: usize = 15;

/// The packet types of Socket.IO v5.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Into a namespace.
    Connect,
    /// Out of a namespace.
    Disconnect,
    /// Something happened.
    Event,
    /// The answer to an event.
    Ack,
    /// A namespace refuses.
    ConnectError,
    /// An event with attachments.
    BinaryEvent,
    /// An answer with attachments.
    BinaryAck,
}

impl Kind {
    const fn digit(self) -> u8 {
        match self {
            Self::Connect => b'0',
            Self::Disconnect => b'1',
            Self::Event => b'2',
            Self::Ack => b'3',
            Self::ConnectError => b'4',
            Self::BinaryEvent => b'5',
            Self::BinaryAck => b'6',
        }
    }

    /// The type of an event or ack that has attachments, or has none.
    const fn with_attachments(self, some: bool) -> Self {
        match self {
            Self::Event if some => Self::BinaryEvent,
            Self::Ack if some => Self::BinaryAck,
            Self::Connect
            | Self::Disconnect
            | Self::Event
            | Self::Ack
            | Self::ConnectError
            | Self::BinaryEvent
            | Self::BinaryAck => self,
        }
    }
}

/// A packet taken apart; `data` is what follows, not validated yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    /// The type.
    pub kind: Kind,
    /// How many binary messages follow.
    pub attachments: usize,
    /// The namespace, `/` where none is named.
    pub namespace: &'a str,
    /// Under which an ack is asked for or given.
    pub id: Option<u64>,
    /// The payload, JSON if anything.
    pub data: &'a str,
}

/// Reads `<type>[<attachments>-][<namespace>,][<id>][<data>]`; `None` is not a packet.
pub fn parse(text: &str) -> Option<Header<'_>> {
    let mut chars = text.chars();
    let kind = match chars.next()? {
        '0' => Kind::Connect,
        '1' => Kind::Disconnect,
        '2' => Kind::Event,
        '3' => Kind::Ack,
        '4' => Kind::ConnectError,
        '5' => Kind::BinaryEvent,
        '6' => Kind::BinaryAck,
        _ => return None,
    };
    let mut rest = chars.as_str();
    let mut attachments = 0;
    if matches!(kind, Kind::BinaryEvent | Kind::BinaryAck) {
        let count = Digits::parse(rest)?;
        attachments = usize::try_from(count.value?).ok()?;
        rest = count.rest.strip_prefix('-')?;
    }
    let mut namespace = MAIN_NAMESPACE;
    if rest.starts_with('/') {
        // A packet without data may end with its namespace.
        (namespace, rest) = rest.split_once(',').unwrap_or((rest, ""));
    }
    let Digits { value: id, rest: data } = Digits::parse(rest)?;
    Some(Header { kind, attachments, namespace, id, data })
}

/// The digits at the start of a text, if there are any, and what follows them.
struct Digits<'a> {
    value: Option<u64>,
    rest: &'a str,
}

impl<'a> Digits<'a> {
    /// `None` if there are too many.
    fn parse(text: &'a str) -> Option<Self> {
        let length = text.bytes().take(DIGITS_MAX + 1).take_while(u8::is_ascii_digit).count();
        if length > DIGITS_MAX {
            return None;
        }
        let (digits, rest) = text.split_at_checked(length)?;
        Some(Self { value: digits.parse().ok(), rest })
    }
}

/// Appends `4<type>[<attachments>-][<namespace>,][<id>]` and what `data` writes, then the
/// attachments, in the layout of `framing`.
pub fn encode(
    out: &mut Vec<u8>,
    framing: Framing,
    header: Header<'_>,
    attachments: &[Bytes],
    data: impl FnOnce(&mut Vec<u8>),
) {
    engine::text(out, framing, |out| {
        write_prefix(out, header, attachments.len());
        data(out);
    });
    for attachment in attachments {
        engine::binary(out, framing, attachment);
    }
}

fn write_prefix(out: &mut Vec<u8>, header: Header<'_>, attachments: usize) {
    let kind = header.kind.with_attachments(attachments > 0);
    out.extend_from_slice(&[b'4', kind.digit()]);
    if attachments > 0 {
        write_number(out, attachments, b"-");
    }
    if header.namespace != MAIN_NAMESPACE {
        out.extend_from_slice(header.namespace.as_bytes());
        out.push(b',');
    }
    if let Some(id) = header.id {
        write_number(out, id, b"");
    }
    out.extend_from_slice(header.data.as_bytes());
}

fn write_number(out: &mut Vec<u8>, number: impl std::fmt::Display, after: &[u8]) {
    // Writing to memory does not fail.
    drop(write!(out, "{number}"));
    out.extend_from_slice(after);
}

impl<'a> Header<'a> {
    /// A header to be completed by [`encode`].
    pub const fn new(kind: Kind, namespace: &'a str, id: Option<u64>) -> Self {
        Self { kind, attachments: 0, namespace, id, data: "" }
    }
}

/// Appends `["name",<arguments>]`, the arguments as `write` lists them, separated by commas.
pub fn write_event(out: &mut Vec<u8>, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
    out.push(b'[');
    write_string(out, name);
    out.push(b',');
    let before = out.len();
    write(out);
    if out.len() == before {
        out.pop();
    }
    out.push(b']');
}

/// Appends `text` as a JSON string.
pub fn write_string(out: &mut Vec<u8>, text: &str) {
    // Neither strings nor memory can fail to be written.
    drop(serde_json::to_writer(out, text));
}

/// An event for any number of receivers: encoded once, websocket frame included, and shared.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The frames as a websocket client of the main namespace gets them.
    frames: Bytes,
    /// Where in them the JSON array lies.
    json: Range<usize>,
    attachments: Option<Arc<[Bytes]>>,
}

impl Packet {
    /// An event with these arguments, each valid JSON.
    pub fn event(name: &str, args: &[&str]) -> Self {
        Self::with_attachments(name, args, &[])
    }

    /// An event whose arguments name `attachments` by placeholders
    /// `{"_placeholder":true,"num":0}`.
    pub fn with_attachments(name: &str, args: &[&str], attachments: &[Bytes]) -> Self {
        Self::build(name, attachments, |out| {
            for (index, argument) in args.iter().enumerate() {
                if index > 0 {
                    out.push(b',');
                }
                out.extend_from_slice(argument.as_bytes());
            }
        })
    }

    /// An event whose arguments `write` lists as JSON, separated by commas.
    pub fn build(name: &str, attachments: &[Bytes], write: impl FnOnce(&mut Vec<u8>)) -> Self {
        let mut frames = Vec::new();
        let mut length = 0;
        engine::text(&mut frames, Framing::Frames, |out| {
            let header = Header::new(Kind::Event, MAIN_NAMESPACE, None);
            write_prefix(out, header, attachments.len());
            let start = out.len();
            write_event(out, name, write);
            length = out.len() - start;
        });
        let json = frames.len().saturating_sub(length)..frames.len();
        for attachment in attachments {
            engine::binary(&mut frames, Framing::Frames, attachment);
        }
        let attachments = (!attachments.is_empty()).then(|| attachments.into());
        Self { frames: frames.into(), json, attachments }
    }

    /// The frames for a client of the main namespace.
    pub(crate) fn frames(&self) -> &[u8] {
        &self.frames
    }

    /// The JSON array.
    pub fn json(&self) -> &[u8] {
        self.frames.get(self.json.clone()).unwrap_or_default()
    }

    /// The binary parts.
    pub fn attachments(&self) -> &[Bytes] {
        self.attachments.as_deref().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Type, attachments, namespace, id, data of a header.
    type Parts<'a> = (Kind, usize, &'a str, Option<u64>, &'a str);

    fn check(text: &str, wanted: Option<Parts<'_>>) {
        let header = parse(text);
        let parts = header.map(|it| (it.kind, it.attachments, it.namespace, it.id, it.data));
        assert_eq!(parts, wanted, "{text}");
    }

    #[test]
    fn headers() {
        check("0", Some((Kind::Connect, 0, "/", None, "")));
        check("0{\"a\":1}", Some((Kind::Connect, 0, "/", None, "{\"a\":1}")));
        check("0/a,", Some((Kind::Connect, 0, "/a", None, "")));
        check("0/a", Some((Kind::Connect, 0, "/a", None, "")));
        check("1/a,", Some((Kind::Disconnect, 0, "/a", None, "")));
        check("2[\"a\"]", Some((Kind::Event, 0, "/", None, "[\"a\"]")));
        check("20[\"a\"]", Some((Kind::Event, 0, "/", Some(0), "[\"a\"]")));
        check("2/a,7[\"a\"]", Some((Kind::Event, 0, "/a", Some(7), "[\"a\"]")));
        check("2/a-b/c,[]", Some((Kind::Event, 0, "/a-b/c", None, "[]")));
        check("37[]", Some((Kind::Ack, 0, "/", Some(7), "[]")));
        check("4{}", Some((Kind::ConnectError, 0, "/", None, "{}")));
        check("52-/a,3[]", Some((Kind::BinaryEvent, 2, "/a", Some(3), "[]")));
        check("61-3[]", Some((Kind::BinaryAck, 1, "/", Some(3), "[]")));
        check("2999999999999999[]", Some((Kind::Event, 0, "/", Some(999_999_999_999_999), "[]")));
        for text in ["", "7", "a", "-1", "5", "5[]", "5-[]", "5-1-[]", "52[]", "51.-[]"] {
            check(text, None);
        }
        check("21234567890123456[]", None);
        check("51234567890123456-[]", None);
    }

    fn encoded(framing: Framing, header: Header<'_>, attachments: &[Bytes]) -> Vec<u8> {
        let mut out = Vec::new();
        encode(&mut out, framing, header, attachments, |out| {
            write_event(out, "a\"b", |out| out.extend_from_slice(b"1"));
        });
        out
    }

    #[test]
    fn packets_in_each_layout() {
        let data = [Bytes::from_static(&[1, 2])];
        let event = Header::new(Kind::Event, "/", None);
        let ack = Header::new(Kind::Ack, "/x", Some(12));
        let json = br#"["a\"b",1]"#;
        assert_eq!(encoded(Framing::Payload, event, &[]), [b"42", &json[..]].concat());
        assert_eq!(encoded(Framing::Frames, event, &[]), [b"\x81\x0c42", &json[..]].concat());
        let payload = encoded(Framing::Payload, ack, &data);
        assert_eq!(payload, [b"461-/x,12", &json[..], b"\x1ebAQI="].concat());
        let frames = encoded(Framing::Frames, ack, &data);
        assert_eq!(frames, [b"\x81\x13461-/x,12", &json[..], b"\x82\x02\x01\x02"].concat());
        let base64 = encoded(Framing::Base64Frames, ack, &data);
        assert_eq!(base64, [b"\x81\x13461-/x,12", &json[..], b"\x81\x05bAQI="].concat());
    }

    #[test]
    fn an_event_without_arguments() {
        assert_eq!(Packet::event("a", &[]).json(), br#"["a"]"#);
        assert_eq!(Packet::event("a", &["1", "{}"]).json(), br#"["a",1,{}]"#);
    }

    #[test]
    fn a_packet_holds_its_frames_ready() {
        for length in [0, 10, 117, 118, 119, 65_000, 70_000] {
            let argument = format!("\"{}\"", "x".repeat(length));
            let attachments = [Bytes::from_static(b"abc"), Bytes::new()];
            for attachments in [&attachments[..], &[]] {
                let packet = Packet::with_attachments("name", &[&argument], attachments);
                let mut wanted = Vec::new();
                let header = Header::new(Kind::Event, MAIN_NAMESPACE, None);
                encode(&mut wanted, Framing::Frames, header, packet.attachments(), |out| {
                    out.extend_from_slice(packet.json());
                });
                assert_eq!(packet.frames(), wanted, "{length}");
                assert_eq!(packet.json(), format!("[\"name\",{argument}]").as_bytes());
            }
        }
    }

    proptest! {
        #[test]
        fn what_is_encoded_can_be_read(
            kind in prop::sample::select(vec![Kind::Event, Kind::Ack]),
            namespace in "/[a-z/-]{0,8}",
            id in prop::option::of(0_u64..1_000_000_000_000_000),
            attachments in 0_usize..4,
        ) {
            let parts = vec![Bytes::from_static(b"x"); attachments];
            let mut out = Vec::new();
            let header = Header::new(kind, &namespace, id);
            encode(&mut out, Framing::Payload, header, &parts, |out| out.extend_from_slice(b"[]"));
            let text = String::from_utf8(out).unwrap();
            let text = text.split('\u{1e}').next().unwrap().strip_prefix('4').unwrap();
            let kind = kind.with_attachments(attachments > 0);
            prop_assert_eq!(parse(text), Some(Header { kind, attachments, namespace: &namespace, id, data: "[]" }));
        }

        #[test]
        fn no_text_is_too_odd(text in "[0-9]{0,3}[-/,a-z0-9\\[\\]{}\"😀]{0,20}") {
            if let Some(header) = parse(&text) {
                prop_assert!(text.ends_with(header.data));
            }
        }
    }
}
