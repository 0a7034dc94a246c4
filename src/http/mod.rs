//! The HTTP edge: from a socket to one request with its bounds kept, and back.
//!
//! [`listener`] accepts and serves connections, [`guard`] refuses what two readers of one byte
//! stream could understand differently, [`tls`] encrypts. [`route`] says what a request is for,
//! [`exchange`] reads its body and writes the answer, [`console`] and [`openapi`] are what is
//! served from memory.

pub mod console;
pub mod exchange;
mod framing;
pub mod gate;
pub mod guard;
pub mod inbound;
pub mod listener;
pub mod openapi;
pub mod probes;
mod query;
pub mod route;
pub mod service;
pub mod tls;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Response;

/// Every body that goes out is in memory as a whole.
pub type Body = Full<Bytes>;
/// An answer.
pub type Reply = Response<Body>;
