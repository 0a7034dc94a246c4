//! Reading the fields of a JSON object, with errors that name the field.

use std::borrow::Cow;

use simd_json::BorrowedValue;
use simd_json::prelude::{
    TypedScalarValue, ValueAsArray, ValueAsObject, ValueAsScalar, ValueBuilder, ValueObjectAccess,
};

use crate::call::id::{CallId, ChatId, UserId};

/// What of a wrong value is shown back, in characters.
const SHOWN_CHARS_MAX: usize = 40;

/// Depth of nesting at most; deeper JSON is refused before it is parsed.
pub const JSON_DEPTH_MAX: usize = 16;

/// What is wrong with a request, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct Malformed {
    /// The field's name, `body` for the whole.
    pub field: Cow<'static, str>,
    /// What was there, shortened.
    pub found: String,
    /// What is allowed.
    pub expected: Cow<'static, str>,
}

impl Malformed {
    /// `field` holds `found`, where `expected` is allowed.
    pub fn new(
        field: impl Into<Cow<'static, str>>,
        found: &str,
        expected: impl Into<Cow<'static, str>>,
    ) -> Self {
        let found = match found.char_indices().nth(SHOWN_CHARS_MAX) {
            Some((end, _)) => format!("{}..", found.get(..end).unwrap_or_default()),
            None => found.to_owned(),
        };
        Self { field: field.into(), found, expected: expected.into() }
    }
}

/// The fields of one JSON object.
pub struct Fields<'v>(BorrowedValue<'v>);

impl<'v> Fields<'v> {
    /// Parses `bytes` (which are used as scratch space) as one JSON object. Nothing at all reads as
    /// an object without fields: bodies may be absent where all their fields may.
    pub fn parse(bytes: &'v mut [u8]) -> Result<Self, Malformed> {
        if bytes.is_empty() {
            return Ok(Self(BorrowedValue::object()));
        }
        if depth(bytes) > JSON_DEPTH_MAX {
            let expected = format!("JSON nested at most {JSON_DEPTH_MAX} deep");
            return Err(Malformed::new("body", "deeper nesting", expected));
        }
        let value = simd_json::to_borrowed_value(bytes)
            .map_err(|error| Malformed::new("body", &error.to_string(), "valid JSON"))?;
        if value.as_object().is_none() {
            return Err(Malformed::new("body", &shown(&value), "a JSON object"));
        }
        Ok(Self(value))
    }

    /// The field, where it is there and not `null`.
    fn get(&self, name: &str) -> Option<&BorrowedValue<'v>> {
        self.0.get(name).filter(|it| !it.is_null())
    }

    /// The names of all fields.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.as_object().into_iter().flat_map(|it| it.keys().map(AsRef::as_ref))
    }

    /// An object within this one, such as `invitation`.
    pub fn object(&self, name: &'static str) -> Result<Option<Self>, Malformed> {
        match self.get(name) {
            None => Ok(None),
            Some(value) if value.as_object().is_some() => Ok(Some(Self(value.clone()))),
            Some(value) => Err(Malformed::new(name, &shown(value), "an object")),
        }
    }

    fn read<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        read: impl FnOnce(&BorrowedValue<'v>) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        match self.get(name) {
            None => Ok(None),
            Some(value) => {
                read(value).map(Some).ok_or_else(|| Malformed::new(name, &shown(value), expected))
            }
        }
    }

    /// A boolean.
    pub fn flag(&self, name: &'static str) -> Result<Option<bool>, Malformed> {
        self.read(name, "true or false", ValueAsScalar::as_bool)
    }

    /// A text that `parse` understands.
    pub fn word<T>(
        &self,
        name: &'static str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        self.read(name, expected, |value| value.as_str().and_then(parse))
    }

    /// A number from 0 to `max`.
    pub fn number(&self, name: &'static str, max: f64) -> Result<Option<f64>, Malformed> {
        let fits = |it: &f64| it.is_finite() && (0.0..=max).contains(it);
        match self.get(name) {
            None => Ok(None),
            Some(value) => value.cast_f64().filter(fits).map(Some).ok_or_else(|| {
                Malformed::new(name, &shown(value), format!("a number from 0 to {max}"))
            }),
        }
    }

    /// A whole number, not negative.
    pub fn whole_number(&self, name: &'static str) -> Result<Option<u64>, Malformed> {
        self.read(name, "a whole number from 0", ValueAsScalar::as_u64)
    }

    /// A text of at most `max` characters.
    pub fn text(&self, name: &'static str, max: usize) -> Result<Option<String>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let text = value.as_str().filter(|it| it.chars().count() <= max);
        let wrong =
            || Malformed::new(name, &shown(value), format!("a text of at most {max} characters"));
        text.map(|it| Some(it.to_owned())).ok_or_else(wrong)
    }

    /// A call's id; has to be there.
    pub fn call_id(&self, name: &'static str) -> Result<CallId, Malformed> {
        self.word(name, "a call id (UUID)", CallId::parse)?
            .ok_or_else(|| Malformed::new(name, "nothing", "a call id (UUID)"))
    }

    /// A chat's id.
    pub fn chat_id(&self, name: &'static str) -> Result<Option<ChatId>, Malformed> {
        self.word(name, OPAQUE_ID, |text| ChatId::parse(text).ok())
    }

    /// A user's id; has to be there.
    pub fn user_id(&self, name: &'static str) -> Result<UserId, Malformed> {
        self.word(name, OPAQUE_ID, |text| UserId::parse(text).ok())?
            .ok_or_else(|| Malformed::new(name, "nothing", OPAQUE_ID))
    }

    /// A list of 1 to `max` distinct users without `caller`; `None` where the field is missing.
    pub fn user_ids(
        &self,
        name: &'static str,
        caller: &UserId,
        max: usize,
    ) -> Result<Option<Vec<UserId>>, Malformed> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let expected = || format!("1 to {max} distinct user ids other than your own");
        let wrong = |found: &str| Malformed::new(name, found, expected());
        let list = value.as_array().ok_or_else(|| wrong(&shown(value)))?;
        if list.is_empty() || list.len() > max {
            return Err(wrong(&format!("{} ids", list.len())));
        }
        let mut users: Vec<UserId> = Vec::with_capacity(list.len());
        for item in list {
            let user = item.as_str().and_then(|text| UserId::parse(text).ok());
            let user = user.ok_or_else(|| Malformed::new(name, &shown(item), OPAQUE_ID))?;
            if user == *caller || users.contains(&user) {
                return Err(wrong(&format!("{user} again")));
            }
            users.push(user);
        }
        Ok(Some(users))
    }
}

const OPAQUE_ID: &str = "1 to 64 characters of A-Z a-z 0-9 _ . : @ = -";

fn shown(value: &BorrowedValue<'_>) -> String {
    match value.as_str() {
        Some(text) => format!("\"{text}\""),
        None => simd_json::to_string(value).unwrap_or_default(),
    }
}

/// How deep brackets nest outside strings; counts at least what a parser would.
fn depth(bytes: &[u8]) -> usize {
    let (mut depth, mut deepest, mut in_string, mut escaped) = (0_usize, 0_usize, false, false);
    for byte in bytes {
        match (in_string, byte) {
            (true, _) if escaped => escaped = false,
            (true, b'\\') => escaped = true,
            (_, b'"') => in_string = !in_string,
            (false, b'{' | b'[') => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            (false, b'}' | b']') => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check<T: std::fmt::Debug>(
        json: &str,
        read: impl FnOnce(&Fields<'_>) -> Result<T, Malformed>,
        outcome: &str,
    ) {
        let mut bytes = json.as_bytes().to_vec();
        let read = Fields::parse(&mut bytes).and_then(|fields| read(&fields));
        let text = match read {
            Ok(value) => format!("{value:?}"),
            Err(malformed) => malformed.to_string(),
        };
        assert_eq!(text, outcome, "{json}");
    }

    #[test]
    fn errors_name_the_field_what_was_there_and_what_is_allowed() {
        let me = UserId::parse("me").unwrap();
        let flag = |it: &Fields<'_>| it.flag("on");
        check("{\"on\":true}", flag, "Some(true)");
        check("{\"on\":null}", flag, "None");
        check("", flag, "None");
        check("{\"on\":\"yes\"}", flag, "on: expected true or false, found \"yes\"");
        check("[1]", flag, "body: expected a JSON object, found [1]");
        let number = |it: &Fields<'_>| it.number("n", 100.0);
        check("{\"n\":7}", number, "Some(7.0)");
        check("{\"n\":-1}", number, "n: expected a number from 0 to 100, found -1");
        check("{\"n\":\"7\"}", number, "n: expected a number from 0 to 100, found \"7\"");
        let text = |it: &Fields<'_>| it.text("t", 3);
        check("{\"t\":\"äöü\"}", text, "Some(\"äöü\")");
        check(
            "{\"t\":\"abcd\"}",
            text,
            "t: expected a text of at most 3 characters, found \"abcd\"",
        );
        check("{\"t\":7}", text, "t: expected a text of at most 3 characters, found 7");
        let users = |it: &Fields<'_>| it.user_ids("ids", &me, 2).map(|it| it.map(|it| it.len()));
        let rule = "ids: expected 1 to 2 distinct user ids other than your own, found ";
        check("{\"ids\":[\"a\",\"b\"]}", users, "Some(2)");
        check("{\"ids\":[]}", users, &format!("{rule}0 ids"));
        check("{\"ids\":[\"a\",\"a\"]}", users, &format!("{rule}a again"));
        check("{\"ids\":[\"me\"]}", users, &format!("{rule}me again"));
        check("{\"ids\":7}", users, &format!("{rule}7"));
        check("{\"ids\":[\"a b\"]}", users, &format!("ids: expected {OPAQUE_ID}, found \"a b\""));
    }

    #[test]
    fn deep_json_is_refused_and_long_values_are_shortened() {
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(20), "]".repeat(20));
        check(
            &deep,
            |_| Ok(()),
            "body: expected JSON nested at most 16 deep, found deeper nesting",
        );
        let long = format!("{{\"on\":\"{}\"}}", "x".repeat(200));
        let shown = format!("on: expected true or false, found \"{}..", "x".repeat(39));
        check(&long, |it| it.flag("on"), &shown);
    }
}
