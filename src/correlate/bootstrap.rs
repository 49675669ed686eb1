//! Bootstrap confidence intervals of a statistic of paired rows.
//!
//! Source: Efron & Tibshirani 1993, "An introduction to the bootstrap", ch. 13 (percentile), ch. 14, eq. 14.9-14.15 (BCa).
//! Differs: the acceleration of more than 2000 rows is taken from a jackknife that leaves out groups of rows. It is the
//! same quantity: the skewness of a sum over m rows is smaller by sqrt(m), the number of groups by m.

use super::normal::{cdf, quantile};
use crate::error::{Error, Result};
use crate::seed::{Stage, generator};
use rand::Rng;
use rayon::prelude::*;
use serde::{Deserialize, Serialize};

/// How the interval is computed from the resamples.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// Quantiles of the resampled statistic.
    Percentile,
    /// Quantiles moved for bias and for an error that changes with the statistic.
    #[default]
    Bca,
}

/// The settings of a bootstrap.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Bootstrap {
    /// Number of resamples, at least 100. Default 10 000.
    pub resamples: usize,
    /// Probability that the interval should cover the truth, in (0, 1). Default 0.95.
    pub level: f64,
    /// How the interval is computed. Default `bca`.
    pub method: Method,
}

impl Default for Bootstrap {
    fn default() -> Self {
        Self { resamples: 10_000, level: 0.95, method: Method::Bca }
    }
}

impl Bootstrap {
    /// Refuses values out of range.
    pub fn check(&self) -> Result<()> {
        if !(100..=10_000_000).contains(&self.resamples) {
            return Err(Error::request("resamples", "100 to 10000000", self.resamples.to_string()));
        }
        if !(self.level > 0.0 && self.level < 1.0) {
            return Err(Error::request("level", "a number between 0 and 1, both excluded", self.level.to_string()));
        }
        Ok(())
    }
}

/// A statistic and its confidence interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Interval {
    /// The statistic of the rows themselves.
    pub value: f64,
    /// Lower end; NaN where `value` is NaN or where more than half of the resamples have no value.
    pub lower: f64,
    /// Upper end; NaN as `lower`.
    pub upper: f64,
    /// Resamples whose statistic was NaN; they are left out.
    pub degenerate: usize,
}

/// Groups that the jackknife leaves out one at a time, at most.
const GROUPS: usize = 2000;

/// The interval of `statistic`, which is given a workspace and how often each of `rows` rows was drawn.
///
/// Resample r is drawn from (`seed`, r) only: neither threads nor the statistic change it.
///
/// # Errors
/// If `bootstrap` is out of range.
pub fn interval<W>(
    rows: usize,
    bootstrap: &Bootstrap,
    seed: u64,
    workspace: impl Fn() -> W + Sync,
    statistic: impl Fn(&mut W, &[u32]) -> f64 + Sync,
) -> Result<Interval> {
    bootstrap.check()?;
    let value = statistic(&mut workspace(), &vec![1; rows]);
    let undefined = Interval { value, lower: f64::NAN, upper: f64::NAN, degenerate: 0 };
    if value.is_nan() || rows == 0 {
        return Ok(undefined);
    }
    let mut drawn: Vec<f64> = (0..bootstrap.resamples as u64)
        .into_par_iter()
        .map_init(
            || (workspace(), vec![0u32; rows]),
            |(workspace, counts), resample| {
                counts.fill(0);
                let mut rng = generator(seed, Stage::Bootstrap, resample, 0);
                for _ in 0..rows {
                    counts[rng.random_range(0..rows as u64) as usize] += 1;
                }
                statistic(workspace, counts)
            },
        )
        .collect();
    drawn.retain(|v| !v.is_nan());
    let degenerate = bootstrap.resamples - drawn.len();
    if 2 * degenerate > bootstrap.resamples {
        return Ok(Interval { degenerate, ..undefined });
    }
    drawn.sort_unstable_by(f64::total_cmp);
    let tail = (1.0 - bootstrap.level) / 2.0;
    let (low, high) = match bootstrap.method {
        Method::Percentile => (tail, 1.0 - tail),
        Method::Bca => {
            let bias = bias(&drawn, value);
            let acceleration = acceleration(rows, &workspace, &statistic);
            let moved = |p: f64| {
                let z = bias + quantile(p);
                cdf(bias + z / (1.0 - acceleration * z))
            };
            (moved(tail), moved(1.0 - tail))
        }
    };
    Ok(Interval { value, lower: at(&drawn, low), upper: at(&drawn, high), degenerate })
}

/// z_0: the normal quantile of the share of resamples below `value`, equal ones counted half.
fn bias(sorted: &[f64], value: f64) -> f64 {
    let below = sorted.partition_point(|v| *v < value);
    let not_above = sorted.partition_point(|v| *v <= value);
    quantile((below + not_above) as f64 / 2.0 / sorted.len() as f64)
}

/// a = sum d^3 / (6 (sum d^2)^(3/2)), d = mean - value of the statistic without group j; 0 where all are equal.
fn acceleration<W>(
    rows: usize,
    workspace: &(impl Fn() -> W + Sync),
    statistic: &(impl Fn(&mut W, &[u32]) -> f64 + Sync),
) -> f64 {
    let groups = rows.min(GROUPS);
    let mut left: Vec<f64> = (0..groups)
        .into_par_iter()
        .map_init(
            || (workspace(), vec![1u32; rows]),
            |(workspace, counts), group| {
                (group..rows).step_by(groups).for_each(|i| counts[i] = 0);
                let value = statistic(workspace, counts);
                (group..rows).step_by(groups).for_each(|i| counts[i] = 1);
                value
            },
        )
        .collect();
    left.retain(|v| !v.is_nan());
    let mean = left.iter().sum::<f64>() / left.len() as f64;
    let (mut squares, mut cubes) = (0.0, 0.0);
    for d in left.iter().map(|v| mean - v) {
        squares += d * d;
        cubes += d * d * d;
    }
    // Differences that are only rounding error have no skewness.
    if squares.sqrt() > 1e-12 * mean.abs().max(f64::MIN_POSITIVE) { cubes / (6.0 * squares.powf(1.5)) } else { 0.0 }
}

/// The quantile at `p` of sorted values, by linear interpolation between order statistics.
fn at(sorted: &[f64], p: f64) -> f64 {
    let place = p.clamp(0.0, 1.0) * (sorted.len() - 1) as f64;
    let (low, part) = (place.floor() as usize, place.fract());
    let high = (low + 1).min(sorted.len() - 1);
    if sorted[low] == sorted[high] { sorted[low] } else { sorted[low] * (1.0 - part) + sorted[high] * part }
}
