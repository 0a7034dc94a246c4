//! The call as a pure state machine: `(call, command, now) -> (call, effects)`.
//!
//! No IO, no clock, no lock, no `async`. What may be asked of a call and what follows is in
//! [`command`]; the rows of the life of a call are in [`machine`] and the files it ties together:
//! [`answering`] (who picks up), [`leaving`] (who goes, and why it ends), [`deadlines`] (what time does).

mod answering;
pub mod applied;
pub mod command;
mod deadlines;
pub mod id;
mod leaving;
pub mod machine;
pub mod media;
pub mod model;
pub mod participant;
pub mod pass;
pub mod quality;
pub mod record;
pub mod recording;
pub mod state;
pub mod time;

#[cfg(test)]
mod tests;
