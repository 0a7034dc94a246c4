//! Accepts connections and serves HTTP/1.1 and HTTP/2 on them until told to stop.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use hyper::Request;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::Reply;
use super::exchange::Failure;
use super::gate::Gate;
use super::guard::{Guarded, IDLE_TIME_MAX};
use super::tls::Tls;
use crate::shutdown::Stop;
use crate::socketio::engine::stream::Tcp;

/// Connections the kernel keeps for us while we are busy: a storm of reconnects must not be refused.
const BACKLOG: i32 = 4096;
/// How long a TLS handshake may take.
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(10);
/// Bytes of a head, at most, and of what is read ahead of a body.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// Requests at once on one HTTP/2 connection.
const STREAMS_MAX: u32 = 64;
/// The shortest and the longest pause after an accept that failed for want of a resource.
const PAUSE: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));
/// What one connection too many is told, where nothing is encrypted.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nretry-after: 1\r\n\
    connection: close\r\ncontent-length: 0\r\n\r\n";

/// Listens at `address`; IPv6's `::` takes IPv4 as well.
///
/// # Errors
/// Where the address is taken or not ours. Needs a runtime to be called in.
pub fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // A restart must not wait for the connections of the process before.
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(false)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Serves every connection of `listener` with `service` until `stop`, then lets open requests end
/// for `drain_time` and cuts what is left. `service` is given the request, the peer's address and
/// whether the connection is encrypted.
pub async fn serve<S, F>(
    listener: TcpListener,
    gate: Gate,
    encryption: Option<Arc<Tls>>,
    service: S,
    (mut stop, drain_time): (Stop, Duration),
) where
    S: Fn(Request<Incoming>, SocketAddr, bool) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let http = Arc::new(protocol());
    let mut connections = JoinSet::new();
    let mut pause = PAUSE.0;
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            Some(_) = connections.join_next() => continue,
            () = stop.stopped() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                pause = PAUSE.0;
                let Some(pass) = gate.enter(peer.ip()) else {
                    refuse(stream, encryption.is_some());
                    continue;
                };
                let (http, service) = (Arc::clone(&http), service.clone());
                let (encryption, stop) = (encryption.clone(), stop.clone());
                connections.spawn(async move {
                    connection(stream, peer, encryption, Served { http, service, stop }).await;
                    drop(pass);
                });
            }
            Err(error) => {
                if is_the_peers_fault(&error) {
                    continue;
                }
                // No descriptors left, say: at once it would only fail again.
                tracing::warn!(%error, ?pause, "cannot accept connections");
                tokio::select! {
                    () = sleep(pause) => {}
                    () = stop.stopped() => break,
                }
                pause = (pause * 2).min(PAUSE.1);
            }
        }
    }
    drop(listener);
    let ended = async { while connections.join_next().await.is_some() {} };
    if timeout(drain_time, ended).await.is_err() {
        tracing::warn!(open = connections.len(), "cutting connections that did not end in time");
    }
    connections.shutdown().await;
}

/// The plain TCP stream under an upgraded connection. The answer that upgrades it is still to be sent.
///
/// # Errors
/// Gives the connection back where it is encrypted or was not accepted by [`serve`].
pub fn take_tcp(upgraded: Upgraded) -> Result<Tcp, Upgraded> {
    let parts = auto::upgrade::downcast::<TokioIo<Guarded<TcpStream>>>(upgraded)?;
    let (stream, unsent) = parts.io.into_inner().into_parts();
    Ok(Tcp { stream, early: parts.read_buf, unsent })
}

/// HTTP as it is spoken here. The timer is what makes hyper's time-outs work at all.
fn protocol() -> auto::Builder<TokioExecutor> {
    let mut http = auto::Builder::new(TokioExecutor::new());
    http.http1()
        .timer(TokioTimer::new())
        // `Guarded` keeps the time.
        .header_read_timeout(None)
        // One piece is cheaper to send than two, and answers are small.
        .writev(false)
        // Never with `pipeline_flush`: it holds back the 400 while unreadable bytes are buffered.
        .max_buf_size(HEAD_BYTES_MAX);
    http.http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(STREAMS_MAX)
        .max_header_list_size(u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX))
        .keep_alive_interval(IDLE_TIME_MAX / 3)
        .keep_alive_timeout(HANDSHAKE_TIME_MAX);
    http
}

/// Errors of one connection that ended before it was accepted.
fn is_the_peers_fault(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Tells a client that there is no room, if that can be told without waiting.
fn refuse(stream: TcpStream, encrypted: bool) {
    if let (Ok(mut stream), false) = (stream.into_std(), encrypted) {
        // Whether it hears it is its own affair: the connection ends in any case.
        drop(stream.write(FULL));
    }
}

/// What every connection is served with.
struct Served<S> {
    http: Arc<auto::Builder<TokioExecutor>>,
    service: S,
    stop: Stop,
}

async fn connection<S, F>(
    stream: TcpStream,
    peer: SocketAddr,
    encryption: Option<Arc<Tls>>,
    served: Served<S>,
) where
    S: Fn(Request<Incoming>, SocketAddr, bool) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    // Answers are small and someone waits for each.
    drop(stream.set_nodelay(true));
    let Some(tls) = encryption else { return exchange(stream, (peer, false), served).await };
    match timeout(HANDSHAKE_TIME_MAX, tls.acceptor().accept(stream)).await {
        Ok(Ok(stream)) => Box::pin(exchange(stream, (peer, true), served)).await,
        Ok(Err(error)) => tracing::debug!(%error, "no TLS handshake"),
        Err(_) => tracing::debug!("a TLS handshake took too long"),
    }
}

/// Serves one connection to its end; told to stop, it answers what has begun and closes.
async fn exchange<I, S, F>(stream: I, (peer, secure): (SocketAddr, bool), mut served: Served<S>)
where
    I: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    S: Fn(Request<Incoming>, SocketAddr, bool) -> F + Clone + Send + Sync + 'static,
    F: Future<Output = Reply> + Send + 'static,
{
    let Served { http, service, stop } = &mut served;
    let answer = service_fn(|request| {
        let service = service.clone();
        let reply = async move { service(request, peer, secure).await };
        async { Ok::<_, Infallible>(caught(reply).await) }
    });
    // Plain TCP is taken over by `take_tcp`.
    let stream = TokioIo::new(Guarded::new(stream, !secure));
    let mut serving = pin!(http.serve_connection_with_upgrades(stream, answer));
    let ended = tokio::select! {
        ended = serving.as_mut() => ended,
        () = stop.stopped() => {
            serving.as_mut().graceful_shutdown();
            serving.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a connection ended badly");
    }
}

/// A panic costs the request that it happened in: the hook of `telemetry` counts and logs it, the
/// client gets a 500, the connection goes on.
async fn caught(reply: impl Future<Output = Reply>) -> Reply {
    let mut reply = pin!(reply);
    poll_fn(|cx| {
        // What the panic leaves half done is dropped with the future, never polled again.
        let polled = catch_unwind(AssertUnwindSafe(|| reply.as_mut().poll(cx)));
        polled.unwrap_or_else(|_| Poll::Ready(Failure::new("internal", "internal error").reply()))
    })
    .await
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::StatusCode;
    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};
    use tokio::time::Instant;

    use super::super::exchange::{bytes_of, message};
    use super::*;
    use crate::http::guard::{HEAD_TIME_MAX, WRITE_STALL_MAX};
    use crate::shutdown::stop;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nhost: a\r\n\r\n";

    async fn answer(request: Request<Incoming>, _: SocketAddr, _: bool) -> Reply {
        match request.uri().path() {
            "/late" => {
                sleep(2 * IDLE_TIME_MAX).await;
                message("at last")
            }
            "/large" => bytes_of(StatusCode::OK, "text/plain", Bytes::from(vec![b'x'; 100_000])),
            _ => message("hello"),
        }
    }

    /// Serves one end of a pipe that holds 1 KiB; gives the other.
    fn start() -> DuplexStream {
        let (client, server) = duplex(1024);
        tokio::spawn(async move {
            let (_stopper, stop) = stop();
            let with = Served { http: Arc::new(protocol()), service: answer, stop };
            exchange(server, ("192.0.2.1:1".parse().unwrap(), false), with).await;
        });
        client
    }

    /// Seconds until the server closes.
    async fn seconds(mut client: DuplexStream) -> u64 {
        let before = Instant::now();
        let mut rest = Vec::new();
        drop(client.read_to_end(&mut rest).await);
        before.elapsed().as_secs()
    }

    #[tokio::test(start_paused = true)]
    async fn who_sends_nothing_is_let_go() {
        assert_eq!(seconds(start()).await, HEAD_TIME_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_a_head_is_let_go() {
        let mut client = start();
        let before = Instant::now();
        for byte in REQUEST.iter().cycle().filter(|it| **it != b'\n') {
            if client.write_all(&[*byte]).await.is_err() {
                break;
            }
            sleep(Duration::from_secs(1)).await;
        }
        assert!(
            before.elapsed() <= HEAD_TIME_MAX + Duration::from_secs(2),
            "{:?}",
            before.elapsed()
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_a_second_head_is_let_go() {
        let mut client = start();
        client.write_all(REQUEST).await.unwrap();
        sleep(Duration::from_mins(1)).await;
        client.write_all(b"GET ").await.unwrap();
        assert_eq!(seconds(client).await, HEAD_TIME_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn who_drips_a_preface_is_let_go() {
        let mut client = start();
        client.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
        assert_eq!(seconds(client).await, HEAD_TIME_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn an_idle_connection_is_kept_for_a_while() {
        let mut client = start();
        client.write_all(REQUEST).await.unwrap();
        assert_eq!(seconds(client).await, IDLE_TIME_MAX.as_secs());
    }

    #[tokio::test(start_paused = true)]
    async fn the_time_of_an_idle_connection_counts_from_its_last_answer() {
        let mut client = start();
        for _ in 0..3 {
            client.write_all(REQUEST).await.unwrap();
            let mut answer = [0; 1024];
            assert!(client.read(&mut answer).await.unwrap() > 0);
            sleep(IDLE_TIME_MAX.mul_f32(0.96)).await;
        }
        assert_eq!(seconds(client).await, 3);
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_may_take_longer_than_an_idle_connection_is_kept() {
        let mut client = start();
        client.write_all(b"GET /late HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let before = Instant::now();
        let mut answer = [0; 1024];
        assert!(client.read(&mut answer).await.unwrap() > 0);
        assert_eq!(before.elapsed(), 2 * IDLE_TIME_MAX);
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_read_is_let_go() {
        let mut client = start();
        client.write_all(b"GET /large HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        sleep(WRITE_STALL_MAX + Duration::from_secs(1)).await;
        // What was in the pipe, and then the end.
        let mut rest = Vec::new();
        client.read_to_end(&mut rest).await.unwrap();
        assert!(rest.len() <= 1024, "{}", rest.len());
    }

    #[tokio::test(start_paused = true)]
    async fn a_fresh_connection_costs_little_to_refuse() {
        let listener = bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap());
        let (mut client, (stream, _)) = tokio::try_join!(client, listener.accept()).unwrap();
        refuse(stream, false);
        let mut rest = String::new();
        client.read_to_string(&mut rest).await.unwrap();
        assert!(rest.starts_with("HTTP/1.1 503 "), "{rest}");
    }
}
