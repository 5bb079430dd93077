//! Everything in the service that is bounded, with its default.

use std::time::Duration;

use crate::store::TakeLimits;

/// Everything that is bounded. What happens at each bound is an error that a person understands.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Whether waiting requests share a turn, if the handling of the graph allows it. Off only to
    /// measure what sharing gains.
    pub share_turns: bool,
    /// Turns at once, in a thread each, those included that wait for a lock held by another
    /// process. A graph has at most one of writes and one of reads, and a
    /// worker that decides ahead.
    pub turn_threads: usize,
    /// Writes that may wait for one graph; one more is refused as contended.
    pub waiting_writes: usize,
    /// Reads that may wait for one graph; one more is refused as contended.
    pub waiting_reads: usize,
    /// Writes that one turn serves.
    pub batch_writes: usize,
    /// Bytes of request bodies that one turn serves, beyond its first request.
    pub batch_bytes: usize,
    /// Time limit for deciding the writes of one turn after its first, and each time that some are
    /// decided ahead. Writes left over go first in the next turn.
    pub batch_time: Duration,
    /// Batches of writes of one graph that are decided ahead, while the commit before them is under
    /// way. 0: none.
    pub ahead: usize,
    /// So many waiting writes make it worth while to wake a worker that decides them ahead.
    pub worth_a_worker: usize,
    /// Reads that one turn serves.
    pub batch_reads: usize,
    /// Turns of reads of one graph at once where turns are not shared.
    pub unshared_reads: usize,
    /// Memory for cached graphs, in bytes, as
    /// [`Graph::memory_bytes`](crate::graph::Graph::memory_bytes) estimates it. Above it, graphs
    /// that nobody uses are evicted, the least recently used first, and loaded again when needed.
    pub graph_bytes: usize,
    /// Whole graphs in memory at once where images are not kept. An image counts until nobody holds
    /// it.
    pub loaded_images: usize,
    /// How long a turn waits to load one more; then its requests are refused as contended.
    pub load_wait: Duration,
    /// How often creating a graph is tried again because other writers were faster.
    pub creation_retries: usize,
    /// The least by which a log grows between two packed snapshots of its graph, in bytes. A log
    /// also grows to the size of the last one before the next is due. `u64::MAX`: none are taken.
    pub snapshot_log_bytes: u64,
    /// How snapshots are taken.
    pub snapshot: TakeLimits,
    /// How often each graph in memory is looked at, whether a snapshot is due.
    pub snapshot_every: Duration,
    /// The same after taking one has failed.
    pub snapshot_retry: Duration,
    /// How often old idempotency keys are looked for.
    pub purge_every: Duration,
    /// Old keys that one transaction deletes, all of one graph.
    pub purge_keys: usize,
    /// The pause between two such transactions, in which others write.
    pub purge_pause: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            share_turns: true,
            turn_threads: 256,
            waiting_writes: 1024,
            waiting_reads: 8192,
            batch_writes: 128,
            batch_bytes: 8 << 20,
            batch_time: Duration::from_millis(20),
            ahead: 1,
            worth_a_worker: 8,
            batch_reads: 8192,
            unshared_reads: 8,
            graph_bytes: 2 << 30,
            loaded_images: 2,
            load_wait: Duration::from_secs(6),
            creation_retries: 3,
            snapshot_log_bytes: 16 << 20,
            snapshot: TakeLimits::default(),
            snapshot_every: Duration::from_secs(1),
            snapshot_retry: Duration::from_secs(10),
            purge_every: Duration::from_secs(5 * 60),
            purge_keys: 500,
            purge_pause: Duration::from_millis(50),
        }
    }
}

/// On shutdown, how long to wait for running turns, and then for each thread in the background.
pub(super) const CLOSING_PATIENCE: Duration = Duration::from_secs(1);
