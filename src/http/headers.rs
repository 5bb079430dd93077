//! The headers of a request that the service reads, read strictly: one that is not UTF-8, and one
//! that can have one value and comes twice, is refused. Absent means that the client sent none.

use std::collections::BTreeMap;

use rocket::http::HeaderMap;

use super::problem::Problem;

/// The header of what nodes say to each other.
pub const FORWARDED: &str = "fencepost-forwarded";
/// Those with one value.
const SINGLE: [&str; 8] = [
    "host",
    "origin",
    "content-type",
    "content-length",
    "idempotency-key",
    "fencepost-actor",
    "last-event-id",
    FORWARDED,
];
/// Those with a list: several lines are one list, as RFC 9110 has it.
const LISTS: [&str; 4] = ["accept", "if-match", "if-none-match", "transfer-encoding"];

/// What is read of them.
#[derive(Debug, Clone, Default)]
pub struct Headers(BTreeMap<&'static str, String>);

impl Headers {
    /// Those of a request, of which those called `lost` were not UTF-8.
    ///
    /// # Errors
    /// [`Problem`] that names the first which is lost, or comes twice and has one value.
    pub fn read(headers: &HeaderMap<'_>, lost: &[String]) -> Result<Self, Problem> {
        let mut read = BTreeMap::new();
        for name in SINGLE.into_iter().chain(LISTS) {
            if lost.iter().any(|lost| lost == name) {
                let detail = format!("the value of the header {name} is not UTF-8");
                return Err(Problem::malformed(name, detail));
            }
            let mut values = headers.get(name);
            let Some(first) = values.next() else { continue };
            let mut value = first.to_owned();
            for further in values {
                if SINGLE.contains(&name) {
                    let detail = format!("the header {name} is given twice");
                    return Err(Problem::malformed(name, detail));
                }
                value.push_str(", ");
                value.push_str(further);
            }
            read.insert(name, value);
        }
        Ok(Self(read))
    }

    /// The value of the header called `name`, in lower case; `None` if it was not sent.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        debug_assert!(SINGLE.contains(&name) || LISTS.contains(&name), "{name} is not read");
        self.0.get(name).map(String::as_str)
    }
}

/// An entity tag, as ETag, `If-Match` and `If-None-Match` have them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntityTag<'h> {
    /// Whether it only says that two answers mean the same.
    weak: bool,
    /// What stands between the quotes.
    text: &'h str,
}

/// What `If-Match` and `If-None-Match` hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EntityTags<'h> {
    /// `*`
    Any,
    /// At least one.
    List(Vec<EntityTag<'h>>),
}

impl<'h> EntityTags<'h> {
    /// Reads a header's value; `None` if it is neither `*` nor a list of tags in quotes.
    #[must_use]
    pub fn read(value: &'h str) -> Option<Self> {
        const SPACE: [char; 2] = [' ', '\t'];
        let mut rest = value.trim_matches(SPACE);
        if rest == "*" {
            return Some(Self::Any);
        }
        let mut tags = Vec::new();
        loop {
            // RFC 9110 allows a list to have empty items.
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return (!tags.is_empty()).then_some(Self::List(tags));
            }
            let (weak, quoted) = match rest.strip_prefix("W/") {
                Some(quoted) => (true, quoted),
                None => (false, rest),
            };
            let (text, after) = quoted.strip_prefix('"')?.split_once('"')?;
            tags.push(EntityTag { weak, text });
            rest = after.trim_start_matches(SPACE);
            if !rest.is_empty() && !rest.starts_with(',') {
                return None;
            }
        }
    }
}

impl EntityTag<'_> {
    /// The version that it stands for, if the service gives such a tag. A weak one never does.
    #[must_use]
    pub fn version(self) -> Option<u64> {
        if self.weak { None } else { self.version_if_weak() }
    }

    /// The same for a weak comparison.
    #[must_use]
    pub fn version_if_weak(self) -> Option<u64> {
        let version: u64 = self.text.parse().ok()?;
        // One way to write each.
        (version.to_string() == self.text).then_some(version)
    }
}

/// The tag of a version, as a header's value.
#[must_use]
pub fn entity_tag(version: u64) -> String {
    format!("\"{version}\"")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(value: &str) -> Option<Vec<(bool, &str)>> {
        match EntityTags::read(value)? {
            EntityTags::Any => Some(vec![(false, "*")]),
            EntityTags::List(tags) => Some(tags.iter().map(|tag| (tag.weak, tag.text)).collect()),
        }
    }

    #[test]
    fn a_list_of_tags_is_read_with_commas_inside_them_and_empty_items() {
        assert_eq!(tags(" * "), Some(vec![(false, "*")]));
        assert_eq!(tags("\"3\""), Some(vec![(false, "3")]));
        assert_eq!(
            tags("\"3\",W/\"4\" ,\t\"\""),
            Some(vec![(false, "3"), (true, "4"), (false, "")])
        );
        assert_eq!(tags("\"a,\", \",3\""), Some(vec![(false, "a,"), (false, ",3")]));
        assert_eq!(tags(",, \"3\" ,,"), Some(vec![(false, "3")]));
        for bad in
            ["", " ", ",", "3", "\"3", "3\"", "\"3\" \"4\"", "\"3\"4", "w/\"3\"", "W/3", "W/"]
        {
            assert_eq!(tags(bad), None, "{bad}");
        }
        for bad in ["*, \"3\"", "\"3\", *", "**"] {
            assert_eq!(tags(bad), None, "{bad}");
        }
    }

    #[test]
    fn only_a_tag_that_the_service_gives_stands_for_a_version() {
        let version = |value| match EntityTags::read(value) {
            Some(EntityTags::List(tags)) => (tags[0].version(), tags[0].version_if_weak()),
            other => panic!("{other:?}"),
        };
        assert_eq!(version("\"0\""), (Some(0), Some(0)));
        assert_eq!(version("W/\"7\""), (None, Some(7)));
        for unknown in ["\"07\"", "\"+7\"", "\" 7\"", "\"7 \"", "\"x\"", "\"18446744073709551616\""]
        {
            assert_eq!(version(unknown), (None, None), "{unknown}");
        }
    }
}
