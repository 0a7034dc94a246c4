//! The call service: who rings whom, on which devices, who answered first, why it ended.
//!
//! Five layers under `main.rs`; every import points down, and `tests/layers.rs` says so.

pub mod app;
pub mod auth;
pub mod call;
pub mod clock;
pub mod config;
pub mod events;
pub mod http;
pub mod limits;
pub mod media;
pub mod registry;
pub mod server;
pub mod shutdown;
pub mod socketio;
pub mod store;
pub mod telemetry;
pub mod wire;
