//! What is acknowledged is on the disk. Killing processes cannot show that, for the page cache
//! outlives them; counting syncs can.

use std::process::Command;

use fencepost::db::commits_in_log;

use crate::support::cluster::{SERVE, Server, Site};
use crate::support::storm::audit;

/// While `writes` writes were acknowledged, one after another: how often the WAL was synced, and
/// how many commits came into it.
fn syncs_and_commits_during(writes: u64, failpoints: &str) -> (usize, u64) {
    let strace = Command::new("strace").arg("-V").output();
    assert!(
        strace.is_ok_and(|output| output.status.success()),
        "this test needs `strace`: apt-get install strace"
    );
    let site = Site::with_graph();
    let trace = site.path("trace");
    let fencepost = site.fencepost(&SERVE);
    let mut command = Command::new("strace");
    // -D: the server is our own child, so that it is what gets killed; -y: calls tell the paths of
    // their descriptors.
    command.args(["-D", "-f", "-y", "-e", "trace=fsync,fdatasync", "-o"]).arg(&trace);
    command.arg(fencepost.get_program()).args(fencepost.get_args());
    command
        .env("FENCEPOST_DATABASE_URL", site.database_url())
        .env("FENCEPOST_FAILPOINTS", failpoints);
    let server = Server::start(command);
    let syncs = || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let of_wal = |line: &&str| line.contains("sync(") && line.contains("fencepost.db-wal>");
        text.lines().filter(of_wal).count()
    };
    let commits = || commits_in_log(&site.path("fencepost.db"));
    let before = (syncs(), commits().unwrap_or(0));
    for n in 0..writes {
        assert_eq!(server.put_job(&format!("j{n}"), &["x"], &[]).unwrap().version(), n + 2);
    }
    let during = (syncs() - before.0, commits().unwrap() - before.1);
    drop(server);
    assert_eq!(audit(&site).version, writes + 1);
    during
}

#[test]
fn each_acknowledged_write_was_synced() {
    const WRITES: u64 = 25;
    let (syncs, commits) = syncs_and_commits_during(WRITES, "");
    assert!(syncs >= WRITES as usize, "{WRITES} writes were acknowledged after {syncs} syncs");
    // What the benchmark counts. The first in a new log syncs its head too.
    assert_eq!(commits, WRITES);
    assert!([commits, commits + 1].contains(&(syncs as u64)), "{syncs} for {commits} commits");
}

/// The negative control: without `synchronous=FULL` everything else passes, and this count tells.
#[test]
fn without_the_setting_the_count_of_syncs_tells() {
    const WRITES: u64 = 25;
    let (syncs, _) = syncs_and_commits_during(WRITES, "synchronous=off");
    assert!(syncs < WRITES as usize, "the count would not tell: {syncs} syncs");
}
