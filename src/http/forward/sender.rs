//! Sends requests to other nodes: on connections that are kept, bounded in number and in bytes.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::FutureExt;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::{Bytes, Incoming};
use hyper::header::{HeaderMap, HeaderValue};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{Client, Error};
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rocket::tokio::sync::{OwnedSemaphorePermit, Semaphore};
use rocket::tokio::time::{Instant, timeout, timeout_at};

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
/// Of all that may be under way, how many quarters to one leader: a slow one is not to hold up what
/// goes to others.
const TO_ONE_LEADER: usize = 3;
const NEVER_CLOSED: &str = "it is never closed";
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/problem+json"];

/// See the module.
pub(super) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    limits: ForwardLimits,
    places: Places,
    /// By address.
    of_leader: Mutex<HashMap<String, Arc<Places>>>,
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

/// Place for one more write, among those to its leader and among all.
pub(super) struct Room {
    /// Of the exchange.
    pub(super) connections: [OwnedSemaphorePermit; 2],
    /// Of its body.
    pub(super) bytes: [OwnedSemaphorePermit; 2],
}

/// What may be under way at once, and wait for that.
struct Places {
    connections: Arc<Semaphore>,
    units: Arc<Semaphore>,
    most_units: usize,
    waiting: Semaphore,
    most_waiting: usize,
}

impl Places {
    /// So many quarters of the limits.
    fn new(limits: &ForwardLimits, quarters: usize) -> Self {
        let part = |of: usize| (of / 4 * quarters + of % 4 * quarters / 4).max(1);
        let most_units = part(limits.bytes.div_ceil(UNIT)).min(Semaphore::MAX_PERMITS);
        let most_waiting = part(limits.waiting);
        Self {
            connections: Arc::new(Semaphore::new(part(limits.connections))),
            units: Arc::new(Semaphore::new(most_units)),
            most_units,
            waiting: Semaphore::new(most_waiting),
            most_waiting,
        }
    }

    /// A connection, and so many bytes. Whoever finds both free does not wait.
    ///
    /// # Errors
    /// For people: too many wait, or it takes too long.
    async fn enter(
        &self,
        bytes: usize,
        until: Instant,
    ) -> Result<(OwnedSemaphorePermit, OwnedSemaphorePermit), String> {
        let units = bytes.div_ceil(UNIT).clamp(1, self.most_units);
        let units = u32::try_from(units).unwrap_or(u32::MAX);
        let mut entered = pin!(async {
            let connection = Arc::clone(&self.connections).acquire_owned().await;
            let units = Arc::clone(&self.units).acquire_many_owned(units).await;
            (connection.expect(NEVER_CLOSED), units.expect(NEVER_CLOSED))
        });
        if let Some(entered) = entered.as_mut().now_or_never() {
            return Ok(entered);
        }
        let Ok(_waits) = self.waiting.try_acquire() else {
            return Err(format!("{} writes wait to be passed on to the leader", self.most_waiting));
        };
        let entered = timeout_at(until, entered).await;
        entered.map_err(|_| "the leader answers too slowly: too many writes wait for it".to_owned())
    }

    fn are_used(&self) -> bool {
        // Each permit has a reference.
        Arc::strong_count(&self.connections) > 1 || Arc::strong_count(&self.units) > 1
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
        let places = Places::new(&limits, 4);
        Self { client, limits, places, of_leader: Mutex::default() }
    }

    /// Waits until so many bytes more may be under way to the leader at `address`.
    ///
    /// # Errors
    /// [`Problem`] if too many wait, or that takes too long.
    pub(super) async fn room(&self, address: &str, bytes: usize) -> Result<Room, Problem> {
        let full = |what: String| Problem::new(Kind::Contended, what);
        let (until, of_leader) = (Instant::now() + self.limits.waits, self.of_leader(address));
        let theirs = of_leader.enter(bytes, until).await.map_err(full)?;
        let all = self.places.enter(bytes, until).await.map_err(full)?;
        Ok(Room { connections: [theirs.0, all.0], bytes: [theirs.1, all.1] })
    }

    fn of_leader(&self, address: &str) -> Arc<Places> {
        let mut all = self.of_leader.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(address) {
            return Arc::clone(known);
        }
        all.retain(|_, places| Arc::strong_count(places) > 1 || places.are_used());
        let made = Arc::new(Places::new(&self.limits, TO_ONE_LEADER));
        all.insert(address.to_owned(), Arc::clone(&made));
        made
    }

    /// Sends a client's write to the node at `address`. Waits no longer than `until`, and not once
    /// it is `given_up`, which tells why.
    pub(super) async fn send(
        &self,
        address: &str,
        asked: &Asked,
        envelope: &Envelope,
        secret: &ForwardSecret,
        until: Instant,
        given_up: impl Future<Output = &'static str>,
    ) -> Result<Answer, NotSent> {
        let Asked { method, target, headers, body, .. } = asked;
        let signed = Signed { method, target, headers, body };
        let exchange = self.exchange(address, &signed, body.clone(), envelope, secret);
        let limit = until.saturating_duration_since(Instant::now());
        rocket::tokio::select! {
            answer = timeout(limit, exchange) => {
                let late = || format!("no answer within {limit:.0?}");
                answer.unwrap_or_else(|_| Err(NotSent::Perhaps(late())))
            }
            why = given_up => Err(NotSent::Perhaps(why.to_owned())),
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

    fn said(room: Result<Room, Problem>) -> String {
        String::from_utf8(room.err().unwrap().body()).unwrap()
    }

    fn run(test: impl Future<Output = ()>) {
        let runtime = rocket::tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.unwrap().block_on(test);
    }

    #[test]
    fn so_many_writes_and_bytes_are_under_way_and_no_more() {
        run(async {
            let by_number = sender(2, 1 << 20, 8);
            let held = [by_number.room("a", 0).await.ok(), by_number.room("b", 0).await.ok()];
            assert!(held.iter().all(Option::is_some) && by_number.room("c", 0).await.is_err());
            drop(held);
            assert!(by_number.room("c", 0).await.is_ok(), "there is room again");

            let by_bytes = sender(8, 4 << 10, 8);
            let held = by_bytes.room("a", 3 << 10).await.ok();
            assert!(held.is_some() && by_bytes.room("b", 2 << 10).await.is_err());
            assert!(by_bytes.room("b", 1 << 10).await.is_ok());
            drop(held);
            assert!(by_bytes.room("a", 1 << 30).await.is_ok(), "one that is larger goes alone");
        });
    }

    #[test]
    fn a_slow_leader_leaves_connections_bytes_and_waiting_to_others() {
        run(async {
            let by_number = sender(4, 1 << 20, 8);
            let (one, two) = (by_number.room("a", 0).await, by_number.room("a", 0).await);
            let held = [one, two, by_number.room("a", 0).await];
            assert!(held.iter().all(Result::is_ok) && by_number.room("a", 0).await.is_err());
            assert!(by_number.room("b", 0).await.is_ok());

            let by_bytes = sender(8, 8 << 10, 8);
            let held = by_bytes.room("a", 6 << 10).await.ok();
            assert!(held.is_some() && by_bytes.room("a", 1 << 10).await.is_err());
            assert!(by_bytes.room("b", 2 << 10).await.is_ok());

            let waiting = sender(2, 1 << 20, 2);
            let held = waiting.room("a", 0).await.ok();
            assert!(held.is_some());
            let [first, second] = [waiting.room("a", 0), waiting.room("a", 0)];
            let (first, second, other) = rocket::tokio::join!(first, second, waiting.room("b", 0));
            assert!(said(first).contains("answers too slowly"));
            assert!(said(second).contains("1 writes wait"));
            assert!(other.is_ok(), "it need not wait");
        });
    }

    #[test]
    fn the_bytes_of_a_write_are_counted_beyond_its_exchange() {
        run(async {
            let sender = sender(1, 1 << 10, 8);
            let Room { connections, bytes } = sender.room("a", 1 << 10).await.ok().unwrap();
            drop(connections);
            assert!(sender.room("b", 1).await.is_err());
            drop(bytes);
            assert!(sender.room("b", 1).await.is_ok());
        });
    }
}
