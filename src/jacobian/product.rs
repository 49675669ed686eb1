//! Products with a per-sample Jacobian that is never formed: J v and J^T u, for several vectors in a pass.

use super::{Mode, in_passes, matrix_shape};
use crate::error::{Error, Result};
use crate::ffi::{self, Graph, VjpMode};
use crate::ops::Reduce;
use tch::{Device, Kind, Tensor};

/// The Jacobian J [B, R, D] of `output` [B, R] with respect to `input` [B, ...] as a pair of products. One forward pass
/// and one differentiable backward pass are done at the start; each vector then costs a backward pass.
#[derive(Debug)]
pub struct Products {
    output: Tensor,
    input: Tensor,
    /// u for the next field, [B, R]. Its value has no effect, because a product is linear in u.
    cotangent: Tensor,
    /// J^T u, [B, D], with its graph.
    pulled: Tensor,
    mode: Mode,
}

/// Unit vectors in a pass of [`Products::column_squares`]; their images are held at the same time.
const UNITS: i64 = 16;

impl Products {
    /// Products with the Jacobian of `output` at `input`, from which it was computed and which requires gradients.
    ///
    /// # Errors
    /// If an operation has no second derivative: J v differentiates the backward pass.
    pub fn at(output: Tensor, input: Tensor, mode: Mode) -> Result<Self> {
        matrix_shape("output of a Jacobian", &output)?;
        let cotangent = output.f_zeros_like()?.f_detach()?.f_set_requires_grad(true)?;
        let pulled = ffi::vjp(&output, &input, &cotangent.f_unsqueeze(0)?, VjpMode::Looped, Graph::Differentiable)
            .map_err(twice)?;
        let pulled = pulled.f_squeeze_dim(0)?.f_flatten(1, -1)?;
        let products = Self { output, input, cotangent, pulled, mode };
        products.ensure_whole()?;
        Ok(products)
    }

    /// Refuses a function whose part of J v is missing: <u, J v> would not be <J^T u, v>, which is asked of as many v as a pass takes.
    fn ensure_whole(&self) -> Result<()> {
        if !ffi::has_custom_functions(&self.output)? {
            return Ok(());
        }
        let (b, r, d) = self.shape();
        let waves = |count: i64, pace: f64| -> Result<Tensor> {
            let place = (Kind::Double, self.output.device());
            Ok(Tensor::f_arange(b * count, place)?.f_mul_scalar(pace)?.f_cos()?.f_view([b, count, 1])?)
        };
        let (u, v) = (waves(r, 0.7)?, waves(d, 1.3)?);
        let (pulled, pushed) = (self.pull(&u)?.f_to_kind(Kind::Double)?, self.push(&v)?.f_to_kind(Kind::Double)?);
        let (parts, forward) = (pulled.f_mul(&v)?, pushed.f_mul(&u)?.sum_over([1, 2])?);
        // Beside the size of its terms, a sum that cancels is nothing.
        let apart = parts.sum_over([1, 2])?.f_sub(&forward)?.f_abs()?;
        let allowed = parts.f_abs()?.sum_over([1, 2])?.f_mul_scalar(1e-4)?;
        if apart.f_gt_tensor(&allowed)?.f_any()?.f_int64_value(&[])? == 0 {
            return Ok(());
        }
        Err(Error::request(
            "the model",
            "operations that can be differentiated twice, or --spectrum full",
            "a function of its own (torch.autograd.Function) that takes no part in a second derivative",
        ))
    }

    /// (B, R, D).
    pub fn shape(&self) -> (i64, i64, i64) {
        let (pulled, output) = (self.pulled.size(), self.output.size());
        (pulled[0], output[1], pulled[1])
    }

    /// Kind and device of the pass.
    pub fn options(&self) -> (Kind, Device) {
        (self.output.kind(), self.output.device())
    }

    /// J^T u for u [B, R, K]: [B, D, K], in the precision of the pass.
    pub fn pull(&self, u: &Tensor) -> Result<Tensor> {
        let (b, r, d) = self.shape();
        crate::error::ensure_shape("cotangents", u, &[b, r, -1])?;
        self.pass(&self.output, &self.input, u, d)
    }

    /// J v for v [B, D, K]: [B, R, K], in the precision of the pass.
    pub fn push(&self, v: &Tensor) -> Result<Tensor> {
        let (b, r, d) = self.shape();
        crate::error::ensure_shape("tangents", v, &[b, d, -1])?;
        self.pass(&self.pulled, &self.cotangent, v, r).map_err(twice)
    }

    /// The squared length of each column of J, [B, D] in double: D products, which are not kept.
    pub fn column_squares(&self) -> Result<Tensor> {
        let (b, _, d) = self.shape();
        let squares = Tensor::f_empty([b, d], (Kind::Double, self.output.device()))?;
        let mut first = 0;
        while first < d {
            let count = UNITS.min(d - first);
            let units = Tensor::f_zeros([d, count], self.options())?;
            let _ = units.f_narrow(0, first, count)?.f_diagonal(0, 0, 1)?.f_fill_(1.0)?;
            let columns = self.push(&units.f_unsqueeze(0)?.f_expand([b, d, count], false)?)?;
            let lengths = columns.f_to_kind(Kind::Double)?.f_square()?.sum_alike([1])?;
            squares.f_narrow(1, first, count)?.f_copy_(&lengths)?;
            first += count;
        }
        Ok(squares)
    }

    /// Pulls `vectors` [B, *, K] of `output` back to `input`, whose flattened length is `width`: [B, width, K].
    fn pass(&self, output: &Tensor, input: &Tensor, vectors: &Tensor, width: i64) -> Result<Tensor> {
        let (b, k) = (vectors.size()[0], vectors.size()[2]);
        // [K, B, *], the order that backward passes take.
        let cotangents = vectors.f_to_kind(output.kind())?.f_permute([2, 0, 1])?.f_contiguous()?;
        let pulled = in_passes(k, self.mode, |first, count, mode| {
            let pulled = ffi::vjp(output, input, &cotangents.f_narrow(0, first, count)?, mode, Graph::Constant)?;
            Ok(pulled.f_detach()?.f_reshape([count, b, width])?)
        })?;
        Ok(pulled.f_permute([1, 2, 0])?)
    }
}

/// If a second derivative is missing, the user's model is the cause.
fn twice(error: Error) -> Error {
    match error {
        once if once.is_once_differentiable() => Error::request(
            "the model",
            "operations that can be differentiated twice, or --spectrum full",
            once.to_string(),
        ),
        other => other,
    }
}
