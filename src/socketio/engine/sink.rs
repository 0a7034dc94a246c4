//! The way out to one client: who may write, what waits, and how it ends.
//!
//! Whoever sends writes to the client's socket itself, from any thread. What the socket does not
//! take at once is left to a drainer, a task that lives as long as there is a backlog.

use std::sync::{Arc, OnceLock};
use std::task::Waker;

use parking_lot::{Mutex, MutexGuard};
use tokio::runtime::Handle;
use tokio::time::timeout;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::socketio::DisconnectReason;
use crate::socketio::engine::frame::append_close;
use crate::socketio::engine::options::Options;
use crate::socketio::engine::outbox::{End, Outbox, Phase};
use crate::socketio::engine::packet::{self, CLOSE, Framing};
use crate::socketio::engine::stream::Writer;

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

/// The outgoing side of one session.
#[derive(Debug)]
pub struct Sink {
    /// What it shares with its neighbours.
    pub home: Arc<Home>,
    line: OnceLock<Arc<Line>>,
    out: Mutex<Outbox>,
    /// Wakes the task of the session.
    task: Mutex<Option<Waker>>,
    closed: OnceLock<DisconnectReason>,
}

impl Sink {
    /// To a client that polls, or to the websocket `line`.
    pub fn new(home: Arc<Home>, line: Option<Line>) -> Arc<Self> {
        let phase = if line.is_some() { Phase::Writable } else { Phase::Polling };
        Arc::new(Self {
            home,
            line: line.map(|it| OnceLock::from(Arc::new(it))).unwrap_or_default(),
            out: Mutex::new(Outbox::new(phase)),
            task: Mutex::new(None),
            closed: OnceLock::new(),
        })
    }

    /// Why it ended, if it has.
    pub fn closed(&self) -> Option<DisconnectReason> {
        self.closed.get().copied()
    }

    /// How packets must be laid out at the moment. Changes once, from [`Framing::Payload`].
    pub fn framing(&self) -> Framing {
        match self.line.get() {
            None => Framing::Payload,
            Some(line) if line.base64 => Framing::Base64Frames,
            Some(_) => Framing::Frames,
        }
    }

    /// Puts packets where the next GET finds them, or on the websocket if one just took over.
    pub fn queue(self: &Arc<Self>, payload: &[u8]) {
        let mut out = self.out.lock();
        if out.phase != Phase::Polling {
            drop(out);
            return self.write_frames(&packet::payload_to_frames(payload, self.framing()));
        }
        let appended = out.append(payload, self.home.options.queue_bytes_max);
        release(out);
        if appended.is_err() {
            self.close(DisconnectReason::SlowConsumer, Goodbye::Silent);
        }
    }

    /// Writes frames to the websocket. Never waits: what the socket does not take is left to a
    /// drainer, and a client that lets too much wait is closed.
    pub fn write_frames(self: &Arc<Self>, frames: &[u8]) {
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

    // === upgrade ===

    /// A websocket probes: GETs are let go at once from now on. False if another one does.
    pub fn begin_upgrade(&self) -> bool {
        let mut out = self.out.lock();
        if out.phase != Phase::Polling || out.upgrading || out.end != End::Open {
            return false;
        }
        out.upgrading = true;
        release(out);
        true
    }

    /// The probe failed; the session goes on polling.
    pub fn abandon_upgrade(&self) {
        self.out.lock().upgrading = false;
    }

    /// The websocket takes over, with what still waited for a GET: a farewell as well, should
    /// the session be ending. False if it is over.
    pub fn finish_upgrade(self: &Arc<Self>, line: Arc<Line>) -> bool {
        let mut out = self.out.lock();
        if out.phase != Phase::Polling || out.end == End::Gone || self.line.set(line).is_err() {
            return false;
        }
        let mut frames = packet::payload_to_frames(&out.take(), self.framing());
        if out.end == End::Leaving {
            append_close(&mut frames, CloseCode::Normal);
        }
        out.phase = if frames.is_empty() { Phase::Writable } else { Phase::Writing };
        out.upgrading = false;
        release(out);
        if !frames.is_empty() {
            self.write_now(&frames);
        }
        true
    }

    // === the end ===

    /// Ends the session for this reason. The first reason counts; the task of the session does
    /// the rest. What is held back elsewhere should have been written by now.
    pub fn close(self: &Arc<Self>, reason: DisconnectReason, goodbye: Goodbye) {
        if self.closed.set(reason).is_err() {
            return;
        }
        let mut out = self.out.lock();
        match out.phase {
            Phase::Polling => {
                let farewell =
                    if let Goodbye::Packet(farewell) = goodbye { farewell } else { CLOSE };
                out.leave(farewell, matches!(goodbye, Goodbye::Code(_)));
                release(out);
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

    /// What waits for the client, for the requests of a poller.
    pub fn outbox<R>(&self, work: impl FnOnce(&mut Outbox) -> R) -> R {
        work(&mut self.out.lock())
    }

    /// Makes the task behind `waker` this session's: [`Sink::wake`] and the end wake it. The
    /// one before is woken to find out.
    pub fn adopt(&self, waker: &Waker) {
        let before = self.task.lock().replace(waker.clone());
        if let Some(before) = before {
            before.wake();
        }
    }

    /// Has the task of the session look after it.
    pub fn wake(&self) {
        if let Some(task) = self.task.lock().as_ref() {
            task.wake_by_ref();
        }
    }

    /// The drainer cannot go on: nothing more can be delivered, not even a farewell.
    fn give_up(self: &Arc<Self>, reason: DisconnectReason) {
        self.close(reason, Goodbye::Silent);
        self.abort();
    }
}

/// Gives the lock back and wakes the GET that waits.
fn release(mut out: MutexGuard<'_, Outbox>) {
    let getter = out.take_getter();
    drop(out);
    if let Some(getter) = getter {
        getter.wake();
    }
}

/// Writes what a socket did not take at once, for as long as there is some.
async fn drain(sink: Arc<Sink>, line: Arc<Line>) {
    let write_timeout = sink.home.options.write_timeout;
    loop {
        let chunk = {
            let mut out = sink.out.lock();
            match (out.end, out.is_empty()) {
                // Whoever ended it may have found the writer in use, here.
                (End::Gone, _) => return line.writer.abort(),
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
                    return sink.give_up(DisconnectReason::SlowConsumer);
                }
                Ok(Err(_broken)) => {
                    return sink.give_up(DisconnectReason::TransportError);
                }
                Ok(Ok(written)) => {
                    rest = rest.get(written..).unwrap_or_default();
                    let mut out = sink.out.lock();
                    out.written(written);
                    if out.end == End::Gone {
                        break;
                    }
                }
            }
        }
    }
    line.writer.finish().await;
}
