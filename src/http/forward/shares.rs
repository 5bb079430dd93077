//! What all writes that are passed on share, and how much of it those to one leader may have.
//!
//! A leader that has nothing takes whatever is free. One that has something gets more as long as
//! that is no more than [three times](TIMES_FREE) what it leaves free. So one slow leader has three
//! quarters at most; each slow one beside it has three quarters of what the others have left; and
//! when what they had comes back, n of them have n·3 parts of n·3 + 1. Something stays free.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rocket::tokio::sync::Notify;
use rocket::tokio::sync::futures::Notified;

/// How much a leader may have, times what is free then.
const TIMES_FREE: usize = 3;

/// Writes, and the bytes of their bodies.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Amount {
    pub(super) writes: usize,
    pub(super) bytes: usize,
}

impl Amount {
    fn plus(self, more: Self) -> Self {
        Self { writes: self.writes + more.writes, bytes: self.bytes + more.bytes }
    }

    fn minus(self, less: Self) -> Self {
        Self { writes: self.writes - less.writes, bytes: self.bytes - less.bytes }
    }
}

/// So much in all.
pub(super) struct Shares {
    most: Amount,
    used: Mutex<Used>,
    given_back: Notify,
}

#[derive(Default)]
struct Used {
    all: Amount,
    /// Those that have something.
    by_leader: HashMap<Arc<str>, Amount>,
}

impl Shares {
    pub(super) fn new(most: Amount) -> Arc<Self> {
        Arc::new(Self { most, used: Mutex::default(), given_back: Notify::new() })
    }

    /// So much for that leader, if it may have it now. Of a body that is larger than one leader may
    /// have at all, only so much is counted.
    pub(super) fn try_take(self: &Arc<Self>, leader: &Arc<str>, amount: Amount) -> Option<Share> {
        let longest = self.most.bytes / (TIMES_FREE + 1) * TIMES_FREE;
        let amount = Amount { bytes: amount.bytes.min(longest), ..amount };
        let mut used = self.used();
        let has = used.by_leader.get(leader).copied().unwrap_or_default();
        let free = self.most.minus(used.all);
        let fits = may_have(has.writes, amount.writes, free.writes)
            && may_have(has.bytes, amount.bytes, free.bytes);
        if !fits {
            return None;
        }
        used.all = used.all.plus(amount);
        used.by_leader.insert(Arc::clone(leader), has.plus(amount));
        Some(Share { of: Arc::clone(self), leader: Arc::clone(leader), amount })
    }

    /// Ends when something is given back from now on.
    pub(super) fn given_back(&self) -> Notified<'_> {
        self.given_back.notified()
    }

    fn used(&self) -> MutexGuard<'_, Used> {
        self.used.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a leader that `has` so much may have `more` of what is `free`.
fn may_have(has: usize, more: usize, free: usize) -> bool {
    let is_in_proportion = || has == 0 || has + more <= TIMES_FREE * (free - more);
    more == 0 || (more <= free && is_in_proportion())
}

/// What was taken. Given back when dropped.
pub(super) struct Share {
    of: Arc<Shares>,
    leader: Arc<str>,
    amount: Amount,
}

impl Share {
    /// Splits a part off, to be given back by itself.
    pub(super) fn split_off(&mut self, part: Amount) -> Self {
        self.amount = self.amount.minus(part);
        Self { of: Arc::clone(&self.of), leader: Arc::clone(&self.leader), amount: part }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut used = self.of.used();
        used.all = used.all.minus(self.amount);
        if let Some(has) = used.by_leader.get_mut(&self.leader) {
            *has = has.minus(self.amount);
            if *has == Amount::default() {
                used.by_leader.remove(&self.leader);
            }
        }
        drop(used);
        self.of.given_back.notify_waiters();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRITE: Amount = Amount { writes: 1, bytes: 0 };

    fn of_writes(writes: usize) -> Arc<Shares> {
        Shares::new(Amount { writes, bytes: 1 << 20 })
    }

    /// As many as that leader gets.
    fn all_for(shares: &Arc<Shares>, leader: &str) -> Vec<Share> {
        let leader = Arc::from(leader);
        std::iter::from_fn(|| shares.try_take(&leader, WRITE)).collect()
    }

    #[test]
    fn each_slow_leader_leaves_a_quarter_of_what_it_has_found() {
        let shares = of_writes(256);
        let slow = ["a", "b", "c", "d"].map(|leader| all_for(&shares, leader));
        assert_eq!(slow.each_ref().map(Vec::len), [192, 48, 12, 3]);
        assert_eq!(all_for(&shares, "e").len(), 1, "the last one goes to whoever has none");
    }

    #[test]
    fn slow_leaders_get_equal_parts_once_what_they_had_has_come_back() {
        let shares = of_writes(260);
        let (mut first, mut second) = (all_for(&shares, "a"), all_for(&shares, "b"));
        assert_eq!((first.len(), second.len()), (195, 48));
        for _ in 0..1_000 {
            // One comes back from each, and another is asked for.
            drop((first.pop(), second.pop()));
            second.extend(all_for(&shares, "b"));
            first.extend(all_for(&shares, "a"));
        }
        let apart = first.len().abs_diff(second.len());
        assert!(apart <= 4, "{} and {}", first.len(), second.len());
        assert!(all_for(&shares, "c").len() >= 260 / 10);
    }

    #[test]
    fn bytes_are_shared_as_writes_are_and_what_is_given_back_is_free_again() {
        let shares = Shares::new(Amount { writes: 100, bytes: 64 });
        let [a, b] = ["a", "b"].map(Arc::<str>::from);
        let body = |bytes| Amount { writes: 1, bytes };
        let mut first = shares.try_take(&a, body(48)).unwrap();
        assert!(shares.try_take(&a, body(1)).is_none());
        assert!(shares.try_take(&a, WRITE).is_some(), "it has no body");
        let second = shares.try_take(&b, body(16)).unwrap();
        assert!(shares.try_take(&b, body(1)).is_none());
        let of_body = first.split_off(Amount { writes: 0, bytes: 48 });
        drop(first);
        assert!(shares.try_take(&a, body(1)).is_none(), "the body is still there");
        drop((of_body, second));
        assert_eq!(shares.used().all, Amount::default());
        assert!(shares.used().by_leader.is_empty());
        let large = shares.try_take(&a, body(1_000));
        assert!(large.is_some() && shares.try_take(&b, body(16)).is_some(), "it counts as 48");
    }
}
