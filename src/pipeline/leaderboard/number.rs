//! Numbers of JSON: NaN is written as `null`, which is read back as NaN.

use serde::{Deserialize, Deserializer};

/// A number or `null`.
#[derive(Deserialize)]
#[serde(from = "Option<f64>")]
struct Number(f64);

impl From<Option<f64>> for Number {
    fn from(value: Option<f64>) -> Self {
        Self(value.unwrap_or(f64::NAN))
    }
}

pub(super) fn one<'de, D: Deserializer<'de>>(from: D) -> Result<f64, D::Error> {
    Ok(Number::deserialize(from)?.0)
}

pub(super) fn list<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    Ok(Vec::<Number>::deserialize(from)?.into_iter().map(|n| n.0).collect())
}

pub(super) fn triple<'de, D: Deserializer<'de>>(from: D) -> Result<[f64; 3], D::Error> {
    Ok(<[Number; 3]>::deserialize(from)?.map(|n| n.0))
}

pub(super) fn triples<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<[f64; 3]>, D::Error> {
    Ok(Vec::<[Number; 3]>::deserialize(from)?.into_iter().map(|of| of.map(|n| n.0)).collect())
}
