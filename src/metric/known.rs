//! Samples whose code is not finite, of which nothing is known. Their Jacobian does not tell: libtorch takes the derivative of ReLU at NaN to
//! be 1, folded passes take 0, and both are finite.

use crate::error::Result;
use crate::ops::Reduce;
use tch::Tensor;

/// 1 for each sample, NaN for one whose code is not finite, [B, 1, 1] f64. A product with 1 keeps every bit.
#[derive(Debug)]
pub(super) struct Known(Tensor);

impl Known {
    /// By the codes mu [B, L]. The host does not wait for them.
    pub(super) fn of(mean: &Tensor) -> Result<Self> {
        // 0 x is 0 if x is finite, and NaN if not.
        let zeros = mean.f_detach()?.f_mul_scalar(0.0)?.sum_kept([1])?;
        Ok(Self(zeros.f_add_scalar(1.0)?.f_unsqueeze(2)?))
    }

    /// `values` [B, *, *] with NaN for those samples, in their kind.
    pub(super) fn times(&self, values: &Tensor) -> Result<Tensor> {
        Ok(values.f_mul(&self.0.f_to_kind(values.kind())?)?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_is_known_if_all_of_its_code_is_finite() {
        let codes = [1e300, -2.0, f64::NAN, 0.0, f64::INFINITY, 1.0, f64::INFINITY, f64::NEG_INFINITY, -0.0, 0.0];
        let known = Known::of(&Tensor::from_slice(&codes).view([5, 2])).unwrap();
        let values = known.times(&Tensor::from_slice(&[0.1f32; 10]).view([5, 2, 1])).unwrap();
        let kept = Vec::<f32>::try_from(values.flatten(0, -1)).unwrap();
        for (place, value) in kept.into_iter().enumerate() {
            let wanted = if matches!(place / 2, 0 | 4) { 0.1f32 } else { f32::NAN };
            assert!(value.to_bits() == wanted.to_bits() || (value.is_nan() && wanted.is_nan()), "{place}: {value}");
        }
    }
}
