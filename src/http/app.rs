//! What all requests share: the service, the bounds, what is counted, and the threads and streams
//! that are given out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use prometheus::{HistogramVec, IntCounterVec, IntGaugeVec};

use super::forward::{ForwardLimits, ForwardSecret, Forwarding};
use super::problem::{Kind, Problem};
use super::stream::Open;
use super::tail::Tails;
use crate::service::Service;

/// What the HTTP surface bounds. Beyond each is a problem that names the limit.
#[derive(Debug, Clone, Copy)]
pub struct HttpLimits {
    /// The largest request body, in bytes.
    pub body_bytes: u64,
    /// The largest plan, in jobs.
    pub plan_jobs: usize,
    /// The largest answer of upstream and downstream, in names.
    pub reachable_names: usize,
    /// Long computations at once.
    pub computations: usize,
    /// Streams that are open at once: live tails, change logs and snapshots.
    pub streams: usize,
    /// Interval of heartbeats on an idle live tail. A client that is gone is noticed by the next
    /// one at the latest.
    pub heartbeat: Duration,
    /// Of writes that are passed on to other nodes.
    pub forward: ForwardLimits,
    /// How long `at_least` waits.
    pub version_wait: Duration,
    /// How long a shutdown lets requests that were accepted finish.
    pub shutdown_grace: Duration,
    /// How long after that it lets answers be read.
    pub shutdown_mercy: Duration,
}

impl Default for HttpLimits {
    fn default() -> Self {
        Self {
            body_bytes: 16 << 20,
            plan_jobs: 1_000_000,
            reachable_names: 1_000_000,
            computations: 2,
            streams: 4096,
            heartbeat: Duration::from_secs(10),
            forward: ForwardLimits::default(),
            version_wait: Duration::from_secs(5),
            shutdown_grace: Duration::from_secs(10),
            shutdown_mercy: Duration::from_secs(5),
        }
    }
}

/// What all requests share.
pub struct App {
    /// Takes the turns.
    pub service: Service,
    /// The bounds.
    pub limits: HttpLimits,
    computations: Arc<rocket::tokio::sync::Semaphore>,
    streams: Arc<rocket::tokio::sync::Semaphore>,
    /// The ends of the change logs that are followed.
    pub tails: Arc<Tails>,
    /// Passes writes on to the nodes that lead their graphs, and takes those of other nodes.
    pub forwarding: Arc<Forwarding>,
    /// What describes the service.
    pub documents: Documents,
    metrics: Metrics,
    /// Writes whose answers are not made yet.
    in_flight: AtomicUsize,
    /// Whether a shutdown has begun that waits for no request to be left.
    is_ending: AtomicBool,
}

/// A write whose answer is not made yet.
pub struct InFlight(Arc<App>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The documents that describe the service to programs and people.
pub struct Documents {
    /// OpenAPI.
    pub openapi: serde_json::Value,
    /// The page for people.
    pub page: String,
    /// The `Content-Security-Policy` that the page works under.
    pub policy: String,
}

/// What is counted here.
struct Metrics {
    requests: IntCounterVec,
    seconds: HistogramVec,
    /// By what they tell.
    streams: IntGaugeVec,
}

impl Metrics {
    fn new(registry: &prometheus::Registry) -> Self {
        let buckets = prometheus::exponential_buckets(0.000_01, 2.0, 22).expect("a fixed list");
        let opts = prometheus::Opts::new;
        let seconds =
            prometheus::HistogramOpts::new("fencepost_http_request_seconds", "From head to answer");
        let requests = opts("fencepost_http_requests_total", "Requests answered");
        let streams = opts("fencepost_http_streams", "Answers that are being sent bit by bit");
        let metrics = Self {
            requests: IntCounterVec::new(requests, &["route", "status"])
                .expect("the name is valid"),
            seconds: HistogramVec::new(seconds.buckets(buckets), &["route"])
                .expect("the name is valid"),
            streams: IntGaugeVec::new(streams, &["of"]).expect("the name is valid"),
        };
        // Registering fails only for a second server on one service; its requests are then not
        // counted.
        drop(registry.register(Box::new(metrics.requests.clone())));
        drop(registry.register(Box::new(metrics.seconds.clone())));
        drop(registry.register(Box::new(metrics.streams.clone())));
        metrics
    }
}

impl App {
    /// Begins with nothing in use.
    pub fn new(
        service: Service,
        limits: HttpLimits,
        documents: Documents,
        secret: Option<ForwardSecret>,
    ) -> Self {
        let registry = &service.metrics().registry;
        let (metrics, tails) = (Metrics::new(registry), Tails::new(service.clone(), registry));
        let forwarding = Arc::new(Forwarding::new(&service, limits.forward, secret));
        let semaphore =
            |permits: usize| Arc::new(rocket::tokio::sync::Semaphore::new(permits.max(1)));
        let (computations, streams) = (semaphore(limits.computations), semaphore(limits.streams));
        let (in_flight, is_ending) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self {
            service,
            limits,
            computations,
            streams,
            tails,
            forwarding,
            documents,
            metrics,
            in_flight,
            is_ending,
        }
    }

    /// Counts a write until its answer is made.
    pub fn enter(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Ordering::SeqCst);
        InFlight(Arc::clone(self))
    }

    /// Whether connections are to be closed with their next answer.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Ordering::SeqCst)
    }

    /// At a shutdown: has other nodes wait for what this one gives up, answers what was accepted,
    /// and gives it up. Each answer closes its connection, since Rocket would go on to take
    /// requests on it.
    pub async fn end_turns(&self) {
        let service = self.service.clone();
        if in_time(move || service.announce_end()).await == Some(false) {
            return;
        }
        self.is_ending.store(true, Ordering::SeqCst);
        let none_is_left = async {
            let mut quiet = 0;
            while quiet < QUIET_LOOKS {
                rocket::tokio::time::sleep(QUIET_LOOK).await;
                let is_quiet = self.in_flight.load(Ordering::SeqCst) == 0;
                quiet = if is_quiet { quiet + 1 } else { 0 };
            }
        };
        let patience = self.limits.shutdown_grace.min(HANDED_OVER_WITHIN);
        drop(rocket::tokio::time::timeout(patience, none_is_left).await);
        let service = self.service.clone();
        in_time(move || service.end_turns()).await;
    }

    /// Counts an answered request and how long it took.
    pub fn count(&self, route: &str, status: u16, took: Duration) {
        self.metrics.requests.with_label_values(&[route, &status.to_string()]).inc();
        self.metrics.seconds.with_label_values(&[route]).observe(took.as_secs_f64());
    }

    /// Counts one more stream of what `of` says for as long as it is open.
    ///
    /// # Errors
    /// [`Problem`] if there are as many as the limit says.
    pub fn open_stream(&self, of: &str) -> Result<Open, Problem> {
        let full = |_| {
            Problem::new(
                Kind::Contended,
                format!("{} streams are open already", self.limits.streams),
            )
        };
        let permit = Arc::clone(&self.streams).try_acquire_owned().map_err(full)?;
        Ok(Open::new(self.metrics.streams.with_label_values(&[of]), permit))
    }

    /// Runs `work` beside Rocket's threads, with at most as many others as the limit says.
    pub async fn compute<T: Send + 'static>(
        self: Arc<Self>,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, Problem> {
        let permit = Arc::clone(&self.computations)
            .acquire_owned()
            .await
            .expect("the semaphore is never closed");
        let done = rocket::tokio::task::spawn_blocking(move || {
            let answer = work();
            drop(permit);
            answer
        });
        done.await.map_err(|error| Problem::new(Kind::Internal, error.to_string()))
    }

    /// Rocket looks once whether connections are left, and if there are, waits for the whole grace:
    /// live tails, which end as soon as a shutdown begins, get a moment to be gone by then. One
    /// that its client does not read is left to the grace.
    pub async fn see_tails_off(self: Arc<Self>) {
        let open = self.metrics.streams.with_label_values(&[TAIL]);
        if open.get() == 0 {
            return;
        }
        let gone = async {
            while open.get() > 0 {
                rocket::tokio::time::sleep(TAILS_LOOK).await;
            }
        };
        drop(rocket::tokio::time::timeout(TAILS_PATIENCE, gone).await);
        // The last bytes are on their way.
        rocket::tokio::time::sleep(10 * TAILS_LOOK).await;
    }

    /// For Prometheus.
    pub fn metrics_text(&self) -> String {
        let (writes, reads) = self.service.waiting();
        let waiting = format!(
            "# HELP fencepost_waiting_requests Requests that wait for a turn\n\
             # TYPE fencepost_waiting_requests gauge\n\
             fencepost_waiting_requests{{mode=\"write\"}} {writes}\n\
             fencepost_waiting_requests{{mode=\"read\"}} {reads}\n"
        );
        self.service.metrics().text() + &waiting
    }
}

/// Does what asks store and lock in a thread of its own, which a process that ends does not wait
/// for. `None` if it takes too long.
async fn in_time<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    let (done, is_done) = rocket::tokio::sync::oneshot::channel();
    let thread = std::thread::Builder::new().name("end".to_owned());
    thread.spawn(move || drop(done.send(work()))).ok()?;
    rocket::tokio::time::timeout(ASKED_WITHIN, is_done).await.ok()?.ok()
}

/// How long a shutdown waits for store and lock.
const ASKED_WITHIN: Duration = Duration::from_secs(3);
/// How long it waits for writes before others may take over: less than they wait for that.
const HANDED_OVER_WITHIN: Duration = Duration::from_secs(2);
/// How often a shutdown looks whether writes are left, and how often in a row there must be none.
const QUIET_LOOK: Duration = Duration::from_millis(2);
const QUIET_LOOKS: usize = 3;

/// What live tails are counted as.
pub const TAIL: &str = "tail";
/// How long a shutdown lets live tails end before it looks at all else.
const TAILS_PATIENCE: Duration = Duration::from_secs(1);
const TAILS_LOOK: Duration = Duration::from_millis(5);
