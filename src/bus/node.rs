//! Names of nodes.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// Bytes of a node's own name, at most.
pub const NODE_NAME_BYTES_MAX: usize = 64;

/// Hexadecimal digits of a run: the first are its folder's, the others random.
const DIGITS: usize = 20;
const FOLDER_DIGITS: usize = 6;

/// One run of one node: `name.digits`, so that one that comes back is not taken for the one that went. The digits tell
/// folders apart too: two nodes that were given the same name are not the same.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Arc<str>);

impl NodeId {
    /// A run that nobody has seen before of the node `name`. Its `folder` has a name of its own, of six hexadecimal digits
    /// at least. `None` where either is none, or the system has no randomness to give.
    pub fn run_of(name: &str, folder: &str) -> Option<Self> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).ok()?;
        let random = format!("{:016x}", u64::from_ne_bytes(random));
        let (folder, random) =
            (folder.get(..FOLDER_DIGITS)?, random.get(..DIGITS - FOLDER_DIGITS)?);
        Self::parse(&format!("{name}.{folder}{random}"))
    }

    /// The same of a node without a folder.
    pub fn fresh(name: &str) -> Option<Self> {
        Self::run_of(name, &folder_of(name))
    }

    /// The same for tests that are repeated: of that number, and no other.
    #[cfg(test)]
    pub(crate) fn numbered(name: &str, number: u32) -> Option<Self> {
        Self::parse(&format!("{name}.{}00000000{:06x}", folder_of(name), number & 0xff_ffff))
    }

    /// Whether both are runs of the same node.
    pub fn is_run_of(&self, other: &Self) -> bool {
        let node = |it: &Self| {
            it.0.rsplit_once('.').map(|(name, digits)| {
                (name.to_owned(), digits.get(..FOLDER_DIGITS).map(str::to_owned))
            })
        };
        node(self) == node(other)
    }

    /// Takes `name.digits`: letters, digits, `-` and `_`, then twenty hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let (name, random) = text.rsplit_once('.')?;
        let plain = |it: u8| it.is_ascii_alphanumeric() || it == b'-' || it == b'_';
        let fine = (1..=NODE_NAME_BYTES_MAX).contains(&name.len())
            && name.bytes().all(plain)
            && random.len() == DIGITS
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

/// A folder's name where there is none.
fn folder_of(name: &str) -> String {
    let add = |sum: u32, byte: u8| sum.wrapping_mul(31).wrapping_add(byte.into());
    format!("{:06x}", name.bytes().fold(0, add) & 0xff_ffff)
}

impl TryFrom<String> for NodeId {
    type Error = &'static str;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("not the name of a node")
    }
}

impl From<NodeId> for String {
    fn from(node: NodeId) -> Self {
        node.as_str().to_owned()
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_one_folder_are_of_one_node() {
        let run = |name: &str, folder: &str| NodeId::run_of(name, folder);
        let [first, again] = [(); 2].map(|()| run("a", "0123456789ab").unwrap());
        assert!(first != again && first.is_run_of(&again) && first.name() == "a");
        assert!(!first.is_run_of(&run("b", "0123456789ab").unwrap()), "another name");
        assert!(!first.is_run_of(&run("a", "0123466789ab").unwrap()), "another folder");
        for (name, folder) in [("a", "12345"), ("a", "no hex"), ("", "012345"), ("a b", "012345")] {
            assert!(run(name, folder).is_none(), "{name} {folder}");
        }
    }
}
