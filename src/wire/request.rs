//! What clients may ask, checked: bodies of REST requests and arguments of Socket.IO events.

use crate::call::id::{CallId, ChatId, UserId};
use crate::call::participant::{Sent, Settings};
use crate::call::quality::Sample;
use crate::call::state::{CallType, EndReason};
use crate::wire::fields::{Fields, Malformed};

/// A round trip or jitter beyond a minute is no measurement.
const MILLIS_MAX: f64 = 60_000.0;
/// 10 Gbit/s.
const KILOBITS_MAX: f64 = 10_000_000.0;
const FPS_MAX: f64 = 1000.0;
const SHORT_TEXT_CHARS_MAX: usize = 32;

/// `POST /start`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StartRequest {
    /// Audio or video.
    pub call_type: CallType,
    /// Who is called.
    pub participants: Vec<UserId>,
    /// The chat it belongs to.
    pub chat: Option<ChatId>,
    /// Microphone and camera of the caller.
    pub settings: Settings,
    /// Nobody is rung.
    pub silent: bool,
}

impl StartRequest {
    /// Reads the body of a start by `caller`, of a call with at most `participants_max` people.
    pub fn read(
        fields: &Fields<'_>,
        caller: &UserId,
        participants_max: u16,
    ) -> Result<Self, Malformed> {
        let call_type = fields.word("type", "audio or video", CallType::parse)?;
        let silent = |text: &str| match text {
            "all" => Some(false),
            "none" => Some(true),
            _ => None,
        };
        let others = usize::from(participants_max.saturating_sub(1));
        let participants = fields.user_ids("participantIds", caller, others)?;
        Ok(Self {
            call_type: call_type
                .ok_or_else(|| Malformed::new("type", "nothing", "audio or video"))?,
            participants: participants.ok_or_else(|| {
                let expected = format!("1 to {others} distinct user ids other than your own");
                Malformed::new("participantIds", "nothing", expected)
            })?,
            chat: fields.chat_id("chatId")?,
            settings: media_settings(fields)?,
            silent: fields.word("ring", "all or none", silent)?.unwrap_or(false),
        })
    }
}

/// Microphone and camera of one who starts or joins; both may be left out.
pub fn media_settings(fields: &Fields<'_>) -> Result<Settings, Malformed> {
    let (audio, video) = (fields.flag("audioEnabled")?, fields.flag("videoEnabled")?);
    Ok(Settings { audio, video, screen_share: None })
}

/// The reason in an end: a hint that the service checks and passes over, since it derives its own.
pub fn end_reason(fields: &Fields<'_>) -> Result<Option<EndReason>, Malformed> {
    const EXPECTED: &str =
        "normal, timeout, declined, busy, failed, cancelled, network_error or no_answer";
    fields.word("reason", EXPECTED, EndReason::parse)
}

/// `PATCH /:id/participant`: the one body in which an unknown field is an error.
pub fn participant_settings(fields: &Fields<'_>) -> Result<Settings, Malformed> {
    const EXPECTED: &str = "audioEnabled, videoEnabled or screenShareEnabled";
    let known = ["audioEnabled", "videoEnabled", "screenShareEnabled"];
    if let Some(unknown) = fields.names().find(|it| !known.contains(it)) {
        return Err(Malformed::new("body", unknown, EXPECTED));
    }
    let screen_share = fields.flag("screenShareEnabled")?;
    let settings = Settings { screen_share, ..media_settings(fields)? };
    if settings == Settings::default() {
        return Err(Malformed::new("body", "no setting", EXPECTED));
    }
    Ok(settings)
}

/// The call, and who is to be added.
pub type Invited = (CallId, Vec<UserId>);

/// `call:invite`: the call and whom to add, from `participantIds` or the seed's
/// `invitation.participants`; the rest of a client's invitation is passed over.
pub fn invite(
    fields: &Fields<'_>,
    by: &UserId,
    participants_max: u16,
) -> Result<Invited, Malformed> {
    let call = fields.call_id("callId")?;
    let max = usize::from(participants_max);
    if let Some(users) = fields.user_ids("participantIds", by, max)? {
        return Ok((call, users));
    }
    let users = match fields.object("invitation")? {
        Some(invitation) => invitation.user_ids("participants", by, max)?,
        None => None,
    };
    let missing = || Malformed::new("participantIds", "nothing", "a list of user ids");
    Ok((call, users.ok_or_else(missing)?))
}

/// `call:toggle_audio` and its like: the call and the new value.
pub fn toggle(fields: &Fields<'_>) -> Result<(CallId, bool), Malformed> {
    let enabled = fields.flag("enabled")?;
    let missing = || Malformed::new("enabled", "nothing", "true or false");
    Ok((fields.call_id("callId")?, enabled.ok_or_else(missing)?))
}

/// The call, whom it concerns, and what is to go off.
pub type Muted = (CallId, UserId, Sent);

/// `call:mute_participant`: `source` is `audio` where it is left out.
pub fn mute(fields: &Fields<'_>) -> Result<Muted, Malformed> {
    const EXPECTED: &str = "audio, video or screen_share";
    let off = |source: &str| match source {
        "audio" => Some(Sent { audio: true, ..Sent::default() }),
        "video" => Some(Sent { video: true, ..Sent::default() }),
        "screen_share" => Some(Sent { screen_share: true, ..Sent::default() }),
        _ => None,
    };
    let asked = fields.word("source", EXPECTED, off)?;
    let off = asked.unwrap_or(Sent { audio: true, ..Sent::default() });
    Ok((fields.call_id("callId")?, fields.user_id("userId")?, off))
}

/// `call:quality_update`.
pub fn sample(fields: &Fields<'_>) -> Result<(CallId, Sample), Malformed> {
    let call = fields.call_id("callId")?;
    let needed = |name: &'static str, max: f64| {
        let missing = || Malformed::new(name, "nothing", format!("a number from 0 to {max}"));
        fields.number(name, max)?.ok_or_else(missing)
    };
    let sample = Sample {
        jitter: needed("jitter", MILLIS_MAX)?,
        packet_loss: needed("packetLoss", 100.0)?,
        round_trip_time: needed("roundTripTime", MILLIS_MAX)?,
        bandwidth: fields.number("bandwidth", KILOBITS_MAX)?,
        fps: fields.number("fps", FPS_MAX)?,
        resolution: fields.text("resolution", SHORT_TEXT_CHARS_MAX)?,
        codec: fields.text("codec", SHORT_TEXT_CHARS_MAX)?,
    };
    Ok((call, sample))
}

/// `call:resume`: the call and the number of the last event seen.
pub fn resume(fields: &Fields<'_>) -> Result<(CallId, u64), Malformed> {
    let call = fields.call_id("callId")?;
    let seq = fields.whole_number("lastSeq")?;
    Ok((call, seq.ok_or_else(|| Malformed::new("lastSeq", "nothing", "a whole number"))?))
}
