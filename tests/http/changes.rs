//! The change log: pages, lines, and the live tail.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;

use fencepost::event::Replay;
use fencepost::http::ROUTES;
use serde_json::{Value, json};

use crate::support::cluster::{self, Site, wait_until};
use crate::support::server::{Request, Server, encoded};
use crate::support::tail::{Frame, Tail};

const CHANGES: &str = "/v1/graphs/g/changes";

/// Numbers that look like chance, the same in each run.
struct Chance(u64);

impl Chance {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Names that other programs stumble over.
const NAMES: [&str; 7] = ["a", "a/b", "\"quoted\"", "с пробелом", "日本語", "a\\b'c", "data: x"];

/// A change by chance: some of them change nothing.
fn change(server: &Server, chance: &mut Chance) {
    let name = encoded(NAMES[chance.below(NAMES.len())]);
    let actor = ["", "me", "jürgen <j@example.org>", "\"x\"\\"][chance.below(4)];
    let spec = json!({"n": chance.below(3), "text": "line\u{2028}end\n"});
    let request = match chance.below(4) {
        0 => server.delete(&format!("/v1/graphs/g/jobs/{name}")),
        1 => server.put(&format!("/v1/graphs/g/datasets/{name}")).json(&json!({"metadata": spec})),
        _ => server
            .put(&format!("/v1/graphs/g/jobs/{name}"))
            .json(&json!({"inputs": ["in"], "outputs": [format!("of {name}")], "spec": spec})),
    };
    let request = if actor.is_empty() { request } else { request.header("Fencepost-Actor", actor) };
    assert!([200, 201, 404].contains(&request.send().status));
}

fn with_changes(seed: u64) -> Server {
    let server = Server::with_graph();
    let mut chance = Chance(seed);
    (0..60).for_each(|_| change(&server, &mut chance));
    server
}

/// All lines of the log.
fn lines(server: &Server) -> String {
    server.get(CHANGES).header("Accept", "application/x-ndjson").send().expect(200).text()
}

/// The items of a page as they stand in it.
fn raw_items(page: &str) -> &str {
    page.split_once("\"items\":[").unwrap().1.rsplit_once("],\"next_after\":").unwrap().0
}

#[test]
fn pages_are_dense_whichever_way_they_are_cut_and_the_lines_are_their_items_byte_for_byte() {
    let server = with_changes(7);
    let lines = lines(&server);
    let version = server.state()["version"].as_u64().unwrap();
    assert!(version > 20, "{version}");
    for limit in [1, 2, 7, version, 1000] {
        let (mut after, mut found) = (0, Vec::new());
        while after < version {
            let answer =
                server.get(&format!("{CHANGES}?after={after}&limit={limit}")).send().expect(200);
            assert_eq!(answer.header("fencepost-version"), Some(version.to_string().as_str()));
            let page = answer.json();
            let items = page["items"].as_array().unwrap();
            let versions: Vec<u64> =
                items.iter().map(|item| item["graphversion"].as_u64().unwrap()).collect();
            let next = page["next_after"].as_u64().unwrap();
            assert_eq!(versions, (after + 1..=next).collect::<Vec<_>>());
            assert_eq!(items.len() as u64, limit.min(version - after));
            found.push(raw_items(&answer.text()).to_owned());
            after = next;
        }
        assert_eq!(found.join(","), lines.trim_end().replace('\n', ","), "limit {limit}");
    }
    let at_the_head = server.get(&format!("{CHANGES}?after={version}")).send().expect(200).json();
    assert_eq!((&at_the_head["items"], &at_the_head["next_after"]), (&json!([]), &json!(version)));
    let from = |query: &str| {
        let answer = server
            .get(&format!("{CHANGES}?{query}"))
            .header("Accept", "application/x-ndjson")
            .send();
        answer.expect(200).text()
    };
    assert_eq!(from("limit=3"), lines.split_inclusive('\n').take(3).collect::<String>());
    assert_eq!(
        from("after=5&limit=3"),
        lines.split_inclusive('\n').skip(5).take(3).collect::<String>()
    );
    assert_eq!(from(&format!("after={version}")), "");
    let beyond = server.get(&format!("{CHANGES}?after=9223372036854775807&limit=1000"));
    beyond.send().problem(412, "precondition_failed");
}

#[test]
fn the_lines_replay_to_the_graph_that_the_service_has() {
    let server = with_changes(11);
    let mut replay = Replay::default();
    for line in lines(&server).lines() {
        replay.take(line).unwrap();
    }
    let replayed = replay.finish().unwrap();
    let state = json!({"graph": "g", "version": replayed.graph.version(), "digest": replayed.graph.digest()});
    assert_eq!(state, server.state());
}

#[test]
fn a_log_in_many_pages_comes_whole_in_one_stream_of_lines() {
    let server = Server::with_graph();
    thread::scope(|scope| {
        for writer in 0..16 {
            let server = &server;
            scope.spawn(move || {
                for i in 0..70 {
                    server.put_job(&format!("{writer}-{i}"), &[], &[]);
                }
            });
        }
    });
    let versions: Vec<u64> = lines(&server)
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["graphversion"].as_u64().unwrap())
        .collect();
    assert_eq!(versions, (1..=1120).collect::<Vec<_>>());
    let mut tail = Tail::open(server.get(CHANGES), None);
    assert_eq!((1..=1120).map(|_| tail.event().0).collect::<Vec<_>>(), versions);
}

fn put_large(server: &Server, name: &str, bytes: usize) {
    let job = json!({"inputs": [], "outputs": [], "spec": {"text": "x".repeat(bytes)}});
    server.put(&format!("/v1/graphs/g/jobs/{name}")).json(&job).send().expect(201);
}

#[test]
fn large_changes_make_a_page_shorter_and_are_all_reached() {
    let server = Server::with_graph();
    (0..4).for_each(|i| put_large(&server, &format!("j{i}"), 3 << 20));
    let (mut after, mut pages) = (0, 0);
    while after < 4 {
        let page = server.get(&format!("{CHANGES}?after={after}")).send().expect(200).json();
        let next = page["next_after"].as_u64().unwrap();
        assert!(next > after && page["items"].as_array().unwrap().len() as u64 == next - after);
        (after, pages) = (next, pages + 1);
    }
    assert!(pages > 1, "all in one page");
    assert_eq!(lines(&server).lines().count(), 4);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let server = Server::with_graph();
    let live = || server.get(CHANGES).header("Accept", "text/event-stream");
    for query in
        ["limit=0", "limit=1001", "limit=x", "after=-1", "after=9223372036854775808", "after="]
    {
        let at = query.split('=').next().unwrap();
        for accept in ["application/json", "application/x-ndjson"] {
            let request = server.get(&format!("{CHANGES}?{query}")).header("Accept", accept);
            assert_eq!(request.send().problem(400, "malformed")["at"], at, "{query}");
        }
    }
    for last in ["", "x", "-1", "1.5", "9223372036854775808"] {
        let problem = live().header("Last-Event-ID", last).send().problem(400, "malformed");
        assert_eq!(problem["at"], "last-event-id");
    }
    let limited = server.get(&format!("{CHANGES}?limit=5")).header("Accept", "text/event-stream");
    assert_eq!(limited.send().problem(400, "malformed")["at"], "limit");
    server.delete("/v1/graphs/g").header("If-Match", "*").send().expect(200);
    for accept in ["application/json", "application/x-ndjson", "text/event-stream"] {
        for graph in ["g", "none"] {
            let request =
                server.get(&format!("/v1/graphs/{graph}/changes")).header("Accept", accept);
            assert_eq!(request.send().problem(404, "graph_not_found")["name"], graph);
        }
    }
}

#[test]
fn head_answers_in_every_form_and_leaves_nothing_running() {
    let server = with_changes(3);
    for accept in ["application/json", "application/x-ndjson", "text/event-stream"] {
        let request = server.call("HEAD", CHANGES).header("Accept", accept);
        let answer = request.send().expect(200);
        assert_eq!(
            answer.header("content-type").map(|given| given.starts_with(accept)),
            Some(true)
        );
    }
    nothing_is_open(&server);
}

/// Whether what the metrics say of streams and tails has come to nothing.
fn nothing_is_open(server: &Server) {
    wait_until("every stream and every tail has ended", || {
        let text = server.get("/metrics").send().text();
        let open = |line: &&str| {
            line.starts_with("fencepost_http_streams{") || line.starts_with("fencepost_tails ")
        };
        text.lines().filter(open).all(|line| line.ends_with(" 0"))
    });
}

fn metric(server: &Server, line: &str) -> u64 {
    let text = server.get("/metrics").send().text();
    let found = text.lines().find_map(|given| given.strip_prefix(line)?.trim().parse::<u64>().ok());
    found.unwrap_or_else(|| panic!("no {line}"))
}

#[test]
fn a_live_tail_tells_what_there_was_and_then_what_comes_each_as_it_stands_in_the_log() {
    let server = with_changes(5);
    let before = server.state()["version"].as_u64().unwrap();
    let mut tail = Tail::open(server.get(CHANGES), None);
    // Every block is an event: many clients take an empty one for one too.
    let first = tail.next().unwrap();
    assert_eq!((first.retry, first.id), (Some(1000), Some(1)));
    let mut told = vec![first.data.unwrap()];
    told.extend(tail.events(before as usize - 1));
    let mut chance = Chance(6);
    for _ in 0..20 {
        change(&server, &mut chance);
    }
    let after = server.put_job("the last", &[], &[]);
    told.extend(tail.events((after - before) as usize));
    assert_eq!(told.join("\n") + "\n", lines(&server));
    // Where it is told twice, the header wins: a browser keeps the address that it began with.
    let resumed =
        |query: &str, last| Tail::open(server.get(&format!("{CHANGES}{query}")), last).event().0;
    assert_eq!(resumed("", Some(3)), 4);
    assert_eq!(resumed("?after=3", None), 4);
    assert_eq!(resumed("?after=3", Some(10)), 11);
    assert_eq!(resumed("?after=3&at_least=5", Some(0)), 1);
}

const FORMS: [&str; 3] = ["application/json", "application/x-ndjson", "text/event-stream"];

/// Only a backup that was restored makes that so.
#[test]
fn whoever_has_read_a_version_that_is_not_there_is_told() {
    let server = Server::with_graph();
    server.put_job("j1", &[], &[]);
    let told = |request: Request| {
        let problem = request.send().problem(412, "precondition_failed");
        assert_eq!((&problem["expected"], &problem["actual"]), (&json!(2), &json!(1)));
        assert_eq!((&problem["version"], &problem["graph"]), (&json!(1), &json!("g")));
    };
    for form in FORMS {
        told(server.get(&format!("{CHANGES}?after=2")).header("Accept", form));
    }
    let resumed = server.get(CHANGES).header("Accept", FORMS[2]).header("Last-Event-ID", "2");
    told(resumed);
}

#[test]
fn whoever_has_read_another_history_is_told() {
    let server = Server::with_graph();
    for i in 1..=3 {
        server.put_job(&format!("j{i}"), &[], &[]);
    }
    let chains: Vec<String> = lines(&server)
        .lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap())
        .map(|event| event["chainhash"].as_str().unwrap().to_owned())
        .collect();
    let start = "0".repeat(64);
    let path = |after: usize, chain: &str| format!("{CHANGES}?after={after}&after_chain={chain}");
    let ask = |after: usize, chain: &str, form: &str| {
        server.get(&path(after, chain)).header("Accept", form)
    };
    let chain_at = |version: usize| if version == 0 { &start } else { &chains[version - 1] };
    for after in 0..=3 {
        for form in &FORMS[..2] {
            ask(after, chain_at(after), form).send().expect(200);
            for other in (0..=3).filter(|other| *other != after) {
                let refused = ask(after, chain_at(other), form).send();
                let problem = refused.problem(412, "precondition_failed");
                assert_eq!((&problem["expected"], &problem["actual"]), (&json!(after), &json!(3)));
            }
        }
    }
    ask(2, chain_at(3), FORMS[2]).send().problem(412, "precondition_failed");
    let mut tail = Tail::open(server.get(&path(2, chain_at(2))), None);
    assert_eq!(tail.event().0, 3);
    for malformed in ["", "12", &chains[0].to_uppercase(), &format!("{}0", chains[0])] {
        ask(1, malformed, FORMS[0]).send().problem(400, "malformed");
    }
}

/// Follows from the beginning, hangs up after so many bytes as chance will have it, within an event
/// too, and goes on where it was.
fn follow_with_breaks(address: SocketAddr, until: u64, mut chance: Chance) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    let mut connections = 0;
    while (told.len() as u64) < until {
        let last = told.len() as u64;
        let mut tail =
            Tail::open(Request::new(address, "GET", CHANGES), (last > 0).then_some(last));
        connections += 1;
        let mut budget = 1 + chance.below(6000);
        while budget > 0 && (told.len() as u64) < until {
            let most = budget.min(1 + chance.below(700));
            assert!(tail.read(most));
            budget -= most;
            while let Some(frame) = tail.take() {
                if let Frame { id: Some(id), data: Some(data), .. } = frame {
                    assert_eq!(id, told.len() as u64 + 1, "missed or told again");
                    told.push(data);
                }
            }
        }
    }
    assert!(connections > 5, "{connections}");
    told
}

#[test]
fn a_reader_that_hangs_up_at_any_byte_and_comes_again_misses_nothing_and_is_told_nothing_twice() {
    let server = Server::with_graph();
    const CHANGED: u64 = 120;
    let told: Vec<Vec<String>> = thread::scope(|scope| {
        let address = server.address;
        let readers: Vec<_> = (1..=3)
            .map(|seed| {
                scope.spawn(move || follow_with_breaks(address, CHANGED, Chance(seed * 77)))
            })
            .collect();
        for writer in 0..4 {
            let server = &server;
            scope.spawn(move || {
                for i in 0..CHANGED / 4 {
                    server.put_job(&format!("{writer}-{i}"), &[], &[]);
                }
            });
        }
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    let lines = lines(&server);
    for told in told {
        assert_eq!(told.join("\n") + "\n", lines);
    }
    nothing_is_open(&server);
}

#[test]
fn one_look_at_the_store_serves_all_who_follow_and_the_last_who_goes_ends_it() {
    let server = Server::with_graph();
    let mut tails: Vec<Tail> = (0..20).map(|_| Tail::open(server.get(CHANGES), None)).collect();
    assert_eq!(metric(&server, "fencepost_tails"), 1);
    assert_eq!(metric(&server, "fencepost_http_streams{of=\"tail\"}"), 20);
    for i in 1..=10 {
        server.put_job(&format!("j{i}"), &[], &[]);
    }
    for tail in &mut tails {
        assert_eq!(
            (1..=10).map(|_| tail.event().0).collect::<Vec<_>>(),
            (1..=10).collect::<Vec<_>>()
        );
    }
    drop(tails);
    nothing_is_open(&server);
}

#[test]
fn a_reader_that_reads_nothing_holds_up_nobody_and_gets_all_when_it_reads_again() {
    let server = Server::with_graph();
    let mut stalled = Tail::open(server.get(CHANGES), None);
    let mut reading = Tail::open(server.get(CHANGES), None);
    // More than the sockets take, and more than a tail keeps.
    for i in 1..=40 {
        put_large(&server, &format!("j{i}"), 1 << 20);
        assert_eq!(reading.event().0, i);
    }
    assert_eq!(
        (1..=40).map(|_| stalled.event().0).collect::<Vec<_>>(),
        (1..=40).collect::<Vec<_>>()
    );
    server.put_job("after", &[], &[]);
    assert_eq!((stalled.event().0, reading.event().0), (41, 41));
}

#[test]
fn a_tail_that_has_nothing_to_tell_says_that_it_is_there() {
    let server = Server::start_with(&["--heartbeat-ms", "20"], &[]);
    server.put("/v1/graphs/g").send().expect(201);
    let mut tail = Tail::open(server.get(CHANGES), None);
    tail.read_until(|body| body == "retry: 1000\n:\n:\n:\n");
    server.put_job("a", &[], &[]);
    assert_eq!(tail.event().0, 1);
}

#[test]
fn a_tail_ends_with_the_deletion_of_its_graph() {
    let server = Server::with_graph();
    server.put_job("a", &[], &[]);
    let mut tail = Tail::open(server.get(CHANGES), None);
    assert_eq!(tail.event().0, 1);
    server.delete("/v1/graphs/g").header("If-Match", "*").send().expect(200);
    let (version, data) = tail.event();
    assert!(version == 2 && data.contains(r#""facts":[{"fact":"graph_deleted"}]"#), "{data}");
    assert_eq!(tail.next(), None);
    server.put("/v1/graphs/g").send().expect(201);
    server.put_job("b", &[], &[]);
    let mut tail = Tail::open(server.get(CHANGES), Some(1));
    assert_eq!((tail.event().0, tail.event().0), (2, 3));
}

#[test]
fn a_shutdown_ends_tails_and_then_the_server() {
    let server = Server::with_graph();
    server.put_job("a", &[], &[]);
    let mut tails: Vec<Tail> = (0..3).map(|_| Tail::open(server.get(CHANGES), None)).collect();
    tails.iter_mut().for_each(|tail| assert_eq!(tail.event().0, 1));
    server.signal("TERM");
    // As an answer that has ended, not as one that was cut off.
    tails.iter_mut().for_each(|tail| assert_eq!(tail.next(), None));
    // If Rocket finds a connection that is about to close, it waits for the grace.
    assert_eq!(server.wait(cluster::LIMIT).0.code(), Some(0));
}

#[test]
fn one_stream_more_than_there_may_be_is_refused_until_another_ends() {
    let server = Server::start_with(&["--streams", "1"], &[]);
    server.put("/v1/graphs/g").send().expect(201);
    let tail = Tail::open(server.get(CHANGES), None);
    let snapshot = || server.get("/v1/graphs/g/snapshot").send();
    for request in ["application/x-ndjson", "text/event-stream"] {
        server.get(CHANGES).header("Accept", request).send().problem(503, "contended");
    }
    snapshot().problem(503, "contended");
    server.get(CHANGES).send().expect(200);
    drop(tail);
    wait_until("the tail has ended", || snapshot().status == 200);
}

/// A server on a database that the test may alter.
struct Altered {
    site: Site,
    server: cluster::Server,
}

impl Altered {
    fn with_jobs(jobs: usize, bytes: usize) -> Self {
        let site = Site::new();
        let server = site.serve();
        let altered = Self { site, server };
        altered.call("PUT", "/v1/graphs/g").send().expect(201);
        for i in 0..jobs {
            let job = json!({"inputs": [], "outputs": [], "spec": {"text": "x".repeat(bytes)}});
            altered.call("PUT", &format!("/v1/graphs/g/jobs/j{i}")).json(&job).send().expect(201);
        }
        altered
    }

    fn call(&self, method: &str, path: &str) -> Request {
        request(&self.server, method, path)
    }
}

fn request(server: &cluster::Server, method: &str, path: &str) -> Request {
    Request::new(server.base.strip_prefix("http://").unwrap().parse().unwrap(), method, path)
}

#[test]
fn what_was_pruned_answers_410_with_the_oldest_that_is_there_and_the_rest_is_told() {
    let altered = Altered::with_jobs(6, 0);
    altered.site.run_sql("DELETE FROM changes WHERE version < 4; UPDATE graphs SET oldest = 4");
    let ask = |after: u64, accept: &str| {
        altered.call("GET", &format!("{CHANGES}?after={after}")).header("Accept", accept).send()
    };
    for accept in ["application/json", "application/x-ndjson", "text/event-stream"] {
        for after in [0, 2] {
            let problem = ask(after, accept).problem(410, "pruned");
            assert_eq!(
                (&problem["oldest"], &problem["version"], &problem["graph"]),
                (&json!(4), &json!(6), &json!("g"))
            );
        }
    }
    assert_eq!(ask(3, "application/json").expect(200).json()["next_after"], 6);
    assert_eq!(ask(3, "application/x-ndjson").expect(200).text().lines().count(), 3);
    assert_eq!(Tail::open(altered.call("GET", CHANGES), Some(3)).event().0, 4);
    // Where none is left.
    altered.site.run_sql("DELETE FROM changes; UPDATE graphs SET oldest = 7");
    assert_eq!(ask(5, "application/json").problem(410, "pruned")["oldest"], 7);
    assert_eq!(ask(6, "application/json").expect(200).json()["items"], json!([]));
}

#[test]
fn a_tail_that_pruning_overtakes_ends_with_that_problem() {
    let altered = Altered::with_jobs(2, 0);
    let mut tail = Tail::open(altered.call("GET", CHANGES), None);
    assert_eq!((tail.event().0, tail.event().0), (1, 2));
    altered.site.run_sql("UPDATE graphs SET version = 9, oldest = 8");
    assert_eq!(tail.next().unwrap().problem("pruned")["oldest"], 8);
    assert_eq!(tail.next(), None);
}

#[test]
fn a_stream_that_cannot_be_continued_ends_with_a_problem_and_is_never_merely_short() {
    let altered = Altered::with_jobs(4, 3 << 20);
    altered.site.run_sql("DELETE FROM changes WHERE version = 3");
    let text = altered
        .call("GET", CHANGES)
        .header("Accept", "application/x-ndjson")
        .send()
        .expect(200)
        .text();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.last().unwrap()["type"], "urn:fencepost:problem:internal");
    assert_eq!(lines.len(), 3);
    let mut replay = Replay::default();
    assert!(text.lines().try_for_each(|line| replay.take(line).map(drop)).is_err());
    let mut tail = Tail::open(altered.call("GET", CHANGES), None);
    assert_eq!((tail.event().0, tail.event().0), (1, 2));
    tail.next().unwrap().problem("internal");
    assert_eq!(tail.next(), None);
}

#[test]
fn a_tail_of_a_graph_that_went_back_ends_with_a_problem() {
    let altered = Altered::with_jobs(3, 0);
    let mut tail = Tail::open(altered.call("GET", CHANGES), Some(2));
    assert_eq!(tail.event().0, 3);
    altered.site.run_sql("DELETE FROM changes WHERE version = 3; UPDATE graphs SET version = 2");
    tail.next().unwrap().problem("internal");
    assert_eq!(tail.next(), None);
    // Who comes again gets a tail that knows nothing of the former.
    let mut tail = Tail::open(altered.call("GET", CHANGES), Some(1));
    assert_eq!(tail.event().0, 2);
}

#[test]
fn who_follows_on_one_node_sees_what_is_written_on_another() {
    let site = Site::new();
    let nodes = [site.serve(), site.serve()];
    request(&nodes[0], "PUT", "/v1/graphs/g").send().expect(201);
    let mut tails = nodes.each_ref().map(|node| Tail::open(request(node, "GET", CHANGES), None));
    for i in 1..=30 {
        let writer = &nodes[i % 2];
        writer.put_job(&format!("j{i}"), &[], &[]).unwrap();
        for tail in &mut tails {
            assert_eq!(tail.event().0, i as u64);
        }
    }
}

#[test]
fn followers_of_two_nodes_are_told_the_same_while_both_write() {
    let site = Site::new();
    let nodes = [site.serve(), site.serve()];
    request(&nodes[0], "PUT", "/v1/graphs/g").send().expect(201);
    let tails = nodes.each_ref().map(|node| Tail::open(request(node, "GET", CHANGES), None));
    let told = thread::scope(|scope| {
        for (n, node) in nodes.iter().enumerate() {
            scope.spawn(move || {
                (0..40).for_each(|i| drop(node.put_job(&format!("{n}-{i}"), &[], &[]).unwrap()))
            });
        }
        tails
            .map(|mut tail| scope.spawn(move || tail.events(80)))
            .map(|reader| reader.join().unwrap())
    });
    let lines = request(&nodes[1], "GET", CHANGES)
        .header("Accept", "application/x-ndjson")
        .send()
        .expect(200)
        .text();
    for told in told {
        assert_eq!(told.join("\n") + "\n", lines);
    }
}

#[test]
fn actors_and_names_come_as_they_were_given() {
    let server = Server::with_graph();
    let actors = ["me", "jürgen <j@example.org>", "\"x\"\\", "</script>"];
    let mut expected = BTreeMap::new();
    for (i, name) in NAMES.iter().enumerate() {
        let actor = actors[i % actors.len()];
        let put = server
            .put(&format!("/v1/graphs/g/datasets/{}", encoded(name)))
            .header("Fencepost-Actor", actor);
        put.send().expect(201);
        expected.insert(i as u64 + 1, (actor.to_owned(), (*name).to_owned()));
    }
    let mut tail = Tail::open(server.get(CHANGES), None);
    for (version, (actor, name)) in expected {
        let (told, data) = tail.event();
        let event: Value = serde_json::from_str(&data).unwrap();
        assert_eq!(
            (told, &event["actor"], &event["data"]["facts"][0]["name"]),
            (version, &json!(actor), &json!(name))
        );
    }
    let graph = "a/b \"c\" 日本";
    server.put(&format!("/v1/graphs/{}", encoded(graph))).send().expect(201);
    server.put(&format!("/v1/graphs/{}/datasets/d", encoded(graph))).send().expect(201);
    let page =
        server.get(&format!("/v1/graphs/{}/changes", encoded(graph))).send().expect(200).json();
    assert_eq!((&page["graph"], &page["items"][0]["subject"]), (&json!(graph), &json!(graph)));
}

#[test]
fn the_change_log_is_a_read_like_any_other() {
    let server = with_changes(9);
    let version = server.state()["version"].to_string();
    let tag = format!("\"{version}\"");
    for accept in ["application/json", "application/x-ndjson"] {
        let request = server.get(CHANGES).header("Accept", accept);
        assert_eq!(request.clone().send().expect(200).header("etag"), Some(tag.as_str()));
        request.header("If-None-Match", &tag).send().expect(304);
    }
    let route = ROUTES.iter().find(|route| route.id == "readChanges").unwrap();
    assert_eq!(
        route.media_types,
        ["application/json", "application/x-ndjson", "text/event-stream"]
    );
    nothing_is_open(&server);
}
