//! A relay as one writes it on socketioxide: `socketioxide-peer PORT`. No calls, no rates, no counts: who has a token
//! hands candidates to others.

use std::error::Error;
use std::net::Ipv4Addr;

use hyper::server::conn::http1;
use hyper_util::rt::TokioIo;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode};
use serde::Deserialize;
use serde_json::{Value, json};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, Extension, SocketRef};
use tokio::net::TcpListener;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[derive(Clone)]
struct User(String);

#[derive(Deserialize)]
struct Auth {
    token: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Claims {
    user_id: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    target_user_id: String,
    candidate: Value,
}

async fn hand_on(
    socket: SocketRef,
    Data(it): Data<Candidate>,
    Extension(User(from)): Extension<User>,
) {
    let told = json!({ "fromUserId": from, "candidate": it.candidate });
    // Who is not there hears nothing.
    drop(socket.to(it.target_user_id).emit("webrtc:ice_candidate", &told).await);
}

async fn connected(socket: SocketRef, Data(auth): Data<Auth>) {
    let key = DecodingKey::from_secret(b"secret");
    let Ok(token) = decode::<Claims>(&auth.token, &key, &Validation::new(Algorithm::HS256)) else {
        drop(socket.disconnect());
        return;
    };
    let user = token.claims.user_id;
    socket.join(user.clone());
    socket.extensions.insert(User(user));
    socket.on("webrtc:ice_candidate", hand_on);
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let port = std::env::args().nth(1).ok_or("which port?")?.parse()?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await?;
    let (service, sockets) = SocketIo::new_svc();
    sockets.ns("/", connected);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let server = http1::Builder::new().serve_connection(TokioIo::new(stream), service.clone());
        tokio::spawn(server.with_upgrades());
    }
}
