//! Connections to the server. Nobody waits for the answer to a release: it is read before the next
//! call on the same connection. A connection is dropped after an answer that was lost, late or not
//! understood.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use redis::{Client, Connection, ErrorKind, RedisError, ServerErrorKind, Value};

use super::lock_request::{Request, Requests};
use super::script::{self, Call, Keys};
use super::terms::Terms;
use super::url::RedisUrl;
use crate::lock::gate::lock;

/// How long a connection may take to open, and an answer to arrive.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(1);

/// The most connections of a process, beside those of its housekeeper and its listener.
const CONNECTIONS_MAX: usize = 32;

/// The server, and what is needed to call it.
pub(super) struct Server {
    url: RedisUrl,
    client: Client,
    script: redis::Script,
    pub(super) terms: Terms,
}

impl Server {
    pub(super) fn new(url: &RedisUrl, terms: Terms) -> Result<Self, RedisError> {
        let (url, client) = (url.clone(), url.client()?);
        Ok(Self { url, client, script: redis::Script::new(&script::text()), terms })
    }

    /// A new connection whose reads and writes time out.
    pub(super) fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(ANSWER_TIMEOUT);
        let connection = connection.map_err(|error| self.url.without_password(error))?;
        connection.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        connection.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(connection)
    }

    /// A new connection for calls of the script. Learns which run of the server it leads to.
    pub(super) fn open_connection(&self) -> Result<LockConnection, RedisError> {
        let mut connection = self.connect()?;
        let server: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
        let run = field(&server, "run_id").unwrap_or_default().to_owned();
        Ok(LockConnection { connection, run, unread: VecDeque::new() })
    }
}

/// The value of a field in the answer to INFO.
pub(super) fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// A connection for calls of the script. After any error it must be dropped.
pub(super) struct LockConnection {
    connection: Connection,
    /// The run id of the server.
    run: String,
    /// The requests whose releases were sent, and whose answers were not read yet.
    unread: VecDeque<Arc<Request>>,
}

impl LockConnection {
    /// Calls the script and waits for the answer.
    pub(super) fn call(
        &mut self,
        server: &Server,
        requests: &Requests,
        keys: &Keys,
        call: Call<'_>,
    ) -> Result<Value, RedisError> {
        let command = call
            .command(server.script.get_hash(), keys, &self.run, &server.terms)
            .get_packed_command();
        self.connection.send_packed_command(&command)?;
        self.settle(requests)?;
        match self.receive() {
            Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {
                server.script.load(&mut self.connection)?;
                self.connection.send_packed_command(&command)?;
                self.receive()
            }
            answer => answer,
        }
    }

    /// Calls the script once for each of `calls`, all in one round trip; the answers in their
    /// order, of which some may be errors of the server's.
    ///
    /// # Errors
    /// If the connection is of no use any more.
    pub(super) fn call_each(
        &mut self,
        server: &Server,
        requests: &Requests,
        calls: &[(&Keys, Call<'_>)],
    ) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let packed: Vec<Vec<u8>> = calls
            .iter()
            .map(|(keys, call)| {
                let sha = server.script.get_hash();
                call.command(sha, keys, &self.run, &server.terms).get_packed_command()
            })
            .collect();
        self.connection.send_packed_command(&packed.concat())?;
        self.settle(requests)?;
        let answers = self.receive_each(packed.len())?;
        let is_missing = |answer: &Result<Value, RedisError>| {
            let no_script = ErrorKind::Server(ServerErrorKind::NoScript);
            answer.as_ref().is_err_and(|error| error.kind() == no_script)
        };
        if !answers.iter().any(is_missing) {
            return Ok(answers);
        }
        server.script.load(&mut self.connection)?;
        self.connection.send_packed_command(&packed.concat())?;
        self.receive_each(packed.len())
    }

    /// So many answers. None is waited for after the connection has failed.
    fn receive_each(&mut self, count: usize) -> Result<Vec<Result<Value, RedisError>>, RedisError> {
        let mut answers = Vec::with_capacity(count);
        for _ in 0..count {
            answers.push(match self.receive() {
                Err(error) if !is_servers(&error) => return Err(error),
                answer => answer,
            });
        }
        Ok(answers)
    }

    /// Publishes an empty message.
    pub(super) fn publish(&mut self, requests: &Requests, channel: &str) -> Result<(), RedisError> {
        self.connection.send_packed_command(
            &redis::cmd("PUBLISH").arg(channel).arg("").get_packed_command(),
        )?;
        self.settle(requests)?;
        self.receive().map(drop)
    }

    /// Tells the server that the request is over, and does not wait for the answer.
    pub(super) fn send_release(
        &mut self,
        server: &Server,
        request: &Arc<Request>,
        release: Call<'_>,
    ) -> Result<(), RedisError> {
        let command =
            release.command(server.script.get_hash(), &request.keys, &self.run, &server.terms);
        self.connection.send_packed_command(&command.get_packed_command())?;
        self.unread.push_back(Arc::clone(request));
        Ok(())
    }

    /// Reads the answers to releases. The housekeeper sends a release that failed again.
    pub(super) fn settle(&mut self, requests: &Requests) -> Result<(), RedisError> {
        while let Some(request) = self.unread.pop_front() {
            match self.receive() {
                Ok(_) => requests.end(&request),
                // The script is loaded when the release is sent again.
                Err(error) if error.kind() == ErrorKind::Server(ServerErrorKind::NoScript) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> Result<Value, RedisError> {
        self.connection.recv_response()?.extract_error()
    }
}

/// Whether it is what the server has answered.
fn is_servers(error: &RedisError) -> bool {
    matches!(error.kind(), ErrorKind::Server(_) | ErrorKind::Extension)
}

/// The connections of a process, at most [`CONNECTIONS_MAX`]. Many threads can share them, since
/// each needs one for a round trip only.
#[derive(Default)]
pub(super) struct ConnectionPool {
    state: Mutex<PoolState>,
    returned: Condvar,
}

#[derive(Default)]
struct PoolState {
    /// Connections that nobody uses now.
    idle: Vec<LockConnection>,
    in_use: usize,
}

impl ConnectionPool {
    /// Runs `body` on a connection. If it fails, the idle connections are dropped too: they may be
    /// lost as well.
    pub(super) fn with<T>(
        &self,
        server: &Server,
        body: impl FnOnce(&mut LockConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let (idle, _slot) = self.take()?;
        let mut connection = idle.map_or_else(|| server.open_connection(), Ok)?;
        let value = body(&mut connection).inspect_err(|_| drop(self.take_idle(|_| true)))?;
        lock(&self.state).idle.push(connection);
        Ok(value)
    }

    /// Reads the answers to releases on connections that nobody uses.
    pub(super) fn settle(&self, requests: &Requests) {
        for mut connection in self.take_idle(|connection| !connection.unread.is_empty()) {
            if connection.settle(requests).is_ok() {
                lock(&self.state).idle.push(connection);
            }
        }
    }

    /// The right to use a connection until the slot is dropped, and an idle one if there is one.
    fn take(&self) -> Result<(Option<LockConnection>, Slot<'_>), RedisError> {
        let is_full = |state: &mut PoolState| state.in_use >= CONNECTIONS_MAX;
        let waited = self.returned.wait_timeout_while(lock(&self.state), ANSWER_TIMEOUT, is_full);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "all connections to Redis are in use",
            )
            .into());
        }
        state.in_use += 1;
        Ok((state.idle.pop(), Slot { pool: self }))
    }

    fn take_idle(&self, wanted: impl Fn(&LockConnection) -> bool) -> Vec<LockConnection> {
        lock(&self.state).idle.extract_if(.., |connection| wanted(connection)).collect()
    }
}

/// Counts one connection as in use until it is dropped.
struct Slot<'p> {
    pool: &'p ConnectionPool,
}

impl Drop for Slot<'_> {
    fn drop(&mut self) {
        lock(&self.pool.state).in_use -= 1;
        self.pool.returned.notify_one();
    }
}
