//! What stands on Engine.IO: Socket.IO, or anything else that speaks in messages.

use std::sync::Arc;

use crate::socketio::DisconnectReason;
use crate::socketio::engine::handshake::Handshake;
use crate::socketio::engine::session::Session;

/// What stands on Engine.IO. All calls for one session are made one after the other, must not
/// block, and run inside a tokio runtime.
pub trait Application: Send + Sync + 'static {
    /// What the application keeps for each session.
    type State: Send + 'static;

    /// A session has begun; nothing has been received yet.
    fn open(&self, session: &Arc<Session>, handshake: Handshake) -> Self::State;

    /// A text message came. An error closes the session with that reason.
    fn text(&self, state: &mut Self::State, text: &str) -> Result<(), DisconnectReason>;

    /// A binary message came. An error closes the session with that reason.
    fn binary(&self, state: &mut Self::State, data: &[u8]) -> Result<(), DisconnectReason>;

    /// Someone called [`Session::call`]: time to look after what other threads asked for.
    fn attend(&self, state: &mut Self::State);

    /// The session is over; no other call follows.
    fn closed(&self, state: &mut Self::State, reason: DisconnectReason);
}
