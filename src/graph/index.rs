//! From names to slots, twice: hashed, to find one, and in byte order, to list them.
//!
//! A name is looked up several times for every edge that mentions it. In a tree that is some twenty comparisons of names, each somewhere else in memory;
//! hashed it is one.

use std::ops::Bound;

use imbl::{HashMap, OrdMap};

use super::name::Name;
use super::order::Slot;

/// Persistent: cloning is O(1), a change copies O(log n).
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    hashed: HashMap<Name, Slot>,
    ordered: OrdMap<Name, Slot>,
}

impl NameIndex {
    /// From pairs in byte order of names, no name twice.
    pub(super) fn from_sorted(pairs: &[(Name, Slot)]) -> Self {
        debug_assert!(pairs.is_sorted_by(|a, b| a.0 < b.0));
        Self { hashed: pairs.iter().cloned().collect(), ordered: pairs.iter().cloned().collect() }
    }

    pub(super) fn get(&self, name: &str) -> Option<Slot> {
        self.hashed.get(name).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.hashed.len()
    }

    pub(super) fn insert(&mut self, name: &Name, slot: Slot) {
        self.hashed.insert(name.clone(), slot);
        self.ordered.insert(name.clone(), slot);
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Slot> {
        self.ordered.remove(name);
        self.hashed.remove(name)
    }

    /// The slots of the names from `from` on, in byte order of names.
    pub(super) fn slots_from(&self, from: Bound<&str>) -> impl Iterator<Item = Slot> + '_ {
        self.ordered.range::<_, str>((from, Bound::Unbounded)).map(|(_, &slot)| slot)
    }
}
