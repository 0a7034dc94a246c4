//! How media gets from one person to another: tickets, and the servers that help through firewalls.
//!
//! Calls here are peer to peer over the `webrtc:*` relay: a [`Ticket`] then names the room and the
//! user and carries no token. [`ice`] lists the STUN and TURN servers.

pub mod ice;

use serde::Serialize;

use crate::call::id::{CallId, UserId};

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
    pub media: Kind,
}

/// How the media of a call flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// From peer to peer, signaled over the relay.
    Peer,
}

impl Ticket {
    /// A ticket for a call that flows from peer to peer.
    pub fn peer(call: CallId, user: UserId) -> Self {
        Self { token: None, url: None, room_name: call.room(), identity: user, media: Kind::Peer }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_peer_ticket_on_the_wire() {
        let call = CallId::parse("0193d5f0-0000-7000-8000-000000000001").unwrap();
        let ticket = Ticket::peer(call, UserId::parse("ann").unwrap());
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
