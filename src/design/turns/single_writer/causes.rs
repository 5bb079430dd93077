//! Why leadership begins and ends.

/// How leadership was gained.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// Nobody had it.
    Free,
    /// The lease of whoever had it ran out.
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
            Self::TakenOver => "taken over",
            Self::InDoubt => "in doubt",
        }
    }

    /// Whether it was taken from this process.
    pub(super) fn is_loss(self) -> bool {
        matches!(self, Self::Lease | Self::TakenOver)
    }
}
