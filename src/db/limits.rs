//! How much a process asks of a database, and how long it waits for it.

use std::time::Duration;

use super::watch;

/// How many connections a process keeps, and how long a request waits for one.
#[derive(Debug, Clone, Copy)]
pub struct PoolLimits {
    /// The most connections that run statements.
    pub connections: u32,
    /// The most sessions on a server, those of the `postgres` lock included; at least two.
    pub sessions: u32,
    /// The longest wait for a connection.
    pub checkout_timeout: Duration,
    /// The longest wait for the answer to a statement. One that reads or writes a whole graph has
    /// [`watch::LARGE_ANSWER`].
    pub answer: Duration,
    /// How long a server lets a writing transaction stand still: no longer than a lease of the
    /// lock, and no longer than [`STALL_MAX`].
    pub stall: Duration,
}

/// The most sessions of a process on a server, unless configured otherwise.
pub const SESSIONS: u32 = 128;

/// How long a server may take to answer a statement, unless configured otherwise.
pub const ANSWER: Duration = Duration::from_secs(10);

/// When an idle connection is closed, since another process may need the session.
pub const IDLE_FOR: Duration = Duration::from_secs(60);

/// The longest that a server lets a writing transaction stand still.
pub const STALL_MAX: Duration = Duration::from_secs(5);

/// How long a server lets a reading transaction stand still: as long as building a graph from its
/// rows may take, whatever the lease. It locks no row that others wait for.
pub const LOADING_STALL: Duration = Duration::from_secs(600);

impl Default for PoolLimits {
    fn default() -> Self {
        Self {
            connections: 8,
            sessions: SESSIONS,
            checkout_timeout: Duration::from_secs(5),
            answer: ANSWER,
            stall: STALL_MAX,
        }
    }
}

/// How much work a statement is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Size {
    /// That of one request.
    Usual,
    /// That of a whole graph: the server may take longer to answer.
    Large,
}

impl Size {
    /// Allows the server more time while the value lives, if the statement is large.
    pub(super) fn limited(self) -> Option<watch::Limited> {
        (self == Self::Large).then(|| watch::limited(watch::LARGE_ANSWER))
    }
}
