//! `decide`: all rules of a graph, in the order in which they are judged.

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
    /// What it changes; empty if nothing.
    pub change: Change,
    /// The graph with the change applied, equal to `apply(graph, &change)`; the graph itself if
    /// nothing changes.
    pub next: Graph,
    /// What that touched, by id.
    pub touched: Touched,
    /// Whether a job, a dataset or an edge that was asked for by name came to be.
    pub created: bool,
}

/// Judges `command` on `graph`. Pure and deterministic.
///
/// Preconditions are judged first, all of them, on the graph as it is; then existence, operation by
/// operation; then, on the graph that would result, datasets that are deleted but in use, second
/// producers, a change beyond [`CHANGE_BYTES_MAX`], and cycles.
///
/// Cost: O(log n) for each name in the command, and for each edge that it adds or removes, plus the
/// length of the specifications that it patches, plus what the new edges that go against the
/// graph's topological order cost: mending the order one edge at a time (for each twice the smaller
/// side of the region between its ends) or in one pass (twice the smaller side of all these regions
/// together), whichever is cheaper, within a constant factor. A cycle costs that pass, and O(n log
/// o) for n jobs and edges that lie on cycles and o operations.
///
/// # Errors
/// The [`Rejection`] that comes first: preconditions, then existence, then `DatasetInUse`,
/// `SecondProducer`, `Cycle`; of several of one kind that of the smallest operation, then of the
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
        Err(cyclic) => Err(cycle_of(&cyclic, &drafted)),
    }
}

/// All rules but that there be no cycle: what the changeset makes of the graph, and the change that
/// this is.
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

/// What one change may have, in bytes of canonical JSON: a change leaves the service as one line of
/// a log, and is read as one.
pub const CHANGE_BYTES_MAX: usize = 256 << 20;

/// The rejection of a changeset that would make the jobs form a cycle.
pub(super) fn cycle_of(cyclic: &Cyclic, drafted: &Drafted) -> Rejection {
    let (cycle, operation) = cycle::first(cyclic, drafted);
    Rejection::Cycle { cycle, operation }
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
        // It asks for the edge, not for the job.
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

/// A precondition of the whole command: it is about the graph.
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

/// O(s + j) for s steps and the j jobs under the prefix.
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

/// Whether nothing would be lost with the graph. Without jobs, all its datasets are declared.
fn is_empty(graph: &Graph) -> bool {
    graph.job_count() == 0 && graph.dataset_count() == 0
}
