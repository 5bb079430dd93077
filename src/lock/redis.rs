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

mod ear;
mod housekeeper;
mod inspect;
mod link;
mod metrics;
mod request;
mod script;
mod url;

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use ::redis::RedisError;
use prometheus::core::Collector;

pub use self::url::{InvalidRedisUrl, RedisUrl};

use self::ear::{Ear, Listened, Subscription};
use self::link::{Links, Server};
use self::metrics::Metrics;
use self::request::{Holding, Path, Request, Requests, Stage, State};
use self::script::{Call, HandOver, Standing, WriterGrant};
use super::gate::{Deadline, lock};
use super::{
    DistributedLock, FencingToken, Guard, Held, Inspection, LockError, LockIdentity, LockKey, Mode,
};
use crate::db::on_one_line;
use crate::failpoint;

/// How long an unreachable server is tried again before a caller is told.
const TRY_AGAIN_FOR: Duration = Duration::from_secs(1);

/// Between two tries.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(20);

/// How long things last. All processes on a lock should have the same.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    /// How long a grant lasts that is not renewed. Not below 100 ms.
    pub lease: Duration,
    /// How long a grant may last, however often it is renewed.
    pub max_hold: Duration,
}

impl Default for Terms {
    fn default() -> Self {
        Self { lease: super::LEASE, max_hold: Duration::from_secs(120) }
    }
}

impl Terms {
    /// How long a grant that was handed over may stay unclaimed.
    #[must_use]
    pub fn claim(&self) -> Duration {
        self.lease / 5
    }

    /// The lease of a place in line.
    #[must_use]
    pub fn patience(&self) -> Duration {
        self.lease * 3 / 5
    }

    /// How often the housekeeper looks around.
    fn tick(&self) -> Duration {
        self.lease / 20
    }

    /// What a holder takes off its lease, for clocks that do not run alike.
    fn margin(&self) -> Duration {
        self.lease / 20
    }

    /// How long a request that has ended is not granted any more, where it may still be on its way.
    fn remembered(&self) -> Duration {
        self.lease * 12
    }
}

/// The lock on a Redis server. See the module.
pub struct RedisLock {
    node: Arc<Node>,
    identity: String,
}

/// What the threads of one process share.
struct Node {
    /// Names this process in requests: host, process id and a random number.
    process: String,
    server: Server,
    links: Links,
    requests: Requests,
    ear: Ear,
    metrics: Metrics,
    /// The lock was dropped: its threads end when the last request is over.
    closing: AtomicBool,
    /// Whether the housekeeper shall look around at once.
    hurry: Mutex<bool>,
    hurried: Condvar,
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
        let node = Arc::new(Node {
            process: process_name()?,
            server,
            links: Links::default(),
            requests: Requests::default(),
            ear: Ear::default(),
            metrics: Metrics::new(),
            closing: AtomicBool::new(false),
            hurry: Mutex::new(false),
            hurried: Condvar::new(),
        });
        node.ear.open(Subscription::open(&node.server, &node.process).map_err(failed)?);
        housekeeper::start(&node)?;
        let lock = Self { node, identity: url.to_string() };
        lock.ping()?;
        Ok(lock)
    }
}

impl Drop for RedisLock {
    fn drop(&mut self) {
        self.node.closing.store(true, Ordering::SeqCst);
        self.node.hurry();
    }
}

impl DistributedLock for RedisLock {
    fn identity(&self) -> LockIdentity {
        LockIdentity { kind: "redis", identity: self.identity.clone() }
    }

    fn acquire(&self, key: &LockKey, mode: Mode, wait: Duration) -> Result<Guard, LockError> {
        key.check()?;
        let deadline = Deadline::after(wait);
        let request = self.node.requests.begin(&self.node.process, key, mode);
        let holding = self.node.obtain(&request, &deadline, !wait.is_zero())?;
        self.node.metrics.count_grant(mode, holding.path);
        let grant = Box::new(Grant { node: Arc::clone(&self.node), request });
        match holding.grant {
            None => Ok(Guard::shared(grant)),
            Some(writer) => {
                let guard = Guard::exclusive(grant, writer.incarnation, writer.token);
                Ok(if writer.unsealed { guard.after_expiry() } else { guard })
            }
        }
    }

    /// Takes and gives back a lock that is nobody's, as a reader: so a server that answers and may
    /// not be written to is found out.
    fn ping(&self) -> Result<(), LockError> {
        let probe = LockKey::new("0", 0)?;
        let request = self.node.requests.begin(&self.node.process, &probe, Mode::Shared);
        match self.node.obtain(&request, &Deadline::after(Duration::ZERO), false) {
            Ok(_) => self.node.give_up(&request),
            Err(LockError::Timeout { .. }) => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn collectors(&self) -> Vec<Box<dyn Collector>> {
        self.node.metrics.collectors()
    }

    fn inspect(&self, key: &LockKey) -> Result<Inspection, LockError> {
        key.check()?;
        inspect::inspect(&self.node, key)
    }
}

impl Node {
    /// Gets the lock for the request; without it, the request is over or will be.
    fn obtain(
        &self,
        request: &Arc<Request>,
        deadline: &Deadline,
        waits: bool,
    ) -> Result<Holding, LockError> {
        let timeout = || LockError::Timeout { waited: deadline.waited() };
        loop {
            match self.ask(request, waits) {
                Ok(Standing::Held(_) | Standing::Queued(_)) => {}
                // What was sent before may still come to be granted.
                Ok(Standing::Busy) if request.state().may_stray => {
                    self.give_up(request);
                    return Err(timeout());
                }
                Ok(Standing::Busy) => {
                    self.requests.end(request);
                    return Err(timeout());
                }
                Ok(Standing::Ended | Standing::None) => {
                    self.give_up(request);
                    let reason = io::Error::other("the server says that the request has ended");
                    return Err(LockError::Unavailable {
                        what: "cannot take the lock".to_owned(),
                        source: reason,
                    });
                }
                Err(error) => {
                    self.give_up(request);
                    return Err(unavailable("cannot take the lock", error));
                }
            }
            match self.wait(request, deadline) {
                Some(Waited::Granted(holding)) => return Ok(holding),
                Some(Waited::Forgotten) => {
                    request.advance(|_| Some(Stage::Asking));
                }
                None => {
                    self.give_up(request);
                    return Err(timeout());
                }
            }
        }
    }

    /// Waits for what becomes of a request that was asked for, listening for all that wait if
    /// nobody does; `None` when the time is up.
    fn wait(&self, request: &Arc<Request>, deadline: &Deadline) -> Option<Waited> {
        let become_of = |state: &State| match &state.stage {
            Stage::Held(holding) => Some(Waited::Granted(holding.clone())),
            // By the server; or it was handed over, and lost before anyone here woke up.
            Stage::Asking | Stage::Lost(_) => Some(Waited::Forgotten),
            Stage::Queued { .. } | Stage::Ending { .. } => None,
        };
        if let Some(waited) = become_of(&request.state()) {
            return Some(waited);
        }
        self.ear.join(request);
        let waited = loop {
            let remaining = deadline.remaining();
            if let Some(waited) = become_of(&request.state()) {
                break Some(waited);
            }
            if remaining.is_zero() {
                break None;
            }
            let listened = self.ear.listen(remaining, |hand_over| self.hear(hand_over));
            match &listened {
                Err(error) => {
                    log::warn!("the lock hears nothing from Redis: {}", reason(error));
                    self.hurry();
                }
                // Heard, if anything can be: whoever listens next finds it.
                Ok(Listened::Silence) => self.send_sign_of_life(),
                Ok(Listened::Heard | Listened::Not) => {}
            }
            if !matches!(listened, Ok(Listened::Heard | Listened::Silence)) {
                // Until something becomes of it, or it is called to listen.
                let is_over = |state: &mut State| {
                    become_of(state).is_some() || std::mem::take(&mut state.called)
                };
                request.wait_for(deadline, |state| is_over(state).then_some(()));
            }
        };
        self.ear.leave(request);
        waited
    }

    /// Publishes to this very process.
    fn send_sign_of_life(&self) {
        let sent = self
            .links
            .with(&self.server, |link| link.publish(&self.requests, &ear::channel(&self.process)));
        if let Err(error) = sent {
            log::debug!("no sign of life could be sent: {}", reason(&error));
        }
    }

    fn hear(&self, hand_over: &HandOver) {
        let requests = hand_over.requests.iter().filter_map(|number| self.requests.get(*number));
        let given = requests.filter(|request| hand_over.give_to(request)).count();
        if given > 0 {
            let mode = if hand_over.grant.is_some() { Mode::Exclusive } else { Mode::Shared };
            self.metrics.observe_hand_off(mode, hand_over.at_us);
        }
    }

    /// Asks for the lock, again if the answer is lost, and notes what is said.
    fn ask(&self, request: &Arc<Request>, waits: bool) -> Result<Standing, RedisError> {
        let began = Instant::now();
        loop {
            let mut sent = Instant::now();
            let asked = self.links.with(&self.server, |link| {
                let acquire = Call::Acquire { request: &request.id, mode: request.mode, waits };
                sent = Instant::now();
                let answer = link.call(&self.server, &self.requests, &request.keys, acquire)?;
                Standing::read(&answer)
            });
            match asked {
                Ok(standing) => {
                    self.note(request, &standing, sent);
                    return Ok(standing);
                }
                Err(error) => {
                    // What was sent may still be on its way.
                    request.state().may_stray = true;
                    if began.elapsed() >= TRY_AGAIN_FOR {
                        return Err(error);
                    }
                    log::debug!("lock {}: asked again, as {}", request.key, reason(&error));
                    thread::sleep(TRY_AGAIN_AFTER);
                }
            }
        }
    }

    /// Notes what the server has answered about a request. A message may have been faster.
    fn note(&self, request: &Request, standing: &Standing, sent: Instant) {
        let terms = &self.server.terms;
        let valid_until = Some(sent + terms.lease - terms.margin());
        let held = |path, grant: &Option<WriterGrant>| {
            Some(Stage::Held(Holding {
                path,
                grant: grant.clone(),
                since: sent,
                renewed: sent,
                valid_until,
            }))
        };
        let advanced = request.advance(|state| match (standing, &state.stage) {
            (Standing::Held(grant), Stage::Asking) => held(Path::Free, grant),
            (Standing::Held(grant), Stage::Queued { .. }) => held(Path::Asked, grant),
            (Standing::Held(_), Stage::Held(holding)) => {
                Some(Stage::Held(Holding { renewed: sent, valid_until, ..holding.clone() }))
            }
            (Standing::Queued(free_in), Stage::Asking | Stage::Queued { .. }) => {
                // Not at once again, whatever the server says.
                let free_at = Instant::now() + (*free_in).max(terms.tick() / 4);
                Some(Stage::Queued { renewed: sent, free_at })
            }
            (Standing::None, Stage::Queued { .. }) => Some(Stage::Asking),
            _ => None,
        });
        if !advanced && *standing == Standing::None {
            self.lose(request, "its lease ran out");
        }
    }

    /// Notes that the request does not hold the lock any more, if it did. For good, whatever the
    /// server still believes.
    fn lose(&self, request: &Request, what: &'static str) {
        if request
            .advance(|state| matches!(state.stage, Stage::Held(_)).then_some(Stage::Lost(what)))
        {
            self.metrics.leases_lost.inc();
            log::warn!("lock {}: lost: {what}", request.key);
        }
    }

    /// Tells the server that the request is over, and waits for the answer: it is then in nobody's
    /// way. If that fails, the housekeeper goes on trying.
    fn give_up(&self, request: &Arc<Request>) {
        request.advance(|_| Some(Stage::Ending { since: Instant::now() }));
        let remember = request.state().may_stray;
        let release = Call::Release { request: &request.id, sealed: false, remember };
        let told = self.links.with(&self.server, |link| {
            link.call(&self.server, &self.requests, &request.keys, release)
        });
        match told {
            Ok(_) => self.requests.end(request),
            Err(error) => {
                log::debug!("lock {}: will be told later, as {}", request.key, reason(&error))
            }
        }
    }

    /// Gives the lock back without waiting for the answer.
    fn release(&self, request: &Arc<Request>) {
        request.advance(|_| Some(Stage::Ending { since: Instant::now() }));
        let (sealed, remember) = {
            let state = request.state();
            (state.sealed, state.may_stray)
        };
        let release = Call::Release { request: &request.id, sealed, remember };
        let sent =
            self.links.with(&self.server, |link| link.send_release(&self.server, request, release));
        if let Err(error) = sent {
            log::debug!("lock {}: will be given back later, as {}", request.key, reason(&error));
            self.hurry();
        }
    }

    /// Has the housekeeper look around at once.
    fn hurry(&self) {
        *lock(&self.hurry) = true;
        self.hurried.notify_all();
    }

    /// Waits for the housekeeper's next round.
    fn idle(&self, time: Duration) {
        let hurry = lock(&self.hurry);
        let waited = self.hurried.wait_timeout_while(hurry, time, |hurry| !*hurry);
        let (mut hurry, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *hurry = false;
    }

    /// Whether the threads may end.
    fn is_closed(&self) -> bool {
        self.closing.load(Ordering::SeqCst) && self.requests.are_over()
    }
}

/// What became of a request that waited.
enum Waited {
    Granted(Holding),
    /// The server does not know of it any more: it must be asked for again.
    Forgotten,
}

/// One grant.
struct Grant {
    node: Arc<Node>,
    request: Arc<Request>,
}

impl Held for Grant {
    fn store(&mut self, incarnation: &str, first: FencingToken) -> Result<(), LockError> {
        let node = &self.node;
        let seed = Call::Seed { request: &self.request.id, incarnation, epoch: first.epoch() };
        let seeded = node.links.with(&node.server, |link| {
            let answer = link.call(&node.server, &node.requests, &self.request.keys, seed)?;
            script::text_of(&answer).map(|text| text == "held")
        });
        match seeded {
            Ok(true) => Ok(()),
            Ok(false) => {
                Err(LockError::Lost { what: "its lease ran out before the lock was seeded" })
            }
            Err(error) => Err(unavailable("cannot seed the lock", error)),
        }
    }

    fn check(&mut self) -> Result<(), LockError> {
        if failpoint::is_off("lock.redis.validity") {
            return Ok(());
        }
        let is_claimed =
            |state: &State| !matches!(&state.stage, Stage::Held(Holding { valid_until: None, .. }));
        if !is_claimed(&self.request.state()) {
            let node = &self.node;
            let requests = [Arc::clone(&self.request)];
            let claimed = node.links.with(&node.server, |link| node.renew(link, &requests));
            claimed.map_err(|error| unavailable("cannot claim the lock", error))?;
        }
        let what = match &self.request.state().stage {
            Stage::Held(Holding { valid_until: Some(valid_until), .. })
                if Instant::now() < *valid_until =>
            {
                return Ok(());
            }
            Stage::Lost(what) => what,
            _ => "its lease may have run out",
        };
        self.node.lose(&self.request, what);
        Err(LockError::Lost { what })
    }

    fn sealed(&mut self) {
        self.request.state().sealed = true;
    }
}

impl Drop for Grant {
    fn drop(&mut self) {
        self.node.release(&self.request);
    }
}

/// `HOST:PID:RANDOM`, without what would be read as something else.
fn process_name() -> Result<String, LockError> {
    let mut random = [0; 8];
    let failed = |error| LockError::Unavailable {
        what: "cannot name this process".to_owned(),
        source: error,
    };
    getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error)))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_else(|_| "unknown".to_owned());
    let host: String = host
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "-._".contains(*letter))
        .collect();
    Ok(format!("{host}:{}:{:016x}", std::process::id(), u64::from_be_bytes(random)))
}

fn unavailable(what: &str, error: RedisError) -> LockError {
    LockError::Unavailable { what: what.to_owned(), source: io::Error::other(reason(&error)) }
}

/// What went wrong, in the words of a person rather than of a socket.
fn reason(error: &RedisError) -> String {
    if error.is_timeout() { "Redis did not answer in time".to_owned() } else { on_one_line(error) }
}
