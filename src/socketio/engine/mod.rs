//! Engine.IO v4: sessions of text and binary messages over long polling or a websocket.
//!
//! It knows no Socket.IO: what stands on it implements [`Application`].

use std::sync::Arc;

use crate::socketio::DisconnectReason;
use crate::socketio::engine::handshake::Handshake;
use crate::socketio::engine::session::Session;

pub mod answer;
pub mod driven;
pub mod endpoint;
pub mod frame;
pub mod handshake;
pub mod heartbeat;
pub mod options;
pub mod outbox;
pub mod packet;
pub mod polling;
pub mod random;
pub mod run;
pub mod session;
pub mod stream;
pub mod websocket;

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
