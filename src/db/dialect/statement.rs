//! Statements as SQL text, with their values.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::serialize::ToSql;
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, HasSqlType, Integer, Nullable, Text, Untyped,
};

use super::AnyConnection;

/// A value of a `RawSql` statement that both databases take.
#[derive(Clone, Copy)]
pub enum Value<'v> {
    /// For a `BIGINT`.
    Integer(i64),
    /// For a `TEXT`.
    Text(&'v str),
    /// For a `BLOB` or `BYTEA`.
    Bytes(&'v [u8]),
    /// For a `BIGINT` that may be null.
    OptionalInteger(Option<i64>),
    /// For a `TEXT` that may be null.
    OptionalText(Option<&'v str>),
}

/// A value of a `RawSql` statement for Postgres.
pub(super) enum PostgresValue<'v> {
    Bool(bool),
    OptionalShort(Option<i32>),
    Integer(i64),
    OptionalInteger(Option<i64>),
    Text(&'v str),
    Bytes(&'v [u8]),
    Integers(Vec<i64>),
    OptionalIntegers(Vec<Option<i64>>),
    Texts(Vec<&'v str>),
    OptionalTexts(Vec<Option<&'v str>>),
    BytesEach(Vec<&'v [u8]>),
    /// Each an array in Postgres' spelling.
    OptionalLists(Vec<Option<String>>),
}

/// A value that a [`RawSql`] statement for a database can have.
trait Bind<DB: Backend> {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>;
}

impl<DB> Bind<DB> for Value<'_>
where
    DB: Backend + HasSqlType<BigInt> + HasSqlType<Text> + HasSqlType<Binary>,
    i64: ToSql<BigInt, DB>,
    Option<i64>: ToSql<Nullable<BigInt>, DB>,
    for<'t> Option<&'t str>: ToSql<Nullable<Text>, DB>,
    str: ToSql<Text, DB>,
    [u8]: ToSql<Binary, DB>,
{
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()> {
        match self {
            Value::Integer(value) => out.push_bind_param::<BigInt, _>(value),
            Value::Text(value) => out.push_bind_param::<Text, _>(*value),
            Value::Bytes(value) => out.push_bind_param::<Binary, _>(*value),
            Value::OptionalInteger(value) => out.push_bind_param::<Nullable<BigInt>, _>(value),
            Value::OptionalText(value) => out.push_bind_param::<Nullable<Text>, _>(value),
        }
    }
}

impl Bind<Pg> for PostgresValue<'_> {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match self {
            PostgresValue::Bool(value) => out.push_bind_param::<Bool, _>(value),
            PostgresValue::OptionalShort(value) => {
                out.push_bind_param::<Nullable<Integer>, _>(value)
            }
            PostgresValue::Integer(value) => out.push_bind_param::<BigInt, _>(value),
            PostgresValue::OptionalInteger(value) => {
                out.push_bind_param::<Nullable<BigInt>, _>(value)
            }
            PostgresValue::Bytes(value) => out.push_bind_param::<Binary, _>(*value),
            PostgresValue::OptionalLists(values) => {
                out.push_bind_param::<Array<Nullable<Text>>, _>(values)
            }
            PostgresValue::Text(value) => out.push_bind_param::<Text, _>(*value),
            PostgresValue::Integers(values) => out.push_bind_param::<Array<BigInt>, _>(values),
            PostgresValue::OptionalIntegers(values) => {
                out.push_bind_param::<Array<Nullable<BigInt>>, _>(values)
            }
            PostgresValue::Texts(values) => out.push_bind_param::<Array<Text>, _>(values),
            PostgresValue::OptionalTexts(values) => {
                out.push_bind_param::<Array<Nullable<Text>>, _>(values)
            }
            PostgresValue::BytesEach(values) => out.push_bind_param::<Array<Binary>, _>(values),
        }
    }
}

/// A statement as SQL text with a `?` for each value. A connection prepares it once, unlike those
/// of [`diesel::sql_query`] and unlike Diesel's own updates and inserts of several rows.
pub(super) struct RawSql<'w, V> {
    pub(super) text: &'static str,
    pub(super) values: &'w [V],
}

impl<V> QueryId for RawSql<'_, V> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<V: Bind<DB>, DB: Backend> QueryFragment<DB> for RawSql<'_, V> {
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut parts = self.text.split('?');
        out.push_sql(parts.next().unwrap_or_default());
        for (value, part) in self.values.iter().zip(parts) {
            value.push(&mut out)?;
            out.push_sql(part);
        }
        Ok(())
    }
}

/// A query as [`RawSql`], whose rows are read by the places of their columns, of the types `ST`.
pub(super) struct TypedSql<'w, ST, V> {
    sql: RawSql<'w, V>,
    columns: PhantomData<ST>,
}

impl<'w, ST, V> TypedSql<'w, ST, V> {
    pub(super) fn new(text: &'static str, values: &'w [V]) -> Self {
        Self { sql: RawSql { text, values }, columns: PhantomData }
    }
}

impl<ST, V> QueryId for TypedSql<'_, ST, V> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<ST, V: Bind<DB>, DB: Backend> QueryFragment<DB> for TypedSql<'_, ST, V> {
    fn walk_ast<'b>(&'b self, out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        self.sql.walk_ast(out)
    }
}

impl<ST, V> Query for TypedSql<'_, ST, V> {
    type SqlType = ST;
}

impl<C, ST, V> RunQueryDsl<C> for TypedSql<'_, ST, V> {}

/// Rows are read by the names of their columns.
impl<V> Query for RawSql<'_, V> {
    type SqlType = Untyped;
}

impl<C, V> RunQueryDsl<C> for RawSql<'_, V> {}

impl AnyConnection {
    /// Runs a statement that both databases understand, with a `?` for each value. Returns the
    /// number of rows that it changed.
    ///
    /// # Errors
    /// What the database reports.
    pub fn run(&mut self, text: &'static str, values: &[Value<'_>]) -> QueryResult<usize> {
        self.run_either(text, text, values)
    }

    /// Runs the statement for this database, with a `?` for each value. Returns the number of rows
    /// that it changed.
    pub(super) fn run_either(
        &mut self,
        sqlite: &'static str,
        postgres: &'static str,
        values: &[Value<'_>],
    ) -> QueryResult<usize> {
        debug_assert_eq!(sqlite.matches('?').count(), values.len());
        debug_assert_eq!(postgres.matches('?').count(), values.len());
        match self {
            Self::Sqlite(connection) => RawSql { text: sqlite, values }.execute(connection),
            Self::Postgres(connection) => RawSql { text: postgres, values }.execute(connection),
        }
    }
}

/// A row of one text, in a column named `value`.
#[derive(QueryableByName)]
pub(super) struct TextRow {
    #[diesel(sql_type = Text)]
    pub(super) value: String,
}
