//! What is to be measured: a profile, and the list of points that it makes.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use sha2::{Digest as _, Sha256};

use super::args::RunArgs;
use super::events::{WARMUP_SECONDS, WINDOW_SECONDS};
use super::given::Given;
use super::machine::sha256_of;
use super::matrix::{self, Load};
use super::pace::minutes;
use super::place::file_error;
use super::results::{Key, PlanRecord, Results};
use super::setting::Setting;
use super::workloads::{Measures, Past, Workload};
use super::wrapped::wrapped;
use crate::bench::random::Random;
use crate::bench::{BenchError, Shape};
use crate::design::Design;
use crate::graph::hex;

/// What a point takes besides its window and warm-up: a process or two, and the driver.
const AROUND: Duration = Duration::from_millis(100);
/// What one on Postgres takes besides: a database is made and removed, and a session opened.
const ON_POSTGRES: Duration = Duration::from_millis(300);
/// What each node more than one takes: a process that loads the graph.
const NODE_MORE: Duration = Duration::from_millis(80);
/// How many jobs a second are loaded into a given server.
const GIVEN_PER_SECOND: f64 = 5_000.0;
/// With how many jobs a second its graph is copied, loaded and read by the checker.
const JOBS_PER_SECOND: f64 = 25_000.0;
/// How many jobs a second a process loads, for one request.
const LOADED_PER_SECOND: f64 = 400_000.0;
/// How many jobs a second come into a base, and are changed in it.
const LOADED_AS_BASE_PER_SECOND: f64 = 11_000.0;
const CHURNED_PER_SECOND: f64 = 10_000.0;
/// How many graphs a second are created in one.
const CREATED_PER_SECOND: f64 = 1_000.0;
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
    /// By which design; none: a floor, or a given server.
    pub design: Option<&'static Design>,
    /// The server that is given.
    pub given: Option<Arc<Given>>,
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
    /// How many graphs `many-graphs` has.
    pub graphs: u64,
}

impl Plan {
    /// What the arguments ask for.
    ///
    /// # Errors
    /// [`BenchError::Usage`] names what there is not.
    pub fn new(args: &RunArgs) -> Result<Self, BenchError> {
        let loads = matrix::loads(args)?;
        let blocks = args.blocks;
        let mut points: Vec<Planned> = Vec::new();
        for block in 0..blocks {
            // By what is asked, so that designs that are compared are measured near each other.
            let mut of_block: Vec<Vec<Planned>> = Vec::new();
            let mut floors = Vec::new();
            for load in loads.iter().filter(|load| block == 0 || !load.once) {
                let Load { workload, rate, size, writers, nodes, setting, .. } = *load;
                let key = |design: &str| Key {
                    workload: workload.name.to_owned(),
                    shape: args.shape_name(),
                    size,
                    rate,
                    writers,
                    nodes,
                    setting,
                    design: design.to_owned(),
                    again: false,
                };
                let planned = |key: Key, design| {
                    let (number, given) = (0, None);
                    Planned { number, block, key, workload, design, given }
                };
                let mut of_load = Vec::new();
                for design in &load.designs {
                    of_load.push(planned(key(design.name), Some(*design)));
                    // One that keeps no rules is compared with nothing.
                    if args.a_a && design.is_sound() && workload.event.is_none() {
                        let again = Key { again: true, ..key(design.name) };
                        of_load.push(planned(again, Some(*design)));
                    }
                }
                let of_given = load.given.iter().map(|given| Planned {
                    given: Some(Arc::clone(given)),
                    ..planned(key(&given.name), None)
                });
                of_load.extend(of_given);
                // Of each kind of load once in a block.
                let kind = (rate, writers, workload.in_turn());
                let is_driven = workload.measures == Measures::Requests && !of_load.is_empty();
                if is_driven && !floors.contains(&kind) {
                    floors.push(kind);
                    for floor in ["echo", "null"] {
                        let floored = workload.floor();
                        let key = Key {
                            workload: floored.name.to_owned(),
                            shape: "none".to_owned(),
                            size: 0,
                            nodes: 1,
                            setting: Setting::FLOOR,
                            ..key(floor)
                        };
                        of_load.push(Planned { workload: floored, ..planned(key, None) });
                    }
                }
                of_block.push(of_load);
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
        digest.update(format!("{} {}\n", args.seed, args.graphs));
        if let Some(file) = &args.graph {
            digest.update(sha256_of(file).map_err(|error| file_error(file, &error))?);
        }
        for given in &args.target {
            digest.update(format!("{given:?}\n"));
        }
        for survives in &args.target_survives {
            digest.update(format!("{survives:?}\n"));
        }
        let record = PlanRecord {
            profile: args.profile.name().to_owned(),
            seed: args.seed,
            blocks,
            window_seconds: args.window_seconds(),
            warmup_seconds: args.warmup_seconds(),
            checks: !args.no_check,
            points: points.len(),
            digest: hex(&digest.finalize()),
        };
        Ok(Self { record, points, shape: args.shape, graphs: args.graphs })
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
            Measures::Requests if point.workload.event.is_some() => WINDOW_SECONDS + WARMUP_SECONDS,
            Measures::Requests => match point.workload.requests {
                Some(requests) => requests as f64 * size / LOADED_PER_SECOND,
                None => self.record.window_seconds + self.record.warmup_seconds,
            },
            Measures::Import => size / IMPORTED_PER_SECOND,
            Measures::Start => 0.0,
        };
        let database = match point.key.setting.needs_postgres() {
            true => ON_POSTGRES,
            false => Duration::ZERO,
        };
        let others = NODE_MORE * point.key.nodes.saturating_sub(1);
        let loaded = if point.given.is_some() { size / GIVEN_PER_SECOND } else { 0.0 };
        let of_graph = Duration::from_secs_f64(window + loaded + size / JOBS_PER_SECOND);
        AROUND + database + others + of_graph
    }

    /// How long all of it takes, about.
    #[must_use]
    pub fn time(&self) -> Duration {
        let points: Duration = self.points.iter().map(|point| self.time_of(point)).sum();
        points + self.time_of_bases()
    }

    /// How long it takes to make what they begin with: once for each graph, storage and database.
    fn time_of_bases(&self) -> Duration {
        let bases = self.points.iter().filter_map(|point| {
            let storage = point.design?.storage.to_string();
            let Key { setting: Setting { database, snapshots, .. }, size, .. } = point.key;
            let (times, graphs) = match point.workload.past {
                Past::Loaded => (0, 0),
                Past::ManyGraphs => (0, self.graphs),
                Past::Churned { times } => (times, 0),
            };
            let is_made = point.workload.measures != Measures::Import;
            is_made.then_some((storage, database, snapshots, size, times, graphs))
        });
        let bases: BTreeSet<_> = bases.collect();
        let seconds = bases.iter().map(|(.., size, times, graphs)| {
            *size as f64 / LOADED_AS_BASE_PER_SECOND
                + (times * size) as f64 / CHURNED_PER_SECOND
                + *graphs as f64 / CREATED_PER_SECOND
        });
        Duration::from_secs_f64(seconds.sum())
    }

    /// The settings of all points.
    pub fn settings(&self) -> impl Iterator<Item = &Setting> + Clone {
        self.points.iter().map(|point| &point.key.setting)
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

/// Fisher and Yates' shuffle.
fn shuffle<T>(items: &mut [T], random: &mut Random) {
    for last in (1..items.len()).rev() {
        items.swap(last, random.below(last as u64 + 1) as usize);
    }
}

#[cfg(test)]
mod tests {

    use super::super::made_up;
    use super::super::results::{Outcome, Point};
    use super::*;
    use crate::design::{self, PAIRS};

    fn plan_of(line: &str) -> Plan {
        Plan::new(&RunArgs::of_line(line).unwrap()).unwrap()
    }

    fn time_of(line: &str) -> u64 {
        plan_of(line).time().as_secs()
    }

    /// On two cores, release build: 229 points in 140 to 164 s; of the profile `standard`, 1,770
    /// points in 3,639 s, with one rate more than now.
    #[test]
    fn the_time_is_about_what_was_measured() {
        let quick = time_of("run");
        assert!((135..170).contains(&quick), "{quick} s");
        // 3,600 s are allowed.
        let standard = time_of("run --profile standard");
        assert!((1_800..3_600).contains(&standard), "{standard} s");
        let larger = time_of("run --sizes 10000 --blocks 1 --seconds 0.01 --warmup-seconds 0");
        assert!((15..40).contains(&larger), "{larger} s");
    }

    fn keys(plan: &Plan) -> Vec<(u32, Key)> {
        plan.points.iter().map(|point| (point.block, point.key.clone())).collect()
    }

    #[test]
    fn of_one_seed_the_order_is_the_same_and_of_each_block_another() {
        let line = "run --workloads register,reads --blocks 2";
        let plan = plan_of(line);
        let again = plan_of(line);
        assert_eq!((keys(&plan), &plan.record), (keys(&again), &again.record));
        let other = plan_of(&format!("{line} --seed 2"));
        assert_ne!(keys(&plan), keys(&other));
        assert_ne!(plan.record.digest, other.record.digest);
        let sorted = |plan: &Plan| keys(plan).into_iter().collect::<BTreeSet<_>>();
        assert_eq!(sorted(&plan), sorted(&other));
        let of_block = |block: u32| {
            let points = plan.points.iter().filter(move |point| point.block == block);
            points.map(|point| point.key.clone()).collect::<Vec<_>>()
        };
        assert_ne!(of_block(0), of_block(1));
        // Floors stand with one of the loads that they belong to.
        let designs = plan.points.iter().filter(|point| point.design.is_some());
        let mut loads: Vec<_> = designs.map(|point| (point.block, point.key.of(""))).collect();
        loads.dedup();
        let distinct: BTreeSet<_> = loads.iter().collect();
        assert_eq!(loads.len(), distinct.len(), "designs of a load stand together");
    }

    #[test]
    fn floors_are_measured_once_in_a_block_for_each_kind_of_load() {
        let plan = plan_of(&format!(
            "run --workloads register,reads,turns,start,import --designs {},{} --rates 50 --blocks 2",
            PAIRS[0].first, PAIRS[0].second
        ));
        for block in 0..2 {
            let of_block = plan.points.iter().filter(|point| point.block == block);
            let floors = of_block.filter(|point| point.key.is_floor());
            let mut floors: Vec<_> = floors
                .map(|point| {
                    let Key { workload, rate, writers, design, .. } = &point.key;
                    (design.as_str(), workload.as_str(), *rate, *writers)
                })
                .collect();
            floors.sort_unstable();
            let of_kind = |floor: &'static str| {
                [
                    (floor, "floor", None, 8),
                    (floor, "floor", Some(50), 8),
                    (floor, "floor-in-turn", None, 2),
                ]
            };
            assert_eq!(floors, ["echo", "null"].map(of_kind).concat());
        }
    }

    #[test]
    fn what_shows_that_designs_are_broken_is_measured_once_unless_it_is_named() {
        let blocks_of = |line: &str| {
            let plan = plan_of(line);
            let pairs = plan.points.iter().filter(|point| point.key.workload == "pairs");
            pairs.map(|point| point.block).collect::<BTreeSet<u32>>()
        };
        assert_eq!(blocks_of("run --blocks 3"), BTreeSet::from([0]));
        assert_eq!(blocks_of("run --blocks 3 --workloads pairs"), BTreeSet::from([0, 1, 2]));
    }

    #[test]
    fn where_no_design_is_measured_no_floor_is() {
        let is_paired =
            |name: &str| PAIRS.iter().any(|pair| [pair.first, pair.second].contains(&name));
        let alone = design::ALL.iter().find(|it| it.is_sound() && !is_paired(it.name)).unwrap();
        let line = format!("run --only-pairs --designs {}", alone.name);
        let said = Plan::new(&RunArgs::of_line(&line).unwrap()).unwrap_err().to_string();
        assert!(said.contains("nothing is left to measure"), "{said}");
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

    #[test]
    fn what_is_named_is_measured_whether_or_not_it_is_of_a_pair() {
        let is_paired =
            |name: &str| PAIRS.iter().any(|pair| [pair.first, pair.second].contains(&name));
        let mut alone = design::ALL.iter().filter(|design| design.is_sound());
        let name = alone.find(|design| !is_paired(design.name)).unwrap().name;
        for line in [
            &format!("run --profile standard --designs {name} --workloads turns"),
            &format!("run --profile standard --designs {name} --workloads churn"),
            "run --profile standard --workloads churn",
            &format!("run --profile standard --designs {name}"),
        ] {
            let plan = plan_of(line);
            assert!(plan.points.iter().any(|point| point.key.design == name), "{line}");
        }
        assert!(RunArgs::of_line("run --only-pairs --rates 5").is_err());
    }

    /// Of "One node that writes for all has more throughput than nodes that take turns".
    #[test]
    fn four_nodes_are_measured_with_and_without_a_delay_through_a_proxy() {
        let plan = plan_of("run --profile standard");
        for delay_us in [0, 1_000] {
            let is_it = |point: &Planned| {
                let Key { nodes, setting, workload, .. } = &point.key;
                (*nodes, setting.delay_us, workload.as_str()) == (4, Some(delay_us), "register")
            };
            assert!(plan.points.iter().any(is_it), "{delay_us}");
        }
    }
}
