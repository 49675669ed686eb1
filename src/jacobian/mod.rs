//! Exact per-sample Jacobians of a batch through autograd, with many cotangents at a time.
//!
//! Samples must not interact: row r of the Jacobian of every sample comes from one backward pass of the batch, because
//! sample i's output depends on sample i's input alone ([`crate::metric::ensure_independent`] checks that).

mod batch_size;
mod finals;
mod footprint;
mod planner;
mod product;
mod twice; //       functions whose second derivative is missing
mod ways;

pub use batch_size::BatchSize;
pub use footprint::Footprint;
pub use planner::Planner;
pub use product::Products;
pub use ways::{CHUNK, Mode, Pass, Reach, Ways};

use crate::error::Result;
use crate::ffi::{self, By, Graph, VjpMode};
use tch::{Kind, Tensor};

/// Rows of the per-sample Jacobian of `output` [B, R] with respect to `input` [B, ...]: [B, R, D] in the kind of `output`, D the length of
/// one flattened input; a view that is not contiguous. `output` is computed from `input`, which requires gradients; rows that do not depend
/// on `input` are zero.
pub fn rows(output: &Tensor, input: &Tensor, mode: Mode) -> Result<Tensor> {
    rows_by(By::Input, output, input, mode)
}

/// [`rows`] with respect to `input` or, if the graph has a stem, to the stem's h [B, H]; then the shape is [B, R, H].
pub fn rows_by(by: By, output: &Tensor, input: &Tensor, mode: Mode) -> Result<Tensor> {
    let (b, r) = matrix_shape("output of a Jacobian", output)?;
    let pulled = in_passes(r, mode, |first, count, vjp_mode| {
        let rows = match vjp_mode {
            // All of them, in one pass.
            VjpMode::Folded => ffi::rows_folded(by, output, input)?,
            _ => {
                let cotangents = unit_cotangents(first, count, b, r, output, input)?;
                ffi::vjp_by(by, output, input, &cotangents, vjp_mode, Graph::Constant)?.f_detach()?
            }
        };
        let d: i64 = rows.size()[2..].iter().product();
        Ok(rows.f_reshape([count, b, d])?)
    })?;
    Ok(pulled.f_transpose(0, 1)?)
}

/// The Gram matrices J J^T [B, R, R] f64 of the Jacobian that [`rows`] gives, which does not come to exist as a whole; `None` where only the
/// rows can be computed: in another mode than [`Mode::Folded`], or in double precision.
///
/// # Errors
/// As [`rows`].
pub fn grams(output: &Tensor, input: &Tensor, mode: Mode) -> Result<Option<Tensor>> {
    matrix_shape("output of a Jacobian", output)?;
    if mode != Mode::Folded || output.kind() != Kind::Float {
        return Ok(None);
    }
    crate::event::ensure_wanted()?;
    ffi::grams_folded(output, input).map(Some)
}

/// Columns of the per-sample Jacobian of `output` [B, O] with respect to `input` [B, L], L small: [B, O, L] in the kind
/// of `output`; a view that is not contiguous.
///
/// The vector-Jacobian product g(u) = J^T u is linear in u, so its own Jacobian with respect to u is J^T: L backward
/// passes through the backward pass give the columns. Where an operation cannot be differentiated twice, or where a
/// function of the user's own leaves its part out of the second derivative, the O rows are taken instead.
///
/// # Errors
/// If neither can be computed in this `mode`; the looped mode is the last to fail.
pub fn columns(output: &Tensor, input: &Tensor, mode: Mode) -> Result<Tensor> {
    let (b, _) = matrix_shape("output of a Jacobian", output)?;
    let (_, l) = matrix_shape("input of a Jacobian by columns", input)?;
    match try_columns(output, input, mode, (b, l)) {
        Err(error) if error.is_once_differentiable() => rows(output, input, mode),
        // Any error that the second derivative can cause.
        Err(error) if mode == Mode::Looped && error.is_of_the_way() => rows(output, input, mode).map_err(|_| error),
        Ok(columns)
            if !twice::agree(output, input, |u| Ok(u.f_unsqueeze(1)?.f_bmm(&columns)?.f_squeeze_dim(1)?))? =>
        {
            rows(output, input, mode)
        }
        other => other,
    }
}

fn try_columns(output: &Tensor, input: &Tensor, mode: Mode, (b, l): (i64, i64)) -> Result<Tensor> {
    let cotangent = output.f_zeros_like()?.f_detach()?.f_set_requires_grad(true)?;
    let pulled = ffi::vjp(output, input, &cotangent.f_unsqueeze(0)?, VjpMode::Looped, Graph::Differentiable)?
        .f_squeeze_dim(0)?;
    let pushed = in_passes(l, mode, |first, count, vjp_mode| {
        let tangents = unit_cotangents(first, count, b, l, &pulled, &cotangent)?;
        Ok(ffi::vjp(&pulled, &cotangent, &tangents, vjp_mode, Graph::Constant)?.f_detach()?)
    })?;
    Ok(pushed.f_permute([1, 2, 0])?)
}

/// Calls `pass(first, count, mode)` until all `total` cotangents are done and joins what it returns, [count, ...] each.
fn in_passes(total: i64, mode: Mode, mut pass: impl FnMut(i64, i64, VjpMode) -> Result<Tensor>) -> Result<Tensor> {
    let (step, vjp_mode) = match mode {
        Mode::Looped => (1, VjpMode::Looped),
        Mode::Folded => (total.max(1), VjpMode::Folded),
        Mode::Vmapped(k) => (k.clamp(1, total.max(1) as usize) as i64, VjpMode::Vmapped),
    };
    let (mut joined, mut first): (Option<Tensor>, i64) = (None, 0);
    loop {
        // A pass may take seconds, so work can stop between passes.
        crate::event::ensure_wanted()?;
        let count = step.min(total - first);
        let part = pass(first, count, vjp_mode)?;
        if count == total {
            return Ok(part);
        }
        let whole = match joined.take() {
            Some(whole) => whole,
            None => {
                let mut size = part.size();
                size[0] = total;
                Tensor::f_empty(&size, (part.kind(), part.device()))?
            }
        };
        whole.f_narrow(0, first, count)?.f_copy_(&part)?;
        first += count;
        if first == total {
            return Ok(whole);
        }
        joined = Some(whole);
    }
}

/// Unit vectors e_first .. e_(first + count - 1) of R^width, the same for every sample: [count, B, width].
fn unit_cotangents(first: i64, count: i64, batch: i64, width: i64, like: &Tensor, input: &Tensor) -> Result<Tensor> {
    let options = (like.kind(), like.device());
    let units = if count == width {
        Tensor::f_eye(width, options)?
    } else {
        let units = Tensor::f_zeros([count, width], options)?;
        let _ = units.f_narrow(1, first, count)?.f_diagonal(0, 0, 1)?.f_fill_(1.0)?;
        units
    };
    let expanded = units.f_unsqueeze(1)?.f_expand([count, batch, width], false)?;
    // libtorch does not fold products of expanded cotangents with a layer's weights into one matrix product, but computes them one by one.
    // So the cotangents are copied in full, unless the copy would take more memory than the result of the pullback.
    if width * batch <= input.numel() as i64 { Ok(expanded.f_contiguous()?) } else { Ok(expanded) }
}

fn matrix_shape(name: &str, tensor: &Tensor) -> Result<(i64, i64)> {
    crate::error::ensure_shape(name, tensor, &[-1, -1])?;
    let size = tensor.size();
    Ok((size[0], size[1]))
}
