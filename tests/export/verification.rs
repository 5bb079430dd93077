//! What a verification compares with the database, and what it says of a log that is behind.

use std::io::Write;
use std::process::Stdio;

use fencepost::chain::{Chain, LoggedChange};
use fencepost::event::{Event, Kind, Reader, Stream};

use super::Place;
use crate::support::ask::{accepted, delete_job, put_dataset, put_job};
use crate::support::cluster::{GRAPH, Site, finish, name, wait_until};

fn verify(site: &Site, place: &Place, more: &[&str]) -> (Option<i32>, String) {
    let verify = ["verify", "--graph", GRAPH, "--from", &place.url];
    finish(site.fencepost(&[&verify, more].concat()))
}

fn export(site: &Site, place: &Place, more: &[&str]) {
    let export = ["export", "--graph", GRAPH, "--to", &place.url];
    let (code, said) = finish(site.fencepost(&[&export, more].concat()));
    assert_eq!(code, Some(0), "{said}");
}

fn path(place: &Place) -> String {
    place.url.strip_prefix("file:").unwrap().to_owned()
}

#[test]
fn a_log_that_is_behind_says_by_how_much_and_is_refused_where_all_was_asked_for() {
    let (site, place) = (Site::with_graph(), Place::file());
    let node = site.node();
    accepted(&node, [put_job("a", &["x"], &["y"])]);
    export(&site, &place, &[]);
    let (code, said) = verify(&site, &place, &["--complete"]);
    assert!(code == Some(0) && !said.contains("not in the log"), "{said}");
    accepted(&node, [put_dataset("one more")]);
    let (code, said) = verify(&site, &place, &[]);
    let version = node.read_and_wait(&name(GRAPH)).unwrap().key.version;
    let behind = format!("the graph is at version {version}: 1 change is not in the log yet");
    assert!(code == Some(0) && said.contains(&behind), "{said}");
    accepted(&node, [put_dataset("another")]);
    let (code, said) = verify(&site, &place, &["--complete"]);
    assert!(code == Some(1) && said.contains("2 changes are not in the log yet"), "{said}");
    assert!(said.contains("the log ends at version"), "{said}");
    export(&site, &place, &[]);
    assert_eq!(verify(&site, &place, &["--complete"]).0, Some(0));
}

#[test]
fn what_comes_after_the_version_that_was_asked_for_is_not_looked_at() {
    let (site, place) = (Site::with_graph(), Place::file());
    let node = site.node();
    accepted(&node, [put_dataset("one")]);
    export(&site, &place, &["--after", "0"]);
    let version = node.read_and_wait(&name(GRAPH)).unwrap().key.version;
    let mut torn = std::fs::read(path(&place)).unwrap();
    torn.extend_from_slice(br#"{"specversion":"1.0","id":"#);
    std::fs::write(path(&place), torn).unwrap();
    let (code, said) = verify(&site, &place, &["--at", &version.to_string()]);
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = verify(&site, &place, &[]);
    assert!(code == Some(1) && said.contains("is torn after "), "{said}");
}

/// Its writer has nothing to say for now, and does not end.
#[test]
fn nothing_is_waited_for_once_the_version_that_was_asked_for_was_read() {
    let (site, place) = (Site::with_graph(), Place::file());
    let node = site.node();
    accepted(&node, [put_dataset("one")]);
    export(&site, &place, &["--after", "0"]);
    let whole = std::fs::read(path(&place)).unwrap();
    let altered = String::from_utf8(whole.clone()).unwrap().replacen("one", "two", 1);
    for (log, code) in [(whole, 0), (altered.into_bytes(), 1)] {
        let mut verify = site.fencepost(&["verify", "--graph", GRAPH, "--from", "-", "--at", "2"]);
        verify.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut verify = verify.spawn().unwrap();
        let mut pipe = verify.stdin.take().unwrap();
        pipe.write_all(&log).unwrap();
        let mut ended = None;
        wait_until("the verification ends", || {
            ended = verify.try_wait().unwrap();
            ended.is_some()
        });
        assert_eq!(ended.unwrap().code(), Some(code));
        drop(pipe);
    }
}

/// The file's events, altered, with all hashes made anew by somebody who knows how.
fn forge(place: &Place, alter: impl Fn(&mut Event<'_>)) {
    let text = std::fs::read_to_string(path(place)).unwrap();
    let (mut reader, mut out, mut graph_chain) = (Reader::default(), Vec::new(), Chain::START);
    let mut running = Chain::START;
    for line in text.lines() {
        let (stream, event) = reader.read(line).unwrap();
        let mut event = event.clone();
        alter(&mut event);
        match event.kind {
            Kind::ImportBegun => (graph_chain, running) = (event.chain, event.chain),
            Kind::Imported => {
                running = running.next(&event.data);
                event.chain = running;
            }
            Kind::ImportEnded => {
                let mut contents: serde_json::Value = serde_json::from_str(&event.data).unwrap();
                contents["imported"] = running.to_string().into();
                event.data = contents.to_string().into();
            }
            Kind::Changed => {
                graph_chain = graph_chain.next(&event.data);
                event.chain = graph_chain;
            }
        }
        out.extend(stream.line(&event));
    }
    assert_ne!(out, text.as_bytes(), "nothing was altered");
    std::fs::write(path(place), out).unwrap();
}

/// A log whose import is at version 2, and its changes up to 4, of which one was asked for by
/// somebody.
pub(super) fn exported() -> (Site, Place, Vec<u8>) {
    let (site, place) = (Site::with_graph(), Place::file());
    let node = site.node();
    accepted(&node, [put_job("stays", &["x"], &[]), put_job("goes", &["x"], &[])]);
    export(&site, &place, &[]);
    accepted(&node, [delete_job("goes")]);
    accepted(&node, [put_dataset("late")]);
    site.run_sql(
        "UPDATE changes SET actor = 'ada' WHERE version = (SELECT MAX(version) FROM changes)",
    );
    export(&site, &place, &[]);
    let text = std::fs::read(path(&place)).unwrap();
    (site, place, text)
}

#[test]
fn a_log_that_was_altered_by_somebody_who_knows_the_hashes_is_not_the_databases() {
    let (site, place, whole) = exported();
    let refused = |reason: &str| {
        let (code, said) = verify(&site, &place, &[]);
        assert!(code == Some(1) && said.contains(reason), "{reason}: {said}");
        std::fs::write(path(&place), &whole).unwrap();
        let (code, said) = verify(&site, &place, &[]);
        assert_eq!(code, Some(0), "{said}");
    };
    let is_change = |event: &Event<'_>| event.kind == Kind::Changed;
    forge(&place, |event| {
        event.committed_at_ms = event.committed_at_ms.map(|ms| ms - i64::from(is_change(event)));
    });
    refused("the time of the log is ");
    forge(&place, |event| {
        event.committed_at_ms = event.committed_at_ms.map(|ms| ms + i64::from(!is_change(event)));
    });
    refused("the time of the log is ");
    forge(&place, |event| {
        if event.actor.is_some() {
            event.actor = Some("eve".into());
        }
    });
    refused("the actor of the log is \"eve\", of the database \"ada\"");
    forge(&place, |event| event.actor = None);
    refused("the actor of the log is nobody, of the database \"ada\"");
    // Of a job that is there in the end, and of one that is not.
    for job in ["stays", "goes"] {
        forge(&place, |event| {
            if event.data.contains(&format!("\"name\":\"{job}\"")) && !is_change(event) {
                let data = event.data.replace("\"job_version\":2", "\"job_version\":1");
                event.data = data.into();
            }
        });
        refused(&format!("the version of job `{job}` of the log is 1, of the database 2"));
    }
}

#[test]
fn a_graph_is_not_frozen_for_a_log_that_is_not_right() {
    let (site, place, whole) = exported();
    forge(&place, |event| {
        event.committed_at_ms = event.committed_at_ms.map(|ms| ms + 1);
    });
    let freeze = || {
        finish(site.fencepost(&[
            "freeze",
            "--graph",
            GRAPH,
            "--sink",
            &place.url,
            "--wait-seconds",
            "0",
        ]))
    };
    let (code, said) = freeze();
    assert!(code == Some(1) && said.contains("the time of the log"), "{said}");
    accepted(&site.node(), [put_dataset("still open")]);
    // One that is being written is waited for, and not for ever.
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    std::fs::write(path(&place), lines[..2].concat()).unwrap();
    let (code, said) = freeze();
    assert!(code == Some(1) && said.contains("ends within an import"), "{said}");
    accepted(&site.node(), [put_dataset("and still")]);
}

/// No longer committed, but there may be some from before there was a limit.
#[test]
fn a_change_beyond_todays_limit_is_restored_exported_and_verified() {
    let (site, place, restored) = (Site::new(), Place::file(), Place::file());
    let spec = "a".repeat(fencepost::graph::CHANGE_BYTES_MAX);
    let change = format!(
        r#"{{"facts":[{{"fact":"job_created","inputs":[],"name":"j","outputs":[],"spec":{{"x":"{spec}"}}}}],"version":1}}"#
    );
    let chain = Chain::START.next(&change);
    let stream = Stream::new(name(GRAPH), uuid::Uuid::from_u128(5));
    let logged = LoggedChange { version: 1, change, chain, committed_at_ms: 1, actor: None };
    std::fs::write(path(&place), stream.line(&Event::changed(&logged))).unwrap();
    drop(logged);
    let import = ["import", "--graph", GRAPH, "--format", "events", &path(&place)];
    let (code, said) = finish(site.fencepost(&import));
    assert_eq!(code, Some(0), "{said}");
    export(&site, &restored, &["--after", "0"]);
    assert!(std::fs::read(path(&place)).unwrap() == std::fs::read(path(&restored)).unwrap());
    let (code, said) = verify(&site, &restored, &["--complete"]);
    assert_eq!(code, Some(0), "{said}");
}
