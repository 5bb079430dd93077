//! A run's report, as a table or as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::class::Class;
use super::latencies::{Latencies, Percentiles};
use super::machine::Machine;
use super::phases::Phases;
use super::server::Server;
use super::summary::{Extent, Row, Summary, per_second};
use super::tally::Tally;
use super::timeline::Part;
use super::{BenchError, DriveArgs, Format, WorkloadName};
use crate::terminal::OneLine;

/// A whole run.
pub struct Report {
    pub(super) args: DriveArgs,
    /// Who was asked.
    pub(super) target: String,
    pub(super) server: Server,
    pub(super) tally: Tally,
    pub(super) extent: Extent,
    /// What the first read took, before anything was measured.
    pub(super) first_read: Duration,
    /// What the service says of its turns while this was measured.
    pub(super) phases: Phases,
    /// The graph's version at the beginning, and in the end.
    pub(super) initial_version: Option<u64>,
    pub(super) final_version: Option<u64>,
    /// Why the run ended before its end.
    pub(super) cut_short: Option<String>,
}

/// The unit of each number in a report as JSON, by the name of its field; those of the arguments
/// are in their names, or in `--help`.
const UNITS: [(&str, &str); 34] = [
    ("window_seconds", "s"),
    ("warmup_seconds", "s"),
    ("first_read_seconds", "s"),
    ("completed_per_second", "requests/s in the window, served or rejected"),
    ("per_second", "requests/s in the window"),
    ("operations_per_second", "operations/s in the window, of accepted writes"),
    ("count", "requests answered in the window; of a latency, those intended for it"),
    ("served", "requests answered in the window"),
    ("rejected", "requests answered in the window"),
    ("refused", "requests answered in the window"),
    ("failed", "requests answered in the window"),
    ("due", "requests in the window"),
    ("achieved", "share of due, from 0 to 1"),
    ("backlog", "requests due in the window and not sent by its end"),
    ("in_flight_at_end", "requests"),
    ("sent", "requests, of the warm-up and the set-up too"),
    ("undocumented", "requests, of the warm-up and the set-up too"),
    ("p50_us", "us"),
    ("p90_us", "us"),
    ("p99_us", "us"),
    ("p999_us", "us"),
    ("max_us", "us"),
    ("histogram", "ns:requests"),
    ("mean", "the unit beside it"),
    ("p50", "the unit beside it"),
    ("p99", "the unit beside it"),
    ("initial_version", "changes to the graph before the run"),
    ("final_version", "changes to the graph"),
    ("rate", "requests/s"),
    ("processors", "processors"),
    ("memory_bytes", "bytes"),
    ("from_seconds", "s, from the beginning of the window"),
    ("completed", "requests due in the part of the window; as refused and failed beside it"),
    ("answered", "requests completed in the part of the window"),
];

impl Report {
    /// The figures in the form that was asked for.
    #[must_use]
    pub fn render(&self) -> String {
        match self.args.format {
            Format::Text => self.text(),
            Format::Json => format!("{:#}", self.json()),
        }
    }

    /// Whether the run came to a good end.
    ///
    /// # Errors
    /// [`BenchError`] says why not.
    pub fn verdict(&self) -> Result<(), BenchError> {
        if let Some((count, first)) = &self.tally.undocumented {
            return Err(BenchError::Undocumented { count: *count, first: first.clone() });
        }
        match &self.cut_short {
            Some(why) => Err(BenchError::Unavailable(why.clone())),
            None => Ok(()),
        }
    }

    /// The figures, to go on with.
    #[must_use]
    pub fn summary(&self) -> Summary {
        Summary::new(&self.tally, &self.extent)
    }

    /// Of a load, operations accepted within the window.
    pub(super) fn loaded(&self) -> Option<u64> {
        (self.args.workload == WorkloadName::Load).then_some(self.tally.operations)
    }

    /// What became of the requests of each part of the window; empty unless that is to be told.
    #[must_use]
    pub fn timeline(&self) -> Vec<Part> {
        let part = self.args.timeline_seconds.map(Duration::from_secs_f64);
        part.map_or_else(Vec::new, |part| self.tally.timeline.parts(part, self.extent.window))
    }

    /// All of one JSON object. Where the rate was not achieved, latencies are null.
    #[must_use]
    pub fn json(&self) -> Value {
        let summary = self.summary();
        let window = summary.window.as_secs_f64();
        let latency = |latencies: &Latencies| match summary.saturated {
            true => Value::Null,
            false => latencies.json(),
        };
        let row = |row: &Row| {
            json!({
                "call": row.call,
                "verdict": row.verdict,
                "class": row.class.name(),
                "count": row.count,
                "per_second": per_second(row.count, window),
                "latency": latency(&row.latency),
                "service": row.service.json(),
                "first_error": row.first_error,
            })
        };
        let loaded = self.loaded().map(|operations| per_second(operations, window));
        let classes =
            Class::ALL.map(|class| (class.name().to_owned(), summary.count(class).into()));
        json!({
            "fencepost": env!("CARGO_PKG_VERSION"),
            "commit": crate::COMMIT,
            "machine": Machine::here(),
            "target": self.target,
            "design": self.server.design,
            "sharing": self.server.sharing,
            "reads": self.server.reads,
            "server_version": self.server.version,
            "server_commit": self.server.commit,
            "arguments": self.args,
            "units": UNITS.iter().copied().collect::<std::collections::BTreeMap<_, _>>(),
            "loop": if summary.due.is_some() { "open" } else { "closed" },
            "window_seconds": window,
            "warmup_seconds": self.args.warmup_seconds,
            "first_read_seconds": self.first_read.as_secs_f64(),
            "counts": Value::Object(classes.into_iter().collect()),
            "completed_per_second": summary.completed_per_second,
            "latency": latency(&summary.latency()),
            "service": summary.service().json(),
            "by_node": summary.by_node.iter().map(latency).collect::<Vec<_>>(),
            "driver_lateness": summary.lateness.json(),
            "due": summary.due,
            "achieved": summary.achieved,
            "saturated": summary.saturated,
            "backlog": summary.backlog.count(),
            "backlog_waited": summary.backlog.json(),
            "in_flight_at_end": summary.in_flight_at_end,
            "notes": self.notes(&summary),
            "requests": summary.rows.iter().map(row).collect::<Vec<_>>(),
            "sent": self.tally.sent,
            "undocumented": self.tally.undocumented.as_ref().map_or(0, |(count, _)| *count),
            "phases": self.phases.json(),
            "timeline": self.args.timeline_seconds.map(|_| self.timeline()),
            "beyond_commit": self.tally.beyond_commit.json(),
            "operations_per_second": loaded,
            "initial_version": self.initial_version,
            "final_version": self.final_version,
            "ended_early": self.cut_short,
        })
    }

    /// What must be known to read the figures rightly.
    fn notes(&self, summary: &Summary) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some((achieved, due)) = summary.achieved.zip(summary.due)
            && summary.saturated
        {
            notes.push(format!(
                "saturated: only {:.1} % of the rate were achieved, of {due} requests that were \
                 due; latencies would be those of a queue that grows, and are not told. Lower \
                 --rate, or give more --clients if the driver was late",
                100.0 * achieved
            ));
        }
        match summary.backlog.count() {
            0 => {}
            count if summary.saturated => {
                notes.push(format!("requests due in the window and not sent: {count}"));
            }
            count => notes.push(format!(
                "requests due in the window and not sent: {count}; they are in the latencies of \
                 all, with the time for which they had been due: percentiles are lower bounds"
            )),
        }
        if summary.in_flight_at_end > 0 {
            notes.push(format!(
                "requests under way at the end of the window: {}; they are in the latencies, and \
                 not in the rates",
                summary.in_flight_at_end
            ));
        }
        if !self.phases.are_told() {
            let from = "no /metrics of Fencepost were to be had from the target";
            notes.push(format!("{from}: where the time went, design and settings are not known"));
        }
        if let Some(version) = self.initial_version.filter(|version| *version > 0)
            && self.args.history.is_some()
        {
            notes.push(format!(
                "the history begins at version {version}: have it checked with the change log, as \
                 `fencepost check --stored` reads it, or with the histories before it"
            ));
        }
        notes
    }

    fn text(&self) -> String {
        let summary = self.summary();
        let mut table = Table::new(&summary);
        let is_open = summary.due.is_some();
        let (completed, others): (Vec<&Row>, Vec<&Row>) =
            summary.rows.iter().partition(|row| row.class.is_completed());
        for row in &completed {
            table.row(row.call, &row.verdict, Some(row.count), table.latency(&row.latency));
        }
        let count = summary.count(Class::Served) + summary.count(Class::Rejected);
        let all = table.latency(&summary.latency());
        table.row("all", "served and rejected", Some(count), all);
        if is_open {
            table.row("all", "from sending", None, summary.service().percentiles());
        }
        if summary.by_node.len() > 1 {
            for (node, latencies) in summary.by_node.iter().enumerate() {
                let (name, count) = (format!("clients of node {}", node + 1), latencies.count());
                table.row("all", &name, Some(count), table.latency(latencies));
            }
        }
        if self.tally.beyond_commit.count() > 0 {
            let beyond = self.tally.beyond_commit.percentiles();
            table.row("beyond commit", "writes less their commit", None, beyond);
        }
        for row in &others {
            table.row(row.call, &row.verdict, Some(row.count), table.latency(&row.latency));
        }
        table.row("driver", "late in sending", None, summary.lateness.percentiles());
        let mut text = table.text;
        text += &self.phases.table();
        text += &timeline_table(&self.timeline());
        self.end(&summary, &mut text);
        text
    }

    /// What stands below the tables.
    fn end(&self, summary: &Summary, text: &mut String) {
        let window = summary.window.as_secs_f64();
        if let Some(operations) = self.loaded() {
            let rate = per_second(operations, window);
            let _ = writeln!(
                text,
                "loaded: {operations} operations in {window:.1} s, {rate:.0} a second"
            );
        }
        for row in &summary.rows {
            if let Some(error) = &row.first_error {
                // The server's words.
                let (verdict, error) = (OneLine(&row.verdict), OneLine(error));
                let _ = writeln!(text, "first {verdict} of {}: {error}", row.call);
            }
        }
        for note in self.notes(summary) {
            let _ = writeln!(text, "{note}");
        }
        let said = [
            ("design", &self.server.design),
            ("sharing", &self.server.sharing),
            ("reads", &self.server.reads),
        ];
        let said = said.into_iter().filter_map(|(what, value)| Some((what, value.as_ref()?)));
        let said: String =
            said.map(|(what, value)| format!("; {what} {}", OneLine(value))).collect();
        let version = self
            .final_version
            .map_or_else(String::new, |version| format!("; the graph is at version {version}"));
        let first_read = self.first_read.as_secs_f64();
        let _ = write!(
            text,
            "measured {window:.1} s, after a first read of {first_read:.3} s{version}{said}"
        );
    }
}

/// Empty of no parts.
fn timeline_table(parts: &[Part]) -> String {
    let mut text = String::new();
    for (at, part) in parts.iter().enumerate() {
        if at == 0 {
            let _ = writeln!(
                text,
                "{:>9} {:>10} {:>8} {:>8} {:>9} {:>11} {:>11}",
                "from s", "completed", "refused", "failed", "answered", "p50 µs", "max µs"
            );
        }
        let Part { from_seconds, completed, refused, failed, answered, p50_us, max_us } = part;
        let [p50, max] =
            [p50_us, max_us].map(|us| us.map_or_else(String::new, |us| format!("{us:.0}")));
        let line = format!(
            "{from_seconds:>9.2} {completed:>10} {refused:>8} {failed:>8} {answered:>9} {p50:>11} \
             {max:>11}"
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

/// Rows of at most 119 columns, unless a number is very large.
struct Table<'s> {
    summary: &'s Summary,
    text: String,
}

impl<'s> Table<'s> {
    fn new(summary: &'s Summary) -> Self {
        let mut table = Self { summary, text: String::new() };
        let percentiles = ["p50 µs", "p90 µs", "p99 µs", "p99.9 µs", "max µs"];
        table.line(["call", "verdict", "count", "per second"], percentiles);
        table
    }

    /// `None` where the rate was not achieved.
    fn latency(&self, latencies: &Latencies) -> Option<Percentiles> {
        latencies.percentiles().filter(|_| !self.summary.saturated)
    }

    fn row(
        &mut self,
        call: &str,
        verdict: &str,
        count: Option<u64>,
        percentiles: Option<Percentiles>,
    ) {
        // The server's word.
        let verdict = OneLine(verdict).to_string();
        let window = self.summary.window.as_secs_f64();
        let rate = count.map(|count| format!("{:.1}", per_second(count, window)));
        let count = count.map(|count| count.to_string());
        let [count, rate] = [count, rate].map(Option::unwrap_or_default);
        let us = |figure: f64| format!("{figure:.1}");
        let shown = percentiles.map_or_else(Default::default, |found| {
            [found.p50_us, found.p90_us, found.p99_us, found.p999_us, found.max_us].map(us)
        });
        let shown = shown.each_ref().map(|text: &String| match text.as_str() {
            "" => "-",
            text => text,
        });
        self.line([call, &verdict, &count, &rate], shown);
    }

    fn line(&mut self, [call, verdict, count, rate]: [&str; 4], percentiles: [&str; 5]) {
        let [p50, p90, p99, p999, max] = percentiles;
        let _ = writeln!(
            self.text,
            "{call:<14} {verdict:<30} {count:>9} {rate:>10} {p50:>9} {p90:>9} {p99:>9} {p999:>9} \
             {max:>10}"
        );
    }
}
