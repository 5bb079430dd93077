//! Keeps the topological order true when edges are added, and finds out on the way whether they
//! close a cycle.
//!
//! An edge u → v is *consistent* if u comes before v. A new edge that is consistent costs nothing.
//! For one that is not, two searches run towards each other in turn, one edge a step, and look only
//! at jobs between v and u in the order: forward from v, backward from u, along consistent edges.
//! If they meet, there is a cycle. If one of them runs out, what it has found is the smaller side,
//! and moves past the other end. So an edge costs at most twice the smaller of the two sides of the
//! affected region (the two-way search of B. Haeupler et al., "Incremental Cycle Detection,
//! Topological Ordering, and Strong Component Maintenance", 2012). When a change's searches
//! together have cost as much as sorting the whole graph, it is sorted instead: the worst case.

use std::collections::HashSet;

use super::adjacency::{Graph, Predecessors, Successors};
use super::order::{Order, Slot};
use super::touched::Touched;

/// A graph whose jobs form a cycle. Every edge is in it; its order holds for the edges that were
/// there before.
pub(super) struct Cyclic {
    pub(super) graph: Graph,
    /// The jobs that got edges in this change: every cycle goes through one of them.
    pub(super) linked: Vec<Slot>,
}

/// Puts the jobs that were created into the order and makes it true for the edges that were added.
pub(super) fn restore_order(mut graph: Graph, touched: &Touched) -> Result<Graph, Box<Cyclic>> {
    let created = &touched.jobs_created[..];
    let first_labels = graph.job_count() == created.len() && !created.is_empty();
    let mut budget = graph.job_count() + graph.edge_count();
    let done = if first_labels {
        // A graph out of nothing has no order to keep. Even one that cannot be sorted needs a label
        // for each job.
        sort_anew(&mut graph) || {
            graph.order = Order::of(created, graph.jobs.slots());
            false
        }
    } else {
        place_created(&mut graph, created);
        violated_by(&graph, touched)
            .into_iter()
            .all(|(from, to)| make_consistent(&mut graph, from, to, &mut budget))
    };
    if done {
        return Ok(graph);
    }
    let mut linked: Vec<_> =
        touched.inputs_added.iter().chain(&touched.outputs_added).map(|&(job, _)| job).collect();
    linked.sort_unstable();
    linked.dedup();
    Err(Box::new(Cyclic { graph, linked }))
}

/// Gives each created job a place that suits its neighbours so far, where a glance can tell one.
fn place_created(graph: &mut Graph, created: &[Slot]) {
    let mut waiting: HashSet<Slot> = created.iter().copied().collect();
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
                graph.order.move_after(before, &mut [job]);
            }
        }
    }
}

/// The edges between jobs that are new and go against the order.
fn violated_by(graph: &Graph, touched: &Touched) -> Vec<(Slot, Slot)> {
    let label = |job| graph.order.label(job);
    let mut violated = Vec::new();
    for &(job, dataset) in &touched.inputs_added {
        let producer = graph.dataset_edges(dataset).producer;
        violated.extend(
            producer.filter(|&before| label(before) >= label(job)).map(|before| (before, job)),
        );
    }
    for &(job, dataset) in &touched.outputs_added {
        let consumers = graph.dataset_edges(dataset).consumers.iter();
        violated
            .extend(consumers.filter(|&next| label(next) <= label(job)).map(|next| (job, next)));
    }
    violated
}

enum Outcome {
    Cycle,
    /// All that follows `to` and comes before `from`.
    Forward(HashSet<Slot>),
    /// All that leads to `from` and comes after `to`.
    Backward(HashSet<Slot>),
    OutOfBudget,
}

/// Makes the edge consistent; `false` if it closes a cycle.
fn make_consistent(graph: &mut Graph, from: Slot, to: Slot, budget: &mut usize) -> bool {
    if from == to {
        return false;
    }
    if graph.order.label(from) < graph.order.label(to) {
        return true;
    }
    match search(graph, from, to, budget) {
        Outcome::Cycle => false,
        Outcome::Forward(group) => {
            graph.order.move_after(from, &mut group.into_iter().collect::<Vec<_>>());
            true
        }
        Outcome::Backward(group) => {
            graph.order.move_before(to, &mut group.into_iter().collect::<Vec<_>>());
            true
        }
        Outcome::OutOfBudget => {
            *budget = usize::MAX;
            sort_anew(graph)
        }
    }
}

impl Graph {
    /// Whether no job depends on itself, found out by sorting all jobs as if nothing were known.
    /// Every graph of this crate's is acyclic already; this is the check that a design without such
    /// knowledge makes. O(jobs + edges between jobs).
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

fn search(graph: &Graph, from: Slot, to: Slot, budget: &mut usize) -> Outcome {
    let (low, high) = (graph.order.label(to), graph.order.label(from));
    let (mut forward, mut ahead, mut next) =
        (HashSet::from([to]), vec![to], None::<(u64, Successors<'_>)>);
    let (mut backward, mut behind, mut former) =
        (HashSet::from([from]), vec![from], None::<(u64, Predecessors<'_>)>);
    loop {
        if *budget == 0 {
            return Outcome::OutOfBudget;
        }
        *budget -= 1;
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
