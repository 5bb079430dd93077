//! A commit as one call of a function of the database: its guards, each taken out of the function
//! to see what it is for, and what becomes of a call whose answer is lost. On Postgres, whatever
//! database this run of the tests is for.

use std::sync::{Arc, Barrier};

use diesel::RunQueryDsl;
use diesel::connection::SimpleConnection;
use diesel::sql_types::Text;
use fencepost::archive::prune;
use fencepost::chain::Chain;
use fencepost::db::DbError;
use fencepost::design::TurnLimits;
use fencepost::design::crud_plain::CRUD_PLAIN;
use fencepost::graph::{Operation, decide};
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Accepted, Limits, Refusal, Service};
use fencepost::store::{Commit, CommitError, Entry, Fence, StorageKind, Store, StoreError};

use super::server::{behind_a_proxy, impatient, put};
use super::writes::{half_a_cycle, read, with_two_jobs, write_with};
use crate::support::ask::{accepted, changeset, delete_dataset, keyed, put_dataset};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name, start_optimistic, wait_until};
use crate::support::proxy::{Cut, Proxy};
use crate::support::storm::{audit, audit_without_tokens};

#[derive(diesel::QueryableByName)]
struct Definition {
    #[diesel(sql_type = Text)]
    text: String,
}

/// Puts `otherwise` in the place of a part that the function has once.
pub(super) fn replace(site: &Site, part: &str, otherwise: &str) {
    let query = "SELECT pg_get_functiondef('fencepost_commit_4'::regproc) AS text";
    let Definition { text } = diesel::sql_query(query).get_result(&mut site.sql()).unwrap();
    assert_eq!(text.matches(part).count(), 1, "the function has the guard {part}");
    site.run_sql(&text.replace(part, otherwise));
}

fn two_jobs() -> Site {
    with_two_jobs(Site::with_graph_on(Kind::Postgres))
}

/// Two writers have read the same version, and both are let through by the fence: each writes half
/// a cycle.
fn both_write(site: &Site) -> [Result<(), CommitError>; 2] {
    let stores = [site.store(), site.store()];
    let seen = stores.each_ref().map(read);
    let [a, b] = half_a_cycle();
    let fence = seen[0].head.fence;
    let first = write_with(&stores[0], &seen[0], Fence::Token(fence + 1), a).map(drop);
    [first, write_with(&stores[1], &seen[1], Fence::Token(fence + 2), b).map(drop)]
}

#[test]
fn the_version_and_the_chain_stop_the_second_of_two_writers() {
    let site = two_jobs();
    let [first, second] = both_write(&site);
    assert!(first.is_ok(), "{first:?}");
    let Err(CommitError::Conflict { expected: 3, actual: 4, since: Some(since) }) = second else {
        panic!("{second:?}")
    };
    assert_eq!((since.from.version, since.head.version, since.changes.len()), (3, 4, 1));
    assert_eq!(audit(&site).version, 4);
}

/// The negative control. The key of the change log would still refuse.
#[test]
fn without_both_comparisons_the_rows_end_in_a_cycle() {
    let site = two_jobs();
    replace(&site, "AND graphs.version = read_version", "");
    let [first, second] = both_write(&site);
    assert!(first.is_ok(), "{first:?}");
    assert!(matches!(second, Err(CommitError::Conflict { .. })), "the chain: {second:?}");

    let site = two_jobs();
    replace(&site, "AND graphs.version = read_version", "");
    replace(&site, "AND graphs.chain = read_chain", "");
    site.run_sql("ALTER TABLE changes DROP CONSTRAINT changes_pkey");
    assert!(both_write(&site).iter().all(Result::is_ok));
    let loaded = site.store().load(&name(GRAPH));
    let Err(StoreError::DamagedRows { reason, .. }) = loaded else { panic!("a legal graph") };
    assert_eq!(reason.to_string(), "the stored jobs form a cycle");
}

/// As after a database with another history of the same length was put in the place of the one that
/// was read.
#[test]
fn another_history_of_the_same_length_is_a_conflict() {
    for (compared, fence) in [(true, true), (true, false), (false, true)] {
        let site = two_jobs();
        let (store, seen) = (site.store(), read(&site.store()));
        site.run_sql("UPDATE graphs SET chain = decode(repeat('ab', 32), 'hex')");
        if !compared {
            replace(&site, "AND graphs.chain = read_chain", "");
        }
        let fence = if fence { Fence::Token(seen.head.fence + 1) } else { Fence::Unfenced };
        let written = write_with(&store, &seen, fence, put_dataset("d"));
        let is_conflict =
            matches!(written, Err(CommitError::Conflict { expected: 3, actual: 3, since: None }));
        assert_eq!((is_conflict, written.is_ok()), (compared, !compared), "{written:?}");
    }
}

#[test]
fn the_fence_stops_a_stale_holder() {
    for guarded in [true, false] {
        let site = two_jobs();
        if !guarded {
            replace(&site, "AND (token IS NULL OR graphs.fence <= token)", "");
        }
        let (store, fence) = (site.store(), read(&site.store()).head.fence);
        let write = |token: i64, dataset: &str| {
            write_with(&store, &read(&store), Fence::Token(token), put_dataset(dataset))
        };
        write(fence + 5, "d").unwrap();
        let stale = write(fence + 4, "e");
        let is_fenced = matches!(
            stale,
            Err(CommitError::Fenced { token, fence: seen })
                if (token, seen) == (fence + 4, fence + 5)
        );
        assert_eq!((is_fenced, stale.is_ok()), (guarded, !guarded), "{stale:?}");
        assert_eq!(std::panic::catch_unwind(|| audit(&site)).is_ok(), guarded, "tokens went back");
    }
}

#[test]
fn the_leaders_token_stops_a_former_leader() {
    for guarded in [true, false] {
        let site = two_jobs();
        if !guarded {
            replace(&site, "AND (leader IS NULL OR graphs.leader_token = leader)", "");
        }
        let (store, seen) = (site.store(), read(&site.store()));
        let former = store.take_over(&seen.head, "former", None).unwrap();
        let token = store.take_over(&site.head(), "leader", None).unwrap();
        let late = write_with(&store, &seen, Fence::Leader(former), put_dataset("d"));
        let is_fenced = matches!(
            late,
            Err(CommitError::Fenced { token: late, fence }) if (late, fence) == (former, token)
        );
        assert_eq!((is_fenced, late.is_ok()), (guarded, !guarded), "{late:?}");
    }
}

/// A session that a pooler has lent is not set up for durability.
#[test]
fn another_session_than_the_connections_own_writes_nothing() {
    let site = two_jobs();
    let (store, seen) = (site.store(), read(&site.store()));
    replace(&site, "own_backend <> pg_backend_pid()", "own_backend <> pg_backend_pid() + 1");
    let refused = write_with(&store, &seen, Fence::Unfenced, put_dataset("d")).unwrap_err();
    assert!(refused.to_string().contains("transaction pooling"), "{refused}");
    assert_eq!(audit(&site).version, 3);
}

/// Whatever is wrong with the rows, nothing of the call stays.
#[test]
fn a_call_that_the_database_refuses_leaves_nothing() {
    let site = two_jobs();
    let (store, seen) = (site.store(), read(&site.store()));
    site.run_sql("ALTER TABLE datasets ADD CONSTRAINT refuse CHECK (name <> 'd')");
    let refused = write_with(&store, &seen, Fence::Unfenced, put_dataset("d")).unwrap_err();
    assert!(matches!(refused, CommitError::Refused(_)), "{refused:?}");
    assert_eq!((site.head().chain, audit(&site).version), (seen.head.chain, 3));
    write_with(&store, &seen, Fence::Unfenced, put_dataset("e")).unwrap();
}

/// The graph was created again in another storage, at a version and with a chain that a writer has
/// read: as after an older copy of the database was put back.
#[test]
fn the_storage_stops_whoever_has_read_the_graph_as_it_was_kept_before() {
    for is_compared in [true, false] {
        let site = two_jobs();
        let store = site.store();
        let seen = read(&store);
        site.run_sql("UPDATE graphs SET storage = 'log', known_version = version");
        if !is_compared {
            replace(&site, "AND graphs.storage = read_storage", "");
        }
        let written = write_with(&store, &seen, Fence::Unfenced, put_dataset("stale"));
        match (written, is_compared) {
            (Err(CommitError::StorageChanged { expected, actual }), true) => {
                assert_eq!((expected, actual), (StorageKind::Rows, StorageKind::Log));
                assert_eq!(site.head().version, 3);
            }
            (Ok(_), false) => assert_eq!(site.head().version, 4),
            (other, _) => panic!("{other:?}"),
        }
    }
}

/// As after a backup of an older program was put back, or by a mistake: nothing is written, and the
/// reason is told.
#[test]
fn a_function_that_is_missing_is_told() {
    let site = two_jobs();
    let node = site.node();
    accepted(&node, [put_dataset("d")]);
    let (code, said) = finish(site.fencepost(&["migrate", "--revert", "1"]));
    assert_eq!(code, Some(0), "{said}");
    let refused = put(&node, "e").unwrap_err();
    assert!(refused.to_string().contains("has an older schema"), "{refused:?}");
    let (code, said) = finish(site.fencepost(&["migrate"]));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(put(&node, "f"), Ok(5));
    assert_eq!(audit(&site).version, 5);
}

/// The next call makes version 3 and its answer is lost; another writer comes before it is sent
/// again.
fn lose_the_answer(proxy: &Proxy, site: &Site) {
    let store = site.store();
    proxy.cut_while(Cut::Answer, move || {
        wait_until("it is carried out", || read(&store).head.version == 3);
        let seen = read(&store);
        write_with(&store, &seen, Fence::Unfenced, delete_dataset("a")).unwrap();
    });
}

/// The lost call was carried out, and others have written since: it is found in the log.
#[test]
fn a_lost_call_is_found_behind_what_others_wrote_since() {
    for sought in [true, false] {
        let (_server, site, proxy, through) = behind_a_proxy();
        let node = node::open(&impatient(&through)).unwrap();
        assert_eq!(put(&node, "a"), Ok(2));
        if !sought {
            replace(&site, "changes.attempt = this_attempt", "false");
        }
        lose_the_answer(&proxy, &site);
        let version = put(&node, "lost");
        // Judged again, it would be told that it changed nothing.
        assert_eq!(version, Ok(if sought { 3 } else { 4 }));
        assert_eq!(audit_without_tokens(&mut site.sql(), GRAPH).version, 4);
    }
}

/// The lost call never arrived, and another write came before it was sent again: it is judged anew.
#[test]
fn a_lost_call_that_did_not_arrive_is_judged_again_after_another_write() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let node = node::open(&impatient(&through)).unwrap();
    assert_eq!(put(&node, "a"), Ok(2));
    let store = site.store();
    proxy.cut_while(Cut::Commit, move || {
        let seen = read(&store);
        write_with(&store, &seen, Fence::Unfenced, put_dataset("between")).unwrap();
    });
    assert_eq!(put(&node, "lost"), Ok(4));
    assert_eq!(audit_without_tokens(&mut site.sql(), GRAPH).version, 4);
}

/// The same of a graph without a history, whose log begins after its last version: it has the
/// attempts all the same.
#[test]
fn a_lost_call_to_a_graph_without_a_history_is_found() {
    for sought in [true, false] {
        let (_server, site, proxy, through) = behind_a_proxy();
        site.run_sql("UPDATE graphs SET storage = 'rows_plain', oldest = version + 1");
        let node = node::open(&NodeOptions { design: &CRUD_PLAIN, ..impatient(&through) }).unwrap();
        assert_eq!(put(&node, "a"), Ok(2));
        if !sought {
            replace(&site, "changes.attempt = this_attempt", "false");
        }
        lose_the_answer(&proxy, &site);
        assert_eq!(put(&node, "lost"), Ok(if sought { 3 } else { 4 }));
        // One that was never carried out is not taken for one whose trace was pruned.
        let store = site.store();
        proxy.cut_while(Cut::Commit, move || {
            let seen = read(&store);
            write_with(&store, &seen, Fence::Unfenced, put_dataset("between")).unwrap();
        });
        let version = site.head().version;
        assert_eq!(put(&node, "never carried out"), Ok(version + 2));
    }
}

/// The lost call arrives after it was sent again. It does nothing, whether it changes the graph or
/// only keeps an answer.
#[test]
fn a_lost_call_that_arrives_late_does_nothing() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let node = node::open(&impatient(&through)).unwrap();
    assert_eq!(put(&node, "a"), Ok(2));

    let store = site.store();
    proxy.cut_while(Cut::Late, move || {
        wait_until("it was sent again", || read(&store).head.version == 3);
    });
    assert_eq!(put(&node, "lost"), Ok(3));
    wait_until("it has arrived", || proxy.late() == 1);
    assert_eq!(audit(&site).version, 3);

    let store = site.store();
    let id = read(&store).head.id;
    proxy.cut_while(Cut::Late, move || {
        wait_until("it was sent again", || !store.stored_answers(id, &["k"]).unwrap().is_empty());
    });
    let ask = |fingerprint: &str| {
        let nothing = keyed(changeset([put_dataset("a")]), "k", fingerprint);
        node.write_and_wait(&name(GRAPH), nothing)
    };
    let unchanged =
        Ok(Accepted { version: 3, changed: false, created: false, subject_version: Some(3) });
    assert_eq!(ask("f"), unchanged);
    wait_until("it has arrived", || proxy.late() == 2);
    assert_eq!((ask("f"), ask("another")), (unchanged, Err(Refusal::KeyReused)));
    assert_eq!(audit(&site).version, 3);
}

/// Commits one operation, in a batch with requests that have these keys and change nothing.
fn commit(store: &Store, operation: Operation, keys: &[&str]) -> Result<Chain, CommitError> {
    let seen = read(store);
    let decision = decide(&seen.graph, &changeset([operation]).command).unwrap();
    let version = decision.next.version();
    let entry = Entry {
        change: &decision.change,
        version,
        touched: &decision.touched,
        actor: None,
        request: None,
    };
    store.commit(&Commit {
        read: &seen.head,
        fence: Fence::Unfenced,
        attempt: "the lost one",
        before: &seen.graph,
        after: &decision.next,
        entries: &[entry],
        keys,
        answers: &[],
        deletes_graph: false,
    })
}

fn other_on(site: &Site) -> Service {
    let (limits, turn_limits) = (Limits::default(), TurnLimits::default());
    start_optimistic(Arc::new(site.store()), limits, turn_limits)
}

/// The lost call was carried out, and a key of another request of its batch, which was rejected,
/// has been used since: that does not mean that nothing was written.
#[test]
fn a_lost_call_is_found_before_keys_that_others_used_since() {
    for sought in [true, false] {
        let (_server, site, proxy, through) = behind_a_proxy();
        let store = through.store();
        if !sought {
            replace(&site, "IF sent_before THEN", "IF false THEN");
        }
        let other = other_on(&site);
        proxy.cut_while(Cut::Answer, move || {
            let version = || other.read_and_wait(&name(GRAPH)).unwrap().key.version;
            wait_until("it is carried out", || version() == 2);
            let used = keyed(changeset([put_dataset("theirs")]), "k", "f");
            other.write_and_wait(&name(GRAPH), used).unwrap();
        });
        let written = commit(&store, put_dataset("lost"), &["k"]);
        let is_taken = matches!(written, Err(CommitError::KeyTaken { .. }));
        assert_eq!((written.is_ok(), is_taken), (sought, !sought), "{written:?}");
        assert_eq!(audit_without_tokens(&mut site.sql(), GRAPH).version, 3);
    }
}

/// The graph was frozen since. It may be thawed before the lost call arrives: nobody can know.
#[test]
fn a_lost_call_to_a_graph_that_was_frozen_since_is_unknown() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let (store, freezing) = (through.store(), site.store());
    proxy.cut_while(Cut::Commit, move || {
        freezing.freeze(&name(GRAPH), None).unwrap();
    });
    let written = commit(&store, put_dataset("lost"), &[]);
    assert!(matches!(written, Err(CommitError::Unknown { .. })), "{written:?}");
    let refused = commit(&store, put_dataset("sent once"), &[]);
    assert!(matches!(refused, Err(CommitError::Frozen { .. })), "{refused:?}");
}

/// What would tell whether the lost call was carried out was pruned since.
#[test]
fn a_lost_call_behind_which_the_log_was_pruned_is_unknown() {
    for guarded in [true, false] {
        let (_server, site, proxy, through) = behind_a_proxy();
        let store = through.store();
        if !guarded {
            replace(&site, "graphs.oldest > read_version + 1", "false");
        }
        let (other, pruned) = (other_on(&site), site.store());
        proxy.cut_while(Cut::Answer, move || {
            let version = || other.read_and_wait(&name(GRAPH)).unwrap().key.version;
            wait_until("it is carried out", || version() == 2);
            accepted(&other, [put_dataset("theirs")]);
            prune(&pruned, &name(GRAPH), 3).unwrap();
        });
        let written = commit(&store, put_dataset("lost"), &[]);
        let is_unknown = matches!(written, Err(CommitError::Unknown { .. }));
        let is_conflict = matches!(written, Err(CommitError::Conflict { .. }));
        assert_eq!((is_unknown, is_conflict), (guarded, !guarded), "{written:?}");
    }
}

/// Connections that were lost without a sign, more than a call is sent over: the next is a new one.
#[test]
fn a_server_that_lives_is_found_behind_connections_that_were_lost_without_a_sign() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let store = through.store();
    // As many in the pool as may be.
    let all_open = Barrier::new(IDLE);
    std::thread::scope(|scope| {
        for _ in 0..IDLE {
            scope.spawn(|| {
                let held = store.database().read(|_| {
                    all_open.wait();
                    Ok::<_, DbError>(())
                });
                held.unwrap();
            });
        }
    });
    proxy.forget_connections();
    commit(&store, put_dataset("d"), &[]).unwrap();
    assert_eq!(audit_without_tokens(&mut site.sql(), GRAPH).version, 2);
}

/// It was opened for one who then got another that came free, and lies in the pool with that.
#[test]
fn a_connection_that_nobody_has_used_yet_may_be_lost_too() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let store = through.store();
    let (mut locker, mut watcher) = (site.sql(), site.sql());
    let logins = "DO $$ BEGIN ASSERT EXISTS (SELECT FROM pg_locks \
                  WHERE relation = 'pg_authid'::regclass AND NOT granted); END $$";
    // Both have been there for a moment, so that the pool has them.
    let both_lie = "DO $$ BEGIN ASSERT (SELECT count(*) FROM pg_stat_activity WHERE datname = \
                    current_database() AND application_name = 'fencepost' AND state = 'idle' AND \
                    state_change < clock_timestamp() - interval '100 ms') = 2; END $$";
    let read_nothing = || store.database().read(|_| Ok::<_, DbError>(()));
    std::thread::scope(|scope| {
        let mut other = None;
        let held = store.database().read(|_| {
            locker.batch_execute("BEGIN; LOCK pg_authid IN ACCESS EXCLUSIVE MODE").unwrap();
            other = Some(scope.spawn(read_nothing));
            wait_until("another is being opened", || watcher.batch_execute(logins).is_ok());
            Ok::<_, DbError>(())
        });
        held.unwrap();
        other.unwrap().join().unwrap().unwrap();
    });
    drop(locker);
    wait_until("it is open", || watcher.batch_execute(both_lie).is_ok());
    proxy.forget_connections();
    commit(&store, put_dataset("d"), &[]).unwrap();
    assert_eq!(audit_without_tokens(&mut site.sql(), GRAPH).version, 2);
}

/// Connections that lie in the pool.
const IDLE: usize = 6;

/// Another graph has the id of the one that was read, with the same history: only the UUIDs differ.
#[test]
fn another_graph_with_the_same_history_is_not_written() {
    let another = uuid::Uuid::new_v4();
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let site = with_two_jobs(Site::with_graph_on(kind));
        let (store, seen) = (site.store(), read(&site.store()));
        site.run_sql(&format!("UPDATE graphs SET uuid = '{another}'"));
        let refused = write_with(&store, &seen, Fence::Unfenced, put_dataset("d"));
        assert!(matches!(refused, Err(CommitError::Gone { .. })), "on {kind:?}: {refused:?}");
        let told = "the row of the graph, with id 1, is not in the database any more, or is another \
                    graph's";
        assert_eq!(refused.unwrap_err().to_string(), told);
    }

    let site = Site::with_graph_on(Kind::Postgres);
    let node = site.node();
    assert_eq!(put(&node, "a"), Ok(2));
    let digest = |graph: &str| site.store().load(&name(graph)).unwrap().unwrap().1.digest();
    let before = digest(GRAPH);
    site.run_sql(&format!("UPDATE graphs SET name = 'another', uuid = '{another}'"));
    site.node().create_graph_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(put(&node, "b"), Ok(1));
    assert_eq!(digest("another"), before);
}

/// Another attempt has kept the very same answer since. It is not taken for this one, whose batch
/// may have been judged on an older state.
#[test]
fn an_answer_that_another_attempt_kept_does_not_stand_for_a_lost_call() {
    let (_server, site, proxy, through) = behind_a_proxy();
    let node = node::open(&impatient(&through)).unwrap();
    let other = other_on(&site);
    assert_eq!(put(&node, "a"), Ok(2));
    let nothing = || keyed(changeset([put_dataset("a")]), "k", "f");
    proxy.cut_while(Cut::Commit, move || {
        other.write_and_wait(&name(GRAPH), nothing()).unwrap();
    });
    let unchanged =
        Ok(Accepted { version: 2, changed: false, created: false, subject_version: Some(2) });
    assert_eq!(node.write_and_wait(&name(GRAPH), nothing()), unchanged);
    let lost = &node.metrics().lost_writes;
    assert_eq!(lost.with_label_values(&["key"]).get(), 1, "judged again");
}
