//! What a service does with its clients.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use bytes::Bytes;
use serde_json::value::RawValue;

use crate::socketio::DisconnectReason;
use crate::socketio::engine::handshake::Handshake;
use crate::socketio::json::Args;
use crate::socketio::outlet::{Ack, Outlet, SocketId};

/// What a service does with its clients.
///
/// All methods are synchronous and must not block; one that has to wait spawns a task, and runs
/// inside a tokio runtime. For one client they are called one after the other.
pub trait Handler: Send + Sync + 'static {
    /// What [`connect`](Self::connect) makes of a client.
    type Session: Send + Sync + 'static;

    /// A client asks for a namespace. An error is its `CONNECT_ERROR`.
    fn connect(&self, request: &ConnectRequest<'_>) -> Result<Self::Session, Refused>;

    /// The client is in; the place for greetings, which arrive after the answer to its CONNECT.
    fn connected(&self, socket: &Socket<Self::Session>);

    /// The client sent an event.
    fn event(&self, socket: &Socket<Self::Session>, event: Event<'_>);

    /// The client is out; the last call for this socket.
    fn disconnected(&self, socket: &Socket<Self::Session>, reason: DisconnectReason);
}

/// A client's CONNECT.
#[derive(Debug)]
pub struct ConnectRequest<'a> {
    /// The namespace it asks for, with its leading slash.
    pub namespace: &'a str,
    /// The request that opened its connection.
    pub handshake: &'a Handshake,
    /// The auth payload, an object, as it came.
    pub auth: Option<&'a RawValue>,
    /// The way to the client, should it be let in; nothing may be sent before.
    pub outlet: &'a Outlet,
}

/// Why a client is not let into a namespace; goes out as `CONNECT_ERROR`.
#[derive(Clone, Debug)]
pub struct Refused {
    /// For people.
    pub message: Cow<'static, str>,
    /// For programs.
    pub data: Option<Box<RawValue>>,
}

impl Refused {
    /// A refusal with a message alone.
    pub fn new(message: impl Into<Cow<'static, str>>) -> Self {
        Self { message: message.into(), data: None }
    }

    /// There is no such namespace, in the words of the reference server.
    pub const fn invalid_namespace() -> Self {
        Self { message: Cow::Borrowed("Invalid namespace"), data: None }
    }
}

/// An event as a client sent it.
#[derive(Debug)]
pub struct Event<'a> {
    /// Its name; a number's text where a client used one.
    pub name: &'a str,
    /// Its arguments.
    pub args: Args<'a>,
    /// The binary parts, named by placeholders in the arguments.
    pub attachments: &'a [Bytes],
    /// The answer, if the client wants one.
    pub ack: Option<Ack>,
}

/// One client in one namespace, with what the service keeps of it.
pub struct Socket<S>(Arc<Inner<S>>);

struct Inner<S> {
    outlet: Outlet,
    session: S,
}

impl<S> Socket<S> {
    pub(crate) fn new(outlet: Outlet, session: S) -> Self {
        Self(Arc::new(Inner { outlet, session }))
    }

    /// The socket's name.
    pub fn id(&self) -> SocketId {
        self.0.outlet.id()
    }

    /// The way to the client.
    pub fn outlet(&self) -> &Outlet {
        &self.0.outlet
    }

    /// What [`Handler::connect`] made of it.
    pub fn session(&self) -> &S {
        &self.0.session
    }
}

impl<S> Clone for Socket<S> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<S> fmt::Debug for Socket<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Socket").field(&self.0.outlet).finish()
    }
}
