//! Each lock, used as its documentation says.

use std::sync::Arc;
use std::time::Duration;

use crate::contest::{Awaited, Blocking, Outcome, Plan, tasks, threads};

/// Long enough that none runs out.
const LEASE: Duration = Duration::from_secs(10);
const WAIT: Duration = Duration::from_secs(60);
const KEY: &str = "peers";

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lock {
    Fencepost,
    Rslock,
    DistkitMutex,
    DistkitWrite,
    RlockMutex,
    RlockWrite,
    RlockSyncMutex,
    RlockSyncWrite,
    RdsWrite,
}

/// What awaited calls run on.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Runtime {
    /// A thread for each core; for handles that block, one for each contender.
    Threads,
    /// A single thread.
    OneThread,
}

impl Runtime {
    fn build(self) -> tokio::runtime::Runtime {
        let mut builder = match self {
            Self::Threads => tokio::runtime::Builder::new_multi_thread(),
            Self::OneThread => tokio::runtime::Builder::new_current_thread(),
        };
        builder.enable_all().build().expect("a runtime")
    }
}

/// A lock in one setting.
#[derive(Clone, Copy)]
pub struct Subject {
    pub lock: Lock,
    /// Between two tries, or at most so long; without it, what the crate does by itself.
    pub retry: Option<Duration>,
    pub runtime: Runtime,
}

impl Lock {
    pub const PEERS: [Self; 8] = [
        Self::Rslock,
        Self::DistkitMutex,
        Self::DistkitWrite,
        Self::RlockMutex,
        Self::RlockWrite,
        Self::RlockSyncMutex,
        Self::RlockSyncWrite,
        Self::RdsWrite,
    ];

    pub fn runtimes(self) -> &'static [Runtime] {
        match self {
            Self::Fencepost | Self::RlockSyncMutex | Self::RlockSyncWrite => &[Runtime::Threads],
            _ => &[Runtime::Threads, Runtime::OneThread],
        }
    }
}

impl Subject {
    pub fn name(&self) -> &'static str {
        match self.lock {
            Lock::Fencepost => "Fencepost",
            Lock::Rslock => "rslock",
            Lock::DistkitMutex => "distkit, mutex",
            Lock::DistkitWrite => "distkit, write",
            Lock::RlockMutex => "rlock, async mutex",
            Lock::RlockWrite => "rlock, async write",
            Lock::RlockSyncMutex => "rlock, sync mutex",
            Lock::RlockSyncWrite => "rlock, sync write",
            Lock::RdsWrite => "rds_lock, write",
        }
    }

    pub fn setting(&self) -> String {
        let retry =
            self.retry.map_or("default".to_owned(), |retry| format!("{} ms", retry.as_millis()));
        match (self.lock, self.runtime) {
            (Lock::Fencepost, _) => "none".to_owned(),
            (_, Runtime::Threads) => retry,
            (_, Runtime::OneThread) => format!("{retry}, one thread"),
        }
    }

    pub fn contend(&self, url: &str, plan: Plan) -> Outcome {
        let retry = self.retry;
        match self.lock {
            Lock::Fencepost => threads(plan, || Fencepost::open(url)),
            Lock::Rslock => tasks(plan, &self.runtime.build(), async || Rslock::open(url, retry)),
            Lock::DistkitMutex => {
                let open =
                    async || DistkitMutex(distkit::lock::Mutex::new(distkit(url, retry).await));
                tasks(plan, &self.runtime.build(), open)
            }
            Lock::DistkitWrite => {
                let open =
                    async || DistkitWrite(distkit::lock::RwLock::new(distkit(url, retry).await));
                tasks(plan, &self.runtime.build(), open)
            }
            Lock::RlockMutex | Lock::RlockWrite => {
                let writes = self.lock == Lock::RlockWrite;
                tasks(plan, &self.runtime.build(), async || Rlock::open(url, retry, writes).await)
            }
            Lock::RlockSyncMutex | Lock::RlockSyncWrite => {
                let writes = self.lock == Lock::RlockSyncWrite;
                threads(plan, || RlockSync::open(url, retry, writes))
            }
            Lock::RdsWrite => {
                tasks(plan, &self.runtime.build(), async || RdsWrite::open(url, retry).await)
            }
        }
    }
}

struct Fencepost {
    lock: fencepost::lock::redis::RedisLock,
    key: fencepost::lock::LockKey,
}

impl Fencepost {
    fn open(url: &str) -> Self {
        use fencepost::lock::redis::{RedisLock, RedisUrl, Terms};
        let terms = Terms { lease: LEASE, ..Terms::default() };
        let lock = RedisLock::open(&RedisUrl::parse(url).expect("a URL"), terms).expect("a lock");
        Self { lock, key: fencepost::lock::LockKey::new("be-c4", 1).expect("a key") }
    }
}

impl Blocking for Fencepost {
    fn turn(&mut self, inside: impl FnOnce()) {
        use fencepost::lock::{DistributedLock, Mode};
        let mut guard = self.lock.acquire(&self.key, Mode::Exclusive, WAIT).expect("the lock");
        if guard.token().is_none() {
            guard.seed(1).expect("a first epoch");
        }
        inside();
        guard.release();
    }
}

struct Rslock(rslock::LockManager);

impl Rslock {
    fn open(url: &str, retry: Option<Duration>) -> Self {
        let mut manager = rslock::LockManager::new(vec![url]);
        if let Some(retry) = retry {
            manager.set_retry(u32::MAX, retry);
        }
        Self(manager)
    }
}

impl Awaited for Rslock {
    async fn turn(&mut self, inside: impl FnOnce() + Send) {
        let guard = self.0.acquire(KEY, LEASE).await.expect("the lock");
        inside();
        guard.release().await;
    }
}

async fn distkit(url: &str, retry: Option<Duration>) -> distkit::lock::LockOptions {
    let client = redis::Client::open(url).expect("a URL");
    let connection = client.get_connection_manager().await.expect("a connection");
    let key = distkit::DistkitRedisKey::new_or_panic(KEY.to_owned());
    let options = distkit::lock::LockOptions::builder(key, connection).ttl(LEASE);
    match retry {
        Some(retry) => options.retry_interval(retry).build(),
        None => options.build(),
    }
}

struct DistkitMutex(Arc<distkit::lock::Mutex>);

impl Awaited for DistkitMutex {
    async fn turn(&mut self, inside: impl FnOnce() + Send) {
        let guard = self.0.lock().await.expect("the lock");
        inside();
        guard.release().await.expect("it was held");
    }
}

struct DistkitWrite(Arc<distkit::lock::RwLock>);

impl Awaited for DistkitWrite {
    async fn turn(&mut self, inside: impl FnOnce() + Send) {
        let guard = self.0.write().await.expect("the lock");
        inside();
        guard.release().await.expect("it was held");
    }
}

fn rlock_options(retry: Option<Duration>) -> rlock::AcquireOptions {
    let options = rlock::AcquireOptions::builder().ttl(LEASE);
    let options = match retry {
        Some(retry) => options.retry_interval(retry),
        None => options,
    };
    options.build().expect("options")
}

struct Rlock {
    lock: rlock::async_lock::RLock,
    options: rlock::AcquireOptions,
    writes: bool,
}

impl Rlock {
    async fn open(url: &str, retry: Option<Duration>, writes: bool) -> Self {
        let lock = rlock::async_lock::RLock::new(url).await.expect("a connection");
        Self { lock, options: rlock_options(retry), writes }
    }
}

impl Awaited for Rlock {
    async fn turn(&mut self, inside: impl FnOnce() + Send) {
        let options = self.options.clone();
        if self.writes {
            let mut guard =
                self.lock.acquire_write_with_options(KEY, options).await.expect("the lock");
            inside();
            guard.release().await.expect("it was held");
        } else {
            let mut guard =
                self.lock.acquire_mutex_with_options(KEY, options).await.expect("the lock");
            inside();
            guard.release().await.expect("it was held");
        }
    }
}

struct RlockSync {
    lock: rlock::sync_lock::RLock,
    options: rlock::AcquireOptions,
    writes: bool,
}

impl RlockSync {
    fn open(url: &str, retry: Option<Duration>, writes: bool) -> Self {
        let lock = rlock::sync_lock::RLock::new(url).expect("a connection");
        Self { lock, options: rlock_options(retry), writes }
    }
}

impl Blocking for RlockSync {
    fn turn(&mut self, inside: impl FnOnce()) {
        let options = self.options.clone();
        if self.writes {
            let mut guard = self.lock.acquire_write_with_options(KEY, options).expect("the lock");
            inside();
            guard.release().expect("it was held");
        } else {
            let mut guard = self.lock.acquire_mutex_with_options(KEY, options).expect("the lock");
            inside();
            guard.release().expect("it was held");
        }
    }
}

struct RdsWrite {
    connection: redis_0_32::aio::ConnectionManager,
    retry: Option<Duration>,
}

impl RdsWrite {
    async fn open(url: &str, retry: Option<Duration>) -> Self {
        let client = redis_0_32::Client::open(url).expect("a URL");
        let connection =
            redis_0_32::aio::ConnectionManager::new(client).await.expect("a connection");
        Self { connection, retry }
    }
}

impl Awaited for RdsWrite {
    async fn turn(&mut self, inside: impl FnOnce() + Send) {
        // Waits as long as it takes, as the others do.
        let locker =
            rds_lock::Locker::new(self.connection.clone()).to(LEASE.as_millis() as u64).rty_to(-1);
        let locker = match self.retry {
            Some(retry) => locker.rty_int(retry.as_millis() as u64),
            None => locker,
        };
        let unlock = locker.lock(KEY.to_owned()).await.expect("the lock");
        inside();
        unlock.await.expect("it was held");
    }
}
