//! Turns by leadership: one node at a time leads a graph and writes it. The others say who it is,
//! and the surface over them passes writes on.
//!
//! **How it takes turns.** Who leads holds a lock of the graph that is only for that, and keeps it
//! for as long as it lives and is asked for writes. It decides on its own image, without a look at
//! the store: whatever waits is one batch, and one commit. A node that is asked for a write and
//! does not lead tries to take over, once; if another leads, it refuses the write and names the
//! leader.
//!
//! Whoever takes over counts up the graph's leader token in the database, brings its image to the
//! store's version, and then leads. Each write carries the token, and the database refuses it once
//! somebody else has taken over.
//! A leader that does not learn what became of a commit leads no more: the next take-over waits for
//! that commit, by whomever, and then the log tells. Nor does one lead that the database has not
//! answered for a lease.
//!
//! **What holds.** No answer rests on the lock or its lease. A batch that commits is confirmed by
//! its commit, which compares version, chain and token. One that commits nothing (rejections, dry
//! runs, what changes nothing) looks at the graph's row once, after all of it has arrived. Reads do
//! the same and never take the lock. So two leaders at once, as after a lock server that forgot
//! everything, are slow and not wrong.
//!
//! **What it costs.** The commit: one round trip. On the way to lead: a look who leads, the lock, a
//! look at the row, the take-over's commit, and what was written since the image was brought up to
//! date last, which a candidate does about twice a second. A node that does not lead pays a look
//! and a round trip to the lock for each batch that it refuses; writes that are passed on cost it
//! neither.
//!
//! **What it does not do.** A graph whose leader died takes no writes until its lease is over. A
//! leader that is stopped keeps a `file:` lock, which has no leases, until it goes on or is killed.

mod candidate;
mod causes;
mod leadership;
mod limits;
mod load;
mod metrics;

use std::sync::Arc;
use std::thread;
use std::time::Duration;

use prometheus::core::Collector;

use self::candidate::Candidate;
use self::causes::Ended;
use self::leadership::{Leaderships, Led};
pub use self::limits::SingleWriterLimits;
use super::expected_version::backoff;
use crate::db::watch::{self, Reclaimable};
use crate::graph::Name;
use crate::lock::DistributedLock;
use crate::service::{Held, Images, LeaderAt, Refusal, Retry, Served, Turn, TurnError, Turns};
use crate::store::{CommitError, Fence, StorageKind, Store};

/// Turns of the one who leads.
pub struct SingleWriter {
    leaderships: Arc<Leaderships>,
    candidate: Candidate,
}

impl SingleWriter {
    /// Turns on the graphs of `store` that are kept in one of `storages`, led by the `lock` that
    /// guards it.
    #[must_use]
    pub fn new(
        lock: Arc<dyn DistributedLock>,
        store: Arc<Store>,
        storages: Vec<StorageKind>,
        limits: SingleWriterLimits,
    ) -> Self {
        let leaderships = Arc::new(Leaderships::new(lock, store, limits));
        let candidate = Candidate::new(Arc::clone(&leaderships), storages);
        Self { leaderships, candidate }
    }
}

/// The leadership that a turn rests on.
struct InTurn {
    led: Arc<Led>,
    leaderships: Arc<Leaderships>,
    /// Whether a commit may be under way.
    commits: bool,
}

impl Drop for InTurn {
    /// The commit of a turn that was given up, or that panicked, may still be applied, under this
    /// token.
    fn drop(&mut self) {
        let is_cut_short = watch::is_given_up() || thread::panicking();
        if self.commits && is_cut_short {
            self.leaderships.leave(self.led.graph_id, self.led.token, Ended::InDoubt);
        }
    }
}

impl Turns for SingleWriter {
    fn serve(&self, turn: &Turn<'_>) -> Result<Served, TurnError> {
        let (graph, leaderships) = (turn.graph_id(), &self.leaderships);
        let led = leaderships.lead(turn)?;
        let token = led.token;
        // A turn that is given up gives it back: the thread of one may wait for a server for ever.
        let led =
            Reclaimable::new(InTurn { led, leaderships: Arc::clone(leaderships), commits: false });
        let at_hand = turn.at_hand().filter(|read| read.head.leader_token == token);
        let read = at_hand.map_or_else(|| turn.refresh(), Ok)?;
        if read.head.leader_token != token {
            return Err(leaderships.lost(graph, token, Ended::TakenOver));
        }
        let decisions = turn.decide_led(read, Some(token))?;
        if decisions.need_commit() {
            let holds = |held: &mut InTurn| {
                held.commits = true;
                held.led.check().is_ok()
            };
            match led.with(holds) {
                Some(true) => {}
                Some(false) => return Err(leaderships.lost(graph, token, Ended::Lease)),
                // The turn was given up before. Others lead on by that take-over.
                None => return Err(TurnError::LockLost("the database did not answer in time")),
            }
            turn.commit(&decisions, Fence::Leader(token)).inspect_err(|error| match error {
                TurnError::Commit(CommitError::Fenced { .. }) => leaderships.refused(graph, token),
                TurnError::Commit(CommitError::Unknown { .. }) => {
                    leaderships.leave(graph, token, Ended::InDoubt);
                }
                _ => {}
            })?;
            led.with(|held| held.led.has_written());
        } else {
            turn.confirm(&decisions)?;
        }
        led.with(|held| held.led.note_sources(turn.sources()));
        Ok(decisions.served())
    }

    /// Nodes of other designs may write beside the leader.
    fn retry(&self, _: &Name, error: &TurnError, attempt: usize) -> Retry {
        match error {
            _ if attempt == self.leaderships.limits.retries => Retry::GiveUp,
            TurnError::Commit(CommitError::Conflict { .. } | CommitError::Yielded(_)) => {
                Retry::After(backoff(attempt))
            }
            _ => Retry::Now,
        }
    }

    fn read_guard(&self, _: i64) -> Result<Option<Held>, Refusal> {
        Ok(None)
    }

    fn ready(&self) -> Result<(), Refusal> {
        self.leaderships.ready()
    }

    fn tended_every(&self) -> Option<Duration> {
        Some(self.leaderships.limits.look_every)
    }

    fn tend(&self) {
        self.leaderships.tend();
    }

    fn look(&self) {
        self.candidate.look();
    }

    fn prepare(&self, images: &dyn Images) {
        self.candidate.prepare(images);
    }

    fn serves_at(&self, address: Option<&str>) {
        self.leaderships.serves_at(address);
    }

    fn announce_end(&self) -> bool {
        self.leaderships.announce_end();
        true
    }

    fn end(&self) {
        self.leaderships.end();
    }

    fn node(&self) -> Option<&str> {
        Some(&self.leaderships.node)
    }

    fn led_under(&self, graph: &Name) -> Option<i64> {
        self.leaderships.led_under(graph)
    }

    fn leader(&self, graph: &Name) -> Option<Arc<LeaderAt>> {
        self.leaderships.known(graph)
    }

    fn forget_leader(&self, graph: &Name, token: i64) {
        self.leaderships.forget(graph, token);
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.leaderships.metrics.collectors()
    }
}
