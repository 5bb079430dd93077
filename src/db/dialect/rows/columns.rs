//! The values of a row's columns: lists of ids, and texts and integers that are checked to be such.

use arcstr::ArcStr;
use diesel::deserialize::{self, FromSql, FromSqlRow};
use diesel::pg::{Pg, PgValue};
use diesel::sql_types::{Array, BigInt, Integer, Text};
use diesel::sqlite::{Sqlite, SqliteType, SqliteValue};

/// Ids as SQLite's JSON or Postgres' text has a list.
pub(in crate::db::dialect) fn list_of_ids(ids: &[u32], open: char, close: char) -> String {
    let mut text = String::with_capacity(2 + 8 * ids.len());
    let mut digits = itoa::Buffer::new();
    text.push(open);
    for (at, id) in ids.iter().enumerate() {
        if at > 0 {
            text.push(',');
        }
        text.push_str(digits.format(*id));
    }
    text.push(close);
    text
}

/// The ids of a list as [`list_of_ids`] writes it for SQLite.
fn ids_of_json(text: &str) -> Option<Vec<u32>> {
    let inner = text.strip_prefix('[')?.strip_suffix(']')?.as_bytes();
    if inner.is_empty() {
        return Some(Vec::new());
    }
    let mut ids = Vec::with_capacity(inner.iter().filter(|&&byte| byte == b',').count() + 1);
    for digits in inner.split(|&byte| byte == b',') {
        if digits.is_empty() {
            return None;
        }
        let id = digits.iter().try_fold(0_u32, |id, byte| {
            let digit = byte.is_ascii_digit().then(|| u32::from(byte - b'0'))?;
            id.checked_mul(10)?.checked_add(digit)
        });
        ids.push(id?);
    }
    Some(ids)
}

/// A text that is made shareable as it is read: the graph keeps it as it is.
#[derive(Debug, FromSqlRow)]
#[diesel(sql_type = Text)]
pub(super) struct ReadText {
    pub text: ArcStr,
    /// Whether it is a text, of UTF-8. If not, `text` only shows people what is there.
    pub fits: bool,
}

impl ReadText {
    fn of(text: &str, fits: bool) -> Self {
        // What most jobs have as their specification takes no memory of its own.
        let text = if text == "{}" { arcstr::literal!("{}") } else { text.into() };
        Self { text, fits }
    }
}

impl FromSql<Text, Sqlite> for ReadText {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let is_text = value.value_type() == Some(SqliteType::Text);
        let text = value.read_text();
        // This may stand for bytes that are no UTF-8. To read the bytes of every text would cost a
        // copy by SQLite.
        if text.contains(char::REPLACEMENT_CHARACTER) {
            let text = Self::of(text, is_text);
            let fits = is_text && str::from_utf8(value.read_blob()).is_ok();
            return Ok(Self { fits, ..text });
        }
        Ok(Self::of(text, is_text))
    }
}

impl FromSql<Text, Pg> for ReadText {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self::of(str::from_utf8(value.as_bytes())?, true))
    }
}

/// An integer. SQLite would read as one whatever a column holds: text as 0, a fraction without its
/// digits after the point.
#[derive(Debug, FromSqlRow)]
#[diesel(sql_type = BigInt)]
pub(super) struct ReadInteger {
    pub value: i64,
    pub fits: bool,
}

impl FromSql<BigInt, Sqlite> for ReadInteger {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        let fits = value.value_type() == Some(SqliteType::Long);
        Ok(Self { value: value.read_long(), fits })
    }
}

impl FromSql<BigInt, Pg> for ReadInteger {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self { value: FromSql::<BigInt, Pg>::from_sql(value)?, fits: true })
    }
}

/// A list of ids as SQLite has it, or as Postgres sends it.
#[derive(Debug, FromSqlRow)]
#[diesel(sql_type = Text)]
#[diesel(sql_type = Array<Integer>)]
pub(super) struct InputIds(pub Option<Vec<u32>>);

impl FromSql<Text, Sqlite> for InputIds {
    fn from_sql(mut value: SqliteValue<'_, '_, '_>) -> deserialize::Result<Self> {
        // What are bytes to SQLite is no JSON to its functions.
        let is_text = value.value_type() == Some(SqliteType::Text);
        Ok(Self(if is_text { ids_of_json(value.read_text()) } else { None }))
    }
}

impl FromSql<Array<Integer>, Pg> for InputIds {
    fn from_sql(value: PgValue<'_>) -> deserialize::Result<Self> {
        Ok(Self(ids_of_array(value.as_bytes())))
    }
}

/// Reads an array's binary form: the number of dimensions, a flag, the elements' type, length and
/// lower bound of the one dimension, then each element after its length in bytes.
fn ids_of_array(bytes: &[u8]) -> Option<Vec<u32>> {
    fn take(rest: &mut &[u8]) -> Option<i32> {
        let (first, after) = rest.split_first_chunk()?;
        *rest = after;
        Some(i32::from_be_bytes(*first))
    }
    let mut rest = bytes;
    let dimensions = take(&mut rest)?;
    let (_has_null, _type) = (take(&mut rest)?, take(&mut rest)?);
    if dimensions == 0 {
        return Some(Vec::new());
    }
    if dimensions != 1 {
        return None;
    }
    let (length, lower_bound) = (take(&mut rest)?, take(&mut rest)?);
    if lower_bound != 1 {
        return None;
    }
    let mut ids = Vec::with_capacity(usize::try_from(length).ok()?.min(rest.len() / 8));
    for _ in 0..length {
        if take(&mut rest)? != 4 {
            return None;
        }
        ids.push(u32::try_from(take(&mut rest)?).ok()?);
    }
    rest.is_empty().then_some(ids)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_of_ids_are_read_as_they_are_written() {
        for ids in [vec![], vec![0], vec![7, 4_294_967_295], vec![3, 1, 2]] {
            assert_eq!(ids_of_json(&list_of_ids(&ids, '[', ']')), Some(ids));
        }
        for text in
            ["", "[", "[1", "1]", "[1,]", "[,1]", "[-1]", "[+1]", "[1.0]", "[4294967296]", "{1}"]
        {
            assert_eq!(ids_of_json(text), None, "{text}");
        }
    }

    #[test]
    fn an_array_that_is_no_list_of_ids_is_told_from_one() {
        let array = |words: &[i32]| -> Vec<u8> {
            words.iter().flat_map(|word| word.to_be_bytes()).collect()
        };
        assert_eq!(ids_of_array(&array(&[0, 0, 23])), Some(vec![]));
        assert_eq!(ids_of_array(&array(&[1, 0, 23, 2, 1, 4, 5, 4, 6])), Some(vec![5, 6]));
        for damaged in [
            &[][..],
            &[2, 0, 23, 1, 1, 1, 1, 4, 5],
            &[1, 0, 23, 2, 0, 4, 5, 4, 6],
            &[1, 1, 23, 1, 1, -1],
            &[1, 0, 23, 1, 1, 4, -5],
            &[1, 0, 23, 2, 1, 4, 5],
            &[1, 0, 23, 1, 1, 4, 5, 6],
            &[1, 0, 23, -1, 1],
        ] {
            assert_eq!(ids_of_array(&array(damaged)), None, "{damaged:?}");
        }
    }
}
