//! Finds the cycle to show in a rejection. Runs only when a change is about to be rejected.
//!
//! Each edge is *old* or belongs to one operation, and all edges of one operation belong to one
//! job. G(i) holds the old edges and those of operations 0 to i. The cycle to show is in the first
//! G(i) that has one. All cycles of that G(i) pass through the job of operation i, and the one with
//! the fewest jobs is shown. Ties: each cycle is written from its byte-smallest job, jobs and
//! datasets in turn, the first name again at the end; the smallest is shown, compared name by name.
//!
//! Cost: finding the affected region (`affected.rs`) and reading it once; then O((jobs + edges) log
//! operations) over the part that lies on cycles. If all new edges belong to one operation, the
//! region is not divided further.

use std::collections::VecDeque;

use petgraph::Direction;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

use super::acyclic::{Cyclic, violated_by};
use super::adjacency_lists::AdjacencyLists;
use super::affected::{Affected, affected};
use super::graph::Graph;
use super::name::Name;
use super::operation::Side;
use super::slot_map::SlotMap;
use super::slots::Slot;

/// Which operation each edge belongs to.
pub(super) trait Owners {
    /// The operations of one job's edges. `None` if all of them are old.
    fn of_job(&self, job: &Name) -> Option<&dyn JobOwners>;
}

/// Which operation each edge of one job belongs to.
pub(super) trait JobOwners {
    /// The operation. `None` if the edge is old.
    fn owner(&self, side: Side, dataset: &Name) -> Option<usize>;
}

/// The cycle to show, and the operation whose edges close it. `None` if the operations close none:
/// the graph had one before, which only a log that breaks the rules leads to.
pub(super) fn first(cyclic: &Cyclic, owners: &dyn Owners) -> Option<(Vec<Name>, usize)> {
    let graph = &cyclic.graph;
    let violated = violated_by(graph, &cyclic.touched);
    let region = affected(graph, &violated, usize::MAX).expect("no region has so many edges");
    let mut subgraph = Subgraph::of(graph, &region, owners);
    let operation = subgraph.first_cyclic()?;
    subgraph.edges.retain(|edge| edge.owner <= Some(operation));
    let cycle = subgraph.shortest_through(subgraph.job_of(operation)?)?;
    Some((cycle, operation as usize))
}

/// A part of the graph in arrays. Its nodes are numbered: first the jobs, then the datasets.
struct Subgraph<'g> {
    graph: &'g Graph,
    jobs: Vec<Slot>,
    datasets: Vec<Slot>,
    edges: Vec<Edge>,
}

/// From a job to a dataset that it writes, or from a dataset to a job that reads it.
#[derive(Clone, Copy)]
struct Edge {
    from: u32,
    to: u32,
    /// `None` if it is old.
    owner: Option<u32>,
}

impl<'g> Subgraph<'g> {
    /// The jobs of the region, and the datasets between two of them. Looks only at the edges by
    /// which the region was found: O(1) and one `owner` for each.
    fn of(graph: &'g Graph, region: &Affected, owners: &dyn Owners) -> Self {
        let jobs: Vec<Slot> = region.jobs.iter().map(|&(job, _)| job).collect();
        let numbers: SlotMap<u32> = jobs.iter().copied().zip(0..).collect();
        let owners: Vec<_> =
            jobs.iter().map(|&job| owners.of_job(&graph.jobs.get(job).name)).collect();
        let mut subgraph = Self { graph, jobs, datasets: Vec::new(), edges: Vec::new() };
        let mut dataset_numbers = SlotMap::default();
        let mut add = |writer: Slot, dataset: Slot, reader: Slot| {
            let (Some(&from), Some(&to)) = (numbers.get(&writer), numbers.get(&reader)) else {
                return;
            };
            let owner = |job: u32, side| {
                let owner = owners[job as usize]?.owner(side, &graph.datasets.get(dataset).name);
                owner.map(|operation| operation as u32)
            };
            let number = *dataset_numbers.entry(dataset).or_insert_with(|| {
                let number = (subgraph.jobs.len() + subgraph.datasets.len()) as u32;
                subgraph.datasets.push(dataset);
                subgraph.edges.push(Edge { from, to: number, owner: owner(from, Side::Output) });
                number
            });
            subgraph.edges.push(Edge { from: number, to, owner: owner(to, Side::Input) });
        };
        for &(job, _) in &region.jobs {
            let node = graph.jobs.get(job);
            match region.direction {
                Direction::Outgoing => {
                    for dataset in node.outputs.iter() {
                        let readers = graph.dataset_edges(dataset).consumers.iter();
                        readers.for_each(|reader| add(job, dataset, reader));
                    }
                }
                Direction::Incoming => {
                    for dataset in node.inputs.iter() {
                        let writer = graph.dataset_edges(dataset).producer;
                        writer.into_iter().for_each(|writer| add(writer, dataset, job));
                    }
                }
            }
        }
        subgraph
    }

    fn nodes(&self) -> usize {
        self.jobs.len() + self.datasets.len()
    }

    fn name(&self, node: u32) -> &'g Name {
        match self.jobs.get(node as usize) {
            Some(&job) => &self.graph.jobs.get(job).name,
            None => &self.graph.datasets.get(self.datasets[node as usize - self.jobs.len()]).name,
        }
    }

    /// The operations that edges belong to, in order.
    fn operations(&self) -> Vec<u32> {
        let mut operations: Vec<u32> = self.edges.iter().filter_map(|edge| edge.owner).collect();
        operations.sort_unstable();
        operations.dedup();
        operations
    }

    /// The first operation i for which G(i) has a cycle. The last one has. `None` if no operation
    /// has an edge on one.
    fn first_cyclic(&mut self) -> Option<u32> {
        let mut operations = self.operations();
        if operations.len() > 1 {
            self.keep_what_lies_on_cycles();
            operations = self.operations();
        }
        let (last, others) = operations.split_last()?;
        let leaving = self.edges_by_start();
        let first = others.partition_point(|&operation| !self.is_cyclic(&leaving, operation));
        Some(*others.get(first).unwrap_or(last))
    }

    /// Drops the edges that are not within a strongly connected component.
    fn keep_what_lies_on_cycles(&mut self) {
        let graph =
            DiGraph::<(), ()>::from_edges(self.edges.iter().map(|edge| (edge.from, edge.to)));
        let mut component_of = vec![0_u32; self.nodes()];
        for (number, component) in (0..).zip(kosaraju_scc(&graph)) {
            component.into_iter().for_each(|node| component_of[node.index()] = number);
        }
        self.edges
            .retain(|edge| component_of[edge.from as usize] == component_of[edge.to as usize]);
    }

    /// For each node, the numbers of the edges that leave it.
    fn edges_by_start(&self) -> AdjacencyLists {
        AdjacencyLists::new(self.edges.iter().map(|edge| edge.from).zip(0..), self.nodes())
    }

    /// Whether G(`operation`) has a cycle. A. Kahn's algorithm (1962). O(nodes + edges).
    fn is_cyclic(&self, leaving: &AdjacencyLists, operation: u32) -> bool {
        let mut waiting_for = vec![0_u32; self.nodes()];
        let mut rest = 0;
        for edge in self.edges.iter().filter(|edge| edge.owner <= Some(operation)) {
            waiting_for[edge.to as usize] += 1;
            rest += 1;
        }
        let mut ready: Vec<u32> = (0..)
            .zip(&waiting_for)
            .filter(|&(_, &count)| count == 0)
            .map(|(node, _)| node)
            .collect();
        while let Some(node) = ready.pop() {
            for &edge in leaving.get(node) {
                let edge = self.edges[edge as usize];
                if edge.owner <= Some(operation) {
                    rest -= 1;
                    waiting_for[edge.to as usize] -= 1;
                    if waiting_for[edge.to as usize] == 0 {
                        ready.push(edge.to);
                    }
                }
            }
        }
        rest > 0
    }

    /// The job that the operation's edges belong to.
    fn job_of(&self, operation: u32) -> Option<u32> {
        let edge = self.edges.iter().find(|edge| edge.owner == Some(operation))?;
        Some(edge.from.min(edge.to))
    }

    /// The smallest of the shortest cycles, if all cycles pass through `job`. In a graph that had
    /// others before, a shortest one through it; `None` if none passes through it.
    fn shortest_through(&self, job: u32) -> Option<Vec<Name>> {
        let ends = self.edges.iter().map(|edge| (edge.from, edge.to));
        let reversed = self.edges.iter().map(|edge| (edge.to, edge.from));
        let (next, former) =
            (AdjacencyLists::new(ends, self.nodes()), AdjacencyLists::new(reversed, self.nodes()));

        let (after, before) = (distances(&next, job), distances(&former, job));
        let way = |node: u32| after[node as usize]?.checked_add(before[node as usize]?);
        // The node before the job on a cycle is one step from it.
        let last = former.get(job).iter().filter_map(|&node| after[node as usize]);
        let length = last.min()? + 1;
        let on_shortest = |&node: &u32| node == job || way(node) == Some(length);
        let jobs = 0..self.jobs.len() as u32;
        let start = jobs.filter(on_shortest).min_by_key(|&node| self.name(node))?;

        // Written from the smallest job: each step takes the smallest name from which the start can
        // still be reached in the steps that are left.
        let written_from = |start: u32| {
            let to_start = distances(&former, start);
            let mut names = vec![self.name(start).clone()];
            let mut node = start;
            for left in (0..length).rev() {
                let in_time = |next: &&u32| to_start[**next as usize] == Some(left);
                let steps = next.get(node).iter().filter(in_time);
                node = *steps.min_by_key(|&&next| self.name(next))?;
                names.push(self.name(node).clone());
            }
            Some(names)
        };
        // There may be a shorter way back to the start that does not pass through the job.
        written_from(start).or_else(|| written_from(job))
    }
}

/// How many steps each node is from `start`; `None` if it is not reached. Breadth first.
fn distances(next: &AdjacencyLists, start: u32) -> Vec<Option<u32>> {
    let mut distances = vec![None; next.lists()];
    distances[start as usize] = Some(0);
    let mut waiting = VecDeque::from([(start, 0)]);
    while let Some((node, distance)) = waiting.pop_front() {
        for &after in next.get(node) {
            if distances[after as usize].is_none() {
                distances[after as usize] = Some(distance + 1);
                waiting.push_back((after, distance + 1));
            }
        }
    }
    distances
}
