//! A real store and a real lock that let a test come in between, or forget like a server that was
//! started anew.

use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use diesel::QueryResult;
use fencepost::db::{AnyConnection, Database, RowsWrite};
use fencepost::graph::Graph;
use fencepost::lock::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
};
use fencepost::store::log::Log;
use fencepost::store::log_unchecked::UncheckedLog;
use fencepost::store::plain::Plain;
use fencepost::store::rows::Rows;
use fencepost::store::storage::{History, Loaded, SnapshotUse, Storage};
use fencepost::store::{Commit, Head, Storages, Store, StoreError};

/// What is set here happens once.
pub type Interlude = Arc<Mutex<Option<Box<dyn FnOnce() + Send>>>>;

/// A store, and what happens just before its next commit.
pub struct Interrupted {
    pub store: Arc<Store>,
    pub before_commit: Interlude,
}

impl Interrupted {
    pub fn new(database: Database) -> Self {
        let before_commit = Interlude::default();
        let rows = Box::new(InterruptedBy(Arc::clone(&before_commit), Rows));
        let plain = Box::new(InterruptedBy(Arc::clone(&before_commit), Plain));
        let log = Box::new(InterruptedBy(Arc::clone(&before_commit), Log));
        let unchecked = Box::new(InterruptedBy(Arc::clone(&before_commit), UncheckedLog));
        let storages = Storages { rows, plain, log, unchecked };
        let store = Arc::new(Store::with_storages(database, storages).unwrap());
        Self { store, before_commit }
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

/// A storage, interrupted where a commit makes out what it writes, before its transaction begins.
struct InterruptedBy<S>(Interlude, S);

impl<S: Storage> Storage for InterruptedBy<S> {
    fn load(&self, connection: &mut AnyConnection, head: &Head) -> Result<Loaded, StoreError> {
        self.1.load(connection, head)
    }

    fn writes<'c>(&self, commit: &Commit<'c>) -> Vec<RowsWrite<'c>> {
        play(&self.0);
        self.1.writes(commit)
    }

    fn clear(&self, connection: &mut AnyConnection, graph_id: i64) -> QueryResult<()> {
        self.1.clear(connection, graph_id)
    }

    fn fill(
        &self,
        connection: &mut AnyConnection,
        graph_id: i64,
        graph: &Graph,
    ) -> QueryResult<()> {
        self.1.fill(connection, graph_id, graph)
    }

    fn history(&self) -> History {
        self.1.history()
    }

    fn may_break_rules(&self) -> bool {
        self.1.may_break_rules()
    }

    fn snapshots(&self) -> SnapshotUse {
        self.1.snapshots()
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
    before_check: Interlude,
    held: Mutex<bool>,
    freed: Condvar,
    memory: Mutex<Memory>,
}

impl Forgetful {
    pub fn memory(&self) -> Memory {
        self.0.memory.lock().unwrap().clone()
    }

    /// Happens just before a holder next makes sure that it has the lock.
    pub fn before_check(&self) -> &Interlude {
        &self.0.before_check
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

    fn check(&mut self) -> Result<(), LockError> {
        play(&self.0.0.before_check);
        Ok(())
    }
}

impl Drop for ForgetfulGrant {
    fn drop(&mut self) {
        *self.0.0.held.lock().unwrap() = false;
        self.0.0.freed.notify_one();
    }
}
