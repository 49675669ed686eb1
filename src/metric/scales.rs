//! Metrics whose scales do not fit the precision of the model's pass: sigma = exp(logvar / 2) leaves single precision beyond
//! logvar = +-177, double precision only beyond +-1419.

use super::{Metric, MetricKind, decoder_jacobian, latent, triangle};
use crate::error::Result;
use crate::jacobian::{self, Ways};
use crate::model::Vae;
use std::f64::consts::FRAC_1_SQRT_2;
use tch::{Kind, Tensor};

impl Metric {
    /// [`Metric::at`] by the rows of mu and logvar, which the model's precision holds, and what they are scaled by in double:
    /// J_sigma = sigma / 2 J_logvar.
    ///
    /// # Errors
    /// As [`Metric::at`].
    pub fn scaled_in_double(vae: &dyn Vae, x: &Tensor, kind: MetricKind, ways: Ways) -> Result<Self> {
        if matches!(kind, MetricKind::Mean | MetricKind::Output) {
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
            MetricKind::Fisher => diagonal(&sigma.f_reciprocal()?, &(one * FRAC_1_SQRT_2))?,
            MetricKind::OutputStochastic => {
                let c = triangle(&decoder_jacobian(vae, &q.mean, ways)?, l)?;
                let lengths = c.f_square()?.f_sum_dim_intlist([1i64].as_slice(), false, Kind::Double)?.f_sqrt()?;
                let weights = diagonal(&one, &half.f_mul(&lengths)?)?;
                weights.f_narrow(1, 0, l)?.f_narrow(2, 0, l)?.f_copy_(&c)?;
                weights
            }
            _ => diagonal(&one, &half)?,
        };
        Ok(Self { rows, weights: Some(weights), basis: None })
    }
}
