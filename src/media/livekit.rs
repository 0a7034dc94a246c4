//! LiveKit as this service uses it: rooms, who is in them, and tokens that let people in.
//!
//! Every request about rooms has a deadline, waits for one of a few places, and passes a circuit breaker: a
//! server that is away is not asked by everybody, and nobody waits for it for long. The list of all rooms
//! alone is asked past the breaker, since it is what finds out that LiveKit is back.

use std::collections::HashMap;
use std::iter::Repeat;
use std::pin::Pin;
use std::time::Duration;

use failsafe::failure_policy::{ConsecutiveFailures, consecutive_failures};
use failsafe::{StateMachine, backoff};
use http::Uri;
use livekit_api::access_token::TokenVerifier;
use livekit_api::services::LiveKitApi;
use livekit_api::services::ServiceResult;
use livekit_api::services::room::{CreateRoomOptions, UpdateParticipantOptions};
use livekit_api::webhooks::WebhookReceiver;
use livekit_protocol as proto;
use metrics::counter;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout, timeout_at};

use crate::call::id::{CallId, UserId};
use crate::call::pass::{Pass, Sources};
use crate::call::time::Timestamp;
use crate::config::livekit::LiveKit as Settings;
use crate::media::error::{Kind, MediaError};
use crate::media::grant::{Grants, Validity};
use crate::media::guest::{Guest, sources};
use crate::telemetry::LIVEKIT_REQUESTS_TOTAL;

/// Failures in a row after which LiveKit is left alone for a while (fault F9).
const FAILURES_MAX: u32 = 5;
/// For how long it is.
const REST: Duration = Duration::from_secs(5);
/// A token is good a little before it is made: LiveKit's clock may be behind ours.
const CLOCK_SKEW: Duration = Duration::from_secs(10);

type Asked<'a, T> = Pin<Box<dyn Future<Output = ServiceResult<T>> + Send + 'a>>;
type Breaker = StateMachine<ConsecutiveFailures<Repeat<Duration>>, ()>;

/// A LiveKit server.
pub struct LiveKit {
    pub(super) settings: Settings,
    pub(super) api: LiveKitApi,
    pub(super) webhooks: WebhookReceiver,
    grants: Grants,
    places: Semaphore,
    breaker: Breaker,
    /// Whose rooms these are: of several services on one server, each leaves the others' alone.
    service: String,
    /// By what name they were ours before, if by any.
    former: Option<String>,
}

/// What a room has to be.
#[derive(Debug, Clone, Copy)]
pub struct RoomWanted {
    /// The call that it is for.
    pub call: CallId,
    /// How many may be in it.
    pub participants_max: u16,
}

/// A room that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// How many are in it.
    pub participants: usize,
    /// Whether this service made it.
    pub ours: bool,
    /// Whether it did so under its former name.
    pub formerly: bool,
}

impl LiveKit {
    /// A server that nobody has asked yet; `service` names this service among those that use it.
    pub fn new(settings: &Settings, service: String) -> Self {
        let (key, secret) = (&settings.key, settings.secret.expose());
        let api = LiveKitApi::with_api_key(&settings.api_url, key, secret);
        let verifier = TokenVerifier::with_api_key(key, secret);
        Self {
            // Our own deadline and breaker stand in for the client's retries.
            api: api.with_failover(false).with_request_timeout(settings.timeout),
            webhooks: WebhookReceiver::new(verifier),
            grants: Grants::new(key, secret),
            places: Semaphore::new(settings.concurrency),
            breaker: failsafe::Config::new()
                .failure_policy(consecutive_failures(FAILURES_MAX, backoff::constant(REST)))
                .build(),
            service,
            former: None,
            settings: settings.clone(),
        }
    }

    /// The same, where its rooms bore another name once: nobody else looks after those.
    #[must_use]
    pub fn formerly(self, name: String) -> Self {
        Self { former: Some(name).filter(|it| *it != self.service), ..self }
    }

    /// Where clients reach it.
    pub fn url(&self) -> &str {
        &self.settings.url
    }

    /// How long a token lets in.
    pub fn token_ttl(&self) -> Duration {
        self.settings.token_ttl
    }

    /// Completes when a connection to the server ends, or can't be made: it may have been started anew,
    /// and have forgotten its rooms.
    pub async fn line(&self) {
        let Ok(url) = self.settings.api_url.parse::<Uri>() else { return };
        let secure = matches!(url.scheme_str(), Some("https" | "wss"));
        let port = url.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let connected = timeout(self.settings.timeout, TcpStream::connect((host, port))).await;
        let Ok(Ok(mut line)) = connected else { return };
        // Nothing is asked on it, so nothing comes but its end.
        let ended = line.read(&mut [0]).await;
        tracing::debug!(?ended, "the line to LiveKit has ended");
    }

    /// How often all rooms are to be compared with all calls.
    pub fn check_interval(&self) -> Duration {
        self.settings.check_interval
    }

    /// A token that lets the pass's owner into the call's room, and do there what the pass says. `now` is
    /// wall time, which LiveKit goes by.
    pub fn token(&self, pass: &Pass, now: Timestamp) -> String {
        let seconds = |it: Timestamp| it.0.div_euclid(1000);
        let (from, until) = (now.minus(CLOCK_SKEW), now.plus(self.settings.token_ttl));
        self.grants.token(pass, Validity { from: seconds(from), until: seconds(until) })
    }

    /// Makes a room; one that is there already stays as it is.
    pub async fn create_room(&self, wanted: RoomWanted) -> Result<(), MediaError> {
        let seconds = self.settings.empty_timeout.as_secs();
        let empty = u32::try_from(seconds).unwrap_or(u32::MAX);
        let options = CreateRoomOptions {
            empty_timeout: empty,
            departure_timeout: empty,
            max_participants: u32::from(wanted.participants_max),
            metadata: mark(wanted.call, &self.service),
            ..CreateRoomOptions::default()
        };
        let room = wanted.call.room();
        let asked = async move { Box::pin(self.api.room().create_room(&room, options)).await };
        self.ask("creating a room", asked).await.map(|_| ())
    }

    /// Whether a room with that metadata was made by this service, for that call.
    pub(super) fn is_ours(&self, call: CallId, metadata: &str) -> bool {
        metadata == mark(call, &self.service)
    }

    /// Makes a room ours that LiveKit has made by itself, as it does where `auto_create` is on, or that bears our
    /// former name.
    pub async fn adopt_room(&self, call: CallId) -> Result<(), MediaError> {
        let (room, mark) = (call.room(), mark(call, &self.service));
        let asked = async move { self.api.room().update_room_metadata(&room, &mark).await };
        gone_is_fine(self.ask("marking a room", asked).await.map(|_| ()))
    }

    /// Closes a room, and with it every connection there; no token opens it again where LiveKit makes no
    /// rooms by itself (`auto_create: false`). That there is none is as good.
    pub async fn delete_room(&self, call: CallId) -> Result<(), MediaError> {
        let room = call.room();
        let asked = async move { self.api.room().delete_room(&room).await };
        gone_is_fine(self.ask("deleting a room", asked).await)
    }

    /// All rooms that are named as calls are. Asked even while LiveKit is left alone: that it answers is
    /// how it is found to be back.
    pub async fn rooms(&self) -> Result<HashMap<CallId, Room>, MediaError> {
        let asked = Box::pin(async move { self.api.room().list_rooms(Vec::new()).await });
        let rooms = self.ask_anyway("listing rooms", asked).await?;
        self.breaker.reset();
        Ok(self.read(&rooms))
    }

    /// The room of a call, where there is one.
    pub async fn room(&self, call: CallId) -> Result<Option<Room>, MediaError> {
        let asked = async move { self.api.room().list_rooms(vec![call.room()]).await };
        let rooms = self.ask("listing one room", asked).await?;
        Ok(self.read(&rooms).remove(&call))
    }

    fn read(&self, rooms: &[proto::Room]) -> HashMap<CallId, Room> {
        let read = |it: &proto::Room| {
            let participants = usize::try_from(it.num_participants).unwrap_or(usize::MAX);
            let call = CallId::of_room(&it.name)?;
            let ours = self.is_ours(call, &it.metadata);
            let formerly = self.former.as_ref().is_some_and(|name| it.metadata == mark(call, name));
            Some((call, Room { participants, ours, formerly }))
        };
        rooms.iter().filter_map(read).collect()
    }

    /// Who is in a call's room, machines that record or the like apart.
    pub async fn guests(&self, call: CallId) -> Result<Vec<Guest>, MediaError> {
        let room = call.room();
        let asked = async move { self.api.room().list_participants(&room).await };
        let found = match self.ask("listing participants", asked).await {
            Err(error) if error.kind == Kind::NotFound => Vec::new(),
            found => found?,
        };
        Ok(found.iter().filter_map(Guest::read).collect())
    }

    /// Puts somebody out. Their token still holds: they have to be put out again if they come back.
    pub async fn remove(&self, call: CallId, user: &UserId) -> Result<(), MediaError> {
        let (room, identity) = (call.room(), user.as_str().to_owned());
        let asked = async move { self.api.room().remove_participant(&room, &identity).await };
        gone_is_fine(self.ask("removing a participant", asked).await)
    }

    /// Mutes a track.
    pub async fn mute(&self, call: CallId, user: &UserId, track: &str) -> Result<(), MediaError> {
        let (room, identity, track) = (call.room(), user.as_str().to_owned(), track.to_owned());
        let asked = async move {
            self.api.room().mute_published_track(&room, &identity, &track, true).await.map(|_| ())
        };
        gone_is_fine(self.ask("muting a track", asked).await)
    }

    /// Lets somebody send what `allowed` says, and nothing else: what is sent beyond it ends.
    pub async fn permit(
        &self,
        call: CallId,
        user: &UserId,
        allowed: Sources,
    ) -> Result<(), MediaError> {
        let (room, identity) = (call.room(), user.as_str().to_owned());
        let permission = proto::ParticipantPermission {
            can_subscribe: true,
            can_publish: true,
            can_publish_data: false,
            can_publish_sources: sources(allowed).into_iter().map(i32::from).collect(),
            ..proto::ParticipantPermission::default()
        };
        let options = UpdateParticipantOptions {
            permission: Some(permission),
            ..UpdateParticipantOptions::default()
        };
        let asked = async move {
            self.api.room().update_participant(&room, &identity, options).await.map(|_| ())
        };
        gone_is_fine(self.ask("changing what may be sent", asked).await)
    }

    /// Asks, in time and in turn. What the client makes of a request is large: it lies on the heap.
    fn ask<'a, T>(
        &'a self,
        during: &'static str,
        asked: impl Future<Output = ServiceResult<T>> + Send + 'a,
    ) -> impl Future<Output = Result<T, MediaError>> + Send + 'a
    where
        T: Send + 'a,
    {
        let asked = Box::pin(asked);
        async move {
            if !self.breaker.is_call_permitted() {
                return Err(MediaError::new(during, Kind::Away));
            }
            self.ask_anyway(during, asked).await
        }
    }

    async fn ask_anyway<T>(
        &self,
        during: &'static str,
        asked: Asked<'_, T>,
    ) -> Result<T, MediaError> {
        let limit = self.settings.timeout;
        let deadline = Instant::now() + limit;
        let Ok(Ok(_place)) = timeout(limit * 3 / 4, self.places.acquire()).await else {
            return Err(MediaError::new(during, Kind::Busy));
        };
        let crowded = deadline - Instant::now() < limit / 2;
        let outcome = match timeout_at(deadline, asked).await {
            // A crowd of our own is no fault of LiveKit.
            Err(cause) if crowded => Err(MediaError::caused(during, Kind::Busy, cause)),
            outcome => answered(during, outcome),
        };
        match &outcome {
            Err(error) if error.kind == Kind::Away => self.breaker.on_error(),
            Err(error) if error.kind == Kind::Busy => {}
            Ok(_) | Err(_) => self.breaker.on_success(),
        }
        let label = outcome.as_ref().map_or_else(|error| error.kind.as_str(), |_| "ok");
        counter!(LIVEKIT_REQUESTS_TOTAL, "outcome" => label).increment(1);
        outcome
    }
}

/// What came of a request, or that nothing did in time.
pub(super) fn answered<T>(
    during: &'static str,
    outcome: Result<ServiceResult<T>, tokio::time::error::Elapsed>,
) -> Result<T, MediaError> {
    match outcome {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(cause)) => Err(MediaError::service(during, cause)),
        Err(cause) => Err(MediaError::caused(during, Kind::Away, cause)),
    }
}

/// What is written on a room: whose it is, and for which call.
fn mark(call: CallId, service: &str) -> String {
    serde_json::json!({ "callId": call.to_string(), "service": service }).to_string()
}

fn gone_is_fine(outcome: Result<(), MediaError>) -> Result<(), MediaError> {
    match outcome {
        Err(error) if error.kind == Kind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use livekit_api::access_token::VideoGrants;

    use super::*;
    use crate::call::state::{MediaPath, Role};
    use crate::config::Config;

    fn livekit() -> LiveKit {
        let set = |name: &str| match name {
            "LIVEKIT_URL" => Some("ws://livekit.example:7880".to_owned()),
            "LIVEKIT_API_KEY" => Some("key".to_owned()),
            "LIVEKIT_API_SECRET" => Some("a secret of at least 32 characters".to_owned()),
            _ => None,
        };
        LiveKit::new(&Config::load(set).unwrap().media.livekit.unwrap(), "here".to_owned())
    }

    #[tokio::test]
    async fn a_token_lets_in_and_no_more() {
        let call = CallId::parse("0193d5f0-0000-7000-8000-000000000001").unwrap();
        let pass = |camera, screen| Pass {
            call,
            user: UserId::parse("ann").unwrap(),
            role: Role::Initiator,
            media: MediaPath::Livekit,
            sources: Sources { camera, screen },
        };
        let now = crate::clock::Clock::start().wall();
        for (camera, screen, wanted) in [
            (false, false, vec!["microphone"]),
            (true, false, vec!["microphone", "camera"]),
            (true, true, vec!["microphone", "camera", "screen_share", "screen_share_audio"]),
        ] {
            let livekit = livekit();
            let token = livekit.token(&pass(camera, screen), now);
            let verifier = TokenVerifier::with_api_key("key", "a secret of at least 32 characters");
            let claims = verifier.verify(&token).unwrap();
            let ttl = i64::try_from(claims.exp).unwrap() - now.0 / 1000;
            assert_eq!((claims.sub.as_str(), ttl), ("ann", 600));
            let metadata =
                format!("{{\"callId\":\"{call}\",\"role\":\"initiator\",\"userId\":\"ann\"}}");
            assert_eq!(claims.metadata, metadata);
            let granted = VideoGrants {
                room_join: true,
                room: call.room(),
                can_publish: Some(true),
                can_subscribe: Some(true),
                can_publish_data: Some(false),
                can_publish_sources: wanted.into_iter().map(str::to_owned).collect(),
                ..VideoGrants::default()
            };
            assert_eq!(claims.video, granted);
        }
    }
}
