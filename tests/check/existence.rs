//! A graph that is deleted, and created again.

use fencepost::check::Kind;
use serde_json::{Value, json};

use super::script::*;

fn delete() -> Value {
    json!({"call": "deleteGraph"})
}

fn create() -> Value {
    json!({"call": "createGraph"})
}

fn gone() -> Value {
    let problem =
        json!({"type": "urn:fencepost:problem:graph_not_found", "status": 404, "name": "g"});
    json!({"event": "fail", "verdict": "rejected", "problem": problem})
}

/// Job `a`, then the graph is deleted with version 2.
fn deleted() -> Script {
    Script::new().call(0, [1, 2], put_job("a", &["x"], &[]), created(1)).call(
        0,
        [3, 4],
        delete(),
        changed(2),
    )
}

#[track_caller]
fn is(kind: Kind, script: &Script) {
    let finding = script.found();
    assert_eq!(finding.kind, kind, "{finding}");
}

#[test]
fn a_deleted_graph_is_not_there_until_it_is_created_again_and_is_empty_then() {
    deleted()
        .call(0, [5, 6], read_graph(), gone())
        .call(0, [7, 8], put_job("b", &[], &[]), gone())
        .call(0, [9, 10], delete(), gone())
        .call(0, [11, 12], create(), created(2))
        .call(0, [13, 14], create(), unchanged(2))
        .call(0, [15, 16], read_graph(), counts(2, 0, 0, 0))
        .call(0, [17, 18], put_job("b", &[], &[]), created(3))
        .call(0, [19, 20], read_graph(), counts(3, 1, 0, 0))
        .valid();
    let back = || deleted().call(0, [5, 6], create(), created(2));
    is(Kind::WrongAnswer, &back().call(0, [7, 8], read_graph(), counts(2, 1, 1, 1)));
    is(Kind::StaleAnswer, &back().call(0, [7, 8], read_graph(), counts(1, 1, 1, 1)));
    is(Kind::WrongRejection, &back().call(0, [7, 8], read_graph(), gone()));
}

#[test]
fn nothing_is_answered_of_a_graph_that_is_gone() {
    is(Kind::AnswerAfterDeletion, &deleted().call(0, [5, 6], read_graph(), counts(2, 0, 0, 0)));
    is(Kind::AnswerAfterDeletion, &deleted().call(0, [5, 6], put_job("b", &[], &[]), created(3)));
    is(Kind::AnswerAfterDeletion, &deleted().call(0, [5, 6], create(), unchanged(2)));
    let absent = rejected(2, 404, "job_not_found", json!({"name": "a"}));
    is(Kind::AnswerAfterDeletion, &deleted().call(0, [5, 6], read_job("a"), absent));
    // It was created only later, or perhaps before.
    let later = deleted().call(0, [5, 6], read_graph(), counts(2, 0, 0, 0)).call(
        0,
        [7, 8],
        create(),
        created(2),
    );
    is(Kind::AnswerAfterDeletion, &later);
    deleted()
        .call(1, [5, 20], create(), unknown())
        .call(0, [7, 8], read_graph(), counts(2, 0, 0, 0))
        .valid();
    deleted()
        .call(0, [5, 20], read_graph(), counts(2, 0, 0, 0))
        .call(1, [7, 8], create(), created(2))
        .valid();
}

#[test]
fn a_graph_that_nobody_deleted_is_there() {
    let there = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    is(Kind::WrongRejection, &there().call(0, [3, 4], read_graph(), gone()));
    // Deleted later; deleted perhaps; deleted meanwhile.
    is(
        Kind::WrongRejection,
        &there().call(0, [3, 4], read_graph(), gone()).call(0, [5, 6], delete(), changed(2)),
    );
    there().call(1, [3, 20], delete(), unknown()).call(0, [5, 6], read_graph(), gone()).valid();
    there()
        .call(0, [3, 20], read_graph(), gone())
        .call(1, [5, 6], delete(), changed(2))
        .call(1, [7, 8], create(), created(2))
        .valid();
    is(Kind::WrongCreated, &there().call(0, [3, 4], create(), created(1)));
    is(Kind::WrongRejection, &there().call(0, [3, 4], create(), gone()));
    is(Kind::WrongRejection, &deleted().call(0, [5, 6], create(), gone()));
}

#[test]
fn who_found_the_graph_gone_binds_all_that_is_asked_later() {
    let there = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let stale =
        || {
            there()
                .call(0, [3, 20], delete(), changed(2))
                .call(1, [5, 6], read_graph(), gone())
                .call(1, [7, 8], read_graph(), counts(1, 1, 0, 0))
        };
    is(Kind::StaleAnswer, &stale());
    // A deletion that was sent only then explains nothing.
    is(Kind::StaleAnswer, &stale().call(2, [9, 30], delete(), unknown()));
    // It was there again, and nobody deleted it a second time.
    let back = || deleted().call(9, [5, 20], create(), unknown());
    let read = || back().call(0, [7, 8], read_graph(), counts(2, 0, 0, 0));
    read().valid();
    is(Kind::WrongRejection, &read().call(0, [9, 10], read_graph(), gone()));
    is(Kind::WrongCreated, &read().call(0, [9, 10], create(), created(2)));
    let wrote = back().call(0, [7, 8], put_job("b", &[], &[]), created(3));
    is(Kind::WrongRejection, &wrote.call(0, [9, 10], read_graph(), gone()));
}

#[test]
fn who_found_the_graph_gone_stands_after_the_first_deletion_that_explains_it() {
    let there = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let late = [4, 40];
    // Gone, and then back with nothing, while the deletion that makes version 4 is under way.
    let back = |before: Script| {
        before
            .call(2, late, delete(), changed(4))
            .call(0, [5, 6], read_graph(), gone())
            .call(0, [7, 8], create(), created(2))
            .call(0, [9, 10], put_job("b", &[], &[]), created(3))
    };
    back(there().call(1, [3, 30], delete(), changed(2))).valid();
    back(there().call(1, [3, 30], delete(), unknown())).valid();
    let elsewhere = Script::new().beginning_at(1).call(0, [1, 2], delete(), changed(2));
    valid(judge(&[&back(there()).text(), &elsewhere.text()], None).unwrap());
    // One that was followed by a creation explains nothing later.
    deleted()
        .call(0, [5, 6], create(), created(2))
        .call(0, [7, 8], put_job("b", &[], &[]), created(3))
        .call(1, [9, 30], delete(), changed(4))
        .call(0, [10, 11], read_graph(), gone())
        .valid();
}

#[test]
fn that_the_graph_is_gone_is_told_with_its_status_and_name() {
    for (member, value) in [("status", json!(410)), ("name", json!("h"))] {
        let mut ill = gone();
        ill["problem"][member] = value;
        is(Kind::WrongRejection, &deleted().call(0, [5, 6], read_graph(), ill));
    }
    let mut short = gone();
    short["problem"].as_object_mut().unwrap().remove("name");
    deleted().call(0, [5, 6], read_graph(), short).valid();
}

#[test]
fn nothing_is_written_to_a_graph_that_is_gone_also_by_writes_of_unknown_outcome() {
    let log = |facts: Value| {
        [
            json!({"version": 1, "facts": [{"fact": "job_created", "name": "a", "inputs": ["x"],
                "outputs": [], "spec": {}}]}),
            json!({"version": 2, "facts": [{"fact": "graph_deleted"}]}),
            json!({"version": 3, "facts": [facts]}),
        ]
    };
    let put = log(json!({"fact": "job_created", "name": "b", "inputs": [], "outputs": [],
        "spec": {}}));
    let written = || deleted().call(1, [5, 6], put_job("b", &[], &[]), unknown());
    let finding = written().found_with_log(&put);
    assert_eq!(finding.kind, Kind::PhantomChange, "{finding}");
    is(Kind::VersionGap, &written().call(0, [7, 8], read_graph(), counts(3, 1, 0, 0)));
    // It may be applied long after its client has given up.
    written().call(0, [20, 21], create(), created(2)).valid_with_log(&put);
    let twice = deleted().call(1, [5, 6], delete(), unknown());
    let finding = twice.found_with_log(&log(json!({"fact": "graph_deleted"})));
    assert_eq!(finding.kind, Kind::PhantomChange, "{finding}");
}

#[test]
fn a_driver_that_begins_later_has_created_the_graph_before() {
    let one = deleted();
    let other = Script::new()
        .beginning_at(2)
        .call(0, [1, 2], read_graph(), counts(2, 0, 0, 0))
        .call(0, [3, 4], put_job("b", &[], &[]), created(3));
    valid(judge(&[&one.text(), &other.text()], None).unwrap());
}

#[test]
fn a_deletion_makes_a_version_and_a_creation_none() {
    let there = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    is(Kind::WrongChanged, &there().call(0, [3, 4], delete(), unchanged(1)));
    is(Kind::WrongCreated, &there().call(0, [3, 4], delete(), created(2)));
    let unlawful = rejected(1, 412, "precondition_failed", json!({"expected": "*"}));
    is(Kind::WrongRejection, &there().call(0, [3, 4], delete(), unlawful));
    let twice =
        deleted().call(0, [5, 6], create(), created(2)).call(1, [7, 8], create(), created(2));
    is(Kind::WrongCreated, &twice);
    let at_once =
        deleted().call(0, [5, 20], create(), created(2)).call(1, [6, 7], create(), created(2));
    is(Kind::WrongCreated, &at_once);
    is(Kind::WrongChanged, &there().call(0, [3, 4], create(), changed(1)));
    let unchanged_creation = json!({"event": "ok", "verdict": "accepted", "version": 2, "changed": false, "created": true});
    is(Kind::WrongChanged, &deleted().call(0, [5, 6], create(), unchanged_creation));
}

#[test]
fn a_deletion_of_unknown_outcome_is_found_in_the_log() {
    let log = [logged_job(1, "a"), json!({"version": 2, "facts": [{"fact": "graph_deleted"}]})];
    let there = || Script::new().call(0, [1, 2], put_job("a", &[], &[]), created(1));
    let summary = there().call(1, [3, 4], delete(), unknown()).valid_with_log(&log);
    assert_eq!((summary.unknown, summary.unknown_applied), (1, 1));
    let nobody = there().found_with_log(&log);
    assert_eq!(nobody.kind, Kind::PhantomChange, "{nobody}");
    let denied = there().call(1, [3, 4], delete(), unreachable()).found_with_log(&log);
    assert_eq!(denied.kind, Kind::RefusedButApplied, "{denied}");
    // Without the log: a version that nobody else made.
    there()
        .call(1, [3, 4], delete(), unknown())
        .call(0, [5, 6], create(), created(2))
        .call(0, [7, 8], read_graph(), counts(2, 0, 0, 0))
        .valid();
}

#[test]
fn what_cannot_have_been_applied_for_its_key_neither_deletes_nor_creates() {
    let keyed = |request: Value| {
        let mut request = request;
        request["key"] = json!("k");
        request
    };
    let used = || Script::new().call(0, [1, 2], keyed(put_job("a", &[], &[])), created(1));
    let never_created = used()
        .call(0, [3, 4], delete(), changed(2))
        .call(1, [5, 6], keyed(create()), unknown())
        .call(0, [7, 8], read_graph(), counts(2, 0, 0, 0));
    is(Kind::AnswerAfterDeletion, &never_created);
    let never_deleted =
        used().call(1, [3, 4], keyed(delete()), unknown()).call(0, [5, 6], read_graph(), gone());
    is(Kind::WrongRejection, &never_deleted);
}

#[test]
fn a_graph_that_was_never_there_is_gone_until_it_is_created() {
    let created_at = |ms: [u64; 2]| Script::new().call(1, ms, create(), created(0));
    created_at([2, 10])
        .call(0, [1, 20], read_graph(), gone())
        .call(1, [21, 22], read_graph(), counts(0, 0, 0, 0))
        .call(1, [23, 24], delete(), changed(1))
        .valid();
    // It was gone before it was created, whatever deletes it later.
    created_at([2, 10])
        .call(2, [15, 30], delete(), changed(1))
        .call(0, [1, 20], read_graph(), gone())
        .call(1, [21, 22], read_graph(), counts(0, 0, 0, 0))
        .valid();
    is(Kind::WrongRejection, &created_at([2, 10]).call(0, [11, 20], read_graph(), gone()));
}

#[test]
fn clocks_of_two_histories_say_nothing_of_each_other() {
    let both = |one: &Script, other: &Script| judge(&[&one.text(), &other.text()], None).unwrap();
    // By its own clock, the other creates the graph long after this one has read it.
    let read = deleted().call(0, [5, 6], read_graph(), counts(2, 0, 0, 0));
    let creates = Script::new().call(0, [50, 51], create(), created(2));
    valid(both(&read, &creates));
    // By its own clock, the other found the graph gone before this one deleted it.
    let back = deleted().call(0, [5, 6], create(), created(2));
    let finds = Script::new().beginning_at(1).call(0, [1, 2], read_graph(), gone());
    valid(both(&back, &finds));
    // That this one created it tells the other nothing of when it was not there.
    let first = Script::new().call(0, [10, 11], create(), created(0)).call(
        0,
        [12, 13],
        put_job("a", &[], &[]),
        created(1),
    );
    let finding = found(both(&first, &finds));
    assert_eq!(finding.kind, Kind::WrongRejection, "{finding}");
}
