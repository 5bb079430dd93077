//! Adjacency lists in two arrays, for a graph that is built or searched once and does not change
//! meanwhile.

/// A sorted list of numbers, each once, for each number below a bound.
pub(super) struct AdjacencyLists {
    starts: Vec<u32>,
    values: Vec<u32>,
}

impl AdjacencyLists {
    /// For each number below `slots`, the second numbers of the pairs that begin with it. O(n) for
    /// n pairs that come in the order of their second numbers, as rows do; otherwise each list is
    /// sorted.
    pub(super) fn new(pairs: impl Iterator<Item = (u32, u32)> + Clone, slots: usize) -> Self {
        let mut starts = vec![0_u32; slots + 1];
        for (slot, _) in pairs.clone() {
            starts[slot as usize + 1] += 1;
        }
        for slot in 0..slots {
            starts[slot + 1] += starts[slot];
        }
        let mut ends = starts.clone();
        let mut values = vec![0; starts[slots] as usize];
        for (slot, value) in pairs {
            let end = &mut ends[slot as usize];
            values[*end as usize] = value;
            *end += 1;
        }
        let mut kept = 0;
        for slot in 0..slots {
            let list = starts[slot] as usize..starts[slot + 1] as usize;
            values[list.clone()].sort_unstable();
            starts[slot] = kept as u32;
            for at in list {
                if kept == starts[slot] as usize || values[kept - 1] != values[at] {
                    values[kept] = values[at];
                    kept += 1;
                }
            }
        }
        starts[slots] = kept as u32;
        values.truncate(kept);
        Self { starts, values }
    }

    /// How many values there are in all lists.
    pub(super) fn len(&self) -> usize {
        self.values.len()
    }

    /// How many lists there are.
    pub(super) fn lists(&self) -> usize {
        self.starts.len() - 1
    }

    pub(super) fn get(&self, slot: u32) -> &[u32] {
        &self.values[self.starts[slot as usize] as usize..self.starts[slot as usize + 1] as usize]
    }
}
