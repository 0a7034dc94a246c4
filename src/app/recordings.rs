//! Recordings: begun and ended by the initiator, and what LiveKit tells of their files.

use std::sync::Arc;
use std::time::Duration;

use dashmap::DashMap;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::chores::{Chore, Work};
use crate::app::effects::{After, json};
use crate::app::error::AppError;
use crate::call::command::{Command, Effect, Refusal};
use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::record::RecordingRecord;
use crate::call::state::{CallType, MediaPath, RecordingStatus, Role};
use crate::media::egress::Progress;
use crate::media::livekit::LiveKit;
use crate::store::Record;
use crate::wire::reply::RecordingView;

/// After how long a start that came to nothing may have come to something after all: LiveKit itself
/// waits up to 22 s for its egress.
const LATE_START: Duration = Duration::from_secs(30);
/// How long a file may take before LiveKit is asked what has become of it.
const FILE_WAIT: Duration = Duration::from_mins(1);
/// A file of which nobody has heard for so long will not come any more.
const FILE_LOST: Duration = Duration::from_hours(24);
/// Recordings that are asked about in one go.
const ASKED_MAX: u16 = 50;

/// Calls for which a recording is being begun: one at a time.
#[derive(Default)]
pub(super) struct Beginning(DashMap<CallId, ()>);

/// Ends with the attempt.
struct Attempt<'a>(&'a Beginning, CallId);

impl Beginning {
    fn begin(&self, call: CallId) -> Option<Attempt<'_>> {
        self.0.insert(call, ()).is_none().then(|| Attempt(self, call))
    }
}

impl Beginning {
    /// Whether one is being begun for that call right now.
    pub(super) fn is_begun(&self, call: CallId) -> bool {
        self.0.contains_key(&call)
    }
}

impl Drop for Attempt<'_> {
    fn drop(&mut self) {
        self.0.0.remove(&self.1);
    }
}

#[derive(Serialize)]
struct OneRecording<'a> {
    recording: RecordingView<'a>,
}

#[derive(Serialize)]
struct RecordingList<'a> {
    recordings: Vec<RecordingView<'a>>,
}

fn one(record: &RecordingRecord) -> Result<Box<RawValue>, AppError> {
    json(&OneRecording { recording: RecordingView::from(record) })
}

impl App {
    pub(super) async fn start_recording_here(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        let (livekit, call_type) = self.recordable(id, user).await?;
        if self.calls.read(id, |call| call.recording.is_some()).unwrap_or(false) {
            return Err(Refusal::Recording.into());
        }
        if !livekit.records() {
            return Err(AppError::RecordingUnavailable);
        }
        let (app, user) = (Arc::clone(self), user.clone());
        // A client that goes away meanwhile must not leave a recording behind that nobody knows of.
        let begun = tokio::spawn(async move { app.record(&livekit, (id, call_type), user).await });
        // Lost only to a panic, which has been counted and logged.
        let begun = begun.await.unwrap_or(Err(AppError::Internal));
        one(&begun?)
    }

    async fn record(
        &self,
        livekit: &LiveKit,
        (id, call_type): (CallId, CallType),
        by: UserId,
    ) -> Result<RecordingRecord, AppError> {
        let _attempt = self.beginning.begin(id).ok_or(Refusal::Recording)?;
        let begun = livekit.start_egress(id, call_type, self.clock.wall()).await;
        let mut recording = begun.map_err(|error| {
            tracing::warn!(error = error.in_full(), "a recording could not be begun");
            self.rooms.look_and(id, Chore::new(Work::StopUnknown, LATE_START));
            AppError::RecordingUnavailable
        })?;
        recording.started_at = self.clock.now();
        let (egress, record) = (Arc::clone(&recording.egress), recording.record(id, None));
        let noted = self.change(id, Command::StartRecording { by, recording }, |_, _| ());
        let Ok(((), durable)) = noted else {
            // The call ended, or its initiator left, while LiveKit was asked.
            self.rooms.look_and(id, Chore::new(Work::Stop(egress), Duration::ZERO));
            return Err(match noted {
                // Another node has it now, and knows nothing of this recording.
                Err(AppError::NoSuchCall) if self.is_elsewhere(id).await.unwrap_or(true) => {
                    AppError::RecordingUnavailable
                }
                Err(AppError::NoSuchCall) => Refusal::Over.into(),
                Err(error) => error,
                Ok(_) => AppError::Internal,
            });
        };
        durable.await?;
        Ok(record)
    }

    pub(super) async fn stop_recording_here(
        &self,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.recordable(id, user).await?;
        let command = Command::StopRecording { by: user.clone() };
        let (stopped, durable) = self.change(id, command, |call, applied| {
            applied.effects.iter().find_map(|effect| match effect {
                Effect::RecordingStopped(it) => Some(it.record(id, Some(call.updated_at))),
                Effect::Notify(_)
                | Effect::Unavailable(..)
                | Effect::CheckMedia
                | Effect::RecordingStarted(_)
                | Effect::Noted => None,
            })
        })?;
        durable.await?;
        one(&stopped.ok_or(AppError::Internal)?)
    }

    pub(super) async fn recordings_here(
        &self,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.own_facts(id, user).await?;
        let found = self.store.recordings(id).await?;
        if found.is_empty() && self.livekit().is_none() {
            return Err(AppError::NoMediaServer);
        }
        json(&RecordingList { recordings: found.iter().map(RecordingView::from).collect() })
    }

    /// Ends what was begun for a call that was in another process, and whose begin, or end, that one did not carry
    /// out before it ended; its begin may be late.
    pub(super) fn stop_unknown_later(&self, call: CallId) {
        if self.livekit().is_some_and(|it| it.records()) {
            self.rooms.look_and(call, Chore::new(Work::StopUnknown, LATE_START));
        }
    }

    /// Whether `user` may record the call, and by what. Whoever may not hears so before anything else.
    async fn recordable(
        &self,
        id: CallId,
        user: &UserId,
    ) -> Result<(Arc<LiveKit>, CallType), AppError> {
        let live = self.calls.read(id, |call: &Call| {
            let member = call.participant(user).filter(|it| it.role == Role::Initiator);
            let member = member.ok_or(Refusal::Forbidden)?;
            if call.state.is_terminal() {
                Ok(None)
            } else if member.is_joined() {
                Ok(Some((call.media, call.call_type)))
            } else {
                Err(Refusal::Forbidden)
            }
        });
        let live = if let Some(live) = live {
            live?
        } else {
            let facts = self.own_facts(id, user).await?;
            (facts.call.initiator == *user).then_some(None).ok_or(Refusal::Forbidden)?
        };
        let livekit = self.livekit().ok_or(AppError::NoMediaServer)?;
        match live {
            None => Err(Refusal::Over.into()),
            Some((MediaPath::Peer, _)) => Err(AppError::NoMediaServer),
            Some((MediaPath::Livekit, call_type)) => Ok((Arc::clone(livekit), call_type)),
        }
    }

    /// LiveKit tells how a recording is doing. One that is not ours is none of our business.
    pub(super) async fn recording_progress(
        &self,
        call: CallId,
        it: &Progress,
    ) -> Result<(), AppError> {
        let Some(livekit) = self.livekit() else { return Ok(()) };
        let goes_on = |call: &Call| call.recording.as_ref().is_some_and(|known| known.id == it.id);
        let known = self.calls.read(call, goes_on).unwrap_or(false)
            || self.store.recordings(call).await?.iter().any(|known| known.id == it.id);
        if !known && self.beginning.is_begun(call) {
            // It may be the one that is being begun: told again in a second, it will be known.
            return Err(AppError::RecordingUnavailable);
        }
        if !known || it.status == RecordingStatus::Recording {
            return Ok(());
        }
        let record = livekit.recorded(call, it, self.clock.now());
        self.note_recording(record).await
    }

    async fn note_recording(&self, record: RecordingRecord) -> Result<(), AppError> {
        let (call, id, url) = (record.call, record.id, record.url.clone());
        let over = matches!(record.status, RecordingStatus::Completed | RecordingStatus::Failed);
        let permit = self.journal.reserve()?;
        permit.send(Record::Recording(Box::new(record)), After::default()).await?;
        if over {
            self.nudge(call, Command::RecordingOver { id, url });
        }
        Ok(())
    }

    /// Asks LiveKit what has become of recordings of which nobody has told for a while: of those that are
    /// over their files, of those that go on whether they do.
    pub(super) async fn ask_for_files(&self) -> Result<(), AppError> {
        let Some(livekit) = self.livekit().filter(|it| it.records()) else { return Ok(()) };
        let now = self.clock.now();
        let until = now.minus(FILE_WAIT);
        let mut asked = self.store.local().unfinished_recordings(until, ASKED_MAX).await?;
        self.calls.each(|call| {
            let old = call.recording.as_ref().filter(|it| it.started_at <= until);
            asked.extend(old.map(|it| it.record(call.id, None)));
        });
        for record in asked {
            let found = match livekit.egresses(record.call).await {
                Ok(found) => found,
                Err(error) => {
                    // Who can't be asked has not said that it knows nothing.
                    tracing::debug!(error = error.in_full(), "nobody can be asked for recordings");
                    return Ok(());
                }
            };
            let told = found.iter().find(|it| it.id == record.id);
            let lost = record.ended_at.is_some_and(|it| now.since(it) > FILE_LOST);
            match told {
                Some(told) => self.recording_progress(record.call, told).await?,
                None if lost => {
                    let status = RecordingStatus::Failed;
                    self.note_recording(RecordingRecord { status, ..record }).await?;
                }
                None => {}
            }
        }
        Ok(())
    }
}
