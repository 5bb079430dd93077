//! A turn of writes: the lock once, the version once, one transaction for all that wait, each with
//! a verdict of its own.

use std::collections::HashMap;
use std::hint::black_box;
use std::slice;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use prometheus::Histogram;

use super::image::Image;
use super::lane::{Lane, PendingWrite};
use super::metrics::observe;
use super::{Accepted, IdempotencyKey, Inner, Refusal, Verdict};
use crate::db::watch::{self, GivenUp, Kept};
use crate::failpoint;
use crate::graph::{Command, DecidedBatch, Effect, Graph, hex};
use crate::lock::{FencingToken, Guard, LockError, LockKey, Mode};
use crate::store::{Commit, CommitError, Entry, GraphState, Head, ImageKey, StoredAnswer};

impl Inner {
    pub(super) fn start_write_turn(self: &Arc<Self>, lane: Arc<Lane>) {
        let inner = Arc::clone(self);
        self.workers.spawn(move || inner.take_write_turn(&lane));
    }

    pub(super) fn take_write_turn(self: &Arc<Self>, lane: &Arc<Lane>) {
        let batch =
            lane.take_writes(self.turn_size(self.limits.batch_writes), self.limits.batch_bytes);
        let replies: Vec<_> = batch.iter().map(|write| write.reply.clone()).collect();
        let (inner, of) = (Arc::clone(self), Arc::clone(lane));
        let given_up = move |given_up: GivenUp| {
            replies.iter().for_each(|reply| reply.answer(Err(given_up.into())));
            end_turn(&inner, &of, false);
        };
        watch::watched(given_up, || self.take_write_turn_of(lane, batch));
    }

    fn take_write_turn_of(self: &Arc<Self>, lane: &Arc<Lane>, batch: Vec<PendingWrite>) {
        let mut turn = WriteTurn { inner: self, lane, ends_here: false };
        let began = Instant::now();
        let light = batch.len() <= LIGHT;
        let spent = self.serve(lane, batch, began);
        observe(&self.metrics.turn.write, began.elapsed());
        if light {
            drop(spent);
            turn.ends_here = true;
            drop(turn);
        } else {
            drop(turn);
            // When the next turn is under way.
            drop(spent);
        }
    }

    /// Takes turns until every write of the batch is answered, or, if its time is up, put back to
    /// be the first of the next turn.
    fn serve(&self, lane: &Lane, batch: Vec<PendingWrite>, began: Instant) -> Option<Spent> {
        let outcome = self.take_turn(lane, &batch);
        let served = outcome.as_ref().map_or(batch.len(), |turn| turn.verdicts.len());
        self.metrics.write_batch.observe(served as f64);
        match outcome {
            // One of them may be at fault: no neighbour shall suffer for it.
            Err(TurnError::Commit(CommitError::Refused(error)))
                if batch.len() > 1 || error.is_unexplained() =>
            {
                log::error!(
                    "graph `{}`: a batch was refused and is taken one by one: {error}",
                    lane.name
                );
                self.serve_one_by_one(lane, batch, began);
                None
            }
            outcome => self.conclude(lane, batch, outcome, began),
        }
    }

    /// Each write in a turn of its own, as long as the database answers.
    fn serve_one_by_one(&self, lane: &Lane, batch: Vec<PendingWrite>, began: Instant) {
        let mut waiting = batch.into_iter();
        while let Some(write) = waiting.next() {
            let outcome = self.take_turn(lane, slice::from_ref(&write));
            let mut served = vec![write];
            if let Err(
                TurnError::Commit(CommitError::Unavailable(_))
                | TurnError::Refused(
                    Refusal::DatabaseUnavailable { .. } | Refusal::LockUnavailable { .. },
                ),
            ) = outcome
            {
                served.extend(waiting.by_ref());
            }
            self.conclude(lane, served, outcome, began);
        }
    }

    fn conclude(
        &self,
        lane: &Lane,
        mut batch: Vec<PendingWrite>,
        outcome: Result<Turn<'_>, TurnError>,
        began: Instant,
    ) -> Option<Spent> {
        let error = match outcome {
            Ok(Turn { verdicts, held, spent }) => {
                let left_over = batch.split_off(verdicts.len());
                // The watchdog has answered all of the batch.
                if !watch::is_given_up() {
                    lane.put_back(left_over);
                }
                self.answer(batch, verdicts, began);
                drop(held);
                return spent;
            }
            Err(error) => error,
        };
        let refusal = match error {
            TurnError::Refused(refusal) => refusal,
            TurnError::Commit(error) => self.refusal_of(&lane.name, error),
            TurnError::Lost(what) => {
                Refusal::Contended { what: format!("the turn was lost: {what}") }
            }
        };
        let verdicts = vec![Err(refusal); batch.len()];
        self.answer(batch, verdicts, began);
        None
    }

    fn answer(&self, batch: Vec<PendingWrite>, verdicts: Vec<Verdict>, began: Instant) {
        let answering = Instant::now();
        for (write, verdict) in batch.into_iter().zip(verdicts) {
            observe(&self.metrics.queue_wait.write, began.saturating_duration_since(write.since));
            observe(&self.metrics.request.write, answering.saturating_duration_since(write.since));
            write.reply.answer(verdict);
        }
        observe(&self.metrics.answer.write, answering.elapsed());
    }

    /// Tries again while other writers are faster, up to the limit. Without a lock nobody makes
    /// room for whoever lost, so that each time it waits a little longer, by chance, to come at
    /// another moment than the others.
    fn take_turn(&self, lane: &Lane, batch: &[PendingWrite]) -> Result<Turn<'_>, TurnError> {
        let most = if self.lock.is_some() {
            self.limits.turn_retries
        } else {
            self.limits.optimistic_retries
        };
        let mut retries = 0;
        loop {
            let error = match self.try_turn(lane, batch) {
                Err(error @ (TurnError::Commit(_) | TurnError::Lost(_))) => error,
                outcome => return outcome,
            };
            if let (Some(image), TurnError::Commit(CommitError::Refused(_))) =
                (lane.image.get(), &error)
            {
                lane.image.discard(image.key);
            }
            let reason = match &error {
                TurnError::Lost(_) => "lease",
                TurnError::Commit(CommitError::Fenced { .. }) => "fenced",
                TurnError::Commit(CommitError::Conflict { .. }) => "conflict",
                TurnError::Commit(CommitError::Deleted) => "deleted",
                // What was accepted before is answered again all the same.
                TurnError::Commit(CommitError::Frozen { .. }) => "frozen",
                TurnError::Commit(CommitError::Yielded(_)) => "yielded",
                TurnError::Commit(CommitError::KeyTaken) => "key",
                TurnError::Commit(_) | TurnError::Refused(_) => return Err(error),
            };
            self.metrics.lost_writes.with_label_values(&[reason]).inc();
            self.metrics.wasted_decisions.inc_by(batch.len() as u64);
            if self.lock.is_some() {
                log::warn!("graph `{}`: a write did not hold: {error}", lane.name);
            }
            if retries == most {
                return Err(error);
            }
            if self.lock.is_none() {
                thread::sleep(backoff(retries)?);
            }
            retries += 1;
        }
    }

    /// Verdicts for the first of the batch, as many as the time for judging allows.
    fn try_turn(&self, lane: &Lane, batch: &[PendingWrite]) -> Result<Turn<'_>, TurnError> {
        let not_found = || Refusal::GraphNotFound { graph: lane.name.clone() };
        let Some(graph_id) = self.graph_id(lane)? else {
            return Ok(Turn {
                verdicts: vec![Err(not_found()); batch.len()],
                held: None,
                spent: None,
            });
        };
        let mut held = self.take_exclusively(graph_id)?;
        let sealed = match &mut held {
            Some(held) => self.seal_after_expiry(lane, held)?,
            None => None,
        };
        failpoint::pass("after-seal");
        let (head, image) =
            self.refreshed(lane, &self.metrics.refresh.write)?.ok_or_else(not_found)?;
        if head.id != graph_id {
            // Another database was put in this one's place since the id was learnt: the lock that
            // is held is another graph's.
            return Err(
                CommitError::Conflict { expected: head.version, actual: head.version }.into()
            );
        }
        let (head, token) = match (&mut held, sealed) {
            (Some(_), Some(token)) if head.fence == token.as_i64() => (head, token.as_i64()),
            (Some(held), _) => {
                let (head, token) = self.trusted_token(held, head)?;
                (head, token.as_i64())
            }
            // Nobody was granted anything: as good as whoever wrote last, and behind whoever is
            // granted something from now on.
            (None, _) => (head.clone(), head.fence),
        };

        let began = Instant::now();
        let mut work = Work::new(lane, &head, &image.graph, self.answers_for(&head, batch)?);
        let mut verdicts: Vec<Verdict> = Vec::with_capacity(batch.len());
        for pending in batch {
            if !verdicts.is_empty() && began.elapsed() > self.limits.batch_time {
                break;
            }
            verdicts.push(work.judge(pending));
        }
        observe(&self.metrics.decide, began.elapsed());
        if self.design.checks_whole_graph() {
            self.check(work.series.graph())?;
        }

        if work.has_something_to_commit() {
            if let Some(held) = &mut held
                && !failpoint::is_off("lock-check")
            {
                held.with(|guard| guard.check().map_err(lost))?;
            }
            failpoint::pass("after-check");
            let began = Instant::now();
            let committing = lane.image.committing();
            let next = self.commit(&head, token, &work)?;
            observe(&self.metrics.commit, began.elapsed());
            let began = Instant::now();
            lane.image.publish(&next);
            self.lanes.settle(lane);
            drop(committing);
            observe(&self.metrics.publish, began.elapsed());
            self.listeners.notify(&lane.name);
        }
        Ok(Turn { verdicts, held, spent: Some(Spent { _series: work.series, _image: image }) })
    }

    /// The graph's lock, unless the design has none.
    fn take_exclusively(&self, graph_id: i64) -> Result<Option<HeldLock<'_>>, TurnError> {
        let Some(lock) = &self.lock else { return Ok(None) };
        let began = Instant::now();
        let key = LockKey::new(self.store.database_id(), graph_id)?;
        let guard = lock.acquire(&key, Mode::Exclusive, self.limits.lock_wait)?;
        observe(&self.metrics.lock_wait.exclusive, began.elapsed());
        let hold = &self.metrics.lock_hold.exclusive;
        let held = HeldLock { guard: Kept::new(guard), since: Instant::now(), hold };
        failpoint::pass("after-acquire");
        Ok(Some(held))
    }

    /// Sorts the whole graph. It finds no cycle that was not found before: what it is for is its
    /// cost.
    fn check(&self, graph: &Graph) -> Result<(), Refusal> {
        let began = Instant::now();
        let acyclic = black_box(graph).is_acyclic();
        observe(&self.metrics.whole_check, began.elapsed());
        if acyclic {
            return Ok(());
        }
        Err(Refusal::Internal { what: "a changeset was accepted that closes a cycle".to_owned() })
    }

    /// A turn that was gained because a holder was not heard of until its lease ran out begins with
    /// this: whatever that one still sends is refused from here on. Returns the token that was
    /// sealed, if that was needed.
    fn seal_after_expiry(
        &self,
        lane: &Lane,
        held: &mut HeldLock<'_>,
    ) -> Result<Option<FencingToken>, TurnError> {
        if !held.must_seal()? || failpoint::is_off("seal-on-expiry") {
            return Ok(None);
        }
        let Some(head) = self.store.head(&lane.name)? else { return Ok(None) };
        let (head, token) = self.trusted_token(held, head)?;
        if held.must_seal()? {
            self.store.seal(&head, token.as_i64())?;
            held.with(|guard| {
                guard.sealed();
                Ok(())
            })?;
        }
        self.metrics.seals.inc();
        log::warn!(
            "graph `{}`: a lease ran out; its holder is fenced off by token {token}",
            lane.name
        );
        Ok(Some(token))
    }

    /// The token of this turn, after making sure that it is larger than every one given before: the
    /// database is asked whether it knows the run of the lock that gave it, and if not, raises its
    /// epoch and seals it before anything is written.
    fn trusted_token(
        &self,
        held: &mut HeldLock<'_>,
        head: Head,
    ) -> Result<(Head, FencingToken), TurnError> {
        let (incarnation, token) = held.with(|guard| {
            Ok((guard.incarnation().unwrap_or_default().to_owned(), guard.token()))
        })?;
        if let Some(token) = token
            && token.epoch() == head.epoch
            && incarnation == head.lock_incarnation
            && token.as_i64() > head.fence
        {
            return Ok((head, token));
        }
        // A token that is behind the fence may also be that of a holder who has lost the lock
        // meanwhile: such a one must not raise anything.
        if !failpoint::is_off("lock-check") {
            held.with(|guard| guard.check().map_err(lost))?;
        }
        let last = token.map_or(0, FencingToken::epoch).max(head.epoch);
        let exhausted = || Refusal::Internal { what: "the lock's epochs are used up".to_owned() };
        let epoch = last + 1;
        let fence = FencingToken::new(epoch, 0).ok_or_else(exhausted)?;
        let raised = self.store.raise_epoch(&head, epoch, fence.as_i64(), &incarnation)?;
        self.metrics.epochs_raised.inc();
        log::info!(
            "graph `{}`: the lock's state was new or behind; its tokens are of epoch {epoch} from here on",
            head.name
        );
        let token = held.with(|guard| {
            guard.sealed();
            guard.seed(epoch).map_err(lost)
        })?;
        // The image is of the version that was read: a write that came in between must be found by
        // the comparison.
        let head = Head {
            epoch: raised.epoch,
            fence: raised.fence,
            lock_incarnation: raised.lock_incarnation,
            ..head
        };
        Ok((head, token))
    }

    fn answers_for(
        &self,
        head: &Head,
        batch: &[PendingWrite],
    ) -> Result<HashMap<String, StoredAnswer>, TurnError> {
        let keys = batch.iter().filter_map(|pending| pending.write.idempotency.as_ref());
        let keys: Vec<&str> = keys.map(|idempotency| idempotency.key.as_str()).collect();
        if keys.is_empty() {
            return Ok(HashMap::new());
        }
        let stored = self.store.stored_answers(head.id, &keys)?;
        Ok(stored.into_iter().map(|answer| (answer.key.clone(), answer)).collect())
    }

    /// Writes what was accepted; the image that it leads to.
    fn commit(&self, head: &Head, token: i64, work: &Work<'_>) -> Result<Arc<Image>, TurnError> {
        let attempt = new_attempt()?;
        let accepted = work.series.accepted().iter().zip(&work.actors);
        let entries: Vec<Entry<'_>> = accepted
            .map(|(accepted, actor)| Entry {
                change: &accepted.change,
                version: accepted.version,
                touched: &accepted.touched,
                actor: *actor,
            })
            .collect();
        let chain = self.store.commit(&Commit {
            read: head,
            token,
            attempt: &attempt,
            before: work.series.base(),
            after: work.series.graph(),
            entries: &entries,
            answers: &work.answers,
            deletes_graph: work.deleted && !entries.is_empty(),
        })?;
        let graph = work.series.graph().clone();
        Ok(Arc::new(Image::derived(
            ImageKey { graph_id: head.id, version: graph.version(), chain },
            graph,
        )))
    }
}

/// A batch being judged: each write sees the accepted ones before it.
struct Work<'b> {
    lane: &'b Lane,
    frozen: Option<Refusal>,
    series: DecidedBatch,
    /// Who asked for each that was accepted.
    actors: Vec<Option<&'b str>>,
    deleted: bool,
    /// Answers that are kept already, of earlier turns and of this one.
    kept: HashMap<String, StoredAnswer>,
    /// Answers to keep.
    answers: Vec<StoredAnswer>,
}

impl<'b> Work<'b> {
    fn new(
        lane: &'b Lane,
        head: &Head,
        graph: &Graph,
        kept: HashMap<String, StoredAnswer>,
    ) -> Self {
        let frozen = (head.state == GraphState::Frozen)
            .then(|| Refusal::Frozen { graph: lane.name.clone(), moved_to: head.moved_to.clone() });
        let deleted = head.state == GraphState::Deleted;
        Self {
            lane,
            frozen,
            series: DecidedBatch::on(graph),
            actors: Vec::new(),
            deleted,
            kept,
            answers: Vec::new(),
        }
    }

    fn has_something_to_commit(&self) -> bool {
        !self.actors.is_empty() || !self.answers.is_empty()
    }

    fn judge(&mut self, pending: &'b PendingWrite) -> Verdict {
        let write = &pending.write;
        let key = write.idempotency.as_ref().filter(|_| !write.dry_run);
        if let Some(key) = key
            && let Some(stored) = self.kept.get(&key.key)
        {
            return key.verdict(stored);
        }
        if self.deleted {
            return Err(Refusal::GraphNotFound { graph: self.lane.name.clone() });
        }
        if let Some(frozen) = &self.frozen {
            return Err(frozen.clone());
        }
        let version = self.series.graph().version();
        let rejected = |rejection| Refusal::Rejected { rejection, version };
        let accepted = |effect: Effect, graph: &Graph, deleted: bool| Accepted {
            version: graph.version(),
            changed: effect.changed,
            created: effect.created,
            subject_version: write.subject.version_in(graph).filter(|_| !deleted),
        };
        if write.dry_run {
            let effect = self.series.try_out(&write.command).map_err(rejected)?;
            return Ok(accepted(effect, self.series.graph(), false));
        }
        let effect = self.series.decide(&write.command).map_err(rejected)?;
        if effect.changed {
            self.actors.push(write.actor.as_deref());
            self.deleted = matches!(write.command, Command::DeleteGraph { .. });
        }
        let accepted = accepted(effect, self.series.graph(), self.deleted);
        if let Some(key) = key {
            self.keep(key, &accepted);
        }
        Ok(accepted)
    }

    fn keep(&mut self, key: &IdempotencyKey, accepted: &Accepted) {
        let answer = key.answer(accepted);
        self.kept.insert(key.key.clone(), answer.clone());
        self.answers.push(answer);
    }
}

/// How long whoever lost the race for the `retries`-th time waits: anything up to a bound that
/// doubles each time, so that those who race come apart.
fn backoff(retries: usize) -> Result<Duration, Refusal> {
    const FIRST: Duration = Duration::from_millis(1);
    const LONGEST: Duration = Duration::from_millis(64);
    let mut chance = [0; 4];
    getrandom::fill(&mut chance).map_err(|error| Refusal::Internal { what: error.to_string() })?;
    let part = f64::from(u32::from_le_bytes(chance)) / f64::from(u32::MAX);
    Ok(LONGEST.min(FIRST * (1 << retries.min(10))).mul_f64(part))
}

/// 128 random bits in hex.
fn new_attempt() -> Result<String, Refusal> {
    let mut bits = [0; 16];
    getrandom::fill(&mut bits).map_err(|error| Refusal::Internal { what: error.to_string() })?;
    Ok(hex(&bits))
}

/// What a turn came to.
struct Turn<'t> {
    /// Of the first of the batch.
    verdicts: Vec<Verdict>,
    /// The lock, if it was taken, to be given back when all are answered.
    held: Option<HeldLock<'t>>,
    spent: Option<Spent>,
}

/// What is left of a turn. To free it takes as long as part of the judging did, and nobody need
/// wait for that.
struct Spent {
    _series: DecidedBatch,
    _image: Arc<Image>,
}

/// The lock of a turn, and how long it is held.
struct HeldLock<'t> {
    guard: Kept<Guard>,
    since: Instant,
    hold: &'t Histogram,
}

impl HeldLock<'_> {
    fn must_seal(&mut self) -> Result<bool, TurnError> {
        self.with(|guard| Ok(guard.must_seal()))
    }

    /// Runs `body` on the guard, unless it was given back because the database did not answer. It
    /// must ask the database nothing: meanwhile the guard cannot be given back.
    fn with<T>(
        &mut self,
        body: impl FnOnce(&mut Guard) -> Result<T, TurnError>,
    ) -> Result<T, TurnError> {
        let given_back = || Refusal::DatabaseUnavailable { what: watch::NO_ANSWER.to_owned() };
        self.guard.with(body).ok_or_else(given_back)?
    }
}

impl Drop for HeldLock<'_> {
    fn drop(&mut self) {
        observe(self.hold, self.since.elapsed());
    }
}

/// How a turn can fail as a whole.
#[derive(Debug, thiserror::Error)]
enum TurnError {
    #[error("{0}")]
    Refused(Refusal),
    #[error("{0}")]
    Commit(CommitError),
    /// The lock was lost, and nothing was written.
    #[error("{0}")]
    Lost(&'static str),
}

/// A lock that was lost may be taken again; one that cannot be reached is told.
fn lost(error: LockError) -> TurnError {
    match error {
        LockError::Lost { what } => TurnError::Lost(what),
        other => other.into(),
    }
}

impl<E: Into<Refusal>> From<E> for TurnError {
    fn from(error: E) -> Self {
        Self::Refused(error.into())
    }
}

impl From<CommitError> for TurnError {
    fn from(error: CommitError) -> Self {
        Self::Commit(error)
    }
}

/// What so many writes have used is freed sooner than another thread wakes.
const LIGHT: usize = 4;

/// Starts the next turn when this one ends, however it ends.
struct WriteTurn<'t> {
    inner: &'t Arc<Inner>,
    lane: &'t Arc<Lane>,
    /// Whether this thread has nothing else to do.
    ends_here: bool,
}

impl Drop for WriteTurn<'_> {
    fn drop(&mut self) {
        // Otherwise the watchdog has ended it.
        if watch::disarm() {
            end_turn(self.inner, self.lane, self.ends_here);
        }
    }
}

/// Starts the next turn, if anybody waits: on this thread, if it `ends_here`.
fn end_turn(inner: &Arc<Inner>, lane: &Arc<Lane>, ends_here: bool) {
    if !lane.end_write_turn() {
        return;
    }
    let (next, lane) = (Arc::clone(inner), Arc::clone(lane));
    let next = move || next.take_write_turn(&lane);
    if ends_here { inner.workers.spawn_as_next(next) } else { inner.workers.spawn(next) }
}
