//! Servers of others that lack something, or are wrong: what a run makes of them.

use fencepost::bench::run::results::{CheckVerdict, Outcome, Point};
use serde_json::json;

use super::place::Place;
use super::runs::{bench, measured, results};
use crate::support::faulty::{self, Fault, Told};

/// The points of a server with that fault, in one workload.
fn points_of(fault: Fault, workload: &str) -> Vec<Point> {
    let place = Place::new();
    let server = place.serve();
    let out = place.path("out");
    let target = format!("odd={}", faulty::start(&server.url, fault));
    let more = [["--target", &target], ["--designs", "crud"], ["--workloads", workload]];
    let small = [["--sizes", "20"], ["--seconds", "0.2"], ["--warmup-seconds", "0"]];
    let mut run = bench(&out, &[&small[..], &[["--blocks", "1"]]].concat(), &more.concat());
    let output = run.output().unwrap();
    let points = results(&out).points.into_iter();
    let points: Vec<Point> = points.filter(|point| point.key.design == "odd").collect();
    let all_valid = points.iter().all(|point| point.failure().is_none());
    assert_eq!(output.status.success(), all_valid, "{output:?}");
    assert!(!points.is_empty());
    points
}

#[test]
fn one_without_changesets_is_loaded_job_by_job() {
    let points = points_of(
        |sound, asked| match asked.parts()[..] {
            ["changesets"] => {
                let problem = json!({"type": "urn:fencepost:problem:route_not_found", "title": "",
                    "status": 404, "detail": "", "name": "/changesets"});
                Told::made_up(404, None, &problem)
            }
            _ => sound.pass(&asked),
        },
        "register",
    );
    for point in &points {
        let found = measured(point);
        assert!(matches!(found.verdict, CheckVerdict::Valid { .. }), "{found:?}");
    }
}

/// It counts versions, and keeps half of the operations.
#[test]
fn one_that_loses_operations_of_changesets_has_no_figures() {
    let points = points_of(
        |sound, asked| match asked.parts()[..] {
            ["changesets"] => sound.pass(&asked.edited(|body| {
                let operations = body["operations"].as_array_mut().unwrap();
                operations.truncate(operations.len().div_ceil(2));
            })),
            _ => sound.pass(&asked),
        },
        "register",
    );
    let Outcome::Failed { why } = &points[0].outcome else { panic!("{:?}", points[0]) };
    assert!(why.contains("after it was loaded the graph has 10 jobs, not 20"), "{why}");
}

#[test]
fn one_whose_list_of_jobs_has_no_end_has_no_figures() {
    let points = points_of(
        |sound, asked| match asked.parts()[..] {
            ["jobs"] if asked.is("GET") => {
                Told::made_up(200, Some("1"), &json!({"items": [], "next_cursor": "x"}))
            }
            _ => sound.pass(&asked),
        },
        "reregister",
    );
    let Outcome::Failed { why } = &points[0].outcome else { panic!("{:?}", points[0]) };
    assert!(why.contains("an empty page before its end"), "{why}");
}
