//! A lock that is kept between turns: conformance, and what is its own. All on Redis, the lock that
//! tells its holders when others wait.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use fencepost::lock::kept::{KeepLimits, KeptLock};
use fencepost::lock::redis::{RedisLock, Terms};
use fencepost::lock::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
};

use super::conformance::{LockFixture, key, take};
use super::redis;
use crate::support::cluster::in_child;
use crate::support::redis::Redis;
use crate::support::wire::Wire;
use crate::support::{limit, wait_until};

use Mode::{Exclusive, Shared};

/// Nothing ends a grant but what the test is about.
const FOR_EVER: KeepLimits = KeepLimits {
    idle: Duration::from_secs(3_600),
    time: Duration::from_secs(3_600),
    turns: u32::MAX,
    look_every: Duration::from_secs(3_600),
};

/// Locks of one database, which are kept after each turn.
struct Fixture(redis::Fixture);

impl LockFixture for Fixture {
    fn node(&self) -> Arc<dyn DistributedLock> {
        Arc::new(Keeps(kept(&self.0, KeepLimits::default())))
    }

    fn address(&self) -> String {
        self.0.address()
    }

    fn scratch(&self) -> &Path {
        self.0.scratch()
    }
}

/// Ends a turn where a guard is dropped, so that the suite's turns are kept.
struct Keeps(KeptLock);

impl DistributedLock for Keeps {
    fn identity(&self) -> LockIdentity {
        self.0.identity()
    }

    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        let guard = self.0.acquire(key, mode, wait)?;
        let (incarnation, token) = (guard.incarnation().map(str::to_owned), guard.token());
        let ends = Box::new(EndsTurn(Some(guard)));
        Ok(match incarnation {
            None => Guard::shared(ends),
            Some(incarnation) => Guard::exclusive(ends, incarnation, token),
        })
    }

    fn ping(&self) -> Result<(), LockError> {
        self.0.ping()
    }

    fn inspect(&self, key: &LockKey) -> Result<Inspection, LockError> {
        self.0.inspect(key)
    }
}

struct EndsTurn(Option<Guard>);

impl Held for EndsTurn {
    fn store(&mut self, _incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        self.guard().seed(first.epoch()).map(drop)
    }

    fn check(&mut self) -> Result<(), LockError> {
        self.guard().check()
    }

    fn sealed(&mut self) {
        self.guard().sealed();
    }

    fn is_wanted(&mut self, known_within: Duration) -> Result<bool, LockError> {
        self.guard().is_wanted(known_within)
    }
}

impl EndsTurn {
    fn guard(&mut self) -> &mut Guard {
        self.0.as_mut().expect("it is held")
    }
}

impl Drop for EndsTurn {
    fn drop(&mut self) {
        self.0.take().expect("it was held").end_turn();
    }
}

/// The suite without two kinds of cases: those that want a new token for each turn, and one in
/// which readers of several processes hold the lock together before any of them goes on.
mod suite {
    use super::Fixture;
    use crate::lock::redis;

    lock_conformance! { @kept Fixture(redis::Fixture::new()) }
}

fn inner(fixture: &redis::Fixture) -> RedisLock {
    redis::open(&fixture.address(), Terms::default())
}

fn kept(fixture: &redis::Fixture, limits: KeepLimits) -> KeptLock {
    KeptLock::over(Arc::new(inner(fixture)), limits).expect("a thread can be started")
}

/// Takes a turn, up to its end.
#[track_caller]
fn begin(lock: &KeptLock) -> (Guard, FencingToken) {
    let mut guard = take(lock, Exclusive);
    let token = guard.token().unwrap_or_else(|| guard.seed(1).expect("a first epoch"));
    guard.check().expect("it holds the lock");
    (guard, token)
}

#[track_caller]
fn turn(lock: &KeptLock) -> FencingToken {
    let (guard, token) = begin(lock);
    guard.end_turn();
    token
}

fn is_held(lock: &dyn DistributedLock) -> bool {
    !lock.inspect(&key()).expect("an answer").holders.is_empty()
}

fn waiting(lock: &dyn DistributedLock) -> usize {
    lock.inspect(&key()).expect("an answer").waiting.len()
}

/// How often that lock was asked for a grant and gave it.
fn grants(lock: &dyn DistributedLock) -> u64 {
    let families = lock.collectors().into_iter().flat_map(|collector| collector.collect());
    let grants = families.filter(|family| family.name() == "fencepost_lock_grants_total");
    let metrics = grants.flat_map(|family| family.get_metric().to_vec());
    metrics.map(|metric| metric.get_counter().get_value() as u64).sum()
}

#[test]
fn turns_of_one_process_have_one_grant_and_one_token() {
    let fixture = redis::Fixture::new();
    let lock = kept(&fixture, FOR_EVER);
    let tokens: Vec<_> = (0..5).map(|_| turn(&lock)).collect();
    assert_eq!(tokens, [tokens[0]; 5]);
    assert_eq!(grants(&lock), 1);
    assert!(is_held(&lock));
}

#[test]
fn a_turn_that_failed_keeps_nothing() {
    let fixture = redis::Fixture::new();
    let lock = kept(&fixture, FOR_EVER);
    let first = turn(&lock);
    drop(begin(&lock).0);
    assert!(turn(&lock) > first);
    assert_eq!(grants(&lock), 2);
}

#[test]
fn a_grant_is_kept_for_so_many_turns_and_so_long() {
    let three = KeepLimits { turns: 3, ..FOR_EVER };
    let no_time = KeepLimits { time: Duration::ZERO, ..FOR_EVER };
    for (limits, turns_each) in [(three, 3), (no_time, 1)] {
        let fixture = redis::Fixture::new();
        let lock = kept(&fixture, limits);
        let tokens: Vec<_> = (0..6).map(|_| turn(&lock).counter()).collect();
        let expected: Vec<u64> = (0..6).map(|n| 1 + n / turns_each).collect();
        assert_eq!(tokens, expected);
        assert!(limits.turns == 3 || !is_held(&lock), "it was kept although its time was over");
    }
}

#[test]
fn an_idle_grant_is_given_back() {
    let fixture = redis::Fixture::new();
    let lock = kept(&fixture, KeepLimits { idle: Duration::from_millis(20), ..FOR_EVER });
    for _ in 0..3 {
        turn(&lock);
        wait_until(limit(), "it is given back", || !is_held(&lock));
    }
}

/// A message ends it: nothing else can, for so long. Its lease is not renewed meanwhile, which
/// would tell as well.
#[test]
fn an_idle_grant_is_given_back_when_another_process_wants_it() {
    for wanted in [Exclusive, Shared] {
        let fixture = redis::Fixture::new();
        let long = Terms { lease: FOR_EVER.idle, ..Terms::default() };
        let of_lock = Arc::new(redis::open(&fixture.address(), long));
        let lock = KeptLock::over(of_lock, FOR_EVER).expect("a thread can be started");
        let other = inner(&fixture);
        for _ in 0..3 {
            turn(&lock);
            take(&other, wanted).release();
        }
    }
}

/// Who waits gets in between two turns, however quickly the second follows.
fn gets_in_within_one_turn(limits: KeepLimits, knows: impl Fn(&mut Guard) -> bool) {
    for wanted in [Exclusive, Shared] {
        let fixture = redis::Fixture::new();
        let (lock, other) = (kept(&fixture, limits), inner(&fixture));
        turn(&lock);
        let (mut guard, _) = begin(&lock);
        thread::scope(|scope| {
            let waiter = scope.spawn(|| take(&other, wanted));
            wait_until(limit(), "the other waits", || waiting(&other) == 1);
            wait_until(limit(), "the holder knows", || knows(&mut guard));
            let next = scope.spawn(|| begin(&lock).0);
            guard.end_turn();
            let granted = waiter.join().expect("it gets in");
            assert!(!next.is_finished(), "the other turn holds the lock as well");
            granted.release();
            next.join().expect("it gets in after that").end_turn();
        });
    }
}

#[test]
fn who_waits_gets_in_after_the_turn_that_is_under_way() {
    gets_in_within_one_turn(FOR_EVER, |guard| guard.is_wanted(Duration::MAX).unwrap());
}

#[test]
fn who_waits_gets_in_after_the_turn_that_is_under_way_though_messages_are_lost() {
    in_child(
        concat!(
            module_path!(),
            "::who_waits_gets_in_after_the_turn_that_is_under_way_though_messages_are_lost"
        ),
        &format!(
            "lock.redis.messages=off,{}",
            std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default()
        ),
        || {
            let looks = KeepLimits { look_every: Duration::ZERO, ..FOR_EVER };
            gets_in_within_one_turn(looks, |_| true);
        },
    );
}

/// They would otherwise have their own process give it back.
#[test]
fn readers_of_the_process_that_keeps_a_grant_use_it_between_turns() {
    let fixture = redis::Fixture::new();
    let lock = kept(&fixture, FOR_EVER);
    let token = turn(&lock);
    let reader = take(&lock, Shared);
    assert_eq!((reader.mode(), reader.token()), (Shared, None));
    assert!(matches!(
        lock.acquire(&key(), Exclusive, Duration::ZERO),
        Err(LockError::Timeout { .. })
    ));
    let together = take(&lock, Shared);
    drop((reader, together));
    let (guard, same) = begin(&lock);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..4).map(|_| scope.spawn(|| drop(take(&lock, Shared)))).collect();
        guard.end_turn();
        readers.into_iter().for_each(|reader| reader.join().expect("it gets in"));
    });
    assert_eq!((same, turn(&lock)), (token, token));
    assert_eq!(grants(&lock), 1);
}

/// It waits for turns of its own process, and never for a thread that itself waits for the lock.
#[test]
fn a_reader_does_not_wait_behind_a_writer_of_its_process_that_waits_for_others() {
    let fixture = redis::Fixture::new();
    let (lock, other) = (kept(&fixture, FOR_EVER), inner(&fixture));
    turn(&lock);
    let reader = take(&lock, Shared);
    thread::scope(|scope| {
        let others_writer = scope.spawn(|| take(&other, Exclusive));
        // Until that is known here, readers share the kept grant, and a writer may have a turn
        // more.
        wait_until(limit(), "it is known that the other waits", || {
            lock.acquire(&key(), Shared, Duration::ZERO).is_err()
        });
        let own_writer = scope.spawn(|| begin(&lock).0);
        drop(reader);
        let others_turn = others_writer.join().expect("the reader gave it back");
        wait_until(limit(), "the own writer waits for it", || waiting(&other) == 1);
        let second = scope.spawn(|| take(&lock, Shared));
        wait_until(limit(), "the reader waits for it", || waiting(&other) == 2);
        others_turn.release();
        let second = second.join().expect("readers go before the next writer");
        assert!(!own_writer.is_finished());
        drop(second);
        own_writer.join().expect("it gets in").end_turn();
    });
}

#[test]
fn neither_readers_nor_writers_of_one_process_starve_each_other_under_a_kept_grant() {
    let fixture = redis::Fixture::new();
    let lock = kept(&fixture, FOR_EVER);
    turn(&lock);
    for (flood, loner) in [(Exclusive, Shared), (Shared, Exclusive)] {
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        take(&lock, flood).end_turn();
                    }
                });
            }
            for _ in 0..50 {
                take(&lock, loner).end_turn();
            }
            over.store(true, Ordering::SeqCst);
        });
    }
    assert_eq!(grants(&lock), 1);
}

#[test]
fn a_wait_that_is_over_was_as_long_as_was_asked_for() {
    let fixture = redis::Fixture::new();
    let (lock, other) = (kept(&fixture, FOR_EVER), inner(&fixture));
    let others_turn = take(&other, Exclusive);
    const WAIT: Duration = Duration::from_millis(50);
    thread::scope(|scope| {
        let waits = || lock.acquire(&key(), Exclusive, WAIT).map(drop);
        // The second waits for the first, and then for the lock.
        for waiter in [scope.spawn(waits), scope.spawn(waits)] {
            let refused = waiter.join().expect("no panic");
            let long_enough =
                matches!(refused, Err(LockError::Timeout { waited }) if waited >= WAIT);
            assert!(long_enough, "{refused:?}");
        }
    });
    others_turn.release();
}

#[test]
fn what_is_kept_is_given_back_when_the_lock_is_closed() {
    let fixture = redis::Fixture::new();
    let other = inner(&fixture);
    let lock = kept(&fixture, FOR_EVER);
    turn(&lock);
    let (guard, _) = begin(&lock);
    assert!(is_held(&other));
    // In use while it is closed, and idle.
    drop(lock);
    guard.end_turn();
    wait_until(limit(), "it is given back", || !is_held(&other));
    let lock = kept(&fixture, FOR_EVER);
    turn(&lock);
    assert!(is_held(&other));
    drop(lock);
    wait_until(limit(), "it is given back", || !is_held(&other));
}

#[test]
fn what_must_be_sealed_stays_so_until_it_is() {
    let fixture = redis::Fixture::new();
    let lock = kept(&fixture, FOR_EVER);
    let mut lost = take(&lock, Exclusive);
    lost.seed(1).expect("a first epoch");
    drop(lost);
    // As if a lease had run out.
    let client = ::redis::Client::open(fixture.address()).expect("a URL");
    let mut connection = client.get_connection().expect("a server");
    let state = format!("{{fencepost:{}}}:state", key());
    ::redis::cmd("HSET").arg(state).arg("unsealed").arg(1).exec(&mut connection).expect("set");
    let guard = take(&lock, Exclusive);
    assert!(guard.must_seal());
    guard.end_turn();
    let mut guard = take(&lock, Exclusive);
    assert!(guard.must_seal(), "nobody has sealed it");
    guard.sealed();
    guard.end_turn();
    let guard = take(&lock, Exclusive);
    assert!(!guard.must_seal());
    drop(guard);
    assert!(!take(&inner(&fixture), Exclusive).must_seal());
}

/// It does not know yet that its lease ran out, and asks nobody before it takes what it has kept.
#[test]
fn a_process_that_is_cut_off_while_it_keeps_a_grant_begins_no_turn_under_it() {
    let fixture = redis::Fixture::new();
    let short = Terms { lease: Duration::from_millis(600), ..Terms::default() };
    let wire = Wire::to(Redis::shared().port());
    let far = Arc::new(redis::open(&fixture.through(&wire), short));
    let far = KeptLock::over(far, FOR_EVER).expect("a thread can be started");
    turn(&far);
    wire.lead_to(0);
    let near = redis::open(&fixture.address(), short);
    let guard = take(&near, Exclusive);
    assert!(guard.must_seal());
    let refused = far.acquire(&key(), Exclusive, Duration::ZERO);
    assert!(refused.is_err(), "a turn has begun: {refused:?}");
    guard.release();
    wire.lead_to(Redis::shared().port());
    let again = || far.acquire(&key(), Exclusive, Duration::from_secs(1)).ok();
    let mut guard = None;
    wait_until(limit(), "it gets a new grant", || {
        guard = again();
        guard.is_some()
    });
    assert!(guard.is_some_and(|guard| guard.token().is_some_and(|token| token.counter() > 2)));
}
