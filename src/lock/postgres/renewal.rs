//! The thread that lets the server hear of every session that holds a lock, so that it keeps them.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread;
use std::time::Duration;

use super::sessions::Sessions;
use crate::db::IDLE_FOR;
use crate::db::watch;
use crate::failpoint;
use crate::lock::LockError;
use crate::lock::gate::lock;

/// Every grant that was given since it was last looked through.
pub(super) type Holds = Mutex<Vec<Weak<dyn Renewable>>>;

/// What the server must hear of before its lease is over.
pub(super) trait Renewable: Send + Sync {
    /// Lets the server hear of it.
    fn renew(&self) -> Result<(), LockError>;

    /// For people.
    fn name(&self) -> String;
}

/// Starts the thread that renews leases and closes old sessions for as long as the lock is open. If
/// the server does not answer it, another one takes its place: sessions that it does answer are to
/// be kept.
pub(super) fn start_renewal(
    holds: Weak<Holds>,
    sessions: Weak<Sessions>,
    lease: Duration,
) -> io::Result<()> {
    let renew_all = move || {
        let is_replaced = Arc::<AtomicBool>::default();
        loop {
            thread::sleep((lease / 4).min(IDLE_FOR / 4));
            let (Some(held), Some(kept)) = (holds.upgrade(), sessions.upgrade()) else { return };
            let (next_holds, next_sessions) = (Weak::clone(&holds), Weak::clone(&sessions));
            let replaced = Arc::clone(&is_replaced);
            let given_up = move |_: watch::GivenUp| {
                match start_renewal(next_holds, next_sessions, lease) {
                    Ok(()) => replaced.store(true, Ordering::SeqCst),
                    // This one goes on when the server answers.
                    Err(error) => log::error!("no thread can be started to renew leases: {error}"),
                }
            };
            watch::watched(given_up, || {
                // Others are to be heard of before their leases are over.
                let is_limited = !failpoint::is_off("lock.postgres.renewal-limit");
                let limited = is_limited.then(|| watch::limited(lease / 2));
                renew(&held);
                drop(limited);
                kept.close_old();
                watch::disarm()
            });
            if is_replaced.load(Ordering::SeqCst) {
                return;
            }
        }
    };
    thread::Builder::new().name("lock-renewal".to_owned()).spawn(renew_all).map(drop)
}

/// Lets the server hear of every session that holds a lock.
fn renew(holds: &Holds) {
    // Not held meanwhile: whoever lets go of a lock while another session is waited for gives it
    // back.
    let living: Vec<Weak<dyn Renewable>> = {
        let mut holds = lock(holds);
        holds.retain(|hold| hold.strong_count() > 0);
        holds.clone()
    };
    // The newest first: of two servers, the one that does not answer has the older ones.
    for hold in living.iter().rev().filter_map(Weak::upgrade) {
        if watch::is_given_up() {
            return;
        }
        if failpoint::is_off("lock.postgres.renewal") {
            continue;
        }
        // Who commits asks again, and is told.
        if let Err(error) = hold.renew() {
            log::warn!("lock {}: its lease could not be renewed: {error}", hold.name());
        }
    }
}
