//! Arguments of events: JSON that is validated once and passed on as it came.

use std::fmt;

use serde::de::{Deserialize, Deserializer, SeqAccess, Visitor};
use serde_json::Value;
use serde_json::value::RawValue;
use smallvec::SmallVec;

/// A JSON array whose elements are raw text: valid JSON, not looked into.
#[derive(Clone, Debug)]
pub struct Array<'a>(SmallVec<[&'a RawValue; 4]>);

impl<'a> Array<'a> {
    /// Reads an array; `None` if `text` is not one, or is nested deeper than `depth_max`.
    pub fn parse(text: &'a str, depth_max: usize) -> Option<Self> {
        if is_deeper(text, depth_max) {
            return None;
        }
        serde_json::from_str(text).ok()
    }

    /// The elements.
    pub fn args(&self) -> Args<'_> {
        Args(&self.0)
    }
}

/// The arguments of an event or ack, each the JSON text that came.
#[derive(Clone, Copy, Debug)]
pub struct Args<'a>(&'a [&'a RawValue]);

impl<'a> Args<'a> {
    /// Takes the first one off; the others stay.
    pub fn split_first(self) -> Option<(&'a RawValue, Self)> {
        let (first, rest) = self.0.split_first()?;
        Some((first, Self(rest)))
    }

    /// The argument at this place.
    pub fn get(self, index: usize) -> Option<&'a RawValue> {
        self.0.get(index).copied()
    }

    /// The arguments in their order.
    pub fn iter(self) -> impl ExactSizeIterator<Item = &'a RawValue> {
        self.0.iter().copied()
    }

    /// How many there are.
    pub const fn len(self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub const fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    /// Appends them as they came, separated by commas.
    pub fn write(self, out: &mut Vec<u8>) {
        for (index, argument) in self.iter().enumerate() {
            if index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(argument.get().as_bytes());
        }
    }

    /// Whether each attachment they speak of is one of `count`. A placeholder that is not would
    /// have its reader reach for what is not there (CVE-2022-2421).
    pub fn placeholders_are_valid(self, count: usize) -> bool {
        self.iter().all(|argument| {
            let value = serde_json::from_str::<Value>(argument.get());
            value.is_ok_and(|it| placeholders_of(&it, count))
        })
    }
}

fn placeholders_of(value: &Value, count: usize) -> bool {
    match value {
        Value::Array(items) => items.iter().all(|it| placeholders_of(it, count)),
        Value::Object(members) if members.get("_placeholder") == Some(&Value::Bool(true)) => {
            let number = members.get("num").and_then(Value::as_u64);
            number.and_then(|it| usize::try_from(it).ok()).is_some_and(|it| it < count)
        }
        Value::Object(members) => members.values().all(|it| placeholders_of(it, count)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// An object as raw text; `None` if `text` is anything else, or nested deeper than `depth_max`.
pub fn object(text: &str, depth_max: usize) -> Option<&RawValue> {
    if is_deeper(text, depth_max) {
        return None;
    }
    let raw = serde_json::from_str::<&RawValue>(text).ok()?;
    raw.get().starts_with('{').then_some(raw)
}

/// Whether the brackets of `text` are nested deeper than this. Right for JSON; for anything else
/// the parser that follows says no.
fn is_deeper(text: &str, depth_max: usize) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'[' | b'{' => {
                depth += 1;
                if depth > depth_max {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' => skip_string(&mut bytes),
            _ => (),
        }
    }
    false
}

fn skip_string(bytes: &mut std::str::Bytes<'_>) {
    while let Some(byte) = bytes.next() {
        match byte {
            b'"' => return,
            b'\\' => drop(bytes.next()),
            _ => (),
        }
    }
}

impl<'de> Deserialize<'de> for Array<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;

        impl<'de> Visitor<'de> for Collect {
            type Value = Array<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array")
            }

            fn visit_seq<S: SeqAccess<'de>>(self, mut from: S) -> Result<Self::Value, S::Error> {
                let mut elements = SmallVec::new();
                while let Some(element) = from.next_element()? {
                    elements.push(element);
                }
                Ok(Array(elements))
            }
        }

        deserializer.deserialize_seq(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn texts(text: &str) -> Option<Vec<&str>> {
        Array::parse(text, 64).map(|it| it.0.into_iter().map(RawValue::get).collect())
    }

    #[test]
    fn arguments_stay_as_they_came() {
        type Row = (&'static str, Option<&'static [&'static str]>);
        let table: &[Row] = &[
            ("[]", Some(&[])),
            (r#"["a"]"#, Some(&[r#""a""#])),
            (
                r#"["a", 1.50 ,{"b": [ 1 ]},1e-7,null]"#,
                Some(&[r#""a""#, "1.50", r#"{"b": [ 1 ]}"#, "1e-7", "null"]),
            ),
            ("[1,2,3,4,5,6]", Some(&["1", "2", "3", "4", "5", "6"])),
            ("{}", None),
            ("", None),
            ("[1,]", None),
            ("[1]x", None),
            ("[1", None),
            ("[01]", None),
            ("[\"\u{1}\"]", None),
            (r#"["\q"]"#, None),
        ];
        for (text, wanted) in table {
            assert_eq!(texts(text).as_deref(), *wanted, "{text}");
        }
    }

    #[test]
    fn the_first_can_be_taken_off() {
        let array = Array::parse(r#"["name",1,"two"]"#, 64).unwrap();
        let (name, rest) = array.args().split_first().unwrap();
        assert_eq!((name.get(), rest.len()), (r#""name""#, 2));
        let mut out = Vec::new();
        rest.write(&mut out);
        assert_eq!(out, br#"1,"two""#);
        assert!(Array::parse("[]", 64).unwrap().args().split_first().is_none());
    }

    #[test]
    fn depth_is_bounded_and_brackets_in_strings_do_not_count() {
        let nested = |depth: usize| "[".repeat(depth) + &"]".repeat(depth);
        assert!(Array::parse(&nested(64), 64).is_some());
        assert!(Array::parse(&nested(65), 64).is_none());
        assert!(Array::parse(&nested(100_000), 64).is_none());
        assert!(Array::parse(r#"["[[[[\"[[[\\"]"#, 2).is_some());
        assert!(object(r#"{"a":{"b":{}}}"#, 2).is_none());
    }

    #[test]
    fn auth_payloads_are_objects() {
        for (text, valid) in
            [("{}", true), (r#"{"token":"x"}"#, true), ("[]", false), ("null", false), ("{", false)]
        {
            assert_eq!(object(text, 64).is_some(), valid, "{text}");
        }
    }

    #[test]
    fn placeholders() {
        let table = [
            (r#"[{"_placeholder":true,"num":0}]"#, 1, true),
            (r#"[{"_placeholder":true,"num":1}]"#, 1, false),
            (r#"[{"_placeholder":true,"num":-1}]"#, 1, false),
            (r#"[{"_placeholder":true,"num":0.5}]"#, 1, false),
            (r#"[{"_placeholder":true,"num":"splice"}]"#, 1, false),
            (r#"[{"_placeholder":true}]"#, 1, false),
            (r#"[{"a":[{"_placeholder":true,"num":7}]}]"#, 1, false),
            (r#"[{"_placeholder":false,"num":7}]"#, 1, true),
            (r#"[{"_placeholder":1,"num":7}]"#, 1, true),
            (r#"[{"\u005fplaceholder":true,"num":7}]"#, 1, false),
        ];
        for (text, count, valid) in table {
            let array = Array::parse(text, 64).unwrap();
            assert_eq!(array.args().placeholders_are_valid(count), valid, "{text}");
        }
    }

    proptest! {
        /// What serde_json takes for an array we take, and give back its elements unchanged.
        #[test]
        fn agrees_with_serde_json(text in r#"[\[\]{}",:0-9a-z\\ .eE+-]{0,40}"#) {
            let theirs = serde_json::from_str::<Vec<Box<RawValue>>>(&text).ok();
            let ours = Array::parse(&text, 64);
            prop_assert_eq!(ours.is_some(), theirs.is_some());
            if let (Some(ours), Some(theirs)) = (ours, theirs) {
                let ours: Vec<_> = ours.args().iter().map(RawValue::get).collect();
                let theirs: Vec<_> = theirs.iter().map(|it| it.get()).collect();
                prop_assert_eq!(ours, theirs);
            }
        }
    }
}
