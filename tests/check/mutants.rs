//! A service without mistakes is found valid, whatever the schedule; each mistake is found within a
//! few schedules, and named.

use std::collections::BTreeSet;

use fencepost::check::{Kind, Summary, Verdict};

use super::script::{judge, lines};
use super::simulator::{Mutant, Run, Size, simulate};

const SIZE: Size = Size { nodes: 3, clients: 5, requests: 60 };

fn verdict(run: &Run) -> Verdict {
    judge(&[&lines(&run.history)], Some(&lines(&run.log)))
        .expect("the simulator writes whole histories")
}

#[test]
fn a_service_without_mistakes_is_valid_under_hundreds_of_schedules() {
    let (mut unknown, mut applied) = (0, 0);
    for seed in 0..400 {
        let run = simulate(seed, &SIZE, None);
        match verdict(&run) {
            Verdict::Valid(Summary { unknown, unknown_applied, .. }) => {
                assert_eq!(
                    (unknown, unknown_applied),
                    (run.unknown, run.unknown_applied),
                    "seed {seed}"
                );
            }
            Verdict::Found(finding) => panic!("seed {seed}: {finding}"),
        }
        unknown += run.unknown;
        applied += run.unknown_applied;
    }
    assert!(
        applied > 100 && unknown - applied > 100,
        "{applied} of {unknown} unknown writes were applied"
    );
}

#[test]
fn without_a_log_what_is_said_to_be_valid_or_wrong_is_so() {
    let (mut valid, mut undecided) = (0, 0);
    for seed in 0..400 {
        let run = simulate(seed, &SIZE, None);
        match judge(&[&lines(&run.history)], None).unwrap() {
            Verdict::Valid(_) => valid += 1,
            Verdict::Found(finding) => {
                assert_eq!(finding.kind, Kind::Undecided, "seed {seed}: {finding}");
                undecided += 1;
            }
        }
    }
    assert!(valid > 100 && undecided > 10, "{valid} valid, {undecided} undecided");
}

/// Looks at forty schedules: at least five must be caught, each under one of the names.
#[track_caller]
fn catches(mutant: Mutant, names: &[Kind]) {
    const SEEDS: u64 = 40;
    let mut caught = 0;
    let mut seen = BTreeSet::new();
    for seed in 0..SEEDS {
        if let Verdict::Found(finding) = verdict(&simulate(seed, &SIZE, Some(mutant))) {
            assert!(names.contains(&finding.kind), "{mutant:?}, seed {seed}, is called: {finding}");
            seen.insert(finding.kind.to_string());
            caught += 1;
        }
    }
    assert!(
        caught * 8 >= SEEDS,
        "{mutant:?} was caught in {caught} of {SEEDS} schedules, as {seen:?}"
    );
}

#[test]
fn an_image_published_before_its_version_is_caught() {
    catches(Mutant::ImageBeforeVersion, &[Kind::WrongAnswer, Kind::WrongRejection]);
}

#[test]
fn a_version_read_before_its_rows_is_caught() {
    catches(Mutant::VersionBeforeRows, &[Kind::WrongAnswer, Kind::WrongRejection]);
}

#[test]
fn a_write_after_an_expired_lock_without_fence_and_comparison_is_caught() {
    catches(
        Mutant::NoFenceNoComparison,
        &[
            Kind::DuplicateVersion,
            Kind::LostWrite,
            Kind::WrongAnswer,
            Kind::WrongRejection,
            Kind::FinalDigest,
        ],
    );
}

#[test]
fn a_lost_race_that_is_told_as_a_rejection_is_caught() {
    catches(Mutant::LostRaceAsRejection, &[Kind::WrongRejection]);
}

#[test]
fn an_append_that_was_answered_and_never_stored_is_caught() {
    catches(
        Mutant::SwallowedAppend,
        &[
            Kind::LostWrite,
            Kind::DuplicateVersion,
            Kind::PhantomVersion,
            Kind::WrongAnswer,
            Kind::WrongRejection,
        ],
    );
}

#[test]
fn a_cache_that_goes_back_in_time_is_caught() {
    catches(Mutant::CacheGoesBack, &[Kind::StaleAnswer]);
}

#[test]
fn a_read_from_a_stale_node_is_caught() {
    catches(Mutant::StaleNode, &[Kind::StaleAnswer]);
}

#[test]
fn verdicts_given_to_the_wrong_requests_of_a_batch_are_caught() {
    catches(
        Mutant::VerdictsMixedUp,
        &[Kind::LostWrite, Kind::IllegalAccept, Kind::WrongRejection, Kind::RefusedButApplied],
    );
}
