//! Short runs of `bench run`, and what they have found.

use std::path::Path;
use std::process::{Command, Stdio};

use fencepost::bench::run::Results;
use fencepost::bench::run::results::{Measurement, Outcome, Point};

use super::place::fencepost;

/// A run into `out`, with the options that are `small` where `more` does not say otherwise.
pub fn bench(out: &Path, small: &[[&str; 2]], more: &[&str]) -> Command {
    let mut command = fencepost();
    command.args(["bench", "run", "--out"]).arg(out);
    let of_file = more.contains(&"--graph");
    let given =
        |option: &&[&str; 2]| !(more.contains(&option[0]) || of_file && option[0] == "--sizes");
    command.args(small.iter().filter(given).flatten()).args(more);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// What a run into `out` has found, and what it printed.
pub fn ended(out: &Path, mut run: Command) -> (Results, String) {
    let output = run.output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}");
    (results(out), String::from_utf8(output.stdout).unwrap())
}

pub fn results(out: &Path) -> Results {
    Results::read(&out.join("results.json")).unwrap_or_else(|error| panic!("{error}"))
}

pub fn measured(point: &Point) -> &Measurement {
    match &point.outcome {
        Outcome::Measured(measured) => measured,
        Outcome::Failed { why } => panic!("{:?}: {why}", point.key),
    }
}
