//! The subscription on which this process is told what was handed over to it. No thread of its own
//! listens: of the threads that wait for a lock, one does, for all of them. So the one that is
//! meant is most often woken by the message itself.
//!
//! Whoever stops waiting calls another if nobody listens any more.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::{Connection, RedisError};

use super::link::Server;
use super::request::{Holding, Path, Request, Stage};
use super::script::HandOver;
use crate::failpoint;
use crate::lock::gate::lock;

/// How long a thread listens before it looks up: the housekeeper may have found out what no message
/// told.
const LISTENS_FOR: Duration = Duration::from_millis(250);

/// How often in a row nothing may be heard, though a sign of life was sent each time, before the
/// connection is given up.
const SILENCES_MAX: u32 = 4;

/// See the module.
#[derive(Default)]
pub(super) struct Ear(Mutex<State>);

#[derive(Default)]
struct State {
    /// `None` while someone listens, and while there is no connection.
    subscription: Option<Subscription>,
    /// Whether there is no connection.
    is_deaf: bool,
    waiting: BTreeMap<u64, Arc<Request>>,
}

/// A connection that is told.
pub(super) struct Subscription {
    connection: Connection,
    /// How long a read waits now.
    timeout: Duration,
    /// How often in a row nothing was heard.
    silences: u32,
}

/// What came of listening.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Listened {
    /// Somebody else listens, or nobody can.
    Not,
    /// Something was heard, or the caller had little time.
    Heard,
    /// Nothing for long: a sign of life is due.
    Silence,
}

/// Where a process is told.
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
        Ok(Self { connection, timeout: LISTENS_FOR, silences: 0 })
    }

    /// The next message; `None` if there was none in time.
    fn next(&mut self, wait: Duration) -> Result<Option<HandOver>, RedisError> {
        let wait = wait.clamp(Duration::from_millis(1), LISTENS_FOR);
        if wait != self.timeout {
            self.connection.set_read_timeout(Some(wait))?;
            self.timeout = wait;
        }
        // Not as the answer to a command: the client would skip the next message for each that did
        // not come in time.
        let mut messages = self.connection.as_pubsub();
        let message = messages.get_message();
        // Dropped, it would unsubscribe. It holds nothing.
        std::mem::forget(messages);
        match message {
            Err(error) if error.is_timeout() && self.silences == SILENCES_MAX => Err(error),
            Err(error) if error.is_timeout() => {
                self.silences += u32::from(wait == LISTENS_FOR);
                Ok(None)
            }
            Err(error) => Err(error),
            Ok(message) => {
                self.silences = 0;
                let text: String = message.get_payload()?;
                Ok(HandOver::read(&text).filter(|_| !failpoint::is_off("lock.redis.messages")))
            }
        }
    }
}

impl Ear {
    /// Opens the ear, anew if it was deaf, and has someone listen.
    pub(super) fn open(&self, subscription: Subscription) {
        let mut state = lock(&self.0);
        state.subscription = Some(subscription);
        state.is_deaf = false;
        let next = state.waiting.values().next().cloned();
        drop(state);
        if let Some(next) = next {
            next.call();
        }
    }

    pub(super) fn is_deaf(&self) -> bool {
        lock(&self.0).is_deaf
    }

    /// From here on `request` waits and may be called to listen.
    pub(super) fn join(&self, request: &Arc<Request>) {
        lock(&self.0).waiting.insert(request.number, Arc::clone(request));
    }

    /// `request` waits no more.
    pub(super) fn leave(&self, request: &Request) {
        let mut state = lock(&self.0);
        state.waiting.remove(&request.number);
        let nobody_listens = state.subscription.is_some();
        let next = state.waiting.values().next().filter(|_| nobody_listens).cloned();
        drop(state);
        if let Some(next) = next {
            next.call();
        }
    }

    /// Listens for one message, if nobody else does; returns at once if somebody does.
    ///
    /// # Errors
    /// The connection was lost: the ear is deaf until it is opened anew.
    pub(super) fn listen(
        &self,
        wait: Duration,
        heard: impl FnOnce(&HandOver),
    ) -> Result<Listened, RedisError> {
        let Some(mut subscription) = lock(&self.0).subscription.take() else {
            return Ok(Listened::Not);
        };
        let before = subscription.silences;
        let message = subscription.next(wait);
        let silent = subscription.silences > before;
        let mut state = lock(&self.0);
        state.is_deaf = message.is_err();
        state.subscription = Some(subscription).filter(|_| message.is_ok());
        drop(state);
        if let Some(hand_over) = message? {
            heard(&hand_over);
        }
        Ok(if silent { Listened::Silence } else { Listened::Heard })
    }
}

impl HandOver {
    /// Gives the request what it waited for; not if it was found out by asking, or given up.
    pub(super) fn give_to(&self, request: &Request) -> bool {
        request.advance(|state| match state.stage {
            Stage::Asking | Stage::Queued { .. } => {
                let now = Instant::now();
                let (path, grant) = (Path::Message, self.grant.clone());
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
