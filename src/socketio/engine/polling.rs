//! Long polling: one GET that waits for packets, POSTs that bring them, and the task that looks
//! after the session in between.

use std::future::poll_fn;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http::Request;
use http::header::{CONTENT_LENGTH, CONTENT_TYPE};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::time::{Instant, sleep_until, timeout};
use tungstenite::protocol::frame::coding::CloseCode;

use crate::socketio::engine::answer::{self, Answer, Refusal};
use crate::socketio::engine::application::Application;
use crate::socketio::engine::driven::{Driven, FAREWELL};
use crate::socketio::engine::options::Options;
use crate::socketio::engine::outbox::{End, Outbox, Phase, Polled};
use crate::socketio::engine::packet::{self, NOOP};
use crate::socketio::engine::session::Session;
use crate::socketio::engine::sink::Goodbye;
use crate::socketio::{DisconnectReason, Transport};

/// Answers a GET: at once if something waits, else when something comes.
pub async fn get(session: &Arc<Session>) -> Result<Answer, Refusal> {
    if !session.sink.outbox(Outbox::begin_get) {
        session.close(DisconnectReason::TransportError, Goodbye::Silent);
        return Err(Refusal::BadRequest);
    }
    let mut request = InFlight { session, over: end_get, answered: false };
    let polled = poll_fn(|cx| match session.sink.outbox(|out| out.poll_get(cx.waker())) {
        Polled::Wait => Poll::Pending,
        Polled::Payload(payload) => Poll::Ready(Some(payload)),
        Polled::Gone => Poll::Ready(None),
    });
    let polled = polled.await;
    request.answered = true;
    if session.closed().is_some() {
        // The session's task waits for the farewell to be fetched.
        session.sink.wake();
    }
    polled.map(|it| answer::payload(it.into())).ok_or(Refusal::UnknownSession)
}

fn end_get(session: &Session) {
    session.sink.outbox(Outbox::end_get);
}

fn end_post(session: &Session) {
    session.sink.outbox(|out| out.posting = false);
}

/// A request of a session under way. One that the client takes back ends the session: what it
/// carried may be lost, and packets may not be.
struct InFlight<'a> {
    session: &'a Arc<Session>,
    over: fn(&Session),
    answered: bool,
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        (self.over)(self.session);
        if !self.answered {
            self.session.close(DisconnectReason::TransportClose, Goodbye::Silent);
        }
    }
}

/// Takes the packets of a POST.
pub async fn post<A: Application>(
    driven: &Driven<A>,
    request: Request<Incoming>,
) -> Result<Answer, Refusal> {
    let session = &driven.session;
    if session.sink.outbox(|out| std::mem::replace(&mut out.posting, true)) {
        session.close(DisconnectReason::TransportError, Goodbye::Silent);
        return Err(Refusal::BadRequest);
    }
    let mut flight = InFlight { session, over: end_post, answered: false };
    let body = body(request, &session.home().options).await;
    flight.answered = true;
    let body = body?;
    let text = str::from_utf8(&body).ok();
    let taken = match text {
        Some(text) => take_payload(driven, text),
        None => Err(DisconnectReason::ParseError),
    };
    match taken {
        Ok(()) => Ok(answer::payload(Bytes::from_static(b"ok"))),
        // The server itself ended it meanwhile: its farewell comes with a GET, and a failed POST
        // would have the client think that the connection broke.
        Err(_) if session.closed().is_some() => Ok(answer::payload(Bytes::from_static(b"ok"))),
        Err(DisconnectReason::TransportClose) => {
            session.close(DisconnectReason::TransportClose, Goodbye::Packet(NOOP));
            Ok(answer::payload(Bytes::from_static(b"ok")))
        }
        Err(reason) => {
            session.close(reason, Goodbye::Silent);
            Err(Refusal::BadRequest)
        }
    }
}

async fn body(request: Request<Incoming>, options: &Options) -> Result<Bytes, Refusal> {
    let headers = request.headers();
    let binary = headers.get(CONTENT_TYPE).is_some_and(|it| it == "application/octet-stream");
    if binary {
        // Version 3's way of sending binary.
        return Err(Refusal::BadRequest);
    }
    let announced = headers.get(CONTENT_LENGTH).and_then(|it| it.to_str().ok()?.parse().ok());
    if announced.is_some_and(|it: usize| it > options.max_payload) {
        return Err(Refusal::PayloadTooLarge);
    }
    let limited = Limited::new(request.into_body(), options.max_payload);
    match timeout(options.body_timeout, limited.collect()).await {
        Err(_late) => Err(Refusal::BodyTimeout),
        Ok(Ok(body)) => Ok(body.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(Refusal::PayloadTooLarge),
        Ok(Err(_broken)) => Err(Refusal::BadRequest),
    }
}

/// Hands the packets of one payload to the application, in their order.
fn take_payload<A: Application>(driven: &Driven<A>, text: &str) -> Result<(), DisconnectReason> {
    let packets_max = driven.session.home().options.packets_per_post_max;
    if packet::split(text).take(packets_max + 1).count() > packets_max {
        return Err(DisconnectReason::ParseError);
    }
    driven.feed(|intake| packet::split(text).try_for_each(|packet| intake.text(packet)))
}

/// Looks after a polling session until it ends or a websocket takes over.
pub async fn watch<A: Application>(driven: Arc<Driven<A>>) {
    let session = &driven.session;
    {
        let mut timer = pin!(sleep_until(session.tick(Instant::now())));
        let mut adopted = false;
        let step = |cx: &mut Context<'_>| {
            if !adopted {
                session.sink.adopt(cx.waker());
                adopted = true;
            }
            loop {
                if session.closed().is_some() || session.transport() == Transport::Websocket {
                    return Poll::Ready(());
                }
                if let Err(reason) = driven.attend() {
                    session.close(reason, Goodbye::Code(CloseCode::Normal));
                    continue;
                }
                match timer.as_mut().poll(cx) {
                    Poll::Ready(()) => timer.as_mut().reset(session.tick(Instant::now())),
                    Poll::Pending => return Poll::Pending,
                }
            }
        };
        poll_fn(step).await;
    }
    if session.closed().is_none() {
        return;
    }
    driven.over();
    let fetched = poll_fn(|_| {
        let waits = session.sink.says_goodbye();
        if waits { Poll::Pending } else { Poll::Ready(()) }
    });
    // Fetched or not, the session is forgotten now.
    drop(timeout(FAREWELL, fetched).await);
    session.sink.outbox(|out| {
        if out.phase == Phase::Polling {
            out.end = End::Gone;
        }
    });
    driven.forget();
}
