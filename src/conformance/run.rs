//! Runs the cases of a level against one server.

use std::time::Instant;

use super::case::{Case, Level};
use super::client::{Client, NoAnswer};
use super::report::{Ended, Report, Verdict};
use super::session::Session;
use super::unmet::Unmet;
use super::{all, core, writes};
use crate::address;

/// Why no case was run.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The URL is none of a server.
    #[error("--target: {0}")]
    Url(String),
    /// The server does not answer the first request, or takes no connections any more.
    #[error("the server does not answer: {0}")]
    Unavailable(String),
}

/// The cases of a level and of those before it, in the order in which they are run.
#[must_use]
pub fn cases(level: Level) -> Vec<Case> {
    let all = [core::cases(), writes::cases(), all::cases()].concat();
    all.into_iter().filter(|case| case.level <= level).collect()
}

/// Runs the cases of `level` and of those before it: see [`run_cases`].
///
/// # Errors
/// [`ConformanceError`], before the first case.
pub fn run(url: &str, level: Level, told: impl FnMut(&Ended)) -> Result<Report, ConformanceError> {
    run_cases(url, level, cases(level), told)
}

/// Runs these cases, some of those of `level`, one after another, whether those before hold or not,
/// and tells of each as it ends. Each takes about 10 requests, and one of them 5 s, in which a read
/// waits in vain.
///
/// # Errors
/// [`ConformanceError`], before the first case, or when the server has gone.
pub fn run_cases(
    url: &str,
    level: Level,
    cases: Vec<Case>,
    mut told: impl FnMut(&Ended),
) -> Result<Report, ConformanceError> {
    let url = address::server_url(url).map_err(ConformanceError::Url)?;
    let client = Client::new(url);
    if let Err(NoAnswer::Unreachable(reason) | NoAnswer::Lost(reason)) = client.greet() {
        return Err(ConformanceError::Unavailable(reason));
    }
    let mut run = |case: Case| {
        let began = Instant::now();
        let verdict = match (case.run)(&Session::new(&client)) {
            Ok(()) => Verdict::Holds,
            Err(Unmet::Broken(how)) => Verdict::Broken(how),
            Err(Unmet::NotOffered(why)) => Verdict::NotOffered(why),
            Err(Unmet::Gone(why)) => {
                let why = format!("it has gone in the case {}: {why}", case.name);
                return Err(ConformanceError::Unavailable(why));
            }
        };
        let ended = Ended { case, verdict, took: began.elapsed() };
        told(&ended);
        Ok(ended)
    };
    let ended = cases.into_iter().map(&mut run).collect::<Result<Vec<Ended>, _>>()?;
    Ok(Report { level, ended })
}
