//! What must be known to read figures: what no design can be quicker than (the echo server under
//! the same load), and whether all nodes were served.

use super::comparisons::Group;
use super::results::{Key, Measurement};
use super::statistics::median;
use super::workloads::{self, Measures};

/// Below this many times the floor, a point says more of the driver than of the design.
const DRIVER_LIMITED: f64 = 2.0;

/// The echo server, where it was measured under the same load. A floor has none.
#[must_use]
pub fn floor_of<'g, 'r>(load: &Key, groups: &'g [Group<'r>]) -> Option<&'g Group<'r>> {
    let workload = workloads::named(&load.workload);
    let floor = workload.filter(|known| known.measures == Measures::Requests)?.floor().name;
    let like = |group: &&Group<'_>| {
        group.key.design == "echo"
            && group.key.workload == floor
            && group.key.rate == load.rate
            && group.key.writers == load.writers
    };
    groups.iter().find(like)
}

/// The time that one request takes of all clients, in times of the echo server's; nothing where
/// requests come at a rate.
#[must_use]
pub fn times_floor(group: &Group<'_>, groups: &[Group<'_>]) -> Option<f64> {
    if group.key.rate.is_some() {
        return None;
    }
    let per_second = |group: &Group<'_>| {
        let rates = group.points.iter().map(|(_, measured)| measured.figures.per_second);
        median(&rates.collect::<Vec<_>>())
    };
    let (floor, own) = (per_second(floor_of(group.key, groups)?)?, per_second(group)?);
    (own > 0.0).then(|| floor / own)
}

/// A node whose clients got less than this part of an equal share was starved.
const STARVED: f64 = 0.1;

/// At how many points of a group one of several nodes was starved: its clients waited all the time
/// while those of others were served. What is said of latencies says nothing of them.
#[must_use]
pub fn starved(group: &Group<'_>) -> usize {
    let Key { nodes, .. } = *group.key;
    let is_starved = |measured: &Measurement| {
        let share = measured.raw.least_share(nodes, measured.figures.completed);
        share.is_some_and(|share| share < STARVED)
    };
    // When something happens, nodes go and come.
    let all = group.points.iter().filter(|_| !group.key.has_event());
    all.filter(|(_, measured)| is_starved(measured)).count()
}

/// Whether a design that takes so many times the floor is measured less than the driver is.
#[must_use]
pub fn is_driver_limited(times_floor: Option<f64>) -> bool {
    times_floor.is_some_and(|times| times < DRIVER_LIMITED)
}

#[cfg(test)]
mod tests {
    use super::super::comparisons::groups;
    use super::super::made_up;
    use super::super::results::Outcome;
    use super::*;

    #[test]
    fn a_node_that_gets_next_to_nothing_is_starved_and_one_that_gets_less_is_not() {
        let mut results = made_up::rated("run --workloads turns", |_, _| 1_000.0);
        let count = 2_000;
        let histogram = |count: u64| match count {
            0 => "ns3".to_owned(),
            count => format!("ns3 1000:{count}"),
        };
        for (shares, is_starved) in [
            (vec![count / 2, count / 2], false),
            (vec![count / 5, count * 4 / 5], false),
            (vec![0, count], true),
            // The second is not told, and neither is the first if it is the only one.
            (vec![count], true),
            (vec![], true),
        ] {
            for point in &mut results.points {
                let Outcome::Measured(measured) = &mut point.outcome else { panic!() };
                measured.figures.completed = count;
                measured.raw.by_node = shares.iter().copied().map(histogram).collect();
            }
            for group in groups(&results.points).iter().filter(|group| !group.key.is_floor()) {
                let expected = if is_starved { group.points.len() } else { 0 };
                assert_eq!(starved(group), expected, "{shares:?}");
            }
        }
        let mut alone = made_up::rated("run --workloads register", |_, _| 1_000.0);
        alone.points.retain(|point| !point.key.is_floor());
        assert!(groups(&alone.points).iter().all(|group| starved(group) == 0));
    }
}
