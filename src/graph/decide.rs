//! `decide`: all rules of a graph, in the order in which they are checked.

use std::collections::HashSet;
use std::ops::Bound;

use super::acyclic::Cyclic;
use super::apply::{apply, try_apply};
use super::change::{Change, Fact};
use super::cycle;
use super::draft::{Draft, Drafted};
use super::graph::Graph;
use super::name::Name;
use super::operation::{Changeset, Command, Operation, Precondition, Step, Unchanged};
use super::rejection::Rejection;
use super::touched::Touched;

/// An accepted command.
pub struct Decision {
    /// What it changes. Empty if it changes nothing.
    pub change: Change,
    /// The graph with the change applied: the same as `apply(graph, &change)`, or `graph` itself if
    /// nothing changes.
    pub next: Graph,
    /// The ids of what it touched.
    pub touched: Touched,
    /// Whether it creates a job, a dataset or an edge that the command names.
    pub created: bool,
}

/// Judges `command` on `graph`. Pure and deterministic. Total also on a graph that breaks the
/// rules, which [`apply()`] makes of a log that does: then what breaks them already is no reason to
/// reject.
///
/// First come all preconditions, on `graph`; then existence, operation by operation; then, on the
/// final graph, deleted datasets that are in use, second producers, a change longer than
/// [`CHANGE_BYTES_MAX`], and cycles.
///
/// Cost: O(log n) for each name in the command and for each edge that it adds or removes, plus the
/// length of the specifications that it patches. New edges that go against the graph's topological
/// order also cost restoring it, edge by edge (for each, twice the smaller side of the region
/// between its ends) or in one pass (twice the smaller side of all these regions together): the
/// cheaper of the two, within a constant factor. A cycle costs that pass, and O(n log o) for n jobs
/// and edges that lie on cycles and o operations.
///
/// # Errors
/// The first [`Rejection`] in this order: preconditions, existence, `DatasetInUse`,
/// `SecondProducer`, `TooLarge`, `Cycle`; then that of the smallest operation, then that of the
/// byte-smallest dataset.
pub fn decide(graph: &Graph, command: &Command) -> Result<Decision, Rejection> {
    match command {
        Command::Changeset(changeset) => decide_changeset(graph, changeset),
        Command::DeleteGraph { precondition } => {
            if precondition.is_none() && !is_empty(graph) {
                return Err(Rejection::PreconditionRequired { actual: graph.version() });
            }
            check_graph(graph, precondition.as_ref())?;
            let change = Change { facts: vec![Fact::GraphDeleted {}] };
            Ok(Decision {
                next: apply(graph, &change),
                change,
                touched: Touched::default(),
                created: false,
            })
        }
    }
}

fn decide_changeset(graph: &Graph, changeset: &Changeset) -> Result<Decision, Rejection> {
    let (draft, change) = judge_changeset(graph, changeset)?;
    if change.is_empty() {
        return Ok(Decision {
            change,
            next: graph.clone(),
            touched: Touched::default(),
            created: false,
        });
    }
    let mut drafted = draft.into_drafted();
    let created = drafted.created();
    match try_apply(graph.clone(), &change, &mut drafted) {
        Ok((next, touched)) => Ok(Decision { created, change, next, touched }),
        Err(cyclic) => match cycle_of(&cyclic, &drafted) {
            Some(rejection) => Err(rejection),
            None => {
                let Cyclic { graph: next, touched } = *cyclic;
                Ok(Decision { created, change, next, touched })
            }
        },
    }
}

/// Checks all rules except cycles. Returns the draft and the change that it amounts to.
pub(super) fn judge_changeset<'g>(
    graph: &'g Graph,
    changeset: &Changeset,
) -> Result<(Draft<'g>, Change), Rejection> {
    check_graph(graph, changeset.precondition.as_ref())?;
    if let Some(unchanged) = &changeset.unchanged {
        check_unchanged(graph, unchanged, &changeset.steps)?;
    }
    for (number, step) in changeset.steps.iter().enumerate() {
        check_precondition(graph, step, number)?;
    }
    let mut draft = Draft::new(graph);
    for (number, step) in changeset.steps.iter().enumerate() {
        draft.take_step(&step.operation, number)?;
    }
    draft.check_deleted_datasets()?;
    draft.check_producers()?;
    let change = draft.change();
    if let Some(bytes) = change.bytes_above(CHANGE_BYTES_MAX) {
        return Err(Rejection::TooLarge { bytes, limit: CHANGE_BYTES_MAX });
    }
    Ok((draft, change))
}

/// The longest change, in bytes of canonical JSON. A change is one line of a log, which readers
/// take as a whole.
pub const CHANGE_BYTES_MAX: usize = 256 << 20;

/// The rejection of a changeset that would make the jobs form a cycle. `None` if they form one
/// without it, to which it adds nothing.
pub(super) fn cycle_of(cyclic: &Cyclic, drafted: &Drafted) -> Option<Rejection> {
    let (cycle, operation) = cycle::first(cyclic, drafted)?;
    Some(Rejection::Cycle { cycle, operation })
}

fn check_precondition(graph: &Graph, step: &Step, number: usize) -> Result<(), Rejection> {
    let Some(precondition) = &step.precondition else { return Ok(()) };
    let actual = match &step.operation {
        Operation::PutJob(job) => graph.job(job.name.as_str()).map(|job| job.version()),
        Operation::PatchJob { name, .. } | Operation::DeleteJob { name } => {
            graph.job(name.as_str()).map(|job| job.version())
        }
        Operation::AddEdge { job, .. } | Operation::RemoveEdge { job, .. } => {
            graph.job(job.as_str()).map(|job| job.version())
        }
        Operation::PutDataset { name, .. } | Operation::DeleteDataset { name } => {
            graph.dataset(name.as_str()).map(|_| graph.version())
        }
    };
    let holds = match (precondition, &step.operation) {
        // It is about the edge, not the job.
        (
            Precondition::Absent,
            Operation::AddEdge { side, job, dataset }
            | Operation::RemoveEdge { side, job, dataset },
        ) => !graph.has_edge(job, *side, dataset),
        _ => precondition.holds(actual),
    };
    if holds {
        return Ok(());
    }
    let expected = precondition.clone();
    Err(Rejection::PreconditionFailed { expected, actual, operation: Some(number) })
}

/// Checks a precondition of the whole command, which is about the graph.
fn check_graph(graph: &Graph, precondition: Option<&Precondition>) -> Result<(), Rejection> {
    let actual = Some(graph.version());
    match precondition {
        Some(expected) if !expected.holds(actual) => Err(Rejection::PreconditionFailed {
            expected: expected.clone(),
            actual,
            operation: None,
        }),
        _ => Ok(()),
    }
}

/// O(s + j) for s steps and j jobs under the prefix.
fn check_unchanged(graph: &Graph, unchanged: &Unchanged, steps: &[Step]) -> Result<(), Rejection> {
    let put: HashSet<&Name> = steps
        .iter()
        .filter_map(|step| match &step.operation {
            Operation::PutJob(job) => Some(&job.name),
            _ => None,
        })
        .collect();
    let changed = graph
        .jobs_from(Bound::Included(unchanged.prefix.as_str()))
        .take_while(|job| job.name().as_str().starts_with(&unchanged.prefix))
        .find(|job| job.version() > unchanged.since && !put.contains(job.name()));
    match changed {
        None => Ok(()),
        Some(job) => Err(Rejection::PreconditionFailed {
            expected: Precondition::Version(unchanged.since),
            actual: Some(job.version()),
            operation: None,
        }),
    }
}

/// Whether deleting the graph loses nothing. (A dataset of a graph without jobs is declared.)
fn is_empty(graph: &Graph) -> bool {
    graph.job_count() == 0 && graph.dataset_count() == 0
}
