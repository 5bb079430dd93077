//! What every lock must do, whatever it is made of. Each case takes a fixture, an empty lock of its
//! own.
//!
//! Nothing here asserts how long something took, only that it did not hang, and counts turns where
//! fairness is meant.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use fencepost::lock::{DistributedLock, FencingToken, Guard, LockError, LockKey, Mode, Purpose};

use super::row::Row;
use crate::support::{limit, wait_until};

use Mode::{Exclusive, Shared};

/// A lock server, or what stands for one.
pub trait LockFixture: Sync {
    /// A fresh handle, such as another process would have.
    fn node(&self) -> Arc<dyn DistributedLock>;

    /// What a child process needs to open the same lock: see [`super::child::open`].
    fn address(&self) -> String;

    /// An empty directory for the test's own files.
    fn scratch(&self) -> &Path;
}

/// Runs every case of the suite against one implementation.
macro_rules! lock_conformance {
    ($fixture:expr) => {
        lock_conformance! { @kept $fixture }
        lock_conformance! { @cases conformance, $fixture;
            a_writers_release_lets_all_waiting_readers_in
            a_fresh_lock_wants_seeding
            tokens_rise_over_handles_and_seedings
            tokens_of_different_keys_are_counted_apart
            what_must_not_be_seeded_is_refused
            a_leadership_is_one_processs_and_in_no_turns_way
            a_process_leads_many_graphs_and_gives_up_each_by_itself
            who_waits_for_a_leadership_gets_it
            threads_of_one_process_lead_one_at_a_time
            hundreds_of_threads_count_right
        }
        lock_conformance! { @cases processes, $fixture;
            a_killed_holder_frees_the_lock
            writers_in_many_processes_never_overlap
            writers_killed_at_any_moment_leave_rising_tokens
        }
    };
    // What also holds where grants are kept from one turn to the next.
    (@kept $fixture:expr) => {
        lock_conformance! { @cases conformance, $fixture;
            exclusive_excludes_exclusive_and_shared
            shared_shares_and_excludes_exclusive
            graphs_and_databases_do_not_interfere
            a_wait_that_runs_out_leaves_a_working_lock
            a_writer_that_gave_up_holds_back_no_reader
            those_who_gave_up_behind_a_waiting_writer_block_nobody
            the_longest_wait_is_a_wait
            a_waiting_writer_holds_back_later_readers
            a_writer_gets_through_a_flood_of_readers
            a_writer_gets_through_a_flood_of_readers_on_its_own_node
            a_reader_gets_through_a_flood_of_writers
            a_reader_gets_through_a_flood_of_writers_on_its_own_node
            drop_releases
            a_panicking_holder_releases
            keys_that_are_none_are_refused
            all_nodes_name_the_same_lock_and_answer_pings
        }
    };
    (@cases $module:ident, $fixture:expr; $($case:ident)*) => {
        $(#[test]
        fn $case() {
            crate::lock::$module::$case(&$fixture);
        })*
    };
}

/// Long enough to run into whatever is in the way; short, since the test sits through it.
const SHORT: Duration = Duration::from_millis(20);

pub fn key() -> LockKey {
    LockKey::new("5eed-0f-a-da7aba5e", 7).expect("a key")
}

/// Takes the lock, which must be had sooner or later.
#[track_caller]
pub fn take(lock: &dyn DistributedLock, mode: Mode) -> Guard {
    lock.acquire(&key(), mode, limit()).expect("a lock that is free or becomes so")
}

/// Asserts that the lock is not to be had.
#[track_caller]
pub fn assert_held_back(lock: &dyn DistributedLock, mode: Mode) {
    for wait in [Duration::ZERO, SHORT] {
        match lock.acquire(&key(), mode, wait) {
            Err(LockError::Timeout { waited }) => assert!(waited >= wait),
            other => panic!("{mode:?} should have timed out: {other:?}"),
        }
    }
}

#[track_caller]
fn assert_free(nodes: &[Arc<dyn DistributedLock>]) {
    for node in nodes {
        for mode in [Exclusive, Shared, Exclusive] {
            take(&**node, mode).release();
        }
    }
}

/// Waits until a newcomer on `node` no longer gets the shared lock, because a writer waits. That it
/// waits cannot be seen in any other way.
#[track_caller]
fn wait_until_readers_are_held_back(node: &dyn DistributedLock) {
    wait_until(limit(), "a waiting writer holds back a later reader", || {
        matches!(node.acquire(&key(), Shared, Duration::ZERO), Err(LockError::Timeout { .. }))
    });
}

pub fn exclusive_excludes_exclusive_and_shared(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    let guard = take(&*nodes[0], Exclusive);
    assert_eq!(guard.mode(), Exclusive);
    for node in &nodes {
        assert_held_back(&**node, Exclusive);
        assert_held_back(&**node, Shared);
    }
    guard.release();
    assert_free(&nodes);
}

pub fn shared_shares_and_excludes_exclusive(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    let mut guards: Vec<Guard> = (0..20).map(|n| take(&*nodes[n % 2], Shared)).collect();
    assert!(guards.iter().all(|guard| guard.mode() == Shared));
    while let Some(guard) = guards.pop() {
        for node in &nodes {
            assert!(matches!(
                node.acquire(&key(), Exclusive, Duration::ZERO),
                Err(LockError::Timeout { .. })
            ));
        }
        guard.release();
    }
    assert_free(&nodes);
}

pub fn graphs_and_databases_do_not_interfere(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    let mut guards = Vec::new();
    for database in ["a", "a-", "a-1", "b"] {
        // More than an implementation is likely to keep at hand.
        for graph in (0..50).chain([i64::MAX]) {
            let key = LockKey::new(database, graph).expect("a key");
            guards.push(
                nodes[guards.len() % 2]
                    .acquire(&key, Exclusive, limit())
                    .expect("nobody else has this one"),
            );
        }
    }
    let taken = LockKey::new("a-1", 1).expect("a key");
    assert!(matches!(
        nodes[0].acquire(&taken, Shared, Duration::ZERO),
        Err(LockError::Timeout { .. })
    ));
    drop(guards);
    nodes[0].acquire(&taken, Exclusive, limit()).expect("given back").release();
}

pub fn a_wait_that_runs_out_leaves_a_working_lock(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    for held in [Exclusive, Shared] {
        let guard = take(&*nodes[0], held);
        for _ in 0..5 {
            for node in &nodes {
                assert_held_back(&**node, Exclusive);
                if held == Exclusive {
                    assert_held_back(&**node, Shared);
                }
            }
        }
        guard.release();
        assert_free(&nodes);
        assert_free(&nodes);
    }
}

pub fn a_writer_that_gave_up_holds_back_no_reader(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node(), fixture.node()];
    let first = take(&*nodes[0], Shared);
    assert_held_back(&*nodes[0], Exclusive);
    assert_held_back(&*nodes[1], Exclusive);
    let others = nodes.iter().map(|node| take(&**node, Shared)).collect::<Vec<_>>();
    first.release();
    assert_held_back(&*nodes[2], Exclusive);
    drop(others);
    assert_free(&nodes);
}

pub fn those_who_gave_up_behind_a_waiting_writer_block_nobody(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node(), fixture.node()];
    let reader = take(&*nodes[0], Shared);
    thread::scope(|scope| {
        let writer = scope.spawn(|| take(&*nodes[1], Exclusive));
        wait_until_readers_are_held_back(&*nodes[2]);
        // The same node as the writer's: behind it in whatever queue the process has. Another:
        // behind it elsewhere.
        for node in [&nodes[1], &nodes[2]] {
            assert_held_back(&**node, Shared);
            assert_held_back(&**node, Exclusive);
        }
        reader.release();
        writer.join().expect("the writer is let in").release();
    });
    assert_free(&nodes);
}

pub fn the_longest_wait_is_a_wait(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    let guard = take(&*nodes[0], Exclusive);
    thread::scope(|scope| {
        let waiters = nodes
            .each_ref()
            .map(|node| scope.spawn(|| node.acquire(&key(), Exclusive, Duration::MAX).map(drop)));
        assert_held_back(&*nodes[1], Exclusive);
        guard.release();
        for waiter in waiters {
            waiter.join().expect("no panic").expect("a grant");
        }
    });
}

pub fn a_waiting_writer_holds_back_later_readers(fixture: &impl LockFixture) {
    for writers_node in [0, 1] {
        let nodes = [fixture.node(), fixture.node(), fixture.node()];
        let reader = take(&*nodes[0], Shared);
        thread::scope(|scope| {
            let writer = scope.spawn(|| take(&*nodes[writers_node], Exclusive));
            for node in &nodes {
                wait_until_readers_are_held_back(&**node);
                assert_held_back(&**node, Shared);
            }
            reader.release();
            writer.join().expect("the writer is let in").release();
        });
        assert_free(&nodes);
    }
}

pub fn a_writers_release_lets_all_waiting_readers_in(fixture: &impl LockFixture) {
    const READERS: u64 = 12;
    let nodes = [fixture.node(), fixture.node(), fixture.node()];
    let writer = take(&*nodes[0], Exclusive);
    let (coming, inside) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for node in nodes.iter().cycle().take(READERS as usize) {
            scope.spawn(|| {
                coming.fetch_add(1, Ordering::SeqCst);
                let guard = take(&**node, Shared);
                inside.fetch_add(1, Ordering::SeqCst);
                wait_until(limit(), "all readers are in together", || {
                    inside.load(Ordering::SeqCst) == READERS
                });
                guard.release();
            });
        }
        wait_until(limit(), "the readers came", || coming.load(Ordering::SeqCst) == READERS);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        writer.release();
    });
    assert_free(&nodes);
}

/// How many turns of a flood may pass before one of the other kind gets in. A lock that serves in
/// order needs about as many as there are threads; one that lets chance decide, a few times as
/// many, and on a busy machine the hundreds that fit into a slice of time for which the waiter has
/// no processor; one that starves, all there are.
const FLOOD_TURNS_MAX: u64 = 20_000;
const FLOOD_THREADS: usize = 6;

pub fn a_writer_gets_through_a_flood_of_readers(fixture: &impl LockFixture) {
    let node = fixture.node();
    flood(Shared, &[fixture.node(), fixture.node(), fixture.node()], &*node);
}

pub fn a_writer_gets_through_a_flood_of_readers_on_its_own_node(fixture: &impl LockFixture) {
    let node = fixture.node();
    flood(Shared, &[Arc::clone(&node)], &*node);
}

pub fn a_reader_gets_through_a_flood_of_writers(fixture: &impl LockFixture) {
    let node = fixture.node();
    flood(Exclusive, &[fixture.node(), fixture.node(), fixture.node()], &*node);
}

pub fn a_reader_gets_through_a_flood_of_writers_on_its_own_node(fixture: &impl LockFixture) {
    let node = fixture.node();
    flood(Exclusive, &[Arc::clone(&node)], &*node);
}

/// Takes and gives back `mode` on many threads without a pause, and the other mode now and then on
/// `loner`.
fn flood(mode: Mode, nodes: &[Arc<dyn DistributedLock>], loner: &dyn DistributedLock) {
    let turns = AtomicU64::new(0);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for node in nodes.iter().cycle().take(FLOOD_THREADS) {
            scope.spawn(|| {
                while !over.load(Ordering::SeqCst) {
                    let guard = take(&**node, mode);
                    let mine = turns.fetch_add(1, Ordering::SeqCst);
                    if mode == Shared {
                        hold_until_another_came(&turns, mine + 1);
                    }
                    guard.release();
                    // Who was woken by that shall have a processor, as it would if turns did any
                    // work.
                    thread::yield_now();
                    if mine >= 10 * FLOOD_TURNS_MAX {
                        return;
                    }
                }
            });
        }
        let passed: Vec<u64> = (0..10)
            .map(|_| {
                let before = turns.load(Ordering::SeqCst);
                wait_until(limit(), "the flood goes on", || {
                    turns.load(Ordering::SeqCst) > before + 10
                });
                let before = turns.load(Ordering::SeqCst);
                let other = if mode == Shared { Exclusive } else { Shared };
                let guard = loner.acquire(&key(), other, limit());
                let passed = turns.load(Ordering::SeqCst) - before;
                drop(guard);
                passed
            })
            .inspect(|passed| over.store(*passed > FLOOD_TURNS_MAX, Ordering::SeqCst))
            .take_while(|passed| *passed <= FLOOD_TURNS_MAX)
            .collect();
        over.store(true, Ordering::SeqCst);
        assert_eq!(
            passed.len(),
            10,
            "more than {FLOOD_TURNS_MAX} turns of the flood passed before the other got in"
        );
    });
}

/// So that a flood of readers leaves no gap of its own accord: without fairness no writer would
/// ever find one. Gives up after a while, for with fairness nobody may come. Sleeps, for threads
/// that only yield leave a lock server no processor.
fn hold_until_another_came(turns: &AtomicU64, mine: u64) {
    for _ in 0..50 {
        if turns.load(Ordering::SeqCst) > mine {
            return;
        }
        thread::sleep(Duration::from_micros(20));
    }
}

pub fn a_fresh_lock_wants_seeding(fixture: &impl LockFixture) {
    let first = take(&*fixture.node(), Exclusive);
    assert_eq!(first.token(), None);
    assert!(first.incarnation().is_some_and(|incarnation| !incarnation.is_empty()));
    first.release();

    let node = fixture.node();
    let mut second = take(&*node, Exclusive);
    assert_eq!(second.token(), None, "nobody has seeded it");
    let token = second.seed(1).expect("a first epoch");
    assert_eq!((token.epoch(), second.token()), (1, Some(token)));
    let incarnation = second.incarnation().map(str::to_owned);
    second.release();

    for node in [node, fixture.node()] {
        let next = take(&*node, Exclusive);
        assert!(next.token().expect("it has been seeded") > token);
        assert_eq!(next.incarnation(), incarnation.as_deref());
    }
    let reader = take(&*fixture.node(), Shared);
    assert_eq!((reader.token(), reader.incarnation()), (None, None));
}

pub fn tokens_rise_over_handles_and_seedings(fixture: &impl LockFixture) {
    let mut row = Row::default();
    let old = fixture.node();
    let mut last = None;
    for round in 0..30 {
        let fresh = fixture.node();
        let mut guard = take(if round % 2 == 0 { &*old } else { &*fresh }, Exclusive);
        let mut token = row.token_for(&mut guard);
        assert!(Some(token) > last);
        if round % 7 == 0 {
            let raised = guard.seed(token.epoch() + 3).expect("a larger epoch");
            assert!(raised > token);
            token = raised;
        }
        last = Some(token);
        guard.release();
        take(&*fresh, Shared).release();
    }
    let guard = take(&*old, Exclusive);
    assert!(guard.token() > last);
}

pub fn tokens_of_different_keys_are_counted_apart(fixture: &impl LockFixture) {
    let node = fixture.node();
    for graph in 1..=3 {
        let key = LockKey::new("ab", graph).expect("a key");
        let mut guard = node.acquire(&key, Exclusive, limit()).expect("a grant");
        assert_eq!(guard.token(), None, "graph {graph} is new to the lock");
        guard.seed(graph as u32).expect("a first epoch");
    }
    for graph in 1..=3 {
        let key = LockKey::new("ab", graph).expect("a key");
        let guard = node.acquire(&key, Exclusive, limit()).expect("a grant");
        assert_eq!(guard.token().map(FencingToken::epoch), Some(graph as u32));
    }
}

pub fn what_must_not_be_seeded_is_refused(fixture: &impl LockFixture) {
    let node = fixture.node();
    let mut reader = take(&*node, Shared);
    assert!(matches!(reader.seed(1), Err(LockError::NotExclusive)));
    reader.release();

    let mut writer = take(&*node, Exclusive);
    let too_large = FencingToken::MAX_EPOCH + 1;
    assert!(
        matches!(writer.seed(too_large), Err(LockError::EpochOutOfRange { epoch, .. }) if epoch == too_large)
    );
    assert_eq!(writer.token(), None);
    let token = writer.seed(5).expect("a first epoch");
    for epoch in [0, 4, 5] {
        assert!(matches!(writer.seed(epoch), Err(LockError::EpochOutOfRange { least: 6, .. })));
        assert_eq!(writer.token(), Some(token), "what is refused changes nothing");
    }
    writer.seed(FencingToken::MAX_EPOCH).expect("the last epoch");
    writer.release();
    let token = take(&*node, Exclusive).token().expect("it was seeded");
    assert_eq!((token.epoch(), token.counter()), (FencingToken::MAX_EPOCH, 2));
}

pub fn drop_releases(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    for mode in [Exclusive, Shared] {
        drop(take(&*nodes[0], mode));
        assert_free(&nodes);
        // The guard outlives the handle it came from, and may be dropped by another thread.
        let guard = take(&*fixture.node(), mode);
        assert_held_back(&*nodes[1], Exclusive);
        thread::spawn(move || drop(guard)).join().expect("no panic");
        assert_free(&nodes);
    }
}

pub fn a_panicking_holder_releases(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = take(&*nodes[0], Exclusive);
        std::panic::resume_unwind(Box::new("what a holder may run into"));
    }));
    assert!(panicked.is_err());
    assert_free(&nodes);
}

pub fn hundreds_of_threads_count_right(fixture: &impl LockFixture) {
    const THREADS: usize = 200;
    const TURNS: u64 = 5;
    let nodes = [fixture.node(), fixture.node(), fixture.node()];
    // Loaded and stored apart: two writers at once would lose a count.
    let counter = AtomicU64::new(0);
    let row = Mutex::new(Row::default());
    thread::scope(|scope| {
        for node in nodes.iter().cycle().take(THREADS) {
            scope.spawn(|| {
                for _ in 0..TURNS {
                    let reader = take(&**node, Shared);
                    let seen = counter.load(Ordering::Relaxed);
                    thread::yield_now();
                    assert_eq!(
                        counter.load(Ordering::Relaxed),
                        seen,
                        "a writer was let in beside a reader"
                    );
                    reader.release();

                    let mut writer = take(&**node, Exclusive);
                    let seen = counter.load(Ordering::Relaxed);
                    row.try_lock().expect("one writer at a time").token_for(&mut writer);
                    thread::yield_now();
                    counter.store(seen + 1, Ordering::Relaxed);
                    writer.release();
                }
            });
        }
    });
    assert_eq!(counter.load(Ordering::Relaxed), THREADS as u64 * TURNS);
    assert_eq!(
        row.into_inner().expect("no panic").seedings,
        1,
        "a lock that nothing befell is seeded once"
    );
}

pub fn keys_that_are_none_are_refused(fixture: &impl LockFixture) {
    let node = fixture.node();
    for database in ["", "../x", "A", "a/b", "a b", "é", &"a".repeat(65)] {
        let key = LockKey { database: database.to_owned(), graph: 1, purpose: Purpose::Turns };
        let refused = node.acquire(&key, Shared, Duration::ZERO);
        assert!(matches!(refused, Err(LockError::InvalidKey { .. })), "{database:?}: {refused:?}");
    }
    let negative = LockKey { database: "a".to_owned(), graph: -1, purpose: Purpose::Turns };
    assert!(matches!(
        node.acquire(&negative, Shared, Duration::ZERO),
        Err(LockError::InvalidKey { .. })
    ));
}

pub fn all_nodes_name_the_same_lock_and_answer_pings(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    assert_eq!(nodes[0].identity(), nodes[1].identity());
    let _held = take(&*nodes[0], Exclusive);
    for node in &nodes {
        node.ping().expect("it answers, held or not");
    }
}

fn leadership(graph: i64) -> LockKey {
    LockKey { graph, ..key() }.of_leadership()
}

fn is_led(node: &dyn DistributedLock, graph: i64) -> bool {
    match node.acquire(&leadership(graph), Exclusive, Duration::ZERO) {
        Ok(_) => false,
        Err(LockError::Timeout { .. }) => true,
        Err(error) => panic!("{error}"),
    }
}

pub fn a_leadership_is_one_processs_and_in_no_turns_way(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    let mut led = nodes[0].acquire(&leadership(7), Exclusive, limit()).expect("nobody leads");
    for node in &nodes {
        assert!(is_led(&**node, 7));
    }
    assert_free(&nodes);
    led.check().expect("it is held");
    drop(led);
    for node in &nodes {
        assert!(!is_led(&**node, 7));
    }
}

pub fn a_process_leads_many_graphs_and_gives_up_each_by_itself(fixture: &impl LockFixture) {
    const GRAPHS: i64 = 80;
    let nodes = [fixture.node(), fixture.node()];
    let lead =
        |graph| nodes[0].acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let mut led: Vec<(i64, Guard)> = (0..GRAPHS).map(|graph| (graph, lead(graph))).collect();
    led.retain(|(graph, _)| graph % 2 == 0);
    for graph in 0..GRAPHS {
        assert_eq!(is_led(&*nodes[1], graph), graph % 2 == 0, "{graph}");
    }
    for (_, guard) in &mut led {
        guard.check().expect("it is held");
    }
    drop(led);
    assert!((0..GRAPHS).all(|graph| !is_led(&*nodes[1], graph)));
    // Once more, with what is left of the first time.
    let led: Vec<Guard> = (0..GRAPHS).map(lead).collect();
    assert!((0..GRAPHS).all(|graph| is_led(&*nodes[1], graph)));
    drop(led);
}

pub fn who_waits_for_a_leadership_gets_it(fixture: &impl LockFixture) {
    let nodes = [fixture.node(), fixture.node()];
    let led = nodes[0].acquire(&leadership(7), Exclusive, limit()).expect("nobody leads");
    thread::scope(|scope| {
        let successor = scope.spawn(|| {
            let mut guard =
                nodes[1].acquire(&leadership(7), Exclusive, limit()).expect("it is given up");
            guard.check().expect("it is held");
            guard
        });
        thread::sleep(SHORT);
        assert!(!successor.is_finished(), "two led at once");
        drop(led);
        let guard = successor.join().expect("it does not panic");
        assert!(is_led(&*nodes[0], 7));
        drop(guard);
    });
}

/// They take the same ones again and again, give back beside each other, and leave nothing.
pub fn threads_of_one_process_lead_one_at_a_time(fixture: &impl LockFixture) {
    const THREADS: i64 = 6;
    const ROUNDS: u64 = 60;
    let nodes = [fixture.node(), fixture.node()];
    let leading = [0, 1].map(|_| AtomicU64::new(0));
    thread::scope(|scope| {
        for number in 0..THREADS {
            let (node, leading) = (&nodes[0], &leading);
            scope.spawn(move || {
                let graph = number % 2;
                let here = &leading[graph as usize];
                for _ in 0..ROUNDS {
                    let mut led =
                        node.acquire(&leadership(graph), Exclusive, limit()).expect("its turn");
                    assert_eq!(here.fetch_add(1, Ordering::SeqCst), 0, "two lead at once");
                    led.check().expect("it is held");
                    here.fetch_sub(1, Ordering::SeqCst);
                }
            });
        }
    });
    for graph in [0, 1] {
        let mut led = nodes[1].acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
        led.check().expect("it is held");
    }
}
