//! The affected region of edges that go against the topological order: the jobs that may have to
//! move, and the only ones that can lie on a cycle.
//!
//! Let u → v go against the order: v does not come after u. Then one of two sets of jobs has to
//! move: those reached from v through jobs that do not come after u in the order, to behind u; or
//! those leading to u through jobs that do not come before v, to before v. Either is enough, for
//! all such edges together. Two searches for them take turns, one edge a step, and the set that is
//! complete first is taken. So the cost is twice that of the smaller set, however many edges lead
//! into it.
//!
//! Every cycle lies within both sets. Let u be the job of the cycle that is last in the order: the
//! edge u → v by which the cycle leaves it goes against the order, and all other jobs of the cycle
//! are reached from v and come before u. Likewise in the other direction.

use petgraph::Direction;
use petgraph::visit::IntoNeighborsDirected;

use super::graph::Graph;
use super::slot_map::SlotSet;
use super::slots::Slot;
use super::traversal::JobNeighbours;

/// The smaller of the two sets.
pub(super) struct Affected {
    /// `Outgoing`: the jobs reached from the ends of the edges. `Incoming`: those leading to their
    /// starts.
    pub(super) direction: Direction,
    /// Each job with the job that it has to pass: the farthest of all that require it. Sorted, the
    /// farthest first.
    pub(super) jobs: Vec<(Slot, Slot)>,
}

/// The region of `violated`, the edges between jobs that go against the order. It must hold all
/// such edges of the graph, or the order may still be wrong afterwards. `None` if `steps` are not
/// enough.
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
    /// The jobs to start from, each after the job that it has to pass and the label of that. The
    /// farthest is last.
    starts: Vec<(u64, Slot, Slot)>,
    /// The label, and the job to pass, that belong to the current start.
    bound: (u64, Slot),
    seen: SlotSet,
    found: Vec<(Slot, Slot)>,
    waiting: Vec<Slot>,
    neighbours: Option<JobNeighbours<'g>>,
}

impl<'g> Search<'g> {
    fn new(graph: &'g Graph, violated: &[(Slot, Slot)], direction: Direction) -> Self {
        let label = |job| graph.order.label(job);
        let start = |&(from, to): &(Slot, Slot)| match direction {
            Direction::Outgoing => (label(from), from, to),
            Direction::Incoming => (label(to), to, from),
        };
        let mut starts: Vec<_> = violated.iter().map(start).collect();
        starts.sort_unstable();
        if direction == Direction::Incoming {
            starts.reverse();
        }
        Self {
            graph,
            direction,
            starts,
            bound: (0, 0),
            seen: SlotSet::default(),
            found: Vec::new(),
            waiting: Vec::new(),
            neighbours: None,
        }
    }

    /// Looks at one more edge or job. `true` if there are none left.
    fn step(&mut self) -> bool {
        if let Some(next) = self.neighbours.as_mut().and_then(Iterator::next) {
            let label = self.graph.order.label(next);
            let within = match self.direction {
                Direction::Outgoing => label <= self.bound.0,
                Direction::Incoming => label >= self.bound.0,
            };
            if within {
                self.see(next);
            }
        } else if let Some(job) = self.waiting.pop() {
            self.neighbours = Some(self.graph.neighbors_directed(job, self.direction));
        } else if let Some((label, pass, job)) = self.starts.pop() {
            // A job seen before has a label that is as far or farther.
            self.bound = (label, pass);
            self.see(job);
        } else {
            return true;
        }
        false
    }

    fn see(&mut self, job: Slot) {
        if self.seen.insert(job) {
            self.found.push((job, self.bound.1));
            self.waiting.push(job);
        }
    }

    fn finish(self) -> Affected {
        Affected { direction: self.direction, jobs: self.found }
    }
}
