//! Takes a packed snapshot of a graph: packs it part by part, proves that the parts give the graph
//! back, and makes them one that can be read.

use std::time::Duration;

use super::Store;
use super::commit_error::CommitError;
use super::head::ImageKey;
use super::packed::{Installed, PackedSnapshot, SnapshotClaim};
use crate::failpoint;
use crate::graph::{Graph, GraphComparer, GraphPacker, Name, PACKED_FORMAT};

/// Limits of taking a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct TakeLimits {
    /// Bytes of a part, about. Each is a transaction of its own.
    pub part_bytes: usize,
    /// Snapshots of a graph that are kept.
    pub kept: usize,
    /// How long a claim lasts after each part: then another process takes over.
    pub claim: Duration,
}

impl Default for TakeLimits {
    fn default() -> Self {
        Self { part_bytes: 256 << 10, kept: 2, claim: Duration::from_secs(60) }
    }
}

/// What became of taking a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It can be read.
    Yes(PackedSnapshot),
    /// Another process takes one of this graph.
    ClaimedElsewhere,
    /// Another process took over, since the last part was written too long ago.
    ClaimLost,
    /// The graph that was given is of another history than the log, or the log was pruned beyond
    /// it.
    OtherHistory,
    /// The parts that were written do not give the graph back: `String` says why.
    NotProven(String),
    /// The caller wanted to stop.
    Stopped,
}

impl Store {
    /// Takes a snapshot of `graph`, which is that of `key`. Between two parts it asks `goes_on`,
    /// which may pause. O(size of the graph); in memory one part, and what a digest takes.
    ///
    /// # Errors
    /// [`CommitError`] if the database cannot be written; what was written until then nobody reads.
    pub fn take_packed(
        &self,
        name: &Name,
        key: ImageKey,
        graph: &Graph,
        limits: TakeLimits,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Taken, CommitError> {
        if self.is_claimed(key.graph_id)? {
            return Ok(Taken::ClaimedElsewhere);
        }
        // Before the claim, which would run out meanwhile.
        let digest = graph.digest();
        let Some(claim) = self.claim_snapshot(name, key.graph_id, limits.claim)? else {
            return Ok(Taken::ClaimedElsewhere);
        };
        let taken = PackedSnapshot {
            version: key.version,
            id: claim.id().to_owned(),
            chain: key.chain,
            format: PACKED_FORMAT,
            digest,
            parts: 0,
            bytes: 0,
            taken_at_ms: 0,
        };
        // What others have left: this claim has written nothing yet.
        let taken = self
            .delete_packed_parts(name, key.graph_id, goes_on)
            .and_then(|()| self.take_claimed(&claim, taken, graph, limits, goes_on));
        failpoint::pass("packed-installed");
        // Nobody has to wait until it runs out. Then the parts go that nobody is to read: of
        // snapshots before, or these.
        let tidied = self
            .give_up_claim(&claim)
            .and_then(|()| self.delete_packed_parts(name, key.graph_id, goes_on));
        if let Err(error) = tidied {
            log::warn!("graph `{name}`: parts of snapshots are left for the next: {error}");
        }
        taken
    }

    /// Packs, writes and proves what was claimed. `taken` has no parts yet.
    fn take_claimed(
        &self,
        claim: &SnapshotClaim,
        mut taken: PackedSnapshot,
        graph: &Graph,
        limits: TakeLimits,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Taken, CommitError> {
        for part in GraphPacker::new(graph, limits.part_bytes) {
            failpoint::pass("packed-part");
            if !goes_on() {
                return Ok(Taken::Stopped);
            }
            if !self.write_packed_part(claim, taken.parts, &part)? {
                return Ok(Taken::ClaimLost);
            }
            taken.parts += 1;
            taken.bytes += part.len() as u64;
        }
        if let Some(instead) = self.prove(claim, &taken, graph, goes_on)? {
            return Ok(instead);
        }
        failpoint::pass("packed-written");
        Ok(match self.install_packed(claim, &taken, limits.kept)? {
            Installed::Yes(taken) => Taken::Yes(taken),
            Installed::ClaimLost => Taken::ClaimLost,
            Installed::OtherHistory => Taken::OtherHistory,
            Installed::PartsDiffer => Taken::NotProven("parts are missing".to_owned()),
        })
    }

    /// Reads the parts back, and holds each record against the graph: the digest of what a reader
    /// gets is that of the graph. If that cannot be shown, what became of the snapshot.
    fn prove(
        &self,
        claim: &SnapshotClaim,
        taken: &PackedSnapshot,
        graph: &Graph,
        goes_on: &mut dyn FnMut() -> bool,
    ) -> Result<Option<Taken>, CommitError> {
        let mut comparer = GraphComparer::new(graph);
        for part in 0..taken.parts {
            if !goes_on() {
                return Ok(Some(Taken::Stopped));
            }
            // Whoever has taken over deletes the parts.
            if !self.renew_claim(claim)? {
                return Ok(Some(Taken::ClaimLost));
            }
            let content = match self.packed_part(claim.graph_id(), &taken.id, part)? {
                Ok(content) => content,
                Err(damaged) => return Ok(Some(Taken::NotProven(damaged.to_string()))),
            };
            if let Err(error) = comparer.add(&content) {
                return Ok(Some(Taken::NotProven(error.to_string())));
            }
        }
        Ok(comparer.finish().err().map(|error| Taken::NotProven(error.to_string())))
    }
}
