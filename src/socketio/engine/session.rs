//! One client of Engine.IO: sending to it from any thread, its heartbeat, its upgrade, its end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::socketio::engine::frame::append_close;
use crate::socketio::engine::heartbeat::{Due, Heartbeat};
use crate::socketio::engine::options::Options;
use crate::socketio::engine::outbox::{End, Outbox, Phase};
use crate::socketio::engine::packet::{self, CLOSE, Framing};
use crate::socketio::engine::random::RandomId;
use crate::socketio::engine::run;
use crate::socketio::engine::stream::Writer;
use crate::socketio::{DisconnectReason, Transport};

/// What the sessions of one runtime share.
#[derive(Debug)]
pub struct Home {
    /// The settings of the endpoint.
    pub options: Arc<Options>,
    /// Runs the tasks of these sessions; it has IO and time enabled.
    pub runtime: Handle,
}

/// The websocket of a session, once it has one.
#[derive(Debug)]
pub struct Line {
    /// Where frames go.
    pub writer: Writer,
    /// The client asked for binary as base64 text.
    pub base64: bool,
}

/// How a session tells its client that it ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Goodbye {
    /// Not at all: the client is gone or does not listen.
    Silent,
    /// After what waits for it; a websocket is closed with this code.
    Code(CloseCode),
    /// A poller's waiting GET is released with this packet.
    Packet(&'static str),
}

/// One client. Lives as long as someone holds it, and is dead once [`Session::closed`] says so.
#[derive(Debug)]
pub struct Session {
    /// Its secret: who has it can read and write in the client's name while it polls.
    pub id: RandomId,
    /// What it shares with its neighbours.
    pub home: Arc<Home>,
    opened: Instant,
    line: OnceLock<Arc<Line>>,
    out: Mutex<Outbox>,
    heartbeat: Mutex<Heartbeat>,
    /// Wakes the task of this session.
    task: Mutex<Option<Waker>>,
    closed: OnceLock<DisconnectReason>,
    called: AtomicBool,
    settled: AtomicBool,
}

impl Session {
    /// A session that polls, or one that starts on the websocket `line`.
    pub fn new(id: RandomId, home: Arc<Home>, line: Option<Line>) -> Arc<Self> {
        let now = Instant::now();
        let Options { ping_interval, ping_timeout, .. } = *home.options;
        let phase = if line.is_some() { Phase::Writable } else { Phase::Polling };
        Arc::new(Self {
            id,
            home,
            opened: now,
            line: line.map(|it| OnceLock::from(Arc::new(it))).unwrap_or_default(),
            out: Mutex::new(Outbox::new(phase)),
            heartbeat: Mutex::new(Heartbeat::new(ping_interval, ping_timeout, now)),
            task: Mutex::new(None),
            closed: OnceLock::new(),
            called: AtomicBool::new(false),
            settled: AtomicBool::new(false),
        })
    }

    /// How the client is connected at the moment.
    pub fn transport(&self) -> Transport {
        if self.line.get().is_some() { Transport::Websocket } else { Transport::Polling }
    }

    /// Why it ended, if it has.
    pub fn closed(&self) -> Option<DisconnectReason> {
        self.closed.get().copied()
    }

    /// Whether a packet would leave at once, with nothing waiting before it.
    pub fn is_writable(&self) -> bool {
        self.out.lock().is_writable()
    }

    /// The application is content with the client: `connect_timeout` no longer ends it.
    pub fn settle(&self) {
        self.settled.store(true, Ordering::Release);
    }

    /// Has [`Application::attend`](crate::socketio::engine::Application::attend) called soon.
    pub fn call(&self) {
        self.called.store(true, Ordering::Release);
        self.wake();
    }

    // === sending ===

    /// Sends the packets that `encode` appends in the layout it is given. `encode` should not
    /// send to anyone itself.
    pub fn send(self: &Arc<Self>, encode: impl FnOnce(&mut Vec<u8>, Framing)) {
        if self.closed.get().is_some() {
            return;
        }
        match self.framing() {
            Framing::Payload => {
                let mut payload = Vec::new();
                encode(&mut payload, Framing::Payload);
                self.queue(&payload);
            }
            framing @ (Framing::Frames | Framing::Base64Frames) => {
                run::append(self, |out| encode(out, framing));
            }
        }
    }

    /// Sends ready-made frames to a client that takes [`Framing::Frames`]; false if it does not.
    pub fn send_frames(self: &Arc<Self>, frames: &[u8]) -> bool {
        let fits = self.framing() == Framing::Frames;
        if fits && self.closed.get().is_none() {
            run::write(self, frames);
        }
        fits
    }

    /// Sends a text message, an Engine.IO `4`.
    pub fn send_text(self: &Arc<Self>, message: &str) {
        self.send(|out, framing| {
            packet::text(out, framing, |out| {
                out.push(b'4');
                out.extend_from_slice(message.as_bytes());
            });
        });
    }

    /// Sends a binary message.
    pub fn send_binary(self: &Arc<Self>, data: &[u8]) {
        self.send(|out, framing| packet::binary(out, framing, data));
    }

    /// Sends a packet that is not a message.
    pub fn send_control(self: &Arc<Self>, control: &str) {
        self.send(|out, framing| {
            packet::text(out, framing, |out| out.extend_from_slice(control.as_bytes()));
        });
    }

    fn framing(&self) -> Framing {
        match self.line.get() {
            None => Framing::Payload,
            Some(line) if line.base64 => Framing::Base64Frames,
            Some(_) => Framing::Frames,
        }
    }

    /// Puts packets where the next GET finds them, or on the websocket if one just took over.
    fn queue(self: &Arc<Self>, payload: &[u8]) {
        let mut out = self.out.lock();
        if out.phase != Phase::Polling {
            drop(out);
            return self.write_frames(&packet::payload_to_frames(payload, self.framing()));
        }
        let appended = out.append(payload, self.home.options.queue_bytes_max);
        let getter = out.take_getter();
        drop(out);
        if let Some(getter) = getter {
            getter.wake();
        }
        if appended.is_err() {
            self.close(DisconnectReason::SlowConsumer, Goodbye::Silent);
        }
    }

    /// Writes frames to the websocket. Never waits: what the socket does not take is left to a
    /// drainer, and a client that lets too much wait is closed.
    pub(crate) fn write_frames(self: &Arc<Self>, frames: &[u8]) {
        if frames.is_empty() {
            return;
        }
        let mut out = self.out.lock();
        match (out.end, out.phase) {
            (End::Leaving | End::Gone, _) | (End::Open, Phase::Polling) => (),
            (End::Open, Phase::Writable) => {
                out.phase = Phase::Writing;
                drop(out);
                self.write_now(frames);
            }
            (End::Open, Phase::Writing) => {
                let appended = out.append(frames, self.home.options.queue_bytes_max);
                drop(out);
                if appended.is_err() {
                    self.close(DisconnectReason::SlowConsumer, Goodbye::Silent);
                }
            }
        }
    }

    /// Writes as the one in [`Phase::Writing`]; no lock is held during the system call.
    fn write_now(self: &Arc<Self>, frames: &[u8]) {
        let Some(line) = self.line.get() else { return };
        let Ok(written) = line.writer.try_write(frames) else {
            return self.close(DisconnectReason::TransportError, Goodbye::Silent);
        };
        let mut out = self.out.lock();
        if out.end == End::Gone {
            return;
        }
        out.put_back(frames.get(written..).unwrap_or_default());
        if out.is_empty() && out.end == End::Open {
            out.phase = Phase::Writable;
            return;
        }
        drop(out);
        drop(self.home.runtime.spawn(drain(Arc::clone(self), Arc::clone(line))));
    }

    // === heartbeat ===

    /// The client answered a ping.
    pub fn pong(&self) {
        self.heartbeat.lock().pong(Instant::now());
    }

    /// Does what is due at `now` and says when to come again.
    pub fn tick(self: &Arc<Self>, now: Instant) -> Instant {
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
        let deadline = self.opened + self.home.options.connect_timeout;
        if now >= deadline {
            self.close(DisconnectReason::ConnectTimeout, Goodbye::Code(CloseCode::Policy));
            return next;
        }
        next.min(deadline)
    }

    // === upgrade ===

    /// A websocket probes: GETs are let go at once from now on. False if another one does.
    pub fn begin_upgrade(&self) -> bool {
        let mut out = self.out.lock();
        if out.phase != Phase::Polling || out.upgrading || out.end != End::Open {
            return false;
        }
        out.upgrading = true;
        let getter = out.take_getter();
        drop(out);
        if let Some(getter) = getter {
            getter.wake();
        }
        true
    }

    /// The probe failed; the session goes on polling.
    pub fn abandon_upgrade(&self) {
        self.out.lock().upgrading = false;
    }

    /// The websocket takes over, with what still waited for a GET. False if the session is over.
    pub fn finish_upgrade(self: &Arc<Self>, line: Arc<Line>) -> bool {
        let mut out = self.out.lock();
        if out.phase != Phase::Polling || out.end != End::Open || self.line.set(line).is_err() {
            return false;
        }
        let frames = packet::payload_to_frames(&out.take(), self.framing());
        out.phase = if frames.is_empty() { Phase::Writable } else { Phase::Writing };
        out.upgrading = false;
        let getter = out.take_getter();
        drop(out);
        if let Some(getter) = getter {
            getter.wake();
        }
        if !frames.is_empty() {
            self.write_now(&frames);
        }
        true
    }

    // === the end ===

    /// The one door out. The first reason counts; the session's task does the rest.
    pub fn close(self: &Arc<Self>, reason: DisconnectReason, goodbye: Goodbye) {
        if self.closed.set(reason).is_err() {
            return;
        }
        if matches!(goodbye, Goodbye::Code(_)) {
            run::flush(self);
        }
        let mut out = self.out.lock();
        match out.phase {
            Phase::Polling => {
                let farewell =
                    if let Goodbye::Packet(farewell) = goodbye { farewell } else { CLOSE };
                out.leave(farewell, matches!(goodbye, Goodbye::Code(_)));
                let getter = out.take_getter();
                drop(out);
                if let Some(getter) = getter {
                    getter.wake();
                }
            }
            phase @ (Phase::Writable | Phase::Writing) => match goodbye {
                Goodbye::Silent | Goodbye::Packet(_) => {
                    out.end = End::Gone;
                    drop(out.take());
                }
                Goodbye::Code(code) => {
                    let mut frame = Vec::new();
                    append_close(&mut frame, code);
                    out.end = End::Leaving;
                    out.phase = Phase::Writing;
                    if phase == Phase::Writing {
                        out.append_last(&frame);
                    }
                    drop(out);
                    if phase == Phase::Writable {
                        self.write_now(&frame);
                    }
                }
            },
        }
        self.wake();
    }

    /// Whether its last packets are still on their way.
    pub fn says_goodbye(&self) -> bool {
        self.out.lock().end == End::Leaving
    }

    /// Ends the connection under it, if it has one.
    pub fn abort(&self) {
        self.out.lock().end = End::Gone;
        if let Some(line) = self.line.get() {
            line.writer.abort();
        }
    }

    // === for the session's task and the requests of its poller ===

    /// What waits for the client, for the requests of a poller.
    pub fn outbox<R>(&self, work: impl FnOnce(&mut Outbox) -> R) -> R {
        work(&mut self.out.lock())
    }

    /// Whether somebody called since the last time this was asked.
    pub fn take_call(&self) -> bool {
        self.called.load(Ordering::Acquire) && self.called.swap(false, Ordering::AcqRel)
    }

    /// Makes the task behind `waker` this session's: it is woken by [`Session::call`] and by the
    /// end. The one before is woken to find out.
    pub fn adopt(&self, waker: &Waker) {
        let before = self.task.lock().replace(waker.clone());
        if let Some(before) = before {
            before.wake();
        }
    }

    fn wake(&self) {
        if let Some(task) = self.task.lock().as_ref() {
            task.wake_by_ref();
        }
    }
}

/// Writes what a socket did not take at once, for as long as there is some.
async fn drain(session: Arc<Session>, line: Arc<Line>) {
    let write_timeout = session.home.options.write_timeout;
    loop {
        let chunk = {
            let mut out = session.out.lock();
            match (out.end, out.is_empty()) {
                (End::Gone, _) => return,
                (End::Leaving, true) => break,
                (End::Open, true) => {
                    out.phase = Phase::Writable;
                    return;
                }
                (End::Open | End::Leaving, false) => out.take_for_drain(),
            }
        };
        let mut rest = chunk.as_slice();
        while !rest.is_empty() {
            match timeout(write_timeout, line.writer.write_some(rest)).await {
                Err(_stalled) => {
                    return session.give_up(DisconnectReason::SlowConsumer);
                }
                Ok(Err(_broken)) => {
                    return session.give_up(DisconnectReason::TransportError);
                }
                Ok(Ok(written)) => {
                    rest = rest.get(written..).unwrap_or_default();
                    let mut out = session.out.lock();
                    out.written(written);
                    if out.end == End::Gone {
                        return;
                    }
                }
            }
        }
    }
    line.writer.finish().await;
}

impl Session {
    /// The drainer cannot go on: nothing more can be delivered, not even a farewell.
    fn give_up(self: &Arc<Self>, reason: DisconnectReason) {
        self.close(reason, Goodbye::Silent);
        self.abort();
    }
}
