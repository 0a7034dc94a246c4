//! From one variable's text to one value, or the line that says what is wrong with it.

use std::collections::HashMap;
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::variables::{self, Variable};
use super::{Secret, SettingError};

/// Characters of a value that an error line shows, at most.
const SHOWN_CHARS_MAX: usize = 60;

/// The texts of all variables.
pub(super) struct Reader {
    texts: HashMap<&'static str, (Variable, String)>,
}

impl Reader {
    /// Takes the texts that are set; an absent or empty one is its default.
    pub(super) fn new(mut set: impl FnMut(&str) -> Option<String>) -> Self {
        let text = |variable: Variable| {
            let text = set(variable.name).map(|it| it.trim().to_owned());
            let text = text.filter(|it| !it.is_empty());
            (variable.name, (variable, text.unwrap_or_else(|| variable.default.to_owned())))
        };
        Self { texts: variables::all().map(text).collect() }
    }

    /// The text; empty where it is neither set nor has a default.
    pub(super) fn text(&self, name: &str) -> &str {
        debug_assert!(self.texts.contains_key(name), "{name} is not in the list of variables");
        self.texts.get(name).map_or("", |(_, text)| text)
    }

    /// The text where there is any.
    pub(super) fn optional(&self, name: &str) -> Option<&str> {
        Some(self.text(name)).filter(|it| !it.is_empty())
    }

    pub(super) fn secret(&self, name: &str) -> Option<Secret> {
        self.optional(name).map(Secret::new)
    }

    /// An error that shows what the variable holds, unless that is a secret.
    pub(super) fn wrong(&self, name: &str, allowed: impl Into<String>) -> SettingError {
        SettingError::new(name, self.held(name), allowed)
    }

    fn held(&self, name: &str) -> String {
        let text = self.text(name);
        if text.is_empty() {
            return "is not set".to_owned();
        }
        if self.texts.get(name).is_some_and(|(variable, _)| variable.secret) {
            return format!("holds {} bytes (not shown)", text.len());
        }
        let shown: String = text.chars().take(SHOWN_CHARS_MAX).collect();
        let dots = if shown.len() < text.len() { " .." } else { "" };
        // Escaped, so that whatever it holds stays on one line.
        format!("holds {shown:?}{dots}")
    }

    /// A whole number within `range`.
    pub(super) fn number<T>(&self, name: &str, range: RangeInclusive<T>) -> Result<T, SettingError>
    where
        T: FromStr + PartialOrd + Display,
    {
        let number = self.text(name).parse().ok().filter(|it| range.contains(it));
        let allowed = || format!("a whole number from {} to {}", range.start(), range.end());
        number.ok_or_else(|| self.wrong(name, allowed()))
    }

    /// A number within `range`, or `None` where the text is `word`.
    pub(super) fn number_or<T>(
        &self,
        name: &str,
        word: &str,
        range: RangeInclusive<T>,
    ) -> Result<Option<T>, SettingError>
    where
        T: FromStr + PartialOrd + Display,
    {
        if self.text(name) == word || self.text(name).is_empty() {
            return Ok(None);
        }
        self.number(name, range).map(Some).map_err(|mut error| {
            error.allowed.push_str(" or ");
            error.allowed.push_str(word);
            error
        })
    }

    /// Whole seconds within `range`.
    pub(super) fn seconds(
        &self,
        name: &str,
        range: RangeInclusive<u64>,
    ) -> Result<Duration, SettingError> {
        let number = self.number(name, range).map_err(|mut error| {
            error.allowed.push_str(" (seconds)");
            error
        });
        number.map(Duration::from_secs)
    }

    /// One word of a list.
    pub(super) fn word<T: Copy>(&self, name: &str, words: &[(&str, T)]) -> Result<T, SettingError> {
        let text = self.text(name).to_ascii_lowercase();
        let found = words.iter().find(|(word, _)| *word == text);
        let names = || words.iter().map(|(word, _)| *word).collect::<Vec<_>>().join(", ");
        found.map(|(_, value)| *value).ok_or_else(|| self.wrong(name, names()))
    }

    pub(super) fn switch(&self, name: &str) -> Result<bool, SettingError> {
        self.word(name, &[("on", true), ("off", false), ("true", true), ("false", false)])
    }

    /// Every part of a comma separated list, in order.
    pub(super) fn list<T>(
        &self,
        name: &str,
        allowed: &str,
        part: impl Fn(&str) -> Option<T>,
    ) -> Result<Vec<T>, SettingError> {
        let parts = self.text(name).split(',').map(str::trim).filter(|it| !it.is_empty());
        parts.map(|it| part(it).ok_or_else(|| self.wrong(name, allowed))).collect()
    }

    /// Addresses of the schemes given, as in `stun:host:port`, comma separated.
    pub(super) fn addresses(
        &self,
        name: &str,
        schemes: &[&str],
    ) -> Result<Vec<Arc<str>>, SettingError> {
        let allowed = format!("{}HOST[:PORT], comma separated", schemes.join("HOST[:PORT] or "));
        self.list(name, &allowed, |part| {
            let host = schemes.iter().find_map(|scheme| part.strip_prefix(scheme))?;
            let graphic = host.bytes().all(|it| it.is_ascii_graphic());
            (graphic && !host.is_empty() && !host.starts_with('/')).then(|| Arc::from(part))
        })
    }
}
