//! Circles of arrows.

use std::collections::{BTreeMap, BTreeSet};

/// The sets of names that reach each other, each sorted. `used`: whom each name uses.
pub fn circles(used: &BTreeMap<String, BTreeSet<String>>) -> Vec<Vec<String>> {
    let reached: BTreeMap<&String, BTreeSet<&String>> =
        used.keys().map(|name| (name, reached_from(name, used))).collect();
    let reaches =
        |from: &String, to: &String| reached.get(from).is_some_and(|all| all.contains(to));
    let mut found: BTreeSet<Vec<String>> = BTreeSet::new();
    for name in used.keys().filter(|name| reaches(name, name)) {
        let circle = used.keys().filter(|other| reaches(name, other) && reaches(other, name));
        found.insert(circle.cloned().collect());
    }
    found.into_iter().collect()
}

fn reached_from<'u>(
    start: &String,
    used: &'u BTreeMap<String, BTreeSet<String>>,
) -> BTreeSet<&'u String> {
    let mut reached = BTreeSet::new();
    let mut waiting: Vec<&String> = used.get(start).into_iter().flatten().collect();
    while let Some(name) = waiting.pop() {
        if reached.insert(name) {
            waiting.extend(used.get(name).into_iter().flatten());
        }
    }
    reached
}
