//! A stream of websocket frames means to us what it means to tungstenite.
#![no_main]

use std::io::{self, Read, Write};

use call_service::socketio::engine::frame::{Assembler, Limits, Message, Violation, parse};
use libfuzzer_sys::fuzz_target;
use tungstenite::Error;
use tungstenite::protocol::{Role, WebSocket, WebSocketConfig};

const LIMITS: Limits = Limits { bytes_max: 300, fragments_max: usize::MAX };

/// Text and binary messages, and whether a rule other than UTF-8's was broken.
type Meaning = (Vec<Vec<u8>>, bool);

fn ours(bytes: &[u8]) -> Option<Meaning> {
    let (mut buffer, mut assembler, mut messages) =
        (bytes.to_vec(), Assembler::default(), Vec::new());
    loop {
        let frame = match parse(&mut buffer, LIMITS.bytes_max) {
            Ok(Some(frame)) => frame,
            Ok(None) => return Some((messages, false)),
            Err(_) => return Some((messages, true)),
        };
        match assembler.accept(&frame, &buffer[frame.payload.clone()], LIMITS) {
            Err(Violation::Utf8) => return None,
            Err(_) => return Some((messages, true)),
            Ok(Some(Message::Close)) => return None,
            Ok(Some(Message::Text(text))) => messages.push(text.into_owned().into_bytes()),
            Ok(Some(Message::Binary(data))) => messages.push(data.into_owned()),
            Ok(Some(Message::Ping(_) | Message::Pong) | None) => (),
        }
        buffer.drain(..frame.payload.end);
    }
}

struct Sent<'a>(&'a [u8]);

impl Read for Sent<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.0.read(into) {
            Ok(0) => Err(io::ErrorKind::WouldBlock.into()),
            read => read,
        }
    }
}

impl Write for Sent<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

fn theirs(bytes: &[u8]) -> Option<Meaning> {
    let config = WebSocketConfig::default()
        .max_frame_size(Some(LIMITS.bytes_max))
        .max_message_size(Some(LIMITS.bytes_max));
    let mut socket = WebSocket::from_raw_socket(Sent(bytes), Role::Server, Some(config));
    let mut messages = Vec::new();
    loop {
        match socket.read() {
            Ok(tungstenite::Message::Close(_)) | Err(Error::Utf8(_)) => return None,
            Ok(message) if message.is_text() || message.is_binary() => {
                messages.push(message.into_data().to_vec());
            }
            Ok(_) => (),
            Err(Error::Io(_)) => return Some((messages, false)),
            Err(_) => return Some((messages, true)),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    // A close and bad UTF-8 end a stream at different moments here and there.
    if let (Some((ours, our_end)), Some((theirs, their_end))) = (ours(bytes), theirs(bytes)) {
        assert_eq!(ours, theirs);
        // We refuse a frame by its header, they wait for all of it.
        assert!(our_end || !their_end);
    }
});
