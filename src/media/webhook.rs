//! What LiveKit reports, checked and read.
//!
//! A webhook is signed: its token holds the hash of the body's raw bytes, and the token holds under the
//! secret that the service shares with LiveKit. A participant's own token holds under the same secret
//! but has no hash, so it signs nothing.

use std::sync::Arc;

use livekit_api::webhooks::WebhookError;
use livekit_protocol as proto;
use serde::{Deserialize, Serialize};

use crate::call::id::{CallId, UserId};
use crate::call::participant::{MediaSession, Settings};
use crate::call::time::Timestamp;
use crate::media::egress::Progress;
use crate::media::guest::{Source, session};
use crate::media::livekit::LiveKit;

/// One report.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Webhook {
    /// Its own id: the same report may come several times.
    pub id: String,
    /// When it happened, by LiveKit's clock, in whole seconds.
    pub at: Timestamp,
    /// The call whose room it is about; `None` for rooms of others.
    pub call: Option<CallId>,
    /// What it says.
    pub news: News,
}

/// What a report says.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum News {
    /// Somebody's media is up.
    Joined {
        /// Who.
        user: UserId,
        /// The stay that began.
        session: MediaSession,
    },
    /// Somebody's stay is over.
    Left {
        /// Who.
        user: UserId,
        /// The stay that ended.
        session: MediaSession,
        /// Another device of the same user took over.
        replaced: bool,
    },
    /// Somebody sends something, or no longer does.
    Sends {
        /// Who.
        user: UserId,
        /// In which stay.
        sid: Arc<str>,
        /// What is sent now, or not: the settings that it is about.
        settings: Settings,
    },
    /// The room is gone.
    RoomOver,
    /// Something of a newer LiveKit.
    Unclear,
    /// How a recording is doing.
    Egress(Box<Progress>),
    /// Nothing that matters here.
    Other,
}

/// Why a report is not taken.
#[derive(Debug, thiserror::Error)]
pub enum Unheard {
    /// It is not LiveKit's.
    #[error("the signature does not hold")]
    Unsigned,
    /// It is signed, and no report.
    #[error("not a report of LiveKit")]
    Unreadable(#[source] serde_json::Error),
}

/// What every report has, whatever else is in it.
#[derive(Deserialize)]
struct Roughly {
    id: String,
    room: RoughRoom,
}

#[derive(Deserialize)]
struct RoughRoom {
    name: String,
}

impl From<Roughly> for Webhook {
    fn from(it: Roughly) -> Self {
        let call = CallId::of_room(&it.room.name);
        Self { id: it.id, at: Timestamp::default(), call, news: News::Unclear }
    }
}

impl LiveKit {
    /// Checks and reads a report: `authorization` is its header as it came, `body` its raw bytes.
    ///
    /// # Errors
    /// See [`Unheard`].
    pub fn hear(&self, authorization: &str, body: &[u8]) -> Result<Webhook, Unheard> {
        let body = str::from_utf8(body).ok().ok_or(Unheard::Unsigned)?;
        // LiveKit sends the bare token; a proxy may have made it a bearer's.
        let token = authorization.strip_prefix("Bearer ").unwrap_or(authorization).trim();
        let event = self.webhooks.receive(body, token).map_err(|error| match error {
            WebhookError::InvalidData(cause) => Unheard::Unreadable(cause),
            WebhookError::InvalidSignature
            | WebhookError::InvalidBase64(_)
            | WebhookError::InvalidAuth(_) => Unheard::Unsigned,
        });
        let event = match event {
            // Signed, and newer than what is known here: the room will say what it is about.
            Err(Unheard::Unreadable(cause)) => {
                let roughly: Roughly =
                    serde_json::from_str(body).ok().ok_or(Unheard::Unreadable(cause))?;
                return Ok(roughly.into());
            }
            event => event?,
        };
        let mut heard = Webhook::of(&event);
        // Where the report says whose room it is; some say no more than its name.
        let metadata = event.room.as_ref().map_or("", |it| it.metadata.as_str());
        heard.call = heard.call.filter(|it| metadata.is_empty() || self.is_ours(*it, metadata));
        Ok(heard)
    }
}

impl Webhook {
    fn of(event: &proto::WebhookEvent) -> Self {
        let egress = event.egress_info.as_ref();
        let room = match (&event.room, egress) {
            (Some(room), _) => room.name.as_str(),
            (None, Some(egress)) => egress.room_name.as_str(),
            (None, None) => "",
        };
        Self {
            id: event.id.clone(),
            at: Timestamp(event.created_at.saturating_mul(1000)),
            call: CallId::of_room(room),
            news: news(event).unwrap_or(News::Other),
        }
    }
}

fn news(event: &proto::WebhookEvent) -> Option<News> {
    let person = || {
        let it = event.participant.as_ref()?;
        let standard = it.kind() == proto::participant_info::Kind::Standard;
        let user = UserId::parse(&it.identity).ok().filter(|_| standard)?;
        Some((user, it))
    };
    Some(match event.event.as_str() {
        "participant_joined" => {
            let (user, it) = person()?;
            News::Joined { user, session: session(it) }
        }
        "participant_left" | "participant_connection_aborted" => {
            let (user, it) = person()?;
            let replaced = it.disconnect_reason() == proto::DisconnectReason::DuplicateIdentity;
            News::Left { user, session: session(it), replaced }
        }
        "track_published" => sends(person()?, event.track.as_ref()?, true),
        "track_unpublished" => sends(person()?, event.track.as_ref()?, false),
        "room_finished" => News::RoomOver,
        "egress_started" | "egress_updated" | "egress_ended" => {
            News::Egress(Box::new(Progress::of(event.egress_info.as_ref()?)?))
        }
        _ => return None,
    })
}

/// A track that is published muted sends nothing yet.
fn sends(
    (user, it): (UserId, &proto::ParticipantInfo),
    track: &proto::TrackInfo,
    published: bool,
) -> News {
    let on = Some(published && !track.muted);
    let mut settings = Settings::default();
    match Source::from(track.source()) {
        Source::Microphone => settings.audio = on,
        Source::Camera => settings.video = on,
        Source::Screen => settings.screen_share = on,
        Source::ScreenSound | Source::Other => {}
    }
    News::Sends { user, sid: it.sid.as_str().into(), settings }
}
