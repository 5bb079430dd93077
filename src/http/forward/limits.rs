//! Bounds of passing writes on.

use std::time::Duration;

use super::envelope::ARRIVES_WITHIN;

/// Bounds of passing writes on to other nodes. Of those in number and in bytes one leader has three
/// quarters at most, and gets more only as long as it has no more than three times what is free.
#[derive(Debug, Clone, Copy)]
pub struct ForwardLimits {
    /// Writes that are under way at once, each on a connection of its own.
    pub connections: usize,
    /// The bytes of their bodies together, and of those whose outcome is being learnt.
    pub bytes: usize,
    /// Writes that wait until others have come back.
    pub waiting: usize,
    /// The bytes of their bodies together.
    pub waiting_bytes: usize,
    /// How long they wait.
    pub waits: Duration,
    /// How long it may take to connect, and to learn who answers.
    pub connects_within: Duration,
    /// How long an answer may take, before it is asked what became of the write; and for how long a
    /// write is sent again that did not get there.
    pub answers_within: Duration,
    /// How long it is tried to learn what became of a write whose answer was lost: longer than a
    /// lease, since another node takes over after that.
    pub settles_within: Duration,
}

impl Default for ForwardLimits {
    fn default() -> Self {
        Self {
            connections: 256,
            bytes: 64 << 20,
            waiting: 1_024,
            waiting_bytes: 64 << 20,
            waits: Duration::from_secs(2),
            connects_within: Duration::from_secs(2),
            answers_within: ARRIVES_WITHIN,
            settles_within: Duration::from_secs(15),
        }
    }
}
