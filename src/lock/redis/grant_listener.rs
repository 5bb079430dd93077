//! Receives the messages by which the server tells this process what was handed over to it, and
//! what it holds that others want. Of the threads that wait for a lock, one listens for all of
//! them. So the message itself usually wakes the thread that it is meant for. While locks are kept,
//! the thread that gives them back takes part.
//!
//! A thread that stops waiting has another one listen, if nobody else does.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::{Connection, RedisError};

use super::connection::Server;
use super::lock_request::{GrantPath, Holding, Request, Stage};
use super::script::{HandOff, Message};
use crate::failpoint;
use crate::lock::gate::lock;

/// How long a thread listens before it looks at its request, of which the housekeeper may have
/// learned without a message.
const LISTENS_FOR: Duration = Duration::from_millis(250);

/// After how many silences in a row, with a heartbeat sent after each, the connection is given up.
const SILENCES_MAX: u32 = 4;

/// See the module.
#[derive(Default)]
pub(super) struct GrantListener(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None` while a thread listens, and while there is no connection.
    subscription: Option<Subscription>,
    /// Whether there is no connection.
    disconnected: bool,
    waiting: BTreeMap<u64, Arc<Request>>,
}

/// The connection on which messages arrive.
pub(super) struct Subscription {
    connection: Connection,
    /// The read timeout that is set on it.
    timeout: Duration,
    /// For how long in a row somebody listened and received nothing, up to [`LISTENS_FOR`].
    silent_for: Duration,
    /// How many silences of that length there were in a row.
    silences: u32,
}

/// The outcome of listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listened {
    /// Another thread listens, or there is no connection.
    Not,
    /// A message came, or the time was too short to tell.
    Heard,
    /// No message came for long: a heartbeat is due.
    Silence,
}

/// The channel of a process.
pub(super) fn channel(process: &str) -> String {
    format!("fencepost:lock:{process}")
}

impl Subscription {
    pub(super) fn open(server: &Server, process: &str) -> Result<Self, RedisError> {
        let mut connection = server.connect()?;
        let subscribe = redis::cmd("SUBSCRIBE").arg(channel(process)).get_packed_command();
        connection.send_packed_command(&subscribe)?;
        connection.recv_response()?.extract_error()?;
        connection.set_read_timeout(Some(LISTENS_FOR))?;
        Ok(Self { connection, timeout: LISTENS_FOR, silent_for: Duration::ZERO, silences: 0 })
    }

    /// The next message; `None` if none came in time.
    fn next(&mut self, wait: Duration) -> Result<Option<Message>, RedisError> {
        let wait = wait.clamp(Duration::from_millis(1), LISTENS_FOR);
        if wait != self.timeout {
            self.connection.set_read_timeout(Some(wait))?;
            self.timeout = wait;
        }
        let began = Instant::now();
        // Not read as the answer to a command: after each timeout the client would skip a message.
        let mut messages = self.connection.as_pubsub();
        let message = messages.get_message();
        // Dropping it would unsubscribe. It owns nothing.
        std::mem::forget(messages);
        match message {
            Err(error) if error.is_timeout() => {
                self.silent_for += began.elapsed();
                if self.silent_for < LISTENS_FOR {
                    return Ok(None);
                }
                if self.silences == SILENCES_MAX {
                    return Err(error);
                }
                (self.silent_for, self.silences) = (Duration::ZERO, self.silences + 1);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(message) => {
                (self.silent_for, self.silences) = (Duration::ZERO, 0);
                let text: String = message.get_payload()?;
                Ok(Message::read(&text).filter(|_| !failpoint::is_off("lock.redis.messages")))
            }
        }
    }
}

impl GrantListener {
    /// Takes a first or new connection, and has a waiting thread listen.
    pub(super) fn open(&self, subscription: Subscription) {
        let mut state = lock(&self.0);
        state.subscription = Some(subscription);
        state.disconnected = false;
        let next = state.waiting.values().next().cloned();
        drop(state);
        if let Some(next) = next {
            next.ask_to_listen();
        }
    }

    /// Whether the connection was lost and must be opened again.
    pub(super) fn is_disconnected(&self) -> bool {
        lock(&self.0).disconnected
    }

    /// Adds a request that waits, whose thread may be asked to listen.
    pub(super) fn join(&self, request: &Arc<Request>) {
        lock(&self.0).waiting.insert(request.number, Arc::clone(request));
    }

    /// Removes a request that no longer waits. Has another thread that waits listen, if none does.
    /// Returns whether nobody listens.
    pub(super) fn leave(&self, request: &Request) -> bool {
        lock(&self.0).waiting.remove(&request.number);
        self.let_another_listen()
    }

    /// Has a thread that waits for a lock listen, if none does. Returns whether nobody listens.
    pub(super) fn let_another_listen(&self) -> bool {
        let state = lock(&self.0);
        let nobody_listens = state.subscription.is_some();
        let next = state.waiting.values().next().filter(|_| nobody_listens).cloned();
        drop(state);
        let Some(next) = next else { return nobody_listens };
        next.ask_to_listen();
        false
    }

    /// Listens for one message, unless another thread listens: then it returns at once.
    ///
    /// # Errors
    /// The connection was lost. Nobody can listen until it is opened again.
    pub(super) fn listen(
        &self,
        wait: Duration,
        receive: impl FnOnce(&Message),
    ) -> Result<Listened, RedisError> {
        let Some(mut subscription) = lock(&self.0).subscription.take() else {
            return Ok(Listened::Not);
        };
        let before = subscription.silences;
        let message = subscription.next(wait);
        let silent = subscription.silences > before;
        let mut state = lock(&self.0);
        state.disconnected = message.is_err();
        state.subscription = Some(subscription).filter(|_| message.is_ok());
        drop(state);
        if let Some(message) = message? {
            receive(&message);
        }
        Ok(if silent { Listened::Silence } else { Listened::Heard })
    }
}

impl HandOff {
    /// Marks the request as granted, unless the grant is known already, or the request is over.
    pub(super) fn grant_to(&self, request: &Request) -> bool {
        request.advance(|state| match state.stage {
            Stage::Asking | Stage::Queued { .. } => {
                let now = Instant::now();
                let (path, grant) = (GrantPath::Message, self.grant.clone());
                Some(Stage::Held(Holding {
                    path,
                    grant,
                    since: now,
                    renewed: now,
                    valid_until: None,
                }))
            }
            Stage::Held(_) | Stage::Lost(_) | Stage::Ending { .. } => None,
        })
    }
}
