//! Sorts roughly, so that work on memory of any size goes over one small range after another.
//!
//! What is in none of the processor's caches takes a hundred times as long to reach. Where a million
//! numbers each lead to a random place of a large array, two passes that sort them by ranges of
//! places cost less than the way to memory for each (S. Manegold, P. Boncz, M. Kersten, "Optimizing
//! Main-Memory Join on Modern Hardware", 2002).

/// So many places, as a power of two, fit in a cache with what is put there.
const RANGE_BITS: u32 = 14;

/// `items` by ranges of the places that they lead to, all of which are below `places`. Those of one
/// range stay in their order. O(n) for n items.
pub(super) fn by_ranges<T: Copy>(
    items: Vec<T>,
    places: usize,
    place: impl Fn(&T) -> usize,
) -> Vec<T> {
    let range = |item: &T| place(item) >> RANGE_BITS;
    let ranges = places.div_ceil(1 << RANGE_BITS);
    if ranges <= 1 {
        return items;
    }
    let mut next = vec![0; ranges];
    items.iter().for_each(|item| next[range(item)] += 1);
    let mut begin = 0;
    for next in &mut next {
        begin += std::mem::replace(next, begin);
    }
    let mut sorted = items.clone();
    for item in items {
        let next = &mut next[range(&item)];
        sorted[*next] = item;
        *next += 1;
    }
    sorted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn items_are_sorted_by_range_and_stay_in_order_within() {
        const PLACES: usize = 5 << RANGE_BITS;
        let items: Vec<(usize, u32)> =
            (0..20_000).map(|at| (at as usize * 7_919 % PLACES, at)).collect();
        let mut expected = items.clone();
        expected.sort_by_key(|(place, _)| place >> RANGE_BITS);
        assert_ne!(items, expected);
        assert_eq!(by_ranges(items, PLACES, |(place, _)| *place), expected);
        assert_eq!(by_ranges(vec![3, 1, 2], 4, |place| *place), [3, 1, 2], "one range");
        assert!(by_ranges(Vec::<usize>::new(), PLACES, |place| *place).is_empty());
    }
}
