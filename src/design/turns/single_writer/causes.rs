//! Why leadership begins and ends.

/// How leadership was gained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody had it.
    Free,
    /// Whoever had it was not heard of until its lease ran out, or did not give it up in order.
    LeaseRanOut,
    /// Whoever had it gave it up for this process.
    HandedOver,
}

/// How leadership ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    /// Nobody wrote for long.
    Idle,
    /// Another graph was to be led, and there were as many as there may be.
    Limit,
    /// A successor waited for it.
    HandedOver,
    /// This process ends.
    Closing,
    /// The lease ran out, or may have.
    Lease,
    /// The database did not answer for a lease.
    Database,
    /// Another node has taken over.
    TakenOver,
    /// What became of a commit is not known: the next take-over, by whomever, settles it.
    InDoubt,
}

impl Cause {
    /// For labels.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::LeaseRanOut => "lease ran out",
            Self::HandedOver => "handed over",
        }
    }
}

impl Ended {
    /// For labels.
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Limit => "limit",
            Self::HandedOver => "handed over",
            Self::Closing => "closing",
            Self::Lease => "lease",
            Self::Database => "database",
            Self::TakenOver => "taken over",
            Self::InDoubt => "in doubt",
        }
    }

    /// Whether it was taken from this process.
    pub(super) fn is_loss(self) -> bool {
        matches!(self, Self::Lease | Self::Database | Self::TakenOver)
    }

    /// Whether others are still told that this process leads the graph, unless another node does.
    pub(super) fn leaves_note(self) -> bool {
        match self {
            Self::Lease | Self::Database | Self::InDoubt => true,
            // It was taken back before.
            Self::Idle | Self::Limit => false,
            // The next leader notes itself; the successor is waited for by that note.
            Self::TakenOver | Self::HandedOver => false,
            // All notes of the process go.
            Self::Closing => false,
        }
    }
}
