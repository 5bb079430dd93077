//! The check of what a storm leaves behind is checked itself: what is wrong in the rows makes it
//! fail.

use fencepost::graph::Side;

use crate::support::ask::{accepted, add, put_dataset, put_job};
use crate::support::cluster::{Site, lists};
use crate::support::storm::audit;

fn damaged_by(statements: &str) {
    let site = Site::with_graph();
    let node = site.node();
    accepted(
        &node,
        [put_job("a", &["x"], &["y"]), put_job("b", &["y"], &["z"]), put_dataset("declared")],
    );
    accepted(&node, [add(Side::Input, "a", "declared")]);
    accepted(&node, [put_dataset("last")]);
    assert_eq!(audit(&site).version, 4);
    site.run_sql(&lists(&site, statements));
    audit(&site);
}

// Ids follow the order in which names came: first 0, x 1, y 2, z 3, declared 4.
macro_rules! is_noticed {
    ($($name:ident: $message:literal, $statements:expr;)*) => {
        $(#[test]
        #[should_panic(expected = $message)]
        fn $name() {
            damaged_by($statements);
        })*
    };
}

is_noticed! {
    a_missing_change: "dense", "DELETE FROM changes WHERE version = 3";
    a_missing_last_change: "ends at the graph's version", "DELETE FROM changes WHERE version = 4";
    another_text: "the chain is broken at version 2", "UPDATE changes SET change = replace(change, '\"z\"', '\"zz\"') WHERE version = 2";
    another_chain: "chain", "UPDATE graphs SET chain = (SELECT chain FROM changes WHERE version = 1)";
    a_token_given_twice: "token", "UPDATE changes SET token = (SELECT token FROM changes WHERE version = 2) WHERE version = 3";
    a_token_that_goes_back: "token", "UPDATE changes SET token = 1 WHERE version = 3";
    an_edge_that_nobody_put: "the rows are what the log says", "UPDATE jobs SET inputs = '<1,3,4>' WHERE name = 'a'";
    an_edge_that_is_gone: "the rows are what the log says", "UPDATE jobs SET inputs = '<1>' WHERE name = 'a'";
    another_spec: "the rows are what the log says", "UPDATE jobs SET spec = '{\"a\":1}' WHERE name = 'a'";
    an_orphan: "orphan", "INSERT INTO datasets SELECT id, 99, 'orphan', NULL, NULL FROM graphs";
    another_producer: "the rows are what the log says", "UPDATE datasets SET producer = (SELECT id FROM jobs WHERE name = 'b') WHERE name = 'y'";
    an_input_listed_twice: "listed twice", "UPDATE jobs SET inputs = '<1,1>' WHERE name = 'a'";
}
