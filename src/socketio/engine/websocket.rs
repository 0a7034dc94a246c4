//! The task of a websocket: reads frames, keeps the heartbeat, proves itself in an upgrade.
//!
//! It writes nothing but its own probe: whoever sends to the session writes to its socket.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use tokio::time::{Instant, Sleep, sleep_until, timeout};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::socketio::DisconnectReason;
use crate::socketio::engine::application::Application;
use crate::socketio::engine::driven::{Driven, FAREWELL, Intake};
use crate::socketio::engine::frame::{self, Message, Violation};
use crate::socketio::engine::input::{self, Batch, Input, READ_BYTES};
use crate::socketio::engine::packet::{self, Framing, Packet};
use crate::socketio::engine::session::Session;
use crate::socketio::engine::sink::{Goodbye, Line};

/// Why a websocket ends, and what the peer is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stop(DisconnectReason, Goodbye);

impl From<Violation> for Stop {
    fn from(violation: Violation) -> Self {
        Self(DisconnectReason::TransportError, Goodbye::Code(violation.close_code()))
    }
}

impl From<DisconnectReason> for Stop {
    fn from(reason: DisconnectReason) -> Self {
        let code = match reason {
            DisconnectReason::TransportClose | DisconnectReason::ClientNamespace => {
                CloseCode::Normal
            }
            DisconnectReason::ParseError | DisconnectReason::TransportError => CloseCode::Protocol,
            DisconnectReason::ServerShutdown => CloseCode::Away,
            DisconnectReason::PingTimeout
            | DisconnectReason::ServerNamespace
            | DisconnectReason::ServerClose
            | DisconnectReason::SlowConsumer
            | DisconnectReason::ConnectTimeout => CloseCode::Policy,
        };
        Self(reason, Goodbye::Code(code))
    }
}

/// A websocket that must still prove itself, while its session polls on.
struct Probe {
    line: Arc<Line>,
    deadline: Instant,
    pinged: bool,
}

/// Serves the websocket a session began with.
pub async fn serve<A: Application>(driven: Arc<Driven<A>>, input: Input) {
    Socket { driven, input, probe: None, adopted: false }.run().await;
}

/// Serves a websocket that asks to take a polling session over.
pub async fn upgrade<A: Application>(driven: Arc<Driven<A>>, input: Input, line: Line) {
    let deadline = Instant::now() + driven.session.home().options.upgrade_timeout;
    let probe = Probe { line: Arc::new(line), deadline, pinged: false };
    Socket { driven, input, probe: Some(Box::new(probe)), adopted: false }.run().await;
}

struct Socket<A: Application> {
    driven: Arc<Driven<A>>,
    input: Input,
    probe: Option<Box<Probe>>,
    adopted: bool,
}

impl<A: Application> Socket<A> {
    async fn run(mut self) {
        {
            let mut timer = pin!(sleep_until(self.tick(Instant::now())));
            poll_fn(|cx| self.poll(cx, timer.as_mut())).await;
        }
        let session = Arc::clone(&self.driven.session);
        let home = Arc::clone(session.home());
        // What is left is done by a task of its own, so that the memory of this one, which lives
        // as long as the connection, need not have room for it.
        if let Some(probe) = self.probe.take() {
            if probe.pinged {
                session.sink.abandon_upgrade();
            }
            drop(home.runtime.spawn(refuse(probe.line, self.input)));
            return;
        }
        self.driven.over();
        self.driven.forget();
        if session.sink.says_goodbye() {
            drop(home.runtime.spawn(linger(session, self.input)));
        } else {
            session.sink.abort();
        }
    }

    /// Does what there is to do; ready when the socket has come to its end.
    fn poll(&mut self, cx: &mut Context<'_>, mut timer: Pin<&mut Sleep>) -> Poll<()> {
        loop {
            if self.is_over(cx) {
                return Poll::Ready(());
            }
            if timer.as_mut().poll(cx).is_ready() {
                timer.as_mut().reset(self.tick(Instant::now()));
                continue;
            }
            let probing = self.probe.is_some();
            match ready!(self.poll_input(cx)) {
                Ok(read) if read >= READ_BYTES => {
                    // There may be more, but others want to be read as well.
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                Ok(_) if probing && self.probe.is_none() => {
                    timer.as_mut().reset(self.tick(Instant::now()));
                }
                Ok(_) => (),
                Err(Stop(reason, goodbye)) if self.probe.is_none() => {
                    self.driven.session.close(reason, goodbye);
                }
                Err(_failed_probe) => return Poll::Ready(()),
            }
        }
    }

    fn is_over(&mut self, cx: &Context<'_>) -> bool {
        let session = &self.driven.session;
        if let Some(probe) = &self.probe {
            let over = session.closed().is_some() && !session.sink.says_goodbye();
            return over || Instant::now() >= probe.deadline;
        }
        if !self.adopted {
            self.adopted = true;
            session.sink.adopt(cx.waker());
        }
        if let Err(reason) = self.driven.attend() {
            let Stop(reason, goodbye) = reason.into();
            session.close(reason, goodbye);
        }
        session.closed().is_some()
    }

    fn tick(&self, now: Instant) -> Instant {
        match &self.probe {
            Some(probe) => probe.deadline,
            None => self.driven.session.tick(now),
        }
    }

    /// Reads once and works on what came.
    fn poll_input(&mut self, cx: &mut Context<'_>) -> Poll<Result<usize, Stop>> {
        let Self { driven, input, probe, .. } = self;
        let read = ready!(input.poll_batch(cx, |messages| {
            if probe.is_none() {
                return driven.feed(|intake| {
                    messages.each(|message| take(&driven.session, intake, message))
                });
            }
            messages.each(|message| match probe {
                Some(proving) => {
                    if proving.take(&driven.session, message)? {
                        *probe = None;
                    }
                    Ok(())
                }
                // What follows the end of the probe in the same read.
                None => driven.feed(|intake| take(&driven.session, intake, message)),
            })
        }));
        Poll::Ready(match read {
            Err(_broken) => Err(Stop(DisconnectReason::TransportError, Goodbye::Silent)),
            Ok(Batch::End) => Err(Stop(DisconnectReason::TransportClose, Goodbye::Silent)),
            Ok(Batch::Read(read, taken)) => taken.map(|()| read),
        })
    }
}

/// Takes one message of a session that is on its websocket.
fn take<A: Application>(
    session: &Arc<Session>,
    intake: &mut Intake<'_, A>,
    message: Message<'_>,
) -> Result<(), Stop> {
    match message {
        Message::Text(text) => intake.text(&text)?,
        Message::Binary(data) => intake.binary(&data)?,
        Message::Ping(payload) => session.send(|out, _| frame::append_pong(out, payload)),
        Message::Pong => (),
        Message::Close => return Err(DisconnectReason::TransportClose.into()),
    }
    Ok(())
}

impl Probe {
    /// Takes one message: first `2probe`, then `5`, with which the websocket has taken over.
    fn take(&mut self, session: &Arc<Session>, message: Message<'_>) -> Result<bool, Stop> {
        let Message::Text(text) = message else {
            return Err(DisconnectReason::TransportError.into());
        };
        match packet::parse(&text) {
            Some(Packet::Ping("probe")) if !self.pinged && session.sink.begin_upgrade() => {
                self.pinged = true;
                drop(session.home().runtime.spawn(answer_probe(Arc::clone(&self.line))));
                Ok(false)
            }
            Some(Packet::Upgrade)
                if self.pinged && session.sink.finish_upgrade(Arc::clone(&self.line)) =>
            {
                Ok(true)
            }
            _ => Err(DisconnectReason::TransportError.into()),
        }
    }
}

async fn answer_probe(line: Arc<Line>) {
    let mut frame = Vec::new();
    packet::text(&mut frame, Framing::Frames, |out| out.extend_from_slice(b"3probe"));
    write_all(&line, &frame).await;
}

/// Writes a few bytes to a socket that no session writes to.
pub async fn write_all(line: &Line, mut bytes: &[u8]) {
    while !bytes.is_empty() {
        let Ok(written) = line.writer.write_some(bytes).await else { return };
        bytes = bytes.get(written..).unwrap_or_default();
    }
}

/// Closes a websocket that may not, or did not, take its session over.
pub async fn refuse(line: Arc<Line>, input: Input) {
    let farewell = async {
        let mut frame = Vec::new();
        frame::append_close(&mut frame, CloseCode::Policy);
        write_all(&line, &frame).await;
        line.writer.finish().await;
        discard(input).await;
    };
    // Late or not, the socket is closed now.
    drop(timeout(FAREWELL, farewell).await);
    line.writer.abort();
}

/// Waits until the peer has closed its side: closing before would reset the connection, and the
/// peer might never see why.
async fn linger(session: Arc<Session>, input: Input) {
    drop(timeout(FAREWELL, discard(input)).await);
    session.sink.abort();
}

async fn discard(mut stream: Input) {
    let read = poll_fn(|cx| {
        loop {
            match ready!(stream.poll_batch(cx, input::pass_over)) {
                Ok(Batch::Read(..)) => (),
                Ok(Batch::End) | Err(_) => return Poll::Ready(()),
            }
        }
    });
    read.await;
}
