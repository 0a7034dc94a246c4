//! What is kept: every change of every call, durable before anyone hears of it.
//!
//! Writes have one door, [`journal`]: a bounded queue before one writer thread, which puts all
//! that waits into one transaction (group commit) (`writer`, `write`). Reads go
//! through `readers` on connections of their own and never hold up the writer: one call, a user's
//! [`history`], [`stats`], a call's [`quality`], its recordings and its [`story`]. [`retention`] forgets what is due.
//! [`sqlite`] owns the file: the lock on its directory, its tables, what happens when it is damaged.
//!
//! With [`postgres`], the file is journal and hot store, and what it holds is written behind: `outbox`
//! notes what is not there yet, `tables` says how a row goes over, and [`whole`] reads both as one. What
//! has become another node's is `released`: no longer read from the file, though it may still be there.

mod cells;
mod checkpoint;
mod connection;
mod ends;
pub mod error;
pub mod history;
pub mod journal;
pub mod options;
mod outbox;
pub mod postgres;
pub mod quality;
mod queue;
mod readers;
mod recordings;
mod released;
pub mod retention;
mod rows;
pub mod sqlite;
pub mod stats;
pub mod story;
mod tables;
pub mod whole;
mod write;
mod writer;

use std::sync::Arc;

use uuid::Uuid;

use crate::call::id::{CallId, UserId};
use crate::call::quality::Sample;
use crate::call::record::{CallRecord, ParticipantRecord, RecordingRecord};
use crate::call::state::Quality;
use crate::call::time::Timestamp;

/// One change of one call, in the order it happened.
#[derive(Debug)]
pub struct Change {
    /// The call after the change.
    pub call: CallRecord,
    /// The participants that changed.
    pub participants: Vec<ParticipantRecord>,
    /// The events that the change made.
    pub story: Vec<StoryEvent>,
    /// The machine's snapshot; `None`: the call is over, its live row goes.
    pub live: Option<String>,
    /// The recordings that began or ended with the change.
    pub recordings: Vec<RecordingRecord>,
    /// The client's key, with a start.
    pub idempotency_key: Option<IdempotencyKey>,
}

/// Who sent a key, and the key.
pub type IdempotencyKey = (UserId, Box<str>);

/// One event of a call, as it was sent.
#[derive(Debug, Clone)]
pub struct StoryEvent {
    /// The call.
    pub call: CallId,
    /// The event's number in its call.
    pub seq: u64,
    /// When it happened.
    pub at: Timestamp,
    /// The event's name on the wire.
    pub name: &'static str,
    /// Who is meant to see it.
    pub to: Vec<UserId>,
    /// The event's payload: a JSON object.
    pub data: Arc<str>,
}

/// One quality sample of one participant, with an id and a rating.
#[derive(Debug, Clone)]
pub struct StoredSample {
    /// The sample's own id.
    pub id: Uuid,
    /// The call.
    pub call: CallId,
    /// The participant's own id, not the user's.
    pub participant: Uuid,
    /// When it came.
    pub at: Timestamp,
    /// What the client measured.
    pub sample: Sample,
    /// How it was rated.
    pub quality: Quality,
}

/// What the journal takes.
#[derive(Debug)]
pub enum Record {
    /// A change of a call.
    Change(Box<Change>),
    /// A quality sample.
    Sample(Box<StoredSample>),
    /// What has become of a recording, during its call or after.
    Recording(Box<RecordingRecord>),
    /// The call is another node's now, and what is here of it no longer the newest. A change of it
    /// that is stored later makes it this node's again.
    Released(CallId),
}

#[cfg(test)]
mod durability;
#[cfg(test)]
mod fixture;
#[cfg(test)]
mod nodes;
