//! Identifiers that cannot be guessed.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Characters of an identifier's text: 128 bits, six a character.
const TEXT_LENGTH: usize = 22;

/// 128 random bits from the operating system; written as 22 characters of URL-safe base64.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RandomId(u128);

impl RandomId {
    /// A fresh one; `None` if the operating system has no randomness to give.
    pub fn generate() -> Option<Self> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).ok()?;
        Some(Self(u128::from_be_bytes(bytes)))
    }

    /// One that a test knows before.
    #[cfg(test)]
    pub(crate) fn of(bits: u128) -> Self {
        Self(bits)
    }
}

impl fmt::Display for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; TEXT_LENGTH];
        let written = URL_SAFE_NO_PAD.encode_slice(self.0.to_be_bytes(), &mut text);
        let text = written.ok().and_then(|length| text.get(..length));
        f.write_str(text.and_then(|it| str::from_utf8(it).ok()).unwrap_or_default())
    }
}

/// Shortened: an Engine.IO id is a secret, and who reads logs must not be able to use it.
impl fmt::Debug for RandomId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}..", self.0 >> 96)
    }
}

/// The text is not an identifier.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an identifier of {TEXT_LENGTH} characters")]
pub struct NotAnId;

impl FromStr for RandomId {
    type Err = NotAnId;

    fn from_str(text: &str) -> Result<Self, NotAnId> {
        let mut bytes = [0; 18];
        let written = match text.len() {
            TEXT_LENGTH => URL_SAFE_NO_PAD.decode_slice(text, &mut bytes).unwrap_or_default(),
            _ => 0,
        };
        let bits = bytes.get(..written).and_then(|it| <[u8; 16]>::try_from(it).ok());
        bits.map(|bits| Self(u128::from_be_bytes(bits))).ok_or(NotAnId)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_survives_its_text() {
        for _ in 0..100 {
            let id = RandomId::generate().unwrap();
            assert_eq!(id.to_string().parse(), Ok(id));
            assert_eq!(id.to_string().len(), TEXT_LENGTH);
        }
    }

    #[test]
    fn other_texts_are_no_ids() {
        let long = "A".repeat(100_000);
        for text in
            ["", "nope", "__proto__", "AAAAAAAAAAAAAAAAAAAAA", "AAAAAAAAAAAAAAAAAAAA+/", &long]
        {
            assert_eq!(text.parse::<RandomId>(), Err(NotAnId), "{text:.30}");
        }
    }

    #[test]
    fn debug_does_not_give_a_session_away() {
        let id = RandomId::generate().unwrap();
        assert_eq!(format!("{id:?}").len(), 10);
    }
}
