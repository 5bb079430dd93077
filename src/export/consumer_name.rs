//! The names of exports among a graph's consumers.

use super::sink_url::SinkUrl;
use super::sinks::file;
use crate::graph::Name;

/// Whether earlier builds gave an export to that sink this name: its URL as it was given, or the
/// file's path with its links.
pub fn is_former_name(name: &Name, to: &SinkUrl) -> bool {
    let Some(url) = name.as_str().strip_prefix(NAME_BEGINS) else { return false };
    match (SinkUrl::parse(url), to) {
        (Ok(SinkUrl::File(former)), SinkUrl::File(path)) => {
            file::absolute(&former).is_ok_and(|one| file::absolute(path).is_ok_and(|to| one == to))
        }
        (Ok(former), to) => former.to_string() == to.to_string(),
        (Err(_), _) => false,
    }
}

/// What the names of exports among the consumers begin with, unless they are given.
pub const NAME_BEGINS: &str = "export to ";
