//! Redis servers that tests start for themselves, on free ports of 127.0.0.1.

use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use super::ports::free_port;
use super::wait_until;

const START_LIMIT: Duration = Duration::from_secs(60);

/// A server with a directory of its own. Killed when dropped, and when the test's process dies.
pub struct Redis {
    directory: tempfile::TempDir,
    port: u16,
    settings: Vec<String>,
    keeper: Option<Child>,
}

impl Redis {
    /// The one that tests share which do not harm it. Every test takes a database of its own on it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(&["--databases", "4096"]))
    }

    /// One that is the caller's own, which keeps nothing over a restart unless `settings` say so.
    pub fn start(settings: &[&str]) -> Self {
        let port = free_port();
        let settings = settings.iter().map(|setting| (*setting).to_owned()).collect();
        let directory = tempfile::Builder::new().prefix("fencepost-redis-").tempdir().unwrap();
        let mut server = Self { directory, port, settings, keeper: None };
        server.start_again();
        server
    }

    /// Starts the server, which must not be running, on what it has kept, and waits until it
    /// answers.
    pub fn start_again(&mut self) {
        assert!(self.keeper.is_none(), "the server is running");
        // The shell ends the server when it is told to, or when the test's process has ended,
        // however it did: its standard input is closed then.
        let script = "redis-server \"$@\" >>log 2>&1 & server=$!; read -r told; kill -KILL $server; wait $server 2>/dev/null; \
                      [ -n \"$told\" ] || rm -rf \"$PWD\"";
        let keeper = Command::new("sh")
            .args(["-c", script, "sh", "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &self.port.to_string(), "--unixsocket", "redis.socket"])
            .args(&self.settings)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        let log = || std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
        assert!(
            !log().contains("not found"),
            "no redis-server: install Debian's package redis-server; scripts/test does"
        );
        let answers = || match self.try_command(&["PING"]) {
            Ok(_) => true,
            Err(error) => error.code() == Some("NOAUTH"),
        };
        wait_until(START_LIMIT, "Redis answers", answers);
    }

    /// Kills the server: what it has not written is lost.
    pub fn kill(&mut self) {
        use std::io::Write;
        let mut keeper = self.keeper.take().expect("the server is running");
        writeln!(keeper.stdin.take().unwrap(), "kill").unwrap();
        keeper.wait().unwrap();
    }

    /// An empty database of its own on this server.
    pub fn new_database(&self) -> String {
        static NUMBER: AtomicI64 = AtomicI64::new(1);
        format!("{}/{}", self.url(), NUMBER.fetch_add(1, Ordering::Relaxed))
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn directory(&self) -> &std::path::Path {
        self.directory.path()
    }

    /// Runs one command on database 0.
    #[track_caller]
    pub fn command(&self, words: &[&str]) -> redis::Value {
        self.try_command(words).unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    pub fn try_command(&self, words: &[&str]) -> redis::RedisResult<redis::Value> {
        let mut connection = redis::Client::open(self.url())?.get_connection()?;
        redis::cmd(words[0]).arg(&words[1..]).query(&mut connection)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.kill();
        }
    }
}
