//! What a change touched, by id: where a store has to look for rows to write, without looking a
//! single name up again.

use super::slots::Slot;

/// Ids are those of the graph after the change, of what went those of the graph before. An id may
/// stand in more than one list: it is used again once it is free. Of a graph that was deleted they
/// do not tell: nothing is left to look for.
#[derive(Debug, Default)]
pub struct Touched {
    /// Jobs that went.
    pub jobs_deleted: Vec<Slot>,
    /// Jobs that are of the new version.
    pub jobs_changed: Vec<Slot>,
    /// Jobs that came.
    pub jobs_created: Vec<Slot>,
    /// Datasets that went, by declaration or with their last mention.
    pub datasets_deleted: Vec<Slot>,
    /// Datasets that were declared or whose declaration changed or went.
    pub datasets_changed: Vec<Slot>,
    /// Datasets that came, by declaration or with their first mention.
    pub datasets_created: Vec<Slot>,
    /// A job and a dataset that it reads no more.
    pub inputs_removed: Vec<(Slot, Slot)>,
    /// A job and a dataset that it reads now.
    pub inputs_added: Vec<(Slot, Slot)>,
    /// A job and a dataset that it writes no more.
    pub outputs_removed: Vec<(Slot, Slot)>,
    /// A job and a dataset that it writes now.
    pub outputs_added: Vec<(Slot, Slot)>,
}
