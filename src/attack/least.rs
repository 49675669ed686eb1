//! The check that every attack makes of its numbers.

use crate::error::{Error, Result};

pub(super) fn at_least_one(what: &str, n: usize) -> Result<()> {
    if n == 0 { Err(Error::request(what, "a whole number >= 1", "0")) } else { Ok(()) }
}
