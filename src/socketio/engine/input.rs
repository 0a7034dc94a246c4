//! What arrives on a websocket: reads in the thread's buffer, messages as they become whole.

use std::cell::RefCell;
use std::io;
use std::task::{Context, Poll, ready};

use tokio::io::ReadBuf;

use crate::socketio::engine::frame::{self, Assembler, Limits, Message, Violation};
use crate::socketio::engine::stream::Reader;

/// Bytes read at once; the buffer is the thread's, no connection owns one while it is idle.
pub const READ_BYTES: usize = 64 * 1024;

thread_local! {
    static READ: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BYTES]);
}

/// What arrives on a websocket, frame by frame.
#[derive(Debug)]
pub struct Input {
    reader: Reader,
    /// The beginning of a frame that is not all there yet.
    partial: Vec<u8>,
    /// `partial` may hold whole frames: it came with the request.
    unread: bool,
    assembler: Assembler,
    limits: Limits,
}

impl Input {
    /// `early` came before the connection was a websocket's.
    pub fn new(reader: Reader, early: Vec<u8>, limits: Limits) -> Self {
        let unread = !early.is_empty();
        Self { reader, partial: early, unread, assembler: Assembler::default(), limits }
    }

    /// Reads once and hands what is there to `batch`, which says what became of it.
    pub fn poll_batch<R>(
        &mut self,
        cx: &mut Context<'_>,
        batch: impl FnOnce(Messages<'_>) -> R,
    ) -> Poll<io::Result<Batch<R>>> {
        let Self { reader, partial, unread, assembler, limits } = self;
        READ.with_borrow_mut(|buffer| {
            let mut into = ReadBuf::new(buffer);
            if !std::mem::take(unread) {
                ready!(reader.poll_read(cx, &mut into))?;
                if into.filled().is_empty() {
                    return Poll::Ready(Ok(Batch::End));
                }
            }
            let read = into.filled().len();
            let mut consumed = 0;
            if partial.is_empty() {
                let bytes = into.filled_mut();
                let messages =
                    Messages { bytes, consumed: &mut consumed, assembler, limits: *limits };
                let done = batch(messages);
                partial.extend_from_slice(into.filled().get(consumed..).unwrap_or_default());
                return Poll::Ready(Ok(Batch::Read(read, done)));
            }
            partial.extend_from_slice(into.filled());
            let messages =
                Messages { bytes: partial, consumed: &mut consumed, assembler, limits: *limits };
            let done = batch(messages);
            partial.drain(..consumed);
            // A frame's beginning must not keep the memory of the long one before it.
            partial.shrink_to(partial.len() * 2);
            Poll::Ready(Ok(Batch::Read(read, done)))
        })
    }
}

/// What a read brought.
pub enum Batch<R> {
    /// So many bytes, and what became of them.
    Read(usize, R),
    /// The end of the stream.
    End,
}

/// The messages of one read.
pub struct Messages<'a> {
    bytes: &'a mut [u8],
    /// How many bytes were taken: whole frames.
    consumed: &'a mut usize,
    assembler: &'a mut Assembler,
    limits: Limits,
}

impl Messages<'_> {
    /// Hands each whole message to `take`, until that fails or no more is there.
    pub fn each<E: From<Violation>>(
        self,
        mut take: impl FnMut(Message<'_>) -> Result<(), E>,
    ) -> Result<(), E> {
        while let Some(rest) = self.bytes.get_mut(*self.consumed..) {
            let Some(frame) = frame::parse(rest, self.limits.bytes_max)? else { break };
            *self.consumed += frame.payload.end;
            let payload = rest.get(frame.payload.clone()).unwrap_or_default();
            if let Some(message) = self.assembler.accept(&frame, payload, self.limits)? {
                take(message)?;
            }
        }
        Ok(())
    }
}

/// Passes over all that a read brought.
pub fn pass_over(messages: Messages<'_>) {
    let Messages { bytes, consumed, .. } = messages;
    *consumed = bytes.len();
}
