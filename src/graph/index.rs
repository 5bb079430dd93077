//! From names to slots, twice: hashed, to find one, and in byte order, to list them.
//!
//! A name is looked up several times for every edge that mentions it. In a tree that is some twenty comparisons of names, each somewhere else in memory;
//! hashed it is one.

use std::ops::Bound;

use imbl::{HashMap, OrdMap};

use super::by_name::positions_by_name;
use super::name::Name;
use super::order::Slot;

/// Persistent: cloning is O(1), a change copies O(log n).
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    hashed: HashMap<Name, Slot>,
    ordered: OrdMap<Name, Slot>,
}

impl NameIndex {
    /// From names and their slots, in any order; the name that comes twice, if one does. O(n log n).
    pub(super) fn new(pairs: &[(Name, Slot)]) -> Result<Self, Name> {
        let mut index = Self::default();
        for (name, slot) in pairs {
            if index.hashed.insert(name.clone(), *slot).is_some() {
                return Err(name.clone());
            }
        }
        // Put in one after the other, so that all but the last way down the tree is never looked at again.
        let in_order = positions_by_name(pairs.iter().map(|(name, _)| name));
        index.ordered = in_order.into_iter().map(|at| pairs[at as usize].clone()).collect();
        Ok(index)
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
