//! The lock that a Postgres database is for itself: the suite of all locks, and what can befall
//! sessions and servers.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_types::BigInt;
use fencepost::db::watch::{self, Reclaimable};
use fencepost::db::{Database, DatabaseUrl, PoolLimits};
use fencepost::lock::postgres::{JOINED_BY, JOINED_FOR, PostgresLock, SESSIONS_KEPT};
use fencepost::lock::{DistributedLock, Guard, LEASE, LockError, LockKey, Mode};
use tempfile::TempDir;

use super::child::open;
use super::conformance::{LockFixture, assert_held_back, key, take};
use super::row::Row;
use crate::support::guards::{is_alone, is_alone_without, passes};
use crate::support::postgres::{Pair, Postgres};
use crate::support::proxy::Proxy;
use crate::support::{limit, wait_until};

use Mode::{Exclusive, Shared};

struct PostgresFixture {
    url: String,
    scratch: TempDir,
}

impl PostgresFixture {
    fn new() -> Self {
        Self::on(Postgres::shared())
    }

    fn on(server: &Postgres) -> Self {
        let url = server.new_database();
        Database::migrate(&DatabaseUrl::parse(&url).expect("a URL")).expect("a schema");
        Self { url, scratch: TempDir::new().expect("a temporary directory") }
    }

    /// A session that goes round the lock.
    fn sql(&self) -> PgConnection {
        PgConnection::establish(&self.url).expect("the server takes connections")
    }

    fn run_sql(&self, statements: &str) {
        self.sql().batch_execute(statements).expect("they are right");
    }

    fn number(&self, query: &str) -> i64 {
        let query = format!("SELECT ({query})::bigint AS number");
        diesel::sql_query(query).get_result::<Number>(&mut self.sql()).expect("it is right").number
    }

    /// Lock sessions that the server has on this database now.
    fn sessions(&self) -> i64 {
        self.number(&format!("SELECT count(*) FROM pg_stat_activity WHERE {LOCK_SESSIONS}"))
    }

    fn end_sessions(&self) {
        self.run_sql(&format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE {LOCK_SESSIONS}"
        ));
    }

    /// How many hold the lock, each for itself and those who joined.
    fn holders(&self) -> i64 {
        self.number(&format!("SELECT count(*) FROM pg_locks WHERE {ADVISORY_LOCKS} AND granted"))
    }

    /// How many wait for it.
    fn waiters(&self) -> i64 {
        self.number(&format!(
            "SELECT count(*) FROM pg_locks WHERE {ADVISORY_LOCKS} AND NOT granted"
        ))
    }
}

const LOCK_SESSIONS: &str = "datname = current_database() AND application_name = 'fencepost lock'";

const ADVISORY_LOCKS: &str = "locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    number: i64,
}

impl LockFixture for PostgresFixture {
    fn node(&self) -> Arc<dyn DistributedLock> {
        open(&self.address())
    }

    fn address(&self) -> String {
        self.url.clone()
    }

    fn scratch(&self) -> &Path {
        self.scratch.path()
    }
}

lock_conformance!(PostgresFixture::new());

#[test]
fn the_identity_is_the_same_wherever_the_database_is_moved() {
    let fixture = PostgresFixture::new();
    assert_eq!(fixture.node().identity().to_string(), "postgres:own-database");
}

#[test]
fn sessions_that_ended_while_idle_are_replaced() {
    let fixture = PostgresFixture::new();
    let node = fixture.node();
    for mode in [Exclusive, Shared] {
        let several = [(); 3].map(|()| fixture.node()).map(|node| (take(&*node, Shared), node));
        drop(several);
        take(&*node, mode).release();
        fixture.end_sessions();
        take(&*node, mode).release();
        fixture.end_sessions();
        node.ping().expect("on a new session");
    }
}

#[test]
fn a_holder_whose_session_was_ended_learns_of_it_for_good() {
    let fixture = PostgresFixture::new();
    let (node, other) = (fixture.node(), fixture.node());
    for mode in [Exclusive, Shared] {
        let mut guard = take(&*node, mode);
        guard.check().expect("it is held");
        fixture.end_sessions();
        let next = take(&*other, Exclusive);
        for _ in 0..2 {
            assert!(matches!(guard.check(), Err(LockError::Unavailable { .. })));
        }
        if mode == Exclusive {
            assert!(matches!(guard.seed(9), Err(LockError::Unavailable { .. })));
        }
        guard.release();
        assert_held_back(&*node, Shared);
        next.release();
        take(&*node, Exclusive).release();
    }
}

/// Whatever the reason: here, a database in which giving back does nothing.
#[test]
fn a_session_that_could_not_give_the_lock_back_is_closed() {
    let fixture = PostgresFixture::new();
    fixture.run_sql(
        "CREATE FUNCTION pg_advisory_unlock(BIGINT) RETURNS BOOLEAN LANGUAGE sql AS 'SELECT false'; \
         DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET search_path = public, pg_catalog', current_database()); END $$",
    );
    let (node, other) = (fixture.node(), fixture.node());
    take(&*node, Exclusive).release();
    take(&*other, Exclusive).release();
}

#[test]
fn a_waiter_whose_session_is_ended_tries_again() {
    let fixture = PostgresFixture::new();
    let (node, other) = (fixture.node(), fixture.node());
    let holder = take(&*other, Exclusive);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| take(&*node, Exclusive));
        wait_until(limit(), "it waits", || fixture.waiters() == 1);
        let end = format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_locks WHERE {ADVISORY_LOCKS} AND NOT granted"
        );
        fixture.run_sql(&end);
        wait_until(limit(), "it waits again", || fixture.waiters() == 1);
        holder.release();
        waiter.join().expect("it is let in").release();
    });
}

/// What a role or a database may be set to must not end a wait or a hold.
#[test]
fn time_limits_of_the_database_do_not_reach_the_lock() {
    const LIMIT: Duration = Duration::from_millis(100);
    let fixture = PostgresFixture::new();
    let ms = LIMIT.as_millis();
    fixture.run_sql(&format!(
        "DO $$ DECLARE name text; BEGIN \
            FOR name IN SELECT s.name FROM pg_settings s \
                WHERE s.name IN ('statement_timeout', 'transaction_timeout', 'idle_session_timeout') LOOP \
                EXECUTE format('ALTER DATABASE %I SET %I = %s', current_database(), name, {ms}); \
            END LOOP; \
            EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = serializable', current_database()); \
        END $$"
    ));
    let (node, other) = (fixture.node(), fixture.node());
    let mut row = Row::default();
    let mut holder = take(&*node, Exclusive);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| take(&*other, Exclusive));
        thread::sleep(3 * LIMIT);
        row.token_for(&mut holder);
        holder.check().expect("it is held");
        holder.release();
        row.token_for(&mut waiter.join().expect("it is let in"));
    });
    assert_eq!(row.seedings, 1, "who waited sees what the holder before it seeded");
}

#[test]
fn few_readers_join_a_grant_and_only_while_it_is_young() {
    let fixture = PostgresFixture::new();
    let node = fixture.node();
    let readers: Vec<_> = (0..2 * (1 + JOINED_BY) + 1).map(|_| take(&*node, Shared)).collect();
    let before = fixture.holders();
    assert!((3..10).contains(&before), "{before} grants for all of them");
    thread::sleep(2 * JOINED_FOR);
    let late = take(&*node, Shared);
    assert_eq!(fixture.holders(), before + 1);
    drop((readers, late));
    assert_eq!(fixture.holders(), 0);
}

#[test]
fn sessions_are_used_again_and_few_are_kept() {
    let fixture = PostgresFixture::new();
    let node = fixture.node();
    let acquire = |graph| {
        node.acquire(&LockKey::new("ab", graph).expect("a key"), Exclusive, limit())
            .expect("nobody else has this one")
    };
    (0..200).for_each(|graph| acquire(graph).release());
    assert_eq!(fixture.sessions(), 1, "one for all who come one after another");
    let many = 2 * SESSIONS_KEPT as i64;
    let guards: Vec<_> = (0..many).map(acquire).collect();
    assert_eq!(fixture.sessions(), many, "one for each grant");
    drop(guards);
    wait_until(limit(), "all but some are closed", || fixture.sessions() <= SESSIONS_KEPT as i64);
    drop(node);
    wait_until(limit(), "none is left", || fixture.sessions() == 0);
}

#[test]
fn a_database_that_is_away_or_has_no_schema_is_unavailable() {
    let error = PostgresLock::open("postgres://postgres@127.0.0.1:1/none", LEASE)
        .err()
        .expect("nobody is there");
    assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
    let empty = PostgresLock::open(&Postgres::shared().new_database(), LEASE).expect("it is there");
    let error = empty.acquire(&key(), Shared, limit()).expect_err("there is no function for it");
    assert!(matches!(error, LockError::Unavailable { .. }), "{error}");
}

/// The tokens are of a new epoch and above all former ones whatever befell the server, and a handle
/// goes on by itself.
#[test]
fn a_server_that_was_restarted_in_whatever_way_wants_seeding() {
    let mut server = Postgres::start(&[]);
    let fixture = PostgresFixture::on(&server);
    let node = fixture.node();
    let mut row = Row::default();
    let (mut last, mut seedings) = (None, 0);
    for befalls in [shut_down, crash, kill_a_backend, crash, kill_a_backend, shut_down] {
        // More than are logged ahead, so that the end is in the middle of some, and so few that no
        // checkpoint comes by itself.
        for _ in 0..50 {
            let token = row.token_for(&mut take(&*node, Exclusive));
            assert!(Some(token) > last);
            last = Some(token);
        }
        seedings += 1;
        assert_eq!(row.seedings, seedings);
        let mut held = take(&*node, Exclusive);
        befalls(&mut server);
        assert!(matches!(held.check(), Err(LockError::Unavailable { .. })));
        drop(held);
        assert_eq!(take(&*node, Exclusive).token(), None);
    }
}

fn crash(server: &mut Postgres) {
    server.crash();
    server.start_again();
}

fn shut_down(server: &mut Postgres) {
    server.sql().batch_execute("CHECKPOINT").expect("it can be written");
    let postmaster =
        std::fs::read_to_string(server.data().join("postmaster.pid")).expect("the server runs");
    signal("INT", postmaster.lines().next().expect("its first line is the process"));
    wait_until(limit(), "the server has ended", || !server.data().join("postmaster.pid").exists());
    server.crash();
    server.start_again();
}

/// The server ends all sessions and recovers, and is still the same process.
fn kill_a_backend(server: &mut Postgres) {
    let (mut victim, mut witness) = (server.sql(), server.sql());
    let query = "SELECT pg_backend_pid()::bigint AS number";
    let backend =
        diesel::sql_query(query).get_result::<Number>(&mut victim).expect("it answers").number;
    signal("KILL", &backend.to_string());
    wait_until(limit(), "all sessions have ended", || witness.batch_execute("SELECT 1").is_err());
    let url = server.url("postgres");
    wait_until(limit(), "the server takes connections", || PgConnection::establish(&url).is_ok());
}

fn signal(name: &str, process: &str) {
    assert!(
        Command::new("kill")
            .args([&format!("-{name}"), process])
            .status()
            .expect("it can be run")
            .success()
    );
}

/// A copy of the database that takes its place may not know the last tokens.
#[test]
fn a_database_that_was_cloned_wants_seeding() {
    let fixture = PostgresFixture::new();
    Row::default().token_for(&mut take(&*fixture.node(), Exclusive));
    let (server, name) = fixture.url.rsplit_once('/').expect("a URL");
    wait_until(limit(), "the sessions are closed", || fixture.sessions() == 0);
    Postgres::shared()
        .sql()
        .batch_execute(&format!("CREATE DATABASE {name}_copy TEMPLATE {name}"))
        .expect("a copy");
    let copy = PostgresLock::open(&format!("{server}/{name}_copy"), LEASE).expect("it is there");
    assert_eq!(take(&copy, Exclusive).token(), None);
    assert!(take(&*fixture.node(), Exclusive).token().is_some());
}

#[test]
fn the_locks_memory_can_be_taken_back_and_wants_seeding_when_it_is_there_again() {
    let fixture = PostgresFixture::new();
    let mut row = Row::default();
    row.token_for(&mut take(&*fixture.node(), Exclusive));
    let url = DatabaseUrl::parse(&fixture.url).expect("a URL");
    // The newer migrations are about something else.
    Database::revert(&url, 11).expect("they can be taken back");
    assert!(fixture.node().acquire(&key(), Shared, limit()).is_err());
    Database::migrate(&url).expect("it can be made again");
    row.token_for(&mut take(&*fixture.node(), Exclusive));
    assert_eq!(row.seedings, 2);
}

/// The server may grant a lock just when the time runs out, and a session's lock outlives the
/// error.
#[test]
fn a_wait_that_ends_as_the_lock_comes_free_leaves_nothing_held() {
    let fixture = PostgresFixture::new();
    let (node, other) = (fixture.node(), fixture.node());
    take(&*node, Exclusive).release();
    for round in 0..2000 {
        let holder = take(&*other, Exclusive);
        thread::scope(|scope| {
            let waiter =
                scope.spawn(|| node.acquire(&key(), Exclusive, Duration::from_millis(1)).map(drop));
            thread::sleep(Duration::from_micros(700 + round % 600));
            holder.release();
            match waiter.join().expect("no panic") {
                Ok(()) | Err(LockError::Timeout { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        });
    }
}

/// The server hears of the session again and again, though its holder asks nothing.
#[test]
fn a_holder_that_works_for_longer_than_a_lease_keeps_the_lock() {
    let fixture = PostgresFixture::new();
    let lock = PostgresLock::open(&fixture.url, Duration::from_millis(800)).expect("a lock");
    let mut guard = lock.acquire(&key(), Exclusive, limit()).expect("a grant");
    let mut heard = std::collections::BTreeSet::new();
    // Four times in each lease: three leases are over.
    wait_until(limit(), "the server has heard of the session for three leases", || {
        let last = format!(
            "SELECT coalesce(max(extract(epoch FROM query_start) * 1000000), 0) FROM pg_stat_activity WHERE {LOCK_SESSIONS}"
        );
        heard.insert(fixture.number(&last));
        heard.len() > 12
    });
    guard.check().expect("the lock is held");
    let other = fixture.node().acquire(&key(), Shared, Duration::ZERO);
    assert!(matches!(other, Err(LockError::Timeout { .. })), "{other:?}");
}

/// One connection is lost while many are opened.
#[test]
fn a_session_that_cannot_be_opened_fails_one_who_waits_and_no_other() {
    const WAITERS: i64 = 8;
    let fixture = PostgresFixture::new();
    let port = Postgres::shared().port();
    let proxy = Proxy::to(port);
    let through = fixture.url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let lock = PostgresLock::open(&through, LEASE).expect("a lock");
    let at_once = Barrier::new(WAITERS as usize);
    proxy.refuse(1);
    // Each keeps its session until all have asked.
    let ask = |graph| {
        let key = LockKey { graph, ..key() };
        at_once.wait();
        lock.acquire(&key, Exclusive, limit())
    };
    let answers: Vec<Result<Guard, LockError>> = thread::scope(|scope| {
        let ask = &ask;
        let all: Vec<_> = (0..WAITERS).map(|graph| scope.spawn(move || ask(graph))).collect();
        all.into_iter().map(|asked| asked.join().expect("no panic")).collect()
    });
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!(refused.len() <= 1, "{refused:?}");
}

/// To ask would take another thread, which would be stuck too.
#[test]
fn a_lock_is_taken_back_from_whoever_was_given_up_without_asking_the_silent_server() {
    let this = "lock::postgres::a_lock_is_taken_back_from_whoever_was_given_up_without_asking_the_silent_server";
    if !is_alone(this) {
        return;
    }
    let server = Postgres::start(&[]);
    let fixture = PostgresFixture::on(&server);
    let limits = PoolLimits { answer: Duration::from_millis(500), ..PoolLimits::default() };
    let url = DatabaseUrl::parse(&fixture.url).expect("a URL");
    let database = Database::open(&url, limits).expect("it is there");
    let ask = || database.ask(|connection| connection.batch_execute("SELECT 1"));
    ask().expect("a session for statements is open");
    // So long a lease that no thread renews it meanwhile.
    let lock = PostgresLock::open(&fixture.url, 20 * LEASE).expect("a lock");
    let (has_it, it_is_held) = mpsc::channel();
    let (go_on, goes_on) = mpsc::channel::<()>();
    let (given_back, is_given_back) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let (lock, ask) = (&lock, &ask);
        scope.spawn(move || {
            watch::watched(
                |_| {},
                || {
                    let guard = lock.acquire(&key(), Exclusive, limit()).expect("a grant");
                    // Dropped in this order.
                    let _kept = Reclaimable::new((guard, given_back));
                    has_it.send(()).expect("it is waited for");
                    goes_on.recv().expect("it is told");
                    drop(ask());
                },
            );
        });
        it_is_held.recv().expect("it is told");
        let frozen = server.freeze();
        go_on.send(()).expect("it is waited for");
        let told = is_given_back.recv_timeout(limit());
        drop(frozen);
        assert_eq!(told, Err(mpsc::RecvTimeoutError::Disconnected), "it is given back");
    });
    drop(take(&*fixture.node(), Exclusive));
}

/// Holders on a server that has fallen silent do not keep others from being heard of.
#[test]
fn leases_on_a_new_primary_are_renewed_while_holders_on_the_former_wait_for_it() {
    let this = "lock::postgres::leases_on_a_new_primary_are_renewed_while_holders_on_the_former_wait_for_it";
    if !is_alone(this) {
        return;
    }
    const FORMER: i64 = 8;
    let pair = Pair::new();
    let Pair { primary, standby, database } = &pair;
    Database::migrate(&DatabaseUrl::parse(&pair.url()).expect("a URL")).expect("a schema");
    let lock = PostgresLock::open(&pair.url(), Duration::from_secs(4)).expect("a lock");
    let acquire = |graph: i64| lock.acquire(&LockKey { graph, ..key() }, Exclusive, limit());
    let former: Vec<Guard> = (0..FORMER).map(|graph| acquire(graph).expect("a grant")).collect();
    let on_standby = || PgConnection::establish(&standby.url(database)).expect("it is there");
    let mut on_primary = PgConnection::establish(&primary.url(database)).expect("it is there");
    on_primary.batch_execute("CREATE TABLE came_after_the_schema ()").expect("a table");
    wait_until(limit(), "the standby has the schema", || {
        on_standby().batch_execute("SELECT FROM came_after_the_schema").is_ok()
    });
    let frozen = primary.freeze();
    standby.promote();
    let mut guard = None;
    wait_until(limit(), "the lock is granted by the new primary", || {
        guard = acquire(FORMER).ok();
        guard.is_some()
    });
    let mut sql = on_standby();
    let mut sessions = |older_than: &str| {
        let query = format!(
            "SELECT count(*) AS number FROM pg_stat_activity WHERE {LOCK_SESSIONS} \
             AND clock_timestamp() - backend_start > '{older_than}'"
        );
        diesel::sql_query(query).get_result::<Number>(&mut sql).expect("it is right").number
    };
    wait_until(limit(), "two leases are over, or the session", || {
        sessions("10 seconds") > 0 || sessions("0 seconds") == 0
    });
    guard.expect("it was granted").check().expect("the lock is held");
    drop(frozen);
    drop(former);
}

fn leadership(graph: i64) -> LockKey {
    LockKey { graph, ..key() }.of_leadership()
}

#[test]
fn all_leaderships_of_a_process_take_one_session() {
    let fixture = PostgresFixture::new();
    let (lock, other) = (fixture.node(), fixture.node());
    let lead = |graph| lock.acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let mut led: Vec<Guard> = (0..200).map(lead).collect();
    assert_eq!((fixture.holders(), fixture.sessions()), (200, 2), "one of them is the other's");
    led.truncate(1);
    assert_eq!(fixture.holders(), 1);
    let taken = other.acquire(&leadership(0), Exclusive, Duration::ZERO);
    assert!(matches!(taken, Err(LockError::Timeout { .. })), "{taken:?}");
    led.clear();
    assert_eq!(fixture.holders(), 0);
    // The session serves turns again.
    let turn = lock.acquire(&key(), Exclusive, limit()).expect("it is free");
    assert_eq!((fixture.holders(), fixture.sessions()), (1, 2));
    turn.release();
}

#[test]
fn leaderships_whose_session_has_ended_are_lost_and_can_be_had_again() {
    let fixture = PostgresFixture::new();
    let lease = Duration::from_millis(400);
    let open = || PostgresLock::open(&fixture.url, lease).expect("it can be opened");
    let (lock, other) = (open(), open());
    let lead = |graph| lock.acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let mut led: Vec<Guard> = (0..3).map(lead).collect();
    fixture.end_sessions();
    wait_until(limit(), "the loss is noticed", || led.iter_mut().all(|led| led.check().is_err()));
    let mut taken = other.acquire(&leadership(0), Exclusive, limit()).expect("it is free");
    drop(led);
    taken.check().expect("what was lost gives back nothing of the other's");
    let mut again = lock.acquire(&leadership(1), Exclusive, limit()).expect("it is free");
    again.check().expect("it is held");
}

/// A lease is much shorter than the time that this is held for.
#[test]
fn leaderships_outlive_their_lease_for_as_long_as_their_process_lives() {
    let fixture = PostgresFixture::new();
    let lease = Duration::from_millis(200);
    let lock = PostgresLock::open(&fixture.url, lease).expect("it can be opened");
    let lead = |graph| lock.acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let mut led: Vec<Guard> = (0..3).map(lead).collect();
    // One is given back: the others keep their lease.
    led.pop();
    let began = Instant::now();
    wait_until(limit(), "ten leases are over", || began.elapsed() > 10 * lease);
    led.iter_mut().for_each(|led| led.check().expect("it is held"));
    assert_eq!(fixture.holders(), 2);
}

/// A statement of its holder is not answered; the lock's session is.
#[test]
fn a_leadership_whose_task_is_given_up_is_given_back_and_costs_no_other_its_lease() {
    let fixture = PostgresFixture::new();
    let lease = Duration::from_secs(1);
    let open = || PostgresLock::open(&fixture.url, lease).expect("it can be opened");
    let (lock, other) = (open(), open());
    let lead = |graph| lock.acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let (given_up, mut kept) = (lead(0), lead(1));
    let port = Postgres::shared().port();
    let proxy = Proxy::to(port);
    let through = fixture.url.replace(&format!(":{port}/"), &format!(":{}/", proxy.port()));
    let limits = PoolLimits { answer: Duration::from_millis(500), ..PoolLimits::default() };
    let url = DatabaseUrl::parse(&through).expect("a URL");
    let database = Database::open(&url, limits).expect("it is there");
    let ask = move || database.ask(|session| session.batch_execute("SELECT 1"));
    ask().expect("a session is open");
    proxy.hold();
    let holder = thread::spawn(move || {
        watch::watched(
            |_| {},
            || {
                let _held = Reclaimable::new(given_up);
                drop(ask());
            },
        );
    });
    wait_until(limit(), "another process leads the graph", || {
        kept.check().expect("it is held");
        other.acquire(&leadership(0), Exclusive, Duration::ZERO).is_ok()
    });
    assert_eq!(fixture.holders(), 1, "the other graph's");
    proxy.let_go();
    holder.join().expect("it does not panic");
}

#[test]
fn what_a_task_that_is_given_up_held_stays_taken_if_nobody_gives_it_back() {
    let test = "lock::postgres::a_leadership_whose_task_is_given_up_is_given_back_and_costs_no_other_its_lease";
    assert!(!passes(test, Some("lock.postgres.left")));
}

/// Its session may not be ended by a server that is stopped, and is not believed in for longer than
/// a lease. Nobody renews it either: so it is where the process was stopped too.
#[test]
fn whether_a_leadership_is_held_is_known_without_the_server() {
    let test = "lock::postgres::whether_a_leadership_is_held_is_known_without_the_server";
    if !is_alone_without(test, "lock.postgres.renewal") {
        return;
    }
    let server = Postgres::start(&[]);
    let fixture = PostgresFixture::on(&server);
    let lease = Duration::from_secs(1);
    let lock = PostgresLock::open(&fixture.url, lease).expect("a lock");
    let lead = |graph| lock.acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let mut led: Vec<Guard> = (0..50).map(lead).collect();
    let (frozen, began) = (server.freeze(), Instant::now());
    wait_until(limit(), "the lease is over", || began.elapsed() > lease);
    let (told, is_told) = mpsc::channel();
    thread::spawn(move || {
        let are_lost = led.iter_mut().all(|led| led.check().is_err());
        // Nor is it asked to take them back.
        drop(led);
        told.send(are_lost).expect("it is waited for");
    });
    let told = is_told.recv_timeout(limit());
    drop(frozen);
    assert_eq!(told, Ok(true), "nobody waits for the server");
}
