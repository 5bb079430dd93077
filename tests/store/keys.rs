//! Idempotency keys grow old by the database's clock, and are deleted beside the writes, a few of
//! one graph at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::BigInt;
use fencepost::design::TurnLimits;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Accepted, Limits, Service, Verdict};
use fencepost::store::{ANSWER_RETENTION, Acknowledgement, Purged};

use crate::cli::Shell;
use crate::support::ask::{accepted, changeset, keyed, put_dataset};
use crate::support::cluster::start_optimistic;
use crate::support::cluster::{GRAPH, Kind, Site, Sql, name, wait_until};
use crate::support::storm::audit;

const KINDS: [Kind; 2] = [Kind::Sqlite, Kind::Postgres];

/// Longer than a key is kept.
const OLD_MS: i64 = ANSWER_RETENTION.as_millis() as i64 + 60_000;

/// A site with graphs of these names, empty; their row ids rise.
fn site_with(kind: Kind, graphs: &[&str]) -> Site {
    let site = Site::on(kind);
    let node = site.node();
    for graph in graphs {
        node.create_graph_and_wait(&name(graph)).unwrap();
    }
    site
}

fn id_of(site: &Site, graph: &str) -> i64 {
    site.store().head(&name(graph)).unwrap().unwrap().id
}

/// Gives a graph keys `PREFIX1`, `PREFIX2`, … of that age.
fn insert_keys(site: &Site, graph: &str, prefix: &str, count: u64, age_ms: i64) {
    let now_ms = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let at_ms = now_ms.as_millis() as i64 - age_ms;
    let numbers = match site.sql() {
        Sql::Sqlite(_) => format!(
            "WITH RECURSIVE number (n) AS \
             (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {count}) \
             SELECT n FROM number"
        ),
        Sql::Postgres(_) => format!("SELECT generate_series AS n FROM generate_series(1, {count})"),
    };
    site.run_sql(&format!(
        "INSERT INTO idempotency_keys (graph_id, key, fingerprint, answer, created_at_ms) \
         SELECT {}, '{prefix}' || n, 'f', '{{\"version\":0,\"changed\":false,\"created\":false}}', \
         {at_ms} \
         FROM ({numbers}) AS numbers",
        id_of(site, graph)
    ));
}

#[derive(QueryableByName)]
struct Count {
    #[diesel(sql_type = BigInt)]
    count: i64,
}

/// How many keys begin so.
fn keys(site: &Site, prefix: &str) -> i64 {
    let query =
        format!("SELECT count(*) AS count FROM idempotency_keys WHERE key LIKE '{prefix}%'");
    sql_query(query).get_result::<Count>(&mut site.sql()).unwrap().count
}

fn ask(node: &Service, key: &str, dataset: &str) -> Verdict {
    node.write_and_wait(&name(GRAPH), keyed(changeset([put_dataset(dataset)]), key, "f"))
}

#[test]
fn a_write_deletes_no_key_however_many_are_old() {
    for kind in KINDS {
        let site = site_with(kind, &[GRAPH, "other"]);
        insert_keys(&site, GRAPH, "old-", 20_000, OLD_MS);
        insert_keys(&site, "other", "old-other-", 20_000, OLD_MS);
        let node = site.node();
        for n in 0..3 {
            ask(&node, &format!("new-{n}"), &format!("d-{n}")).unwrap();
            node.create_graph_and_wait(&name("third")).unwrap();
        }
        assert_eq!((keys(&site, "old-"), keys(&site, "new-")), (40_000, 3), "{kind:?}");
        // One of them is used anew: in its place.
        assert_eq!(
            ask(&node, "old-7", "d-0"),
            Ok(Accepted { version: 3, changed: false, created: false, subject_version: Some(3) })
        );
        assert_eq!(keys(&site, "old-"), 40_000);
        audit(&site);
    }
}

#[test]
fn old_keys_go_in_pieces_of_one_graph_and_the_others_stay() {
    for kind in KINDS {
        let site = site_with(kind, &["a", "b", "c", "d"]);
        let ids = ["a", "b", "c", "d"].map(|graph| id_of(&site, graph));
        insert_keys(&site, "a", "old-a-", 5, OLD_MS);
        insert_keys(&site, "b", "young-b-", 5, OLD_MS - 120_000);
        insert_keys(&site, "c", "old-c-", 2, OLD_MS);
        insert_keys(&site, "c", "young-c-", 2, 0);
        let store = site.store();
        let purge = |after| store.purge_answers(after, 3).unwrap();
        let of = |graph: usize, keys| Some(Purged { graph_id: ids[graph], keys });
        assert_eq!(purge(0), of(0, 3));
        assert_eq!(keys(&site, "old-a-"), 2);
        assert_eq!(purge(ids[0]), of(2, 2), "b has no old ones");
        assert_eq!(purge(ids[2]), None);
        assert_eq!(purge(0), of(0, 2));
        assert_eq!(purge(0), None);
        assert_eq!((keys(&site, "old-"), keys(&site, "young-")), (0, 7));
    }
}

#[test]
fn a_node_deletes_old_keys_of_all_graphs_while_it_serves() {
    for kind in KINDS {
        let site = site_with(kind, &[GRAPH, "b", "c"]);
        for graph in [GRAPH, "b", "c"] {
            insert_keys(&site, graph, &format!("old-{graph}-"), 700, OLD_MS);
            insert_keys(&site, graph, &format!("young-{graph}-"), 10, 0);
        }
        let limits = Limits {
            purge_every: Duration::from_millis(1),
            purge_keys: 100,
            purge_pause: Duration::from_millis(1),
            ..Limits::default()
        };
        let node = node::open(&NodeOptions { limits, ..site.options() }).unwrap();
        let purged = &node.metrics().purged_keys;
        let mut written = 0;
        wait_until("all old keys are deleted", || {
            written += 1;
            ask(&node, &format!("young-{written}"), "d").unwrap();
            purged.get() == 2_100
        });
        assert_eq!((keys(&site, "old-"), keys(&site, "young-")), (0, 30 + written));
    }
}

#[test]
fn a_node_that_ends_ends_the_deletion_too_and_lets_the_store_go() {
    let site = site_with(Kind::of_this_run(), &[GRAPH]);
    let store = Arc::new(site.store());
    let node = start_optimistic(Arc::clone(&store), Limits::default(), TurnLimits::default());
    assert_eq!(Arc::strong_count(&store), 3, "the service's and the thread's");
    drop(node);
    wait_until("nobody has the store", || Arc::strong_count(&store) == 1);
}

/// A failure harms no request, and is made up for.
#[test]
fn a_deletion_that_fails_is_tried_again() {
    let site = site_with(Kind::Postgres, &[GRAPH]);
    insert_keys(&site, GRAPH, "old-", 50, OLD_MS);
    site.run_sql(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN RAISE EXCEPTION 'not now'; END $$;
         CREATE TRIGGER refuse BEFORE DELETE ON idempotency_keys
         FOR EACH ROW EXECUTE FUNCTION refuse()",
    );
    assert!(site.store().purge_answers(0, 10).is_err());
    let every = Duration::from_millis(5);
    let limits = Limits { purge_every: every, purge_pause: every, ..Limits::default() };
    let node = node::open(&NodeOptions { limits, ..site.options() }).unwrap();
    for n in 0..20 {
        ask(&node, &format!("new-{n}"), "d").unwrap();
    }
    assert_eq!((keys(&site, "old-"), node.metrics().purged_keys.get()), (50, 0));
    site.run_sql("DROP TRIGGER refuse ON idempotency_keys");
    wait_until("they are deleted", || node.metrics().purged_keys.get() == 50);
}

/// Somebody is at one of them, as a request is that uses it anew.
#[test]
fn a_deletion_waits_for_nobody() {
    let site = site_with(Kind::Postgres, &[GRAPH]);
    insert_keys(&site, GRAPH, "old-", 5, OLD_MS);
    let mut other = site.sql();
    other
        .batch_execute("BEGIN; SELECT 1 FROM idempotency_keys WHERE key = 'old-3' FOR UPDATE")
        .unwrap();
    let graph_id = id_of(&site, GRAPH);
    let store = site.store();
    assert_eq!(store.purge_answers(0, 10).unwrap(), Some(Purged { graph_id, keys: 4 }));
    assert_eq!(store.purge_answers(0, 10).unwrap(), Some(Purged { graph_id, keys: 0 }));
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(store.purge_answers(0, 10).unwrap(), Some(Purged { graph_id, keys: 1 }));
}

/// Has every new session on the database find the server's clock that far ahead.
fn put_clock_ahead(site: &Site, hours: u32) {
    let database = site.database_url();
    let database = database.rsplit('/').next().unwrap();
    site.run_sql(&format!(
        "CREATE FUNCTION public.statement_timestamp() RETURNS timestamptz LANGUAGE sql STABLE \
         AS $$ SELECT pg_catalog.statement_timestamp() + interval '{hours} hours' $$;
         CREATE FUNCTION public.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE \
         AS $$ SELECT pg_catalog.clock_timestamp() + interval '{hours} hours' $$;
         ALTER DATABASE \"{database}\" SET search_path = public, pg_catalog"
    ));
}

fn now_ms() -> i64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    now.as_millis() as i64
}

/// The nodes' clocks stay as they are and say that the key is young: what counts is the server's.
#[test]
fn the_databases_clock_says_how_old_a_key_is_and_when_a_change_was_committed() {
    const HOUR_MS: i64 = 3_600_000;
    let site = site_with(Kind::Postgres, &[GRAPH]);
    let first = ask(&site.node(), "k", "d").unwrap();
    assert_eq!(ask(&site.node(), "k", "d"), Ok(first));
    put_clock_ahead(&site, 25);
    let (node, store) = (site.node(), site.store());
    // A day later it is judged anew, and deleted.
    let again =
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) });
    assert_eq!(ask(&node, "k", "d"), again);
    insert_keys(&site, GRAPH, "young-", 3, 0);
    let purged = store.purge_answers(0, 10).unwrap();
    assert_eq!(purged, Some(Purged { graph_id: id_of(&site, GRAPH), keys: 3 }));
    assert_eq!(ask(&node, "k", "d"), again, "kept by the same clock");

    let version = accepted(&node, [put_dataset("e")]);
    let is_ahead = |at_ms: i64| (at_ms - now_ms() - 25 * HOUR_MS).abs() < HOUR_MS;
    let committed = store.committed_at(id_of(&site, GRAPH), version).unwrap().unwrap();
    assert!(is_ahead(committed), "{committed}");
    let noted = store.acknowledge(&name(GRAPH), &name("reader"), version).unwrap();
    assert!(matches!(noted, Acknowledgement::Noted { .. }));
    let (_, consumers) = store.consumers(&name(GRAPH)).unwrap().unwrap();
    assert!(is_ahead(consumers[0].acknowledged_at_ms));
}

/// The other direction: on a server whose clock is right, keys that are young stay, whoever asks.
#[test]
fn times_are_those_of_the_database() {
    for kind in KINDS {
        let site = site_with(kind, &[GRAPH]);
        let before = now_ms();
        let version = accepted(&site.node(), [put_dataset("d")]);
        let at = site.store().committed_at(id_of(&site, GRAPH), version).unwrap().unwrap();
        // Of this machine, like both databases: in milliseconds, not in seconds.
        assert!((before - 1_000..=now_ms() + 1_000).contains(&at), "{kind:?}: {at}");
    }
}

/// Thousands of requests use old keys anew while all of them are deleted.
#[test]
fn keys_that_are_used_anew_while_old_ones_are_deleted_are_kept() {
    for kind in KINDS {
        let site = site_with(kind, &[GRAPH]);
        insert_keys(&site, GRAPH, "k", 300, OLD_MS);
        let (node, store, ended) = (site.node(), site.store(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            let purge = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    store.purge_answers(0, 7).unwrap();
                }
            });
            for n in 1..=300 {
                ask(&node, &format!("k{n}"), &format!("d{n}")).unwrap();
            }
            ended.store(true, Ordering::Relaxed);
            purge.join().unwrap();
        });
        assert_eq!(keys(&site, "k"), 300);
        for n in [1, 150, 300] {
            assert!(ask(&node, &format!("k{n}"), &format!("d{n}")).unwrap().changed, "{n}");
        }
        audit(&site);
    }
}

fn indexes(site: &Site) -> Vec<String> {
    #[derive(QueryableByName)]
    struct Index {
        #[diesel(sql_type = diesel::sql_types::Text)]
        name: String,
    }
    let query = match site.sql() {
        Sql::Sqlite(_) => {
            "SELECT name FROM sqlite_schema \
             WHERE tbl_name = 'idempotency_keys' AND name LIKE '%age' ORDER BY name"
        }
        Sql::Postgres(_) => {
            "SELECT indexname::text AS name FROM pg_indexes WHERE tablename = 'idempotency_keys' \
             AND indexname LIKE '%age' ORDER BY indexname"
        }
    };
    let found = sql_query(query).load::<Index>(&mut site.sql()).unwrap();
    found.into_iter().map(|index| index.name).collect()
}

#[test]
fn the_index_by_age_is_taken_back_and_made_again() {
    for kind in KINDS {
        let site = site_with(kind, &[GRAPH]);
        insert_keys(&site, GRAPH, "k", 3, 0);
        let shell = Shell::new();
        let url = site.database_url();
        assert_eq!(indexes(&site), ["idempotency_keys_by_graph_and_age"]);
        let ran = shell.run(&["--database-url", &url, "migrate", "--revert", "9"]);
        assert_eq!((ran.code, indexes(&site)), (0, vec!["idempotency_keys_by_age".to_owned()]));
        let ran = shell.run(&["--database-url", &url, "migrate"]);
        assert_eq!(ran.code, 0, "{}", ran.errors);
        assert_eq!(indexes(&site), ["idempotency_keys_by_graph_and_age"]);
        assert_eq!(keys(&site, "k"), 3);
    }
}
