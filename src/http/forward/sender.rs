//! Sends requests to other nodes: on connections that are kept, bounded in number and in bytes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rocket::tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use rocket::tokio::time::timeout;

use super::envelope::{ANSWER_HEADERS, Envelope, Outcome, PASSED_ON, Signed};
use super::limits::ForwardLimits;
use super::secret::ForwardSecret;
use crate::http::asked::Asked;
use crate::http::headers::{FORWARDED, Headers};
use crate::http::problem::{Kind, Problem};
use crate::http::reply::{Content, Reply};

/// Where a node is asked about itself, and about writes, by other nodes.
pub const PATH: &str = "/v1/forwarding";
/// The longest answer that is passed on, in bytes.
const ANSWER_BYTES: usize = 64 << 20;
/// How long a connection is kept that nobody uses: less than servers keep one.
const IDLE_FOR: Duration = Duration::from_secs(4);
/// How bytes are counted: a semaphore counts no more than 32 bits.
const UNIT: usize = 1 << 10;
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/problem+json"];

/// See the module.
pub(super) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    limits: ForwardLimits,
    connections: Semaphore,
    units: Semaphore,
    /// By address: one slow leader is not to hold up what goes to others.
    of_leader: Mutex<HashMap<String, Arc<Semaphore>>>,
    waiting: AtomicUsize,
}

/// What a node has answered.
pub(super) struct Answer {
    /// For the client.
    pub(super) reply: Reply,
    /// What the node says itself; `None` if it is not the node, or does not believe this one.
    pub(super) outcome: Option<Outcome>,
}

/// Why there is no answer.
pub(super) enum NotSent {
    /// Nothing was sent.
    Never(String),
    /// It may have come.
    Perhaps(String),
}

/// Place for one more write.
pub(super) struct Room<'s> {
    _of_leader: OwnedSemaphorePermit,
    _connection: SemaphorePermit<'s>,
    _units: SemaphorePermit<'s>,
}

/// Counts one that waits.
struct Waits<'s>(&'s AtomicUsize);

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Sender {
    pub(super) fn new(limits: ForwardLimits) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        connector.set_connect_timeout(Some(limits.connects_within));
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE_FOR)
            .pool_max_idle_per_host(limits.connections)
            .build(connector);
        let units = limits.bytes.div_ceil(UNIT);
        Self {
            client,
            limits,
            connections: Semaphore::new(limits.connections.max(1)),
            units: Semaphore::new(units.clamp(1, Semaphore::MAX_PERMITS)),
            of_leader: Mutex::default(),
            waiting: AtomicUsize::new(0),
        }
    }

    /// Waits until so many bytes more may be under way to the leader at `address`.
    ///
    /// # Errors
    /// [`Problem`] if too many wait, or that takes too long.
    pub(super) async fn room(&self, address: &str, bytes: usize) -> Result<Room<'_>, Problem> {
        let full = |what: String| Problem::new(Kind::Contended, what);
        let waits = Waits(&self.waiting);
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= self.limits.waiting {
            let limit = self.limits.waiting;
            return Err(full(format!("{limit} writes wait to be passed on to the leader")));
        }
        let most = self.limits.bytes.div_ceil(UNIT);
        let units = u32::try_from(bytes.div_ceil(UNIT).clamp(1, most)).unwrap_or(u32::MAX);
        let of_leader = self.of_leader(address);
        let room = async {
            let of_leader = of_leader.acquire_owned().await.expect("it is never closed");
            let connection = self.connections.acquire().await.expect("it is never closed");
            let units = self.units.acquire_many(units).await.expect("it is never closed");
            Room { _of_leader: of_leader, _connection: connection, _units: units }
        };
        let room = timeout(self.limits.waits, room).await;
        drop(waits);
        room.map_err(|_| full("the leader answers too slowly: too many writes wait for it".into()))
    }

    fn of_leader(&self, address: &str) -> Arc<Semaphore> {
        let mut all = self.of_leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(address) {
            return Arc::clone(known);
        }
        // Those that nobody uses.
        all.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
        let made = Arc::new(Semaphore::new(self.limits.to_one_leader.max(1)));
        all.insert(address.to_owned(), Arc::clone(&made));
        made
    }

    /// Sends a client's write to the node at `address`. Waits no longer once somebody else leads the
    /// graph, which `moved` tells.
    pub(super) async fn send(
        &self,
        address: &str,
        asked: &Asked,
        envelope: &Envelope,
        secret: &ForwardSecret,
        moved: impl Future<Output = ()>,
    ) -> Result<Answer, NotSent> {
        let Asked { method, target, headers, body, .. } = asked;
        let signed = Signed { method, target, headers, body };
        let exchange = self.exchange(address, &signed, body.clone(), envelope, secret);
        let limit = self.limits.answers_within;
        rocket::tokio::select! {
            answer = timeout(limit, exchange) => {
                let late = || format!("no answer within {} s", limit.as_secs());
                answer.unwrap_or_else(|_| Err(NotSent::Perhaps(late())))
            }
            () = moved => Err(NotSent::Perhaps("another node has taken over meanwhile".to_owned())),
        }
    }

    /// Asks the node at `address`. `None` if what answers is not that node.
    pub(super) async fn ask(
        &self,
        address: &str,
        envelope: &Envelope,
        secret: &ForwardSecret,
        within: Duration,
    ) -> Result<Option<Outcome>, NotSent> {
        let headers = Headers::default();
        let signed = Signed { method: "POST", target: PATH, headers: &headers, body: b"" };
        let exchange = self.exchange(address, &signed, Bytes::new(), envelope, secret);
        let late = |_| NotSent::Never("it does not answer".to_owned());
        Ok(timeout(within, exchange).await.map_err(late)??.outcome)
    }

    async fn exchange(
        &self,
        address: &str,
        signed: &Signed<'_>,
        body: Bytes,
        envelope: &Envelope,
        secret: &ForwardSecret,
    ) -> Result<Answer, NotSent> {
        let uri = format!("{address}{}", signed.target);
        let mut request = hyper::Request::builder()
            .method(signed.method)
            .uri(uri)
            .header(FORWARDED, envelope.sign(signed, secret));
        for name in PASSED_ON {
            if let Some(value) = signed.headers.get(name) {
                let value = HeaderValue::from_bytes(value.as_bytes());
                let value = value.map_err(|error| NotSent::Never(error.to_string()))?;
                request = request.header(name, value);
            }
        }
        let request = request
            .body(Full::new(body))
            .map_err(|error| NotSent::Never(format!("it cannot be sent: {error}")))?;
        let response = self.client.request(request).await.map_err(|error| not_sent(&error))?;
        let broke = |what: String| NotSent::Perhaps(format!("the answer broke off: {what}"));
        let (head, body): (_, Incoming) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES).collect().await;
        let body = body.map_err(|error| broke(error.to_string()))?.to_bytes();
        let status = head.status.as_u16();
        let said = text_of(&head.headers, FORWARDED);
        let reply = reply_of(status, &head.headers, &body);
        let outcome = said.and_then(|said| Outcome::read(said, &envelope.request, &reply, secret));
        Ok(Answer { reply, outcome })
    }
}

fn not_sent(error: &Error) -> NotSent {
    let mut what = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        what = format!("{what}: {error}");
        cause = error.source();
    }
    if error.is_connect() { NotSent::Never(what) } else { NotSent::Perhaps(what) }
}

fn text_of<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn reply_of(status: u16, headers: &HeaderMap, body: &Bytes) -> Reply {
    let media_type = text_of(headers, "content-type").unwrap_or_default();
    let known = MEDIA_TYPES.iter().find(|known| **known == media_type).copied();
    let passed_on = |name: &'static str| Some((name, text_of(headers, name)?.to_owned()));
    Reply {
        status,
        media_type: known.unwrap_or_default(),
        body: Content::Whole(body.to_vec()),
        headers: ANSWER_HEADERS.into_iter().filter_map(passed_on).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender(connections: usize, bytes: usize, waiting: usize) -> Sender {
        let waits = Duration::from_millis(20);
        let limits = ForwardLimits::default();
        Sender::new(ForwardLimits { connections, bytes, waiting, waits, ..limits })
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = rocket::tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn so_many_writes_and_bytes_are_under_way_and_no_more() {
        run(async {
            let by_number = sender(2, 1 << 20, 8);
            let held = [by_number.room("a", 0).await.ok(), by_number.room("a", 0).await.ok()];
            assert!(held.iter().all(Option::is_some) && by_number.room("a", 0).await.is_err());
            drop(held);
            assert!(by_number.room("a", 0).await.is_ok(), "there is room again");

            let by_bytes = sender(8, 4 << 10, 8);
            let held = by_bytes.room("a", 3 << 10).await.ok();
            assert!(held.is_some() && by_bytes.room("a", 2 << 10).await.is_err());
            assert!(by_bytes.room("a", 1 << 10).await.is_ok());
            drop(held);
            assert!(by_bytes.room("a", 1 << 30).await.is_ok(), "one that is larger goes alone");
        });
    }

    #[test]
    fn one_leader_does_not_get_all_connections() {
        run(async {
            let limits = ForwardLimits { to_one_leader: 1, ..ForwardLimits::default() };
            let sender = Sender::new(ForwardLimits { waits: Duration::from_millis(20), ..limits });
            let held = sender.room("a", 0).await.ok();
            assert!(held.is_some() && sender.room("a", 0).await.is_err());
            assert!(sender.room("b", 0).await.is_ok());
        });
    }

    #[test]
    fn no_more_wait_than_may() {
        run(async {
            let sender = sender(1, 1 << 20, 1);
            let held = sender.room("a", 0).await.ok();
            assert!(held.is_some());
            let (first, second) = rocket::tokio::join!(sender.room("a", 0), sender.room("a", 0));
            let said = |room: Result<Room<'_>, Problem>| {
                String::from_utf8(room.err().unwrap().body()).unwrap()
            };
            assert!(said(first).contains("answers too slowly"));
            assert!(said(second).contains("1 writes wait"));
        });
    }
}
