//! The way to one client in one namespace, from any thread.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::task::AbortHandle;
use tokio::time::sleep;

use crate::socketio::engine::random::RandomId;
use crate::socketio::engine::session::Session;
use crate::socketio::json::Args;
use crate::socketio::packet::{self, Header, Kind, MAIN_NAMESPACE, Packet};
use crate::socketio::{DisconnectReason, Transport};

/// Names a socket, that is one client in one namespace. Not a secret: it says nothing of the
/// session's id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SocketId(RandomId);

impl SocketId {
    /// A fresh one; `None` if the operating system has no randomness to give.
    pub fn generate() -> Option<Self> {
        RandomId::generate().map(Self)
    }

    /// One that a test knows before.
    #[cfg(test)]
    pub(crate) fn of(bits: u128) -> Self {
        Self(RandomId::of(bits))
    }
}

impl fmt::Display for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for SocketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What a client answered to an event.
#[derive(Debug)]
pub struct Reply<'a> {
    /// The arguments of its ack.
    pub args: Args<'a>,
    /// The binary parts, named by placeholders in the arguments.
    pub attachments: &'a [Bytes],
}

/// Why no answer came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AckError {
    /// The time was up.
    #[error("no ack in time")]
    Timeout,
    /// The client left first.
    #[error("disconnected before the ack")]
    Disconnected,
    /// As many acks as allowed are awaited from this client.
    #[error("too many acks awaited")]
    TooMany,
}

type OnReply = Box<dyn for<'a> FnOnce(Result<Reply<'a>, AckError>) + Send>;

/// One client in one namespace. Cheap to clone; harmless once the client is gone.
#[derive(Clone)]
pub struct Outlet(Arc<Inner>);

struct Inner {
    session: Arc<Session>,
    id: SocketId,
    namespace: Box<str>,
    ended: OnceLock<DisconnectReason>,
    kicked: AtomicBool,
    acks: Mutex<Acks>,
}

#[derive(Default)]
struct Acks {
    next: u64,
    /// Bounded by `pending_acks_max`.
    pending: Vec<Pending>,
}

struct Pending {
    id: u64,
    then: OnReply,
    timer: AbortHandle,
}

impl Outlet {
    pub(crate) fn new(session: Arc<Session>, id: SocketId, namespace: &str) -> Self {
        Self(Arc::new(Inner {
            session,
            id,
            namespace: namespace.into(),
            ended: OnceLock::new(),
            kicked: AtomicBool::new(false),
            acks: Mutex::default(),
        }))
    }

    /// The socket's name.
    pub fn id(&self) -> SocketId {
        self.0.id
    }

    /// The namespace it is in.
    pub fn namespace(&self) -> &str {
        &self.0.namespace
    }

    /// How the client is connected at the moment.
    pub fn transport(&self) -> Transport {
        self.0.session.transport()
    }

    /// Whether anything sent may still arrive.
    pub fn is_connected(&self) -> bool {
        self.0.ended.get().is_none() && self.0.session.closed().is_none()
    }

    /// Sends an event. Never waits: a client that lets more than `queue_bytes_max` wait is
    /// disconnected as a slow consumer.
    pub fn send(&self, packet: &Packet) {
        if self.0.ended.get().is_some() {
            return;
        }
        if *self.0.namespace == *MAIN_NAMESPACE && self.0.session.send_frames(packet.frames()) {
            return;
        }
        self.send_with_id(packet, None);
    }

    /// Sends an event if it can leave at once, else forgets it: for what is soon out of date.
    pub fn send_volatile(&self, packet: &Packet) {
        if self.0.session.is_writable() {
            self.send(packet);
        }
    }

    /// Sends an event whose arguments `write` lists as JSON, separated by commas, straight into
    /// the buffer that is written to the socket. `write` must not send to anyone.
    pub fn send_event(&self, name: &str, write: impl FnOnce(&mut Vec<u8>)) {
        if self.0.ended.get().is_none() {
            let header = self.header(Kind::Event, None);
            self.0.session.send(|out, framing| {
                packet::encode(out, framing, header, &[], |out| {
                    packet::write_event(out, name, write);
                });
            });
        }
    }

    /// Sends an event and calls `then` once: with the answer, or with the reason why none came
    /// within `timeout`. `then` must not block.
    pub fn emit_with_ack(
        &self,
        packet: &Packet,
        timeout: Duration,
        then: impl for<'a> FnOnce(Result<Reply<'a>, AckError>) + Send + 'static,
    ) {
        let home = self.0.session.home();
        let mut acks = self.0.acks.lock();
        if !self.is_connected() {
            drop(acks);
            return then(Err(AckError::Disconnected));
        }
        if acks.pending.len() >= home.options.pending_acks_max {
            drop(acks);
            return then(Err(AckError::TooMany));
        }
        let id = acks.next;
        acks.next += 1;
        let outlet = Arc::downgrade(&self.0);
        let timer = home.runtime.spawn(async move {
            sleep(timeout).await;
            let pending = outlet.upgrade().and_then(|it| it.take_ack(id));
            if let Some(pending) = pending {
                (pending.then)(Err(AckError::Timeout));
            }
        });
        acks.pending.push(Pending { id, then: Box::new(then), timer: timer.abort_handle() });
        drop(acks);
        self.send_with_id(packet, Some(id));
    }

    /// Puts the client out of the namespace or, if `close`, out of all of them, and ends its
    /// connection. The handler's `disconnected` follows.
    pub fn disconnect(&self, close: bool) {
        if close {
            self.0.kicked.store(true, Ordering::Release);
        }
        self.leave(DisconnectReason::ServerNamespace);
        self.0.session.call();
    }

    // === for the connection ===

    /// Marks the socket as ended and tells the client.
    pub(crate) fn leave(&self, reason: DisconnectReason) {
        if self.0.ended.set(reason).is_ok() {
            self.send_bare(Kind::Disconnect, |_| ());
        }
        self.end(reason);
    }

    /// Marks the socket as ended; whoever awaits an ack hears of it. The first reason counts.
    pub(crate) fn end(&self, reason: DisconnectReason) {
        self.0.ended.get_or_init(|| reason);
        let pending = std::mem::take(&mut self.0.acks.lock().pending);
        for pending in pending {
            pending.timer.abort();
            (pending.then)(Err(AckError::Disconnected));
        }
    }

    /// Why the socket ended, if it did.
    pub(crate) fn ended(&self) -> Option<DisconnectReason> {
        self.0.ended.get().copied()
    }

    /// Whether the connection is to be closed.
    pub(crate) fn is_kicked(&self) -> bool {
        self.0.kicked.load(Ordering::Acquire)
    }

    /// Sends a packet that is neither event nor ack.
    pub(crate) fn send_bare(&self, kind: Kind, data: impl FnOnce(&mut Vec<u8>)) {
        let header = self.header(kind, None);
        self.0.session.send(|out, framing| packet::encode(out, framing, header, &[], data));
    }

    /// The client answered; what nobody asked for is ignored.
    pub(crate) fn acknowledge(&self, id: u64, reply: Reply<'_>) {
        if let Some(pending) = self.0.take_ack(id) {
            pending.timer.abort();
            (pending.then)(Ok(reply));
        }
    }

    fn send_with_id(&self, packet: &Packet, id: Option<u64>) {
        let header = self.header(Kind::Event, id);
        self.0.session.send(|out, framing| {
            packet::encode(out, framing, header, packet.attachments(), |out| {
                out.extend_from_slice(packet.json());
            });
        });
    }

    fn header(&self, kind: Kind, id: Option<u64>) -> Header<'_> {
        Header::new(kind, &self.0.namespace, id)
    }
}

impl Inner {
    fn take_ack(&self, id: u64) -> Option<Pending> {
        let mut acks = self.acks.lock();
        let index = acks.pending.iter().position(|it| it.id == id)?;
        Some(acks.pending.swap_remove(index))
    }
}

impl fmt::Debug for Outlet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outlet")
            .field("id", &self.0.id)
            .field("namespace", &self.0.namespace)
            .finish_non_exhaustive()
    }
}

/// The answer a client waits for; can be sent once, from any thread, at any time.
#[derive(Debug)]
pub struct Ack {
    outlet: Outlet,
    id: u64,
}

impl Ack {
    pub(crate) const fn new(outlet: Outlet, id: u64) -> Self {
        Self { outlet, id }
    }

    /// Answers with `args`: JSON values separated by commas, or nothing.
    pub fn send(self, args: &str) {
        self.send_with_attachments(args, &[]);
    }

    /// Answers with `args`, which name `attachments` by placeholders.
    pub fn send_with_attachments(self, args: &str, attachments: &[Bytes]) {
        if !self.outlet.is_connected() {
            return;
        }
        let header = self.outlet.header(Kind::Ack, Some(self.id));
        self.outlet.0.session.send(|out, framing| {
            packet::encode(out, framing, header, attachments, |out| {
                out.push(b'[');
                out.extend_from_slice(args.as_bytes());
                out.push(b']');
            });
        });
    }
}
