//! The memory of a pass for a metric, measured on one sample and one cotangent.

use super::forward::{decoded, encoder_output, latent};
use super::{Metric, MetricKind, StemCache};
use crate::error::Result;
use crate::ffi::memory::peak_bytes;
use crate::ffi::{self, By, Graph, VjpMode};
use crate::jacobian::{Footprint, Reach};
use crate::model::Vae;
use tch::{Kind, Tensor};

impl Metric {
    /// The memory of [`Metric::behind`] for each sample, from one forward and one backward pass of the first of `x` [B, C, H, W]; `stem`
    /// also learns the model's stem.
    ///
    /// # Errors
    /// If the model cannot take `x`, or cannot be differentiated at all.
    pub fn footprint(vae: &dyn Vae, x: &Tensor, kind: MetricKind, stem: &mut StemCache) -> Result<Footprint> {
        if kind == MetricKind::Decoder {
            let (mean, forward) = peak_bytes(|| Ok(tch::no_grad(|| vae.encode(&x.f_narrow(0, 0, 1)?))?.mean))?;
            let (once, column, columns) = of_columns(vae, &mean)?;
            let once = once + forward as f64;
            return Ok(Footprint { once, row: (0.0, 0), column: (column, columns) });
        }
        let x = x.f_narrow(0, 0, 1)?.f_detach()?.f_set_requires_grad(true)?;
        let ((mean, output), forward) = peak_bytes(|| {
            let q = vae.encode(&x)?;
            latent(&q.mean, &q.log_var)?;
            Ok((q.mean.shallow_clone(), encoder_output(&q, kind)?))
        })?;
        let (by, width) = match stem.factors(&output, &x)? {
            Some((triangle, _)) => (By::Stem, triangle.size()[0]),
            None => (By::Input, x.numel() as i64),
        };
        let row = one(&output, |unit| ffi::vjp_by(by, &output, &x, unit, VjpMode::Looped, Graph::Constant))?;
        let (rows, element) = (output.size()[1], bytes_of(output.kind()));
        // The rows as computed, and joined; in double for one sample at a time; the Gram matrix and LAPACK's copies of it.
        let factor = rows * width * (2 * element + 8) + 4 * 8 * rows * rows;
        let mut footprint = Footprint {
            once: forward as f64 + factor as f64,
            row: (row + (rows * element) as f64, rows as usize),
            column: (0.0, 0),
        };
        if kind.reach() == Reach::EncoderAndDecoder {
            let (once, column, columns) = of_columns(vae, &mean)?;
            footprint.once += once;
            footprint.column = (column, columns);
        }
        Ok(footprint)
    }
}

/// The memory of the decoder's Jacobian for one sample: independent of the way, and for each column; and the number of columns.
fn of_columns(vae: &dyn Vae, mean: &Tensor) -> Result<(f64, f64, usize)> {
    let ((image, z), forward) = peak_bytes(|| decoded(vae, mean))?;
    let (outputs, latents) = (image.size()[1], z.size()[1]);
    let element = bytes_of(image.kind());
    // The columns as computed, and joined; in double, and LAPACK's copies of them.
    let held = outputs * latents * (2 * element + 3 * 8);
    let cotangent = image.f_zeros_like()?.f_detach()?.f_set_requires_grad(true)?;
    let differentiable = || {
        ffi::vjp(&image, &z, &cotangent.f_unsqueeze(0)?, VjpMode::Looped, Graph::Differentiable)?
            .f_squeeze_dim(0)
            .map_err(Into::into)
    };
    let twice = peak_bytes(differentiable).and_then(|(pulled, backward)| {
        let column = one(&pulled, |unit| ffi::vjp(&pulled, &cotangent, unit, VjpMode::Looped, Graph::Constant))?;
        Ok((backward as f64, column, latents))
    });
    // If it cannot be differentiated twice, it is computed by rows.
    let (backward, column, count) = match twice {
        Err(error) if error.is_of_the_way() => {
            (0.0, one(&image, |unit| ffi::vjp(&image, &z, unit, VjpMode::Looped, Graph::Constant))?, outputs)
        }
        other => other?,
    };
    let each = column + ((outputs + latents) * element) as f64;
    Ok((forward as f64 + backward + held as f64, each, count as usize))
}

/// The bytes that `pull` takes for one cotangent of `output` [1, R].
fn one(output: &Tensor, pull: impl Fn(&Tensor) -> Result<Tensor>) -> Result<f64> {
    let unit = Tensor::f_zeros([1, 1, output.size()[1]], (output.kind(), output.device()))?;
    let _ = unit.f_narrow(2, 0, 1)?.f_fill_(1.0)?;
    Ok(peak_bytes(|| pull(&unit))?.1 as f64)
}

/// Bytes of a number of this kind.
pub(super) fn bytes_of(kind: Kind) -> i64 {
    if kind == Kind::Double { 8 } else { 4 }
}
