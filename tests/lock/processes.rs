//! What every lock must do between real processes, some of them killed.

use super::child::{Journal, Role, Running};
use super::conformance::{LockFixture, assert_held_back, take};
use super::row::RowFile;
use crate::support::{limit, wait_until};

use fencepost::lock::Mode::{Exclusive, Shared};

pub fn a_killed_holder_frees_the_lock(fixture: &impl LockFixture) {
    let node = fixture.node();
    let (journal, row) = (Journal::new(fixture.scratch()), RowFile::new(fixture.scratch()));
    for round in 1..=3 {
        let child = Running::start(fixture, Role::Holder);
        wait_until(limit(), "the child holds the lock", || grants(&journal.lines()).len() == round);
        assert_held_back(&*node, Shared);
        assert_held_back(&*node, Exclusive);
        child.kill();
        let mut guard = take(&*node, Exclusive);
        let last = *grants(&journal.lines()).last().expect("the child had a token");
        assert!(row.token_for(&mut guard).as_i64() > last);
        guard.release();
        take(&*node, Shared).release();
    }
    let child = Running::start(fixture, Role::Holder);
    wait_until(limit(), "the child holds the lock", || grants(&journal.lines()).len() == 4);
    child.finish();
    take(&*node, Exclusive).release();
}

pub fn writers_in_many_processes_never_overlap(fixture: &impl LockFixture) {
    const CHILDREN: usize = 4;
    const TURNS: u32 = 50;
    let mut children: Vec<Running> =
        (0..CHILDREN).map(|_| Running::start(fixture, Role::Writer(TURNS))).collect();
    children.iter_mut().for_each(Running::join);
    let lines = Journal::new(fixture.scratch()).lines();
    assert_eq!(assert_one_after_another(&lines), 0);
    assert_eq!(grants(&lines).len(), CHILDREN * TURNS as usize);
}

pub fn writers_killed_at_any_moment_leave_rising_tokens(fixture: &impl LockFixture) {
    const KILLED: usize = 12;
    let journal = Journal::new(fixture.scratch());
    let mut children: Vec<Running> =
        (0..3).map(|_| Running::start(fixture, Role::Writer(u32::MAX))).collect();
    for _ in 0..KILLED {
        let before = journal.lines().len();
        wait_until(limit(), "the writers go on", || journal.lines().len() > before + 10);
        children.remove(0).kill();
        children.push(Running::start(fixture, Role::Writer(u32::MAX)));
    }
    children.into_iter().for_each(Running::finish);
    let unfinished = assert_one_after_another(&journal.lines());
    assert!(unfinished <= KILLED, "{unfinished} turns were cut short by {KILLED} kills");
}

/// The tokens of the journal, in the order in which they were used.
fn grants(lines: &[String]) -> Vec<i64> {
    let begun = lines.iter().filter_map(|line| line.strip_prefix("begin ")?.split(' ').nth(1));
    begun.map(|token| token.parse().expect("a token")).collect()
}

/// Asserts that turns did not overlap and that their tokens rose; returns how many were cut short.
fn assert_one_after_another(lines: &[String]) -> usize {
    let mut open: Option<&str> = None;
    let mut unfinished = 0;
    for line in lines {
        match line.split_once(' ').expect("a whole line") {
            ("begin", turn) => unfinished += usize::from(open.replace(turn).is_some()),
            ("end", turn) => {
                assert_eq!(open.take(), Some(turn), "a turn ended in the middle of another")
            }
            _ => panic!("{line}?"),
        }
    }
    let tokens = grants(lines);
    assert!(
        tokens.is_sorted_by(|one, next| one < next),
        "tokens were not given in rising order: {tokens:?}"
    );
    unfinished + usize::from(open.is_some())
}
