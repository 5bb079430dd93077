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
    // What cannot be written is told before anything is asked.
    let junit = args.junit.as_deref().map(Junit::create).transpose()?;
    let mut printed = Ok(());
    let tell = |ended: &Ended| {
        if printed.is_ok() {
            printed = print(&format!("{ended}\n"));
        }
    };
    let report = conformance::run(&args.target, args.level, tell)?;
    printed?;
    print(&format!("{report}\n"))?;
    if let Some(junit) = junit {
        junit.write(&report)?;
    }
    match report.broken().len() {
        0 => Ok(()),
        1 => Err(Failure::refused("the server breaks 1 case")),
        broken => Err(Failure::refused(format!("the server breaks {broken} cases"))),
    }
}

/// A file for the results. Removed again if it is not written.
struct Junit<'p> {
    path: &'p Path,
    is_written: bool,
}

impl<'p> Junit<'p> {
    fn create(path: &'p Path) -> Result<Self, Failure> {
        let created = std::fs::File::create(path);
        created.map_err(|error| Failure::usage(format!("--junit {}: {error}", path.display())))?;
        Ok(Self { path, is_written: false })
    }

    fn write(mut self, report: &Report) -> Result<(), Failure> {
        let written = std::fs::write(self.path, conformance::junit(report));
        let failed =
            |error| Failure::unavailable(format!("--junit {}: {error}", self.path.display()));
        written.map_err(failed)?;
        self.is_written = true;
        Ok(())
    }
}

impl Drop for Junit<'_> {
    fn drop(&mut self) {
        if !self.is_written {
            drop(std::fs::remove_file(self.path));
        }
    }
}

impl From<ConformanceError> for Failure {
    fn from(error: ConformanceError) -> Self {
        match error {
            ConformanceError::Url(_) => Self::usage(error),
            ConformanceError::Unavailable(_) => Self::unavailable(error),
        }
    }
}
