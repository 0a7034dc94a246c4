//! Tokens that let people into LiveKit's rooms: JWTs of one shape, laid by hand on a key that is kept.
//!
//! They say what livekit-api's `Claims` would, but for what is at its default there, which LiveKit takes to be said.
//! What that saves is measured by `cargo bench --bench grant`.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::call::pass::Pass;
use crate::media::guest::sources;

/// `{"typ":"JWT","alg":"HS256"}` in base64, with the dot after it.
const HEADER: &str = "eyJ0eXAiOiJKV1QiLCJhbGciOiJIUzI1NiJ9.";
/// Bytes of a signature in base64, and the dot before it.
const SIGNATURE_CHARS: usize = 44;
/// Bytes of claims without the names in them, about.
const CLAIMS_BYTES: usize = 320;

/// Lays tokens for one LiveKit.
pub struct Grants {
    /// The name of the key, as JSON has it.
    issuer: String,
    secret: hmac::Key,
}

/// From when to when a token lets in: seconds since 1970 UTC.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    /// Not before.
    pub from: i64,
    /// Not after.
    pub until: i64,
}

impl Grants {
    /// With the name and the secret of a key that LiveKit knows.
    pub fn new(key: &str, secret: &str) -> Self {
        let issuer = serde_json::Value::from(key).to_string();
        Self { issuer, secret: hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes()) }
    }

    /// A token that lets the pass's owner into the call's room, and do there what the pass says.
    pub fn token(&self, pass: &Pass, validity: Validity) -> String {
        let claims = self.claims(pass, validity);
        let mut token =
            String::with_capacity(HEADER.len() + claims.len().div_ceil(3) * 4 + SIGNATURE_CHARS);
        token.push_str(HEADER);
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = hmac::sign(&self.secret, token.as_bytes());
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        token
    }

    /// What the token says. Neither ids nor words of ours hold anything that JSON would escape.
    fn claims(&self, pass: &Pass, Validity { from, until }: Validity) -> String {
        let (user, role, call) = (pass.user.as_str(), pass.role.as_str(), pass.call.to_string());
        let mut claims = String::with_capacity(CLAIMS_BYTES + self.issuer.len() + 2 * user.len());
        claims.extend([r#"{"exp":"#, &until.to_string(), r#","nbf":"#, &from.to_string()]);
        claims.extend([r#","iss":"#, &self.issuer, r#","sub":""#, user]);
        claims.extend([r#"","metadata":"{\"callId\":\""#, &call, r#"\",\"role\":\""#, role]);
        claims.extend([r#"\",\"userId\":\""#, user, r#"\"}","video":{"roomJoin":true"#]);
        claims.extend([r#","room":""#, &pass.call.room(), r#"","canPublish":true"#]);
        claims.push_str(r#","canSubscribe":true,"canPublishData":false,"canPublishSources":["#);
        for (index, source) in sources(pass.sources).into_iter().enumerate() {
            let comma = if index == 0 { "\"" } else { ",\"" };
            claims.extend([comma, name(source), "\""]);
        }
        claims.push_str("]}}");
        claims
    }
}

/// A kind of track as tokens call it: the protocol's name in lower case.
fn name(source: livekit_protocol::TrackSource) -> &'static str {
    use livekit_protocol::TrackSource as Source;
    match source {
        Source::Microphone => "microphone",
        Source::Camera => "camera",
        Source::ScreenShare => "screen_share",
        Source::ScreenShareAudio => "screen_share_audio",
        Source::Unknown => "unknown",
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
    use livekit_api::access_token::{Claims, VideoGrants};
    use proptest::prelude::*;

    use super::*;
    use crate::call::id::{CallId, UserId};
    use crate::call::pass::Sources;
    use crate::call::state::{MediaPath, Role};

    /// The same, as livekit-api and jsonwebtoken make it.
    fn careful(pass: &Pass, key: &str, secret: &str, Validity { from, until }: Validity) -> String {
        let metadata = serde_json::json!({
            "userId": pass.user.as_str(),
            "callId": pass.call.to_string(),
            "role": pass.role.as_str(),
        });
        let names = sources(pass.sources).into_iter();
        let claims = Claims {
            exp: usize::try_from(until).unwrap(),
            nbf: usize::try_from(from).unwrap(),
            iss: key.to_owned(),
            sub: pass.user.as_str().to_owned(),
            metadata: metadata.to_string(),
            video: VideoGrants {
                room_join: true,
                room: pass.call.room(),
                can_publish: Some(true),
                can_subscribe: Some(true),
                can_publish_data: Some(false),
                can_publish_sources: names
                    .map(|it| it.as_str_name().to_ascii_lowercase())
                    .collect(),
                ..VideoGrants::default()
            },
            ..Claims::default()
        };
        let signing = EncodingKey::from_secret(secret.as_bytes());
        encode(&Header::new(Algorithm::HS256), &claims, &signing).unwrap()
    }

    fn read(token: &str, secret: &str) -> Claims {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.validate_exp = false;
        let key = DecodingKey::from_secret(secret.as_bytes());
        decode::<Claims>(token, &key, &validation).unwrap().claims
    }

    proptest! {
        #[test]
        fn a_token_says_what_the_careful_one_does(
            user in "[A-Za-z0-9_.:@=-]{1,64}",
            key in "\\PC{1,40}",
            secret in "\\PC{1,80}",
            (camera, screen) in (any::<bool>(), any::<bool>()),
            initiator in any::<bool>(),
            call in any::<u128>(),
            from in 0..4_000_000_000_i64,
        ) {
            let pass = Pass {
                call: CallId(uuid::Uuid::from_u128(call)),
                user: UserId::parse(&user).unwrap(),
                role: if initiator { Role::Initiator } else { Role::Participant },
                media: MediaPath::Livekit,
                sources: Sources { camera, screen },
            };
            let validity = Validity { from, until: from + 610 };
            let laid = Grants::new(&key, &secret).token(&pass, validity);
            let made = careful(&pass, &key, &secret, validity);
            let [laid, made] = [laid, made].map(|it| read(&it, &secret));
            prop_assert_eq!(serde_json::to_value(laid).unwrap(), serde_json::to_value(made).unwrap());
        }
    }
}
