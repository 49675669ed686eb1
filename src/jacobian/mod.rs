//! Per-sample Jacobians of a batch through autograd, exact, many cotangents at a time.
//!
//! Samples must not interact: row r of the Jacobian of every sample comes from one backward pass of the batch, because
//! sample i's output depends on sample i's input alone ([`crate::metric::ensure_independent`] checks that).

mod planner;
mod product;

pub use planner::{BatchSize, CHUNK, Mode, Pass, Planner, Reach, Ways};
pub use product::Products;

use crate::error::{Error, Result};
use crate::ffi::{self, Graph, VjpMode};
use tch::{Kind, Tensor};

/// Rows of the per-sample Jacobian of `output` [B, R] with respect to `input` [B, ...]: [B, R, D] in double precision,
/// D the length of one flattened input. `output` is computed from `input`, which requires gradients; where it does not
/// depend on it the rows are zero.
///
/// The backward passes run in the precision of `output`; the rows are widened as they are laid down because all that
/// follows (Gram matrix, eigenvalues) is done in double: rank and log-determinant are lost in single.
pub fn rows(output: &Tensor, input: &Tensor, mode: Mode) -> Result<Tensor> {
    let (b, r) = matrix_shape("output of a Jacobian", output)?;
    let d = if b == 0 { 0 } else { input.numel() as i64 / b };
    let jacobian = Tensor::f_empty([b, r, d], (Kind::Double, output.device()))?;
    for_each_pass(r, mode, |first, count, vjp_mode| {
        let cotangents = unit_cotangents(first, count, b, r, output)?;
        let pulled = ffi::vjp(output, input, &cotangents, vjp_mode, Graph::Constant)?;
        let pulled = pulled.f_detach()?.f_reshape([count, b, d])?;
        jacobian.f_narrow(1, first, count)?.f_transpose(0, 1)?.f_copy_(&pulled)?;
        Ok(())
    })?;
    Ok(jacobian)
}

/// Columns of the per-sample Jacobian of `output` [B, O] with respect to `input` [B, L], L small: [B, O, L] in double
/// precision.
///
/// The vector-Jacobian product g(u) = J^T u is linear in u, so its own Jacobian with respect to u is J^T: L backward
/// passes through the backward pass give the columns. Where an operation cannot be differentiated twice, the O rows
/// are taken instead.
pub fn columns(output: &Tensor, input: &Tensor, mode: Mode) -> Result<Tensor> {
    let (b, o) = matrix_shape("output of a Jacobian", output)?;
    let (_, l) = matrix_shape("input of a Jacobian by columns", input)?;
    match try_columns(output, input, mode, (b, o, l)) {
        Err(Error::Native { message, .. }) if is_once_differentiable(&message) => rows(output, input, mode),
        other => other,
    }
}

fn try_columns(output: &Tensor, input: &Tensor, mode: Mode, (b, o, l): (i64, i64, i64)) -> Result<Tensor> {
    let cotangent = output.f_zeros_like()?.f_detach()?.f_set_requires_grad(true)?;
    let pulled = ffi::vjp(output, input, &cotangent.f_unsqueeze(0)?, VjpMode::Looped, Graph::Differentiable)?
        .f_squeeze_dim(0)?;
    let jacobian = Tensor::f_empty([b, o, l], (Kind::Double, output.device()))?;
    for_each_pass(l, mode, |first, count, vjp_mode| {
        let tangents = unit_cotangents(first, count, b, l, &pulled)?;
        let columns = ffi::vjp(&pulled, &cotangent, &tangents, vjp_mode, Graph::Constant)?;
        jacobian.f_narrow(2, first, count)?.f_copy_(&columns.f_detach()?.f_permute([1, 2, 0])?)?;
        Ok(())
    })?;
    Ok(jacobian)
}

/// libtorch's words for an operation without a second derivative.
fn is_once_differentiable(message: &str) -> bool {
    ["is not implemented", "not differentiable", "once_differentiable", "not supported"]
        .iter()
        .any(|words| message.contains(words))
}

/// Calls `pass(first, count, mode)` until all `total` cotangents are done.
fn for_each_pass(total: i64, mode: Mode, mut pass: impl FnMut(i64, i64, VjpMode) -> Result<()>) -> Result<()> {
    let (step, vjp_mode) = match mode {
        Mode::Looped => (1, VjpMode::Looped),
        Mode::Vmapped(k) => (k.clamp(1, total.max(1) as usize) as i64, VjpMode::Vmapped),
    };
    let mut first = 0;
    while first < total {
        let count = step.min(total - first);
        pass(first, count, vjp_mode)?;
        first += count;
    }
    Ok(())
}

/// Unit vectors e_first .. e_(first + count - 1) of R^width, the same for every sample: [count, B, width].
fn unit_cotangents(first: i64, count: i64, batch: i64, width: i64, like: &Tensor) -> Result<Tensor> {
    let options = (like.kind(), like.device());
    let units = Tensor::f_zeros([count, width], options)?;
    let _ = units.f_narrow(1, first, count)?.f_diagonal(0, 0, 1)?.f_fill_(1.0)?;
    Ok(units.f_unsqueeze(1)?.f_expand([count, batch, width], false)?)
}

fn matrix_shape(name: &str, tensor: &Tensor) -> Result<(i64, i64)> {
    crate::error::ensure_shape(name, tensor, &[-1, -1])?;
    let size = tensor.size();
    Ok((size[0], size[1]))
}
