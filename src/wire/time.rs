//! ISO 8601 in UTC with milliseconds, both ways.

use jiff::fmt::temporal::DateTimePrinter;
use serde::{Serialize, Serializer};

use crate::call::time::Timestamp;

static PRINTER: DateTimePrinter = DateTimePrinter::new().precision(Some(3));

/// A point in time as clients see it: `2025-01-02T10:00:00.000Z`.
#[derive(Debug, Clone, Copy)]
pub struct Iso(pub Timestamp);

impl Serialize for Iso {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let instant = jiff::Timestamp::from_millisecond(self.0.0).unwrap_or_default();
        serializer.collect_str(&PRINTER.timestamp_to_string(&instant))
    }
}

/// Reads a date and time with an offset, or a plain date as its midnight in UTC.
pub fn parse(text: &str) -> Option<Timestamp> {
    if let Ok(instant) = text.parse::<jiff::Timestamp>() {
        return Some(Timestamp(instant.as_millisecond()));
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let midnight = date.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp(midnight.timestamp().as_millisecond()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_milliseconds_always() {
        for (millis, text) in [
            (0, "\"1970-01-01T00:00:00.000Z\""),
            (1_735_812_000_000, "\"2025-01-02T10:00:00.000Z\""),
            (1_735_812_000_120, "\"2025-01-02T10:00:00.120Z\""),
        ] {
            assert_eq!(serde_json::to_string(&Iso(Timestamp(millis))).unwrap(), text);
        }
    }

    #[test]
    fn reads_instants_and_dates() {
        for (text, millis) in [
            ("2025-01-02T10:00:00.000Z", Some(1_735_812_000_000)),
            ("2025-01-02T12:00:00+02:00", Some(1_735_812_000_000)),
            ("2025-01-02", Some(1_735_776_000_000)),
            ("yesterday", None),
            ("2025-13-01", None),
            ("", None),
        ] {
            assert_eq!(parse(text), millis.map(Timestamp), "{text}");
        }
    }
}
