//! What becomes of Redis and Postgres while three nodes are under load.

use std::fs;
use std::thread;
use std::time::Duration;

use fencepost::bench::Outcome;
use fencepost::design::Design;

use super::field::Field;
use crate::support::cluster::{Server, Site, wait_until};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::wire::Fate;

fn three(field: &Field) -> [Server; 3] {
    [field.node(""), field.node(""), field.node("")]
}

fn all(nodes: &[Server; 3]) -> [&Server; 3] {
    nodes.each_ref()
}

fn counted(nodes: &[Server; 3], metric: &str, label: &str) -> u64 {
    nodes.iter().map(|node| node.count(metric, label)).sum()
}

fn epochs(nodes: &[Server; 3]) -> u64 {
    counted(nodes, "fencepost_epochs_raised_total", "")
}

#[test]
fn redis_forgets_everything_in_every_way() {
    let mut field = Field::new();
    let nodes = three(&field);
    let others: [(&str, &[&[&str]]); 3] = [
        ("FLUSHALL", &[&["FLUSHALL"]]),
        ("SCRIPT FLUSH", &[&["SCRIPT", "FLUSH"]]),
        (
            "CLIENT KILL",
            &[&["CLIENT", "KILL", "TYPE", "pubsub"], &["CLIENT", "KILL", "TYPE", "normal"]],
        ),
    ];
    for (what, commands) in others {
        let before = epochs(&nodes);
        field.under_load(&all(&nodes), || {
            commands.iter().for_each(|command| drop(field.redis.command(command)))
        });
        assert_eq!(epochs(&nodes) > before, what == "FLUSHALL", "{what}");
    }
    let before = epochs(&nodes);
    let redis = std::mem::replace(&mut field.redis, Redis::start(&[]));
    let redis = std::sync::Mutex::new(redis);
    field.under_load(&all(&nodes), || {
        let mut redis = redis.lock().unwrap();
        redis.kill();
        redis.start_again();
    });
    assert!(epochs(&nodes) > before, "started anew");
    let before = epochs(&nodes);
    redis.lock().unwrap().command(&["SAVE"]);
    field.under_load(&all(&nodes), || {
        let mut redis = redis.lock().unwrap();
        redis.kill();
        redis.start_again();
    });
    assert!(epochs(&nodes) > before, "an older dump");
    field.expect_valid(&nodes[0]);
}

#[test]
fn a_lagging_replica_is_promoted_and_demoted_again() {
    let field = Field::new();
    let nodes = three(&field);
    let replica = Redis::start(&[]);
    field.under_load(&all(&nodes), || {
        replica.command(&["REPLICAOF", "127.0.0.1", &field.redis.port().to_string()]);
        wait_until("it has copied", || {
            let info: String =
                redis::from_redis_value(replica.command(&["INFO", "replication"])).unwrap();
            info.contains("master_link_status:up")
        });
        replica.command(&["REPLICAOF", "NO", "ONE"]);
    });
    // It lags by all that was granted since.
    for (port, what) in [(replica.port(), "promoted"), (field.redis.port(), "demoted")] {
        let before = epochs(&nodes);
        field.under_load(&all(&nodes), || field.wire.lead_to(port));
        assert!(epochs(&nodes) > before, "{what}");
    }
    field.expect_valid(&nodes[0]);
}

/// How long Redis is away: for the long form as long as an operator needs.
fn away() -> Duration {
    let nightly = std::env::var_os("FENCEPOST_TEST_NIGHTLY").is_some();
    Duration::from_secs(if nightly { 30 } else { 3 })
}

#[test]
fn redis_is_away_and_nothing_is_half_written() {
    let field = Field::new();
    let nodes = three(&field);
    field.under_load(&all(&nodes), || {
        field.wire.lead_to(0);
        wait_until("a node says so", || {
            let told = field.put(&nodes[0], "meanwhile", "x", "y");
            matches!(told, Outcome::Refused { ref name, .. } if name == "lock_unavailable")
        });
        // It is away for a time, not until something happens.
        thread::sleep(away());
        field.wire.lead_to(field.redis.port());
    });
    field.expect_valid(&nodes[0]);
}

#[test]
fn answers_and_releases_are_lost() {
    let field = Field::new();
    let nodes = three(&field);
    field.under_load(&all(&nodes), || {
        for round in 0..12 {
            let word = ["acquire", "release", "renew"][round % 3];
            if word == "renew" {
                continue;
            }
            field.wire.strike(word, if round % 2 == 0 { Fate::AnswerLost } else { Fate::HeldUp });
            field.wire.wait_until_struck();
        }
        field.wire.let_go();
    });
    field.expect_valid(&nodes[0]);
}

#[test]
fn postgres_ends_every_session_in_the_middle_of_writes() {
    let field = Field::new();
    let nodes = three(&field);
    let ended = field.under_load(&all(&nodes), || {
        let mut ended = 0;
        for _ in 0..3 {
            let before = field.site.head().version;
            ended += field.site.end_sessions();
            wait_until("writes go on", || field.site.head().version > before + 5);
        }
        ended
    });
    assert!(ended > 0, "no session was ended");
    field.expect_valid(&nodes[0]);
}

/// What was answered before is found again in the server's own log; what was under way is known, or
/// known to be unknown.
#[test]
fn postgres_crashes_in_the_middle_of_writes() {
    let mut postgres = Postgres::start(&[]);
    let field = Field::on(Site::at(postgres.new_database()), <&Design>::default(), None);
    let nodes = three(&field);
    field.under_load(&all(&nodes), || {
        let (reached, armed) = field.pause_at("before-commit");
        let writer = field.node(&armed);
        field.put(&writer, "before", "x", "y");
        thread::scope(|scope| {
            let put = scope.spawn(|| field.put(&writer, "meanwhile", "y", "z"));
            wait_until("it is about to commit", || reached.exists());
            postgres.crash();
            fs::remove_file(&reached).unwrap();
            postgres.start_again();
            let told = put.join().unwrap();
            // It may have been sent to the server that came back.
            assert!(!matches!(told, Outcome::Rejected { .. }), "{told:?}");
        });
    });
    field.expect_valid(&nodes[0]);
}
