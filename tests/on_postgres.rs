//! The tests that are not about one database, once more on Postgres: each group in a process of its
//! own, which `Site` and `Server` then give Postgres to. What is about a file is named here, so
//! that a test which is left out is left out on purpose.

use std::process::Command;

use crate::support::cluster::{Kind, finish};
use crate::support::postgres::Postgres;

/// Runs the tests whose names contain `group` on Postgres, but for `about_files`, and wants at
/// least `at_least` of them.
fn run(group: &str, at_least: usize, about_files: &[&str]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.arg(group).env(Kind::VARIABLE, "postgres");
    for name in about_files {
        command.args(["--skip", name]);
    }
    Postgres::lend_to(&mut command);
    let (code, output) = finish(command);
    let passed = output
        .split("test result: ok. ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next()?.parse().ok());
    assert!(code == Some(0), "{output}");
    assert!(
        passed.is_some_and(|passed: usize| passed >= at_least),
        "fewer than {at_least}: {output}"
    );
}

#[test]
fn the_whole_http_contract() {
    run("http::", 100, &[]);
}

#[test]
fn what_the_store_promises() {
    let about_files = [
        "store::opening::every_pooled_connection_is_set_up_for_durability",
        "store::opening::two_transactions_that_read_before_they_write_wait_for_each_other",
        "store::opening::a_transaction_whose_body_panics_is_rolled_back",
        "store::opening::a_database_that_cannot_be_opened_names_its_path",
        "store::opening::a_file_that_may_not_be_written_is_told",
        "store::opening::migrations_go_down_and_up_again",
        "store::opening::a_database_guarded_by_another_lock_is_refused_with_the_command_that_changes_it",
        "store::opening::of_processes_with_different_locks_on_a_new_file_only_one_kind_comes_up",
        "store::opening::a_database_is_opened_and_read_while_another_process_writes",
        "store::outcomes::a_full_disk_refuses_writes_whole_and_lets_them_in_again_when_there_is_room",
        "store::outcomes::a_file_that_another_program_holds_is_told_and_nothing_is_written",
        "store::tokens::a_lock_directory_that_was_wiped_opens_a_new_epoch",
        "store::tokens::an_older_lock_file_copied_back_in_place_gives_no_token_twice",
        "store::tokens::another_file_in_the_place_of_the_lock_file_gives_no_token_twice",
        "store::tokens::a_database_restored_under_running_nodes_is_served_anew",
        "store::tokens::an_image_of_another_history_at_the_same_version_is_thrown_away",
        "store::tokens::a_graph_that_a_restored_database_keeps_under_another_id_is_found",
        "store::tokens::a_database_restored_while_nobody_runs_is_served",
        "store::tokens::a_lock_that_forgets_or_remembers_wrongly_gives_no_token_twice",
        // About files, or on Postgres in any run.
        "store::files",
        "store::foreign",
        "store::binding",
        "store::rolling",
        "store::failover",
        "store::poolers",
        "store::server",
        "store::sessions",
    ];
    run("store::", 15, &about_files);
}

#[test]
fn crashes() {
    let about_files = [
        "crash::kills::while_the_lock_is_seeded",
        "crash::stops::a_stopped_holder_holds_writers_up_and_misleads_nobody",
        "crash::syncs",
    ];
    run("crash::", 8, &about_files);
}
