//! Topological generations: all jobs in an order that depends on nothing but the graph.

use std::ops::Bound;

use super::adjacency::Graph;
use super::order::Slot;

impl Graph {
    /// The ids of all jobs: by the length of the longest chain of producing jobs before each, and within one generation in byte order of names.
    /// O(n log n) for n jobs and edges.
    #[must_use]
    pub fn jobs_by_generation(&self) -> Vec<u32> {
        let by_name: Vec<Slot> = self.job_index.slots_from(Bound::Unbounded).collect();
        let mut sorted = by_name.clone();
        sorted.sort_unstable_by_key(|&job| self.order.label(job));
        let mut generations = vec![0; self.jobs.slots()];
        let mut sizes: Vec<usize> = Vec::new();
        for job in sorted {
            let generation = self.predecessors(job).map(|before| generations[before as usize] + 1).max().unwrap_or(0);
            generations[job as usize] = generation;
            if sizes.len() <= generation {
                sizes.resize(generation + 1, 0);
            }
            sizes[generation] += 1;
        }
        let mut next: Vec<usize> =
            sizes.iter().scan(0, |sum, size| Some(std::mem::replace(sum, *sum + size))).collect();
        let mut placed = vec![0; by_name.len()];
        for job in by_name {
            let place = &mut next[generations[job as usize]];
            placed[*place] = job;
            *place += 1;
        }
        placed
    }
}
