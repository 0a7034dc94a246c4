//! The HTTP edge over real sockets: raw bytes that must not pass, clients that take their time,
//! limits, TLS, stops.
#![expect(clippy::expect_used, clippy::panic, reason = "a test helper fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use call_service::config::{Config, TlsFiles};
use call_service::http::Reply;
use call_service::http::exchange::{body_bytes, bytes_of};
use call_service::http::gate::Gate;
use call_service::http::listener::{bind, serve, take_tcp};
use call_service::http::tls::Tls;
use call_service::shutdown::{Stopper, stop};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// Longer than anything here takes on a busy machine, and short of every time-out that is tested.
const SOON: Duration = Duration::from_secs(5);
const DRAIN: Duration = Duration::from_millis(500);

struct Server {
    address: SocketAddr,
    stopper: Stopper,
    served: JoinHandle<()>,
}

/// Echoes bodies; `/panic` panics, `/slow` takes a second, `/socket` becomes an echo of its own, `/greeter` says hello and
/// ends.
async fn answer(request: Request<Incoming>, _: SocketAddr, secure: bool) -> Reply {
    match request.uri().path() {
        "/panic" => panic!("on purpose"),
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(300)).await;
            text("slow")
        }
        "/secure" => text(if secure { "secure" } else { "plain" }),
        "/socket" => {
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(async move {
                let mut tcp = take_tcp(upgrade.await.expect("an upgrade")).expect("TCP");
                tcp.stream.write_all(&tcp.unsent).await.expect("a write");
                tcp.stream.write_all(&tcp.early).await.expect("a write");
                let (mut reader, mut writer) = tcp.stream.split();
                drop(tokio::io::copy(&mut reader, &mut writer).await);
            });
            switching()
        }
        "/greeter" => {
            let upgrade = hyper::upgrade::on(request);
            tokio::spawn(async move {
                let mut stream = TokioIo::new(upgrade.await.expect("an upgrade"));
                stream.write_all(b"hello").await.expect("a write");
                stream.shutdown().await.expect("an end");
            });
            switching()
        }
        _ => match body_bytes(request.into_body(), 1024).await {
            Ok(bytes) => bytes_of(StatusCode::OK, "text/plain", bytes),
            Err(failure) => failure.reply(),
        },
    }
}

fn switching() -> Reply {
    let answer = Response::builder().status(StatusCode::SWITCHING_PROTOCOLS);
    let answer = answer.header("connection", "upgrade").header("upgrade", "echo");
    answer.body(Bytes::new().into()).expect("an answer")
}

fn text(text: &'static str) -> Reply {
    bytes_of(StatusCode::OK, "text/plain", Bytes::from_static(text.as_bytes()))
}

fn start(set: &[(&str, &str)], tls: Option<Arc<Tls>>) -> Server {
    let find =
        |name: &str| set.iter().find(|(it, _)| *it == name).map(|(_, text)| (*text).to_owned());
    let gate = Gate::new(&Config::load(find).expect("settings").server);
    let listener = bind("127.0.0.1:0".parse().expect("an address")).expect("a port");
    let address = listener.local_addr().expect("an address");
    let (stopper, stop) = stop();
    let served = tokio::spawn(serve(listener, gate, tls, answer, (stop, DRAIN)));
    Server { address, stopper, served }
}

async fn connect(server: &Server) -> TcpStream {
    TcpStream::connect(server.address).await.expect("a connection")
}

/// All that comes until the server closes.
async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after the answer is an end as well.
    drop(timeout(SOON, stream.read_to_end(&mut bytes)).await.expect("the server must close"));
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn send(server: &Server, bytes: &str) -> String {
    let mut stream = connect(server).await;
    stream.write_all(bytes.as_bytes()).await.expect("a write");
    rest(&mut stream).await
}

/// What two readers could understand differently is answered with 400, and the connection ends:
/// the request after it is never served.
#[tokio::test]
async fn ambiguous_requests_are_refused() {
    let server = start(&[], None);
    for (what, head) in [
        ("both lengths", "content-length: 5\r\ntransfer-encoding: chunked\r\n"),
        ("both lengths, turned", "transfer-encoding: chunked\r\ncontent-length: 5\r\n"),
        ("two lengths", "content-length: 5\r\ncontent-length: 6\r\n"),
        ("two equal lengths", "content-length: 5\r\ncontent-length: 5\r\n"),
        ("a list of lengths", "content-length: 5, 5\r\n"),
        ("a signed length", "content-length: +5\r\n"),
        ("a negative length", "content-length: -5\r\n"),
        ("a coding before chunked", "transfer-encoding: gzip, chunked\r\n"),
        ("a coding after chunked", "transfer-encoding: chunked, identity\r\n"),
        ("two codings", "transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"),
        ("a coding with a tab", "transfer-encoding:\tx\tchunked\r\n"),
        ("a space before the colon", "transfer-encoding : chunked\r\n"),
        ("a folded line", "x: y\r\n content-length: 5\r\n"),
        ("a bare line feed", "x: y\ncontent-length: 5\r\n"),
        ("a bare carriage return", "x: y\rcontent-length: 5\r\n"),
        ("a NUL", "x: \0\r\n"),
        ("no colon", "content-length 5\r\n"),
    ] {
        let attack = format!(
            "POST /slow HTTP/1.1\r\nhost: a\r\n{head}\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let seen = send(&server, &attack).await;
        assert!(seen.starts_with("HTTP/1.1 400 "), "{what}: {seen}");
        assert_eq!(seen.matches("HTTP/1.1 ").count(), 1, "{what}: {seen}");
    }
    for (what, attack) in [
        ("HTTP/1.0 in chunks", "POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"),
        ("bare line feeds", "GET / HTTP/1.1\nhost: a\n\n"),
        ("no host", "GET / HTTP/1.1\r\n\r\n"),
        ("two hosts", "GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
        ("HTTP/0.9", "GET /\r\n\r\n"),
        ("no HTTP", "\u{16}\u{3}\u{1} a TLS handshake\r\n\r\n"),
    ] {
        let seen = send(&server, attack).await;
        assert!(seen.starts_with("HTTP/1.1 400 "), "{what}: {seen}");
    }
}

#[tokio::test]
async fn a_chunk_that_lies_ends_the_connection() {
    let server = start(&[], None);
    for chunks in ["3\r\nabcd\r\n0\r\n\r\n", "3\nabc\r\n0\r\n\r\n", "-1\r\n", "zz\r\n"] {
        let attack = format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{chunks}GET /secure HTTP/1.1\r\nhost: a\r\n\r\n"
        );
        let seen = send(&server, &attack).await;
        assert!(seen.starts_with("HTTP/1.1 400 "), "{chunks:?}: {seen}");
        assert!(!seen.contains("plain"), "{chunks:?}: {seen}");
    }
}

#[tokio::test]
async fn what_is_well_formed_passes() {
    let server = start(&[], None);
    let seen = send(
        &server,
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nfirst\
         POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3;x=y\r\nsec\r\n3\r\nond\r\n0\r\n\r\n\
         GET /panic HTTP/1.1\r\nhost: a\r\n\r\n\
         HEAD /secure HTTP/1.1\r\nhost: a\r\n\r\n\
         GET /secure HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n",
    )
    .await;
    let answers: Vec<_> = seen.split("HTTP/1.1 ").skip(1).collect();
    let ends: Vec<_> =
        answers.iter().map(|it| (&it[..3], it.rsplit("\r\n").next().unwrap_or_default())).collect();
    let panicked = r#"{"success":false,"error":"internal error","code":"internal"}"#;
    assert_eq!(
        ends,
        [("200", "first"), ("200", "second"), ("500", panicked), ("200", ""), ("200", "plain")]
    );
}

#[tokio::test]
async fn heads_and_bodies_have_bounds() {
    let server = start(&[], None);
    let name = "x".repeat(20_000);
    let many = "x: y\r\n".repeat(101);
    for (what, request, wanted) in [
        ("a long path", format!("GET /{name} HTTP/1.1\r\nhost: a\r\n\r\n"), "431"),
        ("a long header", format!("GET / HTTP/1.1\r\nhost: a\r\nx: {name}\r\n\r\n"), "431"),
        ("many headers", format!("GET / HTTP/1.1\r\nhost: a\r\n{many}\r\n"), "431"),
        (
            "a body that says it is too long",
            "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 1025\r\n\r\n".to_owned(),
            "413",
        ),
        (
            "a body that is too long",
            format!(
                "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n401\r\n{}\r\n",
                "x".repeat(1025)
            ),
            "413",
        ),
    ] {
        let seen = send(&server, &request).await;
        assert!(seen.starts_with(&format!("HTTP/1.1 {wanted} ")), "{what}: {seen}");
    }
}

#[tokio::test]
async fn an_upgrade_leaves_http_behind() {
    let server = start(&[], None);
    let mut stream = connect(&server).await;
    let request = "GET /socket HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a write");
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a byte"));
    }
    assert!(head.starts_with(b"HTTP/1.1 101"));
    // What would be refused in HTTP: a bare line feed, a NUL.
    stream.write_all(b"\n\0\r\n\n").await.expect("a write");
    let mut echo = [0; 5];
    timeout(SOON, stream.read_exact(&mut echo)).await.expect("in time").expect("an echo");
    assert_eq!(&echo, b"\n\0\r\n\n");
}

/// Nobody takes the TCP stream over there, with the answer that is held for that.
#[tokio::test]
async fn an_answer_that_nobody_took_along_leaves_before_what_comes_next() {
    let server = start(&[], None);
    let request =
        "GET /greeter HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let seen = send(&server, request).await;
    assert!(seen.starts_with("HTTP/1.1 101 ") && seen.ends_with("\r\n\r\nhello"), "{seen}");
}

/// After a refused upgrade the connection is as strict as before.
#[tokio::test]
async fn a_refused_upgrade_opens_nothing() {
    let server = start(&[], None);
    let seen = send(
        &server,
        "GET /secure HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n\
         GET /secure HTTP/1.1\nhost: a\n\n",
    )
    .await;
    assert!(seen.starts_with("HTTP/1.1 200 ") && seen.contains("HTTP/1.1 400 "), "{seen}");
}

#[tokio::test]
async fn connections_above_the_limit_are_told() {
    let server = start(&[("CONNECTIONS_MAX", "2")], None);
    let request = "GET /secure HTTP/1.1\r\nhost: a\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&server).await;
        stream.write_all(request.as_bytes()).await.expect("a write");
        stream.read_u8().await.expect("an answer");
        held.push(stream);
    }
    let seen = rest(&mut connect(&server).await).await;
    assert!(seen.starts_with("HTTP/1.1 503 ") && seen.contains("retry-after: 1"), "{seen}");
    held.clear();
    let back = timeout(SOON, async {
        while !send(&server, "GET /secure HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n")
            .await
            .starts_with("HTTP/1.1 200 ")
        {
            tokio::task::yield_now().await;
        }
    });
    back.await.expect("room again once the others are gone");
}

#[tokio::test]
async fn a_stop_lets_requests_end_and_cuts_the_rest() {
    let server = start(&[], None);
    let mut busy = connect(&server).await;
    busy.write_all(b"GET /slow HTTP/1.1\r\nhost: a\r\n\r\n").await.expect("a write");
    let mut idle = connect(&server).await;
    let mut stuck = connect(&server).await;
    stuck
        .write_all(b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n")
        .await
        .expect("a write");
    // The server must have seen all three.
    tokio::time::sleep(Duration::from_millis(100)).await;
    let before = Instant::now();
    server.stopper.stop();
    assert!(rest(&mut busy).await.ends_with("slow"));
    assert_eq!(rest(&mut idle).await, "");
    assert_eq!(rest(&mut stuck).await, "");
    timeout(SOON, server.served).await.expect("in time").expect("no panic");
    assert!(before.elapsed() < DRAIN + SOON / 2);
    assert!(TcpStream::connect(server.address).await.is_err(), "nobody listens any more");
}

fn data(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data").join(name)
}

/// What `/secure` answers to a client that trusts `certificate` alone and speaks `protocol`.
async fn encrypted(server: &Server, certificate: &str, protocol: &[u8]) -> Option<Vec<u8>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(data(certificate)).expect("PEM")).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![protocol.to_vec()];
    let name = ServerName::try_from("localhost").expect("a name");
    let stream = connect(server).await;
    let mut stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.ok()?;
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(protocol));
    if protocol == b"h2" {
        // The preface and an empty SETTINGS; the server's own SETTINGS come back.
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0")
            .await
            .expect("a write");
        let mut frame = [0; 9];
        stream.read_exact(&mut frame).await.expect("a frame");
        return Some(frame.to_vec());
    }
    let request = "GET /secure HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
    stream.write_all(request.as_bytes()).await.expect("a write");
    let mut bytes = Vec::new();
    drop(stream.read_to_end(&mut bytes).await);
    Some(bytes)
}

#[tokio::test]
async fn tls_with_both_protocols_and_a_new_certificate() {
    let folder = tempfile::tempdir().expect("a folder");
    let files = TlsFiles { cert: folder.path().join("cert"), key: folder.path().join("key") };
    let install = |name: &str| {
        std::fs::copy(data(&format!("{name}.pem")), &files.cert).expect("a copy");
        std::fs::copy(data(&format!("{name}.key")), &files.key).expect("a copy");
    };
    install("localhost");
    let tls = Arc::new(Tls::load(files.clone()).expect("a certificate"));
    let server = start(&[], Some(Arc::clone(&tls)));
    let seen = encrypted(&server, "localhost.pem", b"http/1.1").await.expect("an answer");
    assert!(String::from_utf8_lossy(&seen).ends_with("secure"));
    let frame = encrypted(&server, "localhost.pem", b"h2").await.expect("a frame");
    assert_eq!(frame.get(3), Some(&4), "SETTINGS: {frame:?}");

    std::fs::write(&files.cert, "nonsense").expect("a write");
    assert!(tls.reload().is_err());
    assert!(encrypted(&server, "localhost.pem", b"http/1.1").await.is_some(), "the old one holds");

    install("renewed");
    tls.reload().expect("the new certificate");
    assert!(encrypted(&server, "localhost.pem", b"http/1.1").await.is_none());
    assert!(encrypted(&server, "renewed.pem", b"http/1.1").await.is_some());
}
