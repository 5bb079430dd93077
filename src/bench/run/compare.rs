//! Two runs of the same plan, of two builds: has anything become worse, beyond what such runs
//! differ by anyway? docs/METHOD.md says how that is told.

use std::collections::{BTreeMap, BTreeSet};

use super::comparisons::{Group, groups, server_us, unsound};
use super::machine::Difference;
use super::results::{BaseRecord, CheckVerdict, Key, Measurement, NotCompared, Results};
use super::statistics::{Estimate, FEWEST_BLOCKS, Shift};
use crate::bench::BenchError;

/// The least that is called noise, as a share: two builds of the same sources differ by as much.
const LEAST_NOISE: f64 = 0.03;
/// What is called noise where no run has measured a design twice.
const ASSUMED_NOISE: f64 = 0.05;
/// Which of the differences of equal designs is called the noise of a run: nineteen of twenty are
/// smaller.
const NOISE_QUANTILE: f64 = 0.95;

/// What two builds may differ in.
const OF_THE_BUILD: [&str; 4] = ["fencepost", "commit", "executable sha256", "sqlite"];

/// A figure by which runs are compared.
#[derive(Debug, Clone, Copy)]
pub struct Figure {
    /// As in the results.
    pub name: &'static str,
    /// Whether more of it is better.
    pub more_is_better: bool,
    of: fn(&Measurement) -> Option<f64>,
}

const PER_SECOND: Figure = Figure {
    name: "per_second",
    more_is_better: true,
    of: |measured| Some(measured.figures.per_second),
};
const LATENCY: Figure = Figure {
    name: "p50_us",
    more_is_better: false,
    of: |measured| Some(measured.figures.latency?.p50_us),
};
const SERVER: Figure =
    Figure { name: "server_us_per_operation", more_is_better: false, of: server_us };
const FIRST_ANSWER: Figure = Figure {
    name: "first_answer_seconds",
    more_is_better: false,
    of: Measurement::first_answer_seconds,
};
const LOGGED: Figure = Figure {
    name: "wal_bytes_per_operation",
    more_is_better: false,
    of: |measured| measured.figures.wal_bytes_per_operation,
};

/// All of them, in the order in which they are told.
const FIGURES: [Figure; 5] = [PER_SECOND, LATENCY, SERVER, FIRST_ANSWER, LOGGED];

impl Figure {
    fn is_of(&self, key: &Key) -> bool {
        let starts = key.is_start();
        match self.name {
            "first_answer_seconds" => starts,
            "per_second" => !starts && key.rate.is_none(),
            "p50_us" => !starts && key.rate.is_some(),
            _ => !starts,
        }
    }
}

/// What became of a figure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Worse, by more than noise.
    Worse,
    /// Better, by more than noise.
    Better,
    /// Neither can be said.
    Same,
}

/// One figure of one design under one load, or of all together.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured; none: the geometric mean of all.
    pub key: Option<Key>,
    /// Which figure.
    pub figure: Figure,
    /// The later run in times of the earlier one.
    pub shift: Shift,
    /// What that means.
    pub change: Change,
}

/// What a figure differs by of itself.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Noise {
    /// As a share.
    pub share: f64,
    /// Whether that was measured, by both runs.
    pub is_measured: bool,
}

/// What two runs show.
#[derive(Debug, Clone)]
pub struct Comparison {
    /// What was measured in both, worst first.
    pub rows: Vec<Row>,
    /// By figure, what is called noise.
    pub noise: BTreeMap<&'static str, Noise>,
    /// The same of the geometric mean of all that was measured by a figure.
    pub noise_of_mean: BTreeMap<&'static str, Noise>,
    /// Designs that the checker found right in the earlier run and not in the later one.
    pub invalid_now: Vec<Key>,
    /// What could be compared in the earlier run and not in the later one, and why.
    pub unsound_now: Vec<(Key, NotCompared)>,
    /// What cannot be compared, and why.
    pub left_out: Vec<(Key, String)>,
    /// What the echo server takes of the processors for a request, in times of before: the change
    /// of the machine, or of how the program was built. None if it was not measured.
    pub machine: Option<Shift>,
    /// The commits of the two.
    pub commits: [String; 2],
}

impl Comparison {
    /// Of an earlier run and a later one.
    ///
    /// # Errors
    /// [`BenchError::Usage`] if the two are not of the same machine, servers, plan and durability,
    /// have too few blocks, are not complete, or have nothing in common that can be compared.
    pub fn of(old: &Results, new: &Results) -> Result<Self, BenchError> {
        refuse_unlike(old, new)?;
        let (of_old, of_new) = (groups(&old.points), groups(&new.points));
        let machine = machine(&of_old, &of_new);
        let blocks = [old.plan.blocks, new.plan.blocks];
        let runs = [(&of_old[..], blocks[0]), (&of_new[..], blocks[1])];
        let noise = noise(runs);
        let noise_of_mean = noise_of_mean(runs, &noise);
        let mut found = Self {
            rows: Vec::new(),
            noise,
            noise_of_mean,
            invalid_now: Vec::new(),
            unsound_now: Vec::new(),
            left_out: Vec::new(),
            machine,
            commits: [old, new]
                .map(|run| run.machine.software.get("commit").cloned().unwrap_or_default()),
        };
        // By figure: of each block the logarithms of all that both runs have.
        let mut all: BTreeMap<&str, [BTreeMap<u32, Vec<f64>>; 2]> = BTreeMap::new();
        for group in of_old.iter().filter(|group| is_told(group.key)) {
            let Some(later) = of_new.iter().find(|later| later.key == group.key) else {
                let why = "it is not in the later run".to_owned();
                found.left_out.push((group.key.clone(), why));
                continue;
            };
            if let Some(why) = found.not_compared([group, later], blocks) {
                found.left_out.push((group.key.clone(), why));
                continue;
            }
            for figure in FIGURES.into_iter().filter(|figure| figure.is_of(group.key)) {
                let [old, new] = [group, later].map(|group| figures_of(group, figure));
                let Some(shift) = Shift::of(&values(&old), &values(&new)) else { continue };
                let sums = all.entry(figure.name).or_default();
                for (sums, of_run) in sums.iter_mut().zip([&old, &new]) {
                    for (block, value) in of_run {
                        sums.entry(*block).or_default().push(value.ln());
                    }
                }
                found.add(Some(group.key.clone()), figure, shift);
            }
        }
        for figure in FIGURES {
            let Some([old, new]) = all.get(figure.name) else { continue };
            let [old, new] = [old, new].map(means);
            if let Some(shift) = Shift::of(&old, &new) {
                found.add(None, figure, shift);
            }
        }
        let is_new = |key: &&Key| !of_old.iter().any(|group| group.key == *key);
        let added = of_new.iter().map(|group| group.key).filter(|key| is_told(key)).filter(is_new);
        let why = "it is not in the earlier run";
        found.left_out.extend(added.map(|key| (key.clone(), why.to_owned())));
        if found.rows.is_empty() && !found.is_broken() {
            let why = found.left_out.first().map(|(key, why)| {
                format!(" (the first of what they have: {}, {}: {why})", key.design, key.title())
            });
            return Err(BenchError::Usage(format!(
                "the two runs cannot be compared: nothing was measured well in both{}",
                why.unwrap_or_default()
            )));
        }
        found.rows.sort_by(|one, other| {
            let of = |row: &Row| (row.change, row.key.is_some());
            of(one).cmp(&of(other)).then(other.size().total_cmp(&one.size()))
        });
        Ok(found)
    }

    /// Whether anything has become worse.
    #[must_use]
    pub fn is_worse(&self) -> bool {
        let is_worse = |row: &Row| row.change == Change::Worse;
        self.is_broken() || !self.machine_has_changed() && self.rows.iter().any(is_worse)
    }

    /// Whether the echo server itself has changed by more than the least noise: how much of the
    /// other changes is the service's cannot be told then.
    #[must_use]
    pub fn machine_has_changed(&self) -> bool {
        let is_beside =
            |shift: Shift| shift.low > 1.0 + LEAST_NOISE || shift.high < 1.0 / (1.0 + LEAST_NOISE);
        self.machine.is_some_and(is_beside)
    }

    /// Whether something that was right or could be measured no longer is.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        !self.invalid_now.is_empty() || !self.unsound_now.is_empty()
    }

    fn add(&mut self, key: Option<Key>, figure: Figure, shift: Shift) {
        let noise = if key.is_some() { &self.noise } else { &self.noise_of_mean };
        let noise = noise.get(figure.name).map_or(ASSUMED_NOISE, |noise| noise.share);
        let change = match (shift.low > 1.0 + noise, shift.high < 1.0 / (1.0 + noise)) {
            (true, _) if figure.more_is_better => Change::Better,
            (_, true) if !figure.more_is_better => Change::Better,
            (true, _) | (_, true) => Change::Worse,
            _ => Change::Same,
        };
        self.rows.push(Row { key, figure, shift, change });
    }

    /// Why the two groups are not compared. One that is not right any more, or that cannot be
    /// measured any more, is noted.
    fn not_compared(&mut self, [old, new]: [&Group<'_>; 2], blocks: [u32; 2]) -> Option<String> {
        let before = unsound(old, blocks[0]);
        let after = unsound(new, blocks[1]);
        match (before, after) {
            _ if is_invalid(new) && !is_invalid(old) => self.invalid_now.push(new.key.clone()),
            (None, Some(why)) => self.unsound_now.push((new.key.clone(), why)),
            _ => {}
        }
        let named = |why: NotCompared, run: &str| format!("{} in the {run} run", why.name());
        before.map(|why| named(why, "earlier")).or_else(|| after.map(|why| named(why, "later")))
    }
}

impl Row {
    /// How far from 1 it is.
    fn size(&self) -> f64 {
        self.shift.ratio.ln().abs()
    }
}

/// Second measurements are for the noise, floors for the machine, and broken designs for the
/// checker.
fn is_told(key: &Key) -> bool {
    let is_sound = crate::design::named(&key.design).is_none_or(crate::design::Design::is_sound);
    !key.again && !key.is_floor() && !key.has_event() && is_sound
}

fn is_invalid(group: &Group<'_>) -> bool {
    let mut verdicts = group.points.iter().map(|(_, measured)| &measured.verdict);
    verdicts.any(|verdict| matches!(verdict, CheckVerdict::Invalid { .. }))
}

fn figures_of(group: &Group<'_>, figure: Figure) -> BTreeMap<u32, f64> {
    let all = group.points.iter();
    let all = all.filter_map(|(point, measured)| Some((point.block, (figure.of)(measured)?)));
    all.filter(|(_, value)| *value > 0.0).collect()
}

fn values(figures: &BTreeMap<u32, f64>) -> Vec<f64> {
    figures.values().copied().collect()
}

/// Of each block the geometric mean, by logarithms; of blocks in which as many were measured as in
/// any.
fn means(blocks: &BTreeMap<u32, Vec<f64>>) -> Vec<f64> {
    let whole = blocks.values().map(Vec::len).max().unwrap_or_default();
    let blocks = blocks.values().filter(|logarithms| logarithms.len() == whole);
    let mean = |logarithms: &Vec<f64>| logarithms.iter().sum::<f64>() / logarithms.len() as f64;
    blocks.map(|logarithms| mean(logarithms).exp()).collect()
}

/// What the echo server takes of the processors for a request, in times of before, of what both
/// runs asked it.
fn machine(old: &[Group<'_>], new: &[Group<'_>]) -> Option<Shift> {
    let is_in = |key: &Key, groups: &[Group<'_>]| groups.iter().any(|group| group.key == key);
    let echo = |groups: &[Group<'_>]| {
        let closed = |group: &&Group<'_>| group.key.design == "echo" && group.key.rate.is_none();
        let in_both = |group: &&Group<'_>| is_in(group.key, old) && is_in(group.key, new);
        let groups: Vec<_> = groups.iter().filter(closed).filter(in_both).collect();
        let mut blocks: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
        for group in groups {
            for (block, value) in figures_of(group, SERVER) {
                blocks.entry(block).or_default().push(value.ln());
            }
        }
        means(&blocks)
    };
    Shift::of(&echo(old), &echo(new))
}

/// By figure, what equal designs differ by in these runs, by their points: what a file says of
/// pairs may be of some of them.
fn noise(runs: [(&[Group<'_>], u32); 2]) -> BTreeMap<&'static str, Noise> {
    let of = |figure: Figure| {
        let mut noise = Noise { share: LEAST_NOISE, is_measured: true };
        for (groups, blocks) in runs {
            let mut sizes: Vec<f64> = equals(groups, blocks, figure)
                .filter_map(|ratios| {
                    let mut ratios: Vec<f64> = ratios.into_values().collect();
                    ratios.sort_unstable_by(f64::total_cmp);
                    Some(Estimate::of(&ratios)?.median.ln().abs().exp() - 1.0)
                })
                .collect();
            sizes.sort_unstable_by(f64::total_cmp);
            let at = (sizes.len() as f64 * NOISE_QUANTILE).ceil() as usize;
            let size = at.checked_sub(1).and_then(|at| sizes.get(at)).copied();
            noise.is_measured &= size.is_some();
            noise.share = noise.share.max(size.unwrap_or(ASSUMED_NOISE));
        }
        (figure.name, noise)
    };
    FIGURES.into_iter().map(of).collect()
}

/// By figure, the most that the means of all equal designs differ by in a block, and no more than
/// one of them does.
fn noise_of_mean(
    runs: [(&[Group<'_>], u32); 2],
    noise: &BTreeMap<&'static str, Noise>,
) -> BTreeMap<&'static str, Noise> {
    let of = |figure: Figure| {
        let of_one = noise[figure.name];
        let mut share = LEAST_NOISE;
        for (groups, blocks) in runs {
            let mut logarithms: BTreeMap<u32, Vec<f64>> = BTreeMap::new();
            for (block, ratio) in equals(groups, blocks, figure).flatten() {
                logarithms.entry(block).or_default().push(ratio.ln());
            }
            let sizes = means(&logarithms).into_iter().map(|mean| mean.ln().abs().exp() - 1.0);
            share = sizes.fold(share, f64::max);
        }
        match of_one.is_measured {
            true => (figure.name, Noise { share: share.min(of_one.share), ..of_one }),
            false => (figure.name, of_one),
        }
    };
    FIGURES.into_iter().map(of).collect()
}

/// Of each design that was measured twice, the ratios of the two in each block.
fn equals<'g>(
    groups: &'g [Group<'_>],
    blocks: u32,
    figure: Figure,
) -> impl Iterator<Item = BTreeMap<u32, f64>> + 'g {
    let twice = groups.iter().filter(move |group| group.key.again && figure.is_of(group.key));
    twice.filter_map(move |second| {
        let first = second.key.of(&second.key.design);
        let first = groups.iter().find(|group| *group.key == first)?;
        if [first, second].into_iter().any(|group| unsound(group, blocks).is_some()) {
            return None;
        }
        let (first, second) = (figures_of(first, figure), figures_of(second, figure));
        let ratios =
            first.iter().filter_map(|(block, one)| Some((*block, one / second.get(block)?)));
        Some(ratios.collect())
    })
}

/// Refuses two runs that differ in more than the build.
fn refuse_unlike(old: &Results, new: &Results) -> Result<(), BenchError> {
    let unlike =
        |what: String| Err(BenchError::Usage(format!("the two runs cannot be compared: {what}")));
    let differences = new.machine.differences(&old.machine);
    let is_of_build = |found: &Difference| OF_THE_BUILD.contains(&found.name.as_str());
    if let Some(other) = differences.iter().find(|found| !is_of_build(found)) {
        return unlike(format!("another machine or server ({other})"));
    }
    let plan = |run: &Results| {
        let plan = &run.plan;
        (plan.seed, plan.window_seconds.to_bits(), plan.warmup_seconds.to_bits(), plan.checks)
    };
    if plan(old) != plan(new) {
        return unlike("another seed, window, warm-up, or one without checks".to_owned());
    }
    let durability = |run: &Results| -> BTreeSet<(Key, String)> {
        let points = run.points.iter();
        points.map(|point| (point.key.clone(), point.durability.clone())).collect()
    };
    let (before, after) = (durability(old), durability(new));
    for (key, one) in &before {
        if let Some((_, other)) = after.iter().find(|(other, said)| other == key && said != one) {
            return unlike(format!("another durability, `{one}` and `{other}`"));
        }
    }
    for base in &old.bases {
        let is_another =
            |other: &BaseRecord| other.family() == base.family() && other.digest != base.digest;
        if new.bases.iter().any(is_another) {
            return unlike(format!("`{}` is another graph", base.family()));
        }
    }
    for (run, name) in [(old, "earlier"), (new, "later")] {
        if !run.complete {
            return unlike(format!("the {name} one is not complete; --resume goes on with it"));
        }
    }
    let fewest = old.plan.blocks.min(new.plan.blocks);
    if (fewest as usize) < FEWEST_BLOCKS {
        return unlike(format!(
            "with {fewest} blocks; from {FEWEST_BLOCKS} on a difference can be told from chance"
        ));
    }
    Ok(())
}
