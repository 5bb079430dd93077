//! The threads that take turns. A request that waits holds none of them; a turn holds one for as
//! long as it lasts, its wait for the lock included.
//!
//! A thread is started when there is work and none is idle, up to the limit, and ends when it has
//! been idle for a while: graphs whose lock is held elsewhere must not keep the others waiting.

use std::cell::Cell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

type Task = Box<dyn FnOnce() + Send>;

/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

thread_local! {
    /// Whose worker this thread is, by address.
    static WORKS_FOR: Cell<usize> = const { Cell::new(0) };
}

/// Does `task` on this thread, as a worker does.
pub(super) fn run(task: impl FnOnce()) {
    // The panic's message is printed where it happens; whoever waits for the task is told that it
    // will not answer.
    if catch_unwind(AssertUnwindSafe(task)).is_err() {
        log::error!("a turn panicked; its requests are told that their outcome is unknown");
    }
}

/// A first-in first-out list of tasks and the threads that do them. Dropping it finishes what was
/// spawned.
pub(super) struct Workers {
    shared: Arc<Pool>,
    /// Threads at most.
    most: usize,
}

struct Pool {
    state: Mutex<State>,
    /// There is a task, or no more will come.
    work: Condvar,
    /// Nothing is left to do, or a thread has ended.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    threads: usize,
    /// Threads that wait for a task.
    waiting: usize,
    closing: bool,
}

impl State {
    fn is_idle(&self) -> bool {
        self.tasks.is_empty() && self.waiting == self.threads
    }
}

impl Workers {
    /// With at most `most` threads, at least one.
    pub(super) fn new(most: usize) -> Self {
        let shared = Pool { state: Mutex::default(), work: Condvar::new(), idle: Condvar::new() };
        Self { shared: Arc::new(shared), most: most.max(1) }
    }

    pub(super) fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        let mut state = self.shared.lock();
        state.tasks.push_back(Box::new(task));
        if state.waiting >= state.tasks.len() || state.threads >= self.most {
            drop(state);
            self.shared.work.notify_one();
            return;
        }
        state.threads += 1;
        let number = state.threads;
        drop(state);
        let shared = Arc::clone(&self.shared);
        let builder = thread::Builder::new().name(format!("turn-{number}"));
        if let Err(error) = builder.spawn(move || shared.work()) {
            let mut state = self.shared.lock();
            state.threads -= 1;
            assert!(state.threads > 0, "a thread can be started: {error}");
            log::warn!("no further thread can be started for turns: {error}");
        }
    }

    /// As [`spawn`](Self::spawn); but a worker that is finishing its task takes the new one itself
    /// and wakes no other.
    pub(super) fn spawn_as_next(&self, task: impl FnOnce() + Send + 'static) {
        if self.shared.is_this_thread() {
            self.shared.lock().tasks.push_back(Box::new(task));
        } else {
            self.spawn(task);
        }
    }

    /// Waits until nothing is left to do, at most `patience`. Not to be called by a worker, which
    /// would wait for itself.
    pub(super) fn wait_until_idle(&self, patience: Duration) {
        if self.shared.is_this_thread() {
            return;
        }
        let busy = |state: &mut State| !state.is_idle();
        drop(self.shared.idle.wait_timeout_while(self.shared.lock(), patience, busy));
    }
}

impl Pool {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_this_thread(&self) -> bool {
        WORKS_FOR.get() == std::ptr::from_ref(self).addr()
    }

    fn work(&self) {
        WORKS_FOR.set(std::ptr::from_ref(self).addr());
        while let Some(task) = self.next() {
            run(task);
        }
    }

    /// The next task; `None` if this thread is to end, which is counted already.
    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        let mut overdue = false;
        loop {
            if let Some(task) = state.tasks.pop_front() {
                return Some(task);
            }
            if state.closing || overdue {
                state.threads -= 1;
                self.idle.notify_all();
                return None;
            }
            state.waiting += 1;
            self.idle.notify_all();
            let (next, waited) =
                self.work.wait_timeout(state, IDLE).unwrap_or_else(PoisonError::into_inner);
            state = next;
            state.waiting -= 1;
            overdue = waited.timed_out();
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.closing = true;
        self.shared.work.notify_all();
        // The last owner may be a worker itself.
        let last = usize::from(self.shared.is_this_thread());
        while state.threads > last {
            state = self.shared.idle.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
