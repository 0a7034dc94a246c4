//! Engine.IO v4: sessions of text and binary messages over long polling or a websocket.
//!
//! It knows no Socket.IO: what stands on it implements [`application::Application`].

pub mod answer;
pub mod application;
pub mod driven;
pub mod endpoint;
pub mod frame;
pub mod handshake;
pub mod heartbeat;
pub mod input;
pub mod options;
pub mod outbox;
pub mod packet;
pub mod polling;
pub mod random;
pub mod run;
pub mod session;
pub mod sink;
pub mod stream;
pub mod websocket;
