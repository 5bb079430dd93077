//! Where the programs of database servers are on this machine, and as whom they run.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::process::{getgid, getuid};

use crate::bench::BenchError;

/// Where distributions keep the programs of Postgres, a directory for each version: a parent, and
/// what the names of its directories begin with.
const POSTGRES_VERSIONS: [(&str, &str); 2] = [("/usr/lib/postgresql", ""), ("/usr", "pgsql-")];

/// The account that packages of Postgres make.
const POSTGRES_USER: &str = "postgres";

/// The directory that has all of Postgres' programs that are needed: one of `PATH`, else that of
/// the newest version.
///
/// # Errors
/// [`BenchError::Unavailable`] says what to install.
pub fn postgres_programs() -> Result<PathBuf, BenchError> {
    let versions = POSTGRES_VERSIONS.iter();
    let versions = versions.flat_map(|(parent, prefix)| versions_in(Path::new(parent), prefix));
    postgres_programs_in(on_path().chain(versions))
}

fn postgres_programs_in(places: impl Iterator<Item = PathBuf>) -> Result<PathBuf, BenchError> {
    let found = with_all(&["initdb", "postgres"], places);
    found.ok_or_else(|| {
        BenchError::Unavailable(
            "there is no Postgres (`initdb` and `postgres`), neither on PATH nor under \
             /usr/lib/postgresql: install it (Debian: apt install postgresql), or give the URL of \
             a server with --postgres-url"
                .to_owned(),
        )
    })
}

/// Redis, or what is as good: on `PATH`.
///
/// # Errors
/// [`BenchError::Unavailable`] says what to install.
pub fn redis_program() -> Result<PathBuf, BenchError> {
    let found = ["redis-server", "valkey-server"]
        .into_iter()
        .find_map(|name| Some(with_all(&[name], on_path())?.join(name)));
    found.ok_or_else(|| {
        BenchError::Unavailable(
            "there is no `redis-server` on PATH: install it (Debian: apt install redis-server), \
             or give the URL of a server with --redis-url"
                .to_owned(),
        )
    })
}

fn on_path() -> impl Iterator<Item = PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).collect::<Vec<_>>().into_iter()
}

/// The first of these directories that has all of these programs.
fn with_all(names: &[&str], places: impl Iterator<Item = PathBuf>) -> Option<PathBuf> {
    // Whoever starts one may do so in another directory.
    let mut places = places.filter_map(|place| std::path::absolute(place).ok());
    places.find(|place| names.iter().all(|name| place.join(name).is_file()))
}

/// The `bin` of each version in a directory, the newest first.
fn versions_in(parent: &Path, prefix: &str) -> Vec<PathBuf> {
    let entries = fs::read_dir(parent).into_iter().flatten().flatten();
    let numbered = entries.filter_map(|entry| {
        let version = entry.file_name().to_str()?.strip_prefix(prefix)?.parse::<u32>().ok()?;
        Some((version, entry.path().join("bin")))
    });
    let mut numbered: Vec<(u32, PathBuf)> = numbered.collect();
    numbered.sort_unstable();
    numbered.into_iter().rev().map(|(_, bin)| bin).collect()
}

/// As whom a server runs, where that is not whoever runs this program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// The user's number.
    pub uid: u32,
    /// The number of the user's group.
    pub gid: u32,
}

impl Owner {
    /// Who is to run Postgres, which refuses to run as root: root lends it the account that its
    /// package has made, and everybody else runs it as they are.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if root finds no such account.
    pub fn of_postgres() -> Result<Option<Self>, BenchError> {
        if !getuid().is_root() {
            return Ok(None);
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let found = account(&accounts, POSTGRES_USER);
        found.map(Some).ok_or_else(|| {
            BenchError::Unavailable(format!(
                "Postgres refuses to run as root, and there is no user `{POSTGRES_USER}` to run it \
                 as: run this as another user, make that one, or give the URL of a server with \
                 --postgres-url"
            ))
        })
    }

    /// Makes a directory that belongs to the owner, or to whoever runs this.
    ///
    /// # Errors
    /// As the system says.
    pub fn make_directory(owner: Option<Self>, directory: &Path) -> io::Result<()> {
        fs::create_dir_all(directory)?;
        let Self { uid, gid } =
            owner.unwrap_or(Self { uid: getuid().as_raw(), gid: getgid().as_raw() });
        std::os::unix::fs::chown(directory, Some(uid), Some(gid))
    }
}

/// Of `name:password:uid:gid:…` in a file of accounts.
fn account(accounts: &str, user: &str) -> Option<Owner> {
    let mut fields = accounts.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(user)).then_some(fields)
    })?;
    let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
    Some(Owner { uid, gid })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_version_comes_first_and_only_where_all_programs_are() {
        let parent = tempfile::tempdir().unwrap();
        for (version, programs) in
            [("9", &["initdb", "postgres"][..]), ("15", &["initdb", "postgres"]), ("16", &["psql"])]
        {
            let bin = parent.path().join(version).join("bin");
            fs::create_dir_all(&bin).unwrap();
            programs.iter().for_each(|name| fs::write(bin.join(name), "").unwrap());
        }
        fs::create_dir_all(parent.path().join("common/bin")).unwrap();
        let versions = versions_in(parent.path(), "");
        let named = ["16", "15", "9"].map(|version| parent.path().join(version).join("bin"));
        assert_eq!(versions, named);
        let found = postgres_programs_in(versions.into_iter());
        assert_eq!(found.unwrap(), parent.path().join("15/bin"));
        let missing = postgres_programs_in([parent.path().to_owned()].into_iter());
        let missing = missing.unwrap_err().to_string();
        assert!(missing.contains("apt install postgresql"), "{missing}");
        assert_eq!(versions_in(Path::new("/no/such/directory"), ""), Vec::<PathBuf>::new());
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let accounts =
            "root:x:0:0:root:/root:/bin/bash\npostgresql:x:7:8::/:\npostgres:x:101:104::";
        assert_eq!(account(accounts, "postgres"), Some(Owner { uid: 101, gid: 104 }));
        assert_eq!(account(accounts, "redis"), None);
    }
}
