//! One client of Engine.IO: sending to it from any thread, its heartbeat, its end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::time::Instant;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::socketio::engine::heartbeat::{Due, Heartbeat};
use crate::socketio::engine::options::Options;
use crate::socketio::engine::packet::{self, Framing};
use crate::socketio::engine::random::RandomId;
use crate::socketio::engine::run;
use crate::socketio::engine::sink::{Goodbye, Home, Line, Sink};
use crate::socketio::{DisconnectReason, Transport};

/// One client. Lives as long as someone holds it, and is dead once [`Session::closed`] says so.
#[derive(Debug)]
pub struct Session {
    /// Its secret: who has it can read and write in the client's name while it polls.
    pub id: RandomId,
    /// The way to the client.
    pub sink: Arc<Sink>,
    opened: Instant,
    heartbeat: Mutex<Heartbeat>,
    called: AtomicBool,
    settled: AtomicBool,
}

impl Session {
    /// A session that polls, or one that starts on the websocket `line`.
    pub fn new(id: RandomId, home: Arc<Home>, line: Option<Line>) -> Self {
        let now = Instant::now();
        let Options { ping_interval, ping_timeout, .. } = *home.options;
        Self {
            id,
            sink: Sink::new(home, line),
            opened: now,
            heartbeat: Mutex::new(Heartbeat::new(ping_interval, ping_timeout, now)),
            called: AtomicBool::new(false),
            settled: AtomicBool::new(false),
        }
    }

    /// What it shares with its neighbours.
    pub fn home(&self) -> &Arc<Home> {
        &self.sink.home
    }

    /// How the client is connected at the moment.
    pub fn transport(&self) -> Transport {
        match self.sink.framing() {
            Framing::Payload => Transport::Polling,
            Framing::Frames | Framing::Base64Frames => Transport::Websocket,
        }
    }

    /// Why it ended, if it has.
    pub fn closed(&self) -> Option<DisconnectReason> {
        self.sink.closed()
    }

    /// Whether a packet would leave at once, with nothing waiting before it.
    pub fn is_writable(&self) -> bool {
        self.sink.outbox(|out| out.is_writable())
    }

    /// The application is content with the client: `connect_timeout` no longer ends it.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Has [`Application::attend`](crate::socketio::engine::application::Application::attend) called soon.
    pub fn call(&self) {
        self.called.store(true, Ordering::Release);
        self.sink.wake();
    }

    // === sending ===

    /// Sends the packets that `encode` appends in the layout it is given. `encode` should not
    /// send to anyone itself.
    pub fn send(&self, encode: impl FnOnce(&mut Vec<u8>, Framing)) {
        if self.closed().is_some() {
            return;
        }
        match self.sink.framing() {
            Framing::Payload => {
                let mut payload = Vec::new();
                encode(&mut payload, Framing::Payload);
                self.sink.queue(&payload);
            }
            framing @ (Framing::Frames | Framing::Base64Frames) => {
                run::append(&self.sink, |out| encode(out, framing));
            }
        }
    }

    /// Sends ready-made frames to a client that takes [`Framing::Frames`]; false if it does not.
    pub fn send_frames(&self, frames: &[u8]) -> bool {
        let fits = self.sink.framing() == Framing::Frames;
        if fits && self.closed().is_none() {
            run::write(&self.sink, frames);
        }
        fits
    }

    /// Sends a text message, an Engine.IO `4`.
    pub fn send_text(&self, message: &str) {
        self.send(|out, framing| {
            packet::text(out, framing, |out| {
                out.push(b'4');
                out.extend_from_slice(message.as_bytes());
            });
        });
    }

    /// Sends a binary message.
    pub fn send_binary(&self, data: &[u8]) {
        self.send(|out, framing| packet::binary(out, framing, data));
    }

    /// Sends a packet that is not a message.
    pub fn send_control(&self, control: &str) {
        self.send(|out, framing| {
            packet::text(out, framing, |out| out.extend_from_slice(control.as_bytes()));
        });
    }

    // === heartbeat ===

    /// The client answered a ping.
    pub fn pong(&self) {
        self.heartbeat.lock().pong(Instant::now());
    }

    /// Does what is due at `now` and says when to come again.
    pub fn tick(&self, now: Instant) -> Instant {
        let mut heartbeat = self.heartbeat.lock();
        let due = heartbeat.check(now);
        let next = heartbeat.next_check(now);
        drop(heartbeat);
        match due {
            Due::Nothing(_) => (),
            Due::Ping => self.send_control("2"),
            Due::Timeout => self.close(DisconnectReason::PingTimeout, Goodbye::Silent),
        }
        if self.settled.load(Ordering::Acquire) {
            return next;
        }
        let deadline = self.opened + self.home().options.connect_timeout;
        if now >= deadline {
            self.close(DisconnectReason::ConnectTimeout, Goodbye::Code(CloseCode::Policy));
            return next;
        }
        next.min(deadline)
    }

    // === the end ===

    /// The one door out. The first reason counts; the session's task does the rest.
    pub fn close(&self, reason: DisconnectReason, goodbye: Goodbye) {
        if matches!(goodbye, Goodbye::Code(_)) {
            // What this thread holds back for the client goes before the farewell.
            run::flush(&self.sink);
        }
        self.sink.close(reason, goodbye);
    }

    /// Whether somebody called since the last time this was asked.
    pub fn take_call(&self) -> bool {
        self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::AcqRel)
    }
}
