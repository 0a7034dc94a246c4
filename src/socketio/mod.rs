//! Socket.IO v5 over Engine.IO v4, as a layer that knows nothing of calls.
//!
//! ```text
//!  hyper request ── engine::endpoint ── engine::polling    GET and POST
//!                        │              engine::websocket  frames, one task a socket
//!                        ▼
//!                 engine::session   one client: heartbeat, out buffer, upgrade, close
//!                        │
//!                   connection      Socket.IO packets, namespaces, acks
//!                        │
//!                 handler::Handler  what the service does with an event
//! ```
//!
//! What a service needs: it implements [`handler::Handler`], mounts an
//! [`endpoint::Endpoint`] and speaks to clients through [`outlet::Outlet`]s, one by one or by
//! [`hub::Hub`] rooms. Events for many receivers are encoded once, as [`packet::Packet`].
//!
//! Three decisions shape the code:
//!
//! - **The sender writes.** An outlet writes to the receiver's socket itself; no task is woken
//!   on the way. Only what a socket does not take at once goes to a drainer task.
//! - **Idle owns nothing.** Read buffers belong to the thread, write buffers exist while there is
//!   a backlog, a websocket is one small task.
//! - **One caller at a time.** All calls into a handler for one client are made one after the
//!   other, and `disconnected` is the last of them.

use std::fmt;

pub mod connection;
pub mod endpoint;
pub mod engine;
pub mod handler;
pub mod hub;
pub mod json;
pub mod outlet;
pub mod packet;

/// How a client's packets travel at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Transport {
    /// HTTP long polling: one GET that waits, a POST for each batch sent.
    Polling,
    /// One websocket.
    Websocket,
}

impl Transport {
    /// The name used in the `transport` query parameter.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Polling => "polling",
            Self::Websocket => "websocket",
        }
    }
}

/// Why a client left a namespace; the words are those of the reference server where it has one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum DisconnectReason {
    /// No pong within `ping_timeout` after a ping.
    PingTimeout,
    /// The peer closed the connection or went away.
    TransportClose,
    /// The connection broke, or the peer broke the rules of the transport.
    TransportError,
    /// This server put the client out of one namespace.
    ServerNamespace,
    /// This server closed the whole connection of this client.
    ServerClose,
    /// This server is going down.
    ServerShutdown,
    /// The client left the namespace.
    ClientNamespace,
    /// What came was not a valid packet.
    ParseError,
    /// The client read too slowly: its out buffer was full or a write stalled.
    SlowConsumer,
    /// The client connected to no namespace within `connect_timeout`.
    ConnectTimeout,
}

impl DisconnectReason {
    /// The reason as logs and clients name it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::PingTimeout => "ping timeout",
            Self::TransportClose => "transport close",
            Self::TransportError => "transport error",
            Self::ServerNamespace => "server namespace disconnect",
            Self::ServerClose => "forced server close",
            Self::ServerShutdown => "server shutting down",
            Self::ClientNamespace => "client namespace disconnect",
            Self::ParseError => "parse error",
            Self::SlowConsumer => "slow consumer",
            Self::ConnectTimeout => "connect timeout",
        }
    }
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
