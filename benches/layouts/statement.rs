//! Statements as SQL text, with their values, on either database.

use std::marker::PhantomData;

use diesel::backend::Backend;
use diesel::connection::SimpleConnection;
use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::query_builder::{AstPass, Query, QueryFragment, QueryId};
use diesel::sql_types::{Array, BigInt, Binary, Text, Untyped};
use diesel::sqlite::Sqlite;

#[derive(Clone)]
pub enum Value {
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
    Integers(Vec<i64>),
    Texts(Vec<String>),
    BytesEach(Vec<Vec<u8>>),
}

pub trait Bind<DB: Backend> {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, DB>) -> QueryResult<()>;
}

impl Bind<Sqlite> for Value {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Sqlite>) -> QueryResult<()> {
        match self {
            Self::Integer(value) => out.push_bind_param::<BigInt, _>(value),
            Self::Text(value) => out.push_bind_param::<Text, _>(value),
            Self::Bytes(value) => out.push_bind_param::<Binary, _>(value),
            _ => unreachable!("SQLite has no arrays"),
        }
    }
}

impl Bind<Pg> for Value {
    fn push<'b>(&'b self, out: &mut AstPass<'_, 'b, Pg>) -> QueryResult<()> {
        match self {
            Self::Integer(value) => out.push_bind_param::<BigInt, _>(value),
            Self::Text(value) => out.push_bind_param::<Text, _>(value),
            Self::Bytes(value) => out.push_bind_param::<Binary, _>(value),
            Self::Integers(values) => out.push_bind_param::<Array<BigInt>, _>(values),
            Self::Texts(values) => out.push_bind_param::<Array<Text>, _>(values),
            Self::BytesEach(values) => out.push_bind_param::<Array<Binary>, _>(values),
        }
    }
}

/// SQL with a `?` for each value, which a connection prepares once; its rows are of the type `R`.
pub struct Statement<'s, R>(&'s str, &'s [Value], PhantomData<R>);

impl<'s, R> Statement<'s, R> {
    pub fn new(text: &'s str, values: &'s [Value]) -> Self {
        Self(text, values, PhantomData)
    }
}

impl<R> QueryId for Statement<'_, R> {
    type QueryId = ();
    const HAS_STATIC_QUERY_ID: bool = false;
}

impl<R, DB: Backend> QueryFragment<DB> for Statement<'_, R>
where
    Value: Bind<DB>,
{
    fn walk_ast<'b>(&'b self, mut out: AstPass<'_, 'b, DB>) -> QueryResult<()> {
        let mut parts = self.0.split('?');
        out.push_sql(parts.next().unwrap_or_default());
        for (value, part) in self.1.iter().zip(parts) {
            value.push(&mut out)?;
            out.push_sql(part);
        }
        Ok(())
    }
}

impl<R> Query for Statement<'_, R> {
    type SqlType = R;
}

impl<C, R> RunQueryDsl<C> for Statement<'_, R> {}

pub enum Session {
    Postgres(PgConnection),
    Sqlite(SqliteConnection),
}

/// For either kind of session.
macro_rules! each {
    ($session:expr, $text:expr, $connection:ident => $answer:expr) => {
        match $session {
            Session::Postgres($connection) => $answer,
            Session::Sqlite($connection) => $answer,
        }
        .unwrap_or_else(|error| panic!("{error}: {}", $text))
    };
}

impl Session {
    pub fn batch(&mut self, sql: &str) {
        each!(self, sql, connection => connection.batch_execute(sql));
    }

    pub fn run(&mut self, sql: &str, values: &[Value]) -> usize {
        let statement = Statement::<Untyped>::new(sql, values);
        each!(self, sql, connection => statement.execute(connection))
    }

    pub fn named_numbers(&mut self, sql: &str) -> Vec<(String, i64)> {
        let statement = Statement::<(Text, BigInt)>::new(sql, &[]);
        each!(self, sql, connection => statement.load(connection))
    }
}
