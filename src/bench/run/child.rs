//! Processes that are waited for, but not for ever.

use std::io::{self, Read};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::failpoint;

/// How often it is looked whether one has ended.
const PAUSE: Duration = Duration::from_millis(1);

/// The limit; zero if a test has switched off the guard `name`.
pub fn limit(name: &str, limit: Duration) -> Duration {
    if failpoint::is_off(name) { Duration::ZERO } else { limit }
}

/// Runs a command to its end: how it ended, and what it printed. One that takes longer than `limit`
/// is killed, and there is no output.
///
/// # Errors
/// If it cannot be started.
pub fn output_within(command: &mut Command, limit: Duration) -> io::Result<Option<Output>> {
    let deadline = Instant::now() + limit;
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let stdout = read(child.stdout.take().expect("it is piped"));
    let stderr = read(child.stderr.take().expect("it is piped"));
    let Some(status) = ended_by(&mut child, deadline)? else { return Ok(None) };
    let [stdout, stderr] = [stdout, stderr].map(|read| read.join().unwrap_or_default());
    Ok(Some(Output { status, stdout, stderr }))
}

/// How it ended; `None` if it has not at the deadline, and is killed then. One that has ended when
/// the deadline is found to be over is late too, so that without any time all are.
fn ended_by(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    while Instant::now() < deadline {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        thread::sleep(PAUSE);
    }
    child.kill()?;
    child.wait()?;
    Ok(None)
}

/// How a process ended, and what it said on standard error: of one that was killed, the signal.
pub fn how_it_ended(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr);
    match said.trim() {
        "" => output.status.to_string(),
        said => format!("{}: {said}", output.status),
    }
}

/// Reads to the end, so that a process that prints much does not wait for its reader.
fn read(mut from: impl Read + Send + 'static) -> JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut text = Vec::new();
        // What was read before an error is told.
        let _ = from.read_to_end(&mut text);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    #[test]
    fn what_a_process_prints_is_told_with_its_end() {
        // More than a pipe holds, on both.
        let script = "head -c 300000 /dev/zero; head -c 200000 /dev/zero >&2; exit 7";
        let limit = Duration::from_secs(600);
        let output = output_within(&mut sh(script), limit).unwrap().expect("it ends");
        assert_eq!(output.status.code(), Some(7));
        assert_eq!((output.stdout.len(), output.stderr.len()), (300_000, 200_000));
        assert!(output_within(&mut Command::new("/no/such/program"), limit).is_err());
    }

    #[test]
    fn how_a_process_ended_is_told_whatever_it_said() {
        for (script, told) in [
            ("kill -KILL $$", "signal: 9 (SIGKILL)"),
            ("echo no such file >&2; exit 3", "exit status: 3: no such file"),
        ] {
            let output = output_within(&mut sh(script), Duration::from_secs(600)).unwrap();
            assert_eq!(how_it_ended(&output.unwrap()), told);
        }
    }

    #[test]
    fn a_process_that_takes_too_long_is_killed() {
        // Not waiting for it is shown by coming here again: it never ends by itself.
        let limit = Duration::from_millis(20);
        for script in ["exec sleep infinity", "exec sleep infinity >/dev/null 2>&1"] {
            assert_eq!(output_within(&mut sh(script), limit).unwrap(), None, "{script}");
        }
    }

    #[test]
    fn a_process_without_any_time_is_late_even_if_it_has_ended() {
        let mut child = sh("exit 0").spawn().unwrap();
        let stat = format!("/proc/{}/stat", child.id());
        let began = Instant::now();
        while !std::fs::read_to_string(&stat).unwrap().contains(") Z ") {
            assert!(began.elapsed().as_secs() < 60, "it has not ended");
        }
        assert_eq!(ended_by(&mut child, Instant::now()).unwrap(), None);
    }
}
