//! The cases of level `writes`, by what they are about.

mod at_once;
mod changesets;
mod edges;
mod input;
mod jobs;
mod keys;
mod preconditions;

use super::case::Case;

pub fn cases() -> Vec<Case> {
    [
        changesets::CASES,
        jobs::CASES,
        edges::CASES,
        preconditions::CASES,
        keys::CASES,
        input::CASES,
        at_once::CASES,
    ]
    .concat()
}
