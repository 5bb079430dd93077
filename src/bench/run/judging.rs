//! Has what clients were told judged by the checker, in a process of its own.

use std::process::{Command, Output};
use std::time::Duration;

use serde_json::Value;

use super::child::{how_it_ended, limit, output_within};
use super::results::CheckVerdict;
use crate::bench::BenchError;

/// How long the checker may take for one point. A graph of 300,000 jobs takes half a minute.
const JUDGED_WITHIN: Duration = Duration::from_secs(30 * 60);

/// What a check says; none if it was ended because it took too long.
///
/// # Errors
/// [`BenchError::Unavailable`] if it could not be started.
pub fn output_of(command: &mut Command) -> Result<Option<Output>, BenchError> {
    output_within(command, within()).map_err(|error| BenchError::Unavailable(error.to_string()))
}

fn within() -> Duration {
    limit("bench.check", JUDGED_WITHIN)
}

/// The verdict. `json` makes the check; if it does not say that all is valid, `keep` keeps what is
/// needed to judge again, and says how that is done, and `text` has it told for a person.
///
/// # Errors
/// [`BenchError`] of these.
pub fn verdict(
    json: impl FnOnce() -> Result<Option<Output>, BenchError>,
    keep: impl FnOnce() -> Result<String, BenchError>,
    text: impl FnOnce() -> Result<Option<Output>, BenchError>,
) -> Result<CheckVerdict, BenchError> {
    let output = json()?;
    let said: Option<Value> =
        output.as_ref().and_then(|output| serde_json::from_slice(&output.stdout).ok());
    if let (Some(output), Some(said)) = (&output, &said)
        && output.status.success()
    {
        return Ok(CheckVerdict::Valid { summary: said["summary"].clone() });
    }
    let again = keep()?;
    let took_too_long = || {
        let limit = humantime::format_duration(within());
        format!("the check took longer than {limit} and was ended; {again}")
    };
    let Some(output) = output else {
        return Ok(CheckVerdict::Failed { why: took_too_long() });
    };
    let kind = said.as_ref().and_then(|said| said["finding"]["kind"].as_str());
    let Some(kind) = kind else {
        let why = format!("the check gave no verdict: {}; {again}", how_it_ended(&output));
        return Ok(CheckVerdict::Failed { why });
    };
    // The checker could not tell, which says nothing of the design.
    if said.as_ref().is_some_and(|said| said["verdict"] == "undecided") {
        let why = format!("the checker cannot tell whether the answers are right; {again}");
        return Ok(CheckVerdict::Failed { why });
    }
    let finding = match text()? {
        Some(output) if output.stdout.is_empty() => how_it_ended(&output),
        Some(output) => String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        None => took_too_long(),
    };
    Ok(CheckVerdict::Invalid { kind: kind.to_owned(), finding })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a check that prints this, and ends so, is made.
    fn of(said: &str, code: i32) -> CheckVerdict {
        let run = || {
            let mut command = Command::new("sh");
            command.args(["-c", "printf '%s' \"$1\"; exit $2", "sh", said, &code.to_string()]);
            output_within(&mut command, Duration::from_secs(600))
                .map_err(|error| BenchError::Unavailable(error.to_string()))
        };
        verdict(run, || Ok("to judge again: so".to_owned()), run).unwrap()
    }

    #[test]
    fn what_cannot_be_told_is_no_wrong_answer() {
        let valid = of(r#"{"verdict":"valid","summary":{"operations":3}}"#, 0);
        assert!(matches!(valid, CheckVerdict::Valid { .. }), "{valid:?}");
        let wrong = of(r#"{"verdict":"anomaly","finding":{"kind":"lost-write"}}"#, 1);
        assert!(matches!(&wrong, CheckVerdict::Invalid { kind, .. } if kind == "lost-write"));
        for said in [r#"{"verdict":"undecided","finding":{"kind":"undecided"}}"#, "no JSON"] {
            let CheckVerdict::Failed { why } = of(said, 1) else { panic!("{said}") };
            assert!(why.ends_with("to judge again: so"), "{why}");
        }
    }
}
