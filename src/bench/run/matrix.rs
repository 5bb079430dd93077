//! What a profile measures: which loads, in which settings, and by which designs.

use super::args::{Profile, RunArgs, WRITERS};
use super::setting::{LockKind, Setting};
use super::workloads::{self, Measures, Workload};
use crate::bench::BenchError;
use crate::design::{self, Design, PAIRS, Reads};

/// What is asked of some designs.
#[derive(Debug, Clone)]
pub struct Load {
    /// The requests.
    pub workload: &'static Workload,
    /// Requests a second; none: a closed loop.
    pub rate: Option<u64>,
    /// Jobs in the graph.
    pub size: u64,
    /// Server processes.
    pub nodes: u32,
    /// Database and lock.
    pub setting: Setting,
    /// Who is asked.
    pub designs: Vec<&'static Design>,
    /// Whether that is in the first block only.
    pub once: bool,
}

/// Jobs of the graph in the profile `quick`.
const QUICK_JOBS: u64 = 2_500;
/// Requests a second there: what every design can do on two cores and any disk.
const QUICK_RATE: u64 = 500;
/// Jobs of the graph in the profile `standard`.
const STANDARD_JOBS: u64 = 10_000;
/// Requests a second there: what every design of a pair can do.
const STANDARD_RATE: u64 = 200;

/// Where designs are asked for what shows that they are broken.
const SHOWS_BROKEN: &str = "pairs";

/// All loads of these arguments.
///
/// # Errors
/// [`BenchError::Usage`] names what there is not.
pub fn loads(args: &RunArgs) -> Result<Vec<Load>, BenchError> {
    let designs = designs(args)?;
    let chosen = chosen_workloads(args)?;
    let sizes = match (&args.graph, args.profile) {
        (Some(_), _) => vec![0],
        (None, _) if !args.sizes.is_empty() => distinct(&args.sizes),
        (None, Profile::Quick) => vec![QUICK_JOBS],
        (None, Profile::Standard) => vec![STANDARD_JOBS],
    };
    let mut loads = Vec::new();
    for &size in &sizes {
        let is_asked_for = |row: &Row| {
            !args.only_pairs
                || row.rate.is_none()
                    && row.nodes.is_none()
                    && row.setting == row.setting.usual()
                    && row.workload.name != SHOWS_BROKEN
        };
        let rows = match args.profile {
            Profile::Quick => quick(args, &chosen),
            Profile::Standard => standard(args, &chosen),
        };
        for row in rows.into_iter().filter(is_asked_for) {
            let Row { setting, workload, rate, nodes, unpaired } = row;
            let is_chosen = chosen.iter().any(|known| known.name == workload.name);
            if !chosen.is_empty() && !is_chosen {
                continue;
            }
            let shows_broken = workload.name == SHOWS_BROKEN;
            // Whoever names workloads has all designs asked for them, and whoever names designs has
            // them asked all that is in the profile.
            let is_named = !args.workloads.is_empty() || !args.designs.is_empty();
            let is_asked = |design: &&'static Design| {
                setting.suits(design)
                    && (!args.workloads.is_empty() || design.is_sound() != shows_broken)
                    && (is_paired(design)
                        || !args.only_pairs && (unpaired || is_named || !design.is_sound()))
            };
            loads.push(Load {
                workload,
                rate,
                size,
                nodes: nodes.unwrap_or(workload.nodes),
                setting,
                designs: designs.iter().copied().filter(is_asked).collect(),
                once: shows_broken && args.workloads.is_empty(),
            });
        }
    }
    refuse_unused(args, &loads)?;
    Ok(loads)
}

/// Of an option without effect it would be believed that it had one.
fn refuse_unused(args: &RunArgs, loads: &[Load]) -> Result<(), BenchError> {
    let unused = |what: &str| Err(BenchError::Usage(what.to_owned()));
    if !args.rates.is_empty() && loads.iter().all(|load| load.rate.is_none()) {
        return unused(
            "--rates: nothing that was chosen is measured in open loop: starts, imports, and \
             workloads on several nodes are not",
        );
    }
    if args.writers != WRITERS && loads.iter().all(|load| load.workload.writers.is_some()) {
        return unused(
            "--writers: each workload that was chosen has as many clients as it says itself",
        );
    }
    Ok(())
}

fn is_paired(design: &Design) -> bool {
    PAIRS.iter().any(|pair| [pair.first, pair.second].contains(&design.name))
}

/// The designs that the arguments name; else all of declared pairs, and those that are broken on
/// purpose, which show the checker at work; in the profile `standard` all.
fn designs(args: &RunArgs) -> Result<Vec<&'static Design>, BenchError> {
    if args.designs.is_empty() {
        let is_measured = |design: &&'static Design| {
            args.profile == Profile::Standard || is_paired(design) || !design.is_sound()
        };
        let mut all: Vec<_> = design::ALL.iter().copied().filter(is_measured).collect();
        all.sort_unstable_by_key(|design| design.name);
        return Ok(all);
    }
    // In whatever order they are named, the same is measured.
    let mut named = distinct(&args.designs);
    named.sort_unstable();
    let designs = named.iter().map(|name| {
        design::named(name).ok_or_else(|| {
            let known: Vec<_> = design::ALL.iter().map(|design| design.name).collect();
            let known = known.join(", ");
            BenchError::Usage(format!("--designs: there is no design `{name}`, only {known}"))
        })
    });
    designs.collect()
}

/// The workloads that the arguments name, or none.
fn chosen_workloads(args: &RunArgs) -> Result<Vec<&'static Workload>, BenchError> {
    let named = distinct(&args.workloads);
    let workloads = named.iter().map(|name| {
        let workload = workloads::named(name).ok_or_else(|| {
            let known: Vec<_> = workloads::ALL.iter().map(|known| known.name).collect();
            let known = known.join(", ");
            BenchError::Usage(format!("--workloads: there is no workload `{name}`, only {known}"))
        })?;
        if args.graph.is_some() && !workload.takes_any_graph() {
            let name = workload.name;
            return Err(BenchError::Usage(format!(
                "--graph: the workload `{name}` makes its own graph"
            )));
        }
        Ok(workload)
    });
    workloads.collect()
}

/// A row of a profile: a load, without its graph and designs.
struct Row {
    setting: Setting,
    workload: &'static Workload,
    rate: Option<u64>,
    /// If not as many as the workload says.
    nodes: Option<u32>,
    /// Whether designs are measured too that are of no pair.
    unpaired: bool,
}

/// On SQLite, what was chosen; in open loop at the rates that were chosen, or `register` at one.
fn quick(args: &RunArgs, chosen: &[&'static Workload]) -> Vec<Row> {
    let usual = ["register", "turns", "reads", SHOWS_BROKEN];
    let usual = || usual.iter().filter_map(|name| workloads::named(name)).collect();
    let workloads: Vec<_> = if chosen.is_empty() { usual() } else { chosen.to_vec() };
    let mut rows = Vec::new();
    for workload in workloads {
        let row =
            |rate| Row { setting: Setting::SQLITE, workload, rate, nodes: None, unpaired: true };
        rows.push(row(None));
        let rates = workload.name == "register" || !args.rates.is_empty();
        if rates && workload.measures == Measures::Requests && workload.nodes == 1 {
            rows.extend(rates_of(args, QUICK_RATE).into_iter().map(|rate| row(Some(rate))));
        }
    }
    rows
}

fn rates_of(args: &RunArgs, usual: u64) -> Vec<u64> {
    if args.rates.is_empty() { vec![usual] } else { distinct(&args.rates) }
}

/// From one setting on servers, one thing is varied at a time: not the full product of all.
/// Workloads that were chosen and are not in it are measured on both databases.
fn standard(args: &RunArgs, chosen: &[&'static Workload]) -> Vec<Row> {
    let servers = Setting::POSTGRES;
    let delayed = |delay_us| Setting { delay_us: Some(delay_us), ..servers };
    let at = |setting: Setting, nodes: Option<u32>, names: &[&str]| {
        let workloads: Vec<_> = names.iter().filter_map(|name| workloads::named(name)).collect();
        let row = move |workload| Row { setting, workload, rate: None, nodes, unpaired: false };
        workloads.into_iter().map(row)
    };
    let mut rows = Vec::new();
    rows.extend(at(Setting::SQLITE, None, &["register", "turns", "reads", SHOWS_BROKEN]));
    // From here the others are varied.
    rows.extend(at(servers, None, &["turns", "reads", "reregister", SHOWS_BROKEN]));
    for row in at(servers, None, &["register"]) {
        let rates = rates_of(args, STANDARD_RATE).into_iter();
        rows.extend(rates.map(|rate| Row { rate: Some(rate), ..row }));
        rows.push(Row { unpaired: true, ..row });
    }
    let own_lock = Setting { lock: LockKind::Postgres, ..servers };
    rows.extend(at(own_lock, None, &["register", "turns"]));
    for delay_us in [0, 1_000, 5_000] {
        rows.extend(at(delayed(delay_us), None, &["register", "turns"]));
    }
    rows.extend(at(servers, Some(2), &["register"]));
    rows.extend(at(servers, Some(4), &["register"]));
    // With the proxy in both, what the delay costs is told from what the proxy does.
    for delay_us in [0, 1_000] {
        rows.extend(at(delayed(delay_us), Some(4), &["register"]));
    }
    rows.extend(at(Setting { sharing: false, ..servers }, None, &["register"]));
    rows.extend(at(Setting { reads: Reads::Snapshot, ..servers }, None, &["reads"]));
    let checkpointed = Setting { after_checkpoint: true, ..servers };
    rows.extend(at(checkpointed, None, &["register", "reregister"]));
    // What another node's writes cost is told from what turns cost.
    for setting in [Setting::SQLITE, servers] {
        rows.extend(at(setting, Some(1), &["turns"]));
    }
    let is_new = |name: &&str| !rows.iter().any(|row| row.workload.name == *name);
    let more: Vec<&str> = chosen.iter().map(|workload| workload.name).filter(is_new).collect();
    for setting in [Setting::SQLITE, servers] {
        rows.extend(at(setting, None, &more));
    }
    rows
}

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

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: RunArgs,
    }

    fn loads_of(line: &str) -> Result<Vec<Load>, BenchError> {
        loads(&Line::parse_from(line.split(' ')).args)
    }

    #[test]
    fn options_without_effect_are_refused() {
        for line in ["--workloads start,turns --rates 5", "--workloads turns,import --writers 4"] {
            let said = loads_of(&format!("run {line}")).unwrap_err().to_string();
            assert!(said.contains(line.rsplit("--").next().unwrap().split(' ').next().unwrap()));
        }
        for line in ["--workloads register,turns --rates 5 --writers 4", "--workloads turns"] {
            loads_of(&format!("run {line}")).unwrap();
        }
    }

    #[test]
    fn in_whatever_order_designs_are_named_the_same_is_measured() {
        let names = |line: &str| {
            let loads = loads_of(line).unwrap();
            loads[0].designs.iter().map(|design| design.name).collect::<Vec<_>>()
        };
        let [first, second] = [PAIRS[0].first, PAIRS[0].second];
        assert_eq!(
            names(&format!("run --designs {first},{second}")),
            names(&format!("run --designs {second},{first},{second}"))
        );
    }
}
