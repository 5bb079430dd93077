//! A load that begins with a packed snapshot: the newest that can be used, and the changes after it.
//!
//! A snapshot can be used if its format is the one that this program reads, if it is of the history
//! that the log tells of, and if each part is what was written. One that cannot is passed over for
//! the one before, and the log says why. So a damaged snapshot costs time and nothing else, as long
//! as the log goes back far enough, or the graph has rows.

use super::Store;
use super::error::StoreError;
use super::head::Head;
use super::log_replay::{LogStart, Place, Replayed, cyclic, read_log};
use super::packed::{DamagedParts, PackedSnapshot, is_of_history, read_part, read_snapshots};
use super::storage::{Loaded, LoadedFrom, SnapshotUse};
use crate::db::AnyConnection;
use crate::graph::{
    Change, Graph, GraphUnpacker, LogBuilder, PACKED_FORMAT, UnpackError, apply_and_judge,
};

/// Where the graph has rows: it is loaded from a snapshot if that has so many bytes for each change
/// that came after it. The rows are then the longer way: see benches/README.md.
const BYTES_PER_CHANGE: u64 = 256;

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Another version of Fencepost has taken it.
    #[error("it has format {0}, which this program does not read")]
    OtherFormat(u64),
    /// The log does not have its version, has it with another chain, or begins later.
    #[error("it is of another history than the log, or of a version before the log's beginning")]
    OtherHistory,
    /// A part is missing, or is not what was written.
    #[error(transparent)]
    Parts(DamagedParts),
    /// The parts are no packed graph.
    #[error(transparent)]
    Content(UnpackError),
    /// The parts are those of another version.
    #[error("its parts are of version {0}")]
    Version(u64),
    /// The changes after it do not follow.
    #[error("the log does not go on from it: {0}")]
    Tail(StoreError),
}

impl Store {
    /// The graph of one of its packed snapshots, read back; or why that cannot be used.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub fn unpack_snapshot(
        &self,
        head: &Head,
        snapshot: &PackedSnapshot,
    ) -> Result<Result<Graph, Unusable>, StoreError> {
        let unpacked = self.database.read(|connection| unpack(connection, head, snapshot))?;
        Ok(unpacked.and_then(|unpacker| unpacker.finish().map_err(Unusable::Content)))
    }
}

/// The graph of `head` from a packed snapshot and the changes after it; `None` if no snapshot can
/// be used, or if it is to be used only where that is quicker, and is not.
///
/// # Errors
/// [`StoreError`] if the database cannot be read; or if there is no other way to load the graph,
/// and its log does not go on from its snapshots.
pub(super) fn load_from_snapshot(
    connection: &mut AnyConnection,
    head: &Head,
    used: SnapshotUse,
) -> Result<Option<Loaded>, StoreError> {
    let mut broken = None;
    for snapshot in read_snapshots(connection, head.id, head.version)? {
        let changes = head.version - snapshot.version;
        let is_quicker = changes.saturating_mul(BYTES_PER_CHANGE) <= snapshot.bytes;
        // Those before have more changes after them.
        if used == SnapshotUse::Quicker && !is_quicker {
            break;
        }
        let loaded = match unpack(connection, head, &snapshot)? {
            Ok(unpacker) => load_after(connection, head, &snapshot, unpacker)?,
            Err(why) => Err(why),
        };
        match loaded {
            Ok(loaded) => return Ok(Some(loaded)),
            Err(why) => {
                log::warn!(
                    "the snapshot of graph `{}` at version {} is passed over: {why}",
                    head.name,
                    snapshot.version
                );
                if let Unusable::Tail(error) = why {
                    broken.get_or_insert(error);
                }
            }
        }
    }
    match broken {
        Some(error) if used == SnapshotUse::Beginning && head.oldest > 1 => Err(error),
        _ => Ok(None),
    }
}

/// All parts of a snapshot, read; or why it cannot be used.
fn unpack(
    connection: &mut AnyConnection,
    head: &Head,
    snapshot: &PackedSnapshot,
) -> Result<Result<GraphUnpacker, Unusable>, StoreError> {
    if snapshot.format != PACKED_FORMAT {
        return Ok(Err(Unusable::OtherFormat(snapshot.format)));
    }
    // The changes after it would not follow either; this is told before all parts are read.
    if !is_of_history(connection, head, snapshot)? {
        return Ok(Err(Unusable::OtherHistory));
    }
    let mut unpacker = GraphUnpacker::default();
    for part in 0..snapshot.parts {
        match read_part(connection, head.id, &snapshot.id, part)? {
            Err(damaged) => return Ok(Err(Unusable::Parts(damaged))),
            Ok(content) => {
                if let Err(error) = unpacker.add(&content) {
                    return Ok(Err(Unusable::Content(error)));
                }
            }
        }
    }
    match unpacker.version() {
        Some(version) if version != snapshot.version => Ok(Err(Unusable::Version(version))),
        _ => Ok(Ok(unpacker)),
    }
}

/// The unpacked graph, brought to the version of `head`; or why the snapshot cannot be used.
fn load_after(
    connection: &mut AnyConnection,
    head: &Head,
    snapshot: &PackedSnapshot,
    unpacker: GraphUnpacker,
) -> Result<Result<Loaded, Unusable>, StoreError> {
    let changes = head.version - snapshot.version;
    let place = Place { version: snapshot.version, chain: snapshot.chain };
    let replayed = match unpacker.is_long_tail(changes) {
        true => replay::<LogBuilder>(connection, head, place, unpacker.into_log_builder())
            .and_then(|builder| builder.finish().map_err(|error| cyclic(head, &error).into())),
        false => {
            let unpacked = unpacker.finish().map(ShortTail);
            replay(connection, head, place, unpacked).map(|ShortTail(graph)| graph)
        }
    };
    let from = LoadedFrom::Snapshot { version: snapshot.version, changes };
    match replayed {
        Ok(graph) => Ok(Ok(Loaded { graph: Box::new(|| Ok(graph)), from })),
        Err(NotLoaded::Snapshot(why)) => Ok(Err(why)),
        Err(NotLoaded::Database(error)) => Err(error),
    }
}

/// Why a graph was not loaded from a snapshot.
enum NotLoaded {
    /// Another one may do.
    Snapshot(Unusable),
    /// Nothing can be read now.
    Database(StoreError),
}

impl From<StoreError> for NotLoaded {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::DamagedHistory { .. } => Self::Snapshot(Unusable::Tail(error)),
            other => Self::Database(other),
        }
    }
}

/// What was unpacked, with the log after `place` replayed on top of it.
fn replay<R: Replayed>(
    connection: &mut AnyConnection,
    head: &Head,
    place: Place,
    unpacked: Result<R, UnpackError>,
) -> Result<R, NotLoaded> {
    let replayed = unpacked.map_err(|error| NotLoaded::Snapshot(Unusable::Content(error)))?;
    Ok(read_log(connection, head, LogStart { place, replayed })?)
}

/// A graph to which few changes are applied one by one.
#[derive(Default)]
struct ShortTail(Graph);

impl Replayed for ShortTail {
    fn version(&self) -> u64 {
        self.0.version()
    }

    fn add(&mut self, change: &Change) -> Result<(), String> {
        let (next, judged) = apply_and_judge(std::mem::take(&mut self.0), change);
        self.0 = next;
        judged.map_err(|illegal| illegal.to_string())
    }
}
