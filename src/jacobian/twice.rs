//! Whether second derivatives are whole. J v is computed by differentiating u -> J^T u. A `torch.autograd.Function` that is differentiable
//! once (`once_differentiable`, a backward pass through NumPy or `detach`) raises nothing there: its part of J v is 0.

use crate::error::Result;
use crate::ffi::{self, Graph, VjpMode};
use crate::ops::Reduce;
use tch::{Kind, Tensor};

/// The largest difference, relative to the size: rounding of long sums in single precision is far smaller.
const TOLERANCE: f64 = 1e-3;

/// Whether `pulled(u)`, [B, L], is J^T u for the Jacobian J of `output` [B, O] by `input` [B, L] and some u [B, O], as a first derivative
/// gives it. It is not asked where all functions are libtorch's, which raise if they cannot be differentiated twice.
///
/// # Errors
/// If `pulled` or libtorch fails.
pub(super) fn agree(output: &Tensor, input: &Tensor, pulled: impl Fn(&Tensor) -> Result<Tensor>) -> Result<bool> {
    if !ffi::has_custom_functions(output)? {
        return Ok(true);
    }
    // No direction that a model is likely to know.
    let count = output.numel() as i64;
    let u = Tensor::f_arange(count, (Kind::Double, output.device()))?.f_mul_scalar(0.7)?.f_add_scalar(0.3)?.f_cos()?;
    let u = u.f_to_kind(output.kind())?.f_view_as(output)?;
    let once = ffi::vjp(output, input, &u.f_unsqueeze(0)?, VjpMode::Looped, Graph::Constant)?.f_squeeze_dim(0)?;
    let (once, found) = (once.f_flatten(1, -1)?.f_detach()?, pulled(&u)?.f_detach()?);
    let apart = once.f_sub(&found)?.f_abs()?.max_over(1)?;
    let allowed = once.f_abs()?.max_over(1)?.f_mul_scalar(TOLERANCE)?;
    // NaN is its sample's own affair.
    Ok(apart.f_gt_tensor(&allowed)?.f_any()?.f_int64_value(&[])? == 0)
}
