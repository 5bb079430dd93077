//! `fencepost conformance`

use std::path::{Path, PathBuf};

use clap::Args;
use fencepost::conformance::{self, ConformanceError, Ended, Level, Report};

use super::failure::Failure;
use super::output::print;

/// Say which rules of the HTTP surface a server keeps, case by case. Exit 1 if one is broken
#[derive(Args)]
pub struct ConformanceArgs {
    /// The server, as http://127.0.0.1:8000. Each case works on new graphs of its own, and deletes
    /// them in the end
    #[arg(long, value_name = "URL")]
    target: String,
    /// How much of the surface is asked for; each level has the cases of those before it
    #[arg(long, value_enum, default_value_t = Level::Core)]
    level: Level,
    /// Also write the results to this file, as JUnit XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
}

pub fn run(args: &ConformanceArgs) -> Result<(), Failure> {
    let mut printed = Ok(());
    let tell = |ended: &Ended| {
        if printed.is_ok() {
            printed = print(&format!("{ended}\n"));
        }
    };
    let report = conformance::run(&args.target, args.level, tell)?;
    printed?;
    print(&format!("{report}\n"))?;
    if let Some(file) = &args.junit {
        write_junit(file, &report)?;
    }
    match report.broken().len() {
        0 => Ok(()),
        1 => Err(Failure::refused("the server breaks 1 case")),
        broken => Err(Failure::refused(format!("the server breaks {broken} cases"))),
    }
}

fn write_junit(file: &Path, report: &Report) -> Result<(), Failure> {
    let written = std::fs::write(file, conformance::junit(report));
    written.map_err(|error| Failure::refused(format!("--junit {}: {error}", file.display())))
}

impl From<ConformanceError> for Failure {
    fn from(error: ConformanceError) -> Self {
        match error {
            ConformanceError::Url(_) => Self::usage(error),
            ConformanceError::Unavailable(_) => Self::unavailable(error),
        }
    }
}
