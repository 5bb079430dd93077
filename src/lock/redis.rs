//! `redis://…`: many machines take turns by a script on a Redis server. `docs/LOCK.md` has the
//! protocol, what each failure does, and the argument.
//!
//! **How it takes turns.** All that is known of a graph's lock is in six keys on the server, and
//! one script changes them. Who asks for the lock gets it with the answer, or a place in line. Who
//! gives it back hands it over to the next in line, and the server tells that one's process in a
//! message: nobody asks again and again, and nobody is woken in vain. The order is phase-fair:
//! after a writer all readers that wait, then the writer that has waited longest; a writer that
//! waits holds back the readers that come later.
//!
//! **What it costs.** A round trip before the lock is held, none after it is given back: the
//! release is sent, and its answer read before the next request on that connection. Handed over,
//! two messages: the release to the server, the grant from there. A grant that was handed over must
//! be claimed: one round trip, once its holder [checks](Guard::check) or has held it for a while,
//! and none before it is given back. Waiting costs the server a number of commands for each
//! hand-over that does not depend on how many wait.
//!
//! **Holders that are gone.** A grant has a [lease](Terms::lease), which a thread of each process
//! renews while its holder lives, up to a [hard maximum](Terms::max_hold). Places in line have
//! shorter ones. The server's clock alone decides when they are over. When a writer's lease runs
//! out, the next writers are told so until one has sealed its token in the database
//! ([`Guard::must_seal`]): the former one, should it wake up, is then refused. A holder knows until
//! when its lease surely lasts and stops by itself ([`Guard::check`]).
//!
//! **Messages are hints.** What is true is on the server. Places in line are renewed several times
//! within their lease, and the answer tells of a grant whose message was lost. A connection on
//! which an answer was lost is thrown away, and the request sent again under its own name: the
//! server knows what it has given it, and gives nothing to a request that has ended.
//!
//! **Tokens.** The server counts within an epoch that the database has raised for this very run of
//! it (`run_id` and `master_replid`, compared at each grant). One that was started anew, restored,
//! or made a primary again has another run, or another memory, and wants seeding.
//!
//! **What it does not do.** It cannot make a lease exclude: see `docs/LOCK.md`. It speaks to one
//! server: not to Sentinel, whose address may change, and not to Cluster. Single keys that are put
//! back by hand into a running server are believed.
//!
//! May use a Redis client and threads. Must never know a graph, SQL or HTTP.

mod client;
mod connection;
mod grant;
mod grant_listener;
#[cfg(feature = "failpoints")]
mod guards;
mod housekeeper;
mod inspect;
mod lock_request;
mod metrics;
mod script;
mod terms;
mod url;

use std::sync::Arc;
use std::time::Duration;

use prometheus::core::Collector;

pub use self::terms::Terms;
pub use self::url::{InvalidRedisUrl, RedisUrl};

use self::client::{LockClient, unavailable};
use self::connection::Server;
use self::grant::Grant;
use super::gate::Deadline;
use super::{DistributedLock, Guard, Inspection, LockError, LockIdentity, LockKey, Mode};

/// The lock on a Redis server. See the module.
pub struct RedisLock {
    client: Arc<LockClient>,
    identity: String,
}

impl RedisLock {
    /// Opens the lock on the server at `url`.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when it cannot be reached, or is not Redis 7 or newer, or Valkey.
    pub fn open(url: &RedisUrl, terms: Terms) -> Result<Self, LockError> {
        let failed = |error| unavailable("cannot open the Redis lock", error);
        let server = Server::new(url, terms).map_err(failed)?;
        inspect::check_server(&server)?;
        let client = Arc::new(LockClient::open(server)?);
        housekeeper::start(&client)?;
        let lock = Self { client, identity: url.to_string() };
        lock.ping()?;
        Ok(lock)
    }
}

/// Which server is at `url`, as in `Redis 7.2.4`. For measuring.
///
/// # Errors
/// [`LockError::Unavailable`] when it cannot be reached, or cannot have the lock.
pub fn server_version(url: &RedisUrl) -> Result<String, LockError> {
    let failed = |error| unavailable("cannot open the Redis lock", error);
    inspect::check_server(&Server::new(url, Terms::default()).map_err(failed)?)
}

impl Drop for RedisLock {
    fn drop(&mut self) {
        self.client.close();
    }
}

impl DistributedLock for RedisLock {
    fn identity(&self) -> LockIdentity {
        LockIdentity { kind: "redis", identity: self.identity.clone() }
    }

    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        key.check()?;
        let deadline = Deadline::after(wait);
        let request = self.client.requests.begin(&self.client.process, key, mode);
        let holding = self.client.obtain(&request, &deadline, !wait.is_zero())?;
        self.client.metrics.count_grant(mode, holding.path);
        let grant = Box::new(Grant { client: Arc::clone(&self.client), request });
        match holding.grant {
            None => Ok(Guard::shared(grant)),
            Some(writer) => {
                let guard = Guard::exclusive(grant, writer.incarnation, writer.token);
                Ok(if writer.unsealed { guard.after_expiry() } else { guard })
            }
        }
    }

    /// Takes and releases a lock that no graph uses, as a reader. A server that answers but takes
    /// no writes fails here.
    fn ping(&self) -> Result<(), LockError> {
        let probe = LockKey::new("0", 0)?;
        let request = self.client.requests.begin(&self.client.process, &probe, Mode::Shared);
        match self.client.obtain(&request, &Deadline::after(Duration::ZERO), false) {
            Ok(_) => self.client.give_up(&request),
            Err(LockError::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.client.metrics.collectors()
    }

    fn tells_holders(&self) -> bool {
        true
    }

    fn listen_for_others(&self, wait: Duration) {
        self.client.listen_for_others(wait);
    }

    fn inspect(&self, key: &LockKey) -> Result<Inspection, LockError> {
        key.check()?;
        inspect::inspect(&self.client, key)
    }
}
