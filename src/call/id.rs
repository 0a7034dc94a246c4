//! Names of users, devices, chats and calls.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use uuid::Uuid;

/// Characters of an opaque id, at most (contract, section 3).
pub const OPAQUE_ID_CHARS_MAX: usize = 64;

/// An id that breaks the rules of the contract's section 3.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("1 to 64 characters of A-Z a-z 0-9 _ . : @ = -")]
pub struct InvalidId;

fn opaque(text: &str) -> Result<Arc<str>, InvalidId> {
    let allowed = |it: u8| it.is_ascii_alphanumeric() || b"_.:@=-".contains(&it);
    if text.is_empty() || text.len() > OPAQUE_ID_CHARS_MAX || !text.bytes().all(allowed) {
        return Err(InvalidId);
    }
    Ok(Arc::from(text))
}

macro_rules! opaque_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize)]
        #[serde(try_from = "String")]
        pub struct $name(Arc<str>);

        impl $name {
            /// Takes `text` where it is 1 to 64 characters of `A-Z a-z 0-9 _ . : @ = -`.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                opaque(text).map(Self)
            }

            /// The id as it came.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidId;
            fn try_from(text: String) -> Result<Self, InvalidId> {
                Self::parse(&text)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }

        /// Shortened: logs must not say who called whom.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let shown = self.0.get(..self.0.len().min(3)).unwrap_or_default();
                write!(f, "{}({shown}~)", stringify!($name))
            }
        }
    };
}

opaque_id! {
    /// A user of the messenger, as the messenger names it.
    UserId
}
opaque_id! {
    /// One device of a user: what the client calls itself, or a name made for its socket.
    DeviceId
}
opaque_id! {
    /// The chat a call belongs to, as the messenger names it.
    ChatId
}

/// A call: a UUIDv7, so that ids sort by creation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct CallId(pub Uuid);

impl CallId {
    /// Takes the hyphenated form only, upper or lower case.
    pub fn parse(text: &str) -> Option<Self> {
        (text.len() == 36).then(|| Uuid::try_parse(text).ok().map(Self)).flatten()
    }

    /// The name of the call's media room.
    pub fn room(self) -> String {
        format!("room_{}", self.0)
    }

    /// The call whose media room has that name, if any.
    pub fn of_room(name: &str) -> Option<Self> {
        Self::parse(name.strip_prefix("room_")?)
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opaque_ids() {
        let long = "x".repeat(65);
        for (text, fine) in [
            ("a", true),
            ("user-1_x.y:z@w=", true),
            (&"x".repeat(64), true),
            ("", false),
            (&long, false),
            ("a b", false),
            ("ä", false),
            ("a/b", false),
        ] {
            assert_eq!(UserId::parse(text).is_ok(), fine, "{text}");
        }
    }

    #[test]
    fn debug_does_not_tell_the_user() {
        assert_eq!(format!("{:?}", UserId::parse("alice").unwrap()), "UserId(ali~)");
    }

    #[test]
    fn call_ids() {
        let id = "0193d5f0-0000-7000-8000-000000000001";
        assert_eq!(CallId::parse(id).unwrap().to_string(), id);
        for wrong in [
            "",
            "start",
            "0193d5f0000070008000000000000001",
            "{0193d5f0-0000-7000-8000-000000000001}",
        ] {
            assert_eq!(CallId::parse(wrong), None, "{wrong}");
        }
    }
}
