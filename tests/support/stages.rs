//! A real store and a real lock that let a test come in between, or forget like a server that was
//! started anew.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use fencepost::graph::{Name, Precondition};
use fencepost::lock::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
};
use fencepost::store::rows::RowStore;
use fencepost::store::{
    Acknowledgement, CatchUp, Chain, Commit, CommitError, Consumer, Creation, ExportReport, Feed,
    GraphStore, Head, ImageKey, Keep, LockRecord, Purged, Refresh, StoreError, StoredAnswer,
};

type Interlude = Mutex<Option<Box<dyn FnOnce() + Send>>>;

/// The rows of a database; what is set here happens once, just before the next such call.
pub struct Interrupted {
    pub store: RowStore,
    pub before_commit: Interlude,
    pub before_raise_epoch: Interlude,
}

impl Interrupted {
    pub fn new(store: RowStore) -> Self {
        Self { store, before_commit: Mutex::default(), before_raise_epoch: Mutex::default() }
    }
}

pub fn set(interlude: &Interlude, what: impl FnOnce() + Send + 'static) {
    *interlude.lock().unwrap() = Some(Box::new(what));
}

pub fn is_over(interlude: &Interlude) -> bool {
    interlude.lock().unwrap().is_none()
}

fn play(interlude: &Interlude) {
    let what = interlude.lock().unwrap().take();
    if let Some(what) = what {
        what();
    }
}

impl GraphStore for Interrupted {
    fn database_id(&self) -> &str {
        self.store.database_id()
    }
    fn ping(&self) -> Result<(), StoreError> {
        self.store.ping()
    }
    fn lock_record(&self) -> Result<Option<LockRecord>, StoreError> {
        self.store.lock_record()
    }
    fn set_lock_record(
        &self,
        expected: Option<&LockRecord>,
        new: &LockRecord,
    ) -> Result<LockRecord, StoreError> {
        self.store.set_lock_record(expected, new)
    }
    fn graphs(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Head>, StoreError> {
        self.store.graphs(prefix, after, limit)
    }
    fn create_graph(
        &self,
        name: &Name,
        precondition: Option<Precondition>,
        keep: Option<Keep<'_>>,
    ) -> Result<Creation, CommitError> {
        self.store.create_graph(name, precondition, keep)
    }
    fn head(&self, name: &Name) -> Result<Option<Head>, StoreError> {
        self.store.head(name)
    }
    fn refresh(
        &self,
        name: &Name,
        known: Option<ImageKey>,
        by: CatchUp,
    ) -> Result<Option<(Head, Refresh)>, StoreError> {
        self.store.refresh(name, known, by)
    }
    fn raise_epoch(
        &self,
        read: &Head,
        epoch: u32,
        fence: i64,
        incarnation: &str,
    ) -> Result<Head, CommitError> {
        play(&self.before_raise_epoch);
        self.store.raise_epoch(read, epoch, fence, incarnation)
    }
    fn seal(&self, read: &Head, token: i64) -> Result<(), CommitError> {
        self.store.seal(read, token)
    }
    fn commit(&self, commit: &Commit<'_>) -> Result<Chain, CommitError> {
        play(&self.before_commit);
        self.store.commit(commit)
    }
    fn stored_answers(
        &self,
        graph_id: i64,
        keys: &[&str],
    ) -> Result<Vec<StoredAnswer>, StoreError> {
        self.store.stored_answers(graph_id, keys)
    }
    fn purge_answers(&self, after: i64, most: usize) -> Result<Option<Purged>, CommitError> {
        self.store.purge_answers(after, most)
    }
    fn feed(&self, name: &Name, after: u64, most: usize) -> Result<Option<Feed>, StoreError> {
        self.store.feed(name, after, most)
    }
    fn committed_at(&self, graph_id: i64, version: u64) -> Result<Option<i64>, StoreError> {
        self.store.committed_at(graph_id, version)
    }
    fn consumers(&self, name: &Name) -> Result<Option<(Head, Vec<Consumer>)>, StoreError> {
        self.store.consumers(name)
    }
    fn acknowledge(
        &self,
        name: &Name,
        consumer: &Name,
        version: u64,
    ) -> Result<Acknowledgement, CommitError> {
        self.store.acknowledge(name, consumer, version)
    }
    fn report_export(
        &self,
        name: &Name,
        report: &ExportReport<'_>,
    ) -> Result<Acknowledgement, CommitError> {
        self.store.report_export(name, report)
    }
    fn rename_consumer(&self, name: &Name, from: &Name, to: &Name) -> Result<bool, CommitError> {
        self.store.rename_consumer(name, from, to)
    }
    fn forget_consumer(&self, name: &Name, consumer: &Name) -> Result<Option<bool>, CommitError> {
        self.store.forget_consumer(name, consumer)
    }
    fn changes(
        &self,
        graph_id: i64,
        after: u64,
        each: &mut dyn FnMut(u64, &str, Chain) -> bool,
    ) -> Result<(), StoreError> {
        self.store.changes(graph_id, after, each)
    }
}

/// What a lock server remembers: which run this is, and the last token given in it.
pub type Memory = (String, Option<FencingToken>);

/// A lock for one graph whose memory can be looked at and replaced, as by a restart, an older dump,
/// or keys evicted.
#[derive(Clone, Default)]
pub struct Forgetful(Arc<ForgetfulState>);

#[derive(Default)]
struct ForgetfulState {
    held: Mutex<bool>,
    freed: Condvar,
    memory: Mutex<Memory>,
}

impl Forgetful {
    pub fn memory(&self) -> Memory {
        self.0.memory.lock().unwrap().clone()
    }

    pub fn remember(&self, memory: Memory) {
        *self.0.memory.lock().unwrap() = memory;
    }
}

struct ForgetfulGrant(Forgetful);

impl DistributedLock for Forgetful {
    fn identity(&self) -> LockIdentity {
        LockIdentity { kind: "forgetful", identity: String::new() }
    }

    fn acquire(&self, _: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        let held = self.0.held.lock().unwrap();
        let (mut held, timeout) =
            self.0.freed.wait_timeout_while(held, wait, |held| *held).unwrap();
        if timeout.timed_out() {
            return Err(LockError::Timeout { waited: wait });
        }
        *held = true;
        let grant = Box::new(ForgetfulGrant(self.clone()));
        if mode == Mode::Shared {
            return Ok(Guard::shared(grant));
        }
        let mut memory = self.0.memory.lock().unwrap();
        memory.1 = memory.1.and_then(FencingToken::next);
        Ok(Guard::exclusive(grant, memory.0.clone(), memory.1))
    }

    fn ping(&self) -> Result<(), LockError> {
        Ok(())
    }

    fn inspect(&self, _: &LockKey) -> Result<Inspection, LockError> {
        Ok(Inspection::default())
    }
}

impl Held for ForgetfulGrant {
    fn store(&mut self, incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        self.0.remember((incarnation.to_owned(), Some(first)));
        Ok(())
    }
}

impl Drop for ForgetfulGrant {
    fn drop(&mut self) {
        *self.0.0.held.lock().unwrap() = false;
        self.0.0.freed.notify_one();
    }
}
