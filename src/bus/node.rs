//! Names of nodes.

use std::fmt;
use std::sync::Arc;

/// Bytes of a node's own name, at most.
pub const NODE_NAME_BYTES_MAX: usize = 64;

/// One run of one node: `name.random`, so that one that comes back is not taken for the one that went.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A run of the node `name` that nobody has seen before.
    pub fn fresh(name: &str) -> Option<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).ok()?;
        Self::parse(&format!("{name}.{:016x}", u64::from_ne_bytes(random)))
    }

    /// Takes `name.random`: letters, digits, `-` and `_`, then 16 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, random) = text.rsplit_once('.')?;
        let plain = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
        let fine = (1..=NODE_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(plain)
            && random.len() == 16
            && random.bytes().all(|it| it.is_ascii_hexdigit());
        fine.then(|| Self(Arc::from(text)))
    }

    /// The node, whichever run of it this is.
    pub fn name(&self) -> &str {
        self.0.rsplit_once('.').map_or("", |(name, _)| name)
    }

    /// The whole.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
