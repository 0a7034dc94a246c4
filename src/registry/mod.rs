//! The live calls of this node, and who belongs to them. Truth about a call lives in the call alone;
//! the registry finds it, guards it, and knows when time has to look at it again.

pub mod admission;
pub mod calls;
mod deadlines;
