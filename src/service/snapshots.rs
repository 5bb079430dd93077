//! Takes packed snapshots of graphs that are loaded from them, in a thread of its own, so that no
//! request waits for one.
//!
//! The thread looks at each graph in memory, and at one that was just loaded by a replay, and counts
//! how far its log has grown since the newest snapshot that can be used. When it has grown to the size of that snapshot, and to [`Limits::snapshot_log_bytes`],
//! the next one is due: so a start replays no more than it reads anyway, and what is written for
//! snapshots stays below what is written for the log. It is taken of the image that is published,
//! which never changes: writers go on. Between two parts the thread pauses for as long as the part
//! took, up to 50 ms.
//!
//! Of several nodes one takes it: see [`Store::take_packed`].

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use super::background::{Background, Pauses};
use super::engine::Replayed;
use super::image::Image;
use super::limits::Limits;
use super::metrics::{Metrics, observe};
use super::shared::Shared;
use crate::graph::Name;
use crate::store::{CommitError, PackedSnapshot, SnapshotUse, Store, StoreError, Taken};

/// The longest pause between two parts.
const LONGEST_PAUSE: Duration = Duration::from_millis(50);
/// Versions of a log whose bytes are counted at once.
const COUNTED_VERSIONS: u64 = 20_000;

/// Starts the thread.
pub(super) fn start(shared: &Arc<Shared>) -> Background {
    let shared = Arc::clone(shared);
    Background::start("snapshots", "no snapshots are taken", move |pauses| {
        if shared.engine.limits.snapshot_log_bytes == u64::MAX {
            return;
        }
        let mut thread = SnapshotThread { shared: &shared, pauses, grown: HashMap::new() };
        let mut wait = shared.engine.limits.snapshot_every;
        while pauses.wait(wait) {
            wait = thread.look_at_all();
        }
    })
}

struct SnapshotThread<'s> {
    shared: &'s Shared,
    pauses: &'s Pauses,
    /// By the graph's row id.
    grown: HashMap<i64, Grown>,
}

/// How far a log has grown since its newest snapshot.
#[derive(Debug, Clone, Copy, Default)]
struct Grown {
    /// The version of the snapshot; 0 if there is none.
    snapshot: u64,
    /// Its size.
    snapshot_bytes: u64,
    /// Up to which version the log was counted.
    counted: u64,
    /// Its bytes since the snapshot.
    bytes: u64,
}

impl Grown {
    fn since(newest: Option<&PackedSnapshot>) -> Self {
        newest.map_or_else(Self::default, |newest| Self {
            snapshot: newest.version,
            snapshot_bytes: newest.bytes,
            counted: newest.version,
            bytes: 0,
        })
    }

    fn is_due(&self, limits: &Limits) -> bool {
        self.bytes >= self.snapshot_bytes.max(limits.snapshot_log_bytes)
    }
}

impl SnapshotThread<'_> {
    /// Looks at each graph in memory; how long to wait before the next look.
    fn look_at_all(&mut self) -> Duration {
        let engine = &self.shared.engine;
        let replayed = engine.replayed.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (mut seen, mut failed) = (HashSet::new(), false);
        if let Some(Replayed { name, image, .. }) = replayed {
            failed |= self.try_to_look(&name, &image, &mut seen);
        }
        // Each image is held for as long as it is looked at, and no longer.
        for name in engine.graphs.names() {
            if !self.pauses.wait(Duration::ZERO) {
                break;
            }
            if let Some(image) = engine.graphs.image(&name) {
                failed |= self.try_to_look(&name, &image, &mut seen);
            }
        }
        self.grown.retain(|id, _| seen.contains(id));
        if failed { engine.limits.snapshot_retry } else { engine.limits.snapshot_every }
    }

    /// Whether that failed. It may be the graph's own fault: others are looked at all the same.
    fn try_to_look(&mut self, name: &Name, image: &Image, seen: &mut HashSet<i64>) -> bool {
        let is_used = self.store().snapshot_use(image.storage) != SnapshotUse::None;
        if !is_used || !seen.insert(image.key.graph_id) {
            return false;
        }
        let looked = self.look_at(name, image);
        if let Err(error) = &looked {
            // That the database is away is told where sessions are opened.
            let is_away = matches!(error, CommitError::Unavailable(StoreError::Database(_)));
            let level = if is_away { log::Level::Debug } else { log::Level::Warn };
            log::log!(level, "no snapshot of graph `{name}` was taken, tried again later: {error}");
            self.metrics().snapshots.with_label_values(&["failed"]).inc();
        }
        looked.is_err()
    }

    fn store(&self) -> &Store {
        &self.shared.engine.store
    }

    fn metrics(&self) -> &Metrics {
        &self.shared.engine.metrics
    }

    fn look_at(&mut self, name: &Name, image: &Image) -> Result<(), CommitError> {
        let id = image.key.graph_id;
        let mut grown = match self.grown.get(&id) {
            Some(grown) if grown.counted <= image.key.version => *grown,
            // Also where an older database was put back.
            _ => match self.newest(name)? {
                // Of another node, which has written since.
                Some(newest) if newest.version > image.key.version => return Ok(()),
                newest => Grown::since(newest.as_ref()),
            },
        };
        let counts =
            |grown: &Grown| grown.counted < image.key.version && !grown.is_due(self.limits());
        while counts(&grown) {
            let last = image.key.version.min(grown.counted + COUNTED_VERSIONS);
            grown.bytes += self.store().log_bytes(id, grown.counted, last)?;
            grown.counted = last;
        }
        // It may have been taken elsewhere meanwhile.
        if grown.is_due(self.limits()) {
            grown = match self.newest(name)? {
                Some(newest) if newest.version > grown.snapshot => Grown::since(Some(&newest)),
                _ => self.take(name, image, grown)?,
            };
        }
        self.grown.insert(id, grown);
        Ok(())
    }

    fn limits(&self) -> &Limits {
        &self.shared.engine.limits
    }

    /// The newest snapshot that can be used.
    fn newest(&self, name: &Name) -> Result<Option<PackedSnapshot>, StoreError> {
        Ok(self.store().usable_snapshots(name)?.into_iter().next())
    }

    /// Takes a snapshot; what has grown since then.
    fn take(&self, name: &Name, image: &Image, grown: Grown) -> Result<Grown, CommitError> {
        let began = Instant::now();
        let mut part_began = began;
        let mut goes_on = || {
            let goes_on = self.pauses.wait(part_began.elapsed().min(LONGEST_PAUSE));
            part_began = Instant::now();
            goes_on
        };
        let limits = self.limits().snapshot;
        let taken =
            self.store().take_packed(name, image.key, &image.graph, limits, &mut goes_on)?;
        let metrics = self.metrics();
        let count = |outcome: &str| metrics.snapshots.with_label_values(&[outcome]).inc();
        let anew = Grown { counted: image.key.version, bytes: 0, ..grown };
        Ok(match taken {
            Taken::Yes(taken) => {
                count("taken");
                observe(&metrics.snapshot_seconds, began.elapsed());
                metrics.snapshot_bytes.set(taken.bytes as i64);
                metrics.snapshot_taken_at.set(taken.taken_at_ms as f64 / 1_000.0);
                log::info!(
                    "took a snapshot of graph `{name}` at version {}: {} bytes in {:.1?}",
                    taken.version,
                    taken.bytes,
                    began.elapsed()
                );
                Grown::since(Some(&taken))
            }
            // Looked at again, until it is there or the claim has expired.
            Taken::ClaimedElsewhere | Taken::ClaimLost | Taken::Stopped => {
                count("left to another");
                grown
            }
            // The image is discarded at its next refresh.
            Taken::OtherHistory => {
                count("other history");
                anew
            }
            Taken::NotProven(why) => {
                count("not proven");
                log::error!(
                    "a snapshot of graph `{name}` at version {} was thrown away: {why}",
                    image.key.version
                );
                anew
            }
        })
    }
}
