//! What no design can be quicker than: the echo server under the same load.

use super::comparisons::Group;
use super::results::Key;
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

/// Whether a design that takes so many times the floor is measured less than the driver is.
#[must_use]
pub fn is_driver_limited(times_floor: Option<f64>) -> bool {
    times_floor.is_some_and(|times| times < DRIVER_LIMITED)
}
