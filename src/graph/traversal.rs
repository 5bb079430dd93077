//! Walks along the edges between jobs: iterators over a job's neighbours, and petgraph's visitor
//! traits over them.
//!
//! petgraph's algorithms see the jobs only. There is an edge x → y where y reads something that x
//! writes, once for each dataset between the two.

use fixedbitset::FixedBitSet;
use petgraph::Direction;
use petgraph::visit::{
    GraphBase, IntoNeighbors, IntoNeighborsDirected, IntoNodeIdentifiers, Visitable,
};

use super::graph::Graph;
use super::neighbours;
use super::slots::Slot;

impl Graph {
    /// The jobs that read something that `job` writes. A job may come more than once.
    #[inline]
    pub(super) fn successors(&self, job: Slot) -> Successors<'_> {
        Successors {
            graph: self,
            outputs: self.jobs.get(job).outputs.iter(),
            consumers: neighbours::Iter::Slice([].iter()),
        }
    }

    /// The jobs that write something that `job` reads. A job may come more than once.
    #[inline]
    pub(super) fn predecessors(&self, job: Slot) -> Predecessors<'_> {
        Predecessors { graph: self, inputs: self.jobs.get(job).inputs.iter() }
    }
}

pub(super) struct Successors<'g> {
    graph: &'g Graph,
    outputs: neighbours::Iter<'g>,
    consumers: neighbours::Iter<'g>,
}

impl Iterator for Successors<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        loop {
            if let Some(job) = self.consumers.next() {
                return Some(job);
            }
            self.consumers = self.graph.dataset_edges(self.outputs.next()?).consumers.iter();
        }
    }
}

pub(super) struct Predecessors<'g> {
    graph: &'g Graph,
    inputs: neighbours::Iter<'g>,
}

impl Iterator for Predecessors<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        let graph = self.graph;
        self.inputs.by_ref().find_map(|dataset| graph.dataset_edges(dataset).producer)
    }
}

/// The neighbours of a job in either direction, for petgraph.
pub enum JobNeighbours<'g> {
    #[doc(hidden)]
    #[expect(
        private_interfaces,
        reason = "only petgraph's traits name this type; its parts stay inside"
    )]
    Successors(Successors<'g>),
    #[doc(hidden)]
    #[expect(
        private_interfaces,
        reason = "only petgraph's traits name this type; its parts stay inside"
    )]
    Predecessors(Predecessors<'g>),
}

impl Iterator for JobNeighbours<'_> {
    type Item = Slot;

    fn next(&mut self) -> Option<Slot> {
        match self {
            Self::Successors(jobs) => jobs.next(),
            Self::Predecessors(jobs) => jobs.next(),
        }
    }
}

impl GraphBase for Graph {
    type NodeId = Slot;
    type EdgeId = (Slot, Slot);
}

impl<'g> IntoNeighbors for &'g Graph {
    type Neighbors = JobNeighbours<'g>;

    fn neighbors(self, job: Slot) -> JobNeighbours<'g> {
        JobNeighbours::Successors(self.successors(job))
    }
}

impl<'g> IntoNeighborsDirected for &'g Graph {
    type NeighborsDirected = JobNeighbours<'g>;

    fn neighbors_directed(self, job: Slot, direction: Direction) -> JobNeighbours<'g> {
        match direction {
            Direction::Outgoing => JobNeighbours::Successors(self.successors(job)),
            Direction::Incoming => JobNeighbours::Predecessors(self.predecessors(job)),
        }
    }
}

impl IntoNodeIdentifiers for &Graph {
    type NodeIdentifiers = std::vec::IntoIter<Slot>;

    fn node_identifiers(self) -> Self::NodeIdentifiers {
        self.jobs.taken().collect::<Vec<_>>().into_iter()
    }
}

impl Visitable for Graph {
    type Map = FixedBitSet;

    fn visit_map(&self) -> FixedBitSet {
        FixedBitSet::with_capacity(self.jobs.slots())
    }

    fn reset_map(&self, map: &mut FixedBitSet) {
        map.clear();
        map.grow(self.jobs.slots());
    }
}
