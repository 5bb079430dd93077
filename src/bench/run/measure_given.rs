//! One point of a given server: a graph that is loaded into it through the API, the same requests
//! as of the designs, and what the checker says of the answers.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use uuid::Uuid;

use super::figures::Figures;
use super::given::Given;
use super::judging::{output_of, verdict};
use super::looks::Watched;
use super::measure::{ANSWERS_WITHIN, Bench, command, raw_of};
use super::place::{Kept, check_again, command as command_of};
use super::plan::Planned;
use super::results::{CheckVerdict, Measurement, Outcome as Found};
use crate::bench::report::Report;
use crate::bench::request::{Outcome, Request};
use crate::bench::target::{HttpTarget, Target};
use crate::bench::{BenchError, DriveArgs, drive};
use crate::graph::{CanonicalJson, JobSpecification, Name, Operation, Step};

/// How many jobs are put with one changeset, of those that a point begins with.
const BATCH: u64 = 1_000;

impl Bench<'_> {
    /// Measures a given server on a graph of its own, which is removed afterwards, if it can be.
    ///
    /// # Errors
    /// [`BenchError`]: the server is away, or does not do what the workload needs.
    pub fn measure_given(
        &self,
        point: &Planned,
        given: &Given,
        place: &Path,
    ) -> Result<Found, BenchError> {
        let urls = &given.urls[..(point.key.nodes as usize).min(given.urls.len())];
        let (target, graph, loaded) = self.loaded(point, urls, place)?;
        let watched = Watched {
            inner: target,
            processes: Vec::new(),
            server: None,
            makes_checkpoint: false,
            proxy: None,
            looks: Mutex::default(),
        };
        let found =
            self.driven(point, &watched, graph.clone(), [&loaded, &place.join("history.ndjson")]);
        remove(&watched.inner, &graph);
        let (report, verdict) = found?;
        let mut raw = raw_of(Some(&report), 0.0);
        let steal_seconds = watched.note_in(&mut raw)?;
        // Nobody here knows.
        raw.written_bytes = None;
        let figures = Figures::of(&raw).map_err(|error| BenchError::Refused(error.to_string()))?;
        Ok(Found::Measured(Box::new(Measurement {
            verdict,
            raw,
            figures,
            peak_memory_bytes: Vec::new(),
            steal_seconds,
            start_seconds: Vec::new(),
            disk: None,
            timeline: None,
        })))
    }

    /// Drives the load, and has its answers judged.
    fn driven(
        &self,
        point: &Planned,
        target: &dyn Target,
        graph: String,
        [loaded, history]: [&Path; 2],
    ) -> Result<(Report, CheckVerdict), BenchError> {
        let line = command(self.plan, point);
        let mut args = DriveArgs::of_words(line.split_whitespace().skip(2))
            .map_err(|error| BenchError::Usage(error.to_string()))?;
        args.graph = graph;
        args.history = self.checks.then(|| history.to_owned());
        let report = drive(target, &args)?;
        let verdict = match self.checks {
            true => self.judged(point, loaded, history)?,
            false => CheckVerdict::NotApplicable,
        };
        if !matches!(verdict, CheckVerdict::Invalid { .. }) {
            report.verdict()?;
        }
        Ok((report, verdict))
    }

    /// A new graph with the jobs that the point begins with, and the history of how they came
    /// there: by changesets, or one by one to a server that has none.
    fn loaded(
        &self,
        point: &Planned,
        urls: &[String],
        place: &Path,
    ) -> Result<(HttpTarget, String, PathBuf), BenchError> {
        let batch = if takes_changesets(urls)? { BATCH } else { 1 };
        let (target, graph) = new_graph(urls)?;
        let line = format!(
            "drive --graph {graph} --workload load --shape {} --jobs {} --batch {batch} \
             --clients 1 --seed {} --timeout-seconds {}",
            point.key.shape,
            point.key.size,
            self.plan.record.seed,
            ANSWERS_WITHIN.as_secs()
        );
        let mut args = DriveArgs::of_words(line.split_whitespace())
            .map_err(|error| BenchError::Usage(error.to_string()))?;
        let history = place.join("load.ndjson");
        args.history = Some(history.clone());
        let loaded = drive(&target, &args).and_then(|report| report.verdict());
        match loaded.and_then(|()| has_jobs(&target, point.key.size)) {
            Ok(()) => Ok((target, graph, history)),
            Err(error) => {
                remove(&target, &graph);
                Err(error)
            }
        }
    }

    /// Has both histories judged, from the empty graph on.
    fn judged(
        &self,
        point: &Planned,
        loaded: &Path,
        history: &Path,
    ) -> Result<CheckVerdict, BenchError> {
        let ask = |format: &str, files: [&Path; 2]| {
            let mut command = command_of(self.program);
            command.args(["check", "--format", format]).args(files).env("RUST_LOG", "error");
            output_of(&mut command)
        };
        let names = Kept::of(point.number);
        let keep = || {
            self.keep(loaded, &names.load)?;
            self.keep(history, &names.history)?;
            Ok(check_again(point.number, &point.key))
        };
        let kept = [&names.load, &names.history].map(|name| self.kept.join(name));
        let text = || ask("text", [&kept[0], &kept[1]]);
        verdict(|| ask("json", [loaded, history]), keep, text)
    }
}

/// The name of a graph that nobody else has, and how the server is asked about it.
fn new_graph(urls: &[String]) -> Result<(HttpTarget, String), BenchError> {
    let graph = format!("bench-{}", Uuid::new_v4().simple());
    let name = Name::new(&graph).expect("letters and digits");
    Ok((HttpTarget::new(urls, name, ANSWERS_WITHIN)?, graph))
}

/// Whether the server takes a changeset, which is tried.
fn takes_changesets(urls: &[String]) -> Result<bool, BenchError> {
    let (target, graph) = new_graph(urls)?;
    let job = |name: &str| {
        let specification = JobSpecification {
            name: Name::new(name).expect("a letter"),
            inputs: Vec::new(),
            outputs: Vec::new(),
            spec: CanonicalJson::default(),
        };
        Step { operation: Operation::PutJob(specification), precondition: None }
    };
    let mut connection = target.connect();
    drop(connection.perform(&Request::CreateGraph));
    let told = connection.perform(&Request::Write(vec![job("a"), job("b")])).outcome;
    remove(&target, &graph);
    Ok(matches!(told, Outcome::Accepted(_)))
}

/// Removes the graph of a point: by any of the nodes.
fn remove(target: &HttpTarget, graph: &str) {
    let mut connection = target.connect();
    for _ in 0..target.nodes().max(1) {
        match connection.perform(&Request::DeleteGraph).outcome {
            Outcome::Unreachable(_) => {}
            // A server may have no way to do it.
            _ => return,
        }
    }
    log::warn!("the graph {graph} is left on {}", target.describe());
}

/// Refuses a graph that has not as many jobs: what was refused or rejected is no error of a load.
fn has_jobs(target: &HttpTarget, jobs: u64) -> Result<(), BenchError> {
    let outcome = target.connect().perform(&Request::Graph).outcome;
    let there = match &outcome {
        Outcome::Answered { answer, .. } => answer.member::<u64>("jobs"),
        _ => None,
    };
    match there {
        Some(there) if there == jobs => Ok(()),
        there => Err(BenchError::Refused(format!(
            "after it was loaded the graph has {} jobs, not {jobs}",
            there.map_or_else(|| "no".to_owned(), |there| there.to_string())
        ))),
    }
}
