//! How the journal writes, and its bounds.

use std::time::Duration;

/// When a commit counts as durable: SQLite's `synchronous` (`JOURNAL_SYNC`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Sync {
    /// On the disk: survives a loss of power.
    #[default]
    Full,
    /// In the log file: survives the end of the process, and of power once a checkpoint has passed.
    Normal,
    /// As `Normal`, and a loss of power may damage the file.
    Off,
}

impl Sync {
    /// Every value, in the order of the settings' page.
    pub const ALL: &'static [Self] = &[Self::Full, Self::Normal, Self::Off];

    /// The word of the setting, and of SQLite's pragma.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Normal => "normal",
            Self::Off => "off",
        }
    }

    /// The value that `text` names, if any.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|it| it.as_str() == text)
    }
}

/// The journal's bounds.
#[derive(Debug, Clone)]
pub struct JournalOptions {
    /// When a commit counts as durable.
    pub sync: Sync,
    /// Records that may wait, or be held while the disk is full. Bounds memory; `reserve` fails
    /// beyond it.
    pub queue_records_max: usize,
    /// Bytes of records that may wait.
    pub queue_bytes_max: usize,
    /// Records of one transaction: more make a commit longer for the first that waits, fewer cost
    /// more flushes of the disk.
    pub batch_records_max: usize,
    /// Bytes of one transaction's records.
    pub batch_bytes_max: usize,
    /// How long to wait before a full disk is tried again.
    pub full_retry: Duration,
    /// A cap on the database's size in pages, where one is wanted.
    pub file_pages_max: Option<u32>,
}

impl Default for JournalOptions {
    /// The figures of the fault table: 100,000 records, 512 records or 1 MiB a commit.
    fn default() -> Self {
        Self {
            sync: Sync::Full,
            queue_records_max: 100_000,
            queue_bytes_max: 256 * 1024 * 1024,
            batch_records_max: 512,
            batch_bytes_max: 1024 * 1024,
            full_retry: Duration::from_millis(500),
            file_pages_max: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_the_setting() {
        for &sync in Sync::ALL {
            assert_eq!(Sync::parse(sync.as_str()), Some(sync));
        }
        assert_eq!(Sync::parse("FULL"), None);
    }
}
