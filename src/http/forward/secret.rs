//! The secret by which nodes know each other.

use sha2::{Digest, Sha256};

/// What nodes sign with that pass writes on to each other. Not shown by `Debug`.
#[derive(Clone)]
pub struct ForwardSecret {
    key: Vec<u8>,
    /// Whether somebody gave it. If not, it is made of what everybody knows who can read the
    /// database: then it is used on one machine only.
    is_given: bool,
}

/// The shortest secret, in bytes.
const SHORTEST: usize = 16;

/// Why a text is no secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a secret has at least {SHORTEST} characters: make one with `openssl rand -hex 32`")]
pub struct TooShort;

impl ForwardSecret {
    /// The one that somebody gave, without white space at its ends.
    ///
    /// # Errors
    /// [`TooShort`]
    pub fn given(text: &str) -> Result<Self, TooShort> {
        let key = text.trim().as_bytes().to_vec();
        if key.len() < SHORTEST { Err(TooShort) } else { Ok(Self { key, is_given: true }) }
    }

    /// That of all nodes on one database, where none was given.
    pub(super) fn of_database(database_id: &str) -> Self {
        let key = Sha256::digest(format!("fencepost forward\n{database_id}")).to_vec();
        Self { key, is_given: false }
    }

    /// Whether it is good beyond one machine.
    pub(super) fn is_given(&self) -> bool {
        self.is_given
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.key
    }
}

impl std::fmt::Debug for ForwardSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ForwardSecret(***)")
    }
}
