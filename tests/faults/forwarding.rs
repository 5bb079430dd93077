//! Writes that come to a node which does not lead their graph, while everything that can happen to
//! the leader, to the wire between the two and to leadership itself happens.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, RwLock};
use std::thread;

use fencepost::archive::prune;
use fencepost::bench::Outcome;
use fencepost::design::Design;
use fencepost::design::crud_single_writer::CRUD_SINGLE_WRITER;
use fencepost::design::es_single_writer::ES_SINGLE_WRITER;
use fencepost::store::Node;
use serde_json::json;

use super::field::{Ends, Field};
use super::holders::version;
use crate::support::cluster::{Answer, Client, GRAPH, Server, name, wait_until};
use crate::support::redis::Redis;
use crate::support::server;
use crate::support::storm;
use crate::support::wire::{Fate, Wire};

/// The header of a write that is passed on begins so.
pub(super) const WRITE: &str = "1;write;";
/// The body of a request about a write whose answer was lost is empty; its header begins so.
const INQUIRY: &str = "1;inquiry;";

fn leads(node: &Server) -> bool {
    node.count("fencepost_leader_graphs", "") == 1
}

pub(super) fn forwarded(node: &Server, outcome: &str) -> u64 {
    node.count("fencepost_forwarded_writes_total", outcome)
}

fn expect_none_unknown(nodes: &[Server]) {
    for node in nodes {
        assert_eq!(forwarded(node, "unknown"), 0, "what became of a write could be known");
    }
}

/// A leader behind a wire, and a node that passes writes on to it.
pub(super) struct Pair {
    pub(super) field: Field,
    pub(super) wire: Wire,
    pub(super) leader: Server,
    pub(super) follower: Server,
}

impl Pair {
    pub(super) fn new(design: &'static Design, of_leader: &str, of_follower: &str) -> Self {
        Self::on(Field::of(design, None), of_leader, of_follower, |_, _| ())
    }

    /// With what happens between the first write of the leader and the start of the other node.
    pub(super) fn on(
        field: Field,
        of_leader: &str,
        of_follower: &str,
        meanwhile: impl FnOnce(&Field, &Server),
    ) -> Self {
        let wire = Wire::to(0);
        let leader = field.node_with(of_leader, &["--advertise", &wire.http_url()]);
        wire.lead_to(port_of(&leader));
        version(&field.put(&leader, "first", "a", "b"));
        meanwhile(&field, &leader);
        let follower = field.node(of_follower);
        version(&field.put(&follower, "second", "b", "c"));
        assert!(leads(&leader), "the write was passed on");
        Self { field, wire, leader, follower }
    }

    /// What the follower answers to a put of a new job.
    pub(super) fn put(&self, job: &str) -> Outcome {
        self.field.put(&self.follower, job, "in", &format!("out of {job}"))
    }

    pub(super) fn expect_valid(self) {
        self.field.expect_valid(&self.follower);
    }
}

fn port_of(node: &Server) -> u16 {
    address_of(node).port()
}

fn address_of(node: &Server) -> SocketAddr {
    node.base.strip_prefix("http://").unwrap().parse().unwrap()
}

/// Asked again until it is served.
#[track_caller]
pub(super) fn put_sooner_or_later(
    field: &Field,
    node: &Server,
    job: &str,
    input: &str,
    output: &str,
) {
    wait_until("the write is served", || match field.put(node, job, input, output) {
        Outcome::Refused { .. } => false,
        other => version(&other) > 0,
    });
}

#[test]
fn whatever_the_wire_loses_each_write_is_applied_once_and_answered() {
    for design in [&ES_SINGLE_WRITER, &CRUD_SINGLE_WRITER] {
        let pair = Pair::new(design, "", "");
        let fates = [Fate::AnswerLost, Fate::AnswerHalved, Fate::CommandLost, Fate::CommandHalved];
        for (n, fate) in fates.into_iter().enumerate() {
            println!("{fate:?}");
            let before = pair.field.site.head().version;
            pair.wire.strike(WRITE, fate);
            let job = format!("job {n}");
            let told = pair.put(&job);
            pair.wire.wait_until_struck();
            let Outcome::Accepted(accepted) = told else { panic!("{told:?}") };
            assert_eq!(
                (accepted.version, accepted.subject_version),
                (before + 1, Some(before + 1))
            );
            assert!(accepted.created && accepted.changed, "{accepted:?}");
            // Also of one that changes nothing, and of one that is rejected.
            pair.wire.strike(WRITE, fate);
            let told = pair.put(&job);
            assert!(matches!(&told, Outcome::Accepted(again) if !again.changed), "{told:?}");
            pair.wire.strike(WRITE, fate);
            let told = pair.field.put(&pair.follower, "turned", "c", "a");
            assert!(matches!(&told, Outcome::Rejected { name, .. } if name == "cycle"), "{told:?}");
            assert_eq!(pair.field.site.head().version, before + 1);
        }
        assert!(forwarded(&pair.follower, "outcome=\"applied\"") >= 2);
        pair.expect_valid();
    }
}

#[test]
fn under_load_no_outcome_is_unknown_while_the_leader_lives() {
    let pair = Pair::new(&ES_SINGLE_WRITER, "", "");
    pair.field.under_load(&[&pair.follower], || {
        let fates = [Fate::AnswerLost, Fate::CommandLost, Fate::AnswerHalved, Fate::CommandHalved];
        for fate in fates.into_iter().cycle().take(20) {
            pair.wire.strike(WRITE, fate);
            pair.wire.wait_until_struck();
            // What is asked then is lost too.
            pair.wire.strike(INQUIRY, fate);
            pair.field.wait_for_writes(5);
        }
        // All connections at once.
        for _ in 0..5 {
            pair.wire.lead_to(port_of(&pair.leader));
            pair.field.wait_for_writes(5);
        }
    });
    assert_eq!(forwarded(&pair.follower, "unknown"), 0);
    pair.expect_valid();
}

/// The write comes when whoever has sent it was told that it did not, and has sent it again.
#[test]
fn a_write_that_comes_late_is_not_taken() {
    let pair = Pair::new(&ES_SINGLE_WRITER, "", "");
    pair.wire.strike(WRITE, Fate::HeldUp);
    let created = pair.put("late");
    let at = version(&created);
    pair.wire.wait_until_struck();
    let other = pair.field.put(&pair.leader, "late", "in", "another output");
    assert_eq!(version(&other), at + 1);
    pair.wire.let_go();
    assert_eq!(pair.field.site.head().version, at + 1, "it was not applied a second time");
    pair.expect_valid();
}

/// Between signing and expiry a write that was heard on the way is sent again, to the leader and to
/// others, as it was and altered.
fn heard(of_leader: &str, then: impl FnOnce(&Pair, &[u8])) {
    let pair = Pair::new(&ES_SINGLE_WRITER, of_leader, "");
    pair.wire.strike(WRITE, Fate::Copied);
    version(&pair.put("job"));
    pair.wire.wait_until_struck();
    version(&pair.field.put(&pair.leader, "job", "in", "another output"));
    let heard = pair.wire.copied();
    then(&pair, &heard);
}

/// With a header that is not signed: that the connection is closed then.
fn send(node: &Server, bytes: &[u8]) -> server::Answer {
    let line_end = bytes.windows(2).position(|two| two == b"\r\n").unwrap() + 2;
    let (line, rest) = bytes.split_at(line_end);
    server::send_raw(address_of(node), &[line, b"Connection: close\r\n", rest].concat())
}

#[test]
fn forged_and_replayed_writes_of_nodes_are_refused() {
    heard("", |pair, heard| {
        let before = pair.field.site.head().version;
        send(&pair.leader, heard).problem(403, "forbidden");
        send(&pair.follower, heard).problem(403, "forbidden");
        let text = String::from_utf8(heard.to_vec()).unwrap();
        for (from, to) in [
            ("/jobs/job", "/jobs/jab"),
            ("out%20of", "out%20af"),
            ("out of", "out af"),
            ("1;write;", "1;hello;"),
        ] {
            let forged = text.replacen(from, to, 1);
            if forged != text {
                send(&pair.leader, forged.as_bytes()).problem(403, "forbidden");
            }
        }
        // A client makes one up.
        let path = format!("/v1/graphs/{GRAPH}/jobs/made-up");
        for made_up in ["", "true", "1;write;0123456789abcdef0123456789abcdef;a;b;1;1;1;00"] {
            let request = server::Request::new(address_of(&pair.leader), "PUT", &path);
            let request = request.header("Fencepost-Forwarded", made_up);
            request.json(&json!({"inputs": [], "outputs": []})).send().problem(403, "forbidden");
        }
        assert_eq!(pair.field.site.head().version, before);
        assert!(pair.leader.count("fencepost_received_writes_total", "refused") >= 5);
    });
}

#[test]
fn without_the_memory_of_names_a_replayed_write_is_applied_again() {
    heard("forwarded-again=off", |pair, heard| {
        let before = pair.field.site.head().version;
        assert_eq!(send(&pair.leader, heard).status, 200);
        assert_eq!(pair.field.site.head().version, before + 1);
    });
}

/// The leader is held up with a new job that was passed on to it, and nobody reaches it, until
/// whoever has passed it on has what it wants to know.
fn cut_off_with_a_new_job(of_follower: &str, until: impl FnOnce(&Pair)) -> (Pair, Answer) {
    let file = file("held");
    let armed = format!("after-check=pause:{}@3", file.display());
    let pair = Pair::new(&ES_SINGLE_WRITER, &armed, of_follower);
    let told = thread::scope(|scope| {
        let create = scope.spawn(|| create_job(&pair.follower, "new"));
        wait_until("the leader is about to write", || file.exists());
        pair.wire.lead_to(0);
        until(&pair);
        pair.wire.lead_to(port_of(&pair.leader));
        fs::remove_file(&file).unwrap();
        create.join().unwrap()
    });
    (pair, told)
}

/// One that a failpoint makes.
pub(super) fn file(what: &str) -> PathBuf {
    std::env::temp_dir().join(format!("{what}-{}", uuid::Uuid::new_v4()))
}

pub(super) fn create_job(node: &Server, job: &str) -> Answer {
    let body = json!({"name": job, "inputs": ["in"], "outputs": [], "spec": {}});
    let path = format!("/v1/graphs/{GRAPH}/jobs");
    Client::new().send(&node.base, "POST", &path, None, Some(&body)).unwrap()
}

#[test]
fn a_write_that_the_leader_still_may_apply_is_not_sent_again() {
    let (pair, told) = cut_off_with_a_new_job("", |_| {});
    assert_eq!(told.status, 201, "{told:?}");
    assert_eq!(told.version(), pair.field.site.head().version);
}

#[test]
fn without_the_look_for_a_later_token_what_was_applied_is_told_not_to_be() {
    let (pair, told) = cut_off_with_a_new_job("forwarded-seal=off", |pair| {
        wait_until("it is taken for lost", || forwarded(&pair.follower, "not applied") > 0);
    });
    // It was sent again and was there, or could not be sent again.
    assert!([409, 503].contains(&told.status), "{told:?}");
    wait_until("it was applied", || pair.field.site.head().version == 3);
}

/// A write that was passed on is held up in the leader, until leadership went to the other node,
/// which has served it, and came back. Returns how often the job was written in the end.
fn held_up_until_leadership_came_back(of_leader: &str) -> u64 {
    let file = file("held");
    let armed = format!("forward-received=pause:{}@2,{of_leader}", file.display());
    let pair = Pair::new(&ES_SINGLE_WRITER, &armed, "");
    let (store, graph_id) = (pair.field.site.store(), pair.field.site.head().id);
    let hand_over = |from: &Server, to: &Server| {
        let leader = store.leader(graph_id).unwrap().unwrap();
        let nodes = store.nodes().unwrap();
        let other = nodes.iter().find(|node| node.node != leader.node).unwrap();
        assert!(store.name_successor(graph_id, leader.token, Some(&other.node)).unwrap());
        wait_until("leadership has moved", || !leads(from) && leads(to));
    };
    let before = pair.field.site.head().version;
    thread::scope(|scope| {
        let put = scope.spawn(|| pair.put("job"));
        wait_until("it is held up", || file.exists());
        hand_over(&pair.leader, &pair.follower);
        assert_eq!(version(&put.join().unwrap()), before + 1, "it was served by the other node");
        version(&pair.field.put(&pair.follower, "job", "in", "another output"));
        hand_over(&pair.follower, &pair.leader);
        fs::remove_file(&file).unwrap();
        wait_until("the leader is through with it", || {
            pair.leader.count("fencepost_received_writes_total", "") == 2
        });
    });
    pair.field.site.head().version - before
}

#[test]
fn a_write_under_a_former_leadership_is_not_taken_under_a_later_one() {
    assert_eq!(held_up_until_leadership_came_back(""), 2);
}

#[test]
fn without_the_token_that_it_was_sent_under_a_write_is_taken_later() {
    assert_eq!(held_up_until_leadership_came_back("forwarded-token=off"), 3);
}

/// The former leader sends a write to its successor, under the token to come. That one never takes
/// over, and who does has the token.
#[test]
fn a_write_to_a_successor_that_never_leads_is_not_in_doubt() {
    let pair = Pair::new(&ES_SINGLE_WRITER, "", "");
    let (store, graph_id) = (pair.field.site.store(), pair.field.site.head().id);
    let name_the_other = || {
        let leader = store.leader(graph_id).unwrap().unwrap();
        let nodes = store.nodes().unwrap();
        let other = nodes.into_iter().find(|node| node.node != leader.node).unwrap().node;
        assert!(store.name_successor(graph_id, leader.token, Some(&other)).unwrap());
        (leader.token, other)
    };
    name_the_other();
    wait_until("the follower leads", || leads(&pair.follower));
    pair.leader.signal("STOP");
    let (token, stopped) = name_the_other();
    // What it would have said itself, had it been stopped a little later.
    assert!(store.wait_as_successor(graph_id, token, &stopped).unwrap());
    wait_until("nobody leads", || !leads(&pair.follower));
    assert_eq!(version(&pair.put("job")), pair.field.site.head().version);
    assert_eq!(forwarded(&pair.follower, "outcome=\"not applied\""), 1);
    assert_eq!(store.leader(graph_id).unwrap().unwrap().token, token + 1);
    pair.leader.signal("CONT");
    pair.expect_valid();
}

/// The leader is killed when it passes the point for the `passage`th time, while clients write to
/// the other nodes.
fn killed_at(point: &str, passage: usize, design: &'static Design) {
    println!("at {point}");
    let field = Field::of(design, None);
    let file = field.site.path("reached");
    let first = field.node(&format!("{point}=pause:{}@{passage}", file.display()));
    version(&field.put(&first, "first", "a", "b"));
    let others = [field.node(""), field.node("")];
    field.under_load(&others.each_ref(), || {
        field.wait_until_reached(&file, &first);
        first.signal("KILL");
        field.wait_for_writes(20);
    });
    expect_none_unknown(&others);
    field.expect_valid(&others[0]);
}

#[test]
fn a_leader_killed_with_writes_that_were_passed_on_leaves_none_unknown() {
    for (point, passage) in [
        ("forward-received", 30),
        ("after-check", 30),
        ("before-conditional-update", 30),
        ("after-conditional-update", 30),
        ("before-commit", 40),
        ("after-commit", 40),
        ("forward-served", 30),
    ] {
        killed_at(point, passage, &ES_SINGLE_WRITER);
    }
    killed_at("forward-served", 30, &CRUD_SINGLE_WRITER);
}

#[test]
fn a_leader_that_is_stopped_with_writes_that_were_passed_on_applies_none_twice() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let file = field.site.path("about-to-write");
    let first = field.node(&format!("after-check=pause:{}@30", file.display()));
    version(&field.put(&first, "first", "a", "b"));
    let others = [field.node(""), field.node("")];
    field.under_load(&others.each_ref(), || {
        field.wait_until_reached(&file, &first);
        first.signal("STOP");
        fs::remove_file(&file).unwrap();
        field.wait_for_writes(20);
        first.signal("CONT");
        wait_until("it has learnt that another leads", || {
            first.count("fencepost_leader_ended_total", "") > 0
        });
        field.wait_for_writes(20);
    });
    expect_none_unknown(&others);
    field.expect_valid(&others[0]);
}

#[test]
fn leadership_moves_while_writes_are_passed_on() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let nodes = [field.node(""), field.node(""), field.node("")];
    let (store, graph_id) = (field.site.store(), field.site.head().id);
    field.under_load(&nodes.each_ref(), || {
        for _ in 0..8 {
            let leader = store.leader(graph_id).unwrap();
            let Some(leader) = leader else { continue };
            store.name_successor(graph_id, leader.token, None).unwrap();
            wait_until("another leads", || {
                let now = store.leader(graph_id).unwrap();
                now.is_some_and(|now| now.token > leader.token)
            });
            field.wait_for_writes(5);
        }
    });
    expect_none_unknown(&nodes);
    field.expect_valid(&nodes[0]);
}

#[test]
fn redis_forgets_and_is_cut_off_while_writes_are_passed_on() {
    let mut field = Field::of(&ES_SINGLE_WRITER, None);
    let nodes = [field.node(""), field.node(""), field.node("")];
    let all = nodes.each_ref();
    field.under_load(&all, || drop(field.redis.command(&["FLUSHALL"])));
    field.under_load(&all, || {
        field.wire.lead_to(0);
        wait_until("nobody leads", || !all.iter().any(|node| leads(node)));
        field.wire.lead_to(field.redis.port());
    });
    let redis = Mutex::new(std::mem::replace(&mut field.redis, Redis::start(&[])));
    field.under_load(&all, || {
        let mut redis = redis.lock().unwrap();
        redis.kill();
        redis.start_again();
    });
    field.expect_valid(&nodes[0]);
}

/// Somebody who takes connections and is no node.
fn stranger(answer: &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        let mut open: Vec<TcpStream> = Vec::new();
        for mut client in listener.incoming().map_while(Result::ok) {
            drop(client.read(&mut [0; 1 << 12]));
            drop(client.write_all(answer));
            open.push(client);
        }
    });
    address
}

#[test]
fn where_the_leader_cannot_be_asked_the_write_is_refused_with_its_address_and_the_reason() {
    let hello = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
    let addresses: [(&str, Option<String>, &str); 6] = [
        ("nobody", Some("http://127.0.0.1:1".to_owned()), "Connection refused"),
        ("a stranger", Some(format!("http://{}", stranger(hello))), "is not the leader"),
        ("somebody silent", Some(format!("http://{}", stranger(b""))), "does not answer"),
        ("itself", None, "is not the leader"),
        ("another protocol", Some("https://127.0.0.1:1".to_owned()), "over http:// only"),
        ("another machine", Some("http://192.0.2.1:8000".to_owned()), "--forward-secret-file"),
    ];
    let field = Field::of(&ES_SINGLE_WRITER, None);
    for (what, address, reason) in addresses {
        println!("{what}");
        let follower = field.node("");
        let address = address.unwrap_or_else(|| follower.base.clone());
        let leader = field.node_with("", &["--advertise", &address]);
        put_sooner_or_later(&field, &leader, "first", "a", "b");
        assert!(leads(&leader));
        let before = field.site.head().version;
        let told = field.put(&follower, what, "a", what);
        let Outcome::Refused { name, problem } = told else { panic!("{told:?}") };
        assert_eq!(name, "contended");
        assert_eq!(problem.member::<String>("leader"), Some(address));
        let detail: String = problem.member("detail").unwrap();
        assert!(detail.contains(reason), "{detail}");
        assert_eq!(field.site.head().version, before, "nothing was applied");
        // So that the next round has a leader of its own.
        leader.signal("TERM");
        assert_eq!(leader.ended().code(), Some(0));
        follower.signal("TERM");
        assert_eq!(follower.ended().code(), Some(0));
    }
}

#[test]
fn two_nodes_that_pass_on_one_idempotency_key_get_one_answer() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let leader = field.node("");
    version(&field.put(&leader, "first", "a", "b"));
    let followers = [field.node(""), field.node("")];
    for n in 0..20 {
        let key = format!("key {n}");
        let path = format!("/v1/graphs/{GRAPH}/jobs");
        let body = json!({"name": format!("job {n}"), "inputs": [], "outputs": [], "spec": {}});
        let send = |node: &Server| {
            Client::new().send(&node.base, "POST", &path, Some(&key), Some(&body)).unwrap()
        };
        let [one, other] = thread::scope(|scope| {
            let sent = followers.each_ref().map(|node| scope.spawn(|| send(node)));
            sent.map(|sent| sent.join().unwrap())
        });
        assert_eq!((one.status, &one.body), (201, &other.body));
        assert_eq!(other.status, 201);
    }
    assert_eq!(field.site.head().version, 21, "each was applied once");
    assert!(followers.iter().all(|node| forwarded(node, "answered") == 20));
}

/// The leader has applied a new job and its answer is lost; another node has taken over, and the
/// log is pruned while it is looked at.
#[test]
fn a_log_that_is_pruned_while_it_is_looked_at_hides_nothing() {
    let [served, looks] = [file("served"), file("looks")];
    let pair = Pair::new(
        &CRUD_SINGLE_WRITER,
        &format!("forward-served=pause:{}@2", served.display()),
        &format!("request-look=pause:{}", looks.display()),
    );
    let store = pair.field.site.store();
    let told = thread::scope(|scope| {
        let create = scope.spawn(|| create_job(&pair.follower, "new"));
        wait_until("it is applied", || served.exists());
        assert_eq!(version(&pair.field.put(&pair.leader, "newer", "b", "d")), 4);
        pair.wire.strike(INQUIRY, Fate::CommandLost);
        store.take_over(&pair.field.site.head(), "another", None).unwrap();
        wait_until("the follower looks at the log", || looks.exists());
        assert_eq!(prune(&store, &name(GRAPH), 4).unwrap().changes, 3);
        fs::remove_file(&looks).unwrap();
        fs::remove_file(&served).unwrap();
        create.join().unwrap()
    });
    assert_eq!((told.status, told.version()), (201, 3), "{told:?}");
}

/// The same, but it was pruned before: that the write is not in the log says nothing.
#[test]
fn what_became_of_a_write_is_not_known_where_the_log_of_its_time_was_pruned() {
    let served = file("served");
    let armed = format!("forward-served=pause:{}@2", served.display());
    let pair = Pair::new(&CRUD_SINGLE_WRITER, &armed, "");
    let store = pair.field.site.store();
    let told = thread::scope(|scope| {
        let create = scope.spawn(|| create_job(&pair.follower, "new"));
        wait_until("it is applied", || served.exists());
        assert_eq!(version(&pair.field.put(&pair.leader, "newer", "b", "d")), 4);
        assert_eq!(prune(&store, &name(GRAPH), 4).unwrap().changes, 3);
        pair.wire.strike(INQUIRY, Fate::CommandLost);
        store.take_over(&pair.field.site.head(), "another", None).unwrap();
        let told = create.join().unwrap();
        fs::remove_file(&served).unwrap();
        told
    });
    assert_eq!((told.status, &told.body["outcome"]), (503, &json!("unknown")), "{told:?}");
}

/// It gives leadership up at once, and the lock when its turn ends.
#[test]
fn a_hand_over_during_a_long_turn_refuses_no_write() {
    let held = file("held");
    let armed = format!("after-check=pause:{}@3", held.display());
    let pair = Pair::new(&ES_SINGLE_WRITER, &armed, "");
    let third = pair.field.node("");
    let (store, graph_id) = (pair.field.site.store(), pair.field.site.head().id);
    thread::scope(|scope| {
        let long = scope.spawn(|| pair.put("long"));
        wait_until("its turn is under way", || held.exists());
        let leader = store.leader(graph_id).unwrap().unwrap();
        let nodes = store.nodes().unwrap();
        let at = |node: &Server| {
            let is_its = |other: &&Node| other.address.as_deref() == Some(node.base.as_str());
            nodes.iter().find(is_its).unwrap().node.clone()
        };
        let successor = at(&pair.follower);
        assert!(store.name_successor(graph_id, leader.token, Some(&successor)).unwrap());
        wait_until("it leads no more", || !leads(&pair.leader));
        let put = scope.spawn(|| pair.field.put(&third, "meanwhile", "a", "d"));
        wait_until("it was asked again and again", || forwarded(&third, "not leader") > 10);
        fs::remove_file(&held).unwrap();
        version(&put.join().unwrap());
        version(&long.join().unwrap());
    });
    assert!(leads(&pair.follower));
    pair.expect_valid();
}

#[test]
fn a_write_that_never_gets_to_the_leader_is_sent_twice_and_refused_with_the_reason() {
    let pair = Pair::new(&ES_SINGLE_WRITER, "", "");
    pair.wire.strike_each(WRITE, Fate::CommandLost);
    let told = pair.put("lost");
    let Outcome::Refused { name, problem } = told else { panic!("{told:?}") };
    let detail: String = problem.member("detail").unwrap();
    assert!(name == "contended" && detail.contains("cannot pass the write on"), "{detail}");
    assert_eq!(forwarded(&pair.follower, "not applied"), 2);
    pair.expect_valid();
}

/// Of what a dry run has done nothing need be learnt.
#[test]
fn a_dry_run_whose_answer_is_lost_is_not_in_doubt() {
    let held = file("held");
    let armed = format!("forward-received=pause:{}@2", held.display());
    let pair = Pair::new(&ES_SINGLE_WRITER, &armed, "");
    let told = thread::scope(|scope| {
        let path = format!("/v1/graphs/{GRAPH}/changesets?dry_run=true");
        let body = json!({"operations": [{"op": "put_dataset", "name": "d"}]});
        let base = &pair.follower.base;
        let ask = scope.spawn(move || Client::new().send(base, "POST", &path, None, Some(&body)));
        wait_until("the leader has it", || held.exists());
        pair.wire.lead_to(0);
        let told = ask.join().unwrap().unwrap();
        fs::remove_file(&held).unwrap();
        told
    });
    assert_eq!((told.status, &told.body["outcome"]), (503, &json!("not_applied")), "{told:?}");
    assert_eq!(told.body["type"], "urn:fencepost:problem:contended");
}

/// The leader does not learn what became of a commit.
#[test]
fn a_commit_that_the_leader_is_in_doubt_of_is_settled_by_a_take_over() {
    // It commits by statements.
    let pair = Pair::new(&ES_SINGLE_WRITER, "", "one-call=off");
    pair.field.site.run_sql(
        "DO $do$ DECLARE head TEXT; BEGIN \
         SELECT split_part(pg_get_functiondef(oid), 'AS $function$', 1) INTO head \
         FROM pg_proc WHERE proname = 'fencepost_commit_4'; \
         EXECUTE head || 'AS $f$BEGIN outcome := ''fine''; END$f$'; END $do$",
    );
    assert_eq!(version(&pair.put("job")), 3);
    assert!(leads(&pair.follower) && !leads(&pair.leader));
    assert_eq!(pair.leader.count("fencepost_leader_ended_total", "in doubt"), 1);
    expect_none_unknown(&[pair.follower]);
}

/// The leader has a write and does not answer.
#[test]
fn a_node_that_ends_answers_the_writes_that_it_has_passed_on() {
    let held = file("held");
    let armed = format!("after-check=pause:{}@3", held.display());
    let pair = Pair::new(&ES_SINGLE_WRITER, &armed, "");
    let told = thread::scope(|scope| {
        let put = scope.spawn(|| create_job(&pair.follower, "new"));
        wait_until("the leader has it", || held.exists());
        pair.follower.signal("TERM");
        put.join().unwrap()
    });
    assert_eq!((told.status, &told.body["outcome"]), (503, &json!("unknown")), "{told:?}");
    assert_eq!(pair.follower.ended().code(), Some(0));
    fs::remove_file(&held).unwrap();
    wait_until("it is applied after all", || pair.field.site.head().version == 3);
}

/// Its connection is gone, and its body is kept until its outcome is known.
#[test]
fn a_write_that_is_in_doubt_takes_room_of_its_leader() {
    let pair = Pair::new(&ES_SINGLE_WRITER, "", "");
    // More than all that one leader may have.
    let (body_bytes, limit_bytes) = (50 << 20, "60000000");
    let node = pair.field.node_with("", &["--body-limit-bytes", limit_bytes]);
    pair.wire.strike(WRITE, Fate::Delayed);
    thread::scope(|scope| {
        let put = scope.spawn(|| {
            let spec = json!({"long": "x".repeat(body_bytes)});
            let body = json!({"inputs": [], "outputs": [], "spec": spec});
            let path = format!("/v1/graphs/{GRAPH}/jobs/large");
            Client::new().send(&node.base, "PUT", &path, None, Some(&body))
        });
        pair.wire.wait_until_struck();
        pair.wire.lead_to(0);
        let told = pair.field.put(&node, "small", "in", "out");
        let Outcome::Refused { name, problem } = told else { panic!("{told:?}") };
        let detail: String = problem.member("detail").unwrap();
        assert!(name == "contended" && detail.contains("too many writes wait"), "{detail}");
        node.signal("KILL");
        assert!(put.join().unwrap().is_err(), "it was still being settled");
    });
    pair.wire.lead_to(port_of(&pair.leader));
    assert_eq!(pair.field.site.head().version, 2);
    pair.expect_valid();
}

/// Clients write to nodes that do not lead; the leader is told to end, fifty times.
#[test]
fn a_leader_that_ends_leaves_no_write_refused_that_was_passed_on() {
    const ROUNDS: usize = 50;
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let mut servers = vec![field.node("")];
    version(&field.put(&servers[0], "first", "a", "b"));
    servers.extend([field.node(""), field.node("")]);
    let others = |servers: &[Server]| -> Vec<String> {
        servers.iter().filter(|server| !leads(server)).map(|server| server.base.clone()).collect()
    };
    let asked = RwLock::new(others(&servers));
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        for client in 0..4 {
            let (asked, over, answered) = (&asked, &over, &answered);
            scope.spawn(move || write_to_others(asked, over, answered, client));
        }
        let ends = Ends(&over);
        for round in 0..ROUNDS {
            let before = answered.load(Ordering::SeqCst);
            wait_until("clients write", || answered.load(Ordering::SeqCst) > before + 20);
            let leading = servers.iter().position(leads);
            let leading = leading.unwrap_or_else(|| panic!("round {round}: nobody leads"));
            let ended = servers.remove(leading);
            // Whoever leads next is asked as well.
            *asked.write().unwrap() = servers.iter().map(|server| server.base.clone()).collect();
            ended.signal("TERM");
            assert_eq!(ended.ended().code(), Some(0));
            servers.push(field.node(""));
            wait_until("another leads", || servers.iter().any(leads));
            *asked.write().unwrap() = others(&servers);
        }
        drop(ends);
    });
    storm::audit(&field.site);
    assert!(answered.load(Ordering::SeqCst) > ROUNDS * 20);
}

/// Writes one job after another, each once: whatever is not accepted is a failure.
fn write_to_others(
    asked: &RwLock<Vec<String>>,
    over: &AtomicBool,
    answered: &AtomicUsize,
    client: usize,
) {
    let http = Client::new();
    for n in 0.. {
        if over.load(Ordering::SeqCst) {
            return;
        }
        let path = format!("/v1/graphs/{GRAPH}/jobs/job-{client}-{}", n % 50);
        let body = json!({"inputs": [], "outputs": [], "spec": {"n": n}});
        let base = {
            let asked = asked.read().unwrap();
            asked[n % asked.len()].clone()
        };
        let told = http.send(&base, "PUT", &path, None, Some(&body));
        match told {
            Ok(answer) if answer.status < 300 && answer.body["changed"] == true => {}
            other => panic!("{base}: {other:?}"),
        }
        answered.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn a_body_that_the_leader_does_not_take_is_refused_with_its_limit() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let leader = field.node_with("", &["--body-limit-bytes", "1000"]);
    version(&field.put(&leader, "first", "a", "b"));
    let follower = field.node("");
    let body = json!({"inputs": [], "outputs": [], "spec": {"long": "x".repeat(2_000)}});
    let path = format!("/v1/graphs/{GRAPH}/jobs/long");
    let told = Client::new().send(&follower.base, "PUT", &path, None, Some(&body)).unwrap();
    assert_eq!((told.status, &told.body["limit"]), (413, &json!(1000)), "{told:?}");
    assert_eq!(field.site.head().version, 1);
}

/// Of a request to a node with another secret, or none.
#[test]
fn nodes_with_different_secrets_pass_nothing_on() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let secret = |file: &str, text: &str| {
        let path = field.site.path(file);
        fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let (ours, theirs) =
        (secret("ours", "the secret of two nodes\n"), secret("theirs", &"x".repeat(32)));
    let leader = field.node_with("", &["--forward-secret-file", &ours]);
    version(&field.put(&leader, "first", "a", "b"));
    let same = field.node_with("", &["--forward-secret-file", &ours]);
    version(&field.put(&same, "second", "b", "c"));
    assert_eq!(forwarded(&same, "answered"), 1);
    for other in [field.node_with("", &["--forward-secret-file", &theirs]), field.node("")] {
        let told = field.put(&other, "third", "c", "d");
        let Outcome::Refused { problem, .. } = told else { panic!("{told:?}") };
        let detail: String = problem.member("detail").unwrap();
        assert!(detail.contains("--forward-secret-file"), "{detail}");
    }
    assert_eq!(field.site.head().version, 2);
}
