//! Things to be done once in a room: seeing what somebody sends, ending a recording.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::app::App;
use crate::call::command::Command;
use crate::call::id::{CallId, UserId};
use crate::call::participant::Settings;
use crate::media::error::{Kind, MediaError};
use crate::media::guest::{Guest, Source};
use crate::media::livekit::LiveKit;

/// How often a chore of a call that is over is tried: with its room, its recordings end by themselves.
const TRIES_MAX: u32 = 6;
/// How long to wait before one is tried again, at first and at most.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(15));
/// When to look again where a recording is being begun right now.
const BEGIN_ENDS: Duration = Duration::from_secs(5);

/// Something to be done once.
#[derive(Debug, Clone)]
pub(super) struct Chore {
    pub(super) what: Work,
    tries: u32,
    /// Not before then.
    pub(super) at: Instant,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) enum Work {
    /// See whether the user, in that stay, really sends that, or no longer does.
    Reflect(UserId, Arc<str>, Settings),
    /// End that recording.
    Stop(Arc<str>),
    /// End every recording of ours that goes on without the call knowing of it.
    StopUnknown,
}

impl Work {
    /// Whether one of both is enough.
    pub(super) fn is_as_good_as(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Reflect(user, sid, settings), Self::Reflect(other, stay, seen)) => {
                let asks = |it: &Settings| {
                    (it.audio.is_some(), it.video.is_some(), it.screen_share.is_some())
                };
                user == other && sid == stay && asks(settings) == asks(seen)
            }
            _ => self == other,
        }
    }
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
        let over = self.calls.read(call, |it| it.state.is_terminal()).unwrap_or(true);
        if (over && chore.tries + 1 >= TRIES_MAX) || error.kind == Kind::Refused {
            let what = &chore.what;
            tracing::warn!(error = error.in_full(), %call, ?what, "something was not done in a room");
            return;
        }
        let wait = PAUSE.0.saturating_mul(1 << chore.tries.min(8)).min(PAUSE.1);
        let (tries, at) = (chore.tries + 1, Instant::now() + wait);
        self.rooms.look_and(call, Chore { tries, at, ..chore });
    }

    /// What the room says counts: where it says otherwise, whoever told came too late.
    fn reflect(&self, call: CallId, guest: &Guest, settings: Settings) {
        let so = |told: Option<bool>, source| told.filter(|on| *on == guest.sends(source));
        let settings = Settings {
            audio: so(settings.audio, Source::Microphone),
            video: so(settings.video, Source::Camera),
            screen_share: so(settings.screen_share, Source::Screen),
        };
        if settings != Settings::default() {
            self.nudge(call, Command::Reflect { user: guest.user.clone(), settings });
        }
    }

    async fn stop_unknown(&self, livekit: &LiveKit, call: CallId) -> Result<(), MediaError> {
        if self.beginning.is_begun(call) {
            self.rooms.look_and(call, Chore::new(Work::StopUnknown, BEGIN_ENDS));
            return Ok(());
        }
        // What another node knows of is not known here.
        if self.calls.read(call, |_| ()).is_none() && self.is_elsewhere(call).await? {
            return Ok(());
        }
        let found = livekit.egresses(call).await?;
        // Read after the list: what has begun meanwhile is known by now.
        let known = self.calls.read(call, |it| it.recording.as_ref().map(|it| it.id)).flatten();
        for it in found {
            if it.goes_on_for(call) && Some(it.id) != known && !self.beginning.is_begun(call) {
                livekit.stop_egress(&it.egress).await?;
            }
        }
        Ok(())
    }
}
