//! Users of the service, and what they show to be let in.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde::Serialize;

use crate::Failure;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Claims<'a> {
    user_id: &'a str,
    username: &'a str,
    iat: u64,
    exp: u64,
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "tokens are made for the wall clock")]
fn now() -> Result<u64, Failure> {
    Ok(SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs())
}

/// As a messenger's backend makes it; for an hour.
pub(crate) fn token(secret: &str, user: &str) -> Result<String, Failure> {
    let iat = now()?;
    let claims = Claims { user_id: user, username: "Somebody", iat, exp: iat + 3600 };
    Ok(encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))?)
}

/// One whom no other run knows, so that nobody is in a call already.
pub(crate) fn user(number: usize) -> String {
    format!("load-{}-{number:06}", std::process::id())
}
