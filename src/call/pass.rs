//! What lets a participant into the call's media, and what it may send there.

use serde::{Deserialize, Serialize};

use crate::call::id::{CallId, UserId};
use crate::call::model::Call;
use crate::call::participant::Participant;
use crate::call::state::{CallType, MediaPath, Role};

/// What a participant may send, or wants to, beside the microphone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sources {
    /// A camera.
    pub camera: bool,
    /// A screen, with its sound.
    pub screen: bool,
}

/// Who may enter which call's media, as what.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pass {
    /// The call.
    pub call: CallId,
    /// Who.
    pub user: UserId,
    /// As whom.
    pub role: Role,
    /// How the media of this call flows.
    pub media: MediaPath,
    /// What may be sent.
    pub sources: Sources,
}

impl Call {
    /// What `participant` may send: in a video call all there is; in an audio call a camera or a screen
    /// only once the participant has said so.
    pub fn sources(&self, participant: &Participant) -> Sources {
        let (video, wants) = (self.call_type == CallType::Video, participant.wants);
        Sources { camera: video || wants.camera, screen: video || wants.screen }
    }

    /// The pass of `user`, where the user is in the call right now.
    pub fn pass(&self, user: &UserId) -> Option<Pass> {
        let participant = self.participant(user).filter(|it| it.is_joined())?;
        Some(Pass {
            call: self.id,
            user: user.clone(),
            role: participant.role,
            media: self.media,
            sources: self.sources(participant),
        })
    }
}
