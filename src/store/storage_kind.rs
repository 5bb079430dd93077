//! How a graph is kept: a property of the graph, in its row.

use std::fmt;

/// How a graph is kept. It is chosen when the graph is created, or created again.
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
