//! The cases of level `all` that are of no level before, by what they are about.

mod change_log;
mod contents;
mod deletion;
mod lists;
mod plans;
mod reads;
mod service;
mod tail;

use super::case::Case;

pub fn cases() -> Vec<Case> {
    [
        lists::CASES,
        plans::CASES,
        reads::CASES,
        contents::CASES,
        change_log::CASES,
        tail::CASES,
        deletion::CASES,
        service::CASES,
    ]
    .concat()
}
