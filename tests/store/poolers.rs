//! PgBouncer between a node and its server: lending sessions by session it is nearly the server,
//! and by transaction it is refused.

use fencepost::db::DatabaseUrl;
use fencepost::node::{self, NodeOptions};

use crate::support::bursts::{burst, create_graphs, serves_bursts};
use crate::support::cluster::{GRAPH, Kind, Server, Site, finish, wait_until};
use crate::support::guards::passes;
use crate::support::pgbouncer::PgBouncer;
use crate::support::postgres::Postgres;
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
        let site = Site::at(bouncer.before(&server.new_database()));
        let mut command = site.fencepost(&["serve", "--address", "127.0.0.1:0"]);
        command.args(lock.iter().flat_map(|url| ["--lock-url", url.as_str()]));
        let Err((code, said)) = Server::try_start(command) else {
            panic!("it came up under {lock:?}")
        };
        assert_eq!(code, Some(1), "{said}");
        for words in ["transaction pooling", "pool_mode to session", "the server itself"] {
            assert!(said.contains(words), "{words}: {said}");
        }
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
    wait_until("a whole burst is served again", || burst(&node).is_empty());
    assert_eq!(ready(), Ok(()));
}

/// Shows that it is the question for the session which finds out.
#[test]
fn without_asking_which_session_answers_a_pooler_by_transaction_is_not_found_out() {
    let test =
        "store::poolers::a_pooler_that_changes_to_transactions_is_refused_until_it_changes_back";
    assert!(!passes(test, Some("backends")));
}
