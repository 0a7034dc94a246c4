//! One request's life: find what it is for, say who asks, ask the app, answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use dashmap::DashMap;
use http::header::AUTHORIZATION;
use http::{HeaderMap, Request, StatusCode, request};
use hyper::body::Incoming;
use metrics::{Counter, counter};
use serde_json::value::RawValue;

use super::console::Console;
use super::exchange::{Failure, body_bytes, data, json_body, message, written};
use super::inbound::Inbound;
use super::probes::Probes;
use super::query;
use super::route::{Miss, Route, route};
use super::{Reply, openapi};
use crate::app::App;
use crate::app::error::AppError;
use crate::app::starting::Origin;
use crate::auth::{Identity, Verifier, bearer};
use crate::call::id::DeviceId;
use crate::config::Origins;
use crate::config::rates::Rule;
use crate::limits::Key;
use crate::telemetry::HTTP_REQUESTS_TOTAL;
use crate::wire::fields::{Fields, Malformed};
use crate::wire::request::{StartRequest, end_reason, media_settings, participant_settings};

/// How long a token of `/dev/token` lasts: a long day of trying out.
const DEV_TOKEN_LIFETIME: Duration = Duration::from_hours(12);

/// Bytes of a webhook's body, at most: that of a full room with many tracks has some ten thousand.
const WEBHOOK_BYTES_MAX: usize = 256 * 1024;

/// Characters of an `Idempotency-Key`, at most: room for a UUID and a name.
const IDEMPOTENCY_KEY_CHARS_MAX: usize = 128;

/// REST, probes and the console.
pub struct Api {
    /// The service.
    pub app: Arc<App>,
    /// Checks tokens.
    pub verifier: Arc<Verifier>,
    /// The page at `/`, where it is served.
    pub console: Option<Console>,
    /// Whether `/dev/*` exist.
    pub dev_endpoints: bool,
    /// Which pages may call.
    pub origins: Origins,
    /// Health and figures.
    pub probes: Probes,
    /// What has been answered.
    pub answered: Answered,
}

/// Counts answers by route and class of status. Each counter is kept once it is found: to find one allocates.
#[derive(Default)]
pub struct Answered(DashMap<(&'static str, &'static str), Counter>);

impl Answered {
    fn count(&self, route: &'static str, status: &'static str) {
        if let Some(found) = self.0.get(&(route, status)) {
            return found.increment(1);
        }
        let found = counter!(HTTP_REQUESTS_TOTAL, "route" => route, "status" => status);
        found.increment(1);
        self.0.insert((route, status), found);
    }
}

/// A request with its body still to come.
struct Asked {
    head: request::Parts,
    body: Incoming,
    client: IpAddr,
}

type Answer = Result<Reply, Failure>;

impl From<AppError> for Failure {
    fn from(error: AppError) -> Self {
        error.log();
        let mut failure = Self::new(error.code().as_str(), error.public_message());
        failure.data = error.data();
        match error.retry_after() {
            Some(wait) => failure.with_retry_after(wait),
            None => failure,
        }
    }
}

impl From<Malformed> for Failure {
    fn from(malformed: Malformed) -> Self {
        AppError::from(malformed).into()
    }
}

impl Api {
    /// Answers one request of `client`.
    pub async fn handle(&self, request: Request<Incoming>, client: IpAddr, secure: bool) -> Reply {
        let (head, body) = request.into_parts();
        let inbound = Inbound::of(&head, secure);
        let found = route(&head.method, head.uri.path());
        let template = found.map_or("none", Route::template);
        let reply = match found {
            Ok(route) => {
                let answer = self.answer(route, Asked { head, body, client }, &inbound).await;
                answer.unwrap_or_else(|failure| failure.reply())
            }
            Err(Miss::NotFound) => Failure::not_found().reply(),
            Err(Miss::NotAllowed { allow }) => Failure::method_not_allowed(allow).reply(),
            Err(Miss::Options { allow }) => inbound.options(allow),
        };
        let status = status_class(reply.status());
        self.answered.count(template, status);
        inbound.finish(reply, &self.origins).await
    }

    /// Answers on the port that Prometheus scrapes.
    pub fn scrape(&self, path: &str) -> Reply {
        match path {
            "/metrics" => self.probes.prometheus(&self.app),
            _ => Failure::not_found().reply(),
        }
    }

    async fn answer(&self, route: Route, asked: Asked, inbound: &Inbound) -> Answer {
        match route {
            Route::Health => Ok(self.probes.health(&self.app)),
            Route::Ready => Ok(self.probes.ready(&self.app)),
            Route::MonitoringHealth => Ok(self.probes.monitoring_health(&self.app)),
            Route::MonitoringMetrics => Ok(self.probes.monitoring_metrics(&self.app).await?),
            Route::OpenApi => Ok(openapi::reply(inbound.takes_gzip())),
            Route::DevToken if self.dev_endpoints => self.dev_token(asked).await,
            Route::DevUsers if self.dev_endpoints => {
                let users = Box::pin(self.app.present_anywhere()).await;
                Ok(data(StatusCode::OK, &serde_json::json!({ "users": users })))
            }
            Route::DevToken | Route::DevUsers => Err(Failure::not_found()),
            Route::Asset => match &self.console {
                Some(console) => {
                    let (path, takes_gzip) = (asked.head.uri.path(), inbound.takes_gzip());
                    Ok(console.reply(path, &asked.head.headers, takes_gzip))
                }
                None => Err(Failure::not_found()),
            },
            Route::LiveKitWebhook => self.hear(asked).await,
            Route::Start
            | Route::Join(_)
            | Route::End(_)
            | Route::Token(_)
            | Route::Call(_)
            | Route::History
            | Route::Active
            | Route::Stats
            | Route::Participant(_)
            | Route::RecordingStart(_)
            | Route::RecordingStop(_)
            | Route::Recordings(_)
            | Route::Quality(_) => {
                let who = self.identify(&asked.head.headers, asked.client)?;
                self.call(route, &who, asked).await
            }
        }
    }

    fn identify(&self, headers: &HeaderMap, client: IpAddr) -> Result<Identity, Failure> {
        let header = headers.get(AUTHORIZATION).map(|it| it.to_str().unwrap_or_default());
        let verified =
            bearer(header).and_then(|it| self.verifier.verify(it, self.app.clock.wall()));
        verified.or_else(|why| {
            self.app.rates.check(Rule::FailedAuth, Key::address(client))?;
            Err(why.into())
        })
    }

    /// What takes a user.
    async fn call(&self, route: Route, who: &Identity, asked: Asked) -> Answer {
        let (app, user) = (&self.app, &who.user);
        match route {
            Route::Start => self.start(who, asked).await,
            Route::Join(id) => {
                let device = device(&asked.head.headers)?;
                let settings = read(asked, media_settings).await?;
                Ok(ok(&app.join(id, user, settings, device).await?))
            }
            Route::End(id) => {
                read(asked, end_reason).await?;
                app.end(id, user).await?;
                Ok(message("Call ended successfully"))
            }
            Route::Token(id) => {
                read(asked, |_| Ok(())).await?;
                Ok(ok(&app.token(id, user).await?))
            }
            Route::Participant(id) => {
                let settings = read(asked, participant_settings).await?;
                app.set(id, user, settings).await?;
                Ok(message("Participant settings updated"))
            }
            Route::Call(id) => Ok(ok(&app.call(id, user).await?)),
            Route::History => {
                Ok(ok(&app.history(user, query::history(asked.head.uri.query())?).await?))
            }
            Route::Active => Ok(ok(&app.active(user).await?)),
            Route::Stats => {
                Ok(ok(&app.stats_for(user, query::window(asked.head.uri.query())?).await?))
            }
            Route::RecordingStart(id) => {
                read(asked, |_| Ok(())).await?;
                Ok(ok(&app.start_recording(id, user).await?))
            }
            Route::RecordingStop(id) => {
                read(asked, |_| Ok(())).await?;
                Ok(written(StatusCode::ACCEPTED, &app.stop_recording(id, user).await?))
            }
            Route::Recordings(id) => Ok(ok(&app.recordings(id, user).await?)),
            Route::Quality(id) => Ok(ok(&app.quality(id, user).await?)),
            Route::LiveKitWebhook
            | Route::Health
            | Route::Ready
            | Route::MonitoringMetrics
            | Route::MonitoringHealth
            | Route::OpenApi
            | Route::DevToken
            | Route::DevUsers
            | Route::Asset => Err(Failure::not_found()),
        }
    }

    async fn start(&self, who: &Identity, asked: Asked) -> Answer {
        let key = idempotency_key(&asked.head.headers)?;
        let device = device(&asked.head.headers)?;
        let max = self.app.participants_max();
        let request = read(asked, |it| StartRequest::read(it, &who.user, max)).await?;
        let from = Origin { key: key.as_deref(), device };
        let started = self.app.start(who, request, from).await?;
        let status = if started.created { StatusCode::CREATED } else { StatusCode::OK };
        Ok(written(status, &started.data))
    }

    /// A report of LiveKit: its body is checked as it came, before anything in it is looked at.
    async fn hear(&self, asked: Asked) -> Answer {
        if self.app.livekit_is_well().is_none() {
            // Without a media server nobody can have signed a webhook.
            return Err(Failure::new("unauthorized", "LiveKit is not configured here"));
        }
        let header = asked.head.headers.get(AUTHORIZATION);
        let authorization = header.and_then(|it| it.to_str().ok()).unwrap_or_default().to_owned();
        let body = body_bytes(asked.body, WEBHOOK_BYTES_MAX).await?;
        self.app.hear(&authorization, &body).await?;
        Ok(message("heard"))
    }

    async fn dev_token(&self, asked: Asked) -> Answer {
        let (user, name) = read(asked, |it| {
            Ok((it.user_id("userId")?, it.text("username", crate::auth::NAME_CHARS_MAX)?))
        })
        .await?;
        let now = self.app.clock.wall();
        let token = self.verifier.issue(&user, name.as_deref(), now, DEV_TOKEN_LIFETIME);
        let token = token.ok_or_else(|| {
            Failure::new("not_found", "tokens are checked with a public key here, not issued")
        })?;
        Ok(data(StatusCode::OK, &serde_json::json!({ "token": token })))
    }
}

/// A label of few values.
fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() / 100 {
        1 => "1xx",
        2 => "2xx",
        3 => "3xx",
        4 => "4xx",
        _ => "5xx",
    }
}

fn ok(value: &RawValue) -> Reply {
    written(StatusCode::OK, value)
}

/// Takes the body in and reads its fields.
async fn read<T>(
    asked: Asked,
    read: impl FnOnce(&Fields<'_>) -> Result<T, Malformed>,
) -> Result<T, Failure> {
    let body: Bytes = json_body(&asked.head.headers, asked.body).await?;
    let mut scratch = Vec::from(body);
    Ok(read(&Fields::parse(&mut scratch)?)?)
}

/// The device that starts or joins, where it says so.
fn device(headers: &HeaderMap) -> Result<Option<DeviceId>, Failure> {
    let Some(header) = headers.get("x-device-id") else { return Ok(None) };
    let text = header.to_str().unwrap_or_default();
    let device = DeviceId::parse(text);
    Ok(Some(device.map_err(|why| Malformed::new("X-Device-Id", text, why.to_string()))?))
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Failure> {
    let Some(header) = headers.get("idempotency-key") else { return Ok(None) };
    let text = header.to_str().unwrap_or_default();
    let fits = (1..=IDEMPOTENCY_KEY_CHARS_MAX).contains(&text.len());
    if !fits {
        let expected = format!("1 to {IDEMPOTENCY_KEY_CHARS_MAX} visible ASCII characters");
        return Err(Malformed::new("Idempotency-Key", text, expected).into());
    }
    Ok(Some(text.to_owned()))
}
