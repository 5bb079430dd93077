//! PgBouncer before a Postgres server, on a free port of 127.0.0.1.

use std::fs;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use diesel::{Connection, PgConnection};

use super::ports::free_port;
use super::postgres::{Postgres, as_postgres, is_root};
use super::{limit, wait_until};

/// Ended when dropped.
pub struct PgBouncer {
    directory: tempfile::TempDir,
    port: u16,
    server_port: u16,
    process: Child,
}

impl PgBouncer {
    /// Lends sessions on that server by `pool_mode`, `session` or `transaction`, and at most
    /// `sessions` of each database.
    pub fn start(server: &Postgres, pool_mode: &str, sessions: usize) -> Self {
        let directory = tempfile::Builder::new().prefix("fencepost-pgbouncer-").tempdir().unwrap();
        let (port, server_port) = (free_port(), server.port());
        let file = directory.path().join("pgbouncer.ini");
        let users = directory.path().join("users");
        fs::write(&users, "\"postgres\" \"\"\n").unwrap();
        configure(&directory, port, server_port, pool_mode, sessions);
        if is_root() {
            let chown =
                Command::new("chown").args(["-R", "postgres"]).arg(directory.path()).status();
            assert!(chown.unwrap().success());
        }
        // Debian's place for it is not on everybody's path.
        let program = Path::new("/usr/sbin/pgbouncer");
        let program = if program.exists() { program } else { Path::new("pgbouncer") };
        let mut command = as_postgres(program);
        let process = command
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("pgbouncer, of Debian's package; scripts/test installs it");
        let bouncer = Self { directory, port, server_port, process };
        let url = bouncer.url("postgres");
        wait_until(limit(), "PgBouncer takes connections", || {
            PgConnection::establish(&url).is_ok()
        });
        bouncer
    }

    /// Lends sessions in that way from now on.
    pub fn switch_to(&self, pool_mode: &str, sessions: usize) {
        configure(&self.directory, self.port, self.server_port, pool_mode, sessions);
        let told = Command::new("kill").args(["-HUP", &self.process.id().to_string()]).status();
        assert!(told.unwrap().success());
    }

    /// The database of that URL on the server, by way of this.
    pub fn before(&self, url: &str) -> String {
        url.replace(&format!(":{}/", self.server_port), &format!(":{}/", self.port))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

fn configure(
    directory: &tempfile::TempDir,
    port: u16,
    server_port: u16,
    pool_mode: &str,
    sessions: usize,
) {
    let directory = directory.path();
    let text = format!(
        "[databases]\n* = host=127.0.0.1 port={server_port}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
         listen_port = {port}\nunix_socket_dir =\nauth_type = trust\nauth_file = {}\n\
         pool_mode = {pool_mode}\ndefault_pool_size = {sessions}\nmax_client_conn = 200\n\
         logfile = {}\nignore_startup_parameters = extra_float_digits\n",
        directory.join("users").display(),
        directory.join("log").display(),
    );
    fs::write(directory.join("pgbouncer.ini"), text).unwrap();
}

impl Drop for PgBouncer {
    fn drop(&mut self) {
        drop(self.process.kill());
        drop(self.process.wait());
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            eprintln!("PgBouncer's log:\n{log}");
        }
    }
}
