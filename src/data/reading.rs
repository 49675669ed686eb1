//! How data are to be read, if the data do not say it themselves.

use crate::error::{Error, Result};
use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// What the user says about data, if their files do not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Reading {
    /// Where the channels of an array of images are; found by its shape if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layout: Option<Layout>,
    /// Which value means 1; found by the type of the values if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub full_scale: Option<FullScale>,
    /// What lies under transparent pixels; if absent, transparent pixels are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub background: Option<Background>,
}

impl Reading {
    /// True if nothing is set.
    pub fn is_default(&self) -> bool {
        *self == Self::default()
    }

    /// True if values are taken unchanged, whatever their size.
    pub fn is_free(&self) -> bool {
        self.full_scale == Some(FullScale::None)
    }
}

/// The order of the axes of an array of images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    /// [N, C, H, W], as in PyTorch.
    Nchw,
    /// [N, H, W, C], as in TensorFlow and in NumPy pictures.
    Nhwc,
}

/// What lies under transparent pixels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Background {
    /// 0.
    Black,
    /// 1.
    White,
}

/// The stored value that means 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "serde_yaml::Value", into = "serde_yaml::Value")]
pub enum FullScale {
    /// This one.
    Value(f64),
    /// No value: values are taken unchanged.
    None,
}

const EXPECTED: &str = "a number > 0, or none";

impl FromStr for FullScale {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self> {
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() && value > 0.0 => Ok(Self::Value(value)),
            Err(_) if text == "none" => Ok(Self::None),
            _ => Err(Error::request("full scale", EXPECTED, text)),
        }
    }
}

impl TryFrom<serde_yaml::Value> for FullScale {
    type Error = Error;
    fn try_from(value: serde_yaml::Value) -> Result<Self> {
        match (value.as_f64(), value.as_str()) {
            (Some(number), _) => number.to_string().parse(),
            (None, Some(text)) => text.parse(),
            // `full_scale: null` is `None` in YAML.
            (None, None) if value.is_null() => Ok(Self::None),
            _ => Err(Error::request("full scale", EXPECTED, format!("{value:?}"))),
        }
    }
}

impl From<FullScale> for serde_yaml::Value {
    fn from(scale: FullScale) -> Self {
        match scale {
            FullScale::Value(value) => value.into(),
            FullScale::None => "none".into(),
        }
    }
}
