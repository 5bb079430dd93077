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
use rocket::tokio::time::{Instant, timeout};

use super::envelope::{ANSWER_HEADERS, Envelope, Outcome, PASSED_ON, Signed};
use super::limits::ForwardLimits;
use super::secret::ForwardSecret;
use super::shares::{Amount, Share, Shares};
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
const MEDIA_TYPES: [&str; 2] = ["application/json", "application/problem+json"];

/// See the module.
pub(super) struct Sender {
    client: Client<HttpConnector, Full<Bytes>>,
    limits: ForwardLimits,
    under_way: Arc<Shares>,
    waiting: Arc<Shares>,
    /// By address.
    lines: Mutex<HashMap<Arc<str>, Arc<Line>>>,
}

/// Those who wait for one leader, in the order in which they came. Only the first looks whether
/// there is room.
type Line = rocket::tokio::sync::Mutex<()>;

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
pub(super) struct Room {
    /// For the exchange.
    pub(super) connection: Share,
    /// For its body.
    pub(super) body: Share,
}

impl Room {
    fn of(mut share: Share) -> Self {
        let connection = share.split_off(Amount { writes: 1, bytes: 0 });
        Self { connection, body: share }
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
        let ForwardLimits { connections, bytes, waiting, waiting_bytes, .. } = limits;
        Self {
            client,
            limits,
            under_way: Shares::new(Amount { writes: connections, bytes }),
            waiting: Shares::new(Amount { writes: waiting, bytes: waiting_bytes }),
            lines: Mutex::default(),
        }
    }

    /// Waits until so many bytes more may be under way to the leader at `address`.
    ///
    /// # Errors
    /// [`Problem`] if too many wait, or that takes too long.
    pub(super) async fn room(&self, address: &str, bytes: usize) -> Result<Room, Problem> {
        let full = |what: &str| Problem::new(Kind::Contended, what);
        let ((leader, line), amount) = (self.line(address), Amount { writes: 1, bytes });
        let mut entered = pin!(async {
            let _is_first = line.lock().await;
            loop {
                let given_back = self.under_way.given_back();
                if let Some(share) = self.under_way.try_take(&leader, amount) {
                    return Room::of(share);
                }
                given_back.await;
            }
        });
        // Whoever finds it free does not wait.
        if let Some(room) = entered.as_mut().now_or_never() {
            return Ok(room);
        }
        let Some(_waits) = self.waiting.try_take(&leader, amount) else {
            return Err(full("too many writes, or bytes of them, wait to be passed on already"));
        };
        let entered = timeout(self.limits.waits, entered).await;
        entered.map_err(|_| full("the leader answers too slowly: too many writes wait for it"))
    }

    fn line(&self, address: &str) -> (Arc<str>, Arc<Line>) {
        let mut lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((leader, line)) = lines.get_key_value(address) {
            return (Arc::clone(leader), Arc::clone(line));
        }
        lines.retain(|_, line| Arc::strong_count(line) > 1);
        let (leader, line): (Arc<str>, Arc<Line>) = (Arc::from(address), Arc::default());
        lines.insert(Arc::clone(&leader), Arc::clone(&line));
        (leader, line)
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
            assert!(by_bytes.room("a", 1 << 30).await.is_ok(), "all that one leader may have");
        });
    }

    #[test]
    fn slow_leaders_leave_connections_bytes_and_waiting_to_others() {
        run(async {
            let by_number = sender(16, 1 << 20, 8);
            let mut held = Vec::new();
            for (slow, gets) in [("a", 12), ("b", 3)] {
                for _ in 0..gets {
                    held.push(by_number.room(slow, 0).await.ok().unwrap());
                }
                assert!(by_number.room(slow, 0).await.is_err());
            }
            assert!(by_number.room("c", 0).await.is_ok());

            let by_bytes = sender(16, 16 << 10, 8);
            let held = [by_bytes.room("a", 12 << 10).await, by_bytes.room("b", 3 << 10).await];
            assert!(held.iter().all(Result::is_ok) && by_bytes.room("a", 1 << 10).await.is_err());
            assert!(by_bytes.room("c", 1 << 10).await.is_ok());

            let waiting = sender(2, 1 << 20, 2);
            let held = waiting.room("a", 0).await.ok();
            assert!(held.is_some());
            let [first, second] = [waiting.room("a", 0), waiting.room("a", 0)];
            let (first, second, other) = rocket::tokio::join!(first, second, waiting.room("b", 0));
            assert!(said(first).contains("answers too slowly"));
            assert!(said(second).contains("too many writes"));
            assert!(other.is_ok(), "it need not wait");
        });
    }

    #[test]
    fn bodies_that_wait_are_bounded_in_bytes() {
        run(async {
            let limits = sender(1, 8 << 10, 1_000).limits;
            let sender = Sender::new(ForwardLimits { waiting_bytes: 8 << 10, ..limits });
            let held = sender.room("a", 0).await.ok();
            assert!(held.is_some());
            let [first, second] = [sender.room("a", 4 << 10), sender.room("a", 4 << 10)];
            let (first, second, short) = rocket::tokio::join!(first, second, sender.room("a", 100));
            assert!(said(first).contains("answers too slowly"));
            assert!(said(second).contains("bytes of them"));
            assert!(said(short).contains("answers too slowly"), "it may wait");
        });
    }

    #[test]
    fn who_waits_gets_in_when_something_is_given_back_in_the_order_of_coming() {
        run(async {
            let limits = ForwardLimits { waits: Duration::from_secs(60), ..sender(4, 9, 9).limits };
            let (sender, came) = (Sender::new(limits), Mutex::new(Vec::new()));
            let mut held = sender.room("a", 6).await.ok();
            let enter = |name, bytes| {
                let (room, came) = (sender.room("a", bytes), &came);
                async move {
                    let room = room.await.ok().unwrap();
                    came.lock().unwrap().push(name);
                    drop(room);
                }
            };
            let give_back = async {
                rocket::tokio::task::yield_now().await;
                assert!(came.lock().unwrap().is_empty());
                held.take();
            };
            // There would be room for the second at once.
            rocket::tokio::join!(enter("first", 6), enter("second", 0), give_back);
            assert_eq!(*came.lock().unwrap(), ["first", "second"]);
        });
    }

    #[test]
    fn the_bytes_of_a_write_are_counted_beyond_its_exchange() {
        run(async {
            let sender = sender(1, 4 << 10, 8);
            let Room { connection, body } = sender.room("a", 3 << 10).await.ok().unwrap();
            drop(connection);
            assert!(sender.room("a", 1).await.is_err());
            drop(body);
            assert!(sender.room("a", 1).await.is_ok());
        });
    }
}
