//! The Socket.IO layer from outside: raw HTTP and websockets against a small service.
#![expect(clippy::expect_used, clippy::panic, reason = "tests fail by panicking")]
#![expect(clippy::indexing_slicing, reason = "an index that is out of bounds fails the test")]

mod acks;
mod attacks;
mod backlog;
mod closing;
mod namespaces;
mod polling;
mod support;
mod upgrade;
mod websocket;
