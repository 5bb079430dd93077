//! Finds the cycle to show: the shortest, of these the byte-smallest. Runs only when a change is
//! about to be rejected.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet, VecDeque};

use super::acyclic::Cyclic;
use super::adjacency::Graph;
use super::name::Name;
use super::order::Slot;

/// The shortest cycle of a graph in which every cycle goes through a linked job; of several the
/// byte-smallest, written from its byte-smallest job, jobs and datasets alternating, the first name
/// again at the end.
///
/// Cost: a breadth-first search of the affected region for each linked job that lies on a cycle,
/// and one depth-first search of the whole graph if more than one job was linked.
pub(super) fn shortest(cyclic: &Cyclic) -> Vec<Name> {
    let graph = &cyclic.graph;
    let mut region = Region::around(cyclic);
    let mut best: Option<(usize, &Name, Slot)> = None;
    let mut everything = None;
    for &job in &cyclic.linked {
        if !region.holds(job) {
            continue;
        }
        let limit = best.map_or(usize::MAX, |(length, ..)| length);
        if let Some((length, smallest)) = region.smallest_on_shortest_through(job, limit) {
            let candidate = (length, &graph.jobs.get(smallest).name, smallest);
            best = Some(best.map_or(candidate, |best| best.min(candidate)));
        }
        // The job's cycles are accounted for; without it, what only it held together falls away.
        everything.get_or_insert_with(|| region.clone());
        region.remove(job);
    }
    let (length, _, start) = best.expect("a cyclic graph has a cycle through a linked job");
    spell(graph, &everything.expect("a linked job lies on a cycle"), start, length)
}

/// The jobs among which a cycle is looked for.
#[derive(Clone)]
struct Region<'g> {
    graph: &'g Graph,
    jobs: HashSet<Slot>,
}

impl<'g> Region<'g> {
    fn around(cyclic: &'g Cyclic) -> Self {
        let graph = &cyclic.graph;
        let jobs = match cyclic.linked[..] {
            [job] => Self::window(graph, job),
            _ => petgraph::algo::kosaraju_scc(graph)
                .into_iter()
                .filter(|component| {
                    component.len() > 1
                        || graph.successors(component[0]).any(|job| job == component[0])
                })
                .flatten()
                .collect(),
        };
        Self { graph, jobs }
    }

    /// If all new edges are of one job, all others rise, and a cycle stays below the job's last
    /// predecessor.
    fn window(graph: &Graph, job: Slot) -> HashSet<Slot> {
        let last =
            graph.predecessors(job).map(|before| graph.order.label(before)).max().unwrap_or(0);
        let mut seen = HashSet::from([job]);
        let mut waiting = vec![job];
        while let Some(at) = waiting.pop() {
            for next in graph.successors(at) {
                if graph.order.label(next) <= last && seen.insert(next) {
                    waiting.push(next);
                }
            }
        }
        seen
    }

    fn holds(&self, job: Slot) -> bool {
        self.jobs.contains(&job)
    }

    /// Takes `job` out, and with it all that no longer lies between two jobs of the region.
    fn remove(&mut self, job: Slot) {
        self.jobs.remove(&job);
        let graph = self.graph;
        let mut waiting: Vec<Slot> = graph.successors(job).chain(graph.predecessors(job)).collect();
        while let Some(job) = waiting.pop() {
            let loose = self.holds(job)
                && (!graph.successors(job).any(|next| self.holds(next))
                    || !graph.predecessors(job).any(|before| self.holds(before)));
            if loose {
                self.jobs.remove(&job);
                waiting.extend(graph.successors(job).chain(graph.predecessors(job)));
            }
        }
    }

    /// The length in jobs of the shortest cycle through `job`, if it is at most `limit`, and the
    /// byte-smallest job on any of that length.
    fn smallest_on_shortest_through(&self, job: Slot, limit: usize) -> Option<(usize, Slot)> {
        let (after, length) = self.distances(job, limit, Graph::successors);
        let length = length?;
        let (before, _) = self.distances(job, length, Graph::predecessors);
        let on_cycle = after.iter().filter(|(job, distance)| {
            before.get(job).is_some_and(|rest| *distance + rest == length)
        });
        let smallest = on_cycle
            .map(|(&other, _)| other)
            .chain([job])
            .min_by_key(|&other| &self.graph.jobs.get(other).name);
        smallest.map(|smallest| (length, smallest))
    }

    /// Breadth first from `start`: the distance to every other job of the region that is nearer
    /// than `limit`, and the length of the shortest way back to `start` itself.
    fn distances<I: Iterator<Item = Slot>>(
        &self,
        start: Slot,
        limit: usize,
        step: impl Fn(&'g Graph, Slot) -> I,
    ) -> (HashMap<Slot, usize>, Option<usize>) {
        let mut distances = HashMap::new();
        let mut waiting = VecDeque::from([(start, 0)]);
        let mut back = None;
        while let Some((job, distance)) = waiting.pop_front() {
            if distance == back.unwrap_or(limit) {
                break;
            }
            for next in step(self.graph, job).filter(|next| self.holds(*next)) {
                if next == start {
                    back = back.or(Some(distance + 1));
                } else if let Entry::Vacant(entry) = distances.entry(next) {
                    entry.insert(distance + 1);
                    waiting.push_back((next, distance + 1));
                }
            }
        }
        (distances, back)
    }
}

/// The byte-smallest cycle of `length` jobs from `start`, which is the smallest job on any of that
/// length: at each step the smallest dataset, then the smallest job, from which `start` can still
/// be reached in time.
fn spell(graph: &Graph, region: &Region<'_>, start: Slot, length: usize) -> Vec<Name> {
    let (to_start, _) = region.distances(start, length, Graph::predecessors);
    let in_time = |job: Slot, left: usize| {
        if left == 0 { job == start } else { to_start.get(&job) == Some(&left) }
    };
    let mut names = vec![graph.jobs.get(start).name.clone()];
    let mut job = start;
    for left in (0..length).rev() {
        let steps = graph.jobs.get(job).outputs.iter().flat_map(|slot| {
            let dataset = &graph.datasets.get(slot).name;
            let consumers = graph.dataset_edges(slot).consumers.iter();
            consumers.filter(|&next| in_time(next, left)).map(move |next| (dataset, next))
        });
        let (dataset, next) = steps
            .min_by_key(|&(dataset, next)| (dataset, &graph.jobs.get(next).name))
            .expect("the way back was found before");
        names.push(dataset.clone());
        names.push(graph.jobs.get(next).name.clone());
        job = next;
    }
    names
}
