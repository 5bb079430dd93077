//! The affected region: the jobs that may have to move when edges were added that go against the
//! topological order, and the only ones among which such edges can close a cycle.
//!
//! Let u → v go against the order: v does not come after u. Then all that is reached from v without
//! passing u in the order may have to move behind u, or else all that leads to u without passing v
//! may have to move before v. Either set is enough, for all such edges together. Both are searched
//! for in turn, one edge a step, and the one that is complete first is taken. So the cost is twice
//! that of the smaller, however many edges lead into it.
//!
//! Every cycle lies within both. Its last job in the order is left by an edge u → v that goes
//! against the order, and all the rest of it is reached from v without passing u; likewise the
//! other way.

use petgraph::Direction;
use petgraph::visit::IntoNeighborsDirected;

use super::graph::Graph;
use super::slot_map::SlotSet;
use super::slots::Slot;
use super::traversal::JobNeighbours;

/// The smaller of the two sets.
pub(super) struct Affected {
    /// `Outgoing`: reached from the ends of edges. `Incoming`: leading to their starts.
    pub(super) direction: Direction,
    /// Each job with the label that it has to pass: of those that it is reached under, the
    /// farthest. Farther ones come first.
    pub(super) jobs: Vec<(Slot, u64)>,
}

/// The region of `violated`, edges between jobs that go against the order; of all such edges that
/// the graph has, or another that is left out may yet go against the order afterwards. `None` if it
/// is not found in `steps`.
pub(super) fn affected(graph: &Graph, violated: &[(Slot, Slot)], steps: usize) -> Option<Affected> {
    let mut forward = Search::new(graph, violated, Direction::Outgoing);
    let mut backward = Search::new(graph, violated, Direction::Incoming);
    for _ in 0..steps {
        if forward.step() {
            return Some(forward.finish());
        }
        if backward.step() {
            return Some(backward.finish());
        }
    }
    None
}

struct Search<'g> {
    graph: &'g Graph,
    direction: Direction,
    /// Jobs to begin at, each with the label that it has to pass; the farthest last.
    starts: Vec<(u64, Slot)>,
    /// The label of the start that is searched from.
    bound: u64,
    seen: SlotSet,
    found: Vec<(Slot, u64)>,
    waiting: Vec<Slot>,
    neighbours: Option<JobNeighbours<'g>>,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph, violated: &[(Slot, Slot)], direction: Direction) -> Self {
        let label = |job| graph.order.label(job);
        let mut starts: Vec<(u64, Slot)> = match direction {
            Direction::Outgoing => violated.iter().map(|&(from, to)| (label(from), to)).collect(),
            Direction::Incoming => violated.iter().map(|&(from, to)| (label(to), from)).collect(),
        };
        starts.sort_unstable();
        if direction == Direction::Incoming {
            starts.reverse();
        }
        Self {
            graph,
            direction,
            starts,
            bound: 0,
            seen: SlotSet::default(),
            found: Vec::new(),
            waiting: Vec::new(),
            neighbours: None,
        }
    }

    /// Looks at one edge or one job more; `true` if there are none.
    fn step(&mut self) -> bool {
        if let Some(next) = self.neighbours.as_mut().and_then(Iterator::next) {
            let label = self.graph.order.label(next);
            let within = match self.direction {
                Direction::Outgoing => label <= self.bound,
                Direction::Incoming => label >= self.bound,
            };
            if within {
                self.see(next);
            }
        } else if let Some(job) = self.waiting.pop() {
            self.neighbours = Some(self.graph.neighbors_directed(job, self.direction));
        } else if let Some((bound, job)) = self.starts.pop() {
            // What was seen before is under a label that is as far or farther.
            self.bound = bound;
            self.see(job);
        } else {
            return true;
        }
        false
    }

    fn see(&mut self, job: Slot) {
        if self.seen.insert(job) {
            self.found.push((job, self.bound));
            self.waiting.push(job);
        }
    }

    fn finish(self) -> Affected {
        Affected { direction: self.direction, jobs: self.found }
    }
}
