//! What an attack wants: a value per sample that it drives up.

use super::Victim;
use crate::error::Result;
use crate::ffi::{self, Graph, VjpMode};
use crate::model::shift::{self, Reading};
use crate::model::{Posterior, Vae};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use tch::{Device, Tensor};

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
        self.ascend_at(victim.vae(), victim.clean(), x, &Folding::of(x))
    }

    /// [`Goal::ascend`] by a model's `clean` reading; `folding` is remembered from step to step.
    pub(super) fn ascend_at(
        self,
        vae: &dyn Vae,
        clean: &Reading,
        x: &Tensor,
        folding: &Folding,
    ) -> Result<(Tensor, Tensor)> {
        tch::with_grad(|| {
            let x = x.f_detach()?.f_set_requires_grad(true)?;
            let posterior = vae.encode(&x)?;
            match self.view() {
                View::Latent(distance) => {
                    let leaf = |t: &Tensor| -> Result<Tensor> { Ok(t.f_detach()?.f_set_requires_grad(true)?) };
                    let seen = Posterior { mean: leaf(&posterior.mean)?, log_var: leaf(&posterior.log_var)? };
                    let value = distance(&clean.posterior, &seen)?;
                    let [mean, log_var] = gradients(&value, [&seen.mean, &seen.log_var])?;
                    // What does not count is not pulled back.
                    let gradient = match (mean, log_var) {
                        (Some(mean), Some(log_var)) => {
                            let output = Tensor::f_cat(&[&posterior.mean, &posterior.log_var], 1)?;
                            folding.pull_back(&output, &x, &Tensor::f_cat(&[mean, log_var], 1)?)?
                        }
                        (Some(mean), None) => folding.pull_back(&posterior.mean, &x, &mean)?,
                        (None, Some(log_var)) => folding.pull_back(&posterior.log_var, &x, &log_var)?,
                        (None, None) => x.f_zeros_like()?,
                    };
                    Ok((value.f_detach()?, gradient.f_detach()?))
                }
                View::Image(damage) => {
                    let image = vae.decode(&posterior.mean)?;
                    let seen = image.f_detach()?.f_set_requires_grad(true)?;
                    let value = damage(clean, &seen)?;
                    let [gradient] = gradients(&value, [&seen])?;
                    let gradient = match gradient {
                        Some(g) => folding.pull_back(&image.f_flatten(1, -1)?, &x, &g.f_flatten(1, -1)?)?,
                        None => x.f_zeros_like()?,
                    };
                    Ok((value.f_detach()?, gradient.f_detach()?))
                }
            }
        })
    }
}

/// Of the sum of `value` by each of some leaves; none where it does not depend on one.
fn gradients<const N: usize>(value: &Tensor, leaves: [&Tensor; N]) -> Result<[Option<Tensor>; N]> {
    if !value.requires_grad() {
        return Ok(std::array::from_fn(|_| None));
    }
    let mut found = Tensor::f_run_backward(&[value], &leaves, false, false)?.into_iter();
    Ok(std::array::from_fn(|_| found.next().filter(Tensor::defined)))
}

/// Whether the engine's own backward pass knows all of a model's operations, as far as was seen.
pub(super) struct Folding(Cell<bool>);

impl Folding {
    /// It may where images lie like `x`.
    pub(super) fn of(x: &Tensor) -> Self {
        Self(Cell::new(x.device() == Device::Cpu))
    }

    /// The cotangent [B, R] of `output` [B, R] at `x` [B, ...]: one backward pass, the engine's own (kernels/folded.h) or autograd's.
    fn pull_back(&self, output: &Tensor, x: &Tensor, cotangent: &Tensor) -> Result<Tensor> {
        let cotangents = cotangent.f_unsqueeze(0)?;
        if self.0.get() {
            match ffi::vjp(output, x, &cotangents, VjpMode::Folded, Graph::Constant) {
                Err(error) if error.is_of_the_way() => self.0.set(false),
                folded => return Ok(folded?.f_squeeze_dim(0)?),
            }
        }
        Ok(ffi::vjp(output, x, &cotangents, VjpMode::Looped, Graph::Constant)?.f_squeeze_dim(0)?)
    }
}
