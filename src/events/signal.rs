//! `webrtc:*`: from one participant's device to another's. The envelope is checked, the payload is
//! passed on byte for byte.

use std::sync::Arc;

use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::calls::Intent;
use crate::app::cluster::Signal;
use crate::app::error::AppError;
use crate::call::id::{CallId, UserId};
use crate::config::rates::Rule;
use crate::events::{Answering, Events, Session, wrong};
use crate::socketio::handler::{Event, Socket};
use crate::socketio::outlet::SocketId;
use crate::wire::fields::{Fields, Malformed};

/// What of an event that is passed on is not its payload: ids and names of fields, at most.
const ENVELOPE_BYTES: usize = 192;

/// The three events of signaling.
#[derive(Clone, Copy)]
pub(super) enum Kind {
    Offer,
    Answer,
    Candidate,
}

impl Kind {
    pub(super) fn of(event: &str) -> Option<Self> {
        match event {
            "webrtc:offer" => Some(Self::Offer),
            "webrtc:answer" => Some(Self::Answer),
            "webrtc:ice_candidate" => Some(Self::Candidate),
            _ => None,
        }
    }

    fn event(self) -> &'static str {
        match self {
            Self::Offer => "webrtc:offer",
            Self::Answer => "webrtc:answer",
            Self::Candidate => "webrtc:ice_candidate",
        }
    }

    fn field(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::Answer => "answer",
            Self::Candidate => "candidate",
        }
    }
}

/// What a client sends. Ids with escapes are refused (they are never needed), a field that stands
/// twice too; unknown fields are passed over and not passed on, so that nobody can name another
/// sender.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Envelope<'a> {
    #[serde(borrow)]
    call_id: Option<&'a str>,
    #[serde(borrow)]
    target_user_id: Option<&'a str>,
    #[serde(borrow, default, deserialize_with = "there")]
    offer: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    answer: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "there")]
    candidate: Option<&'a RawValue>,
}

/// A payload of `null` is one too: it ends the candidates.
fn there<'de: 'a, 'a, D: Deserializer<'de>>(from: D) -> Result<Option<&'a RawValue>, D::Error> {
    <&RawValue>::deserialize(from).map(Some)
}

/// Signaling that has been read.
struct Read {
    kind: Kind,
    call: CallId,
    target: UserId,
    /// What the target gets.
    data: Vec<u8>,
}

impl Read {
    fn of(event: &Event<'_>, from: &UserId) -> Result<Self, AppError> {
        let kind = Kind::of(event.name).ok_or_else(|| wrong(event.name, "webrtc:*"))?;
        let argument = event.args.get(0).ok_or_else(|| wrong("no argument", "one JSON object"))?;
        let envelope: Envelope<'_> = serde_json::from_str(argument.get())
            .map_err(|error| unreadable(argument.get(), &error))?;
        let call = envelope.call_id.and_then(CallId::parse);
        let call = call.ok_or_else(|| missing("callId", envelope.call_id, "a call id (UUID)"))?;
        let target = envelope.target_user_id.and_then(|it| UserId::parse(it).ok());
        let target =
            target.ok_or_else(|| missing("targetUserId", envelope.target_user_id, "a user id"))?;
        let payload = match kind {
            Kind::Offer => envelope.offer,
            Kind::Answer => envelope.answer,
            Kind::Candidate => envelope.candidate,
        };
        let payload = payload.ok_or_else(|| missing(kind.field(), None, "the payload"))?;
        let mut data = Vec::with_capacity(payload.get().len() + ENVELOPE_BYTES);
        write(&mut data, call, from, kind, payload);
        Ok(Self { kind, call, target, data })
    }

    fn pass_on(&self, app: &App, from: (&UserId, SocketId)) -> Result<(), AppError> {
        let Self { kind, call, target, data } = self;
        let targets = app.signal_targets(*call, from, target)?;
        for outlet in &targets.outlets {
            outlet.send_event(kind.event(), |out| out.extend_from_slice(data));
        }
        let name = kind.event();
        app.signal_elsewhere(
            &targets,
            Signal { call: *call, from: from.0, to: target, name, data },
        );
        Ok(())
    }
}

impl Events {
    /// Passes signaling on.
    pub(super) fn relay(
        &self,
        socket: &Socket<Session>,
        event: &Event<'_>,
    ) -> Result<(), AppError> {
        self.pace(socket, Rule::Relay)?;
        let from = &socket.session().user;
        Read::of(event, from)?.pass_on(&self.app, (from, socket.id()))
    }

    /// Signaling in a call that is not known here: another node may have it. Candidates often trail a call's
    /// end: the sender hears that it is over, not that it never was.
    pub(super) fn relay_late(&self, socket: &Socket<Session>, event: &Event<'_>) -> Answering {
        let (app, socket) = (Arc::clone(&self.app), socket.clone());
        let read = Read::of(event, &socket.session().user);
        Box::pin(async move {
            let (read, user) = (read?, &socket.session().user);
            if app.know_call(read.call, user).await {
                return read.pass_on(&app, (user, socket.id())).map(|()| None);
            }
            Err(app.not_live(read.call, user, Intent::Other).await)
        })
    }
}

const EXPECTED: &str = "{callId, targetUserId, and offer, answer or candidate}";

fn missing(field: &'static str, found: Option<&str>, expected: &'static str) -> AppError {
    Malformed::new(field, found.unwrap_or("nothing"), expected).into()
}

/// Which field keeps an envelope from being read: found out in a second, slower reading.
fn unreadable(argument: &str, error: &serde_json::Error) -> Malformed {
    let mut scratch = argument.as_bytes().to_vec();
    let ids = Fields::parse(&mut scratch)
        .and_then(|it| Ok((it.call_id("callId")?, it.user_id("targetUserId")?)));
    match ids {
        // A fault of the whole is told in the words of the first reading.
        Err(wrong) if wrong.field != "body" => wrong,
        Err(_) | Ok(_) => Malformed::new("event", &error.to_string(), EXPECTED),
    }
}

/// Ids need no escapes: their characters are plain by the contract's section 3.
fn write(out: &mut Vec<u8>, call: CallId, from: &UserId, kind: Kind, payload: &RawValue) {
    out.extend_from_slice(b"{\"callId\":\"");
    let mut id = [0; uuid::fmt::Hyphenated::LENGTH];
    out.extend_from_slice(call.0.hyphenated().encode_lower(&mut id).as_bytes());
    out.extend_from_slice(b"\",\"fromUserId\":\"");
    out.extend_from_slice(from.as_str().as_bytes());
    out.extend_from_slice(b"\",\"");
    out.extend_from_slice(kind.field().as_bytes());
    out.extend_from_slice(b"\":");
    out.extend_from_slice(payload.get().as_bytes());
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_read_is_named() {
        const CALL: &str = r#""callId":"0193d5f0-0000-7000-8000-000000000001""#;
        for (argument, message) in [
            (r#"{"callId":7}"#.to_owned(), "callId: expected a call id (UUID), found 7"),
            (
                format!(r#"{{{CALL},"targetUserId":["b"]}}"#),
                "targetUserId: expected 1 to 64 characters of A-Z a-z 0-9 _ . : @ = -, found [\"b\"]",
            ),
            (
                format!(r#"{{{CALL},"targetUserId":"b","offer":1,"offer":2}}"#),
                "event: expected {callId, targetUserId, and offer, answer or candidate}, found duplicate field `offer` at line 1 column..",
            ),
            (
                "[]".to_owned(),
                "event: expected {callId, targetUserId, and offer, answer or candidate}, found invalid length 0, expected struct Envelo..",
            ),
        ] {
            let error = serde_json::from_str::<Envelope<'_>>(&argument).err().unwrap();
            assert_eq!(unreadable(&argument, &error).to_string(), message, "{argument}");
        }
    }
}
