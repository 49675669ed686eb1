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
    /// Codes of a file of arrays: one for all samples, or one for each by its position.
    Code(String),
}

impl FromStr for Target {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        const EXPECTED: &str = "zero, shuffle, a position, code:FILE or a data set";
        if let Some(file) = text.strip_prefix("code:") {
            return match file {
                "" => Err(Error::request("target", EXPECTED, text)),
                _ => Ok(Self::Code(file.to_owned())),
            };
        }
        match (text, text.parse()) {
            ("", _) => Err(Error::request("target", EXPECTED, "nothing")),
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
            Self::Code(file) => write!(f, "code:{file}"),
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn targets_are_spelled_as_they_are_read() {
        for (text, target) in [
            ("zero", Target::Zero),
            ("7", Target::Index(7)),
            ("faces.h5", Target::File("faces.h5".to_owned())),
            ("code:z.h5:latents", Target::Code("z.h5:latents".to_owned())),
        ] {
            let read: Target = text.parse().unwrap();
            assert_eq!((&read, read.to_string().as_str()), (&target, text));
        }
        for text in ["", "code:"] {
            let error = text.parse::<Target>().unwrap_err();
            assert!(error.exit_code() == 2 && error.to_string().contains("code:FILE"), "{error}");
        }
    }
}
