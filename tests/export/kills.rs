//! Exporters that are killed, stopped and overtaken while clients write: the log in the sink ends
//! up whole, whichever engine keeps it.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fencepost::service::Service;

use super::{Place, export};
use crate::support::ask::{accepted, put_job_with};
use crate::support::cluster::{GRAPH, Site, finish, name, wait_until};
use crate::support::event_log;
use crate::support::guards::passes;
use crate::support::requests::Requests;
use crate::support::storm::{Choices, audit};

/// An exporter process. Killed when dropped.
struct Exporter {
    child: Child,
}

impl Exporter {
    fn start(site: &Site, place: &Place, more: &[&str], failpoints: &str) -> Self {
        let mut command = export(site, place, more);
        // What is switched off in this process is switched off in that one.
        let off = std::env::var("FENCEPOST_FAILPOINTS").unwrap_or_default();
        command
            .env("FENCEPOST_FAILPOINTS", format!("{off},{failpoints}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self { child: command.spawn().unwrap() }
    }

    fn signal(&self, signal: &str) {
        let sent = Command::new("kill")
            .args([&format!("-{signal}"), &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its exit code, and what it said, once it has ended by itself.
    fn end(mut self) -> (Option<i32>, String) {
        let mut ended = None;
        wait_until("the exporter ends", || {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let mut said = String::new();
        self.child.stdout.take().unwrap().read_to_string(&mut said).unwrap();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (ended.unwrap().code(), said)
    }
}

impl Drop for Exporter {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A failpoint, at its so many-th passage, and the file that shows that it was reached.
pub(super) fn pause(site: &Site, point: &str, at: usize) -> (PathBuf, String) {
    let file = site.path(&format!("{point}-{at}"));
    let armed = format!("{point}=pause:{}@{at}", file.display());
    (file, armed)
}

/// Jobs whose specifications fill several batches of an import.
pub(super) fn fill(node: &Service, jobs: usize) {
    let filler = "x".repeat(40_000);
    for n in 0..jobs {
        let (input, output) = (format!("of {}", n.saturating_sub(1)), format!("of {n}"));
        let inputs: &[&str] = if n == 0 { &[] } else { &[&input] };
        accepted(
            node,
            [put_job_with(
                &format!("filler {n}"),
                inputs,
                &[&output],
                &format!("{{\"x\":\"{filler}\"}}"),
            )],
        );
    }
}

/// What is in the sink is the log of the graph as the database has it, by the product's own proof
/// and by another.
#[track_caller]
pub(super) fn is_whole(site: &Site, place: &mut Place) -> event_log::Told {
    let (code, said) = finish(export(site, place, &[]));
    assert_eq!(code, Some(0), "{said}");
    let (code, said) = finish(site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]));
    let audit = audit(site);
    assert!(
        code == Some(0) && said.contains(&format!("digest {} as in the database", audit.digest)),
        "{said}"
    );
    place.stream = site.stream();
    let events = place.events();
    let told = event_log::replay(GRAPH, events.iter().map(String::as_str));
    assert_eq!((told.version, &told.digest), (audit.version, &audit.digest));
    told
}

/// Writes of every kind until dropped.
struct Writing<'w> {
    over: &'w AtomicBool,
}

impl Drop for Writing<'_> {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
    }
}

fn write_at_random(node: &Service, seed: u64, over: &AtomicBool, written: &AtomicU64) {
    let mut requests = Requests::new(seed);
    while !over.load(Ordering::SeqCst) {
        if node.write_and_wait(&name(GRAPH), requests.next()).is_ok_and(|accepted| accepted.changed)
        {
            written.fetch_add(1, Ordering::SeqCst);
        }
    }
}

fn killed_at_random_while_clients_write(place: &mut Place) {
    let site = Site::with_graph();
    let node = site.node();
    fill(&node, 60);
    let (over, written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut choices = Choices(4);
    std::thread::scope(|scope| {
        let writing = Writing { over: &over };
        for seed in 0..2 {
            let (node, over, written) = (&node, &over, &written);
            scope.spawn(move || write_at_random(node, seed, over, written));
        }
        // In the first part, and then behind the writers.
        for round in 0..10 {
            let points = if round < 4 {
                [
                    "export-import-appended",
                    "export-before-end",
                    "sink-appended",
                    "export-import-appended",
                ]
            } else {
                ["sink-appended", "export-before-append", "export-appended", "sink-appended"]
            };
            let (reached, armed) = pause(&site, points[choices.below(4)], 1 + choices.below(3));
            let mut exporter = Exporter::start(&site, place, &["--follow"], &armed);
            let enough = written.load(Ordering::SeqCst) + 5 + choices.below(100) as u64;
            // At the point, or, if it does not come to that, just anywhere.
            wait_until("it is at the point or has been overtaken", || {
                reached.exists() || written.load(Ordering::SeqCst) > enough + 300
            });
            exporter.kill();
            drop(std::fs::remove_file(reached));
        }
        drop(writing);
    });
    let told = is_whole(&site, place);
    assert!(told.imports >= 2, "{} imports", told.imports);
    assert!(told.changes.len() > 10, "{} changes", told.changes.len());
}

fn killed_at_every_point(place: &mut Place) {
    let site = Site::with_graph();
    let node = site.node();
    fill(&node, 80);
    let mut imports = 0;
    for (point, passage) in [
        ("export-import-appended", 1),
        ("sink-appended", 2),
        ("export-before-end", 1),
        ("export-import-appended", 2),
    ] {
        let (reached, armed) = pause(&site, point, passage);
        let mut exporter = Exporter::start(&site, place, &[], &armed);
        wait_until(&format!("{point} is reached"), || reached.exists());
        exporter.kill();
        imports += 1;
        accepted(&node, [put_job_with("between", &[], &[], &format!("{{\"import\":{imports}}}"))]);
    }
    let (code, said) = finish(site.fencepost(&["verify", "--graph", GRAPH, "--from", &place.url]));
    assert!(code == Some(1) && said.contains("the log ends within an import, after "), "{said}");
    // What was left unfinished says so, and is begun anew.
    let (code, said) = finish(export(&site, place, &[]));
    assert!(code == Some(0) && said.contains(": it is begun anew after it"), "{said}");
    assert_eq!(is_whole(&site, place).imports, imports + 1);

    for point in ["export-before-append", "sink-appended", "export-appended"] {
        accepted(
            &node,
            [put_job_with("tail", &[], &[], &format!("{{\"killed at\":\"{point}\"}}"))],
        );
        let (reached, armed) = pause(&site, point, 1);
        let mut exporter = Exporter::start(&site, place, &[], &armed);
        wait_until(&format!("{point} is reached"), || reached.exists());
        exporter.kill();
        let told = is_whole(&site, place);
        assert_eq!((told.version, told.imports), (site.head().version, imports + 1), "{point}");
    }
}

/// An older exporter has read changes, stands still, and goes on when a newer one has written them
/// and more.
fn overtaken_while_it_stood_still(place: &mut Place) {
    let site = Site::with_graph();
    let node = site.node();
    is_whole(&site, place);
    accepted(&node, [put_job_with("first", &[], &["x"], "{}")]);
    let (reached, armed) = pause(&site, "export-before-append", 1);
    let older = Exporter::start(&site, place, &["--follow"], &armed);
    wait_until("the older exporter has read a change", || reached.exists());
    older.signal("STOP");
    accepted(&node, [put_job_with("second", &["x"], &["y"], "{}")]);
    let (code, said) = finish(export(&site, place, &[]));
    if place.url.starts_with("file:") {
        // The kernel keeps the file for whoever has it: the older one must end first.
        assert!(code == Some(1) && said.contains("has another exporter: it is locked"), "{said}");
        older.signal("CONT");
        std::fs::remove_file(reached).unwrap();
        let head = site.head().version;
        wait_until("the older exporter has written on", || place.version() == Some(head));
        drop(older);
        is_whole(&site, place);
        return;
    }
    assert_eq!(code, Some(0), "{said}");
    let before = is_whole(&site, place);
    older.signal("CONT");
    std::fs::remove_file(reached).unwrap();
    let (code, said) = older.end();
    assert!(code == Some(1) && said.contains("has another exporter: "), "{said}");
    assert_eq!(is_whole(&site, place), before);
}

/// The older one was in the middle of the first part.
fn overtaken_within_an_import(place: &mut Place) {
    if place.url.starts_with("file:") {
        return;
    }
    let site = Site::with_graph();
    let node = site.node();
    fill(&node, 80);
    for write_between in [false, true] {
        *place = place.another();
        let (reached, armed) = pause(&site, "export-import-appended", 1);
        let older = Exporter::start(&site, place, &[], &armed);
        wait_until("the older exporter is in the middle", || reached.exists());
        if write_between {
            accepted(&node, [put_job_with("between", &[], &[], "{}")]);
        }
        let before = is_whole(&site, place);
        assert_eq!(before.imports, 2);
        std::fs::remove_file(reached).unwrap();
        let (code, said) = older.end();
        assert!(code == Some(1) && said.contains("has another exporter: "), "{said}");
        assert_eq!(is_whole(&site, place), before);
    }
}

macro_rules! every_engine {
    ($($place:ident)*) => {
        $(mod $place {
            #[test]
            fn an_exporter_killed_at_random_while_clients_write_leaves_a_log_that_is_gone_on_with() {
                super::killed_at_random_while_clients_write(&mut super::Place::$place());
            }
            #[test]
            fn an_exporter_killed_at_every_point_leaves_a_log_that_is_gone_on_with() {
                super::killed_at_every_point(&mut super::Place::$place());
            }
            #[test]
            fn an_older_exporter_that_wakes_cannot_write_after_a_newer_one() {
                super::overtaken_while_it_stood_still(&mut super::Place::$place());
            }
            #[test]
            fn an_older_exporter_that_wakes_within_the_first_part_cannot_write_into_a_newer_one() {
                super::overtaken_within_an_import(&mut super::Place::$place());
            }
        })*
    };
}

every_engine! { file redis nats postgres }

/// Redis would still refuse ids that are not above its last.
#[test]
fn without_the_comparison_an_older_exporter_is_not_told() {
    let test = "export::kills::postgres::an_older_exporter_that_wakes_within_the_first_part_cannot_write_into_a_newer_one";
    assert!(passes(test, None));
    assert!(!passes(test, Some("sink-guard")));
}
