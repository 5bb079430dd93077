//! From names to slots, twice: hashed, to find one, and in byte order, to list them.
//!
//! A name is looked up several times for every edge that mentions it. In a tree of many that is
//! some twenty comparisons of names, each somewhere else in memory; hashed it is one. Of few names
//! a tree is as quick, and takes a fraction of the memory.

use std::ops::Bound;

use imbl::{HashMap, OrdMap};

use super::by_name::positions_by_name;
use super::name::Name;
use super::slots::Slot;

/// Up to so many names are not hashed.
const FEW: usize = 512;

/// Persistent: cloning is O(1), a change copies O(log n).
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    ordered: OrdMap<Name, Slot>,
    /// The same, once there were many.
    hashed: Option<HashMap<Name, Slot>>,
}

impl NameIndex {
    /// From names and their slots, in any order; the name that comes twice, if one does. O(n log
    /// n).
    pub(super) fn new(pairs: &[(Name, Slot)]) -> Result<Self, Name> {
        let mut index =
            Self { ordered: OrdMap::new(), hashed: (pairs.len() > FEW).then(HashMap::new) };
        if let Some(hashed) = &mut index.hashed {
            for (name, slot) in pairs {
                if hashed.insert(name.clone(), *slot).is_some() {
                    return Err(name.clone());
                }
            }
        }
        // Put in one after the other, so that all but the last way down the tree is never looked at
        // again.
        for at in positions_by_name(pairs.iter().map(|(name, _)| name)) {
            let (name, slot) = &pairs[at as usize];
            if index.ordered.insert(name.clone(), *slot).is_some() {
                return Err(name.clone());
            }
        }
        Ok(index)
    }

    pub(super) fn get(&self, name: &str) -> Option<Slot> {
        match &self.hashed {
            Some(hashed) => hashed.get(name).copied(),
            None => self.ordered.get(name).copied(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ordered.len()
    }

    pub(super) fn insert(&mut self, name: &Name, slot: Slot) {
        self.ordered.insert(name.clone(), slot);
        match &mut self.hashed {
            Some(hashed) => {
                hashed.insert(name.clone(), slot);
            }
            None if self.ordered.len() > FEW => {
                self.hashed =
                    Some(self.ordered.iter().map(|(name, slot)| (name.clone(), *slot)).collect());
            }
            None => {}
        }
    }

    pub(super) fn remove(&mut self, name: &str) -> Option<Slot> {
        if let Some(hashed) = &mut self.hashed {
            hashed.remove(name);
        }
        self.ordered.remove(name)
    }

    /// The slots of the names from `from` on, in byte order of names.
    pub(super) fn slots_from(&self, from: Bound<&str>) -> impl Iterator<Item = Slot> + '_ {
        self.ordered.range::<_, str>((from, Bound::Unbounded)).map(|(_, &slot)| slot)
    }
}
