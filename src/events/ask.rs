//! What an event asks for: its arguments, checked, and the command that follows.

use std::sync::Arc;

use serde_json::value::RawValue;

use crate::app::App;
use crate::app::error::AppError;
use crate::call::id::{CallId, DeviceId, UserId};
use crate::call::participant::{Sent, Settings};
use crate::call::quality::Sample;
use crate::events::wrong;
use crate::socketio::handler::Event;
use crate::wire::fields::{Fields, Malformed};
use crate::wire::request;

/// What an event asks for.
pub(super) enum Ask {
    Invite { call: CallId, users: Vec<UserId> },
    Rings { call: CallId },
    Accept { call: CallId, settings: Settings },
    Decline { call: CallId },
    End { call: CallId },
    Remove { call: CallId, user: UserId },
    Set { call: CallId, settings: Settings },
    Mute { call: CallId, user: UserId, off: Sent },
    MediaUp { call: CallId },
    Sample { call: CallId, sample: Sample },
    Resume { call: CallId, last_seq: u64 },
    Refresh { token: String },
}

/// Characters of a token: what `auth` accepts at most.
const TOKEN_CHARS_MAX: usize = crate::auth::TOKEN_BYTES_MAX;

impl Ask {
    /// Reads the event of a client that is `user`.
    pub(super) fn read(
        event: &Event<'_>,
        user: &UserId,
        participants_max: u16,
    ) -> Result<Self, AppError> {
        if !event.attachments.is_empty() {
            return Err(wrong("binary attachments", "JSON only"));
        }
        let mut bytes = match event.args.get(0) {
            Some(first) => first.get().as_bytes().to_vec(),
            None => return Err(wrong("no argument", "one JSON object")),
        };
        let fields = Fields::parse(&mut bytes)?;
        let ask = Self::of_call(event.name, &fields, user, participants_max)?;
        ask.ok_or_else(|| wrong(event.name, "an event of this service"))
    }

    fn of_call(
        name: &str,
        fields: &Fields<'_>,
        user: &UserId,
        participants_max: u16,
    ) -> Result<Option<Self>, Malformed> {
        let call = || fields.call_id("callId");
        Ok(Some(match name {
            "call:invite" => {
                let (call, users) = request::invite(fields, user, participants_max)?;
                Self::Invite { call, users }
            }
            "call:ringing" => Self::Rings { call: call()? },
            "call:accept" => {
                Self::Accept { call: call()?, settings: request::media_settings(fields)? }
            }
            "call:decline" => Self::Decline { call: call()? },
            "call:end" => {
                request::end_reason(fields)?;
                Self::End { call: call()? }
            }
            "call:remove_participant" => {
                Self::Remove { call: call()?, user: fields.user_id("userId")? }
            }
            "call:mute_participant" => {
                let (call, user, off) = request::mute(fields)?;
                Self::Mute { call, user, off }
            }
            "call:toggle_audio" | "call:toggle_video" | "call:toggle_screen_share" => {
                let (call, on) = request::toggle(fields)?;
                Self::Set { call, settings: toggled(name, on) }
            }
            "call:connected" => Self::MediaUp { call: call()? },
            "call:quality_update" => {
                let (call, sample) = request::sample(fields)?;
                Self::Sample { call, sample }
            }
            "call:resume" => {
                let (call, last_seq) = request::resume(fields)?;
                Self::Resume { call, last_seq }
            }
            "auth:refresh" => {
                let token = fields.text("token", TOKEN_CHARS_MAX)?;
                let missing = || Malformed::new("token", "nothing", "a JWT");
                Self::Refresh { token: token.ok_or_else(missing)? }
            }
            _ => return Ok(None),
        }))
    }

    /// Does it.
    pub(super) async fn carry_out(
        self,
        app: Arc<App>,
        user: UserId,
        device: Option<DeviceId>,
    ) -> Result<Option<Box<RawValue>>, AppError> {
        match self {
            Self::Invite { call, users } => return app.invite(call, &user, &users).await.map(Some),
            Self::Accept { call, settings } => {
                return app.join(call, &user, settings, device).await.map(Some);
            }
            Self::Resume { call, last_seq } => {
                return app.resume(call, &user, last_seq).await.map(Some);
            }
            Self::Rings { call } => app.rings(call, &user).await?,
            Self::Decline { call } => app.decline(call, &user).await?,
            Self::End { call } => app.end(call, &user).await?,
            Self::Remove { call, user: removed } => app.remove(call, &user, removed).await?,
            Self::Mute { call, user: muted, off } => app.mute(call, &user, (muted, off)).await?,
            Self::Set { call, settings } => app.set(call, &user, settings).await?,
            Self::MediaUp { call } => app.media_up(call, &user).await?,
            Self::Sample { call, sample } => app.sample(call, &user, sample).await?,
            // The connection's own business: done where the socket is at hand.
            Self::Refresh { .. } => {}
        }
        Ok(None)
    }
}

fn toggled(name: &str, on: bool) -> Settings {
    let mut settings = Settings::default();
    match name {
        "call:toggle_audio" => settings.audio = Some(on),
        "call:toggle_video" => settings.video = Some(on),
        _ => settings.screen_share = Some(on),
    }
    settings
}

/// The call that an event speaks of, for its error; whatever else is wrong with the event.
pub(super) fn call_of<'a>(event: &Event<'a>) -> Option<&'a str> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct OfCall<'a> {
        #[serde(borrow)]
        call_id: &'a str,
    }
    let of_call: OfCall<'a> = serde_json::from_str(event.args.get(0)?.get()).ok()?;
    CallId::parse(of_call.call_id).map(|_| of_call.call_id)
}
