//! Packed snapshots in the database: who takes one, its parts, and which there are. What the bytes
//! say is not known here: see [`graph::packed`](crate::graph::packed).
//!
//! A snapshot is written part by part where nobody reads it; one short transaction makes it one
//! that can be read. Whoever writes it has claimed the graph: the claim names the snapshot, each
//! part renews it, and a claim that expired can be taken over, after which the former owner writes
//! nothing more. What a dead owner left is deleted by the next.

use std::time::Duration;

use diesel::dsl::{count_star, sum};
use diesel::prelude::*;
use sha2::{Digest, Sha256};
use uuid::Uuid;

use super::Store;
use super::commit_error::{CommitError, repeatable};
use super::error::StoreError;
use super::head::{Head, column, head_of, read_head, read_head_row};
use super::storage::History;
use crate::chain::Chain;
use crate::db::schema::{
    changes, length, octet_length, packed_claims, packed_parts, packed_snapshots,
};
use crate::db::{AnyConnection, Value};
use crate::failpoint;
use crate::graph::{Graph, GraphPacker, Name, PACKED_FORMAT};

/// Bytes of a part of the empty graph, at most.
const EMPTY_BYTES: usize = 1 << 10;
/// Parts that one transaction deletes.
const DELETED_PARTS: i64 = 16;

/// A snapshot that can be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PackedSnapshot {
    /// The graph's version.
    pub version: u64,
    /// Names its parts.
    pub id: String,
    /// The graph's chain at that version.
    pub chain: Chain,
    /// How its bytes are to be read.
    pub format: u64,
    /// The graph's digest.
    pub digest: String,
    /// How many parts it has.
    pub parts: u64,
    /// How many bytes they have together.
    pub bytes: u64,
    /// When it was taken, by the database's clock, in milliseconds since 1970.
    pub taken_at_ms: i64,
}

/// The right to take the next snapshot of a graph.
#[derive(Debug, Clone)]
pub struct SnapshotClaim {
    graph: Name,
    graph_id: i64,
    /// Names the snapshot.
    id: String,
    /// How long it holds after each part.
    lasts: Duration,
}

/// What becomes of a written snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Installed {
    /// It can be read.
    Yes(PackedSnapshot),
    /// The claim had expired, and another process has claimed the graph.
    ClaimLost,
    /// The graph's log does not have that version with that chain: it is of another history, or
    /// the log was pruned beyond it.
    OtherHistory,
    /// Its parts are not those that were written.
    PartsDiffer,
}

/// Why a snapshot is not dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dropped {
    /// So many are gone.
    Count(usize),
    /// This one: the log has nothing before it any more, and the graph could be loaded from no
    /// other.
    Needed(u64),
}

type SnapshotRow = (i64, String, Vec<u8>, i64, String, i64, i64, i64);

fn snapshot_of(row: SnapshotRow) -> Result<PackedSnapshot, StoreError> {
    let (version, id, chain, format, digest, parts, bytes, taken_at_ms) = row;
    let damaged = |what: &str| {
        StoreError::DamagedValue(format!("{what} of the packed snapshot of version {version}"))
    };
    Ok(PackedSnapshot {
        version: u64::try_from(version).map_err(|_| damaged("the version"))?,
        id,
        chain: Chain(chain.as_slice().try_into().map_err(|_| damaged("the chain"))?),
        format: u64::try_from(format).map_err(|_| damaged("the format"))?,
        digest,
        parts: u64::try_from(parts).map_err(|_| damaged("the number of parts"))?,
        bytes: u64::try_from(bytes).map_err(|_| damaged("the number of bytes"))?,
        taken_at_ms,
    })
}

/// The snapshots of a graph that are at most of that version, the newest first. One whose row is
/// damaged is passed over, and said.
pub(super) fn read_snapshots(
    connection: &mut AnyConnection,
    graph_id: i64,
    newest: u64,
) -> QueryResult<Vec<PackedSnapshot>> {
    let rows: Vec<SnapshotRow> = packed_snapshots::table
        .filter(packed_snapshots::graph_id.eq(graph_id))
        .filter(packed_snapshots::version.le(column(newest)))
        .order(packed_snapshots::version.desc())
        .select((
            packed_snapshots::version,
            packed_snapshots::snapshot,
            packed_snapshots::chain,
            packed_snapshots::format,
            packed_snapshots::digest,
            packed_snapshots::parts,
            packed_snapshots::bytes,
            packed_snapshots::taken_at_ms,
        ))
        .load(connection)?;
    let readable =
        |row| snapshot_of(row).map_err(|error| log::warn!("{error}: it is passed over")).ok();
    Ok(rows.into_iter().filter_map(readable).collect())
}

/// Why parts are not those that were written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DamagedParts {
    /// There is none of this number.
    #[error("part {0} is missing")]
    Missing(u64),
    /// The part of this number has another checksum than was stored with it.
    #[error("part {0} is not what was written: its checksum differs")]
    Checksum(u64),
}

/// A part of a snapshot, held against its checksum.
pub(super) fn read_part(
    connection: &mut AnyConnection,
    graph_id: i64,
    snapshot: &str,
    part: u64,
) -> QueryResult<Result<Vec<u8>, DamagedParts>> {
    let found: Option<(Vec<u8>, Vec<u8>)> = packed_parts::table
        .filter(packed_parts::graph_id.eq(graph_id))
        .filter(packed_parts::snapshot.eq(snapshot))
        .filter(packed_parts::part.eq(column(part)))
        .select((packed_parts::checksum, packed_parts::content))
        .first(connection)
        .optional()?;
    let Some((checksum, content)) = found else { return Ok(Err(DamagedParts::Missing(part))) };
    if Sha256::digest(&content)[..] != checksum[..] && !failpoint::is_off("packed-checksum") {
        return Ok(Err(DamagedParts::Checksum(part)));
    }
    Ok(Ok(content))
}

/// The chain that the log has at a version; `None` if it has no such change.
fn read_chain(
    connection: &mut AnyConnection,
    graph_id: i64,
    version: u64,
) -> QueryResult<Option<Vec<u8>>> {
    let change = changes::table.find((graph_id, column(version)));
    change.select(changes::chain).first(connection).optional()
}

impl Store {
    /// The graph's packed snapshots, the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn packed_snapshots(&self, graph_id: i64) -> Result<Vec<PackedSnapshot>, StoreError> {
        let newest = i64::MAX as u64;
        Ok(self.database.ask(|connection| read_snapshots(connection, graph_id, newest))?)
    }

    /// The snapshots that this program can read and that are of the graph's history, as far as their
    /// rows tell; the newest first.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be learnt.
    pub fn usable_snapshots(&self, name: &Name) -> Result<Vec<PackedSnapshot>, StoreError> {
        self.database.read(|connection| {
            // Also of a server that takes no writes.
            let (_, row) = read_head_row(connection, name)?;
            let Some(row) = row else { return Ok(Vec::new()) };
            Ok(usable_snapshots(connection, &head_of(row)?)?)
        })
    }

    /// Whether another process takes a snapshot of the graph now.
    ///
    /// # Errors
    /// [`StoreError`] if that cannot be learnt.
    pub(super) fn is_claimed(&self, graph_id: i64) -> Result<bool, StoreError> {
        Ok(self.database.ask(|connection| {
            let now_ms = connection.now_ms()?;
            let claim = packed_claims::table.find(graph_id);
            let claims = claim.filter(packed_claims::expires_at_ms.gt(now_ms)).count();
            Ok(claims.get_result::<i64>(connection)? > 0)
        })?)
    }

    /// A part of a snapshot, held against its checksum.
    ///
    /// # Errors
    /// [`StoreError`] if it cannot be read.
    pub(super) fn packed_part(
        &self,
        graph_id: i64,
        snapshot: &str,
        part: u64,
    ) -> Result<Result<Vec<u8>, DamagedParts>, StoreError> {
        Ok(self.database.ask(|connection| read_part(connection, graph_id, snapshot, part))?)
    }

    /// How many bytes the changes of versions `after + 1` to `last` have.
    ///
    /// # Errors
    /// [`StoreError`] if they cannot be read.
    pub fn log_bytes(&self, graph_id: i64, after: u64, last: u64) -> Result<u64, StoreError> {
        let bytes: Option<i64> = self.database.ask(|connection| {
            changes::table
                .filter(changes::graph_id.eq(graph_id))
                .filter(changes::version.gt(column(after)))
                .filter(changes::version.le(column(last)))
                .select(sum(octet_length(changes::change)))
                .first(connection)
        })?;
        Ok(bytes.unwrap_or_default() as u64)
    }

    /// Claims the right to take a snapshot; `None` if another process has it. It `lasts` so long
    /// after each part.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn claim_snapshot(
        &self,
        graph: &Name,
        graph_id: i64,
        lasts: Duration,
    ) -> Result<Option<SnapshotClaim>, CommitError> {
        let id = Uuid::new_v4().to_string();
        let claim = SnapshotClaim { graph: graph.clone(), graph_id, id, lasts };
        let claimed = self.database.write(|connection| {
            let now_ms = connection.now_ms()?;
            let changed = connection.run(
                "INSERT INTO packed_claims (graph_id, snapshot, expires_at_ms) VALUES (?, ?, ?) \
                 ON CONFLICT (graph_id) DO UPDATE SET snapshot = excluded.snapshot, \
                 expires_at_ms = excluded.expires_at_ms WHERE packed_claims.expires_at_ms <= ?",
                &[
                    Value::Integer(graph_id),
                    Value::Text(&claim.id),
                    Value::Integer(now_ms.saturating_add(claim.lasts_ms())),
                    Value::Integer(if failpoint::is_off("packed-claim") {
                        i64::MAX
                    } else {
                        now_ms
                    }),
                ],
            )?;
            Ok::<_, CommitError>(changed == 1)
        });
        Ok(claimed.map_err(repeatable)?.then_some(claim))
    }

    /// Gives a claim back. One that was taken over stays.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn give_up_claim(&self, claim: &SnapshotClaim) -> Result<(), CommitError> {
        self.database
            .write(|connection| Ok::<_, CommitError>(end_claim(connection, claim)?))
            .map_err(repeatable)?;
        Ok(())
    }

    /// Renews a claim; whether it still held.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub(super) fn renew_claim(&self, claim: &SnapshotClaim) -> Result<bool, CommitError> {
        let renewed =
            self.database.write(|connection| Ok::<_, CommitError>(renew(connection, claim)?));
        renewed.map_err(repeatable)
    }

    /// Writes a part of a claimed snapshot, and renews the claim; whether it still held. One
    /// transaction.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn write_packed_part(
        &self,
        claim: &SnapshotClaim,
        part: u64,
        content: &[u8],
    ) -> Result<bool, CommitError> {
        let written = self.database.write(|connection| {
            if !renew(connection, claim)? {
                return Ok(false);
            }
            insert_part(connection, claim.graph_id, &claim.id, part, content)?;
            Ok::<_, CommitError>(true)
        });
        written.map_err(repeatable)
    }

    /// Makes a claimed snapshot, all of whose parts are written, one that can be read, and forgets
    /// all but the newest `kept`. Ends the claim. One short transaction. `taken` is without a time.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn install_packed(
        &self,
        claim: &SnapshotClaim,
        taken: &PackedSnapshot,
        kept: usize,
    ) -> Result<Installed, CommitError> {
        let written = self.database.write(|connection| {
            // Whoever deletes, restores or prunes the graph waits, or is waited for.
            connection.hold_graph(claim.graph.as_str())?;
            let holds = renew(connection, claim)?;
            end_claim(connection, claim)?;
            if !holds {
                return Ok(Installed::ClaimLost);
            }
            let head =
                read_head(connection, &claim.graph)?.filter(|head| head.id == claim.graph_id);
            let Some(head) = head else { return Ok(Installed::OtherHistory) };
            let goes_on = self.history(head.storage) != History::None
                && is_of_history(connection, &head, taken)?;
            if !goes_on && !failpoint::is_off("installed-history") {
                return Ok(Installed::OtherHistory);
            }
            if !parts_are_there(connection, claim, taken)? {
                return Ok(Installed::PartsDiffer);
            }
            let taken = PackedSnapshot {
                id: claim.id.clone(),
                taken_at_ms: connection.now_ms()?,
                ..taken.clone()
            };
            insert_snapshot(connection, claim.graph_id, &taken)?;
            forget_all_but(connection, claim.graph_id, kept, taken.version)?;
            Ok::<_, CommitError>(Installed::Yes(taken))
        });
        written.map_err(repeatable)
    }

    /// Drops packed snapshots of the graph: that of `version`, or all. Of a graph that is kept by
    /// its log, and whose log was pruned, one must stay from which it can be loaded: `proven`, which
    /// was just read back.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done.
    pub fn drop_packed(
        &self,
        name: &Name,
        version: Option<u64>,
        proven: Option<&PackedSnapshot>,
    ) -> Result<Dropped, CommitError> {
        let written = self.database.write(|connection| {
            connection.hold_graph(name.as_str())?;
            let Some(head) = read_head(connection, name)? else { return Ok(Dropped::Count(0)) };
            // Those whose rows are damaged are dropped like others.
            let there = packed_snapshots::table.filter(packed_snapshots::graph_id.eq(head.id));
            let versions = there.select(packed_snapshots::version);
            let mut gone: Vec<i64> = versions.load(connection)?;
            gone.retain(|there| version.is_none_or(|version| column(version) == *there));
            let is_pruned = head.oldest > 1 && self.history(head.storage) == History::Whole;
            if is_pruned && !failpoint::is_off("packed-needed") {
                let usable = usable_snapshots(connection, &head)?;
                let goes = |usable: &PackedSnapshot| gone.contains(&column(usable.version));
                let stays = |proven: &PackedSnapshot| usable.contains(proven) && !goes(proven);
                if let Some(needed) = usable.iter().find(|usable| goes(usable))
                    && !proven.is_some_and(stays)
                {
                    return Ok(Dropped::Needed(needed.version));
                }
            }
            forget(connection, head.id, &gone)?;
            Ok::<_, CommitError>(Dropped::Count(gone.len()))
        });
        let dropped = written.map_err(repeatable)?;
        let tidied = match self.head(name)? {
            Some(head) => self.delete_packed_parts(name, head.id, &mut || true),
            None => Ok(()),
        };
        if let Err(error) = tidied {
            log::warn!("graph `{name}`: parts of snapshots are left for later: {error}");
        }
        Ok(dropped)
    }

    /// Deletes parts that belong to no snapshot and to no claim that holds, some in each
    /// transaction, as long as the caller `goes_on`: what was dropped, and what those left who died
    /// while they took one.
    ///
    /// # Errors
    /// [`CommitError`] if that cannot be done; what was deleted until then stays so.
    pub(super) fn delete_packed_parts(
        &self,
        name: &Name,
        graph_id: i64,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<(), CommitError> {
        let delete_some = |connection: &mut AnyConnection| {
            // Or else a snapshot might be installed between the look and the deletion.
            connection.hold_graph(name.as_str())?;
            Ok::<_, CommitError>(delete_some_parts(connection, graph_id)?)
        };
        while self.database.write(delete_some).map_err(repeatable)? && goes_on() {}
        Ok(())
    }
}

impl SnapshotClaim {
    /// Names the snapshot.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The graph's row id.
    pub(super) fn graph_id(&self) -> i64 {
        self.graph_id
    }

    fn lasts_ms(&self) -> i64 {
        i64::try_from(self.lasts.as_millis()).unwrap_or(i64::MAX)
    }
}

/// Renews a claim, unless it has run out or was taken over; whether it still holds.
fn renew(connection: &mut AnyConnection, claim: &SnapshotClaim) -> QueryResult<bool> {
    let now_ms = connection.now_ms()?;
    let renewed = connection.run(
        "UPDATE packed_claims SET expires_at_ms = ? \
         WHERE graph_id = ? AND snapshot = ? AND expires_at_ms > ?",
        &[
            Value::Integer(now_ms.saturating_add(claim.lasts_ms())),
            Value::Integer(claim.graph_id),
            Value::Text(&claim.id),
            Value::Integer(now_ms),
        ],
    )?;
    Ok(renewed > 0 || failpoint::is_off("packed-claim"))
}

/// Ends a claim, unless it was taken over.
fn end_claim(connection: &mut AnyConnection, claim: &SnapshotClaim) -> QueryResult<()> {
    connection.run(
        "DELETE FROM packed_claims WHERE graph_id = ? AND snapshot = ?",
        &[Value::Integer(claim.graph_id), Value::Text(&claim.id)],
    )?;
    Ok(())
}

/// Whether the graph came to the snapshot's version with its chain, and its log has all that came
/// after. Of a log that is being pruned, what is before its beginning may still be there: it does
/// not count.
pub(super) fn is_of_history(
    connection: &mut AnyConnection,
    head: &Head,
    taken: &PackedSnapshot,
) -> QueryResult<bool> {
    if taken.version > head.version || taken.version + 1 < head.oldest {
        return Ok(false);
    }
    // A log that came from elsewhere with a snapshot lacks the change that led to it.
    if taken.version == head.version {
        return Ok(taken.chain == head.chain);
    }
    let chain = read_chain(connection, head.id, taken.version)?;
    Ok(chain.is_some_and(|chain| chain[..] == taken.chain.0[..]))
}

/// The snapshots that this program can read and that are of the graph's history, as far as their
/// rows tell; the newest first.
pub(super) fn usable_snapshots(
    connection: &mut AnyConnection,
    head: &Head,
) -> QueryResult<Vec<PackedSnapshot>> {
    let mut usable = Vec::new();
    for snapshot in read_snapshots(connection, head.id, head.version)? {
        if snapshot.format == PACKED_FORMAT && is_of_history(connection, head, &snapshot)? {
            usable.push(snapshot);
        }
    }
    Ok(usable)
}

fn parts_are_there(
    connection: &mut AnyConnection,
    claim: &SnapshotClaim,
    taken: &PackedSnapshot,
) -> QueryResult<bool> {
    let (count, bytes): (i64, Option<i64>) = packed_parts::table
        .filter(packed_parts::graph_id.eq(claim.graph_id))
        .filter(packed_parts::snapshot.eq(&claim.id))
        .select((count_star(), sum(length(packed_parts::content))))
        .first(connection)?;
    Ok((count, bytes.unwrap_or_default()) == (column(taken.parts), column(taken.bytes)))
}

fn insert_snapshot(
    connection: &mut AnyConnection,
    graph_id: i64,
    taken: &PackedSnapshot,
) -> QueryResult<()> {
    // One of this version tells the same; the newer one is the one that was just proven.
    forget(connection, graph_id, &[column(taken.version)])?;
    connection.run(
        "INSERT INTO packed_snapshots \
         (graph_id, version, snapshot, chain, format, digest, parts, bytes, taken_at_ms) \
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        &[
            Value::Integer(graph_id),
            Value::Integer(column(taken.version)),
            Value::Text(&taken.id),
            Value::Bytes(&taken.chain.0),
            Value::Integer(column(taken.format)),
            Value::Text(&taken.digest),
            Value::Integer(column(taken.parts)),
            Value::Integer(column(taken.bytes)),
            Value::Integer(taken.taken_at_ms),
        ],
    )?;
    Ok(())
}

/// Puts a snapshot of the empty graph in the place of all before, for a graph that was deleted.
pub(super) fn insert_empty(connection: &mut AnyConnection, head: &Head) -> QueryResult<()> {
    let empty = Graph::empty_at(head.version);
    let mut taken = PackedSnapshot {
        version: head.version,
        id: Uuid::new_v4().to_string(),
        chain: head.chain,
        format: PACKED_FORMAT,
        digest: empty.digest(),
        parts: 0,
        bytes: 0,
        taken_at_ms: connection.now_ms()?,
    };
    for content in GraphPacker::new(&empty, EMPTY_BYTES) {
        insert_part(connection, head.id, &taken.id, taken.parts, &content)?;
        taken.parts += 1;
        taken.bytes += content.len() as u64;
    }
    forget_packed(connection, head.id)?;
    insert_snapshot(connection, head.id, &taken)
}

fn insert_part(
    connection: &mut AnyConnection,
    graph_id: i64,
    snapshot: &str,
    part: u64,
    content: &[u8],
) -> QueryResult<()> {
    connection.run(
        "INSERT INTO packed_parts (graph_id, snapshot, part, checksum, content) \
         VALUES (?, ?, ?, ?, ?) ON CONFLICT (graph_id, snapshot, part) DO NOTHING",
        &[
            Value::Integer(graph_id),
            Value::Text(snapshot),
            Value::Integer(column(part)),
            Value::Bytes(&Sha256::digest(content)),
            Value::Bytes(content),
        ],
    )?;
    Ok(())
}

/// Forgets all but the newest `kept`, and but that of `version`, which was just proven.
fn forget_all_but(
    connection: &mut AnyConnection,
    graph_id: i64,
    kept: usize,
    version: u64,
) -> QueryResult<()> {
    let mut versions: Vec<i64> = packed_snapshots::table
        .filter(packed_snapshots::graph_id.eq(graph_id))
        .order(packed_snapshots::version.desc())
        .select(packed_snapshots::version)
        .load(connection)?;
    versions.drain(..kept.min(versions.len()));
    versions.retain(|other| *other != column(version));
    forget(connection, graph_id, &versions)
}

/// Has nobody read these snapshots any more. Their parts go later.
fn forget(connection: &mut AnyConnection, graph_id: i64, versions: &[i64]) -> QueryResult<()> {
    let gone = packed_snapshots::table
        .filter(packed_snapshots::graph_id.eq(graph_id))
        .filter(packed_snapshots::version.eq_any(versions));
    diesel::delete(gone).execute(connection)?;
    Ok(())
}

/// Has nobody read the packed snapshots before a version any more, since what came after them is
/// about to go.
pub(super) fn forget_packed_before(
    connection: &mut AnyConnection,
    graph_id: i64,
    version: u64,
) -> QueryResult<()> {
    let before = packed_snapshots::table
        .filter(packed_snapshots::graph_id.eq(graph_id))
        .filter(packed_snapshots::version.lt(column(version)));
    diesel::delete(before).execute(connection)?;
    Ok(())
}

/// Has nobody read any packed snapshot of a graph that is to go on without a history, nor finish
/// one.
pub(super) fn forget_packed(connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
    let all = packed_snapshots::table.filter(packed_snapshots::graph_id.eq(graph_id));
    diesel::delete(all).execute(connection)?;
    diesel::delete(packed_claims::table.find(graph_id)).execute(connection)?;
    Ok(())
}

/// Some parts of one snapshot that is neither there nor being taken; whether there were any.
fn delete_some_parts(connection: &mut AnyConnection, graph_id: i64) -> QueryResult<bool> {
    let there = packed_snapshots::table
        .filter(packed_snapshots::graph_id.eq(graph_id))
        .select(packed_snapshots::snapshot);
    // The owner of a claim that ran out writes nothing more.
    let now_ms = connection.now_ms()?;
    let claimed = packed_claims::table
        .filter(packed_claims::graph_id.eq(graph_id))
        .filter(packed_claims::expires_at_ms.gt(now_ms))
        .select(packed_claims::snapshot);
    let first: Option<(String, i64)> = packed_parts::table
        .filter(packed_parts::graph_id.eq(graph_id))
        .filter(packed_parts::snapshot.ne_all(there))
        .filter(packed_parts::snapshot.ne_all(claimed))
        .order((packed_parts::snapshot, packed_parts::part))
        .select((packed_parts::snapshot, packed_parts::part))
        .first(connection)
        .optional()?;
    let Some((snapshot, part)) = first else { return Ok(false) };
    let some = packed_parts::table
        .filter(packed_parts::graph_id.eq(graph_id))
        .filter(packed_parts::snapshot.eq(snapshot))
        .filter(packed_parts::part.lt(part + DELETED_PARTS));
    diesel::delete(some).execute(connection)?;
    Ok(true)
}
