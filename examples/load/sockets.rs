//! Websockets: those of the service, whose users have authenticated, and bare ones.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::LocalSet;
use tokio::time::sleep;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};
use tokio_tungstenite::{WebSocketStream, client_async_with_config};

use crate::figures::{processor_us, resident_kib};
use crate::people::{token, user};
use crate::{Failure, On};

/// Before the first measurement: what they cost once is not counted.
const WARM_UP: usize = 200;
/// How long memory takes to settle.
const SETTLES: Duration = Duration::from_secs(2);

pub(crate) type Socket = WebSocketStream<TcpStream>;

async fn open(address: &str, path: &str) -> Result<Socket, Failure> {
    let stream = TcpStream::connect(address).await?;
    stream.set_nodelay(true)?;
    let config = WebSocketConfig::default().read_buffer_size(4096).write_buffer_size(0);
    let url = format!("ws://{address}{path}");
    Ok(client_async_with_config(url, stream, Some(config)).await?.0)
}

/// One of the floor's: what it sends goes to `to`.
pub(crate) async fn bare(on: &On, me: &str, to: &str) -> Result<Socket, Failure> {
    open(&on.address, &format!("/?id={me}&to={to}")).await
}

/// A user's, who has been told of the calls there are.
pub(crate) async fn authenticated(on: &On, me: &str) -> Result<Socket, Failure> {
    opened(on, me, "42[\"call:sync\"").await
}

/// A user's at any Socket.IO server.
pub(crate) async fn connected(on: &On, me: &str) -> Result<Socket, Failure> {
    opened(on, me, "40").await
}

/// One that is open once it hears what begins like that.
async fn opened(on: &On, me: &str, last: &str) -> Result<Socket, Failure> {
    let mut socket = open(&on.address, "/socket.io/?EIO=4&transport=websocket").await?;
    let connect = json!({ "token": token(&on.secret, me)? });
    let mut asked = false;
    loop {
        let text = next(&mut socket).await?;
        if text.starts_with('0') && !asked {
            socket.send(Message::text(format!("40{connect}"))).await?;
            asked = true;
        } else if text.starts_with(last) {
            return Ok(socket);
        } else if text.starts_with("44") {
            return Err(text.as_str().into());
        }
    }
}

/// The next text, with pings answered.
pub(crate) async fn next(socket: &mut Socket) -> Result<Utf8Bytes, Failure> {
    loop {
        match socket.next().await.ok_or("the server closed the socket")?? {
            Message::Text(text) if text.as_str() == "2" => socket.send(Message::text("3")).await?,
            Message::Text(text) => return Ok(text),
            Message::Close(why) => return Err(format!("closed: {why:?}").into()),
            Message::Binary(_) | Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => {}
        }
    }
}

/// Opens so many, and says what each costs; they stay open until they are dropped.
pub(crate) async fn idle(
    on: &On,
    sockets: usize,
    is_bare: bool,
) -> Result<(Value, Vec<Socket>), Failure> {
    let mut all = Vec::with_capacity(WARM_UP + sockets);
    let (mut before, mut began_us) = (0.0, 0);
    for number in 0..WARM_UP + sockets {
        if number == WARM_UP {
            sleep(SETTLES).await;
            (before, began_us) = (resident_kib(on.pid)?, processor_us(on.pid)?);
        }
        let me = user(number);
        all.push(if is_bare { bare(on, &me, &me).await? } else { authenticated(on, &me).await? });
    }
    let spent_us = processor_us(on.pid)? - began_us;
    sleep(SETTLES).await;
    let count = f64::from(u32::try_from(sockets)?);
    let found = json!({
        "count": sockets,
        "kib": (resident_kib(on.pid)? - before) / count,
        "cpuUs": f64::from(u32::try_from(spent_us)?) / count,
    });
    Ok((found, all))
}

/// Answers their pings until this process is stopped.
pub(crate) async fn attend(sockets: Vec<Socket>) {
    let local = LocalSet::new();
    for mut socket in sockets {
        local.spawn_local(async move { while next(&mut socket).await.is_ok() {} });
    }
    local.await;
}
