//! Lists of numbers that may be written as a range: `[0.1, 1]`, or `{logspace: {start: -2, stop: 1, num: 50}}`.
//!
//! A resolved config writes out the numbers.

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;

/// `num` numbers from 10^start to 10^stop, evenly spaced in their logarithms, as in NumPy's `logspace`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Logspace {
    start: f64,
    stop: f64,
    num: usize,
}

/// The most numbers that a range may have.
const MOST: usize = 10_000;

impl Logspace {
    fn values(self) -> Result<Vec<f64>, String> {
        let Self { start, stop, num } = self;
        if !(1..=MOST).contains(&num) {
            return Err(format!("expected num of 1 to {MOST}, found {num}"));
        }
        if !(start.is_finite() && stop.is_finite() && start.abs() <= 300.0 && stop.abs() <= 300.0) {
            return Err(format!("expected start and stop, exponents of ten, of -300 to 300, found {start} and {stop}"));
        }
        let step = (stop - start) / (num.max(2) - 1) as f64;
        Ok((0..num)
            .map(|i| if i > 0 && i + 1 == num { stop } else { start + step * i as f64 })
            .map(|e| 10f64.powf(e))
            .collect())
    }
}

/// Deserialises a list or a range.
///
/// # Errors
/// If it is neither, or the range's values do not form a valid range.
pub fn numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<f64>, D::Error> {
    from.deserialize_any(Numbers)
}

/// Deserialises a list, a range, or nothing.
///
/// # Errors
/// As [`numbers`].
pub fn maybe_numbers<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<f64>>, D::Error> {
    #[derive(Deserialize)]
    struct Wrapped(#[serde(deserialize_with = "numbers")] Vec<f64>);
    Ok(Option::<Wrapped>::deserialize(from)?.map(|w| w.0))
}

struct Numbers;

impl<'de> Visitor<'de> for Numbers {
    type Value = Vec<f64>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of numbers or {logspace: {start, stop, num}}")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = list.next_element()? {
            values.push(value);
        }
        Ok(values)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut range = None;
        while let Some(key) = map.next_key::<String>()? {
            if key != "logspace" || range.is_some() {
                return Err(A::Error::unknown_field(&key, &["logspace"]));
            }
            range = Some(map.next_value::<Logspace>()?);
        }
        let range = range.ok_or_else(|| A::Error::missing_field("logspace"))?;
        range.values().map_err(A::Error::custom)
    }
}
