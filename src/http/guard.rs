//! Stands between a connection and hyper: refuses ambiguous bytes, and clients that take their time.
//!
//! Ambiguous bytes are replaced by a head that hyper cannot read, and the stream ends there, so
//! that hyper answers 400 and closes. hyper's own time-out for heads also counts the pause before them, and sets a timer
//! for each: so both times are kept here, that of an idle connection by one timer that looks again when it is over.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep, sleep};

use super::framing::Framing;

/// How long a head may take, from its first byte, or from the start of the connection.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(10);
/// How long a connection may stay open without a request.
pub const IDLE_TIME_MAX: Duration = Duration::from_secs(75);
/// How long a client may take nothing of what is sent to it.
pub const WRITE_STALL_MAX: Duration = Duration::from_secs(10);

/// What is read instead of what must not pass, after a NUL, which stands nowhere in HTTP/1: hyper
/// looks for the end of a head before it looks at what is in it.
const END: &[u8] = b"\r\n\r\n";

/// A connection whose bytes have been looked at.
#[derive(Debug)]
pub struct Guarded<S> {
    inner: S,
    framing: Framing,
    /// What is left of [`END`], once the bytes have broken a rule.
    cut: Option<&'static [u8]>,
    head_timer: Option<Pin<Box<Sleep>>>,
    /// A request has come, and nothing of its answer has left.
    answering: bool,
    /// When something was last sent.
    sent_at: Instant,
    idle_timer: Option<Pin<Box<Sleep>>>,
    write_timer: Option<Pin<Box<Sleep>>>,
    /// Whoever takes the connection over sends the answer that gives it away.
    holds: bool,
    /// That answer.
    unsent: Vec<u8>,
}

impl<S> Guarded<S> {
    /// Guards `inner` from its first byte on. An answer that turns it into something else is not sent where this
    /// `holds` it: it leaves with the next write, or is taken along by [`Guarded::into_parts`], to be sent with what
    /// comes first on the other protocol.
    pub fn new(inner: S, holds: bool) -> Self {
        let framing = Framing::new();
        Self {
            inner,
            framing,
            cut: None,
            head_timer: None,
            answering: false,
            sent_at: Instant::now(),
            idle_timer: None,
            write_timer: None,
            holds,
            unsent: Vec::new(),
        }
    }

    /// The connection itself, for a protocol that is no longer HTTP, and what has to be sent on it before all else.
    pub fn into_parts(self) -> (S, Vec<u8>) {
        (self.inner, self.unsent)
    }

    /// Looks at what was read; what must not pass is cut off.
    fn look(&mut self, buffer: &mut ReadBuf<'_>, before: usize) {
        let fresh = buffer.filled().get(before..).unwrap_or_default();
        let Err(cut) = self.framing.pass(fresh) else { return };
        tracing::debug!(breach = cut.breach, "ambiguous bytes");
        let at = before + cut.at;
        if let Some(byte) = buffer.filled_mut().get_mut(at) {
            *byte = 0;
        }
        buffer.set_filled(at + 1);
        self.cut = Some(END);
    }

    /// The client's time runs while a head is awaited, and between requests.
    fn poll_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.framing.is_in_head() {
            self.head_timer = None;
            return self.poll_idle_time(cx);
        }
        let timer = self.head_timer.get_or_insert_with(|| Box::pin(sleep(HEAD_TIME_MAX)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    fn poll_idle_time(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.framing.is_open() {
            return Poll::Pending;
        }
        // It is set while the connection is busy, too: hyper does not look again when the answer has left.
        let timer = self.idle_timer.get_or_insert_with(|| Box::pin(sleep(IDLE_TIME_MAX)));
        loop {
            ready!(timer.as_mut().poll(cx));
            let is_idle = self.framing.is_between() && !self.answering;
            let since = if is_idle { self.sent_at } else { Instant::now() };
            if timer.deadline() >= since + IDLE_TIME_MAX {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
            timer.as_mut().reset(since + IDLE_TIME_MAX);
        }
    }

    /// Something is sent.
    fn sends(&mut self) {
        self.answering = false;
        self.sent_at = Instant::now();
    }

    /// The client's time runs while it takes nothing.
    fn poll_write_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        written: Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.write_timer = None;
            return written;
        }
        let timer = self.write_timer.get_or_insert_with(|| Box::pin(sleep(WRITE_STALL_MAX)));
        ready!(timer.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Sees the answer that turns the connection into something else: whether it is that.
    fn notice(&mut self, answer: &[u8]) -> bool {
        let turns = self.framing.may_upgrade() && answer.starts_with(b"HTTP/1.1 101");
        if turns {
            self.framing.open();
            self.head_timer = None;
            self.idle_timer = None;
        }
        turns
    }
}

impl<S: AsyncWrite + Unpin> Guarded<S> {
    /// Does `work` on the connection, after what was held and nobody took along.
    fn poll_sending<T>(
        &mut self,
        cx: &mut Context<'_>,
        work: impl FnOnce(Pin<&mut S>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let mut inner = Pin::new(&mut self.inner);
        while !self.unsent.is_empty() {
            let written = ready!(inner.as_mut().poll_write(cx, &self.unsent))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.unsent.drain(..written);
        }
        work(inner, cx)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if let Some(end) = &mut this.cut {
            let (now, later) = end.split_at(end.len().min(buffer.remaining()));
            buffer.put_slice(now);
            *end = later;
            return Poll::Ready(Ok(()));
        }
        let before = buffer.filled().len();
        match Pin::new(&mut this.inner).poll_read(cx, buffer) {
            Poll::Pending => this.poll_time(cx),
            Poll::Ready(read) => {
                this.look(buffer, before);
                if !this.framing.is_in_head() {
                    this.head_timer = None;
                    this.answering = true;
                }
                Poll::Ready(read)
            }
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.sends();
        if this.notice(bytes) && this.holds {
            this.unsent = bytes.to_vec();
            return Poll::Ready(Ok(bytes.len()));
        }
        let written = this.poll_sending(cx, |inner, cx| inner.poll_write(cx, bytes));
        this.poll_write_time(cx, written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.sends();
        this.notice(slices.first().map_or(&[], |it| &**it));
        let written = this.poll_sending(cx, |inner, cx| inner.poll_write_vectored(cx, slices));
        this.poll_write_time(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let flushed = Pin::new(&mut this.inner).poll_flush(cx);
        this.poll_write_time(cx, flushed)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let shut = this.poll_sending(cx, AsyncWrite::poll_shutdown);
        this.poll_write_time(cx, shut)
    }
}
