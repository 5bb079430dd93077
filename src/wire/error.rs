//! Why a request's JSON is no operation.

use crate::graph::InvalidName;

/// Why a document that is JSON is still no operation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidOperation {
    /// Fields or types are wrong; `at` is a path such as `operations[3].inputs`.
    #[error("{at}: {reason}")]
    Malformed {
        /// Where in the document.
        at: String,
        /// What is wrong there, in words.
        reason: String,
    },
    /// A name breaks the rules for names.
    #[error("{at}: {reason}")]
    Name {
        /// Where in the document.
        at: String,
        /// What is wrong with it.
        reason: InvalidName,
    },
}

impl InvalidOperation {
    pub(super) fn malformed(at: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Malformed { at: at.into(), reason: reason.into() }
    }

    /// The same error in an enclosing document: puts `prefix` before the path.
    #[must_use]
    pub fn within(self, prefix: &str) -> Self {
        let join =
            |at: String| if at.is_empty() { prefix.to_owned() } else { format!("{prefix}.{at}") };
        match self {
            Self::Malformed { at, reason } => Self::Malformed { at: join(at), reason },
            Self::Name { at, reason } => Self::Name { at: join(at), reason },
        }
    }
}
