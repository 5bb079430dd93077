//! Which database to use, and what to do with it if it is not there.

use std::fmt;
use std::path::PathBuf;

use crate::address::{self, Address};
use crate::db::error::DbError;

/// Which database to use. Displayed without its password.
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// `sqlite:PATH`
    Sqlite(PathBuf),
    /// `postgres://…` or `postgresql://…`, as libpq takes it.
    Postgres(String),
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => {
                write!(f, "sqlite:{}", address::redacted_path(&path.display().to_string()))
            }
            Self::Postgres(url) => f.write_str(&address::redacted(url)),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

impl DatabaseUrl {
    /// Reads `sqlite:PATH`, `postgres://…` or `postgresql://…`.
    ///
    /// # Errors
    /// [`DbError::Url`] says which forms there are.
    pub fn parse(text: &str) -> Result<Self, DbError> {
        let refused = |reason: &str| {
            Err(DbError::Url { url: address::redacted(text), reason: reason.to_owned() })
        };
        if text != text.trim() || text.contains(char::is_control) {
            return refused("it begins or ends with a space, or has a control character");
        }
        let (scheme, rest) = text.split_once(':').unwrap_or_default();
        match scheme.to_ascii_lowercase().as_str() {
            scheme @ ("postgres" | "postgresql") if rest.starts_with("//") => {
                let text = format!("{scheme}:{rest}");
                let checked = Address::parse(&text).and_then(|address| address.check_for_libpq());
                checked.map_or_else(refused, |()| Ok(Self::Postgres(text)))
            }
            "sqlite" => {
                let path = address::check_path(rest).and_then(|()| sqlite_path(rest));
                path.map_or_else(refused, |path| Ok(Self::Sqlite(path.into())))
            }
            _ => refused("the scheme is neither `sqlite:` nor `postgres:`"),
        }
    }

    /// The file of an embedded database, with links resolved once it exists. A lock beside the file
    /// takes its name.
    #[must_use]
    pub fn file(&self) -> Option<PathBuf> {
        match self {
            Self::Sqlite(path) => Some(path.canonicalize().unwrap_or_else(|_| path.clone())),
            Self::Postgres(_) => None,
        }
    }
}

/// The path in the text after `sqlite:`. It is taken literally: no parameters, no percent-encoding.
///
/// # Errors
/// Why it names no database file.
fn sqlite_path(text: &str) -> Result<&str, &'static str> {
    // `sqlite:PATH`, `sqlite://PATH`; with an absolute path `sqlite:///PATH`.
    let path = text.strip_prefix("//").unwrap_or(text);
    let encoded = path.split('%').skip(1).any(|after| {
        after.len() >= 2 && after.bytes().take(2).all(|byte| byte.is_ascii_hexdigit())
    });
    match path {
        "" => Err("it names no file"),
        _ if path.contains(":memory:") => {
            Err("a database in memory would be another one on every connection")
        }
        _ if path.starts_with("file:") => {
            Err("after `sqlite:` comes a path, not a URI of SQLite's own: omit `file:`")
        }
        _ if path.contains('?') => {
            Err("an SQLite database takes no parameters: omit `?` and what follows")
        }
        _ if encoded => Err("the path is taken as it stands: write the character itself for %XX"),
        _ if path.ends_with('/') => Err("it names a directory, not a file"),
        _ => Ok(path),
    }
}

/// What a database is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OpenMode {
    /// As `Create`, and another application may have tables there.
    CreateBesideOthers,
    /// To be used. It is created if it is not there, and its schema is brought up to date.
    Create,
    /// To be changed. It must be there, and its schema is brought up to date.
    Change,
    /// To be read. It must be there, with a current schema, and nothing in it is changed.
    Read,
}

impl OpenMode {
    pub(super) fn creates(self) -> bool {
        matches!(self, Self::Create | Self::CreateBesideOthers)
    }
}
