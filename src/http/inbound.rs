//! What of a request shapes its answer whatever it is for: its id, its origin, what it can unpack.

use std::io::Write;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::header::{
    ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_METHOD, ALLOW, CACHE_CONTROL, CONTENT_ENCODING, CONTENT_LENGTH,
    CONTENT_TYPE, ORIGIN, REFERRER_POLICY, STRICT_TRANSPORT_SECURITY, VARY, X_CONTENT_TYPE_OPTIONS,
    X_FRAME_OPTIONS,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, request};
use http_body_util::{BodyExt, Collected};
use hyper::body::Body as _;

use super::exchange::empty;
use super::{Body, Reply};
use crate::config::Origins;

/// The header that names a request across services.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Characters of a request id that is taken over; longer ones are replaced by our own.
const REQUEST_ID_CHARS_MAX: usize = 64;
/// Answers below this many bytes fit into one packet, packed or not.
const GZIP_BYTES_MIN: usize = 1024;
/// What pages of other origins may send, beyond what they always may.
const HEADERS_ALLOWED: &str =
    "authorization, content-type, idempotency-key, x-device-id, x-request-id";
/// What they may read.
const HEADERS_EXPOSED: &str = "retry-after, x-request-id";

/// Taken from a request before its body is read; finishes the answer.
#[derive(Debug)]
pub struct Inbound {
    id: HeaderValue,
    origin: Option<HeaderValue>,
    kind: Kind,
    takes_gzip: bool,
    secure: bool,
}

/// What is special about a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// A browser asks whether a page may send the real request.
    Preflight,
    /// Everything but the body is wanted.
    Head,
    /// Nothing.
    Plain,
}

impl Inbound {
    /// What matters of a request's head; `secure` where the connection is encrypted.
    pub fn of(head: &request::Parts, secure: bool) -> Self {
        let headers = &head.headers;
        let asks_method = headers.contains_key(ACCESS_CONTROL_REQUEST_METHOD);
        let kind = match head.method {
            Method::OPTIONS if asks_method => Kind::Preflight,
            Method::HEAD => Kind::Head,
            _ => Kind::Plain,
        };
        Self {
            id: headers.get(REQUEST_ID).filter(|it| is_sane(it)).cloned().unwrap_or_else(new_id),
            origin: headers.get(ORIGIN).cloned(),
            kind,
            takes_gzip: takes_gzip(headers),
            secure,
        }
    }

    /// The request's id: the client's where it is sane, else one made here. For logs.
    pub fn id(&self) -> &str {
        self.id.to_str().unwrap_or_default()
    }

    /// Whether the client can unpack gzip.
    pub fn takes_gzip(&self) -> bool {
        self.takes_gzip
    }

    /// The answer to `OPTIONS`, preflight or not.
    pub fn options(&self, allow: &'static str) -> Reply {
        let mut reply = empty(StatusCode::NO_CONTENT);
        let allow = HeaderValue::from_static(allow);
        let headers = reply.headers_mut();
        if self.kind == Kind::Preflight {
            headers.insert(ACCESS_CONTROL_ALLOW_METHODS, allow.clone());
            let allowed = HeaderValue::from_static(HEADERS_ALLOWED);
            headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, allowed);
            // Two hours: as long as Chromium keeps a preflight at most.
            headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("7200"));
        }
        headers.insert(ALLOW, allow);
        reply
    }

    /// Adds what every answer carries, packs it where that pays, and takes the body from a HEAD's.
    pub async fn finish(self, reply: Reply, origins: &Origins) -> Reply {
        let (mut head, mut body) = reply.into_parts();
        if self.takes_gzip && pays(&head.headers, &body) {
            body = packed(body, &mut head.headers).await;
        }
        self.allow_origin(&mut head.headers, origins);
        let headers = &mut head.headers;
        let fixed = HeaderValue::from_static;
        headers.insert(REQUEST_ID, self.id);
        headers.insert(X_CONTENT_TYPE_OPTIONS, fixed("nosniff"));
        headers.insert(X_FRAME_OPTIONS, fixed("DENY"));
        headers.insert(REFERRER_POLICY, fixed("no-referrer"));
        // Answers are one user's own unless they say otherwise.
        headers.entry(CACHE_CONTROL).or_insert(fixed("no-store"));
        if self.secure {
            headers.insert(STRICT_TRANSPORT_SECURITY, fixed("max-age=31536000"));
        }
        if self.kind == Kind::Head {
            let length = body.size_hint().exact().unwrap_or_default();
            headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
            body = Body::default();
        }
        Reply::from_parts(head, body)
    }

    /// No credentials are ever allowed: tokens travel in a header that the page itself sets.
    fn allow_origin(&self, headers: &mut HeaderMap, origins: &Origins) {
        if let Origins::Listed(_) = origins {
            headers.append(VARY, HeaderValue::from_static("origin"));
        }
        let Some(origin) = &self.origin else { return };
        let allowed = match origins {
            Origins::Any => HeaderValue::from_static("*"),
            Origins::Listed(_) if origin.to_str().is_ok_and(|it| origins.allow(it)) => {
                origin.clone()
            }
            Origins::Listed(_) => return,
        };
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allowed);
        let exposed = HeaderValue::from_static(HEADERS_EXPOSED);
        headers.insert(ACCESS_CONTROL_EXPOSE_HEADERS, exposed);
    }
}

/// An id that may be written to a log as it is.
fn is_sane(id: &HeaderValue) -> bool {
    let bytes = id.as_bytes();
    let plain = |it: &u8| it.is_ascii_alphanumeric() || b"-_.:".contains(it);
    !bytes.is_empty() && bytes.len() <= REQUEST_ID_CHARS_MAX && bytes.iter().all(plain)
}

/// A number that no other request of this process has, after one that no other process has.
fn new_id() -> HeaderValue {
    static PROCESS: std::sync::LazyLock<u64> =
        std::sync::LazyLock::new(|| uuid::Uuid::new_v4().as_u64_pair().0);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let id = format!("{:016x}-{number:x}", *PROCESS);
    HeaderValue::try_from(id).unwrap_or_else(|_| HeaderValue::from_static("unnamed"))
}

/// Whether `Accept-Encoding` names gzip without ruling it out (`gzip;q=0`).
fn takes_gzip(headers: &HeaderMap) -> bool {
    let accepted = headers.get(ACCEPT_ENCODING).and_then(|it| it.to_str().ok());
    accepted.unwrap_or_default().split(',').any(|coding| {
        let (name, quality) = coding.split_once(';').unwrap_or((coding, ""));
        let refused = quality.trim().strip_prefix("q=").and_then(|it| it.parse::<f32>().ok());
        name.trim().eq_ignore_ascii_case("gzip") && refused.is_none_or(|it| it > 0.0)
    })
}

/// JSON of more than a packet that is not packed yet.
fn pays(headers: &HeaderMap, body: &Body) -> bool {
    let is_json = headers.get(CONTENT_TYPE).is_some_and(|it| it == "application/json");
    let large = body.size_hint().lower() >= u64::try_from(GZIP_BYTES_MIN).unwrap_or(u64::MAX);
    is_json && large && !headers.contains_key(CONTENT_ENCODING)
}

async fn packed(body: Body, headers: &mut HeaderMap) -> Body {
    // A body in memory is there at once and cannot fail.
    let plain = body.collect().await.map(Collected::to_bytes).unwrap_or_default();
    let Some(packed) = gzip(&plain, Compression::fast()) else { return Body::new(plain) };
    headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    headers.append(VARY, HeaderValue::from_static("accept-encoding"));
    Body::new(packed)
}

/// `plain` packed; `None` where that makes it no smaller.
pub(super) fn gzip(plain: &[u8], level: Compression) -> Option<Bytes> {
    let mut encoder = GzEncoder::new(Vec::with_capacity(plain.len() / 2), level);
    encoder.write_all(plain).ok()?;
    let packed = encoder.finish().ok()?;
    (packed.len() < plain.len()).then(|| Bytes::from(packed))
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::Arc;

    use flate2::read::GzDecoder;
    use http::Request;
    use serde_json::json;

    use super::super::exchange::{data, message};
    use super::*;

    fn inbound(method: &str, headers: &[(&str, &str)]) -> Inbound {
        let mut request = Request::builder().method(method).uri("/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        Inbound::of(&request.body(()).unwrap().into_parts().0, false)
    }

    fn header<'a>(reply: &'a Reply, name: &str) -> Option<&'a str> {
        reply.headers().get(name).map(|it| it.to_str().unwrap())
    }

    #[test]
    fn request_ids() {
        for (id, taken) in [
            ("abc-1.2:3_4", true),
            (&"x".repeat(64), true),
            (&"x".repeat(65), false),
            ("", false),
            ("a b", false),
            ("a\"b", false),
        ] {
            let inbound = inbound("GET", &[("x-request-id", id)]);
            assert_eq!(inbound.id() == id, taken, "{id}");
            assert!(is_sane(&inbound.id));
        }
        assert_ne!(inbound("GET", &[]).id(), inbound("GET", &[]).id());
    }

    #[tokio::test]
    async fn origins() {
        let listed = || Origins::Listed([Arc::from("https://a.example")].into());
        for (origins, origin, wanted) in [
            (Origins::Any, Some("https://a.example"), Some("*")),
            (Origins::Any, None, None),
            (listed(), Some("https://a.example"), Some("https://a.example")),
            (listed(), Some("https://b.example"), None),
            (listed(), Some("https://a.example.b.example"), None),
            (listed(), Some("null"), None),
            (listed(), None, None),
        ] {
            let headers: Vec<_> = origin.map(|it| ("origin", it)).into_iter().collect();
            let reply = inbound("GET", &headers).finish(message("x"), &origins).await;
            assert_eq!(header(&reply, "access-control-allow-origin"), wanted, "{origin:?}");
            assert_eq!(header(&reply, "access-control-allow-credentials"), None);
            assert_eq!(header(&reply, "vary").is_some(), origins != Origins::Any);
        }
    }

    #[tokio::test]
    async fn preflights() {
        let headers = [("origin", "https://a.example"), ("access-control-request-method", "POST")];
        let inbound_ = inbound("OPTIONS", &headers);
        let reply = inbound_.options("POST, OPTIONS");
        let reply = inbound_.finish(reply, &Origins::Any).await;
        assert_eq!(reply.status(), StatusCode::NO_CONTENT);
        assert_eq!(header(&reply, "access-control-allow-methods"), Some("POST, OPTIONS"));
        assert!(header(&reply, "access-control-allow-headers").unwrap().contains("authorization"));
        let plain = inbound("OPTIONS", &[]).options("GET");
        assert_eq!(header(&plain, "allow"), Some("GET"));
        assert_eq!(header(&plain, "access-control-allow-methods"), None);
    }

    #[tokio::test]
    async fn gzip_where_it_pays() {
        let large = json!({"calls": vec!["the same again"; 200]});
        for (accepts, value, packs) in [
            ("gzip", &large, true),
            ("br, GZIP;q=0.5", &large, true),
            ("gzip;q=0", &large, false),
            ("identity", &large, false),
            ("gzip", &json!({"calls": []}), false),
        ] {
            let inbound = inbound("GET", &[("accept-encoding", accepts)]);
            let reply = inbound.finish(data(StatusCode::OK, value), &Origins::Any).await;
            assert_eq!(header(&reply, "content-encoding").is_some(), packs, "{accepts}");
            let bytes = reply.into_body().collect().await.unwrap().to_bytes();
            if packs {
                let mut text = String::new();
                GzDecoder::new(&bytes[..]).read_to_string(&mut text).unwrap();
                let seen: serde_json::Value = serde_json::from_str(&text).unwrap();
                assert_eq!(&seen["data"], value);
                assert!(bytes.len() < text.len() / 2);
            }
        }
    }

    #[tokio::test]
    async fn a_head_has_the_length_and_no_body() {
        let reply = inbound("HEAD", &[]).finish(message("hello"), &Origins::Any).await;
        assert_eq!(header(&reply, "content-length"), Some("34"));
        assert!(reply.into_body().collect().await.unwrap().to_bytes().is_empty());
    }

    #[tokio::test]
    async fn every_answer_is_guarded() {
        let reply = inbound("GET", &[]).finish(message("x"), &Origins::Any).await;
        for (name, wanted) in [
            ("x-content-type-options", Some("nosniff")),
            ("x-frame-options", Some("DENY")),
            ("referrer-policy", Some("no-referrer")),
            ("cache-control", Some("no-store")),
            ("strict-transport-security", None),
        ] {
            assert_eq!(header(&reply, name), wanted);
        }
        let secure = Inbound { secure: true, ..inbound("GET", &[]) };
        let reply = secure.finish(message("x"), &Origins::Any).await;
        assert!(header(&reply, "strict-transport-security").is_some());
    }
}
