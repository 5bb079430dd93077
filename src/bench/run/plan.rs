//! What is to be measured: a profile, and the list of points that it makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::args::{Profile, RunArgs};
use super::machine::sha256_of;
use super::pace::minutes;
use super::place::file_error;
use super::results::{Key, PlanRecord, Results};
use super::workloads::{self, Measures, Workload};
use super::wrapped::wrapped;
use crate::bench::random::Random;
use crate::bench::{BenchError, Shape};
use crate::design::{self, Design, PAIRS};
use crate::graph::hex;

/// What a point takes besides its window and warm-up: a process or two, and the driver.
const AROUND: Duration = Duration::from_millis(100);
/// With how many jobs a second its graph is copied, loaded and read by the checker.
const JOBS_PER_SECOND: f64 = 12_500.0;
/// How many jobs a second an import brings in.
const IMPORTED_PER_SECOND: f64 = 20_000.0;

/// One measurement that is to be made.
#[derive(Debug, Clone)]
pub struct Planned {
    /// Its place.
    pub number: usize,
    /// In which repetition.
    pub block: u32,
    /// What is measured.
    pub key: Key,
    /// How.
    pub workload: &'static Workload,
    /// By which design; none: a floor.
    pub design: Option<&'static Design>,
}

/// All that is to be measured.
#[derive(Debug)]
pub struct Plan {
    /// For the results.
    pub record: PlanRecord,
    /// In the order of measuring.
    pub points: Vec<Planned>,
    /// The shape of graphs that are made.
    pub shape: Shape,
}

impl Plan {
    /// What the arguments ask for.
    ///
    /// # Errors
    /// [`BenchError::Usage`] names what there is not.
    pub fn new(args: &RunArgs) -> Result<Self, BenchError> {
        let Quick { designs, loads, sizes } = match args.profile {
            Profile::Quick => Quick::new(args)?,
        };
        let blocks = args.blocks;
        let mut points: Vec<Planned> = Vec::new();
        for block in 0..blocks {
            // By what is asked, so that designs that are compared are measured near each other.
            let mut of_block: Vec<Vec<Planned>> = Vec::new();
            let mut floors = Vec::new();
            for &size in &sizes {
                for &(workload, rate) in &loads {
                    let writers = workload.writers.unwrap_or(args.writers);
                    let key = |design: &str| Key {
                        workload: workload.name.to_owned(),
                        shape: args.shape_name(),
                        size,
                        rate,
                        writers,
                        nodes: workload.nodes,
                        design: design.to_owned(),
                        again: false,
                    };
                    let planned =
                        |key: Key, design| Planned { number: 0, block, key, workload, design };
                    let mut of_load = Vec::new();
                    for design in &designs {
                        // The broken one is asked once, for what shows that it is broken.
                        let shows_broken = workload.name == "pairs" && block == 0;
                        let is_asked = design.is_sound() != (workload.name == "pairs");
                        if args.workloads.is_empty()
                            && !(is_asked && (design.is_sound() || shows_broken))
                        {
                            continue;
                        }
                        of_load.push(planned(key(design.name), Some(*design)));
                        // One that keeps no rules is compared with nothing.
                        if args.a_a && design.is_sound() {
                            let again = Key { again: true, ..key(design.name) };
                            of_load.push(planned(again, Some(*design)));
                        }
                    }
                    // Of each kind of load once in a block.
                    let kind = (rate, writers, workload.in_turn());
                    let is_driven = workload.measures == Measures::Requests;
                    if is_driven && !floors.contains(&kind) {
                        floors.push(kind);
                        for floor in ["echo", "null"] {
                            let floored = workload.floor();
                            let key = Key {
                                workload: floored.name.to_owned(),
                                shape: "none".to_owned(),
                                size: 0,
                                nodes: 1,
                                ..key(floor)
                            };
                            of_load.push(Planned { workload: floored, ..planned(key, None) });
                        }
                    }
                    of_block.push(of_load);
                }
            }
            let mut random = Random::of(&[args.seed, 11, u64::from(block)]);
            shuffle(&mut of_block, &mut random);
            for mut of_load in of_block {
                shuffle(&mut of_load, &mut random);
                points.extend(of_load);
            }
        }
        for (number, point) in points.iter_mut().enumerate() {
            point.number = number;
        }
        if points.is_empty() {
            return Err(BenchError::Usage("nothing is left to measure".to_owned()));
        }
        let mut digest = Sha256::new();
        for point in &points {
            digest.update(format!("{} {:?}\n", point.block, point.key));
        }
        digest.update(format!("{}\n", args.seed));
        if let Some(file) = &args.graph {
            digest.update(sha256_of(file).map_err(|error| file_error(file, &error))?);
        }
        let record = PlanRecord {
            profile: args.profile.name().to_owned(),
            seed: args.seed,
            blocks,
            window_seconds: args.seconds,
            warmup_seconds: args.warmup_seconds,
            checks: !args.no_check,
            points: points.len(),
            digest: hex(&digest.finalize()),
        };
        Ok(Self { record, points, shape: args.shape })
    }

    /// Takes out of earlier results of this plan what is to be measured again: points without
    /// figures or a verdict, and with a point that is missing all others of the same load in the
    /// same block. They are compared with each other as figures that were taken some seconds apart.
    pub fn keep_whole_loads(&self, results: &mut Results) {
        results.retain(|point| point.failure().is_none());
        let measured: BTreeSet<usize> = results.points.iter().map(|point| point.number).collect();
        let missing = self.points.iter().filter(|point| !measured.contains(&point.number));
        let cut: BTreeSet<(u32, Key)> =
            missing.map(|point| (point.block, point.key.of(""))).collect();
        results.retain(|point| !cut.contains(&(point.block, point.key.of(""))));
    }

    /// How long a point takes, about.
    #[must_use]
    pub fn time_of(&self, point: &Planned) -> Duration {
        let size = point.key.size as f64;
        let window = match point.workload.measures {
            Measures::Requests => self.record.window_seconds + self.record.warmup_seconds,
            Measures::Import => size / IMPORTED_PER_SECOND,
            Measures::Start => 0.0,
        };
        AROUND + Duration::from_secs_f64(window + size / JOBS_PER_SECOND)
    }

    /// How long all of it takes, about.
    #[must_use]
    pub fn time(&self) -> Duration {
        self.points.iter().map(|point| self.time_of(point)).sum()
    }
}

/// The matrix, and how long it takes.
impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut loads: BTreeMap<Key, Vec<&str>> = BTreeMap::new();
        let mut of_block = self.points.iter().filter(|point| point.block == 0);
        for point in of_block.clone().filter(|point| !point.key.again) {
            loads.entry(point.key.of("")).or_default().push(&point.key.design);
        }
        for (load, designs) in &mut loads {
            designs.sort_unstable();
            write!(f, "{}", wrapped("", "  ", &load.title()))?;
            write!(f, "{}", wrapped("  ", "  ", &designs.join(" ")))?;
        }
        let PlanRecord { blocks, points, .. } = &self.record;
        let twice = if of_block.any(|point| point.key.again) {
            ", each design twice in a block (A/A)"
        } else {
            ""
        };
        let time = minutes(self.time());
        let all = format!("{points} points in {blocks} blocks{twice}, about {time}");
        write!(f, "{}", wrapped("", "  ", &all))
    }
}

/// Which designs, loads and sizes.
struct Quick {
    designs: Vec<&'static Design>,
    /// With the rate of an open loop, or none.
    loads: Vec<(&'static Workload, Option<u64>)>,
    sizes: Vec<u64>,
}

impl Quick {
    fn new(args: &RunArgs) -> Result<Self, BenchError> {
        let all = || {
            let paired = PAIRS.iter().flat_map(|pair| [pair.first, pair.second]);
            // Those that are broken on purpose show the checker at work.
            let broken = design::ALL.iter().filter(|design| !design.is_sound());
            let names = paired.chain(broken.map(|design| design.name));
            let mut names: Vec<String> = names.map(str::to_owned).collect();
            names.sort_unstable();
            names.dedup();
            names
        };
        let names = if args.designs.is_empty() { all() } else { distinct(&args.designs) };
        let designs = names.iter().map(|name| {
            design::named(name).ok_or_else(|| {
                let known: Vec<_> = design::ALL.iter().map(|design| design.name).collect();
                let known = known.join(", ");
                BenchError::Usage(format!("--designs: there is no design `{name}`, only {known}"))
            })
        });
        let quick = ["register", "turns", "reads", "pairs"].map(str::to_owned);
        let names =
            if args.workloads.is_empty() { quick.to_vec() } else { distinct(&args.workloads) };
        let workloads = names.iter().map(|name| {
            workloads::named(name).ok_or_else(|| {
                let known: Vec<_> = workloads::ALL.iter().map(|known| known.name).collect();
                let known = known.join(", ");
                BenchError::Usage(format!(
                    "--workloads: there is no workload `{name}`, only {known}"
                ))
            })
        });
        let mut loads = Vec::new();
        for workload in workloads {
            let workload = workload?;
            if args.graph.is_some() && !workload.takes_any_graph() {
                return Err(BenchError::Usage(format!(
                    "--graph: the workload `{}` makes its own graph",
                    workload.name
                )));
            }
            loads.push((workload, None));
            let rates = workload.name == "register" || !args.rates.is_empty();
            if rates && workload.measures == Measures::Requests && workload.nodes == 1 {
                let chosen =
                    if args.rates.is_empty() { vec![QUICK_RATE] } else { distinct(&args.rates) };
                loads.extend(chosen.into_iter().map(|rate| (workload, Some(rate))));
            }
        }
        let sizes = match &args.graph {
            Some(_) => vec![0],
            None if args.sizes.is_empty() => vec![QUICK_JOBS],
            None => distinct(&args.sizes),
        };
        Ok(Self { designs: designs.collect::<Result<_, _>>()?, loads, sizes })
    }
}

/// Jobs of the graph in the profile `quick`.
const QUICK_JOBS: u64 = 2_500;
/// Requests a second there: what every design can do on two cores and any disk.
const QUICK_RATE: u64 = 500;

/// Each once, in the order of the first.
fn distinct<T: Clone + PartialEq>(items: &[T]) -> Vec<T> {
    let mut distinct: Vec<T> = Vec::new();
    for item in items {
        if !distinct.contains(item) {
            distinct.push(item.clone());
        }
    }
    distinct
}

/// Fisher and Yates' shuffle.
fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::super::made_up;
    use super::super::results::{Outcome, Point};
    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn plan_of(line: &str) -> Plan {
        Plan::new(&Line::parse_from(line.split(' ')).args).unwrap()
    }

    fn time_of(line: &str) -> u64 {
        plan_of(line).time().as_secs()
    }

    /// On two cores that nobody else used, release build: 229 points in 164 s.
    #[test]
    fn the_time_is_about_what_was_measured() {
        let quick = time_of("run");
        assert!((150..180).contains(&quick), "{quick} s");
        let larger = time_of("run --sizes 10000 --blocks 1 --seconds 0.01 --warmup-seconds 0");
        assert!((25..40).contains(&larger), "{larger} s");
    }

    #[test]
    fn a_load_without_one_of_its_points_is_measured_again_in_that_block() {
        let plan = plan_of("run --workloads register,reads --blocks 2 --a-a");
        let whole = made_up::of_plan(&plan);
        let is_cut = |point: &&Planned| point.block == 1 && point.design.is_some();
        let missing = plan.points.iter().find(is_cut).unwrap();
        let of_load = |point: &Point| point.block == 1 && point.key.of("") == missing.key.of("");
        let expected: Vec<Point> =
            whole.points.iter().filter(|point| !of_load(point)).cloned().collect();
        assert!(whole.points.len() - expected.len() > 2, "a load has several points");
        let mut failed = whole.clone();
        failed.points[missing.number].outcome = Outcome::Failed { why: "it died".to_owned() };
        let mut gone = whole.clone();
        gone.points.remove(missing.number);
        for mut results in [failed, gone] {
            plan.keep_whole_loads(&mut results);
            assert!(!results.complete && results.points == expected);
        }
        let mut kept = whole.clone();
        plan.keep_whole_loads(&mut kept);
        assert!(kept.complete && kept.points == whole.points);
    }
}
