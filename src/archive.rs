//! What is kept of a graph's past, and how it comes back: the graph at an earlier version, the log
//! cut off at its beginning with a snapshot in its place, a graph restored from a log or a
//! snapshot, and the log as people read it.
//!
//! Uses `event`, `graph`, `chain`, the rows of `store`, of `db` its errors, and `terminal` for what
//! people read. Takes no lock and no turn: the past does not change, and what is written here holds
//! only if the graph's row is as it must be.

mod check_rows;
mod listing;
mod packed;
mod past;
mod prune;
mod restore;

pub use check_rows::{
    CheckedRows, Difference, GraphFault, Remedy, RowDifference, RowFault, RowOf, check_rows,
};
pub use listing::{Listing, ListingError, ListingFormat, list};
pub use packed::{SnapshotError, drop_snapshots, list_snapshots, take_snapshot};
pub use past::{Past, PastError, graph_at};
pub use prune::{PruneError, Pruned, prune};
pub use restore::{RestoreError, RestoredGraph, Restorer};

/// Bytes of one part of a kept snapshot, beyond which no further event goes into it.
const PART_BYTES: usize = 1 << 20;
