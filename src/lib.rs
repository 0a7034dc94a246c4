//! The call service: who rings whom, on which devices, who answered first, why it ended.
//!
//! # One call's life
//!
//! 1. `main.rs` reads the settings ([`config`]) and hands them to [`server`], which makes the parts,
//!    binds the ports and sends each request to [`http`] or to [`socketio`].
//! 2. Alice's page connects. `socketio/engine/` speaks Engine.IO, `socketio/connection.rs` Socket.IO;
//!    `events/connect.rs` asks [`auth`] who she is, and `app/presence.rs` counts her in and tells her
//!    what goes on (`call:sync`).
//! 3. She calls Bob. `http/route.rs` finds out what `POST /start` is, `http/exchange.rs` reads its
//!    body, `wire/request.rs` turns it into something that cannot be wrong, or names the field that is.
//! 4. `app/starting.rs` holds both people still (`registry/admission.rs`) while it looks for the same
//!    key, for a call of hers, and for Bob calling her right now. `call/machine.rs` then decides: a
//!    call comes in, a call and its effects come out; no clock, no lock and no IO in there.
//! 5. `app/effects.rs` gives the change its place in `store/journal.rs` before the call's lock in
//!    `registry/calls.rs` is gone. One thread (`store/writer.rs`) commits whatever waits in one
//!    transaction. Only then does the answer leave, and do the events, each written once by
//!    `wire/event.rs` and shared by all receivers.
//! 6. Bob's devices ring: `call:incoming` with an acknowledgement. He answers on one: `events/ask.rs`
//!    reads `call:accept`, `app/calls.rs` carries it out as it does a REST join, `call/answering.rs`
//!    decides that he is the first, and his other devices hear `call:handled_elsewhere`.
//! 7. Their browsers find each other: `events/signal.rs` checks the envelope of `webrtc:*`,
//!    `app/relay.rs` says which device it goes to, and the payload passes byte for byte.
//!    With LiveKit, `app/starting.rs` made a room before Bob was rung, `media/livekit.rs` gives each a token
//!    for it, `app/hearing.rs` hears by webhook that their media is up, and `app/rooms.rs` looks at the
//!    room wherever that is in doubt.
//! 8. Bob's train enters a tunnel. His last socket is gone, `call/media.rs` gives him a grace, and
//!    `app/tending.rs` wakes the call when a deadline of `registry/deadlines.rs` has come
//!    (`call/deadlines.rs`).
//! 9. Somebody hangs up: `call/leaving.rs` says what the call ends with. Once that is durable the call
//!    leaves the registry, and `store/history.rs` and `store/stats.rs` tell of it.
//! 10. The process is killed: the next one reads the live calls back from the journal (`app/mod.rs`),
//!     with the time that remained on their timers.
//!
//! With `REDIS_URL` there may be other nodes, and each of these steps may be theirs. Of a call that another node
//! has (`bus/directory.rs` finds out which), what a client asks is an errand (`app/cluster/errand.rs`) that
//! `app/cluster/forwarding.rs` takes to that node; there it is decided as above, and put where the others
//! find it (`app/cluster/keeping.rs`) before it is answered. Its events go to the nodes that have sockets of
//! those concerned, one letter each (`app/cluster/news.rs`), and signaling from node to node
//! (`app/cluster/signaling.rs`). A node that is heard of no more (`app/cluster/peers.rs`) leaves its calls to
//! the others (`app/cluster/taking.rs`).
//!
//! With `DATABASE_URL`, what the file has is written behind to Postgres (`store/outbox.rs`,
//! `store/postgres/behind.rs`), and read from both as one (`store/whole.rs`).
//!
//! # Layers
//!
//! Every import points down, and `tests/layers.rs` says so: [`call`], [`socketio`] and [`config`] know
//! nobody; [`registry`], [`wire`], [`store`], [`bus`], [`media`], [`limits`] and [`auth`] stand on them; [`app`]
//! is the service; [`http`] and [`events`] are its two edges; [`parts`] makes what they stand on, and [`server`]
//! puts it together.

pub mod app;
pub mod auth;
pub mod bus;
pub mod call;
pub mod clock;
pub mod config;
pub mod events;
pub mod http;
pub mod limits;
pub mod media;
pub mod parts;
pub mod registry;
pub mod server;
pub mod shutdown;
pub mod socketio;
pub mod store;
pub mod telemetry;
pub mod wire;
