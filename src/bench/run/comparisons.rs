//! Which measurements are compared, and what that shows. docs/METHOD.md says why so.

use std::collections::BTreeMap;

use super::figures::Figures;
use super::results::{
    CheckVerdict, Compared, Key, Measurement, NotCompared, Outcome, Point, Ratio, family_of,
};
use super::statistics::{Comparison, Estimate};
use crate::design::PAIRS;

/// Of a compared design, at most this share of requests was refused or failed.
const UNSERVED: f64 = 0.01;
/// Fewer requests than this in a window are too few for a rate.
const FEWEST_REQUESTS: u64 = 20;

/// Points that are repetitions of each other.
pub struct Group<'r> {
    /// What was measured.
    pub key: &'r Key,
    /// Those that have figures.
    pub points: Vec<(&'r Point, &'r Measurement)>,
    /// Of the others, why not.
    pub failed: Vec<&'r str>,
}

impl Group<'_> {
    /// The median of a figure of its points, with its interval.
    pub fn estimate(&self, of: impl Fn(&Measurement) -> Option<f64>) -> Option<Estimate> {
        let figures = self.points.iter().filter_map(|(_, measured)| of(measured));
        Estimate::of(&figures.collect::<Vec<_>>())
    }
}

/// All groups, those of the same load beside each other.
#[must_use]
pub fn groups(points: &[Point]) -> Vec<Group<'_>> {
    let mut groups: BTreeMap<&Key, Group<'_>> = BTreeMap::new();
    for point in points {
        let group = groups.entry(&point.key).or_insert_with(|| Group {
            key: &point.key,
            points: Vec::new(),
            failed: Vec::new(),
        });
        match &point.outcome {
            Outcome::Measured(measured) => group.points.push((point, measured)),
            Outcome::Failed { why } => group.failed.push(why),
        }
    }
    groups.into_values().collect()
}

/// What was asked of designs: each load once, as a key without a design.
#[must_use]
pub fn loads(groups: &[Group<'_>]) -> Vec<Key> {
    let mut loads: Vec<Key> = groups.iter().map(|group| group.key.of("")).collect();
    loads.dedup();
    loads
}

/// A figure by which measurements are compared.
pub struct ComparedFigure {
    /// As in the results.
    pub name: &'static str,
    /// As in tables.
    pub title: &'static str,
    of: fn(&Measurement) -> Option<f64>,
}

const FIRST_ANSWER: ComparedFigure = ComparedFigure {
    name: "first_answer_seconds",
    title: "first answer",
    of: Measurement::first_answer_seconds,
};
const SERVER: ComparedFigure =
    ComparedFigure { name: "server_us_per_operation", title: "server µs", of: server_us };
const PER_SECOND: ComparedFigure =
    ComparedFigure { name: "per_second", title: "a second", of: per_second };
const P50: ComparedFigure = ComparedFigure {
    name: "p50_us",
    title: "p50",
    of: |measured| Some(measured.figures.latency?.p50_us),
};

/// The figures by which designs are compared under that load.
#[must_use]
pub fn figures_of(load: &Key) -> Vec<ComparedFigure> {
    match load.rate {
        _ if load.is_start() => vec![FIRST_ANSWER],
        Some(_) => vec![P50, SERVER],
        None => vec![PER_SECOND, SERVER],
    }
}

/// What was served in a second.
#[must_use]
pub fn per_second(measured: &Measurement) -> Option<f64> {
    Some(measured.figures.per_second)
}

/// Nothing where nothing was done, or the kernel has counted nothing.
#[must_use]
pub fn server_us(measured: &Measurement) -> Option<f64> {
    Some(measured.figures.server_us_per_operation).filter(|us| *us > 0.0)
}

/// All pairs of designs that differ in one choice and were measured under the same load, and each
/// design that was measured twice with itself. `blocks`: how many were planned. O(points), and some
/// thousand drawings of the ratios of each.
#[must_use]
pub fn comparisons(points: &[Point], blocks: u32) -> Vec<Compared> {
    let groups = groups(points);
    let mut all = Vec::new();
    // What happens in the middle of a window happens to each design in its own way.
    for load in loads(&groups).into_iter().filter(|load| !load.has_event()) {
        let of = |key: &Key| groups.iter().find(|group| group.key == key);
        let declared = PAIRS.iter().map(|pair| (load.of(pair.first), load.of(pair.second)));
        let again = groups.iter().map(|group| group.key);
        let again = again.filter(|key| key.again && key.of("") == load);
        let twice = again.map(|key| (load.of(&key.design), key.clone()));
        for (first, second) in declared.chain(twice) {
            let both = of(&first).zip(of(&second));
            all.extend(both.map(|(first, second)| compared(first, second, blocks)));
        }
    }
    all
}

/// What the points say of a pair.
#[must_use]
pub fn compared(first: &Group<'_>, second: &Group<'_>, blocks: u32) -> Compared {
    let not_compared = unsound(first, blocks).or_else(|| unsound(second, blocks)).or_else(|| {
        // What does not survive the same failures has not done the same work.
        let durability = differ_in_durability(first, second).map(|_| NotCompared::Durability);
        durability.or_else(|| differ_in_base(first, second).then_some(NotCompared::Base))
    });
    let figures = if not_compared.is_some() { Vec::new() } else { figures_of(first.key) };
    let ratios = figures.iter().filter_map(|figure| ratio(first, second, figure)).collect();
    Compared { first: first.key.clone(), second: second.key.clone(), not_compared, ratios }
}

/// The two that are not the same, of what answers survive at these points.
#[must_use]
pub fn differ_in_durability<'r>(first: &Group<'r>, second: &Group<'r>) -> Option<[&'r str; 2]> {
    let all = first.points.iter().chain(&second.points);
    let mut all = all.map(|(point, _)| point.durability.as_str());
    let durability = all.next()?;
    let other = all.find(|other| *other != durability)?;
    Some([durability, other])
}

/// Whether not all of these points began with the same graph.
#[must_use]
pub fn differ_in_base(first: &Group<'_>, second: &Group<'_>) -> bool {
    let all = first.points.iter().chain(&second.points);
    let mut all = all.map(|(point, _)| point.base.as_deref().map(family_of));
    let base = all.next();
    all.any(|other| Some(other) != base)
}

/// Block by block: each pair of one block was measured with the same seed, shortly after the other.
fn ratio(first: &Group<'_>, second: &Group<'_>, figure: &ComparedFigure) -> Option<Ratio> {
    let of = |group: &Group<'_>| -> BTreeMap<u32, f64> {
        let figures = group.points.iter();
        let found = |(point, measured): &(&Point, &Measurement)| {
            Some((point.block, (figure.of)(measured)?))
        };
        figures.filter_map(found).collect()
    };
    let (first, second) = (of(first), of(second));
    let both: Vec<(f64, f64)> =
        first.iter().filter_map(|(block, one)| Some((*one, *second.get(block)?))).collect();
    let Comparison { ratio, order } = Comparison::of(&both)?;
    let Estimate { median, low, high, count, .. } = ratio;
    Some(Ratio { figure: figure.name.to_owned(), blocks: count, median, low, high, order })
}

/// Why a group may not be compared.
#[must_use]
pub fn unsound(group: &Group<'_>, blocks: u32) -> Option<NotCompared> {
    if group.points.len() < blocks as usize {
        return Some(NotCompared::Incomplete);
    }
    let starts = group.key.is_start();
    for (_, measured) in &group.points {
        match &measured.verdict {
            CheckVerdict::Invalid { .. } => return Some(NotCompared::Invalid),
            CheckVerdict::Failed { .. } => return Some(NotCompared::NotJudged),
            CheckVerdict::NotApplicable if group.key.has_answers() => {
                return Some(NotCompared::NotChecked);
            }
            CheckVerdict::Valid { .. } | CheckVerdict::NotApplicable => {}
        }
        let Figures { saturated, refused, failed, completed, .. } = measured.figures;
        if saturated {
            return Some(NotCompared::Saturated);
        }
        let others = refused + failed;
        if (others as f64) > UNSERVED * (others + completed) as f64 {
            return Some(NotCompared::RefusedOrFailed);
        }
        let fewest = group.key.requests().unwrap_or(FEWEST_REQUESTS);
        let counts_requests = !starts && measured.raw.operations.is_none();
        if completed < fewest && counts_requests {
            return Some(NotCompared::FewRequests);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::super::made_up;
    use super::*;

    #[test]
    fn what_was_not_measured_in_every_block_is_not_compared() {
        let mut results = made_up::pair(&[2_000.0; 7], |_| {});
        assert!(comparisons(&results.points, 7)[0].not_compared.is_none());
        // One of the two in one block, then both: as after Ctrl-C.
        for _ in 0..2 {
            results.points.pop();
            let [pair] = &comparisons(&results.points, 7)[..] else { panic!("one pair") };
            assert!(pair.ratios.is_empty());
            assert_eq!(pair.not_compared, Some(NotCompared::Incomplete));
        }
    }

    #[test]
    fn only_rates_of_requests_need_many_requests() {
        let few = |workload: &str, change: fn(&mut Measurement)| {
            let mut results = made_up::pair(&[2_000.0; 6], |_| {});
            for point in &mut results.points {
                point.key.workload = workload.to_owned();
                let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
                change(measured);
            }
            let [pair] = &comparisons(&results.points, 6)[..] else { panic!("one pair") };
            let figures: Vec<String> = pair.ratios.iter().map(|it| it.figure.clone()).collect();
            (pair.not_compared, figures)
        };
        let rates = || vec![PER_SECOND.name.to_owned(), SERVER.name.to_owned()];
        let found = few("register", |measured| measured.figures.completed = 20);
        assert_eq!(found, (None, rates()));
        let found = few("register", |measured| measured.figures.completed = 19);
        assert_eq!(found, (Some(NotCompared::FewRequests), vec![]));
        let found = few("import", |measured| {
            (measured.figures.completed, measured.raw.operations) = (1, Some(1_000));
        });
        assert_eq!(found, (None, rates()));
        let found = few("start", |measured| {
            measured.verdict = CheckVerdict::NotApplicable;
            measured.figures.completed = 0;
        });
        assert_eq!(found, (None, vec![FIRST_ANSWER.name.to_owned()]));
    }

    #[test]
    fn what_the_kernel_has_not_counted_is_not_compared() {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        for point in &mut results.points {
            let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
            measured.figures.server_us_per_operation = 0.0;
        }
        let [pair] = &comparisons(&results.points, 6)[..] else { panic!("one pair") };
        assert_eq!((pair.not_compared, pair.ratios.len()), (None, 1));
    }

    #[test]
    fn designs_at_a_rate_are_compared_by_latency_and_pairs_block_by_block() {
        let mut results = made_up::pair(&[2_000.0, 500.0, 3_000.0], |_| {});
        for point in &mut results.points {
            point.key.rate = Some(1_000);
        }
        let [pair] = &comparisons(&results.points, 3)[..] else { panic!("one pair") };
        let figures: Vec<&str> = pair.ratios.iter().map(|ratio| ratio.figure.as_str()).collect();
        assert_eq!(figures, [P50.name, SERVER.name]);
        for point in &mut results.points {
            point.key.rate = None;
        }
        let [pair] = &comparisons(&results.points, 3)[..] else { panic!("one pair") };
        assert_eq!((pair.ratios[0].median, pair.ratios[0].blocks), (2.0, 3));
    }

    #[test]
    fn what_survives_different_failures_is_not_compared() {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        assert!(comparisons(&results.points, 6)[0].not_compared.is_none());
        results.points[3].durability = "nothing".to_owned();
        let [pair] = &comparisons(&results.points, 6)[..] else { panic!("one pair") };
        assert!(pair.ratios.is_empty() && pair.not_compared == Some(NotCompared::Durability));
    }

    #[test]
    fn what_began_with_another_graph_is_not_compared() {
        let mut results = made_up::pair(&[2_000.0; 6], |_| {});
        for (base, expected) in [
            ("chain-10/another storage", None),
            ("chain-10-churned-10/rows", Some(NotCompared::Base)),
        ] {
            results.points[3].base = Some(base.to_owned());
            let [pair] = &comparisons(&results.points, 6)[..] else { panic!("one pair") };
            assert_eq!((pair.not_compared, pair.ratios.is_empty()), (expected, expected.is_some()));
        }
    }
}
