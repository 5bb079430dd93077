//! `postgres://USER[:PASSWORD]@HOST[:PORT]/DATABASE/[SCHEMA.]TABLE`: a row an event, many graphs in
//! one table. It may be another server than the service's.
//!
//! **Identity.** The server's system identifier, the database, and the table with its schema.
//!
//! **Against zombies.** An append is a transaction (READ COMMITTED) that first takes an advisory
//! lock of this table and graph, and then inserts its rows on the condition that the graph's last
//! row still is the one that this exporter saw last. Comparing alone would not do: each statement
//! sees what was committed before it began, so two appenders might both pass, neither seeing the
//! other's rows. If both write the same version, the primary key stops the second. But two that
//! begin an import, of which one took its snapshot earlier than the other, write different
//! versions, and the earlier one's rows would come to stand before a beginning that does not know
//! of them. With the lock, the statement that compares begins when the other transaction has ended,
//! and sees what it wrote. [`PostgresSink::last`] takes the lock too: a transaction whose answer
//! was lost is over when it looks.
//!
//! **Durability.** `synchronous_commit=on`, asserted: what is acknowledged is on the server's disk,
//! and on those of the standbys that it waits for.
//!
//! **Cost.** Five round trips for [`PART_EVENTS_MAX`] events or [`PART_BYTES_MAX`] bytes.

use std::ops::ControlFlow;

use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_query;
use diesel::sql_types::{Array, BigInt, Bool, Text};

use crate::address::Address;
use crate::db::{self, DbError, on_one_line};
use crate::event::{EventIndex, Stream};
use crate::export::sink::{Batch, Gap, Purpose, Sink, SinkError};
use crate::failpoint;
use crate::graph::Name;

/// Events that one transaction appends at most.
const PART_EVENTS_MAX: usize = 1_000;

/// Gaps that are looked for, at most.
const GAPS_MAX: usize = 100;

/// Bytes that one transaction appends at most, unless one event alone has more.
const PART_BYTES_MAX: usize = 4 << 20;

/// Rows of a page that is read, at most.
const PAGE_ROWS_MAX: i64 = 2_000;

/// Bytes of a page that is read, beyond its first row.
const PAGE_BYTES: i64 = 8 << 20;

/// A column's value has less than a gibibyte, and the event travels with what belongs to it.
const EVENT_BYTES_MAX: usize = (1 << 30) - (1 << 20);

/// How long the server may take for one statement of an append. One that takes longer is tried
/// again a few times.
const STATEMENT_TIMEOUT: &str = "300s";

/// Of a table that was there when the export began.
const DROPPED: &str = "the table was dropped. Start again to make a new one";

/// What a server says that refuses a login. The client library gives no code (SQLSTATE) beside it,
/// so that it is known in English only: in another language (`lc_messages`) it is taken for a
/// server that is away.
const OF_LOGIN: [&str; 9] = [
    "password authentication failed",
    "Peer authentication failed",
    "Ident authentication failed",
    "certificate authentication failed",
    "no password supplied",
    "no pg_hba.conf entry",
    "pg_hba.conf rejects",
    "is not permitted to log in",
    "permission denied for database",
];

/// What a client says of each server that it tried.
const OF_EACH_SERVER: &str = "connection to server";

/// What Postgres keeps of a name.
const IDENTIFIER_BYTES_MAX: usize = 63;

/// A log in a table.
pub struct PostgresSink {
    name: String,
    /// `HOST[:PORT]`
    place: String,
    url: String,
    /// With its quotes.
    table: String,
    graph: String,
    connection: Option<PgConnection>,
    /// Version and ordinal of the row that this exporter saw last.
    last: Option<(i64, i64)>,
    purpose: Purpose,
}

/// Two events that stand beside each other.
#[derive(QueryableByName)]
struct Beside {
    #[diesel(sql_type = Text)]
    before: String,
    #[diesel(sql_type = Text)]
    after: String,
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    version: i64,
    #[diesel(sql_type = BigInt)]
    ordinal: i64,
    #[diesel(sql_type = Text)]
    event: String,
}

/// What the server says of a table.
#[derive(QueryableByName)]
struct Form {
    #[diesel(sql_type = Bool)]
    lasts: bool,
    #[diesel(sql_type = Text)]
    columns: String,
    #[diesel(sql_type = Text)]
    key: String,
    #[diesel(sql_type = Text)]
    encoding: String,
}

/// The columns that it must have, by name; more may be there.
const COLUMNS: &str = "event text,graph text,ordinal bigint,version bigint";

/// Its primary key.
const KEY: &str = "graph,version,ordinal";

/// The database's URL, and the table's name with its quotes.
///
/// # Errors
/// What is wrong with the address.
pub(in crate::export) fn check(address: &Address) -> Result<(String, String), &'static str> {
    address.check_for_libpq()?;
    let path = address.path()?;
    let [database, table] = path.as_slice() else {
        return Err("its path is not DATABASE/TABLE");
    };
    if database.is_empty() {
        return Err("it names no database");
    }
    let is_identifier = |name: &str| {
        let mut bytes = name.bytes();
        name.len() <= IDENTIFIER_BYTES_MAX
            && bytes.next().is_some_and(|first| matches!(first, b'a'..=b'z' | b'_'))
            && bytes.all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'_'))
    };
    let parts: Vec<&str> = table.split('.').collect();
    if parts.len() > 2 || !parts.iter().all(|part| is_identifier(part)) {
        return Err(
            "its table is not TABLE or SCHEMA.TABLE of lower-case letters, digits and _, not beginning with a digit, 63 bytes each at most",
        );
    }
    let quoted: Vec<String> = parts.iter().map(|part| format!("\"{part}\"")).collect();
    Ok((address.server(1), quoted.join(".")))
}

/// The statement that deletes the graph's log from the table.
pub(in crate::export) fn how_to_delete(address: &Address, graph: &Name) -> String {
    let table = check(address).map(|(_, table)| table).unwrap_or_default();
    format!("DELETE FROM {table} WHERE graph = '{}'", graph.as_str().replace('\'', "''"))
}

impl PostgresSink {
    /// Connects to the database, and makes the table if it is to append and there is none.
    ///
    /// # Errors
    /// [`SinkError`] if it cannot be reached, or the table is another.
    pub fn open(address: &Address, stream: &Stream, purpose: Purpose) -> Result<Self, SinkError> {
        let wrong =
            |reason: &str| SinkError::Url { given: address.to_string(), reason: reason.to_owned() };
        let (url, table) = check(address).map_err(wrong)?;
        let (name, graph) = (address.to_string(), stream.graph.to_string());
        let place = address.place.clone();
        let (connection, last) = (None, None);
        let mut sink = Self { name, place, url, table, graph, connection, last, purpose };
        let form = match (sink.form()?, purpose) {
            (Some(form), _) => form,
            (None, Purpose::Read | Purpose::Ask) => {
                return Err(sink.not_there("there is no such table"));
            }
            (None, Purpose::Append) => sink.create()?,
        };
        sink.check_form(&form)?;
        Ok(sink)
    }

    fn not_there(&self, what: &str) -> SinkError {
        SinkError::NotThere { sink: self.name.clone(), what: what.to_owned() }
    }

    fn unavailable(&self, what: String) -> SinkError {
        SinkError::Unavailable { sink: self.name.clone(), what }
    }

    /// Tells logins that are refused, and a database that there is not, from a server that is away.
    /// Of several servers, each must say so: one that is away may let the user in.
    fn not_connected(&self, what: String) -> SinkError {
        let sink = self.name.clone();
        let said = what.split_once(OF_EACH_SERVER).map_or(&*what, |(_, said)| said);
        let all_say = |is_said: &dyn Fn(&str) -> bool| said.split(OF_EACH_SERVER).all(is_said);
        let no_role = |said: &str| said.contains("role \"") && said.contains("\" does not exist");
        let no_login =
            |said: &str| no_role(said) || OF_LOGIN.iter().any(|words| said.contains(words));
        let no_database =
            |said: &str| said.contains("database \"") && said.contains("\" does not exist");
        if all_say(&no_login) {
            let what = format!(
                "{what}. Give the right user and password in the URL, and let the user in on the \
                 server (GRANT CONNECT, pg_hba.conf)"
            );
            SinkError::Denied { sink, what }
        } else if all_say(&no_database) {
            SinkError::NotThere { sink, what: format!("{what}. Make it, or name another") }
        } else if all_say(&|said| said.contains("authentication failed")) {
            // Whom the server asks may be away.
            SinkError::Failed { sink, what }
        } else {
            self.unavailable(what)
        }
    }

    fn superseded(&self, what: &str) -> SinkError {
        let what = format!(
            "{what}. See to it that one exporter writes there; started again, it goes on from what is there"
        );
        SinkError::Superseded { sink: self.name.clone(), what }
    }

    /// Runs statements on the connection, a new one if there is none. One on which something failed
    /// is thrown away, and the server rolls back.
    fn ask<T>(
        &mut self,
        body: impl FnOnce(&mut PgConnection) -> QueryResult<T>,
    ) -> Result<T, SinkError> {
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => db::connect_apart(&self.url).map_err(|error| match error {
                DbError::Unavailable { what } => self.not_connected(what),
                DbError::Url { reason, .. } => SinkError::Url { given: self.name.clone(), reason },
                DbError::Encoding { encoding, .. } => SinkError::Damaged {
                    sink: self.name.clone(),
                    what: format!("is in a database of encoding {encoding}. Give it one of UTF8"),
                },
                other => self.unavailable(other.to_string()),
            })?,
        };
        match body(&mut connection) {
            Ok(value) => {
                self.connection = Some(connection);
                Ok(value)
            }
            Err(error) => Err(self.failed(&mut connection, error)),
        }
    }

    fn refused(&self, what: String) -> SinkError {
        SinkError::Refused { sink: self.name.clone(), what }
    }

    /// A violated constraint is violated again the next time; what a server says about its own
    /// state passes; of any other answer it is not known.
    fn failed(&self, connection: &mut PgConnection, error: Error) -> SinkError {
        use DatabaseErrorKind as Kind;
        const OF_ITSELF: [&str; 8] = [
            "deadlock detected",
            "canceling statement due to lock timeout",
            "could not extend file",
            "could not write",
            "No space left",
            "out of memory",
            "out of shared memory",
            "read-only",
        ];
        let Error::DatabaseError(kind, told) = &error else {
            return self.unavailable(on_one_line(&error));
        };
        let constraint = told.constraint_name().map(str::to_owned);
        match kind {
            Kind::UniqueViolation => self.superseded(&format!(
                "it already has one of the events that were to be appended (constraint {})",
                constraint.unwrap_or_default()
            )),
            Kind::CheckViolation
            | Kind::NotNullViolation
            | Kind::ForeignKeyViolation
            | Kind::RestrictViolation
            | Kind::ExclusionViolation => {
                let table = &self.table;
                let drop = constraint.map_or_else(String::new, |constraint| {
                    format!(": ALTER TABLE {table} DROP CONSTRAINT \"{constraint}\"")
                });
                self.refused(format!(
                    "{}. Take off what keeps events out of the table{drop}, and export again; or \
                     name a table that is not there yet",
                    on_one_line(&error)
                ))
            }
            Kind::Unknown if OF_ITSELF.iter().any(|of| told.message().contains(of)) => {
                self.unavailable(on_one_line(&error))
            }
            Kind::Unknown if told.message().contains("permission denied for") => {
                SinkError::Denied {
                    sink: self.name.clone(),
                    what: format!(
                        "{}. Give the user the rights on the table: GRANT SELECT, INSERT ON {} TO \
                         USER",
                        on_one_line(&error),
                        self.table
                    ),
                }
            }
            // A server that has ended the session does not answer any more.
            Kind::Unknown if connection.batch_execute("ROLLBACK").is_ok() => {
                if self.is_dropped(connection) {
                    return self.not_there(DROPPED);
                }
                SinkError::Failed { sink: self.name.clone(), what: on_one_line(&error) }
            }
            _ => self.unavailable(on_one_line(&error)),
        }
    }

    /// Whether the table is no longer there, as far as the server says.
    fn is_dropped(&self, connection: &mut PgConnection) -> bool {
        let found = sql_query("SELECT to_regclass($1) IS NULL AS dropped")
            .bind::<Text, _>(&self.table)
            .get_result::<Dropped>(connection);
        found.is_ok_and(|found| found.dropped)
    }

    fn form(&mut self) -> Result<Option<Form>, SinkError> {
        let statement = "
            SELECT t.relkind IN ('r', 'p') AND t.relpersistence = 'p' AS lasts,
                   current_setting('server_encoding') AS encoding,
                   coalesce((SELECT string_agg(c.attname || ' ' || format_type(c.atttypid, c.atttypmod), ',' ORDER BY c.attname)
                             FROM pg_attribute c
                             WHERE c.attrelid = t.oid AND c.attnum > 0 AND NOT c.attisdropped
                               AND c.attname IN ('graph', 'version', 'ordinal', 'event')), '') AS columns,
                   coalesce((SELECT string_agg(c.attname, ',' ORDER BY k.place)
                             FROM pg_index i
                             CROSS JOIN unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, place)
                             JOIN pg_attribute c ON c.attrelid = t.oid AND c.attnum = k.number
                             WHERE i.indrelid = t.oid AND i.indisprimary), '') AS key
            FROM pg_class t WHERE t.oid = to_regclass($1)";
        let table = self.table.clone();
        self.ask(|connection| {
            sql_query(statement).bind::<Text, _>(table).get_result(connection).optional()
        })
    }

    /// Makes the table. Of two who do so at once, one finds the other's.
    fn create(&mut self) -> Result<Form, SinkError> {
        let statement = format!(
            "CREATE TABLE IF NOT EXISTS {} (graph text COLLATE \"C\" NOT NULL, version bigint NOT NULL, ordinal bigint NOT NULL, \
             event text NOT NULL, PRIMARY KEY (graph, version, ordinal))",
            self.table
        );
        let created = self.ask(|connection| connection.batch_execute(&statement));
        match (self.form()?, created) {
            (Some(form), _) => Ok(form),
            (None, Err(error)) => Err(error),
            (None, Ok(())) => Err(self.not_there("it was dropped as soon as it was made")),
        }
    }

    fn check_form(&self, form: &Form) -> Result<(), SinkError> {
        let reason = if form.columns != COLUMNS || form.key != KEY {
            format!(
                "is another table: it wants {COLUMNS} and PRIMARY KEY ({KEY}). Name one that is not there yet"
            )
        } else if !form.lasts {
            format!(
                "is a view, or a table that a crash would empty. ALTER TABLE {} SET LOGGED, or \
                 name one that is not there yet",
                self.table
            )
        } else if form.encoding != "UTF8" {
            format!("is in a database of encoding {}. Give it one of UTF8", form.encoding)
        } else {
            return Ok(());
        };
        Err(SinkError::Damaged {
            sink: self.name.clone(),
            what: format!("{} {reason}", self.table),
        })
    }

    /// What may keep rows out, remove them or hide them, as far as the catalogue tells.
    fn hazards(&mut self) -> Result<Option<Hazards>, SinkError> {
        let statement = "
            SELECT t.relkind = 'p' AS partitioned, t.relrowsecurity AS row_security,
                   coalesce((SELECT string_agg(p.relid::text, ', ' ORDER BY p.relid::text)
                             FROM pg_partition_tree(t.oid) p JOIN pg_class c ON c.oid = p.relid
                             WHERE p.isleaf AND t.relkind = 'p'
                               AND c.relpersistence <> 'p'), '') AS unlogged,
                   coalesce((SELECT string_agg(quote_ident(g.tgname), ', ' ORDER BY g.tgname)
                             FROM pg_trigger g
                             WHERE g.tgrelid = t.oid AND NOT g.tgisinternal
                               AND g.tgenabled <> 'D'), '') AS triggers,
                   coalesce((SELECT string_agg(quote_ident(r.rulename), ', ' ORDER BY r.rulename)
                             FROM pg_rewrite r
                             WHERE r.ev_class = t.oid AND r.rulename <> '_RETURN'), '') AS rules
            FROM pg_class t WHERE t.oid = to_regclass($1)";
        let table = self.table.clone();
        self.ask(|connection| {
            sql_query(statement).bind::<Text, _>(table).get_result(connection).optional()
        })
    }

    /// Begins a transaction that no other of this table and graph runs beside.
    fn begin_alone(&self) -> impl Fn(&mut PgConnection) -> QueryResult<()> + use<> {
        let (table, graph) = (self.table.clone(), self.graph.clone());
        move |connection| {
            connection.batch_execute(&format!(
                "BEGIN ISOLATION LEVEL READ COMMITTED; \
                 SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}'"
            ))?;
            sql_query(
                "SELECT pg_advisory_xact_lock(hashtextextended($1, to_regclass($2)::oid::bigint))",
            )
            .bind::<Text, _>(&graph)
            .bind::<Text, _>(&table)
            .execute(connection)?;
            Ok(())
        }
    }

    /// The statement that reads a graph's last row.
    fn last_row(&self) -> String {
        format!(
            "SELECT version, ordinal, event FROM {} WHERE graph = $1 \
             ORDER BY version DESC, ordinal DESC LIMIT 1",
            self.table
        )
    }

    /// The condition of an append: the graph's last row is `($5, $6)`, or (-1, -1) if it has none.
    fn is_last(&self) -> String {
        // In builds for tests it can be switched off, to show that its test then fails.
        #[cfg(feature = "failpoints")]
        if failpoint::is_off("sink-guard") {
            return "($5, $6) IS NOT NULL".to_owned();
        }
        format!(
            "coalesce((SELECT (version, ordinal) FROM {} WHERE graph = $1 \
                       ORDER BY version DESC, ordinal DESC LIMIT 1), (-1::bigint, -1::bigint)) \
             = ($5, $6)",
            self.table
        )
    }

    fn append_part(&mut self, part: &[(EventIndex, &str)]) -> Result<(), SinkError> {
        let number =
            |number: u64| i64::try_from(number).expect("versions and ordinals are below 2^63");
        let versions: Vec<i64> = part.iter().map(|(index, _)| number(index.version)).collect();
        let ordinals: Vec<i64> = part.iter().map(|(index, _)| number(index.ordinal)).collect();
        let events: Vec<&str> = part.iter().map(|(_, event)| *event).collect();
        let statement = format!(
            "INSERT INTO {} (graph, version, ordinal, event)
             SELECT $1, new.version, new.ordinal, new.event
             FROM unnest($2, $3, $4) AS new (version, ordinal, event)
             WHERE {}",
            self.table,
            self.is_last()
        );
        let (begin, graph, last) =
            (self.begin_alone(), self.graph.clone(), self.last.unwrap_or((-1, -1)));
        let last_row = self.last_row();
        let stored_rows = format!(
            "SELECT count(*) AS rows FROM {} WHERE graph = $1 AND (version, ordinal) > ($2, $3)",
            self.table
        );
        let new_last = versions.last().copied().zip(ordinals.last().copied());
        let appended = self.ask(|connection| {
            if failpoint::is_off("sink-guard") || failpoint::is_off("sink-lock") {
                connection.batch_execute("BEGIN")?;
            } else {
                begin(connection)?;
            }
            let inserted = sql_query(statement)
                .bind::<Text, _>(&graph)
                .bind::<Array<BigInt>, _>(versions)
                .bind::<Array<BigInt>, _>(ordinals)
                .bind::<Array<Text>, _>(events)
                .bind::<BigInt, _>(last.0)
                .bind::<BigInt, _>(last.1)
                .execute(connection)?;
            if inserted == part.len() {
                // A trigger may have deleted rows again once they were inserted.
                let stored = sql_query(stored_rows)
                    .bind::<Text, _>(&graph)
                    .bind::<BigInt, _>(last.0)
                    .bind::<BigInt, _>(last.1)
                    .get_result::<Stored>(connection)?;
                let missing = part.len().saturating_sub(stored.rows as usize);
                if missing > 0 {
                    connection.batch_execute("ROLLBACK")?;
                    return Ok(Appended::Dropped(missing));
                }
                connection.batch_execute("COMMIT")?;
                return Ok(Appended::All);
            }
            // Nobody else has written meanwhile: the lock is still held.
            let found = sql_query(last_row).bind::<Text, _>(&graph).get_result::<Row>(connection);
            let found = found.optional()?.map_or((-1, -1), |row| (row.version, row.ordinal));
            connection.batch_execute("ROLLBACK")?;
            let dropped = inserted > 0 || found == last;
            Ok(if dropped { Appended::Dropped(part.len() - inserted) } else { Appended::Overtaken })
        })?;
        match appended {
            Appended::All => {}
            Appended::Overtaken => {
                return Err(
                    self.superseded("its last event is not the one that this exporter left there")
                );
            }
            Appended::Dropped(rows) => {
                let table = &self.table;
                return Err(self.refused(format!(
                    "{rows} of {} rows were not stored, and nothing said so: a trigger or rule of \
                     {table} drops them. Take it off (ALTER TABLE {table} DISABLE TRIGGER NAME), \
                     and export again; nothing of these was written",
                    part.len()
                )));
            }
        }
        failpoint::pass("sink-appended");
        self.last = new_last;
        Ok(())
    }
}

#[derive(QueryableByName)]
struct Dropped {
    #[diesel(sql_type = Bool)]
    dropped: bool,
}

/// What became of rows.
enum Appended {
    All,
    /// The graph's last row is another than the one after which they were to come.
    Overtaken,
    /// So many of them were not stored.
    Dropped(usize),
}

#[derive(QueryableByName)]
struct Stored {
    #[diesel(sql_type = BigInt)]
    rows: i64,
}

#[derive(QueryableByName)]
struct Hazards {
    #[diesel(sql_type = Bool)]
    partitioned: bool,
    #[diesel(sql_type = Bool)]
    row_security: bool,
    #[diesel(sql_type = Text)]
    unlogged: String,
    #[diesel(sql_type = Text)]
    triggers: String,
    #[diesel(sql_type = Text)]
    rules: String,
}

/// Where a table is, as the server knows it.
#[derive(QueryableByName)]
struct Located {
    #[diesel(sql_type = Text)]
    database: String,
    #[diesel(sql_type = Text)]
    table: String,
}

#[derive(QueryableByName)]
struct System {
    #[diesel(sql_type = Text)]
    identifier: String,
}

impl Sink for PostgresSink {
    fn identity(&mut self) -> Result<String, SinkError> {
        let located = "
            SELECT current_database()::text AS database, n.nspname || '.' || t.relname AS table
            FROM pg_class t JOIN pg_namespace n ON n.oid = t.relnamespace
            WHERE t.oid = to_regclass($1)";
        let table = self.table.clone();
        let located: Option<Located> = self.ask(|connection| {
            sql_query(located).bind::<Text, _>(table).get_result(connection).optional()
        })?;
        let Located { database, table } =
            located.ok_or_else(|| self.not_there("there is no such table"))?;
        let system = "SELECT system_identifier::text AS identifier FROM pg_control_system()";
        // Not every server that speaks the protocol has it, nor lets everybody ask.
        let system = match self.ask(|connection| sql_query(system).get_result::<System>(connection))
        {
            Ok(System { identifier }) => format!("of system {identifier}"),
            Err(SinkError::Unavailable { .. }) => {
                return Err(self.unavailable("it ended the session".to_owned()));
            }
            Err(_) => format!("at {}", self.place),
        };
        Ok(format!("Postgres table {database}.{table} {system}"))
    }

    fn check(&mut self) -> Result<Vec<String>, SinkError> {
        let form = self.form()?.ok_or_else(|| self.not_there(DROPPED))?;
        self.check_form(&form)?;
        let hazards = match self.hazards() {
            // Not every server that speaks the protocol has that catalogue.
            Err(SinkError::Failed { what, .. } | SinkError::Denied { what, .. }) => {
                return Ok(vec![format!("what may take events away cannot be learnt: {what}")]);
            }
            hazards => hazards?.ok_or_else(|| self.not_there(DROPPED))?,
        };
        let table = &self.table;
        let damaged = |what: String| SinkError::Damaged { sink: self.name.clone(), what };
        if !hazards.unlogged.is_empty() {
            return Err(damaged(format!(
                "a crash would empty its partitions {}. ALTER TABLE … SET LOGGED each",
                hazards.unlogged
            )));
        }
        let mut warnings = Vec::new();
        if hazards.partitioned {
            warnings.push(format!(
                "{table} has partitions: whoever drops or detaches one takes events out of the \
                 log. Keep them all, or export to a table that is not there yet"
            ));
        }
        if hazards.row_security {
            warnings.push(format!(
                "{table} has row security, which may hide events or keep them out. ALTER TABLE \
                 {table} DISABLE ROW LEVEL SECURITY"
            ));
        }
        for (what, found, command) in [
            ("triggers", &hazards.triggers, "DISABLE TRIGGER"),
            ("rules", &hazards.rules, "DISABLE RULE"),
        ] {
            if !found.is_empty() {
                warnings.push(format!(
                    "{table} has {what} ({found}), which may alter, drop or delete events. ALTER \
                     TABLE {table} {command} NAME, unless you know that they do not"
                ));
            }
        }
        Ok(warnings)
    }

    fn last(&mut self) -> Result<Option<String>, SinkError> {
        let (begin, graph) = (self.begin_alone(), self.graph.clone());
        let statement = self.last_row();
        let row = self.ask(|connection| {
            begin(connection)?;
            let row = sql_query(statement)
                .bind::<Text, _>(graph)
                .get_result::<Row>(connection)
                .optional()?;
            connection.batch_execute("COMMIT")?;
            Ok(row)
        })?;
        self.last = row.as_ref().map(|row| (row.version, row.ordinal));
        Ok(row.map(|row| row.event))
    }

    fn first(&mut self) -> Result<Option<String>, SinkError> {
        let graph = self.graph.clone();
        let statement = format!(
            "SELECT version, ordinal, event FROM {} WHERE graph = $1 \
             ORDER BY version, ordinal LIMIT 1",
            self.table
        );
        let row = self.ask(|connection| {
            sql_query(statement).bind::<Text, _>(graph).get_result::<Row>(connection).optional()
        })?;
        Ok(row.map(|row| row.event))
    }

    fn gaps(&mut self) -> Result<Vec<Gap>, SinkError> {
        if self.purpose != Purpose::Ask {
            return Ok(Vec::new());
        }
        let (begin, graph, table) = (self.begin_alone(), self.graph.clone(), &self.table);
        let statement = format!(
            "SELECT one.event AS before, other.event AS after FROM (
                 SELECT version, ordinal, lead(version) OVER places AS next_version,
                        lead(ordinal) OVER places AS next_ordinal
                 FROM {table} WHERE graph = $1 WINDOW places AS (ORDER BY version, ordinal)
             ) place
             JOIN {table} one ON one.graph = $1 AND one.version = place.version
                 AND one.ordinal = place.ordinal
             JOIN {table} other ON other.graph = $1 AND other.version = place.next_version
                 AND other.ordinal = place.next_ordinal
             WHERE (next_version, next_ordinal) NOT IN ((place.version, place.ordinal + 1),
                 (place.version + 1, 0))
             ORDER BY place.version, place.ordinal LIMIT {GAPS_MAX}"
        );
        let rows = self.ask(|connection| {
            begin(connection)?;
            let rows = sql_query(statement).bind::<Text, _>(graph).load::<Beside>(connection)?;
            connection.batch_execute("COMMIT")?;
            Ok(rows)
        })?;
        let gap = |row: Beside| Gap { before: Some(row.before), after: row.after };
        Ok(rows.into_iter().map(gap).collect())
    }

    fn append(&mut self, batch: &Batch) -> Result<(), SinkError> {
        if let Some((index, event)) =
            batch.events().find(|(_, event)| event.len() > EVENT_BYTES_MAX)
        {
            return Err(self.refused(format!(
                "the event at {index} has {} bytes, and a value in Postgres {EVENT_BYTES_MAX} \
                 at most. Export to a file; nothing of this append was written",
                event.len()
            )));
        }
        batch
            .parts(PART_EVENTS_MAX, PART_BYTES_MAX)
            .iter()
            .try_for_each(|part| self.append_part(part))
    }

    fn sync(&mut self) -> Result<(), SinkError> {
        Ok(())
    }

    fn read(&mut self, each: &mut dyn FnMut(&str) -> ControlFlow<()>) -> Result<(), SinkError> {
        let statement = format!(
            "SELECT version, ordinal, event FROM (
                 SELECT version, ordinal, event,
                        sum(octet_length(event)) OVER (ORDER BY version, ordinal) - octet_length(event) AS bytes_before
                 FROM (SELECT version, ordinal, event FROM {} WHERE graph = $1 AND (version, ordinal) > ($2, $3)
                       ORDER BY version, ordinal LIMIT $4) AS following
             ) AS page WHERE bytes_before < $5 ORDER BY version, ordinal",
            self.table
        );
        // Before it has statistics of a table, the planner would rather sort all that follows, for
        // each page, than go along the primary key.
        self.ask(|connection| {
            connection.batch_execute("SET enable_sort = off; SET enable_bitmapscan = off")
        })?;
        let mut after = (-1, -1);
        loop {
            let graph = &self.graph.clone();
            let page: Vec<Row> = self.ask(|connection| {
                sql_query(&statement)
                    .bind::<Text, _>(graph)
                    .bind::<BigInt, _>(after.0)
                    .bind::<BigInt, _>(after.1)
                    .bind::<BigInt, _>(PAGE_ROWS_MAX)
                    .bind::<BigInt, _>(PAGE_BYTES)
                    .load(connection)
            })?;
            let Some(last) = page.last() else { return Ok(()) };
            after = (last.version, last.ordinal);
            if page.iter().any(|row| each(&row.event).is_break()) {
                return Ok(());
            }
        }
    }
}
