//! What a profile measures: which loads, in which settings, and by which designs.

use std::sync::Arc;

use super::args::{Profile, RunArgs, WRITERS};
use super::events::{self, Event};
use super::given::Given;
use super::hypotheses::{GROWING, JOBS};
use super::setting::{LockKind, Setting};
use super::workloads::{self, Measures, Past, Workload};
use crate::bench::BenchError;
use crate::design::{self, Design, PAIRS, Reads, by_choice};

/// What is asked of some designs.
#[derive(Debug, Clone)]
pub struct Load {
    /// The requests.
    pub workload: &'static Workload,
    /// Requests a second; none: a closed loop.
    pub rate: Option<u64>,
    /// Jobs in the graph.
    pub size: u64,
    /// Clients.
    pub writers: u32,
    /// Server processes.
    pub nodes: u32,
    /// Database and lock.
    pub setting: Setting,
    /// Who is asked.
    pub designs: Vec<&'static Design>,
    /// And which servers that are given.
    pub given: Vec<Arc<Given>>,
    /// Whether that is in the first block only.
    pub once: bool,
}

impl Load {
    /// Whether the same is asked, of whichever designs.
    fn is_like(&self, other: &Self) -> bool {
        let of = |load: &Self| {
            let Self { workload, rate, size, writers, nodes, setting, .. } = load;
            (workload.name, *rate, *size, *writers, *nodes, *setting)
        };
        of(self) == of(other)
    }
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
    let usual_graphs = args.sizes.is_empty() && args.graph.is_none();
    let mut loads: Vec<Load> = Vec::new();
    for &size in &sizes {
        let is_asked_for = |row: &Row| match row.by {
            Some(_) => !args.only_pairs && (args.graph.is_none() || row.workload.event.is_some()),
            None if args.graph.is_some() && !row.workload.takes_any_graph() => false,
            None => {
                !args.only_pairs
                    || row.rate.is_none()
                        && row.nodes.is_none()
                        && row.setting == row.setting.usual()
                        && row.workload.name != SHOWS_BROKEN
            }
        };
        let rows = match args.profile {
            Profile::Quick => quick(args, &chosen),
            Profile::Standard => standard(args, &chosen),
        };
        for row in rows.into_iter().filter(is_asked_for) {
            let Row { setting, workload, rate, writers, nodes, unpaired, by, once } = row;
            let is_chosen = chosen.iter().any(|known| known.name == workload.name);
            if !chosen.is_empty() && !is_chosen {
                continue;
            }
            let shows_broken = workload.name == SHOWS_BROKEN;
            // Whoever names workloads has all designs asked for them, and whoever names designs has
            // them asked all that is in the profile.
            let is_named = !args.workloads.is_empty() || !args.designs.is_empty();
            let is_asked = |design: &&'static Design| match by {
                Some((_, names)) => {
                    let is_free = !args.designs.is_empty() && !args.workloads.is_empty();
                    let is_sound = setting.suits(design) && design.is_sound();
                    names.contains(&design.name) || is_free && is_sound
                }
                None => {
                    setting.suits(design)
                        && (!args.workloads.is_empty() || design.is_sound() != shows_broken)
                        && (is_paired(design)
                            || !args.only_pairs && (unpaired || is_named || !design.is_sound()))
                }
            };
            let is_empty = workload.past == Past::ManyGraphs;
            loads.push(Load {
                workload,
                rate,
                size: match by.filter(|_| usual_graphs) {
                    _ if is_empty => 0,
                    Some((size, _)) => size,
                    None => size,
                },
                writers: writers.or(workload.writers).unwrap_or(args.writers),
                nodes: nodes.unwrap_or(workload.nodes),
                setting,
                designs: designs.iter().copied().filter(is_asked).collect(),
                given: Vec::new(),
                once: once || shows_broken && args.workloads.is_empty(),
            });
        }
    }
    // What is asked of a design for two reasons is measured once.
    for at in 1..loads.len() {
        let (before, later) = loads.split_at_mut(at);
        let load = &mut later[0];
        let same: Vec<&Load> = before.iter().filter(|other| other.is_like(load)).collect();
        load.designs.retain(|design| !same.iter().any(|other| other.designs.contains(design)));
    }
    refuse_unused(args, &loads)?;
    let given = given(args, &loads)?;
    loads.extend(given);
    Ok(loads)
}

/// The same work for servers that are given, whatever these are made of: what begins from a graph
/// that can be loaded into them, once for each number of nodes.
fn given(args: &RunArgs, loads: &[Load]) -> Result<Vec<Load>, BenchError> {
    let usage = |what: String| Err(BenchError::Usage(what));
    let targets: Vec<&str> = args.target.iter().map(|given| given.name.as_str()).collect();
    let said: Vec<&str> = args.target_survives.iter().map(|said| said.name.as_str()).collect();
    for (option, names) in [("--target", &targets), ("--target-survives", &said)] {
        if let Some(name) =
            (1..names.len()).find_map(|at| names[..at].iter().find(|name| **name == names[at]))
        {
            return usage(format!("{option}: `{name}` is there twice"));
        }
    }
    if let Some(name) = said.iter().find(|name| !targets.contains(name)) {
        return usage(format!("--target-survives: there is no --target `{name}`"));
    }
    let mut all: Vec<Load> = Vec::new();
    for given in &args.target {
        let given = Arc::new(given.clone());
        for load in loads {
            let Workload { measures, requests, event, past, .. } = load.workload;
            let begins_loaded = *measures == Measures::Requests && *past == Past::Loaded;
            let is_usual = load.setting == load.setting.usual();
            if !begins_loaded || requests.is_some() || event.is_some() || !is_usual {
                continue;
            }
            let own = Load {
                nodes: load.nodes.min(given.urls.len() as u32),
                setting: Setting::GIVEN,
                designs: Vec::new(),
                given: vec![Arc::clone(&given)],
                ..load.clone()
            };
            match all.iter_mut().find(|other| other.is_like(&own)) {
                Some(other) if other.given.contains(&given) => {}
                Some(other) => other.given.push(Arc::clone(&given)),
                None => all.push(own),
            }
        }
    }
    if !args.target.is_empty() && all.is_empty() {
        return usage(
            "--target: nothing that was chosen can be measured on a given server: starts, imports, \
             long histories and what happens in a window need servers of our own"
                .to_owned(),
        );
    }
    Ok(all)
}

/// Of an option without effect it would be believed that it had one.
fn refuse_unused(args: &RunArgs, loads: &[Load]) -> Result<(), BenchError> {
    let unused = |what: &str| Err(BenchError::Usage(what.to_owned()));
    let has_event = |load: &Load| load.workload.event.is_some();
    let has_rate = |load: &Load| load.rate.is_some() && !has_event(load);
    if !args.rates.is_empty() && !loads.iter().any(has_rate) {
        return unused(
            "--rates: nothing that was chosen is measured in open loop: starts, imports, and \
             workloads on several nodes are not; what happens in a window has a rate of its own",
        );
    }
    let has_window = |load: &Load| {
        let Workload { measures, requests, .. } = load.workload;
        *measures == Measures::Requests && requests.is_none() && !has_event(load)
    };
    let says_window = args.seconds.or(args.warmup_seconds).is_some();
    if says_window && !loads.iter().any(has_window) {
        return unused(
            "--seconds, --warmup-seconds: nothing that was chosen is measured for a window that \
             could be chosen",
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
        if args.profile == Profile::Quick && workload.event.is_some_and(Event::needs_servers) {
            let name = workload.name;
            return Err(BenchError::Usage(format!(
                "--workloads: `{name}` happens to a server: say --profile standard"
            )));
        }
        let given = match workload.event {
            Some(Event::LockForgotten) => args.redis_url.as_ref().map(|_| "--redis-url"),
            Some(Event::DatabaseRestarted) => args.postgres_url.as_ref().map(|_| "--postgres-url"),
            _ => None,
        };
        if let Some(option) = given {
            let name = workload.name;
            return Err(BenchError::Usage(format!(
                "{option}: a given server is left alone, and `{name}` happens to one"
            )));
        }
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
#[derive(Clone, Copy)]
struct Row {
    setting: Setting,
    workload: &'static Workload,
    rate: Option<u64>,
    /// If not as many as the workload says, or the arguments.
    writers: Option<u32>,
    /// If not as many as the workload says.
    nodes: Option<u32>,
    /// Whether designs are measured too that are of no pair.
    unpaired: bool,
    /// If by these designs alone, and on a graph of this size.
    by: Option<(u64, &'static [&'static str])>,
    /// Whether in the first block only.
    once: bool,
}

impl Row {
    fn new(setting: Setting, workload: &'static Workload) -> Self {
        let (rate, writers, nodes, by) = (None, None, None, None);
        Self { setting, workload, rate, writers, nodes, unpaired: false, by, once: false }
    }
}

/// On SQLite, what was chosen; in open loop at the rates that were chosen, or `register` at one.
fn quick(args: &RunArgs, chosen: &[&'static Workload]) -> Vec<Row> {
    let usual = ["register", "turns", "reads", SHOWS_BROKEN];
    let usual = || usual.iter().filter_map(|name| workloads::named(name)).collect();
    let workloads: Vec<_> = if chosen.is_empty() { usual() } else { chosen.to_vec() };
    let mut rows = Vec::new();
    for workload in workloads {
        let row = |rate| Row { rate, unpaired: true, ..Row::new(Setting::SQLITE, workload) };
        if workload.event.is_some() {
            rows.push(Row { once: true, ..row(Some(events::RATE)) });
            continue;
        }
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
        let row = move |workload| Row { nodes, ..Row::new(setting, workload) };
        workloads.into_iter().map(row)
    };
    let mut rows = Vec::new();
    rows.extend(at(Setting::SQLITE, None, &["register", "turns", "reads", SHOWS_BROKEN]));
    // From here the others are varied.
    let more = ["turns", "reads", "reregister", SHOWS_BROKEN];
    rows.extend(at(servers, None, &more));
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
    // Does the nearer of two nodes leave the other its share?
    let far = Setting { lock: LockKind::Postgres, first_is_near: true, ..delayed(20_000) };
    rows.extend(at(far, Some(2), &["register"]));
    rows.extend(at(Setting { sharing: false, ..servers }, None, &["register"]));
    rows.extend(at(Setting { reads: Reads::Snapshot, ..servers }, None, &["reads"]));
    let checkpointed = Setting { after_checkpoint: true, ..servers };
    rows.extend(at(checkpointed, None, &["register", "reregister"]));
    // What another node's writes cost is told from what turns cost.
    for setting in [Setting::SQLITE, servers] {
        rows.extend(at(setting, Some(1), &["turns"]));
    }
    rows.extend(curves(args));
    rows.extend(deciding(args));
    rows.extend(eventful(args));
    let is_there = |workload: &Workload| {
        workload.event.is_some()
            || rows.iter().any(|row| row.by.is_none() && row.workload.name == workload.name)
    };
    let more = chosen.iter().filter(|workload| !is_there(workload));
    // Beside what decides hypotheses.
    let more: Vec<&str> = more.map(|workload| workload.name).collect();
    for setting in [Setting::SQLITE, servers] {
        rows.extend(at(setting, None, &more));
    }
    rows
}

/// How many clients `register` has beside as many as is usual, and how many requests a second.
const MORE_WRITERS: [u32; 3] = [1, 4, 32];
const MORE_RATES: [u64; 2] = [800, 3200];

/// One design of each kind, and of the kind that serves most both, under less load and under more,
/// and with many graphs; unless others are chosen.
fn curves(args: &RunArgs) -> impl Iterator<Item = Row> {
    const DESIGNS: [&str; 6] = [
        by_choice::KEEPS_ONE_VERSION,
        by_choice::APPLIES_CHANGES,
        by_choice::LOG_ALONE,
        by_choice::OPTIMISTIC[0],
        by_choice::ONE_WRITER,
        by_choice::ONE_WRITER_ON_ROWS,
    ];
    let by = Some((STANDARD_JOBS, &DESIGNS[..]));
    let register = workloads::named("register");
    let row = register.map(|workload| Row { by, ..Row::new(Setting::POSTGRES, workload) });
    let usual_writers = args.writers == WRITERS;
    let writers = MORE_WRITERS.into_iter().filter(move |_| usual_writers);
    let writers = writers.filter_map(move |more| Some(Row { writers: Some(more), ..row? }));
    let usual_rates = args.rates.is_empty();
    let rates = MORE_RATES.into_iter().filter(move |_| usual_rates);
    let rates = rates.filter_map(move |rate| Some(Row { rate: Some(rate), ..row? }));
    let many = workloads::named("many-graphs");
    let many = many.map(|workload| Row { by, ..Row::new(Setting::POSTGRES, workload) });
    writers.chain(rates).chain(many)
}

/// What decides hypotheses that the other rows leave open; unless other sizes are chosen.
fn deciding(args: &RunArgs) -> impl Iterator<Item = Row> {
    let row = |name: &str, setting, size, designs: &'static [&'static str]| {
        let workload = workloads::named(name)?;
        Some(Row { by: Some((size, designs)), ..Row::new(setting, workload) })
    };
    // Those that keep an image show beside it how flat they are. A log of the largest graph takes
    // minutes to make.
    const GROW: [&str; 4] = [
        by_choice::LOADS_EACH_TIME,
        by_choice::APPLIES_CHANGES,
        by_choice::KEEPS_ONE_VERSION,
        by_choice::LOG_ALONE,
    ];
    let sizes = if args.sizes.is_empty() { &GROWING[..] } else { &GROWING[..1] };
    let without = Setting { snapshots: false, ..Setting::SQLITE };
    let growing = sizes.iter().map(move |&size| {
        let is_largest = size == GROWING[GROWING.len() - 1];
        let designs = if is_largest { &GROW[..2] } else { &GROW };
        row("growth", without, size, designs)
    });
    let starts = ["start", "start-churned"].into_iter().flat_map(move |name| {
        [true, false].map(|snapshots| {
            let setting = Setting { snapshots, ..Setting::SQLITE };
            row(name, setting, JOBS, &[by_choice::LOG_ALONE])
        })
    });
    const HISTORIES: [&str; 2] = [by_choice::WITHOUT_HISTORY, by_choice::KEEPS_ONE_VERSION];
    let churned = row("churn", without, JOBS, &HISTORIES);
    growing.chain(starts).chain([churned]).flatten()
}

/// Windows in which something happens, on servers. What happens to servers, happens to the run's
/// own.
fn eventful(args: &RunArgs) -> impl Iterator<Item = Row> {
    const DESIGNS: [&str; 4] = [
        by_choice::APPLIES_CHANGES,
        by_choice::LOG_ALONE,
        by_choice::OPTIMISTIC[0],
        by_choice::ONE_WRITER,
    ];
    let (redis, postgres) = (args.redis_url.is_some(), args.postgres_url.is_some());
    let has_event = move |workload: &&'static Workload| match workload.event {
        None => false,
        Some(Event::LockForgotten) => !redis,
        Some(Event::DatabaseRestarted) => !postgres,
        Some(_) => true,
    };
    workloads::ALL.iter().filter(has_event).map(move |workload| Row {
        rate: Some(events::RATE),
        by: Some((STANDARD_JOBS, &DESIGNS)),
        once: true,
        ..Row::new(Setting::POSTGRES, workload)
    })
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

    use super::*;

    fn loads_of(line: &str) -> Result<Vec<Load>, BenchError> {
        loads(&RunArgs::of_line(line).unwrap())
    }

    #[test]
    fn options_without_effect_are_refused() {
        for line in [
            "--workloads start,turns --rates 5",
            "--workloads node-killed --rates 5",
            "--workloads turns,import --writers 4",
            "--workloads start,growth --seconds 3",
            "--workloads import --warmup-seconds 3",
        ] {
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
