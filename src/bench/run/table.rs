//! Results as tables.

use std::fmt::Write as _;

use super::comparisons::{Group, comparisons, figures_of, groups, server_us, works};
use super::place::check_again;
use super::results::{CheckVerdict, Compared, Key, Measurement, Outcome, Results};
use super::statistics::{Estimate, FEWEST_BLOCKS, Order};
use super::workloads::Measures;
use crate::bench::latencies::{Latencies, Percentiles};
use crate::design;
use crate::terminal::OneLine;

/// Below this many times the floor, a point says more of the driver than of the design.
const DRIVER_LIMITED: f64 = 2.0;

/// How much of a finding is shown: the history is kept, and tells all of it.
const FINDING_LINES: usize = 12;
const FINDING_COLUMNS: usize = 118;

/// All results for a terminal.
#[must_use]
pub fn table(results: &Results) -> String {
    let groups = groups(&results.points);
    let mut text = String::new();
    head(&mut text, results);
    let works = works(&groups);
    for work in &works {
        of_work(&mut text, work, &groups);
    }
    pairs(&mut text, &works, &comparisons(&results.points));
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
        "  {:<20} {:>15} {:>17} {:>5} {:>8} {:>10} {:>8} {:>8}  checked",
        "design", per_second, "95 % interval", "CV", "x floor", "server µs", "p50 ms", "p99 ms"
    );
    let floor = floor_of(work, groups);
    for group in of_work {
        let Some(row) = Row::of(group) else {
            let why = group.failed.first().copied().unwrap_or_default();
            let label = OneLine(group.key.label()).to_string();
            let _ = writeln!(text, "  {label:<20} no figures: {}", OneLine(why));
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
            per_second: of(&|measured| Some(measured.figures.per_second)),
            achieved: of(&|measured| measured.figures.achieved.map(|share| 100.0 * share)),
            server_us: of(&server_us),
            latency: pooled(group),
            first_answer_ms: of(&|measured| Some(1e3 * measured.first_answer_seconds()?)),
            refused: sum(|measured| measured.figures.refused),
            failed: sum(|measured| measured.figures.failed),
            saturated: group.points.iter().filter(|(_, measured)| measured.figures.saturated).count(),
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
            "{:<20} {:>15} {:>17} {:>5} {:>8} {:>10} {:>8} {:>8}  {remarks}",
            OneLine(group.key.label()).to_string(),
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
        if measured.figures.saturated {
            return None;
        }
        all.add(&measured.raw.latencies().ok()?);
    }
    all.percentiles()
}

fn pairs(text: &mut String, works: &[Key], compared: &[Compared]) {
    let (twice, declared): (Vec<&Compared>, Vec<&Compared>) =
        compared.iter().partition(|pair| pair.second.again);
    if declared.is_empty() {
        let _ = writeln!(
            text,
            "\nNo two of these designs differ in one choice, so none are compared (docs/METHOD.md)"
        );
    } else {
        let _ = writeln!(
            text,
            "\nPairs that differ in one choice: what the first has, in times of the second, block \
             by block"
        );
        of_works(text, works, &declared);
        let _ = writeln!(
            text,
            "  tie: not told apart; how large a difference may be hidden, the interval says"
        );
    }
    if !twice.is_empty() {
        let _ = writeln!(
            text,
            "\nA/A, each design measured twice in a block: what the first has, in times of the \
             second"
        );
        of_works(text, works, &twice);
        let orders = twice.iter().flat_map(|pair| &pair.ratios).map(|ratio| ratio.order);
        let judged: Vec<Order> = orders.filter(|order| *order != Order::TooFew).collect();
        let told = judged.iter().filter(|order| **order != Order::Tie).count();
        let _ = writeln!(
            text,
            "  told apart: {told} of {}; by chance expect at most 1 in 20",
            judged.len()
        );
    }
    let is_few = |pair: &Compared| pair.ratios.iter().any(|ratio| ratio.order == Order::TooFew);
    if compared.iter().any(is_few) {
        let _ = writeln!(text, "  ?: with fewer than {FEWEST_BLOCKS} blocks nothing is told apart");
    }
}

/// The pairs under the work on which they were measured.
fn of_works(text: &mut String, works: &[Key], compared: &[&Compared]) {
    for work in works {
        let of_work: Vec<_> = compared.iter().filter(|pair| pair.first.of("") == *work).collect();
        if of_work.is_empty() {
            continue;
        }
        let rate = work.rate.map_or_else(String::new, |rate| format!(" at {rate} a second"));
        let sizes = format!("{}{rate}{}", OneLine(&work.workload), work.jobs());
        let mut line = format!("  {sizes:<40}");
        for figure in figures_of(work) {
            let _ = write!(line, " {:<28}", figure.title);
        }
        let _ = writeln!(text, "{}", line.trim_end());
        for pair in of_work {
            let _ = writeln!(text, "{}", line_of_pair(work, pair).trim_end());
        }
    }
}

fn line_of_pair(work: &Key, pair: &Compared) -> String {
    let names = format!("{} / {}", OneLine(pair.first.label()), OneLine(pair.second.label()));
    let mut line = format!("  {names:<40}");
    if let Some(why) = &pair.not_compared {
        let _ = write!(line, " not compared: {}", OneLine(why));
        return line;
    }
    for figure in figures_of(work) {
        let Some(ratio) = pair.ratios.iter().find(|ratio| ratio.figure == figure.name) else {
            let _ = write!(line, " {:>6} {:<21}", "-", "");
            continue;
        };
        let interval = format!("({:.2} to {:.2})", ratio.low, ratio.high);
        let says = match ratio.order {
            Order::TooFew => "?",
            told => told.name(),
        };
        let _ = write!(line, " {:>6.2} {interval:<15} {says:<5}", ratio.median);
    }
    line
}

fn failures(text: &mut String, results: &Results) {
    let failed = results.points.iter().filter_map(|point| Some((point, point.failure()?)));
    for (number, (point, why)) in failed.enumerate() {
        if number == 0 {
            let _ = writeln!(text, "\nWithout figures, or without a verdict:");
        }
        let (design, workload) = (OneLine(point.key.label()), OneLine(&point.key.workload));
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
        let _ = writeln!(text, "  again: {}", check_again(point.number));
        for line in finding.lines().take(FINDING_LINES) {
            let line: String = OneLine(line).to_string().chars().take(FINDING_COLUMNS).collect();
            let _ = writeln!(text, "  {line}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;
    use crate::design::PAIRS;

    /// What is said of the pair.
    fn told(rates: &[f64], change: impl Fn(&mut Outcome)) -> String {
        let name = format!("{} / {}", PAIRS[0].first, PAIRS[0].second);
        let table = table(&made_up::pair(rates, change));
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
    fn how_often_a_design_is_told_from_itself_is_counted() {
        let apart = table(&made_up::twice(&[1_100.0; 6]));
        assert!(apart.contains("told apart: 2 of 2; "), "{apart}");
        let mixed = table(&made_up::twice(&[1_100.0, 1_200.0, 900.0, 1_300.0, 1_100.0, 1_200.0]));
        assert!(mixed.contains("told apart: 0 of 2; "), "{mixed}");
        let few = table(&made_up::twice(&[1_100.0; 5]));
        assert!(few.contains("told apart: 0 of 0; ") && few.contains("?: with fewer"), "{few}");
        assert!(!table(&made_up::pair(&[1_100.0; 6], |_| {})).contains("A/A"));
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
            (|found| found.figures.saturated = true, "was saturated"),
            (|found| found.figures.refused = 21, "refused more than 1 % or failed"),
            (|found| found.figures.failed = 21, "refused more than 1 % or failed"),
            (|found| found.figures.completed = 19, "completed too little"),
        ];
        for (change, why) in changes {
            let told = with(change);
            assert!(told.starts_with("not compared: ") && told.contains(why), "{told}");
        }
        let failed = told(&[2_000.0; 6], |outcome| {
            *outcome = Outcome::Failed { why: "it died".to_owned() };
        });
        assert!(failed.contains("was not measured in every block"), "{failed}");
        assert!(with(|found| found.figures.refused = 20).contains("more"));
    }
}
