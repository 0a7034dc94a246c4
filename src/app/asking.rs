//! What users ask of calls: paced here, where they ask, and carried out where the call is.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::app::App;
use crate::app::cluster::errand::{Done, Errand};
use crate::app::error::AppError;
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::participant::{Sent, Settings};
use crate::call::quality::Sample;
use crate::config::rates::Rule;
use crate::limits::Key;

/// The data of an answer that has some.
fn told(done: Done) -> Result<Box<RawValue>, AppError> {
    done?.ok_or(AppError::Internal)
}

impl App {
    /// Joins or answers; joining twice is joining once. Answers `{call, token, iceServers,
    /// participants}`.
    pub async fn join(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
        settings: Settings,
        device: Option<DeviceId>,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Join, user)?;
        told(self.ask(id, user, Errand::Join { settings, device }).await)
    }

    /// Says no.
    pub async fn decline(self: &Arc<Self>, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.pace(Rule::Leave, user)?;
        self.ask(id, user, Errand::Decline).await.map(drop)
    }

    /// Hangs up: ends, cancels, leaves or declines, by who the user is.
    pub async fn end(self: &Arc<Self>, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.pace(Rule::Leave, user)?;
        self.ask(id, user, Errand::End).await.map(drop)
    }

    /// A new token, for one who has joined. Answers `{token, iceServers}`.
    pub async fn token(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Token, user)?;
        told(self.ask(id, user, Errand::Token).await)
    }

    /// Changes what the user sends.
    pub async fn set(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
        settings: Settings,
    ) -> Result<(), AppError> {
        self.pace(Rule::Toggle, user)?;
        self.ask(id, user, Errand::Set { settings }).await.map(drop)
    }

    /// A device of the user rings.
    pub async fn rings(self: &Arc<Self>, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.ask(id, user, Errand::Rings).await.map(drop)
    }

    /// The user's media is up, as the client says; LiveKit is asked whether that is so.
    pub async fn media_up(self: &Arc<Self>, id: CallId, user: &UserId) -> Result<(), AppError> {
        self.ask(id, user, Errand::MediaUp).await.map(drop)
    }

    /// Turns off what another participant sends.
    pub async fn mute(
        self: &Arc<Self>,
        id: CallId,
        by: &UserId,
        (user, off): (UserId, Sent),
    ) -> Result<(), AppError> {
        self.pace(Rule::Toggle, by)?;
        self.ask(id, by, Errand::Mute { user, off }).await.map(drop)
    }

    /// Throws a user out for good.
    pub async fn remove(
        self: &Arc<Self>,
        id: CallId,
        by: &UserId,
        user: UserId,
    ) -> Result<(), AppError> {
        self.ask(id, by, Errand::Remove { user }).await.map(drop)
    }

    /// Adds users to a live call, or rings them again. Answers `{unavailable}`.
    pub async fn invite(
        self: &Arc<Self>,
        id: CallId,
        by: &UserId,
        users: &[UserId],
    ) -> Result<Box<RawValue>, AppError> {
        told(self.ask(id, by, Errand::Invite { users: users.to_vec() }).await)
    }

    /// Stores and rates a quality sample.
    pub async fn sample(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
        sample: Sample,
    ) -> Result<(), AppError> {
        self.rates.check(Rule::Quality, Key::InCall(user.clone(), id))?;
        self.ask(id, user, Errand::Sample { sample }).await.map(drop)
    }

    /// `{call, participants}`.
    pub async fn call(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        told(self.ask(id, user, Errand::Look).await)
    }

    /// Quality per participant.
    pub async fn quality(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        told(self.ask(id, user, Errand::Quality).await)
    }

    /// What `user` missed of a call after event `last_seq`: the events, or the whole state where they
    /// are too many.
    pub async fn resume(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
        last_seq: u64,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        told(self.ask(id, user, Errand::Resume { last_seq }).await)
    }

    /// Begins to record a call. Answers `{recording}`.
    pub async fn start_recording(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        told(self.ask(id, user, Errand::StartRecording).await)
    }

    /// Ends the recording of a call; its file comes later. Answers `{recording}`.
    pub async fn stop_recording(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        told(self.ask(id, user, Errand::StopRecording).await)
    }

    /// The recordings of a call. Answers `{recordings}`.
    pub async fn recordings(
        self: &Arc<Self>,
        id: CallId,
        user: &UserId,
    ) -> Result<Box<RawValue>, AppError> {
        self.pace(Rule::Read, user)?;
        told(self.ask(id, user, Errand::Recordings).await)
    }
}
