//! The loss of one batch: beta-ELBO, with mixup's terms where they are on.
//!
//! Source: Higgins et al. 2017, eq. 4: -ln p(x|z) + beta KL(q(z|x) || N(0, I)), one draw of z a sample, -ln p(x|z) summed
//! over pixels, all of it averaged over the batch.

use super::mixup::{self, Mix};
use crate::error::Result;
use crate::model::{Mode, Network};
use tch::Tensor;

/// The parts of the loss, scalars in nats a sample, attached to the graph.
#[derive(Debug)]
pub struct Loss {
    /// What is minimised.
    pub total: Tensor,
    /// Mean of -ln p(x|z).
    pub reconstruction: Tensor,
    /// Mean of KL(q(z|x) || N(0, I)), unweighted.
    pub kl: Tensor,
    /// Mean of mixup's term, before its strength; none where mixup is off.
    pub mixup: Option<Tensor>,
}

/// What mixup adds to a batch.
#[derive(Debug)]
pub struct Mixing<'a> {
    /// Weight of the term.
    pub strength: f64,
    /// How images and how latents are mixed.
    pub mixes: &'a (Mix, Mix),
    /// Noise of the mixed images' latents, [B, L].
    pub noise: &'a Tensor,
}

/// The loss of images `x` [B, C, H, W] in [0, 1] with reparameterisation noise [B, L] and a KL weight.
pub fn loss(
    network: &Network,
    x: &Tensor,
    noise: &Tensor,
    beta: f64,
    mixing: Option<&Mixing<'_>>,
    mode: Mode,
) -> Result<Loss> {
    let posterior = network.encode_in(x, mode)?;
    let z = posterior.sample(noise)?;
    let logits = network.decode_logits(&z, mode)?;
    let reconstruction = network.nll(&logits, x)?.f_mean(None)?;
    let kl = posterior.kl()?.f_mean(None)?;
    let mut total = reconstruction.f_add(&kl.f_mul_scalar(beta)?)?;
    let mut mixup = None;
    if let Some(m) = mixing {
        let term = mixup::term(network, x, &z, m.mixes, m.noise, mode)?.f_mean(None)?;
        total = total.f_add(&term.f_mul_scalar(m.strength)?)?;
        mixup = Some(term);
    }
    Ok(Loss {
        total,
        reconstruction,
        kl,
        mixup,
    })
}
