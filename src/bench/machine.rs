//! The machine that the driver runs on: a figure without it says nothing.

use serde::Serialize;

/// As Linux tells it; `None` for what it does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// The processor's name.
    pub processor: Option<String>,
    /// How many processors this process may use.
    pub processors: Option<usize>,
    /// All of it, in bytes.
    pub memory_bytes: Option<u64>,
    /// The operating system and the release of its kernel.
    pub system: String,
}

impl Machine {
    /// This one. Reads some files of `/proc`.
    #[must_use]
    pub fn here() -> Self {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let memory = read("/proc/meminfo");
        let kibibytes = field(&memory, "MemTotal")
            .and_then(|size| size.strip_suffix("kB")?.trim().parse::<u64>().ok());
        let release = read("/proc/sys/kernel/osrelease");
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name").map(str::to_owned),
            processors: std::thread::available_parallelism().ok().map(usize::from),
            memory_bytes: kibibytes.map(|size| size << 10),
            system: format!("{} {}", std::env::consts::OS, release.trim()).trim().to_owned(),
        }
    }
}

/// The value in the first line `name: value`.
fn field<'t>(text: &'t str, name: &str) -> Option<&'t str> {
    text.lines().find_map(|line| {
        let (found, value) = line.split_once(':')?;
        (found.trim() == name).then(|| value.trim())
    })
}
