//! The threads that take turns. A request that waits holds none of them; a turn holds one for as long as it lasts.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

type Task = Box<dyn FnOnce() + Send>;

/// A fixed number of threads and a first-in first-out list of tasks. Dropping it finishes what was spawned.
pub(super) struct Workers {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
    /// Nothing is left to do.
    idle: Condvar,
}

#[derive(Default)]
struct State {
    tasks: VecDeque<Task>,
    /// How many are being worked on.
    under_way: usize,
    closing: bool,
}

impl Workers {
    pub(super) fn start(threads: usize) -> Self {
        let shared = Arc::new(Shared { state: Mutex::default(), changed: Condvar::new(), idle: Condvar::new() });
        let thread = |number| {
            let shared = Arc::clone(&shared);
            let builder = std::thread::Builder::new().name(format!("turn-{number}"));
            builder.spawn(move || shared.work()).expect("a thread can be started")
        };
        Self { threads: (0..threads.max(1)).map(thread).collect(), shared }
    }

    pub(super) fn spawn(&self, task: impl FnOnce() + Send + 'static) {
        self.shared.lock().tasks.push_back(Box::new(task));
        self.shared.changed.notify_one();
    }

    /// Waits until nothing is left to do, at most `patience`. Not to be called by a worker, which would wait for itself.
    pub(super) fn wait_until_idle(&self, patience: Duration) {
        let this = std::thread::current().id();
        if self.threads.iter().any(|thread| thread.thread().id() == this) {
            return;
        }
        let busy = |state: &mut State| state.under_way > 0 || !state.tasks.is_empty();
        drop(self.shared.idle.wait_timeout_while(self.shared.lock(), patience, busy));
    }
}

impl Shared {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        while let Some(task) = self.next() {
            // The panic's message is printed where it happens; whoever waits for the task is told that it will not answer.
            if catch_unwind(AssertUnwindSafe(task)).is_err() {
                log::error!("a turn panicked; its requests are told that their outcome is unknown");
            }
            self.lock().under_way -= 1;
            self.idle.notify_all();
        }
    }

    fn next(&self) -> Option<Task> {
        let mut state = self.lock();
        loop {
            if let Some(task) = state.tasks.pop_front() {
                state.under_way += 1;
                return Some(task);
            }
            if state.closing {
                return None;
            }
            state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.shared.lock().closing = true;
        self.shared.changed.notify_all();
        let this = std::thread::current().id();
        for thread in self.threads.drain(..) {
            // The last owner may be a worker itself.
            if thread.thread().id() != this {
                drop(thread.join());
            }
        }
    }
}
