//! Why a case does not hold.

/// Why a case does not hold.
#[derive(Debug)]
pub enum Unmet {
    /// The server breaks the rule: what was expected, and what came.
    Broken(String),
    /// Nobody takes connections any more: nothing is said of this rule.
    Gone(String),
    /// The server says, as the surface lets it, that it does not have what the case is about.
    NotOffered(String),
}

/// How a case ends.
pub type Met = Result<(), Unmet>;
