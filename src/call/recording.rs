//! Recordings of a call: one at a time, by the initiator, with everyone told.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::call::command::{Effect, Event, Refusal};
use crate::call::id::UserId;
use crate::call::machine::Step;
use crate::call::participant::Participant;
use crate::call::state::Role;
use crate::call::time::Timestamp;

/// A recording that goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recording {
    /// The recording's id.
    pub id: Uuid,
    /// What LiveKit calls it: stopping takes that.
    pub egress: Arc<str>,
    /// When it began.
    pub started_at: Timestamp,
    /// Where its file goes.
    pub key: Arc<str>,
}

impl Step<'_> {
    /// One who may do to others what only the initiator may, while in the call.
    pub(super) fn host(&self, by: &UserId) -> Result<&Participant, Refusal> {
        let host = self.live_member(by)?;
        let may = host.role == Role::Initiator && host.is_joined();
        if may { Ok(host) } else { Err(Refusal::Forbidden) }
    }

    pub(super) fn start_recording(
        &mut self,
        by: UserId,
        recording: Recording,
    ) -> Result<(), Refusal> {
        self.host(&by)?;
        if self.call.recording.is_some() {
            return Err(Refusal::Recording);
        }
        self.call.recorded = true;
        self.call.recording = Some(recording.clone());
        self.tell_all(Event::RecordingStarted { user: by, recording: recording.id });
        self.effect(Effect::RecordingStarted(recording));
        Ok(())
    }

    pub(super) fn stop_recording(&mut self, by: UserId) -> Result<(), Refusal> {
        self.host(&by)?;
        let recording = self.call.recording.take().ok_or(Refusal::NotRecording)?;
        self.tell_all(Event::RecordingStopped { user: Some(by), recording: recording.id });
        self.effect(Effect::RecordingStopped(recording));
        Ok(())
    }

    /// A recording that is over: where it ended by itself, everyone hears so now. Whoever says it knows
    /// what became of its file.
    pub(super) fn recording_over(&mut self, id: Uuid, url: Option<Arc<str>>) {
        if self.call.state.is_terminal() {
            return;
        }
        if self.call.recording.take_if(|it| it.id == id).is_some() {
            self.tell_all(Event::RecordingStopped { user: None, recording: id });
        }
        if url.is_some() && url != self.call.recording_url {
            self.call.recording_url = url;
            self.effect(Effect::Noted);
        }
    }

    /// No recording outlives its call, or goes on where nobody can stop it.
    pub(super) fn stop_recording_without_host(&mut self) {
        if let Some(recording) = self.call.recording.take() {
            self.tell_all(Event::RecordingStopped { user: None, recording: recording.id });
            self.effect(Effect::RecordingStopped(recording));
        }
    }
}
