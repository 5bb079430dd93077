//! Results as tables, for a terminal of 80 columns. Paths and commands may be longer.

use std::fmt::Write as _;

use super::comparisons::{
    Group, comparisons, differ_in_durability, figures_of, groups, loads, per_second, server_us,
    unsound,
};
use super::events::TimeLine;
use super::figures::Figures;
use super::floors::{floor_of, is_driver_limited, starved, times_floor};
use super::hypotheses::hypotheses;
use super::place::check_again;
use super::results::{
    CheckVerdict, Compared, HypothesisRecord, Key, Measurement, NotCompared, Outcome,
    QuantityRecord, Results,
};
use super::statistics::{Estimate, FEWEST_BLOCKS, Order, median};
use super::wrapped::{COLUMNS, wrapped};
use crate::bench::latencies::{Latencies, Percentiles};
use crate::bench::timeline::Part;
use crate::design;
use crate::terminal::OneLine;

/// How much of a finding is shown: the history is kept, and tells all of it.
const FINDING_LINES: usize = 12;
/// In how many rows one of its lines is shown, at most.
const FINDING_ROWS: usize = 2;

/// All results for a terminal.
#[must_use]
pub fn table(results: &Results) -> String {
    let found = Found { groups: groups(&results.points), blocks: results.plan.blocks };
    let mut text = String::new();
    head(&mut text, results);
    let loads = loads(&found.groups);
    for load in &loads {
        of_load(&mut text, load, &found.groups);
    }
    pairs(&mut text, &loads, &found, &comparisons(&results.points, results.plan.blocks));
    judged(&mut text, &hypotheses(&results.points, results.plan.blocks));
    failures(&mut text, results);
    anomalies(&mut text, results);
    text.push('\n');
    text += &wrapped("", "", LEGEND);
    let cores = results.machine.cores;
    let share = format!(
        "Driver and servers share {cores} cores: ratios of processor time a request say most; \
         requests a second are not what a machine of its own would do."
    );
    text += &wrapped("", "", &share);
    text
}

const LEGEND: &str = "x floor: the time of a request, in times of the echo server's; CV: coefficient of variation; \
     server µs: processor time of all servers for a request, of an import for a job, database and \
     lock included; syncs: of the database's log, and round trips: to the database + to the lock, \
     for a request; p50 and p99: of all blocks together (docs/METHOD.md).";

/// What was measured, and in how many blocks that was to be.
struct Found<'r> {
    groups: Vec<Group<'r>>,
    blocks: u32,
}

impl<'r> Found<'r> {
    fn of(&self, key: &Key) -> Option<&Group<'r>> {
        self.groups.iter().find(|group| group.key == key)
    }
}

fn head(text: &mut String, results: &Results) {
    let machine = &results.machine;
    let plan = &results.plan;
    let where_it_ran = format!(
        "{}, {} cores{}, {}, {} (4 KiB and fsync: p50 {:.0} µs, p99 {:.0} µs), SQLite {}{}, \
         fencepost {} {}",
        OneLine(&machine.processor),
        machine.cores,
        if machine.hypervisor { " of a virtual machine" } else { "" },
        OneLine(&machine.system),
        OneLine(&machine.file_system),
        machine.fsync_p50_us,
        machine.fsync_p99_us,
        OneLine(machine.software.get("sqlite").map_or("", String::as_str)),
        OneLine(machine.servers()),
        OneLine(&results.fencepost),
        OneLine(machine.software.get("build").map_or("", String::as_str)),
    );
    let what_ran = format!(
        "profile {}, seed {}, windows of {} s after {} s, {} of {} points in {} blocks{}",
        OneLine(&plan.profile),
        plan.seed,
        plan.window_seconds,
        plan.warmup_seconds,
        results.points.len(),
        plan.points,
        plan.blocks,
        if plan.checks { "" } else { ", nothing recorded or checked" },
    );
    *text += &wrapped("", "  ", &where_it_ran);
    *text += &wrapped("", "  ", &what_ran);
}

fn of_load(text: &mut String, load: &Key, groups: &[Group<'_>]) {
    let of_load: Vec<_> = groups.iter().filter(|group| group.key.of("") == *load).collect();
    text.push('\n');
    *text += &wrapped("", "  ", &OneLine(load.title()).to_string());
    let main = match load.rate {
        _ if load.is_start() => ["first", "ms"],
        Some(_) => ["sent", "in %"],
        None => ["a", "second"],
    };
    let upper = [main[0], "95 %", "", "x", "server", "p50", "p99"];
    let lower = [main[1], "interval", "CV", "floor", "µs", "ms", "ms"];
    line(text, "", &upper.map(str::to_owned));
    line(text, "design", &lower.map(str::to_owned));
    let floor = floor_of(load, groups).and_then(Row::of);
    for group in &of_load {
        let label = OneLine(group.key.label()).to_string();
        let Some(row) = Row::of(group) else {
            let why = group.failed.first().copied().unwrap_or_default();
            line(text, &label, &Default::default());
            *text += &wrapped("      no figures: ", "      ", &OneLine(why).to_string());
            continue;
        };
        let times_floor = times_floor(group, groups);
        line(text, &label, &row.columns(group, times_floor));
        let mut remarks = row.remarks(group, times_floor, floor.as_ref());
        remarks.extend(servers(group));
        remarks.extend(shares(group));
        if !remarks.is_empty() {
            *text += &wrapped("      ", "      ", &remarks.join(", "));
        }
        let lines = group.points.iter().filter_map(|(_, measured)| measured.timeline.as_ref());
        lines.for_each(|line| timeline(text, line));
    }
    let checked = checked(&of_load);
    if !checked.is_empty() {
        *text += &wrapped("  checked: ", "  ", &checked);
    }
}

/// Where nodes are not equally far from their servers, what the clients of each got.
fn shares(group: &Group<'_>) -> Vec<String> {
    if !group.key.setting.first_is_near {
        return Vec::new();
    }
    let of = |node: usize| {
        let (mut all, mut seconds) = (Latencies::default(), 0.0);
        for (_, measured) in &group.points {
            let histogram = measured.raw.by_node.get(node)?;
            all.add(&Latencies::decoded(histogram).ok()?);
            seconds += measured.raw.window_seconds;
        }
        let (rate, p50) = (all.count() as f64 / seconds, all.percentiles()?.p50_us / 1e3);
        let name = if node == 0 { "near" } else { "far" };
        Some(format!("{name} node {} a second, p50 {} ms", whole(rate), short(p50, 2)))
    };
    (0..group.key.nodes as usize).filter_map(of).collect()
}

/// How tall a part of a time-line is, from nothing to the most.
const HEIGHTS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// What happened, and what became of requests by the parts of the window.
fn timeline(text: &mut String, line: &TimeLine) {
    let TimeLine { event, at_seconds, took_seconds, parts, recovered_seconds, .. } = line;
    let took = match *took_seconds {
        seconds if seconds > 0.0 => format!(", which took {seconds:.2} s"),
        _ => String::new(),
    };
    let recovered = recovered_seconds.map_or_else(
        || "not as before by the end".to_owned(),
        |seconds| format!("as before {seconds:.2} s later"),
    );
    let event = OneLine(event);
    let what = format!("after {at_seconds:.2} s: {event}{took}; {recovered}");
    *text += &wrapped("      ", "      ", &what);
    let most = parts.iter().map(|part| part.answered).max().unwrap_or(0).max(1);
    let bars = |of: fn(&Part) -> u64| {
        let bar = |part| match of(part) {
            0 => ' ',
            count => HEIGHTS[((count * 8).div_ceil(most) as usize).clamp(1, 8) - 1],
        };
        parts.iter().map(bar).collect::<String>()
    };
    for (name, of) in [
        ("answered", (|part| part.answered) as fn(&Part) -> u64),
        ("refused", |part| part.refused),
        ("failed", |part| part.failed),
    ] {
        if parts.iter().any(|part| of(part) > 0) {
            let _ = writeln!(text, "      {name:<8} |{}|", bars(of));
        }
    }
}

/// A line of a table: the design, and what stands in the columns after it.
fn line(text: &mut String, design: &str, columns: &[String; 7]) {
    let [main, interval, variation, floor, server, p50, p99] = columns;
    let line = format!(
        "  {design:<20} {main:>7} {interval:>13} {variation:>4} {floor:>5} {server:>6} {p50:>7} \
         {p99:>7}"
    );
    let _ = writeln!(text, "{}", line.trim_end());
}

/// What the checker says of all points of these groups.
fn checked(groups: &[&Group<'_>]) -> String {
    let designs = groups.iter().filter(|group| !group.key.is_floor());
    let all = designs.flat_map(|group| group.points.iter().map(|(_, found)| &found.verdict));
    let mut counts = [(0, "valid"), (0, "INVALID"), (0, "not judged"), (0, "not checked")];
    for verdict in all {
        let at = match verdict {
            CheckVerdict::Valid { .. } => 0,
            CheckVerdict::Invalid { .. } => 1,
            CheckVerdict::Failed { .. } => 2,
            CheckVerdict::NotApplicable => 3,
        };
        counts[at].0 += 1;
    }
    let told = counts.iter().filter(|(count, _)| *count > 0);
    let told: Vec<String> = told.map(|(count, what)| format!("{count} {what}")).collect();
    told.join(", ")
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
    saturated: u64,
    verdict: Option<String>,
}

impl Row {
    fn of(group: &Group<'_>) -> Option<Self> {
        if group.points.is_empty() {
            return None;
        }
        let sum = |count: fn(&Measurement) -> u64| {
            group.points.iter().map(|(_, measured)| count(measured)).sum()
        };
        Some(Self {
            per_second: group.estimate(per_second),
            achieved: group
                .estimate(|measured| measured.figures.achieved.map(|share| 100.0 * share)),
            server_us: group.estimate(server_us),
            latency: pooled(group),
            first_answer_ms: group
                .estimate(|measured| Some(1e3 * measured.first_answer_seconds()?)),
            refused: sum(|measured| measured.figures.refused),
            failed: sum(|measured| measured.figures.failed),
            saturated: sum(|measured| u64::from(measured.figures.saturated)),
            verdict: verdict(group),
        })
    }

    fn columns(&self, group: &Group<'_>, times_floor: Option<f64>) -> [String; 7] {
        let main = match group.key.rate {
            _ if group.key.is_start() => self.first_answer_ms,
            Some(_) => self.achieved,
            None => self.per_second,
        };
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let median = |found: Estimate| whole(found.median);
        let interval = main
            .filter(|found| found.count >= FEWEST_BLOCKS)
            .map(|found| format!("{}–{}", whole(found.low), whole(found.high)));
        let variation = main.and_then(|found| found.variation);
        let variation = variation.map(|variation| format!("{:.0}%", variation * 100.0));
        [
            or_dash(main.map(median)),
            interval.unwrap_or_default(),
            variation.unwrap_or_default(),
            or_dash(times_floor.map(|times| short(times, 1))),
            or_dash(self.server_us.map(median)),
            or_dash(self.latency.map(|found| short(found.p50_us / 1e3, 2))),
            or_dash(self.latency.map(|found| short(found.p99_us / 1e3, 2))),
        ]
    }

    /// What must be known to read the figures.
    fn remarks(
        &self,
        group: &Group<'_>,
        times_floor: Option<f64>,
        floor: Option<&Self>,
    ) -> Vec<String> {
        let mut remarks: Vec<String> = self.verdict.iter().cloned().collect();
        if is_driver_limited(times_floor) {
            remarks.push("driver-limited".to_owned());
        }
        let p99 = self.latency.zip(floor.and_then(|floor| floor.latency));
        let is_machines = p99.is_some_and(|(own, floor)| own.p99_us < floor.p99_us);
        if group.key.rate.is_some() && is_machines {
            remarks.push("p99 is the machine's".to_owned());
        }
        if self.saturated > 0 {
            remarks.push(format!("saturated in {} of {}", self.saturated, group.points.len()));
        }
        let starved = starved(group);
        if starved > 0 {
            remarks.push(format!("a node starved in {starved} of {}", group.points.len()));
        }
        for (count, what) in [(self.refused, "refused"), (self.failed, "failed")] {
            if count > 0 {
                remarks.push(format!("{count} {what}"));
            }
        }
        if !group.failed.is_empty() {
            remarks.push(format!("{} without figures", group.failed.len()));
        }
        remarks
    }
}

/// What was asked of the servers of database and lock for each request: medians of the blocks.
fn servers(group: &Group<'_>) -> Option<String> {
    let of = |figure: &dyn Fn(&Figures) -> Option<f64>| {
        let all = group.points.iter().filter_map(|(_, measured)| figure(&measured.figures));
        median(&all.collect::<Vec<_>>())
    };
    let logged = of(&|figures| figures.wal_bytes_per_operation);
    let logged = logged.map(|bytes| format!("{} bytes of WAL", whole(bytes)));
    let database = of(&|figures| figures.database_round_trips_per_operation);
    let lock = of(&|figures| figures.lock_round_trips_per_operation);
    let trips = database.map(|database| match lock {
        Some(lock) if group.key.setting.needs_redis() => {
            format!("{} + {} round trips", short(database, 2), short(lock, 2))
        }
        _ => format!("{} round trips", short(database, 2)),
    });
    let syncs = of(&|figures| figures.syncs_per_operation);
    let syncs = syncs.map(|syncs| format!("{} syncs", short(syncs, 2)));
    let told: Vec<String> = syncs.into_iter().chain(logged).chain(trips).collect();
    (!told.is_empty()).then(|| told.join(", "))
}

/// Without digits after the point; of millions, two.
fn whole(figure: f64) -> String {
    if figure < 999_999.5 { format!("{figure:.0}") } else { format!("{:.2}M", figure / 1e6) }
}

/// With so many digits after the point, but none of a large figure.
fn short(figure: f64, digits: usize) -> String {
    if figure < 999.5 { format!("{figure:.digits$}") } else { whole(figure) }
}

/// What is to be said of a group that is not just valid.
fn verdict(group: &Group<'_>) -> Option<String> {
    let all = group.points.iter().map(|(_, measured)| &measured.verdict);
    for verdict in all.clone() {
        match verdict {
            CheckVerdict::Invalid { kind, .. } => {
                return Some(format!("INVALID: {}", OneLine(kind)));
            }
            CheckVerdict::Failed { .. } => return Some("not judged".to_owned()),
            CheckVerdict::Valid { .. } | CheckVerdict::NotApplicable => {}
        }
    }
    let is_valid = { all }.any(|verdict| matches!(verdict, CheckVerdict::Valid { .. }));
    let is_broken = design::named(&group.key.design).is_some_and(|design| !design.is_sound());
    let not_seen = is_valid && is_broken && group.key.workload == "pairs";
    not_seen.then(|| "valid: it keeps no rules, and that was NOT SEEN".to_owned())
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

fn pairs(text: &mut String, loads: &[Key], found: &Found<'_>, compared: &[Compared]) {
    let (twice, declared): (Vec<&Compared>, Vec<&Compared>) =
        compared.iter().partition(|pair| pair.second.again);
    if declared.is_empty() {
        let none =
            "No two of these designs differ in one choice, so none are compared (docs/METHOD.md)";
        text.push('\n');
        *text += &wrapped("", "", none);
    } else {
        let what = "Pairs that differ in one choice: what the first has, in times of the second, \
                    block by block";
        text.push('\n');
        *text += &wrapped("", "  ", what);
        of_loads(text, loads, &declared, found);
        let tie = "tie: not told apart; the interval shows how large a difference may be hidden";
        *text += &wrapped("  ", "  ", tie);
    }
    if !twice.is_empty() {
        let what = "A/A, each design measured twice in a block: what the first has, in times of \
                    the second";
        text.push('\n');
        *text += &wrapped("", "  ", what);
        of_loads(text, loads, &twice, found);
        let orders = twice.iter().flat_map(|pair| &pair.ratios).map(|ratio| ratio.order);
        let judged: Vec<Order> = orders.filter(|order| *order != Order::TooFew).collect();
        let told = judged.iter().filter(|order| **order != Order::Tie).count();
        if !judged.is_empty() {
            let count = judged.len();
            let mut line =
                format!("told apart: {told} of {count}; by chance expect at most 1 in 20");
            if twice.iter().any(|pair| pair.not_compared.is_some()) {
                line += ". Pairs that are not compared are not counted";
            }
            *text += &wrapped("  ", "  ", &line);
        }
    }
    let is_few = |pair: &Compared| pair.ratios.iter().any(|ratio| ratio.order == Order::TooFew);
    if compared.iter().any(is_few) {
        let _ = writeln!(text, "  ?: with fewer than {FEWEST_BLOCKS} blocks nothing is told apart");
    }
}

/// The pairs under the load that they were measured under.
fn of_loads(text: &mut String, loads: &[Key], compared: &[&Compared], found: &Found<'_>) {
    for load in loads {
        let of_load: Vec<_> = compared.iter().filter(|pair| pair.first.of("") == *load).collect();
        if of_load.is_empty() {
            continue;
        }
        let rate = load.rate.map_or_else(String::new, |rate| format!(" at {rate} a second"));
        let Key { workload, nodes, setting, .. } = load;
        let nodes = if *nodes == 1 { String::new() } else { format!(", {nodes} nodes") };
        let setting = setting.title();
        let mut sizes = format!("{}{rate}{}{nodes}{setting}", OneLine(workload), load.jobs());
        if sizes.chars().count() > NAMES {
            *text += &wrapped("  ", "  ", &sizes);
            sizes.clear();
        }
        let mut line = format!("  {sizes:<NAMES$}");
        for figure in figures_of(load) {
            let _ = write!(line, " {:<19}", figure.title);
        }
        let _ = writeln!(text, "{}", line.trim_end());
        for pair in of_load {
            *text += &of_pair(load, pair, found);
        }
    }
}

/// How wide the names of a pair are.
const NAMES: usize = 37;

fn of_pair(load: &Key, pair: &Compared, found: &Found<'_>) -> String {
    let mut line = if pair.second.again {
        format!("  {:<NAMES$}", OneLine(&pair.first.design))
    } else {
        let names = format!("{} / {}", pair.first.design, pair.second.design);
        format!("  {:<NAMES$}", OneLine(names))
    };
    let groups = found.of(&pair.first).zip(found.of(&pair.second));
    if let Some((why, (first, second))) = pair.not_compared.zip(groups) {
        let why = OneLine(why_not(why, first, second, found.blocks)).to_string();
        return line.trim_end().to_owned() + "\n" + &wrapped("    not compared: ", "    ", &why);
    }
    let mut figures = String::new();
    for figure in figures_of(load) {
        let Some(ratio) = pair.ratios.iter().find(|ratio| ratio.figure == figure.name) else {
            let _ = write!(figures, " {:>4} {:<14}", "-", "");
            continue;
        };
        let interval = format!("{}–{}", times(ratio.low), times(ratio.high));
        let says = match ratio.order {
            Order::TooFew => "?",
            told => told.name(),
        };
        let _ = write!(figures, " {:>4} {interval:<9} {says:<4}", times(ratio.median));
    }
    let figures = figures.trim_end();
    if line.chars().count() + figures.chars().count() > COLUMNS {
        line = format!("{}\n{figures:>COLUMNS$}\n", line.trim_end());
    } else {
        line += figures;
        line += "\n";
    }
    // Then the two are nearer to each other than they would be with a quicker driver.
    let both = groups.iter().flat_map(|(first, second)| [*first, *second]);
    let limited = both.filter(|group| is_driver_limited(times_floor(group, &found.groups)));
    let limited: Vec<String> = limited.map(|group| group.key.label()).collect();
    if !limited.is_empty() {
        let what = format!("driver-limited: {}", limited.join(" and "));
        line += &wrapped("    ", "    ", &OneLine(what).to_string());
    }
    line
}

/// Why a pair is not compared, and which of the two it is.
fn why_not(why: NotCompared, first: &Group<'_>, second: &Group<'_>, blocks: u32) -> String {
    let is_why = |group: &&Group<'_>| unsound(group, blocks) == Some(why);
    let which = [first, second].into_iter().find(is_why);
    let which = which.map_or_else(String::new, |group| group.key.label());
    match why {
        NotCompared::Incomplete => format!("{which} was not measured in every block"),
        NotCompared::Invalid => format!("{which} is INVALID"),
        NotCompared::NotJudged => format!("{which} was not judged"),
        NotCompared::NotChecked => format!("{which} was not checked"),
        NotCompared::Saturated => format!("{which} was saturated"),
        NotCompared::RefusedOrFailed => {
            format!("{which} refused or failed more than 1 % of its requests")
        }
        NotCompared::FewRequests => {
            format!("{which} completed too few requests in a window: give more --seconds")
        }
        NotCompared::Durability => {
            let [one, other] = differ_in_durability(first, second).unwrap_or_default();
            format!("the two differ in durability: `{one}` and `{other}`")
        }
        NotCompared::Base => "the two began with different graphs".to_owned(),
    }
}

/// A ratio by its first three digits; one that is small as a part of 1.
fn times(ratio: f64) -> String {
    match ratio {
        _ if ratio < 0.0995 => format!("1/{}", times(1.0 / ratio)),
        _ if ratio < 9.995 => format!("{ratio:.2}"),
        _ if ratio < 99.95 => format!("{ratio:.1}"),
        _ => whole(ratio),
    }
}

/// What may be said of hypotheses, if anything that decides one was measured.
fn judged(text: &mut String, all: &[HypothesisRecord]) {
    if all.iter().flat_map(|one| &one.quantities).all(|quantity| quantity.median.is_none()) {
        return;
    }
    text.push_str("\nhypotheses (docs/METHOD.md)\n");
    for HypothesisRecord { name, verdict, quantities } in all {
        *text += &wrapped("  ", "  ", &format!("{name} {}", verdict.name()));
        for QuantityRecord { what, median, low, high, missing, .. } in quantities {
            let found = match (median, low, high) {
                (Some(median), Some(low), Some(high)) => {
                    format!("{} ({} to {})", times(*median), times(*low), times(*high))
                }
                _ => missing.clone().unwrap_or_default(),
            };
            *text += &wrapped("      ", "        ", &format!("{what}: {found}"));
        }
    }
}

fn failures(text: &mut String, results: &Results) {
    let failed = results.points.iter().filter_map(|point| Some((point, point.failure()?)));
    for (number, (point, why)) in failed.enumerate() {
        if number == 0 {
            let _ = writeln!(text, "\nWithout figures, or without a verdict:");
        }
        let (design, workload) = (OneLine(point.key.label()), OneLine(&point.key.workload));
        let (block, why) = (point.block + 1, OneLine(why));
        let what = format!("{design} with {workload}, block {block}: {why}");
        *text += &wrapped("  ", "    ", &what);
    }
}

fn anomalies(text: &mut String, results: &Results) {
    let mut told = Vec::new();
    for point in &results.points {
        let Outcome::Measured(measured) = &point.outcome else { continue };
        let CheckVerdict::Invalid { kind, finding } = &measured.verdict else { continue };
        let label = point.key.label();
        if told.contains(&label) {
            continue;
        }
        let (design, workload) = (OneLine(&label), OneLine(&point.key.workload));
        text.push('\n');
        let what = format!("{design} is INVALID with {workload}: {}", OneLine(kind));
        *text += &wrapped("", "  ", &what);
        *text += &wrapped("  ", "    ", &check_again(point.number, &point.key));
        for line in finding.lines().take(FINDING_LINES) {
            // JSON, mostly: it has few spaces.
            let letters: Vec<char> = OneLine(line).to_string().chars().collect();
            for part in letters.chunks(COLUMNS - 2).take(FINDING_ROWS) {
                let _ = writeln!(text, "  {}", part.iter().collect::<String>());
            }
        }
        told.push(label);
    }
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::super::results::Point;
    use super::super::workloads::FLOOR;
    use super::*;
    use crate::design::{PAIRS, Pair};

    /// What is said of the pair, with single spaces.
    fn told(rates: &[f64], change: impl Fn(&mut Outcome)) -> String {
        let name = format!("{} / {}", PAIRS[0].first, PAIRS[0].second);
        let table = table(&made_up::pair(rates, change));
        let said = table.split(&name).nth(1).and_then(|rest| rest.split("\n  tie: ").next());
        said.unwrap_or_default().split_whitespace().collect::<Vec<_>>().join(" ")
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
        let more = "2.00 2.00–2.00 more 0.50 0.50–0.50 less";
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
        assert!(!few.contains("told apart: ") && few.contains("?: with fewer"), "{few}");
        let mut results = made_up::twice(&[1_100.0; 6]);
        let mut failed = results.points.clone();
        for point in &mut failed {
            point.key.workload = "reads".to_owned();
        }
        failed[0].outcome = Outcome::Failed { why: "it died".to_owned() };
        results.points.extend(failed);
        let failed = table(&results);
        let told = failed.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains("told apart: 2 of 2; ") && told.contains("not counted"), "{failed}");
        assert!(!apart.contains("not counted"), "{apart}");
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
            (|found| found.verdict = CheckVerdict::NotApplicable, "was not checked"),
            (|found| found.figures.saturated = true, "was saturated"),
            (|found| found.figures.refused = 21, "refused or failed more than 1 %"),
            (|found| found.figures.failed = 21, "refused or failed more than 1 %"),
            (|found| found.figures.completed = 19, "completed too few requests in a window"),
        ];
        for (change, why) in changes {
            let told = with(change);
            let starts = format!("not compared: {} {why}", PAIRS[0].first);
            assert!(told.starts_with(&starts), "{told}");
        }
        let failed = told(&[2_000.0; 6], |outcome| {
            *outcome = Outcome::Failed { why: "it died".to_owned() };
        });
        assert!(failed.contains("was not measured in every block"), "{failed}");
        assert!(with(|found| found.figures.refused = 20).contains("more"));
    }

    #[test]
    fn a_small_ratio_keeps_its_digits() {
        for (ratio, told) in [
            (2_346.0, "2346"),
            (12.34, "12.3"),
            (0.5, "0.50"),
            (0.0996, "0.10"),
            (0.081, "1/12.3"),
            (0.000_5, "1/2000"),
        ] {
            assert_eq!(times(ratio), told, "{ratio}");
        }
        let told = told(&[20.0, 25.0, 20.0, 30.0, 20.0, 20.0], |_| {});
        assert!(told.starts_with("1/50.0 1/50.0–1/33.3 less "), "{told}");
    }

    #[test]
    fn a_pair_that_the_driver_limits_is_told_with_that() {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        let template = results.points[0].clone();
        for block in 0..6 {
            let shape = "none".to_owned();
            let workload = FLOOR.name.to_owned();
            let key = Key { workload, shape, size: 0, ..template.key.of("echo") };
            // Half as much again as the first design, and three times as much as the second.
            let outcome = Outcome::Measured(Box::new(made_up::measurement(3_000.0)));
            results.points.push(Point { block, key, outcome, ..template.clone() });
        }
        let (table, design) = (table(&results), PAIRS[0].first);
        assert!(table.contains(&format!("\n    driver-limited: {design}\n")), "{table}");
        // Beside it and beside the pair.
        assert_eq!(table.matches("driver-limited").count(), 2, "{table}");
    }

    /// The row of the first design, with what is remarked on it, with single spaces.
    fn first_row(results: &Results) -> String {
        let table = table(results);
        let is_first = |line: &str| line.split_whitespace().next() == Some(PAIRS[0].first);
        let mut lines = table.lines().skip_while(|line| !is_first(line));
        let row = lines.next().unwrap_or_else(|| panic!("{table}"));
        let remarks = lines.take_while(|line| line.starts_with("      "));
        let row = [row].into_iter().chain(remarks).flat_map(str::split_whitespace);
        row.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn what_must_be_known_to_read_figures_stands_beside_them() {
        let row = |change: fn(&mut Outcome)| first_row(&made_up::pair(&[2_000.0; 6], change));
        fn found(outcome: &mut Outcome) -> &mut Measurement {
            let Outcome::Measured(found) = outcome else { panic!() };
            found
        }
        let figures = "2000 2000–2000 0% - 500 0.50 0.50";
        let name = PAIRS[0].first;
        assert_eq!(row(|_| {}), format!("{name} {figures}"));
        type Change = fn(&mut Outcome);
        let changes: [(Change, &str); 5] = [
            (
                |outcome| {
                    let (kind, finding) = ("stale-answer".to_owned(), String::new());
                    found(outcome).verdict = CheckVerdict::Invalid { kind, finding };
                },
                "INVALID: stale-answer",
            ),
            (
                |outcome| found(outcome).verdict = CheckVerdict::Failed { why: String::new() },
                "not judged",
            ),
            (|outcome| found(outcome).figures.refused = 3, "3 refused"),
            (|outcome| found(outcome).figures.failed = 2, "2 failed"),
            (|outcome| *outcome = Outcome::Failed { why: String::new() }, "1 without figures"),
        ];
        for (change, remark) in changes {
            let row = row(change);
            assert!(row.starts_with(&format!("{name} 2000 ")), "{row}");
            assert!(row.ends_with(&format!(" {remark}")), "{row}");
        }
        // Latencies of such a block would be those of a queue.
        let saturated = row(|outcome| found(outcome).figures.saturated = true);
        assert_eq!(saturated, format!("{name} 2000 2000–2000 0% - 500 - - saturated in 1 of 6"));
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        for point in results.points.iter_mut().step_by(2) {
            point.outcome = Outcome::Failed { why: "it died".to_owned() };
        }
        assert_eq!(first_row(&results), format!("{name} no figures: it died"));
    }

    #[test]
    fn what_the_checker_says_is_counted() {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        let (kind, finding) = ("stale-answer".to_owned(), String::new());
        for (point, verdict) in results.points.iter_mut().zip([
            CheckVerdict::Invalid { kind, finding },
            CheckVerdict::Failed { why: String::new() },
            CheckVerdict::NotApplicable,
        ]) {
            let Outcome::Measured(found) = &mut point.outcome else { panic!() };
            found.verdict = verdict;
        }
        let table = table(&results);
        let says = "\n  checked: 9 valid, 1 INVALID, 1 not judged, 1 not checked\n";
        assert!(table.contains(says), "{table}");
    }

    #[test]
    fn a_broken_design_that_is_found_valid_is_told_where_it_is_to_be_found_out() {
        let broken = design::ALL.iter().find(|design| !design.is_sound()).unwrap().name;
        let told = |workload: &str, design: &str| {
            let mut results = made_up::pair(&[2_000.0; 6], |_| {});
            for point in results.points.iter_mut().step_by(2) {
                (point.key.workload, point.key.design) = (workload.to_owned(), design.to_owned());
            }
            table(&results).contains("NOT SEEN")
        };
        assert!(told("pairs", broken));
        assert!(!told("register", broken) && !told("pairs", PAIRS[0].first));
    }

    /// Both designs of the pair at a rate, and floors of which the first has longer latencies.
    fn with_floors(rate: Option<u64>) -> Results {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        let template = results.points[0].clone();
        for (block, floor) in (0..6).flat_map(|block| ["echo", "null"].map(|floor| (block, floor)))
        {
            let (workload, shape) = (FLOOR.name.to_owned(), "none".to_owned());
            let key = Key { workload, shape, size: 0, ..template.key.of(floor) };
            let mut found = made_up::measurement(2_000.0);
            found.verdict = CheckVerdict::NotApplicable;
            if floor == "echo" {
                let mut slow = Latencies::default();
                slow.record_many(std::time::Duration::from_millis(5), 2_001);
                found.raw.requests[0].latency = slow.encoded();
            }
            let outcome = Outcome::Measured(Box::new(found));
            results.points.push(Point { block, key, outcome, ..template.clone() });
        }
        for point in &mut results.points {
            point.key.rate = rate;
        }
        results
    }

    #[test]
    fn at_a_rate_a_p99_below_the_floors_is_the_machines_and_the_driver_limits_nothing() {
        let at_a_rate = table(&with_floors(Some(2_000)));
        // Beside both designs, and beside no floor.
        assert_eq!(at_a_rate.matches("p99 is the machine's").count(), 2, "{at_a_rate}");
        assert_eq!(at_a_rate.matches("driver-limited").count(), 0, "{at_a_rate}");
        let closed = table(&with_floors(None));
        assert_eq!(closed.matches("p99 is the machine's").count(), 0, "{closed}");
        assert!(closed.contains("driver-limited"), "{closed}");
        assert!(!closed.contains("not checked"), "nobody checks a floor: {closed}");
    }

    #[test]
    fn what_the_two_survive_is_told_where_it_differs() {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        results.points[3].durability = "nothing".to_owned();
        let told = table(&results).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(told.contains("the two differ in durability: `a crash` and `nothing`"), "{told}");
    }

    #[test]
    fn which_of_two_measurements_is_invalid_is_told() {
        let mut results = made_up::twice(&[2_000.0]);
        let Outcome::Measured(found) = &mut results.points[1].outcome else { panic!() };
        let (kind, finding) = ("stale-answer".to_owned(), String::new());
        found.verdict = CheckVerdict::Invalid { kind, finding };
        let (table, design) = (table(&results), PAIRS[0].first);
        assert!(table.contains(&format!("\n{design} 2 is INVALID with register: ")), "{table}");
    }

    /// Large figures, long names, many digits, and everything that may be said of a point.
    fn wide() -> Results {
        let lengths = |pair: &&Pair| pair.first.len() + pair.second.len();
        let longest = PAIRS.iter().max_by_key(lengths).unwrap();
        let mut results = made_up::pair(&[2_345_678.0; 6], |_| {});
        results.machine.processor = "A processor with a name that is long ".repeat(3);
        let again = made_up::twice(&[2_345_678.0; 6]).points;
        results.points.extend(again.into_iter().filter(|point| point.key.again));
        let template = std::mem::take(&mut results.points);
        for workload in ["register", "start", "pairs", "rejections-50", "import"] {
            for (rate, point) in [None, Some(1_000_000)]
                .into_iter()
                .flat_map(|rate| template.iter().map(move |point| (rate, point.clone())))
            {
                let number = results.points.len();
                let is_first = point.key.design == PAIRS[0].first;
                let key = Key {
                    workload: workload.to_owned(),
                    shape: "a graph from a file with a name of some words".to_owned(),
                    size: 10_000_000,
                    rate,
                    design: if is_first { longest.first } else { longest.second }.to_owned(),
                    ..point.key
                };
                let mut outcome = said_of(number, &key, point.outcome);
                if let Outcome::Measured(found) = &mut outcome
                    && is_first
                {
                    found.figures.server_us_per_operation = 12.3;
                }
                results.points.push(Point { number, key, outcome, ..point });
            }
        }
        results
    }

    fn said_of(number: usize, key: &Key, outcome: Outcome) -> Outcome {
        let Outcome::Measured(mut found) = outcome else { return outcome };
        found.figures.server_us_per_operation = 7_654_321.0;
        found.start_seconds = vec![1_234.5];
        let why = "a server did not start to listen; ".repeat(9);
        let too_long = format!("it took too long: {}", check_again(123_456, key));
        let (kind, finding) = ("stale-answer".to_owned(), "{\"a\":1}".repeat(60));
        match (key.workload.as_str(), number % 5) {
            ("import", _) | ("pairs", 0) => return Outcome::Failed { why },
            ("start", _) => found.verdict = CheckVerdict::NotApplicable,
            ("register", 0) => found.verdict = CheckVerdict::Invalid { kind, finding },
            ("register", 1) => found.verdict = CheckVerdict::Failed { why: too_long },
            ("pairs", _) => {
                (found.figures.refused, found.figures.failed) = (123_456, 123_456);
                found.figures.saturated = true;
            }
            _ => {}
        }
        Outcome::Measured(found)
    }

    #[test]
    fn every_line_fits_a_terminal() {
        let table = table(&wide());
        let is_command = |line: &str| line.starts_with("    fencepost --database-url ");
        assert!(table.lines().any(is_command));
        for said in ["INVALID", "not compared", "no figures", "saturated", "not judged", "7.65M"] {
            let told = table.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(told.contains(said), "{said}: {table}");
        }
        for line in table.lines().filter(|line| !is_command(line)) {
            assert!(line.chars().count() <= 80, "{line}\n{table}");
        }
    }
}
