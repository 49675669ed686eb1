//! What an attack wants: a value per sample that it drives up.

use super::Victim;
use crate::error::Result;
use crate::model::shift::{self, Reading};
use crate::model::{Posterior, Vae};
use serde::{Deserialize, Serialize};
use tch::Tensor;

/// Damage done by x' in place of x; larger = more. Each is a measure of [`shift`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, strum::Display)]
#[cfg_attr(feature = "cli", derive(clap::ValueEnum))]
#[serde(rename_all = "kebab-case")]
#[strum(serialize_all = "kebab-case")]
pub enum Goal {
    /// |mu(x') - mu(x)|_2, `latent_l2`.
    #[default]
    Latent,
    /// KL(q_{x'} || q_x), `latent_kl`.
    Kl,
    /// KL(q_x || q_{x'}), the other direction.
    Rkl,
    /// The mean of both, `latent_skl`.
    Skl,
    /// 2-Wasserstein distance of the posteriors, `latent_w2`.
    W2,
    /// Mean square change of the reconstruction, `recon_shift`.
    Recon,
    /// Mean square error of the attacked reconstruction against x, `recon_mse`.
    ReconMse,
}

/// What a goal looks at: the posterior alone, so that no decoder runs, or the reconstruction.
enum View {
    Latent(fn(&Posterior, &Posterior) -> Result<Tensor>),
    Image(fn(&Reading, &Tensor) -> Result<Tensor>),
}

impl Goal {
    fn view(self) -> View {
        match self {
            Self::Latent => View::Latent(shift::latent_l2),
            Self::Kl => View::Latent(shift::latent_kl),
            Self::Rkl => View::Latent(shift::latent_reverse_kl),
            Self::Skl => View::Latent(shift::latent_skl),
            Self::W2 => View::Latent(shift::latent_w2),
            Self::Recon => View::Image(|clean, r| shift::mean_square(&clean.reconstruction, r)),
            Self::ReconMse => View::Image(|clean, r| shift::mean_square(&clean.images, r)),
        }
    }

    /// The value at `x` [B, C, H, W] in place of the victim's images, `[B]` f64, differentiable in `x`.
    ///
    /// At x' = x every goal but `recon-mse` is at its minimum 0 with gradient 0: an ascent must start elsewhere.
    pub fn value(self, victim: &Victim, x: &Tensor) -> Result<Tensor> {
        self.value_at(victim.vae(), victim.clean(), x)
    }

    /// [`Goal::value`] by a model's `clean` reading.
    pub(super) fn value_at(self, vae: &dyn Vae, clean: &Reading, x: &Tensor) -> Result<Tensor> {
        let posterior = vae.encode(x)?;
        match self.view() {
            View::Latent(distance) => distance(&clean.posterior, &posterior),
            View::Image(damage) => damage(clean, &vae.decode(&posterior.mean)?),
        }
    }

    /// The value of a reading already made, `[B]` f64.
    pub fn of(self, clean: &Reading, moved: &Reading) -> Result<Tensor> {
        match self.view() {
            View::Latent(distance) => distance(&clean.posterior, &moved.posterior),
            View::Image(damage) => damage(clean, &moved.reconstruction),
        }
    }

    /// The value at `x` and its gradient there, `[B]` f64 and [B, C, H, W], neither with a graph. One forward and one
    /// backward pass serve the whole batch, since no sample depends on another.
    pub fn ascend(self, victim: &Victim, x: &Tensor) -> Result<(Tensor, Tensor)> {
        self.ascend_at(victim.vae(), victim.clean(), x)
    }

    /// [`Goal::ascend`] by a model's `clean` reading.
    pub(super) fn ascend_at(self, vae: &dyn Vae, clean: &Reading, x: &Tensor) -> Result<(Tensor, Tensor)> {
        tch::with_grad(|| {
            let x = x.f_detach()?.f_set_requires_grad(true)?;
            let value = self.value_at(vae, clean, &x)?;
            if !value.requires_grad() {
                return Ok((value, x.f_zeros_like()?.f_detach()?));
            }
            let gradient = Tensor::f_run_backward(&[&value], &[&x], false, false)?;
            let gradient = match gradient.into_iter().next() {
                Some(g) if g.defined() => g,
                // The value does not depend on x.
                _ => x.f_zeros_like()?,
            };
            Ok((value.f_detach()?, gradient.f_detach()?))
        })
    }
}
