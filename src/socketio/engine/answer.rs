//! HTTP answers of the endpoint: payloads, the protocol's error bodies, CORS.

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS, CACHE_CONTROL, CONNECTION,
    CONTENT_TYPE, HOST, ORIGIN, RETRY_AFTER, SEC_WEBSOCKET_ACCEPT, UPGRADE, VARY,
};
use http::uri::Authority;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Uri};
use http_body_util::Full;

use crate::socketio::engine::options::CorsOrigins;

/// The body of every answer.
pub type Answer = Response<Full<Bytes>>;

/// Bytes of `Access-Control-Request-Headers` that a preflight repeats.
const REQUEST_HEADERS_BYTES_MAX: usize = 512;

/// Why a request is refused; codes and messages are Engine.IO's own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// `transport` is neither polling nor websocket.
    UnknownTransport,
    /// No session has this `sid`.
    UnknownSession,
    /// A handshake is a GET.
    BadHandshakeMethod,
    /// The request does not fit the session or the protocol.
    BadRequest,
    /// The page's origin may not connect.
    Forbidden,
    /// `EIO` is not 4.
    UnsupportedVersion,
    /// The body is longer than `max_payload`.
    PayloadTooLarge,
    /// The body did not come in time.
    BodyTimeout,
    /// As many sessions as allowed are open, or the process is about to end.
    Unavailable,
}

impl Refusal {
    const fn parts(self) -> (StatusCode, u8, &'static str) {
        match self {
            Self::UnknownTransport => (StatusCode::BAD_REQUEST, 0, "Transport unknown"),
            Self::UnknownSession => (StatusCode::BAD_REQUEST, 1, "Session ID unknown"),
            Self::BadHandshakeMethod => (StatusCode::BAD_REQUEST, 2, "Bad handshake method"),
            Self::BadRequest => (StatusCode::BAD_REQUEST, 3, "Bad request"),
            Self::Forbidden => (StatusCode::FORBIDDEN, 4, "Forbidden"),
            Self::UnsupportedVersion => {
                (StatusCode::BAD_REQUEST, 5, "Unsupported protocol version")
            }
            Self::PayloadTooLarge => (StatusCode::PAYLOAD_TOO_LARGE, 3, "Payload too large"),
            Self::BodyTimeout => (StatusCode::REQUEST_TIMEOUT, 3, "Body did not come in time"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, 3, "Try again later"),
        }
    }

    /// The answer with its body `{"code":..,"message":..}`.
    pub fn answer(self) -> Answer {
        let (status, code, message) = self.parts();
        let body = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        let mut answer = plain(status, "application/json", body.into());
        if status == StatusCode::SERVICE_UNAVAILABLE {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("2"));
        }
        answer
    }
}

/// 200 with a polling payload, or with the `ok` of a POST.
pub fn payload(body: Bytes) -> Answer {
    plain(StatusCode::OK, "text/plain; charset=UTF-8", body)
}

/// 101: the connection becomes a websocket.
pub fn switching(accept_key: &str) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    let headers = answer.headers_mut();
    headers.insert(CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(UPGRADE, HeaderValue::from_static("websocket"));
    if let Ok(accept) = HeaderValue::from_str(accept_key) {
        headers.insert(SEC_WEBSOCKET_ACCEPT, accept);
    }
    answer
}

fn plain(status: StatusCode, content_type: &'static str, body: Bytes) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// The answer to a CORS preflight, before [`allow_origin`].
pub fn preflight(request: &HeaderMap) -> Answer {
    let mut answer = Response::new(Full::default());
    *answer.status_mut() = StatusCode::NO_CONTENT;
    let headers = answer.headers_mut();
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, POST"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
    let asked = request.get(ACCESS_CONTROL_REQUEST_HEADERS);
    if let Some(asked) = asked.filter(|it| it.len() <= REQUEST_HEADERS_BYTES_MAX) {
        headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
    }
    answer
}

/// Whether a page of the request's origin may connect. Requests without an origin come from
/// programs, which no browser protects anyone from.
pub fn origin_allowed(allowed: &CorsOrigins, uri: &Uri, request: &HeaderMap) -> bool {
    let Some(origin) = request.get(ORIGIN) else { return true };
    let own = || {
        let origin = origin.to_str().ok()?;
        // HTTP/2 names the host in the address.
        let authority = uri.authority().map(Authority::as_str);
        let host = authority.or_else(|| request.get(HOST)?.to_str().ok())?;
        let (_, named) = origin.split_once("://")?;
        Some(named.eq_ignore_ascii_case(host))
    };
    match allowed {
        CorsOrigins::Any => true,
        CorsOrigins::List(list) if list.iter().any(|it| it == origin) => true,
        CorsOrigins::List(_) | CorsOrigins::None => own().unwrap_or(false),
    }
}

/// Adds the CORS headers that let a page of an allowed origin read `answer`.
pub fn allow_origin(allowed: &CorsOrigins, origin: Option<&HeaderValue>, answer: &mut Answer) {
    let headers = answer.headers_mut();
    match allowed {
        CorsOrigins::Any => {
            headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        }
        CorsOrigins::List(list) => {
            headers.insert(VARY, HeaderValue::from_static("Origin"));
            if let Some(origin) = origin.filter(|origin| list.iter().any(|it| it == *origin)) {
                headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
            }
        }
        CorsOrigins::None => (),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(origin: Option<&'static str>) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(HOST, HeaderValue::from_static("calls.example:8080"));
        if let Some(origin) = origin {
            headers.insert(ORIGIN, HeaderValue::from_static(origin));
        }
        headers
    }

    /// (what is configured, the request's origin, may it connect?, the CORS header)
    #[test]
    fn origins() {
        let list = || CorsOrigins::List(vec!["https://app.example".to_owned()]);
        let own = Some("http://calls.example:8080");
        let listed = Some("https://app.example");
        let other = Some("https://evil.example");
        let table = [
            (CorsOrigins::Any, other, true, Some("*")),
            (CorsOrigins::Any, None, true, Some("*")),
            (list(), listed, true, listed),
            (list(), other, false, None),
            (list(), Some("https://app.example.evil.example"), false, None),
            (list(), Some("null"), false, None),
            (list(), own, true, None),
            (list(), None, true, None),
            (CorsOrigins::None, own, true, None),
            (CorsOrigins::None, other, false, None),
            (CorsOrigins::None, None, true, None),
        ];
        for (allowed, origin, connects, header) in table {
            let request = headers(origin);
            assert_eq!(
                origin_allowed(&allowed, &Uri::from_static("/"), &request),
                connects,
                "{allowed:?} {origin:?}"
            );
            let mut answer = payload(Bytes::new());
            allow_origin(&allowed, request.get(ORIGIN), &mut answer);
            let sent = answer.headers().get(ACCESS_CONTROL_ALLOW_ORIGIN);
            let sent = sent.map(|it| it.to_str().unwrap());
            assert_eq!(sent, header, "{allowed:?} {origin:?}");
        }
    }

    #[test]
    fn every_refusal_is_json_with_its_code() {
        let table = [
            (Refusal::UnknownTransport, 400, 0),
            (Refusal::UnknownSession, 400, 1),
            (Refusal::BadHandshakeMethod, 400, 2),
            (Refusal::BadRequest, 400, 3),
            (Refusal::Forbidden, 403, 4),
            (Refusal::UnsupportedVersion, 400, 5),
            (Refusal::PayloadTooLarge, 413, 3),
            (Refusal::BodyTimeout, 408, 3),
            (Refusal::Unavailable, 503, 3),
        ];
        for (refusal, status, code) in table {
            let (parts_status, parts_code, message) = refusal.parts();
            assert_eq!((parts_status.as_u16(), parts_code), (status, code), "{refusal:?}");
            assert!(!message.contains('"'), "{message} must not need escaping");
            assert_eq!(refusal.answer().status().as_u16(), status);
        }
    }
}
