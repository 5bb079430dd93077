//! The writes that other nodes have passed on to this one, by name: so that none is taken twice,
//! and whoever has lost an answer can ask what became of its write.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rocket::tokio::sync::Notify;
use rocket::tokio::time::{Instant, timeout_at};

use super::envelope::{Outcome, REMEMBERED_FOR, now_ms};
use crate::store::{AppliedRequest, RequestId};

/// How many are remembered at most.
const MOST: usize = 400_000;
/// How often those whose time is over are forgotten.
const FORGET_EVERY: Duration = Duration::from_secs(1);
/// For how much longer a write is remembered than anybody is told of it: so that none is forgotten
/// while it is being asked after.
const MARGIN: Duration = Duration::from_secs(10);

/// See the module.
pub struct Received {
    by_name: Mutex<ByName>,
    /// How many are remembered at most.
    most: usize,
    /// Told when a write ends.
    ended: Notify,
}

impl Default for Received {
    fn default() -> Self {
        Self { by_name: Mutex::default(), most: MOST, ended: Notify::new() }
    }
}

#[derive(Default)]
struct ByName {
    all: HashMap<u128, Entry>,
    forgot: Option<Instant>,
    /// None is taken that expires by then: it may have been forgotten, where the clock was set
    /// back since, or refused without a note of its name.
    closed_until_ms: u64,
}

struct Entry {
    expires_ms: u64,
    /// Nobody asks after it later.
    kept_until: Instant,
    state: State,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    UnderWay,
    /// And its answer is being made.
    Applied(AppliedRequest),
    Ended(Outcome),
}

/// Why a write is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotTaken {
    /// It was taken before.
    Again,
    /// Whoever sent it has asked after it meanwhile, and was told that it is not taken.
    Dropped,
    /// Too many are remembered, or were when it was signed; or the clock was set back.
    Full,
}

impl Received {
    fn by_name(&self) -> MutexGuard<'_, ByName> {
        self.by_name.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A write begins.
    ///
    /// # Errors
    /// [`NotTaken`] says why it must not.
    pub fn begin(&self, request: &RequestId, expires_ms: u64) -> Result<(), NotTaken> {
        let mut by_name = self.by_name();
        by_name.forget_old();
        match by_name.all.get(&request.number()).map(|entry| entry.state) {
            Some(State::Ended(Outcome::NotApplied)) => return Err(NotTaken::Dropped),
            Some(_) => return Err(NotTaken::Again),
            None if expires_ms <= by_name.closed_until_ms => return Err(NotTaken::Full),
            None if by_name.all.len() >= self.most => {
                by_name.closed_until_ms = expires_ms;
                return Err(NotTaken::Full);
            }
            None => by_name.note(request, expires_ms, State::UnderWay),
        }
        Ok(())
    }

    /// The write was applied.
    pub fn applied(&self, request: &RequestId, applied: AppliedRequest) {
        if let Some(entry) = self.by_name().all.get_mut(&request.number()) {
            entry.state = State::Applied(applied);
        }
    }

    /// The write has its answer. If it was not [applied](Self::applied), nothing was, unless the
    /// outcome `is_unknown`.
    pub fn end(&self, request: &RequestId, is_unknown: bool) {
        if let Some(entry) = self.by_name().all.get_mut(&request.number()) {
            entry.kept_until = entry.kept_until.max(Instant::now() + MARGIN);
            entry.state = State::Ended(match entry.state {
                State::Applied(applied) => Outcome::Applied(applied),
                _ if is_unknown => Outcome::Unknown,
                _ => Outcome::NotApplied,
            });
        }
        self.ended.notify_waiters();
    }

    /// What became of the write that is not taken after `expires_ms`; waits for so long if it is
    /// under way. One that has not come is not taken from now on.
    pub async fn inquire(&self, request: &RequestId, expires_ms: u64, wait: Duration) -> Outcome {
        let until = Instant::now() + wait;
        loop {
            let ended = self.ended.notified();
            match self.look(request, expires_ms) {
                Some(outcome) => return outcome,
                None if timeout_at(until, ended).await.is_err() => return Outcome::Pending,
                None => {}
            }
        }
    }

    /// `None`: it is under way.
    fn look(&self, request: &RequestId, expires_ms: u64) -> Option<Outcome> {
        let mut by_name = self.by_name();
        by_name.forget_old();
        if let Some(entry) = by_name.all.get(&request.number()) {
            return match entry.state {
                State::UnderWay => None,
                State::Applied(applied) => Some(Outcome::Applied(applied)),
                State::Ended(outcome) => Some(outcome),
            };
        }
        // If it came, it may be forgotten by now.
        let is_over = now_ms() > expires_ms + REMEMBERED_FOR.as_millis() as u64;
        let is_closed = expires_ms <= by_name.closed_until_ms;
        if is_over || is_closed || by_name.all.len() >= self.most {
            return Some(Outcome::Unknown);
        }
        by_name.note(request, expires_ms, State::Ended(Outcome::NotApplied));
        Some(Outcome::NotApplied)
    }
}

impl ByName {
    fn note(&mut self, request: &RequestId, expires_ms: u64, state: State) {
        // By a clock that is never set.
        let left = Duration::from_millis(expires_ms.saturating_sub(now_ms()));
        let kept_until = Instant::now() + left + REMEMBERED_FOR + MARGIN;
        self.all.insert(request.number(), Entry { expires_ms, kept_until, state });
    }

    fn forget_old(&mut self) {
        let now = Instant::now();
        if self.forgot.is_some_and(|forgot| now < forgot + FORGET_EVERY) {
            return;
        }
        self.forgot = Some(now);
        let is_ended = |entry: &Entry| matches!(entry.state, State::Ended(_));
        let Self { all, closed_until_ms, .. } = self;
        all.retain(|_, entry| {
            let is_kept = !is_ended(entry) || now <= entry.kept_until;
            if !is_kept {
                *closed_until_ms = entry.expires_ms.max(*closed_until_ms);
            }
            is_kept
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_millis(20);

    fn run<T>(test: impl Future<Output = T>) -> T {
        let runtime = rocket::tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test)
    }

    #[test]
    fn a_write_is_taken_once_and_its_outcome_is_told() {
        let (received, soon) = (Received::default(), now_ms() + 5_000);
        let [applied, nothing, lost, under_way] = [0; 4].map(|_| RequestId::random());
        for request in [&applied, &nothing, &lost, &under_way] {
            assert_eq!(received.begin(request, soon), Ok(()));
            assert_eq!(received.begin(request, soon), Err(NotTaken::Again));
        }
        let made = AppliedRequest { version: 3, created: true };
        received.applied(&applied, made);
        received.end(&applied, true);
        received.end(&nothing, false);
        received.end(&lost, true);
        let told = |request| run(received.inquire(request, soon, WAIT));
        assert_eq!(told(&applied), Outcome::Applied(made));
        assert_eq!(told(&nothing), Outcome::NotApplied);
        assert_eq!(told(&lost), Outcome::Unknown);
        assert_eq!(told(&under_way), Outcome::Pending);
    }

    #[test]
    fn one_that_did_not_come_is_not_taken_once_it_was_asked_after() {
        let (received, soon) = (Received::default(), now_ms() + 5_000);
        let late = RequestId::random();
        assert_eq!(run(received.inquire(&late, soon, WAIT)), Outcome::NotApplied);
        assert_eq!(received.begin(&late, soon), Err(NotTaken::Dropped));
    }

    /// Its time has come again, as the clock was set back.
    #[test]
    fn one_that_was_forgotten_is_not_taken_again() {
        let (received, soon) = (Received::default(), now_ms() + 5_000);
        let request = RequestId::random();
        received.begin(&request, soon).unwrap();
        received.end(&request, false);
        {
            let mut by_name = received.by_name();
            by_name.forgot = None;
            by_name.all.values_mut().for_each(|entry| entry.kept_until = Instant::now() - WAIT);
        }
        assert_eq!(received.begin(&request, soon), Err(NotTaken::Full));
        assert!(received.by_name().all.is_empty(), "it was forgotten");
        assert_eq!(run(received.inquire(&request, soon, WAIT)), Outcome::Unknown);
        assert_eq!(received.begin(&RequestId::random(), soon + 1), Ok(()));
    }

    #[test]
    fn one_that_was_refused_as_too_many_were_remembered_is_not_taken_later() {
        let (received, soon) = (Received { most: 1, ..Received::default() }, now_ms() + 5_000);
        let [first, second] = [0; 2].map(|_| RequestId::random());
        assert_eq!(received.begin(&first, soon), Ok(()));
        assert_eq!(received.begin(&second, soon), Err(NotTaken::Full));
        received.by_name().all.clear();
        assert_eq!(received.begin(&second, soon), Err(NotTaken::Full));
        assert_eq!(received.begin(&second, soon + 1), Ok(()));
    }

    /// It may have been applied and forgotten.
    #[test]
    fn of_one_that_nobody_remembers_nothing_is_told() {
        let long_ago = now_ms() - 2 * REMEMBERED_FOR.as_millis() as u64;
        let told = run(Received::default().inquire(&RequestId::random(), long_ago, WAIT));
        assert_eq!(told, Outcome::Unknown);
    }

    /// Its time is over when it ends, while it is asked after.
    #[test]
    fn one_that_ends_late_is_still_known() {
        let received = Received::default();
        let long_ago = now_ms() - 2 * REMEMBERED_FOR.as_millis() as u64;
        let slow = RequestId::random();
        received.begin(&slow, long_ago).unwrap();
        let made = AppliedRequest { version: 3, created: false };
        let told = run(async {
            let asked = received.inquire(&slow, long_ago, Duration::from_secs(60));
            let ends = async {
                rocket::tokio::task::yield_now().await;
                received.by_name().forgot = None;
                received.applied(&slow, made);
                received.end(&slow, false);
            };
            rocket::tokio::join!(asked, ends).0
        });
        assert_eq!(told, Outcome::Applied(made));
    }
}
