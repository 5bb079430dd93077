//! A leader that alone is cut off: from the database, from the lock, or from the answer to one
//! commit. Whoever reaches both leads soon, and what else the node leads, or serves, goes on.

use std::fs;
use std::process::Command;
use std::thread;

use fencepost::bench::Outcome;
use fencepost::design::es_single_writer::ES_SINGLE_WRITER;
use serde_json::json;

use super::field::Field;
use super::holders::version;
use crate::support::cluster::{Client, GRAPH, Kind, SERVE, Server, Site, name, wait_until};
use crate::support::postgres::Postgres;
use crate::support::proxy::{Cut, Proxy};
use crate::support::redis::Redis;
use crate::support::storm::audit_without_tokens;

/// How long the database may take to answer, in milliseconds.
const ANSWER: [&str; 2] = ["--database-answer-ms", "1000"];
/// Nothing is passed on to such an address, and nobody who is elsewhere asks for a share of what is
/// led there.
const ELSEWHERE: [&str; 2] = ["--advertise", "https://leader.example"];

fn led_by(node: &Server) -> u64 {
    node.count("fencepost_leader_graphs", "")
}

fn ended(node: &Server, cause: &str) -> u64 {
    node.count("fencepost_leader_ended_total", cause)
}

fn take_overs(node: &Server, cause: &str) -> u64 {
    node.count("fencepost_leader_take_overs_total", cause)
}

/// The site's database, over the proxy.
fn through(site: &Site, proxy: &Proxy) -> String {
    let (direct, proxied) = (Postgres::shared().port(), proxy.port());
    site.database_url().replace(&format!(":{direct}/"), &format!(":{proxied}/"))
}

fn put(node: &Server, graph: &str, job: &str) -> u16 {
    let path = format!("/v1/graphs/{graph}/jobs/{job}");
    let body = json!({"inputs": [], "outputs": []});
    Client::new().send(&node.base, "PUT", &path, None, Some(&body)).unwrap().status
}

fn create(node: &Server, graph: &str) {
    let path = format!("/v1/graphs/{graph}");
    let created = Client::new().send(&node.base, "PUT", &path, None, Some(&json!({}))).unwrap();
    assert!(created.status < 300, "{created:?}");
}

#[track_caller]
fn put_sooner_or_later(node: &Server, graph: &str, job: &str) {
    wait_until("the write is served", || put(node, graph, job) < 300);
}

/// One that leads. It keeps its lock, as far as the lock can tell.
fn cut_off_from_the_database(cut: impl Fn(&Proxy), mend: impl Fn(&Proxy)) {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let proxy = Proxy::to(Postgres::shared().port());
    let taken = field.site.path("taken");
    let armed = format!("leader-acquired=pause:{}@2", taken.display());
    let url = through(&field.site, &proxy);
    let leader = field.node_with(&armed, &[&ANSWER[..], &["--database-url", &url]].concat());
    version(&field.put(&leader, "first", "a", "b"));
    assert_eq!(led_by(&leader), 1);
    cut(&proxy);
    // It is asked for nothing, and no commit is in doubt.
    wait_until("it leads no more", || led_by(&leader) == 0);
    assert_eq!(ended(&leader, "database"), 1);
    // It reaches the lock, and leaves it to whoever reaches the database.
    let told = field.put(&leader, "second", "b", "c");
    assert!(matches!(told, Outcome::Refused { .. }), "{told:?}");
    assert!(!taken.exists(), "it keeps others from leading");
    let other = field.node_with("", &ANSWER);
    // Whoever asks the leader waits for it each time.
    field.under("--clients 4 --requests 60", &[&other, &leader], || {
        assert_eq!(led_by(&other), 1);
    });
    assert_eq!((led_by(&leader), take_overs(&other, "lease ran out")), (0, 1));
    mend(&proxy);
    wait_until("it serves again", || {
        matches!(field.put(&leader, "last", "c", "d"), Outcome::Accepted(_))
    });
    field.expect_valid(&other);
}

#[test]
fn a_leader_whose_connections_to_the_database_are_refused_makes_room_for_another() {
    cut_off_from_the_database(
        |proxy| {
            proxy.refuse(usize::MAX);
            proxy.cut_connections();
        },
        |proxy| proxy.refuse(0),
    );
}

#[test]
fn a_leader_whose_database_takes_connections_and_answers_nothing_makes_room_for_another() {
    cut_off_from_the_database(Proxy::hold, Proxy::let_go);
}

/// The turn is held up where it would ask the database next.
#[test]
fn a_turn_that_is_under_way_does_not_keep_the_lock_of_a_leader_that_is_cut_off() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let proxy = Proxy::to(Postgres::shared().port());
    let (held, url) = (field.site.path("held"), through(&field.site, &proxy));
    let armed = format!("after-check=pause:{}@2", held.display());
    // What is passed on to a node that is held up waits for its answer.
    let leader = field.node_with(&armed, &[&ELSEWHERE[..], &["--database-url", &url]].concat());
    version(&field.put(&leader, "first", "a", "b"));
    let other = field.node("");
    thread::scope(|scope| {
        let put = scope.spawn(|| field.put(&leader, "second", "b", "c"));
        wait_until("it is about to write", || held.exists());
        proxy.refuse(usize::MAX);
        proxy.cut_connections();
        wait_until("another leads", || {
            matches!(field.put(&other, "third", "c", "a"), Outcome::Accepted(_))
        });
        assert_eq!((led_by(&leader), led_by(&other)), (0, 1));
        proxy.refuse(0);
        fs::remove_file(&held).unwrap();
        // With what is written since it would close a cycle.
        let told = put.join().unwrap();
        assert!(!matches!(told, Outcome::Accepted(_)), "{told:?}");
    });
    field.expect_valid(&other);
}

/// A node on a site, by the lock that the site has.
fn serve(site: &Site, failpoints: &str, arguments: &[&str]) -> Server {
    let mut command = site.fencepost(&SERVE);
    command.args(["--design", ES_SINGLE_WRITER.name]).args(ANSWER).args(arguments);
    command.env("FENCEPOST_FAILPOINTS", failpoints);
    Server::start(command)
}

/// A short lease.
const LEASE: [&str; 2] = ["--lock-lease-ms", "1500"];

fn leads_many_when_its_database_hangs(lock: &[&str]) {
    const GRAPHS: u64 = 40;
    let site = Site::migrated_on(Kind::Postgres);
    let proxy = Proxy::to(Postgres::shared().port());
    let url = through(&site, &proxy);
    let arguments = [lock, &LEASE].concat();
    let behind = [&arguments[..], &["--database-url", &url]].concat();
    let leader = serve(&site, "", &behind);
    let graphs: Vec<String> = (0..GRAPHS).map(|n| format!("many-{n}")).collect();
    for graph in &graphs {
        create(&leader, graph);
        assert_eq!(put(&leader, graph, "first"), 201);
    }
    assert_eq!(led_by(&leader), GRAPHS);
    proxy.hold();
    wait_until("it leads nothing", || led_by(&leader) == 0);
    let other = serve(&site, "", &arguments);
    for graph in &graphs {
        put_sooner_or_later(&other, graph, "second");
    }
    assert_eq!(led_by(&other), GRAPHS);
    proxy.let_go();
    for graph in &graphs {
        put_sooner_or_later(&leader, graph, "third");
        audit_without_tokens(&mut site.sql(), graph);
    }
}

#[test]
fn a_node_whose_database_hangs_gives_up_all_that_it_leads() {
    let redis = Redis::start(&[]);
    leads_many_when_its_database_hangs(&["--lock-url", &redis.url()]);
}

#[test]
fn a_node_whose_database_hangs_that_is_its_lock_too_gives_up_all_that_it_leads() {
    leads_many_when_its_database_hangs(&[]);
}

/// All leases are lost at once, and none can be given back.
#[test]
fn a_node_whose_lock_hangs_gives_up_all_that_it_leads_and_lives_on() {
    const GRAPHS: u64 = 100;
    let redis = Redis::start(&[]);
    let site = Site::migrated_on(Kind::Postgres);
    let node = serve(&site, "", &[&LEASE[..], &["--lock-url", &redis.url()]].concat());
    for n in 0..GRAPHS {
        let graph = format!("many-{n}");
        create(&node, &graph);
        assert_eq!(put(&node, &graph, "first"), 201);
    }
    assert_eq!(led_by(&node), GRAPHS);
    // It takes connections and commands, and answers nothing.
    redis.command(&["CLIENT", "PAUSE", "600000", "ALL"]);
    wait_until("it leads nothing", || led_by(&node) == 0);
    assert_eq!(ended(&node, "lease"), GRAPHS);
    let store = site.store();
    assert!(store.nodes().unwrap().iter().all(|node| node.lives()), "it says that it lives");
    // And that it leads nothing.
    wait_until("nothing is noted", || store.leaders().unwrap().is_empty());
}

/// The lock is the database's own: one session holds all that the node leads, and lives.
#[test]
fn a_commit_that_is_given_up_costs_no_other_graph_its_leader() {
    let site = Site::with_graph_of(Kind::Postgres, &ES_SINGLE_WRITER);
    let proxy = Proxy::to(Postgres::shared().port());
    let url = through(&site, &proxy);
    let arguments = [&LEASE[..], &ELSEWHERE, &["--database-url", &url]].concat();
    let leader = serve(&site, "", &arguments);
    create(&leader, "other");
    for graph in [GRAPH, "other"] {
        assert_eq!(put(&leader, graph, "first"), 201);
    }
    proxy.cut(Cut::Kept);
    let told = leader.put_job("second", &[], &[]).unwrap();
    assert_eq!((told.status, told.body["outcome"].as_str()), (503, Some("unknown")), "{told:?}");
    wait_until("it leads that graph no more", || ended(&leader, "in doubt") == 1);
    let (next, mut writes) = (serve(&site, "", &LEASE), 0);
    wait_until("another node leads it", || {
        writes += 1;
        let status = put(&leader, "other", &format!("job-{writes}"));
        assert!(status < 300, "the other graph is led on: {status}");
        put(&next, GRAPH, "third") < 300
    });
    assert_eq!((ended(&leader, ""), led_by(&leader), led_by(&next)), (1, 1, 1));
    let store = site.store();
    let other = store.head(&name("other")).unwrap().unwrap();
    assert_eq!(other.leader_token, 1, "its leadership never ended");
    audit_without_tokens(&mut site.sql(), GRAPH);
}

/// It was given up while it read the graph, before it had anything to commit.
#[test]
fn a_turn_that_was_given_up_and_goes_on_ends_no_leadership() {
    let site = Site::with_graph_of(Kind::Postgres, &ES_SINGLE_WRITER);
    let counted = site.path("counted");
    let armed = format!("leader-counted=pause:{}", counted.display());
    let proxy = Proxy::to(Postgres::shared().port());
    let url = through(&site, &proxy);
    let arguments = ["--lock-lease-ms", "600000", "--database-url", &url];
    let node = serve(&site, &armed, &arguments);
    let turns = || node.count("fencepost_turn_seconds_count", "write");
    thread::scope(|scope| {
        let put = scope.spawn(|| put(&node, GRAPH, "first"));
        wait_until("it has taken over", || counted.exists());
        proxy.hold();
        fs::remove_file(&counted).unwrap();
        assert_eq!(put.join().unwrap(), 503, "it cannot read the graph");
    });
    let before = turns();
    proxy.let_go();
    wait_until("the turn has come to its end", || turns() == before + 1);
    assert_eq!(node.count("fencepost_lost_writes_total", ""), 0, "it is tried again");
    assert_eq!(put(&node, GRAPH, "second"), 201);
    assert_eq!((ended(&node, ""), led_by(&node), site.head().leader_token), (0, 1, 2));
}

/// Whether it was written, nobody knows.
#[test]
fn a_leader_whose_commit_panics_leads_no_more() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let node = field.node("after-check=panic@2");
    version(&field.put(&node, "first", "a", "b"));
    let told = field.put(&node, "second", "b", "c");
    assert!(matches!(told, Outcome::Unknown { .. }), "{told:?}");
    assert_eq!(ended(&node, "in doubt"), 1);
    version(&field.put(&node, "third", "c", "d"));
    assert_eq!((led_by(&node), field.site.head().leader_token), (1, 2));
    field.expect_valid(&node);
}

/// Only Redis tells a holder of the lock that the one before it was not heard of.
#[test]
fn a_leader_that_died_is_told_from_one_that_gave_up() {
    for lock in ["postgres", "file:"] {
        let site = Site::migrated_on(Kind::Postgres);
        let files = format!("file:{}", site.path("locks").display());
        let lock = if lock == "file:" { &files } else { lock };
        let arguments = [&LEASE[..], &["--lock-url", lock]].concat();
        let mut leader = serve(&site, "", &arguments);
        create(&leader, GRAPH);
        assert_eq!(put(&leader, GRAPH, "first"), 201);
        let other = serve(&site, "", &arguments);
        leader.kill();
        put_sooner_or_later(&other, GRAPH, "second");
        assert_eq!(take_overs(&other, "lease ran out"), 1);
        let third = serve(&site, "", &arguments);
        assert_eq!(other.end("TERM").code(), Some(0));
        put_sooner_or_later(&third, GRAPH, "third");
        assert_eq!(take_overs(&third, "lease ran out"), 0);
    }
}

/// It was named when the leader was stopped already.
#[test]
fn a_successor_of_a_leader_that_was_not_heard_of_does_not_say_that_it_was_handed_the_graph() {
    let field = Field::of(&ES_SINGLE_WRITER, None);
    let leader = field.node("");
    version(&field.put(&leader, "first", "a", "b"));
    let (store, graph_id) = (field.site.store(), field.site.head().id);
    leader.signal("STOP");
    let successor = field.node("");
    let nodes = store.nodes().unwrap();
    let node = nodes.iter().find(|node| node.address.as_ref() == Some(&successor.base)).unwrap();
    assert!(store.name_successor(graph_id, 1, Some(&node.node)).unwrap());
    wait_until("it leads", || led_by(&successor) == 1);
    assert_eq!(take_overs(&successor, "lease ran out"), 1);
    assert_eq!(take_overs(&successor, "handed over"), 0);
    leader.signal("CONT");
    field.expect_valid(&successor);
}

/// A server that may open so many files at first.
fn serve_with_files(site: &Site, files: usize) -> Server {
    let command = site.fencepost(&SERVE);
    let mut limited = Command::new("sh");
    limited.args(["-c", &format!("ulimit -Sn {files} && exec \"$@\""), "sh"]);
    limited.arg(command.get_program()).args(command.get_args());
    for (variable, value) in command.get_envs() {
        match value {
            Some(value) => limited.env(variable, value),
            None => limited.env_remove(variable),
        };
    }
    limited.args(["--design", ES_SINGLE_WRITER.name]);
    Server::start(limited)
}

#[test]
fn a_process_leads_more_graphs_by_files_than_it_may_open_at_first() {
    const GRAPHS: u64 = 120;
    let site = Site::on(Kind::Sqlite);
    let node = serve_with_files(&site, 100);
    for n in 0..GRAPHS {
        let graph = format!("many-{n}");
        create(&node, &graph);
        assert_eq!(put(&node, &graph, "first"), 201, "{n} graphs are led");
    }
    assert_eq!(led_by(&node), GRAPHS);
    let open = fs::read_dir(format!("/proc/{}/fd", node.id())).unwrap().flatten();
    let open: Vec<_> = open.filter_map(|file| fs::read_link(file.path()).ok()).collect();
    let count = |ends: &str| open.iter().filter(|f| f.to_string_lossy().ends_with(ends)).count();
    assert_eq!((count(".leader.lock"), count(".leader.turnstile")), (GRAPHS as usize, 0));
}
