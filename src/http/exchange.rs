//! Bodies in and answers out: the bounds of the one, the envelope and the status table of the other.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ALLOW, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderValue, StatusCode};
use http_body_util::{BodyExt, Limited};
use hyper::body::Body as Stream;
use serde::Serialize;
use serde_json::value::RawValue;

use super::{Body, Reply};
use crate::auth::Unauthorized;
use crate::limits::RateLimited;

/// Bytes of a JSON body, at most (contract, section 4).
pub const BODY_BYTES_MAX: usize = 64 * 1024;
/// How long a body may take to arrive; hyper itself would wait for ever.
pub const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// The status of every code that an answer can carry (contract, section 8).
const STATUS: &[(&str, StatusCode)] = &[
    ("invalid_request", StatusCode::BAD_REQUEST),
    ("unauthorized", StatusCode::UNAUTHORIZED),
    ("forbidden", StatusCode::FORBIDDEN),
    ("not_invited", StatusCode::FORBIDDEN),
    ("removed", StatusCode::FORBIDDEN),
    ("not_found", StatusCode::NOT_FOUND),
    ("method_not_allowed", StatusCode::METHOD_NOT_ALLOWED),
    ("already_in_call", StatusCode::CONFLICT),
    ("busy", StatusCode::CONFLICT),
    ("call_full", StatusCode::CONFLICT),
    ("not_joined", StatusCode::CONFLICT),
    ("conflict", StatusCode::CONFLICT),
    ("call_over", StatusCode::GONE),
    ("payload_too_large", StatusCode::PAYLOAD_TOO_LARGE),
    ("unsupported_media_type", StatusCode::UNSUPPORTED_MEDIA_TYPE),
    ("rate_limited", StatusCode::TOO_MANY_REQUESTS),
    ("internal", StatusCode::INTERNAL_SERVER_ERROR),
    ("no_media_server", StatusCode::NOT_IMPLEMENTED),
    ("draining", StatusCode::SERVICE_UNAVAILABLE),
    ("media_unavailable", StatusCode::SERVICE_UNAVAILABLE),
    ("storage_full", StatusCode::SERVICE_UNAVAILABLE),
    ("history_unavailable", StatusCode::SERVICE_UNAVAILABLE),
    ("recording_unavailable", StatusCode::SERVICE_UNAVAILABLE),
    ("cluster_unavailable", StatusCode::SERVICE_UNAVAILABLE),
];

/// The status that goes with `code`; 500 for a code that is in no table.
pub fn status_of(code: &str) -> StatusCode {
    let found = STATUS.iter().find(|(it, _)| *it == code);
    found.map_or(StatusCode::INTERNAL_SERVER_ERROR, |(_, status)| *status)
}

/// An answer that says no.
#[derive(Debug, Clone)]
pub struct Failure {
    /// For programs: one of the contract's codes.
    pub code: &'static str,
    /// For people: one sentence without secrets and without other users' ids.
    pub error: Cow<'static, str>,
    /// What goes with the code, as the call that one is in already.
    pub data: Option<Box<RawValue>>,
    /// When to try again.
    pub retry_after: Option<RateLimited>,
    /// The methods that the path knows.
    pub allow: Option<&'static str>,
    /// Whether the connection must end: what follows on it may be the rest of a refused body.
    pub closes: bool,
}

impl Failure {
    /// An answer with `code` and a sentence.
    pub fn new(code: &'static str, error: impl Into<Cow<'static, str>>) -> Self {
        Self {
            code,
            error: error.into(),
            data: None,
            retry_after: None,
            allow: None,
            closes: false,
        }
    }

    /// The same with data.
    #[must_use]
    pub fn with_data(self, data: Box<RawValue>) -> Self {
        Self { data: Some(data), ..self }
    }

    /// The same with `Retry-After`.
    #[must_use]
    pub fn with_retry_after(self, retry_after: Duration) -> Self {
        Self { retry_after: Some(RateLimited { retry_after }), ..self }
    }

    /// No such path, or nothing there.
    pub fn not_found() -> Self {
        Self::new("not_found", "there is nothing here")
    }

    /// The path knows other methods.
    pub fn method_not_allowed(allow: &'static str) -> Self {
        let failure = Self::new("method_not_allowed", format!("allowed here: {allow}"));
        Self { allow: Some(allow), ..failure }
    }

    fn closing(self) -> Self {
        Self { closes: true, ..self }
    }

    /// The answer itself.
    pub fn reply(&self) -> Reply {
        let (code, error, data) = (self.code, self.error.as_ref(), self.data.as_deref());
        let body = FailureBody { success: false, error, code, data };
        let mut reply = json(status_of(code), &body);
        let headers = reply.headers_mut();
        if let Some(wait) = self.retry_after {
            headers.insert(RETRY_AFTER, HeaderValue::from(wait.seconds()));
        }
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if code == "unauthorized" {
            headers.insert(http::header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if self.closes {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        reply
    }
}

impl From<RateLimited> for Failure {
    fn from(limited: RateLimited) -> Self {
        Self::new("rate_limited", limited.to_string()).with_retry_after(limited.retry_after)
    }
}

impl From<Unauthorized> for Failure {
    fn from(why: Unauthorized) -> Self {
        Self::new("unauthorized", why.to_string())
    }
}

#[derive(Serialize)]
struct FailureBody<'a> {
    success: bool,
    error: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct DataBody<'a, T> {
    success: bool,
    data: &'a T,
}

#[derive(Serialize)]
struct MessageBody<'a> {
    success: bool,
    message: &'a str,
}

/// `{success: true, data}`.
pub fn data<T: Serialize>(status: StatusCode, data: &T) -> Reply {
    json(status, &DataBody { success: true, data })
}

/// The same around JSON that is written already.
pub fn written(status: StatusCode, data: &RawValue) -> Reply {
    const BEFORE: &str = r#"{"success":true,"data":"#;
    const AFTER: &str = "}";
    let parts = [BEFORE, data.get(), AFTER];
    bytes_of(status, "application/json", parts.concat().into())
}

/// `{success: true, message}`.
pub fn message(message: &str) -> Reply {
    json(StatusCode::OK, &MessageBody { success: true, message })
}

/// JSON without an envelope: health, metrics, the description.
pub fn json<T: Serialize>(status: StatusCode, value: &T) -> Reply {
    match serde_json::to_vec(value) {
        Ok(bytes) => bytes_of(status, "application/json", bytes.into()),
        Err(error) => {
            tracing::error!(%error, "an answer that cannot be written as JSON");
            let body = r#"{"success":false,"error":"internal error","code":"internal"}"#;
            let status = StatusCode::INTERNAL_SERVER_ERROR;
            bytes_of(status, "application/json", Bytes::from_static(body.as_bytes()))
        }
    }
}

/// Any bytes.
pub fn bytes_of(status: StatusCode, content_type: &'static str, bytes: Bytes) -> Reply {
    let mut reply = Reply::new(Body::new(bytes));
    *reply.status_mut() = status;
    reply.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    reply
}

/// No body at all, for 204.
pub fn empty(status: StatusCode) -> Reply {
    let mut reply = Reply::new(Body::default());
    *reply.status_mut() = status;
    reply
}

/// A JSON body as bytes: empty where there is none, else of the right type, bounded in size and
/// time.
///
/// # Errors
/// 413 over [`BODY_BYTES_MAX`], 415 where it is not `application/json`, 400 where it does not
/// arrive. What is in it is read by `wire`, which names the field that is wrong.
pub async fn json_body<B>(headers: &HeaderMap, body: B) -> Result<Bytes, Failure>
where
    B: Stream<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let bytes = body_bytes(body, BODY_BYTES_MAX).await?;
    if !bytes.is_empty() && !is_json(headers.get(CONTENT_TYPE)) {
        let error = "the body must be JSON, with content-type application/json";
        return Err(Failure::new("unsupported_media_type", error));
    }
    Ok(bytes)
}

/// A body of any type, bounded in size and time.
///
/// # Errors
/// 413 over `bytes_max`, 400 where it does not arrive within [`BODY_TIME_MAX`].
pub async fn body_bytes<B>(body: B, bytes_max: usize) -> Result<Bytes, Failure>
where
    B: Stream<Data = Bytes>,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let most = u64::try_from(bytes_max).unwrap_or(u64::MAX);
    if body.size_hint().lower() > most {
        return Err(too_large(bytes_max));
    }
    let whole = Limited::new(body, bytes_max).collect();
    match tokio::time::timeout(BODY_TIME_MAX, whole).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
            Err(too_large(bytes_max))
        }
        Ok(Err(_)) => Err(incomplete("the body ended before it was complete")),
        Err(_) => Err(incomplete("the body did not arrive in time")),
    }
}

fn too_large(bytes_max: usize) -> Failure {
    let error = format!("the body is larger than {bytes_max} bytes");
    Failure::new("payload_too_large", error).closing()
}

fn incomplete(error: &'static str) -> Failure {
    Failure::new("invalid_request", error).closing()
}

/// `application/json`, whatever its parameters, as long as the characters are UTF-8.
fn is_json(content_type: Option<&HeaderValue>) -> bool {
    let Some(text) = content_type.and_then(|it| it.to_str().ok()) else { return false };
    let mut parts = text.split(';').map(|it| it.trim().to_ascii_lowercase());
    let is_json = parts.next().is_some_and(|it| it == "application/json");
    let charset = parts.find_map(|it| it.strip_prefix("charset=").map(str::to_owned));
    is_json && charset.is_none_or(|it| it.trim_matches('"') == "utf-8")
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};

    use expect_test::{Expect, expect};
    use http_body_util::Full;
    use hyper::body::Frame;
    use serde_json::json;
    use serde_json::value::to_raw_value;
    use tokio::time::Instant;

    use super::*;

    async fn check(reply: Reply, wanted: Expect) {
        let (head, body) = reply.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let mut lines = vec![head.status.to_string()];
        for (name, value) in &head.headers {
            lines.push(format!("{name}: {}", value.to_str().unwrap()));
        }
        lines.push(String::from_utf8(bytes.to_vec()).unwrap());
        wanted.assert_eq(&lines.join("\n"));
    }

    #[tokio::test]
    async fn answers_on_the_wire() {
        check(
            data(StatusCode::CREATED, &json!({"a": 1})),
            expect![[r#"
            201 Created
            content-type: application/json
            {"success":true,"data":{"a":1}}"#]],
        )
        .await;
        check(
            written(StatusCode::OK, &to_raw_value(&json!({"a": 1})).unwrap()),
            expect![[r#"
            200 OK
            content-type: application/json
            {"success":true,"data":{"a":1}}"#]],
        )
        .await;
        check(
            message("Call ended successfully"),
            expect![[r#"
            200 OK
            content-type: application/json
            {"success":true,"message":"Call ended successfully"}"#]],
        )
        .await;
        check(empty(StatusCode::NO_CONTENT), expect![["204 No Content\n"]]).await;
        check(
            Failure::not_found().reply(),
            expect![[r#"
            404 Not Found
            content-type: application/json
            {"success":false,"error":"there is nothing here","code":"not_found"}"#]],
        )
        .await;
        check(
            Failure::method_not_allowed("GET").reply(),
            expect![[r#"
            405 Method Not Allowed
            content-type: application/json
            allow: GET
            {"success":false,"error":"allowed here: GET","code":"method_not_allowed"}"#]],
        )
        .await;
        check(
            Failure::from(Unauthorized::Expired).reply(),
            expect![[r#"
            401 Unauthorized
            content-type: application/json
            www-authenticate: Bearer
            {"success":false,"error":"the token has expired","code":"unauthorized"}"#]],
        )
        .await;
        let limited = RateLimited { retry_after: Duration::from_millis(1200) };
        check(Failure::from(limited).reply(), expect![[r#"
            429 Too Many Requests
            content-type: application/json
            retry-after: 2
            {"success":false,"error":"too many requests, try again in 2 s","code":"rate_limited"}"#]]).await;
        let call = to_raw_value(&json!({"callId": "x"})).unwrap();
        let failure = Failure::new("already_in_call", "you are in another call").with_data(call);
        check(failure.reply(), expect![[r#"
            409 Conflict
            content-type: application/json
            {"success":false,"error":"you are in another call","code":"already_in_call","data":{"callId":"x"}}"#]]).await;
    }

    #[test]
    fn every_code_of_the_contract_has_its_status() {
        let table: Vec<_> =
            STATUS.iter().map(|(code, status)| format!("{code} {}", status.as_u16())).collect();
        expect![[r"
            invalid_request 400
            unauthorized 401
            forbidden 403
            not_invited 403
            removed 403
            not_found 404
            method_not_allowed 405
            already_in_call 409
            busy 409
            call_full 409
            not_joined 409
            conflict 409
            call_over 410
            payload_too_large 413
            unsupported_media_type 415
            rate_limited 429
            internal 500
            no_media_server 501
            draining 503
            media_unavailable 503
            storage_full 503
            history_unavailable 503
            recording_unavailable 503
            cluster_unavailable 503"]]
        .assert_eq(&table.join("\n"));
        assert_eq!(status_of("no such code"), StatusCode::INTERNAL_SERVER_ERROR);
    }

    fn typed(content_type: &str) -> HeaderMap {
        let value = HeaderValue::from_str(content_type).unwrap();
        HeaderMap::from_iter([(CONTENT_TYPE, value)])
    }

    #[tokio::test]
    async fn bodies() {
        let over = "x".repeat(BODY_BYTES_MAX + 1);
        let most = "x".repeat(BODY_BYTES_MAX);
        for (content_type, body, wanted) in [
            ("application/json", "{}", Ok(2)),
            ("application/json; charset=utf-8", "{}", Ok(2)),
            ("Application/JSON;charset=\"UTF-8\"", "{}", Ok(2)),
            ("application/json", most.as_str(), Ok(BODY_BYTES_MAX)),
            ("application/json", over.as_str(), Err("payload_too_large")),
            ("text/plain", "{}", Err("unsupported_media_type")),
            ("application/json; charset=latin1", "{}", Err("unsupported_media_type")),
            ("application/jsonx", "{}", Err("unsupported_media_type")),
            ("text/plain", "", Ok(0)),
        ] {
            let body = Full::new(Bytes::copy_from_slice(body.as_bytes()));
            let seen = json_body(&typed(content_type), body).await;
            assert_eq!(seen.map(|it| it.len()).map_err(|it| it.code), wanted, "{content_type}");
        }
        let untyped = json_body(&HeaderMap::new(), Full::new(Bytes::from_static(b"{}"))).await;
        assert_eq!(untyped.unwrap_err().code, "unsupported_media_type");
    }

    /// A body that sends one piece and then nothing more, or pieces for ever.
    struct Dripping {
        forever: bool,
    }

    impl Stream for Dripping {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            if self.forever {
                Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[b'x'; 1000])))))
            } else {
                Poll::Pending
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_does_not_arrive_is_not_waited_for() {
        let before = Instant::now();
        let failure = body_bytes(Dripping { forever: false }, 10).await.unwrap_err();
        assert_eq!((failure.code, failure.closes), ("invalid_request", true));
        assert_eq!(before.elapsed().as_secs(), BODY_TIME_MAX.as_secs());
    }

    #[tokio::test]
    async fn a_body_without_end_is_cut() {
        let failure = body_bytes(Dripping { forever: true }, BODY_BYTES_MAX).await.unwrap_err();
        assert_eq!((failure.code, failure.closes), ("payload_too_large", true));
    }
}
