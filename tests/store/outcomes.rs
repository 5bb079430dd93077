//! Outcome unknown is not failure, and failure is whole: what a client is told when COMMIT goes
//! wrong.

use std::process::Command;

use serde_json::json;

use crate::support::cluster::{Answer, Client, GRAPH, SERVE, Server, Site, finish, wait_until};
use crate::support::storm::audit;

fn put(server: &Server, path: &str, key: Option<&str>, body: &serde_json::Value) -> Answer {
    Client::new().send(&server.base, "PUT", &format!("/v1/graphs/{path}"), key, Some(body)).unwrap()
}

fn delete(server: &Server, path: &str) -> Answer {
    let path = format!("/v1/graphs/{path}");
    Client::new().send(&server.base, "DELETE", &path, None, None).unwrap()
}

/// The row of the attempt tells that it was written.
#[test]
fn a_commit_whose_answer_is_lost_is_told_as_what_it_is() {
    let site = Site::with_graph();
    let server = site.serve_armed("commit-answer=off", &[]);
    for version in 2..5 {
        let answer = server.put_job(&format!("j{version}"), &["x"], &[]).unwrap();
        assert_eq!((answer.status, answer.version()), (201, version), "{answer:?}");
    }
    let read = server.get(&format!("/v1/graphs/{GRAPH}/digest")).unwrap();
    let audit = audit(&site);
    assert_eq!((audit.version, read.body["digest"].as_str()), (4, Some(audit.digest.as_str())));
}

/// A write that changes nothing has no row in the change log; the answer that it kept tells.
#[test]
fn a_lost_commit_that_only_kept_an_answer_is_told_by_that_answer() {
    let site = Site::with_graph();
    let server = site.serve_armed("commit-answer=off", &[]);
    let unchanged = json!({});
    for _ in 0..2 {
        let answer = put(&server, &format!("{GRAPH}/datasets/first"), Some("key"), &unchanged);
        assert_eq!(
            (answer.status, answer.body["changed"].as_bool()),
            (200, Some(false)),
            "{answer:?}"
        );
    }
    assert_eq!(audit(&site).version, 1);
}

/// A new graph is known by its UUID; one that was deleted before only by the answer that was kept.
#[test]
fn a_lost_commit_that_creates_a_graph_is_told_as_what_it_is() {
    let site = Site::with_graph();
    let server = site.serve_armed("commit-answer=off", &[]);
    for (key, status) in [(None, 201), (None, 200), (Some("a"), 200)] {
        let answer = put(&server, "other", key, &json!({}));
        assert_eq!(answer.status, status, "{key:?}: {answer:?}");
    }
    // By a node that loses nothing: a first write raises the epoch before.
    assert_eq!(delete(&site.serve(), "other").status, 200);
    for node in [&server, &site.serve()] {
        let answer = put(node, "other", Some("b"), &json!({}));
        assert_eq!(answer.status, 201, "{answer:?}");
    }
    assert_eq!(audit(&site).version, 1);
}

/// What leaves nothing to be looked for may have been written, and is not told as refused.
#[test]
fn an_outcome_that_cannot_be_learnt_is_told_as_unknown() {
    let site = Site::with_graph();
    let server = site.serve_armed("commit-answer=off", &[]);
    let unknown = |answer: Answer| {
        assert_eq!(
            (answer.status, answer.body["outcome"].as_str()),
            (503, Some("unknown")),
            "{answer:?}"
        );
        assert_eq!(answer.body["type"], "urn:fencepost:problem:outcome_unknown");
    };
    assert_eq!(put(&server, "other", None, &json!({})).status, 201);
    // By a node that loses nothing: a first write raises the epoch before.
    assert_eq!(delete(&site.serve(), "other").status, 200);
    unknown(put(&server, "other", None, &json!({})));
    assert_eq!(put(&server, "other", None, &json!({})).status, 200, "it was created");
    let consumer = format!("{GRAPH}/consumers/c");
    unknown(put(&server, &consumer, None, &json!({"acknowledged": 1})));
    unknown(delete(&server, &consumer));
    drop(server);
    for command in ["freeze", "thaw"] {
        let mut command = site.fencepost(&[command, "--graph", GRAPH]);
        command.env("FENCEPOST_FAILPOINTS", "commit-answer=off");
        let (code, said) = finish(command);
        assert!(code == Some(3) && said.contains("is unknown"), "{code:?} {said}");
    }
    assert_eq!(audit(&site).version, 1);
}

/// A server whose files can grow no further than `bytes`; its writes then fail as on a full disk.
fn serve_with_files_up_to(site: &Site, bytes: u64) -> Server {
    let fencepost = site.fencepost(&SERVE);
    let mut command = Command::new("sh");
    command.args([
        "-c",
        &format!("trap '' XFSZ; exec prlimit --fsize={bytes}:unlimited \"$@\""),
        "sh",
    ]);
    command.arg(fencepost.get_program()).args(fencepost.get_args());
    command.env("FENCEPOST_DATABASE_URL", site.database_url());
    Server::start(command)
}

#[test]
fn a_full_disk_refuses_writes_whole_and_lets_them_in_again_when_there_is_room() {
    let site = Site::with_graph();
    let server = serve_with_files_up_to(&site, 400_000);
    let large = "x".repeat(20_000);
    let put_large = |n: u64| {
        let body = json!({"inputs": ["first"], "outputs": [], "spec": {"large": large}});
        put(&server, &format!("{GRAPH}/jobs/job-{n}"), None, &body)
    };
    // Refused more than once: room that SQLite finds by tidying its own files does not last.
    let (mut acknowledged, mut refused) = (1, Vec::new());
    for n in 0.. {
        assert!(n < 100, "the disk never was full");
        let answer = put_large(n);
        if answer.status == 503 {
            refused.push(answer);
        } else {
            assert_eq!((answer.status, answer.version()), (201, acknowledged + 1), "{answer:?}");
            acknowledged += 1;
        }
        assert_eq!(
            audit(&site).version,
            acknowledged,
            "nothing is half-written, nothing acknowledged is missing"
        );
        if refused.len() == 5 {
            break;
        }
    }
    for refused in refused {
        assert_eq!(
            refused.body["type"], "urn:fencepost:problem:database_unavailable",
            "{refused:?}"
        );
        assert_eq!(refused.body["outcome"], "not_applied");
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(detail.contains("disk"), "it names what is wrong: {detail}");
    }
    let read = server.get(&format!("/v1/graphs/{GRAPH}/digest")).unwrap();
    assert_eq!((read.status, read.version()), (200, acknowledged), "reads go on");
    let (code, said) = finish({
        let mut prlimit = Command::new("prlimit");
        prlimit.args(["--pid", &server.id().to_string(), "--fsize=unlimited:unlimited"]);
        prlimit
    });
    assert_eq!(code, Some(0), "{said}");
    let answer = put_large(1000);
    assert_eq!((answer.status, answer.version()), (201, acknowledged + 1), "{answer:?}");
    assert_eq!(audit(&site).version, acknowledged + 1);
}

/// One process holds the file for longer than another waits for it.
#[test]
fn a_file_that_another_program_holds_is_told_and_nothing_is_written() {
    use diesel::connection::SimpleConnection;
    let site = Site::with_graph();
    let node = site.node();
    let mut other = site.sql();
    other.batch_execute("BEGIN IMMEDIATE").unwrap();
    let verdict = crate::support::ask::write(&node, [crate::support::ask::put_dataset("d")]);
    let Err(fencepost::service::Refusal::DatabaseUnavailable { what }) = verdict else {
        panic!("{verdict:?}")
    };
    assert!(what.contains("locked"), "{what}");
    other.batch_execute("COMMIT").unwrap();
    assert_eq!(crate::support::ask::accepted(&node, [crate::support::ask::put_dataset("d")]), 2);
    wait_until("nothing waits", || node.waiting() == (0, 0));
    audit(&site);
}
