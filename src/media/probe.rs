//! Whether a STUN or TURN server is there: asked as RFC 8489 has it, where it speaks UDP.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UdpSocket, lookup_host};
use tokio::time::timeout;

/// How long it may take to answer, tries included.
const WAIT: Duration = Duration::from_secs(2);
/// A lost packet is sent again after so long (RFC 8489, section 6.2.1).
const RESEND: Duration = Duration::from_millis(500);
/// The magic cookie of every message (RFC 8489, section 5).
const COOKIE: [u8; 4] = 0x2112_A442_u32.to_be_bytes();
/// A Binding request without attributes, and the answer to one.
const REQUEST: [u8; 4] = [0x00, 0x01, 0x00, 0x00];
const SUCCESS: [u8; 2] = [0x01, 0x01];

/// Where an address of `STUN_SERVER_URL` or `TURN_SERVER_URL` leads (RFC 7064 and 7065).
#[derive(Debug, PartialEq, Eq)]
struct Target<'a> {
    host: &'a str,
    port: u16,
    udp: bool,
}

impl<'a> Target<'a> {
    fn parse(url: &'a str) -> Option<Self> {
        let (scheme, rest) = url.split_once(':')?;
        let (place, query) = rest.split_once('?').unwrap_or((rest, ""));
        let secure = scheme.ends_with('s');
        let default = if secure { 5349 } else { 3478 };
        let (host, port) = match place.rsplit_once(':') {
            // An IPv6 address without a port ends in a bracket.
            Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
            Some(_) | None => (place, default),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        Some(Self { host, port, udp: !secure && query != "transport=tcp" })
    }
}

/// Completes once the server of `url` has answered, or taken a connection where it speaks TCP or TLS.
///
/// # Errors
/// Where it does neither in time, or its name is none.
pub async fn reach(url: &str) -> io::Result<()> {
    let invalid = || io::Error::new(io::ErrorKind::InvalidInput, "no host and port");
    let target = Target::parse(url).ok_or_else(invalid)?;
    let late = || io::Error::new(io::ErrorKind::TimedOut, "no answer");
    let found = async {
        let mut places = lookup_host((target.host, target.port)).await?;
        let place = places.next().ok_or_else(invalid)?;
        if !target.udp {
            return TcpStream::connect(place).await.map(drop);
        }
        let own = if place.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
        let socket = UdpSocket::bind(own).await?;
        socket.connect(place).await?;
        bind(&socket).await
    };
    timeout(WAIT, found).await.unwrap_or_else(|_| Err(late()))
}

async fn bind(socket: &UdpSocket) -> io::Result<()> {
    let mut transaction = [0; 12];
    getrandom::fill(&mut transaction).map_err(io::Error::other)?;
    let request = [&REQUEST[..], &COOKIE, &transaction].concat();
    let expected = [&COOKIE[..], &transaction].concat();
    let mut answer = [0; 1500];
    loop {
        socket.send(&request).await?;
        let Ok(length) = timeout(RESEND, socket.recv(&mut answer)).await else { continue };
        let answer = answer.get(..length?).unwrap_or_default();
        if answer.starts_with(&SUCCESS) && answer.get(4..20) == Some(&expected[..]) {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        for (url, wanted) in [
            ("stun:a.example", Some(("a.example", 3478, true))),
            ("turn:a.example:99?transport=udp", Some(("a.example", 99, true))),
            ("turn:a.example?transport=tcp", Some(("a.example", 3478, false))),
            ("turns:a.example", Some(("a.example", 5349, false))),
            ("turn:[::1]:99", Some(("::1", 99, true))),
            ("stun:[::1]", Some(("::1", 3478, true))),
            ("stun:a.example:x", None),
        ] {
            let target = Target::parse(url).map(|it| (it.host, it.port, it.udp));
            assert_eq!(target, wanted, "{url}");
        }
    }

    #[tokio::test]
    async fn a_server_that_answers_and_one_that_does_not() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let url = format!("stun:{}", server.local_addr().unwrap());
        let answering = async {
            let mut request = [0; 100];
            let (length, from) = server.recv_from(&mut request).await.unwrap();
            // What somebody else asked is no answer.
            server.send_to(&[0; 20], from).await.unwrap();
            let mut answer = request[..length].to_vec();
            answer[..2].copy_from_slice(&SUCCESS);
            let (_, from) = server.recv_from(&mut request).await.unwrap_or((0, from));
            server.send_to(&answer, from).await.unwrap();
        };
        let (reached, ()) = tokio::join!(reach(&url), answering);
        reached.unwrap();
        tokio::time::pause();
        assert_eq!(reach(&url).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
