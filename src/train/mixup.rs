//! Mixup for VAEs: interpolated images should encode to interpolated latents and back.
//!
//! Source: the published code of Khan & Storkey 2023 (`trainer.py`, `updateVAE`, `mixup`).
//!
//! With z = mu(x) + sigma(x) eps, coefficients a, a' ~ Beta(alpha, alpha) and permutations p, p' of the batch,
//!
//! ```text
//! x~ = a x + (1 - a) x_p,          z~ = a' z + (1 - a') z_p',
//! q~ = q(. | x~),                  zeta = mu(x~) + sigma(x~) eps~,
//! term = KL(q~ || N(0, I)) + |x~ - g(z~)|^2 + |z~ - zeta|^2
//! ```
//!
//! and the loss grows by strength * (batch mean of term), with gradients through every z. As in that code, beta does not weigh this KL
//! term, and one coefficient serves a whole batch.
//!
//! Differs: that code draws (a', p') again, so that z~ mixes other images than x~ does and the two squared errors compare unrelated things;
//! `pairing: shared`, the default here, has a' = a and p' = p, as the method is described, and `pairing: independent` follows the code. The
//! code sums terms over the batch; here the mean is taken (as for the whole loss). g is the decoder mean.

use crate::error::{Error, Result};
use crate::model::{Phase, Stack};
use crate::ops::Reduce;
use crate::seed::{self, Stage};
use rand::Rng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use rand_distr::Beta;
use serde::{Deserialize, Serialize};
use tch::{Device, Kind, Tensor};

/// Mixup's options.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct MixupSpec {
    /// Weight of the mixup terms in the loss, 0 or more; 0 is off, 1 is the authors' value.
    pub strength: f64,
    /// The coefficient's distribution is Beta(alpha, alpha); above 0, the authors use 1/2.
    pub alpha: f64,
    /// Whether images and latents are mixed with the same draws.
    pub pairing: Pairing,
}

impl Default for MixupSpec {
    fn default() -> Self {
        Self { strength: 0.0, alpha: 0.5, pairing: Pairing::Shared }
    }
}

/// Whether images and latents are mixed with the same draws.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pairing {
    /// One coefficient and one partner for an image and its latent.
    #[default]
    Shared,
    /// Coefficient and partner are drawn again for the latents, as in the authors' code.
    Independent,
}

impl MixupSpec {
    /// True if the terms are part of the loss.
    pub fn is_on(&self) -> bool {
        self.strength > 0.0
    }

    /// Checks every value; errors name the key.
    pub fn validate(&self) -> Result<()> {
        if !(self.strength.is_finite() && self.strength >= 0.0) {
            return Err(Error::request("train.mixup.strength", "0 or more", self.strength.to_string()));
        }
        if !(self.alpha > 0.0 && self.alpha <= 1e3) {
            return Err(Error::request("train.mixup.alpha", "above 0, at most 1000", self.alpha.to_string()));
        }
        Ok(())
    }
}

/// One convex combination of a batch with itself, drawn for one model: row i becomes a x_i + (1 - a) x_p(i).
#[derive(Debug)]
pub struct Mix {
    /// a, in [0, 1].
    pub coefficient: f64,
    /// p, \[B\] i64 on the CPU.
    pub partner: Tensor,
}

impl Mix {
    /// Draws the mixes of images and of latents for one step; `key` is epoch << 32 | step.
    pub fn draw(spec: &MixupSpec, seed: u64, key: u64, batch: usize) -> Result<(Self, Self)> {
        // Stream 0 is the noise of the mixed images' latents.
        let mut rng = seed::generator(seed, Stage::Mixup, key, 1);
        let images = Self::one(spec, &mut rng, batch)?;
        let latents = match spec.pairing {
            Pairing::Shared => Self { coefficient: images.coefficient, partner: images.partner.shallow_clone() },
            Pairing::Independent => Self::one(spec, &mut rng, batch)?,
        };
        Ok((images, latents))
    }

    fn one(spec: &MixupSpec, rng: &mut ChaCha8Rng, batch: usize) -> Result<Self> {
        let beta = Beta::new(spec.alpha, spec.alpha)
            .map_err(|_| Error::request("train.mixup.alpha", "above 0", spec.alpha.to_string()))?;
        let coefficient: f64 = rng.sample(beta);
        let mut partner: Vec<i64> = (0..batch as i64).collect();
        partner.shuffle(rng);
        Ok(Self { coefficient, partner: Tensor::f_from_slice(&partner)? })
    }
}

/// A [`Mix`] for each of S models, on their device.
#[derive(Debug)]
pub struct Mixes {
    /// a of each model, \[S\].
    coefficients: Tensor,
    /// The position of each sample's partner among the samples of all models, [S B].
    partners: Tensor,
}

impl Mixes {
    /// From mixes of one batch size, on a device, for values of a kind.
    pub fn of(mixes: &[&Mix], device: Device, kind: Kind) -> Result<Self> {
        let coefficients: Vec<f64> = mixes.iter().map(|mix| mix.coefficient).collect();
        let mut partners = Vec::with_capacity(mixes.len());
        let mut first = 0i64;
        for mix in mixes {
            partners.push(mix.partner.f_add_scalar(first)?);
            first += mix.partner.numel() as i64;
        }
        Ok(Self {
            // This does not wait for the device: libtorch has copied the numbers when the call returns.
            coefficients: Tensor::f_from_slice(&coefficients)?.f_to_device_(device, kind, true, false)?,
            partners: Tensor::f_cat(&partners, 0)?.f_to_device_(device, Kind::Int64, true, false)?,
        })
    }

    /// Buffers for other mixes of the same shape.
    pub(super) fn empty(&self) -> Result<Self> {
        Ok(Self { coefficients: self.coefficients.f_empty_like()?, partners: self.partners.f_empty_like()? })
    }

    /// Copies the numbers of other mixes of the same shape, in place.
    pub(super) fn load(&self, from: &Self) -> Result<()> {
        self.coefficients.shallow_clone().f_copy_(&from.coefficients)?;
        Ok(self.partners.shallow_clone().f_copy_(&from.partners)?)
    }

    /// The combinations of the rows of `x` [S, B, ...], by each model's own mix.
    pub fn apply(&self, x: &Tensor) -> Result<Tensor> {
        let other = x.f_flatten(0, 1)?.f_index_select(0, &self.partners)?.f_view_as(x)?;
        let mut shape = vec![1; x.dim()];
        shape[0] = -1;
        Ok(other.f_lerp_tensor(x, &self.coefficients.f_reshape(shape)?)?)
    }
}

/// The mixup term of each sample, [S, B]: KL + squared error in the image + squared error in the latent.
///
/// `z` [S, B, L] are the latents of the images `x` [S, B, C, H, W]; `noise` [S, B, L] is for the mixed images' latents.
pub fn term(
    models: &Stack,
    x: &Tensor,
    z: &Tensor,
    mixes: &(Mixes, Mixes),
    noise: &Tensor,
    mode: Phase,
) -> Result<Tensor> {
    let (x_mixed, z_mixed) = (mixes.0.apply(x)?, mixes.1.apply(z)?);
    let posterior = models.encode(&x_mixed, mode)?;
    let encoded = posterior.sample(noise)?;
    let decoded = models.likelihood().mean(&models.decode_logits(&z_mixed, mode)?)?;
    Ok(posterior.kl()?.f_add(&squared(&x_mixed, &decoded)?)?.f_add(&squared(&z_mixed, &encoded)?)?)
}

/// |a - b|^2 of each row, [S, B].
fn squared(a: &Tensor, b: &Tensor) -> Result<Tensor> {
    a.f_sub(b)?.f_square()?.f_flatten(2, -1)?.sum_alike([2])
}
