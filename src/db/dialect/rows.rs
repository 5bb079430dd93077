//! The rows of a graph: jobs with the ids of their inputs, datasets with the id of their producer.

mod columns;
mod read;
mod write;

pub(super) use columns::list_of_ids;
pub use read::{DatasetRow, JobRow, RowRange, RowTable};
pub use write::{DatasetUpdate, JobUpdate, NewDataset, NewJob, RowsWrite};
