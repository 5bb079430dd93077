//! The figures of the page: what of the results each shows, with its data and the command that
//! measures it again.

use std::collections::BTreeMap;

use super::answer::{is_about_storage, main_load, most_nodes};
use super::charts::{Dot, DotRow, Dots, Line, Lines, Look, Mark, Stack, Stacks};
use super::markup::{Table, escaped, figure, tick, with_interval};
use super::timelines;
use crate::bench::run::args::WRITERS;
use crate::bench::run::comparisons::{Group, per_second, server_us};
use crate::bench::run::events::TimeLine;
use crate::bench::run::figures::{DRIVER, PROXY};
use crate::bench::run::floors::{is_driver_limited, starved, times_floor};
use crate::bench::run::hypotheses::{exponent, wasted};
use crate::bench::run::results::{CheckVerdict, Compared, Key, Measurement, Results};
use crate::bench::run::setting::Setting;
use crate::bench::run::statistics::{Estimate, Order};
use crate::bench::run::workloads;
use crate::design::{self, PAIRS, Pair};

/// How many colours there are: those of this program's designs, and four more. Then they come
/// again.
pub const COLOURS: usize = design::ALL.len() + 4;

/// A drawing with what belongs to it.
pub struct Figure {
    /// What it shows, as a short title.
    pub title: String,
    /// What to see in it, and how it is to be read: as HTML.
    pub caption: String,
    /// The drawings, as SVG.
    pub drawings: Vec<String>,
    /// What they were made of.
    pub table: Table,
    /// What measures it again.
    pub command: String,
}

/// The results, in groups, and what they are called.
pub struct Shown<'r> {
    /// All of them.
    pub results: &'r Results,
    /// By what was measured.
    pub groups: Vec<Group<'r>>,
    /// The load that most figures vary; none if nothing like it was measured.
    main: Option<Key>,
    /// Designs by the numbers of their colours: those of this program first, in their order.
    designs: Vec<String>,
}

type Of = fn(&Measurement) -> Option<f64>;

fn quantile_ms(measured: &Measurement, quantile: f64) -> Option<f64> {
    Some(measured.raw.latencies().ok()?.quantile_us(quantile)? / 1e3)
}

fn p50_ms(measured: &Measurement) -> Option<f64> {
    quantile_ms(measured, 0.5)
}

/// Nothing of so few requests that the slowest is all of it.
fn p99_ms(measured: &Measurement) -> Option<f64> {
    (measured.figures.completed >= 100).then(|| quantile_ms(measured, 0.99))?
}

fn first_answer_ms(measured: &Measurement) -> Option<f64> {
    Some(1e3 * measured.first_answer_seconds()?)
}

impl<'r> Shown<'r> {
    /// All of the results.
    #[must_use]
    pub fn new(results: &'r Results, groups: Vec<Group<'r>>) -> Self {
        let main = main_load(&groups, |nodes| nodes == 1).map(|key| key.of(""));
        let mut designs: Vec<String> =
            design::ALL.iter().map(|design| design.name.to_owned()).collect();
        for group in &groups {
            let name = &group.key.design;
            if !group.key.is_floor() && !designs.contains(name) {
                designs.push(name.clone());
            }
        }
        Self { results, groups, main, designs }
    }

    /// The number of a design's colour.
    #[must_use]
    pub fn colour(&self, design: &str) -> usize {
        let number = self.designs.iter().position(|name| name == design);
        number.unwrap_or(self.designs.len()) % COLOURS
    }

    /// The designs that were measured, with the numbers of their colours.
    pub fn designs(&self) -> impl Iterator<Item = (usize, &str)> {
        let is_there = |name: &str| self.groups.iter().any(|group| group.key.design == name);
        let all = self.designs.iter().enumerate();
        all.filter(move |(_, name)| is_there(name))
            .map(|(number, name)| (number % COLOURS, name.as_str()))
    }

    fn of(&self, is_it: impl Fn(&Key) -> bool) -> Vec<&Group<'r>> {
        let is_it = |group: &&Group<'r>| {
            let key = group.key;
            !key.again && !key.is_floor() && !group.points.is_empty() && is_it(key)
        };
        self.groups.iter().filter(is_it).collect()
    }

    fn look(&self, group: &Group<'_>) -> Look {
        let any = |is_it: fn(&Measurement) -> bool| {
            group.points.iter().any(|(_, measured)| is_it(measured))
        };
        if any(|measured| matches!(measured.verdict, CheckVerdict::Invalid { .. })) {
            Look::Invalid
        } else if any(|measured| measured.figures.saturated) {
            Look::Saturated
        } else if is_driver_limited(times_floor(group, &self.groups)) {
            Look::DriverLimited
        } else if 2 * starved(group) > group.points.len() {
            Look::Starved
        } else {
            Look::Plain
        }
    }

    /// Of two that are compared.
    fn look_of_both(&self, first: &Key, second: &Key) -> Look {
        let looks = self.groups.iter().filter(|group| [first, second].contains(&group.key));
        let looks: Vec<Look> = looks.map(|group| self.look(group)).collect();
        let worse = [Look::DriverLimited, Look::Starved];
        worse.into_iter().find(|look| looks.contains(look)).unwrap_or(Look::Plain)
    }

    /// One line for each design, over a figure of the load.
    fn lines(&self, groups: &[&Group<'_>], x: fn(&Key) -> f64, y: Of) -> Vec<Line> {
        let mut lines: BTreeMap<&str, Vec<Mark>> = BTreeMap::new();
        for group in groups {
            let look = self.look(group);
            let is_saturated = group.points.iter().any(|(_, found)| found.figures.saturated);
            let found = group.estimate(y).filter(|_| !is_saturated);
            if found.is_none() && !is_saturated {
                continue;
            }
            lines.entry(&group.key.design).or_default().push(Mark {
                x: x(group.key),
                y: found.map(|found| found.median),
                interval: found.map(|found| [found.low, found.high]),
                look,
            });
        }
        let line = |(design, mut marks): (&str, Vec<Mark>)| {
            marks.sort_by(|one, other| one.x.total_cmp(&other.x));
            Line { label: design.to_owned(), colour: self.colour(design), marks }
        };
        lines.into_iter().map(line).filter(|line| line.marks.len() > 1).collect()
    }

    /// The command that measures these workloads again.
    fn command(&self, workloads: &[&str]) -> String {
        let plan = &self.results.plan;
        let mut command = format!(
            "fencepost bench run --profile {} --workloads {} --seed {}",
            escaped(&plan.profile),
            workloads.join(","),
            plan.seed
        );
        if plan.blocks != 6 {
            command += &format!(" --blocks {}", plan.blocks);
        }
        command
    }
}

fn told(found: Option<Estimate>) -> String {
    found.map_or_else(String::new, |found| with_interval(found.median, found.low, found.high))
}

fn look_word(look: Look) -> &'static str {
    match look {
        Look::Plain => "",
        Look::Saturated => "saturated",
        Look::Invalid => "INVALID",
        Look::DriverLimited => "driver-limited",
        Look::Starved => "a node starved",
    }
}

/// How a table tells of groups: what is varied, the design, and figures of it.
fn table(
    shown: &Shown<'_>,
    groups: &[&Group<'_>],
    varied: (&str, &dyn Fn(&Key) -> String),
    figures: &[(&str, Of)],
) -> Table {
    let head = ["design", varied.0].into_iter().chain(figures.iter().map(|(name, _)| *name));
    let mut table = Table::of(&head.chain(["blocks", ""]).collect::<Vec<_>>());
    for group in groups {
        let mut row = vec![group.key.design.clone(), varied.1(group.key)];
        let is_saturated = group.points.iter().any(|(_, found)| found.figures.saturated);
        let found = |of: &Of| told(group.estimate(of).filter(|_| !is_saturated));
        row.extend(figures.iter().map(|(_, of)| found(of)));
        row.push(group.points.len().to_string());
        row.push(look_word(shown.look(group)).to_owned());
        table.rows.push(row);
    }
    table
}

/// What the first screen shows: what a new job costs, on one node, and on as many as were measured.
#[must_use]
pub fn first(shown: &Shown<'_>) -> Option<Figure> {
    let main = shown.main.as_ref()?;
    let most = most_nodes(&shown.groups);
    let is_one = |key: &Key| key.of("") == *main;
    let many = Key { nodes: most.unwrap_or(1), ..main.clone() };
    let groups = shown.of(|key| is_one(key) || key.of("") == many);
    let mut rows: Vec<(f64, DotRow)> = Vec::new();
    for group in shown.of(is_one) {
        let Some(one) = group.estimate(server_us) else { continue };
        let other = groups.iter().find(|other| *other.key == many.of(&group.key.design));
        let other = other.filter(|_| most.is_some());
        let of_most = other.and_then(|other| Some((other.estimate(server_us)?, shown.look(other))));
        let colour = Some(shown.colour(&group.key.design));
        let dot = |found: Estimate, look, is_second| Dot {
            value: found.median,
            interval: [found.low, found.high],
            colour,
            look,
            is_second,
        };
        let mut dots = vec![dot(one, shown.look(group), false)];
        dots.extend(of_most.map(|(found, look)| dot(found, look, true)));
        let figure = match of_most {
            Some((found, _)) => format!("{} → {}", figure(one.median), figure(found.median)),
            None => figure(one.median),
        };
        let label = group.key.design.clone();
        // Those that were not measured on several nodes stand below.
        let order = of_most.map_or(1e12 + one.median, |(found, _)| found.median);
        rows.push((order, DotRow::Dots { label, figure, dots }));
    }
    rows.sort_by(|one, other| one.0.total_cmp(&other.0));
    let on = main.setting.title();
    let on = on.trim_start_matches(", ");
    let nodes = most.map_or(String::new(), |nodes| {
        format!(" Round: one node; square: {nodes} nodes that all write.")
    });
    let is_starved = groups.iter().any(|group| shown.look(group) == Look::Starved);
    let pale =
        if is_starved { " Pale and dashed: clients of a node got next to nothing." } else { "" };
    let dots = Dots {
        x: "processor time of all servers for a new job, µs",
        logarithmic: true,
        reference: None,
        beside: Vec::new(),
        rows: rows.into_iter().map(|(_, row)| row).collect(),
    };
    Some(Figure {
        title: "What a new job costs".to_owned(),
        caption: format!(
            "Further left is cheaper. {}, {} clients, {} jobs in the graph.{nodes} Bars: 95 % of \
             what bootstrap of the blocks gives.{pale}",
            escaped(on),
            main.writers,
            figure(main.size as f64)
        ),
        drawings: vec![dots.svg()],
        table: table(
            shown,
            &groups,
            ("nodes", &|key| key.nodes.to_string()),
            &[("server µs", server_us), ("requests a second", per_second)],
        ),
        command: shown.command(&["register"]),
    })
}

/// All that can be drawn of these results, in the order of the page.
#[must_use]
pub fn all(shown: &Shown<'_>, compared: &[Compared]) -> Vec<Figure> {
    [
        given(shown),
        choices(shown, compared),
        writers(shown),
        load(shown),
        growth(shown),
        nodes(shown),
        delay(shown),
        waste(shown),
        start(shown),
        processes(shown),
        storage(shown),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// Servers that were given, beside the designs that did the same work on one node or on as many.
/// What does not survive the same is drawn apart.
fn given(shown: &Shown<'_>) -> Option<Figure> {
    let all = shown.of(|key| key.setting == Setting::GIVEN);
    let setting = shown.main.as_ref().map_or(Setting::SQLITE, |main| main.setting);
    let like = |key: &Key| Key { setting, ..key.of("") };
    let survives = |group: &Group<'_>| {
        let durability = group.points.first().map_or("", |(point, _)| point.durability.as_str());
        durability.rsplit(": ").next().unwrap_or_default().to_owned()
    };
    let mut by_what: BTreeMap<String, Vec<DotRow>> = BTreeMap::new();
    let mut groups: Vec<&Group<'_>> = Vec::new();
    let mut loads: Vec<Key> = all.iter().map(|group| group.key.of("")).collect();
    loads.dedup();
    for load in loads.iter().filter(|load| load.rate.is_none()) {
        let found = shown.of(|key| key.of("") == *load || key.of("") == like(load));
        let mut of_load: BTreeMap<String, Vec<(f64, DotRow)>> = BTreeMap::new();
        for group in found {
            let Some(rate) = group.estimate(per_second) else { continue };
            groups.push(group);
            let dots = vec![Dot {
                value: rate.median,
                interval: [rate.low, rate.high],
                colour: Some(shown.colour(&group.key.design)),
                look: shown.look(group),
                is_second: false,
            }];
            let (label, figure) = (group.key.design.clone(), figure(rate.median));
            let row = (rate.median, DotRow::Dots { label, figure, dots });
            of_load.entry(survives(group)).or_default().push(row);
        }
        for (what, mut rows) in of_load {
            rows.sort_by(|one, other| other.0.total_cmp(&one.0));
            let drawn = by_what.entry(what).or_default();
            let nodes =
                if load.nodes > 1 { format!(", {} nodes", load.nodes) } else { String::new() };
            drawn.push(DotRow::Note(format!("{}, {} clients{nodes}", load.workload, load.writers)));
            drawn.extend(rows.into_iter().map(|(_, row)| row));
        }
    }
    let apart = match by_what.len() {
        1 => "",
        _ => {
            " What an answered write survives is not the same for all, so each has a drawing of its \
              own."
        }
    };
    let caption = format!(
        "Requests a second, in closed loop; further right is more.{apart} What a given server takes \
         of processors is not known."
    );
    let drawings = by_what.into_iter().map(|(what, rows)| {
        let survives = DotRow::Heading(format!("answered writes survive: {what}"));
        let rows = [vec![survives], rows].concat();
        Dots {
            x: "requests a second",
            logarithmic: true,
            reference: None,
            beside: Vec::new(),
            rows,
        }
        .svg()
    });
    let drawings: Vec<String> = drawings.collect();
    (!all.is_empty() && !drawings.is_empty()).then(|| Figure {
        title: "Your server beside the designs".to_owned(),
        caption,
        drawings,
        table: table(
            shown,
            &groups,
            ("with", &|key| key.title()),
            &[("requests a second", per_second), ("p50 ms", p50_ms), ("p99 ms", p99_ms)],
        ),
        command: "fencepost bench run --target NAME=URL".to_owned(),
    })
}

fn writers(shown: &Shown<'_>) -> Option<Figure> {
    let main = shown.main.as_ref()?;
    let groups = shown.of(|key| Key { writers: main.writers, ..key.of("") } == *main);
    let lines = shown.lines(&groups, |key| f64::from(key.writers), per_second);
    if lines.is_empty() {
        return None;
    }
    let drawing =
        Lines { x: "clients", y: "new jobs a second", logarithmic: false, lines, predicted: None };
    Some(Figure {
        title: "Throughput against writers".to_owned(),
        caption: "Each client sends its next request when the last was answered. Where a line is \
                  flat, more clients only wait longer."
            .to_owned(),
        drawings: vec![drawing.svg()],
        table: table(
            shown,
            &groups,
            ("clients", &|key| key.writers.to_string()),
            &[("requests a second", per_second), ("server µs", server_us)],
        ),
        command: shown.command(&["register"]),
    })
}

fn load(shown: &Shown<'_>) -> Option<Figure> {
    let main = shown.main.as_ref()?;
    let groups = shown.of(|key| key.rate.is_some() && Key { rate: None, ..key.of("") } == *main);
    let x = |key: &Key| key.rate.unwrap_or(0) as f64;
    let drawing = |y: &'static str, of: Of| {
        let lines = shown.lines(&groups, x, of);
        let svg = Lines {
            x: "offered load, requests a second",
            y,
            logarithmic: true,
            lines,
            predicted: None,
        };
        svg.svg()
    };
    if shown.lines(&groups, x, p50_ms).is_empty() {
        return None;
    }
    Some(Figure {
        title: "Latency against load".to_owned(),
        caption: "Latency counts from when a request was due, not from when it could be sent. An \
                  open mark at the upper edge: less than 99 % of the rate was achieved, so there is no \
                  latency to tell. A p99 needs a hundred requests in a window."
            .to_owned(),
        drawings: vec![drawing("median (p50), ms", p50_ms), drawing("p99, ms", p99_ms)],
        table: table(
            shown,
            &groups,
            ("a second", &|key| key.rate.unwrap_or(0).to_string()),
            &[("p50 ms", p50_ms), ("p99 ms", p99_ms)],
        ),
        command: shown.command(&["register"]),
    })
}

fn growth(shown: &Shown<'_>) -> Option<Figure> {
    let all = shown.of(|key| key.workload == "growth" && key.rate.is_none());
    // Where there are several, that in which most was measured.
    let setting = most_of(&all, |key| key.setting)?;
    let groups: Vec<_> = all.into_iter().filter(|group| group.key.setting == setting).collect();
    let mut lines = shown.lines(&groups, |key| key.size as f64, p50_ms);
    if lines.is_empty() {
        return None;
    }
    for line in &mut lines {
        let fitted = line.marks.iter().filter(|mark| mark.x >= 1e4);
        let fitted = fitted.filter_map(|mark| Some((mark.x as u64, mark.y?)));
        if let Some(exponent) = exponent(&fitted.collect::<Vec<_>>()) {
            line.label += &match exponent {
                exponent if exponent.abs() < 0.1 => " flat".to_owned(),
                exponent => format!(" n^{exponent:.2}"),
            };
        }
    }
    let drawing = Lines {
        x: "jobs in the graph",
        y: "median (p50) of writes, ms",
        logarithmic: true,
        lines,
        predicted: None,
    };
    Some(Figure {
        title: "Cost against graph size".to_owned(),
        caption:
            "Both axes are logarithmic: a line of slope one doubles with the graph. The exponent \
                  is fitted from 10,000 jobs on. One client writes, so that a design that keeps its \
                  copy of the graph in memory finds it as it left it."
                .to_owned(),
        drawings: vec![drawing.svg()],
        table: table(shown, &groups, ("jobs", &|key| key.size.to_string()), &[("p50 ms", p50_ms)]),
        command: shown.command(&["growth"]),
    })
}

/// What most of these groups have.
fn most_of<T: Copy + PartialEq>(groups: &[&Group<'_>], of: impl Fn(&Key) -> T) -> Option<T> {
    let count = |found: &T| groups.iter().filter(|group| of(group.key) == *found).count();
    let all = groups.iter().map(|group| of(group.key));
    // Of several that have as many, the first.
    all.rev().max_by_key(count)
}

fn nodes(shown: &Shown<'_>) -> Option<Figure> {
    let main = shown.main.as_ref()?;
    let groups = shown.of(|key| Key { nodes: 1, ..key.of("") } == *main);
    let x = |key: &Key| f64::from(key.nodes);
    let lines = shown.lines(&groups, x, per_second);
    if lines.is_empty() {
        return None;
    }
    let drawing = |y: &'static str, of: Of| {
        let lines = shown.lines(&groups, x, of);
        Lines { x: "nodes that all write", y, logarithmic: true, lines, predicted: None }.svg()
    };
    Some(Figure {
        title: "Nodes".to_owned(),
        caption:
            "The same clients, spread over more nodes of one graph, all on the same cores: what \
                  another node costs, and not what another machine gains. Pale and dashed: the \
                  clients of a node got less than a tenth of their share, so the others had less to \
                  share."
                .to_owned(),
        drawings: vec![
            drawing("new jobs a second", per_second),
            drawing("servers’ processor time for a job, µs", server_us),
        ],
        table: table(
            shown,
            &groups,
            ("nodes", &|key| key.nodes.to_string()),
            &[("requests a second", per_second), ("server µs", server_us)],
        ),
        command: shown.command(&["register"]),
    })
}

fn delay(shown: &Shown<'_>) -> Option<Figure> {
    let is_delayed = |key: &Key| {
        let usual = Setting { delay_us: None, ..key.setting };
        key.setting.delay_us.is_some()
            && usual == Setting::POSTGRES
            && key.rate.is_none()
            && (key.workload == "turns" || key.nodes == 1)
    };
    let x = |key: &Key| key.setting.delay_us.unwrap_or(0) as f64 / 1e3;
    let of = |workload: &str| shown.of(|key| is_delayed(key) && key.workload == workload);
    let drawing = |workload: &str, y: &'static str, of_measured: Of| {
        let lines = shown.lines(&of(workload), x, of_measured);
        let drawing = Lines {
            x: "delay of a round trip to database and lock, ms",
            y,
            logarithmic: true,
            lines,
            predicted: None,
        };
        (!drawing.lines.is_empty()).then(|| drawing.svg())
    };
    let drawings = [
        drawing("register", "new jobs a second, one node", per_second),
        drawing("turns", "two nodes in turn: median (p50), ms", p50_ms),
    ];
    let drawings: Vec<String> = drawings.into_iter().flatten().collect();
    let groups = shown.of(is_delayed);
    (!drawings.is_empty()).then(|| Figure {
        title: "Network delay".to_owned(),
        caption:
            "A proxy makes each round trip to database and lock take longer. What a write then \
                  takes more, divided by the delay, is how many round trips it waits for, one after \
                  another; the table has how many were counted."
                .to_owned(),
        drawings,
        table: table(
            shown,
            &groups,
            ("with, ms", &|key| format!("{}, {}", key.workload, x(key))),
            &[
                ("requests a second", per_second),
                ("p50 ms", p50_ms),
                ("round trips to the database", |measured| {
                    measured.figures.database_round_trips_per_operation
                }),
                ("to the lock", |measured| measured.figures.lock_round_trips_per_operation),
            ],
        ),
        command: shown.command(&["register", "turns"]),
    })
}

/// What each choice explains: pairs that differ in it alone.
fn choices(shown: &Shown<'_>, compared: &[Compared]) -> Option<Figure> {
    // What was measured with graphs of several sizes tells them apart.
    let size = |key: &Key| {
        let is_other = |other: &Key| other.workload == key.workload && other.size != key.size;
        let is_varied = shown.groups.iter().any(|group| is_other(group.key));
        if is_varied { format!(", {} jobs", tick(key.size as f64)) } else { String::new() }
    };
    let mut drawn: Vec<(&Pair, Vec<DotRow>)> = Vec::new();
    let mut table = Table::of(&["choice", "first", "second", "under", "figure", "ratio", "says"]);
    for pair in &PAIRS {
        let is_it = |found: &&Compared| {
            found.first.design == pair.first && found.second.design == pair.second
        };
        let mut of_pair = Vec::new();
        for found in compared.iter().filter(is_it) {
            let load = found.first.of("").title();
            if let Some(why) = found.not_compared {
                let [first, second] = [pair.first, pair.second].map(str::to_owned);
                let why = format!("not compared: {}", why.name().replace('_', " "));
                let question = pair.question.to_owned();
                let none = String::new();
                table.rows.push(vec![
                    question,
                    first,
                    second,
                    load.clone(),
                    none.clone(),
                    none,
                    why,
                ]);
            }
            for ratio in &found.ratios {
                table.rows.push(vec![
                    pair.question.to_owned(),
                    pair.first.to_owned(),
                    pair.second.to_owned(),
                    load.clone(),
                    ratio.figure.clone(),
                    with_interval(ratio.median, ratio.low, ratio.high),
                    ratio.order.name().to_owned(),
                ]);
            }
            let server =
                found.ratios.iter().find(|ratio| ratio.figure == "server_us_per_operation");
            if let Some(ratio) = server.filter(|_| is_drawn(&found.first)) {
                let told = match ratio.order {
                    Order::First | Order::Second => figure(ratio.median),
                    Order::Tie => format!("{} tie", figure(ratio.median)),
                    Order::TooFew => format!("{} ?", figure(ratio.median)),
                };
                of_pair.push(DotRow::Dots {
                    label: short_title(&found.first) + &size(&found.first),
                    figure: told,
                    dots: vec![Dot {
                        value: ratio.median,
                        interval: [ratio.low, ratio.high],
                        colour: Some(shown.colour(pair.first)),
                        look: shown.look_of_both(&found.first, &found.second),
                        is_second: false,
                    }],
                });
            }
        }
        if !of_pair.is_empty() {
            let heading = DotRow::Heading(format!("{} / {}", pair.first, pair.second));
            let mut rows = vec![heading, DotRow::Note(pair.question.to_owned())];
            rows.extend(of_pair);
            drawn.push((pair, rows));
        }
    }
    (!drawn.is_empty()).then(|| {
        // Those about the same choice have the same scale.
        let values = |rows: &[DotRow]| -> Vec<f64> {
            let dots = rows.iter().filter_map(|row| match row {
                DotRow::Dots { dots, .. } => Some(dots),
                DotRow::Heading(_) | DotRow::Note(_) => None,
            });
            dots.flatten().flat_map(|dot| [dot.value, dot.interval[0], dot.interval[1]]).collect()
        };
        let of_storage = drawn.iter().filter(|(pair, _)| is_about_storage(pair));
        let beside: Vec<f64> = of_storage.flat_map(|(_, rows)| values(rows)).collect();
        let drawings = drawn.into_iter().map(|(pair, rows)| {
            let x = "servers’ processor time, relative to the second";
            let reference = Some(1.0);
            let beside = if is_about_storage(pair) { beside.clone() } else { Vec::new() };
            Dots { x, logarithmic: true, reference, beside, rows }.svg()
        });
        let drawings = drawings.collect();
        Figure {
            title: "Which choice explains the difference".to_owned(),
            caption: "Two designs that differ in one choice, block by block. Left of the line the \
                      first costs less, right of it more; an interval that holds 1 is a tie: no \
                      difference was detected, which does not mean that there is none; a question \
                      mark: too few blocks. <em>register</em>: new jobs; <em>reregister</em>: the \
                      same jobs once more; <em>reads</em>: 19 reads and plans for each write; \
                      <em>turns</em>: one client at each node, one after the other; <em>churn</em>: \
                      each job changed many times; <em>growth</em>: one client, graphs of several \
                      sizes. docs/WORKLOADS.md says more."
                .to_owned(),
            drawings,
            table,
            command: match shown.results.plan.profile.as_str() {
                "standard" => "fencepost bench run --profile standard --only-pairs".to_owned(),
                _ => "fencepost bench run --only-pairs".to_owned(),
            },
        }
    })
}

/// Whether a ratio under that load has a row of its own; the table has all of them.
fn is_drawn(key: &Key) -> bool {
    let setting = &key.setting;
    let usual = *setting == setting.usual();
    key.rate.is_none()
        && key.writers
            == workloads::named(&key.workload)
                .and_then(|workload| workload.writers)
                .unwrap_or(WRITERS)
        && (usual || setting.delay_us == Some(5_000) || !setting.snapshots)
}

/// A load in few letters.
fn short_title(key: &Key) -> String {
    let Key { workload, nodes, setting, .. } = key;
    let database = if setting.needs_postgres() { "Postgres" } else { "SQLite" };
    let nodes = if *nodes > 1 { format!(", {nodes} nodes") } else { String::new() };
    let delay = setting.delay_us.map_or(String::new(), |us| format!(", {} ms", us as f64 / 1e3));
    format!("{workload}, {database}{nodes}{delay}")
}

fn waste(shown: &Shown<'_>) -> Option<Figure> {
    let main = shown.main.as_ref()?;
    let has_lost = |key: &Key| {
        design::named(&key.design)
            .is_some_and(|design| design.is_sound() && !design.takes_lock() && !design.has_leader())
    };
    let groups = shown.of(|key| has_lost(key) && Key { nodes: 1, ..key.of("") } == *main);
    let lines = shown.lines(&groups, |key| f64::from(key.nodes), wasted);
    let nodes: Vec<f64> = lines.iter().flat_map(|line| &line.marks).map(|mark| mark.x).collect();
    let most = nodes.iter().copied().fold(0.0, f64::max);
    if lines.is_empty() || most < 2.0 {
        return None;
    }
    let mut predicted: Vec<f64> = nodes;
    predicted.sort_by(f64::total_cmp);
    predicted.dedup();
    let predicted = predicted.into_iter().map(|nodes| (nodes, (nodes - 1.0) / nodes)).collect();
    let drawing = Lines {
        x: "nodes that all write",
        y: "share of decisions thrown away",
        logarithmic: false,
        lines,
        predicted: Some(("predicted (N−1)/N".to_owned(), predicted)),
    };
    Some(Figure {
        title: "Wasted decisions".to_owned(),
        caption:
            "Of N nodes that write without a lock, N − 1 of N decisions were said to be wasted. \
                  Requests that share a turn make it less; and where marks are pale and dashed, \
                  whoever is outrun waits, and one node wins so often that the others hardly write."
                .to_owned(),
        drawings: vec![drawing.svg()],
        table: table(
            shown,
            &groups,
            ("nodes", &|key| key.nodes.to_string()),
            &[("share wasted", wasted), ("requests a second", per_second)],
        ),
        command: shown.command(&["register"]),
    })
}

fn start(shown: &Shown<'_>) -> Option<Figure> {
    let all = shown.of(Key::is_start);
    let one = most_of(&all, |key| (key.setting.database, key.size))?;
    let is_of = |group: &&Group<'_>| (group.key.setting.database, group.key.size) == one;
    let groups: Vec<_> = all.into_iter().filter(is_of).collect();
    let title = |key: &Key| {
        let snapshots = if key.setting.snapshots { "" } else { ", no snapshots" };
        let past = if key.workload == "start" { "short past" } else { "long past" };
        format!("{past}{snapshots}")
    };
    let rows = groups.iter().filter_map(|group| {
        let found = group.estimate(first_answer_ms)?;
        Some(DotRow::Dots {
            label: format!("{}, {}", group.key.design, title(group.key)),
            figure: figure(found.median),
            dots: vec![Dot {
                value: found.median,
                interval: [found.low, found.high],
                colour: Some(shown.colour(&group.key.design)),
                look: shown.look(group),
                is_second: false,
            }],
        })
    });
    let rows: Vec<DotRow> = rows.collect();
    let is_empty = rows.is_empty();
    let x = "first answer, ms";
    let drawing = Dots { x, logarithmic: false, reference: None, beside: Vec::new(), rows };
    (!is_empty).then(|| Figure {
        title: "Cold start".to_owned(),
        caption: format!(
            "From starting a process to its first answer, with {} jobs. A long past has ten changes \
             for each job.",
            figure(one.1 as f64)
        ),
        drawings: vec![drawing.svg()],
        table: table(shown, &groups, ("with", &title), &[("first answer ms", first_answer_ms)]),
        command: shown.command(&["start", "start-churned"]),
    })
}

/// Processor time of a group's servers for each request, by kind of process, in microseconds.
fn by_process(group: &Group<'_>) -> [Option<Estimate>; 3] {
    let of = |is_it: fn(&str) -> bool| {
        group.estimate(|measured| {
            let all = measured.raw.processor.iter();
            let seconds: f64 =
                all.filter(|used| is_it(&used.process)).map(|used| used.seconds).sum();
            let requests = measured.figures.completed + measured.raw.in_flight_at_end;
            (requests > 0).then(|| seconds * 1e6 / requests as f64)
        })
    };
    [
        of(|process| ![DRIVER, PROXY, "postgres", "redis"].contains(&process)),
        of(|process| process == "postgres"),
        of(|process| process == "redis"),
    ]
}

fn processes(shown: &Shown<'_>) -> Option<Figure> {
    let main = shown.main.as_ref()?;
    let groups = shown.of(|key| key.of("") == *main);
    let parts = ["nodes", "Postgres", "Redis"];
    let stack = |group: &&Group<'_>| {
        let of = by_process(group).map(|found| found.map_or(0.0, |found| found.median));
        Stack {
            label: group.key.design.clone(),
            colour: Some(shown.colour(&group.key.design)),
            figure: figure(of.iter().sum()),
            parts: of.to_vec(),
            is_invalid: shown.look(group) == Look::Invalid,
        }
    };
    let mut rows: Vec<Stack> = groups.iter().map(stack).collect();
    let sum = |stack: &Stack| stack.parts.iter().sum::<f64>();
    rows.sort_by(|one, other| sum(one).total_cmp(&sum(other)));
    let mut table = Table::of(&["design", "nodes µs", "Postgres µs", "Redis µs"]);
    for group in &groups {
        let mut row = vec![group.key.design.clone()];
        row.extend(by_process(group).map(told));
        table.rows.push(row);
    }
    (!rows.is_empty() && main.setting.needs_postgres()).then(|| Figure {
        title: "Processor time by process".to_owned(),
        caption:
            "Who does the work of a new job, on one node. The driver’s own time is in none of \
                  these."
                .to_owned(),
        drawings: vec![
            Stacks {
                x: "µs of processor time for a new job",
                parts: parts.map(str::to_owned).into(),
                rows,
            }
            .svg(),
        ],
        table,
        command: shown.command(&["register"]),
    })
}

fn storage(shown: &Shown<'_>) -> Option<Figure> {
    let has_disk =
        |group: &&&Group<'_>| group.points.iter().any(|(_, measured)| measured.disk.is_some());
    let all = shown.of(|key| key.workload == "churn" && key.rate.is_none());
    let one = most_of(&all, |key| (key.setting, key.size));
    let all: Vec<_> =
        all.into_iter().filter(|group| Some((group.key.setting, group.key.size)) == one).collect();
    let mut groups: Vec<&&Group<'_>> = all.iter().filter(has_disk).collect();
    let main;
    if groups.is_empty() {
        main = shown.of(|key| Some(key.of("")) == shown.main);
        groups = main.iter().filter(has_disk).collect();
    }
    let disk =
        |group: &Group<'_>| group.points.iter().find_map(|(_, measured)| measured.disk.clone());
    let mut names: Vec<String> = Vec::new();
    for parts in groups.iter().filter_map(|group| Some(disk(group)?.parts)) {
        for name in parts.into_keys() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
    }
    // From the first written to the last, and what is in no design is not told.
    const ORDER: [&str; 4] = ["rows", "log", "keys", "snapshots"];
    let place = |name: &String| ORDER.iter().position(|known| known == name).unwrap_or(ORDER.len());
    names.sort_unstable_by_key(|name| (place(name), name.clone()));
    let has_any = |name: &String| {
        let of = |group: &&&Group<'_>| disk(group)?.parts.get(name).copied();
        groups.iter().filter_map(of).any(|bytes| bytes > 0)
    };
    names.retain(has_any);
    let mut table = Table::of(&["design", "part", "MB"]);
    let mut rows = Vec::new();
    for group in &groups {
        let Some(disk) = disk(group) else { continue };
        let mb = |bytes: u64| bytes as f64 / 1e6;
        let parts: Vec<f64> =
            names.iter().map(|name| mb(disk.parts.get(name).copied().unwrap_or(0))).collect();
        for (name, part) in names.iter().zip(&parts) {
            table.rows.push(vec![group.key.design.clone(), name.clone(), figure(*part)]);
        }
        rows.push(Stack {
            label: group.key.design.clone(),
            colour: Some(shown.colour(&group.key.design)),
            figure: format!("{} MB", figure(parts.iter().sum())),
            parts,
            is_invalid: shown.look(group) == Look::Invalid,
        });
    }
    let workload = groups.first()?.key.workload.clone();
    let (title, caption) = match workload.as_str() {
        "churn" => (
            "Storage over history",
            "The database after each job was changed ten times, before VACUUM: what a history costs.",
        ),
        _ => ("Storage", "The database after the window of the first block, before VACUUM."),
    };
    Some(Figure {
        title: title.to_owned(),
        caption: caption.to_owned(),
        drawings: vec![Stacks { x: "MB", parts: names, rows }.svg()],
        table,
        command: shown.command(&[&workload]),
    })
}

/// Windows in which something happened: by what happened, each design's drawing.
#[must_use]
pub fn timelines(shown: &Shown<'_>) -> Vec<(String, Vec<Figure>)> {
    let mut all: Vec<(String, Vec<Figure>)> = Vec::new();
    for group in shown.of(Key::has_event) {
        for (_, measured) in &group.points {
            let Some(line) = &measured.timeline else { continue };
            let is_invalid = matches!(measured.verdict, CheckVerdict::Invalid { .. });
            let mut drawn = of_event(shown, group.key, line);
            if is_invalid {
                drawn.title += ": INVALID, the checker found a wrong answer";
            }
            let workload = &group.key.workload;
            match all.iter_mut().find(|(name, _)| name == workload) {
                Some((_, figures)) => figures.push(drawn),
                None => all.push((workload.clone(), vec![drawn])),
            }
        }
    }
    all
}

fn of_event(shown: &Shown<'_>, key: &Key, line: &TimeLine) -> Figure {
    let mut table = Table::of(&["from s", "answered", "refused", "failed", "p50 ms", "slowest ms"]);
    for part in &line.parts {
        let ms = |us: Option<f64>| us.map_or_else(String::new, |us| figure(us / 1e3));
        table.rows.push(vec![
            format!("{:.2}", part.from_seconds),
            part.answered.to_string(),
            part.refused.to_string(),
            part.failed.to_string(),
            ms(part.p50_us),
            ms(part.max_us),
        ]);
    }
    Figure {
        title: key.design.clone(),
        caption: timelines::told(line),
        drawings: vec![timelines::svg(line, shown.colour(&key.design))],
        table,
        command: shown.command(&[&key.workload]),
    }
}
