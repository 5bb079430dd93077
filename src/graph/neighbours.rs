//! A set of slots in one of three forms by size: most jobs and datasets have a handful of
//! neighbours, and a few have a million.

use std::iter;
use std::sync::Arc;

use imbl::OrdSet;

use super::slots::Slot;

const INLINE: usize = 5;
/// A longer list becomes a tree, of which a change copies a part and not the whole.
const LISTED: usize = 256;

/// A sorted set. Cloning is O(1). Adding or removing one costs O(n) up to [`LISTED`], O(log n)
/// above.
#[derive(Clone)]
pub(super) enum Neighbours {
    Inline { len: u8, slots: [Slot; INLINE] },
    Listed(Arc<[Slot]>),
    Tree(OrdSet<Slot>),
}

impl Default for Neighbours {
    fn default() -> Self {
        Self::Inline { len: 0, slots: [0; INLINE] }
    }
}

impl Neighbours {
    /// `slots` must be sorted and without repeats.
    pub(super) fn from_sorted(slots: &[Slot]) -> Self {
        debug_assert!(slots.is_sorted_by(|a, b| a < b));
        if slots.len() <= INLINE {
            let mut inline = [0; INLINE];
            inline[..slots.len()].copy_from_slice(slots);
            Self::Inline { len: slots.len() as u8, slots: inline }
        } else if slots.len() <= LISTED {
            Self::Listed(slots.into())
        } else {
            Self::Tree(slots.iter().copied().collect())
        }
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Inline { len, .. } => usize::from(*len),
            Self::Listed(slots) => slots.len(),
            Self::Tree(slots) => slots.len(),
        }
    }

    pub(super) fn contains(&self, slot: Slot) -> bool {
        match self.as_slice() {
            Some(slots) => slots.binary_search(&slot).is_ok(),
            None => matches!(self, Self::Tree(slots) if slots.contains(&slot)),
        }
    }

    pub(super) fn iter(&self) -> Iter<'_> {
        match self {
            Self::Tree(slots) => Iter::Tree(slots.iter()),
            Self::Inline { .. } | Self::Listed(_) => {
                Iter::Slice(self.as_slice().unwrap_or_default().iter())
            }
        }
    }

    /// Adds `slot`. Returns whether it was new.
    pub(super) fn insert(&mut self, slot: Slot) -> bool {
        if let Self::Tree(slots) = self {
            return slots.insert(slot).is_none();
        }
        if let Self::Inline { len, slots } = self
            && usize::from(*len) < INLINE
        {
            let used = usize::from(*len);
            let Err(at) = slots[..used].binary_search(&slot) else { return false };
            slots.copy_within(at..used, at + 1);
            slots[at] = slot;
            *len += 1;
            return true;
        }
        let slots = self.as_slice().unwrap_or_default();
        let Err(at) = slots.binary_search(&slot) else { return false };
        let (before, after) = slots.split_at(at);
        let copy_to = |grown: &mut [Slot]| {
            grown[..at].copy_from_slice(before);
            grown[at + 1..].copy_from_slice(after);
        };
        let grown = iter::repeat_n(slot, slots.len() + 1);
        *self = if (INLINE..LISTED).contains(&slots.len()) {
            let mut grown: Arc<[Slot]> = grown.collect();
            copy_to(Arc::get_mut(&mut grown).expect("nobody else has it yet"));
            Self::Listed(grown)
        } else {
            let mut grown: Vec<Slot> = grown.collect();
            copy_to(&mut grown);
            Self::from_sorted(&grown)
        };
        true
    }

    /// Removes `slot`. Returns whether it was in the set.
    pub(super) fn remove(&mut self, slot: Slot) -> bool {
        if let Self::Tree(slots) = self {
            let was_there = slots.remove(&slot).is_some();
            if slots.len() <= LISTED / 2 {
                *self = Self::from_sorted(&slots.iter().copied().collect::<Vec<_>>());
            }
            return was_there;
        }
        if let Self::Inline { len, slots } = self {
            let used = usize::from(*len);
            let Ok(at) = slots[..used].binary_search(&slot) else { return false };
            slots.copy_within(at + 1..used, at);
            *len -= 1;
            return true;
        }
        let slots = self.as_slice().unwrap_or_default();
        let Ok(at) = slots.binary_search(&slot) else { return false };
        let mut shrunk = slots.to_vec();
        shrunk.remove(at);
        *self = Self::from_sorted(&shrunk);
        true
    }

    fn as_slice(&self) -> Option<&[Slot]> {
        match self {
            Self::Inline { len, slots } => Some(&slots[..usize::from(*len)]),
            Self::Listed(slots) => Some(slots),
            Self::Tree(_) => None,
        }
    }
}

/// In rising order.
#[derive(Clone)]
pub(super) enum Iter<'n> {
    Slice(std::slice::Iter<'n, Slot>),
    Tree(imbl::ordset::Iter<'n, Slot, imbl::shared_ptr::DefaultSharedPtr>),
}

impl Iterator for Iter<'_> {
    type Item = Slot;

    #[inline]
    fn next(&mut self) -> Option<Slot> {
        match self {
            Self::Slice(slots) => slots.next().copied(),
            Self::Tree(slots) => slots.next().copied(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_three_forms_are_one_set() {
        let (mut neighbours, mut model) = (Neighbours::default(), BTreeSet::new());
        let mut random = 1_u32;
        for round in 0..4000 {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let slot = random >> 20 & 1023;
            if round < 1500 || round % 3 == 0 && round < 2500 {
                assert_eq!(neighbours.insert(slot), model.insert(slot));
            } else {
                assert_eq!(neighbours.remove(slot), model.remove(&slot));
            }
            assert_eq!(neighbours.len(), model.len());
            assert_eq!(neighbours.contains(slot), model.contains(&slot));
            assert!(neighbours.iter().eq(model.iter().copied()));
        }
    }
}
