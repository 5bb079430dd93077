//! A Postgres server that graphs are kept on: one of the run's own, or a given one.

use std::cell::{Cell, RefCell};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use std::{fs, thread};

use super::kept::{Kept, OWN, Start};
use super::ports::free_port;
use super::programs::{Owner, postgres_programs};
use super::secrets::{new_password, write_for};
use crate::address::Address;
use crate::bench::BenchError;
use crate::bench::run::child::{how_it_ended, output_within};
use crate::bench::run::place::file_error;
use crate::db::{MeasuredPostgres, PostgresFacts};

/// How long a server may take to start, and to be made.
const STARTS_WITHIN: Duration = Duration::from_secs(60);
/// How long it may take to start again one that has ended: its other processes must end first.
const REVIVES_WITHIN: Duration = Duration::from_secs(30);
/// How often that is tried.
const PAUSE: Duration = Duration::from_millis(100);

/// What the names of all databases of benchmarks begin with.
const PREFIX: &str = "fencepost_bench_";
/// In the directory of a run: what its databases on a given server are called, while there are any.
const NOTE: &str = "databases-on-postgres";

/// Parameters and variables of libpq that lead to another server or database than the one that a
/// URL names before its `?`: the run would write into that one, or go past its proxy.
const ELSEWHERE: [&str; 5] = ["dbname", "host", "hostaddr", "port", "service"];
const VARIABLES_ELSEWHERE: [&str; 2] = ["PGHOSTADDR", "PGSERVICE"];

/// Settings of the run's own server that differ from what Postgres ships: checkpoints come when the
/// benchmark asks for them, and nothing is cleaned up in a window of seconds by chance. Durability
/// is as shipped.
const SETTINGS: [&str; 5] = [
    "listen_addresses=127.0.0.1",
    "unix_socket_directories=",
    "autovacuum=off",
    "checkpoint_timeout=1d",
    "max_wal_size=16GB",
];

/// A server.
#[derive(Debug)]
pub struct Postgres {
    /// As it was given: its login, and a database to connect to.
    address: Address,
    facts: PostgresFacts,
    own: Option<Own>,
    /// What the names of its databases begin with: another run may use a given server too.
    prefix: String,
    made: Cell<u64>,
    /// Databases that are there.
    databases: RefCell<Vec<String>>,
    /// Of a given one: the file that says what its databases are called, for whoever goes on with a
    /// run that was killed.
    note: Option<PathBuf>,
    /// Of a given one: keeps other runs away while it lasts, which both would measure.
    alone: Option<MeasuredPostgres>,
}

/// A server of the run's own.
#[derive(Debug)]
struct Own {
    /// Of its only user: other users of this machine reach its port too, and whoever may log in
    /// there may run programs as its owner.
    password: String,
    /// None while it is started again.
    kept: RefCell<Option<Kept>>,
    programs: PathBuf,
    directory: PathBuf,
    owner: Option<Owner>,
    port: u16,
}

impl Postgres {
    /// Makes one in a directory that is made, and starts it.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] says what to install, or what went wrong.
    pub fn start(directory: &Path) -> Result<Self, BenchError> {
        refuse_variables()?;
        let (programs, owner) = (postgres_programs()?, Owner::of_postgres()?);
        Owner::make_directory(owner, directory).map_err(|error| file_error(directory, &error))?;
        let password = new_password();
        make(&programs, owner, directory, &password)?;
        let (kept, directory, port) = (RefCell::default(), directory.to_owned(), free_port()?);
        let own = Own { password, kept, programs, directory, owner, port };
        own.kept.replace(Some(own.started()?));
        Self::at(&own.url(), Some(own))
    }

    /// The one at `url`. What runs have left there that noted so in the directory `run` is removed.
    ///
    /// # Errors
    /// [`BenchError`] if it is no URL, cannot be reached, or is too old, or if nothing can be written
    /// to the directory.
    pub fn given(url: &str, run: &Path) -> Result<Self, BenchError> {
        refuse_variables()?;
        let note = run.join(NOTE);
        let mut given = Self::at(url, None)?;
        let mut alone = given.any_session()?;
        if !alone.is_the_only_one().map_err(BenchError::Unavailable)? {
            return Err(BenchError::Unavailable(format!(
                "another benchmark runs on the Postgres at {}: each would measure both",
                given.address.place
            )));
        }
        given.alone = Some(alone);
        let lines = fs::read_to_string(&note).unwrap_or_default();
        let mut left: Vec<String> = Vec::new();
        for line in lines.lines() {
            if !given.has_removed_all_of(line) {
                left.push(line.to_owned());
            }
        }
        left.push(given.noted());
        let written = fs::write(&note, left.join("\n") + "\n");
        written.map_err(|error| file_error(&note, &error))?;
        given.note = Some(note);
        Ok(given)
    }

    /// As it stands in the note: what its databases' names begin with, and where it is.
    fn noted(&self) -> String {
        format!("{} {}", self.prefix, self.address.place)
    }

    /// Removes what another run has left here; of other servers' nothing.
    fn has_removed_all_of(&self, noted: &str) -> bool {
        let Some((prefix, place)) = noted.split_once(' ') else { return true };
        if place != self.address.place || !prefix.starts_with(PREFIX) {
            return false;
        }
        let left = self.any_session().and_then(|mut session| {
            session.databases(&format!("{prefix}_")).map_err(BenchError::Unavailable)
        });
        let Ok(left) = left else { return false };
        self.databases.borrow_mut().extend(left.iter().cloned());
        left.iter().for_each(|name| self.remove(name));
        !self.databases.borrow().iter().any(|name| left.contains(name))
    }

    fn at(url: &str, own: Option<Own>) -> Result<Self, BenchError> {
        let address = Address::parse(url)
            .and_then(|address| address.check_for_libpq().map(|()| address))
            .map_err(|why| BenchError::Usage(format!("--postgres-url: {why}")))?;
        if let Some(name) = address.names_one_of(&ELSEWHERE) {
            return Err(BenchError::Usage(format!(
                "--postgres-url: `{name}` after the `?` would lead past the databases of the run: \
                 name host and database before it"
            )));
        }
        let facts = MeasuredPostgres::connect(url).and_then(|mut session| session.facts());
        let facts = facts.map_err(BenchError::Unavailable)?;
        let prefix = format!("{PREFIX}{}", uuid::Uuid::new_v4().simple());
        let (made, databases) = (Cell::new(0), RefCell::default());
        Ok(Self { address, facts, own, prefix, made, databases, note: None, alone: None })
    }

    /// What is known of it.
    #[must_use]
    pub fn facts(&self) -> &PostgresFacts {
        &self.facts
    }

    /// Whether it is the run's own, or where it is: another way to the same kind of server is
    /// another machine.
    #[must_use]
    pub fn whose(&self) -> String {
        match &self.own {
            Some(_) => OWN.to_owned(),
            None => format!("given, at {}", self.address.place),
        }
    }

    /// Its first process, of the run's own.
    #[must_use]
    pub fn process(&self) -> Option<u32> {
        self.own.as_ref()?.kept.borrow().as_ref().map(Kept::process)
    }

    /// `HOST:PORT`, as a proxy reaches it.
    ///
    /// # Errors
    /// [`BenchError::Usage`] of a URL with several hosts.
    pub fn place(&self) -> Result<String, BenchError> {
        place_of(&self.address, "5432")
    }

    /// The URL of one of its databases, with its password; through `proxy`, if there is one.
    #[must_use]
    pub fn url(&self, database: &str, proxy: Option<&str>) -> String {
        let Address { scheme, login, place, tail, .. } = &self.address;
        format!("{scheme}://{login}{}/{database}{tail}", proxy.unwrap_or(place))
    }

    /// A session on one of its databases.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`].
    pub fn session(&self, database: &str) -> Result<MeasuredPostgres, BenchError> {
        let url = self.url(database, None);
        MeasuredPostgres::connect_to(&url, database).map_err(BenchError::Unavailable)
    }

    /// A session on the server, for what is about no database.
    fn any_session(&self) -> Result<MeasuredPostgres, BenchError> {
        let Address { scheme, login, place, tail, .. } = &self.address;
        let path = self.address.path().unwrap_or_default().join("/");
        let url = format!("{scheme}://{login}{place}/{path}{tail}");
        MeasuredPostgres::connect(&url).map_err(BenchError::Unavailable)
    }

    /// Tries what a run does there, and with `checkpoint` that too.
    ///
    /// # Errors
    /// [`BenchError::Usage`] says which right is missing.
    pub fn check_rights(&self, checkpoint: bool) -> Result<(), BenchError> {
        let missing = |what: &str, why: &dyn std::fmt::Display| {
            BenchError::Usage(format!("--postgres-url: its user must be allowed to {what}: {why}"))
        };
        if checkpoint {
            let tried = self.any_session()?.checkpoint();
            let what = "make checkpoints (GRANT pg_checkpoint, or a superuser)";
            tried.map_err(|why| missing(what, &why))?;
        }
        let made = self.create().map_err(|why| missing("create databases (CREATEDB)", &why))?;
        self.remove(&made);
        Ok(())
    }

    /// Makes an empty database, and says its name.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`].
    pub fn create(&self) -> Result<String, BenchError> {
        let name = self.new_name();
        self.any_session()?.create(&name).map_err(BenchError::Unavailable)?;
        // Others are about to write there: it must be that one.
        self.session(&name)?;
        Ok(name)
    }

    /// Makes a copy of a database that nobody is connected to, and says its name. All that was
    /// changed before is on disk then, and the copy knows of no lock.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`].
    pub fn copy(&self, template: &str) -> Result<String, BenchError> {
        let name = self.new_name();
        let mut session = self.any_session()?;
        // A user without the right to make one has the server's own checkpoints.
        drop(session.checkpoint());
        session.copy(template, &name).map_err(BenchError::Unavailable)?;
        let renewed = self.session(&name)?.become_another();
        renewed.map_err(BenchError::Unavailable)?;
        Ok(name)
    }

    /// Removes a database.
    pub fn remove(&self, name: &str) {
        // One that cannot be removed now is tried again in the end.
        if self.any_session().is_ok_and(|mut session| session.remove(name).is_ok()) {
            self.databases.borrow_mut().retain(|known| known != name);
        }
    }

    fn new_name(&self) -> String {
        let number = self.made.get();
        self.made.set(number + 1);
        let name = format!("{}_{number}", self.prefix);
        self.databases.borrow_mut().push(name.clone());
        name
    }

    /// Starts the run's own again if it has ended: what it had committed is there.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] says what went wrong.
    pub fn revive(&mut self) -> Result<(), BenchError> {
        let url = self.url("postgres", None);
        let Some(own) = &mut self.own else { return Ok(()) };
        if let Some(kept) = own.kept.get_mut() {
            // One that is about to end answers no more.
            let answers = || MeasuredPostgres::connect(&url).map(drop);
            match kept.wait_until(REVIVES_WITHIN, answers) {
                Ok(()) => return Ok(()),
                Err(why) => log::warn!("Postgres is started again: {why}"),
            }
        }
        own.start_again()
    }

    /// Ends the run's own at once, as a crash would, and starts it again.
    ///
    /// # Errors
    /// [`BenchError::Unavailable`] if it does not start, or is a given one.
    pub fn restart(&self) -> Result<(), BenchError> {
        let given = || BenchError::Unavailable("a given Postgres is not ended".to_owned());
        self.own.as_ref().ok_or_else(given)?.start_again()
    }
}

impl Own {
    fn url(&self) -> String {
        let Self { password, port, .. } = self;
        format!("postgres://postgres:{password}@127.0.0.1:{port}/postgres")
    }

    fn started(&self) -> Result<Kept, BenchError> {
        let program = self.programs.join("postgres");
        let port = self.port.to_string();
        let mut arguments = ["-D", "data", "-p", &port].map(str::to_owned).to_vec();
        arguments.extend(SETTINGS.iter().flat_map(|set| ["-c".to_owned(), (*set).to_owned()]));
        let failed =
            |why: String| BenchError::Unavailable(format!("Postgres did not start: {why}"));
        let (directory, owner) = (&self.directory, self.owner);
        let start =
            Start { program: &program, arguments: &arguments, directory, owner, end: "QUIT" };
        let mut kept = Kept::start(&start).map_err(|error| failed(error.to_string()))?;
        let url = self.url();
        let answers = || MeasuredPostgres::connect(&url).map(drop);
        kept.wait_until(STARTS_WITHIN, answers).map_err(failed)?;
        Ok(kept)
    }

    fn start_again(&self) -> Result<(), BenchError> {
        drop(self.kept.borrow_mut().take());
        let began = Instant::now();
        loop {
            match self.started() {
                Err(_) if began.elapsed() < REVIVES_WITHIN => thread::sleep(PAUSE),
                Err(error) => return Err(error),
                Ok(kept) => {
                    self.kept.replace(Some(kept));
                    return Ok(());
                }
            }
        }
    }
}

/// What is left on a given server is removed; the run's own goes with its directory.
impl Drop for Postgres {
    fn drop(&mut self) {
        let Some(note) = self.note.take() else { return };
        let left = self.databases.borrow().clone();
        left.iter().for_each(|name| self.remove(name));
        let left = self.databases.take();
        if !left.is_empty() {
            let drop = left.iter().map(|name| format!("DROP DATABASE {name};"));
            let drop = drop.collect::<Vec<_>>().join(" ");
            log::warn!("databases of this run are left on {}: {drop}", self.address);
            return;
        }
        // Those of other servers stay noted.
        let (own, lines) = (self.noted(), fs::read_to_string(&note).unwrap_or_default());
        let others: Vec<&str> = lines.lines().filter(|line| *line != own).collect();
        drop(match others.is_empty() {
            true => fs::remove_file(&note),
            false => fs::write(&note, others.join("\n") + "\n"),
        });
    }
}

/// Refuses variables that lead to another server than URLs say.
fn refuse_variables() -> Result<(), BenchError> {
    match VARIABLES_ELSEWHERE.into_iter().find(|name| std::env::var_os(name).is_some()) {
        None => Ok(()),
        Some(name) => Err(BenchError::Usage(format!(
            "{name} is set, and leads to another Postgres than URLs say: unset it"
        ))),
    }
}

/// `HOST:PORT` of a URL.
///
/// # Errors
/// [`BenchError::Usage`] of a URL with several hosts, or with none.
pub fn place_of(address: &Address, port: &str) -> Result<String, BenchError> {
    let place = &address.place;
    if place.is_empty() || place.contains(',') {
        return Err(BenchError::Usage(format!(
            "{address} names not just one host: a delay needs a URL as in \
             SCHEME://USER@HOST:PORT/DATABASE"
        )));
    }
    Ok(address.place_with_port(port))
}

fn make(
    programs: &Path,
    owner: Option<Owner>,
    directory: &Path,
    password: &str,
) -> Result<(), BenchError> {
    use std::os::unix::process::CommandExt as _;
    let file = directory.join("password");
    write_for(owner, &file, password).map_err(|error| file_error(&file, &error))?;
    let mut command = Command::new(programs.join("initdb"));
    let how = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--username=postgres"];
    command.args(how).args(["--pwfile=password", "--no-sync", "-D", "data"]);
    command.current_dir(directory);
    if let Some(Owner { uid, gid }) = owner {
        command.uid(uid).gid(gid);
    }
    let failed = |why: String| {
        let hint = match owner {
            Some(_) => "; it runs as the user `postgres`, who must be able to enter that directory",
            None => "",
        };
        let shown = directory.display();
        BenchError::Unavailable(format!("no Postgres could be made in {shown}: {why}{hint}"))
    };
    let made = output_within(&mut command, STARTS_WITHIN);
    drop(fs::remove_file(&file));
    match made.map_err(|error| failed(error.to_string()))? {
        Some(output) if output.status.success() => Ok(()),
        Some(output) => Err(failed(how_it_ended(&output))),
        None => Err(failed("initdb took too long".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing is asked of a server before: there is none on port 1.
    #[test]
    fn a_url_that_leads_to_another_database_or_past_the_proxy_is_refused() {
        for name in ["dbname", "host", "hostaddr", "port", "service"] {
            let url = format!("postgres://me@127.0.0.1:1/x?sslmode=prefer&{name}=7");
            let refused = Postgres::given(&url, Path::new("/no/such")).unwrap_err();
            assert!(matches!(refused, BenchError::Usage(_)), "{refused}");
            assert!(refused.to_string().contains(name), "{refused}");
        }
        let url = "postgres://me@127.0.0.1:1/host?application_name=dbname";
        assert!(matches!(
            Postgres::given(url, Path::new("/no/such")),
            Err(BenchError::Unavailable(_))
        ));
    }

    #[test]
    fn whoever_has_no_password_is_not_let_in() {
        let place = open_place();
        let postgres = Postgres::start(&place.path().join("postgres")).unwrap();
        assert!(postgres.any_session().is_ok());
        let Own { password, port, .. } = postgres.own.as_ref().unwrap();
        for login in ["postgres:", "postgres:wrong"] {
            let url = format!("postgres://{login}@127.0.0.1:{port}/postgres");
            let refused = MeasuredPostgres::connect(&url).expect_err("it is refused");
            assert!(refused.contains("password"), "{refused}");
        }
        // Nor is the password left where others may read it.
        let left = fs::read_dir(place.path().join("postgres")).unwrap().flatten();
        let names: Vec<_> = left.map(|entry| entry.file_name()).collect();
        assert!(!names.iter().any(|name| name == "password"), "{names:?}");
        let line = fs::read(format!("/proc/{}/cmdline", postgres.process().unwrap())).unwrap();
        assert!(!String::from_utf8_lossy(&line).contains(password.as_str()));
    }

    #[test]
    fn a_given_server_is_measured_by_one_run_at_a_time() {
        let place = open_place();
        let postgres = Postgres::start(&place.path().join("postgres")).unwrap();
        let url = postgres.own.as_ref().unwrap().url();
        let runs = ["one", "other"].map(|name| place.path().join(name));
        runs.iter().for_each(|run| fs::create_dir(run).unwrap());
        let first = Postgres::given(&url, &runs[0]).unwrap();
        // By way of another database too.
        for url in [url.clone(), url.trim_end_matches("postgres").to_owned() + "template1"] {
            let refused = Postgres::given(&url, &runs[1]).unwrap_err().to_string();
            assert!(refused.contains("another benchmark runs on the Postgres at 127"), "{refused}");
        }
        drop(first);
        // Its session ends when the server has noticed.
        let began = Instant::now();
        while let Err(refused) = Postgres::given(&url, &runs[1]) {
            assert!(began.elapsed().as_secs() < 60, "{refused}");
        }
    }

    fn open_place() -> tempfile::TempDir {
        use std::os::unix::fs::PermissionsExt as _;
        let place = tempfile::tempdir().unwrap();
        let open = std::fs::Permissions::from_mode(0o755);
        std::fs::set_permissions(place.path(), open).unwrap();
        place
    }

    #[test]
    fn another_database_than_was_asked_for_is_not_written_to() {
        let place = open_place();
        let mut postgres = Postgres::start(&place.path().join("postgres")).unwrap();
        let name = postgres.create().unwrap();
        assert!(postgres.session(&name).is_ok());
        // As whatever may come between: libpq takes the parameter and not the path.
        postgres.address.tail = "?dbname=postgres".to_owned();
        for refused in [postgres.session(&name).err(), postgres.create().err()] {
            let refused = refused.unwrap().to_string();
            assert!(refused.contains("gave another, `postgres`"), "{refused}");
        }
    }

    #[test]
    fn one_host_has_a_place_and_several_have_none() {
        let place = |url: &str| place_of(&Address::parse(url).unwrap(), "5432");
        for (url, expected) in [
            ("postgres://me@db/x", Some("db:5432")),
            ("postgres://me:secret@db:6000/x", Some("db:6000")),
            ("postgres://me@[::1]/x", Some("[::1]:5432")),
            ("postgres://me@[::1]:6000/x", Some("[::1]:6000")),
            ("postgres://me@one,two/x", None),
            ("postgres:///x", None),
        ] {
            assert_eq!(place(url).ok().as_deref(), expected, "{url}");
        }
        let said = place("postgres://me:secret@one,two/x").unwrap_err().to_string();
        assert!(!said.contains("secret"), "{said}");
    }
}
