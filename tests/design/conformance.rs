//! What every design must do, whatever it is made of. Cases know a fixture and the words of `ask`,
//! and nothing of how it is built.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use fencepost::design::turns::locked::LockedLimits;
use fencepost::lock::Mode;
use fencepost::service::{Limits, Service, Verdict};

use crate::support::ask::{changeset, in_line, keyed, verdicts};
use crate::support::cluster::{GRAPH, LIMIT, Site, name, wait_until};

pub mod batches;
pub mod changesets;
pub mod create;
pub mod datasets;
pub mod delete;
pub mod edges;
pub mod idempotency;
pub mod nodes;
pub mod patch;
pub mod preconditions;
pub mod put_job;
pub mod reads;

/// One combination of design, database and lock, on a database of its own.
pub trait Fixture {
    /// A node with connections and lock handles of its own.
    fn node_with(&self, limits: Limits) -> Service {
        self.node_waiting(limits, LockedLimits::default().wait)
    }

    /// The same, waiting so long for the lock.
    fn node_waiting(&self, limits: Limits, lock_wait: Duration) -> Service;

    /// Whether a read waits for a writer that holds the lock.
    fn reads_wait(&self) -> bool;

    /// Whether what was written can be read in the change log.
    fn has_history(&self) -> bool;

    /// Whether turns are taken by the lock.
    fn takes_lock(&self) -> bool;

    /// Whether writers take turns in any way. If not, the rules are kept only for one client at a
    /// time that asks one node: what needs more says so in the list of cases.
    fn takes_turns(&self) -> bool;

    /// Has the next commit of any node of a design without a lock wait until it is told to go on.
    /// Returns when the first to wait is there.
    fn hold_up_a_commit(&self, cause: impl FnOnce()) -> mpsc::Sender<()>;

    /// Keeps `node` from serving the writes of [`GRAPH`]: the first in line has a turn of its own
    /// that does not end until this is released.
    fn hold_up(&self, node: &Service) -> HeldUp {
        if self.takes_lock() {
            let lock = self.site().hold_lock(GRAPH, Mode::Exclusive);
            let first = in_line(node, GRAPH, [changeset([])]);
            wait_until("the first turn has begun", || node.waiting().0 == 0);
            return HeldUp { first, release: Box::new(|| lock.release()) };
        }
        let mut first = Vec::new();
        // It changes nothing and yet has something to commit: the answer to a key that is new each
        // time.
        static KEYS: AtomicU64 = AtomicU64::new(0);
        let key = format!("first in line {}", KEYS.fetch_add(1, Ordering::Relaxed));
        let go_on = self
            .hold_up_a_commit(|| first = in_line(node, GRAPH, [keyed(changeset([]), &key, "f")]));
        HeldUp { first, release: Box::new(move || go_on.send(()).unwrap()) }
    }

    /// Whether requests that wait for a graph are served by one turn; if not, each has one of its
    /// own.
    fn shares_turns(&self) -> bool;

    /// How many turns serve so many requests that wait together, within the limits of a batch.
    fn turns_for(&self, requests: u64) -> u64 {
        if self.shares_turns() { 1 } else { requests }
    }

    /// The database and the lock beside it.
    fn site(&self) -> &Site;

    fn node(&self) -> Service {
        self.node_with(unhurried())
    }

    /// A node, and the graph [`GRAPH`], empty.
    fn node_with_graph(&self) -> Service {
        let node = self.node();
        node.create_graph_and_wait(&name(GRAPH)).unwrap();
        node
    }
}

/// The default, but for the time that a turn judges: how many it serves must not depend on how
/// quick the machine is.
pub fn unhurried() -> Limits {
    Limits { batch_time: LIMIT, ..Limits::default() }
}

/// A turn that does not end.
pub struct HeldUp {
    first: Vec<mpsc::Receiver<Verdict>>,
    release: Box<dyn FnOnce()>,
}

impl HeldUp {
    /// Lets it end, and waits until it has.
    pub fn release(self) {
        (self.release)();
        verdicts(self.first)[0].as_ref().unwrap();
    }
}

/// All cases as tests in a module of that name, each for all fixtures that `$fixtures` gives.
macro_rules! instantiate {
    ($name:ident, $fixtures:expr) => {
        mod $name {
            crate::design::conformance::instantiate! { @cases $fixtures;
                create {
                    a_new_graph_is_empty_at_version_0,
                    creating_a_graph_that_is_there_changes_nothing,
                    an_unknown_graph_answers_not_found_and_is_not_remembered,
                    a_graph_created_again_continues_its_versions,
                    two_nodes_create_one_graph,
                    no_rule_spans_two_graphs,
                }
                put_job {
                    a_job_comes_with_its_edges_and_implied_datasets,
                    replacing_a_job_drops_its_old_edges_first,
                    putting_what_is_there_changes_nothing_and_keeps_the_version,
                    a_job_that_reads_what_it_writes_is_refused,
                    a_cycle_is_refused_with_its_path,
                    a_second_producer_is_refused,
                    a_diamond_is_fine,
                }
                patch {
                    a_patch_changes_only_what_it_names,
                    a_patch_of_an_absent_job_is_refused,
                    a_patch_that_changes_nothing_keeps_the_version,
                    a_patch_may_not_close_a_cycle,
                }
                delete {
                    a_deleted_job_takes_its_edges_and_implied_datasets_along,
                    deleting_an_absent_job_is_refused,
                    a_deleted_graph_is_not_found_and_its_versions_go_on,
                    a_graph_deleted_and_created_again_while_another_node_holds_its_image,
                    what_was_in_line_behind_a_deletion_finds_no_graph takes_turns,
                }
                edges {
                    an_edge_needs_both_its_ends,
                    an_edge_is_added_once_and_removed_once,
                    an_added_edge_may_not_break_a_rule,
                    one_edge_of_a_large_job_is_one_small_fact,
                }
                datasets {
                    a_declared_dataset_outlives_its_mentions,
                    a_dataset_in_use_is_not_deleted,
                    metadata_is_replaced_and_equal_metadata_changes_nothing,
                    an_implied_dataset_can_be_declared_and_undeclared,
                }
                changesets {
                    two_jobs_swap_their_outputs_at_once,
                    one_bad_step_rejects_the_whole,
                    existence_is_judged_step_by_step,
                    a_changeset_without_steps_changes_nothing,
                    a_dry_run_judges_and_changes_nothing,
                }
                preconditions {
                    a_write_at_the_version_of_the_job_holds,
                    a_write_at_another_version_is_refused,
                    a_job_that_must_be_absent_is_not_replaced,
                    a_changeset_at_another_version_of_the_graph_is_refused,
                    a_graph_that_is_not_empty_is_deleted_only_with_a_precondition,
                    an_answer_tells_the_version_of_what_was_written,
                    preconditions_are_judged_before_everything_else,
                    of_writes_at_one_version_only_one_holds takes_turns,
                }
                reads {
                    a_plan_lists_what_must_run_in_stages,
                    an_image_stays_as_it_is_while_writes_go_on,
                    a_rejection_tells_the_version_it_was_decided_at,
                    the_change_log_replays_to_the_same_digest,
                }
                nodes {
                    each_node_sees_at_once_what_the_other_has_answered,
                    readers_never_see_a_version_go_back_or_half_a_changeset,
                    versions_are_dense_and_unique_across_nodes,
                    writes_that_exclude_each_other_never_both_hold takes_turns,
                }
                batches {
                    writes_in_line_are_served_together_each_with_its_own_verdict takes_turns,
                    batches_of_any_requests_give_the_verdicts_that_one_by_one_gives takes_turns,
                    no_verdict_of_a_batch_leaves_before_its_commit takes_turns,
                    a_full_line_is_refused_and_nothing_else_suffers takes_turns,
                    a_thousand_waiting_writes_hold_no_thread takes_turns,
                    a_batch_that_the_database_refuses_is_run_again_one_by_one takes_turns,
                    a_lock_that_does_not_come_free_is_told_as_contended,
                    a_frozen_graph_takes_reads_and_no_writes,
                    reads_in_line_are_served_by_one_look,
                    a_batch_ends_at_its_limit_of_bytes,
                }
                idempotency {
                    the_same_key_gives_the_same_answer_and_is_done_once,
                    the_same_key_for_another_request_is_refused,
                    a_rejection_is_not_kept,
                    a_write_that_changes_nothing_is_kept_too,
                    an_answer_is_kept_for_a_day,
                    an_answer_that_was_kept_without_the_version_of_its_subject_is_given,
                    a_dry_run_neither_keeps_nor_uses_a_key,
                    creating_a_graph_again_gives_the_answer_that_was_given,
                    a_key_is_kept_across_deletion,
                    one_key_on_two_nodes_at_once_creates_one_graph,
                }
            }
        }
    };
    (@cases $fixtures:expr; $($verb:ident { $($case:ident $($needs:ident)?,)* })*) => {
        $(mod $verb {
            $(#[test]
            fn $case() {
                for fixture in $fixtures {
                    $(if !crate::design::conformance::Fixture::$needs(&fixture) {
                        continue;
                    })?
                    // Shown if the test fails.
                    println!("with {fixture}");
                    crate::design::conformance::$verb::$case(&fixture);
                }
            })*
        })*
    };
}
pub(crate) use instantiate;
