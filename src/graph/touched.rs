//! The ids of everything that a change touched. From them a store knows which rows to write,
//! without looking up a name again.

use super::slots::Slot;

/// Ids of the graph after the change; for what was deleted, ids of the graph before it. An id may
/// be in more than one list, since a free id is used again. They say nothing of a graph that was
/// deleted: none of its rows is left.
#[derive(Debug, Default)]
pub struct Touched {
    /// Jobs that were deleted.
    pub jobs_deleted: Vec<Slot>,
    /// Jobs that were changed, and so have the new version.
    pub jobs_changed: Vec<Slot>,
    /// Jobs that were created.
    pub jobs_created: Vec<Slot>,
    /// Datasets that are gone, with their declaration or their last mention.
    pub datasets_deleted: Vec<Slot>,
    /// Datasets that were declared, or whose declaration was changed or taken back.
    pub datasets_changed: Vec<Slot>,
    /// Datasets that are new, by declaration or with their first mention.
    pub datasets_created: Vec<Slot>,
    /// A job and a dataset that it no longer reads.
    pub inputs_removed: Vec<(Slot, Slot)>,
    /// A job and a dataset that it now reads.
    pub inputs_added: Vec<(Slot, Slot)>,
    /// A job and a dataset that it no longer writes.
    pub outputs_removed: Vec<(Slot, Slot)>,
    /// A job and a dataset that it now writes.
    pub outputs_added: Vec<(Slot, Slot)>,
}
