//! What can go wrong with a database, and what the caller should do about it.

use std::fmt::Display;
use std::path::PathBuf;

use super::causes;

/// What can go wrong between us and the database.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The URL names no database that Fencepost can use.
    #[error(
        "`{url}` is no database URL: {reason}; give sqlite:PATH or postgres://USER@HOST/DATABASE"
    )]
    Url {
        /// As it was given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no such file, and the caller creates none.
    #[error(
        "there is no database {database}; look at --database-url, or run `fencepost migrate` to \
         make it"
    )]
    NotThere {
        /// Where it was looked for.
        database: String,
    },
    /// There are none of our tables, and the caller creates none.
    #[error(
        "{database} has no tables of Fencepost; look at --database-url, or run `fencepost \
         migrate` to make them"
    )]
    NoTables {
        /// Where they were looked for.
        database: String,
    },
    /// An older program made the tables, and the caller, which only reads, does not change them.
    #[error("{database} has an older schema; `fencepost migrate` brings it up to date")]
    OlderSchema {
        /// Where they were looked for.
        database: String,
    },
    /// Another application has its tables there. Nothing was changed.
    #[error(
        "the database belongs to another application: its table __diesel_schema_migrations has \
         migration {version}, and none of Fencepost's; give Fencepost a database of its own"
    )]
    Foreign {
        /// One of the migrations there.
        version: String,
    },
    /// Another application has its tables there, and there are none of ours. Nothing was changed.
    #[error(
        "{database} has a table `{table}` of another application, and none of Fencepost's; look at \
         --database-url, or run `fencepost migrate` to put Fencepost's tables beside the others"
    )]
    OthersTables {
        /// Where they were found.
        database: String,
        /// One of them.
        table: String,
    },
    /// The encoding of the database is not UTF-8, so it cannot store every name.
    #[error("{database} is of encoding {encoding}; give Fencepost a database of encoding UTF8")]
    Encoding {
        /// Which database.
        database: String,
        /// As it names it.
        encoding: String,
    },
    /// The file was overwritten beside the log of another state. Together they are neither state.
    /// Nothing was changed. Restore it as docs/DATABASES.md says.
    #[error(
        "{} and its log (-wal) do not belong together: {what}. Stop every process that uses them, \
         and restore as docs/DATABASES.md says", path.display()
    )]
    Mixed {
        /// The file.
        path: PathBuf,
        /// The evidence.
        what: String,
    },
    /// The database cannot be reached or did not answer. Nothing was written. Try again when it is
    /// back.
    #[error("the database is unavailable: {what}")]
    Unavailable {
        /// What was tried, and how it failed.
        what: String,
    },
    /// A newer program has migrated the database. Use that program.
    #[error(
        "the database has schema version {version}, which this program does not know; use a newer \
         fencepost. If another application keeps its migrations in the same table, give each a \
         database of its own"
    )]
    NewerSchema {
        /// The first migration that is not known here.
        version: String,
    },
    /// The function that commits is not there, or is another with its name. No write can be made.
    #[error(
        "the database lacks the function {function}, or has another of that name; \
         `fencepost migrate` makes it again"
    )]
    FunctionMissing {
        /// Its name.
        function: &'static str,
    },
    /// The role may not call the function that commits. No write can be made.
    #[error(
        "the role {role} may not call the function {function} of the database; let its owner run \
         GRANT EXECUTE ON FUNCTION {function} TO {role}"
    )]
    FunctionDenied {
        /// Its name.
        function: &'static str,
        /// The role of the session, as SQL has it.
        role: String,
    },
    /// Fewer migrations were run than are to be taken back. Nothing was changed.
    #[error("the database has {applied} migrations: {asked} cannot be taken back")]
    TooFewMigrations {
        /// How many were to be.
        asked: usize,
        /// How many there are.
        applied: usize,
    },
    /// The schema could not be brought up to date. Nothing was changed.
    #[error("migrating the database failed: {reason}")]
    Migration {
        /// As the database reported it.
        reason: String,
    },
    /// The server ended the transaction in favour of a conflicting one.
    /// Nothing was written. Try again at once.
    #[error("the database ended the transaction in favour of another: {what}")]
    Yielded {
        /// As the database reported it.
        what: String,
    },
    /// The server cannot write: it is a standby, or set to be read-only. Nothing was written. All
    /// sessions were closed: try again, and another host of the URL is looked for.
    #[error("the database takes no writes: {what}")]
    ReadOnly {
        /// As the database reported it.
        what: String,
    },
    /// A pooler lends one session of the server to several connections. Nothing was written. An
    /// operator has to act.
    #[error(
        "a pooler between this process and the server lends one session to several connections \
         (transaction pooling), so that settings, prepared statements and locks of a session are \
         lost: set its pool_mode to session, or connect to the server itself. \
         --lock-url redis://… does not help: settings and statements would still be lost"
    )]
    TransactionPooling,
    /// The rows are not those that a write was decided on: some are missing or there twice, though
    /// the graph's version is the one that was read. Nothing was written. Something else has
    /// changed them, or a trigger interferes.
    #[error(
        "{what}. `fencepost check-rows` names the rows that are damaged, if the graph is kept as \
         rows beside its log; one that has rows alone must be restored from a backup"
    )]
    RowsDiffer {
        /// How many of which rows were found.
        what: String,
    },
    /// The database refused a statement of ours.
    #[error("the database refused a statement: {0}")]
    Refused(diesel::result::Error),
}

impl From<diesel::result::Error> for DbError {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        if causes::is_of_another_session(&error) {
            return Self::TransactionPooling;
        }
        if let Error::DatabaseError(_, what) = &error
            && causes::is_of_differing_rows(&error)
        {
            return Self::RowsDiffer { what: what.message().to_owned() };
        }
        match &error {
            Error::DatabaseError(
                Kind::UniqueViolation
                | Kind::ForeignKeyViolation
                | Kind::NotNullViolation
                | Kind::CheckViolation,
                _,
            )
            | Error::DeserializationError(_)
            | Error::SerializationError(_)
            | Error::QueryBuilderError(_) => Self::Refused(error),
            Error::DatabaseError(Kind::ReadOnlyTransaction, what) => {
                Self::ReadOnly { what: what.message().to_owned() }
            }
            Error::DatabaseError(Kind::SerializationFailure, what) => {
                Self::Yielded { what: what.message().to_owned() }
            }
            // Diesel has no kind for it. Not known in another language: see `is_unexplained`.
            Error::DatabaseError(_, what) if what.message().contains("deadlock detected") => {
                Self::Yielded { what: what.message().to_owned() }
            }
            Error::DatabaseError(Kind::ClosedConnection | Kind::UnableToSendCommand, _) => {
                Self::Unavailable { what: on_one_line(error) }
            }
            Error::DatabaseError(_, what) if !causes::is_the_databases(what.message()) => {
                Self::Refused(error)
            }
            Error::InvalidCString(_) => Self::Refused(error),
            _ => {
                let what = on_one_line(error);
                let grant = causes::missing_grant(&what);
                Self::Unavailable {
                    what: grant.map_or(what.clone(), |grant| format!("{what}; {grant}")),
                }
            }
        }
    }
}

impl DbError {
    /// What [`Unavailable`](Self::Unavailable) tells after its own words, to be told by another
    /// one; of any other the whole text.
    pub(crate) fn reason(&self) -> String {
        match self {
            Self::Unavailable { what } => what.clone(),
            other => other.to_string(),
        }
    }

    /// Whether the database refused a statement for a reason that no kind of error tells. The same
    /// transaction may succeed at once: it may have been ended in favour of another, by a server
    /// that does not speak English.
    #[must_use]
    pub fn is_unexplained(&self) -> bool {
        use diesel::result::{DatabaseErrorKind as Kind, Error};
        matches!(
            self,
            Self::Refused(Error::DatabaseError(kind, _)) if !matches!(
                kind,
                Kind::UniqueViolation
                    | Kind::ForeignKeyViolation
                    | Kind::NotNullViolation
                    | Kind::CheckViolation
            )
        )
    }
}

/// The error as one line: libpq explains a lost connection in three.
pub(crate) fn on_one_line(error: impl Display) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// How a [call](super::Database::call) failed.
#[derive(Debug)]
pub enum CallError {
    /// Nothing was written.
    RolledBack(DbError),
    /// It was answered by an error that does not tell: the server's own words for a refusal, or a
    /// pooler's for a server that it has lost.
    Doubtful(DbError),
    /// The connection was lost before the answer came.
    Lost(DbError),
}

/// How a writing transaction failed.
#[derive(Debug)]
pub enum WriteError<E> {
    /// It was rolled back: nothing was written.
    RolledBack(E),
    /// COMMIT was sent and its answer is not known. The connection is closed.
    CommitUnknown(DbError),
}
