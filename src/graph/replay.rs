//! Changes taken from a log, as somebody else may have written them: applied, and judged. What
//! [`decide`](super::decide()) would never have given is told.

use std::collections::HashMap;
use std::fmt;

use super::acyclic::Cyclic;
use super::adjacency::Graph;
use super::apply::{NotLookedUp, link_and_note};
use super::change::{Change, Fact};
use super::cycle::{self, JobOwners, Owners};
use super::name::Name;
use super::operation::Side;

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
    /// The job or dataset that is said to have changed stays as it was.
    Unchanged,
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
            Wrong::Unchanged => write!(f, "`{name}` is said to change and stays as it was"),
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
    /// A graph is deleted by a change of its own.
    #[error("the graph is deleted among other facts")]
    DeletedAmongOthers,
    /// Facts are written by kind, then by name, each job and each dataset once; names in byte
    /// order, each once.
    #[error("its facts or names are not in the order in which changes are written: at `{0}`")]
    Order(Name),
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
    /// The jobs would form a cycle: the one that the first facts close, of these the one of the
    /// fewest jobs, of these the byte-smallest.
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
    if change.facts.len() > 1 && change.facts.contains(&Fact::GraphDeleted {}) {
        return Err(Illegal::DeletedAmongOthers);
    }
    let mut breach = None;
    let next = match link_and_note(graph, change, &mut NotLookedUp, &mut breach) {
        Ok((next, _)) => next,
        Err(cyclic) => {
            return Err(
                breach.map_or_else(|| Illegal::Cycle(cycle_of(&cyclic, change)), Illegal::Fact)
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
    check_order(change)?;
    Ok(next)
}

/// Whether facts and names stand as [`decide`](super::decide()) writes them. O(n log n) for n
/// names.
fn check_order(change: &Change) -> Result<(), Illegal> {
    let misplaced = |name: &Name| Err(Illegal::Order(name.clone()));
    let places = change.facts.iter().filter_map(place);
    for ((kind, name), (next_kind, next)) in places.clone().zip(places.clone().skip(1)) {
        if (kind, name) >= (next_kind, next) {
            return misplaced(next);
        }
    }
    // One fact alone stands in order.
    for about_jobs in [true, false].into_iter().filter(|_| change.facts.len() > 1) {
        let named = places.clone().filter(|(kind, _)| kind.is_about_a_job() == about_jobs);
        let mut names: Vec<&Name> = named.map(|(_, name)| name).collect();
        names.sort_unstable();
        if let Some(twice) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return misplaced(twice[0]);
        }
    }
    change.facts.iter().try_for_each(check_names)
}

/// The kinds of facts in the order in which they are written.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum FactKind {
    JobDeleted,
    JobChanged,
    JobCreated,
    DatasetUndeclared,
    DatasetChanged,
    DatasetDeclared,
}

impl FactKind {
    fn is_about_a_job(self) -> bool {
        self <= Self::JobCreated
    }
}

fn place(fact: &Fact) -> Option<(FactKind, &Name)> {
    Some(match fact {
        Fact::GraphDeleted {} => return None,
        Fact::JobDeleted { name } => (FactKind::JobDeleted, name),
        Fact::JobChanged { name, .. } => (FactKind::JobChanged, name),
        Fact::JobCreated { name, .. } => (FactKind::JobCreated, name),
        Fact::DatasetUndeclared { name } => (FactKind::DatasetUndeclared, name),
        Fact::DatasetChanged { name, .. } => (FactKind::DatasetChanged, name),
        Fact::DatasetDeclared { name, .. } => (FactKind::DatasetDeclared, name),
    })
}

/// Whether the lists of one fact are sorted, and whether a changed job changes.
fn check_names(fact: &Fact) -> Result<(), Illegal> {
    let sorted = |list: &[Name]| match list.windows(2).find(|pair| pair[0] >= pair[1]) {
        Some(pair) => Err(Illegal::Order(pair[1].clone())),
        None => Ok(()),
    };
    match fact {
        Fact::JobCreated { inputs, outputs, .. } => sorted(inputs).and_then(|()| sorted(outputs)),
        Fact::JobChanged {
            name,
            inputs_added,
            inputs_removed,
            outputs_added,
            outputs_removed,
            spec,
        } => {
            let sides = [(inputs_added, inputs_removed), (outputs_added, outputs_removed)];
            for (added, removed) in sides {
                sorted(added).and_then(|()| sorted(removed))?;
                if let Some(both) = added.iter().find(|name| removed.binary_search(name).is_ok()) {
                    return Err(Illegal::Order(both.clone()));
                }
            }
            let same = sides.iter().all(|(added, removed)| added.is_empty() && removed.is_empty());
            if same && spec.is_none() {
                let breach = Breach { name: name.clone(), wrong: Wrong::Unchanged };
                return Err(Illegal::Fact(breach));
            }
            Ok(())
        }
        Fact::GraphDeleted {}
        | Fact::JobDeleted { .. }
        | Fact::DatasetUndeclared { .. }
        | Fact::DatasetChanged { .. }
        | Fact::DatasetDeclared { .. } => Ok(()),
    }
}

/// The cycle that is shown: each fact counts as an operation, in the order that they have.
fn cycle_of(cyclic: &Cyclic, change: &Change) -> Vec<Name> {
    let mut jobs: HashMap<&Name, AddedEdges<'_>> = HashMap::new();
    for (number, fact) in change.facts.iter().enumerate() {
        let (name, inputs, outputs) = match fact {
            Fact::JobCreated { name, inputs, outputs, .. } => (name, inputs, outputs),
            Fact::JobChanged { name, inputs_added, outputs_added, .. } => {
                (name, inputs_added, outputs_added)
            }
            _ => continue,
        };
        let AddedEdges(edges) = jobs.entry(name).or_default();
        edges.extend(inputs.iter().map(|dataset| ((Side::Input, dataset), number)));
        edges.extend(outputs.iter().map(|dataset| ((Side::Output, dataset), number)));
    }
    cycle::first(cyclic, &jobs).0
}

/// The edges of one job that facts add, each with the number of the last that does.
#[derive(Default)]
struct AddedEdges<'c>(HashMap<(Side, &'c Name), usize>);

impl Owners for HashMap<&Name, AddedEdges<'_>> {
    fn of_job(&self, job: &Name) -> Option<&dyn JobOwners> {
        self.get(job).map(|edges| edges as &dyn JobOwners)
    }
}

impl JobOwners for AddedEdges<'_> {
    fn owner(&self, side: Side, dataset: &Name) -> Option<usize> {
        self.0.get(&(side, dataset)).copied()
    }
}
