//! Websocket frames on borrowed buffers: headers by tungstenite, payloads in place.

use std::borrow::Cow;
use std::io::Cursor;
use std::ops::Range;

use tungstenite::protocol::frame::FrameHeader;
use tungstenite::protocol::frame::coding::{CloseCode, Control, Data, OpCode};

/// Room kept for a header before the length of its payload is known: that of 126 to 65,535 bytes.
const HEADER_ROOM: usize = 4;
/// The longest header of an unmasked frame.
const HEADER_BYTES_MAX: usize = 10;
/// The payload of a control frame may not be longer (RFC 6455, 5.5).
const CONTROL_BYTES_MAX: usize = 125;

/// A rule of RFC 6455 was broken; the code says which to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Violation {
    /// A malformed or unexpected frame: 1002.
    Protocol,
    /// A text message that is not UTF-8: 1007.
    Utf8,
    /// Too many fragments: 1008.
    Fragments,
    /// A message longer than allowed: 1009.
    Size,
}

impl Violation {
    /// The close code that names it.
    pub const fn close_code(self) -> CloseCode {
        match self {
            Self::Protocol => CloseCode::Protocol,
            Self::Utf8 => CloseCode::Invalid,
            Self::Fragments => CloseCode::Policy,
            Self::Size => CloseCode::Size,
        }
    }
}

/// One frame at the start of a buffer; its payload is unmasked already.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// The last frame of its message.
    pub is_final: bool,
    /// What it carries.
    pub opcode: OpCode,
    /// Where the payload lies in the buffer; it ends where the next frame begins.
    pub payload: Range<usize>,
}

/// Takes the frame at the start of `buffer` and unmasks it in place; `None` if it is not all there.
///
/// A payload longer than `bytes_max` is refused as soon as its header is there.
pub fn parse(buffer: &mut [u8], bytes_max: usize) -> Result<Option<Frame>, Violation> {
    let mut cursor = Cursor::new(&*buffer);
    let parsed = FrameHeader::parse(&mut cursor).ok().ok_or(Violation::Protocol)?;
    let Some((header, length)) = parsed else { return Ok(None) };
    let start = usize::try_from(cursor.position()).ok().ok_or(Violation::Size)?;
    let length = usize::try_from(length).ok().ok_or(Violation::Size)?;
    let control = matches!(header.opcode, OpCode::Control(_));
    if header.rsv1 || header.rsv2 || header.rsv3 {
        return Err(Violation::Protocol);
    }
    if control && (!header.is_final || length > CONTROL_BYTES_MAX) {
        return Err(Violation::Protocol);
    }
    let mask = header.mask.ok_or(Violation::Protocol)?;
    if length > bytes_max {
        return Err(Violation::Size);
    }
    let range = start..start + length;
    let Some(payload) = buffer.get_mut(range.clone()) else { return Ok(None) };
    unmask(payload, mask);
    Ok(Some(Frame { is_final: header.is_final, opcode: header.opcode, payload: range }))
}

/// Applies `mask` to all of `payload`, eight bytes at a time.
fn unmask(payload: &mut [u8], mask: [u8; 4]) {
    let [a, b, c, d] = mask;
    let wide = u64::from_ne_bytes([a, b, c, d, a, b, c, d]);
    let (words, rest) = payload.as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// Appends one unmasked frame whose payload `fill` writes.
pub fn append(out: &mut Vec<u8>, opcode: OpCode, fill: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.extend_from_slice(&[0; HEADER_ROOM]);
    fill(out);
    let length = out.len().saturating_sub(start + HEADER_ROOM);
    let header = FrameHeader { opcode, ..FrameHeader::default() };
    let mut bytes = [0; HEADER_BYTES_MAX];
    let mut free = bytes.as_mut_slice();
    let length = u64::try_from(length).unwrap_or(u64::MAX);
    if header.format(length, &mut free).is_err() {
        // Writing to memory does not fail; were it to, no half frame may stay behind.
        out.truncate(start);
        return;
    }
    let size = HEADER_BYTES_MAX - free.len();
    let room = start..start + HEADER_ROOM;
    match out.get_mut(room.clone()) {
        Some(room) if size == HEADER_ROOM => {
            room.copy_from_slice(bytes.get(..size).unwrap_or_default());
        }
        _ => drop(out.splice(room, bytes.into_iter().take(size))),
    }
}

/// Appends a close frame.
pub fn append_close(out: &mut Vec<u8>, code: CloseCode) {
    append(out, OpCode::Control(Control::Close), |out| {
        out.extend_from_slice(&u16::from(code).to_be_bytes());
    });
}

/// Appends the answer to a ping.
pub fn append_pong(out: &mut Vec<u8>, payload: &[u8]) {
    append(out, OpCode::Control(Control::Pong), |out| out.extend_from_slice(payload));
}

/// A whole message, its fragments put together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// Valid UTF-8.
    Text(Cow<'a, str>),
    /// Any bytes.
    Binary(Cow<'a, [u8]>),
    /// To be answered with the same payload.
    Ping(&'a [u8]),
    /// Of no interest: heartbeats are Engine.IO's.
    Pong,
    /// The peer closes.
    Close,
}

/// Puts fragments together. Owns memory only between the fragments of a message.
#[derive(Debug, Default)]
pub struct Assembler {
    partial: Option<Box<Partial>>,
}

#[derive(Debug)]
struct Partial {
    kind: Data,
    data: Vec<u8>,
    fragments: usize,
}

/// How large a message may be.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Bytes of a message, over all its fragments.
    pub bytes_max: usize,
    /// Fragments of a message: each costs time however small it is.
    pub fragments_max: usize,
}

impl Assembler {
    /// Takes one frame; gives the message it completes, if it does.
    pub fn accept<'a>(
        &mut self,
        frame: &Frame,
        payload: &'a [u8],
        limits: Limits,
    ) -> Result<Option<Message<'a>>, Violation> {
        match frame.opcode {
            OpCode::Control(Control::Close) => Ok(Some(Message::Close)),
            OpCode::Control(Control::Ping) => Ok(Some(Message::Ping(payload))),
            OpCode::Control(Control::Pong) => Ok(Some(Message::Pong)),
            OpCode::Data(Data::Continue) => self.proceed(frame.is_final, payload, limits),
            OpCode::Data(kind @ (Data::Text | Data::Binary)) => self.begin(kind, frame, payload),
            OpCode::Control(Control::Reserved(_)) | OpCode::Data(Data::Reserved(_)) => {
                Err(Violation::Protocol)
            }
        }
    }

    fn begin<'a>(
        &mut self,
        kind: Data,
        frame: &Frame,
        payload: &'a [u8],
    ) -> Result<Option<Message<'a>>, Violation> {
        if self.partial.is_some() {
            return Err(Violation::Protocol);
        }
        if frame.is_final {
            return whole(kind, Cow::Borrowed(payload)).map(Some);
        }
        self.partial = Some(Box::new(Partial { kind, data: payload.to_vec(), fragments: 1 }));
        Ok(None)
    }

    fn proceed<'a>(
        &mut self,
        is_final: bool,
        payload: &[u8],
        limits: Limits,
    ) -> Result<Option<Message<'a>>, Violation> {
        let partial = self.partial.as_mut().ok_or(Violation::Protocol)?;
        partial.fragments += 1;
        if partial.data.len() + payload.len() > limits.bytes_max {
            return Err(Violation::Size);
        }
        if partial.fragments > limits.fragments_max {
            return Err(Violation::Fragments);
        }
        partial.data.extend_from_slice(payload);
        match self.partial.take_if(|_| is_final) {
            Some(partial) => whole(partial.kind, Cow::Owned(partial.data)).map(Some),
            None => Ok(None),
        }
    }
}

fn whole(kind: Data, data: Cow<'_, [u8]>) -> Result<Message<'_>, Violation> {
    if kind == Data::Binary {
        return Ok(Message::Binary(data));
    }
    let text = match data {
        Cow::Borrowed(data) => str::from_utf8(data).ok().map(Cow::Borrowed),
        Cow::Owned(data) => String::from_utf8(data).ok().map(Cow::Owned),
    };
    text.map(Message::Text).ok_or(Violation::Utf8)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

    const LIMITS: Limits = Limits { bytes_max: 300, fragments_max: usize::MAX };

    /// What a stream of frames comes to, and how it ends.
    type Read = (Vec<tungstenite::Message>, End);

    #[derive(Debug, PartialEq, Eq)]
    enum End {
        Fine,
        Broken,
        /// tungstenite looks at each fragment's text as it comes, we at the whole.
        NotUtf8,
    }

    /// The stream as this module reads it, cut into pieces of `piece` bytes.
    fn ours(bytes: &[u8], piece: usize) -> Read {
        let (mut pending, mut assembler) = (Vec::new(), Assembler::default());
        let mut messages = Vec::new();
        for chunk in bytes.chunks(piece) {
            pending.extend_from_slice(chunk);
            loop {
                let frame = match parse(&mut pending, LIMITS.bytes_max) {
                    Ok(Some(frame)) => frame,
                    Ok(None) => break,
                    Err(_) => return (messages, End::Broken),
                };
                let payload = &pending[frame.payload.clone()];
                match assembler.accept(&frame, payload, LIMITS) {
                    Err(Violation::Utf8) => return (messages, End::NotUtf8),
                    Err(_) => return (messages, End::Broken),
                    Ok(None) => (),
                    Ok(Some(Message::Close)) => return (messages, End::Fine),
                    Ok(Some(Message::Pong)) => messages.push(tungstenite::Message::Pong("".into())),
                    Ok(Some(Message::Ping(data))) => {
                        messages.push(tungstenite::Message::Ping(data.to_vec().into()));
                    }
                    Ok(Some(Message::Text(text))) => {
                        messages.push(tungstenite::Message::text(text.into_owned()));
                    }
                    Ok(Some(Message::Binary(data))) => {
                        messages.push(tungstenite::Message::binary(data.into_owned()));
                    }
                }
                pending.drain(..frame.payload.end);
            }
        }
        (messages, End::Fine)
    }

    /// A peer that sent these bytes and hears nothing.
    struct Sent<'a>(&'a [u8]);

    impl std::io::Read for Sent<'_> {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            match self.0.read(into) {
                Ok(0) => Err(std::io::ErrorKind::WouldBlock.into()),
                read => read,
            }
        }
    }

    impl std::io::Write for Sent<'_> {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    /// The stream as tungstenite reads it.
    fn theirs(bytes: &[u8]) -> Read {
        let config = WebSocketConfig::default()
            .max_frame_size(Some(LIMITS.bytes_max))
            .max_message_size(Some(LIMITS.bytes_max));
        let mut socket = WebSocket::from_raw_socket(Sent(bytes), Role::Server, Some(config));
        let mut messages = Vec::new();
        loop {
            match socket.read() {
                Ok(tungstenite::Message::Close(_)) | Err(tungstenite::Error::Io(_)) => {
                    return (messages, End::Fine);
                }
                Ok(tungstenite::Message::Pong(_)) => {
                    messages.push(tungstenite::Message::Pong("".into()));
                }
                Ok(message) => messages.push(message),
                Err(tungstenite::Error::Utf8(_)) => return (messages, End::NotUtf8),
                Err(_) => return (messages, End::Broken),
            }
        }
    }

    /// Frames that are mostly right: opcode and flags, payload, mask.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let first = prop_oneof![
            10 => prop::sample::select(vec![0x81_u8, 0x82, 0x01, 0x02, 0x00, 0x80, 0x89, 0x8a]),
            1 => any::<u8>().prop_filter("a close has rules of its own", |it| it & 0x0f != 8),
        ];
        let payload = prop_oneof![
            "[a-zäöü😀]{0,20}".prop_map(String::into_bytes),
            vec(any::<u8>(), 0..10),
            (100_usize..310).prop_map(|it| vec![b'x'; it]),
        ];
        let frame = (first, payload, any::<[u8; 4]>(), prop::bool::weighted(0.98));
        vec(
            frame.prop_map(|(first, payload, mask, masked)| encode(first, &payload, mask, masked)),
            0..12,
        )
        .prop_map(|it| it.concat())
    }

    fn encode(first: u8, payload: &[u8], mask: [u8; 4], masked: bool) -> Vec<u8> {
        let bit = if masked { 0x80 } else { 0 };
        let mut out = vec![first];
        match u8::try_from(payload.len()) {
            Ok(short) if short < 126 => out.push(bit | short),
            _ => {
                out.push(bit | 0x7e);
                out.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
            }
        }
        if masked {
            out.extend(mask);
        }
        out.extend(payload.iter().enumerate().map(
            |(index, it)| {
                if masked { it ^ mask[index % 4] } else { *it }
            },
        ));
        out
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn streams_mean_what_tungstenite_takes_them_for(bytes in frames(), piece in 1_usize..200) {
            let ((ours, our_end), (theirs, their_end)) = (ours(&bytes, piece), theirs(&bytes));
            if their_end == End::NotUtf8 {
                prop_assert!(ours.starts_with(&theirs));
                let data = |it: &tungstenite::Message| it.is_text() || it.is_binary();
                prop_assert!(!ours[theirs.len()..].iter().any(data));
            } else {
                prop_assert_eq!((ours, our_end), (theirs, their_end));
            }
        }

        #[test]
        fn no_bytes_are_too_odd(bytes in vec(any::<u8>(), 0..200), piece in 1_usize..50) {
            ours(&bytes, piece);
        }

        #[test]
        fn frames_written_are_those_tungstenite_writes(
            data in vec(any::<u8>(), 0..300),
            times in prop::sample::select(vec![1_usize, 5, 300]),
        ) {
            let data = data.repeat(times);
            let mut wanted = b"before".to_vec();
            let mut written = wanted.clone();
            let opcode = OpCode::Data(Data::Binary);
            tungstenite::protocol::frame::Frame::message(data.clone(), opcode, true)
                .format(&mut wanted)
                .unwrap();
            append(&mut written, opcode, |out| out.extend_from_slice(&data));
            prop_assert_eq!(written, wanted);
        }

        #[test]
        fn unmasking_is_byte_by_byte(data in vec(any::<u8>(), 0..100), mask in any::<[u8; 4]>()) {
            let mut unmasked = data.clone();
            unmask(&mut unmasked, mask);
            let wanted: Vec<_> =
                data.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect();
            prop_assert_eq!(unmasked, wanted);
        }
    }

    #[test]
    fn a_length_is_refused_before_its_payload_is_there() {
        let mut huge = [0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3, 4];
        assert_eq!(parse(&mut huge, 1 << 16), Err(Violation::Size));
    }

    #[test]
    fn fragments_are_counted() {
        let limits = Limits { bytes_max: 100, fragments_max: 3 };
        let mut assembler = Assembler::default();
        let frame = |opcode, is_final| Frame { is_final, opcode, payload: 0..0 };
        let first = frame(OpCode::Data(Data::Text), false);
        let next = frame(OpCode::Data(Data::Continue), false);
        assert_eq!(assembler.accept(&first, b"a", limits), Ok(None));
        assert_eq!(assembler.accept(&next, b"b", limits), Ok(None));
        assert_eq!(assembler.accept(&next, b"c", limits), Ok(None));
        assert_eq!(assembler.accept(&next, b"d", limits), Err(Violation::Fragments));
    }
}
