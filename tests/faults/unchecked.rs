//! The negative control: with one client `es-unchecked` is right, with two the checker catches it,
//! and nothing that reads its log falls over it.

use std::path::{Path, PathBuf};

use fencepost::bench::{HttpTarget, InProcess, Target, drive};
use fencepost::check::{CheckArgs, Kind as FindingKind, Verdict, check};
use fencepost::design::Design;
use fencepost::design::es_optimistic::ES_OPTIMISTIC;
use fencepost::design::es_unchecked::ES_UNCHECKED;
use fencepost::node::{self, NodeOptions};

use crate::bench::place::arguments;
use crate::support::cluster::{GRAPH, Kind, LIMIT, SERVE, Server, Site, name};

/// Two clients for two seconds, each sending one of every pair of which the rules allow one.
const PAIRS: &str = "--workload pairs --clients 2 --seconds 2";

/// Drives `target`; the history. The graph may be unreadable at the end, which is no matter here.
fn driven(site: &Site, target: &dyn Target, load: &str) -> PathBuf {
    let mut args = arguments(&format!("--graph {GRAPH} {load}"));
    let history = site.path("history");
    args.history = Some(history.clone());
    let report = drive(target, &args).unwrap();
    drop(report.verdict());
    history
}

fn in_process(site: &Site, design: &'static Design) -> InProcess {
    let node = node::open(&NodeOptions { design, ..site.options() }).unwrap();
    InProcess::new(node, name(GRAPH), "in process".to_owned())
}

fn server(site: &Site, design: &Design) -> Server {
    let mut command = site.fencepost(&SERVE);
    command.args(["--design", design.name]);
    Server::start(command)
}

fn verdict(site: &Site, history: PathBuf, stored: bool) -> Verdict {
    let histories = vec![history];
    let args = CheckArgs { stored, ..CheckArgs::of(histories) };
    check(&args, &site.options()).unwrap()
}

/// What was answered is not right, and the rule that was broken is shown. With the log that is
/// stored too, the same is found.
#[track_caller]
fn assert_caught(site: &Site, history: &Path) {
    for stored in [false, true] {
        let finding = match verdict(site, history.to_owned(), stored) {
            Verdict::Valid(summary) => panic!("the checker found nothing: {summary:?}"),
            Verdict::Found(finding) => finding,
        };
        assert_eq!(finding.kind, FindingKind::IllegalAccept, "{finding}");
        let shown = finding.to_string();
        assert!(
            shown.contains("problem:cycle") || shown.contains("problem:second_producer"),
            "{shown}"
        );
    }
}

fn caught_on_one_node(kind: Kind) {
    let site = Site::on(kind);
    let history = driven(&site, &in_process(&site, &ES_UNCHECKED), PAIRS);
    assert_caught(&site, &history);
}

fn caught_on_two_nodes(kind: Kind) {
    let site = Site::on(kind);
    let nodes = [server(&site, &ES_UNCHECKED), server(&site, &ES_UNCHECKED)];
    let urls = nodes.each_ref().map(|node| node.base.clone());
    let target = HttpTarget::new(&urls, name(GRAPH), LIMIT).unwrap();
    let history = driven(&site, &target, PAIRS);
    assert_caught(&site, &history);
}

#[test]
fn two_writers_are_caught_on_one_node_with_sqlite() {
    caught_on_one_node(Kind::Sqlite);
}

#[test]
fn two_writers_are_caught_on_one_node_with_postgres() {
    caught_on_one_node(Kind::Postgres);
}

#[test]
fn two_writers_are_caught_on_two_nodes_with_sqlite() {
    caught_on_two_nodes(Kind::Sqlite);
}

#[test]
fn two_writers_are_caught_on_two_nodes_with_postgres() {
    caught_on_two_nodes(Kind::Postgres);
}

/// It is the design that is caught, and neither the load nor that it is not sound.
#[test]
fn the_same_load_is_valid_where_versions_are_compared_and_with_one_client() {
    for (design, load) in
        [(&ES_OPTIMISTIC, PAIRS), (&ES_UNCHECKED, "--workload pairs --clients 1 --requests 60")]
    {
        let site = Site::new();
        let history = driven(&site, &in_process(&site, design), load);
        match verdict(&site, history, true) {
            Verdict::Valid(summary) => assert!(summary.operations > 20, "{summary:?}"),
            Verdict::Found(finding) => panic!("{design}: {finding}"),
        }
    }
}
