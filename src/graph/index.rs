//! Maps names to slots, twice: hashed, to find one, and in byte order, to list them.
//!
//! A name is looked up several times for each edge that mentions it. In a large tree that costs
//! about twenty comparisons of names that are scattered in memory; by its hash it costs one. For
//! few names a tree is as fast, and takes a fraction of the memory.
//!
//! The hashed side keeps 32 bits of each name's hash and the slot, not the name: that is in the
//! node, which whoever looks up shows by a function from slots to names.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::ops::Bound;

use imbl::{GenericHashMap, OrdMap};

use super::by_name::positions_by_name;
use super::full_map::full_map;
use super::name::Name;
use super::slot_map::SlotHasher;
use super::slots::Slot;

/// Up to this many names are not hashed.
const FEW: usize = 512;

/// Persistent: cloning is O(1), a change copies O(log n).
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    ordered: OrdMap<Name, Slot>,
    /// The same. `None` until there are more than [`FEW`] names.
    hashed: Option<Hashed>,
}

impl NameIndex {
    /// An index of `pairs`, which may come in any order. The error is a name that comes twice. O(n
    /// log n).
    pub(super) fn new(pairs: &[(Name, Slot)]) -> Result<Self, Name> {
        let positions = positions_by_name(pairs.iter().map(|(name, _)| name));
        let ordered = full_map(positions.iter().map(|&at| pairs[at as usize].clone()));
        if ordered.len() < pairs.len() {
            let mut seen = HashSet::with_capacity(pairs.len());
            let twice = pairs.iter().find(|(name, _)| !seen.insert(name));
            return Err(twice.map(|(name, _)| name.clone()).expect("fewer names than pairs"));
        }
        let hashed = (pairs.len() > FEW)
            .then(|| Hashed::new(pairs.iter().map(|(name, slot)| (name.as_str(), *slot))));
        Ok(Self { ordered, hashed })
    }

    /// The slot of a name. `name_of` shows the names of slots in the index.
    pub(super) fn get<'n>(&self, name: &str, name_of: impl Fn(Slot) -> &'n Name) -> Option<Slot> {
        match &self.hashed {
            Some(hashed) => hashed.find(name, name_of).map(|(_, slot)| slot),
            None => self.ordered.get(name).copied(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.ordered.len()
    }

    /// Adds a name that is not in the index.
    pub(super) fn insert(&mut self, name: &Name, slot: Slot) {
        self.ordered.insert(name.clone(), slot);
        match &mut self.hashed {
            Some(hashed) => hashed.insert(name.as_str(), slot),
            None if self.ordered.len() > FEW => {
                let names = self.ordered.iter().map(|(name, slot)| (name.as_str(), *slot));
                self.hashed = Some(Hashed::new(names));
            }
            None => {}
        }
    }

    /// Removes a name; its slot. `name_of` is as in [`get`](Self::get).
    pub(super) fn remove<'n>(
        &mut self,
        name: &str,
        name_of: impl Fn(Slot) -> &'n Name,
    ) -> Option<Slot> {
        if let Some(hashed) = &mut self.hashed {
            hashed.remove(name, name_of);
        }
        self.ordered.remove(name)
    }

    /// The slots of the names from `from` on, in byte order of names.
    pub(super) fn slots_from(&self, from: Bound<&str>) -> impl Iterator<Item = Slot> + '_ {
        self.ordered.range::<_, str>((from, Bound::Unbounded)).map(|(_, &slot)| slot)
    }
}

/// Slots by 32 bits of their names' hashes. Of names with one hash, each further one is kept under
/// the next free number (linear probing: D. Knuth, "The Art of Computer Programming", vol. 3, 6.4).
/// Among a million names some hundred are.
#[derive(Clone)]
struct Hashed {
    /// Random, so that nobody can choose names that collide.
    state: RandomState,
    slots: SlotsByHash,
}

type SlotsByHash =
    GenericHashMap<u32, Slot, BuildHasherDefault<SlotHasher>, imbl::shared_ptr::DefaultSharedPtr>;

impl Hashed {
    fn new<'n>(names: impl Iterator<Item = (&'n str, Slot)>) -> Self {
        let mut hashed = Self { state: RandomState::new(), slots: SlotsByHash::default() };
        names.for_each(|(name, slot)| hashed.insert(name, slot));
        hashed
    }

    fn hash(&self, name: &str) -> u32 {
        self.state.hash_one(name) as u32
    }

    fn find<'n>(&self, name: &str, name_of: impl Fn(Slot) -> &'n Name) -> Option<(u32, Slot)> {
        let mut key = self.hash(name);
        while let Some(&slot) = self.slots.get(&key) {
            if name_of(slot).as_str() == name {
                return Some((key, slot));
            }
            key = key.wrapping_add(1);
        }
        None
    }

    fn insert(&mut self, name: &str, slot: Slot) {
        let mut key = self.hash(name);
        while self.slots.contains_key(&key) {
            key = key.wrapping_add(1);
        }
        self.slots.insert(key, slot);
    }

    fn remove<'n>(&mut self, name: &str, name_of: impl Fn(Slot) -> &'n Name) {
        let Some((mut key, _)) = self.find(name, &name_of) else { return };
        self.slots.remove(&key);
        // Those behind may be there only because this one was in their way.
        loop {
            key = key.wrapping_add(1);
            let Some(slot) = self.slots.remove(&key) else { return };
            self.insert(name_of(slot).as_str(), slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::new(&format!("n{number}")).unwrap()
    }

    /// Hashes of 32 bits collide too seldom for a test: here all names are put under few keys.
    #[test]
    fn names_with_one_hash_are_found_and_removed_one_by_one() {
        let names: Vec<Name> = (0..40).map(name).collect();
        let mut hashed = Hashed::new(std::iter::empty());
        let colliding: Vec<&Name> = names.iter().collect();
        // Each is under a key that follows the first one's.
        let first = hashed.hash(names[0].as_str());
        for (slot, _) in colliding.iter().enumerate() {
            hashed.slots.insert(first.wrapping_add(slot as u32), slot as Slot);
        }
        let found = hashed.find(names[0].as_str(), |slot| &names[slot as usize]);
        assert_eq!(found, Some((first, 0)));
        // The others are put where they belong as soon as the one before them goes.
        hashed.remove(names[0].as_str(), |slot| &names[slot as usize]);
        for (slot, name) in names.iter().enumerate().skip(1) {
            let found = hashed.find(name.as_str(), |slot| &names[slot as usize]);
            assert_eq!(found.map(|(_, slot)| slot), Some(slot as Slot));
        }
        assert_eq!(hashed.slots.len(), 39);
        assert_eq!(hashed.find(names[0].as_str(), |slot| &names[slot as usize]), None);
    }

    #[test]
    fn both_sides_are_one_map_while_names_come_and_go() {
        let names: Vec<Name> = (0..2_000).map(name).collect();
        let (mut index, mut model) = (NameIndex::default(), std::collections::BTreeMap::new());
        let mut random = 1_u32;
        for _ in 0..20_000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = (random >> 12) % 2_000;
            let name = &names[slot as usize];
            let name_of = |slot: Slot| &names[slot as usize];
            if random >> 31 == 0 && !model.contains_key(name) {
                index.insert(name, slot);
                model.insert(name.clone(), slot);
            } else {
                assert_eq!(index.remove(name.as_str(), name_of), model.remove(name));
            }
            assert_eq!(index.get(name.as_str(), name_of), model.get(name).copied());
            assert_eq!(index.len(), model.len());
        }
        assert!(index.slots_from(Bound::Unbounded).eq(model.values().copied()));
        for (slot, name) in names.iter().enumerate() {
            let found = index.get(name.as_str(), |slot| &names[slot as usize]);
            assert_eq!(found, model.contains_key(name).then_some(slot as Slot));
        }
    }
}
