//! Starts Rocket, and ends it when the process is told to end.
//!
//! Rocket 0.5 waits for signals in a task of its own, beside the one that takes connections. If a
//! signal comes while that one looks for connections, it finds that there are no more before it
//! finds that a shutdown has begun: it takes this for the end of all, and drops each request that
//! is under way, without an answer, and without what is to be done at a shutdown. Here one task
//! does both, one after the other.

use std::collections::HashSet;
use std::future::{Future, pending};
use std::io;
use std::pin::pin;
use std::time::Duration;

use rocket::config::Shutdown;
use rocket::tokio::select;
use rocket::tokio::signal::unix::{Signal, SignalKind, signal};
use rocket::{Build, Rocket};

/// How a server ends that [`launch`] has started: requests have so long to finish, and then
/// connections to be closed. At least a second each.
pub(super) fn ends_within(grace: Duration, mercy: Duration) -> Shutdown {
    let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
    Shutdown {
        ctrlc: false,
        signals: HashSet::new(),
        grace: seconds(grace),
        mercy: seconds(mercy),
        force: true,
        ..Shutdown::default()
    }
}

/// Serves until SIGINT or SIGTERM, and answers what was asked before.
///
/// # Errors
/// Rocket's, such as that the address is in use.
pub(super) fn launch(server: Rocket<Build>) -> Result<(), Box<rocket::Error>> {
    let launched = rocket::execute(async {
        let is_told = told_to_end();
        let server = server.ignite().await?;
        let shutdown = server.shutdown();
        let mut served = pin!(server.launch());
        select! {
            biased;
            ended = &mut served => return ended,
            () = is_told => shutdown.notify(),
        }
        served.await
    });
    launched.map(drop).map_err(Box::new)
}

/// Ends when the process is told to, from now on.
fn told_to_end() -> impl Future<Output = ()> {
    let signals = [SignalKind::interrupt(), SignalKind::terminate()].map(signal);
    async {
        let [interrupt, terminate] = signals.map(told);
        select! { () = interrupt => {} () = terminate => {} }
    }
}

async fn told(signal: io::Result<Signal>) {
    match signal {
        Ok(mut signal) => drop(signal.recv().await),
        Err(error) => {
            log::warn!("a signal to end would end the process at once: {error}");
            pending().await
        }
    }
}
