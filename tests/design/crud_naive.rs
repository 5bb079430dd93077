//! What tells `crud-naive` from other designs: each request loads the whole graph, sorts it if it
//! writes, and keeps nothing; and however many come, only so many graphs are in memory at once.

use std::sync::mpsc;
use std::time::Duration;

use fencepost::design::Reads;
use fencepost::design::crud_naive::CRUD_NAIVE;
use fencepost::lock::Mode;
use fencepost::node::{self, NodeOptions};
use fencepost::service::{Limits, Refusal, Service};

use crate::support::ask::{
    accepted, changeset, delete_job, dry_run, in_line, put_dataset, put_job, rejected, verdicts,
    write,
};
use crate::support::cluster::{GRAPH, LIMIT, SERVE, Server, Site, name, wait_until};

fn naive(site: &Site, reads: Reads, limits: Limits) -> Service {
    node::open(&NodeOptions { design: &CRUD_NAIVE, reads: Some(reads), limits, ..site.options() })
        .unwrap()
}

fn loads(node: &Service) -> u64 {
    node.metrics().image_loads.get()
}

fn checks(node: &Service) -> u64 {
    node.metrics().whole_check.get_sample_count()
}

/// A turn lets go of what it has loaded a moment after its answers.
fn nothing_is_kept(node: &Service) {
    wait_until("all that was loaded is given back", || node.metrics().loads_held.get() == 0);
}

#[test]
fn every_request_loads_the_graph_and_every_write_sorts_it() {
    let site = Site::with_graph();
    for reads in [Reads::Lock, Reads::Snapshot] {
        let node = naive(&site, reads, Limits::default());
        for n in 0..3 {
            write(&node, [put_dataset("first")]).unwrap();
            rejected(&node, [delete_job("absent")]);
            node.write_and_wait(&name(GRAPH), dry_run([put_dataset("other")])).unwrap();
            accepted(&node, [put_job("job", &[&format!("{reads:?}-{n}")], &[])]);
            assert_eq!((loads(&node), checks(&node)), (6 * n + 4, 4 * n + 4));
            for _ in 0..2 {
                node.read_and_wait(&name(GRAPH)).unwrap();
            }
            assert_eq!(
                (loads(&node), checks(&node)),
                (6 * n + 6, 4 * n + 4),
                "a read sorts nothing"
            );
            nothing_is_kept(&node);
        }
    }
    let crud = site.node();
    accepted(&crud, [put_dataset("d")]);
    assert_eq!(checks(&crud), 0);
}

#[test]
fn requests_that_wait_together_load_the_graph_once_each() {
    let site = Site::with_graph();
    for reads in [Reads::Lock, Reads::Snapshot] {
        let node = naive(&site, reads, Limits { turn_threads: 1, ..Limits::default() });
        // The only thread is held, so that all others come before the next turn begins.
        let lock = site.hold_lock(GRAPH, Mode::Exclusive);
        let first = in_line(&node, GRAPH, [changeset([])]);
        wait_until("the first turn has begun", || node.waiting().0 == 0);
        let writes = in_line(
            &node,
            GRAPH,
            (0..30).map(|n| changeset([put_dataset(&format!("{reads:?}-{n}"))])),
        );
        let (sender, images) = mpsc::channel();
        for _ in 0..50 {
            let sender = sender.clone();
            node.read(&name(GRAPH), move |image| {
                drop(sender.send(image.map(|image| image.key.version)))
            });
        }
        assert_eq!(node.waiting(), (30, 50));
        lock.release();
        assert!(verdicts(first).into_iter().chain(verdicts(writes)).all(|verdict| verdict.is_ok()));
        for _ in 0..50 {
            images.recv_timeout(LIMIT).unwrap().unwrap();
        }
        assert_eq!((loads(&node), checks(&node)), (1 + 30 + 50, 1 + 30));
    }
}

/// Many graphs are asked for at once, and nobody gives back what was loaded until no more comes.
#[test]
fn so_many_graphs_are_in_memory_at_once_and_the_others_wait() {
    const GRAPHS: usize = 6;
    for limit in [1, 2, 3] {
        let site = Site::with_graph();
        let limits = Limits { loaded_images: limit, load_wait: LIMIT, ..Limits::default() };
        let node = naive(&site, Reads::Lock, limits);
        let (sender, images) = mpsc::channel();
        for n in 0..GRAPHS {
            let graph = name(&format!("graph-{n}"));
            node.create_graph_and_wait(&graph).unwrap();
            let sender = sender.clone();
            node.read(&graph, move |image| drop(sender.send(image.unwrap())));
        }
        for left in (0..GRAPHS).rev() {
            // Either all that are left wait, or what nobody should have is there.
            let waiting = left.saturating_sub(limit - 1);
            let mut held: Vec<_> = Vec::new();
            wait_until("as many are loaded as may be", || {
                held.extend(images.try_iter());
                let loaded_all = held.len() == limit.min(left + 1);
                held.len() > limit
                    || loaded_all && node.metrics().loads_waiting.get() == waiting as i64
            });
            assert!(held.len() <= limit, "{} graphs are in memory at once, of {limit}", held.len());
            for image in held.drain(..).skip(1) {
                sender.send(image).unwrap();
            }
        }
        assert_eq!(loads(&node), GRAPHS as u64);
        nothing_is_kept(&node);
    }
}

#[test]
fn a_write_waits_for_a_loaded_graph_to_be_given_back() {
    let site = Site::with_graph();
    let node = naive(
        &site,
        Reads::Lock,
        Limits { loaded_images: 1, load_wait: LIMIT, ..Limits::default() },
    );
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    let write = in_line(&node, GRAPH, [changeset([put_dataset("d")])]);
    let gave_up_waiting = || write[0].try_recv().is_ok();
    wait_until("the write waits", || node.metrics().loads_waiting.get() == 1 || gave_up_waiting());
    assert_eq!(loads(&node), 1);
    drop(image);
    assert_eq!(verdicts(write)[0].as_ref().map(|accepted| accepted.version), Ok(2));
}

#[test]
fn waiting_too_long_for_a_loaded_graph_to_be_given_back_is_told_as_contended() {
    let site = Site::with_graph();
    let limits =
        Limits { loaded_images: 1, load_wait: Duration::from_millis(50), ..Limits::default() };
    let node = naive(&site, Reads::Lock, limits);
    let image = node.read_and_wait(&name(GRAPH)).unwrap();
    let contended =
        Refusal::Contended { what: "the limit of 1 loaded graphs is reached".to_owned() };
    assert_eq!(node.read_and_wait(&name(GRAPH)).err(), Some(contended.clone()));
    assert_eq!(node.write_and_wait(&name(GRAPH), changeset([put_dataset("d")])), Err(contended));
    drop(image);
    assert_eq!(accepted(&node, [put_dataset("d")]), 2);
}

#[test]
fn a_server_is_told_its_design_by_an_option_or_the_environment() {
    let site = Site::with_graph();
    for by_option in [true, false] {
        let mut command = site.fencepost(&SERVE);
        if by_option {
            command.args(["--design", "crud-naive"]);
        } else {
            command.env("FENCEPOST_DESIGN", "crud-naive");
        }
        let server = Server::start(command);
        assert!(
            server.wait_for_log(|text| text.contains("http://")).contains(" with crud-naive on ")
        );
        let job = format!("job-{by_option}");
        let version = server.put_job(&job, &["x"], &[]).unwrap().version();
        let read =
            server.get(&format!("/v1/graphs/{GRAPH}/jobs/{job}?at_least={version}")).unwrap();
        assert_eq!((read.status, read.version()), (200, version));
    }
}
