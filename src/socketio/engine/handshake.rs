//! What a request says about the client that makes it.

use std::borrow::Cow;
use std::net::SocketAddr;

use http::header::{CONNECTION, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT};
use http::{HeaderMap, HeaderName, Method, Version};
use tungstenite::handshake::derive_accept_key;

use crate::socketio::Transport;

/// Bytes of a `User-Agent` that are kept.
const USER_AGENT_BYTES_MAX: usize = 256;

/// The request that opened a session, as far as anyone needs it. Owns copies: a view of the
/// request would keep hyper's whole read buffer alive.
#[derive(Clone, Debug)]
pub struct Handshake {
    /// The peer's address as the accept loop saw it.
    pub remote: SocketAddr,
    /// How the session began.
    pub transport: Transport,
    /// The `User-Agent`, cut to 256 bytes.
    pub user_agent: Option<Box<str>>,
    query: Box<str>,
}

impl Handshake {
    /// Copies what is kept of a request.
    pub fn new(remote: SocketAddr, transport: Transport, query: &str, headers: &HeaderMap) -> Self {
        let user_agent = headers.get(USER_AGENT).and_then(|it| it.to_str().ok());
        let user_agent = user_agent.map(|it| it.get(..USER_AGENT_BYTES_MAX).unwrap_or(it).into());
        Self { remote, transport, user_agent, query: query.into() }
    }

    /// The first query parameter of this name, percent-decoded.
    pub fn query(&self, name: &str) -> Option<Cow<'_, str>> {
        parameter(&self.query, name)
    }

    /// All query parameters in their order, percent-decoded.
    pub fn query_pairs(&self) -> impl Iterator<Item = (Cow<'_, str>, Cow<'_, str>)> {
        form_urlencoded::parse(self.query.as_bytes())
    }
}

/// The first parameter of this name in a query string, percent-decoded.
pub fn parameter<'a>(query: &'a str, name: &str) -> Option<Cow<'a, str>> {
    form_urlencoded::parse(query.as_bytes()).find(|(key, _)| key == name).map(|(_, value)| value)
}

/// Whether the request asks for another protocol on its connection.
pub fn asks_for_upgrade(headers: &HeaderMap) -> bool {
    headers.contains_key(UPGRADE)
}

/// The `Sec-WebSocket-Accept` for a valid opening handshake (RFC 6455, 4.2.1).
pub fn accept_key(method: &Method, version: Version, headers: &HeaderMap) -> Option<String> {
    let key = headers.get(SEC_WEBSOCKET_KEY)?.as_bytes();
    let valid = *method == Method::GET
        && version == Version::HTTP_11
        && has_token(headers, &CONNECTION, "upgrade")
        && has_token(headers, &UPGRADE, "websocket")
        && headers.get(SEC_WEBSOCKET_VERSION).is_some_and(|it| it == "13")
        && key.len() == 24
        && key.ends_with(b"==");
    valid.then(|| derive_accept_key(key))
}

fn has_token(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|it| it.to_str().ok());
    values.flat_map(|it| it.split(',')).any(|it| it.trim().eq_ignore_ascii_case(token))
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: (&str, &str) = ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");

    fn check(method: &Method, changed: &[(&str, &str)], wanted: Option<&str>) {
        let mut headers = HeaderMap::new();
        let usual = [
            ("connection", "keep-alive, Upgrade"),
            ("upgrade", "WebSocket"),
            ("sec-websocket-version", "13"),
            KEY,
        ];
        for (name, value) in usual.iter().chain(changed) {
            headers.insert(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
        }
        let accepted = accept_key(method, Version::HTTP_11, &headers);
        assert_eq!(accepted.as_deref(), wanted, "{changed:?}");
    }

    #[test]
    fn opening_handshakes() {
        check(&Method::GET, &[], Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        check(&Method::POST, &[], None);
        for broken in [
            ("connection", "keep-alive"),
            ("upgrade", "h2c"),
            ("sec-websocket-version", "8"),
            ("sec-websocket-key", "short=="),
        ] {
            check(&Method::GET, &[broken], None);
        }
    }

    #[test]
    fn parameters_are_decoded_and_the_first_counts() {
        let query = "EIO=4&x=a%20b+c&x=second&%65=f&empty&bad=%ff%zz";
        let table = [
            ("EIO", Some("4")),
            ("x", Some("a b c")),
            ("e", Some("f")),
            ("empty", Some("")),
            ("bad", Some("\u{fffd}%zz")),
            ("__proto__", None),
        ];
        for (name, wanted) in table {
            assert_eq!(parameter(query, name).as_deref(), wanted, "{name}");
        }
    }
}
