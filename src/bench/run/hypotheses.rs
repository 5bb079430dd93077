//! Whether what people say of such designs is confirmed or refuted by the points of a run. Each
//! hypothesis, with its quantities and thresholds, was written down in docs/METHOD.md before it was
//! measured; this is the same for a program.

use std::collections::BTreeMap;

use super::args::{WRITERS, shape_name};
use super::comparisons::{Group, groups, per_second, server_us, unsound};
use super::results::{HypothesisRecord, Key, Measurement, Point, QuantityRecord, Verdict};
use super::setting::Setting;
use super::statistics::Estimate;
use super::workloads;
use crate::bench::Shape;
use crate::design::by_choice::{
    APPLIES_CHANGES, KEEPS_ONE_VERSION, LOADS_EACH_TIME, LOG_ALONE, ONE_WRITER, OPTIMISTIC,
    WITHOUT_HISTORY,
};

/// Jobs of the graphs on which hypotheses are decided, but where they say otherwise.
pub const JOBS: u64 = 10_000;
/// Of the graphs on which it is seen how loading grows; the last is where it is to be too slow.
pub const GROWING: [u64; 4] = [1_000, 10_000, 100_000, 500_000];
/// From this size on the growth is fitted: below, what does not grow is much of it.
const FITTED_FROM: u64 = 10_000;
/// What interactive use allows, in microseconds.
const INTERACTIVE_US: f64 = 1e6;

/// Where an interval must lie as a whole.
#[derive(Debug, Clone, Copy)]
enum Range {
    Above(f64),
    AtLeast(f64),
    AtMost(f64),
    Below(f64),
    Within(f64, f64),
    /// Below the one, or above the other.
    Outside(f64, f64),
    Nowhere,
}

impl Range {
    fn holds(self, Estimate { low, high, .. }: Estimate) -> bool {
        match self {
            Self::Above(bound) => low > bound,
            Self::AtLeast(bound) => low >= bound,
            Self::AtMost(bound) => high <= bound,
            Self::Below(bound) => high < bound,
            Self::Within(from, to) => low >= from && high <= to,
            Self::Outside(from, to) => high < from || low > to,
            Self::Nowhere => false,
        }
    }
}

/// A figure that decides.
struct Quantity {
    what: String,
    /// One of each block; or why there is none.
    found: Result<Vec<f64>, String>,
    /// Whether it is the same whenever it is measured, and was measured once.
    exact: bool,
    confirms: Range,
    refutes: Range,
}

/// What refutes a hypothesis.
enum Refuted {
    ByAny,
    ByAll,
}

/// Where a design was measured in closed loop.
#[derive(Clone, Copy)]
struct Place<'d> {
    workload: &'d str,
    design: &'d str,
    setting: Setting,
    nodes: u32,
    jobs: u64,
}

impl Place<'_> {
    fn is_of(&self, key: &Key) -> bool {
        key.workload == self.workload
            && key.design == self.design
            && key.setting == self.setting
            && key.nodes == self.nodes
            && key.size == self.jobs
            && key.rate.is_none()
            && !key.again
            // As it is where nothing else is asked for.
            && key.shape == shape_name(Shape::ScaleFree)
            && workloads::named(self.workload)
                .is_some_and(|workload| key.writers == workload.writers.unwrap_or(WRITERS))
    }

    fn title(&self) -> String {
        let Self { workload, design, setting, nodes, jobs } = self;
        format!("{design} with {workload}, {jobs} jobs, {nodes} nodes{}", setting.title())
    }
}

/// What was measured.
struct Evidence<'r> {
    groups: Vec<Group<'r>>,
    blocks: u32,
}

type Figure = fn(&Measurement) -> Option<f64>;

impl Evidence<'_> {
    /// A figure of a place, by block.
    fn of(&self, place: &Place<'_>, figure: Figure) -> Result<BTreeMap<u32, f64>, String> {
        let group = self.groups.iter().find(|group| place.is_of(group.key));
        let group = group.ok_or_else(|| format!("{}: not measured", place.title()))?;
        if let Some(why) = unsound(group, self.blocks) {
            return Err(format!("{}: {}", place.title(), why.name()));
        }
        let found = group.points.iter();
        let found = found.filter_map(|(point, measured)| Some((point.block, figure(measured)?)));
        Ok(found.collect())
    }

    /// What one has in times of the other, by block.
    fn ratios(&self, [one, other]: [&Place<'_>; 2], figure: Figure) -> Result<Vec<f64>, String> {
        let (ones, others) = (self.of(one, figure)?, self.of(other, figure)?);
        let ratio = |(block, one): (&u32, &f64)| {
            let other = others.get(block)?;
            (*other > 0.0).then(|| one / other)
        };
        Ok(ones.iter().filter_map(ratio).collect())
    }
}

fn quantile(measured: &Measurement, quantile: f64) -> Option<f64> {
    measured.raw.latencies().ok()?.quantile_us(quantile)
}

fn disk_bytes(measured: &Measurement) -> Option<f64> {
    Some(measured.disk.as_ref()?.vacuumed_bytes as f64)
}

/// The share of decisions that were made and not committed.
#[must_use]
pub fn wasted(measured: &Measurement) -> Option<f64> {
    // None where not all nodes told; then nothing is known.
    let phases = measured.raw.phases.as_array()?;
    let counted = phases.iter().find(|phase| phase["counted"] == "wasted decisions");
    let wasted = counted.and_then(|counted| counted["count"].as_f64()).unwrap_or(0.0);
    let kept = measured.figures.completed + measured.raw.in_flight_at_end;
    (kept > 0).then(|| wasted / (wasted + kept as f64))
}

/// By how much the logarithm grows with that of the size: least squares, of at least two sizes.
#[must_use]
pub fn exponent(medians: &[(u64, f64)]) -> Option<f64> {
    let count = medians.len() as f64;
    let points = || medians.iter().map(|(size, us)| ((*size as f64).ln(), us.ln()));
    let (x, y) = points().fold((0.0, 0.0), |(x, y), point| (x + point.0, y + point.1));
    let (x, y) = (x / count, y / count);
    let (over, under) = points().fold((0.0, 0.0), |(over, under), point| {
        (over + (point.0 - x) * (point.1 - y), under + (point.0 - x).powi(2))
    });
    (under > 0.0).then(|| over / under)
}

/// All hypotheses, by what the points show. O(points), and some thousand drawings for each
/// quantity.
#[must_use]
pub fn hypotheses(points: &[Point], blocks: u32) -> Vec<HypothesisRecord> {
    let all = Evidence { groups: groups(points), blocks };
    ALL.iter().map(|one| one.decided(&all)).collect()
}

/// One of docs/METHOD.md.
struct Hypothesis {
    name: &'static str,
    refuted: Refuted,
    quantities: fn(&Evidence<'_>) -> Vec<Quantity>,
}

impl Hypothesis {
    const fn new(
        name: &'static str,
        refuted: Refuted,
        quantities: fn(&Evidence<'_>) -> Vec<Quantity>,
    ) -> Self {
        Self { name, refuted, quantities }
    }

    fn decided(&self, all: &Evidence<'_>) -> HypothesisRecord {
        decided(self.name, &self.refuted, &(self.quantities)(all))
    }
}

const ALL: [Hypothesis; 7] = [
    Hypothesis::new("H1", Refuted::ByAny, loading_grows),
    Hypothesis::new("H2", Refuted::ByAny, one_version_helps_one_writer),
    Hypothesis::new("H3", Refuted::ByAny, rows_cost_what_a_log_costs),
    Hypothesis::new("H4", Refuted::ByAll, decisions_are_wasted),
    Hypothesis::new("H5", Refuted::ByAny, one_writer_wins),
    Hypothesis::new("H6", Refuted::ByAny, snapshots_bound_starts),
    Hypothesis::new("H7", Refuted::ByAny, history_costs_storage),
];

const REGISTER: Place<'_> =
    Place { workload: "register", design: "", setting: Setting::SQLITE, nodes: 1, jobs: JOBS };

const DATABASES: [Setting; 2] = [Setting::SQLITE, Setting::POSTGRES];

fn loading_grows(all: &Evidence<'_>) -> Vec<Quantity> {
    let setting = Setting { snapshots: false, ..Setting::SQLITE };
    let at =
        |jobs| Place { workload: "growth", design: LOADS_EACH_TIME, setting, jobs, ..REGISTER };
    let largest = at(GROWING[GROWING.len() - 1]);
    let medians = || {
        let mut by_block: BTreeMap<u32, Vec<(u64, f64)>> = BTreeMap::new();
        for jobs in GROWING.into_iter().filter(|jobs| *jobs >= FITTED_FROM) {
            for (block, us) in all.of(&at(jobs), |measured| quantile(measured, 0.5))? {
                by_block.entry(block).or_default().push((jobs, us));
            }
        }
        Ok(by_block.into_values().filter_map(|medians| exponent(&medians)).collect())
    };
    let p95 = all.of(&largest, |measured| quantile(measured, 0.95));
    vec![
        Quantity {
            what: format!("the exponent of the median latency, {LOADS_EACH_TIME}"),
            found: medians(),
            exact: false,
            confirms: Range::Within(0.8, 1.2),
            refutes: Range::Outside(0.8, 1.2),
        },
        Quantity {
            what: format!("p95 in µs, {}", largest.title()),
            found: p95.map(|found| found.into_values().collect()),
            exact: false,
            confirms: Range::Above(INTERACTIVE_US),
            refutes: Range::AtMost(INTERACTIVE_US),
        },
    ]
}

fn one_version_helps_one_writer(all: &Evidence<'_>) -> Vec<Quantity> {
    let quantity = |setting| {
        let alone = Place { workload: "turns", design: KEEPS_ONE_VERSION, setting, ..REGISTER };
        let two = Place { nodes: 2, ..alone };
        Quantity {
            what: format!("server µs, {}, in times of one node", two.title()),
            found: all.ratios([&two, &alone], server_us),
            exact: false,
            confirms: Range::AtLeast(5.0),
            refutes: Range::AtMost(2.0),
        }
    };
    DATABASES.map(quantity).into()
}

fn rows_cost_what_a_log_costs(all: &Evidence<'_>) -> Vec<Quantity> {
    let workloads = [("register", 1), ("turns", 2), ("reads", 1)];
    let places = DATABASES.iter().flat_map(|setting| {
        workloads.map(|(workload, nodes)| Place { workload, nodes, setting: *setting, ..REGISTER })
    });
    let quantity = |place: Place<'static>| {
        let rows = Place { design: APPLIES_CHANGES, ..place };
        Quantity {
            what: format!("server µs, {}, in times of {LOG_ALONE}", rows.title()),
            found: all.ratios([&rows, &Place { design: LOG_ALONE, ..place }], server_us),
            exact: false,
            confirms: Range::Within(0.8, 1.25),
            refutes: Range::Outside(0.8, 1.25),
        }
    };
    places.map(quantity).collect()
}

fn decisions_are_wasted(all: &Evidence<'_>) -> Vec<Quantity> {
    let places = OPTIMISTIC.into_iter().flat_map(|design| {
        [2, 4].map(|nodes| Place { design, nodes, setting: Setting::POSTGRES, ..REGISTER })
    });
    let quantity = |place: Place<'static>| {
        let expected = f64::from(place.nodes - 1) / f64::from(place.nodes);
        Quantity {
            what: format!("decisions not committed, of all, {}", place.title()),
            found: all.of(&place, wasted).map(|found| found.into_values().collect()),
            exact: false,
            confirms: Range::AtLeast(0.8 * expected),
            refutes: Range::AtMost(0.5 * expected),
        }
    };
    places.map(quantity).collect()
}

fn one_writer_wins(all: &Evidence<'_>) -> Vec<Quantity> {
    let others = [OPTIMISTIC[0], LOG_ALONE];
    let places = [0, 1_000].into_iter().flat_map(|delay_us| {
        let setting = Setting { delay_us: Some(delay_us), ..Setting::POSTGRES };
        others.map(|design| Place { design, nodes: 4, setting, ..REGISTER })
    });
    let quantity = |other: Place<'static>| {
        let one = Place { design: ONE_WRITER, ..other };
        Quantity {
            what: format!("requests a second, {ONE_WRITER} in times of {}", other.title()),
            found: all.ratios([&one, &other], per_second),
            exact: false,
            confirms: Range::Above(1.0),
            refutes: Range::Below(1.0),
        }
    };
    places.map(quantity).collect()
}

fn snapshots_bound_starts(all: &Evidence<'_>) -> Vec<Quantity> {
    let quantity = |snapshots, confirms, refutes| {
        let setting = Setting { snapshots, ..Setting::SQLITE };
        let short = Place { workload: "start", design: LOG_ALONE, setting, ..REGISTER };
        let long = Place { workload: "start-churned", ..short };
        Quantity {
            what: format!("first answer, {}, in times of one change for each job", long.title()),
            found: all.ratios([&long, &short], Measurement::first_answer_seconds),
            exact: false,
            confirms,
            refutes,
        }
    };
    vec![
        quantity(true, Range::AtMost(1.2), Range::Above(2.0)),
        quantity(false, Range::Above(1.2), Range::Nowhere),
    ]
}

fn history_costs_storage(all: &Evidence<'_>) -> Vec<Quantity> {
    let setting = Setting { snapshots: false, ..Setting::SQLITE };
    let with = Place { workload: "churn", design: KEEPS_ONE_VERSION, setting, ..REGISTER };
    let without = Place { design: WITHOUT_HISTORY, ..with };
    vec![Quantity {
        what: format!("bytes after VACUUM, {}, in times of {WITHOUT_HISTORY}", with.title()),
        found: all.ratios([&with, &without], disk_bytes),
        exact: true,
        confirms: Range::AtLeast(1.5),
        refutes: Range::AtMost(1.1),
    }]
}

/// Open if any quantity is missing. Confirmed if all confirm it; else refuted if any does, or all
/// do; else open.
fn decided(name: &str, refuted: &Refuted, quantities: &[Quantity]) -> HypothesisRecord {
    let estimates: Vec<Option<Estimate>> = quantities.iter().map(Quantity::estimate).collect();
    let all = || quantities.iter().zip(&estimates);
    let confirms = |(quantity, found): (&Quantity, &Option<Estimate>)| {
        found.is_some_and(|found| quantity.confirms.holds(found))
    };
    let refutes = |(quantity, found): (&Quantity, &Option<Estimate>)| {
        found.is_some_and(|found| quantity.refutes.holds(found))
    };
    let is_refuted = match refuted {
        Refuted::ByAny => all().any(refutes),
        Refuted::ByAll => all().all(refutes),
    };
    let is_whole = estimates.iter().all(Option::is_some);
    let verdict = match (all().all(confirms), is_refuted) {
        _ if !is_whole => Verdict::Open,
        (true, _) => Verdict::Confirmed,
        (false, true) => Verdict::Refuted,
        (false, false) => Verdict::Open,
    };
    let record = |(quantity, found): (&Quantity, &Option<Estimate>)| QuantityRecord {
        what: quantity.what.clone(),
        blocks: found.map_or(0, |found| found.count),
        median: found.map(|found| found.median),
        low: found.map(|found| found.low),
        high: found.map(|found| found.high),
        missing: match (&quantity.found, found) {
            (Err(why), _) => Some(why.clone()),
            (Ok(found), None) => Some(format!("found in {} blocks only", found.len())),
            (Ok(_), Some(_)) => None,
        },
    };
    let quantities = all().map(record).collect();
    HypothesisRecord { name: name.to_owned(), verdict, quantities }
}

impl Quantity {
    /// With the interval that pairs of designs have; `None` of too few blocks.
    fn estimate(&self) -> Option<Estimate> {
        let found = self.found.as_ref().ok()?;
        if self.exact { Estimate::of(found) } else { Estimate::of_blocks(found) }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::OnceLock;

    use serde_json::json;

    use super::super::args::RunArgs;
    use super::super::made_up;
    use super::super::plan::Plan;
    use super::super::results::{CheckVerdict, Disk, Outcome, Results};
    use super::*;

    /// Of all points of a profile, each with the same figures but for `change`.
    fn found(line: &str, change: impl Fn(&Key, &mut Measurement)) -> Results {
        // Thousands of histograms, for each of many tests.
        static OF_STANDARD: OnceLock<Results> = OnceLock::new();
        let of_plan = || {
            let plan = Plan::new(&RunArgs::of_line(line).unwrap()).unwrap();
            made_up::of_plan(&plan)
        };
        let mut results = match line {
            STANDARD => OF_STANDARD.get_or_init(of_plan).clone(),
            _ => of_plan(),
        };
        for point in &mut results.points {
            let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
            if point.key.workload == "churn" {
                let (file_bytes, vacuumed_bytes, parts) = (1, 1_000, BTreeMap::new());
                measured.disk = Some(Disk { file_bytes, wal_bytes: None, vacuumed_bytes, parts });
            }
            change(&point.key, measured);
        }
        results
    }

    const STANDARD: &str = "run --profile standard";

    fn verdict(name: &str, change: impl Fn(&Key, &mut Measurement)) -> Verdict {
        let results = found(STANDARD, change);
        let all = Evidence { groups: groups(&results.points), blocks: results.plan.blocks };
        ALL.iter().find(|one| one.name == name).unwrap().decided(&all).verdict
    }

    #[test]
    fn the_profile_that_is_to_decide_them_measures_all_that_they_need() {
        let results = found(STANDARD, |_, _| {});
        for one in hypotheses(&results.points, results.plan.blocks) {
            for quantity in one.quantities {
                assert_eq!(quantity.missing, None, "{}: {}", one.name, quantity.what);
                assert!(quantity.blocks >= 1 && quantity.median.is_some());
            }
        }
    }

    #[test]
    fn where_their_graphs_or_settings_are_not_measured_all_are_open() {
        for line in ["run", "run --profile standard --blocks 5 --sizes 2000"] {
            let results = found(line, |_, _| {});
            for one in hypotheses(&results.points, results.plan.blocks) {
                // What is measured once needs no blocks.
                let is_exact = one.name == "H7" && line != "run";
                assert!(one.verdict == Verdict::Open || is_exact, "{one:?}");
                let missing = one.quantities.iter().all(|quantity| quantity.missing.is_some());
                assert!(missing || is_exact, "{one:?}");
            }
        }
    }

    #[test]
    fn a_point_that_may_not_be_believed_leaves_its_hypothesis_open() {
        let fast = |key: &Key, measured: &mut Measurement| {
            if key.nodes == 4 && key.design == ONE_WRITER {
                measured.figures.per_second = 2_000.0;
            }
        };
        assert_eq!(verdict("H5", fast), Verdict::Confirmed);
        let invalid = |key: &Key, measured: &mut Measurement| {
            fast(key, measured);
            if key.nodes == 4 && key.design == LOG_ALONE {
                let (kind, finding) = ("cycle".to_owned(), String::new());
                measured.verdict = CheckVerdict::Invalid { kind, finding };
            }
        };
        assert_eq!(verdict("H5", invalid), Verdict::Open);
    }

    /// Server time of these designs, or latencies, are so many times the others'.
    #[test]
    fn verdicts_are_those_of_the_thresholds() {
        use Verdict::{Confirmed, Open, Refuted};
        let times = |measured: &mut Measurement, factor: f64| {
            measured.figures.server_us_per_operation *= factor;
        };
        for (factor, expected) in [(5.5, Confirmed), (3.0, Open), (1.9, Refuted)] {
            let two = |key: &Key, measured: &mut Measurement| {
                if key.design == KEEPS_ONE_VERSION && key.workload == "turns" && key.nodes == 2 {
                    times(measured, factor);
                }
            };
            assert_eq!(verdict("H2", two), expected, "{factor}");
        }
        for (factor, expected) in [(1.2, Confirmed), (1.3, Refuted), (0.75, Refuted)] {
            let rows = |key: &Key, measured: &mut Measurement| {
                // In one of the places: one is enough to refute it.
                if key.design == APPLIES_CHANGES && key.workload == "reads" {
                    times(measured, factor);
                }
            };
            assert_eq!(verdict("H3", rows), expected, "{factor}");
        }
        for (wasted, expected) in [(4_000, Confirmed), (500, Open), (100, Refuted)] {
            let decided = |_: &Key, measured: &mut Measurement| {
                measured.raw.phases = json!([{"counted": "wasted decisions", "count": wasted}]);
            };
            assert_eq!(verdict("H4", decided), expected, "{wasted}");
        }
        for (factor, expected) in [(1.1, Confirmed), (1.0, Open), (0.9, Refuted)] {
            let writer = |key: &Key, measured: &mut Measurement| {
                if key.design == ONE_WRITER {
                    measured.figures.per_second *= factor;
                }
            };
            assert_eq!(verdict("H5", writer), expected, "{factor}");
        }
        for (with, without, expected) in
            [(1.1, 3.0, Confirmed), (1.1, 1.1, Open), (2.5, 3.0, Refuted), (1.5, 3.0, Open)]
        {
            let starts = |key: &Key, measured: &mut Measurement| {
                if key.workload == "start-churned" {
                    let factor = if key.setting.snapshots { with } else { without };
                    measured.start_seconds.iter_mut().for_each(|seconds| *seconds *= factor);
                }
            };
            assert_eq!(verdict("H6", starts), expected, "{with} {without}");
        }
        for (bytes, expected) in [(1_600, Confirmed), (1_300, Open), (1_050, Refuted)] {
            let history = |key: &Key, measured: &mut Measurement| {
                if key.design == KEEPS_ONE_VERSION
                    && let Some(disk) = &mut measured.disk
                {
                    disk.vacuumed_bytes = bytes;
                }
            };
            assert_eq!(verdict("H7", history), expected, "{bytes}");
        }
    }

    #[test]
    fn loading_is_judged_by_how_it_grows_and_by_the_slowest_at_the_largest_graph() {
        use Verdict::{Confirmed, Open, Refuted};
        let grows = |exponent: f64, seconds: f64| {
            verdict("H1", |key, measured| {
                if key.workload == "growth" {
                    let part = (key.size as f64 / GROWING[3] as f64).powf(exponent);
                    let us = seconds * 1e9 * part;
                    let histogram = format!("ns3 {us:.0}:{}", measured.figures.completed);
                    measured.raw.requests[0].latency = histogram;
                }
            })
        };
        assert_eq!(grows(1.0, 2.0), Confirmed);
        assert_eq!(grows(1.0, 0.9), Refuted);
        assert_eq!(grows(0.5, 2.0), Refuted);
        // One that is measured in one block only.
        let results = found("run --profile standard --blocks 1", |_, _| {});
        let all = hypotheses(&results.points, results.plan.blocks);
        assert_eq!(all[0].verdict, Open);
    }

    #[test]
    fn the_exponent_is_that_of_a_power() {
        let of = |exponent: f64| [10_u64, 100, 1_000].map(|x| (x, 3.0 * (x as f64).powf(exponent)));
        for exponent in [0.0, 1.0, 1.3] {
            assert!((super::exponent(&of(exponent)).unwrap() - exponent).abs() < 1e-9);
        }
        assert_eq!(super::exponent(&[(10, 1.0)]), None);
    }

    #[test]
    fn what_is_said_of_them_is_made_again_from_the_points() {
        let mut results = found(STANDARD, |_, _| {});
        results.hypotheses = Some(hypotheses(&results.points, results.plan.blocks));
        results.complete = true;
        let said = |results: &Results| results.validate_hypotheses().unwrap_err();
        assert_eq!(results.validate_hypotheses(), Ok(()));
        let mut other = results.clone();
        other.hypotheses.as_mut().unwrap()[2].verdict = Verdict::Open;
        assert!(said(&other).contains("`hypotheses[2].verdict` is \"open\""));
        let mut fewer = results.clone();
        fewer.hypotheses.as_mut().unwrap().pop();
        assert_eq!(said(&fewer), "`hypotheses` has 6, not 7");
        let mut reworded = results.clone();
        reworded.hypotheses.as_mut().unwrap()[0].quantities[0].what = "something".to_owned();
        assert_eq!(reworded.validate_hypotheses(), Ok(()));
    }
}
