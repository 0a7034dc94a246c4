//! Socket.IO on an Engine.IO session: namespaces, events and acks, attachments put together.

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use smallvec::SmallVec;
use tungstenite::protocol::frame::coding::CloseCode;

use crate::socketio::DisconnectReason;
use crate::socketio::engine::application::Application;
use crate::socketio::engine::handshake::Handshake;
use crate::socketio::engine::options::Options;
use crate::socketio::engine::session::Session;
use crate::socketio::engine::sink::Goodbye;
use crate::socketio::handler::{ConnectRequest, Event, Handler, Refused, Socket};
use crate::socketio::json::{self, Array};
use crate::socketio::outlet::{Ack, Outlet, Reply, SocketId};
use crate::socketio::packet::{self, Header, Kind};

/// Bytes of a namespace's name.
const NAMESPACE_BYTES_MAX: usize = 64;

/// Names that mean something to the clients' own event emitters.
const RESERVED: [&str; 6] =
    ["connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"];

/// Socket.IO with a service on it.
pub struct SocketIo<H: Handler> {
    handler: Arc<H>,
}

/// One connection: the namespaces it is in, and the packet whose attachments it still sends.
pub struct Client<S> {
    session: Arc<Session>,
    handshake: Box<Handshake>,
    /// Bounded by `namespaces_per_connection_max`.
    seats: SmallVec<[Seat<S>; 1]>,
    partial: Option<Box<Partial>>,
}

struct Seat<S> {
    outlet: Outlet,
    /// Gone when this server put the client out: what the client sent before it heard of that is
    /// passed over.
    socket: Option<Socket<S>>,
}

/// A packet that announced attachments which are not all there.
struct Partial {
    text: Box<str>,
    attachments: Vec<Bytes>,
    announced: usize,
}

impl<H: Handler> SocketIo<H> {
    /// Puts `handler` on it.
    pub const fn new(handler: Arc<H>) -> Self {
        Self { handler }
    }

    fn connect(
        &self,
        client: &mut Client<H::Session>,
        header: &Header<'_>,
    ) -> Result<(), DisconnectReason> {
        let options = Arc::clone(&client.session.home().options);
        if header.namespace.len() > NAMESPACE_BYTES_MAX || header.id.is_some() {
            return Err(DisconnectReason::ParseError);
        }
        let auth = match header.data {
            "" => None,
            data => Some(json::object(data, options.json_depth_max)),
        };
        let auth = auth.map(|it| it.ok_or(DisconnectReason::ParseError)).transpose()?;
        if let Some(index) = client.seat_index(header.namespace) {
            if client.seats.get(index).is_some_and(|it| it.socket.is_some()) {
                return Err(DisconnectReason::ParseError);
            }
            drop(client.seats.remove(index));
        }
        let id = SocketId::generate().ok_or(DisconnectReason::TransportError)?;
        let outlet = Outlet::new(Arc::clone(&client.session), id, header.namespace);
        let request = ConnectRequest {
            namespace: header.namespace,
            handshake: &client.handshake,
            auth,
            outlet: &outlet,
        };
        let admitted = if client.seats.len() < options.namespaces_per_connection_max {
            self.handler.connect(&request)
        } else {
            Err(Refused::new("Too many namespaces"))
        };
        match admitted {
            Ok(session) => self.admit(client, outlet, session),
            Err(refused) => refuse(&outlet, &refused),
        }
        Ok(())
    }

    fn admit(&self, client: &mut Client<H::Session>, outlet: Outlet, session: H::Session) {
        client.session.settle();
        outlet.send_bare(Kind::Connect, |out| {
            out.extend_from_slice(format!(r#"{{"sid":"{}"}}"#, outlet.id()).as_bytes());
        });
        let socket = Socket::new(outlet.clone(), session);
        client.seats.push(Seat { outlet, socket: Some(socket.clone()) });
        self.handler.connected(&socket);
    }

    /// The client leaves a namespace.
    fn leave(
        &self,
        client: &mut Client<H::Session>,
        header: &Header<'_>,
    ) -> Result<(), DisconnectReason> {
        if !header.data.is_empty() || header.id.is_some() {
            return Err(DisconnectReason::ParseError);
        }
        let index = client.seat_index(header.namespace).ok_or(DisconnectReason::ParseError)?;
        let seat = client.seats.remove(index);
        self.vacate(seat, DisconnectReason::ClientNamespace);
        Ok(())
    }

    fn vacate(&self, mut seat: Seat<H::Session>, reason: DisconnectReason) {
        seat.outlet.end(reason);
        if let Some(socket) = seat.socket.take() {
            self.handler.disconnected(&socket, seat.outlet.ended().unwrap_or(reason));
        }
    }

    /// Takes a whole event or ack.
    fn dispatch(
        &self,
        client: &Client<H::Session>,
        header: &Header<'_>,
        attachments: &[Bytes],
    ) -> Result<(), DisconnectReason> {
        let depth_max = client.session.home().options.json_depth_max;
        let array = Array::parse(header.data, depth_max).ok_or(DisconnectReason::ParseError)?;
        let args = array.args();
        let index = client.seat_index(header.namespace);
        let seat = index.and_then(|it| client.seats.get(it)).ok_or(DisconnectReason::ParseError)?;
        let socket = seat.socket.as_ref().filter(|_| seat.outlet.ended().is_none());
        if matches!(header.kind, Kind::Ack | Kind::BinaryAck) {
            let id = header.id.ok_or(DisconnectReason::ParseError)?;
            seat.outlet.acknowledge(id, Reply { args, attachments });
            return Ok(());
        }
        let (name, args) = args.split_first().ok_or(DisconnectReason::ParseError)?;
        let name = event_name(name.get()).ok_or(DisconnectReason::ParseError)?;
        let Some(socket) = socket else { return Ok(()) };
        let ack = header.id.map(|id| Ack::new(seat.outlet.clone(), id));
        self.handler.event(socket, Event { name: &name, args, attachments, ack });
        Ok(())
    }
}

/// The name of an event: a string that is not reserved, or a number.
fn event_name(raw: &str) -> Option<Cow<'_, str>> {
    let name = match raw.as_bytes() {
        [b'"', inner @ .., b'"'] if !inner.contains(&b'\\') => {
            Cow::Borrowed(raw.get(1..raw.len() - 1)?)
        }
        [b'"', ..] => Cow::Owned(serde_json::from_str(raw).ok()?),
        [b'0'..=b'9' | b'-', ..] => Cow::Borrowed(raw),
        _ => return None,
    };
    (!RESERVED.contains(&&*name)).then_some(name)
}

/// The packet of `header` announces attachments: it must be right before any is waited for.
fn announce<S>(
    client: &mut Client<S>,
    header: &Header<'_>,
    text: &str,
) -> Result<(), DisconnectReason> {
    let Options { attachments_max, json_depth_max, .. } = *client.session.home().options;
    let count = header.attachments;
    let array = Array::parse(header.data, json_depth_max).ok_or(DisconnectReason::ParseError)?;
    if !(1..=attachments_max).contains(&count) || !array.args().placeholders_are_valid(count) {
        return Err(DisconnectReason::ParseError);
    }
    let partial = Partial { text: text.into(), attachments: Vec::new(), announced: count };
    client.partial = Some(Box::new(partial));
    Ok(())
}

fn refuse(outlet: &Outlet, refused: &Refused) {
    outlet.send_bare(Kind::ConnectError, |out| {
        out.extend_from_slice(br#"{"message":"#);
        packet::write_string(out, &refused.message);
        if let Some(data) = &refused.data {
            out.extend_from_slice(br#","data":"#);
            out.extend_from_slice(data.get().as_bytes());
        }
        out.push(b'}');
    });
    outlet.end(DisconnectReason::ServerNamespace);
}

impl<S> Client<S> {
    fn seat_index(&self, namespace: &str) -> Option<usize> {
        self.seats.iter().position(|it| it.outlet.namespace() == namespace)
    }
}

impl<H: Handler> Application for SocketIo<H> {
    type State = Client<H::Session>;

    fn open(&self, session: &Arc<Session>, handshake: Handshake) -> Self::State {
        Client {
            session: Arc::clone(session),
            handshake: Box::new(handshake),
            seats: SmallVec::new(),
            partial: None,
        }
    }

    fn text(&self, client: &mut Self::State, text: &str) -> Result<(), DisconnectReason> {
        let header = packet::parse(text).ok_or(DisconnectReason::ParseError)?;
        if client.partial.is_some() {
            return Err(DisconnectReason::ParseError);
        }
        match header.kind {
            Kind::Connect => self.connect(client, &header),
            Kind::Disconnect => self.leave(client, &header),
            Kind::Event | Kind::Ack => self.dispatch(client, &header, &[]),
            Kind::BinaryEvent | Kind::BinaryAck => announce(client, &header, text),
            Kind::ConnectError => Err(DisconnectReason::ParseError),
        }
    }

    fn binary(&self, client: &mut Self::State, data: &[u8]) -> Result<(), DisconnectReason> {
        let partial = client.partial.as_mut().ok_or(DisconnectReason::ParseError)?;
        partial.attachments.push(Bytes::copy_from_slice(data));
        let complete = |it: &mut Box<Partial>| it.attachments.len() == it.announced;
        let Some(whole) = client.partial.take_if(complete) else { return Ok(()) };
        let header = packet::parse(&whole.text).ok_or(DisconnectReason::ParseError)?;
        self.dispatch(client, &header, &whole.attachments)
    }

    fn attend(&self, client: &mut Self::State) {
        let kicked = client.seats.iter().any(|it| it.outlet.is_kicked());
        for seat in &mut client.seats {
            if kicked {
                seat.outlet.leave(DisconnectReason::ServerClose);
            }
            let Some(reason) = seat.outlet.ended() else { continue };
            if let Some(socket) = seat.socket.take() {
                self.handler.disconnected(&socket, reason);
            }
        }
        if kicked {
            client.session.close(DisconnectReason::ServerClose, Goodbye::Code(CloseCode::Normal));
        }
    }

    fn closed(&self, client: &mut Self::State, reason: DisconnectReason) {
        for seat in client.seats.drain(..) {
            self.vacate(seat, reason);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn event_names() {
        let table = [
            (r#""call:start""#, Some("call:start")),
            (r#""""#, Some("")),
            (r#""\u0061\"b""#, Some("a\"b")),
            ("7", Some("7")),
            ("-1.5", Some("-1.5")),
            (r#""connect""#, None),
            (r#""conne\u0063t""#, None),
            (r#""disconnecting""#, None),
            (r#"{"toString":"foo"}"#, None),
            ("null", None),
            ("true", None),
            ("[]", None),
        ];
        for (raw, wanted) in table {
            assert_eq!(event_name(raw).as_deref(), wanted, "{raw}");
        }
    }
}
