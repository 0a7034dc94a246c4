//! What the codec costs a relayed event: read once, written once.

use std::hint::black_box;

use call_service::socketio::engine::frame;
use call_service::socketio::engine::packet::Framing;
use call_service::socketio::json::Array;
use call_service::socketio::packet::{self, Header, Kind, Packet};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};

/// An ICE candidate as clients relay it, and an SDP offer's 4 KB.
fn events() -> [(&'static str, String); 2] {
    let event = |payload: &str| {
        format!(
            r#"2["webrtc:ice_candidate",{{"callId":"0198a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b","targetUserId":"user-000042","candidate":{{"candidate":"{payload}","sdpMid":"0","sdpMLineIndex":0}}}}]"#
        )
    };
    let candidate = "candidate:842163049 1 udp 1677729535 203.0.113.7 46154 typ srflx raddr 0.0.0.0 rport 0 generation 0 ufrag EsAw network-cost 999";
    [("a candidate", event(candidate)), ("an offer of 4 KB", event(&"a=rtpmap:111 ".repeat(315)))]
}

/// A client's frame with this text.
fn masked(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    let header = tungstenite::protocol::frame::FrameHeader {
        opcode: tungstenite::protocol::frame::coding::OpCode::Data(
            tungstenite::protocol::frame::coding::Data::Text,
        ),
        mask: Some([0; 4]),
        ..Default::default()
    };
    let length = u64::try_from(text.len()).unwrap_or_default();
    drop(header.format(length, &mut out));
    out.extend_from_slice(text.as_bytes());
    out
}

fn codec(criterion: &mut Criterion) {
    for (name, event) in events() {
        let frame = masked(&format!("4{event}"));
        criterion.bench_function(&format!("{name} is taken out of its frame"), |bencher| {
            let clone = || frame.clone();
            let parse = |frame: &mut Vec<u8>| frame::parse(black_box(frame), 1 << 16);
            bencher.iter_batched_ref(clone, parse, BatchSize::SmallInput);
        });
        criterion.bench_function(&format!("{name} is validated"), |bencher| {
            bencher.iter(|| {
                let header = packet::parse(black_box(&event))?;
                Array::parse(header.data, 64).map(|it| it.args().len())
            });
        });
        let header = Header::new(Kind::Event, "/", None);
        criterion.bench_function(&format!("{name} is written into a run"), |bencher| {
            let mut out = Vec::with_capacity(1 << 16);
            bencher.iter(|| {
                out.clear();
                packet::encode(&mut out, Framing::Frames, header, &[], |out| {
                    packet::write_event(out, "webrtc:ice_candidate", |out| {
                        out.extend_from_slice(black_box(event.as_bytes()));
                    });
                });
                out.len()
            });
        });
        criterion.bench_function(&format!("{name} is encoded for many"), |bencher| {
            bencher.iter(|| Packet::event("webrtc:ice_candidate", &[black_box(&event)]));
        });
    }
}

criterion_group!(benches, codec);
criterion_main!(benches);
