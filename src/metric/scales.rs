//! Metrics whose scales are outside the precision of the model's pass: sigma = exp(logvar / 2) leaves single precision beyond logvar =
//! +-177, and double precision only beyond +-1419.

use super::forward::{decoder_jacobian, latent, triangle};
use super::known::Known;
use super::{MatrixFree, Metric, MetricKind};
use crate::error::Result;
use crate::jacobian::{self, Ways};
use crate::model::{Posterior, Vae};
use crate::ops::Reduce;
use std::f64::consts::FRAC_1_SQRT_2;
use tch::{Kind, Tensor};

impl Metric {
    /// [`Metric::at`] by the rows of mu and logvar, which fit the model's precision, and by their scales in double: J_sigma = sigma / 2
    /// J_logvar.
    ///
    /// # Errors
    /// As [`Metric::at`].
    pub fn scaled_in_double(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways) -> Result<Self> {
        if matches!(kind, MetricKind::Mean | MetricKind::Output | MetricKind::Decoder) {
            return Self::at(vae, x, kind, ways);
        }
        let x = x.f_detach()?.f_set_requires_grad(true)?;
        let q = vae.encode(&x)?;
        let l = latent(&q.mean, &q.log_var)?;
        let rows = jacobian::rows(&Tensor::f_cat(&[&q.mean, &q.log_var], 1)?, &x, ways.rows)?;
        let sigma = q.log_var.f_detach()?.f_to_kind(Kind::Double)?.f_mul_scalar(0.5)?.f_exp()?;
        let (one, half) = (sigma.f_ones_like()?, sigma.f_mul_scalar(0.5)?);
        let diagonal = |mean: &Tensor, log_var: &Tensor| -> Result<Tensor> {
            Ok(Tensor::f_cat(&[mean, log_var], 1)?.f_diag_embed(0, 1, 2)?)
        };
        let weights = match kind {
            MetricKind::Fisher => diagonal(&sigma.f_reciprocal()?, &one.f_mul_scalar(FRAC_1_SQRT_2)?)?,
            MetricKind::OutputStochastic => {
                let c = triangle(&decoder_jacobian(vae, &q.mean, ways)?, l)?;
                let lengths = c.f_square()?.sum_over([1])?.f_sqrt()?;
                let weights = diagonal(&one, &half.f_mul(&lengths)?)?;
                weights.f_narrow(1, 0, l)?.f_narrow(2, 0, l)?.f_copy_(&c)?;
                weights
            }
            _ => diagonal(&one, &half)?,
        };
        Ok(Self { rows, weights: Some(weights), basis: None, known: Known::of(&q.mean)? })
    }
}

impl MatrixFree {
    /// [`MatrixFree::at`] with the scales of [`Metric::scaled_in_double`], each sample's divided by its largest, so that later squares fit
    /// double precision too; and the factor for that metric, \[B\] f64: the square of the largest.
    ///
    /// # Errors
    /// As [`MatrixFree::at`]; a wrong request for a metric without scales.
    pub fn scaled_in_double(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways) -> Result<(Self, Tensor)> {
        let q = tch::no_grad(|| vae.encode(x))?;
        let sigma = q.log_var.f_to_kind(Kind::Double)?.f_mul_scalar(0.5)?.f_exp()?;
        let one = sigma.f_ones_like()?;
        let (mean, log_var) = match kind {
            MetricKind::Fisher => (sigma.f_reciprocal()?, one.f_mul_scalar(FRAC_1_SQRT_2)?),
            _ => (one, sigma.f_mul_scalar(0.5)?),
        };
        let scales = Tensor::f_cat(&[mean, log_var], 1)?;
        let largest = scales.max_kept(1)?;
        let both = |q: &Posterior| Ok(Tensor::f_cat(&[&q.mean, &q.log_var], 1)?);
        let mut op = Self::of(vae, x, kind, ways, both)?;
        op.scales = Some(scales.f_div(&largest)?.f_unsqueeze(2)?);
        Ok((op, largest.f_square()?.f_squeeze_dim(1)?))
    }

    /// `rows` [B, *, K] times `count` scales, from number `first` on, if there are any: one scale for all rows, or one for each.
    pub(super) fn scaled(&self, rows: &Tensor, first: i64, count: i64) -> Result<Tensor> {
        match &self.scales {
            None => Ok(rows.shallow_clone()),
            Some(scales) => Ok(rows.f_to_kind(Kind::Double)?.f_mul(&scales.f_narrow(1, first, count)?)?),
        }
    }

    /// The encoder's J^T u, for u that may lie beyond the precision of its pass.
    pub(super) fn pull(&self, u: &Tensor) -> Result<Tensor> {
        if self.scales.is_none() {
            return self.encoder.pull(u);
        }
        let largest = u.f_abs()?.max_kept(1)?.f_clamp_min(f64::MIN_POSITIVE)?;
        Ok(self.encoder.pull(&u.f_div(&largest)?)?.f_to_kind(Kind::Double)?.f_mul(&largest)?)
    }
}
