//! Things to be done once in a room: muting somebody, ending a recording.

use std::sync::Arc;
use std::time::Duration;

use livekit_protocol::TrackSource;
use tokio::time::Instant;

use crate::app::App;
use crate::call::command::Command;
use crate::call::id::{CallId, UserId};
use crate::call::participant::Settings;
use crate::media::error::{Kind, MediaError};
use crate::media::guest::Guest;
use crate::media::livekit::LiveKit;

/// How often a chore is tried.
const TRIES_MAX: u32 = 6;
/// How long to wait before it is tried again.
const PAUSE: Duration = Duration::from_secs(2);

/// Something to be done once.
#[derive(Debug, Clone)]
pub(super) struct Chore {
    what: Work,
    tries: u32,
    /// Not before then.
    pub(super) at: Instant,
}

#[derive(Debug, Clone)]
pub(super) enum Work {
    /// Mute what the user sends: those settings that are `Some(false)`.
    Mute(UserId, Settings),
    /// See whether the user, in that stay, really sends that, or no longer does.
    Reflect(UserId, Arc<str>, Settings),
    /// End that recording.
    Stop(Arc<str>),
    /// End every recording of ours that goes on without the call knowing of it.
    StopUnknown,
}

impl Chore {
    /// To be done after `wait`.
    pub(super) fn new(what: Work, wait: Duration) -> Self {
        Self { what, tries: 0, at: Instant::now() + wait }
    }
}

impl App {
    /// Does it, or sees that it is tried again.
    pub(super) async fn do_chore(
        &self,
        livekit: &LiveKit,
        call: CallId,
        guests: &[Guest],
        chore: Chore,
    ) {
        let done = match &chore.what {
            Work::Mute(user, settings) => mute(livekit, call, guests, (user, *settings)).await,
            Work::Reflect(user, sid, settings) => {
                let here = |it: &&Guest| it.user == *user && it.session.sid == *sid && it.active;
                if let Some(guest) = guests.iter().find(here) {
                    self.reflect(call, guest, *settings);
                }
                Ok(())
            }
            Work::Stop(egress) => livekit.stop_egress(egress).await,
            Work::StopUnknown => self.stop_unknown(livekit, call).await,
        };
        let Err(error) = done else { return };
        let again = Chore { tries: chore.tries + 1, at: Instant::now() + PAUSE, ..chore };
        if again.tries < TRIES_MAX && error.kind != Kind::Refused {
            self.rooms.look_and(call, again);
        } else {
            tracing::warn!(error = error.in_full(), %call, "something was not done in a room");
        }
    }

    /// What the room says counts: where it says otherwise, whoever told came too late.
    fn reflect(&self, call: CallId, guest: &Guest, settings: Settings) {
        let sends = |source| guest.tracks.iter().any(|it| it.source == source && !it.muted);
        let so = |told: Option<bool>, source| told.filter(|on| *on == sends(source));
        let settings = Settings {
            audio: so(settings.audio, TrackSource::Microphone),
            video: so(settings.video, TrackSource::Camera),
            screen_share: so(settings.screen_share, TrackSource::ScreenShare),
        };
        if settings != Settings::default() {
            self.nudge(call, Command::Reflect { user: guest.user.clone(), settings });
        }
    }

    async fn stop_unknown(&self, livekit: &LiveKit, call: CallId) -> Result<(), MediaError> {
        let known = self.calls.read(call, |it| it.recording.as_ref().map(|it| it.id)).flatten();
        for it in livekit.egresses(call).await? {
            if it.goes_on_for(call) && Some(it.id) != known {
                livekit.stop_egress(&it.egress).await?;
            }
        }
        Ok(())
    }
}

async fn mute(
    livekit: &LiveKit,
    call: CallId,
    guests: &[Guest],
    (user, settings): (&UserId, Settings),
) -> Result<(), MediaError> {
    let off = |source: TrackSource| match source {
        TrackSource::Microphone => settings.audio == Some(false),
        TrackSource::Camera => settings.video == Some(false),
        TrackSource::ScreenShare | TrackSource::ScreenShareAudio => {
            settings.screen_share == Some(false)
        }
        TrackSource::Unknown => false,
    };
    let tracks = guests.iter().filter(|it| it.user == *user).flat_map(|it| &it.tracks);
    for track in tracks.filter(|it| !it.muted && off(it.source)) {
        livekit.mute(call, user, &track.sid).await?;
    }
    Ok(())
}
