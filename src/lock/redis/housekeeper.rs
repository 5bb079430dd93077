//! The thread that renews the grants of this process and its places in line, learns of grants whose
//! messages were lost, and sends again the releases whose answers were lost. It has a connection of
//! its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redis::RedisError;

use super::client::{LockClient, reason};
use super::connection::LockConnection;
use super::grant_listener::Subscription;
use super::lock_request::{Request, Stage};
use super::script::Call;
use crate::failpoint;
use crate::lock::{LockError, LockKey, Purpose};

/// The most requests that one command renews.
const RENEWED_AT_ONCE: usize = 500;

/// The most commands that are sent in one round trip.
const SENT_AT_ONCE: usize = 100;

pub(super) fn start(client: &Arc<LockClient>) -> Result<(), LockError> {
    let client = Arc::clone(client);
    let run = move || {
        let mut connection = None;
        while !client.is_closed() {
            let next_round_in = client.run_round(&mut connection);
            client.wait_for_round(next_round_in);
        }
    };
    let thread = thread::Builder::new().name("lock-housekeeper".to_owned()).spawn(run);
    thread.map(drop).map_err(|source| LockError::Unavailable {
        what: "cannot start a thread".to_owned(),
        source,
    })
}

/// What has to be done for a request now.
#[derive(PartialEq, Eq)]
enum Due {
    Renewal,
    Release,
    Loss,
    Nothing,
}

impl LockClient {
    /// Does what is due. Returns the time until the next round.
    fn run_round(&self, connection: &mut Option<LockConnection>) -> Duration {
        let terms = &self.server.terms;
        self.connections.settle(&self.requests);
        let reopened = self.listener.is_disconnected() && self.reopen_listener();
        let now = Instant::now();
        let mut renewals: HashMap<LockKey, Vec<Arc<Request>>> = HashMap::new();
        let (mut next, mut is_away) = (terms.tick(), false);
        for request in self.requests.all() {
            match self.due(&request, now, reopened, &mut next) {
                Due::Renewal => renewals.entry(request.key.clone()).or_default().push(request),
                // If the server is out of reach, it is tried once in a round.
                Due::Release => is_away |= !self.release_again(&request, connection, is_away),
                Due::Loss => self.lose(&request, "it was held for longer than the maximum"),
                Due::Nothing => {}
            }
        }
        let of_locks: Vec<&[Arc<Request>]> =
            renewals.values().flat_map(|requests| requests.chunks(RENEWED_AT_ONCE)).collect();
        for locks in of_locks.chunks(SENT_AT_ONCE) {
            if let Err(error) = self.on_own_connection(connection, |client, connection| {
                client.renew_each(connection, locks)
            }) {
                let (key, others) = (&locks[0][0].key, locks.len() - 1);
                let and_others =
                    if others > 0 { format!(" and of {others} others") } else { String::new() };
                log::warn!(
                    "lock {key}: its leases{and_others} could not be renewed: {}",
                    reason(&error)
                );
            }
        }
        jittered(next)
    }

    /// What is due for a request. `reopened`: the listener has a new connection, so messages may
    /// have been missed.
    fn due(&self, request: &Request, now: Instant, reopened: bool, next: &mut Duration) -> Due {
        let terms = &self.server.terms;
        let state = request.state();
        match &state.stage {
            Stage::Held(holding)
                if failpoint::is_off("lock.redis.renewal") && holding.valid_until.is_some() =>
            {
                Due::Nothing
            }
            Stage::Held(holding)
                if request.key.purpose == Purpose::Turns
                    && now.duration_since(holding.since) > terms.max_hold =>
            {
                Due::Loss
            }
            Stage::Held(holding) if holding.valid_until.is_none() => Due::Renewal,
            Stage::Held(holding) if now.duration_since(holding.renewed) >= terms.lease / 4 => {
                Due::Renewal
            }
            Stage::Queued { .. } if reopened => Due::Renewal,
            Stage::Queued { renewed, free_at } => {
                if now >= *free_at || now.duration_since(*renewed) >= terms.claim() / 2 {
                    return Due::Renewal;
                }
                *next = (*next).min(free_at.saturating_duration_since(now));
                Due::Nothing
            }
            Stage::Ending { since } if now.duration_since(*since) >= terms.tick() => Due::Release,
            Stage::Held(_) | Stage::Asking | Stage::Lost(_) | Stage::Ending { .. } => Due::Nothing,
        }
    }

    /// Opens a new connection for the listener. Returns whether it could be opened.
    fn reopen_listener(&self) -> bool {
        match Subscription::open(&self.server, &self.process) {
            Ok(subscription) => {
                self.listener.open(subscription);
                log::info!("the lock listens to Redis on a new connection");
                true
            }
            Err(error) => {
                log::debug!("the lock cannot listen to Redis: {}", reason(&error));
                false
            }
        }
    }

    /// Tells the server once more that a request is over, until it must have expired anyway; not if
    /// it `is_away`. Whether it was told.
    fn release_again(
        &self,
        request: &Arc<Request>,
        connection: &mut Option<LockConnection>,
        is_away: bool,
    ) -> bool {
        let Stage::Ending { since } = request.state().stage else { return true };
        let sealed = request.state().sealed;
        let release = Call::Release { request: &request.id, sealed, remember: true };
        let tell = |client: &Self, connection: &mut LockConnection| {
            connection.call(&client.server, &client.requests, &request.keys, release)
        };
        let is_told = !is_away && self.on_own_connection(connection, tell).is_ok();
        if is_told || since.elapsed() > 2 * self.server.terms.lease {
            self.requests.end(request);
        }
        is_told
    }

    /// Runs `body` on the housekeeper's connection, which is dropped after an error.
    fn on_own_connection<T>(
        &self,
        own: &mut Option<LockConnection>,
        body: impl FnOnce(&Self, &mut LockConnection) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let mut connection = match own.take() {
            Some(connection) => connection,
            None => self.server.open_connection()?,
        };
        let value = body(self, &mut connection)?;
        *own = Some(connection);
        Ok(value)
    }
}

/// A random time between four and six fifths of `time`, so that processes that start together do
/// not stay in step.
fn jittered(time: Duration) -> Duration {
    let mut random = [0];
    let _ = getrandom::fill(&mut random);
    time * 4 / 5 + time * u32::from(random[0]) / 640
}
