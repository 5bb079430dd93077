//! What clients count while they run: each for itself, added up at the end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::class::Class;
use super::latencies::Latencies;
use super::request::Outcome;
use super::schedule::Bounds;
use super::timeline::{Timeline, since};

/// One request and its end, as the client saw it.
pub struct Exchange<'e> {
    /// What was asked.
    pub call: &'static str,
    /// Operations of a write.
    pub operations: usize,
    /// Which node the client asks, where there are several.
    pub node: Option<usize>,
    /// How it ended.
    pub outcome: &'e Outcome,
    /// From when on the client had nothing else to do.
    pub free: Instant,
    /// With a rate, when it was due.
    pub due: Option<Instant>,
    /// When it was sent.
    pub sent: Instant,
    /// When the answer was there.
    pub answered: Instant,
}

/// The requests of one call that ended in one way.
pub struct Counted {
    pub class: Class,
    /// Answered within the window.
    pub count: u64,
    /// Of those intended for the window, whenever the answer came: from the intended start.
    pub latency: Latencies,
    /// The same from sending; `None` without a rate, where both are one.
    pub service: Option<Latencies>,
    /// When the first of them was answered, and what it said; of refusals and failures.
    pub first_error: Option<(Instant, String)>,
}

impl Counted {
    fn new(class: Class) -> Self {
        let latency = Latencies::default();
        Self { class, count: 0, latency, service: None, first_error: None }
    }

    fn add(&mut self, other: Self) {
        self.count += other.count;
        self.latency.add(&other.latency);
        if let Some(service) = other.service {
            self.service.get_or_insert_default().add(&service);
        }
        // The earliest of all clients.
        self.first_error = [self.first_error.take(), other.first_error]
            .into_iter()
            .flatten()
            .min_by_key(|(at, _)| *at);
    }
}

/// What one client counted, or all of them.
#[derive(Default)]
pub struct Tally {
    /// By call and verdict.
    pub rows: BTreeMap<(&'static str, String), Counted>,
    /// Of requests that are measured: how late the driver sent.
    pub lateness: Latencies,
    /// Of writes that are measured, the time from sending less the commit's.
    pub beyond_commit: Latencies,
    /// By history event, of all requests.
    pub events: BTreeMap<&'static str, u64>,
    /// All requests sent.
    pub sent: u64,
    /// Of those due in the window: sent by its end, and answered whatever the verdict.
    pub kept_up: u64,
    /// Sent by the end of the window, and answered after it.
    pub in_flight_at_end: u64,
    /// Operations of writes that were accepted within the window.
    pub operations: u64,
    /// When the last answer came.
    pub last_answer: Option<Instant>,
    /// Of requests that are measured and were completed, by the node that the client asks: from the
    /// intended start.
    pub by_node: Vec<Latencies>,
    /// By the parts of the window, if they are to be told.
    pub timeline: Timeline,
    /// Numbers of requests that a client had taken on, and not sent by the end.
    pub abandoned: Vec<u64>,
    /// Answers that no documentation allows, and the first of them.
    pub undocumented: Option<(u64, String)>,
}

impl Tally {
    /// Counts one request for the history alone.
    pub fn count(&mut self, outcome: &Outcome) {
        self.sent += 1;
        *self.events.entry(outcome.event()).or_default() += 1;
        if let Outcome::Undocumented(what) = outcome {
            self.undocumented.get_or_insert_with(|| (0, what.clone())).0 += 1;
        }
    }

    /// Counts one request, and measures it as far as it belongs to the window.
    ///
    /// Rates count answers that came within the window: what the service did in that time, however
    /// long before it was asked. Latencies are those of requests whose intended start lies in the
    /// window, however late the answer came: leaving out an answer because it is late would leave
    /// out just the slow ones (Tene's "coordinated omission").
    pub fn measure(&mut self, exchange: &Exchange<'_>, bounds: &Bounds) {
        let Exchange { call, outcome, free, due, sent, answered, operations, node } = *exchange;
        self.count(outcome);
        self.last_answer = self.last_answer.max(Some(answered));
        let is_within = answered >= bounds.from && bounds.to.is_none_or(|end| answered <= end);
        let intended = due.unwrap_or(sent);
        let is_measured = intended >= bounds.from;
        if bounds.to.is_some_and(|end| answered > end) {
            self.in_flight_at_end += 1;
        }
        if !is_within && !is_measured {
            return;
        }
        let class = Class::of(outcome);
        if let Some(part) = bounds.part {
            let times = [intended, answered].map(|time| since(bounds.from, time));
            self.timeline.count(part, class, times);
        }
        let row = self.rows.entry((call, outcome.label())).or_insert_with(|| Counted::new(class));
        if !class.is_completed() && row.first_error.is_none() {
            row.first_error = Some((answered, what_went_wrong(outcome)));
        }
        if is_within {
            row.count += 1;
            if matches!(outcome, Outcome::Accepted(_)) {
                self.operations += operations as u64;
            }
        }
        if is_measured {
            row.latency.record(answered.saturating_duration_since(intended));
            if let Some(node) = node.filter(|_| class.is_completed()) {
                if self.by_node.len() <= node {
                    self.by_node.resize_with(node + 1, Latencies::default);
                }
                self.by_node[node].record(answered.saturating_duration_since(intended));
            }
            if due.is_some() {
                let service = row.service.get_or_insert_default();
                service.record(answered.saturating_duration_since(sent));
            }
            self.lateness.record(lateness(free, due, sent));
            let is_in_time = bounds.sent_by.is_none_or(|end| sent < end);
            if due.is_some() && is_in_time && class != Class::Failed {
                self.kept_up += 1;
            }
        }
    }

    /// Adds what another client counted.
    pub fn add(&mut self, other: Self) {
        for (key, counted) in other.rows {
            let class = counted.class;
            self.rows.entry(key).or_insert_with(|| Counted::new(class)).add(counted);
        }
        self.lateness.add(&other.lateness);
        self.beyond_commit.add(&other.beyond_commit);
        for (event, count) in other.events {
            *self.events.entry(event).or_default() += count;
        }
        self.sent += other.sent;
        self.kept_up += other.kept_up;
        self.in_flight_at_end += other.in_flight_at_end;
        self.operations += other.operations;
        self.last_answer = self.last_answer.max(other.last_answer);
        if self.by_node.len() < other.by_node.len() {
            self.by_node.resize_with(other.by_node.len(), Latencies::default);
        }
        self.by_node.iter_mut().zip(&other.by_node).for_each(|(all, more)| all.add(more));
        self.timeline.add(other.timeline);
        self.abandoned.extend(other.abandoned);
        if let Some((count, first)) = other.undocumented {
            self.undocumented.get_or_insert((0, first)).0 += count;
        }
    }
}

/// How long after the client was free, and the request due, it was sent. A client that still waits
/// for an answer when the next request is due is not late: the service is.
fn lateness(free: Instant, due: Option<Instant>, sent: Instant) -> Duration {
    sent.saturating_duration_since(due.map_or(free, |due| due.max(free)))
}

fn what_went_wrong(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Refused { problem, .. } => problem.to_string(),
        Outcome::Unknown { reason, problem: Some(problem) } => format!("{reason}: {problem}"),
        Outcome::Unreachable(reason)
        | Outcome::Unknown { reason, .. }
        | Outcome::Undocumented(reason) => reason.clone(),
        other => other.label(),
    }
}
