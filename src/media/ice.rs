//! The STUN and TURN servers a client is told, with credentials that end.
//!
//! Timed credentials are those of coturn's `use-auth-secret` (the "TURN REST API" draft,
//! draft-uberti-behave-turn-rest-00): the name is `expiry:user`, the password its HMAC-SHA1 in
//! base64 under the shared secret, so the TURN server checks them without asking anybody.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;

use crate::call::id::UserId;
use crate::call::time::Timestamp;
use crate::config::{Media, Secret, TurnCredentials};

/// One entry of a client's `RTCConfiguration.iceServers`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct IceServer {
    /// Its addresses.
    pub urls: Vec<Arc<str>>,
    /// The name to give; left out for STUN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The password to give; left out for STUN.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
}

/// Hands out the servers of the settings.
pub struct Ice {
    stun_urls: Vec<Arc<str>>,
    turn_urls: Vec<Arc<str>>,
    credentials: Credentials,
}

enum Credentials {
    None,
    Fixed { username: Arc<str>, password: Secret },
    Timed { key: Box<hmac::Key>, ttl: Duration },
}

impl Ice {
    /// Prepares the key for timed credentials, if that is what they are.
    pub fn new(settings: &Media) -> Self {
        let credentials = match &settings.turn_credentials {
            TurnCredentials::None => Credentials::None,
            TurnCredentials::Fixed { username, password } => {
                let (username, password) = (Arc::clone(username), password.clone());
                Credentials::Fixed { username, password }
            }
            TurnCredentials::Timed { secret, ttl } => {
                let bytes = secret.expose().as_bytes();
                let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, bytes);
                Credentials::Timed { key: Box::new(key), ttl: *ttl }
            }
        };
        let (stun_urls, turn_urls) = (settings.stun_urls.clone(), settings.turn_urls.clone());
        Self { stun_urls, turn_urls, credentials }
    }

    /// How often clients need new credentials: long before those they have end. `None` where they never
    /// do.
    pub fn renewal(&self) -> Option<Duration> {
        match &self.credentials {
            Credentials::Timed { ttl, .. } if !self.turn_urls.is_empty() => Some(*ttl / 2),
            Credentials::Timed { .. } | Credentials::None | Credentials::Fixed { .. } => None,
        }
    }

    /// The servers for `user`; `now` is the wall time, since the TURN server has only that.
    pub fn ice_servers(&self, user: &UserId, now: Timestamp) -> Vec<IceServer> {
        let mut servers = Vec::with_capacity(2);
        if !self.stun_urls.is_empty() {
            let urls = self.stun_urls.clone();
            servers.push(IceServer { urls, username: None, credential: None });
        }
        if !self.turn_urls.is_empty() {
            let (username, credential) = self.credentials.mint(user, now);
            servers.push(IceServer { urls: self.turn_urls.clone(), username, credential });
        }
        servers
    }
}

impl Credentials {
    fn mint(&self, user: &UserId, now: Timestamp) -> (Option<String>, Option<String>) {
        match self {
            Self::None => (None, None),
            Self::Fixed { username, password } => {
                (Some(username.as_ref().to_owned()), Some(password.expose().to_owned()))
            }
            Self::Timed { key, ttl } => {
                let expiry = now.plus(*ttl).0.div_euclid(1000);
                let username = format!("{expiry}:{user}");
                let credential = STANDARD.encode(hmac::sign(key, username.as_bytes()));
                (Some(username), Some(credential))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};

    use super::*;
    use crate::config::Config;

    const STUN: (&str, &str) = ("STUN_SERVER_URL", "stun:a.example:3478,stun:b.example");
    const TURN: (&str, &str) = ("TURN_SERVER_URL", "turn:t.example:3478,turns:t.example:443");

    fn check(set: &[(&str, &str)], wanted: &Expect) {
        let find =
            |name: &str| set.iter().find(|(it, _)| *it == name).map(|(_, text)| (*text).to_owned());
        let ice = Ice::new(&Config::load(find).unwrap().media);
        let servers = ice.ice_servers(&UserId::parse("ann").unwrap(), Timestamp(1_800_000_000_000));
        wanted.assert_eq(&serde_json::to_string(&servers).unwrap());
    }

    #[test]
    fn servers_on_the_wire() {
        check(&[], &expect!["[]"]);
        check(&[STUN], &expect![[r#"[{"urls":["stun:a.example:3478","stun:b.example"]}]"#]]);
        check(
            &[TURN, ("TURN_USERNAME", "all"), ("TURN_PASSWORD", "word")],
            &expect![[
                r#"[{"urls":["turn:t.example:3478","turns:t.example:443"],"username":"all","credential":"word"}]"#
            ]],
        );
        // As `echo -n 1800000600:ann | openssl dgst -sha1 -hmac shared -binary | base64` has it.
        check(
            &[STUN, TURN, ("TURN_SECRET", "shared")],
            &expect![[
                r#"[{"urls":["stun:a.example:3478","stun:b.example"]},{"urls":["turn:t.example:3478","turns:t.example:443"],"username":"1800000600:ann","credential":"fpi4ZU2UDDSKCX1fNQaHlummTCg="}]"#
            ]],
        );
    }
}
