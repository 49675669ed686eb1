//! How many samples a section of the YAML takes.

use crate::error::{Error, Result};

/// A part of the samples: the first ones, or a random draw; the section must not ask for both.
pub(super) fn one_part(section: &str, limit: Option<usize>, sample: Option<usize>) -> Result<()> {
    at_least_one(&format!("{section}.limit"), limit)?;
    at_least_one(&format!("{section}.sample"), sample)?;
    if limit.is_some() && sample.is_some() {
        return Err(Error::request(format!("{section}.sample"), "limit (the first N) or sample (a draw of N)", "both"));
    }
    Ok(())
}

pub(super) fn at_least_one(key: &str, value: Option<usize>) -> Result<()> {
    match value {
        Some(0) => Err(Error::request(key, "a whole number >= 1", "0")),
        _ => Ok(()),
    }
}
