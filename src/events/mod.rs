//! Socket.IO events of clients as commands to the app, acknowledgements and errors back.
//!
//! A client may send the next event before the last is answered. What an event changes is decided
//! before the next is looked at; only the answer waits for the journal.

mod ask;
mod connect;
mod signal;

use std::borrow::Cow;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::task::{Context, Poll, Waker};

use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::app::App;
use crate::app::calls::Intent;
use crate::app::effects::unnamed_device;
use crate::app::error::AppError;
use crate::app::presence::Expiry;
use crate::auth::Verifier;
use crate::call::id::{CallId, DeviceId, UserId};
use crate::config::rates::Rule;
use crate::events::ask::Ask;
use crate::limits::Key;
use crate::socketio::DisconnectReason;
use crate::socketio::handler::{ConnectRequest, Event, Handler, Refused, Socket};
use crate::socketio::outlet::{Ack, Outlet};
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

type Answer = Result<Option<Box<RawValue>>, AppError>;
type Answering = Pin<Box<dyn Future<Output = Answer> + Send>>;

/// What an event gets back, on the one way or the other.
struct ReplyTo {
    outlet: Outlet,
    event: Box<str>,
    call: Option<Box<str>>,
    ack: Option<Ack>,
}

#[derive(Serialize)]
struct Done<'a> {
    success: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
struct Failed<'a> {
    success: bool,
    error: &'a str,
    code: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<&'a RawValue>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CallError<'a> {
    error: &'a str,
    code: &'static str,
    event: &'a str,
    call_id: Option<&'a str>,
}

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

    fn answer(&self, socket: &Socket<Session>, event: &Event<'_>) -> Result<Answering, AppError> {
        self.pace(socket, Rule::Event)?;
        let session = socket.session();
        let ask = Ask::read(event, &session.user, self.app.participants_max())?;
        if let Ask::Refresh { token } = &ask {
            self.refresh(socket, token)?;
            return Ok(Box::pin(std::future::ready(Ok(None))));
        }
        let device = session.device.clone().or_else(|| unnamed_device(socket.id()));
        Ok(Box::pin(ask.carry_out(Arc::clone(&self.app), session.user.clone(), device)))
    }

    /// Candidates often trail a call's end: the sender hears that it is over, not that it never was.
    fn not_relayed(&self, socket: &Socket<Session>, event: &Event<'_>) -> Answering {
        let call = ask::call_of(event).and_then(CallId::parse);
        let (app, user) = (Arc::clone(&self.app), socket.session().user.clone());
        Box::pin(async move {
            Err(match call {
                Some(call) => app.not_live(call, &user, Intent::Other).await,
                None => AppError::NoSuchCall,
            })
        })
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
        if signal::Kind::of(event.name).is_some() {
            match self.relay(socket, &event) {
                Ok(()) if ack.is_none() => {}
                Err(AppError::NoSuchCall) => {
                    ReplyTo::new(socket, &event, ack).when(self.not_relayed(socket, &event));
                }
                relayed => ReplyTo::new(socket, &event, ack).send(relayed.map(|()| None)),
            }
            return;
        }
        let reply_to = ReplyTo::new(socket, &event, ack);
        match self.answer(socket, &event) {
            Ok(answering) => reply_to.when(answering),
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

impl ReplyTo {
    fn new(socket: &Socket<Session>, event: &Event<'_>, ack: Option<Ack>) -> Self {
        let call = ask::call_of(event).map(Box::from);
        Self { outlet: socket.outlet().clone(), event: event.name.into(), call, ack }
    }

    /// Begins at once, so that what this event changes comes before what the next one does; goes on
    /// in a task of its own where the answer has to wait.
    fn when(self, mut answering: Answering) {
        let mut context = Context::from_waker(Waker::noop());
        // A fault costs this event its answer, not the client its connection.
        match catch_unwind(AssertUnwindSafe(|| answering.as_mut().poll(&mut context))) {
            Ok(Poll::Ready(answer)) => self.send(answer),
            Ok(Poll::Pending) => {
                drop(tokio::spawn(async move { self.send(answering.await) }));
            }
            Err(_) => self.send(Err(AppError::Internal)),
        }
    }

    fn send(self, answer: Answer) {
        match (answer, self.ack) {
            (Ok(data), Some(ack)) => {
                ack.send(&text(&Done { success: true, data: data.as_deref() }));
            }
            (Ok(_), None) => {}
            (Err(error), ack) => {
                let (message, code) = (error.public_message(), error.code().as_str());
                let data = error.data();
                match ack {
                    Some(ack) => ack.send(&text(&Failed {
                        success: false,
                        error: &message,
                        code,
                        data: data.as_deref(),
                    })),
                    None => self.outlet.send_event("call:error", |out| {
                        let (event, call_id) = (&*self.event, self.call.as_deref());
                        let error = CallError { error: &message, code, event, call_id };
                        out.extend_from_slice(text(&error).as_bytes());
                    }),
                }
            }
        }
    }
}

fn text(value: &impl Serialize) -> String {
    // Structs of strings and booleans always serialise.
    serde_json::to_string(value).unwrap_or_default()
}

/// A `Malformed` for an event as a whole.
fn wrong(found: &str, expected: impl Into<Cow<'static, str>>) -> AppError {
    Malformed::new("event", found, expected).into()
}
