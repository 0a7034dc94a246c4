//! What one node tells another, and how it is written down.
//!
//! A message of the mailbox's channel is one letter after the other, each behind its length. A letter
//! begins with its version: nodes of two versions work side by side while one replaces the other.

use bytes::{Buf, BufMut, Bytes, BytesMut};
use uuid::Uuid;

use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};

/// Bytes of one letter, at most: a payload of 64 KiB with all that stands around it.
pub const LETTER_BYTES_MAX: usize = 128 * 1024;
/// Those who one letter is for, at most: as many as a call has, with room to spare.
pub const RECEIVERS_MAX: usize = 1024;
/// What this version writes, and the only one that it reads.
const VERSION: u8 = 1;

/// What a letter is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Something is to be done with a call; an answer is waited for.
    Ask,
    /// The answer.
    Answer,
    /// What happened in a call, for users of the receiver.
    News,
    /// Signaling from one participant to another.
    Signal,
    /// The calls that changed lately, with the numbers of their last events.
    Digest,
    /// A node's word to itself: its own mailbox works.
    Echo,
}

impl Kind {
    const ALL: [Self; 6] =
        [Self::Ask, Self::Answer, Self::News, Self::Signal, Self::Digest, Self::Echo];

    /// Numbers stay what they are: other versions know them.
    fn number(self) -> u8 {
        match self {
            Self::Ask => 1,
            Self::Answer => 2,
            Self::News => 3,
            Self::Signal => 4,
            Self::Digest => 5,
            Self::Echo => 6,
        }
    }
}

/// One letter. Its body is whatever the kind says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// What it is about.
    pub kind: Kind,
    /// Names the command; its answer bears the same.
    pub id: u128,
    /// Who wrote it.
    pub from: NodeId,
    /// The call it is about; nil where it is about none.
    pub call: CallId,
    /// Ownership of the call.
    pub epoch: u64,
    /// The number of the call's last event that it tells of.
    pub seq: u64,
    /// The number of the last event told to the receiver before.
    pub prev: u64,
    /// Whose it is, where it is somebody's.
    pub to: Vec<UserId>,
    /// The rest.
    pub body: Bytes,
}

impl Letter {
    /// Writes it down; `None` where it is too long.
    pub fn encode(&self) -> Option<Bytes> {
        let names: usize = self.to.iter().map(|it| it.as_str().len() + 1).sum();
        let mut out = BytesMut::with_capacity(names + self.body.len() + 192);
        out.put_u8(VERSION);
        out.put_u8(self.kind.number());
        out.put_u128(self.id);
        out.put_u128(self.call.0.as_u128());
        out.put_u64(self.epoch);
        out.put_u64(self.seq);
        out.put_u64(self.prev);
        put_name(&mut out, self.from.as_str())?;
        out.put_u16(u16::try_from(self.to.len()).ok().filter(|_| self.to.len() <= RECEIVERS_MAX)?);
        for user in &self.to {
            put_name(&mut out, user.as_str())?;
        }
        out.put_slice(&self.body);
        (out.len() <= LETTER_BYTES_MAX).then(|| out.freeze())
    }

    /// Reads it; `None` where it is of another version, of a kind nobody knows, or no letter.
    pub fn decode(mut from: Bytes) -> Option<Self> {
        if from.len() > LETTER_BYTES_MAX || from.try_get_u8().ok()? != VERSION {
            return None;
        }
        let number = from.try_get_u8().ok()?;
        let kind = Kind::ALL.into_iter().find(|it| it.number() == number)?;
        let id = from.try_get_u128().ok()?;
        let call = CallId(Uuid::from_u128(from.try_get_u128().ok()?));
        let [epoch, seq, prev] = [from.try_get_u64(), from.try_get_u64(), from.try_get_u64()];
        let writer = NodeId::parse(&take_name(&mut from)?)?;
        let count = usize::from(from.try_get_u16().ok()?);
        if count > RECEIVERS_MAX {
            return None;
        }
        // Not made for `count`: what is not there must not cost memory.
        let mut to = Vec::new();
        for _ in 0..count {
            to.push(UserId::parse(&take_name(&mut from)?).ok()?);
        }
        let (epoch, seq, prev) = (epoch.ok()?, seq.ok()?, prev.ok()?);
        Some(Self { kind, id, from: writer, call, epoch, seq, prev, to, body: from })
    }
}

fn put_name(out: &mut BytesMut, name: &str) -> Option<()> {
    out.put_u8(u8::try_from(name.len()).ok()?);
    out.put_slice(name.as_bytes());
    Some(())
}

fn take_name(from: &mut Bytes) -> Option<String> {
    let length = usize::from(from.try_get_u8().ok()?);
    if from.len() < length {
        return None;
    }
    String::from_utf8(from.split_to(length).into()).ok()
}

/// Adds a letter to a message.
pub(super) fn enclose(message: &mut BytesMut, letter: &[u8]) {
    // No letter is longer than LETTER_BYTES_MAX.
    message.put_u32(u32::try_from(letter.len()).unwrap_or(u32::MAX));
    message.put_slice(letter);
}

/// The letters of a message in their order: `None` in the place of each that can't be read. Where a length
/// is wrong, the rest is one of those.
pub(super) fn unpack(mut message: Bytes) -> impl Iterator<Item = Option<Letter>> {
    std::iter::from_fn(move || {
        if message.is_empty() {
            return None;
        }
        let length = message.try_get_u32().ok().and_then(|it| usize::try_from(it).ok());
        match length {
            Some(length) if length <= message.len() => {
                Some(Letter::decode(message.split_to(length)))
            }
            _ => {
                message.clear();
                Some(None)
            }
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    fn letter() -> impl Strategy<Value = Letter> {
        let from = "[a-zA-Z0-9_-]{1,64}\\.[0-9a-f]{20}";
        let numbers = (any::<u128>(), any::<u128>(), any::<[u64; 3]>());
        let rest = (vec("[A-Za-z0-9_.:@=-]{1,64}", 0..20), vec(any::<u8>(), 0..3000));
        (0..Kind::ALL.len(), numbers, from, rest).prop_map(|(kind, numbers, from, (to, body))| {
            let (id, call, [epoch, seq, prev]) = numbers;
            Letter {
                kind: Kind::ALL[kind],
                id,
                from: NodeId::parse(&from).unwrap(),
                call: CallId(Uuid::from_u128(call)),
                epoch,
                seq,
                prev,
                to: to.iter().map(|it| UserId::parse(it).unwrap()).collect(),
                body: body.into(),
            }
        })
    }

    fn packed(letters: &[Letter]) -> Bytes {
        let mut message = BytesMut::new();
        for letter in letters {
            enclose(&mut message, &letter.encode().unwrap());
        }
        message.freeze()
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(letters in vec(letter(), 0..4)) {
            let read: Vec<_> = unpack(packed(&letters)).map(Option::unwrap).collect();
            prop_assert_eq!(read, letters);
        }

        #[test]
        fn whatever_comes_is_read_or_refused(bytes in vec(any::<u8>(), 0..600)) {
            let length = bytes.len();
            let letters = unpack(Bytes::from(bytes)).flatten();
            prop_assert!(letters.map(|it| it.body.len() + it.to.len()).sum::<usize>() <= length);
        }

        #[test]
        fn one_with_a_wrong_byte_is_another_or_refused(
            letters in vec(letter(), 1..3), at in any::<prop::sample::Index>(), byte in any::<u8>(),
        ) {
            let mut message = packed(&letters).to_vec();
            let at = at.index(message.len());
            message[at] = byte;
            prop_assert!(unpack(message.into()).count() <= 1000);
        }
    }

    /// Other versions read this: it may be added to under another version, and not be changed.
    #[test]
    fn golden() {
        let letter = Letter {
            kind: Kind::News,
            id: 1,
            from: NodeId::parse("a.000000000000000000ff").unwrap(),
            call: CallId(Uuid::from_u128(2)),
            epoch: 3,
            seq: 4,
            prev: 5,
            to: vec![UserId::parse("bob").unwrap()],
            body: Bytes::from_static(b"{}"),
        };
        let bytes: Vec<u8> = letter.encode().unwrap().to_vec();
        #[rustfmt::skip]
        let golden = [
            // The version, the kind, the id, the call.
            &[1, 3][..],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
            &[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
            // Ownership, this event, the one before.
            &[0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 5],
            // From whom, to whom, and what.
            &[22], b"a.000000000000000000ff", &[0, 1, 3], b"bob", b"{}",
        ];
        assert_eq!(bytes, golden.concat());
        assert_eq!(Letter::decode(bytes.clone().into()), Some(letter));
        for (at, byte) in [(0, 2), (1, 0), (1, 7)] {
            let mut other = bytes.clone();
            other[at] = byte;
            assert_eq!(Letter::decode(other.into()), None, "another version or kind");
        }
    }

    #[test]
    fn bounds() {
        let mut letter = Letter {
            kind: Kind::Signal,
            id: 0,
            from: NodeId::fresh("node").unwrap(),
            call: CallId(Uuid::nil()),
            epoch: 0,
            seq: 0,
            prev: 0,
            to: vec![UserId::parse(&"x".repeat(64)).unwrap(); 50],
            body: vec![0; 64 * 1024].into(),
        };
        assert!(letter.encode().is_some(), "a payload of 64 KiB for fifty");
        letter.body = vec![0; LETTER_BYTES_MAX].into();
        assert_eq!(letter.encode(), None);
        letter.body = Bytes::new();
        letter.to = vec![UserId::parse("x").unwrap(); RECEIVERS_MAX + 1];
        assert_eq!(letter.encode(), None);
    }
}
