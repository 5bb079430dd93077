//! The cases of level `core`, by what they are about.

mod answers;
mod datasets;
mod graphs;
mod jobs;
mod names;
mod plans;
mod rules;

use super::case::Case;

pub fn cases() -> Vec<Case> {
    [
        graphs::CASES,
        jobs::CASES,
        datasets::CASES,
        rules::CASES,
        plans::CASES,
        names::CASES,
        answers::CASES,
    ]
    .concat()
}
