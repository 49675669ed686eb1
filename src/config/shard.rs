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
    /// `rank`: the launcher's part.
    Rank,
    /// `I/N`.
    Part(Shard),
    /// `any/N`: parts of N that no other process has, one after another.
    Any(usize),
}

impl ShardChoice {
    /// The part that is named.
    pub fn shard(self) -> Option<Shard> {
        match self {
            Self::Part(shard) => Some(shard),
            Self::Whole | Self::Rank | Self::Any(_) => None,
        }
    }
}

impl std::str::FromStr for ShardChoice {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        let any = text.strip_prefix("any/").and_then(|parts| parts.parse().ok()).filter(|parts| *parts >= 1);
        match (text, any) {
            ("none", _) => Ok(Self::Whole),
            ("rank", _) => Ok(Self::Rank),
            (_, Some(parts)) => Ok(Self::Any(parts)),
            _ => text
                .parse()
                .map(Self::Part)
                .map_err(|_| Error::request("shard", "I/N with 1 <= I <= N, any/N, rank or none", text)),
        }
    }
}

/// How a run's samples are handed out to its processes. This says who computes, and is no part of a result's identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HandOut {
    /// This process does the part that its request names, or everything.
    #[default]
    Fixed,
    /// The part that its request names is a launcher's, which may have started more processes than there are samples: a part of none is no
    /// error.
    Launched,
    /// This process does parts that no other has or has done, one after another, until none is left.
    InTurn {
        /// The most parts.
        parts: usize,
        /// Parts have about this many samples at least.
        least: usize,
        /// The process's place among all of them: it begins there, so that processes seldom ask for the same part.
        from: Shard,
    },
}

impl HandOut {
    /// Parts for each rank. With them the rank that ends last is at most 1/16 of its share later than the others if it is as fast, and 1/8 if
    /// it is half as fast.
    const PARTS: usize = 16;
    /// Samples in a part, at least: files have a price.
    const LEAST: usize = 8;

    /// In turn among ranks that a launcher started beside each other.
    pub fn among(rank: Shard) -> Self {
        Self::InTurn { parts: rank.of.saturating_mul(Self::PARTS), least: Self::LEAST, from: rank }
    }

    /// In turn, in so many parts.
    pub fn any(parts: usize, from: Option<Shard>) -> Self {
        Self::InTurn { parts, least: 1, from: from.unwrap_or(Shard { part: 1, of: 1 }) }
    }

    /// The parts of `total` samples in the order in which this process asks for them; empty unless it takes them in turn. `begun` is the
    /// number of parts of files that are there: where a launcher's ranks were fewer or more before, they go on with these.
    pub fn order(self, total: usize, begun: Option<usize>) -> Vec<Shard> {
        let Self::InTurn { parts, least, from } = self else { return Vec::new() };
        let begun = begun.filter(|begun| least > 1 && *begun >= from.of);
        let of = begun.unwrap_or(parts.min(total.div_ceil(least.max(1))).max(1));
        let first = from.range(of).start;
        (0..of).map(|n| Shard { part: (first + n) % of + 1, of }).collect()
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

    /// The number of parts that the name of a part's file tells, where it is one of `whole` ([`Shard::file`]).
    pub fn of_file(whole: &Path, file: &Path) -> Option<usize> {
        let name = file.file_name()?.to_str()?;
        let rest = name.strip_prefix(whole.file_stem()?.to_str()?)?.strip_prefix(".shard-")?;
        let (part, of) = rest.split('.').next()?.split_once("-of-")?;
        let shard = Self { part: part.parse().ok()?, of: of.parse().ok()? };
        let own = shard.file(whole);
        name.starts_with(own.file_name()?.to_str()?).then_some(shard.of)
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
