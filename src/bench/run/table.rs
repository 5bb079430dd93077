//! Results as tables.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::results::{CheckVerdict, Key, Measurement, Outcome, Point, Results};
use super::statistics::{Comparison, Estimate, FEWEST_BLOCKS, Order};
use super::workloads::Measures;
use crate::bench::latencies::{Latencies, Percentiles};
use crate::design::{self, PAIRS};
use crate::terminal::OneLine;

/// Below this many times the floor, a point says more of the driver than of the design.
const DRIVER_LIMITED: f64 = 2.0;

/// How much of a finding is shown: the history is kept, and tells all of it.
const FINDING_LINES: usize = 12;
const FINDING_COLUMNS: usize = 118;

/// What can be said of points that are repetitions of each other.
struct Group<'r> {
    key: &'r Key,
    points: Vec<(&'r Point, &'r Measurement)>,
    failed: Vec<&'r str>,
}

/// All results for a terminal.
#[must_use]
pub fn table(results: &Results) -> String {
    let groups = groups(results);
    let mut text = String::new();
    head(&mut text, results);
    let mut works: Vec<Key> = groups.iter().map(|group| group.key.of("")).collect();
    works.dedup();
    for work in &works {
        of_work(&mut text, work, &groups);
    }
    pairs(&mut text, &works, &groups);
    failures(&mut text, results);
    anomalies(&mut text, results);
    let cores = results.machine.cores;
    let _ = writeln!(
        text,
        "\nDriver and servers share {cores} cores: processor time a request is the figure that \
         carries over;\nrequests a second are not what a machine of its own would do."
    );
    text
}

fn groups(results: &Results) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<&Key, Group<'_>> = BTreeMap::new();
    for point in &results.points {
        let group = groups.entry(&point.key).or_insert_with(|| Group {
            key: &point.key,
            points: Vec::new(),
            failed: Vec::new(),
        });
        match &point.outcome {
            Outcome::Measured(measured) => group.points.push((point, measured)),
            Outcome::Failed { why } => group.failed.push(why),
        }
    }
    groups.into_values().collect()
}

fn head(text: &mut String, results: &Results) {
    let machine = &results.machine;
    let plan = &results.plan;
    let _ = writeln!(
        text,
        "{}, {} cores{}, {}, {} (4 KiB and fsync: p50 {:.0} µs, p99 {:.0} µs), SQLite {}, \
         fencepost {} {}",
        OneLine(&machine.processor),
        machine.cores,
        if machine.hypervisor { " of a virtual machine" } else { "" },
        OneLine(&machine.system),
        OneLine(&machine.file_system),
        machine.fsync_p50_us,
        machine.fsync_p99_us,
        OneLine(machine.software.get("sqlite").map_or("", String::as_str)),
        OneLine(&results.fencepost),
        OneLine(machine.software.get("build").map_or("", String::as_str)),
    );
    let _ = writeln!(
        text,
        "profile {}, seed {}, {} of {} points in {} blocks, windows of {} s after {} s",
        OneLine(&plan.profile),
        plan.seed,
        results.points.len(),
        plan.points,
        plan.blocks,
        plan.window_seconds,
        plan.warmup_seconds,
    );
}

fn of_work(text: &mut String, work: &Key, groups: &[Group<'_>]) {
    let of_work: Vec<_> = groups.iter().filter(|group| group.key.of("") == *work).collect();
    let _ = writeln!(text, "\n{}", OneLine(&work.title()));
    let starts = work.workload == "start";
    let per_second = match work.rate {
        _ if starts => "first answer ms",
        Some(_) => "achieved %",
        None => "a second",
    };
    let _ = writeln!(
        text,
        "  {:<19} {:>15} {:>17} {:>5} {:>8} {:>10} {:>8} {:>8}  checked",
        "design", per_second, "95 % interval", "CV", "x floor", "server µs", "p50 ms", "p99 ms"
    );
    let floor = floor_of(work, groups);
    for group in of_work {
        let Some(row) = Row::of(group) else {
            let why = group.failed.first().copied().unwrap_or_default();
            let _ = writeln!(text, "  {:<19} no figures: {}", group.key.design, OneLine(why));
            continue;
        };
        let _ = writeln!(text, "  {}", row.line(group, floor.as_ref()));
    }
}

/// The echo server's row, where it was measured under the same load.
fn floor_of(work: &Key, groups: &[Group<'_>]) -> Option<Row> {
    let workload = super::workloads::named(&work.workload);
    let floor = workload.filter(|known| known.measures == Measures::Requests)?.floor().name;
    let like = |group: &&Group<'_>| {
        group.key.design == "echo"
            && group.key.workload == floor
            && group.key.rate == work.rate
            && group.key.writers == work.writers
    };
    Row::of(groups.iter().find(like)?)
}

/// A group in figures.
struct Row {
    per_second: Option<Estimate>,
    server_us: Option<Estimate>,
    achieved: Option<Estimate>,
    /// Of all blocks together.
    latency: Option<Percentiles>,
    first_answer_ms: Option<Estimate>,
    refused: u64,
    failed: u64,
    saturated: usize,
    verdict: String,
}

impl Row {
    fn of(group: &Group<'_>) -> Option<Self> {
        if group.points.is_empty() {
            return None;
        }
        let of = |figure: &dyn Fn(&Measurement) -> Option<f64>| {
            let figures: Vec<f64> =
                group.points.iter().filter_map(|(_, measured)| figure(measured)).collect();
            Estimate::of(&figures)
        };
        let sum = |count: fn(&Measurement) -> u64| {
            group.points.iter().map(|(_, measured)| count(measured)).sum()
        };
        Some(Self {
            per_second: of(&|measured| Some(measured.per_second)),
            achieved: of(&|measured| measured.achieved.map(|share| 100.0 * share)),
            server_us: of(&server_us),
            latency: pooled(group),
            first_answer_ms: of(&|measured| Some(1e3 * measured.first_answer_seconds()?)),
            refused: sum(|measured| measured.refused),
            failed: sum(|measured| measured.failed),
            saturated: group.points.iter().filter(|(_, measured)| measured.saturated).count(),
            verdict: verdict(group),
        })
    }

    fn line(&self, group: &Group<'_>, floor: Option<&Self>) -> String {
        let starts = group.key.workload == "start";
        let main = match group.key.rate {
            _ if starts => self.first_answer_ms,
            Some(_) => self.achieved,
            None => self.per_second,
        };
        let number = |estimate: Option<Estimate>, digits: usize| {
            estimate.map_or_else(|| "-".to_owned(), |found| format!("{:.digits$}", found.median))
        };
        let interval = main
            .filter(|found| found.count >= FEWEST_BLOCKS)
            .map_or_else(String::new, |found| format!("{:.0} to {:.0}", found.low, found.high));
        let ms = |us: fn(Percentiles) -> f64| {
            let latency = self.latency.filter(|_| !starts);
            latency.map_or_else(|| "-".to_owned(), |found| format!("{:.2}", us(found) / 1e3))
        };
        let variation = main
            .and_then(|found| found.variation)
            .map_or_else(String::new, |variation| format!("{:.0}%", variation * 100.0));
        let mut remarks = self.verdict.clone();
        let is_floor = group.key.is_floor();
        // The time that one request takes of all clients, against the echo server's.
        let times_floor = self
            .per_second
            .zip(floor.and_then(|floor| floor.per_second))
            .filter(|(own, _)| group.key.rate.is_none() && !starts && own.median > 0.0)
            .map(|(own, floor)| floor.median / own.median);
        if times_floor.is_some_and(|times| times < DRIVER_LIMITED) && !is_floor {
            remarks += ", driver-limited";
        }
        let p99 = self.latency.zip(floor.and_then(|floor| floor.latency));
        let is_machines = p99.is_some_and(|(own, floor)| own.p99_us < floor.p99_us);
        if group.key.rate.is_some() && is_machines && !is_floor {
            remarks += ", p99 is the machine's";
        }
        if self.saturated > 0 {
            let _ = write!(remarks, ", saturated in {} of {}", self.saturated, group.points.len());
        }
        for (count, what) in [(self.refused, "refused"), (self.failed, "failed")] {
            if count > 0 {
                let _ = write!(remarks, ", {count} {what}");
            }
        }
        if !group.failed.is_empty() {
            let _ = write!(remarks, ", {} without figures", group.failed.len());
        }
        format!(
            "{:<19} {:>15} {:>17} {:>5} {:>8} {:>10} {:>8} {:>8}  {remarks}",
            OneLine(&group.key.design).to_string(),
            number(main, 0),
            interval,
            variation,
            times_floor.map_or_else(|| "-".to_owned(), |times| format!("{times:.1}")),
            number(self.server_us.filter(|_| !starts), 0),
            ms(|found| found.p50_us),
            ms(|found| found.p99_us),
        )
    }
}

fn verdict(group: &Group<'_>) -> String {
    if group.key.is_floor() {
        return "floor".to_owned();
    }
    let all = group.points.iter().map(|(_, measured)| &measured.verdict);
    for verdict in all.clone() {
        match verdict {
            CheckVerdict::Invalid { kind, .. } => return format!("INVALID: {}", OneLine(kind)),
            CheckVerdict::Failed { .. } => return "not judged".to_owned(),
            CheckVerdict::Valid { .. } | CheckVerdict::NotApplicable => {}
        }
    }
    let valid = all.filter(|verdict| matches!(verdict, CheckVerdict::Valid { .. })).count();
    let is_broken = design::named(&group.key.design).is_some_and(|design| !design.is_sound());
    if valid > 0 && is_broken && group.key.workload == "pairs" {
        return "valid: it keeps no rules, and that was NOT SEEN".to_owned();
    }
    if valid == 0 { "not checked".to_owned() } else { format!("valid, {valid} times") }
}

/// Percentiles of all blocks together; none where a block was saturated, whose latencies would be
/// those of a queue.
fn pooled(group: &Group<'_>) -> Option<Percentiles> {
    let mut all = Latencies::default();
    for (_, measured) in &group.points {
        if measured.saturated {
            return None;
        }
        let is_told = |name: &str| {
            let completed = !["refused", "unreachable", "unknown", "undocumented"]
                .iter()
                .any(|verdict| name.contains(&format!("/{verdict}")));
            name == "backlog" || name.ends_with("/latency") && completed
        };
        for (_, text) in measured.histograms.iter().filter(|(name, _)| is_told(name)) {
            all.add(&Latencies::decoded(text).ok()?);
        }
    }
    all.percentiles()
}

/// Nothing where nothing was done, or the kernel has counted nothing.
fn server_us(measured: &Measurement) -> Option<f64> {
    (measured.server_us_per_operation > 0.0).then_some(measured.server_us_per_operation)
}

/// Why a group may not be compared.
fn unsound(group: &Group<'_>) -> Option<String> {
    let design = &group.key.design;
    let said = |what: &str| Some(format!("{design} {what}"));
    if !group.failed.is_empty() || group.points.is_empty() {
        return said("was not measured in every block");
    }
    let starts = group.key.workload == "start";
    let any_checked =
        group.points.iter().any(|(_, measured)| measured.verdict != CheckVerdict::NotApplicable);
    for (_, measured) in &group.points {
        match &measured.verdict {
            CheckVerdict::Invalid { .. } => return said("is INVALID"),
            CheckVerdict::Failed { .. } => return said("was not judged"),
            CheckVerdict::NotApplicable if any_checked => return said("was not always checked"),
            CheckVerdict::Valid { .. } | CheckVerdict::NotApplicable => {}
        }
        if measured.saturated {
            return said("was saturated");
        }
        let others = measured.refused + measured.failed;
        if (others as f64) > UNSERVED * (others + measured.completed) as f64 {
            return said("refused more than 1 % or failed");
        }
        if measured.completed < FEWEST_REQUESTS && !starts && !measured.rates_operations {
            return said("completed too little in a window: give more --seconds");
        }
    }
    None
}

/// A design that served less than all but this share is not compared.
const UNSERVED: f64 = 0.01;
/// With fewer requests in a window, a rate tells where the window began.
const FEWEST_REQUESTS: u64 = 20;

fn pairs(text: &mut String, works: &[Key], groups: &[Group<'_>]) {
    let mut lines = String::new();
    let mut few = false;
    for work in works {
        let figures = figures_of(work);
        let mut of_work = String::new();
        for pair in &PAIRS {
            let of = |design: &str| groups.iter().find(|group| *group.key == work.of(design));
            let Some((first, second)) = of(pair.first).zip(of(pair.second)) else { continue };
            let _ = write!(of_work, "  {:<40}", format!("{} / {}", pair.first, pair.second));
            if let Some(why) = unsound(first).or_else(|| unsound(second)) {
                let _ = writeln!(of_work, " not compared: {}", OneLine(&why));
                continue;
            }
            for (_, figure) in &figures {
                let Some(compared) = compare(first, second, *figure) else {
                    let _ = write!(of_work, " {:>6} {:<21}", "-", "");
                    continue;
                };
                let Estimate { median, low, high, .. } = compared.ratio;
                let says = match compared.order {
                    Order::First => "more",
                    Order::Second => "less",
                    Order::Tie => "tie",
                    Order::TooFew => "?",
                };
                few |= compared.order == Order::TooFew;
                let interval = format!("({low:.2} to {high:.2})");
                let _ = write!(of_work, " {median:>6.2} {interval:<15} {says:<5}");
            }
            of_work.truncate(of_work.trim_end().len());
            of_work.push('\n');
        }
        if !of_work.is_empty() {
            let rate = work.rate.map_or_else(String::new, |rate| format!(" at {rate} a second"));
            let sizes = format!("{}{rate}{}", OneLine(&work.workload), work.jobs());
            let _ = write!(lines, "  {sizes:<40}");
            for (what, _) in &figures {
                let _ = write!(lines, " {what:<28}");
            }
            lines.truncate(lines.trim_end().len());
            let _ = write!(lines, "\n{of_work}");
        }
    }
    if lines.is_empty() {
        let _ = writeln!(
            text,
            "\nNo two of these designs differ in one choice, so none are compared (docs/METHOD.md)"
        );
        return;
    }
    let _ = writeln!(
        text,
        "\nPairs that differ in one choice: what the first has, in times of the second, block by \
         block"
    );
    text.push_str(&lines);
    let _ = writeln!(
        text,
        "  tie: not told apart; how large a difference may be hidden, the interval says"
    );
    if few {
        let _ = writeln!(text, "  ?: with fewer than {FEWEST_BLOCKS} blocks nothing is told apart");
    }
}

type Figure = fn(&Measurement) -> Option<f64>;

fn figures_of(work: &Key) -> Vec<(&'static str, Figure)> {
    if work.workload == "start" {
        return vec![("first answer", Measurement::first_answer_seconds)];
    }
    let server: Figure = server_us;
    let per_second: Figure = |measured| Some(measured.per_second);
    let p50: Figure = |measured| Some(measured.latency?.p50_us);
    match work.rate {
        Some(_) => vec![("p50", p50), ("server µs", server)],
        None => vec![("a second", per_second), ("server µs", server)],
    }
}

/// Block by block: each pair of one block was measured with the same seed, shortly after the other.
fn compare(first: &Group<'_>, second: &Group<'_>, figure: Figure) -> Option<Comparison> {
    let of = |group: &Group<'_>| -> BTreeMap<u32, f64> {
        let figures = group.points.iter();
        figures.filter_map(|(point, measured)| Some((point.block, figure(measured)?))).collect()
    };
    let (first, second) = (of(first), of(second));
    let both: Vec<(f64, f64)> =
        first.iter().filter_map(|(block, one)| Some((*one, *second.get(block)?))).collect();
    Comparison::of(&both)
}

fn failures(text: &mut String, results: &Results) {
    let failed = results.points.iter().filter_map(|point| Some((point, point.failure()?)));
    for (number, (point, why)) in failed.enumerate() {
        if number == 0 {
            let _ = writeln!(text, "\nWithout figures, or without a verdict:");
        }
        let (design, workload) = (OneLine(&point.key.design), OneLine(&point.key.workload));
        let (block, why) = (point.block + 1, OneLine(why));
        let _ = writeln!(text, "  {design} with {workload}, block {block}: {why}");
    }
}

fn anomalies(text: &mut String, results: &Results) {
    let mut told = Vec::new();
    for point in &results.points {
        let Outcome::Measured(measured) = &point.outcome else { continue };
        let CheckVerdict::Invalid { kind, finding } = &measured.verdict else { continue };
        if told.contains(&&point.key.design) {
            continue;
        }
        told.push(&point.key.design);
        let _ = writeln!(
            text,
            "\n{} is INVALID with {}: {}",
            OneLine(&point.key.design),
            OneLine(&point.key.workload),
            OneLine(kind)
        );
        let number = point.number;
        let _ = writeln!(
            text,
            "  again: fencepost check --base histories/point-{number}-base.ndjson \
             histories/point-{number}.ndjson"
        );
        for line in finding.lines().take(FINDING_LINES) {
            let line: String = OneLine(line).to_string().chars().take(FINDING_COLUMNS).collect();
            let _ = writeln!(text, "  {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::Value;

    use super::super::machine::Machine;
    use super::super::results::{FORMAT, PlanRecord};
    use super::*;

    fn measurement(per_second: f64) -> Measurement {
        Measurement {
            verdict: CheckVerdict::Valid { summary: Value::Null },
            window_seconds: 1.0,
            completed: per_second as u64,
            per_second,
            rates_operations: false,
            served: per_second as u64,
            rejected: 0,
            refused: 0,
            failed: 0,
            achieved: None,
            saturated: false,
            latency: None,
            service: None,
            lateness: None,
            histograms: BTreeMap::new(),
            processor: Vec::new(),
            in_flight_at_end: 0,
            server_us_per_operation: 1e6 / per_second,
            written_bytes_per_operation: 0.0,
            commits_per_operation: None,
            peak_memory_bytes: Vec::new(),
            steal_seconds: 0.0,
            start_seconds: vec![0.1],
            disk: None,
            phases: Value::Null,
        }
    }

    /// A pair in so many blocks, the first with so many a second and the second with 1,000; one of
    /// its points may be changed.
    fn told(rates: &[f64], change: impl Fn(&mut Outcome)) -> String {
        let key = Key {
            workload: "register".to_owned(),
            shape: "chain".to_owned(),
            size: 10,
            rate: None,
            writers: 8,
            nodes: 1,
            design: String::new(),
        };
        let mut points = Vec::new();
        for (block, rate) in rates.iter().enumerate() {
            for (design, rate) in [(PAIRS[0].first, *rate), (PAIRS[0].second, 1_000.0)] {
                let mut outcome = Outcome::Measured(Box::new(measurement(rate)));
                if points.is_empty() {
                    change(&mut outcome);
                }
                points.push(Point {
                    number: points.len(),
                    block: block as u32,
                    key: key.of(design),
                    base: None,
                    durability: String::new(),
                    command: String::new(),
                    began_unix_ms: 0,
                    outcome,
                });
            }
        }
        let directory = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let plan = PlanRecord {
            profile: "quick".to_owned(),
            seed: 1,
            blocks: rates.len() as u32,
            window_seconds: 1.0,
            warmup_seconds: 0.0,
            points: points.len(),
            digest: String::new(),
        };
        let results = Results {
            format: FORMAT,
            fencepost: String::new(),
            plan,
            began_unix_ms: 0,
            complete: true,
            machine: Machine::look(&program, directory.path()).unwrap(),
            bases: Vec::new(),
            points,
        };
        let name = format!("{} / {}", PAIRS[0].first, PAIRS[0].second);
        let table = table(&results);
        let line = table.lines().find(|line| line.contains(&name)).unwrap_or_default();
        line.split(&name).nth(1).unwrap_or_default().trim().to_owned()
    }

    fn with(change: impl Fn(&mut Measurement)) -> String {
        told(&[2_000.0; 6], |outcome| {
            if let Outcome::Measured(found) = outcome {
                change(found);
            }
        })
    }

    #[test]
    fn a_pair_is_told_apart_by_blocks_that_agree() {
        let same = |_: &mut Outcome| {};
        let more = "2.00 (2.00 to 2.00)  more    0.50 (0.50 to 0.50)  less";
        assert_eq!(told(&[2_000.0; 6], same), more);
        let mixed = [1_100.0, 1_200.0, 900.0, 1_300.0, 1_100.0, 1_200.0];
        assert!(told(&mixed, same).contains("tie"), "{}", told(&mixed, same));
        assert!(told(&[2_000.0; 5], same).contains('?'), "{}", told(&[2_000.0; 5], same));
    }

    #[test]
    fn what_is_not_right_or_not_whole_is_compared_with_nothing() {
        type Change = fn(&mut Measurement);
        let changes: [(Change, &str); 7] = [
            (
                |found| {
                    let (kind, finding) = ("stale-answer".to_owned(), String::new());
                    found.verdict = CheckVerdict::Invalid { kind, finding };
                },
                "is INVALID",
            ),
            (|found| found.verdict = CheckVerdict::Failed { why: String::new() }, "was not judged"),
            (|found| found.verdict = CheckVerdict::NotApplicable, "was not always checked"),
            (|found| found.saturated = true, "was saturated"),
            (|found| found.refused = 21, "refused more than 1 % or failed"),
            (|found| found.failed = 21, "refused more than 1 % or failed"),
            (|found| found.completed = 19, "completed too little"),
        ];
        for (change, why) in changes {
            let told = with(change);
            assert!(told.starts_with("not compared: ") && told.contains(why), "{told}");
        }
        let failed = told(&[2_000.0; 6], |outcome| {
            *outcome = Outcome::Failed { why: "it died".to_owned() };
        });
        assert!(failed.contains("was not measured in every block"), "{failed}");
        assert!(with(|found| found.refused = 20).contains("more"));
    }
}
