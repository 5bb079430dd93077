//! The migration from edges as rows to adjacency lists, and back: nothing of a graph is lost, also
//! when it is killed, and what it makes is what the service would have written.

use std::process::Stdio;
use std::time::Duration;

use diesel::prelude::*;
use diesel::sql_types::Text;
use fencepost::archive::check_rows;
use fencepost::graph::Side;

use crate::support::ask::{accepted, add, delete_job, keyed, put_dataset, put_job, remove, write};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name};
use crate::support::storm::{Choices, audit};

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

#[derive(QueryableByName, Debug, PartialEq, Eq)]
struct Line {
    #[diesel(sql_type = Text)]
    line: String,
}

fn lines(site: &Site, columns: &str, table: &str) -> Vec<String> {
    let query = format!("SELECT {columns} AS line FROM {table} ORDER BY 1");
    let lines: Vec<Line> = diesel::sql_query(query).load(&mut site.sql()).unwrap();
    lines.into_iter().map(|line| line.line).collect()
}

/// All that the migration must leave as it was.
fn kept(site: &Site) -> Vec<Vec<String>> {
    [
        ("name || ' ' || state || ' ' || version || ' ' || fence || ' ' || uuid", "graphs"),
        ("id || ' ' || name || ' ' || spec || ' ' || version", "jobs"),
        ("id || ' ' || name || ' ' || coalesce(metadata, '-')", "datasets"),
        ("version || change || attempt || token || committed_at_ms", "changes"),
        ("key || fingerprint || answer || created_at_ms", "idempotency_keys"),
        ("name || ' ' || acknowledged || ' ' || seen_at_ms", "consumers"),
    ]
    .map(|(columns, table)| lines(site, columns, table))
    .to_vec()
}

fn edges(site: &Site) -> [Vec<String>; 2] {
    ["input_edges", "output_edges"].map(|view| lines(site, "job || ' ' || dataset", view))
}

/// The same from the tables that the schema before has.
fn edges_before(site: &Site) -> [Vec<String>; 2] {
    ["job_inputs", "job_outputs"].map(|table| {
        let joined = format!(
            "{table} AS edge JOIN jobs ON jobs.graph_id = edge.graph_id AND jobs.id = edge.job_id \
             JOIN datasets ON datasets.graph_id = edge.graph_id AND datasets.id = edge.dataset_id"
        );
        lines(site, "jobs.name || ' ' || datasets.name", &joined)
    })
}

fn migrate(site: &Site, arguments: &[&str]) {
    let (code, said) = finish(site.fencepost(&[&["migrate"][..], arguments].concat()));
    assert_eq!(code, Some(0), "{said}");
}

/// Jobs and datasets that come, change and go, so that ids have gaps and are used again.
fn churn(site: &Site, seed: u64, steps: usize) {
    let (node, mut random) = (site.node(), Choices(seed));
    for step in 0..steps {
        let job = format!("job{}", random.below(30));
        let read = format!("d{}", random.below(12));
        let operation = match random.below(8) {
            0 => delete_job(&job),
            1 => add(Side::Input, &job, &read),
            2 => remove(Side::Input, &job, &read),
            3 => put_dataset(&read),
            4 => put_job(&job, &[], &[]),
            5 => put_job(&job, &[&read, "first"], &[&format!("out {job}"), "maybe"]),
            _ => put_job(&job, &[&read], &[&format!("out {job}")]),
        };
        drop(write(&node, [operation]));
        if step % 10 == 0 {
            let put = put_job(&format!("keyed{step}"), &["first"], &[]);
            let write = keyed(crate::support::ask::changeset([put]), &format!("k{step}"), "f");
            node.write_and_wait(&name(GRAPH), write).unwrap();
        }
    }
}

#[test]
fn the_migration_there_and_back_loses_nothing() {
    for kind in KINDS {
        let site = Site::with_graph_on(kind);
        churn(&site, 7, 200);
        let (code, said) = finish(site.fencepost(&[
            "consumer",
            "ack",
            "--graph",
            GRAPH,
            "--name",
            "reader",
            "--version",
            "3",
        ]));
        assert_eq!(code, Some(0), "{said}");
        let (before, all, lists) = (audit(&site), kept(&site), edges(&site));
        assert!(lists.iter().all(|edges| edges.len() > 10), "{lists:?}");
        for _ in 0..2 {
            migrate(&site, &["--revert", "6"]);
            assert_eq!(
                (kept(&site), edges_before(&site)),
                (all.clone(), lists.clone()),
                "{kind:?}"
            );
            migrate(&site, &[]);
            assert_eq!((kept(&site), edges(&site)), (all.clone(), lists.clone()), "{kind:?}");
            assert_eq!(audit(&site).digest, before.digest);
        }
        // The image that is loaded takes writes as before.
        accepted(&site.node(), [put_job("after", &["first"], &["new"])]);
        assert_eq!(audit(&site).version, before.version + 1);
    }
}

/// The migration makes the tables anew on Postgres.
#[test]
fn whoever_might_read_the_tables_may_read_them_after_the_migration() {
    let site = Site::with_graph_on(Kind::Postgres);
    migrate(&site, &["--revert", "6"]);
    // Roles are of the whole server, which other tests may use.
    let [reader, other] =
        ["a reader", "other"].map(|role| format!("{role} {}", std::process::id()));
    site.run_sql(&format!(
        "CREATE ROLE \"{reader}\"; CREATE ROLE \"{other}\"; \
         GRANT SELECT, UPDATE ON jobs TO \"{reader}\"; GRANT SELECT ON datasets TO PUBLIC"
    ));
    migrate(&site, &[]);
    for (role, table, right, expected) in [
        (&reader, "jobs", "SELECT", true),
        (&reader, "jobs", "UPDATE", true),
        (&reader, "jobs", "DELETE", false),
        (&other, "jobs", "SELECT", false),
        (&other, "datasets", "SELECT", true),
        (&other, "datasets", "INSERT", false),
    ] {
        let asked = format!("has_table_privilege('{role}', '{table}', '{right}')::text");
        assert_eq!(
            lines(&site, &asked, "service"),
            [expected.to_string()],
            "{role} {table} {right}"
        );
    }
}

#[test]
fn a_migration_that_is_killed_is_begun_again() {
    for kind in KINDS {
        let site = Site::with_graph_on(kind);
        let jobs: String = (0..3_000)
            .map(|number| {
                format!(
                    "{{\"name\":\"job{number}\",\"inputs\":[\"first\",\"in{}\"],\
                     \"outputs\":[\"out{number}\"],\"spec\":{{\"text\":\"{}\"}}}}\n",
                    number / 7,
                    "x".repeat(200)
                )
            })
            .collect();
        let file = site.path("jobs.ndjson");
        std::fs::write(&file, jobs).unwrap();
        let import = ["import", "--graph", GRAPH, file.to_str().unwrap()];
        let (code, said) = finish(site.fencepost(&import));
        assert_eq!(code, Some(0), "{said}");
        let (all, lists) = (kept(&site), edges(&site));
        for round in 0..8 {
            let back = round % 2 == 0;
            let arguments: &[&str] =
                if back { &["migrate", "--revert", "6"] } else { &["migrate"] };
            let mut killed = site.fencepost(arguments);
            let mut killed = killed.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            // Somewhere on the way, wherever that is on this machine today.
            std::thread::sleep(Duration::from_millis(15 * (round + 1)));
            drop(killed.kill());
            killed.wait().unwrap();
            // Whether it was done or not: all of it or nothing.
            if back {
                if finish(site.fencepost(&["check-rows", "--graph", GRAPH])).0 == Some(0) {
                    migrate(&site, &["--revert", "6"]);
                }
                assert_eq!((kept(&site), edges_before(&site)), (all.clone(), lists.clone()));
            } else {
                migrate(&site, &[]);
                assert_eq!((kept(&site), edges(&site)), (all.clone(), lists.clone()));
            }
        }
        migrate(&site, &[]);
        audit(&site);
    }
}

/// After every write, whatever it does, the rows are what the log says.
#[test]
fn rows_follow_the_log_through_every_kind_of_write() {
    for kind in KINDS {
        let site = Site::with_graph_on(kind);
        for seed in 0..12 {
            churn(&site, seed, 25);
            let each = &mut |difference: &_| panic!("{difference}");
            let checked = check_rows(&site.store(), &name(GRAPH), each).unwrap();
            assert_eq!(checked.differences, 0);
        }
        audit(&site);
    }
}
