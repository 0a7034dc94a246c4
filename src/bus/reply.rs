//! From what a script answers to what it means.

use bytes::Bytes;

use crate::bus::directory::{Claim, Found, Mark, User};
use crate::bus::node::NodeId;
use crate::call::id::{CallId, UserId};

/// An answer, as Redis has them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Reply {
    /// Nothing.
    Nil,
    /// A whole number.
    Number(i64),
    /// Text or bytes.
    Text(Bytes),
    /// Several answers.
    List(Vec<Self>),
}

/// An answer that makes no sense.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Odd;

/// Nodes with their last beats.
type Beats = Vec<(NodeId, i64)>;

impl Reply {
    pub(super) fn number(&self) -> Option<i64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Nil | Self::Text(_) | Self::List(_) => self.text()?.parse().ok(),
        }
    }

    pub(super) fn text(&self) -> Option<&str> {
        std::str::from_utf8(self.bytes()?).ok()
    }

    fn bytes(&self) -> Option<&Bytes> {
        match self {
            Self::Text(bytes) => Some(bytes),
            Self::Nil | Self::Number(_) | Self::List(_) => None,
        }
    }

    pub(super) fn list(&self) -> Option<&[Self]> {
        match self {
            Self::List(list) => Some(list),
            Self::Nil | Self::Number(_) | Self::Text(_) => None,
        }
    }

    fn unsigned(&self) -> Option<u64> {
        self.text()?.parse().ok()
    }

    pub(super) fn call(&self) -> Option<CallId> {
        CallId::parse(self.text()?)
    }

    /// A call's fields.
    pub(super) fn found(&self) -> Option<Found> {
        let [owner, epoch, seq, over, snapshot] = self.list()? else { return None };
        Some(Found {
            owner: NodeId::parse(owner.text()?)?,
            epoch: epoch.unsigned()?,
            seq: seq.unsigned()?,
            over: over.text()? == "1",
            snapshot: snapshot.bytes()?.clone(),
        })
    }

    /// A call's fields, or that there is no such call.
    pub(super) fn found_or_not(&self) -> Result<Option<Found>, Odd> {
        match self.list() {
            Some([Self::Nil, _, _, _, _]) => Ok(None),
            _ => self.found().map(Some).ok_or(Odd),
        }
    }

    pub(super) fn claim(&self) -> Option<Claim> {
        if *self == Self::Nil {
            return Some(Claim::Nothing);
        }
        let [ours, epoch, was] = self.list()? else { return None };
        let (epoch, was) = (epoch.unsigned()?, was.found()?);
        Some(match ours.number()? {
            1 => Claim::Ours { epoch, was: Some(was) },
            _ => Claim::Theirs(was),
        })
    }

    /// Nodes with their last beats.
    pub(super) fn beats(&self) -> Option<Beats> {
        let pair = |pair: &[Self]| match pair {
            [name, score] => Some((NodeId::parse(name.text()?)?, score.number()?)),
            _ => None,
        };
        Some(self.list()?.chunks(2).filter_map(pair).collect())
    }

    /// A user's fields. Whatever is not understood is passed over: a later version may have put it there.
    pub(super) fn user(&self) -> Option<User> {
        let mut user = User::default();
        for pair in self.list()?.chunks(2) {
            if let [field, value] = pair {
                note(&mut user, field, value);
            }
        }
        user.calls.sort_by_key(|(call, ..)| *call);
        user.nodes.sort();
        Some(user)
    }

    /// A number, and a user.
    pub(super) fn and_user(&self) -> Option<(i64, User)> {
        let [number, user] = self.list()? else { return None };
        Some((number.number()?, user.user()?))
    }
}

fn note(user: &mut User, field: &Reply, value: &Reply) -> Option<()> {
    let (field, value) = (field.text()?, value.text()?);
    match field.split_once(':') {
        None if field == "in" => user.joined = CallId::parse(value),
        None if field == "to" => user.calling = UserId::parse(value).ok(),
        Some(("c", call)) => {
            let (owner, mark) = value.split_once(' ')?;
            user.calls.push((CallId::parse(call)?, NodeId::parse(owner)?, Mark::parse(mark)?));
        }
        Some(("n", node)) => user.nodes.push((NodeId::parse(node)?, value.parse().ok()?)),
        _ => {}
    }
    Some(())
}

impl Mark {
    /// As it stands in a user's fields.
    pub(super) fn written(&self) -> String {
        match self {
            Self::RungBy(user) => format!("r:{user}"),
            Self::Rung => "r".to_owned(),
            Self::Member => "m".to_owned(),
        }
    }

    fn parse(text: &str) -> Option<Self> {
        match text.split_once(':') {
            None if text == "r" => Some(Self::Rung),
            None if text == "m" => Some(Self::Member),
            Some(("r", user)) => UserId::parse(user).ok().map(Self::RungBy),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Reply {
        let text = |it: &&str| Reply::Text(Bytes::copy_from_slice(it.as_bytes()));
        Reply::List(texts.iter().map(text).collect())
    }

    #[test]
    fn what_is_not_understood_is_passed_over() {
        let [call, node] = ["0193d5f0-0000-7000-8000-000000000001", "a.00000000000000000001"];
        let (known, odd) = (format!("c:{call}"), format!("c:{call}x"));
        let mark = format!("{node} r:bob");
        let at = format!("n:{node}");
        let fields = ["in", "?", &odd, &mark, &known, &mark, &at, "1", "n:", "1", "x:y", "", "z"];
        let user = list(&fields).user().unwrap();
        let bob = UserId::parse("bob").unwrap();
        let wanted = User {
            calls: vec![(
                CallId::parse(call).unwrap(),
                NodeId::parse(node).unwrap(),
                Mark::RungBy(bob),
            )],
            nodes: vec![(NodeId::parse(node).unwrap(), 1)],
            ..User::default()
        };
        assert_eq!(user, wanted);
        for value in
            ["", " ", "a.00000000000000000001", "a.00000000000000000001 ", "a.1 m", "x r: y"]
        {
            assert_eq!(list(&[&known, value]).user().unwrap(), User::default(), "{value}");
        }
    }

    #[test]
    fn answers_that_make_no_sense() {
        for reply in [Reply::Nil, Reply::Number(1), list(&[]), list(&["a", "b", "c", "d", "e"])] {
            assert_eq!(reply.found_or_not(), Err(Odd));
            assert_eq!(reply.and_user(), None);
            assert!(matches!(reply.claim(), None | Some(Claim::Nothing)));
        }
    }
}
