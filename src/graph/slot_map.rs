//! Maps and sets of some of a graph's slots, for searches whose cost must not depend on the size of
//! the whole graph.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasherDefault, Hasher};

use super::slots::Slot;

pub(super) type SlotMap<T> = HashMap<Slot, T, BuildHasherDefault<SlotHasher>>;
pub(super) type SlotSet = HashSet<Slot, BuildHasherDefault<SlotHasher>>;

/// Fibonacci hashing (D. Knuth, "The Art of Computer Programming", vol. 3, 6.4): one
/// multiplication. Fencepost chooses the slots, so no client can make them collide.
#[derive(Default)]
pub(super) struct SlotHasher(u64);

impl Hasher for SlotHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a slot is a u32");
    }

    fn write_u32(&mut self, slot: u32) {
        // The upper half is mixed best, and the map takes a place from the lower bits.
        self.0 = u64::from(slot).wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(32);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
