//! One session on the server, and the few statements that the lock is made of. Each is prepared
//! once in a session and is one round trip from then on. The migrations say what is behind them.

use std::fmt::Display;
use std::io;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Bool, Integer, Text};
use sha2::{Digest, Sha256};

use crate::db::session_budget::Permit;
use crate::db::{self, DbError, OwnBackend, ServerState, SessionBudget, server_state, watch};
use crate::failpoint;
use crate::lock::{FencingToken, Inspection, LockError, LockKey, Mode, Participant};

diesel::define_sql_function! {
    fn take_lock(lock_key: Text, advisory: BigInt, is_exclusive: Bool, wait_ms: Integer, lease_ms: Integer, run: Text) -> Nullable<Array<BigInt>>;
}
diesel::define_sql_function! { fn give_lock(advisory: BigInt, is_exclusive: Bool) -> Bool; }
diesel::define_sql_function! { fn pg_advisory_unlock(advisory: BigInt) -> Bool; }
diesel::define_sql_function! { fn nextval(sequence: Text) -> BigInt; }

diesel::table! {
    lock_epochs (key) {
        key -> Text,
        incarnation -> Text,
        epoch -> BigInt,
        base -> BigInt,
    }
}

/// What a role or a database may be set to and a session that holds a lock, or waits for one, must
/// not be: ended or cancelled after a while, or reading the epoch as it was before the wait. Those
/// that a server does not know are not set.
const SET_UP: &str = "SELECT set_config(name, CASE name \
        WHEN 'default_transaction_isolation' THEN 'read committed' \
        WHEN 'application_name' THEN left(setting, 50) || ' lock' \
        ELSE '0' END, false) AS value \
    FROM pg_settings WHERE name IN ('statement_timeout', 'transaction_timeout', 'idle_session_timeout', \
        'default_transaction_isolation', 'application_name')";

/// The run: which server, which of its timelines, since when it runs, and which of its databases.
/// None can change under a session.
const RUN: &str = "SELECT concat_ws('-', system_identifier, substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8), \
        (extract(epoch FROM pg_postmaster_start_time()) * 1000000)::bigint, pg_database.oid) AS value \
    FROM pg_control_system(), pg_database WHERE datname = current_database()";

/// Who holds an advisory lock or waits for it, longest waiter first. A 64-bit name is listed in two
/// halves.
const LISTED: &str = "SELECT mode LIKE 'Exclusive%' AS exclusive, granted,         concat_ws(' ', 'process', pid, 'of', coalesce(host(client_addr), 'this machine') || ',', application_name) AS who     FROM pg_locks JOIN pg_stat_activity USING (pid)     WHERE locktype = 'advisory' AND objsubid = 1 AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())         AND (classid::bigint << 32) | objid::bigint = $1 ORDER BY waitstart, pid";

#[derive(QueryableByName)]
struct Listed {
    #[diesel(sql_type = Bool)]
    exclusive: bool,
    #[diesel(sql_type = Bool)]
    granted: bool,
    #[diesel(sql_type = Text)]
    who: String,
}

#[derive(QueryableByName)]
struct Value {
    #[diesel(sql_type = Text)]
    value: String,
}

/// A session. After any error it must be dropped: the server then frees what it holds.
pub(super) struct Session {
    /// Dropped before the connection.
    backend: OwnBackend,
    connection: PgConnection,
    /// Dropped after the connection.
    _permit: Permit,
    run: String,
    /// Whether it has ever answered a request.
    pub(super) was_used: bool,
}

/// What came with the lock.
pub(super) struct Taken {
    pub(super) token: Option<FencingToken>,
}

impl Session {
    pub(super) fn open(
        url: &str,
        answer: Duration,
        budget: &SessionBudget,
        mut permit: Permit,
    ) -> Result<Self, DbError> {
        let mut connection = db::connect_postgres(url)?;
        if !failpoint::is_off("lock.postgres.set-up") {
            diesel::sql_query(SET_UP).load::<Value>(&mut connection)?;
        }
        let run = match failpoint::is_off("lock.postgres.run") {
            true => "any".to_owned(),
            false => diesel::sql_query(RUN).get_result::<Value>(&mut connection)?.value,
        };
        let backend = budget.own_backend(&mut connection, url)?;
        db::watch_session(&mut connection, answer);
        permit.opened();
        Ok(Self { backend, connection, _permit: permit, run, was_used: false })
    }

    /// The server must be able to write, as a lock on another server than that of the database
    /// guards nothing, and it must be this session that answered.
    fn check(&self, told: &ServerState) -> Result<(), LockError> {
        let checked = told.check_writable().and_then(|()| self.backend.check(told));
        checked.map_err(|error| unavailable("the session is of no use", DbError::from(error)))
    }

    /// Which run of the server this is.
    pub(super) fn run(&self) -> &str {
        &self.run
    }

    /// Takes the lock; `None` when others held it all that time.
    pub(super) fn take(
        &mut self,
        key: &LockKey,
        mode: Mode,
        wait: Duration,
        lease: Duration,
    ) -> Result<Option<Taken>, LockError> {
        let exclusive = mode == Mode::Exclusive;
        let call = take_lock(
            key.to_string(),
            advisory(key),
            exclusive,
            whole_ms(wait),
            whole_ms(lease),
            &self.run,
        );
        // The server itself waits, and answers after that.
        let limited = watch::limited(wait.saturating_add(watch::ANSWER_AFTER_WAIT));
        let answer: QueryResult<(Option<Vec<i64>>, ServerState)> =
            diesel::select((call, server_state())).get_result(&mut self.connection);
        drop(limited);
        let (taken, told) = answer.map_err(|error| unavailable("cannot take the lock", error))?;
        self.check(&told)?;
        Ok(taken.map(|numbers| Taken { token: token_of(&numbers) }))
    }

    /// Gives the lock back.
    pub(super) fn give_back(&mut self, key: &LockKey, mode: Mode) -> Result<(), LockError> {
        let call = give_lock(advisory(key), mode == Mode::Exclusive);
        let given = diesel::select(call).get_result(&mut self.connection);
        match given.map_err(|error| unavailable("cannot give the lock back", error))? {
            true => Ok(()),
            false => Err(unavailable("cannot give the lock back", "the session did not hold it")),
        }
    }

    /// Gives the lock back, and leaves the session's lease as it is: it holds others.
    pub(super) fn give_up(&mut self, key: &LockKey) -> Result<(), LockError> {
        let call = pg_advisory_unlock(advisory(key));
        let given = diesel::select(call).get_result(&mut self.connection);
        match given.map_err(|error| unavailable("cannot give the lock back", error))? {
            true => Ok(()),
            false => Err(unavailable("cannot give the lock back", "the session did not hold it")),
        }
    }

    /// Remembers that the key's tokens are of this epoch, in this run, from the next number on.
    pub(super) fn seed(&mut self, key: &LockKey, first: FencingToken) -> Result<(), LockError> {
        let seeded = (
            lock_epochs::incarnation.eq(&self.run),
            lock_epochs::epoch.eq(i64::from(first.epoch())),
            lock_epochs::base.eq(nextval("lock_tokens")),
        );
        diesel::insert_into(lock_epochs::table)
            .values((lock_epochs::key.eq(key.to_string()), seeded))
            .on_conflict(lock_epochs::key)
            .do_update()
            .set(seeded)
            .execute(&mut self.connection)
            .map_err(|error| unavailable("cannot seed the lock", error))?;
        Ok(())
    }

    /// Who holds the lock and who waits. The last token is not known: what counts is shared by all
    /// locks.
    pub(super) fn inspect(&mut self, key: &LockKey) -> Result<Inspection, LockError> {
        let failed = |error| unavailable("cannot inspect the lock", error);
        let listed = diesel::sql_query(LISTED).bind::<BigInt, _>(advisory(key));
        let listed: Vec<Listed> = listed.load(&mut self.connection).map_err(failed)?;
        let epochs = lock_epochs::table.find(key.to_string()).select(lock_epochs::incarnation);
        let incarnation: Option<String> =
            epochs.first(&mut self.connection).optional().map_err(failed)?;
        let mut notes = Vec::new();
        if incarnation.as_deref() != Some(self.run.as_str()) {
            notes.push(
                "the next writer will seed it: its memory is new, or of another run of the server"
                    .to_owned(),
            );
        }
        let (holders, waiting) = listed.into_iter().partition::<Vec<_>, _>(|listed| listed.granted);
        let participants = |listed: Vec<Listed>| {
            let mode = |exclusive| if exclusive { Mode::Exclusive } else { Mode::Shared };
            let each = listed.into_iter();
            each.map(|Listed { exclusive, who, .. }| Participant {
                mode: mode(exclusive),
                who,
                ends_in: None,
            })
            .collect()
        };
        let (holders, waiting) = (participants(holders), participants(waiting));
        Ok(Inspection { holders, waiting, token: None, incarnation, notes })
    }

    /// Asks for an answer.
    pub(super) fn ping(&mut self) -> Result<(), LockError> {
        let answer: QueryResult<ServerState> =
            diesel::select(server_state()).get_result(&mut self.connection);
        self.check(&answer.map_err(|error| unavailable("the session was lost", error))?)
    }
}

/// An advisory lock has a number for a name. Two keys with the same number would wait for each
/// other without need, and be none the worse.
fn advisory(key: &LockKey) -> i64 {
    let digest = Sha256::digest(key.to_string());
    i64::from_be_bytes(std::array::from_fn(|at| digest[at]))
}

/// The wait as `take_lock` wants it: rounded up, and for ever when it is too long for the server to
/// count.
fn whole_ms(wait: Duration) -> i32 {
    i32::try_from(wait.as_nanos().div_ceil(1_000_000)).unwrap_or(-1)
}

fn token_of(numbers: &[i64]) -> Option<FencingToken> {
    let [epoch, counter] = numbers else {
        return None;
    };
    FencingToken::new(u32::try_from(*epoch).ok()?, u64::try_from(*counter).ok()?)
}

fn unavailable(what: &str, source: impl Display) -> LockError {
    LockError::Unavailable {
        what: what.to_owned(),
        source: io::Error::other(db::on_one_line(source)),
    }
}
