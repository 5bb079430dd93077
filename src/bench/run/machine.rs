//! The machine: what it is, and what of it this run could use. Linux.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::time::Instant;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};

use crate::db::{SQLITE_VERSION, sqlite_settings};
use crate::graph::hex;
use crate::object::objects_both_ways;

/// How many writes the probe of the disk makes.
const PROBES: usize = 200;
/// How much each of them writes, in bytes.
const PROBE_BYTES: usize = 4 << 10;

/// Where a benchmark ran. What could not be found out is empty or 0.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, remote = "Self")]
pub struct Machine {
    /// The processor's name.
    pub processor: String,
    /// How many cores this process may use.
    pub cores: usize,
    /// Memory, in bytes.
    pub memory_bytes: u64,
    /// The operating system and the release of its kernel.
    pub system: String,
    /// The hypervisor, if the kernel knows of one.
    pub hypervisor: bool,
    /// The file system that the databases were on.
    pub file_system: String,
    /// Writing 4 KiB there, and waiting until they are on the disk, in microseconds.
    pub fsync_p50_us: f64,
    /// The same, the 99th percentile.
    pub fsync_p99_us: f64,
    /// Versions and settings of what is measured, by name.
    pub software: BTreeMap<String, String>,
}

objects_both_ways!(Machine);

/// Something that is not the same of two machines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// What.
    pub name: String,
    /// What it is here.
    pub here: String,
    /// What it is there.
    pub there: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: `{}`, not `{}`", self.name, self.here, self.there)
    }
}

impl Machine {
    /// Looks at this machine and at the program that is to be measured, and writes to `directory`,
    /// where the databases are to be.
    ///
    /// # Errors
    /// If nothing can be written there.
    pub fn look(program: &Path, directory: &Path) -> io::Result<Self> {
        let here = crate::bench::machine::Machine::here();
        let flags = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let [fsync_p50_us, fsync_p99_us] = fsync_us(directory)?;
        let software = [
            ("fencepost", env!("CARGO_PKG_VERSION").to_owned()),
            ("build", if cfg!(debug_assertions) { "debug" } else { "release" }.to_owned()),
            ("commit", crate::COMMIT.unwrap_or("unknown").to_owned()),
            ("executable sha256", sha256_of(program)?),
            ("sqlite", SQLITE_VERSION.to_owned()),
            ("sqlite settings", sqlite_settings()),
        ];
        Ok(Self {
            processor: here.processor.unwrap_or_default(),
            cores: here.processors.unwrap_or_default(),
            memory_bytes: here.memory_bytes.unwrap_or_default(),
            system: here.system,
            hypervisor: flags.split_whitespace().any(|flag| flag == "hypervisor"),
            file_system: file_system(directory).unwrap_or_default(),
            fsync_p50_us,
            fsync_p99_us,
            software: software.map(|(name, version)| (name.to_owned(), version)).into(),
        })
    }

    /// The servers of databases and locks, as the end of a list.
    #[must_use]
    pub fn servers(&self) -> String {
        let postgres = self.software.get("postgres").map(|version| format!(", Postgres {version}"));
        let redis = self.software.get("redis").map(|version| format!(", {version}"));
        postgres.into_iter().chain(redis).collect()
    }

    /// In what the other differs so that its figures may not stand beside those of this one: each
    /// as a name, and what it is here and there.
    #[must_use]
    pub fn differences(&self, other: &Self) -> Vec<Difference> {
        let facts = |machine: &Self| {
            let Self { processor, cores, memory_bytes, system, file_system, software, .. } =
                machine.clone();
            let own = [
                ("processor", processor),
                ("cores", cores.to_string()),
                // The kernel keeps some of it for itself, and not always as much.
                ("memory", format!("{} GiB", (memory_bytes >> 29).div_ceil(2))),
                ("system", system),
                ("file system", file_system),
            ];
            let own = own.map(|(name, value)| (name.to_owned(), value));
            own.into_iter().chain(software).collect::<BTreeMap<_, _>>()
        };
        let (here, there) = (facts(self), facts(other));
        let names: BTreeSet<&String> = here.keys().chain(there.keys()).collect();
        let value = |facts: &BTreeMap<String, String>, name: &str| {
            facts.get(name).cloned().unwrap_or_else(|| "none".to_owned())
        };
        let of = |name: &String| Difference {
            name: name.clone(),
            here: value(&here, name),
            there: value(&there, name),
        };
        { names }.into_iter().map(of).filter(|found| found.here != found.there).collect()
    }
}

/// The SHA-256 of a file, in hexadecimal digits. O(its length).
pub fn sha256_of(path: &Path) -> io::Result<String> {
    let mut digest = Sha256::new();
    let mut file = File::open(path)?;
    let mut part = vec![0; 1 << 20];
    loop {
        match file.read(&mut part)? {
            0 => break,
            length => digest.update(&part[..length]),
        }
    }
    Ok(hex(&digest.finalize()))
}

/// The median and the 99th percentile of writes with `fsync`, in microseconds.
fn fsync_us(directory: &Path) -> io::Result<[f64; 2]> {
    let path = directory.join("fsync-probe");
    let mut file = File::create(&path)?;
    let block = [0x5a_u8; PROBE_BYTES];
    let mut times = Vec::with_capacity(PROBES);
    for _ in 0..PROBES {
        let began = Instant::now();
        file.write_all(&block)?;
        file.sync_all()?;
        times.push(began.elapsed().as_nanos() as f64 / 1e3);
    }
    fs::remove_file(path)?;
    times.sort_unstable_by(f64::total_cmp);
    Ok([times[PROBES / 2], times[PROBES * 99 / 100]])
}

/// The type of the file system that `path` is on, by the longest mount point above it.
fn file_system(path: &Path) -> Option<String> {
    let path = fs::canonicalize(path).ok()?;
    let mounts = fs::read_to_string("/proc/self/mounts").ok()?;
    let above = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        let (point, kind) = (fields.next()?, fields.next()?);
        path.starts_with(point).then(|| (point.len(), kind.to_owned()))
    });
    above.max_by_key(|(length, _)| *length).map(|(_, kind)| kind)
}

/// What the host has taken from this machine so far, in seconds of all processors.
#[must_use]
pub fn steal_seconds() -> f64 {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let ticks = stat.lines().next().and_then(|line| line.split_whitespace().nth(8)?.parse().ok());
    ticks.unwrap_or(0.0) / TICKS_A_SECOND
}

/// The unit of times in `/proc`, on every platform that Linux runs on.
const TICKS_A_SECOND: f64 = 100.0;

/// Processor time that this process has used so far, also in threads that have ended, in seconds.
#[must_use]
pub fn own_processor_seconds() -> f64 {
    let used = clock_gettime(ClockId::ProcessCPUTime);
    used.tv_sec as f64 + used.tv_nsec as f64 / 1e9
}

/// How much the sum of a process may be wrong, in seconds: a step of user and of system time.
const STEPS: f64 = 2.0 / TICKS_A_SECOND;

/// What a process has used so far.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Used {
    /// Processor time of each of its threads by its id, in nanoseconds, without those that have
    /// ended.
    threads_ns: BTreeMap<u32, u64>,
    /// Processor time of all its threads, those included that have ended, in steps of ten
    /// milliseconds.
    ticks: u64,
    /// How many processes that is of, each with steps of its own.
    processes: u32,
    /// Bytes that it had written to storage, or that wait to be; none if the kernel does not tell
    /// this process, as of one of another user.
    pub written_bytes: Option<u64>,
    /// The most memory that it has had at once, in bytes.
    pub peak_memory_bytes: u64,
}

impl Used {
    /// By a server of several processes, of which this is the first, and the others its children.
    /// What children used that have ended is in the ticks.
    #[must_use]
    pub fn by_family(first: u32) -> Self {
        let children = fs::read_to_string(format!("/proc/{first}/task/{first}/children"));
        let children = children.unwrap_or_default();
        let ids = children.split_whitespace().filter_map(|id| id.parse::<u32>().ok());
        let mut all = Self::by(first);
        for child in ids.map(Self::by) {
            all.threads_ns.extend(child.threads_ns);
            all.ticks += child.ticks;
            let written = all.written_bytes.zip(child.written_bytes);
            all.written_bytes = written.map(|(sum, more)| sum + more);
            all.peak_memory_bytes = all.peak_memory_bytes.max(child.peak_memory_bytes);
            all.processes += 1;
        }
        let stat = fs::read_to_string(format!("/proc/{first}/stat")).unwrap_or_default();
        all.ticks += ticks_of_ended(&stat).unwrap_or_default();
        all
    }

    /// By the process with this id; nothing of one that has ended.
    #[must_use]
    pub fn by(process: u32) -> Self {
        let read = |file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
        let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
        let ns_of = |thread: fs::DirEntry| {
            let id = thread.file_name().to_str()?.parse::<u32>().ok()?;
            let schedule = fs::read_to_string(thread.path().join("schedstat")).ok()?;
            Some((id, schedule.split(' ').next()?.parse::<u64>().ok()?))
        };
        let number = |text: io::Result<String>, name: &str| {
            let text = text.unwrap_or_default();
            let found = text.lines().find_map(|line| {
                line.strip_prefix(name)?.trim().trim_end_matches(" kB").parse::<u64>().ok()
            });
            found.unwrap_or_default()
        };
        let stat = read("stat").ok();
        Self {
            threads_ns: threads.filter_map(ns_of).collect(),
            ticks: stat.as_deref().and_then(ticks_used).unwrap_or_default(),
            processes: u32::from(stat.is_some()),
            written_bytes: match read("io") {
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => None,
                io => Some(number(io, "write_bytes:")),
            },
            peak_memory_bytes: number(read("status"), "VmHWM:") << 10,
        }
    }

    /// Processor time since `earlier`, in seconds, by what each thread has used that is there now.
    /// Of one that has ended since, up to 20 ms may be missing.
    #[must_use]
    pub fn seconds_since(&self, earlier: &Self) -> f64 {
        let since = |(thread, ns): (&u32, &u64)| {
            ns.saturating_sub(earlier.threads_ns.get(thread).copied().unwrap_or(0))
        };
        let by_threads = self.threads_ns.iter().map(since).sum::<u64>() as f64 / 1e9;
        let of_all = self.ticks.saturating_sub(earlier.ticks) as f64 / TICKS_A_SECOND;
        // More than the steps explain: a thread has ended.
        let steps = STEPS * f64::from(self.processes.max(earlier.processes).max(1));
        if of_all > by_threads + steps { of_all } else { by_threads }
    }
}

/// User and system time of a process, ended threads included, by its `/proc/PID/stat`. The second
/// field is its name, in parentheses, which may hold anything.
fn ticks_used(stat: &str) -> Option<u64> {
    let [user, system, ..] = ticks(stat)?;
    Some(user + system)
}

/// The same of its children that have ended.
fn ticks_of_ended(stat: &str) -> Option<u64> {
    let [.., user, system] = ticks(stat)?;
    Some(user + system)
}

/// User and system time of a process, and of its children that have ended.
fn ticks(stat: &str) -> Option<[u64; 4]> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let times = fields.split(' ').skip(11).take(4).map(|field| field.parse::<u64>().ok());
    times.collect::<Option<Vec<_>>>()?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_known() {
        let directory = tempfile::tempdir().unwrap();
        let program = std::env::current_exe().unwrap();
        let machine = Machine::look(&program, directory.path()).unwrap();
        assert!(machine.cores > 0 && machine.memory_bytes > 0, "{machine:?}");
        assert!(!machine.system.is_empty() && !machine.file_system.is_empty(), "{machine:?}");
        assert!(0.0 < machine.fsync_p50_us && machine.fsync_p50_us <= machine.fsync_p99_us);
        let other = |change: fn(&mut Machine)| {
            let mut other = machine.clone();
            change(&mut other);
            let differences = machine.differences(&other).into_iter();
            differences.map(|difference| difference.name).collect::<Vec<_>>()
        };
        assert!(other(|other| other.fsync_p50_us = 1.0).is_empty());
        assert_eq!(other(|other| other.cores += 1), ["cores"]);
        let changed = other(|other| {
            other.software.remove("sqlite");
            other.software.insert("postgres".to_owned(), "15.8".to_owned());
        });
        assert_eq!(changed, ["postgres", "sqlite"]);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0, "the probe is gone");
    }

    #[test]
    fn a_process_is_known_by_what_it_has_used() {
        let before = Used::by(std::process::id());
        let began = Instant::now();
        // Until the kernel has counted it.
        loop {
            let used = Used::by(std::process::id());
            if used.seconds_since(&before) > 0.0 {
                assert!(used.peak_memory_bytes > 0);
                break;
            }
            assert!(began.elapsed().as_secs() < 60, "nothing was counted");
        }
        let nothing = Used { written_bytes: Some(0), ..Used::default() };
        assert_eq!(Used::by(u32::MAX), nothing);
    }

    #[test]
    fn what_a_thread_used_that_has_ended_is_known() {
        let (before, began) = (Used::by(std::process::id()), own_processor_seconds());
        let thread = std::thread::spawn(|| {
            let used = || clock_gettime(ClockId::ThreadCPUTime).tv_nsec;
            while used() < 200_000_000 {}
        });
        thread.join().unwrap();
        // Of this process all is known; of another, all but some steps.
        let all = own_processor_seconds() - began;
        assert!(all >= 0.2, "{all}");
        let used = Used::by(std::process::id()).seconds_since(&before);
        assert!(used >= all - 0.05, "{used} s of {all} s");
    }

    /// As those of Postgres, each session of which is one.
    #[test]
    fn what_children_use_is_known_while_they_run_and_after() {
        let used = |used: Used| used.ticks as f64 / TICKS_A_SECOND;
        let script = "i=0; while [ $i -lt 300000 ]; do i=$((i+1)); done; ";
        let family = |script: String| {
            let mut shell = std::process::Command::new("sh");
            shell.args(["-c", &script]).stdin(std::process::Stdio::piped()).spawn().unwrap()
        };
        // It ends in the end, when its parent has waited for it.
        let mut shell = family(format!("sh -c '{script}'; read -r line"));
        let began = Instant::now();
        while used(Used::by_family(shell.id())) < 0.03 {
            assert!(began.elapsed().as_secs() < 60, "nothing was counted");
        }
        let children = format!("/proc/{0}/task/{0}/children", shell.id());
        while !fs::read_to_string(&children).unwrap().is_empty() {
            assert!(began.elapsed().as_secs() < 60, "the child has not ended");
        }
        assert!(used(Used::by_family(shell.id())) >= 0.03);
        assert!(used(Used::by(shell.id())) < 0.03, "it has done next to nothing itself");
        drop(shell.stdin.take());
        shell.wait().unwrap();
    }

    #[test]
    fn a_thread_that_ends_takes_nothing_from_what_others_use() {
        let used = |threads: &[(u32, u64)], ticks| {
            let threads_ns = threads.iter().map(|(id, ms)| (*id, ms * 1_000_000)).collect();
            Used { threads_ns, ticks, ..Used::default() }
        };
        // The first had used five seconds, the third has used half of one. All of them have used
        // 2.5 s since, or 2.7 s if the first has used something before it ended.
        let before = used(&[(1, 5_000), (2, 1_000)], 600);
        for (ticks, seconds) in [(850, 2.5), (852, 2.5), (849, 2.5), (870, 2.7)] {
            let after = used(&[(2, 3_000), (3, 500)], ticks);
            assert!((after.seconds_since(&before) - seconds).abs() < 1e-9, "{ticks}");
        }
        // One that ended before makes nothing less exact.
        let (before, after) = (used(&[(2, 1_000)], 900), used(&[(2, 1_003)], 900));
        assert!((after.seconds_since(&before) - 0.003).abs() < 1e-9);
    }

    /// The kernel tells this of processes of other users to whoever may trace them.
    #[test]
    fn what_a_process_wrote_is_not_known_where_the_kernel_does_not_tell() {
        let own = std::process::id();
        assert!(Used::by(own).written_bytes.is_some());
        // One that has ended, or never was.
        assert_eq!(Used::by(u32::MAX >> 1).written_bytes, Some(0));
        let untold = |id: &u32| {
            let io = fs::read_to_string(format!("/proc/{id}/io"));
            io.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
        };
        let all = fs::read_dir("/proc").unwrap().flatten();
        let mut ids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        // Of root with all its rights there is none.
        if let Some(id) = ids.find(untold) {
            assert_eq!(Used::by(id).written_bytes, None);
        }
    }
}
