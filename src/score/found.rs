//! Scores of spectra as they were found.

use super::estimate::estimates;
use super::{Score, all};
use crate::error::Result;
use crate::spectrum::Found;
use tch::Tensor;

/// All scores of spectra, `[B]` f64 each: exact for whole spectra, by [`estimates`] if only the top is known.
///
/// # Errors
/// The errors of libtorch.
pub fn of(found: &Found) -> Result<Vec<(Score, Tensor)>> {
    match found {
        Found::Whole(spectrum) => all(&spectrum.values),
        Found::Leading(leading) => {
            Ok(estimates(&leading.quadrature)?.into_iter().map(|e| (e.score, e.value)).collect())
        }
    }
}
