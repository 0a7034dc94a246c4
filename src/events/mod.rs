//! Socket.IO events of clients as commands to the app, acknowledgements and errors back.
//!
//! A client may send the next event before the last is answered. What an event changes is decided
//! before the next is looked at; only the answer waits for the journal.

mod ask;
mod connect;
mod reply;
mod signal;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::effects::unnamed_device;
use crate::app::error::AppError;
use crate::app::presence::Expiry;
use crate::auth::Verifier;
use crate::call::id::{DeviceId, UserId};
use crate::config::rates::Rule;
use crate::events::ask::Ask;
use crate::events::reply::ReplyTo;
use crate::limits::Key;
use crate::socketio::DisconnectReason;
use crate::socketio::handler::{ConnectRequest, Event, Handler, Refused, Socket};
use crate::wire::fields::Malformed;

/// The service as Socket.IO clients see it.
pub struct Events {
    app: Arc<App>,
    verifier: Arc<Verifier>,
    /// Counts sockets, so that each has a bucket of its own for its rates.
    sockets: AtomicU64,
}

/// One authenticated socket.
pub struct Session {
    user: UserId,
    /// What the client calls its device, if anything.
    device: Option<DeviceId>,
    number: u64,
    expiry: Mutex<Expiry>,
}

/// What an event is answered with.
type Answer = Result<Option<Box<RawValue>>, AppError>;

/// An answer that may have to wait.
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

type Reaction = Result<Option<Answering>, AppError>;

impl Events {
    /// Serves clients whose tokens `verifier` accepts.
    pub fn new(app: Arc<App>, verifier: Arc<Verifier>) -> Self {
        Self { app, verifier, sockets: AtomicU64::new(0) }
    }

    /// Takes one from the socket's bucket; who keeps on without is put out.
    fn pace(&self, socket: &Socket<Session>, rule: Rule) -> Result<(), AppError> {
        let key = || Key::Socket(socket.session().number);
        let Err(limited) = self.app.rates.check(rule, key()) else { return Ok(()) };
        if self.app.rates.check(Rule::Violation, key()).is_err() {
            socket.outlet().disconnect(true);
        }
        Err(limited.into())
    }

    /// Does what the event asks for; `None` where it is done, without anything to tell.
    fn react(&self, socket: &Socket<Session>, event: &Event<'_>) -> Reaction {
        if signal::Kind::of(event.name).is_some() {
            return match self.relay(socket, event) {
                Err(AppError::NoSuchCall) => Ok(Some(self.relay_late(socket, event))),
                relayed => relayed.map(|()| None),
            };
        }
        self.pace(socket, Rule::Event)?;
        let session = socket.session();
        let ask = Ask::read(event, &session.user, self.app.participants_max())?;
        if let Ask::Refresh { token } = &ask {
            return self.refresh(socket, token).map(|()| None);
        }
        let device = session.device.clone().or_else(|| unnamed_device(socket.id()));
        Ok(Some(Box::pin(ask.carry_out(Arc::clone(&self.app), session.user.clone(), device))))
    }
}

impl Handler for Events {
    type Session = Session;

    fn connect(&self, request: &ConnectRequest<'_>) -> Result<Session, Refused> {
        self.authenticate(request)
    }

    fn connected(&self, socket: &Socket<Session>) {
        let session = socket.session();
        self.app.welcome(&session.user, session.device.as_ref(), socket.outlet());
    }

    fn event(&self, socket: &Socket<Session>, mut event: Event<'_>) {
        let ack = event.ack.take();
        // A fault costs this event its answer, not the client its connection.
        let reaction = catch_unwind(AssertUnwindSafe(|| self.react(socket, &event)));
        let reaction = reaction.unwrap_or(Err(AppError::Internal));
        if ack.is_none() && matches!(reaction, Ok(None)) {
            return;
        }
        let reply_to = ReplyTo::new(socket.outlet(), &event, ack);
        match reaction {
            Ok(Some(answering)) => reply_to.when(answering),
            Ok(None) => reply_to.send(Ok(None)),
            Err(error) => reply_to.send(Err(error)),
        }
    }

    fn disconnected(&self, socket: &Socket<Session>, reason: DisconnectReason) {
        let session = socket.session();
        tracing::debug!(reason = reason.as_str(), "socket gone");
        self.app.call_off(*session.expiry.lock());
        self.app.farewell(&session.user, session.device.as_ref(), socket.id());
    }
}

/// A `Malformed` for an event as a whole.
fn wrong(found: &str, expected: impl Into<Cow<'static, str>>) -> AppError {
    Malformed::new("event", found, expected).into()
}
