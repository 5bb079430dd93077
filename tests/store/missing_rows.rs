//! Rows that something else deleted or doubled under a node that has the graph in memory: a write
//! that would change them is refused as a whole, and never answered as done.

use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::design::es_locked::ES_LOCKED;
use fencepost::graph::{Operation, Side};
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Refusal, Service};

use super::calls::replace;
use crate::support::ask::{
    accepted, add, delete_dataset, delete_job, put_dataset, put_job, put_job_with, write,
};
use crate::support::cluster::{GRAPH, Kind, Site, in_child, name};

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// Jobs and datasets of which each can be missing without anything that refers to it.
fn written(kind: Kind) -> (Site, Service) {
    let site = Site::with_graph_on(kind);
    let node = site.node();
    accepted(&node, [put_job("job", &[], &[]), put_job("other", &[], &[]), put_dataset("dataset")]);
    (site, node)
}

/// What is done to the rows, what is then asked for, and how many of which rows are found.
fn cases() -> Vec<(&'static str, Operation, &'static str)> {
    let missing_job = "DELETE FROM jobs WHERE name = 'job'";
    let missing_dataset = "DELETE FROM datasets WHERE name = 'dataset'";
    vec![
        (missing_job, put_job_with("job", &[], &[], r#"{"a":1}"#), "0 of 1 jobs to be changed"),
        (missing_job, add(Side::Input, "job", "first"), "0 of 1 jobs to be changed"),
        (missing_job, delete_job("job"), "0 of 1 jobs to be deleted"),
        (missing_dataset, add(Side::Output, "other", "dataset"), "0 of 1 datasets to be changed"),
        (missing_dataset, delete_dataset("dataset"), "0 of 1 datasets to be deleted"),
    ]
}

/// The table without its key, each row twice.
fn doubled(table: &str) -> String {
    format!(
        "DROP VIEW input_edges; DROP VIEW output_edges; \
         CREATE TABLE doubled AS SELECT * FROM {table} UNION ALL SELECT * FROM {table}; \
         DROP TABLE {table}; ALTER TABLE doubled RENAME TO {table}"
    )
}

/// Has inserts into the table add nothing.
fn swallow_inserts(kind: Kind, table: &str) -> String {
    match kind {
        Kind::Sqlite => format!(
            "CREATE TRIGGER swallow BEFORE INSERT ON {table} BEGIN SELECT RAISE(IGNORE); END"
        ),
        Kind::Postgres => format!(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'; \
             CREATE TRIGGER swallow BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION swallow()"
        ),
    }
}

fn is_refused(kind: Kind, damage: &str, operation: Operation, found: &str) {
    let (site, node) = written(kind);
    let before = site.head();
    site.run_sql(damage);
    let answer = write(&node, [operation]);
    let Err(Refusal::Internal { what }) = answer else { panic!("{kind:?}: {damage}: {answer:?}") };
    let told = format!("the stored rows are not those that were read: {found}");
    assert!(what.contains(&told) && what.contains("fencepost check-rows"), "{kind:?}: {what}");
    let after = site.store().head(&name(GRAPH)).unwrap().unwrap();
    assert_eq!((after.version, after.chain), (before.version, before.chain), "{kind:?}: {damage}");
}

fn all_are_refused(kind: Kind) {
    for (damage, operation, found) in cases() {
        is_refused(kind, damage, operation, found);
    }
    let put_spec = put_job_with("job", &[], &[], r#"{"a":1}"#);
    is_refused(kind, &doubled("jobs"), put_spec, "2 of 1 jobs to be changed");
    is_refused(kind, &doubled("jobs"), delete_job("job"), "2 of 1 jobs to be deleted");
    let delete = delete_dataset("dataset");
    is_refused(kind, &doubled("datasets"), delete, "2 of 1 datasets to be deleted");
    let put = || put_job("new", &[], &[]);
    is_refused(kind, &swallow_inserts(kind, "jobs"), put(), "0 of 1 jobs to be added");
    let declare = put_dataset("new");
    is_refused(kind, &swallow_inserts(kind, "datasets"), declare, "0 of 1 datasets to be added");
    let log = "0 of 1 changes to be added to the log";
    is_refused(kind, &swallow_inserts(kind, "changes"), put(), log);
}

#[test]
fn a_write_over_a_row_that_is_missing_or_there_twice_is_refused() {
    KINDS.into_iter().for_each(all_are_refused);
}

/// A graph that is kept by its log alone has nothing but its log, one without a history its
/// attempts.
#[test]
fn a_write_whose_log_is_not_written_is_refused_however_the_graph_is_kept() {
    for kind in KINDS {
        for design in [&ES_LOCKED, &CRUD_PLAIN] {
            let site = Site::with_graph_of(kind, design);
            let node = node::open(&NodeOptions { design, ..site.options() }).unwrap();
            accepted(&node, [put_job("job", &[], &[])]);
            site.run_sql(&swallow_inserts(kind, "changes"));
            let answer = write(&node, [put_job("new", &[], &[])]);
            let Err(Refusal::Internal { what }) = answer else { panic!("{design}: {answer:?}") };
            assert!(what.contains("0 of 1 changes to be added to the log"), "{design}: {what}");
            assert_eq!(site.head().version, 2, "{design} on {kind:?}");
        }
    }
}

/// The rows of a graph without a history are its only rows.
#[test]
fn a_write_over_a_missing_row_of_a_graph_without_a_history_is_refused() {
    for kind in KINDS {
        for (damage, operation, found) in cases() {
            let site = Site::with_graph_of(kind, &CRUD_PLAIN);
            let options = NodeOptions { design: &CRUD_PLAIN, ..site.options() };
            let node = node::open(&options).unwrap();
            let other = put_job("other", &[], &[]);
            accepted(&node, [put_job("job", &[], &[]), other, put_dataset("dataset")]);
            site.run_sql(damage);
            let answer = write(&node, [operation]);
            let Err(Refusal::Internal { what }) = answer else { panic!("{damage}: {answer:?}") };
            assert!(what.contains(found), "{kind:?}: {what}");
            assert_eq!(site.head().version, 2, "{kind:?}: {damage}");
        }
    }
}

/// As a very large commit is written on Postgres.
#[test]
fn so_it_is_in_a_transaction_of_several_statements() {
    let this = concat!(module_path!(), "::so_it_is_in_a_transaction_of_several_statements");
    in_child(this, "one-call=off", || all_are_refused(Kind::Postgres));
}

/// The negative control.
#[test]
fn without_the_counts_a_write_over_a_missing_row_is_answered_as_done() {
    let this = concat!(
        module_path!(),
        "::without_the_counts_a_write_over_a_missing_row_is_answered_as_done"
    );
    in_child(this, "row-counts=off,one-call=off", || {
        for kind in KINDS {
            for (damage, operation, _) in cases() {
                let (site, node) = written(kind);
                site.run_sql(damage);
                assert!(write(&node, [operation]).is_ok(), "{kind:?}: {damage}");
            }
        }
    });
    for (damage, operation, _) in cases() {
        let (site, node) = written(Kind::Postgres);
        replace(&site, "IF differing IS NOT NULL", "IF false");
        site.run_sql(damage);
        assert!(write(&node, [operation]).is_ok(), "{damage}");
    }
}

/// The image that led there is not used again: what is stored is read, and judged on.
#[test]
fn the_image_is_discarded_and_the_other_writes_of_the_batch_are_served() {
    for kind in KINDS {
        let (site, node) = written(kind);
        site.run_sql("DELETE FROM jobs WHERE name = 'job'");
        assert!(matches!(write(&node, [delete_job("job")]), Err(Refusal::Internal { .. })));
        let refused = write(&node, [delete_job("job")]);
        assert!(matches!(refused, Err(Refusal::Rejected { .. })), "{kind:?}: {refused:?}");
        accepted(&node, [put_job("new", &[], &[])]);
        assert_eq!(site.head().version, 3, "{kind:?}");
    }
}
