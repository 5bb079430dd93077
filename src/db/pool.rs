//! The pool of sessions that run statements. All are on one server: when that turns out to be
//! unfit, the pool is replaced, and the sessions of the former one are closed as they are given
//! back.

use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use diesel::QueryResult;
use diesel::connection::SimpleConnection;
use diesel::r2d2::R2D2Connection;

use super::dialect::{
    AnyConnection, DatabaseUrl, FUNCTION, FunctionState, OpenMode, Schema, ServerState,
};
use super::error::DbError;
use super::limits::{IDLE_FOR, PoolLimits};
use super::server::{OwnBackend, Signals};
use super::session_budget::{Idle, LOOK, Lending, Permit, SessionBudget, Side};
use super::sqlite_file::SqliteFile;
use super::watch;

/// The connections that run statements.
pub(super) struct Sessions {
    pub opener: Arc<Opener>,
    /// Replaced as a whole when its server turns out to be the wrong one.
    pool: RwLock<Pool>,
    /// How often a server had not answered when that was last looked at.
    silences: AtomicU64,
    schema: SchemaLook,
}

/// What is known of the schema of a database that is in use: a backup that an older program made
/// may be put back under it.
struct SchemaLook {
    opened: Instant,
    /// When it was last looked at, in milliseconds after `opened`.
    looked_ms: AtomicU64,
    /// Whether it was found not to be this program's: then it is looked at for each request.
    is_wrong: AtomicBool,
}

/// How often the schema of an embedded database is looked at. A server's is looked at by readiness,
/// and where a statement misses a table or column.
const SCHEMA_LOOK_EVERY: Duration = Duration::from_secs(1);

type Pool = r2d2::Pool<Manager>;

impl Sessions {
    /// None is open yet.
    pub fn new(
        url: DatabaseUrl,
        mode: OpenMode,
        file: Option<Arc<SqliteFile>>,
        limits: PoolLimits,
    ) -> Arc<Self> {
        let budget = SessionBudget::new(limits.sessions as usize, limits.connections as usize);
        let generation = AtomicU64::new(0);
        let opener = Arc::new(Opener { url, mode, file, limits, budget, generation });
        let pool = RwLock::new(opener.pool());
        let silences = AtomicU64::new(watch::silences());
        let schema = SchemaLook {
            opened: Instant::now(),
            looked_ms: AtomicU64::new(0),
            is_wrong: AtomicBool::new(false),
        };
        let sessions = Arc::new(Self { opener, pool, silences, schema });
        let idle: Arc<dyn Idle> = Arc::<Self>::clone(&sessions);
        sessions.opener.budget.join(Side::Statements, Arc::downgrade(&idle));
        sessions
    }

    fn pool(&self) -> Pool {
        self.pool.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether the schema is to be looked at before the next statement.
    pub fn is_look_due(&self) -> bool {
        let SchemaLook { opened, looked_ms, is_wrong } = &self.schema;
        let age_ms = opened.elapsed().as_millis() as u64;
        is_wrong.load(Ordering::SeqCst)
            || self.opener.file.is_some()
                && age_ms.saturating_sub(looked_ms.load(Ordering::Relaxed))
                    >= SCHEMA_LOOK_EVERY.as_millis() as u64
    }

    /// Looks whether the tables are those of this program, or of a newer one that has migrated them
    /// since. What cannot be learnt now, the next statement tells.
    pub fn look_at_schema(&self, session: &mut Session) -> Result<(), DbError> {
        let SchemaLook { opened, looked_ms, is_wrong } = &self.schema;
        looked_ms.store(opened.elapsed().as_millis() as u64, Ordering::Relaxed);
        let database = || self.opener.url.to_string();
        let wrong = match session.connection.schema() {
            // A newer program's tables may do for this one.
            Err(error @ DbError::NewerSchema { .. }) if !session.connection.has_columns() => {
                Some(error)
            }
            Ok(Schema::Current) | Err(DbError::NewerSchema { .. }) => None,
            Ok(Schema::Older) => Some(DbError::OlderSchema { database: database() }),
            Ok(Schema::Missing) => Some(DbError::NoTables { database: database() }),
            Err(error @ DbError::Foreign { .. }) => Some(error),
            Err(_) => return Ok(()),
        };
        is_wrong.store(wrong.is_some(), Ordering::SeqCst);
        wrong.map_or(Ok(()), Err)
    }

    /// An idle connection, or a new one.
    pub fn check_out(&self) -> Result<Lent, DbError> {
        if let Some(what) = watch::refusal() {
            return Err(DbError::Unavailable { what });
        }
        // Idle ones are most likely on the same server: a new one may find another.
        let silences = watch::silences();
        if self.silences.swap(silences, Ordering::SeqCst) != silences {
            self.leave_server(self.opener.generation.load(Ordering::SeqCst));
        }
        if let Some(session) = self.pool().try_get() {
            return Ok(Lent::new(session));
        }
        let Opener { budget, limits, .. } = &*self.opener;
        let _waiting = budget.waiting(Side::Statements);
        let deadline = Instant::now() + watch::patience(limits.checkout_timeout);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(session) = self.pool().get_timeout(left.min(LOOK)) {
                return Ok(Lent::new(session));
            }
            let failed = left.is_zero() || budget.backends().are_shared();
            match budget.why_none(Side::Statements) {
                _ if !failed => budget.make_room(Side::Statements),
                _ if budget.backends().are_shared() => return Err(DbError::TransactionPooling),
                what => return Err(DbError::Unavailable { what }),
            }
        }
    }

    /// Closes all connections of that generation, if it is the current one: idle ones now, those in
    /// use when they are given back. Whoever comes next opens a new one, on a host that can write.
    pub fn leave_server(&self, generation: u64) {
        let current = &self.opener.generation;
        let mut pool = self.pool.write().unwrap_or_else(PoisonError::into_inner);
        if generation != current.load(Ordering::SeqCst) {
            return;
        }
        current.fetch_add(1, Ordering::SeqCst);
        let former = std::mem::replace(&mut *pool, self.opener.pool());
        drop(pool);
        log::warn!("the database server is not fit for use: every session on it is closed");
        // What comes out does not go back: see `has_broken`.
        while former.try_get().is_some() {}
    }
}

/// A session in use. If the task that uses it is given up, the session counts no more: the thread
/// and it stay stuck, and others take its place.
pub(super) struct Lent {
    session: r2d2::PooledConnection<Manager>,
    _lending: watch::Reclaimable<Lending>,
}

impl Lent {
    fn new(session: r2d2::PooledConnection<Manager>) -> Self {
        let lending = session.permit.lending();
        Self { session, _lending: watch::Reclaimable::new(lending) }
    }
}

impl Deref for Lent {
    type Target = Session;

    fn deref(&self) -> &Session {
        &self.session
    }
}

impl DerefMut for Lent {
    fn deref_mut(&mut self) -> &mut Session {
        &mut self.session
    }
}

impl Idle for Sessions {
    fn close_one(&self) -> bool {
        self.pool().try_get().map(|mut session| session.is_lost = true).is_some()
    }
}

/// What it takes to open sessions.
pub(super) struct Opener {
    pub url: DatabaseUrl,
    mode: OpenMode,
    file: Option<Arc<SqliteFile>>,
    pub limits: PoolLimits,
    pub budget: SessionBudget,
    /// How many pools there were before the current one.
    generation: AtomicU64,
}

impl Opener {
    /// A new and empty pool, of the current generation.
    fn pool(self: &Arc<Self>) -> Pool {
        let generation = self.generation.load(Ordering::SeqCst);
        r2d2::Pool::builder()
            .max_size(self.limits.connections)
            .min_idle(Some(0))
            // How long is waited is said where it is; this sets the pauses between attempts.
            .connection_timeout(CONNECT_PAUSE_MAX * 2)
            .idle_timeout(Some(IDLE_FOR))
            .test_on_check_out(false)
            .error_handler(Box::new(r2d2::NopErrorHandler))
            .build_unchecked(Manager { opener: Arc::clone(self), generation })
    }
}

/// The longest pause between two attempts at a connection.
const CONNECT_PAUSE_MAX: Duration = Duration::from_millis(500);

/// Makes connections for one pool.
struct Manager {
    opener: Arc<Opener>,
    generation: u64,
}

/// A pooled connection.
pub(super) struct Session {
    /// Dropped before the connection.
    pub backend: Option<OwnBackend>,
    pub connection: AnyConnection,
    /// Dropped after the connection.
    permit: Permit,
    /// That of its pool.
    pub generation: u64,
    pub signals: Signals,
    /// From the beginning of a transaction to its acknowledged end. A connection that comes back to
    /// the pool like that, after a lost COMMIT or a panic, is thrown away, and the database rolls
    /// back.
    pub in_transaction: bool,
    /// One that was open before it was asked for may have been lost since, used or not.
    pub opened: Instant,
    /// Whether it was found closed, or is to be.
    pub is_lost: bool,
}

impl Session {
    pub fn is_embedded(&self) -> bool {
        matches!(self.connection, AnyConnection::Sqlite(_))
    }

    /// Whether commits can be made. What cannot be learnt now, the next statement tells.
    pub fn look_at_function(&mut self) -> Result<(), DbError> {
        match self.connection.function_state() {
            Ok(FunctionState::Missing) => Err(DbError::FunctionMissing { function: FUNCTION }),
            Ok(FunctionState::Denied { role }) => {
                Err(DbError::FunctionDenied { function: FUNCTION, role })
            }
            Ok(FunctionState::Usable) | Err(_) => Ok(()),
        }
    }

    pub fn roll_back(&mut self) {
        self.in_transaction = self.connection.batch_execute("ROLLBACK").is_err();
    }

    /// What `body` learns, if the server can write and it is this session that answered.
    pub fn learn<T>(
        &mut self,
        body: impl Fn(&mut AnyConnection) -> QueryResult<(Option<ServerState>, T)>,
    ) -> QueryResult<T> {
        let (told, answer) = body(&mut self.connection)?;
        let told = told.map_or_else(|| self.connection.tell(), Ok)?;
        told.check_writable()?;
        self.backend.as_ref().map_or(Ok(()), |backend| backend.check(&told))?;
        Ok(answer)
    }
}

impl Manager {
    /// Whether its pool was replaced.
    fn is_former(&self) -> bool {
        self.generation != self.opener.generation.load(Ordering::SeqCst)
    }

    fn open(&self, permit: Permit) -> Result<Session, DbError> {
        let Opener { url, mode, file, limits, budget, .. } = &*self.opener;
        // It may be lost from here on.
        let opened = Instant::now();
        let mut connection = match file {
            Some(file) => file.check_around(|| url.connect(*mode))?,
            None => url.connect(*mode)?,
        };
        connection.limit(limits.stall, limits.answer)?;
        let backend = connection.backend(url, budget)?;
        let signals = Signals::default();
        connection.listen(limits.answer, &signals);
        let mut session = Session {
            backend,
            connection,
            permit,
            generation: self.generation,
            signals,
            in_transaction: false,
            opened,
            is_lost: false,
        };
        session.permit.opened();
        Ok(session)
    }
}

impl r2d2::ManageConnection for Manager {
    type Connection = Session;
    type Error = DbError;

    fn connect(&self) -> Result<Session, DbError> {
        let budget = &self.opener.budget;
        // A former pool lives, and asks, for as long as one of its sessions does.
        let left = || DbError::Unavailable { what: "its server was left".to_owned() };
        if self.is_former() {
            return Err(left());
        }
        let Some(permit) = budget.take(Side::Statements) else {
            // Asked for again in a moment.
            return Err(DbError::Unavailable { what: "no session may be opened now".to_owned() });
        };
        // If the server falls silent here, `check_out` has another pool opened.
        let opened = watch::watched(
            |_| {},
            || {
                let _limit = watch::call(watch::OPENING);
                self.open(permit)
            },
        );
        if let Err(error) = &opened {
            budget.failed(Side::Statements, error);
        }
        opened.and_then(|session| if self.is_former() { Err(left()) } else { Ok(session) })
    }

    fn is_valid(&self, session: &mut Session) -> Result<(), DbError> {
        Ok(session.connection.ping()?)
    }

    fn has_broken(&self, session: &mut Session) -> bool {
        self.is_former()
            || session.in_transaction
            || session.is_lost
            || session.signals.cannot_write()
            || session.signals.is_shared()
            || self.opener.budget.is_to_close(Side::Statements)
    }
}
