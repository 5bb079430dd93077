//! A Redis of this run's own.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

pub struct Server {
    pub url: String,
    child: Child,
    _directory: tempfile::TempDir,
}

impl Server {
    pub fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|free| free.local_addr())
            .expect("a port")
            .port();
        let directory = tempfile::tempdir().expect("a directory");
        let child = Command::new("redis-server")
            .args([
                "--port",
                &port.to_string(),
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--appendonly",
                "no",
            ])
            .current_dir(directory.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("redis-server is installed");
        let server =
            Self { url: format!("redis://127.0.0.1:{port}"), child, _directory: directory };
        while server.client().get_connection().is_err() {
            thread::sleep(Duration::from_millis(10));
        }
        server
    }

    fn client(&self) -> redis::Client {
        redis::Client::open(self.url.as_str()).expect("a URL")
    }

    fn ask(&self, command: &str, argument: &str) -> String {
        let mut connection = self.client().get_connection().expect("a connection");
        redis::cmd(command).arg(argument).query(&mut connection).expect("an answer")
    }

    pub fn version(&self) -> String {
        let info = self.ask("INFO", "server");
        let version = info.lines().find_map(|line| line.strip_prefix("redis_version:"));
        version.expect("a version").to_owned()
    }

    /// Forgets every lock.
    pub fn empty(&self) {
        self.ask("FLUSHALL", "SYNC");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
