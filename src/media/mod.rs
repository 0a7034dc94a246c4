//! How media gets from one person to another: tickets, and the servers that help through firewalls.
//!
//! A call's media flows through a LiveKit room where there is such a server ([`livekit`]: rooms and
//! tokens ([`grant`]), [`webhook`]: what it reports, [`egress`]: recordings), and else from peer to peer over the
//! `webrtc:*` relay: a [`Ticket`] then names the room and the user and carries no token. [`ice`] lists
//! the STUN and TURN servers, [`probe`] asks whether one is there.

pub mod egress;
pub mod error;
pub mod grant;
pub mod guest;
pub mod ice;
pub mod livekit;
pub mod probe;
pub mod webhook;

use serde::Serialize;

use crate::call::id::{CallId, UserId};
use crate::call::state::MediaPath;

/// What lets a client into a call's media.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Ticket {
    /// The media server's token; `None` peer to peer.
    pub token: Option<String>,
    /// The media server's address; `None` peer to peer.
    pub url: Option<String>,
    /// The call's room.
    pub room_name: String,
    /// Who the client is in that room: the user id.
    pub identity: UserId,
    /// How the media flows.
    pub media: MediaKind,
}

/// How the media of a call flows, on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum MediaKind {
    /// From peer to peer, signaled over the relay.
    Peer,
    /// Through a LiveKit room.
    LiveKit,
}

impl From<MediaPath> for MediaKind {
    fn from(path: MediaPath) -> Self {
        match path {
            MediaPath::Peer => Self::Peer,
            MediaPath::Livekit => Self::LiveKit,
        }
    }
}

impl Ticket {
    /// A ticket that opens nothing: for a call that flows from peer to peer, or is over.
    pub fn closed(call: CallId, user: UserId, media: MediaKind) -> Self {
        Self { token: None, url: None, room_name: call.room(), identity: user, media }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_peer_ticket_on_the_wire() {
        let call = CallId::parse("0193d5f0-0000-7000-8000-000000000001").unwrap();
        let ticket = Ticket::closed(call, UserId::parse("ann").unwrap(), MediaKind::Peer);
        assert_eq!(
            serde_json::to_value(ticket).unwrap(),
            json!({
                "token": null,
                "url": null,
                "roomName": "room_0193d5f0-0000-7000-8000-000000000001",
                "identity": "ann",
                "media": "peer",
            })
        );
    }
}
