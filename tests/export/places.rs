//! Where an export begins and goes on, and when it refuses to.

use std::process::Command;

use super::{Place, export};
use crate::support::ask::{accepted, delete_graph, put_dataset, put_job};
use crate::support::cluster::{GRAPH, Kind, Site, finish, name, wait_until};
use crate::support::event_log;
use crate::support::nats::Nats;

#[track_caller]
pub(super) fn refused(command: Command, code: i32, reason: &str) {
    let (ended, said) = finish(command);
    assert!(ended == Some(code) && said.contains(reason), "{ended:?}: {said}");
}

fn events(site: &Site, place: &mut Place) -> Vec<String> {
    place.stream = site.stream();
    place.events()
}

#[test]
fn a_sink_that_has_the_graph_gets_only_what_is_new() {
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let (site, mut place) = (Site::with_graph_on(kind), Place::file());
        let node = site.node();
        let (code, said) = finish(export(&site, &place, &[]));
        assert!(code == Some(0) && said.contains("exported 3 events to file:"), "{said}");
        let first = events(&site, &mut place);
        let (_, said) = finish(export(&site, &place, &[]));
        assert!(said.contains("exported 0 events") && said.contains("now version 1"), "{said}");
        accepted(&node, [put_job("mill", &["grain"], &["flour"])]);
        accepted(&node, [put_dataset("salt")]);
        let (_, said) = finish(export(&site, &place, &[]));
        assert!(said.contains("exported 2 events") && said.contains("now version 3"), "{said}");
        let all = events(&site, &mut place);
        assert_eq!(all[..first.len()], first[..]);
        let told = event_log::replay(GRAPH, all.iter().map(String::as_str));
        assert_eq!((told.version, told.changes), (3, vec![2, 3]));
    }
}

#[test]
fn standard_output_gets_the_whole_graph_each_time_and_nothing_else() {
    let site = Site::with_graph();
    let run = || site.fencepost(&["export", "--graph", GRAPH, "--to", "-"]).output().unwrap();
    let (first, second) = (run(), run());
    assert!(first.status.success() && first.stdout == second.stdout);
    let text = String::from_utf8(first.stdout).unwrap();
    assert_eq!(event_log::replay(GRAPH, text.lines()).version, 1);
    let run = site
        .fencepost(&["export", "--graph", GRAPH, "--to", "-", "--after", "0"])
        .output()
        .unwrap();
    let text = String::from_utf8(run.stdout).unwrap();
    assert_eq!(event_log::replay(GRAPH, text.lines()).changes, [1]);
    assert!(site.store_consumers().is_empty(), "what cannot be gone on with is not waited for");
}

#[test]
fn a_torn_line_is_cut_off_and_written_again() {
    let (site, mut place) = (Site::with_graph(), Place::file());
    accepted(&site.node(), [put_dataset("second")]);
    finish(export(&site, &place, &["--after", "0"]));
    let path = place.url.strip_prefix("file:").unwrap().to_owned();
    let whole = std::fs::read(&path).unwrap();
    let first_line = whole.iter().position(|byte| *byte == b'\n').unwrap() + 1;
    for kept in [first_line + 1, first_line + 300, whole.len() - 1, first_line, 5] {
        std::fs::write(&path, &whole[..kept]).unwrap();
        if kept != first_line {
            let verify = site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]);
            refused(verify, 1, "is torn after ");
        }
        let (code, said) = finish(export(&site, &place, &["--after", "0"]));
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(std::fs::read(&path).unwrap(), whole, "cut at {kept}");
    }
    events(&site, &mut place);
}

#[test]
fn a_log_that_cannot_be_this_graphs_beginning_is_not_gone_on_with() {
    let (site, place) = (Site::with_graph(), Place::file());
    let node = site.node();
    accepted(&node, [put_dataset("second")]);
    finish(export(&site, &place, &[]));
    // Another graph.
    let other = Site::with_graph();
    refused(export(&other, &place, &[]), 1, "holds the log of graph `g` (");
    // A backup from before.
    site.run_sql("CREATE TABLE backup AS SELECT version, chain FROM graphs");
    accepted(&node, [put_dataset("third")]);
    finish(export(&site, &place, &[]));
    site.run_sql("UPDATE graphs SET version = (SELECT version FROM backup), chain = (SELECT chain FROM backup); DELETE FROM changes WHERE version = 3");
    refused(
        export(&site, &place, &[]),
        1,
        "has version 3, the database only 2: was an older backup restored?",
    );
    let verify = || site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]);
    refused(verify(), 1, "the log has version 3, the database only 2");
    // Which was then written on otherwise.
    site.run_sql("DELETE FROM datasets WHERE name = 'third'");
    let node = site.node();
    accepted(&node, [put_dataset("another third")]);
    refused(
        export(&site, &place, &[]),
        1,
        "is of another history: at version 3 its chain of hashes is not that of the database",
    );
    accepted(&node, [put_dataset("fourth")]);
    refused(export(&site, &place, &[]), 1, "is of another history: at version 3");
    refused(verify(), 1, "at version 3 the chain of the log is ");
    // Changes would be missing between.
    let place = Place::file();
    finish(export(&site, &place, &["--after", "1"]));
    accepted(&node, [put_dataset("fifth")]);
    refused(
        export(&site, &place, &["--after", "5"]),
        1,
        "with --after 5 changes between them would be missing",
    );
    let empty = Place::file();
    refused(
        export(&site, &empty, &["--after", "6"]),
        1,
        "--after 6 is beyond the graph, which is at version 5",
    );
    assert!(!std::path::Path::new(empty.url.strip_prefix("file:").unwrap()).exists());
    refused(
        site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]),
        1,
        "what the graph was before is not in it",
    );
    refused(
        site.fencepost(&["export", "--graph", "nowhere", "--to", &place.url]),
        1,
        "there is no graph `nowhere`",
    );
}

#[test]
fn an_export_is_a_consumer_and_is_not_overtaken_by_pruning() {
    let (site, place, unregistered) = (Site::with_graph(), Place::file(), Place::file());
    let node = site.node();
    finish(export(&site, &place, &[]));
    finish(export(&site, &unregistered, &["--no-consumer"]));
    for n in 0..5 {
        accepted(&node, [put_dataset(&format!("d{n}"))]);
    }
    let prune = || site.fencepost(&["prune", "--graph", GRAPH, "--before", "5"]);
    refused(prune(), 1, &format!("export to {}", place.url));
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    assert_eq!(finish(prune()).0, Some(0));
    accepted(&node, [put_dataset("last")]);
    let (code, said) = finish(export(&site, &place, &[]));
    assert_eq!(code, Some(0), "{said}");
    let verify = site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]);
    assert_eq!(finish(verify).0, Some(0));
    refused(
        export(&site, &unregistered, &[]),
        1,
        "the changes after version 1 were pruned, the oldest is 5",
    );
    // The database still has these versions, and no others.
    let at = |version: &str| {
        site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url, "--at", version])
    };
    assert_eq!(finish(at("6")).0, Some(0));
    refused(at("3"), 1, "was pruned: the oldest version that can be had is 5, not 3");
    refused(at("9"), 1, "the log ends at version 7, before version 9: export first");
}

#[test]
fn a_deleted_graphs_last_change_is_exported_and_its_log_goes_on_when_it_is_created_again() {
    let (site, mut place) = (Site::with_graph(), Place::file());
    let node = site.node();
    finish(export(&site, &place, &[]));
    node.write_and_wait(&name(GRAPH), delete_graph()).unwrap();
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    refused(export(&site, &Place::file(), &[]), 1, "there is no graph `g`");
    node.create_graph_and_wait(&name(GRAPH)).unwrap();
    accepted(&node, [put_dataset("anew")]);
    assert_eq!(finish(export(&site, &place, &[])).0, Some(0));
    let all = events(&site, &mut place);
    let told = event_log::replay(GRAPH, all.iter().map(String::as_str));
    assert_eq!(told.changes, [2, 3]);
    let verify = site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]);
    assert_eq!(finish(verify).0, Some(0));
}

#[test]
fn a_follower_outlives_its_engine() {
    let mut nats = Nats::start("");
    let site = Site::with_graph();
    let node = site.node();
    let mut place = Place::at(format!("{}/outlived", nats.url()));
    let mut follower = export(&site, &place, &["--follow"]).spawn().unwrap();
    wait_until("the graph is exported", || place.version() == Some(1));
    nats.kill();
    for n in 0..5 {
        accepted(&node, [put_dataset(&format!("while it was away {n}"))]);
    }
    nats.start_again();
    wait_until("the rest is exported", || place.version() == Some(6));
    wait_until("that is acknowledged", || site.store_consumers()[0].1 == 6);
    follower.kill().unwrap();
    follower.wait().unwrap();
    let all = events(&site, &mut place);
    assert_eq!(event_log::replay(GRAPH, all.iter().map(String::as_str)).version, 6);
}

/// Whatever was there before, it is not cut off, written over or followed.
#[test]
fn a_file_that_is_no_log_is_left_as_it_is() {
    let (site, place) = (Site::with_graph(), Place::file());
    let path = place.url.strip_prefix("file:").unwrap();
    let event = String::from_utf8(
        site.fencepost(&["export", "--graph", GRAPH, "--to", "-"]).output().unwrap().stdout,
    );
    let event = event.unwrap();
    let broken = event.replacen("specversion", "specversiom", 1);
    for there in [
        "{\"name\":\"precious\"}",
        "line\nno line feed",
        "\0\n\0",
        "\n",
        "{\"a\":1}\n{\"specversion",
        &broken,
        " ",
    ] {
        std::fs::write(path, there).unwrap();
        refused(
            export(&site, &place, &[]),
            1,
            "it holds something else than events and is left as it is",
        );
        assert_eq!(std::fs::read_to_string(path).unwrap(), there);
    }
    // What is left of a first line that was torn is ours, and so is nothing.
    for torn in ["", "{", &event[..200]] {
        std::fs::write(path, torn).unwrap();
        assert_eq!(finish(export(&site, &place, &[])).0, Some(0), "{torn}");
    }
    if let Some(database) = site.database_url().strip_prefix("sqlite:") {
        let before = std::fs::read(database).unwrap();
        refused(
            site.fencepost(&[
                "export",
                "--graph",
                GRAPH,
                "--to",
                &format!("file:{database}"),
                "--no-consumer",
            ]),
            1,
            "left as it is",
        );
        assert_eq!(std::fs::read(database).unwrap(), before);
    }
}

#[test]
fn a_follower_whose_file_was_moved_ends_and_acknowledges_no_more() {
    let (site, place) = (Site::with_graph(), Place::file());
    let node = site.node();
    let mut command = export(&site, &place, &["--follow"]);
    let mut follower = command.stderr(std::process::Stdio::piped()).spawn().unwrap();
    wait_until("the graph is exported", || place.version() == Some(1));
    let path = place.url.strip_prefix("file:").unwrap();
    std::fs::rename(path, format!("{path}.1")).unwrap();
    accepted(&node, [put_dataset("unseen")]);
    let mut ended = None;
    wait_until("the follower ends", || {
        ended = follower.try_wait().unwrap();
        ended.is_some()
    });
    assert_eq!(ended.unwrap().code(), Some(1));
    assert_eq!(site.store_consumers()[0].1, 1);
}

#[test]
fn lines_that_another_program_has_changed_are_named() {
    let (site, place) = (Site::with_graph(), Place::file());
    finish(export(&site, &place, &[]));
    let path = place.url.strip_prefix("file:").unwrap();
    let log = std::fs::read_to_string(path).unwrap();
    for changed in [log.replace('\n', "\r\n"), format!("{log}\n"), format!("\u{feff}{log}")] {
        std::fs::write(path, changed).unwrap();
        let verify = site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]);
        refused(verify, 1, "is empty, ends in CR LF or begins with a byte order mark");
    }
}
