//! Restores the topological order after edges were added, and so finds out whether they close a
//! cycle.
//!
//! An edge u → v is *consistent* if u comes before v in the order, else *violated*. A new edge that
//! is consistent costs nothing. For violated edges, two ways to restore the order are tried in
//! turn, each time with twice as many steps. So the cost is that of the cheaper way within a
//! constant factor.
//!
//! - *Edge by edge*: two searches take turns, one edge a step: forward from v and backward from u,
//!   along consistent edges, and only through jobs between v and u in the order. If they meet,
//!   there is a cycle. If one of them ends, the jobs that it found are the smaller side, and are
//!   moved past the other end. So an edge costs at most twice the smaller of the two sides of its
//!   region (the two-way search of B. Haeupler et al., "Incremental Cycle Detection, Topological
//!   Ordering, and Strong Component Maintenance", 2012). Many edges over one region would search it
//!   many times.
//! - *In one pass*: the region of all violated edges together (`affected.rs`) is found and sorted.

use petgraph::Direction;
use petgraph::visit::IntoNeighborsDirected;

use super::affected::{Affected, affected};
use super::graph::Graph;
use super::order::Order;
use super::slot_map::{SlotMap, SlotSet};
use super::slots::Slot;
use super::touched::Touched;
use super::traversal::{Predecessors, Successors};

/// A graph whose jobs form a cycle. It has all edges; its order is right for the edges that it had
/// before the change.
pub(super) struct Cyclic {
    pub(super) graph: Graph,
    /// What the change that closed the cycle touched.
    pub(super) touched: Touched,
}

/// The steps that *edge by edge* may take before *one pass* is tried, and those added for each
/// edge.
const STEPS: usize = 4096;
const STEPS_PER_EDGE: usize = 8;

/// Adds the created jobs to the order, and restores it for the added edges. In a graph that has a
/// cycle already, which edges of earlier changes closed, it may find that one, or none.
///
/// Cost: that of the cheaper of the two ways above within a constant factor, and amortised O(log n)
/// for each job that moves; for the first jobs of a graph, one topological sort.
pub(super) fn restore_order(
    mut graph: Graph,
    touched: Touched,
) -> Result<(Graph, Touched), Box<Cyclic>> {
    let created = &touched.jobs_created[..];
    let first_labels = graph.job_count() == created.len() && !created.is_empty();
    let done = if first_labels {
        // A graph whose jobs are all new has no order to keep. Each job needs a label even if they
        // cannot be sorted.
        sort_anew(&mut graph) || {
            graph.order = Order::of(created, graph.jobs.slots());
            false
        }
    } else {
        place_created(&mut graph, created);
        let violated = violated_by(&graph, &touched);
        mend(&mut graph, &violated)
    };
    if done { Ok((graph, touched)) } else { Err(Box::new(Cyclic { graph, touched })) }
}

/// Gives each created job a place that suits the neighbours that have one, if that is easy to see.
/// O(1) for each edge of a created job.
fn place_created(graph: &mut Graph, created: &[Slot]) {
    let mut waiting: SlotSet = created.iter().copied().collect();
    for &job in created {
        waiting.remove(&job);
        let has_successor =
            graph.successors(job).any(|next| next != job && !waiting.contains(&next));
        let last_predecessor = graph
            .predecessors(job)
            .filter(|before| *before != job && !waiting.contains(before))
            .max_by_key(|&before| graph.order.label(before));
        match last_predecessor {
            _ if !has_successor => graph.order.push_back(job),
            None => graph.order.push_front(job),
            Some(before) => {
                graph.order.push_back(job);
                graph.order.move_after(before, &[job]);
            }
        }
    }
}

/// The edges between jobs that are new and go against the order. O(1) for each edge that was added,
/// and for each job that reads what a job now writes.
pub(super) fn violated_by(graph: &Graph, touched: &Touched) -> Vec<(Slot, Slot)> {
    let label = |job| graph.order.label(job);
    let mut violated = Vec::new();
    for &(job, dataset) in &touched.inputs_added {
        let producer = graph.dataset_edges(dataset).producer;
        violated.extend(
            producer.filter(|&before| label(before) >= label(job)).map(|before| (before, job)),
        );
    }
    for &(job, dataset) in &touched.outputs_added {
        let edges = graph.dataset_edges(dataset);
        // A change that breaks the rules may have given it another producer after this one.
        if edges.producer == Some(job) {
            let consumers = edges.consumers.iter().filter(|&next| label(next) <= label(job));
            violated.extend(consumers.map(|next| (job, next)));
        }
    }
    violated
}

/// Changes the order so that all of `violated` are consistent. `false` if they close a cycle.
fn mend(graph: &mut Graph, violated: &[(Slot, Slot)]) -> bool {
    let mut rest = violated;
    // For a single edge, both ways search the same.
    let mut steps = if rest.len() > 1 { STEPS + STEPS_PER_EDGE * rest.len() } else { usize::MAX };
    loop {
        let mut steps_left = steps;
        while let Some((&(from, to), others)) = rest.split_first() {
            match make_consistent(graph, from, to, &mut steps_left) {
                Some(true) => rest = others,
                Some(false) => return false,
                None => break,
            }
        }
        if rest.is_empty() {
            return true;
        }
        let label = |job| graph.order.label(job);
        let violated = rest.iter().filter(|&&(from, to)| label(from) >= label(to));
        if let Some(affected) = affected(graph, &violated.copied().collect::<Vec<_>>(), steps) {
            return arrange(graph, &affected);
        }
        steps = steps.saturating_mul(2);
    }
}

/// Sorts the jobs of the region and moves them past the jobs that they have to pass. `false` if the
/// region has a cycle. O(1) for each edge of the region, and amortised O(log n) for each job.
fn arrange(graph: &mut Graph, affected: &Affected) -> bool {
    let Some(sorted) = sorted(graph, affected) else { return false };
    for group in sorted.chunk_by(|(_, a), (_, b)| a == b) {
        let pivot = group[0].1;
        let mut group: Vec<Slot> = group.iter().map(|&(job, _)| job).collect();
        match affected.direction {
            Direction::Outgoing => graph.order.move_after(pivot, &group),
            Direction::Incoming => {
                group.reverse();
                graph.order.move_before(pivot, &group);
            }
        }
    }
    true
}

/// The jobs of the region, each with the job that it has to pass. Jobs that pass the same job come
/// together, in topological order along the region's direction. A. Kahn's algorithm (1962). `None`
/// if there is a cycle.
fn sorted(graph: &Graph, affected: &Affected) -> Option<Vec<(Slot, Slot)>> {
    let next = |job| graph.neighbors_directed(job, affected.direction);
    let mut waiting_for: SlotMap<usize> = affected.jobs.iter().map(|&(job, _)| (job, 0)).collect();
    for &(job, _) in &affected.jobs {
        for after in next(job) {
            if let Some(count) = waiting_for.get_mut(&after) {
                *count += 1;
            }
        }
    }
    let mut sorted: Vec<Slot> = affected.jobs.iter().map(|&(job, _)| job).collect();
    sorted.retain(|job| waiting_for[job] == 0);
    let mut done = 0;
    while let Some(&job) = sorted.get(done) {
        done += 1;
        for after in next(job) {
            if let Some(count) = waiting_for.get_mut(&after) {
                *count -= 1;
                if *count == 0 {
                    sorted.push(after);
                }
            }
        }
    }
    if sorted.len() < affected.jobs.len() {
        return None;
    }
    let to_pass: SlotMap<Slot> = affected.jobs.iter().copied().collect();
    sorted.sort_by_key(|job| graph.order.label(to_pass[job]));
    Some(sorted.iter().map(|job| (*job, to_pass[job])).collect())
}

enum Outcome {
    Cycle,
    /// All jobs that follow `to` and come before `from`.
    Forward(SlotSet),
    /// All jobs that lead to `from` and come after `to`.
    Backward(SlotSet),
    OutOfSteps,
}

/// Makes the edge consistent. `Some(false)` if it closes a cycle, `None` if there are not enough
/// steps.
fn make_consistent(graph: &mut Graph, from: Slot, to: Slot, steps: &mut usize) -> Option<bool> {
    if from == to {
        return Some(false);
    }
    if graph.order.label(from) < graph.order.label(to) {
        return Some(true);
    }
    let in_order = |graph: &Graph, group: SlotSet| {
        let mut group: Vec<Slot> = group.into_iter().collect();
        graph.order.sort(&mut group);
        group
    };
    match search(graph, from, to, steps) {
        Outcome::Cycle => return Some(false),
        Outcome::Forward(group) => graph.order.move_after(from, &in_order(graph, group)),
        Outcome::Backward(group) => graph.order.move_before(to, &in_order(graph, group)),
        Outcome::OutOfSteps => return None,
    }
    Some(true)
}

impl Graph {
    /// Whether no job depends on itself, checked by sorting all jobs from scratch. Every `Graph` is
    /// acyclic already; this is for a design that is to pay for the full check. O(jobs + edges
    /// between jobs).
    #[must_use]
    pub fn is_acyclic(&self) -> bool {
        petgraph::algo::toposort(self, None).is_ok()
    }
}

fn sort_anew(graph: &mut Graph) -> bool {
    let Ok(sorted) = petgraph::algo::toposort(&*graph, None) else { return false };
    graph.order = Order::of(&sorted, graph.jobs.slots());
    true
}

fn search(graph: &Graph, from: Slot, to: Slot, steps: &mut usize) -> Outcome {
    let (low, high) = (graph.order.label(to), graph.order.label(from));
    let (mut forward, mut ahead, mut next) =
        (SlotSet::from_iter([to]), vec![to], None::<(u64, Successors<'_>)>);
    let (mut backward, mut behind, mut former) =
        (SlotSet::from_iter([from]), vec![from], None::<(u64, Predecessors<'_>)>);
    loop {
        if *steps == 0 {
            return Outcome::OutOfSteps;
        }
        *steps -= 1;
        // One edge forward …
        match next.as_mut().and_then(|(label, jobs)| jobs.next().map(|job| (*label, job))) {
            Some((label, job)) => {
                let at = graph.order.label(job);
                if at > label && at <= high {
                    if backward.contains(&job) {
                        return Outcome::Cycle;
                    }
                    if forward.insert(job) {
                        ahead.push(job);
                    }
                }
            }
            None => match ahead.pop() {
                Some(job) => next = Some((graph.order.label(job), graph.successors(job))),
                None => return Outcome::Forward(forward),
            },
        }
        // … and one edge backward.
        match former.as_mut().and_then(|(label, jobs)| jobs.next().map(|job| (*label, job))) {
            Some((label, job)) => {
                let at = graph.order.label(job);
                if at < label && at >= low {
                    if forward.contains(&job) {
                        return Outcome::Cycle;
                    }
                    if backward.insert(job) {
                        behind.push(job);
                    }
                }
            }
            None => match behind.pop() {
                Some(job) => former = Some((graph.order.label(job), graph.predecessors(job))),
                None => return Outcome::Backward(backward),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::neighbours::Neighbours;
    use super::super::{Changeset, Command, Graph, JobSpecification, Name, Operation, decide};

    #[test]
    fn a_cycle_is_found_without_the_order() {
        let name = |text: &str| Name::new(text).unwrap();
        let job = |job: &str, input: &str, output: &str| {
            let (inputs, outputs) = (vec![name(input)], vec![name(output)]);
            Operation::PutJob(JobSpecification {
                name: name(job),
                inputs,
                outputs,
                spec: Default::default(),
            })
        };
        let changeset: Changeset =
            [job("first", "x", "y"), job("second", "y", "z")].into_iter().collect();
        let mut graph =
            decide(&Graph::default(), &Command::Changeset(changeset)).map_err(|_| ()).unwrap().next;
        assert!(graph.is_acyclic());
        let [first, z] = [graph.job("first").unwrap().id(), graph.dataset("z").unwrap().id()];
        graph.jobs.get_mut(first).inputs = Neighbours::from_sorted(&[z]);
        graph.dataset_edges_mut(z).consumers = Neighbours::from_sorted(&[first]);
        assert!(!graph.is_acyclic());
    }
}
