//! Fencing tokens: the number that tells a newer holder of a lock from an older one. Plain
//! arithmetic; knows no lock, no file and no database.

use std::fmt;

const COUNTER_BITS: u32 = 40;

/// A number given with each grant of an exclusive lock, larger than every one given before.
///
/// 63 bits: 23 of epoch above 40 of counter, so that it fits a signed 64-bit column and is ordered
/// there as it is here. The database raises the epoch; the lock counts within it. A lock that lost
/// its memory goes on in a new epoch, above all that it ever gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FencingToken(i64);

impl FencingToken {
    /// The largest epoch: at one a second, 97 days of a lock server that forgets everything each
    /// time.
    pub const MAX_EPOCH: u32 = (1 << (63 - COUNTER_BITS)) - 1;
    /// The largest counter: at a million grants a second, 12 days in one epoch.
    pub const MAX_COUNTER: u64 = (1 << COUNTER_BITS) - 1;

    /// The token `counter` of `epoch`; `None` if either is beyond its largest. Counter 0 is never
    /// given with a grant: it is what the database seals when it opens the epoch.
    #[must_use]
    pub const fn new(epoch: u32, counter: u64) -> Option<Self> {
        if epoch > Self::MAX_EPOCH || counter > Self::MAX_COUNTER {
            return None;
        }
        Some(Self(((epoch as i64) << COUNTER_BITS) | counter as i64))
    }

    /// The token as the database stores it; `None` for a negative number, which no token is.
    #[must_use]
    pub const fn from_i64(number: i64) -> Option<Self> {
        if number < 0 { None } else { Some(Self(number)) }
    }

    /// The number to store and to compare; never negative.
    #[must_use]
    pub const fn as_i64(self) -> i64 {
        self.0
    }

    /// The upper 23 bits.
    #[must_use]
    pub const fn epoch(self) -> u32 {
        (self.0 >> COUNTER_BITS) as u32
    }

    /// The lower 40 bits.
    #[must_use]
    pub const fn counter(self) -> u64 {
        self.0 as u64 & Self::MAX_COUNTER
    }

    /// Whether this is the token that was given right after `last`, with no grant between.
    #[must_use]
    pub const fn follows(self, last: Self) -> bool {
        matches!(last.next(), Some(next) if next.0 == self.0)
    }

    /// The next token of the same epoch; `None` when the epoch is used up and the database must
    /// open another.
    #[must_use]
    pub const fn next(self) -> Option<Self> {
        Self::new(self.epoch(), self.counter() + 1)
    }
}

impl fmt::Display for FencingToken {
    /// `EPOCH.COUNTER`, for log lines.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.epoch(), self.counter())
    }
}
