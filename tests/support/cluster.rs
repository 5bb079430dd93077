//! A database with its lock on disk, and nodes on it: services in this process, and servers that
//! are processes of their own.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use fencepost::db::schema::{consumers, graphs};
use fencepost::db::{Database, DatabaseUrl, PoolLimits};
use fencepost::design::crud_optimistic::CRUD_OPTIMISTIC;
use fencepost::design::turns::locked::LockedLimits;
use fencepost::design::{Design, TurnLimits};
use fencepost::event::Stream;
use fencepost::graph::Name;
use fencepost::lock::file::FileLock;
use fencepost::lock::{DistributedLock, Guard, LockKey, Mode};
use fencepost::node::{self, LockUrl, NodeError, NodeOptions};
use fencepost::service::{Limits, Service};
use fencepost::store::{Head, StorageKind, Store};
use serde_json::Value;

use super::postgres::Postgres;
use super::stopped::wait_until_stopped;

/// Longer than anything here takes; reached only when something will never come.
pub const LIMIT: Duration = Duration::from_secs(60);

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, condition: impl FnMut() -> bool) {
    super::wait_until(LIMIT, what, condition);
}

pub fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

/// The graph that tests use when they need only one.
pub const GRAPH: &str = "g";

/// A connection that goes round everything, to either database.
#[derive(diesel::MultiConnection)]
pub enum Sql {
    Sqlite(SqliteConnection),
    Postgres(PgConnection),
}

/// Which database a site has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Kind {
    /// Says, in the environment, that tests which are not about one database are to run on
    /// Postgres. See `tests/on_postgres.rs`.
    pub const VARIABLE: &str = "FENCEPOST_TEST_DATABASE";

    pub fn of_this_run() -> Self {
        match std::env::var(Self::VARIABLE).as_deref() {
            Ok("postgres") => Self::Postgres,
            _ => Self::Sqlite,
        }
    }

    /// A new database; in a file in `directory`, if it is one in a file.
    pub fn new_database(self, directory: &Path) -> String {
        match self {
            Self::Sqlite => format!("sqlite:{}", directory.join("fencepost.db").display()),
            Self::Postgres => Postgres::shared().new_database(),
        }
    }
}

/// The defaults, with so long a wait for the lock.
pub fn waiting_for_lock(wait: Duration) -> TurnLimits {
    let locked = LockedLimits { wait, ..LockedLimits::default() };
    TurnLimits { locked, ..TurnLimits::default() }
}

/// A node of that design on `store`, under `lock` if the design takes one.
pub fn start(
    design: &'static Design,
    store: Arc<Store>,
    lock: Arc<dyn DistributedLock>,
    limits: Limits,
) -> Service {
    let lock = |_: &Store| Ok::<_, NodeError>(lock);
    design.start(store, None, limits, TurnLimits::default(), lock).unwrap()
}

/// A node of a design that takes no lock on `store`.
pub fn start_without_lock(
    design: &'static Design,
    store: Arc<Store>,
    limits: Limits,
    turn_limits: TurnLimits,
) -> Service {
    let no_lock = |_: &Store| -> Result<Arc<dyn DistributedLock>, NodeError> {
        panic!("the design takes no lock")
    };
    design.start(store, None, limits, turn_limits, no_lock).unwrap()
}

/// A node of `crud-optimistic` on `store`.
pub fn start_optimistic(store: Arc<Store>, limits: Limits, turn_limits: TurnLimits) -> Service {
    start_without_lock(&CRUD_OPTIMISTIC, store, limits, turn_limits)
}

/// A database of its own and the lock that guards it: files in a directory that is gone when
/// dropped, or on the Postgres server that tests share.
pub struct Site {
    directory: tempfile::TempDir,
    url: String,
    /// The lock, if it is not the database's default.
    pub lock_url: Option<LockUrl>,
}

impl Site {
    /// On the database that this run of the tests is for.
    pub fn new() -> Self {
        Self::on(Kind::of_this_run())
    }

    pub fn on(kind: Kind) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let url = kind.new_database(directory.path());
        Self { directory, url, lock_url: None }
    }

    /// As [`on`](Self::on); on Postgres the schema is there before the first node is.
    pub fn migrated_on(kind: Kind) -> Self {
        match kind {
            Kind::Sqlite => Self::on(kind),
            Kind::Postgres => Self::at(Postgres::new_migrated_database()),
        }
    }

    /// On a database of that URL.
    pub fn at(url: String) -> Self {
        Self { directory: tempfile::tempdir().unwrap(), url, lock_url: None }
    }

    /// With an empty graph [`GRAPH`], and a first turn behind it: lock named, epoch seeded, version
    /// 1.
    pub fn with_graph() -> Self {
        Self::with_graph_on(Kind::of_this_run())
    }

    pub fn with_graph_on(kind: Kind) -> Self {
        Self::on(kind).given_a_graph()
    }

    /// The same on a database of that URL.
    pub fn with_graph_at(url: String) -> Self {
        Self::at(url).given_a_graph()
    }

    /// The same, kept and written as `design` does it.
    pub fn with_graph_of(kind: Kind, design: &'static Design) -> Self {
        Self::on(kind).given_a_graph_of(design)
    }

    fn given_a_graph(self) -> Self {
        self.given_a_graph_of(<&Design>::default())
    }

    fn given_a_graph_of(self, design: &'static Design) -> Self {
        let site = self;
        let node = node::open(&NodeOptions { design, ..site.options() }).unwrap();
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        let first = crate::support::ask::put_dataset("first");
        crate::support::ask::write(&node, [first]).unwrap();
        site
    }

    pub fn path(&self, file: &str) -> PathBuf {
        self.directory.path().join(file)
    }

    pub fn database(&self) -> PathBuf {
        self.path("fencepost.db")
    }

    pub fn database_url(&self) -> String {
        self.url.clone()
    }

    pub fn options(&self) -> NodeOptions {
        let database = DatabaseUrl::parse(&self.url).unwrap();
        NodeOptions { lock_url: self.lock_url.clone(), ..NodeOptions::new(database) }
    }

    /// A node with connections and lock handles of its own.
    pub fn node(&self) -> Service {
        node::open(&self.options()).unwrap()
    }

    pub fn store(&self) -> Store {
        Store::new(self.open_database()).unwrap()
    }

    /// A pool of connections of its own.
    pub fn open_database(&self) -> Database {
        Database::open(&self.options().database, PoolLimits::default()).unwrap()
    }

    /// Who reads the log of [`GRAPH`], and how far. Without a pool of connections and its threads,
    /// so that it can be asked again and again.
    pub fn store_consumers(&self) -> Vec<(Name, u64)> {
        let sql = &mut self.sql();
        let id: i64 =
            graphs::table.filter(graphs::name.eq(GRAPH)).select(graphs::id).first(sql).unwrap();
        let rows: Vec<(String, i64)> = consumers::table
            .filter(consumers::graph_id.eq(id))
            .order(consumers::name)
            .select((consumers::name, consumers::acknowledged))
            .load(sql)
            .unwrap();
        rows.into_iter().map(|(text, acknowledged)| (name(&text), acknowledged as u64)).collect()
    }

    pub fn head(&self) -> Head {
        self.store().head(&name(GRAPH)).unwrap().unwrap()
    }

    /// The log of [`GRAPH`].
    pub fn stream(&self) -> Stream {
        let head = self.head();
        Stream::new(head.name, head.uuid)
    }

    /// A connection that goes round everything.
    pub fn sql(&self) -> Sql {
        match self.url.strip_prefix("sqlite:") {
            Some(file) => {
                let mut connection = SqliteConnection::establish(file).unwrap();
                connection
                    .batch_execute("PRAGMA busy_timeout = 5000; PRAGMA foreign_keys = ON")
                    .unwrap();
                Sql::Sqlite(connection)
            }
            None => Sql::Postgres(PgConnection::establish(&self.url).unwrap()),
        }
    }

    pub fn run_sql(&self, statements: &str) {
        self.sql().batch_execute(statements).unwrap();
    }

    /// A transaction that every other writer waits for until it is ended.
    pub fn hold_back_writers(&self) -> Sql {
        let mut sql = self.sql();
        let begin = match sql {
            Sql::Sqlite(_) => "BEGIN IMMEDIATE",
            Sql::Postgres(_) => "BEGIN; SELECT id FROM graphs FOR UPDATE",
        };
        sql.batch_execute(begin).unwrap();
        sql
    }

    /// Has the database refuse a job that the rules allow.
    pub fn refuse_jobs_named(&self, job: &str) {
        let (table, is_refused) = match self.jobs_are_written_to() {
            "jobs" => ("jobs", format!("name = '{job}'")),
            table => (table, format!("change LIKE '%\"name\":\"{job}\"%'")),
        };
        self.run_sql(&match self.sql() {
            Sql::Sqlite(_) => format!(
                "CREATE TRIGGER refuse BEFORE INSERT ON {table} WHEN NEW.{is_refused} \
                 BEGIN INSERT INTO service (id, database_id) VALUES (1, 'second'); END"
            ),
            Sql::Postgres(_) => {
                format!("ALTER TABLE {table} ADD CONSTRAINT refuse CHECK (NOT ({is_refused}))")
            }
        });
    }

    pub fn refuse_no_jobs(&self) {
        let table = self.jobs_are_written_to();
        self.run_sql(&match self.sql() {
            Sql::Sqlite(_) => "DROP TRIGGER refuse".to_owned(),
            Sql::Postgres(_) => format!("ALTER TABLE {table} DROP CONSTRAINT refuse"),
        });
    }

    /// The table in which a new job of [`GRAPH`] is found.
    fn jobs_are_written_to(&self) -> &'static str {
        match self.head().storage {
            StorageKind::Log | StorageKind::LogUnchecked => "changes",
            _ => "jobs",
        }
    }

    /// Has a Postgres server end every session on this database, and says how many those were.
    pub fn end_sessions(&self) -> usize {
        let sessions = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
            WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'";
        diesel::sql_query(sessions).execute(&mut self.sql()).unwrap()
    }

    pub fn lock_directory(&self) -> PathBuf {
        self.path("fencepost.db.locks")
    }

    pub fn lock_key(&self, graph: &str) -> LockKey {
        let store = self.store();
        let head = store.head(&name(graph)).unwrap().expect("the graph is there");
        LockKey::new(store.database_id(), head.id).unwrap()
    }

    /// Holds a graph's lock against every node until dropped.
    pub fn hold_lock(&self, graph: &str, mode: Mode) -> Guard {
        let options = self.options();
        let url = options.lock_url.unwrap_or_else(|| LockUrl::default_for(&options.database));
        node::open_lock(&url, &options.database, options.lease)
            .unwrap()
            .acquire(&self.lock_key(graph), mode, LIMIT)
            .unwrap()
    }

    /// The file that counts the tokens of [`GRAPH`].
    pub fn lock_file(&self) -> PathBuf {
        let lock = FileLock::open(&self.lock_directory(), "beside-database".to_owned()).unwrap();
        lock.path(&self.lock_key(GRAPH))
    }

    /// The command `fencepost` on this database.
    pub fn fencepost(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fencepost"));
        for variable in ["DATABASE_URL", "LOCK_URL", "DESIGN", "READS", "FAILPOINTS"] {
            command.env_remove(format!("FENCEPOST_{variable}"));
        }
        command
            .env_remove("RUST_LOG")
            .env("FENCEPOST_DATABASE_URL", self.database_url())
            .args(arguments);
        command
    }

    pub fn serve(&self) -> Server {
        Server::start(self.fencepost(&SERVE))
    }

    /// A server with failpoints armed, see `src/failpoint.rs`.
    pub fn serve_armed(&self, failpoints: &str, more_arguments: &[&str]) -> Server {
        let mut command = self.fencepost(&SERVE);
        command.args(more_arguments).env("FENCEPOST_FAILPOINTS", failpoints);
        Server::start(command)
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        if self.url.starts_with("postgres:") {
            Postgres::drop_database(&self.url);
        }
    }
}

/// The arguments with which a server is started, on a port that is free.
pub const SERVE: [&str; 3] = ["serve", "--address", "127.0.0.1:0"];

/// What a command printed and how it ended.
pub fn finish(mut command: Command) -> (Option<i32>, String) {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    (output.status.code(), text.into_owned())
}

/// A server process. Killed when dropped.
pub struct Server {
    child: Child,
    log: Arc<Log>,
    /// `http://127.0.0.1:PORT`
    pub base: String,
}

#[derive(Default)]
struct Log {
    text: Mutex<(String, bool)>,
    grown: Condvar,
}

impl Server {
    /// Starts it and waits until it takes requests.
    pub fn start(command: Command) -> Self {
        Self::try_start(command)
            .unwrap_or_else(|(code, log)| panic!("the server did not come up ({code:?}):\n{log}"))
    }

    /// As [`start`](Self::start); its exit code and what it said, if it ended instead.
    pub fn try_start(mut command: Command) -> Result<Self, (Option<i32>, String)> {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Log::default());
        let (stderr, sink) = (child.stderr.take().unwrap(), Arc::clone(&log));
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                sink.text.lock().unwrap().0.push_str(&(line + "\n"));
                sink.grown.notify_all();
            }
            sink.text.lock().unwrap().1 = true;
            sink.grown.notify_all();
        });
        let mut server = Self { child, log, base: String::new() };
        let said = server.wait_for_log(|text| text.contains(" on http://"));
        let Some((_, rest)) = said.split_once(" on http://") else {
            let status = server.child.wait().unwrap();
            return Err((status.code(), said));
        };
        server.base = format!("http://{}", rest.split(';').next().unwrap());
        Ok(server)
    }

    /// Its standard error, once it is as wanted or has ended.
    pub fn wait_for_log(&self, wanted: impl Fn(&str) -> bool) -> String {
        let began = Instant::now();
        let mut log = self.log.text.lock().unwrap();
        while !wanted(&log.0) && !log.1 {
            assert!(
                began.elapsed() < LIMIT,
                "the server does not say what is waited for:\n{}",
                log.0
            );
            log = self.log.grown.wait_timeout(log, Duration::from_millis(100)).unwrap().0;
        }
        log.0.clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Sends a signal, such as `STOP`: then every thread has stopped when this returns, and not a
    /// moment later.
    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill")
            .args([&format!("-{signal}"), &self.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success(), "kill -{signal} failed");
        if signal == "STOP" {
            wait_until_stopped(self.id());
        }
    }

    /// Sends a signal that tells it to end, and waits until it has.
    pub fn end(self, signal: &str) -> ExitStatus {
        self.signal(signal);
        self.ended()
    }

    /// Waits until it has ended, as it was told to.
    pub fn ended(mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    pub fn put_job(&self, job: &str, inputs: &[&str], outputs: &[&str]) -> Result<Answer, String> {
        let body = serde_json::json!({"inputs": inputs, "outputs": outputs});
        Client::new().send(
            &self.base,
            "PUT",
            &format!("/v1/graphs/{GRAPH}/jobs/{job}"),
            None,
            Some(&body),
        )
    }

    pub fn get(&self, path: &str) -> Result<Answer, String> {
        Client::new().send(&self.base, "GET", path, None, None)
    }

    /// A count on its `/metrics`, over all labels that hold `label`.
    pub fn count(&self, metric: &str, label: &str) -> u64 {
        let mut response = ureq::get(&format!("{}/metrics", self.base)).call().unwrap();
        let text = response.body_mut().read_to_string().unwrap();
        let lines = text.lines().filter(|line| line.starts_with(metric) && line.contains(label));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap() as u64).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An HTTP client.
pub struct Client {
    agent: ureq::Agent,
}

/// What it was answered.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub body: Value,
}

impl Answer {
    pub fn version(&self) -> u64 {
        self.body["version"].as_u64().unwrap_or_else(|| panic!("no version in {self:?}"))
    }
}

impl Client {
    pub fn new() -> Self {
        let config = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(LIMIT))
            .build();
        Self { agent: config.new_agent() }
    }

    /// An error means that no answer came: it is not known what happened.
    pub fn send(
        &self,
        base: &str,
        method: &str,
        path: &str,
        idempotency_key: Option<&str>,
        body: Option<&Value>,
    ) -> Result<Answer, String> {
        let mut request =
            ureq::http::Request::builder().method(method).uri(format!("{base}{path}"));
        if let Some(key) = idempotency_key {
            request = request.header("Idempotency-Key", key);
        }
        let response = match body {
            Some(body) => {
                let request = request
                    .header("Content-Type", "application/json")
                    .body(body.to_string())
                    .unwrap();
                self.agent.run(request)
            }
            None => self.agent.run(request.body(()).unwrap()),
        };
        let mut response = response.map_err(|error| error.to_string())?;
        let status = response.status().as_u16();
        let text = response.body_mut().read_to_string().map_err(|error| error.to_string())?;
        Ok(Answer { status, body: serde_json::from_str(&text).unwrap_or(Value::Null) })
    }
}

/// Runs `body` in a process of its own with failpoints armed: they are read once in a process.
/// `test` is the calling test's `module_path!()::name`, whose only statement this is.
pub fn in_child(test: &str, failpoints: &str, body: impl FnOnce()) {
    const CHILD: &str = "FENCEPOST_TEST_CHILD";
    let (_, test) = test.split_once("::").unwrap();
    if std::env::var_os(CHILD).is_some() {
        body();
        println!("the body of {test} has run");
        return;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", test, "--nocapture"])
        .env(CHILD, "1")
        .env("FENCEPOST_FAILPOINTS", failpoints);
    let (code, output) = finish(command);
    assert!(
        code == Some(0) && output.contains(&format!("the body of {test} has run")),
        "in the child:\n{output}"
    );
}

/// Statements with lists of ids, written as `'<1,2>'`, as the site's database has them: JSON in
/// SQLite, an array in Postgres.
pub fn lists(site: &Site, statements: &str) -> String {
    let [open, close] = match site.sql() {
        Sql::Sqlite(_) => ["'[", "]'"],
        Sql::Postgres(_) => ["'{", "}'"],
    };
    statements.replace("'<", open).replace(">'", close)
}

/// Copies a database, as it stands, into another file.
pub fn back_up(site: &Site, to: &Path) {
    site.run_sql(&format!("VACUUM INTO '{}'", to.display()));
}

/// Makes the rows in the database, while nodes run on it, what they are in a copy.
pub fn restore(site: &Site, from: &Path) {
    const TABLES: [&str; 11] = [
        "service",
        "graphs",
        "datasets",
        "jobs",
        "changes",
        "idempotency_keys",
        "consumers",
        "snapshots",
        "snapshot_parts",
        "leader_nodes",
        "leaders",
    ];
    let mut script = format!("ATTACH '{}' AS copy; BEGIN IMMEDIATE;", from.display());
    for table in TABLES.iter().rev() {
        script += &format!("DELETE FROM main.{table};");
    }
    for table in TABLES {
        script += &format!("INSERT INTO main.{table} SELECT * FROM copy.{table};");
    }
    site.run_sql(&(script + "COMMIT;"));
}
