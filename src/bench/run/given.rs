//! A server that somebody else has started: what it is called, where it is, and what it is said to
//! survive. docs/YOUR-VARIANT.md says what such a server must do.

use std::time::Duration;

use crate::bench::target::HttpTarget;
use crate::design;
use crate::graph::Name;

/// A server that is given, of one node or several.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Given {
    /// What it is called in the results.
    pub name: String,
    /// Its nodes, as in `http://127.0.0.1:8000`.
    pub urls: Vec<String>,
}

/// The longest name of one, in bytes.
const NAME_BYTES_MAX: usize = 40;

impl Given {
    /// As on the command line: `NAME=URL[,URL…]`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, urls) = text.split_once('=').ok_or("must be NAME=URL[,URL…]")?;
        let is_letter = |letter: char| letter.is_ascii_alphanumeric() || "-_.".contains(letter);
        if name.is_empty() || name.len() > NAME_BYTES_MAX || !name.chars().all(is_letter) {
            return Err(format!(
                "the name must have 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` or `.`"
            ));
        }
        if design::named(name).is_some() || ["echo", "null"].contains(&name) {
            return Err(format!("`{name}` is a design of this program: choose another name"));
        }
        let urls: Vec<String> =
            urls.split(',').map(|url| url.trim_end_matches('/').to_owned()).collect();
        let graph = Name::new("any").expect("a name");
        HttpTarget::new(&urls, graph, Duration::from_secs(1)).map_err(|error| error.to_string())?;
        Ok(Self { name: name.to_owned(), urls })
    }
}

/// What an answered write of a given server survives, as its maker says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Survives {
    /// Whose.
    pub name: String,
    /// As in the results.
    pub what: &'static str,
}

/// What is told of one of which nobody has said anything.
pub const NOT_STATED: &str = "given: not stated";

impl Survives {
    /// As on the command line: `NAME=nothing|process|machine`.
    ///
    /// # Errors
    /// Says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, what) = text.split_once('=').unwrap_or((text, ""));
        let what = match what {
            "nothing" => "given: nothing",
            "process" => "given: a crash of processes only",
            "machine" => "given: a crash of the machine",
            _ => return Err("must be NAME=nothing, NAME=process or NAME=machine".to_owned()),
        };
        Ok(Self { name: name.to_owned(), what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::design::PAIRS;

    #[test]
    fn a_given_server_has_a_name_of_its_own_and_is_a_server() {
        let one = Given::parse("mine=http://127.0.0.1:8000/").unwrap();
        assert_eq!(
            (one.name.as_str(), &one.urls[..]),
            ("mine", &["http://127.0.0.1:8000".to_owned()][..])
        );
        let two = Given::parse("mine=http://127.0.0.1:8000,http://127.0.0.1:8001").unwrap();
        assert_eq!(two.urls.len(), 2);
        for (text, says) in [
            ("http://127.0.0.1:8000", "NAME=URL"),
            ("mine", "NAME=URL"),
            ("=http://127.0.0.1:1", "letters, digits"),
            ("mine=", "is no server"),
            ("mine=127.0.0.1:8000", "is no server"),
            (&format!("{}=http://127.0.0.1:8000", PAIRS[0].first), "is a design of this program"),
            ("echo=http://127.0.0.1:8000", "is a design of this program"),
        ] {
            let said = Given::parse(text).unwrap_err();
            assert!(said.contains(says), "{text}: {said}");
        }
    }

    #[test]
    fn what_its_answers_survive_is_one_of_three_things() {
        let said = Survives::parse("mine=process").unwrap();
        assert_eq!((said.name.as_str(), said.what), ("mine", "given: a crash of processes only"));
        for text in ["mine", "mine=", "mine=fire"] {
            assert!(Survives::parse(text).unwrap_err().contains("NAME=machine"));
        }
    }
}
