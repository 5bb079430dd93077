//! How a graph is stored: a property of the graph, in its row.

use std::fmt;

/// How a graph is stored. It is chosen when the graph is created, or created again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StorageKind {
    /// Jobs and datasets as rows, and the change log.
    Rows,
    /// Jobs and datasets as rows, and no history: the log holds only which attempt made which
    /// version, so that a lost answer to a commit can be looked up.
    RowsPlain,
    /// The change log alone.
    Log,
    /// The same, by writers that compare no version: the log may break the rules.
    LogUnchecked,
    /// In a way that only a newer program knows.
    Unknown,
}

impl StorageKind {
    /// All that this program knows.
    pub const ALL: [Self; 4] = [Self::Rows, Self::RowsPlain, Self::Log, Self::LogUnchecked];

    /// As in the graph's row, and in what is shown of a graph.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Rows => "rows",
            Self::RowsPlain => "rows_plain",
            Self::Log => "log",
            Self::LogUnchecked => "log_unchecked",
            Self::Unknown => "unknown",
        }
    }

    /// As a part of a sentence, for people who read the API's document.
    #[must_use]
    pub fn phrase(self) -> &'static str {
        match self {
            Self::Rows => "as `rows`, beside its change log",
            Self::RowsPlain => "as `rows_plain`, without a change log",
            Self::Log => "by its `log` alone",
            Self::LogUnchecked => "as `log_unchecked`, by a log that may break the rules",
            Self::Unknown => "in a way that only a newer program knows",
        }
    }

    /// Whether what was changed can be read back.
    #[must_use]
    pub fn has_log(self) -> bool {
        !matches!(self, Self::RowsPlain | Self::Unknown)
    }

    /// Whether snapshots of such graphs are taken.
    #[must_use]
    pub fn takes_snapshots(self) -> bool {
        matches!(self, Self::Rows | Self::Log)
    }

    /// What the row's word means.
    pub(super) fn of_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|kind| kind.word() == word).unwrap_or(Self::Unknown)
    }
}

impl fmt::Display for StorageKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}
