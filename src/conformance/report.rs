//! What came of the cases.

use std::fmt;
use std::time::Duration;

use super::case::{Case, Level};
use crate::terminal::OneLine;

/// What came of one case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// The server keeps the rule.
    Holds,
    /// It does not: what was expected, and what came.
    Broken(String),
    /// The server says that it does not have what the case is about.
    NotOffered(String),
}

/// A case that was run.
#[derive(Clone)]
pub struct Ended {
    /// Which.
    pub case: Case,
    /// What came of it.
    pub verdict: Verdict,
    /// How long it took, requests of its own graph's deletion included.
    pub took: Duration,
}

/// All cases of a level that were run.
#[derive(Clone)]
pub struct Report {
    /// Which level was asked for.
    pub level: Level,
    /// In the order in which they were run.
    pub ended: Vec<Ended>,
}

impl Report {
    /// The names of the cases that are broken.
    #[must_use]
    pub fn broken(&self) -> Vec<&'static str> {
        self.names(|verdict| matches!(verdict, Verdict::Broken(_)))
    }

    /// The names of the cases about what the server does not have.
    #[must_use]
    pub fn not_offered(&self) -> Vec<&'static str> {
        self.names(|verdict| matches!(verdict, Verdict::NotOffered(_)))
    }

    fn names(&self, is: impl Fn(&Verdict) -> bool) -> Vec<&'static str> {
        self.ended.iter().filter(|ended| is(&ended.verdict)).map(|ended| ended.case.name).collect()
    }
}

/// One line.
impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.case.name;
        match &self.verdict {
            Verdict::Holds => write!(f, "ok      {name}"),
            Verdict::Broken(how) => write!(f, "BROKEN  {name}: {}", OneLine(how)),
            Verdict::NotOffered(why) => write!(f, "skipped {name}: {}", OneLine(why)),
        }
    }
}

/// The last line: how many hold, and which do not.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (broken, not_offered) = (self.broken(), self.not_offered());
        let all = self.ended.len();
        let hold = all - broken.len() - not_offered.len();
        let level = self.level.name();
        write!(f, "{hold} of {all} cases of level {level} hold")?;
        for (what, names) in [("broken", broken), ("skipped", not_offered)] {
            if !names.is_empty() {
                write!(f, "; {what}: {}", names.join(", "))?;
            }
        }
        Ok(())
    }
}
