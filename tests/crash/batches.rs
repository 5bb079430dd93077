//! A turn that serves many writes at once, held where it commits, and killed there: all of them or
//! none, and nobody is told before.

use std::collections::HashSet;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::kills::is_at;
use crate::support::cluster::{Answer, Client, GRAPH, Server, Site, wait_until};
use crate::support::storm::{Told, audit, check_public_text};

fn put_job(base: &str, job: &str, key: Option<&str>, body: &Value) -> Result<Answer, String> {
    Client::new().send(base, "PUT", &format!("/v1/graphs/{GRAPH}/jobs/{job}"), key, Some(body))
}

/// A server, and the one write that holds everyone up so that all that come meanwhile are one
/// batch, and are held at `point`.
struct Holding {
    site: Site,
    server: Server,
    point: &'static str,
}

impl Holding {
    fn at(point: &'static str) -> Self {
        let site = Site::with_graph();
        let (first, batch) = (site.path("first"), site.path("batch"));
        let armed =
            format!("after-acquire=pause:{},{point}=pause:{}@2", first.display(), batch.display());
        // However slow the machine is, the batch is decided in one turn.
        let arguments = ["--reads", "snapshot", "--batch-time-ms", "60000"];
        let server = site.serve_armed(&armed, &arguments);
        Self { site, server, point }
    }

    /// Runs each of the requests in a thread of its own, all in one turn after that of the job
    /// `first`. When that turn is at the point, `then` looks on; the turn goes on after it. What
    /// was answered.
    fn batch<R>(
        &self,
        requests: Vec<R>,
        then: impl FnOnce(&dyn Fn() -> usize),
    ) -> Vec<Result<Answer, String>>
    where
        R: FnOnce(&str) -> Result<Answer, String> + Send,
    {
        let base = self.server.base.as_str();
        let (first, batch) = (self.site.path("first"), self.site.path("batch"));
        std::thread::scope(|scope| {
            let ahead =
                scope.spawn(|| self.server.put_job("first", &["first"], &["made"]).unwrap());
            wait_until("the first turn has the lock", || is_at(&first, "after-acquire"));
            let waiting = || self.server.count("fencepost_waiting_requests", "write");
            let put_in_line = |(n, request): (usize, R)| {
                let client = scope.spawn(move || request(base));
                // One after another, in this order.
                wait_until("it is in line", || waiting() > n as u64);
                client
            };
            let clients: Vec<_> = requests.into_iter().enumerate().map(put_in_line).collect();
            let goes_on = GoesOn(&batch);
            fs::remove_file(&first).unwrap();
            wait_until("the batch is at the point", || is_at(&batch, self.point));
            assert_eq!((waiting(), ahead.join().unwrap().version()), (0, 2));
            then(&|| clients.iter().filter(|client| client.is_finished()).count());
            drop(goes_on);
            clients.into_iter().map(|client| client.join().unwrap()).collect()
        })
    }
}

/// Ends a pause when dropped, also by a test that fails.
struct GoesOn<'f>(&'f Path);

impl Drop for GoesOn<'_> {
    fn drop(&mut self) {
        drop(fs::remove_file(self.0));
    }
}

const CLIENTS: usize = 64;

fn mark(client: usize) -> String {
    format!("client-{client}")
}

/// Every fourth client wants to be the one that writes `contested`; each has a key of its own.
fn write_of(client: usize) -> impl Fn(&str) -> Result<Answer, String> + Send {
    move |base| {
        let output =
            if client.is_multiple_of(4) { "contested".to_owned() } else { format!("out-{client}") };
        let body =
            json!({"inputs": ["first"], "outputs": [output], "spec": {"mark": mark(client)}});
        put_job(base, &format!("job-{client}"), Some(&mark(client)), &body)
    }
}

/// Kills a server in the turn that serves all clients, and has each send its request again.
fn killed_with_a_batch(point: &'static str, outlives: bool) {
    const ACCEPTED: u64 = CLIENTS as u64 * 3 / 4 + 1;
    let holding = Holding::at(point);
    let writes = (0..CLIENTS).map(write_of).collect();
    let lost = holding.batch(writes, |_| holding.server.signal("KILL"));
    assert!(lost.iter().all(Result::is_err), "answered before it was done: {lost:?}");
    let Holding { site, mut server, .. } = holding;
    server.kill();

    let found = audit(&site);
    assert_eq!(found.version, if outlives { 2 + ACCEPTED } else { 2 });
    let attempts: HashSet<_> =
        found.log[2..].iter().map(|logged| logged.attempt.as_str()).collect();
    assert_eq!(attempts.len(), usize::from(outlives), "the batch was one turn");

    let next = site.serve();
    let mut told = Told::default();
    for client in 0..CLIENTS {
        let answer = write_of(client)(&next.base).unwrap();
        match answer.status {
            201 => told.accepted.push((answer.version(), mark(client))),
            409 => told.rejected.push(mark(client)),
            _ => panic!("neither accepted nor rejected: {answer:?}"),
        }
    }
    let audit = audit(&site);
    assert_eq!((told.accepted.len() as u64, audit.version), (ACCEPTED, 2 + ACCEPTED));
    check_public_text(&told, &audit);
}

#[test]
fn killed_before_its_commit_a_batch_is_not_there_and_can_be_sent_again() {
    killed_with_a_batch("before-commit", false);
}

#[test]
fn killed_after_its_commit_a_batch_is_there_and_sent_again_is_not_applied_twice() {
    killed_with_a_batch("after-commit", true);
}

#[test]
fn nobody_is_answered_before_the_batch_is_committed() {
    type Ask = Box<dyn FnOnce(&str) -> Result<Answer, String> + Send>;
    fn put(job: &'static str, outputs: &'static [&str]) -> Ask {
        Box::new(move |base| {
            put_job(base, job, None, &json!({"inputs": ["first"], "outputs": outputs}))
        })
    }
    fn send(
        method: &'static str,
        path: &'static str,
        key: Option<&'static str>,
        body: Value,
    ) -> Ask {
        Box::new(move |base| {
            Client::new().send(
                base,
                method,
                &format!("/v1/graphs/{GRAPH}/{path}"),
                key,
                Some(&body),
            )
        })
    }
    let dry =
        json!({"operations": [{"op": "put_job", "name": "dry", "inputs": [], "outputs": ["own"]}]});
    let keyed = json!({"inputs": [], "outputs": []});
    let requests: Vec<(u16, Ask)> = vec![
        (201, put("new", &["own"])),
        // As it is already.
        (200, put("first", &["made"])),
        (409, put("after-what-is-there", &["made"])),
        // These rest on what a neighbour was granted.
        (409, put("after-a-neighbour", &["own"])),
        (409, send("POST", "changesets?dry_run=true", None, dry)),
        (200, send("POST", "changesets?dry_run=true", None, json!({"operations": []}))),
        (404, send("PATCH", "jobs/nobody", None, json!({"inputs": []}))),
        (201, send("PUT", "jobs/keyed", Some("key"), keyed.clone())),
        (201, send("PUT", "jobs/keyed", Some("key"), keyed)),
    ];
    let (expected, requests): (Vec<u16>, Vec<Ask>) = requests.into_iter().unzip();
    let holding = Holding::at("before-commit");
    let server = &holding.server;
    let answers = holding.batch(requests, |answered| {
        // Others are answered meanwhile: an answer that was on its way would have come.
        for _ in 0..20 {
            assert_eq!(server.get(&format!("/v1/graphs/{GRAPH}")).unwrap().version(), 2);
        }
        assert_eq!((answered(), server.count("fencepost_request_seconds_count", "write")), (0, 1));
    });
    let answers: Vec<Answer> = answers.into_iter().map(Result::unwrap).collect();
    let statuses: Vec<u16> = answers.iter().map(|answer| answer.status).collect();
    assert_eq!(statuses, expected, "{answers:?}");
    assert_eq!(
        server.count("fencepost_write_batch_requests_count", ""),
        2,
        "all of it was one batch"
    );
    assert_eq!(audit(&holding.site).version, 4);
}
