//! A session together with the application on it: the one place that calls the application.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use dashmap::DashMap;
use parking_lot::Mutex;

use crate::socketio::engine::application::Application;
use crate::socketio::engine::handshake::Handshake;
use crate::socketio::engine::options::Options;
use crate::socketio::engine::packet::{self, Packet};
use crate::socketio::engine::random::RandomId;
use crate::socketio::engine::run;
use crate::socketio::engine::session::Session;
use crate::socketio::{DisconnectReason, Transport};

/// How long a poller may take to fetch the farewell, and a websocket to close its side.
pub const FAREWELL: Duration = Duration::from_secs(2);

/// What the sessions of one endpoint share.
pub struct Shared<A: Application> {
    /// What stands on the sessions.
    pub application: A,
    /// The settings.
    pub options: Arc<Options>,
    /// The sessions by their secret. Bounded by `sessions_max`.
    pub sessions: DashMap<RandomId, Arc<Driven<A>>>,
    /// No new sessions: the process is about to end.
    pub draining: AtomicBool,
}

/// One session and the application's state for it.
pub struct Driven<A: Application> {
    /// The client.
    pub session: Arc<Session>,
    shared: Arc<Shared<A>>,
    /// Gone once the application has been told of the end.
    state: Mutex<Option<A::State>>,
}

impl<A: Application> Driven<A> {
    /// Opens `session`: it is told to the application and can be found from now on.
    pub fn open(shared: &Arc<Shared<A>>, session: Arc<Session>, handshake: Handshake) -> Arc<Self> {
        let state = shared.application.open(&session, handshake);
        let driven =
            Arc::new(Self { session, shared: Arc::clone(shared), state: Mutex::new(Some(state)) });
        shared.sessions.insert(driven.session.id, Arc::clone(&driven));
        driven.session.send_control(&driven.greeting());
        driven
    }

    /// The open packet.
    fn greeting(&self) -> String {
        let options = &self.shared.options;
        let upgrades = match self.session.transport() {
            Transport::Polling => r#""websocket""#,
            Transport::Websocket => "",
        };
        format!(
            r#"0{{"sid":"{}","upgrades":[{upgrades}],"pingInterval":{},"pingTimeout":{},"maxPayload":{}}}"#,
            self.session.id,
            options.ping_interval.as_millis(),
            options.ping_timeout.as_millis(),
            options.max_payload,
        )
    }

    /// Works on what came in one read: whatever it makes the application send leaves together.
    /// The error is why the session must end.
    pub fn feed<E: From<DisconnectReason>>(
        &self,
        work: impl FnOnce(&mut Intake<'_, A>) -> Result<(), E>,
    ) -> Result<(), E> {
        let mut state = self.state.lock();
        let Some(state) = state.as_mut() else {
            return Err(DisconnectReason::TransportClose.into());
        };
        let mut intake = Intake { driven: self, state };
        // A panic in the application ends this client, and not whoever shares its thread.
        let worked = catch_unwind(AssertUnwindSafe(|| run::batch(|| work(&mut intake))));
        worked.unwrap_or_else(|_panic| {
            tracing::error!(session = ?self.session.id, "the application panicked");
            Err(DisconnectReason::TransportError.into())
        })
    }

    /// Calls `attend` if somebody asked for it.
    pub fn attend(&self) -> Result<(), DisconnectReason> {
        if self.session.take_call() {
            return self.feed(|intake| {
                intake.driven.shared.application.attend(intake.state);
                Ok(())
            });
        }
        Ok(())
    }

    /// Tells the application of the end, once, and lets go of its state.
    pub fn over(&self) {
        let reason = self.session.closed().unwrap_or(DisconnectReason::TransportClose);
        let mut guard = self.state.lock();
        let Some(mut state) = guard.take() else { return };
        let application = &self.shared.application;
        let told = catch_unwind(AssertUnwindSafe(|| application.closed(&mut state, reason)));
        drop(guard);
        if told.is_err() {
            tracing::error!(%reason, "the application panicked at the end of a session");
        }
    }

    /// The session can no longer be found.
    pub fn forget(&self) {
        self.shared.sessions.remove(&self.session.id);
    }
}

/// The application's ear, for as long as one read is worked on.
pub struct Intake<'a, A: Application> {
    driven: &'a Driven<A>,
    state: &'a mut A::State,
}

impl<A: Application> Intake<'_, A> {
    /// Takes one packet as text.
    pub fn text(&mut self, text: &str) -> Result<(), DisconnectReason> {
        let application = &self.driven.shared.application;
        match packet::parse(text).ok_or(DisconnectReason::ParseError)? {
            Packet::Message(message) => application.text(self.state, message)?,
            Packet::Pong => self.driven.session.pong(),
            Packet::Base64(data) => {
                let data = packet::decode_base64(data).ok_or(DisconnectReason::ParseError)?;
                application.binary(self.state, &data)?;
            }
            Packet::Close => return Err(DisconnectReason::TransportClose),
            // Since version 4 only servers ping.
            Packet::Ping(_) => return Err(DisconnectReason::TransportError),
            Packet::Upgrade | Packet::Noop => (),
        }
        self.settle_requests()
    }

    /// Takes one binary message.
    pub fn binary(&mut self, data: &[u8]) -> Result<(), DisconnectReason> {
        self.driven.shared.application.binary(self.state, data)?;
        self.settle_requests()
    }

    /// What handlers asked for takes effect before the next packet is looked at.
    fn settle_requests(&mut self) -> Result<(), DisconnectReason> {
        if self.driven.session.take_call() {
            self.driven.shared.application.attend(self.state);
        }
        self.driven.session.closed().map_or(Ok(()), Err)
    }
}
