//! The thread that renews what this process holds and the places in which it waits, finds out what
//! messages did not tell, and sends again the releases whose answers were lost. On a connection of
//! its own.

use std::collections::HashMap;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use redis::RedisError;

use super::ear::Subscription;
use super::link::Link;
use super::request::{Request, Stage};
use super::script::{Call, Standing};
use super::{Node, reason};
use crate::failpoint;
use crate::lock::{LockError, LockKey};

/// Renewed by one command at most.
const RENEWED_AT_ONCE: usize = 500;

pub(super) fn start(node: &Arc<Node>) -> Result<(), LockError> {
    let node = Arc::clone(node);
    let keep_house = move || {
        let mut link = None;
        while !node.is_closed() {
            let soonest = node.look_around(&mut link);
            node.idle(soonest);
        }
    };
    let thread = thread::Builder::new().name("lock-housekeeper".to_owned()).spawn(keep_house);
    thread.map(drop).map_err(|source| LockError::Unavailable {
        what: "cannot start a thread".to_owned(),
        source,
    })
}

/// What is to be done for a request now.
#[derive(PartialEq, Eq)]
enum Due {
    Renewal,
    Release,
    Loss,
    Nothing,
}

impl Node {
    /// Does what is due, and says when to look around again.
    fn look_around(&self, link: &mut Option<Link>) -> Duration {
        let terms = &self.server.terms;
        self.links.settle(&self.requests);
        let reopened = self.ear.is_deaf() && self.open_ear();
        let now = Instant::now();
        let mut renewals: HashMap<LockKey, Vec<Arc<Request>>> = HashMap::new();
        let mut next = terms.tick();
        for request in self.requests.all() {
            match self.due(&request, now, reopened, &mut next) {
                Due::Renewal => renewals.entry(request.key.clone()).or_default().push(request),
                Due::Release => self.release_again(&request, link),
                Due::Loss => self.lose(&request, "it was held for longer than the maximum"),
                Due::Nothing => {}
            }
        }
        for requests in renewals.values().flat_map(|requests| requests.chunks(RENEWED_AT_ONCE)) {
            if let Err(error) = self.on_own_link(link, |node, link| node.renew(link, requests)) {
                log::warn!(
                    "lock {}: leases could not be renewed: {}",
                    requests[0].key,
                    reason(&error)
                );
            }
        }
        jittered(next)
    }

    /// `reopened`: messages may have been missed.
    fn due(&self, request: &Request, now: Instant, reopened: bool, next: &mut Duration) -> Due {
        let terms = &self.server.terms;
        let state = request.state();
        match &state.stage {
            Stage::Held(holding)
                if failpoint::is_off("lock.redis.renewal") && holding.valid_until.is_some() =>
            {
                Due::Nothing
            }
            Stage::Held(holding) if now.duration_since(holding.since) > terms.max_hold => Due::Loss,
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

    /// Listens on a new connection; whether that was possible.
    fn open_ear(&self) -> bool {
        match Subscription::open(&self.server, &self.process) {
            Ok(subscription) => {
                self.ear.open(subscription);
                log::info!("the lock listens to Redis on a new connection");
                true
            }
            Err(error) => {
                log::debug!("the lock cannot listen to Redis: {}", reason(&error));
                false
            }
        }
    }

    /// Renews what the requests, all of one lock, hold, or their places in line, and notes what is
    /// said of each. The server's time in microseconds.
    pub(super) fn renew(
        &self,
        link: &mut Link,
        requests: &[Arc<Request>],
    ) -> Result<u64, RedisError> {
        let ids: Vec<&str> = requests.iter().map(|request| request.id.as_str()).collect();
        let sent = Instant::now();
        let answer = link.call(
            &self.server,
            &self.requests,
            &requests[0].keys,
            Call::Renew { requests: &ids },
        )?;
        let (now_us, standings) = Standing::read_all(&answer)?;
        for (request, standing) in requests.iter().zip(&standings) {
            self.note(request, standing, sent);
        }
        Ok(now_us)
    }

    /// Tells the server once more that a request is over. When it must have expired anyway, that is
    /// left.
    fn release_again(&self, request: &Arc<Request>, link: &mut Option<Link>) {
        let Stage::Ending { since } = request.state().stage else { return };
        let sealed = request.state().sealed;
        let release = Call::Release { request: &request.id, sealed, remember: true };
        let told = self.on_own_link(link, |node, link| {
            link.call(&node.server, &node.requests, &request.keys, release)
        });
        if told.is_ok() || since.elapsed() > 2 * self.server.terms.lease {
            self.requests.end(request);
        }
    }

    fn on_own_link<T>(
        &self,
        own: &mut Option<Link>,
        body: impl FnOnce(&Self, &mut Link) -> Result<T, RedisError>,
    ) -> Result<T, RedisError> {
        let mut link = match own.take() {
            Some(link) => link,
            None => self.server.link()?,
        };
        let value = body(self, &mut link)?;
        *own = Some(link);
        Ok(value)
    }
}

/// Between four and six fifths of it: so that processes that were started together do not go on
/// together.
fn jittered(time: Duration) -> Duration {
    let mut random = [0];
    let _ = getrandom::fill(&mut random);
    time * 4 / 5 + time * u32::from(random[0]) / 640
}
