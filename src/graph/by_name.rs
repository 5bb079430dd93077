//! Sorts by name, and compares whole names as seldom as possible.
//!
//! Names often share a prefix, and they are scattered in memory. So the shared prefix is skipped,
//! the next eight bytes are sorted as one number that is kept beside the name, and only names with
//! the same eight bytes are looked at again (after J. Bentley and R. Sedgewick, "Fast Algorithms
//! for Sorting and Searching Strings", 1997).

use super::name::Name;

struct Keyed<'n> {
    key: u64,
    name: &'n [u8],
    position: u32,
}

const KEY_BYTES: usize = size_of::<u64>();
/// So few names are compared as a whole.
const FEW: usize = 16;

/// The positions of `names` in byte order of the names. O(n log n).
pub(super) fn positions_by_name<'n>(names: impl Iterator<Item = &'n Name>) -> Vec<u32> {
    let keyed = |(position, name): (usize, &'n Name)| Keyed {
        key: 0,
        name: name.as_str().as_bytes(),
        position: u32::try_from(position).expect("fewer than 2^32 names"),
    };
    let mut names: Vec<Keyed<'n>> = names.enumerate().map(keyed).collect();
    sort(&mut names, 0);
    names.into_iter().map(|name| name.position).collect()
}

/// `names` in byte order. O(n log n).
pub(super) fn in_byte_order(names: Vec<&Name>) -> impl Iterator<Item = &Name> {
    positions_by_name(names.iter().copied()).into_iter().map(move |at| names[at as usize])
}

/// Sorts `names`, of which the first `shared` bytes are equal. Recurses once for each eight bytes
/// of a name at most.
fn sort(names: &mut [Keyed<'_>], shared: usize) {
    if names.len() <= FEW {
        return names.sort_unstable_by_key(|name| &name.name[shared..]);
    }
    let first = &names[0].name[shared..];
    let alike = |name: &Keyed<'_>| {
        first.iter().zip(&name.name[shared..]).take_while(|(a, b)| a == b).count()
    };
    let shared = shared + names.iter().map(alike).min().unwrap_or(0);
    for name in &mut *names {
        name.key = key(&name.name[shared..]);
    }
    names.sort_unstable_by_key(|name| name.key);
    for same in names.chunk_by_mut(|a, b| a.key == b.key) {
        // No name contains a zero byte. If the key ends in one, the names end within it, so they
        // are equal.
        if same.len() > 1 && same[0].key.to_be_bytes()[KEY_BYTES - 1] != 0 {
            sort(same, shared + KEY_BYTES);
        }
    }
}

/// The first eight bytes, padded with zeros, as a number that sorts like them.
fn key(bytes: &[u8]) -> u64 {
    match bytes.first_chunk() {
        Some(first) => u64::from_be_bytes(*first),
        None => {
            let mut filled = [0; KEY_BYTES];
            filled[..bytes.len()].copy_from_slice(bytes);
            u64::from_be_bytes(filled)
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_order_is_that_of_bytes(
            texts in prop::collection::vec("(ab){0,12}[a-cé]{0,9}z", 0..200),
        ) {
            let names: Vec<Name> = texts.iter().map(|text| Name::new(text).unwrap()).collect();
            let positions = positions_by_name(names.iter());
            let sorted: Vec<&Name> = positions.iter().map(|&at| &names[at as usize]).collect();
            let mut expected: Vec<&Name> = names.iter().collect();
            expected.sort();
            prop_assert_eq!(sorted, expected);
        }
    }
}
