//! Postgres servers that tests start for themselves, on free ports of 127.0.0.1, and databases on
//! them.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, RunQueryDsl};
use fencepost::db::{Database, DatabaseUrl, PoolLimits};

use super::ports::free_port;
use super::stopped::wait_until_stopped;
use super::wait_until;

/// Starting takes a second or two, and recovery after a crash as long again.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A primary, its standby, and a database on both.
pub struct Pair {
    pub primary: Postgres,
    pub standby: Postgres,
    pub database: String,
}

impl Pair {
    pub fn new() -> Self {
        let primary = Postgres::start(&[]);
        let standby = primary.standby();
        let url = primary.new_database();
        let (_, database) = url.rsplit_once('/').unwrap();
        Self { database: database.to_owned(), primary, standby }
    }

    /// Names both, the primary first.
    pub fn url(&self) -> String {
        let hosts = [&self.primary, &self.standby].map(|host| format!("127.0.0.1:{}", host.port));
        format!("postgres://postgres@{}/{}", hosts.join(","), self.database)
    }

    pub fn wait_until_standby_has(&self, version: u64, graph: &str) {
        self.standby.wait_until_it_has(version, graph, &self.database);
    }
}

/// A server with a directory of its own. Ended at once, without farewell, when dropped or when the
/// test's process dies.
pub struct Postgres {
    directory: tempfile::TempDir,
    port: u16,
    keeper: Option<Child>,
}

impl Postgres {
    /// The one that tests share which do not harm it. Every test takes a database of its own on it.
    /// It never crashes, so nothing of it has to reach a disk: hundreds of databases come and go.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(|| {
            match std::env::var(Self::VARIABLE).ok().and_then(|port| port.parse().ok()) {
                Some(port) => Self { directory: tempfile::tempdir().unwrap(), port, keeper: None },
                None => Self::start_in(
                    in_memory().unwrap_or_else(std::env::temp_dir),
                    &["fsync = off", "full_page_writes = off", "max_wal_size = '256MB'"],
                ),
            }
        })
    }

    /// Has a process that a test starts use the shared server too.
    pub fn lend_to(command: &mut Command) {
        command.env(Self::VARIABLE, Self::shared().port.to_string());
    }

    /// The port of the server that another process has started and shares with this one.
    const VARIABLE: &str = "FENCEPOST_TEST_POSTGRES_PORT";

    /// One that is the caller's own, with more settings such as `max_connections=10`.
    pub fn start(settings: &[&str]) -> Self {
        Self::start_in(std::env::temp_dir(), settings)
    }

    fn start_in(place: PathBuf, settings: &[&str]) -> Self {
        let directory = tempfile::Builder::new().prefix("fencepost-postgres-").tempdir_in(place);
        let directory = directory.unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(directory.path()));
        }
        let data = directory.path().join("data");
        let mut initdb = as_postgres(&program("initdb"));
        run(initdb
            .args([
                "--no-sync",
                "--auth=trust",
                "--encoding=UTF8",
                "--locale=C",
                "--username=postgres",
                "-D",
            ])
            .arg(&data));
        let mut configuration = fs::read_to_string(data.join("postgresql.conf")).unwrap();
        configuration +=
            "listen_addresses = '127.0.0.1'\nmax_connections = 300\nshared_buffers = '64MB'\n";
        configuration += &format!("unix_socket_directories = '{}'\n", directory.path().display());
        for setting in settings {
            configuration += &format!("{setting}\n");
        }
        fs::write(data.join("postgresql.conf"), configuration).unwrap();
        let mut server = Self { directory, port: free_port(), keeper: None };
        server.start_again();
        server
    }

    /// A standby that streams from this server, on a port of its own.
    pub fn standby(&self) -> Self {
        let directory = tempfile::Builder::new().prefix("fencepost-postgres-").tempdir().unwrap();
        if is_root() {
            run(Command::new("chown").arg("postgres").arg(directory.path()));
        }
        let data = directory.path().join("data");
        let mut copy = as_postgres(&program("pg_basebackup"));
        copy.args(["--checkpoint=fast", "--wal-method=stream", "--write-recovery-conf"])
            .args(["--no-sync", "-h", "127.0.0.1", "-U", "postgres"])
            .args(["-p", &self.port.to_string(), "-D"])
            .arg(&data);
        run(&mut copy);
        let configuration = data.join("postgresql.conf");
        let mut text = fs::read_to_string(&configuration).unwrap();
        text += &format!("unix_socket_directories = '{}'\n", directory.path().display());
        fs::write(&configuration, text).unwrap();
        let mut server = Self { directory, port: free_port(), keeper: None };
        server.start_again();
        server
    }

    /// Stops every process of the server, as they are, until what is returned is dropped: it takes
    /// connections and requests, and answers nothing.
    pub fn freeze(&self) -> Frozen {
        let postmaster = fs::read_to_string(self.data().join("postmaster.pid")).unwrap();
        let postmaster: u32 = postmaster.lines().next().unwrap().parse().unwrap();
        let frozen = Frozen { process: postmaster };
        // From here on there are no new ones.
        let stop = |process: u32| {
            signal("STOP", process);
            wait_until_stopped(process);
        };
        stop(postmaster);
        children(postmaster).into_iter().for_each(stop);
        frozen
    }

    /// Stops the process that serves this client, until what is returned is dropped.
    pub fn freeze_session(client: &mut PgConnection) -> Frozen {
        let query = "SELECT pg_backend_pid()::text AS value";
        let shown: Shown = diesel::sql_query(query).get_result(client).unwrap();
        let process = shown.value.parse().unwrap();
        signal("STOP", process);
        wait_until_stopped(process);
        Frozen { process }
    }

    /// Waits until a standby has a version of a graph in that database.
    pub fn wait_until_it_has(&self, version: u64, graph: &str, database: &str) {
        let url = self.url(database);
        let query = format!(
            "DO $$ BEGIN ASSERT (SELECT version FROM graphs WHERE name = '{graph}') = {version}; END $$"
        );
        wait_until(START_LIMIT, "the standby has it", || {
            PgConnection::establish(&url).is_ok_and(|mut sql| sql.batch_execute(&query).is_ok())
        });
    }

    /// Makes a primary of a standby.
    pub fn promote(&self) {
        self.sql().batch_execute("SELECT pg_promote(true)").unwrap();
    }

    /// Sets `NAME = VALUE` for all sessions, those that are open included.
    pub fn set(&self, setting: &str) {
        let (name, value) = setting.split_once(" = ").unwrap();
        // A server that is read-only may be told this too.
        let mut sql = self.sql();
        sql.batch_execute(&format!("ALTER SYSTEM SET {setting}")).unwrap();
        sql.batch_execute("SELECT pg_reload_conf()").unwrap();
        // A session that begins with it was made after all others were told.
        wait_until(START_LIMIT, "the setting has reached all sessions", || {
            let shown = diesel::sql_query(format!("SELECT current_setting('{name}') AS value"));
            shown.get_result::<Shown>(&mut self.sql()).unwrap().value == value
        });
    }

    /// Starts the server, which must not be running, on its data as they are, and waits until it
    /// takes connections.
    pub fn start_again(&mut self) {
        assert!(self.keeper.is_none(), "the server is running");
        let postgres = as_postgres(&program("postgres"));
        // The shell ends the server when it is told to, or when the test's process has ended,
        // however it did: its standard input is closed then, and nobody else is left to tidy up.
        let script = "\"$@\" >>\"$LOG\" 2>&1 & server=$!; read -r told; kill -QUIT $server; wait $server; \
                      [ -n \"$told\" ] || rm -rf \"$DIRECTORY\"";
        let keeper = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(postgres.get_program())
            .args(postgres.get_args())
            .arg("-D")
            .arg(self.data())
            .args(["-p", &self.port.to_string()])
            .env("LOG", self.log())
            .env("DIRECTORY", self.directory.path())
            // Of no effect while `lc_messages` is C, as it is unless a test sets it.
            .env("LANGUAGE", "de")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let url = self.url("postgres");
        wait_until(START_LIMIT, "Postgres takes connections", || {
            PgConnection::establish(&url).is_ok()
        });
    }

    /// Ends the server as a crash would: what is committed must be found again in its log.
    pub fn crash(&mut self) {
        let mut keeper = self.keeper.take().expect("the server is running");
        writeln!(keeper.stdin.take().unwrap(), "crash").unwrap();
        keeper.wait().unwrap();
    }

    /// The URL of a new and empty database.
    pub fn new_database(&self) -> String {
        self.new_database_like("template1")
    }

    /// The URL of a new database of the shared server, with the schema and nothing else in it: a
    /// copy of one that was migrated once. Quicker than to migrate each.
    pub fn new_migrated_database() -> String {
        static MIGRATED: OnceLock<String> = OnceLock::new();
        let shared = Self::shared();
        let migrated = MIGRATED.get_or_init(|| {
            let url = shared.new_database();
            let parsed = DatabaseUrl::parse(&url).unwrap();
            drop(Database::open(&parsed, PoolLimits::default()).unwrap());
            url.rsplit_once('/').unwrap().1.to_owned()
        });
        let url = shared.new_database_like(migrated);
        // Locks are named by it.
        let identity = "UPDATE service SET database_id = replace(gen_random_uuid()::text, '-', '')";
        PgConnection::establish(&url).unwrap().batch_execute(identity).unwrap();
        url
    }

    fn new_database_like(&self, template: &str) -> String {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let name =
            format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let create = format!("CREATE DATABASE {name} TEMPLATE {template}");
        self.sql().batch_execute(&create).unwrap();
        self.url(&name)
    }

    /// Ends every session on that database.
    pub fn end_sessions_of(&self, database: &str) {
        let end = format!(
            "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{database}'"
        );
        self.sql().batch_execute(&end).unwrap();
    }

    /// A new database of a role that may have so many sessions.
    pub fn limited_database(&self, sessions: usize) -> String {
        self.sql().batch_execute("CREATE ROLE limited LOGIN").unwrap();
        self.sql().batch_execute("CREATE DATABASE small OWNER limited").unwrap();
        let limit = format!("ALTER ROLE limited CONNECTION LIMIT {sessions}");
        self.sql().batch_execute(&limit).unwrap();
        self.url("small").replace("postgres@", "limited@")
    }

    /// Takes a database back, whoever is still connected to it: a thousand of them would fill a
    /// disk. One on a server that is gone is gone too.
    pub fn drop_database(url: &str) {
        let (server, name) = url.rsplit_once('/').expect("a URL with a database");
        if let Ok(mut sql) = PgConnection::establish(&format!("{server}/postgres")) {
            drop(sql.batch_execute(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)")));
        }
    }

    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Has the server speak German to whoever connects to a database of the shared server from now
    /// on.
    pub fn speak_german(url: &str) {
        let database = url.rsplit('/').next().expect("a URL with a database");
        let mut sql = Self::shared().sql();
        sql.batch_execute(&format!("ALTER DATABASE {database} SET lc_messages = 'C.UTF-8'"))
            .unwrap();
        let said = PgConnection::establish(url).unwrap().batch_execute("SELECT 1 / 0");
        let said = said.expect_err("nothing is divided by zero").to_string();
        assert_eq!(said, "Division durch Null", "Debian's package postgresql has translations");
    }

    /// A session as superuser that goes round everything.
    pub fn sql(&self) -> PgConnection {
        self.try_sql().unwrap()
    }

    pub fn try_sql(&self) -> Result<PgConnection, diesel::ConnectionError> {
        PgConnection::establish(&self.url("postgres"))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data of a server that is not running, as they are now.
    pub fn copy(&self) -> PathBuf {
        assert!(self.keeper.is_none(), "the server is running");
        let copy = self.directory.path().join("copy");
        run(Command::new("cp").arg("-a").arg(self.data()).arg(&copy));
        copy
    }

    /// Puts a copy in the place of the data of a server that is not running.
    pub fn replace(&self, copy: &Path) {
        assert!(self.keeper.is_none(), "the server is running");
        fs::remove_dir_all(self.data()).unwrap();
        run(Command::new("cp").arg("-a").arg(copy).arg(self.data()));
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("log")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.crash();
        }
        if std::thread::panicking() {
            eprintln!(
                "the end of Postgres' log:\n{}",
                tail(&fs::read_to_string(self.log()).unwrap_or_default())
            );
        }
    }
}

/// A process that is stopped, with its children. They go on when this is dropped.
pub struct Frozen {
    process: u32,
}

impl Drop for Frozen {
    fn drop(&mut self) {
        children(self.process).into_iter().for_each(|child| signal("CONT", child));
        signal("CONT", self.process);
    }
}

fn signal(name: &str, process: u32) {
    // One that has ended meanwhile need not be told.
    drop(Command::new("kill").args([&format!("-{name}"), &process.to_string()]).output());
}

fn children(parent: u32) -> Vec<u32> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let numbers = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let is_child = |process: &u32| {
        let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
        // After the name, which is in brackets: the state and the parent.
        let parent_of = stat.rsplit_once(") ").and_then(|(_, rest)| rest.split(' ').nth(1));
        parent_of == Some(parent.to_string().as_str())
    };
    numbers.filter(is_child).collect()
}

#[derive(diesel::QueryableByName)]
struct Shown {
    #[diesel(sql_type = diesel::sql_types::Text)]
    value: String,
}

fn tail(text: &str) -> &str {
    let lines = text.rmatch_indices('\n').nth(30);
    lines.map_or(text, |(at, _)| &text[at + 1..])
}

pub fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").unwrap().uid() == 0
}

/// Postgres refuses to run as root.
pub fn as_postgres(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
    command
}

fn run(command: &mut Command) {
    let output =
        command.current_dir("/").output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Debian keeps the server's programs of each version in a directory that is on nobody's path.
fn program(name: &str) -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let number = |path: &PathBuf| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .map(|entry| entry.path())
        .filter(|path| path.join("bin").join(name).exists())
        .max_by_key(number);
    newest.map_or_else(
        || panic!("no {name} under /usr/lib/postgresql: install Debian's package postgresql; scripts/test does"),
        |version| version.join("bin").join(name),
    )
}

/// A file system in memory with room for a server, if there is one.
fn in_memory() -> Option<PathBuf> {
    const ROOM_KIB: u64 = 4 << 20;
    let place = PathBuf::from("/dev/shm");
    let told = Command::new("df").args(["-k", "--output=avail"]).arg(&place).output().ok()?;
    let room: u64 = String::from_utf8(told.stdout).ok()?.lines().last()?.trim().parse().ok()?;
    (told.status.success() && room >= ROOM_KIB).then_some(place)
}
