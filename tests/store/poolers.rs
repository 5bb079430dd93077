//! PgBouncer between a node and its server: lending sessions by session it is nearly the server,
//! and by transaction it is refused.

use std::sync::Barrier;

use diesel::connection::SimpleConnection;
use diesel::{Connection, PgConnection, RunQueryDsl};
use fencepost::db::{Database, DatabaseUrl, DbError, IDLE_FOR, PoolLimits};
use fencepost::design::Reads;
use fencepost::lock::postgres::PostgresLock;
use fencepost::lock::{DistributedLock, LEASE, LockKey, Mode};
use fencepost::node::{self, NodeOptions};

use crate::support::ask::{accepted, put_dataset};
use crate::support::bursts::{burst, create_graphs, serves_bursts};
use crate::support::cluster::{GRAPH, Kind, Server, Site, finish, name, wait_until};
use crate::support::guards::passes;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
use crate::support::proxy::Proxy;
use crate::support::redis::Redis;
use crate::support::{self, limit};

#[test]
fn twelve_graphs_are_served_through_a_pooler_by_session_with_four() {
    let server = Postgres::start(&[]);
    let direct = server.new_database();
    let bouncer = PgBouncer::start(&server, "session", 4);
    let options = NodeOptions::new(DatabaseUrl::parse(&bouncer.before(&direct)).unwrap());
    let node = node::open(&options).unwrap();
    let (_, database) = direct.rsplit_once('/').unwrap();
    serves_bursts(&node, || server.end_sessions_of(database));
}

#[test]
fn a_pooler_by_transaction_is_refused_at_the_start_whatever_the_lock() {
    let server = Postgres::start(&[]);
    let bouncer = PgBouncer::start(&server, "transaction", 4);
    let redis = Redis::start(&[]);
    let locks = [None, Some(format!("redis://127.0.0.1:{}", redis.port()))];
    for lock in locks {
        let direct = server.new_database();
        let site = Site::at(bouncer.before(&direct));
        let mut command = site.fencepost(&["serve", "--address", "127.0.0.1:0"]);
        command.args(lock.iter().flat_map(|url| ["--lock-url", url.as_str()]));
        let Err((code, said)) = Server::try_start(command) else {
            panic!("it came up under {lock:?}")
        };
        assert_eq!(code, Some(1), "{said}");
        for words in ["transaction pooling", "pool_mode to session", "the server itself"] {
            assert!(said.contains(words), "{words}: {said}");
        }
        let mut sql = PgConnection::establish(&direct).unwrap();
        assert!(sql.batch_execute("SELECT FROM graphs").is_err(), "nothing was made");
    }
}

/// Its appends rest on settings of a session too.
#[test]
fn an_export_through_a_pooler_by_transaction_is_refused() {
    let server = Postgres::start(&[]);
    let site = Site::with_graph_on(Kind::Sqlite);
    let export = |pool_mode: &str| {
        let bouncer = PgBouncer::start(&server, pool_mode, 4);
        let to = format!("{}/events", bouncer.before(&server.new_database()));
        finish(site.fencepost(&["export", "--graph", GRAPH, "--to", &to]))
    };
    let (code, said) = export("transaction");
    assert!(code == Some(3) && said.contains("transaction pooling"), "{code:?} {said}");
    let (code, said) = export("session");
    assert_eq!(code, Some(0), "{said}");
}

/// While it runs: a lock would be held by a session that is lent to somebody else meanwhile.
#[test]
fn a_pooler_that_changes_to_transactions_is_refused_until_it_changes_back() {
    let server = Postgres::start(&[]);
    let direct = server.new_database();
    let bouncer = PgBouncer::start(&server, "session", 10);
    let options = NodeOptions::new(DatabaseUrl::parse(&bouncer.before(&direct)).unwrap());
    let node = node::open(&options).unwrap();
    create_graphs(&node);
    wait_until("a whole burst is served", || burst(&node).is_empty());
    bouncer.switch_to("transaction", 10);
    support::wait_until(limit(), "it is found out", || {
        burst(&node).iter().any(|refusal| refusal.to_string().contains("transaction pooling"))
    });
    let ready = || {
        let (sender, receiver) = std::sync::mpsc::channel();
        node.ready(move |answer| drop(sender.send(answer)));
        receiver.recv().unwrap()
    };
    let refused = ready().unwrap_err().to_string();
    assert!(refused.contains("transaction pooling"), "{refused}");
    bouncer.switch_to("session", 10);
    let (_, database) = direct.rsplit_once('/').unwrap();
    wait_until("a whole burst is served again", || {
        let is_served = burst(&node).is_empty();
        if !is_served {
            // As the documents say: a session that was lent on may still have a graph's lock.
            server.end_sessions_of(database);
        }
        is_served
    });
    assert_eq!(ready(), Ok(()));
}

/// Sessions for statements lie idle, and the pooler has no further one for the lock: it keeps the
/// connection waiting, and says nothing.
#[test]
fn an_idle_session_gives_way_to_one_that_a_pooler_keeps_waiting() {
    const IDLE: usize = 3;
    let server = Postgres::start(&[]);
    // One more, which the lock opens when it begins.
    let bouncer = PgBouncer::start(&server, "session", IDLE + 1);
    let url = bouncer.before(&server.new_database());
    let database = DatabaseUrl::parse(&url).unwrap();
    let database = Database::open(&database, PoolLimits::default()).unwrap();
    let lock = PostgresLock::beside(&database, &url, LEASE).unwrap();
    let all_open = Barrier::new(IDLE);
    std::thread::scope(|scope| {
        for _ in 0..IDLE {
            scope.spawn(|| {
                let read = database.read(|_| {
                    all_open.wait();
                    Ok::<_, DbError>(())
                });
                read.unwrap();
            });
        }
    });
    // Long before an idle session is closed for being old.
    let acquire = |graph| {
        let key = LockKey::new("da7aba5e", graph).unwrap();
        lock.acquire(&key, Mode::Exclusive, IDLE_FOR / 4)
    };
    let first = acquire(1).unwrap();
    let second = acquire(2).unwrap();
    drop((first, second));
}

#[test]
fn without_a_look_at_the_time_an_opening_takes_idle_sessions_are_in_the_way() {
    let test = "store::poolers::an_idle_session_gives_way_to_one_that_a_pooler_keeps_waiting";
    assert!(!passes(test, Some("slow-opening")));
}

/// Something between the two cuts connections that nobody uses: the pooler notices, and the node
/// only when it asks again.
#[test]
fn a_pooler_by_session_that_lends_the_session_of_a_lost_connection_anew_is_not_refused() {
    let server = Postgres::start(&[]);
    let direct = server.new_database();
    let bouncer = PgBouncer::start(&server, "session", 4);
    let proxy = Proxy::to(bouncer.port());
    let through = bouncer.before(&direct);
    let cut = through.replace(&format!(":{}/", bouncer.port()), &format!(":{}/", proxy.port()));
    let database = DatabaseUrl::parse(&cut).unwrap();
    // Reads take no lock, and so do not notice that its sessions are lost.
    let node =
        node::open(&NodeOptions { reads: Some(Reads::Snapshot), ..NodeOptions::new(database) })
            .unwrap();
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(accepted(&node, [put_dataset("d")]), 1);
    let mut sql = PgConnection::establish(&direct).unwrap();
    let mut backends = |condition: &str| -> Vec<i32> {
        let query = format!(
            "SELECT pid AS backend FROM pg_stat_activity WHERE datname = current_database() \
             AND pid <> pg_backend_pid() AND {condition}"
        );
        let found: Vec<Found> = diesel::sql_query(query).load(&mut sql).unwrap();
        found.into_iter().map(|found| found.backend).collect()
    };
    let of_the_lock = backends("application_name = 'fencepost lock'");
    assert!(!of_the_lock.is_empty());
    proxy.cut_connections();
    wait_until("the pooler has all sessions back", || {
        backends("query <> 'DISCARD ALL'").is_empty()
    });
    // Others have all but one, which was the lock's.
    let mut others: Vec<(i32, PgConnection)> = (0..4)
        .map(|_| {
            let mut other = PgConnection::establish(&through).unwrap();
            let found = diesel::sql_query("SELECT pg_backend_pid() AS backend");
            (found.get_result::<Found>(&mut other).unwrap().backend, other)
        })
        .collect();
    let at = others.iter().position(|(backend, _)| of_the_lock.contains(backend)).unwrap();
    drop(others.remove(at));
    wait_until("the graph is read", || match node.read_and_wait(&name(GRAPH)) {
        Ok(_) => true,
        Err(refusal) => {
            assert!(!refusal.to_string().contains("transaction pooling"), "{refusal}");
            false
        }
    });
}

#[derive(diesel::QueryableByName)]
struct Found {
    #[diesel(sql_type = diesel::sql_types::Integer)]
    backend: i32,
}

/// Shows that it is the question for the session which finds out.
#[test]
fn without_asking_which_session_answers_a_pooler_by_transaction_is_not_found_out() {
    let test =
        "store::poolers::a_pooler_that_changes_to_transactions_is_refused_until_it_changes_back";
    assert!(!passes(test, Some("backends")));
}
