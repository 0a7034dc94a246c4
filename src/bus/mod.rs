//! Between nodes: who owns which call, where whose sockets are, and letters from node to node.
//!
//! What all nodes share lies in Redis, one key for each thing ([`directory`]); a letter ([`letter`]) goes to
//! the mailbox of one node, and letters of one node to another arrive in the order in which they were
//! posted, or not at all. Nothing here knows what a call does.

pub mod directory;
pub mod error;
pub mod letter;
#[cfg(test)]
pub(crate) mod memory;
pub mod node;
mod redis;
mod reply;
mod script;
#[cfg(test)]
mod tests;
