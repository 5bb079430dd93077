//! What the graph keeps for each job and each dataset.

use super::json::CanonicalJson;
use super::name::Name;
use super::neighbours::Neighbours;
use super::operation::Side;
use super::slots::{Slot, Texts};

#[derive(Clone)]
pub(super) struct JobNode {
    pub(super) name: Name,
    /// The graph's version at which the job was last changed.
    pub(super) version: u64,
    pub(super) spec: CanonicalJson,
    pub(super) inputs: Neighbours,
    pub(super) outputs: Neighbours,
}

#[derive(Clone)]
pub(super) struct DatasetNode {
    pub(super) name: Name,
    /// `None` if the dataset is implied.
    pub(super) metadata: Option<CanonicalJson>,
}

impl JobNode {
    /// The slots of the datasets that the job reads, or writes.
    pub(super) fn side(&self, side: Side) -> &Neighbours {
        match side {
            Side::Input => &self.inputs,
            Side::Output => &self.outputs,
        }
    }
}

/// The jobs that mention a dataset.
#[derive(Clone, Default)]
pub(super) struct DatasetEdges {
    pub(super) producer: Option<Slot>,
    pub(super) consumers: Neighbours,
}

impl DatasetEdges {
    /// How many jobs read the dataset, plus one if a job writes it.
    pub(super) fn mentions(&self) -> usize {
        usize::from(self.producer.is_some()) + self.consumers.len()
    }
}

impl Texts for JobNode {
    fn text_bytes(&self) -> usize {
        self.name.as_str().len() + self.spec.as_str().len()
    }
}

impl Texts for DatasetNode {
    fn text_bytes(&self) -> usize {
        self.name.as_str().len()
            + self.metadata.as_ref().map_or(0, |metadata| metadata.as_str().len())
    }
}
