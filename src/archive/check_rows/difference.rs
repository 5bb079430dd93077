//! What `check-rows` finds, and how it words it.

use std::borrow::Cow;
use std::fmt;

use crate::db::OrphanedRows;
use crate::graph::Name;
use crate::store::StoredReference;

/// Letters of a name that are shown: it may have 512 bytes.
const SHOWN_LETTERS: usize = 80;

/// Something that is not as the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Difference {
    /// In the graph's own row.
    Graph {
        /// The graph.
        name: Name,
        /// What differs.
        what: GraphFault,
    },
    /// In a row of a job or a dataset.
    Row(RowDifference),
    /// Rows that belong to no graph of the database.
    Orphans(OrphanedRows),
}

/// How a graph's own row differs from its log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum GraphFault {
    /// The log has changes after the row's version.
    ChangesAfter {
        /// The row's version.
        version: u64,
        /// The version of the log's last change.
        newest: u64,
    },
    /// The log ends before the row's version.
    ChangesMissing {
        /// The row's version.
        version: u64,
        /// The version of the log's last change; `None` if it has none.
        newest: Option<u64>,
    },
    /// The row's chain is not that of the changes.
    Chain,
    /// The row names a first change that cannot be.
    Oldest {
        /// As the row has it.
        oldest: u64,
        /// The version of the log's first change; `None` if it has none.
        first: Option<u64>,
        /// The row's version.
        version: u64,
    },
    /// This column of the row holds a value of another type.
    Field(String),
    /// The row says that the graph is deleted, and by the log it is not empty.
    Deleted,
    /// A packed snapshot of this version, from which the graph may be loaded, is not the graph that
    /// the log leads to there.
    Snapshot(u64),
}

/// A row that is not what the log says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowDifference {
    /// Whose row.
    pub of: RowOf,
    /// The name of the job or dataset.
    pub name: String,
    /// The version of the graph that it was compared at.
    pub version: u64,
    /// What differs.
    pub what: RowFault,
}

/// What kind of row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RowOf {
    /// A job's.
    Job,
    /// A dataset's.
    Dataset,
}

/// How a row differs from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowFault {
    /// The log has it, and there is no row.
    Missing,
    /// There is a row, and the log does not have it.
    Unknown,
    /// Several rows have the name.
    Twice,
    /// The row's id is none that Fencepost gives: no node can load it.
    Id(i64),
    /// This column holds a value of another type: no node can load it.
    Field {
        /// The column.
        field: &'static str,
        /// The row's id, as far as it can be read.
        id: i64,
    },
    /// A job's specification is another.
    Spec,
    /// A job's version is another.
    Version {
        /// The log's.
        expected: u64,
        /// The row's.
        actual: i64,
    },
    /// A job's list of inputs holds something other than rising ids.
    NoList,
    /// A job's inputs are others.
    Inputs {
        /// The first that the log has and the row has not.
        missing: Option<String>,
        /// The first that the row has and the log has not.
        unknown: Option<StoredReference>,
    },
    /// A dataset's metadata is another, or it is declared in one of the two only.
    Metadata,
    /// A dataset's producer is another.
    Producer {
        /// The log's.
        expected: Option<String>,
        /// The row's.
        actual: Option<StoredReference>,
    },
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Graph { name, what } => write!(f, "graph `{}`: {what}", short(name.as_str())),
            Self::Row(difference) => difference.fmt(f),
            Self::Orphans(orphans) => orphans.fmt(f),
        }
    }
}

impl fmt::Display for GraphFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChangesAfter { version, newest } => {
                write!(f, "its row has version {version}, but its log goes on to version {newest}")
            }
            Self::ChangesMissing { version, newest: Some(newest) } => {
                write!(f, "its row has version {version}, but its log ends at version {newest}")
            }
            Self::ChangesMissing { version, newest: None } => {
                write!(f, "its row has version {version}, but its log is empty")
            }
            Self::Chain => f.write_str("the chain of its row is not that of its log"),
            Self::Oldest { oldest, first: Some(first), .. } if *oldest > 0 => {
                write!(
                    f,
                    "its row says that the log begins at version {oldest}, but it begins at {first}"
                )
            }
            Self::Oldest { oldest, version, .. } => write!(
                f,
                "its row says that the log begins at version {oldest}, which cannot be at version \
                 {version}"
            ),
            Self::Field(field) => {
                write!(f, "the field '{field}' of its row holds a value of another type")
            }
            Self::Deleted => f.write_str("its row says that it is deleted, but the log has more"),
            Self::Snapshot(version) => {
                write!(f, "its snapshot of version {version} is not what the log leads to")
            }
        }
    }
}

impl fmt::Display for RowDifference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.of {
            RowOf::Job => "job",
            RowOf::Dataset => "dataset",
        };
        write!(f, "{kind} `{}` at version {}: {}", short(&self.name), self.version, self.what)
    }
}

impl fmt::Display for RowFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Missing => f.write_str("there is no row"),
            Self::Unknown => f.write_str("there is a row, but the log does not have it"),
            Self::Twice => f.write_str("there are several rows"),
            Self::Id(id) => write!(f, "the row has {id} as its id, which no node can load"),
            Self::Field { field, id } => write!(
                f,
                "the field '{field}' of the row with id {id} holds a value of another type"
            ),
            Self::Spec => f.write_str("the spec is not the log's"),
            Self::Version { expected, actual } => {
                write!(f, "its version is {actual}, not {expected}")
            }
            Self::NoList => f.write_str("its inputs are stored as no list of rising ids"),
            Self::Inputs { missing, unknown } => {
                f.write_str("its inputs are not the log's:")?;
                if let Some(missing) = missing {
                    write!(f, " it lacks `{}`", short(missing))?;
                }
                match (missing, unknown) {
                    (Some(_), Some(_)) => write!(f, " and has {}", shown(unknown.as_ref())),
                    (None, Some(_)) => write!(f, " it has {}", shown(unknown.as_ref())),
                    (_, None) => Ok(()),
                }
            }
            Self::Metadata => f.write_str("the metadata is not the log's"),
            Self::Producer { expected, actual } => {
                let expected = expected.clone().map(StoredReference::Name);
                let (actual, expected) = (shown(actual.as_ref()), shown(expected.as_ref()));
                write!(f, "its producer is {actual}, not {expected}")
            }
        }
    }
}

fn shown(reference: Option<&StoredReference>) -> String {
    match reference {
        None => "none".to_owned(),
        Some(StoredReference::Name(name)) => format!("`{}`", short(name)),
        Some(StoredReference::Nothing(id)) => format!("id {id}, which no row has"),
    }
}

/// A name without its end, if it is a long one.
fn short(name: &str) -> Cow<'_, str> {
    match name.char_indices().nth(SHOWN_LETTERS) {
        Some((end, _)) => format!("{}… ({} bytes)", &name[..end], name.len()).into(),
        None => name.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_name_is_shown_without_its_end() {
        let name = "é".repeat(256);
        let (of, what) = (RowOf::Job, RowFault::Missing);
        let told = RowDifference { of, name, version: 3, what }.to_string();
        let shown = "é".repeat(SHOWN_LETTERS);
        assert_eq!(told, format!("job `{shown}… (512 bytes)` at version 3: there is no row"));
    }
}
