//! Shows that the guards are needed: with one switched off, its test goes red. Wants the feature
//! `failpoints`. Only tests that go red every time are here: a flood that starves somebody leaves a
//! gap by chance on a busy machine.

use crate::support::guards::passes;

macro_rules! guards {
    ($($name:ident: $guard:literal guards $test:literal;)*) => {
        $(#[test]
        fn $name() {
            assert!(passes($test, None), "{} passes with its guard", $test);
            assert!(!passes($test, Some($guard)), "{} passes without {}", $test, $guard);
        })*
    };
}

guards! {
    without_the_turnstile_a_waiting_writer_holds_nobody_back:
        "lock.file.turnstile" guards "lock::file::a_waiting_writer_holds_back_later_readers";
    without_orphans_letting_go_a_wait_that_ran_out_blocks_all:
        "lock.file.orphan" guards "lock::file::waits_that_run_out_leave_one_helper_for_each_file_and_that_lets_go";
    without_looking_at_the_path_two_files_are_locked:
        "lock.file.replaced" guards "lock::file::a_wiped_directory_is_noticed_while_running";
    without_looking_at_the_path_a_waiter_gets_the_former_file:
        "lock.file.replaced" guards "lock::file::who_waits_for_a_file_that_is_replaced_gets_the_new_one";
    without_the_boot_a_record_from_before_a_crash_is_believed:
        "lock.file.boot" guards "lock::file::a_record_of_another_boot_wants_seeding";
    without_the_file_a_copy_is_believed:
        "lock.file.copied" guards "lock::file::a_copy_that_is_put_in_place_wants_seeding";
    without_the_checksum_a_damaged_record_is_believed:
        "lock.file.checksum" guards "lock::file::a_damaged_record_wants_seeding_whichever_bit_it_is";
    without_counting_tokens_repeat:
        "lock.file.counter" guards "lock::file::tokens_rise_over_handles_and_seedings";
    without_counting_tokens_repeat_between_processes:
        "lock.file.counter" guards "lock::file::writers_in_many_processes_never_overlap";
    without_a_limit_of_its_own_renewal_waits_for_a_silent_server_and_leases_elsewhere_end:
        "lock.postgres.renewal-limit" guards "lock::postgres::leases_on_a_new_primary_are_renewed_while_holders_on_the_former_wait_for_it";
    without_an_age_limit_readers_of_one_process_overtake_a_waiting_writer:
        "lock.postgres.joined-for" guards "lock::postgres::a_waiting_writer_holds_back_later_readers";
    without_a_new_session_one_that_ended_while_idle_is_in_the_way:
        "lock.postgres.new-session" guards "lock::postgres::sessions_that_ended_while_idle_are_replaced";
    without_being_closed_a_session_keeps_the_lock_that_it_could_not_give_back:
        "lock.postgres.closed" guards "lock::postgres::a_session_that_could_not_give_the_lock_back_is_closed";
    without_settings_of_its_own_a_session_is_ended_by_the_databases:
        "lock.postgres.set-up" guards "lock::postgres::time_limits_of_the_database_do_not_reach_the_lock";
    without_the_run_a_copy_of_the_database_is_believed:
        "lock.postgres.run" guards "lock::postgres::a_database_that_was_cloned_wants_seeding";
    without_a_memory_of_requests_a_lost_answer_is_waited_for:
        "lock.redis.memo" guards "lock::redis::faults::an_answer_that_is_lost_is_asked_for_again_and_is_the_same";
    without_a_memory_of_requests_a_late_one_is_granted:
        "lock.redis.memo" guards "lock::redis::faults::a_request_that_arrives_after_its_end_is_not_granted";
    without_leases_of_waiters_a_dead_one_holds_back_all:
        "lock.redis.patience" guards "lock::redis::faults::a_writer_that_died_while_waiting_holds_back_nobody";
    without_ownership_a_late_release_frees_another:
        "lock.redis.ownership" guards "lock::redis::faults::a_release_that_comes_after_its_lease_frees_nobody";
    without_a_mark_nobody_seals_after_an_expiry:
        "lock.redis.unsealed" guards "lock::redis::faults::whoever_gains_by_expiry_must_seal_until_one_has";
    without_its_run_an_older_dump_is_believed:
        "lock.redis.run" guards "lock::redis::faults::tokens_rise_over_an_older_dump";
    without_its_run_a_lagging_replica_is_believed:
        "lock.redis.run" guards "lock::redis::faults::tokens_rise_over_a_lagging_replica_that_is_promoted_and_demoted_again";
    without_renewal_a_holder_on_redis_loses_the_lock:
        "lock.redis.renewal" guards "lock::redis::faults::a_holder_that_works_for_longer_than_a_lease_keeps_the_lock";
    without_its_own_clock_a_holder_does_not_know_that_it_is_cut_off:
        "lock.redis.validity" guards "lock::redis::faults::a_holder_that_is_cut_off_knows_it_for_good";
    without_messages_a_hand_over_is_found_out_later:
        "lock.redis.messages" guards "lock::redis::faults::what_is_handed_over_is_told_by_a_message";
    without_messages_an_idle_grant_is_kept_though_another_process_wants_it:
        "lock.redis.messages" guards "lock::kept::an_idle_grant_is_given_back_when_another_process_wants_it";
    without_asking_a_busy_holder_keeps_the_lock_where_messages_are_lost:
        "lock.kept.look" guards "lock::kept::who_waits_gets_in_after_the_turn_that_is_under_way_though_messages_are_lost";
    without_its_limit_an_idle_grant_is_kept:
        "lock.kept.idle" guards "lock::kept::an_idle_grant_is_given_back";
    without_renewal_a_lease_ends_under_its_holder:
        "lock.postgres.renewal" guards "lock::postgres::a_holder_that_works_for_longer_than_a_lease_keeps_the_lock";
    without_a_limit_every_session_is_kept:
        "lock.postgres.sessions-kept" guards "lock::postgres::sessions_are_used_again_and_few_are_kept";
}
