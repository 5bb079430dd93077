//! What the change log is to a graph: the one property of storages that the rest of the program
//! asks for, instead of which storage it is.

/// What the change log is to a graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum History {
    /// It tells how the graph came to be, beside what the graph is. Its beginning can be pruned.
    Beside,
    /// It is all there is of the graph: a load reads it from its first version on, so nothing of it
    /// can be pruned.
    Whole,
    /// It has no changes, only the attempts that made them.
    None,
}

impl History {
    /// What to do where what is stored of a graph is damaged, for people. Only a log beside the
    /// graph has something to compare the graph with.
    pub(super) fn advice(self) -> &'static str {
        match self {
            Self::Beside => "`fencepost check-rows` names all that is damaged",
            Self::Whole | Self::None => "restore the database from a backup",
        }
    }
}
