//! An in-process queue: threads pass one at a time, in the order in which they came, or leave when
//! their time is up.
//!
//! A lock puts one in front of whatever it shares with other processes, so that each process has a
//! single contender there, whichever thread that is. The gate only orders; what excludes is the
//! lock itself. Its mutex guards the list of those who wait, and nobody waits for anything else
//! while holding it. The queue holds threads of the caller and so is as long as the caller has
//! threads. Knows nothing of locks, files or servers.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// The moment at which a wait ends.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    started: Instant,
    /// `None`: so far away that the clock cannot say it.
    ends: Option<Instant>,
}

impl Deadline {
    /// A wait that begins now and lasts at most `wait`.
    #[must_use]
    pub fn after(wait: Duration) -> Self {
        let started = Instant::now();
        Self { started, ends: started.checked_add(wait) }
    }

    /// What is left of it; zero when it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.ends.map_or(Duration::MAX, |ends| ends.saturating_duration_since(Instant::now()))
    }

    /// How long it has lasted so far.
    #[must_use]
    pub fn waited(&self) -> Duration {
        self.started.elapsed()
    }

    /// Waits on `changed` until `ready` makes something of the value behind `guard`, or the time is
    /// up. What is ready at the last moment still counts.
    pub(crate) fn wait_for<'a, T, R>(
        &self,
        changed: &Condvar,
        mut guard: MutexGuard<'a, T>,
        mut ready: impl FnMut(&mut T) -> Option<R>,
    ) -> (MutexGuard<'a, T>, Option<R>) {
        loop {
            if let Some(result) = ready(&mut guard) {
                return (guard, Some(result));
            }
            let remaining = self.remaining();
            if remaining.is_zero() {
                return (guard, None);
            }
            guard =
                changed.wait_timeout(guard, remaining).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

/// Takes a mutex whose value is whole between any two statements, so that a panic elsewhere cannot
/// have broken it.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The queue. See the module.
#[derive(Debug, Default)]
pub struct Gate {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Who has the place: taken off the queue, though perhaps not yet awake.
    front: Option<Ticket>,
    waiting: VecDeque<(Ticket, Arc<Condvar>)>,
    next: Ticket,
}

type Ticket = u64;

/// The place at the front. Dropping it passes it on.
#[derive(Debug)]
pub struct Place<'a> {
    gate: &'a Gate,
}

impl Place<'_> {
    /// Leaves it to the caller to [pass the place on](Gate::pass_on).
    pub(crate) fn keep(self) {
        std::mem::forget(self);
    }
}

impl Gate {
    /// Waits until the caller is at the front; `None` when the deadline comes first.
    #[must_use]
    pub fn enter(&self, deadline: &Deadline) -> Option<Place<'_>> {
        let mut state = lock(&self.state);
        let ticket = state.next;
        state.next += 1;
        if state.front.is_none() {
            state.front = Some(ticket);
            return Some(Place { gate: self });
        }
        // A condition for each waiter, so that passing the place on wakes one thread and not all.
        let called = Arc::new(Condvar::new());
        state.waiting.push_back((ticket, Arc::clone(&called)));
        let (mut state, at_front) =
            deadline.wait_for(&called, state, |state| (state.front == Some(ticket)).then_some(()));
        if at_front.is_none() {
            state.waiting.retain(|(waiting, _)| *waiting != ticket);
            return None;
        }
        Some(Place { gate: self })
    }

    /// How many wait behind the front.
    #[must_use]
    pub fn waiting(&self) -> usize {
        lock(&self.state).waiting.len()
    }
}

impl Gate {
    /// Gives the place at the front, which the caller has, to the next who waits.
    pub(crate) fn pass_on(&self) {
        let mut state = lock(&self.state);
        let next = state.waiting.pop_front();
        state.front = next.as_ref().map(|(ticket, _)| *ticket);
        if let Some((_, called)) = next {
            called.notify_one();
        }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.gate.pass_on();
    }
}
