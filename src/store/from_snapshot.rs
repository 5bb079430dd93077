//! A load that begins with a packed snapshot: the newest that can be used, and the changes after it.
//!
//! A snapshot can be used if its format is the one that this program reads, if it is of the history
//! that the log tells of, and if each part is what was written. One that cannot is passed over for
//! the one before, and the log says why. So a damaged snapshot costs time and nothing else, as long
//! as the log goes back far enough.

use super::Store;
use super::error::StoreError;
use super::head::Head;
use super::log_replay::{LogStart, Place, Replayed, finished, read_log};
use super::packed::{DamagedParts, PackedSnapshot, read_chain, read_part, read_snapshots};
use super::storage::{Loaded, LoadedFrom};
use crate::db::AnyConnection;
use crate::failpoint;
use crate::graph::{Change, Graph, GraphUnpacker, PACKED_FORMAT, UnpackError, apply_and_judge};

/// Why a snapshot cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Unusable {
    /// Another version of Fencepost has taken it.
    #[error("it has format {0}, which this program does not read")]
    OtherFormat(u64),
    /// The log does not have its version, or has it with another chain.
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

/// The graph of `head` from a packed snapshot and the changes after it; `None` if there is no
/// snapshot that can be used.
pub(super) fn load_from_snapshot(
    connection: &mut AnyConnection,
    head: &Head,
) -> Result<Option<Loaded>, StoreError> {
    for snapshot in read_snapshots(connection, head.id, head.version)? {
        match unpack(connection, head, &snapshot)? {
            Ok(unpacker) => match load_after(connection, head, &snapshot, unpacker)? {
                Ok(loaded) => return Ok(Some(loaded)),
                Err(error) => pass_over(head, &snapshot, &Unusable::Content(error)),
            },
            Err(why) => pass_over(head, &snapshot, &why),
        }
    }
    Ok(None)
}

fn pass_over(head: &Head, snapshot: &PackedSnapshot, why: &Unusable) {
    log::warn!(
        "the snapshot of graph `{}` at version {} is passed over: {why}",
        head.name,
        snapshot.version
    );
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
    let logged = read_chain(connection, head.id, snapshot.version)?;
    let is_of_history = logged.is_some_and(|chain| chain[..] == snapshot.chain.0[..]);
    if !is_of_history && !failpoint::is_off("packed-history") {
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

/// The unpacked graph, brought to the version of `head`.
fn load_after(
    connection: &mut AnyConnection,
    head: &Head,
    snapshot: &PackedSnapshot,
    unpacker: GraphUnpacker,
) -> Result<Result<Loaded, UnpackError>, StoreError> {
    let changes = head.version - snapshot.version;
    let from = LoadedFrom::Snapshot { version: snapshot.version, changes };
    let place = Place { version: snapshot.version, chain: snapshot.chain };
    if unpacker.is_long_tail(changes) {
        let replayed = match unpacker.into_log_builder() {
            Ok(builder) => builder,
            Err(error) => return Ok(Err(error)),
        };
        let builder = read_log(connection, head, LogStart { place, replayed })?;
        return Ok(Ok(finished(builder, head, from)));
    }
    let graph = match unpacker.finish() {
        Ok(graph) => graph,
        Err(error) => return Ok(Err(error)),
    };
    let ShortTail(graph) =
        read_log(connection, head, LogStart { place, replayed: ShortTail(graph) })?;
    Ok(Ok(Loaded { graph: Box::new(|| Ok(graph)), from }))
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
