//! Socket.IO for hyper: one path, one handler, any number of clients.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use tokio::runtime::Handle;

use crate::socketio::connection::SocketIo;
use crate::socketio::engine::answer::Answer;
use crate::socketio::engine::endpoint::Engine;
use crate::socketio::engine::options::Options;
use crate::socketio::handler::Handler;

/// A Socket.IO server without its listener: whoever accepts connections hands requests in.
pub struct Endpoint<H: Handler> {
    engine: Engine<SocketIo<H>>,
}

impl<H: Handler> Endpoint<H> {
    /// `websockets` are the runtimes that run the clients' tasks, one at least; current-thread
    /// ones are cheapest, with IO and time enabled. Requests may come in on any runtime.
    pub fn new(
        handler: Arc<H>,
        options: Options,
        websockets: impl IntoIterator<Item = Handle>,
    ) -> Self {
        Self { engine: Engine::new(SocketIo::new(handler), options, websockets) }
    }

    /// Whether requests for `path` belong here.
    pub fn serves(&self, path: &str) -> bool {
        self.engine.serves(path)
    }

    /// Connections that are open at the moment, in whatever namespaces.
    pub fn connections(&self) -> usize {
        self.engine.sessions()
    }

    /// Answers one request: a poll, a POST, a preflight, or the opening of a websocket, for which
    /// the connection must be served `with_upgrades`.
    pub async fn handle(&self, request: Request<Incoming>, remote: SocketAddr) -> Answer {
        self.engine.handle(request, remote).await
    }

    /// Lets nobody new in and tells all clients to go, evenly over `spread`; they reconnect, to
    /// another node if there is one. Returns when they have left, 2.5 s after the last at most.
    pub async fn drain(&self, spread: Duration) {
        self.engine.drain(spread).await;
    }
}
