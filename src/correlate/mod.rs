//! Do the scores predict the damage? Rank correlations with bootstrap intervals.
//!
//! Ranks are used because the question is whether one quantity orders models or samples as another does, and because a score such as
//! lambda_1 spans decades.

mod bootstrap;
mod normal;
mod rank;

pub use bootstrap::{Bootstrap, Interval, Method, interval};
pub use rank::{Coefficient, Ranked, Workspace};

use crate::error::{Error, Result};
use serde::Serialize;

/// What to do with a pair that contains a NaN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Missing {
    /// It is a mistake: refuse the whole request.
    #[default]
    Refuse,
    /// Leave the pair out and count it.
    Drop,
}

/// A correlation and its uncertainty.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Correlation {
    /// The coefficient in [-1, 1]; NaN where it is not defined: fewer than 3 pairs, or a constant column.
    pub value: f64,
    /// Lower end of the confidence interval; NaN where `value` is.
    pub lower: f64,
    /// Upper end of the confidence interval; NaN where `value` is.
    pub upper: f64,
    /// Pairs used.
    pub pairs: usize,
    /// Pairs left out because a member was NaN.
    pub dropped: usize,
    /// Resamples left out because a column was constant in them.
    pub degenerate: usize,
}

/// The pairs of `x` and `y` that count, ranked, and the number of dropped pairs.
///
/// # Errors
/// A wrong request if the lengths differ, or where a member is NaN under [`Missing::Refuse`].
pub fn pairs(x: &[f64], y: &[f64], missing: Missing) -> Result<(Ranked, usize)> {
    if x.len() != y.len() {
        return Err(Error::request(
            "columns to correlate",
            format!("equal lengths, {} as the first", x.len()),
            format!("{} in the second", y.len()),
        ));
    }
    let kept: Vec<(f64, f64)> =
        x.iter().copied().zip(y.iter().copied()).filter(|(a, b)| !a.is_nan() && !b.is_nan()).collect();
    let dropped = x.len() - kept.len();
    if dropped > 0 && missing == Missing::Refuse {
        let first = x.iter().zip(y).position(|(a, b)| a.is_nan() || b.is_nan()).unwrap_or_default();
        return Err(Error::request(
            "columns to correlate",
            "numbers",
            format!("{dropped} NaN, the first in row {first}"),
        ));
    }
    Ok((Ranked::new(&kept)?, dropped))
}

/// The coefficient alone, NaN where it is not defined, and the number of pairs dropped.
///
/// # Errors
/// As [`pairs`].
pub fn coefficient(x: &[f64], y: &[f64], which: Coefficient, missing: Missing) -> Result<(f64, usize)> {
    let (ranked, dropped) = pairs(x, y, missing)?;
    Ok((ranked.coefficient(which), dropped))
}

/// The coefficient with its bootstrap confidence interval; the bootstrap resamples pairs.
///
/// Resample r draws the same rows for every column of the same length and `seed`, so that intervals of several scores on
/// the same samples are paired.
///
/// # Errors
/// As [`pairs`], and where `bootstrap` is out of range.
pub fn correlate(
    x: &[f64],
    y: &[f64],
    which: Coefficient,
    missing: Missing,
    bootstrap: &Bootstrap,
    seed: u64,
) -> Result<Correlation> {
    let (ranked, dropped) = pairs(x, y, missing)?;
    let found = interval(
        ranked.len(),
        bootstrap,
        seed,
        || ranked.workspace(),
        |workspace, counts| ranked.resampled(which, counts, workspace),
    )?;
    Ok(Correlation {
        value: found.value,
        lower: found.lower,
        upper: found.upper,
        pairs: ranked.len(),
        dropped,
        degenerate: found.degenerate,
    })
}
