//! One process's share of the service: opens the database, opens the lock that guards it, and
//! starts to take turns.
//!
//! The one place that knows which kinds of each there are.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crate::address;
use crate::db::{Database, DatabaseUrl, DbError, OpenMode, PoolLimits};
use crate::design::{Design, Designs, NoLockToShare, OneStorageTwice, Reads, TurnLimits};
use crate::graph::Name;
use crate::lock::file::FileLock;
use crate::lock::postgres::PostgresLock;
use crate::lock::redis::{InvalidRedisUrl, RedisLock, RedisUrl, Terms};
use crate::lock::{
    self, DistributedLock, FencingToken, Inspection, LockError, LockIdentity, LockKey, Participant,
};
use crate::service::{Limits, Service};
use crate::store::{CommitError, GraphState, Head, Leader, LockRecord, Node, Store, StoreError};
use crate::terminal::OneLine;

mod binding;

pub use binding::{LockBindingError, bind_lock, check_lock};

/// What a node is made of.
#[derive(Debug, Clone)]
pub struct NodeOptions {
    /// Where the state is.
    pub database: DatabaseUrl,
    /// Which lock guards it; `None`: the one that the database names, or its default.
    pub lock_url: Option<LockUrl>,
    /// Lock lease: after how long a silent holder loses the lock, where the lock has leases.
    pub lease: Duration,
    /// How the service is built for new graphs, and for graphs that are kept as they are.
    pub design: &'static Design,
    /// The same for graphs that are kept in other ways. Those of no design are refused.
    pub other_designs: Vec<&'static Design>,
    /// How reads are kept from seeing less than was answered; `None`: as the design does it.
    pub reads: Option<Reads>,
    /// Bounds of the service.
    pub limits: Limits,
    /// Limits of turns, for each way of taking them.
    pub turn_limits: TurnLimits,
    /// Bounds of the connections.
    pub pool: PoolLimits,
}

impl NodeOptions {
    /// The defaults on this database.
    #[must_use]
    pub fn new(database: DatabaseUrl) -> Self {
        Self {
            database,
            lock_url: None,
            lease: lock::LEASE,
            design: <&Design>::default(),
            other_designs: Vec::new(),
            reads: None,
            limits: Limits::default(),
            turn_limits: TurnLimits::default(),
            pool: PoolLimits::default(),
        }
    }

    /// The designs together.
    ///
    /// # Errors
    /// [`OneStorageTwice`] if two are of one storage.
    pub fn designs(&self) -> Result<Designs, OneStorageTwice> {
        Designs::new(self.design, self.other_designs.iter().copied())
    }
}

/// Which lock to use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockUrl {
    /// `file:DIR`, or `file:` for the directory beside an embedded database.
    File(Option<PathBuf>),
    /// `postgres`: advisory locks of the database itself.
    Postgres,
    /// `redis://…`: a Redis server.
    Redis(Box<RedisUrl>),
}

/// Why a node could not start. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// Passed on unchanged.
    #[error(transparent)]
    Database(#[from] DbError),
    /// Passed on unchanged.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Passed on unchanged.
    #[error(transparent)]
    Lock(#[from] LockError),
    /// Passed on unchanged.
    #[error(transparent)]
    Binding(#[from] LockBindingError),
    /// The lock's URL names no lock.
    #[error(
        "`{0}` is no lock URL; give file:DIR, file: for the directory beside an SQLite database, \
         postgres for a Postgres database's own, or \
         redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE], rediss://… for TLS, redis+unix:///PATH"
    )]
    LockUrl(String),
    /// The lock's URL is one of Redis, and not well-formed. There may be a password in it.
    #[error(
        "the lock's Redis URL is not well-formed: {0}; give \
         redis://[USER:PASSWORD@]HOST[:PORT][/DATABASE]"
    )]
    RedisUrl(#[from] InvalidRedisUrl),
    /// The design takes no lock that reads could share. Wrong usage.
    #[error(transparent)]
    NoLockToShare(#[from] NoLockToShare),
    /// Two of the designs are of one storage. Wrong usage.
    #[error(transparent)]
    OneStorageTwice(#[from] OneStorageTwice),
    /// Another process named the lock of the database at the same time, and was faster.
    #[error(
        "another process has meanwhile made {stored} the lock that guards the database: nothing \
         was changed; end that process first"
    )]
    LockSetMeanwhile {
        /// The one that guards it.
        stored: LockRecord,
    },
    /// There is no leader that could hand the graph over.
    #[error(
        "nobody leads graph `{0}`: the next node of a design with a leader that is asked for a \
         write will"
    )]
    NobodyLeads(Name),
    /// No node can lead it next.
    #[error(
        "no {}node is there that could lead the graph: one must `serve` with a design that has a \
         leader; `fencepost lock inspect` names the leader",
        .0.as_ref().map_or("other ".to_owned(), |to| format!("such ({}) ", OneLine(to)))
    )]
    NoSuccessor(Option<String>),
    /// The graph stays with its leader, or another node took over meanwhile.
    #[error(
        "graph `{graph}` was not handed over: {why}; `fencepost lock inspect` says who leads it"
    )]
    NotHandedOver {
        /// The graph.
        graph: Name,
        /// Why not.
        why: String,
    },
    /// What was to be noted could not be written.
    #[error(transparent)]
    Note(#[from] CommitError),
    /// There is no such graph, and so no lock of it.
    #[error("there is no graph `{0}`")]
    GraphNotFound(Name),
    /// The lock cannot guard this database.
    #[error("the lock `{lock}` cannot guard {database}: {reason}")]
    LockCannotGuard {
        /// The lock, as it was asked for.
        lock: &'static str,
        /// The database.
        database: DatabaseUrl,
        /// Why not, and what to do.
        reason: &'static str,
    },
}

impl LockUrl {
    /// Reads `file:DIR`, `file:`, `postgres` or `redis://…`.
    ///
    /// # Errors
    /// [`NodeError::LockUrl`] says which forms there are.
    pub fn parse(text: &str) -> Result<Self, NodeError> {
        let scheme = text.split_inclusive(':').next().unwrap_or_default().to_ascii_lowercase();
        if RedisUrl::SCHEMES.contains(&scheme.as_str()) {
            return Ok(Self::Redis(Box::new(RedisUrl::parse(text)?)));
        }
        let none = || NodeError::LockUrl(address::redacted(text));
        match text.strip_prefix("file:") {
            Some("") => Ok(Self::File(None)),
            Some(directory) if address::check_path(directory).is_err() => Err(none()),
            Some(directory) => Ok(Self::File(Some(directory.into()))),
            None if text == "postgres" => Ok(Self::Postgres),
            None => Err(none()),
        }
    }

    /// The lock of a database that names none yet.
    #[must_use]
    pub fn default_for(database: &DatabaseUrl) -> Self {
        match database {
            DatabaseUrl::Sqlite(_) => Self::File(None),
            DatabaseUrl::Postgres(_) => Self::Postgres,
        }
    }
}

/// What the database is told about a lock directory beside it: wherever the two are moved together,
/// it is the same lock.
const BESIDE_DATABASE: &str = "beside-database";

/// Opens the lock that `url` names, for this database.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn open_lock(
    url: &LockUrl,
    database: &DatabaseUrl,
    lease: Duration,
) -> Result<Arc<dyn DistributedLock>, NodeError> {
    match (url, database) {
        (LockUrl::File(directory), _) => {
            let (directory, identity) = lock_directory(directory.as_deref(), database, true)?;
            Ok(Arc::new(FileLock::open(&directory, identity)?))
        }
        (LockUrl::Postgres, DatabaseUrl::Postgres(url)) => {
            Ok(Arc::new(PostgresLock::open(url, lease)?))
        }
        (LockUrl::Redis(url), _) => {
            Ok(Arc::new(RedisLock::open(url, Terms { lease, ..Terms::default() })?))
        }
        (LockUrl::Postgres, DatabaseUrl::Sqlite(_)) => Err(NodeError::LockCannotGuard {
            lock: "postgres",
            database: database.clone(),
            reason: "it is a lock of a Postgres database's own; give file:DIR or file:",
        }),
    }
}

/// The directory of a `file:` lock, and what the database remembers it by.
fn lock_directory(
    given: Option<&Path>,
    database: &DatabaseUrl,
    create: bool,
) -> Result<(PathBuf, String), NodeError> {
    let Some(directory) = given else {
        let cannot_guard = || NodeError::LockCannotGuard {
            lock: "file:",
            database: database.clone(),
            reason: "there is no directory beside a server's database; give file:DIR, if all \
                     processes run on this machine, or postgres",
        };
        let mut beside = database.file().ok_or_else(cannot_guard)?.into_os_string();
        beside.push(".locks");
        return Ok((beside.into(), BESIDE_DATABASE.to_owned()));
    };
    // It must exist to have its links resolved.
    if create && let Err(error) = std::fs::create_dir_all(directory) {
        log::warn!("cannot make {}: {error}", directory.display());
    }
    let resolved = directory.canonicalize().unwrap_or_else(|_| directory.to_owned());
    let identity = resolved.display().to_string();
    Ok((resolved, identity))
}

/// As [`open_lock`], to look at it: a directory that is not there is not made.
fn open_lock_to_look(
    url: &LockUrl,
    database: &DatabaseUrl,
    lease: Duration,
) -> Result<Arc<dyn DistributedLock>, NodeError> {
    let LockUrl::File(directory) = url else { return open_lock(url, database, lease) };
    let (directory, identity) = lock_directory(directory.as_deref(), database, false)?;
    Ok(Arc::new(FileLock::look_at(&directory, identity)?))
}

fn lock_url_of(record: &LockRecord) -> Result<LockUrl, NodeError> {
    match (record.kind.as_str(), record.identity.as_str()) {
        ("file", BESIDE_DATABASE) => Ok(LockUrl::File(None)),
        ("file", directory) => Ok(LockUrl::File(Some(directory.into()))),
        ("postgres", _) => Ok(LockUrl::Postgres),
        ("redis", server) => LockUrl::parse(server),
        (kind, identity) => Err(NodeError::LockUrl(format!("{kind}:{identity}"))),
    }
}

/// The store alone, for what needs no turn: the design's lock is not opened.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn open_store(options: &NodeOptions) -> Result<Store, NodeError> {
    open_store_for(OpenMode::Create, options)
}

/// As [`open_store`], for no more than `mode` says.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn open_store_for(mode: OpenMode, options: &NodeOptions) -> Result<Store, NodeError> {
    // Who stalls in a transaction must not hold the row for longer than the lock.
    let pool = PoolLimits { stall: options.pool.stall.min(options.lease), ..options.pool };
    let database = Database::open_for(mode, &options.database, pool)?;
    Ok(Store::new(database)?)
}

/// Opens database and lock and starts the service.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn open(options: &NodeOptions) -> Result<Service, NodeError> {
    // Before a database is made.
    let designs = options.designs()?;
    designs.reads(options.reads)?;
    let store = Arc::new(open_store(options)?);
    open_on(store, &designs, options)
}

/// As [`open`], for a command that follows `graph`: one that is there is served by a design of its
/// storage, whether or not one was named.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn open_following(options: &NodeOptions, graph: &Name) -> Result<Service, NodeError> {
    let designs = options.designs()?;
    designs.reads(options.reads)?;
    let store = Arc::new(open_store(options)?);
    let designs = following(designs, &store, graph)?;
    open_on(store, &designs, options)
}

/// The designs, and one for the storage of the graph, if it is there and they have none. A command
/// leads no graph, as a server may: it writes beside that, by a design of the same storage.
fn following(designs: Designs, store: &Store, graph: &Name) -> Result<Designs, StoreError> {
    let head = store.head(graph)?.filter(|head| head.state != GraphState::Deleted);
    let default = head.and_then(|head| Design::following(head.storage));
    Ok(designs.without_leaders().with_default(default))
}

fn open_on(
    store: Arc<Store>,
    designs: &Designs,
    options: &NodeOptions,
) -> Result<Service, NodeError> {
    let NodeOptions { reads, limits, mut turn_limits, .. } = *options;
    turn_limits.single_writer.lease = options.lease;
    designs.start(store, reads, limits, turn_limits, |store| {
        let lock = open_lock_of(store, options)?;
        bind_lock(store, &lock.identity())?;
        Ok(lock)
    })
}

/// As [`open_following`], to judge writes that are not made: makes no database, no lock directory,
/// and no lock the database's own.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn open_to_judge(options: &NodeOptions, graph: &Name) -> Result<Service, NodeError> {
    let NodeOptions { reads, limits, turn_limits, .. } = *options;
    let designs = options.designs()?;
    designs.reads(reads)?;
    let store = Arc::new(open_store_for(OpenMode::Read, options)?);
    let designs = following(designs, &store, graph)?;
    let url = lock_url(&store, options)?;
    let is_there = match &url {
        LockUrl::File(directory) => {
            lock_directory(directory.as_deref(), &options.database, false)?.0.is_dir()
        }
        LockUrl::Postgres | LockUrl::Redis(_) => true,
    };
    if (designs.take_lock() || designs.have_leader()) && !is_there {
        return Ok(designs.start_without_lock(store, limits));
    }
    designs.start(store, reads, limits, turn_limits, |store| {
        let lock = open_lock(&url, &options.database, options.lease)?;
        check_lock(store, &lock.identity())?;
        Ok(lock)
    })
}

/// The lock that was asked for, or else is the database's.
fn open_lock_of(
    store: &Store,
    options: &NodeOptions,
) -> Result<Arc<dyn DistributedLock>, NodeError> {
    match (lock_url(store, options)?, &options.database) {
        // Its sessions and those for statements are of one budget.
        (LockUrl::Postgres, DatabaseUrl::Postgres(url)) => {
            Ok(Arc::new(PostgresLock::beside(store.database(), url, options.lease)?))
        }
        (url, _) => open_lock(&url, &options.database, options.lease),
    }
}

fn lock_url(store: &Store, options: &NodeOptions) -> Result<LockUrl, NodeError> {
    match (&options.lock_url, store.lock_record()?) {
        (Some(url), _) => Ok(url.clone()),
        (None, Some(record)) => lock_url_of(&record),
        (None, None) => Ok(LockUrl::default_for(&options.database)),
    }
}

/// A graph's lock, and the row that it guards, as they are now.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn inspect_lock(options: &NodeOptions, graph: &Name) -> Result<LockReport, NodeError> {
    let store = open_store_for(OpenMode::Read, options)?;
    let lock = open_lock_to_look(&lock_url(&store, options)?, &options.database, options.lease)?;
    check_lock(&store, &lock.identity())?;
    let head = store.head(graph)?.ok_or_else(|| NodeError::GraphNotFound(graph.clone()))?;
    let key = LockKey::new(store.database_id(), head.id)?;
    let inspection = lock.inspect(&key)?;
    let leadership = match head.leader_token {
        0 => None,
        _ => Some(LeaderReport {
            leader: store.leader(head.id)?,
            inspection: lock.inspect(&key.clone().of_leadership())?,
        }),
    };
    Ok(LockReport { head, key, lock: lock.identity(), inspection, leadership })
}

/// How long a hand-over is waited for: a candidate looks about twice a second, and may have to load
/// the graph first.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(30);
/// How often it is looked at meanwhile.
const HAND_OVER_LOOK: Duration = Duration::from_millis(50);

/// Has the graph's leader hand it over to the node `to`, named by its address or by itself, or to
/// any other; waits for it, and says who leads then.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn hand_over(
    options: &NodeOptions,
    graph: &Name,
    to: Option<&str>,
) -> Result<Leader, NodeError> {
    let store = open_store_for(OpenMode::Change, options)?;
    let head = store.head(graph)?.ok_or_else(|| NodeError::GraphNotFound(graph.clone()))?;
    let nobody_leads = || NodeError::NobodyLeads(graph.clone());
    // One that is forgotten hands nothing over, and no candidate looks at what it led.
    let former = store.leader(head.id)?.filter(|leader| leader.silent_ms.is_some());
    let former = former.ok_or_else(nobody_leads)?;
    let is_meant = |node: &Node| match to {
        Some(to) => node.node == to || node.address.as_deref() == Some(to.trim_end_matches('/')),
        None => node.node != former.node,
    };
    let successor = || -> Result<Option<Node>, StoreError> {
        let living = store.nodes()?.into_iter().filter(Node::lives);
        // One that has died lately may have had the same address.
        Ok(living.filter(is_meant).min_by_key(|node| node.silent_ms))
    };
    let named = successor()?.ok_or_else(|| NodeError::NoSuccessor(to.map(str::to_owned)))?.node;
    if named == former.node {
        return Ok(former);
    }
    let named = to.map(|_| named.as_str());
    let failed = |why: &str| NodeError::NotHandedOver { graph: graph.clone(), why: why.to_owned() };
    let is_led_by_another = || failed("another node has taken it over");
    if !store.name_successor(head.id, former.token, named)? {
        return Err(is_led_by_another());
    }
    let until = Instant::now() + HANDED_OVER_WITHIN;
    let why = loop {
        let leader = store.leader(head.id)?;
        if leader.as_ref().is_some_and(|now| now.token == former.token && now.successor.is_none()) {
            return Err(failed("the node that was to lead it declined"));
        }
        if let Some(leader) = leader.filter(|leader| leader.token > former.token) {
            // The successor may have failed, and the former leader, or a third node, have come.
            let is_named = named.map_or(leader.node != former.node, |named| leader.node == named);
            return if is_named { Ok(leader) } else { Err(is_led_by_another()) };
        }
        if successor()?.is_none_or(|node| named.is_some_and(|named| node.node != named)) {
            break "the node that was to lead it was not heard of lately, or has ended".to_owned();
        }
        if Instant::now() >= until {
            let told = store.leader(head.id)?.and_then(|leader| leader.silent_ms).unwrap_or(0);
            break format!(
                "that was waited for for {HANDED_OVER_WITHIN:?}, and its leader was last heard of \
                 {} s ago",
                told / 1_000
            );
        }
        thread::sleep(HAND_OVER_LOOK);
    };
    store.withdraw_successor(head.id, former.token, named)?;
    Err(failed(&why))
}

/// What there is to see of a graph's lock. For people: several lines.
#[derive(Debug)]
pub struct LockReport {
    /// The row that it guards.
    pub head: Head,
    /// How the lock knows it.
    pub key: LockKey,
    /// Which lock.
    pub lock: LockIdentity,
    /// What the lock says.
    pub inspection: Inspection,
    /// Who leads the graph; `None` if nobody ever did.
    pub leadership: Option<LeaderReport>,
}

/// What there is to see of a graph's leadership.
#[derive(Debug)]
pub struct LeaderReport {
    /// Who leads it, as it has said itself.
    pub leader: Option<Leader>,
    /// What the lock says of who leads.
    pub inspection: Inspection,
}

impl fmt::Display for LeaderReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { leader, inspection } = self;
        let Some(leader) = leader else { return writeln!(f, "leader    nobody") };
        let address = leader.address.as_deref().unwrap_or("at no known address");
        write!(f, "leader    {}, node {}", OneLine(address), OneLine(&leader.node))?;
        let lasting = |ms: i64| Duration::from_millis(ms.max(0).unsigned_abs());
        write!(f, "; token {}; for {:.1?}", leader.token, lasting(leader.led_ms))?;
        match leader.silent_ms {
            Some(ms) => write!(f, "; heard of {:.1?} ago", lasting(ms))?,
            None => f.write_str("; not heard of")?,
        }
        writeln!(f, "{}", if leader.follows_load { "; most writes come through it" } else { "" })?;
        match inspection.holders.as_slice() {
            [] => writeln!(f, "          does not hold the lock any more")?,
            holders => holders
                .iter()
                .try_for_each(|holder| writeln!(f, "          held {}", participant(holder)))?,
        }
        let Some(successor) = &leader.successor else { return Ok(()) };
        let node = successor.node.as_deref().unwrap_or("any node");
        let waits = if successor.waits { ", which waits for it" } else { "" };
        writeln!(f, "          to be handed over to {}{waits}", OneLine(node))
    }
}

impl fmt::Display for LockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { head, key, lock, inspection, leadership } = self;
        let token = |token: Option<FencingToken>| {
            token.map_or("none".to_owned(), |token| token.to_string())
        };
        let run =
            |run: &str| if run.is_empty() { "none".to_owned() } else { OneLine(run).to_string() };
        if let Some(leadership) = leadership {
            write!(f, "{leadership}")?;
        }
        writeln!(f, "lock      {}, key {key}", OneLine(lock))?;
        match inspection.holders.as_slice() {
            [] => writeln!(f, "held      by nobody")?,
            holders => holders
                .iter()
                .try_for_each(|holder| writeln!(f, "held      {}", participant(holder)))?,
        }
        inspection
            .waiting
            .iter()
            .try_for_each(|waiter| writeln!(f, "waiting   {}", participant(waiter)))?;
        if let Some(incarnation) = &inspection.incarnation {
            let incarnation = OneLine(incarnation);
            writeln!(f, "memory    {incarnation}; last token {}", token(inspection.token))?;
        }
        let fence = token(FencingToken::from_i64(head.fence));
        writeln!(
            f,
            "database  graph `{}` at version {}, {:?}; fence {fence}, epoch {}",
            head.name, head.version, head.state, head.epoch
        )?;
        writeln!(f, "          seeded for {}", run(&head.lock_incarnation))?;
        inspection.notes.iter().try_for_each(|note| writeln!(f, "note      {}", OneLine(note)))
    }
}

fn participant(participant: &Participant) -> String {
    let ends =
        participant.ends_in.map(|ends| format!("; lease ends in {ends:.1?} if nothing is heard"));
    let (mode, who) = (participant.mode.word(), OneLine(&participant.who));
    format!("{mode} by {who}{}", ends.unwrap_or_default())
}

/// Makes `url` the lock that guards the database, whichever did before. No process may be using the
/// former one.
///
/// # Errors
/// [`NodeError`] says what to do.
pub fn set_lock(options: &NodeOptions, url: &LockUrl) -> Result<LockRecord, NodeError> {
    let store = open_store(options)?;
    let new = LockRecord::from(&open_lock(url, &options.database, options.lease)?.identity());
    let former = store.lock_record()?;
    let stored = store.set_lock_record(former.as_ref(), &new)?;
    if stored == new { Ok(new) } else { Err(NodeError::LockSetMeanwhile { stored }) }
}
