//! Nodes of the program before beside those of this one, on one database: a rolling upgrade.
//!
//! Two tests. One runs the program before itself: give its path in [`PROGRAM`]. Without it, this
//! program takes its part, which shows that the test works and nothing of an upgrade. The other
//! runs in any case: it sends the statements of the program before, as they were when schema
//! [`PREVIOUS`] was the newest, around the lock. When a release raises the schema and no node of
//! that program can be left running, raise [`PREVIOUS`] and take the statements of the release
//! before. A migration that breaks them must make them fail, rather than let them write what the
//! new program does not understand.

use std::process::Command;

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::design::es_locked::ES_LOCKED;
use sha2::{Digest, Sha256};

use crate::support::ask::{accepted, put_job};
use crate::support::cluster::{Client, GRAPH, Kind, SERVE, Server, Site, Sql, finish, name};
use crate::support::storm::audit;

/// How many migrations the program before had.
const PREVIOUS: i64 = 8;

/// Names, in the environment, the program of the release before.
const PROGRAM: &str = "FENCEPOST_TEST_PREVIOUS";

#[derive(QueryableByName)]
struct Number {
    #[diesel(sql_type = BigInt)]
    value: i64,
}

#[derive(QueryableByName)]
struct Word {
    #[diesel(sql_type = Text)]
    value: String,
}

/// A node of the program before.
struct Previous<'s> {
    site: &'s Site,
}

impl Previous<'_> {
    fn number(&self, query: &str) -> i64 {
        diesel::sql_query(query).get_result::<Number>(&mut self.site.sql()).unwrap().value
    }

    /// Declares a dataset and puts a job that writes it, as one change.
    fn write(&self, number: i64) {
        let mut sql = self.site.sql();
        let is_sqlite = matches!(sql, Sql::Sqlite(_));
        let bytes = |hex: &str| {
            if is_sqlite { format!("x'{hex}'") } else { format!("'\\x{hex}'::bytea") }
        };
        let hex = if is_sqlite { "lower(hex(chain))" } else { "encode(chain, 'hex')" };
        let query = format!("SELECT {hex} AS value FROM graphs WHERE name = '{GRAPH}'");
        let chain = diesel::sql_query(query).get_result::<Word>(&mut sql).unwrap().value;
        let head = |column: &str| {
            self.number(&format!("SELECT {column} AS value FROM graphs WHERE name = '{GRAPH}'"))
        };
        let (id, version, fence) = (head("id"), head("version"), head("fence"));
        let (now, token) = (version + 1, fence + 1);
        let free = |table: &str| {
            self.number(&format!("SELECT coalesce(max(id), 0) + 1 AS value FROM {table}"))
        };
        let (job, dataset) = (free("jobs"), free("datasets"));
        let first = if is_sqlite { "json_array(id)" } else { "ARRAY[id::integer]" };
        let change = format!(
            "{{\"facts\":[{{\"fact\":\"dataset_declared\",\"metadata\":{{}},\
             \"name\":\"old-d{number}\"}},{{\"fact\":\"job_created\",\
             \"inputs\":[\"first\"],\"name\":\"old-j{number}\",\
             \"outputs\":[\"old-d{number}\"],\"spec\":{{}}}}],\"version\":{now}}}"
        );
        let decoded: Vec<u8> = (0..chain.len() / 2)
            .map(|at| u8::from_str_radix(&chain[2 * at..2 * at + 2], 16).unwrap())
            .collect();
        let next = Sha256::digest([&decoded, change.as_bytes()].concat());
        let next = bytes(&next.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        let updated = format!(
            "UPDATE graphs SET version = {now}, fence = {token}, chain = {next}, state = 'open' \
             WHERE id = {id} AND state = 'open' AND (version = {version} OR 0 = 1) \
             AND (fence <= {token} OR 0 = 1)"
        );
        let statements = [
            format!(
                "INSERT INTO datasets (graph_id, id, name, metadata, producer) \
                 VALUES ({id}, {dataset}, 'old-d{number}', '{{}}', {job})"
            ),
            format!(
                "INSERT INTO jobs (graph_id, id, name, spec, version, inputs) \
                 SELECT {id}, {job}, 'old-j{number}', '{{}}', {now}, {first} \
                 FROM datasets WHERE graph_id = {id} AND name = 'first'"
            ),
            format!(
                "INSERT INTO changes (graph_id, version, change, chain, attempt, token, \
                 committed_at_ms, actor) \
                 VALUES ({id}, {now}, '{change}', {next}, 'previous {number}', {token}, 1, NULL)"
            ),
            "DELETE FROM idempotency_keys WHERE created_at_ms < 0".to_owned(),
            format!(
                "INSERT INTO idempotency_keys (graph_id, key, fingerprint, answer, created_at_ms) \
                 VALUES ({id}, 'key {number}', 'f', '{{}}', 1)"
            ),
        ];
        sql.transaction(|sql| {
            assert_eq!(diesel::sql_query(&updated).execute(sql)?, 1);
            statements
                .iter()
                .try_for_each(|statement| diesel::sql_query(statement).execute(sql).map(drop))
        })
        .unwrap_or_else(|error: diesel::result::Error| panic!("{error}"));
    }

    /// What it does besides: creates graphs, reads what it serves, names consumers and the lock.
    fn go_round(&self, number: i64) {
        let zero = if matches!(self.site.sql(), Sql::Sqlite(_)) {
            "zeroblob(32)"
        } else {
            "decode(repeat('00', 32), 'hex')"
        };
        for statement in [
            format!(
                "INSERT INTO graphs (name, state, version, fence, epoch, lock_incarnation, chain, \
                 uuid) VALUES ('old-{number}', 'open', 0, 0, 0, '', {zero}, \
                 '00000000-0000-4000-8000-{number:012}') \
                 ON CONFLICT (name) DO NOTHING"
            ),
            format!(
                "INSERT INTO consumers (graph_id, name, acknowledged, acknowledged_at_ms) \
                 SELECT id, 'old {number}', 0, 1 FROM graphs WHERE name = '{GRAPH}'"
            ),
            "UPDATE service SET lock_kind = lock_kind, lock_identity = lock_identity".to_owned(),
            "UPDATE graphs SET epoch = epoch, fence = fence, lock_incarnation = lock_incarnation \
             WHERE epoch = -1"
                .to_owned(),
        ] {
            self.site.run_sql(&statement);
        }
        for columns in [
            "id, name, state, moved_to, version, fence, epoch, lock_incarnation, chain, uuid, \
             oldest FROM graphs",
            "id, database_id, lock_kind, lock_identity FROM service",
            "graph_id, id, name, spec, version, inputs FROM jobs",
            "graph_id, id, name, metadata, producer FROM datasets",
            "graph_id, version, change, chain, attempt, token, committed_at_ms, actor FROM changes",
            "graph_id, key, fingerprint, answer, created_at_ms FROM idempotency_keys",
            "graph_id, name, acknowledged, acknowledged_at_ms FROM consumers",
            "graph_id, version, committed_at_ms FROM snapshots",
            "graph_id, version, part, lines FROM snapshot_parts",
        ] {
            self.number(&format!("SELECT count(*) AS value FROM (SELECT {columns}) AS read"));
        }
    }
}

/// It knows no storage but rows, and would write what it decided on rows that are not the graph's.
#[test]
fn a_node_of_the_program_before_writes_nothing_to_a_graph_that_is_kept_in_another_storage() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        for design in [&ES_LOCKED, &CRUD_PLAIN] {
            let site = Site::with_graph_of(kind, design);
            let fence = site.head().fence;
            let update = |more: &str| {
                let update = format!(
                    "UPDATE graphs SET version = version + 1, fence = {fence} {more} \
                     WHERE name = '{GRAPH}' AND state = 'open'"
                );
                diesel::sql_query(update).execute(&mut site.sql())
            };
            assert!(update("").is_err(), "{design} on {kind:?}");
            if kind == Kind::Postgres {
                let call = "SELECT outcome AS value \
                    FROM graphs, fencepost_commit_1(NULL, id, uuid, \
                    version, chain, fence + 1, 'previous', false, version + 1, chain, fence + 1, \
                    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', \
                    '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', '{}', 1)";
                let called = diesel::sql_query(call).get_result::<Word>(&mut site.sql());
                let refused = called.map(|word| word.value).unwrap_err().to_string();
                assert!(refused.contains("check"), "{refused}");
            }
            audit(&site);
            // As it would be without what stops it.
            assert_eq!(update(", known_version = version + 1"), Ok(1));
        }
    }
}

/// `command` of the program before.
fn of_the_program_before(command: &Command) -> Command {
    let program = std::env::var_os(PROGRAM).unwrap_or_else(|| command.get_program().to_owned());
    let mut before = Command::new(program);
    before.args(command.get_args());
    for (name, value) in command.get_envs() {
        match value {
            Some(value) => before.env(name, value),
            None => before.env_remove(name),
        };
    }
    before
}

#[test]
fn programs_of_two_releases_serve_one_graph() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::on(kind);
        let serve_before = || of_the_program_before(&site.fencepost(&SERVE));
        // It makes the schema.
        let before = Server::start(serve_before());
        let path = format!("/v1/graphs/{GRAPH}");
        let made = Client::new().send(&before.base, "PUT", &path, None, None).unwrap();
        assert_eq!(made.status, 201, "{}", made.body);
        before.put_job("first", &[], &["d0"]).unwrap();
        let mut version = 1;
        let now = site.serve();
        for n in 1..20 {
            let writer = if n % 2 == 0 { &before } else { &now };
            let (input, output) = (format!("d{}", n - 1), format!("d{n}"));
            let answer = writer.put_job(&format!("j{n}"), &[&input], &[&output]).unwrap();
            version += 1;
            assert_eq!((answer.status, answer.version()), (201, version), "{}", answer.body);
            for node in [&before, &now] {
                let read = node.get(&format!("{path}/jobs/j{n}")).unwrap();
                assert_eq!((read.status, read.version()), (200, version), "{}", read.body);
            }
        }
        // Both at once, each on datasets of its own.
        std::thread::scope(|scope| {
            for (name, node) in [("before", &before), ("now", &now)] {
                scope.spawn(move || {
                    for n in 0..20 {
                        let answer = node.put_job(&format!("{name}-{n}"), &["d0"], &[]).unwrap();
                        assert_eq!(answer.status, 201, "{}", answer.body);
                    }
                });
            }
        });
        // A cycle through jobs of both is seen by both.
        for node in [&before, &now] {
            assert_eq!(node.put_job("first", &["d19"], &["d0"]).unwrap().status, 409);
        }
        // Started anew beside the newer one, it is served, or told that it is too old.
        drop(before);
        match Server::try_start(serve_before()) {
            Ok(before) => assert_eq!(before.get(&path).unwrap().status, 200),
            Err((code, said)) => {
                assert!(code == Some(1) && said.contains("newer fencepost"), "{code:?} {said}");
            }
        }
        assert_eq!(audit(&site).version, version + 40);
    }
}

#[test]
fn nodes_of_the_program_before_go_on_while_those_of_this_one_come_up() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let previous = Previous { site: &site };
        let newer =
            previous.number("SELECT count(*) AS value FROM __diesel_schema_migrations") - PREVIOUS;
        if newer > 0 {
            let (code, said) = finish(site.fencepost(&["migrate", "--revert", &newer.to_string()]));
            assert_eq!(code, Some(0), "{said}");
        }
        previous.write(1);
        previous.go_round(1);
        // The first node of this program brings the schema up to date.
        let node = site.node();
        accepted(&node, [put_job("new-1", &["old-d1"], &["new-d1"])]);
        previous.write(2);
        previous.go_round(2);
        // Each sees what the other wrote.
        assert_eq!(accepted(&node, [put_job("new-2", &["old-d2"], &["new-d2"])]), 5);
        previous.write(3);
        let image = node.read_and_wait(&name(GRAPH)).unwrap();
        assert_eq!(image.key.version, 6);
        for job in ["old-j1", "new-1", "old-j2", "new-2", "old-j3"] {
            assert!(image.graph.job(job).is_some(), "{job} on {kind:?}");
        }
        assert_eq!(image.graph.digest(), audit(&site).digest);
    }
}

/// What a program wrote that kept edges as rows of their own. It is refused when it starts; one
/// that was running while the database was migrated must not write what lacks a job's edges.
#[test]
fn statements_for_edges_as_rows_fail_on_adjacency_lists() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = Site::with_graph_on(kind);
        let node = site.node();
        accepted(&node, [put_job("a", &["x"], &["y"])]);
        for statement in [
            "INSERT INTO jobs (graph_id, id, name, spec, version) \
             SELECT graph_id, 7, 'b', '{}', 2 FROM jobs",
            "INSERT INTO job_inputs (graph_id, job_id, dataset_id) \
             SELECT jobs.graph_id, jobs.id, datasets.id FROM jobs, datasets",
            "DELETE FROM job_inputs",
            "DELETE FROM job_outputs",
            "SELECT job_id, dataset_id FROM job_inputs",
        ] {
            let refused = diesel::sql_query(statement).execute(&mut site.sql());
            assert!(refused.is_err(), "{statement} on {kind:?}");
        }
        audit(&site);
    }
}
