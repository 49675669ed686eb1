//! Samples whose code is not finite, of which nothing is known. Their Jacobian does not tell: libtorch takes the derivative of ReLU at NaN to
//! be 1, folded passes take 0, and both are finite.

use crate::error::Result;
use crate::ffi;
use crate::ops::Reduce;
use tch::{Device, Tensor};

/// 1 for each sample, NaN for one whose code is not finite, [B, 1, 1] f64; none if all are finite. A product with 1 keeps every bit.
#[derive(Debug, Default)]
pub(super) struct Known(Option<Tensor>);

impl Known {
    /// By the codes mu [B, L]. The host does not wait for a device.
    pub(super) fn of(mean: &Tensor) -> Result<Self> {
        let mean = mean.f_detach()?;
        if mean.device() == Device::Cpu && ffi::all_finite(&mean)? {
            return Ok(Self(None));
        }
        // 0 x is 0 if x is finite, and NaN if not.
        let zeros = mean.f_mul_scalar(0.0)?.sum_kept([1])?;
        Ok(Self(Some(zeros.f_add_scalar(1.0)?.f_unsqueeze(2)?)))
    }

    /// `values` [B, *, *] with NaN for those samples, in their kind.
    pub(super) fn times(&self, values: &Tensor) -> Result<Tensor> {
        match &self.0 {
            None => Ok(values.shallow_clone()),
            Some(ones) => Ok(values.f_mul(&ones.f_to_kind(values.kind())?)?),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn finite_codes_are_known_whatever_their_sum() {
        let of = |codes: [f64; 4]| Known::of(&Tensor::from_slice(&codes).view([2, 2])).unwrap();
        assert!(of([1.0, -2.0, 0.0, 1e300]).0.is_none());
        assert!(
            of([f64::INFINITY, 0.0, f64::NEG_INFINITY, 0.0])
                .0
                .is_some_and(|ones| ones.isnan().all().int64_value(&[]) == 1)
        );
        assert!(of([f64::MAX; 4]).0.is_none());
    }

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
