//! `fencepost check`

use std::path::{Path, PathBuf};
use std::time::Instant;

use fencepost::check::{self, CheckArgs, Finding, Verdict};
use fencepost::input;
use fencepost::terminal::OneLine;

use super::failure::Failure;
use super::node::NodeArgs;
use super::output::{print, print_json};

pub fn run(node: &NodeArgs, args: &CheckArgs) -> Result<(), Failure> {
    let began = Instant::now();
    let verdict = check::check(args, &node.options()?)?;
    match (args.format, &verdict) {
        (check::Format::Json, verdict) => print_json(&format!("{}\n", verdict.json()))?,
        (check::Format::Text, Verdict::Valid(summary)) => {
            print(&format!("{summary}, {:.1} s\n", began.elapsed().as_secs_f64()))?;
        }
        (check::Format::Text, Verdict::Found(finding)) => {
            print(&format!("{}\n", shown(finding, &args.histories)))?;
        }
    }
    match verdict {
        Verdict::Valid(_) => Ok(()),
        Verdict::Found(_) => Err(Failure::refused("the histories are not shown to be right")),
    }
}

/// The finding as it fits a screen. What does not fit stands whole in a file beside the first
/// history; where none can be written, all is shown.
fn shown(finding: &Finding, histories: &[PathBuf]) -> String {
    let (whole, on_a_screen) = (finding.to_string(), finding.on_a_screen());
    let beside = histories.first().and_then(|history| file_beside(history));
    let (Some(on_a_screen), Some(file)) = (on_a_screen, beside) else { return whole };
    match std::fs::write(&file, format!("{whole}\n")) {
        Ok(()) => format!("{on_a_screen}\n  whole       {}", OneLine(file.display())),
        Err(error) => {
            log::warn!("{}: {error}; the finding is shown whole", file.display());
            whole
        }
    }
}

/// `None` if the history is no regular file, as a pipe.
fn file_beside(history: &Path) -> Option<PathBuf> {
    let is_file = !input::is_stdin(history) && history.metadata().ok()?.is_file();
    let mut name = history.file_name()?.to_owned();
    name.push(".finding.txt");
    is_file.then(|| history.with_file_name(name))
}
