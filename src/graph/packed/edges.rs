//! The edges of a graph as its datasets have them, made of those that its jobs have.

use super::error::UnpackError;
use crate::graph::adjacency_lists::AdjacencyLists;
use crate::graph::neighbours::Neighbours;
use crate::graph::nodes::{DatasetEdges, DatasetNode};
use crate::graph::ranges::by_ranges;
use crate::graph::slots::{Slot, Slots};

/// No slot, and no place in the order. All are far smaller.
pub(super) const NONE: u32 = u32::MAX;
/// Stands for a slot that is free.
pub(super) const FREE: u32 = u32::MAX - 1;

/// The producer and the consumers of each dataset, by slot. `producers` has the first, or [`NONE`],
/// or [`FREE`]. `inputs` has pairs of a dataset and a job that reads it, of rising jobs. `places`
/// has the place of each job in the topological order. O(n) for n datasets and inputs.
///
/// # Errors
/// [`UnpackError`] if an edge leads nowhere or goes against the order, or a dataset is neither
/// declared nor mentioned.
pub(super) fn dataset_edges<C: FromIterator<DatasetEdges>>(
    datasets: &Slots<DatasetNode>,
    producers: &[Slot],
    inputs: Vec<(Slot, Slot)>,
    places: &[u32],
) -> Result<C, UnpackError> {
    let inputs = by_ranges(inputs, producers.len(), |(dataset, _)| *dataset as usize);
    for &(dataset, job) in &inputs {
        match producers[dataset as usize] {
            NONE => {}
            FREE => return Err(UnpackError::DanglingEdge { job, dataset: dataset.into() }),
            producer if places[producer as usize] < places[job as usize] => {}
            producer => return Err(UnpackError::AgainstOrder { producer, dataset, job }),
        }
    }
    let consumers_of = AdjacencyLists::new(inputs.iter().copied(), producers.len());
    let edges_of = |((slot, &producer), node): ((Slot, &Slot), Option<&DatasetNode>)| {
        let consumers = consumers_of.get(slot);
        let is_mentioned = producer != NONE || !consumers.is_empty();
        match node {
            Some(DatasetNode { name, metadata: None }) if !is_mentioned => {
                Err(UnpackError::Orphan { dataset: name.clone() })
            }
            _ => Ok(DatasetEdges {
                producer: Some(producer).filter(|&producer| producer < FREE),
                consumers: Neighbours::from_sorted(consumers),
            }),
        }
    };
    (0..).zip(producers).zip(datasets.iter()).map(edges_of).collect()
}
