//! What LiveKit reports: believed where it is fresh and clear, and else a reason to look for oneself.
//!
//! Reports come late, twice, in another order or not at all. A stay is known by its id and by when it
//! began, so that the end of an old one says nothing of a new one; and a look at the room
//! ([`rooms`](crate::app::rooms)) finds what no report told.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use quick_cache::sync::Cache;

use crate::app::App;
use crate::app::chores::{Chore, Work};
use crate::app::cluster::errand::Errand;
use crate::app::error::AppError;
use crate::auth::Unauthorized;
use crate::call::command::Command;
use crate::call::id::{CallId, UserId};
use crate::call::media::TAKEOVER;
use crate::call::model::Call;
use crate::call::participant::Settings;
use crate::config::rates::Rule;
use crate::limits::Key;
use crate::media::webhook::{News, Unheard, Webhook};
use crate::telemetry::LIVEKIT_WEBHOOKS_TOTAL;
use crate::wire::fields::Malformed;

/// Reports that are remembered, so that none counts twice: LiveKit sends one five times at most, within
/// 15 s.
const REMEMBERED_MAX: usize = 10_000;
/// A report that is older tells of a state that may long be another (fault F17).
const AGE_MAX: Duration = Duration::from_secs(5 * 60 + 30);
/// When a room is looked at where the journal had no place for what was told of it.
const NO_PLACE: Duration = Duration::from_secs(1);
/// How long after the end of a track the end of its sender's stay may be told; 0.1 s was seen.
const STAY_ENDS: Duration = Duration::from_secs(1);

/// The reports that have been heard.
pub(super) struct Heard(Cache<Box<str>, ()>);

impl Default for Heard {
    fn default() -> Self {
        Self(Cache::new(REMEMBERED_MAX))
    }
}

impl Heard {
    /// Whether this one is new; from now on it is not.
    fn is_new(&self, id: &str) -> bool {
        let new = self.0.get(id).is_none();
        if new {
            self.0.insert(id.into(), ());
        }
        new
    }

    fn forget(&self, id: &str) {
        self.0.remove(id);
    }
}

/// Whether something is no longer sent.
fn is_off(settings: Settings) -> bool {
    [settings.audio, settings.video, settings.screen_share].contains(&Some(false))
}

impl App {
    /// Takes a report of LiveKit; `authorization` is its header as it came, `body` its raw bytes.
    pub async fn hear(self: &Arc<Self>, authorization: &str, body: &[u8]) -> Result<(), AppError> {
        let count = |what: &'static str| {
            counter!(LIVEKIT_WEBHOOKS_TOTAL, "outcome" => what).increment(1);
        };
        let livekit = self.livekit().ok_or(Unauthorized::Invalid)?;
        let heard = livekit.hear(authorization, body).map_err(|why| {
            count("refused");
            match why {
                Unheard::Unsigned => AppError::from(Unauthorized::Invalid),
                Unheard::Unreadable(cause) => {
                    tracing::warn!(%cause, "a webhook that is signed and can't be read");
                    Malformed::new("body", "something else", "a webhook of LiveKit").into()
                }
            }
        })?;
        self.rates.check(Rule::Webhook, Key::All)?;
        let Some(call) = heard.call else {
            count("of_others");
            return Ok(());
        };
        if !heard.id.is_empty() && !self.heard.is_new(&heard.id) {
            count("again");
            return Ok(());
        }
        count("taken");
        let id = heard.id.clone();
        // No user asks: it is LiveKit that tells. The word is one that ids may be.
        let Ok(nobody) = UserId::parse("livekit") else { return Err(AppError::Internal) };
        let asked = self.ask(call, &nobody, Errand::Hear(Box::new(heard))).await;
        // What could not be noted may come again.
        asked.map(drop).inspect_err(|_| self.heard.forget(&id))
    }

    /// Takes a report about a call that is here, or nowhere.
    pub(super) async fn hear_here(&self, heard: Webhook) -> Result<(), AppError> {
        let Some(call) = heard.call else { return Ok(()) };
        let late = self.clock.wall().since(heard.at) > AGE_MAX;
        match heard {
            Webhook { news: News::Egress(progress), .. } => {
                self.recording_progress(call, &progress).await
            }
            Webhook { news, .. } => {
                self.believe(call, news, late);
                Ok(())
            }
        }
    }

    fn believe(&self, call: CallId, news: News, late: bool) {
        match news {
            News::Joined { user, session } => {
                let joined = self.calls.read(call, |it| it.is_joined(&user)).unwrap_or(false);
                if late || !joined {
                    // One who must not be there is put out; a room without a call goes.
                    self.rooms.look(call);
                } else {
                    self.tell(call, Command::MediaUp { user, session: Some(session) });
                }
            }
            News::Left { replaced: true, .. } => self.rooms.look_in(call, TAKEOVER * 2),
            News::Left { .. } if late => self.look_if_live(call),
            News::Left { user, session, .. } => {
                self.tell(call, Command::MediaDown { user, sid: session.sid });
            }
            News::Sends { user, sid, settings } => {
                // All that somebody sends ends with their stay, and says nothing of what they would send;
                // and it may be told before the begin of their stay.
                let present = |it: &Call| {
                    let known = it.participant(&user).and_then(|it| it.session.as_ref());
                    known.is_some_and(|it| it.sid == sid)
                };
                if late || is_off(settings) || !self.calls.read(call, present).unwrap_or(false) {
                    let work = Work::Reflect(user, sid, settings);
                    self.rooms.look_and(call, Chore::new(work, STAY_ENDS));
                } else {
                    self.tell(call, Command::Reflect { user, settings });
                }
            }
            News::RoomOver | News::Unclear => self.look_if_live(call),
            News::Egress(_) | News::Other => {}
        }
    }

    /// Tells the call; where the journal has no place for it now, the next look will.
    fn tell(&self, call: CallId, command: Command) {
        if self.nudge_if(call, |_| Some(command)).is_err() {
            self.rooms.look_in(call, NO_PLACE);
        }
    }

    fn look_if_live(&self, call: CallId) {
        if self.calls.read(call, |_| ()).is_some() {
            self.rooms.look(call);
        }
    }
}
