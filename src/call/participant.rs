//! One user in one call.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::call::id::UserId;
use crate::call::pass::Sources;
use crate::call::state::{ConnectionState, Quality, Role};
use crate::call::time::Timestamp;

/// What a participant sends, or wants changed: `None` leaves a setting as it is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    /// Whether the microphone is on.
    pub audio: Option<bool>,
    /// Whether the camera is on.
    pub video: Option<bool>,
    /// Whether a screen is shared.
    pub screen_share: Option<bool>,
}

/// What somebody sends: each of it, or not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// The microphone.
    pub audio: bool,
    /// The camera.
    pub video: bool,
    /// The screen.
    pub screen_share: bool,
}

impl Sent {
    /// Settings that turn all of this off.
    fn off(self) -> Settings {
        let off = |it: bool| it.then_some(false);
        Settings {
            audio: off(self.audio),
            video: off(self.video),
            screen_share: off(self.screen_share),
        }
    }

    /// The same without what is not, or no longer, off.
    fn still_off(self, settings: Settings) -> Self {
        Self {
            audio: self.audio && settings.audio != Some(true),
            video: self.video && settings.video != Some(true),
            screen_share: self.screen_share && settings.screen_share != Some(true),
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            audio: self.audio || other.audio,
            video: self.video || other.video,
            screen_share: self.screen_share || other.screen_share,
        }
    }

    /// Whether there is nothing of it.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Whether a participant's sockets are there. Only who has had a socket can lose it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Sockets {
    /// No socket since the join: a client of REST alone.
    Never,
    /// At least one socket.
    Here,
    /// There was one; there is none now.
    Gone,
}

/// One stay of a user in the call's room, as LiveKit names it. A user who comes back, or takes over on
/// another device, has another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MediaSession {
    /// LiveKit's id of the stay (`PA_...`).
    pub sid: Arc<str>,
    /// When it began by LiveKit's clock, milliseconds since 1970: the later of two is the present one.
    pub since_ms: i64,
}

/// One who is in the room, with the present stay; without it where media is still coming up, so that
/// nothing is known.
pub type InRoom = (UserId, Option<MediaSession>);

/// One user in one call.
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own, shown as a boolean")]
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// The participant's own id, which rows refer to.
    pub id: Uuid,
    /// Who it is.
    pub user: UserId,
    /// Started the call, or was invited.
    pub role: Role,
    /// How the participant stands towards the call.
    pub connection: ConnectionState,
    /// When the user first joined.
    pub joined_at: Option<Timestamp>,
    /// When the user last left; `None` while in the call.
    pub left_at: Option<Timestamp>,
    /// The microphone is on.
    pub audio: bool,
    /// The camera is on.
    pub video: bool,
    /// A screen is shared.
    pub screen_share: bool,
    /// What it has said that it sends; what it does send comes and goes with its media.
    #[serde(default)]
    pub wants: Sources,
    /// When it last said what it sends.
    #[serde(default)]
    pub wanted_at: Timestamp,
    /// What the initiator has turned off, and is to be muted in the room still.
    #[serde(default)]
    pub muting: Sent,
    /// The rating of the last quality sample.
    pub quality: Option<Quality>,
    /// Being rung until then; `None` when not being rung.
    pub ring_deadline: Option<Timestamp>,
    /// Lost, and expected back until then.
    pub grace_deadline: Option<Timestamp>,
    /// Whether the participant's sockets are there.
    pub sockets: Sockets,
    /// Media is up: at once where it goes peer to peer, else when LiveKit or the client says so.
    pub media_up: bool,
    /// The stay in the room that `media_up` speaks of, where it is known.
    #[serde(default)]
    pub session: Option<MediaSession>,
    /// When it was first not seen in the room, where it should be.
    #[serde(default)]
    pub unseen_at: Option<Timestamp>,
    /// When `media_up` or `session` last changed.
    #[serde(default)]
    pub media_at: Timestamp,
    /// Start of the present stay; `None` when not in the call.
    pub since: Option<Timestamp>,
    /// Milliseconds of the stays before the present one.
    pub earlier_ms: u64,
}

impl Participant {
    /// One who is asked to join, and not yet rung.
    pub fn invited(id: Uuid, user: UserId, role: Role) -> Self {
        Self {
            id,
            user,
            role,
            connection: ConnectionState::Invited,
            joined_at: None,
            left_at: None,
            audio: true,
            video: false,
            screen_share: false,
            wants: Sources::default(),
            wanted_at: Timestamp::default(),
            muting: Sent::default(),
            quality: None,
            ring_deadline: None,
            grace_deadline: None,
            sockets: Sockets::Never,
            media_up: false,
            session: None,
            unseen_at: None,
            media_at: Timestamp::default(),
            since: None,
            earlier_ms: 0,
        }
    }

    /// In the call right now, even when expected back after a loss.
    pub fn is_joined(&self) -> bool {
        matches!(
            self.connection,
            ConnectionState::Connecting
                | ConnectionState::Connected
                | ConnectionState::Reconnecting
        )
    }

    /// Being rung right now.
    pub fn is_rung(&self) -> bool {
        self.ring_deadline.is_some()
    }

    /// May still say yes or no: rung, or invited to a call that rings nobody.
    pub fn is_pending(&self) -> bool {
        matches!(self.connection, ConnectionState::Invited | ConnectionState::Ringing)
    }

    /// Gets the call's events: everyone but who declined, left or was removed.
    pub fn listens(&self) -> bool {
        !matches!(
            self.connection,
            ConnectionState::Declined | ConnectionState::Removed | ConnectionState::Left
        )
    }

    /// Whole seconds in the call, over all stays; `None` for one who never joined.
    pub fn duration(&self, now: Timestamp) -> Option<u64> {
        self.joined_at?;
        let present = self.since.map_or(Duration::ZERO, |since| now.since(since));
        Some((Duration::from_millis(self.earlier_ms) + present).as_secs())
    }

    /// When [`Participant::duration`] is next another than at `now`; `None` where nothing adds to it.
    pub(super) fn duration_grows_at(&self, now: Timestamp) -> Option<Timestamp> {
        const SECOND_MS: u64 = 1000;
        let present = u64::try_from(now.since(self.since?).as_millis()).unwrap_or(u64::MAX);
        let over = self.earlier_ms.wrapping_add(present) % SECOND_MS;
        Some(now.plus(Duration::from_millis(SECOND_MS - over)))
    }

    /// Begins a new stay where the present one ends: who is in the call said so at that moment.
    pub(super) fn stay(&mut self, now: Timestamp) {
        if let Some(since) = self.since.as_mut() {
            // The clock of a new owner may be behind.
            let now = now.max(*since);
            let stay = now.since(std::mem::replace(since, now));
            let stay = u64::try_from(stay.as_millis()).unwrap_or(u64::MAX);
            self.earlier_ms = self.earlier_ms.saturating_add(stay);
        }
    }

    /// Ends the present stay.
    pub(super) fn depart(&mut self, connection: ConnectionState, now: Timestamp) {
        self.stay(now);
        if self.since.take().is_some() {
            self.left_at = Some(now);
        }
        self.connection = connection;
        self.ring_deadline = None;
        self.grace_deadline = None;
        self.media_up = false;
        self.session = None;
        self.unseen_at = None;
        self.media_at = now;
        self.screen_share = false;
        self.wants = Sources::default();
        self.muting = Sent::default();
        self.sockets = Sockets::Never;
    }

    /// Takes over what the participant itself says at `now`; says whether it shows.
    pub(super) fn set(&mut self, settings: Settings, now: Timestamp) -> bool {
        self.wanted_at = now;
        self.muting = self.muting.still_off(settings);
        self.want(settings)
    }

    /// Somebody else turns off what it sends; says whether it shows.
    pub(super) fn silence(&mut self, off: Sent) -> bool {
        self.muting = self.muting.and(off);
        self.want(off.off())
    }

    fn want(&mut self, settings: Settings) -> bool {
        self.wants.camera = settings.video.unwrap_or(self.wants.camera);
        self.wants.screen = settings.screen_share.unwrap_or(self.wants.screen);
        self.show(settings)
    }

    /// Takes over the settings that are given; says whether one changed.
    pub(super) fn show(&mut self, settings: Settings) -> bool {
        let before = (self.audio, self.video, self.screen_share);
        self.audio = settings.audio.unwrap_or(self.audio);
        self.video = settings.video.unwrap_or(self.video);
        self.screen_share = settings.screen_share.unwrap_or(self.screen_share);
        before != (self.audio, self.video, self.screen_share)
    }
}
