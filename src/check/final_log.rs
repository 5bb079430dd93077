//! The change log that a graph was left with, and its rows: what unknown outcomes are resolved by.

use std::io::BufRead;

use super::facts::{Fact, read_change};
use super::history::InputError;
use super::model::State;
use super::recorded_request::Texts;

/// All changes of a graph from its first on.
#[derive(Debug, Default)]
pub struct Log {
    /// Where it comes from.
    pub name: String,
    /// In order.
    pub changes: Vec<LoggedChange>,
}

/// One change.
#[derive(Debug)]
pub struct LoggedChange {
    /// The version that it made.
    pub version: u64,
    /// Sorted.
    pub facts: Vec<Fact>,
    /// As it is stored, if it was read from a store.
    pub stored: Option<StoredChange>,
}

/// A row of a change log.
#[derive(Debug)]
pub struct StoredChange {
    /// Canonical JSON.
    pub text: Box<str>,
    /// SHA-256 of the chain before and the text.
    pub chain: [u8; 32],
}

/// What a store holds of a graph beside the log.
#[derive(Debug)]
pub struct Rows {
    /// Jobs and datasets. The version is the graph's row's.
    pub state: State,
    /// The graph's row's.
    pub chain: [u8; 32],
}

impl Log {
    /// Reads `{"version":N,"facts":[…]}`, one a line. O(length).
    ///
    /// # Errors
    /// [`InputError`] with the line that cannot be read.
    pub fn read(name: &str, file: impl BufRead, texts: &mut Texts) -> Result<Self, InputError> {
        let mut log = Self { name: name.to_owned(), changes: Vec::new() };
        for (line, number) in file.lines().zip(1..) {
            let at = |what: String| InputError::Line { file: name.to_owned(), line: number, what };
            let text = line.map_err(|error| at(error.to_string()))?;
            let (version, facts) = read_change(&text, texts).map_err(at)?;
            log.changes.push(LoggedChange { version, facts, stored: None });
        }
        Ok(log)
    }
}
