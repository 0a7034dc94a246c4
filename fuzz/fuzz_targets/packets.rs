//! No text makes the Socket.IO codec panic, and what it takes for JSON is JSON.
#![no_main]

use call_service::socketio::json::Array;
use call_service::socketio::packet::parse;
use libfuzzer_sys::fuzz_target;
use serde_json::value::RawValue;

fuzz_target!(|text: &str| {
    let Some(header) = parse(text) else { return };
    assert!(text.ends_with(header.data) && header.namespace.starts_with('/'));
    if let Some(array) = Array::parse(header.data, 64) {
        let theirs: Vec<Box<RawValue>> = serde_json::from_str(header.data).expect("an array");
        assert_eq!(theirs.len(), array.args().len());
        for (theirs, ours) in theirs.iter().zip(array.args().iter()) {
            assert_eq!(theirs.get(), ours.get());
        }
        array.args().placeholders_are_valid(header.attachments);
    }
});
