//! What befalls the leader of a graph: it is killed, stopped, cut off, or outlived by what its lock
//! remembers, at every point and under load; and it ends while clients write.

use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;
use std::time::Duration;

use fencepost::bench::{Outcome, Request};
use fencepost::design::Design;
use fencepost::design::crud_single_writer::CRUD_SINGLE_WRITER;
use fencepost::design::es_single_writer::ES_SINGLE_WRITER;
use fencepost::lock::redis::{RedisLock, RedisUrl, Terms};
use fencepost::lock::{DistributedLock, Mode};
use fencepost::node::open_lock;

use super::field::{Ends, Field};
use super::holders::version;
use crate::support::cluster::{GRAPH, LIMIT, SERVE, Server, Site, wait_until};
use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::storm;

const LED: [&Design; 2] = [&ES_SINGLE_WRITER, &CRUD_SINGLE_WRITER];

fn led_by(node: &Server) -> u64 {
    node.count("fencepost_leader_graphs", "")
}

fn take_overs(nodes: &[&Server], cause: &str) -> u64 {
    nodes.iter().map(|node| node.count("fencepost_leader_take_overs_total", cause)).sum()
}

/// Asked again until another node leads no more.
#[track_caller]
fn put_sooner_or_later(field: &Field, node: &Server, job: &str, input: &str, output: &str) -> u64 {
    let mut told = None;
    wait_until("the node leads", || {
        told = match field.put(node, job, input, output) {
            Outcome::Refused { .. } => None,
            other => Some(version(&other)),
        };
        told.is_some()
    });
    told.unwrap()
}

/// The leader is killed when it passes the point for the `passage`th time, while clients write.
fn killed_at(point: &str, passage: usize, design: &'static Design) {
    let field = Field::of(design, None);
    let file = field.site.path("reached");
    let armed = format!("{point}=pause:{}@{passage}", file.display());
    let first = field.node(&armed);
    version(&field.put(&first, "first", "a", "b"));
    let second = field.node("");
    field.under_load(&[&second, &first], || {
        field.wait_until_reached(&file, &first);
        first.signal("KILL");
        field.wait_for_writes(20);
    });
    put_sooner_or_later(&field, &second, "last", "c", "d");
    assert_eq!(led_by(&second), 1);
    field.expect_valid(&second);
}

#[test]
fn a_leader_killed_at_any_point_loses_nothing_that_was_answered() {
    for (point, passage) in [
        ("leader-acquired", 1),
        ("leader-read", 1),
        ("leader-counted", 1),
        ("after-check", 30),
        ("commit-begun", 30),
        ("before-conditional-update", 30),
        ("after-conditional-update", 30),
        ("before-commit", 40),
        ("after-commit", 40),
    ] {
        println!("at {point}");
        killed_at_point(point, passage, &ES_SINGLE_WRITER);
    }
    killed_at_point("after-check", 30, &CRUD_SINGLE_WRITER);
}

fn killed_at_point(point: &str, passage: usize, design: &'static Design) {
    if passage > 1 {
        return killed_at(point, passage, design);
    }
    // On the way to lead.
    let field = Field::of(design, None);
    let (reached, armed) = field.pause_at(point);
    let (first, second) = (field.node(&armed), field.node(""));
    thread::scope(|scope| {
        let put = scope.spawn(|| field.put(&first, "first", "a", "b"));
        wait_until("it is about to lead", || reached.exists());
        // Its request is answered by nobody.
        first.signal("KILL");
        drop(put.join().unwrap());
    });
    assert_eq!(put_sooner_or_later(&field, &second, "second", "b", "a"), 1);
    assert_eq!(take_overs(&[&second], "lease ran out"), 1);
    field.expect_valid(&second);
}

/// The leader is stopped past its lease, when it has judged a write. Returns what it was told in
/// the end, when `meanwhile` was done, and both nodes.
fn stopped(
    meanwhile: impl FnOnce(&Field, &Server, &Server),
    first_armed: &str,
    second_armed: &str,
) -> (Field, Outcome, Server, Server) {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let file = field.site.path("about-to-write");
    // It has written once, so that it leads.
    let armed = format!("after-check=pause:{}@2,{first_armed}", file.display());
    let (first, second) = (field.node(&armed), field.node(second_armed));
    version(&field.put(&first, "slower", "a", "y"));
    let told = thread::scope(|scope| {
        let put = scope.spawn(|| field.put(&first, "slower", "x", "y"));
        wait_until("it is about to write", || file.exists());
        first.signal("STOP");
        fs::remove_file(&file).unwrap();
        meanwhile(&field, &first, &second);
        put.join().unwrap()
    });
    (field, told, first, second)
}

#[test]
fn a_leader_that_wakes_after_its_successor_wrote_is_refused() {
    let (field, told, first, second) = stopped(
        |field, first, second| {
            put_sooner_or_later(field, second, "faster", "y", "x");
            first.signal("CONT");
        },
        "",
        "",
    );
    // Its write was refused, and passed on to its successor, by which it closes a cycle.
    assert!(matches!(&told, Outcome::Rejected { name, .. } if name == "cycle"), "{told:?}");
    assert_eq!(first.count("fencepost_leader_refused_writes_total", ""), 1);
    assert_eq!((led_by(&first), led_by(&second)), (0, 1));
    assert_eq!(take_overs(&[&second], "lease ran out"), 1);
    field.expect_valid(&second);
}

/// The successor has counted the token up, and nothing was written: only the token tells.
fn wakes_before_its_successor_writes(more: &str) -> (Field, Outcome, Server, Server) {
    let counted = std::env::temp_dir().join(format!("counted-{}", uuid::Uuid::new_v4()));
    let armed = format!("leader-counted=pause:{}", counted.display());
    let go_on = counted.clone();
    let outcome = stopped(
        move |field, first, second| {
            thread::scope(|scope| {
                let successor =
                    scope.spawn(|| put_sooner_or_later(field, second, "faster", "y", "x"));
                wait_until("its successor has taken over", || counted.exists());
                first.signal("CONT");
                wait_until("the former leader is through with its write", || {
                    first.count("fencepost_leader_ended_total", "") > 0
                        || field.site.head().version > 1
                });
                fs::remove_file(&counted).unwrap();
                if more.is_empty() {
                    successor.join().unwrap();
                } else {
                    // It is judged on what was written.
                    drop(successor.join());
                }
            });
        },
        more,
        &armed,
    );
    drop(fs::remove_file(go_on));
    outcome
}

#[test]
fn a_leader_that_wakes_before_its_successor_writes_is_refused() {
    let (field, told, first, second) = wakes_before_its_successor_writes("");
    // It is passed on to the successor: which of the two writes comes first there is open.
    let is_judged = matches!(told, Outcome::Accepted(_) | Outcome::Rejected { .. });
    assert!(is_judged || matches!(told, Outcome::Refused { .. }), "{told:?}");
    assert_eq!(first.count("fencepost_leader_refused_writes_total", ""), 1);
    assert_eq!((led_by(&first), led_by(&second)), (0, 1));
    field.expect_valid(&second);
}

#[test]
fn redis_forgets_everything_in_every_way_and_there_is_one_history() {
    let mut field = Field::of(&ES_SINGLE_WRITER, None);
    let nodes = [field.node(""), field.node(""), field.node("")];
    let all = nodes.each_ref();
    // Whoever leads learns that it does not hold the lock, and one of them takes it again.
    let until_taken_over = |what: &str, fault: &dyn Fn()| {
        let before = take_overs(&all, "");
        fault();
        wait_until(what, || take_overs(&all, "") > before);
    };
    field.under_load(&all, || {
        until_taken_over("it is wiped", &|| drop(field.redis.command(&["FLUSHALL"])));
    });
    // Of these nobody need learn.
    for command in [&["SCRIPT", "FLUSH"][..], &["CLIENT", "KILL", "TYPE", "normal"]] {
        field.under_load(&all, || drop(field.redis.command(command)));
    }
    let redis = std::mem::replace(&mut field.redis, Redis::start(&[]));
    let dump = redis.directory().join("dump.rdb");
    redis.command(&["SAVE"]);
    let redis = Mutex::new(redis);
    let start_anew = || {
        let mut redis = redis.lock().unwrap();
        redis.kill();
        redis.start_again();
    };
    // What it remembers of the lease may be over, or not.
    field.under_load(&all, start_anew);
    field.under_load(&all, || {
        fs::remove_file(&dump).unwrap();
        until_taken_over("it is started anew", &start_anew);
    });
    field.expect_valid(&nodes[0]);
}

/// The leader is cut off from the lock, until another could have it. What it says to a write then.
fn cut_off_from_the_lock(armed: &str) -> (Field, [Server; 2], Outcome) {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let nodes = [field.node(armed), field.node("")];
    version(&field.put(&nodes[0], "first", "a", "b"));
    field.wire.lead_to(0);
    // Beside the wire.
    let url = RedisUrl::parse(&field.redis.url()).unwrap();
    let lock = RedisLock::open(&url, Terms::default()).unwrap();
    let key = field.site.lock_key(GRAPH).of_leadership();
    wait_until("its lease is over", || lock.acquire(&key, Mode::Exclusive, Duration::ZERO).is_ok());
    let told = field.put(&nodes[0], "late", "b", "c");
    (field, nodes, told)
}

#[test]
fn a_leader_that_is_cut_off_from_the_lock_has_stopped_when_its_lease_ends() {
    let (field, nodes, told) = cut_off_from_the_lock("");
    assert!(
        matches!(&told, Outcome::Refused { name, .. } if name == "lock_unavailable"),
        "{told:?}"
    );
    assert_eq!(nodes[0].count("fencepost_leader_ended_total", "lease"), 1);
    let (store, graph_id) = (field.site.store(), field.site.head().id);
    wait_until("nobody is noted as leader", || store.leader(graph_id).unwrap().is_none());
    field.wire.lead_to(field.redis.port());
    field.under_load(&nodes.each_ref(), || {});
    field.expect_valid(&nodes[0]);
}

#[test]
fn without_its_own_clock_a_leader_that_is_cut_off_writes_after_its_lease() {
    let (_field, _nodes, told) = cut_off_from_the_lock("lock.redis.validity=off");
    assert!(matches!(told, Outcome::Accepted(_)), "{told:?}");
}

#[test]
fn a_leader_whose_sessions_end_writes_nothing_twice() {
    for design in LED {
        let field = Field::of(design, None);
        let nodes = [field.node(""), field.node("")];
        field.under_load(&nodes.each_ref(), || {
            for _ in 0..10 {
                let before = field.site.head().version;
                field.site.end_sessions();
                wait_until("the load writes", || field.site.head().version > before);
            }
        });
        field.expect_valid(&nodes[0]);
    }
}

/// How long the database may take to answer, in milliseconds.
const ANSWER: [&str; 2] = ["--database-answer-ms", "1000"];

/// It reaches its lock.
#[test]
fn a_leader_whose_database_does_not_answer_says_so_and_goes_on_when_it_does() {
    let server = Postgres::start(&[]);
    let field = Field::on(Site::at(server.new_database()), &ES_SINGLE_WRITER, None);
    let [leader, other] = [field.node_with("", &ANSWER), field.node_with("", &ANSWER)];
    version(&field.put(&leader, "first", "a", "b"));
    version(&field.put(&other, "second", "b", "c"));
    let frozen = server.freeze();
    let mut is_in_doubt = false;
    for node in [&leader, &other, &leader] {
        // Whatever was sent may be applied when the database goes on.
        let told = field.put(node, "meanwhile", "c", "d");
        assert!(matches!(told, Outcome::Refused { .. } | Outcome::Unknown { .. }), "{told:?}");
        is_in_doubt |= std::ptr::eq(node, &leader) && matches!(told, Outcome::Unknown { .. });
        // A rejection, and a read, rest on a look at the database.
        let told = field.put(node, "turned", "c", "a");
        assert!(!matches!(told, Outcome::Accepted(_) | Outcome::Rejected { .. }), "{told:?}");
        let told = field.ask(node, Request::Digest);
        assert!(!matches!(told, Outcome::Answered { .. }), "{told:?}");
    }
    drop(frozen);
    for (node, job) in [(&leader, "third"), (&other, "fourth")] {
        put_sooner_or_later(&field, node, job, "x", job);
    }
    let ended = |cause| leader.count("fencepost_leader_ended_total", cause);
    assert_eq!([ended("lease"), ended("taken over")], [0, 0], "it never lost the lock");
    assert!(ended("in doubt") > 0 || !is_in_doubt, "what it has sent may be applied later");
    field.expect_valid(&leader);
}

/// The database falls silent when a node has the lock and is about to take over. Nobody else would
/// lead until it answers that node, if it ever does.
#[test]
fn a_take_over_that_the_database_does_not_answer_gives_the_lock_back() {
    // Longer than a lease, and than the lock is waited for.
    let patient = ["--database-answer-ms", "120000"];
    for is_handed_over in [false, true] {
        println!("handed over: {is_handed_over}");
        let server = Postgres::start(&[]);
        let field = Field::on(Site::at(server.new_database()), &ES_SINGLE_WRITER, None);
        let (site, reached) = (&field.site, field.site.path("acquired"));
        let (options, key) = (site.options(), site.lock_key(GRAPH).of_leadership());
        let lock_url = options.lock_url.as_ref().unwrap();
        let lock = open_lock(lock_url, &options.database, options.lease).unwrap();
        let former = field.node_with("", &patient);
        let node =
            field.node_with(&format!("leader-acquired=pause:{}", reached.display()), &patient);
        thread::scope(|scope| {
            if is_handed_over {
                version(&field.put(&former, "first", "a", "b"));
                let (store, graph_id) = (site.store(), site.head().id);
                let token = store.leader(graph_id).unwrap().unwrap().token;
                let nodes = store.nodes().unwrap();
                let named = nodes.iter().find(|other| other.address.as_ref() == Some(&node.base));
                assert!(store.name_successor(graph_id, token, Some(&named.unwrap().node)).unwrap());
            } else {
                scope.spawn(|| field.put(&node, "first", "a", "b"));
            }
            wait_until("it has the lock", || reached.exists());
            let frozen = server.freeze();
            fs::remove_file(&reached).unwrap();
            let acquired = lock.acquire(&key, Mode::Exclusive, LIMIT);
            assert!(acquired.is_ok(), "{:?}", acquired.err());
            drop((acquired, frozen));
        });
        put_sooner_or_later(&field, &node, "second", "b", "c");
        field.expect_valid(&node);
    }
}

/// The lock is the database's own, and its server is stopped: it cannot have ended the session.
#[test]
fn a_leader_by_a_lock_that_does_not_answer_stops_by_its_own_clock() {
    let server = Postgres::start(&[]);
    let site = Site::with_graph_at(server.new_database());
    let serve = || {
        let mut command = site.fencepost(&SERVE);
        command.args(["--design", CRUD_SINGLE_WRITER.name, "--lock-lease-ms", "1500"]).args(ANSWER);
        Server::start(command)
    };
    let (leader, other) = (serve(), serve());
    assert_eq!(leader.put_job("a", &["x"], &["y"]).unwrap().status, 201);
    assert_eq!(other.put_job("b", &["y"], &["z"]).unwrap().status, 201);
    assert_eq!((led_by(&leader), led_by(&other)), (1, 0));
    let frozen = server.freeze();
    // Nobody asks it for anything.
    wait_until("it leads no more", || led_by(&leader) == 0);
    let ended = |cause| leader.count("fencepost_leader_ended_total", cause);
    // Whichever it looks at first.
    assert_eq!(ended("lease") + ended("database"), 1);
    for node in [&leader, &other] {
        assert_eq!(node.put_job("c", &[], &[]).unwrap().status, 503);
    }
    drop(frozen);
    for (node, job) in [(&other, "d"), (&leader, "e")] {
        wait_until("writes go on", || node.put_job(job, &[], &[]).unwrap().status < 300);
    }
    assert_eq!(led_by(&leader) + led_by(&other), 1);
    storm::audit_without_tokens(&mut site.sql(), GRAPH);
}

#[test]
fn without_the_leaders_token_a_leader_that_wakes_writes() {
    let writes = || {
        let (_field, told, first, _second) =
            wakes_before_its_successor_writes("leader-comparison=off");
        assert_eq!(first.count("fencepost_leader_refused_writes_total", ""), 0);
        matches!(told, Outcome::Accepted(_))
    };
    // By its clock it may find first that its lease is over, and pass the write on.
    assert!((0..5).any(|_| writes()));
}

/// Clients write to whom they are told to; the leader is told to end, fifty times. It answers what
/// it has accepted, and the next leads at once.
#[test]
fn a_leader_that_ends_hands_over_at_once_and_refuses_nothing() {
    const ROUNDS: usize = 50;
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let servers = RwLock::new(vec![field.node(""), field.node("")]);
    let storm = storm::Field {
        servers: RwLock::new(servers.read().unwrap().iter().map(|s| s.base.clone()).collect()),
        answered: AtomicUsize::new(0),
    };
    let (over, refused) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (store, graph_id) = (field.site.store(), field.site.head().id);
    thread::scope(|scope| {
        for client in 0..4 {
            let (storm, over, refused) = (&storm, &over, &refused);
            scope.spawn(move || write_until(storm, over, refused, client));
        }
        let ends = Ends(&over);
        for round in 0..ROUNDS {
            let before = storm.answered.load(Ordering::SeqCst);
            wait_until("clients write", || storm.answered.load(Ordering::SeqCst) > before + 20);
            let leads = servers.read().unwrap().iter().position(|server| led_by(server) == 1);
            let leads = leads.unwrap_or_else(|| panic!("round {round}: nobody leads"));
            let ended = servers.write().unwrap().remove(leads);
            ended.signal("TERM");
            // It says so; from then on the others wait for it and do not refuse.
            wait_until("it has said that it ends", || {
                store.leader(graph_id).unwrap().is_none_or(|leader| leader.is_leaving)
            });
            storm.servers.write().unwrap().remove(leads);
            assert_eq!(ended.ended().code(), Some(0));
            let next = field.node("");
            storm.servers.write().unwrap().push(next.base.clone());
            servers.write().unwrap().push(next);
        }
        drop(ends);
    });
    assert_eq!(refused.load(Ordering::SeqCst), 0, "requests were refused");
    let servers = servers.into_inner().unwrap();
    let last = servers.iter().find(|server| led_by(server) == 1).expect("one leads");
    let digest = field.ask(last, Request::Digest);
    assert!(matches!(digest, Outcome::Answered { .. }), "{digest:?}");
    storm::audit(&field.site);
}

/// Writes one job after another, each to the leader as it was last told, or else to the first
/// server; a request that was not answered is sent again under its key. Counts refusals that name
/// no leader that is there to go to.
fn write_until(storm: &storm::Field, over: &AtomicBool, refused: &AtomicUsize, client: usize) {
    let mut http = crate::support::cluster::Client::new();
    let mut leader: Option<String> = None;
    for n in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let mark = format!("client-{client}-write-{n}");
        let path = format!("/v1/graphs/{GRAPH}/jobs/job-{client}-{}", n % 50);
        let body = serde_json::json!({"inputs": [], "outputs": [], "spec": {"mark": mark}});
        loop {
            let servers = storm.servers.read().unwrap().clone();
            let there = leader.clone().filter(|leader| servers.contains(leader));
            let base = there.unwrap_or_else(|| servers[0].clone());
            match http.send(&base, "PUT", &path, Some(&mark), Some(&body)) {
                Ok(answer) if answer.status < 300 => break,
                Ok(answer) => {
                    assert_eq!(answer.status, 503, "{answer:?}");
                    match answer.body["leader"].as_str() {
                        Some(told) if *told != *base && servers.iter().any(|s| s == told) => {
                            leader = Some(told.to_owned());
                        }
                        _ => {
                            refused.fetch_add(1, Ordering::SeqCst);
                            println!("{base} refused: {}", answer.body);
                            thread::sleep(Duration::from_millis(10));
                        }
                    }
                }
                Err(_) => {
                    leader = None;
                    http = crate::support::cluster::Client::new();
                }
            }
        }
        storm.answered.fetch_add(1, Ordering::SeqCst);
    }
}
