//! The chain of hashes over a graph's history, and a change as the log has it with its chain.
//!
//! Knows nothing of ours but how bytes are written in hex. The store has a chain with each change
//! and events carry it, so it is below both.

use std::fmt;

use sha2::{Digest, Sha256};

use crate::graph::{HEX_DIGITS, hex};

/// SHA-256 of the previous chain and a change's canonical bytes: two graphs with one chain have one
/// history.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    /// Of a graph without changes.
    pub const START: Self = Self([0; 32]);

    /// The chain after one more change, given as
    /// [`Change::canonical_json`](crate::graph::Change::canonical_json).
    #[must_use]
    pub fn next(self, canonical_change: &str) -> Self {
        let mut hash = Sha256::new();
        hash.update(self.0);
        hash.update(canonical_change);
        Self(hash.finalize().into())
    }

    /// The chain that 64 lower-case hexadecimal digits spell, as events have it.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut chain = [0; 32];
        let digits = text.as_bytes();
        if digits.len() != 2 * chain.len() {
            return None;
        }
        // Digits and letters come in random order: branches would be predicted wrongly.
        let mut wrong = 0;
        for (byte, pair) in chain.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (HEX_VALUES[usize::from(pair[0])], HEX_VALUES[usize::from(pair[1])]);
            wrong |= high | low;
            *byte = high << 4 | low & 15;
        }
        if wrong > 15 {
            return None;
        }
        Some(Self(chain))
    }
}

/// A chain as 64 hexadecimal digits.
impl fmt::Display for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Chain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex(&self.0))
    }
}

/// A change as the log has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoggedChange {
    /// The version that it made.
    pub version: u64,
    /// As
    /// [`Change::canonical_json`](crate::graph::Change::canonical_json).
    pub change: String,
    /// The hash over all changes up to it.
    pub chain: Chain,
    /// When it was written, in milliseconds since 1970.
    pub committed_at_ms: i64,
    /// Who asked for it.
    pub actor: Option<String>,
}

/// The value of each lower-case hexadecimal digit; 255 for every other byte.
const HEX_VALUES: [u8; 256] = {
    let (mut values, mut digit) = ([255; 256], 0);
    while digit < 16 {
        values[HEX_DIGITS[digit] as usize] = digit as u8;
        digit += 1;
    }
    values
};
