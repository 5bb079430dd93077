//! The thread that hears what was handed over to this process, wakes who waits for it, and claims it.

use std::sync::Arc;
use std::sync::mpsc::{self, SyncSender};
use std::thread;
use std::time::{Duration, Instant};

use redis::{RedisError, Value};

use super::link::Link;
use super::request::{Holding, Path, Request, Stage};
use super::script::HandOver;
use super::{Node, unavailable};
use crate::db::on_one_line;
use crate::failpoint;
use crate::lock::LockError;

/// How long it hears nothing before it asks whether the connection lives.
const SILENCE: Duration = Duration::from_millis(500);

/// Between two tries to reach the server.
const TRY_AGAIN_AFTER: Duration = Duration::from_millis(100);

/// Claimed at once at most.
const CLAIMS: usize = 500;

type Outcome = Result<(), RedisError>;

/// Starts it, and waits until it hears.
pub(super) fn start(node: &Arc<Node>) -> Result<(), LockError> {
    let (first, hears) = mpsc::sync_channel(1);
    let listener = Listener { node: Arc::clone(node), first: Some(first), claims: None };
    let thread = thread::Builder::new().name("lock-listener".to_owned()).spawn(move || listener.run());
    thread.map_err(|source| LockError::Unavailable { what: "cannot start a thread".to_owned(), source })?;
    let heard = hears.recv().expect("the listener says whether it hears");
    heard.map_err(|error| unavailable("cannot listen to Redis", error))
}

struct Listener {
    node: Arc<Node>,
    /// Whom to tell of the first subscription.
    first: Option<SyncSender<Outcome>>,
    /// The connection to claim on.
    claims: Option<Link>,
}

impl Listener {
    fn run(mut self) {
        while let Err(error) = self.listen() {
            if let Some(first) = self.first.take() {
                drop(first.send(Err(error)));
                return;
            }
            log::warn!("the lock hears nothing from Redis: {}", on_one_line(error));
            thread::sleep(TRY_AGAIN_AFTER);
        }
    }

    /// Listens until the lock is closed.
    fn listen(&mut self) -> Outcome {
        let mut connection = self.node.server.connect()?;
        connection.set_read_timeout(Some(SILENCE))?;
        let mut messages = connection.as_pubsub();
        messages.subscribe(format!("fencepost:lock:{}", self.node.process))?;
        match self.first.take() {
            Some(first) => drop(first.send(Ok(()))),
            // What was said meanwhile is asked for.
            None => self.node.hurry(),
        }
        while !self.node.is_closed() {
            match messages.get_message() {
                Ok(_) if failpoint::is_off("lock.redis.messages") => {}
                Ok(message) => match HandOver::read(&message.get_payload::<String>()?) {
                    Some(hand_over) => self.hear(&hand_over),
                    None => log::warn!("the lock was told what it does not understand"),
                },
                Err(error) if error.is_timeout() => drop(messages.ping::<Value>()?),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn hear(&mut self, hand_over: &HandOver) {
        let requests = hand_over.requests.iter().filter_map(|number| self.node.requests.get(*number));
        let granted: Vec<Arc<Request>> = requests.filter(|request| hold(request, hand_over)).collect();
        for some in granted.chunks(CLAIMS) {
            if let Err(error) = self.claim(some, hand_over.at_us) {
                // The housekeeper claims what is left.
                log::debug!("a claim failed: {}", on_one_line(error));
                self.claims = None;
                self.node.hurry();
            }
        }
    }

    /// Claims what was handed over, all of one lock.
    fn claim(&mut self, granted: &[Arc<Request>], at_us: u64) -> Outcome {
        let node = &self.node;
        let mut link = match self.claims.take() {
            Some(link) => link,
            None => node.server.link()?,
        };
        let now_us = node.renew(&mut link, granted)?;
        self.claims = Some(link);
        // By the server's clock: from the grant to the claim.
        let handed_over = Duration::from_micros(now_us.saturating_sub(at_us));
        node.metrics.observe_hand_off(granted[0].mode, handed_over);
        Ok(())
    }
}

/// Whether the request waited for this.
fn hold(request: &Request, hand_over: &HandOver) -> bool {
    request.advance(|state| match state.stage {
        Stage::Asking | Stage::Queued { .. } => {
            let now = Instant::now();
            Some(Stage::Held(Holding {
                path: Path::Message,
                grant: hand_over.grant.clone(),
                since: now,
                renewed: now,
                valid_until: None,
            }))
        }
        // Held: it was found out by asking. Ending: the server is being told.
        Stage::Held(_) | Stage::Lost(_) | Stage::Ending { .. } => None,
    })
}
