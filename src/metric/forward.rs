//! What a metric differentiates: the pass through the encoder and, where the metric has a decoder's part, through the decoder and back.

use super::kind::MetricKind;
use super::known::Known;
use super::stem::StemCache;
use crate::error::{Error, Result};
use crate::jacobian::{self, Ways};
use crate::linalg;
use crate::model::{Posterior, Vae};
use crate::ops::Reduce;
use tch::{Kind, Tensor};

/// A pass that is yet to be pulled back.
pub(super) struct Forward {
    /// The images, which require gradients, and what is differentiated, [B, P].
    pub(super) x: Tensor,
    pub(super) output: Tensor,
    /// T, and which samples have a code, as in a [`Metric`](super::Metric).
    pub(super) weights: Option<Tensor>,
    pub(super) known: Known,
}

impl Forward {
    /// Through the encoder; where the metric has a decoder's part, also through the decoder and back.
    pub(super) fn of(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways) -> Result<Self> {
        let x = x.f_detach()?.f_set_requires_grad(true)?;
        let q = vae.encode(&x)?;
        let l = latent(&q.mean, &q.log_var)?;
        let output = encoder_output(&q, kind)?;
        let known = Known::of(&q.mean)?;
        let weights = match kind {
            MetricKind::Mean | MetricKind::Stochastic | MetricKind::Fisher | MetricKind::Decoder => None,
            MetricKind::Output => Some(triangle(&decoder_jacobian(vae, &q.mean, ways)?, l)?),
            MetricKind::OutputStochastic => {
                let c = triangle(&decoder_jacobian(vae, &q.mean, ways)?, l)?;
                // diag M = diag C^T C: the squared length of each column.
                let lengths = c.f_square()?.sum_over([1])?.f_sqrt()?;
                let weights = c.f_constant_pad_nd([0, l, 0, l])?;
                weights.f_narrow(1, l, l)?.f_narrow(2, l, l)?.f_diagonal(0, 1, 2)?.f_copy_(&lengths)?;
                Some(weights)
            }
        };
        Ok(Self { x, output, weights, known })
    }

    /// The Gram matrices [B, R, R] f64 of the metric's factor and min(R, D), without the rows; `None` where they are needed.
    pub(super) fn gram(&self, ways: Ways, stem: &mut StemCache) -> Result<Option<(Tensor, i64)>> {
        if stem.factors(&self.output, &self.x)?.is_some() {
            return Ok(None);
        }
        let Some(gram) = jacobian::grams(&self.output, &self.x, ways.rows)? else { return Ok(None) };
        let gram = self.known.times(&weighted(gram, self.weights.as_ref())?)?;
        let (samples, rows) = (self.x.size()[0].max(1), gram.size()[1]);
        Ok(Some((gram, rows.min(self.x.numel() as i64 / samples))))
    }
}

/// T J J^T T^T for J J^T [B, P, P] and T [B, R, P].
pub(super) fn weighted(gram: Tensor, weights: Option<&Tensor>) -> Result<Tensor> {
    match weights {
        None => Ok(gram),
        Some(t) => Ok(t.f_bmm(&gram)?.f_bmm(&t.f_transpose(1, 2)?)?),
    }
}

/// The encoder's output that is differentiated, [B, P]: its Jacobian has the rows of A, or the rows to which the decoder's part is applied.
pub(super) fn encoder_output(q: &Posterior, kind: MetricKind) -> Result<Tensor> {
    Ok(match kind {
        MetricKind::Mean | MetricKind::Output | MetricKind::Decoder => q.mean.shallow_clone(),
        MetricKind::Stochastic | MetricKind::OutputStochastic => Tensor::f_cat(&[&q.mean, &q.std()?], 1)?,
        MetricKind::Fisher => {
            // 1/sigma and 1/sqrt(2) are constant factors of the rows; they are not differentiated.
            let whitened = q.mean.f_div(&q.std()?.f_detach()?)?;
            let scaled = q.log_var.f_mul_scalar(std::f64::consts::FRAC_1_SQRT_2)?;
            Tensor::f_cat(&[&whitened, &scaled], 1)?
        }
    })
}

/// The decoder's flattened output [B, O] and the code z = mu [B, L] that it was computed from and can be differentiated by.
pub(super) fn decoded(vae: &dyn Vae, mean: &Tensor) -> Result<(Tensor, Tensor)> {
    let z = mean.f_detach()?.f_set_requires_grad(true)?;
    let image = vae.decode(&z)?;
    if image.size().first() != z.size().first() {
        return Err(Error::request(
            "shape of the decoder's output",
            format!("[{}, ...], one image a code", z.size()[0]),
            format!("{:?}", image.size()),
        ));
    }
    Ok((image.f_flatten(1, -1)?, z))
}

/// The decoder's Jacobian at z = mu, [B, O, L].
pub(super) fn decoder_jacobian(vae: &dyn Vae, mean: &Tensor, ways: Ways) -> Result<Tensor> {
    let (image, z) = decoded(vae, mean)?;
    jacobian::columns(&image, &z, ways.columns)
}

/// C [B, L, L] f64 with C^T C = J_g^T J_g for J_g [B, O, L]: the triangle of its QR factorisation, which is as accurate as J_g itself; a
/// square root of M loses half the digits (and Cholesky fails on a singular M).
pub(super) fn triangle(j_g: &Tensor, l: i64) -> Result<Tensor> {
    let c = linalg::qr_triangle(&j_g.f_to_kind(Kind::Double)?)?;
    // With fewer outputs than latents, C has fewer rows than L. Zero rows keep R = L and change no eigenvalue.
    let missing = l - c.size()[1];
    if missing > 0 { Ok(c.f_constant_pad_nd([0, 0, 0, missing])?) } else { Ok(c) }
}

/// L, checked to be the same for both halves of the posterior.
pub(super) fn latent(mean: &Tensor, log_var: &Tensor) -> Result<i64> {
    crate::error::ensure_shape("mu", mean, &[-1, -1])?;
    crate::error::ensure_shape("logvar", log_var, &mean.size())?;
    Ok(mean.size()[1])
}
