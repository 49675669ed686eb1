//! One part of a run's samples, or of a sweep's models.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Part `part` of `of` of the samples, counted from 1. The parts are contiguous and nearly equal; `merge` joins them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shard {
    /// The part's number, from 1.
    pub part: usize,
    /// The number of parts.
    pub of: usize,
}

impl std::fmt::Display for Shard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.part, self.of)
    }
}

/// `--shard` as the user writes it; where nothing is written, a launcher may give a part ([`super::launcher`]).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ShardChoice {
    /// `none`: everything, whatever launched the process.
    Whole,
    /// `I/N`.
    Part(Shard),
}

impl ShardChoice {
    /// The part that is named.
    pub fn shard(self) -> Option<Shard> {
        match self {
            Self::Whole => None,
            Self::Part(shard) => Some(shard),
        }
    }
}

impl std::str::FromStr for ShardChoice {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text {
            "none" => Ok(Self::Whole),
            _ => {
                text.parse().map(Self::Part).map_err(|_| Error::request("shard", "I/N with 1 <= I <= N, or none", text))
            }
        }
    }
}

impl std::str::FromStr for Shard {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let parsed = text.split_once('/').and_then(|(i, n)| Some((i.parse().ok()?, n.parse().ok()?)));
        match parsed {
            Some((part, of)) if part >= 1 && part <= of => Ok(Self { part, of }),
            _ => Err(Error::request("shard", "I/N with 1 <= I <= N", text)),
        }
    }
}

impl Shard {
    /// This part's places among `total`; none where there are fewer than parts.
    pub fn range(self, total: usize) -> std::ops::Range<usize> {
        // In 128 bits, for a number of parts that is large only by mistake.
        let at = |part: usize| (total as u128 * part as u128 / self.of as u128) as usize;
        at(self.part - 1)..at(self.part)
    }

    /// This part's name for a file of the whole: `scores.h5` is `scores.shard-03-of-16.h5`. Parts sort by their numbers.
    pub fn file(self, whole: &Path) -> PathBuf {
        let digits = self.of.to_string().len();
        let mut name = whole.file_stem().unwrap_or_default().to_owned();
        name.push(format!(".shard-{:0digits$}-of-{}", self.part, self.of));
        if let Some(extension) = whole.extension() {
            name.push(".");
            name.push(extension);
        }
        whole.with_file_name(name)
    }
}
