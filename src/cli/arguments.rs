//! How values of several commands are read.

use fencepost::graph::Name;

use super::failure::Failure;

/// A name, of which the message says by which argument it was given.
pub fn name(argument: &str, text: &str) -> Result<Name, Failure> {
    Name::new(text).map_err(|invalid| Failure::usage(format!("{argument} `{text}`: {invalid}")))
}

/// Versions fit 63 bits.
pub fn version_from<const LEAST: u64>(text: &str) -> Result<u64, String> {
    match text.parse() {
        Ok(version) if (LEAST..i64::MAX as u64).contains(&version) => Ok(version),
        _ => Err(format!("is no version from {LEAST} on")),
    }
}

/// A limit of 0 would refuse everything.
pub fn at_least_one(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".to_owned()),
        Ok(number) => Ok(number),
        Err(_) => Err("is no whole number".to_owned()),
    }
}
