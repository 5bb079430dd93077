//! What may differ between two services over the same store, besides how writers take turns.

use crate::store::{CatchUp, StorageKind};

/// How a service is built. Rules, answers and durability are the same for all; what a request costs
/// is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Choices {
    /// How the graphs are kept that are served so.
    pub storage: StorageKind,
    /// How the image follows the store.
    pub refresh: Refresh,
    /// How many requests one turn serves.
    pub batch: BatchSize,
    /// What a turn of writes looks at to see that there is no cycle.
    pub cycle_check: CycleCheck,
}

/// How the image is brought to the store's version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresh {
    /// It is loaded for each turn and not kept. O(size of the graph) a turn.
    Always,
    /// It is kept, and loaded again when the version moved. O(size of the graph) after another
    /// process has written.
    WhenMoved,
    /// It is kept, and the changes since its version are applied, as long as the log has them.
    /// O(what was changed).
    Delta,
}

impl Refresh {
    /// Whether an image outlives the turn that loaded or made it.
    #[must_use]
    pub fn keeps_images(self) -> bool {
        self != Self::Always
    }

    pub(super) fn catches_up_by(self) -> CatchUp {
        match self {
            Self::Always => CatchUp::Anew,
            Self::WhenMoved => CatchUp::Reload,
            Self::Delta => CatchUp::Changes,
        }
    }
}

/// How many requests one turn serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BatchSize {
    /// One.
    One,
    /// All that wait, within the limits of a batch.
    AllWaiting,
}

/// What is looked at to see that a write closes no cycle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CycleCheck {
    /// The part of the graph that the write touches.
    Affected,
    /// After that, the whole graph is sorted once more. It finds no cycle that was not found
    /// before: what it is for is its cost.
    WholeGraph,
}
