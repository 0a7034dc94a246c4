//! Query strings, checked: errors name the parameter, what was there and what is allowed.

use std::borrow::Cow;
use std::time::Duration;

use crate::call::id::ChatId;
use crate::call::state::{CallType, State};
use crate::store::history::{Cursor, HISTORY_LIMIT_MAX, HistoryQuery};
use crate::wire::fields::Malformed;
use crate::wire::time;

/// Calls of a page where none are asked for (contract, section 8).
const HISTORY_LIMIT_DEFAULT: u16 = 50;
/// Further down, a cursor is the way: each page by offset reads all that it passes over.
const HISTORY_OFFSET_MAX: u64 = 1_000_000;
/// Statistics of the last day where no window is asked for.
const WINDOW_DEFAULT: Duration = Duration::from_hours(24);
/// Statistics of at most a year and a day.
const WINDOW_MAX: Duration = Duration::from_hours(24 * 366);

/// The parameters of a query; the first of a name counts.
struct Parameters<'a>(&'a str);

impl Parameters<'_> {
    fn read<T>(
        &self,
        name: &'static str,
        expected: impl Into<Cow<'static, str>>,
        read: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, Malformed> {
        let mut parameters = form_urlencoded::parse(self.0.as_bytes());
        let Some((_, text)) = parameters.find(|(it, _)| it == name) else { return Ok(None) };
        read(&text).map(Some).ok_or_else(|| Malformed::new(name, &text, expected))
    }
}

/// `GET /history`.
pub(super) fn history(query: Option<&str>) -> Result<HistoryQuery, Malformed> {
    const TIME: &str = "a date or time, as 2025-01-02 or 2025-01-02T10:00:00Z";
    let it = Parameters(query.unwrap_or_default());
    let limits = 1..=HISTORY_LIMIT_MAX;
    let limit = |text: &str| text.parse().ok().filter(|it| limits.contains(it));
    let offset = |text: &str| text.parse().ok().filter(|it| *it <= HISTORY_OFFSET_MAX);
    let state_words = || State::ALL.iter().map(|it| it.as_str()).collect::<Vec<_>>().join(", ");
    Ok(HistoryQuery {
        limit: it
            .read("limit", format!("a number from 1 to {HISTORY_LIMIT_MAX}"), limit)?
            .unwrap_or(HISTORY_LIMIT_DEFAULT),
        offset: it
            .read("offset", format!("a number from 0 to {HISTORY_OFFSET_MAX}"), offset)?
            .unwrap_or(0),
        cursor: it.read("cursor", "the nextCursor of a page", |it| Cursor::decode(it).ok())?,
        chat: it.read("chatId", "1 to 64 characters of A-Z a-z 0-9 _ . : @ = -", |text| {
            ChatId::parse(text).ok()
        })?,
        call_type: it.read("type", "audio or video", CallType::parse)?,
        state: it.read("state", state_words(), State::parse)?,
        start: it.read("startDate", TIME, time::parse)?,
        end: it.read("endDate", TIME, time::parse)?,
    })
}

/// The `window` of `GET /stats`: a number and s, min, m, h or d.
pub(super) fn window(query: Option<&str>) -> Result<Duration, Malformed> {
    let it = Parameters(query.unwrap_or_default());
    let window = it.read("window", "a time up to 366d, as 30min, 24h or 7d", duration)?;
    Ok(window.unwrap_or(WINDOW_DEFAULT))
}

fn duration(text: &str) -> Option<Duration> {
    let digits = text.find(|it: char| !it.is_ascii_digit())?;
    let (count, unit) = text.split_at_checked(digits)?;
    let seconds = match unit {
        "s" => 1,
        "m" | "min" => 60,
        "h" => 3600,
        "d" => 86_400,
        _ => return None,
    };
    let window = Duration::from_secs(count.parse::<u64>().ok()?.checked_mul(seconds)?);
    (!window.is_zero() && window <= WINDOW_MAX).then_some(window)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows() {
        for (query, seconds) in [
            ("", Ok(86_400)),
            ("window=24h", Ok(86_400)),
            ("window=30min", Ok(1800)),
            ("window=5m", Ok(300)),
            ("window=7d", Ok(604_800)),
            ("window=366d", Ok(31_622_400)),
            ("window=367d", Err("367d")),
            ("window=0s", Err("0s")),
            ("window=h", Err("h")),
            ("window=24", Err("24")),
            ("window=-1h", Err("-1h")),
            ("window=99999999999999999999d", Err("99999999999999999999d")),
        ] {
            let window = window(Some(query)).map(|it| it.as_secs()).map_err(|it| it.found);
            assert_eq!(window, seconds.map_err(str::to_owned), "{query}");
        }
    }

    #[test]
    fn histories() {
        for (query, wrong) in [
            ("", None),
            ("limit=1&offset=0", None),
            ("limit=100&type=audio&state=missed&chatId=c1", None),
            ("startDate=2025-01-02&endDate=2025-01-03T00:00:00.000Z", None),
            ("limit=0", Some("limit")),
            ("limit=101", Some("limit")),
            ("limit=ten", Some("limit")),
            ("offset=-1", Some("offset")),
            ("offset=1000001", Some("offset")),
            ("cursor=nonsense", Some("cursor")),
            ("chatId=a%20b", Some("chatId")),
            ("type=fax", Some("type")),
            ("state=over", Some("state")),
            ("startDate=yesterday", Some("startDate")),
            ("endDate=", Some("endDate")),
        ] {
            let field = history(Some(query)).err().map(|it| it.field.into_owned());
            assert_eq!(field.as_deref(), wrong, "{query}");
        }
        let query = history(Some("limit=7&offset=3&state=ended")).unwrap();
        assert_eq!((query.limit, query.offset, query.state), (7, 3, Some(State::Ended)));
        assert_eq!(history(None).unwrap().limit, HISTORY_LIMIT_DEFAULT);
    }
}
