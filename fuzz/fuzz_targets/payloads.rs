//! No POST body makes the Engine.IO codec panic, and what waited for a poll survives an upgrade.
#![no_main]

use call_service::socketio::engine::packet::{
    Framing, Packet, decode_base64, parse, payload_to_frames, split, text,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &str| {
    let mut payload = Vec::new();
    for packet in split(body) {
        match parse(packet) {
            Some(Packet::Base64(data)) => drop(decode_base64(data)),
            Some(_) => text(&mut payload, Framing::Payload, |out| out.extend(packet.as_bytes())),
            None => (),
        }
    }
    let frames = payload_to_frames(&payload, Framing::Frames);
    assert!(frames.len() >= payload.len());
});
