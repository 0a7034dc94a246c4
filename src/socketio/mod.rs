//! To be written.
pub mod outlet;
