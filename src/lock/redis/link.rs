//! Connections to the server. A release is sent and its answer read later, before the next one on
//! the same connection: nobody waits for it. A connection on which an answer was lost, late or not
//! understood is thrown away.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Duration;

use redis::{Client, Connection, ErrorKind, RedisError, ServerErrorKind, Value};

use super::Terms;
use super::request::{Request, Requests};
use super::script::{self, Call, Keys};
use super::url::RedisUrl;
use crate::lock::gate::lock;

/// How long a connection may take to come up, and an answer to come.
const PATIENCE: Duration = Duration::from_secs(1);

/// Connections of a process at most, beside those of its housekeeper and its ear.
const LINKS_MAX: usize = 32;

/// The server, and how it is spoken to.
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

    /// A new connection that gives up waiting after a while.
    pub(super) fn connect(&self) -> Result<Connection, RedisError> {
        let connection = self.client.get_connection_with_timeout(PATIENCE);
        let connection = connection.map_err(|error| self.url.without_password(error))?;
        connection.set_read_timeout(Some(PATIENCE))?;
        connection.set_write_timeout(Some(PATIENCE))?;
        Ok(connection)
    }

    pub(super) fn link(&self) -> Result<Link, RedisError> {
        let mut connection = self.connect()?;
        let server: String = redis::cmd("INFO").arg("server").query(&mut connection)?;
        let run = field(&server, "run_id").unwrap_or_default().to_owned();
        Ok(Link { connection, run, unread: VecDeque::new() })
    }
}

/// The value of a line of what INFO says.
pub(super) fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
}

/// A connection. After any error it must be dropped.
pub(super) struct Link {
    connection: Connection,
    /// The run id of the server at its other end.
    run: String,
    /// Whose releases were sent on it and not answered yet.
    unread: VecDeque<Arc<Request>>,
}

impl Link {
    /// Asks and waits for the answer.
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

    /// Publishes a message that says nothing.
    pub(super) fn publish(&mut self, requests: &Requests, channel: &str) -> Result<(), RedisError> {
        self.connection.send_packed_command(
            &redis::cmd("PUBLISH").arg(channel).arg("").get_packed_command(),
        )?;
        self.settle(requests)?;
        self.receive().map(drop)
    }

    /// Tells the server that the request is over, and does not wait for what it says.
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

    /// Reads the answers that were not waited for. A release that failed stays open and is sent
    /// again by the housekeeper.
    pub(super) fn settle(&mut self, requests: &Requests) -> Result<(), RedisError> {
        while let Some(request) = self.unread.pop_front() {
            match self.receive() {
                Ok(_) => requests.end(&request),
                // The script is loaded again when it is sent again.
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

/// The connections of a process, a bounded number: however many threads ask at once, each needs one
/// for a round trip only.
#[derive(Default)]
pub(super) struct Links {
    state: Mutex<Open>,
    returned: Condvar,
}

#[derive(Default)]
struct Open {
    /// Those that nobody uses now.
    idle: Vec<Link>,
    in_use: usize,
}

impl Links {
    /// Runs `body` on a connection. If it fails, the idle ones are dropped too: they may have been
    /// lost with it.
    pub(super) fn with<T>(
        &self,
        server: &Server,
        body: impl FnOnce(&mut Link) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let (idle, _place) = self.take()?;
        let mut link = idle.map_or_else(|| server.link(), Ok)?;
        let value = body(&mut link).inspect_err(|_| drop(self.take_idle(|_| true)))?;
        lock(&self.state).idle.push(link);
        Ok(value)
    }

    /// Takes the answers to releases that nobody has come by for.
    pub(super) fn settle(&self, requests: &Requests) {
        for mut link in self.take_idle(|link| !link.unread.is_empty()) {
            if link.settle(requests).is_ok() {
                lock(&self.state).idle.push(link);
            }
        }
    }

    /// Leave to use a connection until the place is dropped, and an idle one if there is one.
    fn take(&self) -> Result<(Option<Link>, Place<'_>), RedisError> {
        let is_full = |state: &mut Open| state.in_use >= LINKS_MAX;
        let waited = self.returned.wait_timeout_while(lock(&self.state), PATIENCE, is_full);
        let (mut state, waited) = waited.unwrap_or_else(PoisonError::into_inner);
        if waited.timed_out() {
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                "all connections to Redis are in use",
            )
            .into());
        }
        state.in_use += 1;
        Ok((state.idle.pop(), Place { links: self }))
    }

    fn take_idle(&self, wanted: impl Fn(&Link) -> bool) -> Vec<Link> {
        lock(&self.state).idle.extract_if(.., |link| wanted(link)).collect()
    }
}

/// One more connection is in use until this is dropped.
struct Place<'l> {
    links: &'l Links,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.links.state).in_use -= 1;
        self.links.returned.notify_one();
    }
}
