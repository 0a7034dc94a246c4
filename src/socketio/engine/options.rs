//! The settings of an endpoint, each with its bound.

use std::time::Duration;

use crate::socketio::engine::stream::{TakeTcp, take_bare_tcp};

/// From which web pages browsers may use the endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CorsOrigins {
    /// Any page: `Access-Control-Allow-Origin: *`.
    Any,
    /// Pages of these origins (`scheme://host[:port]`) and of the endpoint's own host.
    List(Vec<String>),
    /// Pages of the endpoint's own host alone; no CORS header is sent.
    None,
}

/// Settings of an endpoint. The defaults are those of the service; each is a bound on what one
/// client may cost.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where the endpoint is mounted, with slashes at both ends.
    pub path: String,
    /// Time between a pong and the next ping. Shorter finds dead peers sooner and costs 9 us each.
    pub ping_interval: Duration,
    /// Time a client has to answer a ping.
    pub ping_timeout: Duration,
    /// Bytes of one message or of one POST body.
    pub max_payload: usize,
    /// Time a connection has to enter its first namespace.
    pub connect_timeout: Duration,
    /// Time a probing websocket has to finish the upgrade.
    pub upgrade_timeout: Duration,
    /// Time a POST body has to arrive.
    pub body_timeout: Duration,
    /// Time a receiver may go without taking one byte of what waits for it.
    pub write_timeout: Duration,
    /// Which pages may connect.
    pub cors_origins: CorsOrigins,
    /// Bytes that may wait for one client before it is closed as a slow consumer.
    pub queue_bytes_max: usize,
    /// Binary attachments of one event; the reference's limit is 10.
    pub attachments_max: usize,
    /// Frames of one fragmented websocket message.
    pub fragments_max: usize,
    /// Engine.IO packets in one POST.
    pub packets_per_post_max: usize,
    /// Namespaces one connection may be in at once.
    pub namespaces_per_connection_max: usize,
    /// Acks that may be awaited from one socket at once.
    pub pending_acks_max: usize,
    /// Sessions that may be open at once; more are answered with 503.
    pub sessions_max: usize,
    /// How plain TCP is taken out of an upgraded connection: what an accept loop wraps around the
    /// stream, only it can take off.
    pub take_tcp: TakeTcp,
    /// How deep JSON may be nested. A defence of handlers that descend into arguments.
    pub json_depth_max: usize,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            path: "/socket.io/".to_owned(),
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            max_payload: 64 * 1024,
            connect_timeout: Duration::from_secs(10),
            upgrade_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(10),
            write_timeout: Duration::from_secs(10),
            cors_origins: CorsOrigins::None,
            queue_bytes_max: 256 * 1024,
            attachments_max: 10,
            fragments_max: 64,
            packets_per_post_max: 64,
            namespaces_per_connection_max: 4,
            pending_acks_max: 64,
            sessions_max: 100_000,
            take_tcp: take_bare_tcp,
            json_depth_max: 64,
        }
    }
}
