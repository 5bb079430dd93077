//! Gives up on a server that accepts statements and does not answer them.
//!
//! libpq waits for an answer for as long as the connection lives, and the kernel of a machine whose
//! server process has stopped keeps it alive. So each statement on a Postgres session has a
//! deadline. What a thread does for one request, or for a batch of them, is a [task](watched). If a
//! deadline passes, the watchdog thread gives the task up: it has the requests answered and takes
//! back what the task [holds](Reclaimable). The thread and its session stay stuck inside libpq
//! until the server answers or the connection ends. Then the thread finds that it was given up,
//! commits nothing and ends.
//!
//! While [`GIVEN_UP_MAX`] threads are stuck, no session is lent to anybody: requests are refused at
//! once. No more are stuck than that, and as many as had a session already. To take back what a
//! task holds costs no further thread: whatever is dropped then must not wait for the database, and
//! asks [`is_given_up`].
//!
//! A thread without a task is never given up: commands at a terminal, and a service inside a
//! benchmark, wait for the server, or for whoever interrupts them.
//!
//! Knows no statement, no pool and no request.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::failpoint;

/// Tasks that were given up and whose threads are still stuck. At this number no session is lent
/// any more.
pub const GIVEN_UP_MAX: usize = 64;

/// The longest wait for the answer to a statement that reads or writes a whole graph.
pub const LARGE_ANSWER: Duration = Duration::from_secs(120);

/// The longest that opening a session may take.
pub(crate) const OPENING: Duration = Duration::from_secs(20);

/// How long a server may take to answer after it has waited for a lock for as long as it was told.
pub(crate) const ANSWER_AFTER_WAIT: Duration = Duration::from_secs(5);

/// How often deadlines are looked at.
const TICK: Duration = Duration::from_millis(100);

/// For people.
pub const NO_ANSWER: &str = "the database takes requests and does not answer them";

static GIVEN_UP: AtomicUsize = AtomicUsize::new(0);
static SILENCES: AtomicU64 = AtomicU64::new(0);
static TASKS: OnceLock<Mutex<HashMap<usize, Arc<Task>>>> = OnceLock::new();
static WATCHDOG: Watchdog = Watchdog { is_running: AtomicBool::new(false) };

thread_local! {
    /// What this thread is doing.
    static TASK: RefCell<Option<Arc<Task>>> = const { RefCell::new(None) };
    /// Whether it gives back what tasks held that were given up.
    static GIVES_BACK: Cell<bool> = const { Cell::new(false) };
    /// A limit for statements that replaces the session's.
    static LIMIT: Cell<Option<Duration>> = const { Cell::new(None) };
    /// The deadline around a statement, to go back to when it is over.
    static AROUND: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Told to whoever started a task that is given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct GivenUp {
    /// Whether a COMMIT was sent that is not answered: it may still take effect.
    pub in_doubt: bool,
}

/// How many threads are stuck now.
#[must_use]
pub fn given_up() -> usize {
    GIVEN_UP.load(Ordering::SeqCst)
}

/// Whether so many threads are stuck that no session may be lent; why, for people.
pub(crate) fn refusal() -> Option<String> {
    let stuck = given_up();
    (stuck >= GIVEN_UP_MAX).then(|| {
        format!("{NO_ANSWER}: {stuck} sessions wait for it, and the limit is {GIVEN_UP_MAX}")
    })
}

/// How often a task was given up so far.
pub(crate) fn silences() -> u64 {
    SILENCES.load(Ordering::SeqCst)
}

struct Task {
    state: Mutex<State>,
}

type OnGiveUp = Box<dyn FnOnce(GivenUp) + Send>;

#[derive(Default)]
struct State {
    deadline: Option<Instant>,
    in_doubt: bool,
    given_up: bool,
    on_give_up: Option<OnGiveUp>,
    held: Vec<Arc<dyn TakeBack>>,
}

impl Task {
    /// Gives the task up if its deadline is over.
    fn give_up_if_due(&self, now: Instant) {
        let mut state = lock(&self.state);
        if failpoint::is_off("watchdog") {
            return;
        }
        if state.given_up || state.deadline.is_none_or(|deadline| now < deadline) {
            return;
        }
        state.given_up = true;
        GIVEN_UP.fetch_add(1, Ordering::SeqCst);
        SILENCES.fetch_add(1, Ordering::SeqCst);
        let told = GivenUp { in_doubt: state.in_doubt };
        let on_give_up = state.on_give_up.take();
        let held = std::mem::take(&mut state.held);
        drop(state);
        log::error!("{NO_ANSWER}: a session and its thread are given up");
        // Whatever happens there, others are still to be watched.
        let answer = || on_give_up.map(|on_give_up| on_give_up(told));
        if catch_unwind(AssertUnwindSafe(answer)).is_err() {
            log::error!("a task that was given up could not be answered");
        }
        // To give a lock back may take another server a while.
        let taken: Vec<_> = held.iter().filter_map(|held| held.take_back()).collect();
        if !taken.is_empty() {
            let give_back = move || {
                GIVES_BACK.set(true);
                drop(taken);
            };
            let thread = thread::Builder::new().name("give-back".to_owned()).spawn(give_back);
            if let Err(error) = thread {
                // It was given back on this thread.
                log::warn!("no thread can be started to give back what a task held: {error}");
            }
        }
    }
}

fn tasks() -> &'static Mutex<HashMap<usize, Arc<Task>>> {
    TASKS.get_or_init(Mutex::default)
}

/// The thread that looks at deadlines: one for the process.
struct Watchdog {
    is_running: AtomicBool,
}

impl Watchdog {
    /// Has it run. If it could not be started, the next task tries again.
    fn ensure(&self, start: impl FnOnce() -> io::Result<()>) {
        if self.is_running.load(Ordering::SeqCst) || self.is_running.swap(true, Ordering::SeqCst) {
            return;
        }
        if let Err(error) = start() {
            self.is_running.store(false, Ordering::SeqCst);
            log::error!("no thread can be started to watch the database: {error}");
        }
    }
}

fn start_watchdog() -> io::Result<()> {
    thread::Builder::new().name("database-watchdog".to_owned()).spawn(watch).map(drop)
}

fn watch() {
    // What it must give back itself must not have it wait either.
    GIVES_BACK.set(true);
    loop {
        thread::sleep(TICK);
        let now = Instant::now();
        let tasks: Vec<Arc<Task>> = lock(tasks()).values().cloned().collect();
        tasks.iter().for_each(|task| task.give_up_if_due(now));
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs `body` as a task. If a statement in it is not answered in time, `on_give_up` is called
/// once, on the watchdog's thread; it must not block. `body` goes on when the server answers, and
/// must not have an effect then: a commit is refused then, and [`disarm`] tells.
pub fn watched<T>(
    on_give_up: impl FnOnce(GivenUp) + Send + 'static,
    body: impl FnOnce() -> T,
) -> T {
    let state = State { on_give_up: Some(Box::new(on_give_up)), ..State::default() };
    WATCHDOG.ensure(start_watchdog);
    let task = Arc::new(Task { state: Mutex::new(state) });
    let key = Arc::as_ptr(&task).addr();
    lock(tasks()).insert(key, Arc::clone(&task));
    let outer = TASK.replace(Some(task));
    let _ends = Ends { key, outer };
    body()
}

/// Ends the task also if it panics.
struct Ends {
    key: usize,
    outer: Option<Arc<Task>>,
}

impl Drop for Ends {
    fn drop(&mut self) {
        lock(tasks()).remove(&self.key);
        let Some(task) = TASK.replace(self.outer.take()) else { return };
        let mut state = lock(&task.state);
        // Nothing can give it up from here on.
        state.deadline = None;
        if state.given_up {
            GIVEN_UP.fetch_sub(1, Ordering::SeqCst);
        }
    }
}

fn with_state<T>(body: impl FnOnce(&mut State) -> T) -> Option<T> {
    TASK.with_borrow(|task| task.as_ref().map(|task| body(&mut lock(&task.state))))
}

/// Whether this thread's task was given up, or it gives back what such a task held: then it must
/// not wait for the database.
#[must_use]
pub fn is_given_up() -> bool {
    GIVES_BACK.get() || with_state(|state| state.given_up).unwrap_or(false)
}

/// Takes `on_give_up` of this thread's task back; `false` if it was called before.
pub fn disarm() -> bool {
    // Dropped outside of the mutex, whatever it owns.
    let taken = with_state(|state| (state.on_give_up.take(), state.given_up));
    taken.is_none_or(|(_, given_up)| !given_up)
}

/// Asked just before COMMIT is sent. If it is allowed, whoever gives the task up from here on is
/// told that the outcome is in doubt.
pub(super) fn may_commit() -> bool {
    with_state(|state| {
        state.in_doubt |= !state.given_up;
        !state.given_up
    })
    .unwrap_or(true)
}

/// COMMIT was answered. What was committed is answered for without asking the database again.
pub(super) fn commit_was_answered() {
    with_state(|state| state.in_doubt = false);
}

/// A statement is sent, on a session whose server may take `limit` to answer.
pub(super) fn statement_begins(limit: Duration) {
    let deadline = Instant::now().checked_add(LIMIT.get().unwrap_or(limit));
    with_state(|state| state.deadline = deadline);
}

/// It was answered.
pub(super) fn statement_ends() {
    with_state(|state| state.deadline = AROUND.get());
}

/// Limits, until dropped, what this thread waits for outside of statements too.
pub(crate) struct Call {
    outer: Option<Instant>,
}

/// The caller is about to wait for the database for at most `limit`.
pub(crate) fn call(limit: Duration) -> Call {
    let deadline = Instant::now().checked_add(limit);
    let outer = AROUND.replace(deadline);
    with_state(|state| state.deadline = deadline);
    Call { outer }
}

impl Drop for Call {
    fn drop(&mut self) {
        AROUND.set(self.outer);
        with_state(|state| state.deadline = self.outer);
    }
}

/// Until dropped, statements of this thread have this limit instead of their session's.
pub(crate) struct Limited {
    outer: Option<Duration>,
}

/// See [`Limited`].
pub(crate) fn limited(limit: Duration) -> Limited {
    Limited { outer: LIMIT.replace(Some(limit)) }
}

impl Drop for Limited {
    fn drop(&mut self) {
        LIMIT.set(self.outer);
    }
}

/// How long this thread waits for a session: no longer than it would wait for the answer to a
/// statement, where that is limited.
pub(crate) fn patience(usual: Duration) -> Duration {
    LIMIT.get().map_or(usual, |limit| limit.min(usual))
}

/// Something that a task holds: given back when dropped, or when the task is given up, whichever
/// comes first.
pub struct Reclaimable<T: Send + 'static>(Arc<Mutex<Option<T>>>);

trait TakeBack: Send + Sync {
    fn take_back(&self) -> Option<Box<dyn Send>>;
}

impl<T: Send + 'static> TakeBack for Mutex<Option<T>> {
    fn take_back(&self) -> Option<Box<dyn Send>> {
        lock(self).take().map(|value| Box::new(value) as Box<dyn Send>)
    }
}

impl<T: Send + 'static> Reclaimable<T> {
    /// Held by this thread's task.
    pub fn new(value: T) -> Self {
        let slot = Arc::new(Mutex::new(Some(value)));
        let given_up = with_state(|state| {
            if !state.given_up {
                state.held.push(Arc::clone(&slot) as Arc<dyn TakeBack>);
            }
            state.given_up
        });
        if given_up == Some(true) {
            // Outside of the mutex: it may take a statement.
            let value = lock(&slot).take();
            drop(value);
        }
        Self(slot)
    }

    /// Takes it out; `None` if it was given back.
    #[must_use]
    pub fn take(&self) -> Option<T> {
        lock(&self.0).take()
    }

    /// Runs `body` on it, without a mutex held meanwhile; `None` if it was given back.
    pub fn with<R>(&self, body: impl FnOnce(&mut T) -> R) -> Option<R> {
        let mut value = self.take()?;
        let result = body(&mut value);
        if is_given_up() {
            drop(value);
        } else {
            *lock(&self.0) = Some(value);
        }
        Some(result)
    }
}

impl<T: Send + 'static> Drop for Reclaimable<T> {
    fn drop(&mut self) {
        // Outside of the mutex: it may take a statement.
        drop(self.take());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use diesel::connection::SimpleConnection;

    use super::super::{Database, DatabaseUrl, PoolLimits};
    use super::*;

    /// What is counted is counted for the process.
    static ALONE: Mutex<()> = Mutex::new(());

    fn wait_until(condition: impl Fn() -> bool) {
        let began = Instant::now();
        while !condition() {
            assert!(began.elapsed() < Duration::from_secs(60), "waited in vain");
            thread::sleep(TICK);
        }
    }

    #[test]
    fn no_session_is_lent_while_as_many_threads_are_stuck_as_may_be() {
        let _alone = lock(&ALONE);
        let directory = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::Sqlite(directory.path().join("stuck.db"));
        let database = Database::open(&url, PoolLimits::default()).unwrap();
        let ask = || database.ask(|connection| connection.batch_execute("SELECT 1"));
        ask().unwrap();
        let go_on = Barrier::new(GIVEN_UP_MAX + 1);
        thread::scope(|scope| {
            for _ in 0..GIVEN_UP_MAX {
                scope.spawn(|| {
                    watched(
                        |told| assert!(!told.in_doubt),
                        || {
                            let _limit = call(Duration::ZERO);
                            go_on.wait();
                            assert!(is_given_up() && !may_commit() && !disarm());
                        },
                    );
                });
            }
            wait_until(|| given_up() == GIVEN_UP_MAX);
            let refused = ask().unwrap_err().to_string();
            assert!(refused.contains("the limit is 64"), "{refused}");
            go_on.wait();
        });
        assert_eq!(given_up(), 0);
        ask().unwrap();
    }

    #[test]
    fn what_a_task_holds_is_given_back_when_it_is_given_up_and_not_twice() {
        let _alone = lock(&ALONE);
        struct Counted(Arc<AtomicUsize>);
        impl Drop for Counted {
            fn drop(&mut self) {
                self.0.fetch_add(1, Ordering::SeqCst);
            }
        }
        let given_back = Arc::new(AtomicUsize::new(0));
        let count = || given_back.load(Ordering::SeqCst);
        watched(
            |_| {},
            || {
                let kept = Reclaimable::new(Counted(Arc::clone(&given_back)));
                assert_eq!(kept.with(|_| count()), Some(0));
                let limit = call(Duration::ZERO);
                wait_until(|| count() == 1);
                drop(limit);
                assert!(kept.with(|_| ()).is_none() && kept.take().is_none());
                drop(kept);
                assert_eq!(count(), 1);
                drop(Reclaimable::new(Counted(Arc::clone(&given_back))));
                assert_eq!(count(), 2);
            },
        );
        drop(Reclaimable::new(Counted(Arc::clone(&given_back))));
        assert_eq!(count(), 3, "a thread without a task keeps it itself");
    }

    #[test]
    fn what_is_in_use_when_its_task_is_given_up_is_given_back_after_that() {
        let _alone = lock(&ALONE);
        let given_back = Arc::new(());
        watched(
            |_| {},
            || {
                let kept = Reclaimable::new(Arc::clone(&given_back));
                let limit = call(Duration::ZERO);
                kept.with(|_| wait_until(is_given_up));
                drop(limit);
                assert_eq!(Arc::strong_count(&given_back), 1);
                drop(kept);
            },
        );
    }

    #[test]
    fn a_watchdog_that_could_not_be_started_is_started_by_the_next_task() {
        let watchdog = Watchdog { is_running: AtomicBool::new(false) };
        let starts = AtomicUsize::new(0);
        let ensure = |outcome: io::Result<()>| {
            watchdog.ensure(|| {
                starts.fetch_add(1, Ordering::SeqCst);
                outcome
            });
            starts.load(Ordering::SeqCst)
        };
        assert_eq!(ensure(Err(io::ErrorKind::WouldBlock.into())), 1);
        assert_eq!(ensure(Ok(())), 2);
        assert_eq!(ensure(Ok(())), 2, "one is enough");
    }

    #[test]
    fn a_commit_is_in_doubt_from_when_it_is_sent_until_it_is_answered() {
        let _alone = lock(&ALONE);
        for (answered, in_doubt) in [(false, true), (true, false)] {
            let (sender, told) = std::sync::mpsc::channel();
            watched(
                move |given_up: GivenUp| sender.send(given_up.in_doubt).unwrap(),
                || {
                    assert!(may_commit());
                    if answered {
                        commit_was_answered();
                    }
                    let _limit = call(Duration::ZERO);
                    wait_until(is_given_up);
                },
            );
            assert_eq!(told.recv().unwrap(), in_doubt);
        }
    }
}
