//! The two halves of an upgraded connection: plain TCP is written to by any thread at once,
//! anything else (TLS) by its drainer alone.

use std::io;
use std::net::Shutdown;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWriteExt, ReadBuf, ReadHalf, WriteHalf};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::Notify;

/// A connection that left hyper, not yet at home on a websocket runtime.
#[derive(Debug)]
pub struct Connection {
    /// What was read beyond the request.
    pub early: Vec<u8>,
    /// What is to be sent before all else.
    pub unsent: Vec<u8>,
    io: Io,
}

/// Plain TCP that was taken out of hyper. Nagle's algorithm is off on it: frames are small and someone waits for each.
#[derive(Debug)]
pub struct Tcp {
    /// The connection.
    pub stream: TcpStream,
    /// What was read beyond the request.
    pub early: Bytes,
    /// What is to be sent before all else, such as the answer to the request: one piece is cheaper to send than two.
    pub unsent: Vec<u8>,
}

/// How plain TCP is taken out of what the accept loop gave to hyper; anything else is handed back.
pub type TakeTcp = fn(Upgraded) -> Result<Tcp, Upgraded>;

/// For accept loops that give hyper the TCP stream itself.
pub fn take_bare_tcp(upgraded: Upgraded) -> Result<Tcp, Upgraded> {
    type Bare = TokioIo<TcpStream>;
    let (io, early) = match hyper_util::server::conn::auto::upgrade::downcast::<Bare>(upgraded) {
        Ok(parts) => (parts.io, parts.read_buf),
        Err(upgraded) => {
            let parts = upgraded.downcast::<Bare>()?;
            (parts.io, parts.read_buf)
        }
    };
    let stream = io.into_inner();
    // Without it, what is sent only comes later.
    drop(stream.set_nodelay(true));
    Ok(Tcp { stream, early, unsent: Vec::new() })
}

#[derive(Debug)]
enum Io {
    /// Plain TCP, taken off the runtime that accepted it.
    Tcp(std::net::TcpStream),
    /// Anything else; it stays registered where it was accepted.
    Other(Upgraded),
}

impl Connection {
    /// Takes the connection out of hyper, with `take_tcp` where it is plain TCP.
    pub fn take(upgraded: Upgraded, take_tcp: TakeTcp) -> io::Result<Self> {
        match take_tcp(upgraded) {
            // `early` is copied: it is a view of hyper's 8 KiB buffer and would keep all of that alive.
            Ok(Tcp { stream, early, unsent }) => {
                Ok(Self { early: early.to_vec(), unsent, io: Io::Tcp(stream.into_std()?) })
            }
            Err(upgraded) => {
                Ok(Self { early: Vec::new(), unsent: Vec::new(), io: Io::Other(upgraded) })
            }
        }
    }

    /// Registers the connection with the current runtime.
    pub fn split(self) -> io::Result<(Reader, Writer)> {
        match self.io {
            Io::Tcp(stream) => {
                let (reader, writer) = TcpStream::from_std(stream)?.into_split();
                Ok((Reader::Tcp(reader), Writer::Tcp(writer)))
            }
            Io::Other(upgraded) => {
                let (reader, writer) = tokio::io::split(TokioIo::new(upgraded));
                Ok((Reader::Other(reader), Writer::Other(SlowWriter::new(writer))))
            }
        }
    }
}

/// What a websocket reads from.
#[derive(Debug)]
pub enum Reader {
    /// Plain TCP.
    Tcp(OwnedReadHalf),
    /// Anything else.
    Other(ReadHalf<TokioIo<Upgraded>>),
}

impl Reader {
    /// Reads what is there; an empty read is the end.
    pub fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        match self {
            Self::Tcp(reader) => Pin::new(reader).poll_read(cx, buffer),
            Self::Other(reader) => Pin::new(reader).poll_read(cx, buffer),
        }
    }
}

/// What a websocket writes to.
#[derive(Debug)]
pub enum Writer {
    /// Plain TCP.
    Tcp(OwnedWriteHalf),
    /// Anything else.
    Other(SlowWriter),
}

type Half = WriteHalf<TokioIo<Upgraded>>;

/// A connection that only one task can write to at a time, the drainer of its session.
#[derive(Debug)]
pub struct SlowWriter {
    /// Gone once aborted: the connection closes when both its halves have been dropped.
    half: tokio::sync::Mutex<Option<Half>>,
    aborted: Notify,
}

impl SlowWriter {
    fn new(half: Half) -> Self {
        Self { half: tokio::sync::Mutex::new(Some(half)), aborted: Notify::new() }
    }

    async fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        let mut half = self.half.lock().await;
        let Some(writer) = half.as_mut() else { return Err(io::ErrorKind::NotConnected.into()) };
        let write = async {
            let written = writer.write(bytes).await?;
            writer.flush().await?;
            Ok(written)
        };
        tokio::select! {
            biased;
            () = self.aborted.notified() => {
                *half = None;
                Err(io::ErrorKind::ConnectionAborted.into())
            }
            written = write => written,
        }
    }

    async fn finish(&self) {
        if let Some(writer) = self.half.lock().await.as_mut() {
            // The peer may be gone, and then needs not to be told.
            drop(writer.shutdown().await);
        }
    }

    fn abort(&self) {
        match self.half.try_lock() {
            Ok(mut half) => *half = None,
            // The drainer has it, and drops it when it hears of this.
            Err(_held) => self.aborted.notify_one(),
        }
    }
}

impl Writer {
    /// Waits until a fresh connection is known to be writable: before that nothing is taken at
    /// once, and the first packet would need a drainer.
    pub async fn ready(&self) -> io::Result<()> {
        match self {
            Self::Tcp(writer) => writer.writable().await,
            Self::Other(_) => Ok(()),
        }
    }

    /// Writes what the connection takes at once. What is not TCP takes nothing this way, all of
    /// it goes through [`Writer::write_some`].
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        let written = match self {
            Self::Tcp(writer) => writer.try_write(bytes),
            Self::Other(_) => return Ok(0),
        };
        match written {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(0),
            written => written,
        }
    }

    /// Waits until the connection takes some of `bytes` and says how many.
    pub async fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Tcp(writer) => {
                writer.writable().await?;
                self.try_write(bytes)
            }
            Self::Other(writer) => writer.write_some(bytes).await,
        }
    }

    /// Says that nothing more will be written, once all has been.
    pub async fn finish(&self) {
        match self {
            // An error means that the peer is gone already, which is what this is for.
            Self::Tcp(writer) => drop(SockRef::from(writer.as_ref()).shutdown(Shutdown::Write)),
            Self::Other(writer) => writer.finish().await,
        }
    }

    /// Ends the connection in both directions, at once: whoever still holds this writer then
    /// holds a dead socket and not a peer that waits.
    pub fn abort(&self) {
        match self {
            Self::Tcp(writer) => drop(SockRef::from(writer.as_ref()).shutdown(Shutdown::Both)),
            Self::Other(writer) => writer.abort(),
        }
    }
}
