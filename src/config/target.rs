//! What an attack leads towards, if it does not only lead away.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// `--target`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Target {
    /// The code 0, the middle of the prior, and its reconstruction.
    Zero,
    /// Another image of the data set for each sample, chosen by the seed.
    Shuffle,
    /// The image at a position of the data set.
    Index(u64),
    /// The first image of a separate data set.
    File(String),
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("", _) => Err(Error::request("target", "zero, shuffle, a position or a data set", "nothing")),
            ("zero", _) => Ok(Self::Zero),
            ("shuffle", _) => Ok(Self::Shuffle),
            (_, Ok(index)) => Ok(Self::Index(index)),
            (file, Err(_)) => Ok(Self::File(file.to_owned())),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zero => f.write_str("zero"),
            Self::Shuffle => f.write_str("shuffle"),
            Self::Index(index) => index.fmt(f),
            Self::File(file) => f.write_str(file),
        }
    }
}

impl TryFrom<String> for Target {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<Target> for String {
    fn from(target: Target) -> Self {
        target.to_string()
    }
}
