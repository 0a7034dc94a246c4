//! JSON in, as commands that can't be wrong; facts out, as JSON.

pub mod event;
pub mod fields;
pub mod invitation;
pub mod reply;
pub mod request;
pub mod time;
