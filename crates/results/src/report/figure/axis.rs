//! Axes: linear and logarithmic scales with ticks at round numbers.

use super::number;

/// How values are placed along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AxisScale {
    /// Equal differences are equal lengths.
    Linear,
    /// Equal ratios are equal lengths; only positive values can be shown.
    Log,
}

impl AxisScale {
    /// [`AxisScale::Log`] if all finite values are positive and span at least `decades` powers of ten.
    pub fn suiting(values: impl IntoIterator<Item = f64>, decades: f64) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values.into_iter().filter(|v| v.is_finite()) {
            low = low.min(v);
            high = high.max(v);
        }
        if low > 0.0 && (high / low).log10() >= decades { Self::Log } else { Self::Linear }
    }
}

/// An axis: its label, scale and range.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What is measured, with its unit.
    pub label: String,
    /// The scale.
    pub scale: AxisScale,
    /// Lower end of the range.
    pub low: f64,
    /// Upper end of the range.
    pub high: f64,
    /// The least of its values, before room is added.
    least: f64,
}

/// The largest numbers of an axis.
const LARGEST: f64 = 1e300;
const SMALLEST: f64 = 1e-300;
/// If an axis would have more ticks than this, something is wrong.
const MOST_TICKS: f64 = 100.0;

impl Axis {
    /// An axis of this range, for values that are bounded by definition.
    pub fn between(label: impl Into<String>, scale: AxisScale, low: f64, high: f64) -> Self {
        Self { label: label.into(), scale, low, high, least: low }
    }

    /// An axis for all showable `values`, with a little room at both ends.
    pub fn fit(label: impl Into<String>, scale: AxisScale, values: impl IntoIterator<Item = f64>) -> Self {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for v in values {
            if v.is_finite() && (scale == AxisScale::Linear || v > 0.0) {
                low = low.min(v);
                high = high.max(v);
            }
        }
        // Values beyond are drawn at the edge, because an axis and its room must be finite numbers.
        (low, high) = (low.max(-LARGEST), high.min(LARGEST));
        if scale == AxisScale::Log {
            (low, high) = (low.max(SMALLEST), high.max(SMALLEST));
        }
        if low > high {
            (low, high) = if scale == AxisScale::Log { (0.1, 10.0) } else { (0.0, 1.0) };
        }
        let mut axis = Self::between(label, scale, low, high);
        match scale {
            AxisScale::Linear => {
                let room = if high > low { 0.04 * (high - low) } else { 0.5 * low.abs().max(1.0) };
                axis.low -= room;
                axis.high += room;
            }
            AxisScale::Log => {
                let room = if high > low { (high / low).powf(0.04) } else { 3.0 };
                axis.low = (axis.low / room).max(f64::MIN_POSITIVE);
                axis.high = (axis.high * room).min(f64::MAX / 4.0);
            }
        }
        axis
    }

    /// The same axis, from zero: for lengths and counts on a linear scale. With values below zero by more than rounding it stays as it is.
    pub fn from_zero(mut self) -> Self {
        if self.scale == AxisScale::Linear && self.high > 0.0 && self.least >= -1e-9 * self.high {
            self.low = 0.0;
        }
        self
    }

    /// The same axis with its lower end raised to `floor`; lower values are drawn at the edge.
    pub fn raised_to(mut self, floor: f64) -> Self {
        if floor.is_finite() && floor > self.low && floor < self.high {
            self.low = floor;
        }
        self
    }

    /// The position of `value`, 0 at the lower and 1 at the upper end, limited to the range; `None` if it cannot be shown (not finite, or
    /// not positive on a logarithmic scale).
    pub fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.scale == AxisScale::Log && value <= 0.0) {
            return None;
        }
        let part = match self.scale {
            AxisScale::Linear => (value - self.low) / (self.high - self.low),
            // Differences of logarithms, because the ratios themselves may overflow.
            AxisScale::Log => (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln()),
        };
        Some(part.clamp(0.0, 1.0))
    }

    /// Ticks at round numbers within the range, about `wanted` of them, with their labels.
    pub fn ticks(&self, wanted: usize) -> Vec<(f64, String)> {
        let within = |v: &f64| *v >= self.low * (1.0 - 1e-12 * self.low.signum()) && *v <= self.high;
        if self.scale == AxisScale::Log {
            let first = self.low.log10().floor() as i32;
            let last = self.high.log10().ceil() as i32;
            let decades: Vec<i32> = (first..=last).filter(|e| within(&10f64.powi(*e))).collect();
            if decades.len() >= 3 {
                let stride = decades.len().div_ceil(wanted.max(2));
                return decades
                    .into_iter()
                    .filter(|e| e.rem_euclid(stride as i32) == 0)
                    .map(|e| (10f64.powi(e), decade(e)))
                    .collect();
            }
            let powers = self.high >= 2e5 || self.low < 5e-4;
            let fine: Vec<(f64, String)> = (first..=last)
                .flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)))
                .filter(within)
                .map(|v| (v, if powers { power(v, exponent(v)) } else { number::plain(v) }))
                .collect();
            if fine.len() >= 2 {
                return fine;
            }
        }
        let mut step = round_step((self.high - self.low) / wanted.max(1) as f64);
        if (self.high / step).floor() - (self.low / step).ceil() < 2.0 {
            // There can be fewer than three, because steps are rounded up.
            step = round_step(0.3 * step);
        }
        let count = (self.high - self.low) / step;
        if count.is_nan() || count > MOST_TICKS {
            return vec![];
        }
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        let values = (first..=last).map(|i| i as f64 * step);
        let values: Vec<f64> = values.filter(|v| self.scale == AxisScale::Linear || *v > 0.0).collect();
        let texts = tick_texts(&values, step);
        let mut ticks: Vec<(f64, String)> = values.into_iter().zip(texts).collect();
        // A step that is finer than the numbers themselves gives equal neighbours.
        ticks.dedup_by(|a, b| a.1 == b.1);
        ticks
    }
}

/// 1, 2 or 5 times a power of ten, the nearest above `raw`.
fn round_step(raw: f64) -> f64 {
    if !raw.is_finite() || raw <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(raw.log10().floor());
    let mantissa = raw / power;
    power
        * if mantissa <= 1.0 {
            1.0
        } else if mantissa <= 2.0 {
            2.0
        } else if mantissa <= 5.0 {
            5.0
        } else {
            10.0
        }
}

/// The labels of multiples of `step`, with as many digits as tell neighbours apart: all in figures, or all in powers of ten.
fn tick_texts(values: &[f64], step: f64) -> Vec<String> {
    let finest = exponent(step);
    let largest = values.iter().filter(|v| **v != 0.0).map(|v| exponent(*v)).max().unwrap_or(0);
    let decimals = (-finest).max(0) as usize;
    let in_figures = largest < 5 && (decimals <= 4 || largest >= -3);
    let text = |value: &f64| match *value {
        0.0 => "0".to_owned(),
        v if in_figures => format!("{v:.decimals$}").replace('-', "−"),
        v => power(v, finest),
    };
    values.iter().map(text).collect()
}

/// 2×10⁵, with digits down to the power of ten `finest`, so that an axis does not mix plain figures and powers.
fn power(value: f64, finest: i32) -> String {
    let exponent = exponent(value);
    let decimals = (exponent - finest).max(0) as usize;
    // Not powi, which goes through the reciprocal and so through infinity.
    let mantissa = format!("{:.decimals$}", value / 10f64.powf(f64::from(exponent)));
    let power = format!("10{}", number::superscript(exponent));
    match mantissa.as_str() {
        "1" => power,
        "-1" => format!("−{power}"),
        other => format!("{}×{power}", other.replace('-', "−")),
    }
}

/// The power of ten of a number's first digit. A hair below a power counts as that power.
fn exponent(value: f64) -> i32 {
    (value.abs().log10() + 1e-9).floor() as i32
}

/// A power of ten: in figures if they are few, otherwise as 10 to the power.
fn decade(exponent: i32) -> String {
    match exponent {
        -2..=3 => number::plain(10f64.powi(exponent)),
        _ => format!("10{}", number::superscript(exponent)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{Duration, Instant};

    #[test]
    fn no_values_make_an_axis_that_takes_for_ever() {
        let tiny = f64::from_bits(1);
        let hard =
            [0.0, 1.0, -1.0, 1e300, -1e300, f64::MAX, f64::MIN, 1e-300, tiny, f64::NAN, f64::INFINITY, 1.0 + 1e-15];
        let start = Instant::now();
        for a in hard {
            for b in hard {
                for scale in [AxisScale::Linear, AxisScale::Log] {
                    let axis = Axis::fit("x", scale, [a, b, 0.5]).from_zero();
                    let alone = Axis::fit("x", scale, [a, b]);
                    for axis in [axis, alone] {
                        assert!(axis.low.is_finite() && axis.high.is_finite() && axis.low < axis.high, "{a:e} {b:e}");
                        assert!(axis.ticks(6).len() <= 400, "{a:e} {b:e} {scale:?}");
                        for v in [a, b].into_iter().filter_map(|v| axis.place(v)) {
                            assert!((0.0..=1.0).contains(&v), "{a:e} {b:e}: {v}");
                        }
                    }
                }
            }
        }
        assert!(start.elapsed() < Duration::from_secs(5));
    }

    #[test]
    fn neighbouring_ticks_have_short_labels_of_their_own() {
        let labels = |low: f64, high: f64| -> Vec<String> {
            let ticks = Axis::fit("x", AxisScale::Linear, [low, high]).ticks(6);
            ticks.into_iter().map(|(_, words)| words).collect()
        };
        assert_eq!(labels(0.0123, 0.01235), ["0.01230", "0.01231", "0.01232", "0.01233", "0.01234", "0.01235"]);
        assert_eq!(labels(-0.01235, -0.0123), ["−0.01235", "−0.01234", "−0.01233", "−0.01232", "−0.01231", "−0.01230"]);
        assert_eq!(labels(1e6, 1.004e6), ["1.000×10⁶", "1.001×10⁶", "1.002×10⁶", "1.003×10⁶", "1.004×10⁶"]);
        assert_eq!(labels(0.0, 5e-9), ["0", "10⁻⁹", "2×10⁻⁹", "3×10⁻⁹", "4×10⁻⁹", "5×10⁻⁹"]);
        for (low, high) in [(1.0, 1.0 + 5e-9), (-1.004e6, -1e6), (-2e-9, 3e-9), (0.0, 123_456.0), (1.0, 1.0 + 1e-15)] {
            let found = labels(low, high);
            let mut distinct = found.clone();
            distinct.dedup();
            assert_eq!(found, distinct);
            assert!(!found.is_empty() && found.iter().all(|words| words.chars().count() <= 18), "{found:?}");
        }
    }

    #[test]
    fn an_axis_from_zero_shows_what_lies_below() {
        let axis = |values: [f64; 2]| Axis::fit("x", AxisScale::Linear, values).from_zero();
        let below = axis([-3.0, 1.0]);
        assert!(below.place(-3.0) > Some(0.0) && below.place(-3.0) < below.place(-2.0), "{below:?}");
        assert!(axis([-3.0, -1.0]).place(-3.0) > Some(0.0));
        // Rounding below zero is no value below zero.
        for values in [[0.0, 4.0], [1.0, 4.0], [0.0, 0.0], [-1e-12, 4.0]] {
            assert!(axis(values).low == 0.0, "{values:?}");
        }
    }
}
