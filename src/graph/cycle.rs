//! Finds the cycle to show. Runs only when a change is about to be rejected.
//!
//! Each edge is *old*, or belongs to one operation of the change, and all edges of one operation
//! are of one job. G(i) holds the old edges and those of operations 0 to i. The cycle to show is in
//! the first G(i) that has one: all its cycles pass through the job of operation i. Of these it is
//! the one of the fewest jobs. Ties: each is written from its byte-smallest job, jobs and datasets
//! alternating, the first name again at the end; the smallest is taken, compared name by name.
//!
//! Cost: finding the affected region (`affected.rs`) and reading it once; then O((jobs + edges) log
//! operations) over the part that lies on cycles. If all new edges belong to one operation, the
//! region is not divided further.

use std::collections::VecDeque;

use petgraph::Direction;
use petgraph::algo::kosaraju_scc;
use petgraph::graph::DiGraph;

use super::acyclic::{Cyclic, violated_by};
use super::affected::{Affected, affected};
use super::graph::Graph;
use super::grouped::Grouped;
use super::name::Name;
use super::operation::Side;
use super::slot_map::SlotMap;
use super::slots::Slot;

/// Which operation each edge belongs to.
pub(super) trait Owners {
    /// Of the edges of one job; `None`: all of them are old.
    fn of_job(&self, job: &Name) -> Option<&dyn JobOwners>;
}

/// Which operation each edge of one job belongs to.
pub(super) trait JobOwners {
    /// `None`: the edge is old.
    fn owner(&self, side: Side, dataset: &Name) -> Option<usize>;
}

/// The cycle to show, and the operation whose edges close it.
pub(super) fn first(cyclic: &Cyclic, owners: &dyn Owners) -> (Vec<Name>, usize) {
    let graph = &cyclic.graph;
    let violated = violated_by(graph, &cyclic.touched);
    let region = affected(graph, &violated, usize::MAX).expect("no region has so many edges");
    let mut part = Part::of(graph, &region, owners);
    let operation = part.first_cyclic();
    part.edges.retain(|edge| edge.owner <= Some(operation));
    (part.shortest_through(part.job_of(operation)), operation as usize)
}

/// A part of the graph in flat arrays. Its nodes are jobs and datasets, numbered: first the jobs,
/// then the datasets.
struct Part<'g> {
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
    /// `None`: it is old.
    owner: Option<u32>,
}

impl<'g> Part<'g> {
    /// The jobs of the region, and the datasets between two of them. Looks at the edges by which
    /// the region was found, and no others: O(1) and an `owner` for each.
    fn of(graph: &'g Graph, region: &Affected, owners: &dyn Owners) -> Self {
        let jobs: Vec<Slot> = region.jobs.iter().map(|&(job, _)| job).collect();
        let numbers: SlotMap<u32> = jobs.iter().copied().zip(0..).collect();
        let owners: Vec<_> =
            jobs.iter().map(|&job| owners.of_job(&graph.jobs.get(job).name)).collect();
        let mut part = Self { graph, jobs, datasets: Vec::new(), edges: Vec::new() };
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
                let number = (part.jobs.len() + part.datasets.len()) as u32;
                part.datasets.push(dataset);
                part.edges.push(Edge { from, to: number, owner: owner(from, Side::Output) });
                number
            });
            part.edges.push(Edge { from: number, to, owner: owner(to, Side::Input) });
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
        part
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

    /// The first operation with which there is a cycle. With all of them there is one.
    fn first_cyclic(&mut self) -> u32 {
        let mut operations = self.operations();
        if operations.len() > 1 {
            self.keep_what_lies_on_cycles();
            operations = self.operations();
        }
        let (last, others) = operations.split_last().expect("the graph had no cycle before");
        let leaving = self.edges_by_start();
        let first = others.partition_point(|&operation| !self.is_cyclic(&leaving, operation));
        *others.get(first).unwrap_or(last)
    }

    /// Leaves the edges within strongly connected components.
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

    /// For each node the numbers of the edges that leave it.
    fn edges_by_start(&self) -> Grouped {
        Grouped::new(self.edges.iter().map(|edge| edge.from).zip(0..), self.nodes())
    }

    /// Whether the old edges and those of operations up to `operation` form a cycle: A. Kahn's
    /// algorithm (1962). O(nodes + edges).
    fn is_cyclic(&self, leaving: &Grouped, operation: u32) -> bool {
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

    /// The job whose edges the operation's are.
    fn job_of(&self, operation: u32) -> u32 {
        let edge = self.edges.iter().find(|edge| edge.owner == Some(operation));
        let edge = edge.expect("the operation closes a cycle");
        edge.from.min(edge.to)
    }

    /// The smallest of the shortest cycles; all cycles pass through `job`.
    fn shortest_through(&self, job: u32) -> Vec<Name> {
        let ends = self.edges.iter().map(|edge| (edge.from, edge.to));
        let reversed = self.edges.iter().map(|edge| (edge.to, edge.from));
        let (next, former) =
            (Grouped::new(ends, self.nodes()), Grouped::new(reversed, self.nodes()));

        let (after, before) = (distances(&next, job), distances(&former, job));
        let way = |node: u32| after[node as usize]?.checked_add(before[node as usize]?);
        // The node before the job is one step from it; the job itself is on every cycle.
        let last = former.get(job).iter().filter_map(|&node| after[node as usize]);
        let length = last.min().expect("a cycle passes through the job") + 1;
        let on_shortest = |&node: &u32| node == job || way(node) == Some(length);
        let jobs = 0..self.jobs.len() as u32;
        let start = jobs.filter(on_shortest).min_by_key(|&node| self.name(node));
        let start = start.expect("the job itself is one");

        // Spelled from the smallest job: at each step the smallest name from which the start can
        // still be reached in time.
        let to_start = distances(&former, start);
        let mut names = vec![self.name(start).clone()];
        let mut node = start;
        for left in (0..length).rev() {
            let in_time = |next: &&u32| to_start[**next as usize] == Some(left);
            let steps = next.get(node).iter().filter(in_time);
            node = *steps.min_by_key(|&&next| self.name(next)).expect("there is a way back");
            names.push(self.name(node).clone());
        }
        names
    }
}

/// Breadth first: how many steps each node is from `start`; `None` if it is not reached.
fn distances(next: &Grouped, start: u32) -> Vec<Option<u32>> {
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
