//! What one who is rung has to know, at once or on connecting later.

use serde::Serialize;
use serde_json::value::{RawValue, to_raw_value};

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::model::Call;
use crate::call::record::CallFacts;
use crate::call::time::Timestamp;
use crate::wire::reply::CallDetails;
use crate::wire::time::Iso;

/// The invitation as the service builds it (contract, section 6).
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Invitation<'a> {
    call_id: CallId,
    room_id: String,
    r#type: &'static str,
    initiator_id: &'a str,
    initiator_name: Option<&'a str>,
    chat_id: Option<&'a str>,
    is_group: bool,
    participants: Vec<&'a str>,
    expires_at: Iso,
}

impl<'a> Invitation<'a> {
    /// The invitation to `call`, which rings until `expires_at`.
    pub fn new(call: &'a Call, expires_at: Timestamp, participants: &'a [UserId]) -> Self {
        Self {
            call_id: call.id,
            room_id: call.id.room(),
            r#type: call.call_type.as_str(),
            initiator_id: call.initiator.as_str(),
            initiator_name: call.initiator_name.as_deref(),
            chat_id: call.chat.as_ref().map(ChatId::as_str),
            is_group: call.is_group,
            participants: participants.iter().map(UserId::as_str).collect(),
            expires_at: Iso(expires_at),
        }
    }
}

/// A live call in `call:sync`: with the invitation where the user is being rung right now.
#[derive(Serialize)]
struct SyncCall<'a> {
    #[serde(flatten)]
    details: CallDetails<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    invitation: Option<Invitation<'a>>,
}

/// `call` as `user` has to know it on connecting.
pub fn sync_call(call: &Call, user: &UserId, now: Timestamp) -> Option<Box<RawValue>> {
    let facts = CallFacts::of(call, now);
    let participants: Vec<UserId> = call.participants.iter().map(|it| it.user.clone()).collect();
    let rung_until = call.participant(user).and_then(|it| it.ring_deadline);
    let invitation = rung_until.map(|at| Invitation::new(call, at, &participants));
    to_raw_value(&SyncCall { details: CallDetails::from(&facts), invitation }).ok()
}

/// `call:sync`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Sync<'a> {
    /// The user's live calls, each made by [`sync_call`].
    pub calls: Vec<Box<RawValue>>,
    /// When this was true.
    pub timestamp: Iso,
    /// How often a client should send a quality sample, in milliseconds.
    pub quality_check_interval: u64,
    /// How long an invitee is rung, in milliseconds.
    pub ringing_timeout: u64,
    /// The node that the socket is on, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<&'a str>,
}
