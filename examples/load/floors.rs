//! The least that can be: hyper, a token checked and one made, an answer written; and text passed from one websocket
//! to another. Nothing is kept, counted, limited or logged.

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::Ipv4Addr;
use std::sync::{Arc, LazyLock};

use bytes::Bytes;
use futures_util::{FutureExt, SinkExt, StreamExt};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc::{Sender, channel};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::server as handshake;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, accept_hdr_async_with_config};

use crate::Failure;

/// Messages that may wait for one socket.
const WAITING_MAX: usize = 4096;
const ROOM: &str = "room_00000000-0000-4000-8000-000000000001";

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    user_id: String,
}

#[expect(clippy::struct_excessive_bools, reason = "as LiveKit has it")]
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Video<'a> {
    room_join: bool,
    room: &'a str,
    can_publish: bool,
    can_subscribe: bool,
    can_publish_data: bool,
}

#[derive(Serialize)]
struct Grant<'a> {
    iss: &'a str,
    sub: &'a str,
    name: &'a str,
    nbf: u64,
    exp: u64,
    metadata: String,
    video: Video<'a>,
}

struct Keys {
    checks: DecodingKey,
    signs: EncodingKey,
    how: Validation,
}

static KEYS: LazyLock<Keys> = LazyLock::new(|| Keys {
    checks: DecodingKey::from_secret(b"secret"),
    signs: EncodingKey::from_secret(b"secret"),
    how: Validation::new(Algorithm::HS256),
});

pub(crate) async fn http(port: u16) -> Result<Value, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut server = http1::Builder::new();
        let serve = server.pipeline_flush(true).serve_connection(
            TokioIo::new(stream),
            service_fn(|request| async move { Ok::<_, Infallible>(answer(&request)) }),
        );
        tokio::spawn(serve);
    }
}

fn answer(request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let body = if request.uri().path() == "/" { Some("ok".to_owned()) } else { token(request) };
    let status = if body.is_some() { 200 } else { 401 };
    let response = Response::builder()
        .status(status)
        .header(CONTENT_TYPE, "application/json")
        .body(Full::from(body.unwrap_or_default()));
    response.unwrap_or_default()
}

fn token(request: &Request<Incoming>) -> Option<String> {
    let bearer = request.headers().get(AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?;
    let user = decode::<Claims>(bearer, &KEYS.checks, &KEYS.how).ok()?.claims.user_id;
    let metadata = format!(r#"{{"userId":"{user}","role":"participant"}}"#);
    let (room_join, can_publish, can_subscribe, can_publish_data) = (true, true, true, true);
    let video = Video { room_join, room: ROOM, can_publish, can_subscribe, can_publish_data };
    let (iss, nbf, exp) = ("calls", 0, 4_000_000_000);
    let grant = Grant { iss, sub: &user, name: &user, nbf, exp, metadata, video };
    let token = encode(&Header::default(), &grant, &KEYS.signs).ok()?;
    Some(format!(
        r#"{{"success":true,"data":{{"token":{{"token":"{token}","url":"ws://127.0.0.1:7880","roomName":"{ROOM}","identity":"{user}"}},"iceServers":[{{"urls":"stun:127.0.0.1:3478"}}]}}}}"#
    ))
}

type Users = Arc<Mutex<HashMap<String, Sender<Message>>>>;

pub(crate) async fn relay(port: u16) -> Result<Value, Failure> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let users = Users::default();
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let users = Arc::clone(&users);
        tokio::spawn(async move {
            // Whoever is gone is gone.
            drop(pass_on(stream, &users).await);
        });
    }
}

async fn pass_on(stream: TcpStream, users: &Users) -> Result<(), Failure> {
    let (mut me, mut to) = (String::new(), String::new());
    #[expect(clippy::result_large_err, reason = "as the handshake has it")]
    let names = |request: &handshake::Request, response| {
        for (name, value) in form_urlencoded::parse(request.uri().query().unwrap_or("").as_bytes())
        {
            match &*name {
                "id" => me = value.into_owned(),
                "to" => to = value.into_owned(),
                _ => {}
            }
        }
        Ok(response)
    };
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(4096);
    let mut socket = accept_hdr_async_with_config(stream, names, Some(config)).await?;
    let (sender, mut messages) = channel(WAITING_MAX);
    users.lock().insert(me, sender);
    loop {
        tokio::select! {
            message = socket.next() => {
                let mut message = message;
                loop {
                    hand_over(message.ok_or("gone")??, &to, users);
                    match socket.next().now_or_never() {
                        Some(more) => message = more,
                        None => break,
                    }
                }
            }
            Some(message) = messages.recv() => {
                feed(&mut socket, message).await?;
                while let Ok(message) = messages.try_recv() {
                    feed(&mut socket, message).await?;
                }
                socket.flush().await?;
            }
        }
    }
}

async fn feed(socket: &mut WebSocketStream<TcpStream>, message: Message) -> Result<(), Failure> {
    Ok(socket.feed(message).await?)
}

fn hand_over(message: Message, to: &str, users: &Users) {
    if message.is_text()
        && let Some(sender) = users.lock().get(to)
    {
        // More than the load lets be on their way never are.
        drop(sender.try_send(message));
    }
}
