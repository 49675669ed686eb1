//! How many models a sweep works on at a time, and how. These settings do not change the results.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// How many models are worked on at a time, each one separately.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub enum Workers {
    /// One for each CPU thread, at most 8; one on a GPU.
    #[default]
    Auto,
    /// This number.
    Fixed(usize),
}

/// How many models are trained as one batched program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Text", into = "Text")]
pub enum Together {
    /// On a GPU as many as its memory holds. On a CPU none: one model keeps a thread busy there, and batched products are faster only for
    /// tiny layers.
    #[default]
    Auto,
    /// None: each model is trained separately.
    Off,
    /// At most this number (>= 2).
    Fixed(usize),
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum Text {
    Number(usize),
    Word(String),
}

impl std::fmt::Display for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(n) => n.fmt(f),
            Self::Word(word) => word.fmt(f),
        }
    }
}

impl TryFrom<Text> for Workers {
    type Error = Error;
    fn try_from(text: Text) -> Result<Self> {
        text.to_string().parse()
    }
}

impl From<Workers> for Text {
    fn from(workers: Workers) -> Self {
        match workers {
            Workers::Auto => Self::Word("auto".to_owned()),
            Workers::Fixed(n) => Self::Number(n),
        }
    }
}

impl FromStr for Workers {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.parse() {
            Ok(n) if n >= 1 => Ok(Self::Fixed(n)),
            _ if text == "auto" => Ok(Self::Auto),
            _ => Err(Error::request("workers", "auto or a whole number >= 1", text)),
        }
    }
}

impl TryFrom<Text> for Together {
    type Error = Error;
    fn try_from(text: Text) -> Result<Self> {
        text.to_string().parse()
    }
}

impl From<Together> for Text {
    fn from(together: Together) -> Self {
        match together {
            Together::Auto => Self::Word("auto".to_owned()),
            Together::Off => Self::Word("off".to_owned()),
            Together::Fixed(n) => Self::Number(n),
        }
    }
}

impl FromStr for Together {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            ("off", _) => Ok(Self::Off),
            (_, Ok(n)) if n >= 2 => Ok(Self::Fixed(n)),
            _ => Err(Error::request("together", "auto, off or a whole number >= 2", text)),
        }
    }
}
