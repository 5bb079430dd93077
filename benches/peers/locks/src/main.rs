//! Fencepost's Redis lock beside the lock crates that do part of the same job, on one Redis, in one
//! run. `README.md` has the figures.
//!
//! `cargo run --release --manifest-path benches/peers/locks/Cargo.toml`, with ` -- sweep` to try
//! every crate with many retry intervals instead. Starts a Redis of its own: `redis-server` must be
//! installed.

mod contest;
mod locks;
mod server;

use std::time::Duration;

use contest::{Outcome, Plan};
use locks::{Lock, Runtime, Subject};
use server::Server;

const ROUNDS: usize = 3;
const CONTENDED_FOR: Duration = Duration::from_secs(3);
const UNCONTENDED_FOR: Duration = Duration::from_secs(1);
const SWEPT_FOR: Duration = Duration::from_secs(1);
/// How long each holder stays when it is only asked whether the lock excludes.
const STAY: Duration = Duration::from_micros(100);

fn main() {
    let server = Server::start();
    println!("Redis {}, {}\n", server.version(), load());
    if std::env::args().any(|argument| argument == "sweep") {
        sweep(&server);
    } else {
        compare(&server);
    }
    println!("\n{}", load());
}

fn load() -> String {
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    format!("load {}", load.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn run(server: &Server, subject: &Subject, plan: Plan) -> Outcome {
    server.empty();
    let outcome = subject.contend(&server.url, plan);
    assert_eq!(outcome.counted, outcome.entered, "{} let two in at once", subject.name());
    outcome
}

fn plan(contenders: usize, time: Duration) -> Plan {
    Plan { contenders, time, stay: Duration::ZERO }
}

/// What is compared: the crates as they come, and with what [`sweep`] has shown to be best: for the
/// number of hand-offs, and for those to another.
fn subjects() -> Vec<Subject> {
    let on = |runtime| {
        move |lock, retry: Option<u64>| Subject {
            lock,
            retry: retry.map(Duration::from_millis),
            runtime,
        }
    };
    let (threads, one_thread) = (on(Runtime::Threads), on(Runtime::OneThread));
    vec![
        threads(Lock::Fencepost, None),
        threads(Lock::Rslock, None),
        one_thread(Lock::Rslock, Some(2)),
        threads(Lock::DistkitMutex, None),
        threads(Lock::DistkitMutex, Some(1)),
        threads(Lock::DistkitWrite, None),
        threads(Lock::DistkitWrite, Some(1)),
        threads(Lock::RlockMutex, None),
        one_thread(Lock::RlockMutex, Some(50)),
        threads(Lock::RlockWrite, None),
        threads(Lock::RlockWrite, Some(1)),
        threads(Lock::RlockSyncMutex, Some(1)),
        threads(Lock::RlockSyncWrite, None),
        threads(Lock::RlockSyncWrite, Some(1)),
        threads(Lock::RdsWrite, None),
        threads(Lock::RdsWrite, Some(1)),
        one_thread(Lock::RdsWrite, Some(50)),
    ]
}

/// Every subject in turn, again and again.
fn compare(server: &Server) {
    let subjects = subjects();
    for subject in &subjects {
        run(server, subject, Plan { contenders: 16, time: Duration::from_millis(500), stay: STAY });
    }
    let mut outcomes: Vec<[Vec<Outcome>; 3]> =
        subjects.iter().map(|_| Default::default()).collect();
    for _ in 0..ROUNDS {
        for (subject, [alone, two, sixteen]) in subjects.iter().zip(&mut outcomes) {
            alone.push(run(server, subject, plan(1, UNCONTENDED_FOR)));
            two.push(run(server, subject, plan(2, CONTENDED_FOR)));
            sixteen.push(run(server, subject, plan(16, CONTENDED_FOR)));
        }
    }
    println!(
        "| lock | retry | alone | 2: hand-offs | 2: to another | 16: hand-offs | 16: to another | least, most | longest wait |"
    );
    println!("|---|---|---:|---:|---:|---:|---:|---:|---:|");
    for (subject, [alone, two, sixteen]) in subjects.iter().zip(&outcomes) {
        println!(
            "| {} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} | {:.1}, {:.1} | {:.0} |",
            subject.name(),
            subject.setting(),
            median(alone, Outcome::per_second),
            median(two, Outcome::per_second),
            median(two, Outcome::to_another),
            median(sixteen, Outcome::per_second),
            median(sixteen, Outcome::to_another),
            median(sixteen, |outcome| outcome.share(outcome.least)),
            median(sixteen, |outcome| outcome.share(outcome.most)),
            median(sixteen, |outcome| outcome.longest_wait.as_secs_f64() * 1e3),
        );
    }
    let fastest = |of: fn(&Outcome) -> f64, at: usize| {
        let best =
            outcomes[1..].iter().map(|by_crowd| median(&by_crowd[at], of)).fold(f64::MIN, f64::max);
        median(&outcomes[0][at], of) / best
    };
    println!("\nFencepost to the best of the others:");
    println!("- alone: {:.2}", fastest(Outcome::per_second, 0));
    println!(
        "- 2 contenders: {:.2}; to another {:.2}",
        fastest(Outcome::per_second, 1),
        fastest(Outcome::to_another, 1)
    );
    println!(
        "- 16 contenders: {:.2}; to another {:.2}",
        fastest(Outcome::per_second, 2),
        fastest(Outcome::to_another, 2)
    );
}

fn median(outcomes: &[Outcome], of: impl Fn(&Outcome) -> f64) -> f64 {
    let mut values: Vec<f64> = outcomes.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// One short run of each crate with each interval, among 16 contenders.
fn sweep(server: &Server) {
    println!("| lock | retry | 16: hand-offs | 16: to another | longest wait |");
    println!("|---|---|---:|---:|---:|");
    for lock in Lock::PEERS {
        for &runtime in lock.runtimes() {
            for retry in [None, Some(1), Some(2), Some(5), Some(10), Some(20), Some(50)] {
                let subject = Subject { lock, retry: retry.map(Duration::from_millis), runtime };
                let outcome = run(server, &subject, plan(16, SWEPT_FOR));
                println!(
                    "| {} | {} | {:.0} | {:.0} | {:.0} |",
                    subject.name(),
                    subject.setting(),
                    outcome.per_second(),
                    outcome.to_another(),
                    outcome.longest_wait.as_secs_f64() * 1e3,
                );
            }
        }
    }
}
