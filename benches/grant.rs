//! What it costs to make a token for a room: laid by hand on a key that is kept, and as livekit-api and jsonwebtoken make it.
#![expect(clippy::expect_used, reason = "a bench fails by panicking")]

use std::hint::black_box;

use call_service::call::id::{CallId, UserId};
use call_service::call::pass::{Pass, Sources};
use call_service::call::state::{MediaPath, Role};
use call_service::media::grant::{Grants, Validity};
use criterion::{Criterion, criterion_group, criterion_main};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use livekit_api::access_token::{Claims, VideoGrants};

const KEY: &str = "a key";
const SECRET: &str = "a secret of at least 32 characters";
const VALIDITY: Validity = Validity { from: 1_800_000_000, until: 1_800_000_610 };

fn pass() -> Pass {
    Pass {
        call: CallId::parse("0193d5f0-0000-7000-8000-000000000001").expect("a fine id"),
        user: UserId::parse("user-000001").expect("a fine name"),
        role: Role::Initiator,
        media: MediaPath::Livekit,
        sources: Sources { camera: true, screen: true },
    }
}

/// The same claims by the libraries.
fn made(pass: &Pass, key: &EncodingKey) -> String {
    let metadata = serde_json::json!({
        "userId": pass.user.as_str(),
        "callId": pass.call.to_string(),
        "role": pass.role.as_str(),
    });
    let sources = ["microphone", "camera", "screen_share", "screen_share_audio"];
    let claims = Claims {
        exp: usize::try_from(VALIDITY.until).expect("after 1970"),
        nbf: usize::try_from(VALIDITY.from).expect("after 1970"),
        iss: KEY.to_owned(),
        sub: pass.user.as_str().to_owned(),
        metadata: metadata.to_string(),
        video: VideoGrants {
            room_join: true,
            room: pass.call.room(),
            can_publish: Some(true),
            can_subscribe: Some(true),
            can_publish_data: Some(false),
            can_publish_sources: sources.map(str::to_owned).to_vec(),
            ..VideoGrants::default()
        },
        ..Claims::default()
    };
    encode(&Header::new(Algorithm::HS256), &claims, key).expect("a token")
}

fn tokens_are_made(criterion: &mut Criterion) {
    let pass = pass();
    let grants = Grants::new(KEY, SECRET);
    criterion.bench_function("a token for a room is laid by hand", |bencher| {
        bencher.iter(|| grants.token(black_box(&pass), VALIDITY));
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    criterion.bench_function("a token for a room is made by jsonwebtoken", |bencher| {
        bencher.iter(|| made(black_box(&pass), &key));
    });
}

criterion_group!(benches, tokens_are_made);
criterion_main!(benches);
