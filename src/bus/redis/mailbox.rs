//! Our mailbox: read, looked after, and made anew where it has stopped to work.
//!
//! A subscription can be lost without a word (its slot went to another server, fault F7) and a client can
//! lose its way (F6), so this node writes to itself each second. What it does not hear twice has it
//! subscribe again, and after a while take another client.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, ClusterInterface, EventInterface, PubsubInterface};
use fred::types::config::Server;
use fred::types::{Message, Value};
use metrics::counter;
use tokio::sync::broadcast::{self, error::RecvError};
use tokio::sync::{mpsc, watch};
use tokio::task::AbortHandle;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout, timeout_at};
use uuid::Uuid;

use crate::bus::directory::Incoming;
use crate::bus::letter::{Kind, Letter, enclose, unpack};
use crate::bus::redis::Shared;
use crate::bus::redis::line::Line;
use crate::bus::redis::options::{ANSWER_MAX, kind_of};
use crate::bus::script::Script;
use crate::call::id::CallId;
use crate::telemetry::BUS_LETTERS_REFUSED_TOTAL;

/// What waits to be read, at most: seconds of a busy node's letters. Above, letters are lost, which is told.
pub(super) const MAILBOX_MAX: usize = 65_536;
/// How often this node writes to itself: what others wait for an answer is longer than it takes to see that a
/// mailbox is closed, as it is where its slot has moved, and to open it.
const ECHO_EVERY: Duration = Duration::from_millis(250);
/// How long it waits to hear itself.
const ECHO_WAIT: Duration = Duration::from_secs(1);
/// Echoes in a row that are not heard before something is done about it.
const MISSES_MAX: u32 = 2;
/// For how long a client may fail before another one takes its place.
const PATIENCE: Duration = Duration::from_secs(5);

/// Where whatever comes in is put.
pub(super) struct Inbox {
    mailbox: mpsc::Sender<Incoming>,
    /// There was no room for something.
    overflown: AtomicBool,
}

impl Inbox {
    pub(super) fn new() -> (Self, mpsc::Receiver<Incoming>) {
        let (mailbox, reader) = mpsc::channel(MAILBOX_MAX);
        (Self { mailbox, overflown: AtomicBool::new(false) }, reader)
    }

    /// What finds no room is lost, and told as a gap as soon as there is some.
    pub(super) fn put(&self, incoming: Incoming) {
        if self.overflown.load(Ordering::Relaxed) && self.mailbox.try_send(Incoming::Gap).is_ok() {
            self.overflown.store(false, Ordering::Relaxed);
        }
        if self.mailbox.try_send(incoming).is_err() {
            self.overflown.store(true, Ordering::Relaxed);
        }
    }
}

/// What a client of the mailbox gives us.
pub(super) struct Ears {
    messages: broadcast::Receiver<Message>,
    connects: broadcast::Receiver<Server>,
}

impl Ears {
    /// Before it connects, so that nothing is missed.
    pub(super) fn of(client: &Client) -> Self {
        Self { messages: client.message_rx(), connects: client.reconnect_rx() }
    }
}

/// Looks after the mailbox.
pub(super) struct Keeper {
    shared: Arc<Shared>,
    line: Line,
    connects: broadcast::Receiver<Server>,
    listener: AbortHandle,
    /// The last echo that was heard.
    heard: watch::Sender<u128>,
    sent: u128,
    misses: u32,
    /// It has been open before: what came in between is lost.
    opened: bool,
    well: [Instant; 3],
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

/// What has become of a word to ourselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Echo {
    Heard,
    /// It did not come in time.
    Lost,
    /// Redis knows of nobody who listens: no need to try twice.
    Nobody,
}

impl Keeper {
    pub(super) fn new(shared: Arc<Shared>, line: Line, ears: Ears) -> Self {
        let heard = watch::Sender::new(0);
        let listener = listen(&shared, ears.messages, &heard);
        let connects = ears.connects;
        let well = [Instant::now(); 3];
        Self { shared, line, connects, listener, heard, sent: 0, misses: 0, opened: false, well }
    }

    /// Goes on for as long as there is a bus.
    pub(super) async fn keep(mut self) {
        let mut clock = interval(ECHO_EVERY);
        clock.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = clock.tick() => self.look().await,
                connected = self.connects.recv() => match connected {
                    Ok(_) | Err(RecvError::Lagged(_)) => {
                        self.subscribe().await;
                        self.look().await;
                    }
                    Err(RecvError::Closed) => {
                        clock.tick().await;
                        self.renew();
                    }
                },
            }
            self.shared.health.tell();
        }
    }

    /// Writes to ourselves, and does something about it where that is not heard.
    async fn look(&mut self) {
        let probed = async {
            if self.shared.health.commands.is_away() {
                let key = "nodes";
                drop(self.shared.ask(Script::Probe, key, &[]).await);
            }
        };
        let (echo, ()) = tokio::join!(self.echo(), probed);
        self.sent += 1;
        self.misses = match echo {
            Echo::Heard => 0,
            Echo::Lost => self.misses.saturating_add(1),
            Echo::Nobody => self.misses.saturating_add(1).max(MISSES_MAX),
        };
        self.shared.health.hear(self.misses < MISSES_MAX);
        self.mend().await;
    }

    /// Whether our own word comes back in time.
    async fn echo(&self) -> Echo {
        let until = Instant::now() + ECHO_WAIT;
        let id = self.sent + 1;
        let Some(message) = self.word(id) else { return Echo::Lost };
        let channel = self.shared.channel(&self.shared.me);
        let client = self.shared.letters.client();
        let sent: Result<i64, Error> =
            Box::pin(client.spublish(channel, Value::Bytes(message))).await;
        self.shared.health.letters.note(sent.as_ref().err().map(kind_of));
        match sent {
            Ok(0) => Echo::Nobody,
            Ok(_) => {
                let mut heard = self.heard.subscribe();
                let heard = timeout_at(until, heard.wait_for(|it| *it >= id)).await;
                if heard.is_ok() { Echo::Heard } else { Echo::Lost }
            }
            Err(_) => Echo::Lost,
        }
    }

    fn word(&self, id: u128) -> Option<Bytes> {
        let letter = Letter {
            kind: Kind::Echo,
            id,
            from: self.shared.me.clone(),
            call: CallId(Uuid::nil()),
            epoch: 0,
            seq: 0,
            prev: 0,
            to: Vec::new(),
            body: Bytes::new(),
        };
        let mut message = BytesMut::new();
        enclose(&mut message, &letter.encode()?);
        Some(message.freeze())
    }

    /// What fails for long gets another client. The mailbox is subscribed to anew before that, by a client
    /// that has looked again where its slot is.
    async fn mend(&mut self) {
        let shared = Arc::clone(&self.shared);
        let health = &shared.health;
        let failing =
            [self.misses >= MISSES_MAX, health.commands.is_away(), health.letters.is_away()];
        let now = Instant::now();
        let mut tired = [false; 3];
        for ((since, failing), tired) in self.well.iter_mut().zip(failing).zip(&mut tired) {
            *tired = failing && now.duration_since(*since) >= PATIENCE;
            if *tired || !failing {
                *since = now;
            }
        }
        let [mailbox, commands, letters] = tired;
        if commands || shared.commands.is_dead() {
            replaced(shared.commands.renew(|_| ()));
        }
        if letters || shared.letters.is_dead() {
            replaced(shared.letters.renew(|_| ()));
        }
        if mailbox || self.line.is_dead() {
            self.renew();
        } else if self.misses >= MISSES_MAX && !health.letters.is_away() {
            let client = self.line.client();
            if client.is_clustered() {
                drop(timeout(ANSWER_MAX, client.sync_cluster()).await);
            }
            self.subscribe().await;
        }
    }

    /// It connects, and is subscribed once it has.
    fn renew(&mut self) {
        if let Some(ears) = replaced(self.line.renew(Ears::of)) {
            self.listener.abort();
            self.listener = listen(&self.shared, ears.messages, &self.heard);
            self.connects = ears.connects;
        }
    }

    async fn subscribe(&mut self) {
        let channel = self.shared.channel(&self.shared.me);
        match Box::pin(self.line.client().ssubscribe(channel)).await {
            Ok(()) if self.opened => self.shared.inbox.put(Incoming::Gap),
            Ok(()) => self.opened = true,
            Err(error) => tracing::debug!(%error, "the mailbox is not open"),
        }
    }
}

/// Only settings that can't be used fail here, and these have been used before.
fn replaced<T>(made: Result<T, Error>) -> Option<T> {
    made.inspect_err(|error| tracing::error!(%error, "no new client of Redis")).ok()
}

/// Reads for as long as the client is there. Nothing is waited for here, as what waits behind it gets lost.
fn listen(
    shared: &Arc<Shared>,
    mut messages: broadcast::Receiver<Message>,
    heard: &watch::Sender<u128>,
) -> AbortHandle {
    let (shared, heard) = (Arc::clone(shared), heard.clone());
    let task = tokio::spawn(async move {
        loop {
            match messages.recv().await {
                Ok(message) => take(&shared, message, &heard),
                Err(RecvError::Lagged(_)) => shared.inbox.put(Incoming::Gap),
                Err(RecvError::Closed) => return,
            }
        }
    });
    task.abort_handle()
}

fn take(shared: &Shared, message: Message, heard: &watch::Sender<u128>) {
    let Some(bytes) = message.value.into_bytes() else {
        counter!(BUS_LETTERS_REFUSED_TOTAL).increment(1);
        return;
    };
    for letter in unpack(bytes) {
        match letter {
            None => counter!(BUS_LETTERS_REFUSED_TOTAL).increment(1),
            Some(letter) if letter.kind == Kind::Echo => {
                if letter.from == shared.me {
                    heard.send_replace(letter.id);
                }
            }
            Some(letter) => shared.inbox.put(Incoming::Letter(letter)),
        }
    }
}
