//! Lists in pages, in byte order of names. A cursor is the last name of the page before, bound to
//! the list that it came from.

use serde::Serialize;
use sha2::{Digest, Sha256};

use super::call::Call;
use super::problem::Problem;
use crate::graph::{Name, hex};

/// Items a page has if the client does not say.
const DEFAULT_ITEMS: usize = 100;
/// Items a page has at most.
const MOST_ITEMS: usize = 1000;

/// Which part of a list is asked for.
pub struct PageRequest {
    /// Names begin with this.
    pub prefix: String,
    /// Names come after this one.
    pub after: Option<String>,
    /// So many items at most.
    pub limit: usize,
    list: String,
}

/// A page as JSON.
#[derive(Serialize)]
pub struct Page<T> {
    items: Vec<T>,
    next_cursor: Option<String>,
}

impl PageRequest {
    /// Reads `prefix`, `cursor` and `limit`. `list` names the list, so that a cursor of another one
    /// is refused.
    ///
    /// # Errors
    /// [`Problem`] if one of them is not understood.
    pub fn new(call: &Call, list: &str) -> Result<Self, Problem> {
        let prefix = call.query("prefix").unwrap_or_default().to_owned();
        let limit = match call.number("limit")? {
            None => DEFAULT_ITEMS,
            Some(limit) => usize::try_from(limit)
                .ok()
                .filter(|limit| (1..=MOST_ITEMS).contains(limit))
                .ok_or_else(|| {
                    Problem::malformed("limit", format!("a page has 1 to {MOST_ITEMS} items"))
                })?,
        };
        let list = format!("{list}\0{prefix}");
        let after = call.query("cursor").map(|cursor| open_cursor(cursor, &list)).transpose()?;
        Ok(Self { prefix, after, limit, list })
    }

    /// Where to begin in a list that is ordered by name.
    #[must_use]
    pub fn from(&self) -> std::ops::Bound<&str> {
        match &self.after {
            Some(after) => std::ops::Bound::Excluded(after),
            None => std::ops::Bound::Included(&self.prefix),
        }
    }

    /// The page that these items, from [`from`](Self::from) on and not yet cut, begin with.
    pub fn page<T, U>(
        &self,
        items: impl Iterator<Item = T>,
        name: impl Fn(&T) -> &Name,
        show: impl Fn(T) -> U,
    ) -> Page<U> {
        let mut matching =
            items.take_while(|item| name(item).as_str().starts_with(&self.prefix)).peekable();
        let mut page = Page { items: Vec::new(), next_cursor: None };
        while let Some(item) = matching.next() {
            let last = page.items.len() + 1 == self.limit;
            if last && matching.peek().is_some() {
                page.next_cursor = Some(make_cursor(name(&item).as_str(), &self.list));
            }
            page.items.push(show(item));
            if last {
                break;
            }
        }
        page
    }
}

const SEAL_DIGITS: usize = 16;

fn seal(after: &str, list: &str) -> String {
    let mut hash = Sha256::new();
    hash.update(list);
    hash.update("\0");
    hash.update(after);
    hex(&hash.finalize())[..SEAL_DIGITS].to_owned()
}

fn make_cursor(after: &str, list: &str) -> String {
    seal(after, list) + &hex(after.as_bytes())
}

fn open_cursor(cursor: &str, list: &str) -> Result<String, Problem> {
    let opened = || {
        let (sealed, digits) = cursor.split_at_checked(SEAL_DIGITS)?;
        let bytes = digits.as_bytes().chunks(2).map(|pair| {
            let pair = std::str::from_utf8(pair).ok().filter(|pair| pair.len() == 2)?;
            u8::from_str_radix(pair, 16).ok()
        });
        let after = String::from_utf8(bytes.collect::<Option<Vec<u8>>>()?).ok()?;
        (seal(&after, list) == sealed).then_some(after)
    };
    opened().ok_or_else(|| {
        Problem::malformed(
            "cursor",
            "the cursor is not of this list; send the next_cursor of its last page, with the same prefix",
        )
    })
}
