//! What a run says, in sentences that are made from its intervals: which of two ways to store a
//! graph costs less, which way of taking turns serves most and where it loses, and why to believe
//! it.

use super::markup::{capital, figure, whole};
use crate::bench::run::comparisons::{
    Group, differ_in_base, differ_in_durability, per_second, unsound,
};
use crate::bench::run::floors::starved;
use crate::bench::run::results::{CheckVerdict, Compared, Key, Outcome, Results};
use crate::bench::run::setting::Setting;
use crate::bench::run::statistics::{Comparison, Estimate, Order};
use crate::design::{self, ON_A_LOG, ON_ROWS, PAIRS, Pair};
use crate::store::StorageKind;

/// What is at the top of the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Rows, or the log alone?
    pub storage: String,
    /// Which design serves most, and where it does not.
    pub turns: String,
    /// Why to believe it.
    pub trust: String,
    /// What must not be overlooked: a design that is to keep the rules and did not, or a run that
    /// was cut short.
    pub warnings: Vec<String>,
}

/// The load that the first sentences are about: new jobs in closed loop, on servers if they were
/// measured, by as many nodes.
#[must_use]
pub fn main_load<'g>(groups: &[Group<'g>], nodes: impl Fn(u32) -> bool) -> Option<&'g Key> {
    let is_main = |group: &&Group<'g>, setting: Setting| {
        let key = group.key;
        let is_register = key.workload == "register" && key.rate.is_none() && !key.again;
        is_register && key.setting == setting && nodes(key.nodes) && !group.points.is_empty()
    };
    [Setting::POSTGRES, Setting::SQLITE].into_iter().find_map(|setting| {
        let all = groups.iter().filter(|group| is_main(group, setting));
        // As many clients as most designs have.
        let count =
            |key: &Key| groups.iter().filter(|group| group.key.of("") == key.of("")).count();
        all.map(|group| group.key).max_by_key(|key| (count(key), key.nodes))
    })
}

/// The largest number of nodes at which that was measured, if there is more than one.
#[must_use]
pub fn most_nodes(groups: &[Group<'_>]) -> Option<u32> {
    let main = main_load(groups, |nodes| nodes == 1)?;
    let is_like = |group: &&Group<'_>| {
        Key { nodes: 1, ..group.key.of("") } == main.of("") && !group.points.is_empty()
    };
    let nodes = groups.iter().filter(is_like).map(|group| group.key.nodes);
    nodes.max().filter(|nodes| *nodes > 1)
}

impl Answer {
    /// What these results say, in groups, and compared.
    #[must_use]
    pub fn of(results: &Results, groups: &[Group<'_>], compared: &[Compared]) -> Self {
        Self {
            storage: storage(groups, compared),
            turns: turns(groups, results.plan.blocks),
            trust: trust(results),
            warnings: warnings(results),
        }
    }
}

/// Whether the pair differs in this alone: rows with their log, or the log alone.
#[must_use]
pub fn is_about_storage(pair: &Pair) -> bool {
    let storage = |name: &str| design::named(name).map(|design| design.storage);
    storage(pair.first) == Some(StorageKind::Rows) && storage(pair.second) == Some(StorageKind::Log)
}

/// From the least to the most of some ratios, as in `1.20 to 1.41 times`.
fn times(ratios: &[f64]) -> String {
    let low = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let high = ratios.iter().copied().fold(0.0, f64::max);
    let (low, high) = (figure(low), figure(high));
    if low == high { format!("{low} times") } else { format!("{low} to {high} times") }
}

/// How often rows took more processor time than the log alone under all loads, and how often less.
fn under_all_loads(compared: &[Compared]) -> String {
    let is_it = |found: &&Compared| {
        let is_of =
            |pair: &Pair| found.first.design == pair.first && found.second.design == pair.second;
        PAIRS.iter().any(|pair| is_about_storage(pair) && is_of(pair))
    };
    let ratios = compared.iter().filter(is_it).flat_map(|found| &found.ratios);
    let ratios = ratios.filter(|ratio| ratio.figure == "server_us_per_operation");
    let orders: Vec<Order> =
        ratios.map(|ratio| ratio.order).filter(|order| *order != Order::TooFew).collect();
    let count = |order: Order| orders.iter().filter(|found| **found == order).count();
    if orders.len() < 10 {
        return String::new();
    }
    format!(
        " Under all loads, rows took more in {} of {} comparisons, and less in {}; by chance one in \
         twenty differs.",
        count(Order::First),
        orders.len(),
        count(Order::Second)
    )
}

fn storage(groups: &[Group<'_>], compared: &[Compared]) -> String {
    on_main_load(groups, compared) + &under_all_loads(compared)
}

fn on_main_load(groups: &[Group<'_>], compared: &[Compared]) -> String {
    let Some(main) = main_load(groups, |nodes| nodes == 1) else {
        return "This run did not measure what a new job costs, so it does not say whether rows or \
                a log cost less."
            .to_owned();
    };
    let declared: &'static [Pair] = &PAIRS;
    let ratio_of = |pair: &'static Pair| {
        let found = compared.iter().find(|found| {
            found.first == main.of(pair.first) && found.second == main.of(pair.second)
        })?;
        let ratio = found.ratios.iter().find(|ratio| ratio.figure == "server_us_per_operation")?;
        // What rows take, in times of the log.
        (ratio.order != Order::TooFew).then_some((pair, ratio))
    };
    let all: Vec<_> =
        declared.iter().filter(|pair| is_about_storage(pair)).filter_map(ratio_of).collect();
    if all.is_empty() {
        return "No design on rows was compared with the same design on a log, in enough blocks, so \
                this run does not say which of the two costs less."
            .to_owned();
    }
    let told = |order: Order| {
        let of_order = all.iter().filter(move |(_, ratio)| ratio.order == order);
        let medians: Vec<f64> = of_order.map(|(_, ratio)| ratio.median).collect();
        medians
    };
    let (rows_more, log_more) = (told(Order::First), told(Order::Second));
    let turned: Vec<f64> = log_more.iter().map(|median| 1.0 / median).collect();
    let pairs = all.len();
    let setting = main.setting.title();
    let place = format!("on {}", setting.trim_start_matches(", "));
    let same = format!("with the same way of taking turns, {place}");
    let (rows, log) = (ON_ROWS, ON_A_LOG);
    let rows_take = format!(
        "rows beside a log take {} the servers’ processor time of the log alone for a new job",
        times(&rows_more)
    );
    let log_takes = format!(
        "the log alone takes {} the servers’ processor time of rows beside a log for a new job",
        times(&turned)
    );
    let in_all = match pairs {
        1 => "in the one pair of designs that could be compared".to_owned(),
        pairs if pairs == declared.iter().filter(|pair| is_about_storage(pair)).count() => {
            format!("in all {pairs} pairs of designs")
        }
        pairs => format!("in all {pairs} pairs of designs that could be compared"),
    };
    let in_some = |count: usize| {
        format!("in {count} of {pairs} pairs of designs; in the others the two are not told apart")
    };
    match (rows_more.len(), log_more.len()) {
        (0, 0) => {
            let ends = all.iter().flat_map(|(_, ratio)| [ratio.low, ratio.high]);
            format!(
                "{rows} and {log}: no difference detected. {}, none was found {}; on one node, rows \
                 beside a log may take {} the servers’ processor time of the log alone for a new \
                 job.",
                capital(&same),
                in_all.replacen("in all ", "in any of the ", 1),
                times(&ends.collect::<Vec<_>>())
            )
        }
        (count, 0) if count == pairs => {
            format!("{} costs less than {rows}: {same}, {rows_take}, {in_all}.", capital(log))
        }
        (0, count) if count == pairs => {
            format!("{rows} costs less than {log}: {same}, {log_takes}, {in_all}.")
        }
        (count, 0) => format!(
            "{} costs less than {rows} in some ways of taking turns: {place}, {rows_take}, {}.",
            capital(log),
            in_some(count)
        ),
        (0, count) => format!(
            "{rows} costs less than {log} in some ways of taking turns: {place}, {log_takes}, {}.",
            in_some(count)
        ),
        (_, _) => {
            let named = |order: Order| {
                let pairs = all.iter().filter(move |(_, ratio)| ratio.order == order);
                pairs.map(|(pair, _)| pair.second).collect::<Vec<_>>().join(" and ")
            };
            format!(
                "Whether {rows} or {log} costs less depends on how nodes take turns: {place}, for a \
                 new job, {} takes less of the servers’ processor time than the same design on rows, \
                 and {} takes more.",
                named(Order::First),
                named(Order::Second)
            )
        }
    }
}

/// What one serves in times of the other, block by block; nothing where what answers survive, or
/// what they began with, is not the same.
#[must_use]
pub fn served_in_times(one: &Group<'_>, other: &Group<'_>) -> Option<Comparison> {
    if differ_in_durability(one, other).is_some() || differ_in_base(one, other) {
        return None;
    }
    let pairs = one.points.iter().filter_map(|(point, measured)| {
        let same = other.points.iter().find(|(found, _)| found.block == point.block)?;
        Some((measured.figures.per_second, same.1.figures.per_second))
    });
    Comparison::of(&pairs.collect::<Vec<_>>())
}

fn is_sound(group: &Group<'_>, blocks: u32) -> bool {
    let is_sound = design::named(&group.key.design).is_none_or(|design| design.is_sound());
    is_sound && !group.key.is_floor() && !group.key.again && unsound(group, blocks).is_none()
}

fn turns(groups: &[Group<'_>], blocks: u32) -> String {
    let most = most_nodes(groups).unwrap_or(1);
    let Some(main) = main_load(groups, |nodes| nodes == 1) else {
        return "It does not say either which design serves most.".to_owned();
    };
    let of_load = |load: &Key| {
        let all =
            groups.iter().filter(|group| group.key.of("") == *load && is_sound(group, blocks));
        let mut all: Vec<(&Group<'_>, f64)> =
            all.filter_map(|group| Some((group, group.estimate(per_second)?.median))).collect();
        all.sort_by(|one, other| other.1.total_cmp(&one.1));
        all
    };
    let all = of_load(&Key { nodes: most, ..main.of("") });
    let [(best, rate), others @ ..] = &all[..] else {
        return "No design was measured well, so none is told to serve most.".to_owned();
    };
    let compared: Vec<(&Group<'_>, Comparison)> = others
        .iter()
        .filter_map(|(other, _)| Some((*other, served_in_times(best, other)?)))
        .collect();
    if compared.is_empty() {
        return "Fewer than two designs could be compared, so none is told to serve most."
            .to_owned();
    }
    let name = &best.key.design;
    let place = match most {
        1 => "On one node".to_owned(),
        nodes => format!("On {nodes} nodes that all write"),
    };
    let rate = figure(*rate);
    if compared.iter().any(|(_, found)| found.order == Order::TooFew) {
        return format!(
            "{place}, {name} served most, {rate} new jobs a second, in too few blocks to say that it \
             does."
        );
    }
    let less = compared.iter().find(|(_, found)| found.order == Order::First);
    let less = less.map(|(group, found)| {
        let Estimate { median, low, high, .. } = found.ratio;
        let [median, low, high] = [median, low, high].map(figure);
        (format!("{median} times ({low}–{high}) those of"), group.key.design.as_str())
    });
    // The best by its median need not be told from others by the blocks.
    let tied = compared.iter().filter(|(_, found)| found.order != Order::First);
    let tied: Vec<&str> = tied.map(|(group, _)| group.key.design.as_str()).collect();
    let lead = match (&tied[..], less) {
        ([], Some((times, next))) => {
            format!(
                "{place}, {name} serves most: {rate} new jobs a second, {times} the next, {next}."
            )
        }
        (tied, less) => {
            let less = less.map_or_else(String::new, |(times, other)| format!(", {times} {other}"));
            format!(
                "{place}, {name} and {} serve most, with no difference detected: {name} {rate} new \
                 jobs a second{less}.",
                tied.join(" and ")
            )
        }
    };
    let starving: Vec<&str> = all
        .iter()
        .filter(|(group, _)| 2 * starved(group) > group.points.len())
        .map(|(group, _)| group.key.design.as_str())
        .collect();
    let starving = match starving.is_empty() {
        true => String::new(),
        false => format!(
            " There, {} left the clients of some nodes next to nothing.",
            starving.join(" and ")
        ),
    };
    lead + &starving + &loses(groups, best, &of_load, blocks)
}

/// Under which loads another design serves more.
fn loses<'g>(
    groups: &'g [Group<'g>],
    best: &Group<'_>,
    of_load: &dyn Fn(&Key) -> Vec<(&'g Group<'g>, f64)>,
    blocks: u32,
) -> String {
    let name = &best.key.design;
    let is_closed_loop = |key: &Key| {
        key.rate.is_none() && key.requests().is_none() && !key.is_start() && !key.has_event()
    };
    let own = groups.iter().filter(|group| group.key.design == *name && is_sound(group, blocks));
    let own: Vec<&Group<'_>> = own.filter(|group| is_closed_loop(group.key)).collect();
    let mut lost: Vec<(f64, String)> = Vec::new();
    for group in &own {
        let winner = of_load(&group.key.of("")).into_iter().find_map(|(other, _)| {
            let found = served_in_times(other, group)?;
            (found.order == Order::First).then_some((other, found.ratio))
        });
        let Some((other, ratio)) = winner else { continue };
        let Key { workload, nodes, writers, setting, .. } = group.key;
        let nodes = if *nodes == 1 { "one node".to_owned() } else { format!("{nodes} nodes") };
        let what = format!(
            "with {workload} of {writers} clients on {nodes}{}, where {} serves {} times ({}–{}) as \
             many",
            setting.title(),
            other.key.design,
            figure(ratio.median),
            figure(ratio.low),
            figure(ratio.high)
        );
        lost.push((ratio.median, what));
    }
    lost.sort_by(|one, other| other.0.total_cmp(&one.0));
    let loads = own.len();
    match &lost[..] {
        [] => format!(
            " Under none of {loads} loads at which it could be compared was another design told to serve \
             more."
        ),
        [(_, most), ..] => {
            format!(
                " {name} serves less than another design under {} of {loads} loads at which it could \
                 be compared: least {most}.",
                lost.len()
            )
        }
    }
}

fn trust(results: &Results) -> String {
    let measured = results.points.iter().filter_map(|point| match &point.outcome {
        Outcome::Measured(measured) => Some((point, measured)),
        Outcome::Failed { .. } => None,
    });
    let broken = |design: &str| design::named(design).is_some_and(|design| !design.is_sound());
    let (mut valid, mut caught, mut let_through) = (0_usize, 0_usize, 0_usize);
    for (point, measured) in measured {
        match (&measured.verdict, broken(&point.key.design)) {
            (CheckVerdict::Valid { .. }, false) => valid += 1,
            (CheckVerdict::Invalid { .. }, true) => caught += 1,
            (CheckVerdict::Valid { .. }, true) => let_through += 1,
            _ => {}
        }
    }
    let checked = match (valid, results.plan.checks) {
        (0, _) => {
            "No answer was found to be right in this run, so nothing of it is to be believed."
                .to_owned()
        }
        (valid, _) => {
            format!("Every answer behind {} measurements was judged, and right", whole(valid))
        }
    };
    let caught = match (caught, let_through) {
        (0, 0) => ".".to_owned(),
        (0, _) => "; the design that is wrong on purpose was not caught this time.".to_owned(),
        (count, _) => {
            format!(
                "; the design that is wrong on purpose was caught at {count} of {} points.",
                count + let_through
            )
        }
    };
    let cores = results.machine.cores;
    let caught = if valid == 0 { String::new() } else { caught };
    format!(
        "{checked}{caught} Servers and driver share {cores} cores: ratios say more of other machines \
         than requests a second do."
    )
}

fn warnings(results: &Results) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut invalid: Vec<(&str, Vec<&str>)> = Vec::new();
    for point in &results.points {
        let is_sound = design::named(&point.key.design).is_none_or(|design| design.is_sound());
        let Outcome::Measured(measured) = &point.outcome else { continue };
        if is_sound && matches!(measured.verdict, CheckVerdict::Invalid { .. }) {
            let Key { design, workload, .. } = &point.key;
            match invalid.iter_mut().find(|(name, _)| name == design) {
                Some((_, under)) if under.contains(&workload.as_str()) => {}
                Some((_, under)) => under.push(workload),
                None => invalid.push((design, vec![workload])),
            }
        }
    }
    for (design, under) in invalid {
        warnings.push(format!(
            "{design} is INVALID in {}: the checker found a wrong answer. Its figures there are \
             hatched, and compared with nothing; believe none of its others.",
            under.join(", ")
        ));
    }
    let failed = results.points.iter().filter(|point| point.failure().is_some()).count();
    if failed > 0 {
        let all = results.points.len();
        warnings.push(format!("No figures, or no verdict on them, at {failed} of {all} points."));
    }
    if !results.complete {
        let (points, planned) = (results.points.len(), results.plan.points);
        warnings.push(format!("The run is not complete: {points} of {planned} points."));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::super::super::made_up;
    use super::super::markup::whole;
    use super::*;
    use crate::bench::run::comparisons::{comparisons, groups};

    /// Results of all that `quick` measures of `register`, with so many requests a second by
    /// design.
    fn results(rate: impl Fn(&str) -> f64) -> Results {
        made_up::rated("run --workloads register", |key, _| rate(&key.design))
    }

    fn of(results: &Results) -> Answer {
        let compared = comparisons(&results.points, results.plan.blocks);
        Answer::of(results, &groups(&results.points), &compared)
    }

    fn is_log(design: &str) -> bool {
        design::named(design).is_some_and(|design| design.storage == StorageKind::Log)
    }

    #[test]
    fn whichever_costs_less_is_told_with_how_much() {
        let log_wins = |design: &str| if is_log(design) { 2_000.0 } else { 1_600.0 };
        let said = of(&results(log_wins)).storage;
        assert!(said.starts_with(&format!("Event sourcing costs less than {ON_ROWS}: ")), "{said}");
        assert!(said.contains("take 1.25 times the servers’ processor time"), "{said}");
        assert!(said.contains("on SQLite") && said.contains("in all 3 pairs"), "{said}");
        let rows_win = |design: &str| if is_log(design) { 1_600.0 } else { 2_000.0 };
        let said = of(&results(rows_win)).storage;
        assert!(said.starts_with(&format!("{ON_ROWS} costs less than {ON_A_LOG}: ")), "{said}");
        assert!(said.contains("the log alone takes 1.25 times"), "{said}");
        // In one pair of three.
        let some = |design: &str| if design == PAIRS[2].second { 2_000.0 } else { 1_600.0 };
        let mut some = results(some);
        for point in &mut some.points {
            let is_other = [PAIRS[3].second, PAIRS[4].second].contains(&point.key.design.as_str());
            if is_other && point.block % 2 == 0 {
                let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
                **measured = made_up::measurement(1_700.0);
            } else if is_other {
                let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
                **measured = made_up::measurement(1_500.0);
            }
        }
        let said = of(&some).storage;
        assert!(said.contains("in some ways of taking turns: "), "{said}");
        assert!(said.contains("in 1 of 3 pairs of designs; in the others"), "{said}");
    }

    #[test]
    fn where_it_depends_on_turns_both_are_named() {
        let rate = |design: &str| match design {
            design if design == PAIRS[2].second => 2_000.0,
            design if is_log(design) => 1_300.0,
            _ => 1_600.0,
        };
        let said = of(&results(rate)).storage;
        assert!(said.contains("depends on how nodes take turns"), "{said}");
        let less = said.find(PAIRS[2].second).unwrap();
        assert!(less < said.find(PAIRS[3].second).unwrap(), "{said}");
    }

    #[test]
    fn what_is_not_told_apart_is_a_tie() {
        let rate = |key: &Key, block: u32| match (is_log(&key.design), block % 2) {
            (false, _) => 1_000.0,
            (true, 0) => 1_100.0,
            (true, _) => 950.0,
        };
        let results = made_up::rated("run --workloads register", rate);
        let said = of(&results).storage;
        let tie = format!("{ON_ROWS} and {ON_A_LOG}: no difference detected. ");
        assert!(said.starts_with(&tie), "{said}");
        assert!(said.contains("may take 0.95 to 1.10 times"), "{said}");
    }

    #[test]
    fn the_design_that_serves_most_is_named_with_where_it_loses() {
        let best = PAIRS[4].second;
        let rate = |key: &Key| match (key.design == best, key.workload == "reads") {
            (true, false) => 3_000.0,
            (true, true) => 500.0,
            (false, _) => 1_000.0,
        };
        let results = made_up::rated("run --workloads register,reads", |key, _| rate(key));
        let said = of(&results).turns;
        assert!(said.starts_with(&format!("On one node, {best} serves most: ")), "{said}");
        assert!(said.contains("3.00 times (3.00–3.00) those of the next"), "{said}");
        let least = "under 1 of 2 loads at which it could be compared: least with reads of 8 clients \
                     on one node";
        assert!(said.contains(least), "{said}");
        assert!(said.contains("serves 2.00 times (2.00–2.00) as many"), "{said}");
    }

    #[test]
    fn a_design_that_gave_a_wrong_answer_is_told_first() {
        let mut results = results(|_| 1_000.0);
        let name = PAIRS[0].first;
        let point = results.points.iter_mut().find(|point| point.key.design == name).unwrap();
        let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
        let (kind, finding) = ("stale-answer".to_owned(), String::new());
        measured.verdict = CheckVerdict::Invalid { kind, finding };
        let answer = of(&results);
        assert!(
            answer.warnings[0].starts_with(&format!("{name} is INVALID in register")),
            "{answer:?}"
        );
        assert!(!answer.turns.contains(&format!("{name} serves most")), "{answer:?}");
    }

    #[test]
    fn a_design_that_is_not_told_from_all_others_does_not_serve_most_alone() {
        // The next by the median is told from the best, and one after it is not.
        let (best, next, wild) = (PAIRS[4].second, PAIRS[2].second, PAIRS[3].second);
        let results = made_up::rated("run --workloads register", |key, block| {
            match (key.design.as_str(), block % 3) {
                (design, _) if design == best => 1_000.0,
                (design, _) if design == next => 950.0,
                (design, 0) if design == wild => 1_200.0,
                (design, _) if design == wild => 940.0,
                _ => 500.0,
            }
        });
        let said = of(&results).turns;
        let both =
            format!("On one node, {best} and {wild} serve most, with no difference detected");
        assert!(said.starts_with(&both), "{said}");
        assert!(said.contains(&format!("those of {next}.")), "{said}");
    }

    #[test]
    fn what_does_not_survive_the_same_is_not_compared() {
        let (best, other) = (PAIRS[4].second, PAIRS[2].second);
        let mut results = made_up::rated("run --workloads register", |key, _| {
            if key.design == best { 2_000.0 } else { 1_000.0 }
        });
        results.points.retain(|point| [best, other].contains(&point.key.design.as_str()));
        for point in results.points.iter_mut().filter(|point| point.key.design == best) {
            point.durability = "sqlite: nothing".to_owned();
        }
        let said = of(&results).turns;
        assert!(said.starts_with("Fewer than two designs could be compared"), "{said}");
    }

    #[test]
    fn where_nothing_was_found_right_nothing_is_to_be_believed() {
        let mut results = results(|_| 1_000.0);
        for point in &mut results.points {
            let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
            measured.verdict = CheckVerdict::Failed { why: "it took too long".to_owned() };
        }
        let said = of(&results).trust;
        assert!(said.starts_with("No answer was found to be right in this run"), "{said}");
        assert_eq!([7, 18, 1_610, 1_234_567].map(whole), ["7", "18", "1,610", "1,234,567"]);
    }

    #[test]
    fn a_run_of_few_blocks_says_nothing_of_designs() {
        let results = made_up::rated("run --workloads register --blocks 2", |_, _| 1_000.0);
        let answer = of(&results);
        assert!(answer.storage.starts_with("No design on rows was compared"), "{answer:?}");
        assert!(answer.turns.contains("in too few blocks"), "{answer:?}");
    }
}
