//! Images to posteriors and back: the [`Vae`] trait and the architectures behind it.

pub mod shift; //      how far two inputs land apart
pub mod similarity; // PSNR, SSIM, MS-SSIM

use crate::error::Result;
use tch::Tensor;

/// The encoder's Gaussian posterior q(z|x) of a batch.
#[derive(Debug)]
pub struct Posterior {
    /// mu, [B, L].
    pub mean: Tensor,
    /// ln sigma^2, [B, L].
    pub log_var: Tensor,
}

impl Posterior {
    /// sigma = exp(log_var / 2), [B, L].
    pub fn std(&self) -> Result<Tensor> {
        Ok((&self.log_var * 0.5).f_exp()?)
    }
}

/// A variational autoencoder as the engine needs it: differentiable, one sample independent of the others.
pub trait Vae: Send {
    /// x [B, C, H, W] in [0, 1] to the posterior, [B, L] each.
    fn encode(&self, x: &Tensor) -> Result<Posterior>;
    /// z [B, L] to the decoder mean g(z), [B, C, H, W].
    fn decode(&self, z: &Tensor) -> Result<Tensor>;
}
