//! Reductions of tensors over some of their axes, named so that formulas read as in docs/mathematics.md.
//!
//! Sums and means are in double, whatever the tensor's kind: each has many entries (docs/architecture.md, "Double from the rows on").
//! `_kept` leaves each reduced axis in place with length 1, so that the result broadcasts against the tensor.

use crate::error::Result;
use tch::{Kind, Tensor};

/// Reductions over axes; negative ones count from the last.
pub(crate) trait Reduce {
    /// The sum, in double.
    fn sum_over<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor>;
    /// The sum, in double, axes kept.
    fn sum_kept<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor>;
    /// The sum in the tensor's own kind: for tensors that are in double already or are differentiated.
    fn sum_alike<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor>;
    /// How many entries are true, `i64`, axes kept.
    fn count_kept<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor>;
    /// The mean, in double.
    fn mean_over<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor>;
    /// The mean, in double, axes kept.
    fn mean_kept<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor>;
    /// The largest entry.
    fn max_over(&self, axis: i64) -> Result<Tensor>;
    /// The largest entry, axis kept.
    fn max_kept(&self, axis: i64) -> Result<Tensor>;
    /// The smallest entry.
    fn min_over(&self, axis: i64) -> Result<Tensor>;
    /// The p-norm, in the tensor's own kind.
    fn norm_over(&self, p: i64, axis: i64) -> Result<Tensor>;
    /// The p-norm, in the tensor's own kind, axis kept.
    fn norm_kept(&self, p: i64, axis: i64) -> Result<Tensor>;
}

impl Reduce for Tensor {
    fn sum_over<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor> {
        Ok(self.f_sum_dim_intlist(axes.as_slice(), false, Kind::Double)?)
    }

    fn sum_kept<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor> {
        Ok(self.f_sum_dim_intlist(axes.as_slice(), true, Kind::Double)?)
    }

    fn sum_alike<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor> {
        Ok(self.f_sum_dim_intlist(axes.as_slice(), false, None)?)
    }

    fn count_kept<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor> {
        Ok(self.f_sum_dim_intlist(axes.as_slice(), true, Kind::Int64)?)
    }

    fn mean_over<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor> {
        Ok(self.f_mean_dim(axes.as_slice(), false, Kind::Double)?)
    }

    fn mean_kept<const N: usize>(&self, axes: [i64; N]) -> Result<Tensor> {
        Ok(self.f_mean_dim(axes.as_slice(), true, Kind::Double)?)
    }

    fn max_over(&self, axis: i64) -> Result<Tensor> {
        Ok(self.f_amax([axis].as_slice(), false)?)
    }

    fn max_kept(&self, axis: i64) -> Result<Tensor> {
        Ok(self.f_amax([axis].as_slice(), true)?)
    }

    fn min_over(&self, axis: i64) -> Result<Tensor> {
        Ok(self.f_amin([axis].as_slice(), false)?)
    }

    fn norm_over(&self, p: i64, axis: i64) -> Result<Tensor> {
        Ok(self.f_norm_scalaropt_dim(p, [axis].as_slice(), false)?)
    }

    fn norm_kept(&self, p: i64, axis: i64) -> Result<Tensor> {
        Ok(self.f_norm_scalaropt_dim(p, [axis].as_slice(), true)?)
    }
}
