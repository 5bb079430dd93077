//! Changes taken from a log, as somebody else may have written them: applied, and judged. What
//! [`decide`](super::decide()) would never have given is told.

use std::fmt;

use super::adjacency::Graph;
use super::apply::link_and_note;
use super::change::{Change, Fact};
use super::cycle;
use super::name::Name;

/// A fact that does not fit the graph.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The job or dataset.
    pub name: Name,
    /// What does not fit.
    pub wrong: Wrong,
}

/// How a fact may fail to fit the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// There is no such job to change or delete.
    JobAbsent,
    /// The job to create is there.
    JobThere,
    /// The edge to remove is not there.
    EdgeAbsent,
    /// The edge to add is there, or named twice.
    EdgeThere,
    /// The dataset has a producer already.
    SecondProducer,
    /// The dataset to change or undeclare is not declared.
    Undeclared,
    /// The dataset to declare is declared.
    Declared,
    /// The dataset whose declaration went is still mentioned by a job.
    InUse,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = &self.name;
        match self.wrong {
            Wrong::JobAbsent => write!(f, "there is no job `{name}`"),
            Wrong::JobThere => write!(f, "job `{name}` is there already"),
            Wrong::EdgeAbsent => write!(f, "an edge to dataset `{name}` goes that was not there"),
            Wrong::EdgeThere => {
                write!(f, "an edge to dataset `{name}` comes that is there already")
            }
            Wrong::SecondProducer => write!(f, "dataset `{name}` has a producer already"),
            Wrong::Undeclared => write!(f, "dataset `{name}` is not declared"),
            Wrong::Declared => write!(f, "dataset `{name}` is declared already"),
            Wrong::InUse => write!(f, "dataset `{name}` is undeclared while a job mentions it"),
        }
    }
}

/// Why a change cannot follow a graph.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Illegal {
    /// It has no facts: such a change makes no version.
    #[error("it changes nothing")]
    Empty,
    /// A fact does not fit.
    #[error("{0}")]
    Fact(Breach),
    /// A part of an import that is none: neither a declaration, all of which come first, nor a job
    /// with its version.
    #[error("it is no part of an import: a dataset's declaration, ahead of all jobs, or a job")]
    NoPart,
    /// In an import, a job comes after one that reads what it writes. That may be a cycle.
    #[error("job `{job}` writes dataset `{dataset}`, which it or a job before it reads")]
    OutOfOrder {
        /// The job.
        job: Name,
        /// The dataset.
        dataset: Name,
    },
    /// There is more than fits a graph.
    #[error("{0}")]
    Damaged(String),
    /// The jobs would form a cycle.
    #[error("the jobs form a cycle: {}", .0.iter().map(Name::as_str).collect::<Vec<_>>().join(" -> "))]
    Cycle(Vec<Name>),
}

/// The graph after `change`, one version on, if all rules hold. Cost as of
/// [`apply()`](super::apply()).
///
/// # Errors
/// [`Illegal`] says which rule does not; the graph is then gone.
pub fn replay(graph: Graph, change: &Change) -> Result<Graph, Illegal> {
    if change.is_empty() {
        return Err(Illegal::Empty);
    }
    let mut breach = None;
    let next = match link_and_note(graph, change, &|_| None, &mut breach) {
        Ok((next, _)) => next,
        Err(cyclic) => {
            return Err(
                breach.map_or_else(|| Illegal::Cycle(cycle::shortest(&cyclic)), Illegal::Fact)
            );
        }
    };
    if let Some(breach) = breach {
        return Err(Illegal::Fact(breach));
    }
    for fact in &change.facts {
        if let Fact::DatasetUndeclared { name } = fact
            && next.dataset(name.as_str()).is_some_and(|dataset| dataset.metadata().is_none())
        {
            return Err(Illegal::Fact(Breach { name: name.clone(), wrong: Wrong::InUse }));
        }
    }
    Ok(next)
}
