//! Scores of what was found of spectra.

use super::estimate::estimates;
use super::{Score, all};
use crate::error::Result;
use crate::spectrum::Found;
use tch::Tensor;

/// All scores of spectra, `[B]` f64 each: of whole ones exactly, of those of which the top is known by [`estimates`].
///
/// # Errors
/// Those of libtorch.
pub fn of(found: &Found) -> Result<Vec<(Score, Tensor)>> {
    match found {
        Found::Whole(spectrum) => all(&spectrum.values),
        Found::Leading(leading) => {
            Ok(estimates(&leading.quadrature)?.into_iter().map(|e| (e.score, e.value)).collect())
        }
    }
}
