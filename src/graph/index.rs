//! Maps names to slots, twice: hashed, to find one, and in byte order, to list them.
//!
//! A name is looked up several times for each edge that mentions it. In a large tree that costs
//! about twenty comparisons of names that are scattered in memory; in a hash map it costs one. For
//! few names a tree is as fast, and takes a fraction of the memory.

use std::ops::Bound;

use imbl::{HashMap, OrdMap};

use super::by_name::positions_by_name;
use super::name::Name;
use super::slots::Slot;

/// Up to this many names are not hashed.
const FEW: usize = 512;

/// Persistent: cloning is O(1), a change copies O(log n).
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    ordered: OrdMap<Name, Slot>,
    /// The same. `None` until there are more than [`FEW`] names.
    hashed: Option<HashMap<Name, Slot>>,
}

impl NameIndex {
    /// An index of `pairs`, which may come in any order. The error is a name that comes twice. O(n
    /// log n).
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
        // Inserted in order: only the last path down the tree is visited again.
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
