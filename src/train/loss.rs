//! The losses of one batch of each of S models: beta-ELBO, with mixup's terms if mixup is on.
//!
//! Source: Higgins et al. 2017, eq. 4: -ln p(x|z) + beta KL(q(z|x) || N(0, I)), with one draw of z for each sample, -ln p(x|z) summed over
//! pixels, and everything averaged over the batch.

use super::mixup::{self, Mixes};
use crate::error::Result;
use crate::model::{Phase, Stack};
use tch::{Kind, Tensor};

/// The parts of each model's loss, \[S\] in nats for each sample, attached to the graph.
#[derive(Debug)]
pub struct Loss {
    /// The loss that is minimised.
    pub total: Tensor,
    /// Mean of -ln p(x|z).
    pub reconstruction: Tensor,
    /// Mean of KL(q(z|x) || N(0, I)), unweighted.
    pub kl: Tensor,
    /// Mean of mixup's term, before its strength, for the models that have it; `None` if mixup is off.
    pub mixup: Option<Tensor>,
}

/// What mixup adds to the batches of the first M models.
#[derive(Debug)]
pub struct Mixing<'a> {
    /// Weight of the term, \[M\].
    pub strength: &'a Tensor,
    /// How images and how latents are mixed.
    pub mixes: &'a (Mixes, Mixes),
    /// Noise of the mixed images' latents, [M, B, L].
    pub noise: &'a Tensor,
}

/// The losses of images `x` [S, B, C, H, W] in [0, 1] with reparameterisation noise [S, B, L] and KL weights \[S\].
pub fn loss(
    models: &Stack,
    x: &Tensor,
    noise: &Tensor,
    beta: &Tensor,
    mixing: Option<&Mixing<'_>>,
    mode: Phase,
) -> Result<Loss> {
    let posterior = models.encode(x, mode)?;
    let z = posterior.sample(noise)?;
    let logits = models.decode_logits(&z, mode)?;
    let reconstruction = mean(&models.nll(&logits, x)?)?;
    let kl = mean(&posterior.kl()?)?;
    let mut total = reconstruction.f_add(&kl.f_mul(beta)?)?;
    let mut mixup = None;
    if let Some(m) = mixing {
        let (all, mixed) = (models.models(), m.strength.numel() as i64);
        let (x, z) = (x.f_narrow(0, 0, mixed)?, z.f_narrow(0, 0, mixed)?);
        let term = mean(&mixup::term(&models.first(mixed)?, &x, &z, m.mixes, m.noise, mode)?)?;
        total = total.f_add(&padded(&term.f_mul(m.strength)?, all)?)?;
        mixup = Some(term);
    }
    Ok(Loss { total, reconstruction, kl, mixup })
}

impl Loss {
    /// Total, reconstruction, KL and mixup of each model, [S, 4] f64 without a graph.
    pub(super) fn parts(&self) -> Result<Tensor> {
        let _no_grad = tch::no_grad_guard();
        let mixup = match &self.mixup {
            Some(mixup) => padded(mixup, self.kl.numel() as i64)?,
            None => self.kl.f_zeros_like()?,
        };
        Ok(Tensor::f_stack(&[&self.total, &self.reconstruction, &self.kl, &mixup], 1)?.f_to_kind(Kind::Double)?)
    }
}

/// [S, B] to the means \[S\].
fn mean(rows: &Tensor) -> Result<Tensor> {
    Ok(rows.f_mean_dim([1i64].as_slice(), false, None)?)
}

/// \[M\], extended with zeros to \[S\].
fn padded(first: &Tensor, models: i64) -> Result<Tensor> {
    Ok(first.f_constant_pad_nd([0, models - first.numel() as i64])?)
}
