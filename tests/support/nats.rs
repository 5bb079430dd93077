//! NATS servers with JetStream that tests start for themselves, on free ports of 127.0.0.1.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use super::ports::free_port;
use super::wait_until;

const START_LIMIT: Duration = Duration::from_secs(60);

/// A server with a directory of its own. Killed when dropped, and when the test's process dies.
pub struct Nats {
    directory: tempfile::TempDir,
    port: u16,
    keeper: Option<Child>,
}

impl Nats {
    /// The one that tests share which do not harm it. Every test takes a stream of its own on it.
    /// It takes large messages.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Nats> = OnceLock::new();
        SHARED.get_or_init(|| Self::start("max_payload: 8MB"))
    }

    /// One that is the caller's own, with more lines of configuration. It keeps its streams over a
    /// restart.
    pub fn start(configuration: &str) -> Self {
        let port = free_port();
        let directory = tempfile::Builder::new().prefix("fencepost-nats-").tempdir().unwrap();
        let text =
            format!("listen: 127.0.0.1:{port}\njetstream {{ store_dir: data }}\n{configuration}\n");
        fs::write(directory.path().join("nats.conf"), text).unwrap();
        let mut server = Self { directory, port, keeper: None };
        server.start_again();
        server
    }

    /// Starts the server, which must not be running, on what it has kept, and waits until it
    /// answers.
    pub fn start_again(&mut self) {
        assert!(self.keeper.is_none(), "the server is running");
        // The shell ends the server when it is told to, or when the test's process has ended,
        // however it did: its standard input is closed then.
        let script = "nats-server -c nats.conf >>log 2>&1 & server=$!; read -r told; kill -KILL $server; wait $server 2>/dev/null; \
                      [ -n \"$told\" ] || rm -rf \"$PWD\"";
        let keeper = Command::new("sh")
            .args(["-c", script])
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        self.keeper = Some(keeper);
        wait_until(START_LIMIT, "NATS answers", || {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            assert!(
                !log.contains("not found"),
                "no nats-server: install Debian's package nats-server; scripts/test does"
            );
            self.greets()
        });
    }

    /// A server tells of itself as soon as it is reached, which is when its streams are there.
    fn greets(&self) -> bool {
        let Ok(socket) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        let mut greeting = String::new();
        BufReader::new(socket).read_line(&mut greeting).is_ok() && greeting.starts_with("INFO ")
    }

    /// Kills the server: what it has written is there when it is started again.
    pub fn kill(&mut self) {
        let mut keeper = self.keeper.take().expect("the server is running");
        writeln!(keeper.stdin.take().unwrap(), "kill").unwrap();
        keeper.wait().unwrap();
    }

    /// Its streams as they are, of a server that is not running.
    pub fn copy(&self) -> std::path::PathBuf {
        assert!(self.keeper.is_none(), "the server is running");
        let copy = self.directory.path().join("copy");
        let copied = Command::new("cp").arg("-a").arg(self.data()).arg(&copy).status().unwrap();
        assert!(copied.success());
        copy
    }

    /// Puts a copy in the place of the streams of a server that is not running.
    pub fn replace(&self, copy: &std::path::Path) {
        assert!(self.keeper.is_none(), "the server is running");
        fs::remove_dir_all(self.data()).unwrap();
        let copied = Command::new("cp").arg("-a").arg(copy).arg(self.data()).status().unwrap();
        assert!(copied.success());
    }

    fn data(&self) -> std::path::PathBuf {
        self.directory.path().join("data")
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }

    /// Sends one request, as a client without a library would, and gives the answer's payload.
    pub fn request(&self, subject: &str, payload: &str) -> String {
        let mut socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        let mut answers = BufReader::new(socket.try_clone().unwrap());
        let asked = format!(
            "CONNECT {{\"verbose\":false}}\r\nSUB answer 1\r\nPUB {subject} answer {}\r\n{payload}\r\n",
            payload.len()
        );
        socket.write_all(asked.as_bytes()).unwrap();
        let mut line = String::new();
        while !line.starts_with("MSG answer ") {
            line.clear();
            assert!(answers.read_line(&mut line).unwrap() > 0, "the server hung up");
            assert!(!line.starts_with("-ERR"), "{line}");
        }
        line.clear();
        answers.read_line(&mut line).unwrap();
        line
    }
}

impl Drop for Nats {
    fn drop(&mut self) {
        if self.keeper.is_some() {
            self.kill();
        }
    }
}
