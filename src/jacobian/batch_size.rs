//! Samples in a pass, as the user writes it.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};

/// Samples in a pass, as the user writes it: `auto` or a number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BatchText", into = "String")]
pub enum BatchSize {
    /// Chosen by measuring.
    #[default]
    Auto,
    /// This many; only the number of cotangents in a pass is chosen by measuring.
    Fixed(usize),
}

impl std::str::FromStr for BatchSize {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse::<usize>()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(n)) if n > 0 => Ok(Self::Fixed(n)),
            _ => Err(Error::request("batch", "auto or a whole number >= 1", text)),
        }
    }
}

/// YAML writes a number as a number and `auto` as text.
#[derive(Deserialize)]
#[serde(untagged)]
enum BatchText {
    Number(u64),
    Word(String),
}

impl TryFrom<BatchText> for BatchSize {
    type Error = Error;
    fn try_from(text: BatchText) -> Result<Self> {
        match text {
            BatchText::Number(n) => n.to_string().parse(),
            BatchText::Word(word) => word.parse(),
        }
    }
}

impl From<BatchSize> for String {
    fn from(batch: BatchSize) -> Self {
        batch.to_string()
    }
}

impl std::fmt::Display for BatchSize {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Fixed(n) => write!(f, "{n}"),
        }
    }
}
