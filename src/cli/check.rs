//! `fencepost check`

use std::time::Instant;

use fencepost::check::{self, CheckArgs, Verdict};

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
        (check::Format::Text, Verdict::Found(finding)) => print(&format!("{finding}\n"))?,
    }
    match verdict {
        Verdict::Valid(_) => Ok(()),
        Verdict::Found(_) => Err(Failure::refused("the histories are not shown to be right")),
    }
}
