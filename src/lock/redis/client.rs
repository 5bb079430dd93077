//! The lock as one process uses it: what its threads share, and how a request is sent, waited for,
//! renewed and ended.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use redis::{RedisError, Value};

use super::connection::{ConnectionPool, LockConnection, Server};
use super::grant_listener::{self, GrantListener, Listened, Subscription};
use super::lock_request::{GrantPath, Holding, Request, Requests, Stage, State};
use super::metrics::Metrics;
use super::script::{Call, Message, RequestStatus, WriterGrant};
use crate::db::on_one_line;
use crate::lock::gate::{Deadline, lock};
use crate::lock::{LockError, Mode};

/// How long an unreachable server is asked again before the caller gets an error.
const RETRY_FOR: Duration = Duration::from_secs(1);

/// The pause between two attempts.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// What the threads of one process share.
pub(super) struct LockClient {
    /// Names this process in requests: host, process id and a random number.
    pub(super) process: String,
    pub(super) server: Server,
    pub(super) connections: ConnectionPool,
    pub(super) requests: Requests,
    pub(super) listener: GrantListener,
    pub(super) metrics: Metrics,
    /// Whether the lock was dropped. Its threads end when the last request is over.
    closing: AtomicBool,
    /// Whether the housekeeper must run a round at once.
    round_is_due: Mutex<bool>,
    round_became_due: Condvar,
    /// Counts messages that another process wants what this one holds, and that nobody listens any
    /// more.
    news: Mutex<u64>,
    news_came: Condvar,
}

fn ids_of(requests: &[Arc<Request>]) -> Vec<&str> {
    requests.iter().map(|request| request.id.as_str()).collect()
}

impl LockClient {
    /// The client of a server, with its listener.
    ///
    /// # Errors
    /// [`LockError::Unavailable`] when the server does not answer.
    pub(super) fn open(server: Server) -> Result<Self, LockError> {
        let process = process_name()?;
        let subscription = Subscription::open(&server, &process);
        let client = Self {
            process,
            server,
            connections: ConnectionPool::default(),
            requests: Requests::default(),
            listener: GrantListener::default(),
            metrics: Metrics::new(),
            closing: AtomicBool::new(false),
            round_is_due: Mutex::new(false),
            round_became_due: Condvar::new(),
            news: Mutex::default(),
            news_came: Condvar::new(),
        };
        client
            .listener
            .open(subscription.map_err(|error| unavailable("cannot open the Redis lock", error))?);
        Ok(client)
    }

    /// Lets the threads end once the last request is over.
    pub(super) fn close(&self) {
        self.closing.store(true, Ordering::SeqCst);
        self.wake_housekeeper();
    }

    /// Gets the lock for the request. After an error the request is over, or the housekeeper ends
    /// it.
    pub(super) fn obtain(
        &self,
        request: &Arc<Request>,
        deadline: &Deadline,
        waits: bool,
    ) -> Result<Holding, LockError> {
        let timeout = || LockError::Timeout { waited: deadline.waited() };
        loop {
            match self.ask(request, waits) {
                Ok(RequestStatus::Held { .. } | RequestStatus::Queued(_)) => {}
                // An earlier copy of the request may still arrive and be granted.
                Ok(RequestStatus::Busy) if request.state().may_still_arrive => {
                    self.give_up(request);
                    return Err(timeout());
                }
                Ok(RequestStatus::Busy) => {
                    self.requests.end(request);
                    return Err(timeout());
                }
                Ok(RequestStatus::Ended | RequestStatus::Unknown) => {
                    self.give_up(request);
                    let reason = io::Error::other("the server says that the request has ended");
                    return Err(LockError::Unavailable {
                        what: "cannot take the lock".to_owned(),
                        source: reason,
                    });
                }
                Err(error) => {
                    self.give_up(request);
                    return Err(unavailable("cannot take the lock", error));
                }
            }
            match self.wait(request, deadline) {
                Some(Waited::Granted(holding)) => return Ok(holding),
                Some(Waited::Forgotten) => {
                    request.advance(|_| Some(Stage::Asking));
                }
                None => {
                    self.give_up(request);
                    return Err(timeout());
                }
            }
        }
    }

    /// Waits until a request in line is granted or forgotten; `None` when the time is up. Listens
    /// for all that wait, if no other thread does.
    fn wait(&self, request: &Arc<Request>, deadline: &Deadline) -> Option<Waited> {
        let outcome_of = |state: &State| match &state.stage {
            Stage::Held(holding) => Some(Waited::Granted(holding.clone())),
            // Forgotten by the server; or granted, and lost before this thread woke up.
            Stage::Asking | Stage::Lost(_) => Some(Waited::Forgotten),
            Stage::Queued { .. } | Stage::Ending { .. } => None,
        };
        if let Some(waited) = outcome_of(&request.state()) {
            return Some(waited);
        }
        self.listener.join(request);
        let waited = loop {
            let remaining = deadline.remaining();
            if let Some(waited) = outcome_of(&request.state()) {
                break Some(waited);
            }
            if remaining.is_zero() {
                break None;
            }
            if !self.listen(remaining) {
                // Until the request is granted or forgotten, or this thread must listen.
                let is_over = |state: &mut State| {
                    outcome_of(state).is_some() || std::mem::take(&mut state.must_listen)
                };
                request.wait_for(deadline, |state| is_over(state).then_some(()));
            }
        };
        if self.listener.leave(request) {
            self.spread_news();
        }
        waited
    }

    /// Listens for one message to this process. Returns whether it did: `false` at once if another
    /// thread listens or there is no connection.
    fn listen(&self, wait: Duration) -> bool {
        match self.listener.listen(wait, |message| self.receive(message)) {
            Ok(Listened::Heard) => true,
            Ok(Listened::Silence) => {
                // If the connection works, whoever listens next receives it.
                self.send_heartbeat();
                true
            }
            Ok(Listened::Not) => false,
            Err(error) => {
                log::warn!("the lock hears nothing from Redis: {}", reason(&error));
                self.wake_housekeeper();
                false
            }
        }
    }

    /// Listens for `wait`, so that what is kept is given back when another process wants it; or
    /// lets another thread do so. Returns early when such a message comes.
    pub(super) fn listen_for_others(&self, wait: Duration) {
        let deadline = Deadline::after(wait);
        let seen = *lock(&self.news);
        let listened = self.listen(wait);
        self.listener.let_another_listen();
        if !listened {
            let is_new = |news: &mut u64| (*news != seen).then_some(());
            let _ = deadline.wait_for(&self.news_came, lock(&self.news), is_new);
        }
    }

    /// Wakes who waits in [`listen_for_others`](Self::listen_for_others).
    fn spread_news(&self) {
        *lock(&self.news) += 1;
        self.news_came.notify_all();
    }

    /// Publishes an empty message to this process, to test the connection of the listener.
    fn send_heartbeat(&self) {
        let sent = self.connections.with(&self.server, |connection| {
            connection.publish(&self.requests, &grant_listener::channel(&self.process))
        });
        if let Err(error) = sent {
            log::debug!("no sign of life could be sent: {}", reason(&error));
        }
    }

    /// Tells the requests of this process what a message says of them.
    fn receive(&self, message: &Message) {
        let hand_off = match message {
            Message::HandOff(hand_off) => hand_off,
            Message::Wanted(number) => {
                if let Some(request) = self.requests.get(*number) {
                    request.state().is_wanted = true;
                    self.spread_news();
                }
                return;
            }
        };
        let requests = hand_off.requests.iter().filter_map(|number| self.requests.get(*number));
        let given = requests.filter(|request| hand_off.grant_to(request)).count();
        if given > 0 {
            let mode = if hand_off.grant.is_some() { Mode::Exclusive } else { Mode::Shared };
            self.metrics.observe_hand_off(mode, hand_off.at_us);
        }
    }

    /// Asks for the lock, again if the answer is lost, and notes the answer.
    fn ask(&self, request: &Arc<Request>, waits: bool) -> Result<RequestStatus, RedisError> {
        let began = Instant::now();
        loop {
            let mut sent = Instant::now();
            let asked = self.connections.with(&self.server, |connection| {
                let acquire = Call::Acquire { request: &request.id, mode: request.mode, waits };
                sent = Instant::now();
                let answer =
                    connection.call(&self.server, &self.requests, &request.keys, acquire)?;
                RequestStatus::read(&answer)
            });
            match asked {
                Ok(status) => {
                    self.note(request, &status, sent);
                    return Ok(status);
                }
                Err(error) => {
                    // The server may still receive what was sent.
                    request.state().may_still_arrive = true;
                    if began.elapsed() >= RETRY_FOR {
                        return Err(error);
                    }
                    log::debug!("lock {}: asked again, as {}", request.key, reason(&error));
                    thread::sleep(RETRY_PAUSE);
                }
            }
        }
    }

    /// Renews the grants of requests for one lock, or their places in line, and notes the answer
    /// for each. Returns the server's time in microseconds.
    pub(super) fn renew(
        &self,
        connection: &mut LockConnection,
        requests: &[Arc<Request>],
    ) -> Result<u64, RedisError> {
        let ids = ids_of(requests);
        let sent = Instant::now();
        let answer = connection.call(
            &self.server,
            &self.requests,
            &requests[0].keys,
            Call::Renew { requests: &ids },
        )?;
        self.note_renewal(requests, &answer, sent)
    }

    /// The same for requests for several locks, each lock's together, in one round trip. What is
    /// wrong with one lock harms no other.
    pub(super) fn renew_each(
        &self,
        connection: &mut LockConnection,
        locks: &[&[Arc<Request>]],
    ) -> Result<(), RedisError> {
        let ids: Vec<Vec<&str>> = locks.iter().map(|requests| ids_of(requests)).collect();
        let calls: Vec<_> = locks
            .iter()
            .zip(&ids)
            .map(|(requests, ids)| (&requests[0].keys, Call::Renew { requests: ids }))
            .collect();
        let sent = Instant::now();
        let answers = connection.call_each(&self.server, &self.requests, &calls)?;
        let mut first_error = None;
        for (requests, answer) in locks.iter().zip(answers) {
            let noted = answer.and_then(|answer| self.note_renewal(requests, &answer, sent));
            first_error = first_error.or(noted.err());
        }
        first_error.map_or(Ok(()), Err)
    }

    fn note_renewal(
        &self,
        requests: &[Arc<Request>],
        answer: &Value,
        sent: Instant,
    ) -> Result<u64, RedisError> {
        let (now_us, statuses) = RequestStatus::read_all(answer)?;
        for (request, status) in requests.iter().zip(&statuses) {
            self.note(request, status, sent);
        }
        Ok(now_us)
    }

    /// Notes the server's answer about a request. A message may have come before it.
    fn note(&self, request: &Request, status: &RequestStatus, sent: Instant) {
        let terms = &self.server.terms;
        let valid_until = Some(sent + terms.lease - terms.margin());
        let held = |path, grant: &Option<WriterGrant>| {
            Some(Stage::Held(Holding {
                path,
                grant: grant.clone(),
                since: sent,
                renewed: sent,
                valid_until,
            }))
        };
        if let RequestStatus::Held { is_wanted, .. } = status {
            let mut state = request.state();
            state.is_wanted |= is_wanted;
            state.unwanted_at = if *is_wanted { None } else { Some(sent) };
        }
        let advanced = request.advance(|state| match (status, &state.stage) {
            (RequestStatus::Held { grant, .. }, Stage::Asking) => held(GrantPath::Free, grant),
            (RequestStatus::Held { grant, .. }, Stage::Queued { .. }) => {
                held(GrantPath::Asked, grant)
            }
            (RequestStatus::Held { .. }, Stage::Held(holding)) => {
                Some(Stage::Held(Holding { renewed: sent, valid_until, ..holding.clone() }))
            }
            (RequestStatus::Queued(free_in), Stage::Asking | Stage::Queued { .. }) => {
                // At least a pause, whatever the server says.
                let free_at = Instant::now() + (*free_in).max(terms.tick() / 4);
                Some(Stage::Queued { renewed: sent, free_at })
            }
            (RequestStatus::Unknown, Stage::Queued { .. }) => Some(Stage::Asking),
            _ => None,
        });
        if !advanced && *status == RequestStatus::Unknown {
            self.lose(request, "its lease ran out");
        }
    }

    /// Notes that the request has lost the lock, if it held it. It never holds it again, whatever
    /// the server answers.
    pub(super) fn lose(&self, request: &Request, what: &'static str) {
        if request
            .advance(|state| matches!(state.stage, Stage::Held(_)).then_some(Stage::Lost(what)))
        {
            self.metrics.leases_lost.inc();
            log::warn!("lock {}: lost: {what}", request.key);
        }
    }

    /// Tells the server that the request is over, and waits for the answer, so that the request
    /// blocks nobody. If that fails, the housekeeper keeps trying.
    pub(super) fn give_up(&self, request: &Arc<Request>) {
        request.advance(|_| Some(Stage::Ending { since: Instant::now() }));
        let remember = request.state().may_still_arrive;
        let release = Call::Release { request: &request.id, sealed: false, remember };
        let told = self.connections.with(&self.server, |connection| {
            connection.call(&self.server, &self.requests, &request.keys, release)
        });
        match told {
            Ok(_) => self.requests.end(request),
            Err(error) => {
                log::debug!("lock {}: will be told later, as {}", request.key, reason(&error))
            }
        }
    }

    /// Releases the lock without waiting for the answer.
    pub(super) fn release(&self, request: &Arc<Request>) {
        request.advance(|_| Some(Stage::Ending { since: Instant::now() }));
        let (sealed, remember) = {
            let state = request.state();
            (state.sealed, state.may_still_arrive)
        };
        let release = Call::Release { request: &request.id, sealed, remember };
        let sent = self.connections.with(&self.server, |connection| {
            connection.send_release(&self.server, request, release)
        });
        if let Err(error) = sent {
            log::debug!("lock {}: will be given back later, as {}", request.key, reason(&error));
            self.wake_housekeeper();
        }
    }

    /// Has the housekeeper run a round at once.
    pub(super) fn wake_housekeeper(&self) {
        *lock(&self.round_is_due) = true;
        self.round_became_due.notify_all();
    }

    /// Waits until the housekeeper's next round: `time`, or until somebody wakes it.
    pub(super) fn wait_for_round(&self, time: Duration) {
        let is_due = lock(&self.round_is_due);
        let waited = self.round_became_due.wait_timeout_while(is_due, time, |is_due| !*is_due);
        let (mut is_due, _) = waited.unwrap_or_else(PoisonError::into_inner);
        *is_due = false;
    }

    /// Whether the threads may end.
    pub(super) fn is_closed(&self) -> bool {
        self.closing.load(Ordering::SeqCst) && self.requests.are_over()
    }
}

/// The outcome of a wait.
enum Waited {
    Granted(Holding),
    /// The server no longer knows the request: it must be sent again.
    Forgotten,
}

/// The name of this process, `HOST:PID:RANDOM`, without characters that separate names.
fn process_name() -> Result<String, LockError> {
    let mut random = [0; 8];
    let failed = |error| LockError::Unavailable {
        what: "cannot name this process".to_owned(),
        source: error,
    };
    getrandom::fill(&mut random).map_err(|error| failed(io::Error::other(error)))?;
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
        .unwrap_or_else(|_| "unknown".to_owned());
    let host: String = host
        .chars()
        .filter(|letter| letter.is_ascii_alphanumeric() || "-._".contains(*letter))
        .collect();
    Ok(format!("{host}:{}:{:016x}", std::process::id(), u64::from_be_bytes(random)))
}

/// A failed call as an error of the lock; `what` says what could not be done.
pub(super) fn unavailable(what: &str, error: RedisError) -> LockError {
    LockError::Unavailable { what: what.to_owned(), source: io::Error::other(reason(&error)) }
}

/// Why a call failed, in words for people.
pub(super) fn reason(error: &RedisError) -> String {
    if error.is_timeout() { "Redis did not answer in time".to_owned() } else { on_one_line(error) }
}
