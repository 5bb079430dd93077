//! What the driver asks before and after a run: whether the server is there and is one that the
//! workload can be put on, and how the graph is in the end.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::request::{Outcome, Request};
use super::target::{Connection, Target};
use super::verbatim::Verbatim;
use super::{BenchError, DriveArgs, WorkloadName};

/// Where a fetch without a path looks, in turn: any server has the first, Fencepost the second.
const FETCHED: [&str; 2] = ["/", "/livez"];

/// What the first answers told.
pub struct Contact {
    /// The graph's version and job count; `None` and 0 where there is no graph.
    pub version: Option<u64>,
    pub jobs: u64,
    /// What the first read took: of a service that was just started, the time to load the graph.
    pub first_read: Duration,
    /// The path that is fetched, where one is.
    pub path: Option<String>,
}

/// Finds out that the server is there, creates the graph, and has it loaded; or finds what to
/// fetch.
///
/// # Errors
/// [`BenchError`] names what the server lacks, or why it could not be asked.
pub fn first_contact(
    target: &dyn Target,
    connection: &mut dyn Connection,
    args: &DriveArgs,
) -> Result<Contact, BenchError> {
    if args.workload == WorkloadName::Fetch {
        return first_fetch(target, connection, args.path.as_deref());
    }
    first_answer(target, connection, &Request::CreateGraph)?;
    if let Some(graphs) = args.graphs {
        create_many(target, connection, args, graphs)?;
    }
    let began = Instant::now();
    let (version, answer) = first_answer(target, connection, &Request::Graph)?;
    Ok(Contact {
        version,
        jobs: answer.and_then(|answer| answer.member("jobs")).unwrap_or_default(),
        first_read: began.elapsed(),
        path: None,
    })
}

/// Of many graphs that are there already, so many are looked at.
const LOOKED_AT: u64 = 100;

/// Creates the graphs that a workload is spread over, unless the last of them is there. They must
/// be new, since a history tells all that ever happened to each; of graphs that are there, some are
/// looked at, which finds those of an earlier run.
fn create_many(
    target: &dyn Target,
    connection: &mut dyn Connection,
    args: &DriveArgs,
    graphs: u64,
) -> Result<(), BenchError> {
    let of = |number, request| {
        let graph = args.graph_of_many(number)?;
        Ok::<_, BenchError>(Request::OfGraph { graph, request: Box::new(request) })
    };
    let last = ask(connection, target.nodes(), &of(graphs - 1, Request::Graph)?);
    let are_there = matches!(last, Outcome::Answered { .. });
    let step = if are_there { (graphs / LOOKED_AT).max(1) } else { 1 };
    // The last one says that all are there, so it is made last.
    for number in (0..graphs).step_by(step as usize).chain([graphs - 1]) {
        let request = if are_there { Request::Graph } else { Request::CreateGraph };
        let (version, _) = first_answer(target, connection, &of(number, request)?)?;
        if version != Some(0) {
            return Err(BenchError::Refused(format!(
                "--graphs: the graph `{}` is not new: give another --graph",
                args.graph_of_many(number)?
            )));
        }
    }
    Ok(())
}

/// Gets the path, or else the first of those that a server may have.
fn first_fetch(
    target: &dyn Target,
    connection: &mut dyn Connection,
    path: Option<&str>,
) -> Result<Contact, BenchError> {
    let paths = path.map_or(FETCHED.to_vec(), |path| vec![path]);
    let mut answers = Vec::new();
    for path in &paths {
        let began = Instant::now();
        match ask(connection, target.nodes(), &Request::Fetch((*path).to_owned())) {
            Outcome::Answered { .. } => {
                let (first_read, path) = (began.elapsed(), Some((*path).to_owned()));
                return Ok(Contact { version: None, jobs: 0, first_read, path });
            }
            outcome @ (Outcome::Unreachable(_) | Outcome::Unknown { .. }) => {
                return Err(BenchError::Unavailable(describe(&outcome)));
            }
            outcome => answers.push(describe(&outcome)),
        }
    }
    Err(BenchError::Refused(format!(
        "{} has nothing at {}: give a --path that it has. It answered {}",
        target.describe(),
        paths.join(" or "),
        answers.join("; ")
    )))
}

/// The answer of the first node that gives one. For what may be asked twice.
fn ask(connection: &mut dyn Connection, nodes: usize, request: &Request) -> Outcome {
    let mut outcome = connection.perform(request).outcome;
    for _ in 1..nodes {
        if !matches!(
            outcome,
            Outcome::Unreachable(_) | Outcome::Unknown { .. } | Outcome::Refused { .. }
        ) {
            break;
        }
        connection.move_on();
        outcome = connection.perform(request).outcome;
    }
    outcome
}

fn first_answer(
    target: &dyn Target,
    connection: &mut dyn Connection,
    request: &Request,
) -> Result<(Option<u64>, Option<Verbatim>), BenchError> {
    match ask(connection, target.nodes(), request) {
        Outcome::Accepted(accepted) => Ok((Some(accepted.version), None)),
        Outcome::Answered { version, answer } => Ok((version, Some(answer))),
        Outcome::Unreachable(reason) | Outcome::Unknown { reason, .. } => {
            Err(BenchError::Unavailable(reason))
        }
        Outcome::Refused { name, .. } => {
            Err(BenchError::Unavailable(format!("the server cannot serve: {name}")))
        }
        Outcome::Undocumented(answer) => Err(BenchError::Refused(format!(
            "{} lacks what the workload needs: it answered {answer}. Of a server that is not \
             Fencepost, --workload fetch measures any path",
            target.describe()
        ))),
        other => Err(BenchError::Refused(format!(
            "the first request was answered: {}",
            describe(&other)
        ))),
    }
}

/// The graph's version in the end, and for a history its digest.
///
/// # Errors
/// Says what was answered instead.
pub fn last_look(
    connection: &mut dyn Connection,
    nodes: usize,
    digest: bool,
) -> Result<Value, String> {
    let request = if digest { Request::Digest } else { Request::Graph };
    match ask(connection, nodes, &request) {
        Outcome::Answered { version, answer } => {
            let digest: Option<String> = answer.member("digest");
            Ok(json!({"final_version": version, "final_digest": digest}))
        }
        other => Err(format!("the graph could not be read at the end: {}", describe(&other))),
    }
}

/// In a few words.
pub fn describe(outcome: &Outcome) -> String {
    match outcome {
        Outcome::Unreachable(reason)
        | Outcome::Unknown { reason, .. }
        | Outcome::Undocumented(reason) => reason.clone(),
        other => other.label(),
    }
}
