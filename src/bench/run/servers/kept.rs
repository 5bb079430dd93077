//! A server of another program that ends with this one, however this one ends.

use std::fs;
use std::io::{self, BufRead as _, BufReader};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use super::programs::Owner;

/// In the results, of a server that the run has started.
pub const OWN: &str = "started by the run";

/// How long a server may take to end.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// How often it is looked whether it has.
const PAUSE: Duration = Duration::from_millis(5);
/// How much of a server's log is told, in lines.
const TOLD_LINES: usize = 3;

/// Starts the server and tells its id. Ends it by the signal `$END` once standard input is closed,
/// which the kernel does when this process ends; and ends when it has ended.
const KEEPER: &str = r#"
exec 3<&0
"$@" </dev/null 3<&- >>"$LOG" 2>&1 & server=$!
echo $server
exec >/dev/null
(read -r told <&3; kill -"$END" $server) 2>/dev/null & watcher=$!
wait $server
kill $watcher 2>/dev/null
"#;

/// How a server is started.
pub struct Start<'s> {
    /// The program.
    pub program: &'s Path,
    /// Its arguments.
    pub arguments: &'s [String],
    /// Where it runs. Its log is there too.
    pub directory: &'s Path,
    /// As whom.
    pub owner: Option<Owner>,
    /// By which signal it ends, as in `TERM`.
    pub end: &'static str,
}

/// A server that runs, or has ended by itself. Ended when dropped.
#[derive(Debug)]
pub struct Kept {
    keeper: Child,
    process: u32,
    log: PathBuf,
}

impl Kept {
    /// Starts it. It does not belong to the terminal, whose Ctrl-C is for this process alone.
    ///
    /// # Errors
    /// As the system says.
    pub fn start(start: &Start<'_>) -> io::Result<Self> {
        let log = start.directory.join("log");
        let mut command = Command::new("/bin/sh");
        command.args(["-c", KEEPER, "sh"]).arg(start.program).args(start.arguments);
        command.env("LOG", &log).env("END", start.end).current_dir(start.directory);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        command.process_group(0);
        if let Some(Owner { uid, gid }) = start.owner {
            // Which also leaves all groups of this process.
            command.uid(uid).gid(gid);
        }
        let mut keeper = command.spawn()?;
        let mut told = String::new();
        BufReader::new(keeper.stdout.take().expect("it is piped")).read_line(&mut told)?;
        let process =
            told.trim().parse().map_err(|_| io::Error::other("the shell did not start it"));
        let mut kept = Self { keeper, process: 0, log };
        kept.process = process?;
        Ok(kept)
    }

    /// The server's id.
    #[must_use]
    pub fn process(&self) -> u32 {
        self.process
    }

    /// Whether it has ended.
    pub fn has_ended(&mut self) -> bool {
        !matches!(self.keeper.try_wait(), Ok(None))
    }

    /// The end of its log.
    #[must_use]
    pub fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        lines[lines.len().saturating_sub(TOLD_LINES)..].join("; ")
    }

    /// Waits until it answers, as `answers` says, or why not.
    ///
    /// # Errors
    /// Says what the server said last, if it has ended, or did not answer within `limit`.
    pub fn wait_until(
        &mut self,
        limit: Duration,
        mut answers: impl FnMut() -> Result<(), String>,
    ) -> Result<(), String> {
        let began = Instant::now();
        loop {
            let answer = answers();
            // If it has, another server answers at its place.
            if self.has_ended() {
                return Err(format!("it has ended: {}", self.last_words()));
            }
            let Err(why) = answer else { return Ok(()) };
            if began.elapsed() > limit {
                let (limit, said) = (humantime::format_duration(limit), self.last_words());
                return Err(format!("it did not answer within {limit} ({why}): {said}"));
            }
            thread::sleep(PAUSE);
        }
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        drop(self.keeper.stdin.take());
        let began = Instant::now();
        while !self.has_ended() && began.elapsed() < ENDS_WITHIN {
            thread::sleep(PAUSE);
        }
        // Of no effect on one that has ended.
        drop(self.keeper.kill());
        drop(self.keeper.wait());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(directory: &Path, script: &str) -> Kept {
        let arguments = ["-c", script].map(str::to_owned);
        let (program, owner) = (Path::new("/bin/sh"), None);
        let start = Start { program, arguments: &arguments, directory, owner, end: "TERM" };
        Kept::start(&start).unwrap()
    }

    fn is_there(process: u32) -> bool {
        Path::new(&format!("/proc/{process}")).exists()
    }

    #[test]
    fn a_server_ends_with_its_keeper_and_the_keeper_with_it() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = sleeper(directory.path(), "exec sleep infinity");
        let away = || Err("away".to_owned());
        let process = kept.process();
        assert!(!kept.has_ended() && is_there(process));
        drop(kept);
        assert!(!is_there(process));
        let mut kept = sleeper(directory.path(), "echo no room; exit 1");
        let failed = kept.wait_until(Duration::from_secs(600), away).unwrap_err();
        assert_eq!(failed, "it has ended: no room");
        let mut kept = sleeper(directory.path(), "exec sleep infinity");
        let failed = kept.wait_until(Duration::ZERO, away).unwrap_err();
        assert!(failed.starts_with("it did not answer within 0s (away)"), "{failed}");
        // Another one answers where it was to.
        let mut kept = sleeper(directory.path(), "echo the port is taken; exit 1");
        let stat = format!("/proc/{}/stat", kept.keeper.id());
        let has_ended = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains(") Z "));
        let another = || if has_ended() { Ok(()) } else { away() };
        let failed = kept.wait_until(Duration::from_secs(600), another).unwrap_err();
        assert!(failed.starts_with("it has ended: "), "{failed}");
    }

    /// The pipe is closed when this process ends, however it does.
    #[test]
    fn a_server_ends_when_the_pipe_to_its_keeper_is_closed() {
        let directory = tempfile::tempdir().unwrap();
        let mut kept = sleeper(directory.path(), "exec sleep infinity");
        drop(kept.keeper.stdin.take());
        let began = Instant::now();
        while is_there(kept.process()) {
            assert!(began.elapsed().as_secs() < 60, "it has not ended");
            // Whoever has ended is there until its parent, the keeper, has learnt of it.
            let _ = kept.has_ended();
        }
    }
}
