//! What was counted and timed at a point, and the figures that are made of it: when it is measured,
//! and again by whoever reads the results.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::bench::class::Class;
use crate::bench::latencies::{Latencies, NotEncoded, Percentiles};
use crate::bench::summary::{achieved, is_saturated, per_second};
use crate::object::objects_both_ways;

/// What was counted and timed in a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Raw {
    /// How long was measured, in seconds.
    pub window_seconds: f64,
    /// By call and verdict.
    pub requests: Vec<Requests>,
    /// With a rate: how many requests were due in the window.
    pub due: Option<u64>,
    /// Of those: how many were sent in it and answered, whatever the verdict.
    pub kept_up: u64,
    /// How long requests that were due and not sent had been due at the end: a histogram as
    /// [`Latencies::encoded`] writes it.
    pub backlog: String,
    /// How late the driver itself sent: a histogram.
    pub lateness: String,
    /// Where there are several nodes: of what was completed, by the node that the client asks, from
    /// the intended start, a histogram of each.
    pub by_node: Vec<String>,
    /// How many requests were under way when the window ended: servers worked for them too.
    pub in_flight_at_end: u64,
    /// Of a bulk import: operations of writes that were accepted in the window.
    pub operations: Option<u64>,
    /// Processor time of the window, by process.
    pub processor: Vec<Processor>,
    /// Bytes that the nodes, and the servers that the run has started, gave to the kernel's block
    /// layer; none where the kernel does not tell that of one of them.
    pub written_bytes: Option<u64>,
    /// Bytes that Postgres put into its write-ahead log; none where there is no Postgres.
    pub wal_bytes: Option<u64>,
    /// How often nodes waited for database and lock; none where no proxy has counted.
    pub round_trips: Option<RoundTrips>,
    /// How often logs of databases were synced while the nodes ran; none where that is not known.
    pub syncs: Option<Syncs>,
    /// What the service says of its phases.
    pub phases: Value,
}

/// The requests of one call that ended in one way.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Requests {
    /// The id of the call in the OpenAPI document.
    pub call: String,
    /// As in `accepted` or `rejected:cycle`.
    pub verdict: String,
    /// What that means: completed are those that were served or rejected.
    pub class: Class,
    /// Answered within the window.
    pub count: u64,
    /// From the intended start, of those that were intended for the window: a histogram.
    pub latency: String,
    /// The same from sending.
    pub service: String,
}

/// Processor time that a process has used.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Processor {
    /// `node 1`, `postgres`, `redis`, or what is no server: [`DRIVER`], [`PROXY`].
    pub process: String,
    /// In seconds.
    pub seconds: f64,
}

/// How often somebody has sent something after all before was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct RoundTrips {
    /// To the server of databases.
    pub database: u64,
    /// To the server of locks, releases included, for whose answer nobody waits.
    pub lock: u64,
}

/// How often the log of the database was synced, from the start of the nodes to their end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Syncs {
    /// So often; on SQLite the transactions in its log, which is synced once for each.
    pub count: u64,
    /// Commits meanwhile, as the service has counted them.
    pub commits: u64,
}

/// No window has more requests, operations or bytes than this; sums of them do not overflow.
const LARGEST_COUNT: u64 = 1 << 48;

/// With fewer commits, what the start of a node syncs would be much of all syncs.
const FEWEST_COMMITS: u64 = 50;

/// The process that asks.
pub const DRIVER: &str = "driver";
/// The process that makes round trips take longer.
pub const PROXY: &str = "proxy";
/// Processes whose time is not the servers'.
const NO_SERVERS: [&str; 2] = [DRIVER, PROXY];

/// What is made of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Figures {
    /// Accepted, answered, or not modified.
    pub served: u64,
    /// Decided against.
    pub rejected: u64,
    /// Not served: contended, or a server away.
    pub refused: u64,
    /// Without an answer, or with one that no documentation allows.
    pub failed: u64,
    /// Requests of the window that were answered by a verdict on the graph: served or rejected.
    pub completed: u64,
    /// The same a second; of a bulk import operations a second.
    pub per_second: f64,
    /// With a rate: the share of what was due that was sent in the window and answered, whatever
    /// the verdict.
    pub achieved: Option<f64>,
    /// Whether less than 99 % of the rate was achieved: then no percentile means anything.
    pub saturated: bool,
    /// From the intended start where there is a rate, else from sending, of all that was completed.
    pub latency: Option<Percentiles>,
    /// From sending.
    pub service: Option<Percentiles>,
    /// How late the driver itself sent.
    pub lateness: Option<Percentiles>,
    /// Of all servers together, for each request that was completed or under way at the end, of an
    /// import for each operation, in microseconds.
    pub server_us_per_operation: f64,
    /// Bytes that servers gave to the kernel's block layer, for each of them.
    pub written_bytes_per_operation: Option<f64>,
    /// Bytes that Postgres put into its write-ahead log, for each of them.
    pub wal_bytes_per_operation: Option<f64>,
    /// Round trips to the server of databases, for each of them.
    pub database_round_trips_per_operation: Option<f64>,
    /// Round trips to the server of locks, for each of them.
    pub lock_round_trips_per_operation: Option<f64>,
    /// Commits for each of them, as the service has counted them.
    pub commits_per_operation: Option<f64>,
    /// Syncs of the log of the database for each of them: as many as there were for each commit
    /// while the nodes ran, and none where those were few.
    pub syncs_per_operation: Option<f64>,
}

objects_both_ways!(Raw, Requests, Processor, RoundTrips, Syncs, Figures);

/// A histogram that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{place}`: {error}")]
pub struct BadHistogram {
    /// Which, as in `requests[2].latency`.
    pub place: String,
    /// Why not.
    pub error: NotEncoded,
}

impl Raw {
    /// Latencies of all that was completed, with how long those that were not sent had been due.
    ///
    /// # Errors
    /// [`BadHistogram`].
    pub fn latencies(&self) -> Result<Latencies, BadHistogram> {
        let mut all = self.of_completed("latency", |row| &row.latency)?;
        all.add(&decoded("backlog", &self.backlog)?);
        Ok(all)
    }

    fn of_completed(
        &self,
        member: &str,
        of: impl Fn(&Requests) -> &String,
    ) -> Result<Latencies, BadHistogram> {
        let mut all = Latencies::default();
        for (at, row) in self.requests.iter().enumerate() {
            let histogram = decoded(&format!("requests[{at}].{member}"), of(row))?;
            if row.class.is_completed() {
                all.add(&histogram);
            }
        }
        Ok(all)
    }

    /// No count is larger than any window has. How many were timed in each row must be the same
    /// from the intended start and from sending; of each the driver's lateness is known, and each
    /// was answered in the window or after it. No more kept up than were due.
    ///
    /// # Errors
    /// Says which histogram cannot be read, or which counts do not fit.
    pub fn counts_fit(&self) -> Result<(), String> {
        let count = |place: &str, text: &str| {
            decoded(place, text).map(|found| found.count()).map_err(|bad| bad.to_string())
        };
        let (mut timed, mut answered, mut completed) = (0_u64, 0_u64, 0_u64);
        for (at, row) in self.requests.iter().enumerate() {
            let latency = count(&format!("requests[{at}].latency"), &row.latency)?;
            if latency != count(&format!("requests[{at}].service"), &row.service)? {
                return Err(format!("`requests[{at}].service` has not as many as `latency`"));
            }
            timed = timed.saturating_add(latency);
            if row.class.is_completed() {
                completed = completed.saturating_add(latency);
            }
            answered = answered.saturating_add(row.count);
        }
        let backlog = count("backlog", &self.backlog)?;
        let late = count("lateness", &self.lateness)?;
        for (place, count) in [
            ("requests", timed.max(answered)),
            ("lateness", late),
            ("backlog", backlog),
            ("due", self.due.unwrap_or_default()),
            ("in_flight_at_end", self.in_flight_at_end),
            ("operations", self.operations.unwrap_or_default()),
            ("written_bytes", self.written_bytes.unwrap_or_default()),
            ("wal_bytes", self.wal_bytes.unwrap_or_default()),
            ("round_trips", self.round_trips.map_or(0, |trips| trips.database.max(trips.lock))),
            ("syncs", self.syncs.map_or(0, |syncs| syncs.count.max(syncs.commits))),
        ] {
            if count > LARGEST_COUNT {
                return Err(format!("`{place}` counts {count}, more than any window has"));
            }
        }
        if self.kept_up > self.due.unwrap_or_default() {
            return Err(format!("`kept_up` is {}, more than were due", self.kept_up));
        }
        let by_node = self.by_node.iter().enumerate();
        let by_node = by_node.map(|(at, text)| count(&format!("by_node[{at}]"), text));
        let by_node = by_node.collect::<Result<Vec<u64>, String>>()?;
        if !by_node.is_empty() && by_node.iter().copied().fold(0, u64::saturating_add) != completed
        {
            return Err(format!(
                "`by_node` is not of the {completed} requests that were completed"
            ));
        }
        if timed != late {
            return Err(format!("`lateness` is not of the {timed} requests that were timed"));
        }
        if timed > answered + self.in_flight_at_end {
            return Err(format!(
                "`requests` have latencies of {timed}, and only {answered} were answered in the \
                 window and {} under way at its end",
                self.in_flight_at_end
            ));
        }
        Ok(())
    }

    /// Of what was completed, what the node has that has least, in times of an equal share: 1 if
    /// all have the same, 0 if one has nothing. Of one node, and where nothing was completed, none.
    /// Nodes at the end that have nothing are not told, and if only the first has something, none
    /// is.
    #[must_use]
    pub fn least_share(&self, nodes: u32, completed: u64) -> Option<f64> {
        if nodes < 2 || completed == 0 {
            return None;
        }
        let counts = self
            .by_node
            .iter()
            .map(|text| Latencies::decoded(text).ok().map(|latencies| latencies.count()));
        let counts = counts.collect::<Option<Vec<u64>>>()?;
        let told = if counts.len() < nodes as usize { Some(0) } else { counts.into_iter().min() };
        Some(told? as f64 * f64::from(nodes) / completed as f64)
    }

    /// Commits that the service has counted; `None` where it says nothing.
    fn commits(&self) -> Option<f64> {
        let is_commit = |phase: &&Value| phase["of"] == "write" && phase["phase"] == "commit";
        self.phases.as_array()?.iter().find(is_commit)?["count"].as_f64()
    }
}

fn decoded(place: &str, text: &str) -> Result<Latencies, BadHistogram> {
    let bad = |error| BadHistogram { place: place.to_owned(), error };
    Latencies::decoded(text).map_err(bad)
}

impl Figures {
    /// All that is made of these counts and times.
    ///
    /// # Errors
    /// [`BadHistogram`].
    pub fn of(raw: &Raw) -> Result<Self, BadHistogram> {
        let of_class = |class: Class| -> u64 {
            let rows = raw.requests.iter().filter(|row| row.class == class);
            rows.map(|row| row.count).sum()
        };
        let [served, rejected, refused, failed] = Class::ALL.map(of_class);
        let completed = served + rejected;
        // What was under way at the end was answered before servers were looked at again.
        let worked = raw.operations.unwrap_or(completed + raw.in_flight_at_end);
        let per_operation = |amount: f64| if worked > 0 { amount / worked as f64 } else { 0.0 };
        let is_server = |used: &&Processor| !NO_SERVERS.contains(&used.process.as_str());
        let servers = raw.processor.iter().filter(is_server);
        let server_seconds: f64 = servers.map(|used| used.seconds).sum();
        let trips = |of: fn(&RoundTrips) -> u64| {
            raw.round_trips.as_ref().map(|trips| per_operation(of(trips) as f64))
        };
        let commits_per_operation = raw.commits().map(per_operation);
        let syncs = raw.syncs.filter(|syncs| syncs.commits >= FEWEST_COMMITS);
        let syncs_per_commit = syncs.map(|syncs| syncs.count as f64 / syncs.commits as f64);
        let achieved = achieved(raw.kept_up, raw.due);
        let saturated = is_saturated(achieved);
        let told = |latencies: Latencies| latencies.percentiles().filter(|_| !saturated);
        Ok(Self {
            served,
            rejected,
            refused,
            failed,
            completed,
            per_second: per_second(raw.operations.unwrap_or(completed), raw.window_seconds),
            achieved,
            saturated,
            latency: told(raw.latencies()?),
            service: told(raw.of_completed("service", |row| &row.service)?),
            lateness: decoded("lateness", &raw.lateness)?.percentiles(),
            server_us_per_operation: per_operation(server_seconds * 1e6),
            written_bytes_per_operation: raw.written_bytes.map(|bytes| per_operation(bytes as f64)),
            wal_bytes_per_operation: raw.wal_bytes.map(|bytes| per_operation(bytes as f64)),
            database_round_trips_per_operation: trips(|trips| trips.database),
            lock_round_trips_per_operation: trips(|trips| trips.lock),
            commits_per_operation,
            syncs_per_operation: syncs_per_commit
                .zip(commits_per_operation)
                .map(|(syncs, commits)| syncs * commits),
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::made_up;
    use super::*;

    #[test]
    fn percentiles_and_rates_are_of_what_was_completed() {
        let row = |class: Class, verdict: &str, ms| {
            let mut latencies = Latencies::default();
            latencies.record_many(Duration::from_millis(ms), 100);
            Requests {
                call: "putJob".to_owned(),
                verdict: verdict.to_owned(),
                class,
                count: 100,
                latency: latencies.encoded(),
                service: latencies.encoded(),
            }
        };
        let mut raw = made_up::measurement(1.0).raw;
        // By their class, whatever the words for a verdict are.
        raw.requests = vec![
            row(Class::Served, "refused to no one", 1),
            row(Class::Rejected, "rejected:cycle", 2),
            row(Class::Refused, "busy", 300),
            row(Class::Failed, "lost", 4_000),
        ];
        let figures = Figures::of(&raw).unwrap();
        assert_eq!((figures.completed, figures.per_second), (200, 200.0));
        assert_eq!((figures.refused, figures.failed), (100, 100));
        for found in [figures.latency, figures.service].map(Option::unwrap) {
            assert!(found.max_us < 3_000.0 && found.p50_us < 2_000.0, "{found:?}");
            assert!(found.p99_us > 1_900.0, "{found:?}");
        }
        assert_eq!(raw.latencies().unwrap().count(), 200);
    }

    #[test]
    fn what_servers_took_is_neither_the_drivers_nor_the_proxys() {
        let mut raw = made_up::measurement(1_000.0).raw;
        let before = Figures::of(&raw).unwrap();
        assert_eq!(before.wal_bytes_per_operation, None);
        assert_eq!(before.database_round_trips_per_operation, None);
        let used = |process: &str| Processor { process: process.to_owned(), seconds: 1.0 };
        raw.processor.push(used(PROXY));
        assert_eq!(Figures::of(&raw).unwrap(), before);
        raw.processor.push(used("postgres"));
        raw.wal_bytes = Some(2_002);
        raw.round_trips = Some(RoundTrips { database: 1_001, lock: 3_003 });
        // Of all that the nodes did, not of the window alone.
        raw.syncs = Some(Syncs { count: 600, commits: 2_000 });
        let after = Figures::of(&raw).unwrap();
        // One was under way at the end.
        let twice = 2.0 * before.server_us_per_operation;
        assert!((after.server_us_per_operation - twice).abs() < 1e-9, "{after:?}");
        assert_eq!(after.wal_bytes_per_operation, Some(2.0));
        assert_eq!(after.database_round_trips_per_operation, Some(1.0));
        assert_eq!(after.lock_round_trips_per_operation, Some(3.0));
        let syncs = after.commits_per_operation.unwrap() * 0.3;
        assert!((after.syncs_per_operation.unwrap() - syncs).abs() < 1e-9, "{after:?}");
        // Of so few, most are those of the start.
        raw.syncs = Some(Syncs { count: 60, commits: 49 });
        assert_eq!(Figures::of(&raw).unwrap().syncs_per_operation, None);
    }
}
