//! From the queue of letters to Redis: in order, those that wait together in one message, many on their way.

use std::collections::HashMap;
use std::future::poll_fn;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;

use bytes::{Bytes, BytesMut};
use fred::error::Error;
use fred::interfaces::PubsubInterface;
use fred::types::Value;
use metrics::counter;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::bus::directory::Incoming;
use crate::bus::letter::enclose;
use crate::bus::node::NodeId;
use crate::bus::redis::Shared;
use crate::bus::redis::options::kind_of;
use crate::telemetry::BUS_LETTERS_LOST_TOTAL;

/// Letters that wait to be sent, at most: a fifth of a second's worth at the rate that was measured.
pub(super) const LETTERS_MAX: usize = 10_000;
/// Bytes of those, at most, so that a crowd of long ones does not take all memory.
pub(super) const LETTERS_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Letters that are looked at together, at most.
const BATCH_MAX: usize = 1024;
/// Bytes of one message, but for its last letter: longer ones would make short ones wait.
const MESSAGE_BYTES_MAX: usize = 256 * 1024;
/// Messages on their way, at most: each is given up after half a second.
const FLYING_MAX: usize = 64;

/// A letter to be sent.
pub(super) type Outgoing = (NodeId, Bytes);

/// Where letters wait.
#[derive(Clone)]
pub(super) struct Outbox {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<AtomicUsize>,
}

impl Outbox {
    /// The place, and what the sender takes from.
    pub(super) fn new() -> (Self, mpsc::Receiver<Outgoing>) {
        let (queue, letters) = mpsc::channel(LETTERS_MAX);
        (Self { queue, bytes: Arc::default() }, letters)
    }

    /// False where too much waits.
    pub(super) fn put(&self, to: &NodeId, letter: Bytes) -> bool {
        let length = letter.len();
        if self.bytes.fetch_add(length, Ordering::Relaxed) + length <= LETTERS_BYTES_MAX
            && self.queue.try_send((to.clone(), letter)).is_ok()
        {
            return true;
        }
        self.bytes.fetch_sub(length, Ordering::Relaxed);
        false
    }

    fn taken(&self, letters: &[Outgoing]) {
        let bytes = letters.iter().map(|(_, letter)| letter.len()).sum();
        self.bytes.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// Sends until nobody posts any more.
pub(super) async fn send(shared: Arc<Shared>, mut letters: mpsc::Receiver<Outgoing>) {
    let (mut batch, mut flying) = (Vec::new(), JoinSet::new());
    while letters.recv_many(&mut batch, BATCH_MAX).await > 0 {
        shared.outbox.taken(&batch);
        if shared.health.letters.is_away() {
            // They would be old when it is back.
            lost(batch.len());
            batch.clear();
        }
        for (to, message, count) in messages(batch.drain(..)) {
            if flying.len() >= FLYING_MAX {
                flying.join_next().await;
            }
            while flying.try_join_next().is_some() {}
            start(&shared, to, message, count, &mut flying).await;
        }
    }
}

/// The messages for `letters`: in order for each node, and by the order of their first letters.
fn messages(letters: impl Iterator<Item = Outgoing>) -> Vec<(NodeId, Bytes, usize)> {
    let mut messages: Vec<(NodeId, BytesMut, usize)> = Vec::new();
    let mut last: HashMap<NodeId, usize> = HashMap::new();
    for (to, letter) in letters {
        let open = last.get(&to).and_then(|at| messages.get_mut(*at));
        if let Some((_, message, count)) = open.filter(|it| it.1.len() < MESSAGE_BYTES_MAX) {
            enclose(message, &letter);
            *count += 1;
            continue;
        }
        let mut message = BytesMut::with_capacity(letter.len() + 4);
        enclose(&mut message, &letter);
        last.insert(to.clone(), messages.len());
        messages.push((to, message, 1));
    }
    messages.into_iter().map(|(to, message, count)| (to, message.freeze(), count)).collect()
}

/// Hands one message to the client before the next one is made; its answer is waited for elsewhere.
async fn start(
    shared: &Arc<Shared>,
    to: NodeId,
    message: Bytes,
    count: usize,
    flying: &mut JoinSet<()>,
) {
    let (client, channel) = (shared.letters.client(), shared.channel(&to));
    let mut asked = Box::pin(async move {
        let heard: Result<i64, Error> =
            Box::pin(client.spublish(channel, Value::Bytes(message))).await;
        heard
    });
    // The first poll puts it into the client's queue.
    let answer = poll_fn(|context| Poll::Ready(asked.as_mut().poll(context))).await;
    let shared = Arc::clone(shared);
    match answer {
        Poll::Ready(heard) => settle(&shared, to, count, &heard),
        Poll::Pending => {
            flying.spawn(async move { settle(&shared, to, count, &asked.await) });
        }
    }
}

fn settle(shared: &Shared, to: NodeId, count: usize, heard: &Result<i64, Error>) {
    shared.health.letters.note(heard.as_ref().err().map(kind_of));
    match heard {
        Ok(0) => shared.inbox.put(Incoming::Undelivered(to)),
        Ok(_) => {}
        Err(error) => {
            tracing::debug!(%error, count, "letters are lost");
            lost(count);
        }
    }
}

fn lost(count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    counter!(BUS_LETTERS_LOST_TOTAL).increment(count);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bus::letter::{LETTER_BYTES_MAX, unpack};

    #[test]
    fn letters_that_wait_together_leave_together() {
        let [a, b] = ["a", "b"].map(|name| NodeId::fresh(name).unwrap());
        let letter = |to: &NodeId, length: usize| (to.clone(), Bytes::from(vec![0; length]));
        let all = [letter(&a, 1), letter(&b, 2), letter(&a, 3), letter(&b, 4)];
        let found = messages(all.into_iter());
        let found: Vec<_> = found.iter().map(|(to, it, count)| (to, &it[..], *count)).collect();
        let wanted: [&[u8]; 2] =
            [&[0, 0, 0, 1, 0, 0, 0, 0, 3, 0, 0, 0], &[0, 0, 0, 2, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0]];
        assert_eq!(found, [(&a, wanted[0], 2), (&b, wanted[1], 2)]);
        let long = (0..5).map(|_| letter(&a, LETTER_BYTES_MAX));
        let found = messages(long);
        assert_eq!(found.iter().map(|it| it.2).collect::<Vec<_>>(), [2, 2, 1]);
        assert_eq!(found.into_iter().flat_map(|it| unpack(it.1)).count(), 5);
    }

    #[test]
    fn too_much_is_not_taken() {
        let (outbox, mut letters) = Outbox::new();
        let to = NodeId::fresh("a").unwrap();
        let long = Bytes::from(vec![0; LETTERS_BYTES_MAX / 2]);
        assert!(outbox.put(&to, long.clone()) && outbox.put(&to, long));
        assert!(!outbox.put(&to, Bytes::from_static(b"x")), "no room for a byte");
        outbox.taken(&[letters.try_recv().unwrap()]);
        let short = (0..).take_while(|_| outbox.put(&to, Bytes::from_static(b"x")));
        assert_eq!(short.count(), LETTERS_MAX - 1);
    }
}
