//! What may be asked of a call, by whoever asks: it is carried out where the call is.

use std::sync::Arc;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::error::{AppError, Code};
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::participant::{Sent, Settings};
use crate::call::quality::Sample;
use crate::media::webhook::{News, Webhook};

/// What is asked.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub enum Errand {
    /// To join, or to answer.
    Join {
        /// Microphone and camera to begin with.
        settings: Settings,
        /// The device that asks, where it is known.
        device: Option<DeviceId>,
    },
    /// To say no.
    Decline,
    /// To hang up.
    End,
    /// To note that a device rings.
    Rings,
    /// To add users, or ring them again.
    Invite {
        /// Whom.
        users: Vec<UserId>,
    },
    /// To throw somebody out.
    Remove {
        /// Whom.
        user: UserId,
    },
    /// To change what one sends.
    Set {
        /// The settings that change.
        settings: Settings,
    },
    /// To turn off what somebody else sends.
    Mute {
        /// Whose.
        user: UserId,
        /// What.
        off: Sent,
    },
    /// To note that media is up.
    MediaUp,
    /// To store and rate a quality sample.
    Sample {
        /// What was measured.
        sample: Sample,
    },
    /// A new token.
    Token,
    /// What the start of the call was answered with, once more.
    Again,
    /// The call and everybody in it.
    Look,
    /// What was missed.
    Resume {
        /// The number of the last event seen.
        last_seq: u64,
    },
    /// Quality per participant.
    Quality,
    /// To begin a recording.
    StartRecording,
    /// To end it.
    StopRecording,
    /// The recordings of the call.
    Recordings,
    /// By a node: the user's calls as a socket has to know them (`sync`) or as they are listed; and whether the
    /// node has sockets of the user, where it tells so.
    Mine {
        /// For a socket.
        sync: bool,
        /// Whether the asking node has sockets of the user.
        here: Option<bool>,
    },
    /// By a node: whether the user is in the call.
    Holds,
    /// By a node: since when the user is in the call, as its owner has it.
    JoinedSince,
    /// By a node: something was written on how people stand to the call by one who does not have it.
    Contested,
    /// By a node: who is connected.
    Present,
    /// By a node: what LiveKit has reported there.
    Hear(Box<Webhook>),
    /// By a node that goes: to take over this call.
    Take,
}

/// What comes of it.
pub type Done = Result<Option<Box<RawValue>>, AppError>;

/// What comes of it, on its way between nodes.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Reply {
    /// It is done.
    Done(Option<Box<RawValue>>),
    /// It is not.
    Failed(Box<Failed>),
    /// The call is not here.
    Moved,
}

/// Why another node did not do what it was asked, in the words that the client is to be told.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Failed {
    /// The code.
    #[serde(with = "code")]
    pub code: Code,
    /// The public sentence.
    pub message: String,
    /// What belongs beside the code.
    pub data: Option<Box<RawValue>>,
    /// When it is worth trying again, in milliseconds.
    pub retry_after_ms: Option<u64>,
}

mod code {
    use serde::{Deserialize, Deserializer, Serializer};

    use crate::app::error::Code;

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
    pub(super) fn serialize<S: Serializer>(code: &Code, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(code.as_str())
    }

    /// A code of a newer version is a fault of the service to an older one.
    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Code, D::Error> {
        let text = String::deserialize(from)?;
        Ok(Code::parse(&text).unwrap_or(Code::Internal))
    }
}

impl Reply {
    pub(super) fn of(done: Done) -> Self {
        match done {
            Ok(data) => Self::Done(data),
            Err(AppError::Moved) => Self::Moved,
            Err(error) => {
                error.log();
                let millis = |it: Duration| u64::try_from(it.as_millis()).unwrap_or(u64::MAX);
                Self::Failed(Box::new(Failed {
                    code: error.code(),
                    message: error.public_message(),
                    data: error.data(),
                    retry_after_ms: error.retry_after().map(millis),
                }))
            }
        }
    }

    pub(super) fn done(self) -> Done {
        match self {
            Self::Done(data) => Ok(data),
            Self::Failed(failed) => Err(AppError::Failed(failed)),
            Self::Moved => Err(AppError::Moved),
        }
    }
}

impl Errand {
    /// Whether it only looks: what cannot be asked of the owner may be looked up elsewhere.
    pub(super) fn only_looks(&self) -> bool {
        matches!(
            self,
            Self::Look | Self::Quality | Self::Recordings | Self::Resume { .. } | Self::Again
        )
    }

    /// Whether it is of use after the end of the call: for whoever had it then, as long as that one lives.
    pub(super) fn outlasts_the_call(&self) -> bool {
        matches!(self, Self::Hear(heard) if matches!(heard.news, News::Egress(_)))
    }

    /// Whether it waits for LiveKit, which has a time of its own.
    pub(super) fn takes_long(&self) -> bool {
        matches!(self, Self::StartRecording)
    }

    /// Whether it gives somebody what must not be given twice: not for one who may have been taken for dead.
    fn takes_all(&self) -> bool {
        matches!(self, Self::Join { .. } | Self::Invite { .. } | Self::Remove { .. } | Self::Token)
    }
}

impl App {
    /// Carries out what is asked of a call that is here, or nowhere.
    pub(super) async fn perform(
        self: &Arc<Self>,
        call: CallId,
        user: &UserId,
        errand: Errand,
    ) -> Done {
        if errand.takes_all()
            && let Some(cluster) = self.cluster()
        {
            cluster.fence()?;
        }
        match errand {
            Errand::Join { settings, device } => {
                return self.join_here(call, user, settings, device).await.map(Some);
            }
            Errand::Invite { users } => {
                return self.invite_here(call, user, &users).await.map(Some);
            }
            Errand::Token => return self.token_here(call, user).await.map(Some),
            Errand::Again => return self.again_here(call, user).await.map(Some),
            Errand::Look => return self.call_here(call, user).await.map(Some),
            Errand::Resume { last_seq } => {
                return self.resume_here(call, user, last_seq).await.map(Some);
            }
            Errand::Quality => return self.quality_here(call, user).await.map(Some),
            Errand::StartRecording => {
                return self.start_recording_here(call, user).await.map(Some);
            }
            Errand::StopRecording => return self.stop_recording_here(call, user).await.map(Some),
            Errand::Recordings => return self.recordings_here(call, user).await.map(Some),
            Errand::Decline => self.decline_here(call, user).await?,
            Errand::End => self.end_here(call, user).await?,
            Errand::Rings => self.rings_here(call, user).await?,
            Errand::Remove { user: other } => self.remove_here(call, user, other).await?,
            Errand::Set { settings } => self.set_here(call, user, settings).await?,
            Errand::Mute { user: other, off } => self.mute_here(call, user, (other, off)).await?,
            Errand::MediaUp => self.media_up_here(call, user).await?,
            Errand::Sample { sample } => self.sample_here(call, user, sample).await?,
            Errand::Hear(webhook) => self.hear_here(*webhook).await?,
            // Of nodes to nodes: told apart by the mailbox.
            Errand::Mine { .. }
            | Errand::Holds
            | Errand::JoinedSince
            | Errand::Contested
            | Errand::Present
            | Errand::Take => {}
        }
        Ok(None)
    }
}
