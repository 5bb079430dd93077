//! What a change that was read from a log can have wrong. [`decide`](super::decide()) never makes
//! such changes: the log was damaged, or somebody else wrote it.

use std::fmt;

use super::name::Name;

/// A fact that cannot follow a graph, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IllegalFact {
    /// The job or dataset.
    pub name: Name,
    /// What the fact contradicts.
    pub violation: FactViolation,
}

/// What a fact that cannot follow a graph contradicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FactViolation {
    /// It changes or deletes a job that does not exist.
    JobAbsent,
    /// It creates a job that exists.
    JobExists,
    /// It removes an edge that does not exist.
    EdgeAbsent,
    /// It adds an edge that exists, or names one twice.
    EdgeExists,
    /// It gives a dataset a second producer.
    SecondProducer,
    /// It changes or takes back a declaration that does not exist.
    Undeclared,
    /// It declares a dataset that is declared.
    Declared,
    /// It takes back the declaration of a dataset that a job still mentions.
    InUse,
    /// It says that a job or dataset changed, and leaves it as it was.
    Unchanged,
}

impl fmt::Display for IllegalFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.violation {
            FactViolation::JobAbsent => write!(f, "there is no job `{name}`"),
            FactViolation::JobExists => write!(f, "job `{name}` is there already"),
            FactViolation::EdgeAbsent => {
                write!(f, "an edge to dataset `{name}` goes that was not there")
            }
            FactViolation::EdgeExists => {
                write!(f, "an edge to dataset `{name}` comes that is there already")
            }
            FactViolation::SecondProducer => write!(f, "dataset `{name}` has a producer already"),
            FactViolation::Undeclared => write!(f, "dataset `{name}` is not declared"),
            FactViolation::Declared => write!(f, "dataset `{name}` is declared already"),
            FactViolation::InUse => {
                write!(f, "dataset `{name}` is undeclared while a job mentions it")
            }
            FactViolation::Unchanged => write!(f, "`{name}` is said to change and stays as it was"),
        }
    }
}

/// Why a change cannot follow a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IllegalChange {
    /// It has no facts. Such a change makes no version.
    #[error("it changes nothing")]
    Empty,
    /// A fact contradicts the graph.
    #[error("{0}")]
    Fact(IllegalFact),
    /// The fact that deletes the graph is not the only one.
    #[error("the graph is deleted among other facts")]
    DeletedAmongOthers,
    /// Facts are not sorted by kind and then by name, a job or dataset has two facts, or a list of
    /// names is not sorted or holds one twice.
    #[error("its facts or names are not in the order in which changes are written: at `{0}`")]
    Order(Name),
    /// Not a part of an import: neither a declaration, all of which come first, nor a job with its
    /// version.
    #[error("it is no part of an import: a dataset's declaration, ahead of all jobs, or a job")]
    NoPart,
    /// In an import, a job comes after a job that reads what it writes. There may be a cycle.
    #[error("job `{job}` writes dataset `{dataset}`, which it or a job before it reads")]
    OutOfOrder {
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
    },
    /// There are more jobs or datasets than a graph can have ids for.
    #[error("{0}")]
    Damaged(String),
    /// The jobs would form this cycle, chosen as a rejection's is, with each fact as an operation.
    #[error(
        "the jobs form a cycle: {}",
        .0.iter().map(Name::as_str).collect::<Vec<_>>().join(" -> ")
    )]
    Cycle(Vec<Name>),
}
