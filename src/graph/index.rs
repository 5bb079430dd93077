//! Maps names to slots, twice: hashed, to find one, and in byte order, to list them.
//!
//! A name is looked up several times for each edge that mentions it. In a large tree that costs
//! about twenty comparisons of names that are scattered in memory; by its hash it costs one. For
//! few names a tree is as fast, and takes a fraction of the memory.
//!
//! The hashed side keeps 32 bits of each name's hash and the slot, not the name. The name is in the
//! node: a caller passes a function from slots to names, and a slot is right if its node has the
//! name that is looked for. So an entry of a name that was removed does no harm.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, BuildHasherDefault};
use std::ops::Bound;
use std::sync::Arc;

use imbl::GenericHashMap;

use super::name::Name;
use super::names_in_order::NamesInOrder;
use super::ranges::by_ranges;
use super::slot_map::SlotHasher;
use super::slots::Slot;

/// Up to this many names are not hashed.
const FEW: usize = 512;

/// Persistent: cloning is O(1), a change copies O(log n).
#[derive(Clone, Default)]
pub(super) struct NameIndex {
    len: usize,
    in_order: NamesInOrder,
    /// The same. `None` until there are more than [`FEW`] names.
    hashed: Option<Hashed>,
}

impl NameIndex {
    /// The index of `count` names. `name_of` shows the name of each slot. The error is a name that
    /// comes twice. O(n) for n names.
    pub(super) fn of<'n>(
        names: impl Iterator<Item = (&'n Name, Slot)>,
        count: usize,
        name_of: impl Fn(Slot) -> Option<&'n Name>,
    ) -> Result<Self, Name> {
        let mut builder = NameIndexBuilder::with_room(count);
        names.for_each(|(name, slot)| builder.push(name, slot));
        builder.finish(name_of)
    }

    /// The slot of a name. `name_of` shows the name of a slot, if it is taken.
    pub(super) fn get<'n>(
        &self,
        name: &str,
        name_of: impl Fn(Slot) -> Option<&'n Name>,
    ) -> Option<Slot> {
        match &self.hashed {
            Some(hashed) => hashed.find(name, name_of),
            None => self.in_order.map().get(name).copied(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// Adds a name that is not in the index.
    pub(super) fn insert(&mut self, name: &Name, slot: Slot) {
        self.len += 1;
        self.in_order.change(name, Some(slot));
        match &mut self.hashed {
            Some(hashed) => hashed.insert(name.as_str(), slot),
            None if self.len > FEW => {
                let mut hashed = Hashed::default();
                for (name, slot) in self.in_order.map() {
                    hashed.insert(name.as_str(), *slot);
                }
                self.hashed = Some(hashed);
            }
            None => {}
        }
    }

    /// Removes a name; its slot. `name_of` is as in [`get`](Self::get), before the node is removed.
    pub(super) fn remove<'n>(
        &mut self,
        name: &Name,
        name_of: impl Fn(Slot) -> Option<&'n Name>,
    ) -> Option<Slot> {
        let slot = self.get(name.as_str(), &name_of)?;
        if let Some(hashed) = &mut self.hashed {
            hashed.remove(name.as_str(), slot, name_of);
        }
        self.len -= 1;
        self.in_order.change(name, None);
        Some(slot)
    }

    /// The slots of the names from `from` on, in byte order of names. O(log n), and O(n log n) once
    /// after the index was built.
    pub(super) fn slots_from(&self, from: Bound<&str>) -> impl Iterator<Item = Slot> + '_ {
        self.in_order.map().range::<_, str>((from, Bound::Unbounded)).map(|(_, &slot)| slot)
    }
}

/// An index of names that come in any order.
#[derive(Default)]
pub(super) struct NameIndexBuilder {
    names: Vec<(Name, Slot)>,
    /// The same, hashed while the name was in the processor's cache.
    entries: Vec<Entry>,
    state: RandomState,
}

impl NameIndexBuilder {
    /// Reserves memory for `count` names.
    fn with_room(count: usize) -> Self {
        let (names, entries) = (Vec::with_capacity(count), Vec::with_capacity(count));
        Self { names, entries, state: RandomState::default() }
    }

    /// Adds a name.
    pub(super) fn push(&mut self, name: &Name, slot: Slot) {
        self.names.push((name.clone(), slot));
        self.entries.push(Entry { hash: hash(&self.state, name.as_str()), slot });
    }

    /// The index. `name_of` shows the name of each slot that was added. The error is a name that was
    /// added twice. O(n) for n names, which are sorted when their order is asked for.
    pub(super) fn finish<'n>(
        mut self,
        name_of: impl Fn(Slot) -> Option<&'n Name>,
    ) -> Result<NameIndex, Name> {
        let loaded = Table::of(self.entries, |slot, other| name_of(slot) == name_of(other));
        let loaded = loaded.map_err(|twice| name_of(twice).expect("it was added").clone())?;
        self.names.shrink_to_fit();
        let len = self.names.len();
        let hashed = (len > FEW).then(|| {
            let (state, loaded) = (self.state, Arc::new(loaded));
            Hashed { state, loaded, added: SlotsByHash::default() }
        });
        Ok(NameIndex { len, in_order: NamesInOrder::of(self.names), hashed })
    }
}

fn hash(state: &RandomState, name: &str) -> u32 {
    state.hash_one(name) as u32
}

/// Slots by their names' hashes: those of names that were loaded, in a table that all versions of a
/// graph share and none changes; and those of names that were added since.
#[derive(Clone, Default)]
struct Hashed {
    /// Random, so that nobody can choose names that collide.
    state: RandomState,
    loaded: Arc<Table>,
    added: SlotsByHash,
}

/// Slots by 32 bits of their names' hashes. Of names with one hash, each further one is kept under
/// the next free number (linear probing: D. Knuth, "The Art of Computer Programming", vol. 3, 6.4).
/// Among a million names some hundred are.
type SlotsByHash =
    GenericHashMap<u32, Slot, BuildHasherDefault<SlotHasher>, imbl::shared_ptr::DefaultSharedPtr>;

impl Hashed {
    fn hash(&self, name: &str) -> u32 {
        hash(&self.state, name)
    }

    fn find<'n>(&self, name: &str, name_of: impl Fn(Slot) -> Option<&'n Name>) -> Option<Slot> {
        let is_it = |&slot: &Slot| name_of(slot).is_some_and(|it| it.as_str() == name);
        let hash = self.hash(name);
        let loaded = self.loaded.candidates(hash).find(is_it);
        loaded.or_else(|| self.find_added(hash, is_it).map(|(_, slot)| slot))
    }

    fn find_added(&self, hash: u32, is_it: impl Fn(&Slot) -> bool) -> Option<(u32, Slot)> {
        let mut key = hash;
        while let Some(slot) = self.added.get(&key) {
            if is_it(slot) {
                return Some((key, *slot));
            }
            key = key.wrapping_add(1);
        }
        None
    }

    /// Adds a name that is not there.
    fn insert(&mut self, name: &str, slot: Slot) {
        let mut key = self.hash(name);
        while self.added.contains_key(&key) {
            key = key.wrapping_add(1);
        }
        self.added.insert(key, slot);
    }

    /// Removes a name that has this slot. One that was loaded stays in its table: the slot will not
    /// have that name any more.
    fn remove<'n>(&mut self, name: &str, slot: Slot, name_of: impl Fn(Slot) -> Option<&'n Name>) {
        let found = self.find_added(self.hash(name), |&other| other == slot);
        let Some((mut key, _)) = found else { return };
        self.added.remove(&key);
        // Those behind may be there only because this one was in their way.
        loop {
            key = key.wrapping_add(1);
            let Some(slot) = self.added.remove(&key) else { return };
            self.insert(name_of(slot).expect("an added name is in its slot").as_str(), slot);
        }
    }
}

/// Slots by hash, as [`SlotsByHash`], in one array of which at most half is taken. For names that
/// are there from the start, and are never removed.
#[derive(Default)]
struct Table {
    entries: Vec<Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    hash: u32,
    /// [`NONE`] if the entry is free.
    slot: Slot,
}

/// No slot: there are fewer than 2^32.
const NONE: Slot = Slot::MAX;

impl Table {
    /// The table of all `entries`. The error is the slot of an entry that `is_same` as another one
    /// with its hash.
    fn of(entries: Vec<Entry>, is_same: impl Fn(Slot, Slot) -> bool) -> Result<Self, Slot> {
        let places = (2 * entries.len()).next_power_of_two();
        let mut table = Self { entries: vec![Entry { hash: 0, slot: NONE }; places] };
        for entry in by_ranges(entries, places, |entry| entry.hash as usize & (places - 1)) {
            table.put(entry, &is_same)?;
        }
        Ok(table)
    }

    fn put(&mut self, entry: Entry, is_same: impl Fn(Slot, Slot) -> bool) -> Result<(), Slot> {
        for place in self.places(entry.hash) {
            let there = self.entries[place];
            if there.slot == NONE {
                self.entries[place] = entry;
                return Ok(());
            }
            if there.hash == entry.hash && is_same(there.slot, entry.slot) {
                return Err(entry.slot);
            }
        }
        unreachable!("half of the entries are free")
    }

    /// The slots of all names with that hash.
    fn candidates(&self, hash: u32) -> impl Iterator<Item = Slot> + '_ {
        self.places(hash)
            .map(|place| self.entries[place])
            .take_while(|entry| entry.slot != NONE)
            .filter(move |entry| entry.hash == hash)
            .map(|entry| entry.slot)
    }

    /// Where an entry may be, in the order of the search. There are 2^n entries, or none.
    fn places(&self, hash: u32) -> impl Iterator<Item = usize> + use<> {
        let entries = self.entries.len();
        (0..entries).map(move |at| (hash as usize + at) & (entries - 1))
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
        let name_of = |slot: Slot| Some(&names[slot as usize]);
        let mut hashed = Hashed::default();
        // Each is under a key that follows the first one's.
        let first = hashed.hash(names[0].as_str());
        for slot in 0..names.len() {
            hashed.added.insert(first.wrapping_add(slot as u32), slot as Slot);
        }
        assert_eq!(hashed.find(names[0].as_str(), name_of), Some(0));
        // The others are put where they belong as soon as the one before them goes.
        hashed.remove(names[0].as_str(), 0, name_of);
        for (slot, name) in names.iter().enumerate().skip(1) {
            assert_eq!(hashed.find(name.as_str(), name_of), Some(slot as Slot));
        }
        assert_eq!(hashed.added.len(), 39);
        assert_eq!(hashed.find(names[0].as_str(), name_of), None);
    }

    #[test]
    fn a_table_has_every_slot_of_a_hash_also_at_its_end() {
        let hashes = [u32::MAX, 0, 1, u32::MAX - 1, 1 << 31];
        let expected = |hash: usize| (0..600).filter(move |slot| *slot as usize % 5 == hash);
        assert_eq!(Table::default().candidates(7).count(), 0);
        let entries = (0..600).map(|slot| Entry { hash: hashes[slot as usize % 5], slot });
        let table = Table::of(entries.collect(), |_, _| false).map_err(|_| ()).unwrap();
        for (at, hash) in hashes.into_iter().enumerate() {
            let mut found: Vec<Slot> = table.candidates(hash).collect();
            found.sort_unstable();
            assert!(found.into_iter().eq(expected(at)), "{hash}");
        }
        assert_eq!(table.candidates(7).count(), 0);
    }

    fn built(names: &[Name]) -> Result<NameIndex, Name> {
        let name_of = |slot: Slot| Some(&names[slot as usize]);
        NameIndex::of(names.iter().zip(0..), names.len(), name_of)
    }

    #[test]
    fn a_name_that_comes_twice_is_told() {
        for (number, twice) in
            [(2, 0), (FEW, 1), (FEW + 1, 2), (FEW + 1, FEW), (3 * FEW, 7), (3 * FEW, 2 * FEW)]
        {
            let mut names: Vec<Name> = (0..number).map(name).collect();
            assert_eq!(built(&names).map(|index| index.len()), Ok(number));
            let twice = names[twice].clone();
            names.push(twice.clone());
            assert_eq!(built(&names).map(|index| index.len()), Err(twice), "of {number}");
        }
    }

    #[test]
    fn both_sides_are_one_map_while_names_come_and_go() {
        both_sides_are_one_map(0);
        both_sides_are_one_map(FEW / 2);
        both_sides_are_one_map(3 * FEW);
    }

    /// Names get the slots of others that went before.
    fn both_sides_are_one_map(built_with: usize) {
        let names: Vec<Name> = (0..2_000).map(name).collect();
        let mut index = built(&names[..built_with]).unwrap();
        let mut model: std::collections::BTreeMap<Name, Slot> =
            names[..built_with].iter().cloned().zip(0..).collect();
        let mut nodes: Vec<Option<Name>> = vec![None; 2_000];
        for (name, slot) in &model {
            nodes[*slot as usize] = Some(name.clone());
        }
        let mut random = 1_u32;
        let mut draw = || {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            random >> 12
        };
        for _ in 0..20_000 {
            let name = &names[draw() as usize % 2_000];
            let free = draw() % 2_000;
            let free = (free..2_000).chain(0..free).find(|&slot| nodes[slot as usize].is_none());
            match (free, model.contains_key(name)) {
                (Some(slot), false) => {
                    index.insert(name, slot);
                    model.insert(name.clone(), slot);
                    nodes[slot as usize] = Some(name.clone());
                }
                _ => {
                    let removed = index.remove(name, |slot| nodes[slot as usize].as_ref());
                    assert_eq!(removed, model.remove(name));
                    if let Some(slot) = removed {
                        nodes[slot as usize] = None;
                    }
                }
            }
            let other = &names[draw() as usize % 2_000];
            for name in [name, other] {
                let found = index.get(name.as_str(), |slot| nodes[slot as usize].as_ref());
                assert_eq!(found, model.get(name).copied());
            }
            assert_eq!(index.len(), model.len());
        }
        assert!(index.slots_from(Bound::Unbounded).eq(model.values().copied()));
        for name in &names {
            let found = index.get(name.as_str(), |slot| nodes[slot as usize].as_ref());
            assert_eq!(found, model.get(name).copied());
        }
    }
}
