//! The sessions of a Postgres server that this process uses, identified by the server.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Integer};

/// A session of the server. No two sessions, earlier or later ones included, are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, QueryableByName)]
pub(super) struct Backend {
    #[diesel(sql_type = Integer)]
    pub(super) pid: i32,
    #[diesel(sql_type = BigInt)]
    since_us: i64,
}

/// Asks the server which session this is. One round trip.
pub(super) fn backend_of(connection: &mut PgConnection) -> QueryResult<Backend> {
    let query = "SELECT pid, (extract(epoch FROM backend_start) * 1000000)::bigint AS since_us \
                 FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    diesel::sql_query(query).get_result(connection)
}

/// The sessions of a process, and how many connections claim each. Clones share one value.
#[derive(Clone, Default)]
pub(super) struct Backends(pub(super) Arc<Claims>);

#[derive(Default)]
pub(super) struct Claims {
    backends: Mutex<HashMap<Backend, usize>>,
    /// Whether connections were found to share a session, and not found apart since.
    pub(super) are_shared: AtomicBool,
}

impl Backends {
    /// Notes that connections share a session. From now on each new connection is checked.
    pub(super) fn found_shared(&self) {
        self.0.are_shared.store(true, Ordering::SeqCst);
    }

    /// Whether connections were found to share a session.
    pub(super) fn are_shared(&self) -> bool {
        self.0.are_shared.load(Ordering::SeqCst)
    }

    /// The sessions, and how many connections claim each.
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Backend, usize>> {
        self.0.backends.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
