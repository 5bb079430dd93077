//! The benchmark: designs on the same work. Each point starts from a copy of a prepared database,
//! is measured against servers that are processes of their own, and has its answers judged.
//! docs/METHOD.md says why it is done as it is.
//!
//! Knows designs by name and storage, and of a database only that it is a file or has a name on a
//! server: all else is asked over HTTP or of this program's own commands, as a stranger would.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use std::{fs, io, thread};

mod args;
mod base;
mod child;
mod compare;
mod comparisons;
mod delay;
mod echo;
mod events;
pub mod figures;
mod file;
mod floors;
mod given;
mod hypotheses;
mod judging;
mod looks;
mod machine;
#[cfg(test)]
mod made_up;
mod markdown;
mod matrix;
mod measure;
mod measure_given;
mod nodes;
mod pace;
mod page;
mod place;
mod plan;
mod proxy;
pub mod results;
mod servers;
pub mod setting;
mod site;
pub mod statistics;
mod strike;
mod table;
mod words;
pub mod workloads;
mod wrapped;

pub use args::{Profile, RunArgs};
pub use compare::Comparison;
pub use delay::serve_delay;
pub use echo::serve_echo;
pub use file::{RESULTS, ResultsError};
pub use markdown::markdown;
pub use plan::Plan;
pub use table::table;

use base::Bases;
use comparisons::comparisons;
use given::NOT_STATED;
use hypotheses::hypotheses;
use machine::Machine;
use measure::Bench;
use pace::Progress;
use page::{page, picture};
use plan::Planned;
pub use results::Results;
use results::{BaseRecord, FORMAT, Outcome, Point};

use place::{KEPT, file_error};
use servers::Servers;

use super::BenchError;
use super::drive::unix_ms;
use crate::address::redacted;

impl From<ResultsError> for BenchError {
    fn from(error: ResultsError) -> Self {
        Self::Refused(error.to_string())
    }
}

/// The report of a run, in its directory.
pub const REPORT: &str = "report.html";

/// What a run came to.
#[derive(Debug)]
pub struct RunResult {
    /// All that was measured.
    pub results: Results,
    /// Where it is.
    pub directory: PathBuf,
}

/// Measures what the arguments ask for, with `program`, which is this one. What was measured so far
/// is in `results.json`, but for the last seconds. Ends early, without an error, once `stopped` is
/// set.
///
/// # Errors
/// [`BenchError`] if the arguments contradict each other, or the directory cannot be used. A failure
/// at one point is that point's outcome.
pub fn run(program: &Path, args: &RunArgs, stopped: &AtomicBool) -> Result<RunResult, BenchError> {
    let plan = Plan::new(args)?;
    let directory = args.directory();
    if args.resume && !directory.exists() {
        let shown = directory.display();
        return Err(BenchError::Usage(format!("--resume: {shown} does not exist")));
    }
    let file = directory.join(RESULTS);
    let work = directory.join(WORK);
    fs::create_dir_all(&directory).map_err(|error| file_error(&directory, &error))?;
    let _alone = alone_in(&directory)?;
    let before = earlier(args, &plan, &directory)?;
    clear(&work).map_err(|error| file_error(&work, &error))?;
    let _removed = Removed(&work);
    // Ended before the directory is removed, in which they are.
    let mut servers = Servers::start(plan.settings(), args, &work, &directory)?;
    let mut machine = Machine::look(program, &work).map_err(|error| file_error(&work, &error))?;
    machine.software.extend(servers.software());
    machine.software.extend(args.target.iter().map(|given| {
        let name = format!("given server {}", given.name);
        (name, given.urls.iter().map(|url| redacted(url)).collect::<Vec<_>>().join(","))
    }));
    let mut results = match before {
        Some(mut results) => {
            if let Some(difference) = machine.differences(&results.machine).first() {
                return Err(BenchError::Refused(format!(
                    "{} was measured by another build, on another machine or with another server: \
                     begin anew ({difference})",
                    file.display()
                )));
            }
            plan.keep_whole_loads(&mut results);
            results
        }
        None => Results {
            format: FORMAT,
            fencepost: env!("CARGO_PKG_VERSION").to_owned(),
            plan: plan.record.clone(),
            began_unix_ms: unix_ms(),
            complete: false,
            machine,
            bases: Vec::new(),
            points: Vec::new(),
            comparisons: None,
            hypotheses: None,
        },
    };
    let is_measured =
        |planned: &&Planned| results.points.iter().any(|done| done.number == planned.number);
    let left: Vec<&Planned> = plan.points.iter().filter(|planned| !is_measured(planned)).collect();
    let progress = Progress::new(left.iter().map(|planned| plan.time_of(planned)).sum());
    let mut bases = Bases::new(program, args, work.join("bases"), results.bases.clone());
    let bench = Bench {
        program,
        plan: &plan,
        directory: &work,
        kept: &directory.join(KEPT),
        checks: plan.record.checks,
    };
    let mut kept = KeptResults { file: &file, ended: None, took: Duration::ZERO };
    for planned in left {
        if stopped.load(Ordering::Relaxed) {
            break;
        }
        let (key, count) = (&planned.key, plan.points.len());
        let number = planned.number + 1;
        progress.says(format!("{} {} ({number} of {count})", key.label(), key.workload));
        let found = measured(&bench, args, &mut bases, &mut servers, planned);
        let (point, base) = match found {
            Ok(found) => found,
            Err(error) => {
                // The error says more than one that comes of it.
                drop(results.write(&file));
                return Err(error);
            }
        };
        if let Some(why) = point.failure() {
            let (design, workload) = (point.key.label(), &point.key.workload);
            progress.beside(|| log::warn!("{design} with {workload}: {why}"));
            // Perhaps it was interrupted: it is measured again by whoever goes on.
            if stopped.load(Ordering::Relaxed) {
                break;
            }
        }
        results.add(point, base);
        kept.write(&results)?;
        progress.done(plan.time_of(planned));
    }
    drop(progress);
    drop(servers);
    results.comparisons = Some(comparisons(&results.points, results.plan.blocks));
    results.hypotheses = Some(hypotheses(&results.points, results.plan.blocks));
    results.write(&file)?;
    write_page(&results, &directory.join(REPORT))?;
    fs::remove_dir_all(&work).map_err(|error| file_error(&work, &error))?;
    Ok(RunResult { results, directory })
}

/// Results are written again after so many times as long as writing took.
const WRITE_SHARE: u32 = 20;

/// The file of results, which is written whole. With some thousand points that takes a third of a
/// second: then not after each of them. Whoever goes on with a run that was killed measures again
/// what is missing.
struct KeptResults<'f> {
    file: &'f Path,
    /// When it was last written.
    ended: Option<Instant>,
    /// How long that took.
    took: Duration,
}

impl KeptResults<'_> {
    fn write(&mut self, results: &Results) -> Result<(), ResultsError> {
        if self.ended.is_some_and(|ended| ended.elapsed() < self.took * WRITE_SHARE) {
            return Ok(());
        }
        let began = Instant::now();
        results.write(self.file)?;
        (self.ended, self.took) = (Some(Instant::now()), began.elapsed());
        Ok(())
    }
}

/// Draws the report into a file, in place of what is there.
///
/// # Errors
/// [`BenchError`] if it cannot be written.
pub fn write_page(results: &Results, file: &Path) -> Result<(), BenchError> {
    fs::write(file, page(results)).map_err(|error| file_error(file, &error))
}

/// Draws the picture of the report's first screen into a file, in place of what is there.
///
/// # Errors
/// [`BenchError`] if there is nothing to draw, or it cannot be written.
pub fn write_picture(results: &Results, file: &Path) -> Result<(), BenchError> {
    let nothing =
        || BenchError::Refused("`register` was not measured: nothing is drawn".to_owned());
    let svg = picture(results).ok_or_else(nothing)?;
    fs::write(file, svg).map_err(|error| file_error(file, &error))
}

/// The point, and the base that it began from.
fn measured(
    bench: &Bench<'_>,
    args: &RunArgs,
    bases: &mut Bases<'_>,
    servers: &mut Servers,
    planned: &Planned,
) -> Result<(Point, Option<BaseRecord>), BenchError> {
    let began_unix_ms = unix_ms();
    let setting = &planned.key.setting;
    let base = servers.revive(setting).and_then(|()| {
        planned.design.map(|design| bases.get(planned, design, servers)).transpose()
    });
    let (record, outcome) = match base {
        Ok(base) => {
            let outcome = bench.measure(planned, base.as_ref(), servers)?;
            (base.map(|base| base.record), outcome)
        }
        // Nothing can be measured with such arguments.
        Err(error @ BenchError::Usage(_)) => return Err(error),
        Err(error) => (None, Outcome::Failed { why: error.to_string() }),
    };
    let point = Point {
        number: planned.number,
        block: planned.block,
        key: planned.key.clone(),
        base: record.as_ref().map(|record| record.name.clone()),
        durability: durability(args, planned, servers),
        command: measure::command(bench.plan, planned),
        began_unix_ms,
        outcome,
    };
    Ok((point, record))
}

/// What an answered commit survives; of a given server what its maker says.
fn durability(args: &RunArgs, planned: &Planned, servers: &Servers) -> String {
    let Some(given) = &planned.given else { return servers.durability(&planned.key.setting) };
    let said = args.target_survives.iter().find(|said| said.name == given.name);
    said.map_or(NOT_STATED, |said| said.what).to_owned()
}

/// Databases and servers' logs, in the directory of a run, and only while it runs.
const WORK: &str = "fencepost-bench-work";

/// Removes the directory with all that is in it when it is dropped, whatever ends the run.
struct Removed<'r>(&'r Path);

impl Drop for Removed<'_> {
    fn drop(&mut self) {
        // A run that ends well has removed it, and told why if it could not.
        drop(fs::remove_dir_all(self.0));
    }
}

/// How long servers of a run that was killed may take to end, and to write no more.
const ENDS_WITHIN: Duration = Duration::from_secs(60);
/// How often that is tried.
const PAUSE: Duration = Duration::from_millis(50);

/// Makes the directory, empty: a run that was killed has left its servers' files there, which may
/// be about to end.
fn clear(work: &Path) -> io::Result<()> {
    let began = Instant::now();
    loop {
        match fs::remove_dir_all(work) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => break,
            Err(error) if began.elapsed() > ENDS_WITHIN => return Err(error),
            Err(_) => thread::sleep(PAUSE),
        }
    }
    fs::create_dir_all(work)
}

/// A lock on the directory that is held until it is dropped, or this process ends.
fn alone_in(directory: &Path) -> Result<fs::File, BenchError> {
    let path = directory.join("lock");
    let file = fs::File::create(&path).map_err(|error| file_error(&path, &error))?;
    file.try_lock().map_err(|_| {
        let shown = directory.display();
        BenchError::Usage(format!("another run is at work in {shown}: choose another --out"))
    })?;
    Ok(file)
}

/// The results of an earlier run that is to be gone on with.
fn earlier(args: &RunArgs, plan: &Plan, directory: &Path) -> Result<Option<Results>, BenchError> {
    let file = directory.join(RESULTS);
    for taken in [WORK, KEPT].map(|name| directory.join(name)) {
        if !args.resume && taken.exists() && !file.exists() {
            return Err(BenchError::Usage(format!(
                "{} is there, perhaps of a run that was killed: say --resume to go on, or choose \
                 another --out",
                taken.display()
            )));
        }
    }
    match (file.exists(), args.resume) {
        // It was killed before its first point was done.
        (false, true) if directory.join(WORK).exists() => Ok(None),
        (false, true) => {
            Err(BenchError::Usage(format!("--resume: {} does not exist", file.display())))
        }
        (true, false) => Err(BenchError::Usage(format!(
            "{} is there: say --resume to go on, or choose another --out",
            file.display()
        ))),
        (false, false) => Ok(None),
        (true, true) => {
            let results = Results::read(&file)?;
            if results.plan == plan.record {
                return Ok(Some(results));
            }
            Err(BenchError::Usage(format!(
                "--resume: {} was measured with other arguments: {}",
                file.display(),
                plan.record.differences(&results.plan).join(", ")
            )))
        }
    }
}
