//! Names in byte order, sorted when that order is first asked for.
//!
//! Lists and digests need the order; writes, plans and most reads do not. Sorting takes a third of
//! the time in which a graph is loaded, so a load leaves it out. Until a graph is asked for it, the
//! names stay as they were loaded, and changes are noted beside them. All versions of a graph share
//! the names that were loaded, and the first that needs the order sorts them for all.

use std::sync::{Arc, Mutex, OnceLock};

use imbl::OrdMap;

use super::by_name::positions_by_name;
use super::full_map::full_map;
use super::name::Name;
use super::slots::Slot;

/// As many changes as this, or as half of the names, are noted at most. Then the names are sorted.
const CHANGES_NOTED: usize = 10_000;

/// A map from names to slots. Persistent: cloning is O(1), a change copies O(log n).
#[derive(Clone, Default)]
pub(super) struct NamesInOrder {
    /// All names, if they were asked for.
    sorted: OnceLock<OrdMap<Name, Slot>>,
    /// What `sorted` is made of, if names were loaded. Means nothing once that is there.
    noted: Option<Noted>,
}

#[derive(Clone)]
struct Noted {
    loaded: Arc<LoadedNames>,
    /// What has become of names since: their slots, or `None` for those that are gone.
    changes: OrdMap<Name, Option<Slot>>,
}

struct LoadedNames {
    len: usize,
    sorted: OnceLock<OrdMap<Name, Slot>>,
    /// Empty once they are sorted.
    unsorted: Mutex<Vec<(Name, Slot)>>,
}

impl NamesInOrder {
    /// The names in any order. Of a name that comes twice, one slot is kept. O(1).
    pub(super) fn of(names: Vec<(Name, Slot)>) -> Self {
        let (len, unsorted) = (names.len(), Mutex::new(names));
        let loaded = Arc::new(LoadedNames { len, sorted: OnceLock::new(), unsorted });
        let noted = Some(Noted { loaded, changes: OrdMap::new() });
        Self { sorted: OnceLock::new(), noted }
    }

    /// The names in their order. O(1); the first time for these names O(n log n), and O(c log n)
    /// for c changes since they were loaded.
    pub(super) fn map(&self) -> &OrdMap<Name, Slot> {
        self.sorted.get_or_init(|| self.noted.as_ref().map(Noted::sorted).unwrap_or_default())
    }

    /// Gives a name a slot, or takes the name out. O(log n), and O(n log n) once after many
    /// changes.
    pub(super) fn change(&mut self, name: &Name, slot: Option<Slot>) {
        if self.sorted.get().is_none()
            && let Some(noted) = &mut self.noted
            && noted.has_room()
        {
            noted.changes.insert(name.clone(), slot);
            return;
        }
        self.map();
        self.noted = None;
        change(self.sorted.get_mut().expect("it was made"), name, slot);
    }
}

impl Noted {
    /// Whether to note another change rather than sort.
    fn has_room(&self) -> bool {
        let most = CHANGES_NOTED.max(self.loaded.len / 2);
        self.loaded.sorted.get().is_none() && self.changes.len() < most
    }

    fn sorted(&self) -> OrdMap<Name, Slot> {
        let mut sorted = self.loaded.sorted().clone();
        for (name, slot) in &self.changes {
            change(&mut sorted, name, *slot);
        }
        sorted
    }
}

impl LoadedNames {
    fn sorted(&self) -> &OrdMap<Name, Slot> {
        self.sorted.get_or_init(|| {
            let mut unsorted = self.unsorted.lock().expect("nothing panics with the names");
            let names = std::mem::take(&mut *unsorted);
            let positions = positions_by_name(names.iter().map(|(name, _)| name));
            full_map(positions.iter().map(|&at| names[at as usize].clone()))
        })
    }
}

fn change(names: &mut OrdMap<Name, Slot>, name: &Name, slot: Option<Slot>) {
    match slot {
        Some(slot) => names.insert(name.clone(), slot),
        None => names.remove(name),
    };
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Step {
        Change(u32, Option<Slot>),
        /// Asks for the order of the newest version, or of one before.
        Ask(bool),
        /// Goes on from a version before.
        GoBack,
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            8 => (0..60_u32, prop::option::of(0..1_000_u32))
                .prop_map(|(name, slot)| Step::Change(name, slot)),
            1 => any::<bool>().prop_map(Step::Ask),
            1 => Just(Step::GoBack),
        ]
    }

    fn name(number: u32) -> Name {
        Name::new(&format!("name {}", number.reverse_bits())).unwrap()
    }

    proptest! {
        #[test]
        fn every_version_has_its_names_whenever_it_is_asked(
            loaded in 0..40_u32,
            steps in prop::collection::vec(step(), 0..120),
        ) {
            let names: Vec<(Name, Slot)> = (0..loaded).map(|slot| (name(slot), slot)).collect();
            let model: BTreeMap<Name, Slot> = names.iter().cloned().collect();
            let mut versions = vec![(NamesInOrder::of(names), model)];
            for step in steps {
                let (mut index, mut model) = versions.last().cloned().unwrap();
                match step {
                    Step::Change(number, slot) => {
                        index.change(&name(number), slot);
                        match slot {
                            Some(slot) => model.insert(name(number), slot),
                            None => model.remove(&name(number)),
                        };
                        versions.push((index, model));
                    }
                    Step::Ask(newest) => {
                        let at = if newest { versions.len() - 1 } else { versions.len() / 2 };
                        let (index, model) = &versions[at];
                        prop_assert!(index.map().iter().eq(model));
                    }
                    Step::GoBack => versions.truncate(versions.len().div_ceil(2)),
                }
            }
            for (index, model) in versions {
                prop_assert!(index.map().iter().eq(&model));
            }
        }
    }

    #[test]
    fn names_are_sorted_once_for_all_versions_and_changes_are_not_noted_without_end() {
        let names: Vec<(Name, Slot)> = (0..100).map(|slot| (name(slot), slot)).collect();
        let first = NamesInOrder::of(names);
        let mut second = first.clone();
        second.change(&name(7), None);
        assert!(second.sorted.get().is_none(), "nobody has asked");
        assert_eq!(first.map().len(), 100);
        second.change(&name(8), None);
        assert!(second.noted.is_none(), "another version was asked");
        assert_eq!(second.map().len(), 98);

        let mut alone = NamesInOrder::of((0..100).map(|slot| (name(slot), slot)).collect());
        for number in 0..=CHANGES_NOTED as u32 {
            alone.change(&name(1_000 + number), Some(number));
        }
        assert!(alone.noted.is_none(), "the limit is reached");
        assert_eq!(alone.map().len(), 101 + CHANGES_NOTED);
    }
}
