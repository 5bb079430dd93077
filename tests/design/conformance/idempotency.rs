//! A request that is sent again is done once.

use std::sync::mpsc;

use fencepost::service::{Accepted, IdempotencyKey, Refusal, Service, Subject, Verdict, Write};

use super::Fixture;
use crate::support::ask::{
    changeset, delete_graph, delete_job, dry_run, keyed, put_dataset, put_job, rejection_of, write,
};
use crate::support::cluster::{GRAPH, LIMIT, name};
use crate::support::storm::audit;

fn ask(node: &Service, write: fencepost::service::Write) -> Verdict {
    node.write_and_wait(&name(GRAPH), write)
}

pub fn the_same_key_gives_the_same_answer_and_is_done_once(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    let request = || keyed(changeset([put_job("j", &["x"], &[])]), "k", "f");
    let first = ask(&node, request());
    assert_eq!(
        first,
        Ok(Accepted { version: 1, changed: true, created: true, subject_version: Some(1) })
    );
    write(&node, [delete_job("j")]).unwrap();
    assert_eq!(ask(&other, request()), first);
    assert_eq!(ask(&node, request()), first);
    assert_eq!(audit(fixture.site()).version, 2);
}

pub fn the_same_key_for_another_request_is_refused(fixture: &impl Fixture) {
    let (node, other) = (fixture.node_with_graph(), fixture.node());
    ask(&node, keyed(changeset([put_dataset("d")]), "k", "f")).unwrap();
    assert_eq!(
        ask(&other, keyed(changeset([put_dataset("e")]), "k", "g")),
        Err(Refusal::KeyReused)
    );
    assert_eq!(audit(fixture.site()).version, 1);
}

pub fn a_rejection_is_not_kept(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let request = || keyed(changeset([delete_job("j")]), "k", "f");
    rejection_of(ask(&node, request()));
    write(&node, [put_job("j", &[], &[])]).unwrap();
    assert_eq!(ask(&node, request()).map(|accepted| accepted.version), Ok(2));
}

pub fn a_write_that_changes_nothing_is_kept_too(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    write(&node, [put_dataset("d")]).unwrap();
    let request = || keyed(changeset([put_dataset("d")]), "k", "f");
    let unchanged =
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) });
    assert_eq!(ask(&node, request()), unchanged);
    write(&node, [crate::support::ask::delete_dataset("d")]).unwrap();
    assert_eq!(ask(&fixture.node(), request()), unchanged);
    assert_eq!(audit(fixture.site()).version, 2);
}

pub fn an_answer_is_kept_for_a_day(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let request = |key: &str| keyed(changeset([put_dataset("d")]), key, "f");
    ask(&node, request("old")).unwrap();
    ask(&node, request("new")).unwrap();
    let age = |key: &str, minutes: i64| {
        let moved = minutes * 60_000;
        fixture.site().run_sql(&format!(
            "UPDATE idempotency_keys SET created_at_ms = created_at_ms - {moved} WHERE key = '{key}'"
        ));
    };
    age("old", 24 * 60 + 1);
    age("new", 24 * 60 - 1);
    assert!(ask(&node, request("new")).unwrap().version == 1);
    let again = ask(&node, request("old"));
    assert_eq!(
        again,
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) }),
        "judged anew after a day"
    );
    // And what was answered then is what is kept from then on.
    ask(&node, changeset([crate::support::ask::delete_dataset("d")])).unwrap();
    assert_eq!(ask(&fixture.node(), request("old")), again);
    assert_eq!(ask(&node, request("new")).unwrap().version, 1);
}

/// As versions of this program kept it that did not tell a subject's version.
pub fn an_answer_that_was_kept_without_the_version_of_its_subject_is_given(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let request = || Write {
        subject: Subject::Job(name("j")),
        ..keyed(changeset([put_job("j", &[], &[])]), "k", "f")
    };
    let first = ask(&node, request());
    assert_eq!(first.as_ref().unwrap().subject_version, Some(1));
    fixture.site().run_sql(
        r#"UPDATE idempotency_keys SET answer = '{"version":1,"changed":true,"created":true}'"#,
    );
    assert_eq!(ask(&fixture.node(), request()), first);
}

pub fn a_dry_run_neither_keeps_nor_uses_a_key(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let dry = || keyed(dry_run([put_dataset("d")]), "k", "f");
    assert_eq!(
        ask(&node, dry()),
        Ok(Accepted { version: 0, changed: true, created: true, subject_version: Some(0) })
    );
    ask(&node, keyed(changeset([put_dataset("d")]), "k", "g")).unwrap();
    assert_eq!(
        ask(&node, dry()),
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) })
    );
}

fn create(node: &Service, graph: &str, key: &str) -> mpsc::Receiver<Verdict> {
    let key = IdempotencyKey { key: key.to_owned(), fingerprint: "create".to_owned() };
    let (sender, receiver) = mpsc::channel();
    node.create_graph(&name(graph), None, Some(key), move |verdict| drop(sender.send(verdict)));
    receiver
}

fn created(node: &Service, key: &str) -> Verdict {
    create(node, GRAPH, key).recv_timeout(LIMIT).unwrap()
}

pub fn creating_a_graph_again_gives_the_answer_that_was_given(fixture: &impl Fixture) {
    let (node, other) = (fixture.node(), fixture.node());
    let first = created(&node, "first");
    assert_eq!(
        first,
        Ok(Accepted { version: 0, changed: true, created: true, subject_version: Some(0) })
    );
    write(&node, [put_dataset("d")]).unwrap();
    let second = created(&node, "second");
    assert_eq!(
        second,
        Ok(Accepted { version: 1, changed: false, created: false, subject_version: Some(1) })
    );
    ask(&node, delete_graph()).unwrap();
    let third = created(&node, "third");
    assert_eq!(
        third,
        Ok(Accepted { version: 2, changed: true, created: true, subject_version: Some(2) })
    );
    for node in [&node, &other] {
        assert_eq!(created(node, "first"), first);
        assert_eq!(created(node, "second"), second);
        assert_eq!(created(node, "third"), third);
    }
}

pub fn a_key_is_kept_across_deletion(fixture: &impl Fixture) {
    let node = fixture.node_with_graph();
    let deletion = || keyed(delete_graph(), "k", "f");
    let deleted = ask(&node, deletion());
    assert_eq!(
        deleted,
        Ok(Accepted { version: 1, changed: true, created: false, subject_version: None })
    );
    assert_eq!(ask(&node, deletion()), deleted);
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    assert_eq!(ask(&fixture.node(), deletion()), deleted);
    assert!(
        node.read_and_wait(&name(GRAPH)).is_ok(),
        "the second deletion was the first one's answer"
    );
}

pub fn one_key_on_two_nodes_at_once_creates_one_graph(fixture: &impl Fixture) {
    let nodes = [fixture.node(), fixture.node()];
    for n in 0..30 {
        let graph = format!("graph-{n}");
        let waiting =
            [&nodes[0], &nodes[1], &nodes[0], &nodes[1]].map(|node| create(node, &graph, "k"));
        for verdict in waiting.map(|waiting| waiting.recv_timeout(LIMIT).unwrap()) {
            assert_eq!(
                verdict,
                Ok(Accepted { version: 0, changed: true, created: true, subject_version: Some(0) })
            );
        }
    }
}
