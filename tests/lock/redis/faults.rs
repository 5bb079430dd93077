//! What a network, a server and other processes do to the lock, each against a real server. Leases
//! are short here, so that they run out while one looks on; that a lease has run out is seen by
//! another's grant, never by a clock.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use fencepost::lock::redis::{RedisLock, Terms};
use fencepost::lock::{DistributedLock, Guard, LockError, LockKey, Mode};

use super::{Fixture, open};
use crate::lock::child::{Role, Running};
use crate::lock::conformance::{key, take};
use crate::lock::row::Row;
use crate::support::cluster::in_child;
use crate::support::redis::Redis;
use crate::support::wire::{Fate, Wire};
use crate::support::{limit, wait_until};

use Mode::{Exclusive, Shared};

fn short() -> Terms {
    Terms { lease: Duration::from_millis(600), ..Terms::default() }
}

/// Takes the exclusive lock, seeded, and says which counter its token has.
fn counted(lock: &RedisLock) -> (Guard, u64) {
    let mut guard = take(lock, Exclusive);
    if guard.token().is_none() {
        guard.seed(1).expect("a first epoch");
    }
    let counter = guard.token().expect("it is seeded").counter();
    (guard, counter)
}

fn is_free(lock: &RedisLock) -> bool {
    match lock.acquire(&key(), Exclusive, Duration::ZERO) {
        Ok(_) => true,
        Err(LockError::Timeout { .. }) => false,
        Err(error) => panic!("{error}"),
    }
}

fn grants(lock: &RedisLock, mode: Mode, wanted: &str) -> u64 {
    let families = lock.collectors().into_iter().flat_map(|collector| collector.collect());
    let grants = families.filter(|family| family.name() == "fencepost_lock_grants_total");
    let metrics: Vec<_> = grants.flat_map(|family| family.get_metric().to_vec()).collect();
    let is_wanted = |metric: &&prometheus::proto::Metric| {
        let labels: Vec<&str> = metric.get_label().iter().map(|label| label.value()).collect();
        labels == [mode.word(), wanted]
    };
    metrics.iter().filter(is_wanted).map(|metric| metric.get_counter().get_value() as u64).sum()
}

#[test]
fn an_answer_that_is_lost_is_asked_for_again_and_is_the_same() {
    for (mode, before) in [(Exclusive, 1), (Shared, 1)] {
        let fixture = Fixture::new();
        let wire = Wire::to(Redis::shared().port());
        let near = open(&fixture.url, Terms::default());
        assert_eq!(counted(&near).1, before);
        let far = open(&fixture.through(&wire), Terms::default());
        wire.strike("acquire", Fate::AnswerLost);
        let guard = take(&far, mode);
        wire.wait_until_struck();
        assert_eq!(
            guard.token().map(|token| token.counter()),
            (mode == Exclusive).then_some(before + 1)
        );
        assert!(!guard.must_seal(), "it waited for its own lease to run out");
        assert_eq!(
            near.inspect(&key()).expect("an answer").holders.len(),
            1,
            "it was granted twice"
        );
        guard.release();
        let (next, counter) = counted(&near);
        assert_eq!(counter, before + 1 + u64::from(mode == Exclusive));
        next.release();
    }
}

#[test]
fn a_release_whose_answer_is_lost_is_sent_again() {
    let fixture = Fixture::new();
    let wire = Wire::to(Redis::shared().port());
    let far = open(&fixture.through(&wire), Terms::default());
    let (guard, _) = counted(&far);
    wire.strike("release", Fate::HeldUp);
    guard.release();
    wire.wait_until_struck();
    // Well within its lease.
    let (next, _) = counted(&open(&fixture.url, Terms::default()));
    assert!(!next.must_seal(), "it was waited for until its lease ran out");
    wire.let_go();
    assert!(!is_free(&far), "the late release freed another's grant");
}

#[test]
fn a_request_that_arrives_after_its_end_is_not_granted() {
    let fixture = Fixture::new();
    let wire = Wire::to(Redis::shared().port());
    let far = open(&fixture.through(&wire), Terms::default());
    let near = open(&fixture.url, Terms::default());
    wire.strike("acquire", Fate::HeldUp);
    take(&far, Exclusive).release();
    wire.wait_until_struck();
    wait_until(limit(), "it is given back", || is_free(&near));
    wire.let_go();
    assert!(is_free(&near), "a request was granted that nobody made any more");
}

/// Cut off while it holds the lock, until another has it.
fn cut_off(fixture: &Fixture) -> (Wire, RedisLock, Guard, RedisLock, Guard) {
    let wire = Wire::to(Redis::shared().port());
    let far = open(&fixture.through(&wire), short());
    let (former, _) = counted(&far);
    wire.lead_to(0);
    let near = open(&fixture.url, short());
    let guard = take(&near, Exclusive);
    (wire, far, former, near, guard)
}

#[test]
fn whoever_gains_by_expiry_must_seal_until_one_has() {
    let fixture = Fixture::new();
    let (_wire, _far, _former, near, first) = cut_off(&fixture);
    assert!(first.must_seal());
    first.release();
    let mut second = take(&near, Exclusive);
    assert!(second.must_seal(), "the first did not seal");
    second.sealed();
    assert!(!second.must_seal());
    second.release();
    assert!(!take(&near, Exclusive).must_seal());
}

#[test]
fn a_release_that_comes_after_its_lease_frees_nobody() {
    let fixture = Fixture::new();
    let (wire, far, former, near, guard) = cut_off(&fixture);
    wire.lead_to(Redis::shared().port());
    wait_until(limit(), "the former holder reaches the server again", || far.ping().is_ok());
    former.release();
    // On the same connection, and so after it.
    far.ping().expect("an answer");
    assert!(!is_free(&near), "a release of a former holder freed its successor's grant");
    guard.release();
}

#[test]
fn a_holder_that_is_cut_off_knows_it_for_good() {
    let fixture = Fixture::new();
    let wire = Wire::to(Redis::shared().port());
    let far = open(&fixture.through(&wire), short());
    let (mut guard, _) = counted(&far);
    guard.check().expect("it holds the lock");
    wire.lead_to(0);
    let mut last = None;
    wait_until(limit(), "the holder knows", || {
        last = guard.check().err();
        last.is_some()
    });
    assert!(matches!(last, Some(LockError::Lost { .. })), "{last:?}");
    wire.lead_to(Redis::shared().port());
    wait_until(limit(), "the server is reached again", || far.ping().is_ok());
    assert!(guard.check().is_err(), "it believes to hold the lock again");
}

#[test]
fn a_holder_that_works_for_longer_than_a_lease_keeps_the_lock() {
    let fixture = Fixture::new();
    let (near, other) = (open(&fixture.url, short()), open(&fixture.url, short()));
    let readers = [take(&near, Shared), take(&near, Shared)];
    let until = Instant::now() + 3 * short().lease;
    wait_until(limit(), "three leases are over", || {
        assert!(!is_free(&other), "a reader lost the lock while it lived");
        Instant::now() >= until
    });
    drop(readers);
    let (mut writer, _) = counted(&near);
    let until = Instant::now() + 3 * short().lease;
    wait_until(limit(), "three leases are over", || {
        assert!(!is_free(&other), "a writer lost the lock while it lived");
        Instant::now() >= until
    });
    writer.check().expect("it holds the lock");
}

#[test]
fn nobody_holds_the_lock_for_longer_than_the_maximum() {
    let fixture = Fixture::new();
    let terms = Terms { max_hold: Duration::from_millis(900), ..short() };
    let (stuck, other) = (open(&fixture.url, terms), open(&fixture.url, terms));
    let (mut guard, _) = counted(&stuck);
    let next = take(&other, Exclusive);
    assert!(next.must_seal());
    assert!(matches!(guard.check(), Err(LockError::Lost { .. })));
}

#[test]
fn a_grant_that_was_handed_over_and_not_claimed_goes_on_to_the_next() {
    let fixture = Fixture::new();
    let holder = open(&fixture.url, short());
    let (guard, _) = counted(&holder);
    let child = Running::start(&fixture, Role::Writer(1));
    wait_until(limit(), "the child waits", || {
        !holder.inspect(&key()).expect("an answer").waiting.is_empty()
    });
    // It keeps its connection, and hears nothing any more.
    child.stop();
    guard.release();
    let next = take(&holder, Exclusive);
    assert!(next.must_seal(), "the token that was given may still be used");
    child.kill();
}

#[test]
fn a_writer_that_died_while_waiting_holds_back_nobody() {
    let fixture = Fixture::new();
    let node = open(&fixture.url, Terms::default());
    let reader = take(&node, Shared);
    let child = Running::start(&fixture, Role::Writer(1));
    wait_until(limit(), "a writer waits", || {
        !node.inspect(&key()).expect("an answer").waiting.is_empty()
    });
    child.kill();
    take(&node, Shared).release();
    reader.release();
    take(&node, Exclusive).release();
}

#[test]
fn a_grant_whose_message_is_lost_is_found_out_by_asking() {
    in_child(
        concat!(module_path!(), "::a_grant_whose_message_is_lost_is_found_out_by_asking"),
        "lock.redis.messages=off",
        || {
            let fixture = Fixture::new();
            let nodes = [open(&fixture.url, short()), open(&fixture.url, short())];
            for mode in [Exclusive, Shared] {
                let (guard, _) = counted(&nodes[0]);
                thread::scope(|scope| {
                    let waiter = scope.spawn(|| take(&nodes[1], mode).release());
                    let waits = || !nodes[0].inspect(&key()).expect("an answer").waiting.is_empty();
                    wait_until(limit(), "it waits", waits);
                    guard.release();
                    waiter.join().expect("no panic");
                });
                let counts = ["asked", "message"].map(|path| grants(&nodes[1], mode, path));
                assert_eq!(counts, [1, 0]);
            }
        },
    );
}

/// The message comes long after the last one, and is not lost for that.
#[test]
fn a_message_that_comes_after_a_long_silence_is_heard() {
    let fixture = Fixture::new();
    let nodes = [open(&fixture.url, Terms::default()), open(&fixture.url, Terms::default())];
    let (guard, _) = counted(&nodes[0]);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| take(&nodes[1], Exclusive).release());
        let began = Instant::now();
        wait_until(limit(), "there was silence for a while", || {
            began.elapsed() > Duration::from_secs(2)
        });
        guard.release();
        waiter.join().expect("no panic");
    });
    assert_eq!(
        ["free", "message", "asked"].map(|path| grants(&nodes[1], Exclusive, path)),
        [0, 1, 0]
    );
}

#[test]
fn what_is_handed_over_is_told_by_a_message() {
    let fixture = Fixture::new();
    let nodes = [open(&fixture.url, Terms::default()), open(&fixture.url, Terms::default())];
    for mode in [Exclusive, Shared] {
        let (guard, _) = counted(&nodes[0]);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| take(&nodes[1], mode).release());
            wait_until(limit(), "it waits", || {
                !nodes[0].inspect(&key()).expect("an answer").waiting.is_empty()
            });
            guard.release();
            waiter.join().expect("no panic");
        });
        assert_eq!(["free", "message"].map(|path| grants(&nodes[1], mode, path)), [0, 1]);
    }
}

#[test]
fn a_hand_over_costs_as_many_commands_however_many_wait() {
    let mut server = Redis::start(&[]);
    // So long that no lease has to be renewed meanwhile.
    let lock = open(&server.url(), Terms { lease: Duration::from_secs(600), ..Terms::default() });
    let calls = |server: &Redis| {
        let stats: String =
            redis::from_redis_value(server.command(&["INFO", "commandstats"])).expect("a text");
        let calls =
            |line: &str| line.split_once("calls=")?.1.split(',').next()?.parse::<u64>().ok();
        stats.lines().filter_map(calls).sum::<u64>()
    };
    let for_each = |waiters: u64| {
        let (guard, _) = counted(&lock);
        let before = thread::scope(|scope| {
            for _ in 0..waiters {
                scope.spawn(|| take(&lock, Exclusive).release());
            }
            let all = || {
                redis::from_redis_value::<u64>(server.command(&["ZCARD", &state_key("queue")]))
                    .expect("a number")
            };
            wait_until(limit(), "all wait", || all() == waiters);
            let before = calls(&server);
            guard.release();
            before
        });
        (calls(&server) - before) / waiters
    };
    let (few, many) = (for_each(20), for_each(400));
    assert!(
        many <= few + few / 5,
        "{few} commands for each of 20 hand-overs, {many} for each of 400"
    );
    server.kill();
}

fn state_key(part: &str) -> String {
    format!("{{fencepost:{}}}:{part}", key())
}

/// A few turns of a writer, whose tokens must rise; says whether the lock wanted seeding.
fn turns(lock: &RedisLock, row: &mut Row) -> bool {
    let before = row.seedings;
    for _ in 0..3 {
        let mut guard = take(lock, Exclusive);
        row.token_for(&mut guard);
        guard.release();
    }
    row.seedings > before
}

#[test]
fn tokens_rise_over_a_server_that_forgets() {
    let mut server = Redis::start(&[]);
    let lock = open(&server.url(), short());
    let mut row = Row::default();
    assert!(turns(&lock, &mut row) && !turns(&lock, &mut row));
    server.command(&["FLUSHALL"]);
    assert!(turns(&lock, &mut row), "emptied");
    server.command(&["DEL", &state_key("state")]);
    assert!(turns(&lock, &mut row), "evicted");
    server.kill();
    server.start_again();
    assert!(turns(&lock, &mut row), "started anew");
    for harmless in [
        &["SCRIPT", "FLUSH"] as &[&str],
        &["CLIENT", "KILL", "TYPE", "pubsub"],
        &["CLIENT", "KILL", "TYPE", "normal"],
    ] {
        server.command(harmless);
        assert!(!turns(&lock, &mut row), "{harmless:?}");
    }
}

#[test]
fn tokens_rise_over_an_older_dump() {
    let mut server = Redis::start(&[]);
    let lock = open(&server.url(), short());
    let mut row = Row::default();
    turns(&lock, &mut row);
    server.command(&["SAVE"]);
    turns(&lock, &mut row);
    server.kill();
    server.start_again();
    assert_ne!(
        server.command(&["EXISTS", &state_key("state")]),
        redis::Value::Int(0),
        "the dump was loaded"
    );
    assert!(turns(&lock, &mut row));
}

#[test]
fn tokens_rise_over_a_lagging_replica_that_is_promoted_and_demoted_again() {
    let (first, second) = (Redis::start(&[]), Redis::start(&[]));
    let wire = Wire::to(first.port());
    let lock = open(&wire.url(), short());
    let mut row = Row::default();
    turns(&lock, &mut row);
    let follow = |follower: &Redis, leader: &Redis| {
        follower.command(&["REPLICAOF", "127.0.0.1", &leader.port().to_string()]);
        wait_until(limit(), "it has copied", || {
            let info: String = redis::from_redis_value(follower.command(&["INFO", "replication"]))
                .expect("a text");
            info.contains("master_link_status:up") && info.contains("master_sync_in_progress:0")
        });
    };
    follow(&second, &first);
    // From here on it lags.
    second.command(&["REPLICAOF", "NO", "ONE"]);
    turns(&lock, &mut row);
    wire.lead_to(second.port());
    assert!(turns(&lock, &mut row), "promoted");
    wire.lead_to(first.port());
    assert!(turns(&lock, &mut row), "the former primary, as it was");
    follow(&first, &second);
    first.command(&["REPLICAOF", "NO", "ONE"]);
    assert!(turns(&lock, &mut row), "the former primary, with what the other had");
}

#[test]
fn a_server_that_is_away_is_told_and_found_again() {
    let mut server = Redis::start(&[]);
    let lock = open(&server.url(), short());
    let mut row = Row::default();
    turns(&lock, &mut row);
    server.kill();
    for mode in [Exclusive, Shared] {
        let refused = lock.acquire(&key(), mode, limit());
        assert!(matches!(refused, Err(LockError::Unavailable { .. })), "{refused:?}");
    }
    assert!(lock.ping().is_err());
    server.start_again();
    assert!(turns(&lock, &mut row));
    lock.ping().expect("it is back");
}

/// Waiters too: the server forgets them, and they ask again.
#[test]
fn those_who_wait_are_served_after_the_server_forgot_them() {
    let server = Redis::start(&[]);
    let lock = Arc::new(open(&server.url(), short()));
    let (guard, _) = counted(&lock);
    thread::scope(|scope| {
        let waiters: Vec<_> = [Exclusive, Shared, Exclusive]
            .map(|mode| {
                scope.spawn({
                    let lock = Arc::clone(&lock);
                    move || take(&*lock, mode).release()
                })
            })
            .into();
        wait_until(limit(), "they wait", || {
            lock.inspect(&key()).expect("an answer").waiting.len() == 3
        });
        server.command(&["FLUSHALL"]);
        for waiter in waiters {
            waiter.join().expect("no panic");
        }
    });
    guard.release();
}

#[test]
fn a_person_sees_who_holds_and_who_waits() {
    let fixture = Fixture::new();
    let lock = open(&fixture.url, Terms::default());
    let empty = lock.inspect(&key()).expect("an answer");
    assert!(empty.holders.is_empty() && empty.waiting.is_empty() && empty.token.is_none());
    assert!(empty.notes.iter().any(|note| note.contains("seed")));
    let (guard, counter) = counted(&lock);
    thread::scope(|scope| {
        for mode in [Shared, Exclusive] {
            scope.spawn({
                let lock = &lock;
                move || take(lock, mode).release()
            });
        }
        wait_until(limit(), "they wait", || {
            lock.inspect(&key()).expect("an answer").waiting.len() == 2
        });
        let seen = lock.inspect(&key()).expect("an answer");
        assert_eq!(seen.token.map(|token| token.counter()), Some(counter));
        assert_eq!(seen.holders.len(), 1);
        assert_eq!(
            (seen.holders[0].mode, seen.incarnation.as_deref()),
            (Exclusive, guard.incarnation())
        );
        assert!(seen.holders[0].who.contains(&std::process::id().to_string()), "{seen:?}");
        assert!(
            seen.holders[0].ends_in.is_some_and(|ends| ends <= Terms::default().lease),
            "{seen:?}"
        );
        guard.release();
    });
}

/// What a turn may not, a leadership may: it lasts for as long as its process lives.
#[test]
fn leaderships_are_held_for_longer_than_the_maximum_and_renewed_together() {
    const GRAPHS: i64 = 250;
    let fixture = Fixture::new();
    let terms = Terms { max_hold: Duration::from_millis(900), ..short() };
    let (lock, other) = (open(&fixture.url, terms), open(&fixture.url, terms));
    let leadership = |graph| LockKey { graph, ..key() }.of_leadership();
    let lead = |graph| lock.acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let mut led: Vec<Guard> = (0..GRAPHS).map(lead).collect();
    let mut turn = take(&lock, Exclusive);
    wait_until(limit(), "the turn has lasted too long", || turn.check().is_err());
    led.iter_mut().for_each(|led| led.check().expect("it is held"));
    for graph in [0, GRAPHS / 2, GRAPHS - 1] {
        let taken = other.acquire(&leadership(graph), Exclusive, Duration::ZERO);
        assert!(matches!(taken, Err(LockError::Timeout { .. })), "{taken:?}");
    }
    // A server that forgets the script is given it again, for all of them.
    Redis::shared().command(&["SCRIPT", "FLUSH"]);
    let began = Instant::now();
    wait_until(limit(), "two leases are over", || began.elapsed() > 2 * terms.lease);
    led.iter_mut().for_each(|led| led.check().expect("it is held"));
}

/// What is stored of one lock is damaged: the leases of all others are renewed, in the same round
/// trip.
#[test]
fn a_damaged_lock_costs_no_other_its_lease() {
    let redis = Redis::start(&[]);
    let lock = open(&redis.url(), short());
    let leadership = |graph| LockKey { graph, ..key() }.of_leadership();
    let lead = |graph| lock.acquire(&leadership(graph), Exclusive, limit()).expect("it is free");
    let mut led: Vec<Guard> = (0..5).map(lead).collect();
    let state = format!("{{fencepost:{}}}:state", leadership(2));
    redis.command(&["SET", &state, "damaged"]);
    wait_until(limit(), "the damaged one is lost", || led[2].check().is_err());
    let began = Instant::now();
    wait_until(limit(), "two leases are over", || began.elapsed() > 2 * short().lease);
    for graph in [0, 1, 3, 4] {
        led[graph].check().expect("it is held");
    }
}
