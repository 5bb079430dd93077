//! What became of a request.

use super::request::Outcome;

/// What became of a request, as far as a measurement cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Class {
    /// Accepted, answered or not modified.
    Served,
    /// Decided against, on the graph: a right answer too.
    Rejected,
    /// Not served and not applied: the service was contended, or away from its database or lock.
    Refused,
    /// No connection, an unknown outcome, or an answer that is not documented.
    Failed,
}

impl Class {
    /// All, in order.
    pub const ALL: [Self; 4] = [Self::Served, Self::Rejected, Self::Refused, Self::Failed];

    /// What it is called in reports.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Served => "served",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    /// Whether the service did its work: only such requests are in rates and in percentiles of all.
    #[must_use]
    pub fn is_completed(self) -> bool {
        matches!(self, Self::Served | Self::Rejected)
    }

    /// That of an answer.
    #[must_use]
    pub fn of(outcome: &Outcome) -> Self {
        match outcome {
            Outcome::Accepted(_) | Outcome::Answered { .. } | Outcome::NotModified { .. } => {
                Self::Served
            }
            Outcome::Rejected { .. } => Self::Rejected,
            Outcome::Refused { .. } => Self::Refused,
            Outcome::Unreachable(_) | Outcome::Unknown { .. } | Outcome::Undocumented(_) => {
                Self::Failed
            }
        }
    }
}
