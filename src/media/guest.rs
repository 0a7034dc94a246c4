//! Somebody in a room, as LiveKit tells of them.

use livekit_protocol as proto;

use crate::call::id::UserId;
use crate::call::participant::MediaSession;
use crate::call::pass::Sources;

/// Somebody in a room.
#[derive(Debug, Clone)]
pub struct Guest {
    /// Who.
    pub user: UserId,
    /// The present stay.
    pub session: MediaSession,
    /// Whether media is up, and not just the line to the server.
    pub active: bool,
    /// What may be sent.
    pub sources: Sources,
    /// What is sent.
    pub tracks: Vec<Track>,
}

/// What a track shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// A microphone's sound.
    Microphone,
    /// A camera's picture.
    Camera,
    /// A screen's picture.
    Screen,
    /// A screen's sound.
    ScreenSound,
    /// Something else.
    Other,
}

impl From<proto::TrackSource> for Source {
    fn from(source: proto::TrackSource) -> Self {
        match source {
            proto::TrackSource::Microphone => Self::Microphone,
            proto::TrackSource::Camera => Self::Camera,
            proto::TrackSource::ScreenShare => Self::Screen,
            proto::TrackSource::ScreenShareAudio => Self::ScreenSound,
            proto::TrackSource::Unknown => Self::Other,
        }
    }
}

/// Something that somebody sends.
#[derive(Debug, Clone)]
pub struct Track {
    /// LiveKit's id of it.
    pub sid: String,
    /// What it shows.
    pub source: Source,
    /// Whether it is muted.
    pub muted: bool,
}

/// Newer servers give milliseconds, older ones seconds alone.
fn later_of(millis: i64, seconds: i64) -> i64 {
    millis.max(seconds.saturating_mul(1000))
}

/// What `allowed` is called in LiveKit.
pub(super) fn sources(allowed: Sources) -> Vec<proto::TrackSource> {
    let mut sources = vec![proto::TrackSource::Microphone];
    if allowed.camera {
        sources.push(proto::TrackSource::Camera);
    }
    if allowed.screen {
        sources.extend([proto::TrackSource::ScreenShare, proto::TrackSource::ScreenShareAudio]);
    }
    sources
}

impl Guest {
    /// Whether something of that kind is sent, unmuted.
    pub fn sends(&self, source: Source) -> bool {
        self.tracks.iter().any(|it| it.source == source && !it.muted)
    }

    /// Whether there is a track of that kind, muted or not.
    pub fn has(&self, source: Source) -> bool {
        self.tracks.iter().any(|it| it.source == source)
    }

    pub(super) fn read(it: &proto::ParticipantInfo) -> Option<Self> {
        if it.kind() != proto::participant_info::Kind::Standard {
            return None;
        }
        let may = |source: proto::TrackSource| {
            let allowed = it.permission.as_ref();
            allowed.is_none_or(|it| {
                it.can_publish_sources.is_empty()
                    || it.can_publish_sources.contains(&i32::from(source))
            })
        };
        let track = |it: &proto::TrackInfo| Track {
            sid: it.sid.clone(),
            source: it.source().into(),
            muted: it.muted,
        };
        Some(Self {
            user: UserId::parse(&it.identity).ok()?,
            session: session(it),
            active: it.state() == proto::participant_info::State::Active,
            sources: Sources {
                camera: may(proto::TrackSource::Camera),
                screen: may(proto::TrackSource::ScreenShare),
            },
            tracks: it.tracks.iter().map(track).collect(),
        })
    }
}

/// The stay that LiveKit tells of.
pub(super) fn session(it: &proto::ParticipantInfo) -> MediaSession {
    let since_ms = later_of(it.joined_at_ms, it.joined_at);
    MediaSession { sid: it.sid.as_str().into(), since_ms }
}
